"""Make the Gaussians' picture the portrait's, by differentiable splatting."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from visa_ros.reconstruction.splats import Splats
from visa_ros.reconstruction.threads import one_torch_thread
from visa_ros.rendering.rasterization import rasterization
from visa_ros.types import Camera, Float32

# Adam step sizes: opacities as logits, scales as logarithms, the others as tanh of their range.
_LEARNING_RATES = {'colors': 0.1, 'opacities': 0.03, 'scales': 0.015, 'offsets': 0.03}
# How far a Gaussian may leave what it was bound as: else skin beside the eye learns to paint the
# iris, and carries it along when the eye closes.
_COLOR_RANGE = 0.3      # sRGB in [0, 1]
_OFFSET_RANGE = 0.5     # of its size
_BETAS = (0.8, 0.95)     # faster than Adam's defaults: there are few steps
# Of a Gaussian's scale: larger ones show as spikes in new poses, smaller ones leave cracks.
_MIN_GROWTH, _MAX_GROWTH = 0.5, 1.3
# Seen at a grazing angle, many Gaussians share few pixels: what they learn to show together is
# noise from elsewhere.  Below this cosine they have less of their ranges, but never less than:
_FACING, _LEAST_FREEDOM = 0.4, 0.5


@one_torch_thread()
def refine(splats: Splats, colors: Float32, alpha: Float32, camera: Camera, steps: int,
           seed: int, progress: Callable[[float], None] = lambda fraction: None) -> Splats:
    """
    Tune what the portrait shows; what it does not show stays as it is.

    Each step draws the avatar and the portrait's person over the same random colour, so that
    opacity is learnt too.

    Parameters
    ----------
    splats : Splats
    colors, alpha : (H, W, 3), (H, W) float32
        The person without the background.
    camera : Camera
    steps : int
    seed : int
        Of the background colours.
    progress : callable
        Told the fraction done.

    """
    generator = torch.Generator().manual_seed(seed)
    hidden, start = _tensors(splats, ~splats.tuned), _tensors(splats, splats.tuned)
    tuned = {
        'colors': torch.zeros_like(start['colors']),
        'opacities': torch.zeros_like(start['opacities']),
        'scales': torch.zeros_like(start['scales']),
        'offsets': torch.zeros_like(start['means']),
    }
    freedom = torch.from_numpy(_freedom(splats)[splats.tuned])[:, None]
    reach = freedom * _OFFSET_RANGE * start['scales'][:, 1:2]
    logits = start['opacities'].clamp(0.01, 0.99).logit()
    growth = float(np.log(_MIN_GROWTH)), float(np.log(_MAX_GROWTH))
    optimizer = torch.optim.Adam(
        [{'params': [tuned[name].requires_grad_()], 'lr': rate}
         for name, rate in _LEARNING_RATES.items()], betas=_BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    target, target_alpha = torch.from_numpy(colors), torch.from_numpy(alpha)[..., None]
    viewmat, K = torch.eye(4)[None], torch.from_numpy(camera.K)[None]

    def current() -> dict[str, torch.Tensor]:
        return {
            'means': start['means'] + reach * tuned['offsets'].tanh(), 'quats': start['quats'],
            'scales': start['scales'] * (freedom * tuned['scales'].clamp(*growth)).exp(),
            'opacities': (logits + freedom[:, 0] * tuned['opacities']).sigmoid(),
            'colors': (start['colors']
                       + _COLOR_RANGE * freedom * tuned['colors'].tanh()).clamp(0, 1),
        }

    for step in range(steps):
        background = torch.rand(3, generator=generator)
        means, quats, scales, opacities, values = (
            torch.cat([hidden[name], value]) for name, value in current().items())
        image, _, _ = rasterization(means, quats, scales, opacities, values, viewmat, K,
                                    camera.width, camera.height, backgrounds=background[None],
                                    threads=0)
        loss = (image[0] - torch.lerp(background, target, target_alpha)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / steps)

    result = {name: getattr(splats, name).copy() for name in start}
    for name, value in current().items():
        result[name][splats.tuned] = value.detach().numpy()
    return replace(splats, **result)


def _freedom(splats: Splats) -> Float32:
    """Return (N,) which share of the ranges each may use."""
    normals = Rotation.from_quat(splats.quats, scalar_first=True).apply((0, 0, 1))
    cosine = np.abs(np.einsum('nc,nc->n', normals, splats.means))
    cosine /= np.linalg.norm(splats.means, axis=1)
    return np.clip(cosine / _FACING, _LEAST_FREEDOM, 1).astype(np.float32)


def _tensors(splats: Splats, chosen: NDArray[np.bool_]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(getattr(splats, name)[chosen])
            for name in ('means', 'quats', 'scales', 'opacities', 'colors')}
