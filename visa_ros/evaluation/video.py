"""What the avatar's picture costs as H.264: encoding, bits and what is left of it.

An avatar moves as the people of real clips do.  Its pictures are encoded one by one, as
``video.transport`` does it, with several qualities and limits, and decoded again; so they are as
JPEG, as ``shaded/image/compressed`` has them.
"""
from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from visa_ros.evaluation.report import Report
from visa_ros.timing import quantiles_ms
from visa_ros.types import UInt8

_FPS = 25
_JPEG_QUALITY = 85
_SETTINGS: tuple[dict[str, Any], ...] = (
    {'crf': 18}, {'crf': 23}, {'crf': 28}, {'crf': 33}, {'crf': 23, 'max_kbit_s': 500},
    {'crf': 23, 'max_kbit_s': 250}, {'crf': 23, 'max_kbit_s': 100})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--pictures', type=int, default=300, help='how many')
    parser.add_argument('--size', type=int, default=512, help='side of the picture [px]')
    parser.add_argument('--portrait', default='demo', help='whose avatar')


def run(arguments: argparse.Namespace) -> Report:
    """Draw the pictures, and encode them in each way."""
    from visa_ros.evaluation.watermark import avatar_pictures
    from visa_ros.reconstruction.avatar_cache import cached_avatar
    from visa_ros.reconstruction.avatar_file import avatar_id
    from visa_ros.reconstruction.portrait import read_portrait
    from visa_ros.trust.watermark import Watermark
    from visa_ros.types import Consent

    consent = Consent('operator', 'operator', 0, 'a public portrait, for measuring')
    avatar, _ = cached_avatar(read_portrait(arguments.portrait), consent)
    mark = Watermark(avatar_id(avatar))  # as it is in every picture that is published
    pictures = []
    for rgb, _ in avatar_pictures(avatar, arguments.size, arguments.pictures):
        mark.mark(rgb)
        pictures.append(rgb[..., ::-1].copy())
    rows = [_h264(pictures, settings) for settings in _SETTINGS]
    rows.append(_jpeg(pictures))
    return Report(
        f'{len(pictures)} pictures of {arguments.size}x{arguments.size} at {_FPS} a second', rows,
        ['encode: wall time of a picture, from BGR to the message\'s bytes; cpu: processor time '
         'of the same, mean',
         'largest: of one picture, a keyframe; psnr: of all pictures, decoded, against what was '
         'drawn'])


def _h264(pictures: list[UInt8], settings: dict[str, Any]) -> dict[str, Any]:
    import av

    from visa_ros.display.config import VideoConfig
    from visa_ros.display.h264 import H264Encoder

    config = VideoConfig(**settings)
    height, width = pictures[0].shape[:2]
    encoder = H264Encoder(width, height, config)
    decoder = av.CodecContext.create('h264', 'r')
    assert isinstance(decoder, av.VideoCodecContext)
    measured = _Measured()
    for index, bgr in enumerate(pictures):
        with measured:
            coded = encoder.encode(bgr, index * 10**9 // _FPS)
        frame, = decoder.decode(av.Packet(coded.data))
        measured.add(len(coded.data), frame.to_ndarray(format='bgr24'), bgr)
    name = f'H.264, crf {config.crf}'
    return measured.row(f'{name}, {config.max_kbit_s} kbit/s' if config.max_kbit_s else name)


def _jpeg(pictures: list[UInt8]) -> dict[str, Any]:
    import cv2

    measured = _Measured()
    for bgr in pictures:
        with measured:
            _, jpeg = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        measured.add(len(jpeg), cv2.imdecode(jpeg, cv2.IMREAD_COLOR), bgr)
    return measured.row(f'JPEG, quality {_JPEG_QUALITY}')


class _Measured:
    """Times, sizes and noise of the pictures that are encoded within its context."""

    def __init__(self) -> None:
        self._wall_s: list[float] = []
        self._cpu_s: list[float] = []
        self._bytes: list[int] = []
        self._noise: list[float] = []

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._wall_s.append(time.perf_counter() - self._start[0])
        self._cpu_s.append(time.process_time() - self._start[1])

    def add(self, size: int, decoded: Any, bgr: UInt8) -> None:
        self._bytes.append(size)
        self._noise.append(float(np.square(decoded.astype(np.float32) - bgr).mean()))

    def row(self, name: str) -> dict[str, Any]:
        quantiles = quantiles_ms(1e3 * np.array(self._wall_s))
        return {'coded as': name,
                'encode p50 [ms]': round(quantiles['p50_ms'], 2),
                'p95 [ms]': round(quantiles['p95_ms'], 2),
                'cpu [ms]': round(1e3 * float(np.mean(self._cpu_s)), 2),
                'kbit/s': round(8e-3 * _FPS * float(np.mean(self._bytes))),
                'largest [kB]': round(max(self._bytes) / 1e3, 1),
                'psnr [dB]': round(10 * float(np.log10(255**2 / np.mean(self._noise))), 1)}
