"""How far each surface of an avatar has turned since its portrait, which is what changes light."""
from __future__ import annotations

import numpy as np

from visa_ros.body.model import BodyModel
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import TURNING_CHANNELS
from visa_ros.rendering.splat_cpu import SplatCpu
from visa_ros.types import Float32, GaussianAvatar

_TURNED = 0.2     # change of a normal, of length 1, that counts as a whole one: 11 degrees
_GRAZED = 0.15    # cosine to the ray below which the portrait saw too little of a surface
_BEHIND_M = 0.02  # what the portrait shows, and a Gaussian is hidden: hair is about as thick


class Turning:
    """
    Normals of an avatar's N Gaussians now and in the portrait, in the camera's frame.

    A Gaussian is flat: its normal is its shortest axis, outwards from the body.

    Parameters
    ----------
    avatar : GaussianAvatar
    model : BodyModel
        The avatar's.
    skinning : AvatarSkinning
        Of the avatar; it is posed as the portrait.

    """

    def __init__(self, avatar: GaussianAvatar, model: BodyModel,
                 skinning: AvatarSkinning) -> None:
        count = len(avatar)
        # The shortest axis and those that follow it, cyclically.
        axes = (avatar.scales.argmin(1)[:, None] + np.arange(3)) % 3
        self._places = (3 * np.arange(count)[:, None] + axes).T
        self._out = np.zeros((count, TURNING_CHANNELS), np.float32)
        self._now = np.zeros((count, 3), np.float32)
        means, quats = skinning.pose(avatar.portrait_pose)
        self._signs = np.ones((count, 1), np.float32)
        corners = model.shaped(avatar.betas)[0][model.faces[avatar.triangles]]
        outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        rest = self._normals(avatar.quats).copy()
        self._signs[(rest * outwards).sum(1) < 0] = -1
        self._portrait = self._normals(quats).copy()
        self._hidden = _hidden(avatar, means, quats, self._portrait)
        self._out[:, 1:4] = self._portrait

    def light_turns_too(self, quats: Float32) -> None:
        """Let light have turned with the avatar up to this pose: its normals count from there."""
        self._out[:, 1:4] = self._normals(quats)

    def at(self, quats: Float32) -> Float32:
        """
        Return what is told of the Gaussians in a pose.

        Parameters
        ----------
        quats : (N, 4) float32
            wxyz, of unit length, in the camera's frame.

        Returns
        -------
        (N, 7) float32
            How much of the surface's look the portrait does not tell, in [0, 1]: 0 where it faces
            the camera as it did; its normal in the portrait's light; how the normal has changed.
            The next call overwrites it.

        """
        changed, then, change = self._out[:, 0], self._out[:, 1:4], self._out[:, 4:]
        now = self._normals(quats)
        np.subtract(now, self._portrait, out=change)
        np.sqrt(np.einsum('nc,nc->n', change, change), out=changed)
        np.subtract(now, then, out=change)
        changed /= _TURNED
        changed += self._hidden
        np.minimum(changed, 1, out=changed)
        return self._out

    def _normals(self, quats: Float32) -> Float32:
        """Return (N, 3): a column of the rotation matrix."""
        w = quats[:, 0]
        a, b, c = np.ascontiguousarray(quats[:, 1:]).ravel()[self._places]
        flat = self._now.ravel()
        for place, value in zip(self._places, (
                1 - 2 * (b * b + c * c), 2 * (a * b + w * c), 2 * (a * c - w * b)), strict=True):
            flat[place] = value
        self._now *= self._signs
        return self._now


def _hidden(avatar: GaussianAvatar, means: Float32, quats: Float32, normals: Float32) -> Float32:
    """Return (N,): 1 where the portrait shows nothing of a Gaussian, else 0."""
    camera = avatar.camera
    size = camera.height, camera.width
    rgb, alpha, depth = (np.zeros((*size, 3), np.uint8), np.zeros(size, np.float32),
                         np.zeros(size, np.float32))
    SplatCpu(avatar.scales, avatar.opacities, avatar.colors, camera,
             np.zeros(3, np.float32)).draw(means, quats, rgb, alpha, depth)
    z = np.maximum(means[:, 2], 1e-6)
    column, row = ((camera.K[axis, axis] * means[:, axis] / z + camera.K[axis, 2]).astype(int)
                   for axis in range(2))
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    shown = depth[row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)]
    facing = -(normals * means).sum(1) / np.maximum(np.linalg.norm(means, axis=1), 1e-6)
    seen = inside & (means[:, 2] < shown + _BEHIND_M) & (facing > _GRAZED)
    return (~seen).astype(np.float32)
