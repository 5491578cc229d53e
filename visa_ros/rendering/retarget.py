"""The operator's pose, in the operator's camera, as the avatar's pose in its portrait's camera."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINT_INDEX, JOINTS, PART_INDEX, PARTS
from visa_ros.types import Float32, GaussianAvatar, OperatorPose

_NECK = JOINT_INDEX['neck']
# From the root to the chest, and on to the head (JOINT_PARENTS).
_SPINE = [JOINT_INDEX[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3')]
_HEAD = [JOINT_INDEX[name] for name in ('neck', 'head')]
# Joints that are the operator's own, each with the part whose confidence lets it follow.
_PART_OF_JOINT = {
    JOINTS.index(joint): PART_INDEX[part]
    for part, joints in (
        ('face', ('jaw', 'left_eye', 'right_eye')),
        *((f'{side}_arm', tuple(f'{side}_{name}' for name in (
            'collar', 'shoulder', 'elbow', 'wrist'))) for side in ('left', 'right')),
        *((f'{side}_hand', tuple(
            f'{side}_{finger}{bone}' for finger in ('index', 'middle', 'pinky', 'ring', 'thumb')
            for bone in (1, 2, 3))) for side in ('left', 'right')))
    for joint in joints}
_OWN_JOINTS, _OWN_PARTS = (np.array(column) for column in zip(*_PART_OF_JOINT.items(),
                                                              strict=True))
# Confidence from which on a part follows the operator wholly.
_SURE = 0.5
# The avatar leaves its place in the picture by this much [m] at most, softly: a portrait has
# little room around the head.
_REACH_M = np.array([0.15, 0.08, 0.15], np.float32)


class Retargeting:
    """
    Turn poses of the operator into poses of an avatar.

    Where the operator has lately been and looked (a camera is seldom just in front) counts as the
    portrait's place and bearing: the avatar's chest, head and neck do what the operator's do from
    there.  Arms, hands, face and eyes are shown as they are, limbs out of view rest as in the
    portrait, and so do the legs.

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
        self._model = model
        _, self._joints = model.shaped(avatar.betas)
        self._portrait = avatar.portrait_pose
        self._portrait_neck = self._neck(self._portrait)
        portrait = self._portrait.joint_rotations
        self._portrait_spine = Rotation.from_rotvec(portrait[_SPINE])
        self._portrait_chest = _product(portrait[_SPINE])
        self._portrait_head = self._portrait_chest * _product(portrait[_HEAD])
        self._portrait_neck_turn = Rotation.from_rotvec(portrait[_NECK])
        self.recentre_s = recentre_s
        self.ease_s = ease_s
        self._follow = np.zeros(len(PARTS), np.float32)  # how far each part follows, eased
        self.forget()

    def forget(self) -> None:
        """Forget where the operator has been: the next pose counts as the portrait's place."""
        self._watched_s: float | None = None
        self._usual_chest = self._usual_head = Rotation.identity()
        self._usual_neck = np.zeros(3, np.float32)

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
        chest = _product(pose.joint_rotations[_SPINE])
        head = chest * _product(pose.joint_rotations[_HEAD])
        neck = self._neck(pose)
        self._get_used_to(chest, head, neck, elapsed_s)
        rotations = self._portrait.joint_rotations.copy()
        bearing = self._turn_chest(rotations, chest * self._usual_chest.inv())
        self._turn_head(rotations, bearing, head * self._usual_head.inv())
        self._follow_parts(rotations, pose, elapsed_s)
        shift = _REACH_M * np.tanh((neck - self._usual_neck) / _REACH_M)
        shown = replace(pose, joint_rotations=rotations, frame_id=self._portrait.frame_id,
                        translation=self._portrait.translation)
        return replace(shown, translation=(
            self._portrait.translation + self._portrait_neck + shift - self._neck(shown)))

    def _get_used_to(self, chest: Rotation, head: Rotation, neck: Float32,
                     elapsed_s: float) -> None:
        """Move the usual place and bearing: their mean at first, a slow low-pass from then on."""
        if self._watched_s is None:
            self._watched_s, share = 0.0, 1.0
        elif self.recentre_s == 0:
            share = 0.0
        else:
            self._watched_s = min(self._watched_s + elapsed_s, self.recentre_s)
            share = min(elapsed_s / max(self._watched_s, 1e-6), 1.0)
        self._usual_chest = _between(self._usual_chest, chest, share)
        self._usual_head = _between(self._usual_head, head, share)
        self._usual_neck = self._usual_neck + np.float32(share) * (neck - self._usual_neck)

    def _turn_chest(self, rotations: Float32, turn: Rotation) -> Rotation:
        """Bend the portrait's spine so that the chest turns by this; return its bearing."""
        third = Rotation.from_rotvec(turn.as_rotvec() / 3)
        above = self._portrait_spine[0]
        for joint, own in zip(_SPINE[1:], self._portrait_spine[1:], strict=True):
            rotations[joint] = (above.inv() * third * above * own).as_rotvec()
            above = above * own
        return turn * self._portrait_chest

    def _turn_head(self, rotations: Float32, chest: Rotation, turn: Rotation) -> None:
        """Turn the portrait's head by this, neck and head half each."""
        head = turn * self._portrait_head
        carried = chest * self._portrait_chest.inv() * self._portrait_head
        half = Rotation.from_rotvec((head * carried.inv()).as_rotvec() / 2)
        neck = half * chest * self._portrait_neck_turn
        rotations[_NECK] = (chest.inv() * neck).as_rotvec()
        rotations[JOINT_INDEX['head']] = (neck.inv() * head).as_rotvec()

    def _follow_parts(self, rotations: Float32, pose: OperatorPose, elapsed_s: float) -> None:
        wish = np.minimum(pose.confidence / _SURE, 1)
        step = np.float32(min(elapsed_s / max(self.ease_s, 1e-6), 1))
        self._follow = self._follow + np.clip(wish - self._follow, -step, step)
        rotations[_OWN_JOINTS] = _between(
            Rotation.from_rotvec(rotations[_OWN_JOINTS]),
            Rotation.from_rotvec(pose.joint_rotations[_OWN_JOINTS]),
            self._follow[_OWN_PARTS, None]).as_rotvec()

    def _neck(self, pose: OperatorPose) -> Float32:
        transforms = joint_transforms(
            self._model, self._joints, pose.joint_rotations, pose.translation)
        return posed_joints(transforms, self._joints)[_NECK]


def _product(rotvecs: Float32) -> Rotation:
    """Return the rotation of a chain of (K, 3) axis-angle vectors, root first."""
    out, *others = Rotation.from_rotvec(rotvecs)
    for rotation in others:
        out = out * rotation
    return out


def _between(first: Rotation, second: Rotation, share: float | NDArray[np.float32]) -> Rotation:
    """Return the rotations between two, by the shorter way."""
    return first * Rotation.from_rotvec(share * (first.inv() * second).as_rotvec())


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
    rotations = _between(Rotation.from_rotvec(first.joint_rotations),
                         Rotation.from_rotvec(second.joint_rotations), share)

    def mix(a: Float32, b: Float32) -> Float32:
        return (a + np.float32(share) * (b - a)).astype(np.float32)

    return replace(second, joint_rotations=rotations.as_rotvec().astype(np.float32),
                   translation=mix(first.translation, second.translation),
                   blendshapes=mix(first.blendshapes, second.blendshapes),
                   confidence=mix(first.confidence, second.confidence))
