"""A clip of one person: who it shows, how they move, and which moments are worth learning."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.rotations import log
from visa_ros.capture.source import read_video
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, PART_INDEX, SEEN
from visa_ros.errors import InputError
from visa_ros.reconstruction.portrait import to_working_size
from visa_ros.reconstruction.reconstruct import Progress
from visa_ros.rendering.driving import camera_turns
from visa_ros.types import CameraImage, OperatorPose, UInt8

LEAST_S = 8.0        # of a clip, with the person in it
_FACE_LEARNT_S = 10.0  # in which capture has learnt most of the operator's face
_TURNED = 1.0        # of the head, radians, costs as much as wide open eyes that are shut
_TURNING = 1.0       # radians a second, as much: what moves is blurred, and poses lag
_TO_CAMERA = np.array((0.0, 0.0, -1.0))
_EXPRESSIONS = {'eyeBlinkLeft': 1.0, 'eyeBlinkRight': 1.0, 'jawOpen': 2.0, 'mouthSmileLeft': 0.3,
                'mouthSmileRight': 0.3}


@dataclass(frozen=True, eq=False)
class Clip:
    """
    A clip as it was followed: a pose of each frame, None where the person was not seen.

    Attributes
    ----------
    path : Path
    size_px : int
        Longer side that frames are scaled down to.
    poses : list of OperatorPose or None
        Of the frames, as the live capture sees them.
    sharpness : list of float
        Of each frame.
    stamps_ns : list of int
        Since the first frame.

    """

    path: Path
    size_px: int
    poses: list[OperatorPose | None]
    sharpness: list[float]
    stamps_ns: list[int]

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def frames_per_s(self) -> float:
        """Mean rate."""
        return (len(self) - 1) * 1e9 / self.stamps_ns[-1]

    def frames(self, wanted: set[int]) -> Iterator[tuple[int, UInt8]]:
        """Yield the numbers and pictures of some frames, in order; decodes the clip once."""
        for number, (rgb, _) in enumerate(islice(read_video(self.path), len(self))):
            if number in wanted:
                yield number, to_working_size(rgb, self.size_px)

    def portrait(self) -> int:
        """
        Return the frame that is best as a portrait.

        The head as it is mostly held, towards the camera and still; eyes open, mouth shut, sharp.
        None of the beginning where there is another: a pose there is of a face that capture has
        yet to learn.

        Raises
        ------
        InputError
            No frame shows a face.

        """
        learnt_ns = min(_FACE_LEARNT_S * 1e9, self.stamps_ns[-1] / 2)
        seen = [number for number, pose in enumerate(self.poses)
                if pose is not None and pose.confidence[PART_INDEX['face']] > SEEN]
        if not seen:
            raise InputError(f'no face was found in {self.path}; film head and shoulders, the '
                             'face uncovered and lit from the front')
        seen = [number for number in seen if self.stamps_ns[number] >= learnt_ns] or seen
        heads = {number: camera_turns(pose.joint_rotations)[JOINT_INDEX['head']]
                 for number, pose in enumerate(self.poses) if pose is not None}
        usual = np.mean([heads[number][:, 2] for number in seen], axis=0)
        return min(seen, key=lambda number: self._cost(number, heads, usual))

    def _cost(self, number: int, heads: dict[int, np.ndarray], usual: np.ndarray) -> float:
        pose, head, before = self.poses[number], heads[number], heads.get(number - 1)
        assert pose is not None
        looks = head[:, 2]
        turn = _angle_rad(looks, usual) + _angle_rad(looks, _TO_CAMERA) / 4
        turning = _TURNING  # where the picture before showed nobody
        if before is not None and self.stamps_ns[number] > self.stamps_ns[number - 1]:
            elapsed_s = (self.stamps_ns[number] - self.stamps_ns[number - 1]) * 1e-9
            turning = float(np.linalg.norm(log(before.T @ head))) / elapsed_s
        expression = sum(weight * pose.blendshapes[BLENDSHAPE_INDEX[name]]
                         for name, weight in _EXPRESSIONS.items())
        blur = 1 - min(self.sharpness[number] / max(np.median(self.sharpness), 1e-6), 1.2)
        return float(turn / _TURNED + turning / _TURNING + expression + blur)


def follow(path: Path, size_px: int, most_s: float, config: CaptureConfig,
           progress: Progress) -> Clip:
    """
    Follow the person through a clip, as the live capture does.

    Parameters
    ----------
    path : Path
        Any video that FFmpeg reads.
    size_px : int
        Longer side at which frames are looked at.
    most_s : float
        How much of it is looked at.
    config : CaptureConfig
    progress : callable
        Told step and fraction.

    Raises
    ------
    ResourceError
        The file cannot be opened, or a tracker's model is missing.
    InputError
        It shows somebody for less than ``LEAST_S``.

    """
    poses: list[OperatorPose | None] = []
    sharpness, stamps_ns = [], []
    with PoseCapture(config) as capture:
        for rgb, stamp_ns in read_video(path):
            if stamp_ns > most_s * 1e9:
                break
            image = to_working_size(rgb, size_px)
            poses.append(capture.process(CameraImage(image, stamp_ns + 1)))
            sharpness.append(float(cv2.Laplacian(image, cv2.CV_32F).std()))
            stamps_ns.append(stamp_ns)
            progress('follow', stamp_ns / most_s / 1e9)
    clip = Clip(path, size_px, poses, sharpness, stamps_ns)
    seen_s = sum(pose is not None for pose in poses) / max(len(poses), 1) * stamps_ns[-1] / 1e9
    if seen_s < LEAST_S:
        raise InputError(f'{path} shows a person for {seen_s:.0f} s, at least {LEAST_S:.0f} s are '
                         'needed; film 30 s: talk, smile, turn the head to all sides')
    return clip


def _angle_rad(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two directions."""
    return float(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))
