"""Where a pose puts the joints, and how it moves what hangs on them."""
from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINT_PARENTS
from visa_ros.types import Float32


def _levels() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return per depth of the tree the joints and their parents, the root's level left out."""
    depth = [0] * len(JOINT_PARENTS)
    for joint, parent in enumerate(JOINT_PARENTS[1:], 1):
        depth[joint] = depth[parent] + 1
    levels = (np.flatnonzero(np.array(depth) == level) for level in range(1, max(depth) + 1))
    return [(own, _PARENTS[own]) for own in levels]


_PARENTS = np.array(JOINT_PARENTS)
LEVELS = _levels()


def joint_transforms(model: BodyModel, joints: Float32, joint_rotations: Float32,
                     translation: Float32) -> Float32:
    """
    Return what brings rest-pose points into the pose's frame, joint by joint.

    With G the product of the local rotations down the chain, A ``rest_alignment`` and r the rest
    joints, joint j lies at ``p_j = p_parent + G_parent A_parent (r_j - r_parent)`` and moves a
    point x to ``G_j A_j (x - r_j) + p_j``: SMPL's forward kinematics (Loper et al. 2015, eq. 4)
    with an A-pose as rest pose.

    Parameters
    ----------
    model : BodyModel
        For its ``rest_alignment``.
    joints : (55, 3) float32
        Rest-pose joints of the person, from ``BodyModel.shaped``.
    joint_rotations : (55, 3) float32
        Axis-angle, as in ``OperatorPose``.
    translation : (3,) float32
        Where the pelvis joint goes.

    Returns
    -------
    (55, 3, 4) float32
        ``transform[:, :3] @ x + transform[:, 3]``.

    """
    turn = Rotation.from_rotvec(joint_rotations).as_matrix()
    for own, parents in LEVELS:
        turn[own] = turn[parents] @ turn[own]
    turn = turn @ model.rest_alignment
    position = np.empty_like(joints)
    position[0] = translation
    offset = np.einsum('jab,jb->ja', turn[_PARENTS], joints - joints[_PARENTS])
    for own, parents in LEVELS:
        position[own] = position[parents] + offset[own]
    out = np.empty((len(joints), 3, 4), np.float32)
    out[:, :, :3] = turn
    out[:, :, 3] = position - np.einsum('jab,jb->ja', turn, joints)
    return out


def posed_joints(transforms: Float32, joints: Float32) -> Float32:
    """Return where (55, 3) rest-pose joints are after ``joint_transforms``."""
    return np.einsum('jab,jb->ja', transforms[:, :, :3], joints) + transforms[:, :, 3]


def posed_vertices(model: BodyModel, vertices: Float32, transforms: Float32) -> Float32:
    """
    Return rest-pose vertices (V, 3), blendshapes added, moved by linear blend skinning.

    The plain and slow way, for pictures and tests; ``AvatarSkinning`` is the fast one.
    """
    blended = np.einsum('vk,vkab->vab', model.skin_weights, transforms[model.skin_joints])
    return np.einsum('vab,vb->va', blended[:, :, :3], vertices) + blended[:, :, 3]
