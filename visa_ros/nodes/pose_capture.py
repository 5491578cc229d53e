"""Camera images in, operator poses out."""
from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.config import Config
from visa_ros.nodes._conversions import image_from_msg
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._outputs import PoseOutputs
from visa_ros.nodes._params import TransportConfig
from visa_ros.nodes._run import StageNode, run
from visa_ros.pacing import Pacer, PacingConfig
from visa_ros.timing import Flow
from visa_ros.types import OperatorPose
from visa_ros.worker import Worker


class PoseCaptureNode(StageNode):
    """Subscribes to ``image_raw`` (raw or compressed), publishes ``operator_pose``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('pose_capture', {
            'capture': CaptureConfig, 'pacing': PacingConfig, 'transport': TransportConfig},
            **kwargs)

    def load(self, loaded: ExitStack) -> None:
        """Load the trackers and run each once."""
        self._capture: PoseCapture | None = PoseCapture(self.settings.of(CaptureConfig))
        loaded.callback(self._unload)
        self._capture.warm_up()

    def _unload(self) -> None:
        capture, self._capture = self._capture, None
        if capture:
            capture.close()

    def open(self, opened: ExitStack) -> None:
        """Take images, publish poses."""
        self._outputs = PoseOutputs(self, self.settings.of(CaptureConfig).operator_id)
        self._last = OperatorPose.rest()
        self._pace(self.settings.of(PacingConfig))
        self._worker: Worker[Image | CompressedImage] = Worker('pose_capture', self._handle)
        opened.callback(self._worker.close)
        self.subscribe_to_images('image_raw', self._take)

    def change(self, config: Config) -> None:
        """Take other rates or other settings of capture."""
        if isinstance(config, PacingConfig):
            self._pace(config)
        elif isinstance(config, CaptureConfig) and self._capture:
            self._capture.change(config)

    def _pace(self, pacing: PacingConfig) -> None:
        self._pacer = Pacer(pacing.capture_fps)
        self._flow = Flow(1 / pacing.capture_fps)

    def _take(self, msg: Image | CompressedImage) -> None:
        if self._outputs.wanted and self._pacer.due():
            self._worker.put(msg)

    def _handle(self, msg: Image | CompressedImage) -> None:
        capture, start_s = self._capture, time.monotonic()
        assert capture
        image = image_from_msg(msg)
        self._last = capture.process(image) or self._last.unseen(image)
        self._outputs.publish(self._last, capture.camera, capture.face)
        self._flow.add(image.stamp_ns, time.monotonic() - start_s)

    def health(self) -> Health:
        """Return whether the operator is seen."""
        seen = bool(self._last.confidence.any())
        message = '' if seen else 'no operator in view'
        if not self._outputs.wanted:
            message = 'nobody listens'
        return Health(message, warn=self._worker.refused > 0, values={
            'dropped': self._worker.dropped, 'refused': self._worker.refused,
            'operator_seen': seen, 'backend': 'mediapipe', **self._flow.values(self.now_ns())})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [PoseCaptureNode()], args)


if __name__ == '__main__':
    sys.exit(main())
