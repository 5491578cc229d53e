"""Wrist and fingers of one hand from its 21 landmarks, bone by bone."""
from __future__ import annotations

import numpy as np

from visa_ros.capture.rotations import Float64, best_rotation, exp, log, swing
from visa_ros.conventions import JOINT_INDEX

# In the order of conventions.JOINTS, with the first of each finger's 4 MediaPipe landmarks.
_FINGERS = {'index': 5, 'middle': 9, 'pinky': 17, 'ring': 13, 'thumb': 1}
_FIRST = np.array(list(_FINGERS.values()))
# Of the 15 finger joints, and of the joint before each.
FINGER_LANDMARKS = (_FIRST[:, None] + np.arange(3)).ravel()
FINGER_LANDMARK_PARENTS = np.where(np.arange(15) % 3, FINGER_LANDMARKS - 1, 0)
_PALM_WEIGHTS = np.array((1.0, 1.0, 1.0, 1.0, 0.3))  # the thumb's root moves in the palm

# Ranges of motion, radians, for bones 1-3 (Lin et al. 2000, "Modeling the constraints of human
# hand motion"): flexion, and sideways in the first bone only.
_FLEXION_RANGE = np.array(((-0.4, 1.7), (0.0, 1.9), (-0.1, 1.5)))
_SIDEWAYS_LIMIT = np.array((0.35, 0.0, 0.0))
# A thumb's axes are oblique: limits about x, y and z of the T-pose.
_THUMB_LIMIT = np.array(((0.6, 0.9, 0.8), (0.3, 0.9, 0.8), (0.2, 1.4, 0.8)))
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
        # Right hands are solved as the left ones that a mirror shows.
        self._mirror = np.array((1.0 if side == 'left' else -1.0, 1.0, 1.0))
        self._bones = self._bones * self._mirror
        resting = np.zeros((5, 3, 3))
        resting[:4, :, 2] = np.negative(_RESTING_FLEXION)
        self.resting = self._mirrored_back(resting)

    def palm(self, points: Float64) -> Float64:
        """Return the wrist's rotation to the frame of (21, 3) landmarks."""
        return best_rotation(self._palm * _PALM_WEIGHTS[:, None], points[_FIRST] - points[0],
                             _PALM_WEIGHTS)

    def fingers(self, points: Float64, palm: Float64) -> Float64:
        """Return the (15, 3) rotation vectors of the fingers for (21, 3) landmarks."""
        seen = np.stack([points[_FIRST + bone + 1] - points[_FIRST + bone] for bone in range(3)],
                        axis=1) @ palm                           # (finger, bone, 3), palm's axes
        seen *= self._mirror
        above = np.tile(np.eye(3), (5, 1, 1))
        turns = np.empty((3, 5, 3, 3))
        for bone in range(3):
            source = self._bones[:, bone]
            target = np.einsum('fba,fb->fa', above, seen[:, bone])
            turns[bone, :4] = _finger_turn(source[:4], target[:4], _SIDEWAYS_LIMIT[bone],
                                           _FLEXION_RANGE[bone])
            turns[bone, 4] = exp(np.clip(swing(source[4], target[4]), -_THUMB_LIMIT[bone],
                                         _THUMB_LIMIT[bone]))
            above = above @ turns[bone]
        return self._mirrored_back(log(turns).transpose(1, 0, 2))

    def _mirrored_back(self, turns: Float64) -> Float64:
        """Return a left hand's (5, 3, 3) rotation vectors for this side, (15, 3)."""
        return (turns * (1, self._mirror[0], self._mirror[0])).reshape(15, 3)


def _finger_turn(source: Float64, target: Float64, sideways_limit: float,
                 flexion_range: Float64) -> Float64:
    """
    Return the (F, 3, 3) rotations that bring bones of a left hand in line.

    In a T-pose palms look down and fingers point along x: they go sideways about y, then flex
    about -z.
    """
    target = target / np.maximum(np.linalg.norm(target, axis=1, keepdims=True), 1e-9)
    source = source / np.linalg.norm(source, axis=1, keepdims=True)
    reach = np.hypot(source[:, 0], source[:, 2])
    sideways = (np.arctan2(source[:, 2], source[:, 0])
                - np.arcsin(np.clip(target[:, 2] / reach, -1, 1)))
    turn = np.zeros_like(source)
    turn[:, 1] = np.clip(sideways, -sideways_limit, sideways_limit)
    turn = exp(turn)
    moved = np.einsum('fab,fb->fa', turn, source)
    flexion = (np.arctan2(moved[:, 1], moved[:, 0]) - np.arctan2(target[:, 1], target[:, 0])
               + np.pi / 2) % (2 * np.pi) - np.pi / 2  # in [-90, 270) degrees
    about = np.zeros_like(source)
    about[:, 2] = -np.clip(flexion, *flexion_range)
    return exp(about) @ turn


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
    relative = forearm.T @ palm
    # The twist of a swing-twist decomposition: the x and w of the quaternion.
    twist = 2 * np.arctan2(relative[2, 1] - relative[1, 2], 1 + np.trace(relative))
    twist = float(np.clip(twist, -_TWIST_LIMIT, _TWIST_LIMIT))
    bend = np.clip(log(exp(np.array((-twist, 0, 0))) @ relative), -_WRIST_RANGE, _WRIST_RANGE)
    half = np.array((twist / 2, 0, 0))
    return twist / 2, log(exp(half) @ exp(bend))
