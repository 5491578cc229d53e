"""Camera image to OperatorPose: the stage that owns trackers, solver and filter."""
from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from visa_ros.body.model import load_body_model
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.smoothing import PoseFilter
from visa_ros.capture.solve import PoseSolver
from visa_ros.errors import ImageError, PoseError
from visa_ros.types import Camera, CameraImage, Float32, OperatorPose

_LOG = logging.getLogger(__name__)
_MIN_SIDE_PX = 16


class PoseCapture:
    """
    Follow the operator from image to image.

    Parameters
    ----------
    config : CaptureConfig, optional
        How the operator is found, followed and solved.

    Attributes
    ----------
    camera : Camera or None
        Of the last image with the operator.
    face : (478, 2) float32 or None
        The face mesh with irises in the last image, pixels; None where no face was found.
    processed, unseen, bad : int
        Images taken, those without the operator, and those refused or unusable.

    Raises
    ------
    ResourceError
        A tracker's model file is missing.
    MissingDependencyError
        MediaPipe is not installed.

    """

    def __init__(self, config: CaptureConfig | None = None) -> None:
        self.config = config or CaptureConfig()
        self.processed = self.unseen = self.bad = 0
        self._trackers = Landmarkers(self.config)
        model = load_body_model()
        self._solver = PoseSolver(model)
        self._filter = PoseFilter(model.zero_pose_joints(
            np.zeros(len(model.shape_basis), np.float32)))
        self.camera: Camera | None = None
        self.face: Float32 | None = None
        self._last_stamp_ns: int | None = None

    def process(self, image: CameraImage) -> OperatorPose | None:
        """
        Return the operator's pose in the camera's frame; None where the operator is not seen.

        Raises
        ------
        ImageError
            The image is too small to show anybody.

        """
        height, width = image.rgb.shape[:2]
        if min(height, width) < _MIN_SIDE_PX:
            self.bad += 1
            raise ImageError(f'an image of {width}x{height} pixels is too small to see anybody; '
                             f'at least {_MIN_SIDE_PX} on each side are needed')
        self.processed += 1
        seen = self._trackers.detect(image.rgb, image.stamp_ns // 1_000_000)
        self.face = seen.face if seen else None
        if seen is None:
            self.unseen += 1
            return None
        elapsed_s = (np.inf if self._last_stamp_ns is None
                     else (image.stamp_ns - self._last_stamp_ns) * 1e-9)
        if not 0 < elapsed_s < self.config.away_s:
            self._solver.forget()
            self._filter.reset()
            elapsed_s = 1.0
        self.camera = camera = Camera.from_focal(
            self.config.focal_ratio * max(width, height), width, height)
        try:
            pose = self._solver.solve(seen, camera, elapsed_s)
        except (PoseError, np.linalg.LinAlgError) as error:
            _LOG.warning('pose skipped: %s', error)
            self.bad += 1
            self._solver.forget()
            return None
        self._last_stamp_ns = image.stamp_ns
        return self._filter.filter(replace(
            pose, stamp_ns=image.stamp_ns, frame_id=image.frame_id,
            operator_id=self.config.operator_id))

    def warm_up(self) -> None:
        """Run every tracker once, so that the first image of the camera is not the slowest."""
        self._trackers.detect(np.full((480, 640, 3), 127, np.uint8), 0)

    def change(self, config: CaptureConfig) -> None:
        """Take those settings that may change between two images."""
        self.config = config
        self._trackers.config = config

    def close(self) -> None:
        """Release threads and models."""
        self._trackers.close()

    def __enter__(self) -> PoseCapture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
