"""What an avatar has to be better than: flat colours on the body, and the portrait, warped."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from visa_ros._optional import require
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import VERTEX_PARTS, load_body_model
from visa_ros.conventions import JOINT_INDEX
from visa_ros.reconstruction.fit import BodyFit
from visa_ros.reconstruction.reconstruct import posed_body
from visa_ros.reconstruction.zbuffer import rasterize_mesh
from visa_ros.types import Camera, Float32, GaussianAvatar, OperatorPose, UInt8

_OVERSAMPLING = 2
# Where a part that the portrait does not show takes its colour from.
_ALIKE = {'head': 'torso', 'torso': 'head', 'left_arm': 'torso', 'right_arm': 'torso',
          'left_hand': 'head', 'right_hand': 'head', 'legs': 'torso'}
_WARPED_JOINTS = ('neck', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow',
                  'left_wrist', 'right_wrist', 'left_middle1', 'right_middle1', 'spine2',
                  'left_hip', 'right_hip')
_OUTLINE_STEP_PX = 12
_OUTLINE_NEIGHBOURS = 3


class FlatBody:
    """
    The body as fitted, each part in the portrait's mean colour of it.

    Parameters
    ----------
    avatar : GaussianAvatar
        Gives body, pose and camera; its Gaussians are not looked at.
    portrait : (H, W, 3) uint8
        As large as the avatar's camera.
    alpha : (H, W) float32
        Where it shows the person.
    background : (3,) float32
        sRGB in [0, 1].

    """

    def __init__(self, avatar: GaussianAvatar, portrait: UInt8, alpha: Float32,
                 background: Float32) -> None:
        self._model, self._betas = load_body_model(avatar.body_model), avatar.betas
        self._camera, self._background = avatar.camera, background
        parts = self._model.vertex_parts()[self._model.faces[:, 0]]
        seen = rasterize_mesh(self._posed(avatar.portrait_pose), self._model.faces, self._camera)
        shown = np.where((alpha > 0.5) & (seen.triangle >= 0), parts[seen.triangle], len(parts))
        means = {part: portrait[shown == number].mean(0) / 255
                 for number, part in enumerate(VERTEX_PARTS) if (shown == number).any()}
        self._colors = np.array([means.get(part, means.get(_ALIKE[part], np.full(3, 0.5)))
                                 for part in VERTEX_PARTS], np.float32)[parts]

    def draw(self, pose: OperatorPose) -> tuple[UInt8, Float32]:
        """Return the picture (H, W, 3) and its alpha (H, W)."""
        width, height = self._camera.width, self._camera.height
        large = self._camera.resized(width * _OVERSAMPLING, height * _OVERSAMPLING)
        seen = rasterize_mesh(self._posed(pose), self._model.faces, large)
        there = (seen.triangle >= 0)[..., None]
        picture = np.where(there, self._colors[seen.triangle], self._background)
        picture = np.dstack([picture, there]).reshape(
            height, _OVERSAMPLING, width, _OVERSAMPLING, 4).mean((1, 3))
        return np.rint(255 * picture[..., :3]).astype(np.uint8), picture[..., 3].astype(np.float32)

    def _posed(self, pose: OperatorPose) -> Float32:
        return posed_body(self._model, BodyFit(self._betas, pose, 0, 0))


class WarpedPortrait:
    """
    The portrait, cut out and warped in the plane as landmarks of face and joints move.

    Piecewise affine over a Delaunay triangulation of the landmarks and of points along the
    outline, each of which moves as the landmarks next to it do.

    Parameters
    ----------
    avatar, portrait, alpha, background
        As for ``FlatBody``.

    """

    def __init__(self, avatar: GaussianAvatar, portrait: UInt8, alpha: Float32,
                 background: Float32) -> None:
        self._model, self._betas = load_body_model(avatar.body_model), avatar.betas
        self._camera, self._background = avatar.camera, background
        self._picture = np.dstack([portrait / np.float32(255), alpha])
        outlines, _ = require('cv2').findContours(
            (alpha > 0.05).astype(np.uint8), 0, 1)  # outer ones, every pixel
        line = max(outlines, key=len)[::_OUTLINE_STEP_PX, 0].astype(np.float32) + 0.5
        marks = self._landmarks(avatar.portrait_pose)
        distance, self._near = cKDTree(marks).query(line, k=_OUTLINE_NEIGHBOURS)
        self._share = 1 / (distance + 1)[..., None]
        self._share /= self._share.sum(1, keepdims=True)
        self._marks, self._line = marks, line

    def draw(self, pose: OperatorPose) -> tuple[UInt8, Float32]:
        """Return the picture (H, W, 3) and its alpha (H, W)."""
        marks = self._landmarks(pose)
        line = self._line + (self._share * (marks - self._marks)[self._near]).sum(1)
        back = LinearNDInterpolator(np.concatenate([marks, line]),
                                    np.concatenate([self._marks, self._line]), fill_value=-1e4)
        rows, columns = np.mgrid[:self._camera.height, :self._camera.width] + 0.5
        source = back(columns, rows).astype(np.float32) - np.float32(0.5)
        warped = require('cv2').remap(self._picture, source, None, 1)  # linear, black outside
        rgb, alpha = warped[..., :3], warped[..., 3:]
        rgb = rgb * alpha + self._background * (1 - alpha)
        return np.rint(255 * rgb.clip(0, 1)).astype(np.uint8), alpha[..., 0].copy()

    def _landmarks(self, pose: OperatorPose) -> Float32:
        """Return the (P, 2) pixels of the landmarks."""
        return np.concatenate(list(_projected(self._model, self._betas, pose, self._camera)))


def _projected(model: Any, betas: Float32, pose: OperatorPose,
               camera: Camera) -> Iterable[Float32]:
    body = posed_body(model, BodyFit(betas, pose, 0, 0))
    for points in (model.face_landmarks, model.pose_landmarks):
        known = points.weights > 0
        yield camera.project(points.on(body, model.faces)[known])
    _, joints = model.shaped(betas)
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    wanted = [JOINT_INDEX[name] for name in _WARPED_JOINTS]
    yield camera.project(posed_joints(transforms, joints)[wanted])
