"""Recordings of what the screen showed."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2

from visa_ros.display.frame_queue import Picture
from visa_ros.display.mark import TEXTS, draw_mark
from visa_ros.display.threaded import ThreadedSink
from visa_ros.errors import ResourceError

# Frames that may wait for the encoder or the disk: half a second.
_DEPTH = 12

_TIME_BASE = Fraction(1, 1000)
_NOMINAL_FPS = 25

# The first that FFmpeg was built with.  x264's preset: 3 ms of a core for 512x512, a quarter less
# than 'veryfast', for a third more bits.
_CODECS = {
    'libx264': {'preset': 'superfast', 'tune': 'zerolatency', 'crf': '20'},
    'libopenh264': {'b': '4000000'},
    'mpeg4': {'b': '8000000'},
}


class VideoFile(ThreadedSink):
    """
    Record to an MP4 file with the screen's own timing, marks included.

    Frames have variable durations: each is timed by when it was shown.  A frame of another size
    than the first is scaled.  The file can be played even if the process is killed.

    Parameters
    ----------
    path : Path
        Replaced if it exists.

    Raises
    ------
    ResourceError
        The file cannot be written.

    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'')
        except OSError as error:
            raise ResourceError(f'cannot write the video {path} ({error.strerror}); choose '
                                'another display.video_path') from error
        # Written in fragments, which become one index when it is closed.
        self._container = av.open(str(path), 'w', format='mp4',
                                  options={'movflags': 'hybrid_fragmented'})
        self._stream: av.VideoStream | None = None
        self._start_ns = 0
        self._pts = -1
        super().__init__('video_file', depth=_DEPTH)

    def _handle(self, picture: Picture | None) -> None:
        assert picture is not None
        if self._stream is None:
            self._stream = self._add_stream(picture)
            self._start_ns = picture.shown_ns
        text = TEXTS.get(picture.presence)
        if text:
            draw_mark(picture.bgr, text)
        frame = av.VideoFrame.from_ndarray(picture.bgr, format='bgr24').reformat(
            self._stream.width, self._stream.height, 'yuv420p', dst_colorspace='ITU709')
        shown_ms = (picture.shown_ns - self._start_ns) // 1_000_000
        self._pts = frame.pts = max(shown_ms, self._pts + 1)
        frame.time_base = _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _add_stream(self, picture: Picture) -> av.VideoStream:
        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream = self._container.add_stream(codec, rate=_NOMINAL_FPS, options=_CODECS[codec])
        assert isinstance(stream, av.VideoStream)
        height, width = picture.bgr.shape[:2]
        # 4:2:0 chroma needs even sides.
        stream.width, stream.height, stream.pix_fmt = width & ~1, height & ~1, 'yuv420p'
        context = stream.codec_context
        context.time_base = _TIME_BASE
        context.thread_count = 2
        context.colorspace = av.video.reformatter.Colorspace.ITU709
        context.color_range = av.video.reformatter.ColorRange.MPEG
        return stream

    def _finish(self) -> None:
        try:
            if self._stream:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class ImageFolder(ThreadedSink):
    """
    Write every frame as ``NUMBER_STAMP.png``, lossless and without marks, for measuring.

    A transparent background stays transparent.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.

    Raises
    ------
    ResourceError
        The folder cannot be written to, or holds pictures already.

    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f'cannot make the folder {folder} ({error.strerror}); choose '
                                'another display.image_folder') from error
        if next(folder.glob('*.png'), None):
            raise ResourceError(f'{folder} holds pictures already; empty it or choose another '
                                'display.image_folder')
        self._folder = folder
        super().__init__('image_folder', depth=_DEPTH, alpha=True)

    def _handle(self, picture: Picture | None) -> None:
        assert picture is not None
        path = self._folder / f'{picture.sequence:06d}_{picture.stamp_ns}.png'
        if not cv2.imwrite(str(path), picture.bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise ResourceError(f'cannot write {path}; is the disk full?')

    def _finish(self) -> None:
        pass
