"""The picture as a stream of H.264."""
from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from visa_ros.display.config import VideoConfig
from visa_ros.errors import MissingDependencyError
from visa_ros.types import UInt8

_TIME_BASE = Fraction(1, 1000)
_NOMINAL_FPS = 25
# Of the bits that a limit allows in a second, those that one picture may be ahead: what a link
# of that rate needs for a keyframe.
_BUFFER_S = 0.5


class CodedPicture(NamedTuple):
    """
    One picture's part of the stream.

    Attributes
    ----------
    data : bytes
        Annex B; a keyframe begins with SPS and PPS, so a decoder can begin with it.
    keyframe : bool
        Whether it is an IDR picture.
    time_ms : int
        Since the stream's first picture; increases.

    """

    data: bytes
    keyframe: bool
    time_ms: int


class H264Encoder:
    """
    Code pictures one by one: each gives its part of the stream at once, none waits for a later.

    Colours are BT.601 with limited range, and the stream says so: decoders that do not look
    take pictures of this size for BT.601.

    Parameters
    ----------
    width, height : int
        Of the pictures [px]; of odd ones the last column or row is left out (4:2:0).
    config : VideoConfig
        Quality, limit, keyframes.

    Raises
    ------
    MissingDependencyError
        This FFmpeg was built without x264.

    """

    def __init__(self, width: int, height: int, config: VideoConfig) -> None:
        self.config = config
        self.shape = height, width
        self._start_ns: int | None = None
        self._time_ms = -1
        require_x264()
        codec = av.CodecContext.create('libx264', 'w')
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height, codec.pix_fmt = width & ~1, height & ~1, 'yuv420p'
        codec.time_base, codec.framerate = _TIME_BASE, Fraction(_NOMINAL_FPS)
        codec.gop_size = config.keyframe_every
        codec.colorspace, codec.color_range = Colorspace.ITU601, ColorRange.MPEG
        codec.thread_count = 1
        codec.options = {'preset': 'superfast', 'tune': 'zerolatency', 'crf': str(config.crf),
                         'forced-idr': '1'}
        if config.max_kbit_s:
            codec.options |= {'maxrate': f'{config.max_kbit_s}k',
                              'bufsize': f'{round(_BUFFER_S * config.max_kbit_s)}k'}
        self._codec = codec

    def encode(self, bgr: UInt8, shown_ns: int, keyframe: bool = False) -> CodedPicture:
        """
        Code the next picture.

        Parameters
        ----------
        bgr : (height, width, 3) uint8
            Is not kept.
        shown_ns : int
            When it was shown, by any clock [ns].
        keyframe : bool
            Whether a decoder shall be able to begin with it; others are made as the settings say.

        """
        frame = av.VideoFrame.from_ndarray(
            bgr[:self._codec.height, :self._codec.width], format='bgr24').reformat(
                format='yuv420p', dst_colorspace=Colorspace.ITU601)
        if self._start_ns is None:
            self._start_ns = shown_ns
        self._time_ms = frame.pts = max(
            (shown_ns - self._start_ns) // 1_000_000, self._time_ms + 1)
        frame.time_base = _TIME_BASE
        if keyframe:
            frame.pict_type = PictureType.I
        packet, = self._codec.encode(frame)
        return CodedPicture(bytes(packet), packet.is_keyframe, self._time_ms)


def require_x264() -> None:
    """Raise MissingDependencyError where FFmpeg has no x264."""
    if 'libx264' not in av.codecs_available:
        raise MissingDependencyError('this FFmpeg has no H.264 encoder (libx264); '
                                     'install the wheel that has: pip install av')
