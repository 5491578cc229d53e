"""Camera images in, operator poses out."""
from __future__ import annotations

import sys
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.nodes._conversions import image_from_msg
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._outputs import PoseOutputs
from visa_ros.nodes._params import declare
from visa_ros.nodes._run import StageNode, run
from visa_ros.pacing import Pacer, PacingConfig
from visa_ros.types import OperatorPose
from visa_ros.worker import Worker


class PoseCaptureNode(StageNode):
    """Subscribes to ``image_raw`` (raw or compressed), publishes ``operator_pose``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('pose_capture', **kwargs)
        self._capture = PoseCapture(declare(self, 'capture', CaptureConfig))
        self._capture.warm_up()
        self._pacer = Pacer(declare(self, 'pacing', PacingConfig).capture_fps)
        self._outputs = PoseOutputs(self)
        self._last = OperatorPose.rest()
        self._worker: Worker[Image | CompressedImage] = Worker('pose_capture', self._handle)
        self.subscribe_to_images('image_raw', self._take)
        Diagnostics(self, self._health)

    def close(self) -> None:
        """Stop the worker and the trackers."""
        self._worker.close()
        self._capture.close()

    def _take(self, msg: Image | CompressedImage) -> None:
        if self._pacer.due():
            self._worker.put(msg)

    def _handle(self, msg: Image | CompressedImage) -> None:
        image = image_from_msg(msg)
        self._last = self._capture.process(image) or self._last.unseen(image)
        self._outputs.publish(self._last)

    def _health(self) -> Health:
        seen = bool(self._last.confidence.any())
        return Health('' if seen else 'no operator in view', warn=self._worker.refused > 0,
                      values={'dropped': self._worker.dropped, 'refused': self._worker.refused,
                              'operator_seen': seen})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [PoseCaptureNode()], args)


if __name__ == '__main__':
    sys.exit(main())
