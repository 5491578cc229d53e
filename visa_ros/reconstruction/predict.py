"""The network's step: attributes and features for Gaussians that were bound to the body."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction.evidence import gather_evidence
from visa_ros.reconstruction.network import Attributes, AvatarNetwork
from visa_ros.reconstruction.splats import Splats
from visa_ros.reconstruction.surface import Surface
from visa_ros.reconstruction.threads import one_torch_thread
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, Float32

_INVISIBLE = 0.02  # opacity below which a Gaussian is left out
_SHOWN = 0.5       # alpha from which on the portrait shows the person


@one_torch_thread()
def predict(model: BodyModel, splats: Splats, surface: Surface, colors: Float32, alpha: Float32,
            camera: Camera, network: AvatarNetwork) -> Splats:
    """
    Let the network say how bound Gaussians really are.

    Parameters
    ----------
    model : BodyModel
    splats : Splats
        As ``bind`` returns them.
    surface, colors, alpha, camera
        As for ``bind``.
    network : AvatarNetwork

    Returns
    -------
    Splats
        Moved, coloured and with features; without those that became invisible.

    """
    evidence = gather_evidence(model, network.places.numpy(), splats, surface, colors, alpha,
                               camera)
    with torch.no_grad():
        said = network(evidence)
        means, quats, scales, opacities = changed(said, *(torch.from_numpy(value) for value in (
            splats.means, splats.quats, splats.scales, splats.opacities)))
    moved = _kept_behind(splats, means.numpy(), surface, alpha, camera)
    result = replace(splats, means=moved, quats=quats.numpy(), scales=scales.numpy(),
                     opacities=opacities.numpy(), colors=said.colors.numpy(),
                     features=said.features.numpy())
    return result.chosen(result.opacities > _INVISIBLE)


def _kept_behind(splats: Splats, means: Float32, surface: Surface, alpha: Float32,
                 camera: Camera) -> Float32:
    """Return the means, those of hidden Gaussians still behind what the portrait shows."""
    def front(points: Float32) -> tuple[Float32, NDArray[np.bool_]]:
        pixels = camera.project(points)
        x, y = nearest_pixels(pixels, camera)
        depth = surface.depth[y, x]  # infinite where something held was left out
        return depth, (alpha[y, x] > _SHOWN) & np.isfinite(depth)

    nearest, shown = front(means)
    before, _ = front(splats.means)
    hidden = shown & ~splats.seen & (splats.means[:, 2] > before)
    wanted = np.where(hidden, nearest + splats.scales[:, 1], means[:, 2])
    push = wanted / means[:, 2]
    return (means * np.maximum(push, 1)[:, None]).astype(np.float32)


def changed(said: Attributes, means: Tensor, quats: Tensor, scales: Tensor,
            opacities: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """
    Return means, quats (wxyz), scales and opacities as the network says, in any pose.

    What it says is relative to each Gaussian's own axes, so it turns with them.
    """
    w, axis = quats[:, :1], quats[:, 1:]
    # v + 2 w (q x v) + 2 q x (q x v)
    across = 2 * torch.linalg.cross(axis, said.offsets)
    means = means + said.offsets + w * across + torch.linalg.cross(axis, across)
    half = said.turns / 2
    quats = torch.cat([w - (axis * half).sum(1, keepdim=True),
                       axis + w * half + torch.linalg.cross(axis, half)], 1)
    opacities = (opacities.clamp(1e-3, 1 - 1e-3).logit() + said.opacity_logits).sigmoid()
    return means, F.normalize(quats, dim=1), scales * said.log_scales.exp(), opacities
