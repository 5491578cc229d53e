"""Publish a camera or a video file as image_raw, where no camera driver runs."""
from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from sensor_msgs.msg import Image

from visa_ros.capture.source import SourceConfig, VideoSource
from visa_ros.nodes._conversions import ImageMessage
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._qos import STREAM_OUT
from visa_ros.nodes._run import StageNode, run
from visa_ros.timing import Flow
from visa_ros.types import CameraImage


class VideoSourceNode(StageNode):
    """Publishes ``image_raw``; the camera is open, and its lamp on, only while active."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('video_source', {'camera': SourceConfig}, **kwargs)
        self._message = ImageMessage()

    def open(self, opened: ExitStack) -> None:
        """Open the camera."""
        config = self.settings.of(SourceConfig)
        self._flow = Flow(1 / config.fps)
        self._publisher = self.publish_to(Image, 'image_raw', STREAM_OUT)
        self._source = VideoSource(config, self._publish)
        opened.callback(self._source.close)
        self._source.start()

    def _publish(self, image: CameraImage) -> None:
        start_s = time.monotonic()
        stamp_ns = self.on_ros_time(image.stamp_ns)
        if self.wanted(self._publisher):
            self.send(self._publisher, self._message.fill(image.rgb, stamp_ns, image.frame_id))
        self._flow.add(stamp_ns, time.monotonic() - start_s)

    def health(self) -> Health:
        """Return whether images come."""
        state = self._source.state
        return Health(state.message, warn=not state.ok, values={
            'frames': self._source.frames, **self._flow.values(self.now_ns())})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [VideoSourceNode()], args)


if __name__ == '__main__':
    sys.exit(main())
