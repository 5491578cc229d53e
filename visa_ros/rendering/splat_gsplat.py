"""gsplat for the live loop: the same picture as ``splat_cpu``, drawn by a CUDA GPU."""
from __future__ import annotations

import torch
from torch import Tensor

from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.errors import ResourceError
from visa_ros.rendering.rasterization import rasterization
from visa_ros.types import Camera, Float32, UInt8


class SplatGsplat:
    """
    Draw the same N Gaussians over and over; parameters, shapes and errors as of ``SplatCpu``.

    Raises
    ------
    ResourceError
        There is no CUDA device.
    MissingDependencyError
        gsplat is not installed.

    """

    def __init__(self, scales: Float32, opacities: Float32, colors: Float32, camera: Camera,
                 background: Float32) -> None:
        if not torch.cuda.is_available():  # without one, gsplat fails with a misleading error
            raise ResourceError('the gsplat backend needs a CUDA device and a torch built for it; '
                                'set rendering.backend to cpu')
        self._scales, self._opacities, self._colors = map(_on_gpu, (scales, opacities, colors))
        self._camera, self._Ks = camera, _on_gpu(camera.K)[None]
        self._viewmats = torch.eye(4, device='cuda')[None]
        self._background = _on_gpu(background)[None]

    @torch.no_grad()
    def draw(self, means: Float32, quats: Float32, rgb: UInt8, alpha: Float32,
             depth: Float32) -> None:
        """Draw one frame into the caller's arrays; see ``SplatCpu.draw``."""
        gaussians = _on_gpu(means), _on_gpu(quats), self._scales, self._opacities
        image, alphas, _ = rasterization(
            *gaussians, self._colors, self._viewmats, self._Ks,
            self._camera.width, self._camera.height, backgrounds=self._background,
            render_mode='RGB+ED')
        torch.from_numpy(rgb).copy_(image[0, ..., :3].clamp(0, 1).mul(255).round())
        torch.from_numpy(alpha).copy_(alphas[0, ..., 0])
        torch.from_numpy(depth).copy_(image[0, ..., -1])

    @torch.no_grad()
    def draw_features(self, means: Float32, quats: Float32, features: Float32,
                      window: tuple[slice, slice], out: Float32) -> None:
        """Draw what else is known of each Gaussian; see ``SplatCpu.draw_features``."""
        height, width = out.shape[:2]
        K = self._camera.cut(window).smaller(FEATURE_STRIDE).K
        image, _, _ = rasterization(
            _on_gpu(means), _on_gpu(quats), self._scales, self._opacities, _on_gpu(features),
            self._viewmats, _on_gpu(K)[None], width, height)
        torch.from_numpy(out).copy_(image[0])


def _on_gpu(array: Float32) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32, device='cuda')
