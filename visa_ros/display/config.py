"""Where the pictures go."""
from __future__ import annotations

import re
from dataclasses import dataclass

from visa_ros.config import Config, param
from visa_ros.errors import InputError


@dataclass(frozen=True)
class DisplayConfig(Config):
    """Where the pictures go; any of them may be used together."""

    web: bool = param(True, 'Show the picture on a web page')
    host: str = param('127.0.0.1', 'Address that the web page is served on; 0.0.0.0: every '
                      'network interface, for those who know the token')
    token: str = param('', 'What a page from another machine must know, at least 16 of A-Z a-z '
                       '0-9 - _; empty: a new one at each start, which the log shows')
    port: int = param(8080, 'TCP port of the web page; 0: a free one', low=0, high=65535)
    jpeg_quality: int = param(
        85, "JPEG quality of the web page's pictures", low=10, high=100, live=True)
    max_clients: int = param(
        4, 'Web pages that may be open at the same time', low=1, high=64, live=True)
    window: bool = param(False, 'Show the picture in a window on this desktop')
    fullscreen: bool = param(False, 'Let the window fill the screen')
    mirror: bool = param(
        False, "Mirror the window, as the operator's own preview; a web page is mirrored by "
        '?mirror=1 in its address, and nothing else ever is')
    video_path: str = param('', 'MP4 file to record to, replaced if it exists; empty: none')
    image_folder: str = param('', 'Folder for every picture as PNG, without marks; empty: none')

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch('([A-Za-z0-9_-]{16,128})?', self.token):
            raise InputError('token must have 16 to 128 of the characters A-Z a-z 0-9 - _')


@dataclass(frozen=True)
class VideoConfig(Config):
    """The picture for the screen as H.264 on a topic (doc/display.md)."""

    transport: str = param(
        'none', 'Topic shaded/image/TRANSPORT and its message: h264: sensor_msgs/CompressedImage; '
        'ffmpeg: FFMPEGPacket of ffmpeg_image_transport; foxglove: foxglove_msgs/CompressedVideo',
        choices=('none', 'h264', 'ffmpeg', 'foxglove'))
    crf: int = param(
        23, "Quality, x264's constant rate factor: 1 is the best, 6 more halve the bits",
        low=1, high=51, live=True)
    max_kbit_s: int = param(
        0, 'Most that the stream may take, at the cost of quality [kbit/s]; 0: no limit',
        low=0, high=1_000_000, live=True)
    keyframe_every: int = param(
        30, 'Pictures from keyframe to keyframe; each new listener gets one at once',
        low=1, high=600, live=True)
