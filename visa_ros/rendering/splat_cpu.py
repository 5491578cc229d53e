"""The CPU rasterizer for the live loop: numpy in, a screen's picture out, no torch."""
from __future__ import annotations

import numpy as np

from visa_ros._native import load
from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.errors import InputError
from visa_ros.types import Camera, Float32, UInt8

NEAR_PLANE_M = 0.01  # gsplat's defaults, as in rasterization()
FAR_PLANE_M = 1e10
EPS2D_PX2 = 0.3


class SplatCpu:
    """
    Draw the same N Gaussians over and over, as they move and turn in front of one camera.

    Owns its buffers: after the first frame nothing of size is allocated.  The result does not
    depend on the number of threads.

    Parameters
    ----------
    scales : (N, 3) float32
        Standard deviations, metres.
    opacities : (N,) float32
        In [0, 1].
    colors : (N, 3) float32
        sRGB in [0, 1].
    camera : Camera
        What is drawn, in pixels.
    background : (3,) float32
        sRGB in [0, 1].
    threads : int
        0 for as many as there are cores.

    Raises
    ------
    InputError
        An array has the wrong shape.

    """

    def __init__(self, scales: Float32, opacities: Float32, colors: Float32, camera: Camera,
                 background: Float32, threads: int = 0) -> None:
        count = len(opacities)
        self._scales = _checked('scales', scales, (count, 3))
        self._opacities = _checked('opacities', opacities, (count,))
        self._colors = _checked('colors', colors, (count, 3))
        self._background = _checked('background', background, (3,))
        self._K = _checked('camera.K', camera.K, (3, 3))
        self._size = camera.width, camera.height
        self._camera = camera
        self._threads = threads
        self._native = load('splat_cpu')
        self._rasterizer = self._native.Rasterizer()
        self._viewmat = np.eye(4, dtype=np.float32)
        self._projected = tuple(np.zeros(shape, np.float32) for shape in (
            (count, 2), (count, 3), (count,), (count, 2)))  # means2d, conics, depths, extents
        self._small_alpha = np.zeros((0, 0), np.float32)

    def draw(self, means: Float32, quats: Float32, rgb: UInt8, alpha: Float32,
             depth: Float32) -> None:
        """
        Draw one frame into the caller's arrays.

        Parameters
        ----------
        means : (N, 3) float32
            In the camera's frame, metres.  A Gaussian with NaN is left out.
        quats : (N, 4) float32
            wxyz of any length, in the camera's frame.
        rgb : (H, W, 3) uint8
            Out: over the background.
        alpha : (H, W) float32
            Out: in [0, 1].
        depth : (H, W) float32
            Out: mean depth along the camera's z weighted as the colours, metres; 0 where nothing
            is.

        Raises
        ------
        InputError
            An array has the wrong size or type.

        """
        width, height = self._size
        try:
            self._project(means, quats, self._K, width, height)
            self._rasterizer.draw_screen(
                *self._projected, self._opacities, self._colors, self._background, width, height,
                self._threads, rgb, alpha, depth)
        except ValueError as error:
            raise InputError(f'cannot draw {len(self._opacities)} Gaussians at {width}x{height}: '
                             f'{error}') from error
        except TypeError as error:
            types = ', '.join(f'{name} {array.dtype}' for name, array in (
                ('means', means), ('quats', quats), ('rgb', rgb), ('alpha', alpha),
                ('depth', depth)))
            raise InputError(f'rgb must be uint8, the other arrays float32, all C-contiguous; '
                             f'got {types}') from error

    def draw_features(self, means: Float32, quats: Float32, features: Float32,
                      window: tuple[slice, slice], out: Float32) -> None:
        """
        Draw what else is known of each Gaussian, like colours, at 1/4 of the size.

        Parameters
        ----------
        means, quats : (N, 3), (N, 4) float32
            As in ``draw``.
        features : (N, F) float32
        window : (slice, slice)
            Rows and columns of the picture; multiples of 4.
        out : (h / 4, w / 4, F) float32
            Out: in the window, over zero.

        """
        height, width, channels = out.shape
        if self._small_alpha.shape != (height, width):
            self._small_alpha = np.zeros((height, width), np.float32)
        self._project(means, quats, self._camera.cut(window).smaller(FEATURE_STRIDE).K, width,
                      height)
        self._rasterizer.draw(
            *self._projected, self._opacities, features, np.zeros(channels, np.float32), False,
            width, height, False, self._threads, out, self._small_alpha)

    def _project(self, means: Float32, quats: Float32, K: Float32, width: int,
                 height: int) -> None:
        self._native.project(
            means, quats, self._scales, self._opacities, self._viewmat, K, width, height,
            NEAR_PLANE_M, FAR_PLANE_M, EPS2D_PX2, self._threads, *self._projected)


def _checked(name: str, array: Float32, shape: tuple[int, ...]) -> Float32:
    if array.shape != shape:
        raise InputError(f'{name} must have shape {shape}, got {array.shape}')
    return np.ascontiguousarray(array, np.float32)
