"""Which triangle of a mesh each pixel sees."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visa_ros.types import Camera, Float32


@dataclass(frozen=True, eq=False)
class ZBuffer:
    """
    The nearest surface behind each pixel's centre.

    Attributes
    ----------
    depth : (H, W) float32
        Along the camera's z, metres; infinity where nothing is.
    triangle : (H, W) int32
        Its triangle; -1 where nothing is.
    barycentric : (H, W, 3) float32
        Perspective correct.

    """

    depth: Float32
    triangle: NDArray[np.int32]
    barycentric: Float32


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the pixels (..., 2) of points (..., 3) in the camera's frame."""
    K = camera.K
    return points[..., :2] / points[..., 2:] * (K[0, 0], K[1, 1]) + K[:2, 2]


def rasterize_mesh(vertices: Float32, faces: NDArray[np.int32], camera: Camera) -> ZBuffer:
    """
    Rasterize a mesh without shading: 27k triangles at 512 x 512 in about 0.3 s, in numpy alone.

    Triangles are taken in classes of bounding box size, so that each class is one array
    operation over (triangles, pixels of the box).

    Parameters
    ----------
    vertices : (V, 3) float32
        In the camera's frame, metres.
    faces : (F, 3) int32
    camera : Camera

    """
    height, width = camera.height, camera.width
    corners = vertices.astype(np.float64)[faces]
    ahead = np.flatnonzero((corners[..., 2] > 0.05).all(1))
    pixels = project(corners[ahead], camera)
    low = np.clip(np.floor(pixels.min(1)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(pixels.max(1)), 0, (width, height)).astype(int)
    size_class = 1 << np.ceil(np.log2(np.maximum((high - low).max(1), 1))).astype(int)
    size_class[(high <= low).any(1)] = 0

    found = []
    for size in np.unique(size_class[size_class > 0]):
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2)
        chunk = max(1, 2**21 // len(grid))
        chosen = np.flatnonzero(size_class == size)
        for begin in range(0, len(chosen), chunk):
            part = chosen[begin:begin + chunk]
            at = low[part, None] + grid
            a, b, c = np.moveaxis(pixels[part][:, :, None], 1, 0)
            weights = _edges(at + 0.5, a, b, c)
            inside = (weights >= -1e-9).all(2) & (at < high[part, None]).all(2)
            row, column = np.nonzero(inside)
            share = weights[row, column] / corners[ahead[part[row]], :, 2]
            depth = 1 / share.sum(1)
            x, y = at[row, column].T
            found.append((y * width + x, depth, ahead[part[row]], share * depth[:, None]))

    result = ZBuffer(np.full((height, width), np.inf, np.float32),
                     np.full((height, width), -1, np.int32),
                     np.zeros((height, width, 3), np.float32))
    if found:
        pixel, depth, triangle, barycentric = (
            np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((triangle, depth))[::-1]  # the nearest is written last and stays
        result.depth.reshape(-1)[pixel[order]] = depth[order]
        result.triangle.reshape(-1)[pixel[order]] = triangle[order]
        result.barycentric.reshape(-1, 3)[pixel[order]] = barycentric[order]
    return result


def _edges(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return screen barycentrics (T, P, 3); NaN or infinite for a triangle seen edge-on."""
    def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    with np.errstate(divide='ignore', invalid='ignore'):
        area = cross(b - a, c - a)
        second = cross(p - a, c - a) / area
        third = cross(b - a, p - a) / area
    return np.stack([1 - second - third, second, third], -1)
