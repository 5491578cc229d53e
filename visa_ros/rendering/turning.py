"""How far each surface of an avatar has turned since its portrait, which is what changes light."""
from __future__ import annotations

import numpy as np

from visa_ros._native import load
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
        self._kernel = load('skinning')
        self._axes = avatar.scales.argmin(1).astype(np.uint8)
        self._signs = np.ones(count, np.float32)
        self._portrait = self._light = np.zeros((count, 3), np.float32)
        self._hidden = np.zeros(count, np.float32)
        corners = model.shaped(avatar.betas)[0][model.faces[avatar.triangles]]
        outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        inwards = (self._normals(avatar.quats) * outwards).sum(1) < 0
        self._signs[inwards] = -1
        means, quats = skinning.pose(avatar.portrait_pose)
        self._portrait = self._light = self._normals(quats)
        self._hidden = _hidden(avatar, means, quats, self._portrait)

    def light_turns_too(self, quats: Float32) -> None:
        """Let light have turned with the avatar up to this pose: its normals count from there."""
        self._light = self._normals(quats)

    def into(self, out: Float32, quats: Float32) -> None:
        """
        Write what is told of the Gaussians in a pose.

        Parameters
        ----------
        out : (N, 7 or more) float32
            Out, in the last seven columns: how much of the surface's look the portrait does not
            tell, in [0, 1], 0 where it faces the camera as it did; its normal in the portrait's
            light; how the normal has changed.
        quats : (N, 4) float32
            wxyz, of unit length, in the camera's frame.

        """
        self._kernel.turn(quats, self._axes, self._signs, self._portrait, self._light,
                          self._hidden, _TURNED, out)

    def _normals(self, quats: Float32) -> Float32:
        """Return (N, 3), in the quaternions' frame."""
        out = np.zeros((len(quats), TURNING_CHANNELS), np.float32)
        self.into(out, quats)
        return out[:, 1:4] + out[:, 4:]


def _hidden(avatar: GaussianAvatar, means: Float32, quats: Float32, normals: Float32) -> Float32:
    """Return (N,): 1 where the portrait shows nothing of a Gaussian, else 0."""
    camera = avatar.camera
    size = camera.height, camera.width
    rgb, alpha, depth = (np.zeros((*size, 3), np.uint8), np.zeros(size, np.float32),
                         np.zeros(size, np.float32))
    SplatCpu(avatar.scales, avatar.opacities, avatar.colors, camera,
             np.zeros(3, np.float32)).draw(means, quats, rgb, alpha, depth)
    places = camera.project(np.maximum(means, (-np.inf, -np.inf, 1e-6)))
    inside = ((places >= 0) & (places < (camera.width, camera.height))).all(1)
    columns, rows = np.where(inside, places.T, 0).astype(int)
    shown = depth[rows, columns]
    facing = -(normals * means).sum(1) / np.maximum(np.linalg.norm(means, axis=1), 1e-6)
    seen = inside & (means[:, 2] < shown + _BEHIND_M) & (facing > _GRAZED)
    return (~seen).astype(np.float32)
