"""Moves an avatar's Gaussians with a pose, frame by frame."""
from __future__ import annotations

import numpy as np

from visa_ros import _native
from visa_ros.body.kinematics import joint_transforms
from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINTS
from visa_ros.errors import AvatarError
from visa_ros.types import Float32, GaussianAvatar, OperatorPose

_BONES = 4  # as in src/skinning
_CHUNK = 65536


class AvatarSkinning:
    """
    One avatar on its body, ready to be posed.

    A Gaussian takes skin weights and blendshape offsets from its triangle, interpolated at its
    foot point (the four heaviest joints are kept), so it keeps its place on the surface or above
    it.  Its mean moves by linear blend skinning, its orientation by the blended rotation;
    blendshapes shift it and do not turn it.

    Parameters
    ----------
    model : BodyModel
        The avatar's body model.
    avatar : GaussianAvatar
        N Gaussians; its arrays are not copied where they are contiguous.

    Raises
    ------
    AvatarError
        The avatar belongs to another body model, or points outside this one.
    MissingDependencyError
        The kernels were not built.

    """

    def __init__(self, model: BodyModel, avatar: GaussianAvatar) -> None:
        if avatar.body_model != model.name:
            raise AvatarError(f'the avatar is bound to the body model {avatar.body_model!r}, this '
                              f'is {model.name!r}; reconstruct it again or load that model')
        if avatar.betas.shape != (len(model.shape_basis),):
            raise AvatarError(f'the avatar has betas of shape {avatar.betas.shape}, '
                              f'{model.name!r} has {len(model.shape_basis)}; the file is damaged')
        triangles = avatar.triangles
        if len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(model.faces):
            raise AvatarError(f'the avatar names triangles outside 0..{len(model.faces) - 1}; '
                              'the file is damaged')
        self._kernel = _native.load('skinning')
        self._model = model
        _, self._rest_joints = model.shaped(avatar.betas)
        self._means = np.ascontiguousarray(avatar.means, np.float32)
        norms = np.linalg.norm(avatar.quats, axis=1, keepdims=True)  # rounded by the file
        self._quats = np.ascontiguousarray(avatar.quats / norms, np.float32)
        self._corners = np.ascontiguousarray(model.faces[triangles], np.int32)
        self._barycentrics = np.ascontiguousarray(avatar.barycentrics, np.float32)
        self._joints, self._weights = _gaussian_skin(model, self._corners, self._barycentrics)
        self._offsets = np.zeros((len(model.template), 4), np.float32)
        self._out_means = np.empty_like(self._means)
        self._out_quats = np.empty_like(self._quats)

    def pose(self, pose: OperatorPose) -> tuple[Float32, Float32]:
        """
        Return where the Gaussians are.

        Returns
        -------
        means : (N, 3) float32
            In the pose's frame, metres.
        quats : (N, 4) float32
            wxyz.  Both arrays are overwritten by the next call.

        """
        transforms = joint_transforms(
            self._model, self._rest_joints, pose.joint_rotations, pose.translation)
        shapes = self._model.blendshapes
        self._kernel.blend(shapes.starts, shapes.vertices, shapes.deltas, pose.blendshapes,
                           self._offsets)
        self._kernel.skin(self._means, self._quats, self._corners, self._barycentrics,
                          self._joints, self._weights, self._offsets, transforms,
                          self._out_means, self._out_quats)
        return self._out_means, self._out_quats


def _gaussian_skin(model: BodyModel, corners: np.ndarray,
                   barycentrics: Float32) -> tuple[np.ndarray, Float32]:
    """Return (N, 4) joints and weights, heaviest first, from the (N, 3) corners' own."""
    joints = np.empty((len(corners), _BONES), np.uint8)
    weights = np.empty((len(corners), _BONES), np.float32)
    for start in range(0, len(corners), _CHUNK):
        part = slice(start, start + _CHUNK)
        own = corners[part]
        shares = model.skin_weights[own] * barycentrics[part][:, :, None]
        dense = np.zeros((len(own), len(JOINTS)), np.float32)
        np.add.at(dense, (np.arange(len(own))[:, None, None], model.skin_joints[own]), shares)
        joints[part] = np.argsort(-dense, axis=1)[:, :_BONES]
        weights[part] = np.take_along_axis(dense, joints[part].astype(np.intp), 1)
    return joints, weights / weights.sum(1, keepdims=True)
