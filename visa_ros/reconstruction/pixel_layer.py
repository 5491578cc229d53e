"""Gaussians that repeat the portrait: one for each cell of a quadtree over its pixels."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.reconstruction.cells import Cells, detail_cells
from visa_ros.reconstruction.splats import OPACITY, THICKNESS, Splats, quats_of, splats_of
from visa_ros.reconstruction.surface import Part, Surface
from visa_ros.types import Camera, Float32

# A Gaussian's standard deviation over its cell's side: the smallest that leaves no holes.
_CELL_SIGMA = 0.6
_RIM_ALPHA = 0.95
# Of a disc that the portrait sees at a grazing angle: always, and where the surface goes on.
_FREE_STRETCH, _MAX_STRETCH = 2.5, 6.0


def pixel_layer(surface: Surface, colors: Float32, alpha: Float32, landmarks: Float32,
                camera: Camera, count: int) -> Splats:
    """Return discs on the surface that show the portrait; none reaches across a depth edge."""
    mask = alpha > 0.04
    field = np.dstack([colors * alpha[..., None], alpha, surface.part * 1.0,
                       np.where(mask, surface.depth, 0) * 10]).astype(np.float32)
    cells = detail_cells(field, mask, _importance(landmarks, alpha.shape), count,
                         surface.edges())
    coverage = cells.mean(alpha)
    color = cells.mean(colors * alpha[..., None]) / coverage[:, None]
    # Tuned against the background, the rim would stand out in side views as a line, or as specks.
    rim = cv2.erode(alpha, np.ones((5, 5), np.uint8)) < _RIM_ALPHA
    tuned = ~(rim | _edges_of_openings(surface))
    return cell_splats(cells, surface, color, coverage, camera, np.ones_like(tuned), tuned)


def cell_splats(cells: Cells, surface: Surface, colors: Float32, coverage: Float32,
                camera: Camera, seen: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> Splats:
    """Return a disc on the surface for each cell; ``seen`` and ``tuned`` are (H, W)."""
    x = np.minimum(cells.x + cells.size // 2, camera.width - 1)
    y = np.minimum(cells.y + cells.size // 2, camera.height - 1)
    z = surface.depth[y, x]
    K = camera.K
    rays = np.column_stack([(cells.centers - K[:2, 2]) / (K[0, 0], K[1, 1]), np.ones(len(z))])
    side = cells.size * z / K[0, 0]
    quats, facing = _discs(surface.normal[y, x], rays)
    # As far as its neighbours are: beyond, an ear's rim or a strand would be a spike.
    slope = surface.slope()[y, x] * K[0, 0] / z
    stretch = np.minimum(1 / facing, np.clip(slope, _FREE_STRETCH, _MAX_STRETCH))
    scales = _CELL_SIGMA * side[:, None] * np.column_stack(
        [stretch, np.ones_like(side), np.full_like(side, THICKNESS / _CELL_SIGMA)])
    return splats_of(
        means=rays * z[:, None], quats=quats, scales=scales, opacities=OPACITY * coverage,
        colors=colors, triangles=surface.triangle[y, x],
        barycentrics=surface.barycentric[y, x], seen=seen[y, x], tuned=tuned[y, x])


def _edges_of_openings(surface: Surface) -> NDArray[np.bool_]:
    """
    Return the pixels of lids and lips that border on eyes and teeth, which lie deeper.

    Tuned, they would learn to paint what they dim behind them, and carry it along.
    """
    opening = (surface.part >= Part.LEFT_EYE).astype(np.uint8)
    return cv2.dilate(opening, np.ones((3, 3), np.uint8)) > opening


def _importance(landmarks: Float32, shape: tuple[int, ...]) -> Float32:
    """Return (H, W) weights: what people look at is painted finer."""
    weight = np.ones(shape, np.float32)
    low, high = landmarks.min(0), landmarks.max(0)
    center, size = (low + high) / 2, (high - low).max()
    y, x = np.indices(shape)
    distance = np.hypot(x + 0.5 - center[0], y + 0.5 - center[1])
    weight += 1.0 * (distance < size)
    weight += 6.0 * (distance < 0.6 * size)
    return weight


def _discs(normal: Float32, rays: Float32) -> tuple[Float32, Float32]:
    """
    Return quaternions of discs on a surface, and the cosine between their normals and the view.

    The first axis is the direction in which the surface runs away from the camera; stretched
    along it by one over the cosine, a disc covers its pixels.
    """
    view = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    facing = -np.einsum('nc,nc->n', normal, view)
    away = view + facing[:, None] * normal
    length = np.linalg.norm(away, axis=1, keepdims=True)
    sideways = np.cross(normal, np.array((0.0, 1.0, 0.0)))
    first = np.where(length > 1e-3, away / np.maximum(length, 1e-9), sideways)
    first -= np.einsum('nc,nc->n', first, normal)[:, None] * normal
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frame = np.stack([first, np.cross(normal, first), normal], 2)
    return quats_of(frame), np.clip(facing, 1e-3, 1)
