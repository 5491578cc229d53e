"""Gaussians that continue the trunk behind arms, hands and what they hold."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction.anatomy import vertex_normals
from visa_ros.reconstruction.cells import grid_cells
from visa_ros.reconstruction.parts import ARMS, Part, outer_faces, part_of_triangle
from visa_ros.reconstruction.pixel_layer import cell_splats
from visa_ros.reconstruction.splats import Splats
from visa_ros.reconstruction.surface import Surface
from visa_ros.reconstruction.zbuffer import rasterize_some
from visa_ros.types import Camera, Float32

_BEHIND_M = 0.008   # the arm's own layer
_MAX_PUSH_M = 0.03  # where the body has the trunk before the arm by more, it is mistaken
_MIXED_PX = 2       # so near an arm the trunk's pixels hold some of its colour


def hidden_layer(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
                 alpha: Float32, camera: Camera) -> Splats:
    """
    Return discs on the trunk where arms hide it: when they leave, no hole opens.

    Their colour is the smooth continuation of the trunk's in the picture.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The dressed body in the camera's frame.
    surface : Surface
        What the pixels show.
    colors, alpha : (H, W, 3), (H, W) float32
        The person without the background.
    camera : Camera

    """
    trunk = outer_faces(model, vertices) & (part_of_triangle(model) == Part.TRUNK)
    seen = rasterize_some(vertices, model.faces, trunk, camera)
    arm = np.isin(surface.part, list(ARMS)) & (alpha > 0.5)
    here = arm & (seen.triangle >= 0) & (surface.depth + _BEHIND_M < seen.depth + _MAX_PUSH_M)
    depth = np.maximum(seen.depth, surface.depth + _BEHIND_M)
    thing = (surface.part == Part.NONE) & (alpha > 0.5)
    depth[thing] = seen.depth[thing]
    here |= thing & (seen.triangle >= 0)
    arm |= thing
    corners = vertex_normals(vertices, model.faces)[model.faces[seen.triangle[here]]]
    normal = np.zeros_like(surface.normal)
    normal[here] = np.einsum('nk,nkc->nc', seen.barycentric[here], corners)
    normal[here] /= np.linalg.norm(normal[here], axis=1, keepdims=True)
    behind = Surface(np.where(here, Part.TRUNK, Part.NONE).astype(np.uint8), depth, normal,
                     seen.triangle, seen.barycentric)
    near_arm = cv2.dilate(arm.astype(np.uint8), np.ones((2 * _MIXED_PX + 1,) * 2)) > 0
    known = np.isin(surface.part, (Part.TRUNK, Part.CLOTHES)) & (alpha > 0.95) & ~near_arm
    cells = grid_cells(here)
    nowhere = np.zeros_like(here)
    return cell_splats(cells, behind, cells.mean(_continued(colors, known)),
                       np.ones(len(cells.x), np.float32), camera, nowhere, nowhere)


def _continued(image: Float32, known: NDArray[np.bool_]) -> Float32:
    """Fill an image smoothly from its known pixels: means over ever larger squares."""
    weights = [known.astype(np.float32)[..., None]]
    totals = [image * weights[0]]
    while min(weights[-1].shape[:2]) > 1:
        totals.append(np.asarray(cv2.pyrDown(totals[-1]), np.float32))
        weights.append(np.asarray(cv2.pyrDown(weights[-1]), np.float32)[..., None])
    filled = totals[-1] / np.maximum(weights[-1], 1e-6)
    for total, weight in zip(totals[-2::-1], weights[-2::-1], strict=True):
        height, width = weight.shape[:2]
        wider = np.asarray(cv2.pyrUp(filled, dstsize=(width, height)), np.float32)
        filled = total + wider * (1 - weight)
    return np.asarray(filled, np.float32)
