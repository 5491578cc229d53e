"""The operator's pose, in the operator's camera, as the avatar's pose in its portrait's camera."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visa_ros.body.model import BodyModel
from visa_ros.capture.rotations import Float64, exp, log
from visa_ros.conventions import JOINT_INDEX, PART_INDEX, PART_OF_JOINT, PARTS, SEEN
from visa_ros.rendering.reach import ARMS, Reach
from visa_ros.types import Float32, GaussianAvatar, OperatorPose

# From the root to the chest, and on to the head (JOINT_PARENTS).
_TO_HEAD = [JOINT_INDEX[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head')]
_NECK, _HEAD = 4, 5  # of these
# Joints that are the operator's own, each with the part whose confidence lets it follow.
_OWN_JOINTS, _OWN_PARTS = (np.array(column) for column in zip(*PART_OF_JOINT.items(), strict=True))
# The avatar leaves its place in the picture by this much [m] at most, softly: a portrait has
# little room around the head.
_REACH_M = np.array([0.15, 0.08, 0.15], np.float32)


class Retargeting:
    """
    Turn poses of the operator into poses of an avatar.

    Where the operator has lately been and looked (a camera is seldom just in front) counts as the
    portrait's place and bearing: the avatar's chest, head and neck do what the operator's do from
    there.  Face, eyes and fingers are shown as they are, and so are arms but for what brings the
    hands to where they are about the face; limbs out of view rest as in the portrait, and so do
    the legs.

    Parameters
    ----------
    avatar : GaussianAvatar
        Gives the portrait's view and pose, and the proportions.
    model : BodyModel
        The body that the avatar is bound to.
    recentre_s : float
        Time constant of "lately"; 0: the first pose counts for ever.
    ease_s : float
        How long a limb takes from rest to following, and back.

    """

    def __init__(self, avatar: GaussianAvatar, model: BodyModel, recentre_s: float,
                 ease_s: float) -> None:
        self._portrait = avatar.portrait_pose
        joints = model.zero_pose_joints(avatar.betas)
        self._bones = np.diff(joints[_TO_HEAD[:_HEAD]], axis=0)  # of the T-pose, pelvis to neck
        self._reach = Reach(joints, model.zero_pose_joints(np.zeros_like(avatar.betas)))
        self._portrait_own = exp(self._portrait.joint_rotations[_OWN_JOINTS].astype(float))
        self._portrait_turns = turns = _to_head(self._portrait)
        chest, neck = self._chest_and_neck(turns)
        self._portrait_bearing = np.stack((chest, chest @ turns[_NECK] @ turns[_HEAD]))
        self._portrait_neck = self._portrait.translation + neck
        # What is above each joint of the spine but the first, in the portrait.
        self._above = np.stack((turns[0], turns[0] @ turns[1], turns[0] @ turns[1] @ turns[2]))
        self.recentre_s = recentre_s
        self.ease_s = ease_s
        self._follow = np.zeros(len(PARTS), np.float32)  # how far each part follows, eased
        self.forget()

    def forget(self) -> None:
        """Forget where the operator has been: the next pose counts as the portrait's place."""
        self._watched_s: float | None = None
        self._usual_bearing = np.tile(np.eye(3), (2, 1, 1))  # of chest and head
        self._usual_neck: Float64 = np.zeros(3)

    def __call__(self, pose: OperatorPose, elapsed_s: float) -> OperatorPose:
        """
        Return the avatar's pose for one of the operator's.

        Parameters
        ----------
        pose : OperatorPose
            In the operator's camera.
        elapsed_s : float
            Time since the pose before.

        """
        turns = _to_head(pose)
        chest, neck = self._chest_and_neck(turns)
        neck = pose.translation + neck
        bearing = np.stack((chest, chest @ turns[_NECK] @ turns[_HEAD]))
        self._get_used_to(bearing, neck, elapsed_s)
        shown_turns = self._turned(bearing @ self._usual_bearing.transpose(0, 2, 1))
        _, shown_neck = self._chest_and_neck(shown_turns)
        shift = _REACH_M * np.tanh((neck - self._usual_neck) / _REACH_M)
        rotations = self._portrait.joint_rotations.copy()
        rotations[_TO_HEAD[1:]] = log(shown_turns[1:])
        self._follow_parts(rotations, pose, shown_turns, elapsed_s)
        return replace(
            pose, joint_rotations=rotations, frame_id=self._portrait.frame_id,
            translation=(self._portrait_neck + shift - shown_neck).astype(np.float32))

    def _get_used_to(self, bearing: Float64, neck: Float64, elapsed_s: float) -> None:
        """Move the usual place and bearing: their mean at first, a slow low-pass from then on."""
        if self._watched_s is None:
            self._watched_s, share = 0.0, 1.0
        elif self.recentre_s == 0:
            share = 0.0
        else:
            self._watched_s = min(self._watched_s + elapsed_s, self.recentre_s)
            share = min(elapsed_s / max(self._watched_s, 1e-6), 1.0)
        self._usual_bearing = _between(self._usual_bearing, bearing, share)
        self._usual_neck = self._usual_neck + share * (neck - self._usual_neck)

    def _turned(self, turn: Float64) -> Float64:
        """Return the portrait's rotations from pelvis to head, chest and head turned by (2)."""
        chest, head = turn @ self._portrait_bearing
        carried = turn[0] @ self._portrait_bearing[1]  # the head, by the chest alone
        # A third of the chest's turn in each joint of the spine, half of the head's in the neck.
        third, half = exp(log(np.stack((turn[0], head @ carried.T))) / np.array(((3.0,), (2.0,))))
        turns = self._portrait_turns.copy()
        turns[1:4] = self._above.transpose(0, 2, 1) @ third @ self._above @ turns[1:4]
        neck = half @ chest @ turns[_NECK]
        turns[_NECK], turns[_HEAD] = chest.T @ neck, neck.T @ head
        return turns

    def _follow_parts(self, rotations: Float32, pose: OperatorPose, to_head: Float64,
                      elapsed_s: float) -> None:
        wish = np.minimum(pose.confidence / SEEN, 1)  # what is seen follows wholly
        step = np.float32(min(elapsed_s / max(self.ease_s, 1e-6), 1))
        self._follow = self._follow + np.clip(wish - self._follow, -step, step)
        own = self._with_reaching_arms(pose, to_head)
        share = self._follow[_OWN_PARTS]
        whole, partly = share == 1, (share > 0) & (share < 1)
        rotations[_OWN_JOINTS[whole]] = own[_OWN_JOINTS[whole]]
        if partly.any():
            joints = _OWN_JOINTS[partly]
            rotations[joints] = log(_between(
                self._portrait_own[partly], exp(own[joints].astype(float)), share[partly, None]))

    def _with_reaching_arms(self, pose: OperatorPose, to_head: Float64) -> Float32:
        """Return the operator's rotations, arms bent for the avatar's chest and head."""
        sides = [side for side in ARMS if self._follow[PART_INDEX[f'{side}_arm']] > 0]
        if not sides:
            return pose.joint_rotations
        rotations = pose.joint_rotations.copy()
        operator = exp(rotations.astype(float))
        local = operator.copy()
        local[_TO_HEAD] = to_head
        turn = self._portrait_bearing[1] @ self._usual_bearing[1].T
        self._reach(local, sides, operator, turn)
        for side in sides:
            rotations[ARMS[side]] = log(local[ARMS[side]])
        return rotations

    def _chest_and_neck(self, turns: Float64) -> tuple[Float64, Float64]:
        """Return the chest's bearing, and the way from the pelvis to the neck, metres."""
        bearing, way = turns[0], np.zeros(3)
        for bone, turn in zip(self._bones[:-1], turns[1:4], strict=True):
            way = way + bearing @ bone
            bearing = bearing @ turn
        return bearing, way + bearing @ self._bones[-1]


def _to_head(pose: OperatorPose) -> Float64:
    """Return the local rotations (6, 3, 3) of the joints from the pelvis to the head."""
    return exp(pose.joint_rotations[_TO_HEAD].astype(float))


def _between(first: Float64, second: Float64, share: float | NDArray[np.float32]) -> Float64:
    """Return the rotations (N, 3, 3) between two, by the shorter way."""
    return first @ exp(share * log(first.transpose(0, 2, 1) @ second))


def blend(first: OperatorPose, second: OperatorPose, share: float) -> OperatorPose:
    """
    Return the pose between two: geodesic for rotations, linear for the rest.

    Parameters
    ----------
    first, second : OperatorPose
        In the same frame; everything but the arrays is the second's.
    share : float
        0 gives the first, 1 the second.

    """
    rotations = log(_between(exp(first.joint_rotations.astype(float)),
                             exp(second.joint_rotations.astype(float)), share))

    def mix(a: Float32, b: Float32) -> Float32:
        return (a + np.float32(share) * (b - a)).astype(np.float32)

    return replace(second, joint_rotations=rotations.astype(np.float32),
                   translation=mix(first.translation, second.translation),
                   blendshapes=mix(first.blendshapes, second.blendshapes),
                   confidence=mix(first.confidence, second.confidence))
