"""The picture for the screen as H.264, in the message that its listener knows."""
from __future__ import annotations

from array import array
from typing import Any

from sensor_msgs.msg import CompressedImage

from visa_ros._optional import require
from visa_ros.display.config import VideoConfig
from visa_ros.display.frame_queue import Picture
from visa_ros.display.h264 import CodedPicture, H264Encoder, require_x264
from visa_ros.display.threaded import ThreadedSink
from visa_ros.nodes._conversions import header, stamp_to_msg
from visa_ros.nodes._qos import VIDEO_OUT
from visa_ros.nodes._run import StageNode
from visa_ros.types import ShadedFrame

# Package and message of the transports that are not ROS's own.
_PACKAGES = {'ffmpeg': ('ffmpeg_image_transport_msgs', 'FFMPEGPacket'),
             'foxglove': ('foxglove_msgs', 'CompressedVideo')}
# Codec; what it was given; what image_transport would make of it; what the picture is.
_FFMPEG_ENCODING = 'h264;yuv420p;bgr8;rgb8'


class VideoOutput(ThreadedSink):
    """
    Publish ``TOPIC/TRANSPORT`` while somebody listens, from a thread of its own.

    Pictures that the encoder is too slow for are left out before they are coded.

    Parameters
    ----------
    node : StageNode
        Active; the output ends with its deactivation.
    topic : str
        The picture's.
    config : VideoConfig
        With a transport.

    Attributes
    ----------
    coded : int
        Pictures so far.

    Raises
    ------
    MissingDependencyError
        The transport's messages, or the encoder, are not installed.

    """

    def __init__(self, node: StageNode, topic: str, config: VideoConfig) -> None:
        require_x264()
        kind: Any = CompressedImage
        if config.transport in _PACKAGES:
            package, name = _PACKAGES[config.transport]
            kind = getattr(require(f'{package}.msg'), name)
        self._node = node
        self._kind = kind
        self._publisher = node.publish_to(kind, f'{topic}/{config.transport}', VIDEO_OUT)
        self.config = config
        self.coded = 0
        self._encoder: H264Encoder | None = None
        self._listeners = 0
        self._frame_id = ''
        super().__init__('video')
        assert node.opened is not None
        node.opened.callback(self.close)

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._node.wanted(self._publisher)

    def publish(self, frame: ShadedFrame, frame_id: str) -> None:
        """Take a picture, if somebody listens; never waits."""
        if self.wanted:
            self._frame_id = frame_id
            self.show(frame)
        else:
            self._listeners = 0

    def _handle(self, picture: Picture | None) -> None:
        assert picture is not None
        shape = picture.bgr.shape[:2]
        if not (self._encoder and (self._encoder.config, self._encoder.shape)
                == (self.config, shape)):
            self._encoder = H264Encoder(shape[1], shape[0], self.config)
        before, self._listeners = self._listeners, self._node.listeners(self._publisher)
        coded = self._encoder.encode(picture.bgr, picture.shown_ns,
                                     keyframe=self._listeners > before)
        self.coded += 1
        self._node.send(self._publisher, self._message(coded, picture))

    def _message(self, coded: CodedPicture, picture: Picture) -> Any:
        data = array('B', coded.data)
        if self._kind is CompressedImage:
            return CompressedImage(
                header=header(picture.stamp_ns, self._frame_id), format='h264', data=data)
        if self._kind.__name__ == 'CompressedVideo':
            return self._kind(timestamp=stamp_to_msg(picture.stamp_ns), frame_id=self._frame_id,
                              format='h264', data=data)
        height, width = picture.bgr.shape[:2]
        return self._kind(
            header=header(picture.stamp_ns, self._frame_id), width=width, height=height,
            encoding=_FFMPEG_ENCODING, pts=coded.time_ms, flags=int(coded.keyframe), data=data)

    def _finish(self) -> None:
        self._encoder = None
