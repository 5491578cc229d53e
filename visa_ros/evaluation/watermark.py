"""How well the invisible mark is read after what happens to pictures, and how often by mistake.

An avatar moves as the people of real clips do.  Each picture is marked, goes through JPEG, H.264
or scaling, and is read alone; so are the same pictures without a mark, and the clips themselves.
Reading is also tried on a second of pictures together, as `visa verify` does with a video.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from visa_ros import samples
from visa_ros.evaluation.report import Report
from visa_ros.timing import quantiles_ms
from visa_ros.types import GaussianAvatar, UInt8

_CLIPS = ('cap12', 'cap13', 'franck')
_FPS = 25
_TOGETHER = 25  # pictures that are read together
_CLIP = 250  # pictures that are encoded together
_H264_BIT_S = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--pictures', type=int, default=1000, help='how many (of each kind)')
    parser.add_argument('--size', type=int, default=512, help='side of the picture [px]')
    parser.add_argument('--portrait', default='demo', help='whose avatar')


@dataclass
class _Count:
    """What was read of one kind of pictures."""

    alone: list[str | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    together: list[str | None] = field(default_factory=list)

    def row(self, name: str, mark: str) -> dict[str, Any]:
        return {'pictures': name, 'n': len(self.alone),
                'right, alone': _share(self.alone, mark), 'wrong, alone': self._wrong(mark),
                'right, 25 together': _share(self.together, mark),
                'least score': round(min(self.scores), 2),
                'largest score': round(max(self.scores), 2)}

    def _wrong(self, mark: str) -> int:
        return sum(said not in (None, mark) for said in self.alone + self.together)


def run(arguments: argparse.Namespace) -> Report:
    """Mark, spoil and read."""
    from visa_ros.reconstruction.avatar_cache import cached_avatar
    from visa_ros.reconstruction.avatar_file import avatar_id
    from visa_ros.reconstruction.portrait import read_portrait
    from visa_ros.trust.watermark import DIGITS, Watermark
    from visa_ros.types import Consent

    consent = Consent('operator', 'operator', 0, 'a public portrait, for measuring')
    avatar, _ = cached_avatar(read_portrait(arguments.portrait), consent)
    name = avatar_id(avatar)
    mark, watermark = name[:DIGITS], Watermark(name)
    counts: dict[str, _Count] = {}
    took_s, noise_db = [], []
    pictures = avatar_pictures(avatar, arguments.size, arguments.pictures)
    while pairs := list(islice(pictures, _CLIP)):
        drawn = [rgb for rgb, _ in pairs]
        marked = [rgb.copy() for rgb in drawn]
        for plain, rgb in zip(drawn, marked, strict=True):
            start_s = time.perf_counter()
            watermark.mark(rgb)
            took_s.append(time.perf_counter() - start_s)
            noise_db.append(10 * np.log10(255**2 / np.square(rgb - plain.astype(float)).mean()))
        for kind, spoil in _SPOILED.items():
            _read(counts.setdefault(kind, _Count()), spoil(marked))
        _read(counts.setdefault('not marked', _Count()), drawn)
        _read(counts.setdefault('not marked, JPEG q50', _Count()), _jpeg(drawn))
        _read(counts.setdefault('camera pictures', _Count()), [camera for _, camera in pairs])
    rows = [count.row(kind, mark) for kind, count in counts.items()]
    return Report(
        f'{len(noise_db)} pictures of {arguments.size}x{arguments.size}', rows,
        [f'PSNR of marked against unmarked pictures: mean {np.mean(noise_db):.1f} dB, least '
         f'{min(noise_db):.1f} dB',
         'marking, ms: ' + ', '.join(f'{key[:3]} {value:.2f}' for key, value
                                     in quantiles_ms(1e3 * np.array(took_s)).items()),
         'right: share of readings that are the avatar\'s; wrong: readings of another id (of '
         'unmarked pictures: any), alone and together'])


def _share(said: list[str | None], mark: str) -> float:
    return round(sum(each == mark for each in said) / max(len(said), 1), 4)


def _read(count: _Count, pictures: list[UInt8]) -> None:
    from visa_ros.trust.watermark import WatermarkReader

    for start in range(0, len(pictures), _TOGETHER):
        together = WatermarkReader()
        for rgb in pictures[start:start + _TOGETHER]:
            alone = WatermarkReader()
            alone.add(rgb)
            together.add(rgb)
            count.alone.append(alone.avatar_id())
            count.scores.append(alone.score)
        count.together.append(together.avatar_id())


def avatar_pictures(avatar: GaussianAvatar, size: int, count: int
                    ) -> Iterator[tuple[UInt8, UInt8]]:
    """Draw the avatar as people move in clips; give the camera's picture with each."""
    import cv2

    from visa_ros.body.model import load_body_model
    from visa_ros.capture.capture import PoseCapture
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.source import read_video
    from visa_ros.rendering.playback import PosePlayback
    from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
    from visa_ros.types import CameraImage

    renderer = AvatarRenderer(avatar, RenderingConfig(width=size, height=size))
    capture = PoseCapture(CaptureConfig(hands=False))
    start_ns = 0
    made = 0
    try:
        for clip in _CLIPS:
            playback = PosePlayback(avatar, load_body_model(avatar.body_model))
            for rgb, media_ns in read_video(samples.video(clip)):
                camera = cast(UInt8, cv2.resize(rgb, (640, 480)))
                pose = capture.process(CameraImage(camera, start_ns + media_ns))
                if pose is None:
                    continue
                playback.put(pose, media_ns / 1e9)
                moved, presence = playback.at(media_ns / 1e9)
                yield renderer.render(moved, presence).rgb.copy(), camera
                made += 1
                if made == count:
                    return
            start_ns += media_ns + 10**9
    finally:
        capture.close()


def _jpeg(pictures: list[UInt8], quality: int = 50) -> list[UInt8]:
    import cv2

    from visa_ros.capture.encodings import decode_compressed

    return [decode_compressed(cv2.imencode(
        '.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
        (cv2.IMWRITE_JPEG_QUALITY, quality))[1]) for rgb in pictures]


def _half(pictures: list[UInt8]) -> list[UInt8]:
    import cv2

    return [cast(UInt8, cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
            for rgb in pictures]


def _h264(pictures: list[UInt8], bit_s: int = _H264_BIT_S) -> list[UInt8]:
    """Encode and decode pictures as a clip."""
    from visa_ros.capture.source import read_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'clip.mp4'
        _write_h264(path, pictures, bit_s)
        return [rgb for rgb, _ in read_video(path)]


def _write_h264(path: Path, pictures: list[UInt8], bit_s: int) -> None:
    import av

    height, width = pictures[0].shape[:2]
    with av.open(str(path), 'w', format='mp4') as out:
        stream = out.add_stream('libx264', rate=_FPS, options={
            'preset': 'superfast', 'maxrate': str(bit_s), 'bufsize': str(bit_s)})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.bit_rate = bit_s
        for rgb in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format='rgb24')))
        out.mux(stream.encode(None))


_SPOILED: dict[str, Callable[[list[UInt8]], list[UInt8]]] = {
    'as they are': lambda pictures: pictures,
    'JPEG q50': _jpeg,
    'H.264, 1 Mbit/s': _h264,
    'scaled to 50 %': _half,
    'scaled to 50 %, JPEG q75': lambda pictures: _jpeg(_half(pictures), 75),
    'scaled to 50 %, JPEG q50': lambda pictures: _jpeg(_half(pictures)),
    'H.264, 0.3 Mbit/s': lambda pictures: _h264(pictures, _H264_BIT_S * 3 // 10),
}
