"""A person's motion as the motion of an avatar whose body is not quite that person's."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import LEVELS, joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.capture.rotations import exp
from visa_ros.conventions import JOINT_INDEX, JOINT_PARENTS, PART_INDEX, PART_OF_JOINT, SEEN
from visa_ros.rendering.reach import ARMS, Reach
from visa_ros.types import Float32, GaussianAvatar, OperatorPose

_LIMBS = {joint: part for joint, part in PART_OF_JOINT.items() if part != PART_INDEX['face']}
_LIMB_JOINTS, _LIMB_PARTS = (np.array(column) for column in zip(*_LIMBS.items(), strict=True))


def driven(avatar: GaussianAvatar, betas: Float32, portrait: OperatorPose, target: OperatorPose,
           target_betas: Float32 | None = None) -> OperatorPose:
    """
    Return the avatar's pose when the person goes from the portrait's pose to another.

    What counts is the change: each bone turns in the camera's axes as the person's does, the neck
    moves as the person's does (the pelvis is seldom in the portrait, so the avatar's is a guess),
    blendshapes grow as the person's do.  An avatar whose portrait pose was fitted well is shown
    exactly in the target's; an error of the fit stays as large as it was.  Were the target's own
    angles set instead, whatever fit and truth split differently between spine, neck and pelvis
    would be added to it.  Only limbs that the target shows and the avatar's portrait does not have
    no change to speak of: they are set as the target's are, the hands where they are about the
    face.

    Parameters
    ----------
    avatar : GaussianAvatar
    betas : (B,) float32
        The person's.
    portrait, target : OperatorPose
        The person's, in the camera's frame.
    target_betas : (B,) float32, optional
        The person's at the target, where it was measured a second time.

    """
    own = avatar.portrait_pose
    if target_betas is None:
        target_betas = betas
    then, before, shown = (camera_turns(pose.joint_rotations) for pose in (target, portrait, own))
    turn = then @ before.swapaxes(1, 2) @ shown
    local = turn.copy()
    local[1:] = turn[list(JOINT_PARENTS[1:])].swapaxes(1, 2) @ turn[1:]
    appear = (target.confidence >= SEEN) & (own.confidence < SEEN)
    joints = _LIMB_JOINTS[appear[_LIMB_PARTS]]
    local[joints] = exp(target.joint_rotations[joints].astype(float))
    if sides := [side for side in ARMS if appear[PART_INDEX[f'{side}_arm']]]:
        model, head = load_body_model(), JOINT_INDEX['head']
        reach = Reach(model.zero_pose_joints(avatar.betas), model.zero_pose_joints(target_betas))
        reach(local, sides, exp(target.joint_rotations.astype(float)),
              shown[head] @ before[head].T)
    moved = replace(
        own, joint_rotations=Rotation.from_matrix(local).as_rotvec().astype(np.float32),
        blendshapes=np.clip(own.blendshapes + target.blendshapes - portrait.blendshapes, 0, 1))
    goal = _neck(own, avatar.betas) + _neck(target, target_betas) - _neck(portrait, betas)
    return replace(moved, translation=(
        own.translation + goal - _neck(moved, avatar.betas)).astype(np.float32))


def camera_turns(joint_rotations: Float32) -> np.ndarray:
    """Return what turns each joint's axes into the camera's, (55, 3, 3), of (55, 3) axis-angle."""
    turn = Rotation.from_rotvec(joint_rotations).as_matrix()
    for own, parents in LEVELS:
        turn[own] = turn[parents] @ turn[own]
    return turn


def _neck(pose: OperatorPose, betas: Float32) -> Float32:
    model = load_body_model()
    _, joints = model.shaped(betas)
    return posed_joints(joint_transforms(
        model, joints, pose.joint_rotations, pose.translation), joints)[JOINT_INDEX['neck']]
