"""Wrist and fingers of one hand from its 21 landmarks, bone by bone."""
from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.capture.rotations import Float64, best_rotation, exp, swing
from visa_ros.conventions import JOINT_INDEX

# In the order of conventions.JOINTS, with the first of each finger's 4 MediaPipe landmarks.
_FINGERS = {'index': 5, 'middle': 9, 'pinky': 17, 'ring': 13, 'thumb': 1}
_FIRST = np.array(list(_FINGERS.values()))
# Of the 15 finger joints, and of the joint before each.
FINGER_LANDMARKS = (_FIRST[:, None] + np.arange(3)).ravel()
FINGER_LANDMARK_PARENTS = np.where(np.arange(15) % 3, FINGER_LANDMARKS - 1, 0)
_PALM_WEIGHTS = np.array((1.0, 1.0, 1.0, 1.0, 0.3))  # the thumb's root moves in the palm

# Ranges of motion, radians, [finger or thumb][bone 1-3] = (lowest, highest) about the finger's
# own axis, sideways, and flexion (Lin et al. 2000, "Modeling the constraints of human hand
# motion"; fingers have no twist and one hinge in bones 2 and 3; a thumb's axes are oblique).
_FINGER_RANGE = (((0, -0.35, -0.4), (0, 0.35, 1.7)), ((0, 0, 0), (0, 0, 1.9)),
                 ((0, 0, -0.1), (0, 0, 1.5)))
_THUMB_RANGE = (((-0.6, -0.9, -0.8), (0.6, 0.9, 0.8)), ((-0.3, -0.9, -0.5), (0.3, 0.9, 0.8)),
                ((-0.2, -1.4, -0.8), (0.2, 1.4, 0.8)))
# Curl of a hand at rest.
_RESTING_FLEXION = (0.35, 0.45, 0.25)
_WRIST_RANGE = np.array((0.3, 0.7, 1.4))  # twist beside the forearm's, sideways, flexion
_TWIST_LIMIT = 1.7


class HandFit:
    """
    Turn landmarks of one side's hand into joint rotations.

    Parameters
    ----------
    zero_pose_joints : (55, 3) float
        Of the reference body, T-pose.
    side : {'left', 'right'}
        The person's own.

    """

    def __init__(self, zero_pose_joints: Float64, side: str) -> None:
        joints = np.asarray(zero_pose_joints, float)
        first = JOINT_INDEX[f'{side}_index1']
        wrist = joints[JOINT_INDEX[f'{side}_wrist']]
        chains = joints[first:first + 15].reshape(5, 3, 3)
        self._palm = chains[:, 0] - wrist
        bones = np.diff(chains, axis=1)
        # The joints end before the finger's tip; a straight finger goes on as it went.
        self._bones = np.concatenate((bones, bones[:, 1:]), axis=1)
        # In a T-pose palms look down: fingers flex about -z on the left, about +z on the right.
        self._to_axes = np.array((1.0, 1.0, -1.0 if side == 'left' else 1.0))
        ranges = np.array([_FINGER_RANGE] * 4 + [_THUMB_RANGE])  # (finger, bone, low/high, axis)
        self._low, self._high = ranges[:, :, 0], ranges[:, :, 1]
        resting = np.zeros((5, 3, 3))
        resting[:4, :, 2] = _RESTING_FLEXION
        self.resting = (resting * self._to_axes).reshape(15, 3)

    def palm(self, points: Float64) -> Float64:
        """Return the wrist's rotation to the frame of (21, 3) landmarks."""
        return best_rotation(self._palm * _PALM_WEIGHTS[:, None], points[_FIRST] - points[0],
                             _PALM_WEIGHTS)

    def fingers(self, points: Float64, palm: Float64) -> Float64:
        """Return the (15, 3) rotation vectors of the fingers for (21, 3) landmarks."""
        seen = np.stack([points[_FIRST + bone + 1] - points[_FIRST + bone] for bone in range(3)],
                        axis=1) @ palm                           # (finger, bone, 3), palm's axes
        above = np.tile(np.eye(3), (5, 1, 1))
        out = np.empty((5, 3, 3))
        for bone in range(3):
            target = np.einsum('fba,fb->fa', above, seen[:, bone])
            turn = swing(self._bones[:, bone], target) * self._to_axes
            out[:, bone] = np.clip(turn, self._low[:, bone], self._high[:, bone]) * self._to_axes
            above = above @ exp(out[:, bone])
        return out.reshape(15, 3)


def forearm_and_wrist(forearm: Float64, palm: Float64) -> tuple[float, Float64]:
    """
    Split the palm's rotation relative to an untwisted forearm.

    Pronation happens along the forearm; half of it goes to the elbow joint and half to the
    wrist, so that the skin twists along the forearm instead of at one joint.

    Returns
    -------
    twist : float
        About the forearm's axis (x in the T-pose) at the elbow, radians.
    wrist : (3,) float
        Rotation vector that remains at the wrist.

    """
    relative = Rotation.from_matrix(forearm.T @ palm)
    x, _, _, w = relative.as_quat()
    twist = float(np.clip(2 * np.arctan2(x * np.sign(w or 1), abs(w)), -_TWIST_LIMIT,
                          _TWIST_LIMIT))
    untwisted = (Rotation.from_rotvec((-twist, 0, 0)) * relative).as_rotvec()
    bend = Rotation.from_rotvec(np.clip(untwisted, -_WRIST_RANGE, _WRIST_RANGE))
    return twist / 2, (Rotation.from_rotvec((twist / 2, 0, 0)) * bend).as_rotvec()
