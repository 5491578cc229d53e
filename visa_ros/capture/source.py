"""Where the operator's images come from: a camera, a network stream, a video file, a photo."""
from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any

import numpy as np

from visa_ros import samples
from visa_ros._optional import require
from visa_ros.config import Config, param
from visa_ros.errors import ResourceError
from visa_ros.types import CameraImage, UInt8

log = logging.getLogger(__name__)

# A file's frame that is later than this is skipped, as a camera would have dropped it; later
# than the second (a suspended machine, a decoder too slow for the file), playing goes on from it.
_SKIPPED_AFTER_NS = 100_000_000
_RESUMED_AFTER_NS = 1_000_000_000

_FIRST_RETRY_S = 0.25
_LAST_RETRY_S = 4.0
_STREAM_TIMEOUT_MS = 3000


@dataclass(frozen=True)
class SourceConfig(Config):
    """What to look at."""

    source: str = param(
        'demo', "'demo'; a camera: /dev/video0, /dev/v4l/by-id/... or its number; a stream: "
        "rtsp://, http://, tcp://; a video file or photo; in ROS nodes also 'topic'")
    width: int = param(640, "Wished width of a camera's images [px]", low=16, high=7680)
    height: int = param(480, "Wished height of a camera's images [px]", low=16, high=4320)
    fps: float = param(30.0, 'Wished rate of a camera; rate of a repeated photo [Hz]',
                       low=1.0, high=240.0)
    loop: bool = param(True, 'Start a file again when it ends')
    realtime: bool = param(
        True, 'Play files at their own speed; false: as fast as they are taken, none skipped')
    frame_id: str = param(
        'camera_optical_frame', "The camera's optical frame in TF (x right, y down, z forward); "
        'several cameras in one graph need a name each')


@dataclass(frozen=True)
class SourceState:
    """
    Whether images come.

    Attributes
    ----------
    ok : bool
        False while a camera or stream is lost and when a file turned out to be damaged.
    message : str
        What is wrong, or what goes on; '' when images come.

    """

    ok: bool = True
    message: str = ''


class VideoSource:
    """
    Hand every image of a source to a function, in a thread of the source's own.

    A camera or stream that goes away is opened again until it is back; ``state`` and the log
    tell.  Files play at their own speed, with the stamps that a camera would have given.

    Parameters
    ----------
    config : SourceConfig
        What to look at.
    on_image : callable
        Takes each CameraImage; the array is not reused.  While it runs a camera's next images
        are dropped, so hand over and return.
    on_end : callable, optional
        Called once, in the source's thread, when a file that is not looped has ended.

    Raises
    ------
    ResourceError
        There is no such camera, stream or file, or it gives no image.

    Attributes
    ----------
    frames : int
        Images handed over so far.
    state : SourceState
        Whether images come.

    """

    def __init__(self, config: SourceConfig, on_image: Callable[[CameraImage], None],
                 on_end: Callable[[], None] | None = None) -> None:
        self.frames = 0
        self.state = SourceState()
        self._config = config
        self._on_image = on_image
        self._on_end = on_end
        self._stopping = Event()
        target = _live_target(config.source)
        if target:
            camera = _open_live(target, config)
            if camera is None:
                raise ResourceError(_why_not_live(target))
            self._thread = Thread(target=self._watch, args=(target, camera), daemon=True)
        else:
            path = (samples.video('cap12') if config.source == 'demo'
                    else Path(config.source).expanduser())
            if not path.is_file():
                raise ResourceError(f'there is no file {path}; correct camera.source')
            frames = (_photo(path, config) if require('cv2').haveImageReader(str(path))
                      else read_video(path, loop=config.loop))
            self._thread = Thread(target=self._play, args=(frames,), daemon=True)
        self._thread.name = 'video_source'

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if not self._thread.ident:
            self._thread.start()

    def close(self) -> None:
        """Stop and release the source; may be called again, also from ``on_image``."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join()

    def _hand_over(self, rgb: UInt8, stamp_ns: int) -> None:
        self.frames += 1
        try:
            self._on_image(CameraImage(rgb, stamp_ns, self._config.frame_id))
        except Exception:
            log.exception('%s: an image was lost to an unexpected error', self._config.source)

    def _play(self, frames: Generator[tuple[UInt8, int]]) -> None:
        """Play a file; its frames come with their media time."""
        start_ns, start_wall_ns = time.monotonic_ns(), time.time_ns()
        with closing(frames):
            try:
                for rgb, media_ns in frames:
                    if not self._config.realtime:
                        stamp_ns = start_wall_ns + media_ns
                    else:
                        due_ns = start_ns + media_ns
                        self._stopping.wait(max(0, due_ns - time.monotonic_ns()) / 1e9)
                        late_ns = time.monotonic_ns() - due_ns
                        if late_ns > _RESUMED_AFTER_NS:
                            start_ns += late_ns
                            late_ns = 0
                        elif late_ns > _SKIPPED_AFTER_NS:
                            continue
                        stamp_ns = time.time_ns() - late_ns
                    if self._stopping.is_set():
                        return
                    self._hand_over(rgb, stamp_ns)
            except ResourceError as error:
                self.state = SourceState(False, str(error))
                log.error('%s', error)
            else:
                self.state = SourceState(message=f'{self._config.source} has ended')
        if self._on_end:
            self._on_end()

    def _watch(self, target: str, camera: Any) -> None:
        """Read an open camera or stream, and open it again whenever it is lost."""
        cv2 = require('cv2')
        while camera:
            while not self._stopping.is_set() and camera.grab():
                stamp_ns = time.time_ns()
                decoded, bgr = camera.retrieve()
                if decoded:
                    self._hand_over(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), stamp_ns)
            camera.release()
            if self._stopping.is_set():
                return
            self.state = SourceState(False, f'{_public(target)} is lost; trying to open it again')
            log.warning('%s', self.state.message)
            camera = self._reopen(target)

    def _reopen(self, target: str) -> Any:
        retry_s = _FIRST_RETRY_S
        while not self._stopping.wait(retry_s):
            camera = _open_live(target, self._config)
            if camera:
                self.state = SourceState()
                log.info('%s is back', _public(target))
                return camera
            retry_s = min(2 * retry_s, _LAST_RETRY_S)
        return None


def read_video(path: Path, *, loop: bool = False) -> Generator[tuple[UInt8, int]]:
    """
    Decode a video file, as fast as frames are taken.

    Parameters
    ----------
    path : Path
        Any container and codec that FFmpeg reads.
    loop : bool
        Start again at the end; time runs on.

    Yields
    ------
    rgb : (H, W, 3) uint8
        Upright, in the colours that the file is tagged with.
    media_ns : int
        Time since the first frame, nanoseconds; strictly increasing.

    Raises
    ------
    ResourceError
        At once if the file cannot be opened or shows nothing; later if it has gone when a loop
        starts again.

    """
    with closing(_decode(path)) as frames:
        next(frames)
    return _passes(path, loop)


def _passes(path: Path, loop: bool) -> Generator[tuple[UInt8, int]]:
    end_ns = 0
    while True:
        start_ns = end_ns
        for rgb, media_ns, interval_ns in _decode(path):
            yield rgb, start_ns + media_ns
            end_ns = start_ns + media_ns + interval_ns
        if not loop:
            return


def _decode(path: Path) -> Generator[tuple[UInt8, int, int]]:
    """Yield (rgb, time since the first frame, nominal frame interval) once through a file."""
    av = require('av')
    first_pts: int | None = None
    media_ns = -1  # of the last frame
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best('video')
            if stream is None:
                raise ResourceError(f'{path} holds no video; choose another camera.source')
            interval_ns = round(10**9 / (stream.average_rate or 25))
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue  # damaged: the next key frame mends the picture
                for frame in frames:
                    if frame.pts is None:
                        frame_ns = media_ns + interval_ns
                    else:
                        first_pts = frame.pts if first_pts is None else first_pts
                        frame_ns = round((frame.pts - first_pts) * frame.time_base * 10**9)
                    media_ns = max(frame_ns, media_ns + 1)
                    rgb = frame.to_ndarray(format='rgb24')
                    if frame.rotation:  # a telephone held upright
                        rgb = np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90))
                    yield rgb, media_ns, interval_ns
    except av.FFmpegError as error:
        if media_ns < 0:
            raise ResourceError(f'cannot play {path} ({error.strerror}); check that it is a '
                                'complete video file or photo') from error
        log.warning('%s breaks off after %.1f s (%s)', path, media_ns / 1e9, error.strerror)
    if media_ns < 0:
        raise ResourceError(f'{path} holds no frame that can be decoded; record it again')


def _photo(path: Path, config: SourceConfig) -> Generator[tuple[UInt8, int]]:
    """Return a photo again and again at the wished rate; once if it is not looped."""
    cv2 = require('cv2')
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise ResourceError(f'the photo {path} is damaged; choose another camera.source')
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    repetitions = count() if config.loop else range(1)
    return ((rgb, round(i * 1e9 / config.fps)) for i in repetitions)


def _live_target(source: str) -> str | None:
    """Return the device or URL to open; None for a file."""
    if source.isdigit():
        return f'/dev/video{source}'
    return source if source.startswith('/dev/') or '://' in source else None


def _public(target: str) -> str:
    """Return a target as it may be shown: without the password of a URL."""
    return re.sub(r'//[^/@]*@', '//', target)


def _open_live(target: str, config: SourceConfig) -> Any:
    """Open a camera or stream and wait for its first image; None if it gives none."""
    cv2 = require('cv2')
    if '://' in target:
        # One decoding thread: with more, FFmpeg keeps a frame back for each.
        camera = cv2.VideoCapture(target, cv2.CAP_FFMPEG, [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, _STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_N_THREADS, 1])
    elif not os.access(target, os.R_OK | os.W_OK):
        return None
    else:
        camera = cv2.VideoCapture(target, cv2.CAP_V4L2)
        if config.width > 640:
            # USB 2 carries more than 640x480 at full rate only compressed.
            camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*'MJPG'))
        camera.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        camera.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        camera.set(cv2.CAP_PROP_FPS, config.fps)
        # One buffer is filled while the other is decoded; more would only hold old images.
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 2)
    if camera.read()[0]:
        return camera
    camera.release()
    return None


def _why_not_live(target: str) -> str:
    """Say why a camera or stream cannot be opened, and what to do."""
    if '://' in target:
        return (f'no image comes from {_public(target)}; check address and network, '
                'or choose another camera.source')
    if not os.path.exists(target):
        found = ', '.join(sorted(map(str, Path('/dev').glob('video*')))) or 'none'
        return (f'there is no camera {target} (found: {found}); plug it in, or choose another '
                "camera.source ('demo' needs no camera)")
    if not os.access(target, os.R_OK | os.W_OK):
        return (f'{target} may not be opened; add yourself to its group (sudo usermod -aG video '
                '$USER) and log in again')
    return (f'{target} gives no image; close the program that uses it (fuser -v {target}), or '
            'choose the next number: a camera also has devices without pictures')
