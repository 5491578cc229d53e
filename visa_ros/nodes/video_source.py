"""Publish a camera or a video file as image_raw, where no camera driver runs."""
from __future__ import annotations

import sys
from typing import Any

from sensor_msgs.msg import Image

from visa_ros.capture.source import SourceConfig, VideoSource
from visa_ros.nodes._conversions import ImageMessage
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._params import declare
from visa_ros.nodes._qos import STREAM_OUT
from visa_ros.nodes._run import StageNode, run
from visa_ros.types import CameraImage


class VideoSourceNode(StageNode):
    """Publishes ``image_raw``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('video_source', **kwargs)
        self._publisher = self.create_publisher(Image, 'image_raw', STREAM_OUT)
        self._message = ImageMessage()
        self._source = VideoSource(declare(self, 'camera', SourceConfig), self._publish)
        self._source.start()
        Diagnostics(self, self._health)

    def close(self) -> None:
        """Release the camera."""
        self._source.close()

    def _publish(self, image: CameraImage) -> None:
        if self.wanted(self._publisher):
            self.send(self._publisher,
                      self._message.fill(image.rgb, image.stamp_ns, image.frame_id))

    def _health(self) -> Health:
        state = self._source.state
        return Health(state.message, warn=not state.ok, values={'frames': self._source.frames})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [VideoSourceNode()], args)


if __name__ == '__main__':
    sys.exit(main())
