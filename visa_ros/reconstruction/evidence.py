"""What the network is told of a portrait and the Gaussians that were bound to it."""
from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.reconstruction.anatomy import anatomy, vertex_normals
from visa_ros.reconstruction.network import IMAGE_PX, NEIGHBOURS, Evidence
from visa_ros.reconstruction.splats import Splats
from visa_ros.reconstruction.surface import Part, Surface
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, Float32

# Distance between tokens: most where people look.  The legs are never in the picture.
_TOKEN_SPACING_M = {'head': 0.03, 'torso': 0.07, 'left_arm': 0.06, 'right_arm': 0.06,
                    'left_hand': 0.04, 'right_hand': 0.04}
_FACE_EDGE_M = 0.012  # between landmarks the face is no further than this from one


def freedom(model: BodyModel, corners: NDArray[np.int32], barycentrics: Float32) -> Float32:
    """
    Return (N, 1) in [0, 1]: how free the network is at points of the body.

    Not at all in the face and within it, wholly a little away from it.

    Parameters
    ----------
    model : BodyModel
    corners : (N, 3) int
        Vertices around each point.
    barycentrics : (N, 3) float32

    """
    face = model.face_landmarks.on(model.template, model.faces)
    feet = np.einsum('nk,nkc->nc', barycentrics, model.template[corners])
    distance, _ = cKDTree(face).query(feet)
    outside = np.zeros(len(model.template), bool)
    outside[model.faces[anatomy(model).skin]] = True
    free = np.clip(distance / _FACE_EDGE_M - 1, 0, 1) * outside[corners].any(1)
    return free[:, None].astype(np.float32)


@cache
def token_places(model: BodyModel) -> Float32:
    """Return the (K, 3) vertices of the rest body that stand for the surface around them."""
    rest, parts = model.template, model.vertex_parts()
    outside = np.zeros(len(rest), bool)
    outside[model.faces[anatomy(model).skin]] = True
    places = []
    for part, spacing in _TOKEN_SPACING_M.items():
        own = rest[outside & (parts == VERTEX_PARTS.index(part))]
        voxels, group = np.unique(np.floor(own / spacing), axis=0, return_inverse=True)
        total = np.stack([np.bincount(group.ravel(), column) for column in own.T], 1)
        middle = total / np.bincount(group.ravel(), minlength=len(voxels))[:, None]
        places.append(own[np.unique(cKDTree(own).query(middle)[1])])
    return np.concatenate(places).astype(np.float32)


def gather_evidence(model: BodyModel, places: Float32, splats: Splats, surface: Surface,
                    colors: Float32, alpha: Float32, camera: Camera) -> Evidence:
    """
    Describe bound Gaussians and the portrait they come from.

    Parameters
    ----------
    model : BodyModel
    places : (K, 3) float32
        The network's tokens on the rest body.
    splats : Splats
        In the portrait camera's frame.
    surface : Surface
        What the pixels show.
    colors, alpha : (H, W, 3), (H, W) float32
        The person without the background.
    camera : Camera

    """
    corners = model.faces[splats.triangles]
    feet = np.einsum('nk,nkc->nc', splats.barycentrics, model.template[corners])
    normals = vertex_normals(model.template, model.faces)
    normals = np.einsum('nk,nkc->nc', splats.barycentrics, normals[corners])
    turn = Rotation.from_quat(splats.quats, scalar_first=True)
    view = splats.means / np.linalg.norm(splats.means, axis=1, keepdims=True)
    rays = turn.apply(view, inverse=True)
    distance, neighbours = cKDTree(places).query(feet, k=NEIGHBOURS)
    nearness = 1 / (distance + 0.005) ** 2
    geometry = np.column_stack([feet, normals, np.log(splats.scales / 0.01), np.abs(rays[:, 2])])
    pixels = camera.project(splats.means)
    free = freedom(model, corners, splats.barycentrics)
    # Teeth hang on the skull: the picture says that they are in the face.
    x, y = nearest_pixels(pixels, camera)
    free[splats.seen & (surface.part[y, x] >= Part.UPPER_LIP)] = 0
    pixels = 2 * pixels / max(alpha.shape) - 1
    values = {
        'image': _image(model, surface, colors, alpha), 'pixels': pixels,
        'seen': splats.seen[:, None], 'freedom': free, 'colors': splats.colors,
        'geometry': geometry, 'rays': rays, 'barycentrics': splats.barycentrics,
        'nearness': nearness / nearness.sum(1, keepdims=True)}
    return Evidence(
        corners=torch.from_numpy(corners.astype(np.int64)),
        neighbours=torch.from_numpy(neighbours.astype(np.int64)),
        **{name: torch.from_numpy(np.ascontiguousarray(value, np.float32))
           for name, value in values.items()})


def _image(model: BodyModel, surface: Surface, colors: Float32, alpha: Float32) -> Float32:
    """Return (7, 128, 128): the portrait in the top left corner, its long side filling it."""
    height, width = alpha.shape
    scale = IMAGE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    corners = model.template[model.faces[np.maximum(surface.triangle, 0)]]
    places = np.einsum('hwk,hwkc->hwc', surface.barycentric, corners) * (alpha > 0.5)[..., None]
    picture = cv2.resize(np.dstack([colors * alpha[..., None], alpha]), size,
                         interpolation=cv2.INTER_AREA)
    places = cv2.resize(places, size, interpolation=cv2.INTER_NEAREST)
    out = np.zeros((7, IMAGE_PX, IMAGE_PX), np.float32)
    out[:, :size[1], :size[0]] = np.dstack([picture, places]).transpose(2, 0, 1)
    return out
