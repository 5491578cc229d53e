"""Which triangle of a mesh each pixel sees."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visa_ros import _native
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


def nearest_pixels(pixels: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return column and row of the picture's pixel at, or nearest to, each (N, 2) place."""
    x, y = np.clip(pixels, 0, (camera.width - 1, camera.height - 1)).astype(int).T
    return x, y


def rasterize_mesh(vertices: Float32, faces: NDArray[np.int32], camera: Camera) -> ZBuffer:
    """
    Rasterize a mesh without shading, in C++: 27k triangles at 512 x 512 in a few milliseconds.

    Triangles that reach nearer than 5 cm to the camera are left out; both sides are seen.

    Parameters
    ----------
    vertices : (V, 3) float32
        In the camera's frame, metres.
    faces : (F, 3) int32
    camera : Camera

    """
    shape = camera.height, camera.width
    seen = ZBuffer(np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int32),
                   np.zeros((*shape, 3), np.float32))
    _native.load('zbuffer').rasterize(vertices, faces, camera.K, seen.depth, seen.triangle,
                                      seen.barycentric)
    return seen


def rasterize_some(vertices: Float32, faces: NDArray[np.int32], chosen: NDArray[np.bool_],
                   camera: Camera) -> ZBuffer:
    """Rasterize the chosen (F,) triangles of a mesh as if the others were not there."""
    numbers = np.flatnonzero(chosen)
    seen = rasterize_mesh(vertices, faces[numbers], camera)
    hit = seen.triangle >= 0
    seen.triangle[hit] = numbers[seen.triangle[hit]]
    return seen
