"""Where an avatar looks: eyes that meet those of the person before the screen."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from visa_ros.body.model import BodyModel
from visa_ros.capture.rotations import Float64, exp
from visa_ros.conventions import BLENDSHAPE_INDEX, EYE_LOOK_RAD, JOINT_INDEX
from visa_ros.types import Float32, GaussianAvatar, OperatorPose

EYES = [JOINT_INDEX[name] for name in ('left_eye', 'right_eye')]
# From the root to the head (JOINT_PARENTS).
_TO_HEAD = [JOINT_INDEX[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head')]
# Looks up to the first from where the operator usually looks are meant for the screen; from the
# second on they are glances away, which stay what they are [rad].
_MEANT, _AWAY = np.radians((10.0, 22.0))
# What is left of such looks: eyes that never move stare.
_LIVELY = 0.2
# What is usual: a mean over so many seconds of looks not further than _USUAL_LOOK from the camera;
# itself not further than _USUAL_AT_MOST, for a webcam is not further from the screen [rad].
_USUAL_S, _USUAL_LOOK, _USUAL_AT_MOST = 20.0, np.radians(35.0), np.radians(18.0)
# Eyes turn by this much at most in the head [rad]; people turn the head from about there on
# (Stahl 1999, "Amplitude of human head movements associated with horizontal saccades").
_EYE_RANGE = np.radians(30.0)
# For each direction of (down, to the left): the shapes that rise and those that fall.
_LOOKS = tuple(
    ([BLENDSHAPE_INDEX[name] for name in rise], [BLENDSHAPE_INDEX[name] for name in fall])
    for rise, fall in ((('eyeLookDownLeft', 'eyeLookDownRight'),
                        ('eyeLookUpLeft', 'eyeLookUpRight')),
                       (('eyeLookOutLeft', 'eyeLookInRight'),
                        ('eyeLookInLeft', 'eyeLookOutRight'))))


class EyeContact:
    """
    Turn an avatar's eyes to the camera that it is seen by.

    An operator looks at a screen and is seen by a webcam beside it, so the avatar would look past
    whoever stands before the robot.  Where the operator usually looks counts as the screen: gaze
    near to it is led into the camera; glances away, head and blinks stay as they are.

    Parameters
    ----------
    avatar : GaussianAvatar
        Whose eyes.
    model : BodyModel
        Its body.
    share : float
        How much of the way to the camera, in [0, 1]; may be changed.

    """

    def __init__(self, avatar: GaussianAvatar, model: BodyModel, share: float) -> None:
        joints = model.zero_pose_joints(avatar.betas).astype(float)
        self._bones = np.diff(joints[_TO_HEAD], axis=0)
        self._eyes = joints[EYES] - joints[_TO_HEAD[-1]]
        self.share = share
        self.forget()

    def forget(self) -> None:
        """Forget where the operator usually looks: as good as into the camera at first."""
        self._usual = np.zeros(2)
        self._watched_s = 1.0

    def applied(self, pose: OperatorPose, elapsed_s: float) -> OperatorPose:
        """
        Return the pose with its eyes on the camera.

        Parameters
        ----------
        pose : OperatorPose
            In the frame of the avatar's camera, whose lens is the origin.
        elapsed_s : float
            Time since the pose before.

        """
        if self.share <= 0:
            return pose
        own = pose.joint_rotations[EYES].astype(float)
        wanted = self.to_camera(pose)
        look = (own - wanted).mean(0)[:2]  # from the camera
        self._get_used_to(look, elapsed_s)
        moved = look - self._usual
        angle = np.linalg.norm(moved)
        reach = np.linalg.norm(wanted, axis=1, keepdims=True)
        wanted *= np.minimum(1, _EYE_RANGE / np.maximum(reach, 1e-9))
        away = np.clip((angle - _MEANT) / (_AWAY - _MEANT), 0, 1)
        share = self.share * (1 - away * away * (3 - 2 * away))
        if share <= 0:
            return pose
        turn = share * (wanted + np.append(_LIVELY * moved, 0) - own)
        rotations = pose.joint_rotations.copy()
        rotations[EYES] = own + turn
        return replace(pose, joint_rotations=rotations,
                       blendshapes=lids_follow(pose.blendshapes, turn.mean(0)[:2]))

    def _get_used_to(self, look: Float64, elapsed_s: float) -> None:
        if np.linalg.norm(look) > _USUAL_LOOK:
            return
        self._watched_s = min(self._watched_s + elapsed_s, _USUAL_S)
        self._usual += min(elapsed_s / self._watched_s, 1.0) * (look - self._usual)
        self._usual *= min(1.0, _USUAL_AT_MOST / max(float(np.linalg.norm(self._usual)), 1e-9))

    def to_camera(self, pose: OperatorPose) -> Float64:
        """Return the rotations (2, 3) of left and right eye that look into the camera."""
        turns = exp(pose.joint_rotations[_TO_HEAD].astype(float))
        head, place = turns[0], pose.translation.astype(float)
        for bone, turn in zip(self._bones, turns[1:], strict=True):
            place, head = place + head @ bone, head @ turn
        places = place + self._eyes @ head.T
        x, y, z = (-places / np.linalg.norm(places, axis=1, keepdims=True) @ head).T
        # The turn from straight on (z) whose axis is across it, as eyes turn (Listing's law).
        scale = np.arctan2(np.hypot(x, y), z) / np.maximum(np.hypot(x, y), 1e-9)
        return np.stack([-scale * y, scale * x, np.zeros(2)], axis=1)


def lids_follow(blendshapes: Float32, turn: Float64) -> Float32:
    """
    Return (52,) blendshapes whose lids have gone with the eyes.

    Parameters
    ----------
    blendshapes : (52,) float32
        Before.
    turn : (2,) float64
        How far the eyes have turned down and to the left, radians.

    """
    out = blendshapes.copy()
    for angle, whole, shapes in zip(turn, EYE_LOOK_RAD, _LOOKS, strict=True):
        rise, fall = shapes if angle > 0 else shapes[::-1]
        amount = np.float32(abs(angle) / whole)
        left = np.maximum(amount - out[fall], 0)
        out[fall] = np.maximum(out[fall] - amount, 0)
        out[rise] = np.minimum(out[rise] + left, 1)
    return out
