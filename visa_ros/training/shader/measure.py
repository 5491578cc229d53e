"""How near the shader's pictures of recorded pairs are to the truth."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visa_ros.shading.network import ShaderNetwork, start, within
from visa_ros.training.shader.streams import Pairs

_STILL = 6 / 127.5       # change of a colour, of 2, that is the camera's noise


@torch.no_grad()
def shade(network: ShaderNetwork, pairs: Pairs) -> dict[str, Tensor]:
    """
    Let the network shade the sequences of one file, in one step a picture.

    Returns
    -------
    dict of str to (S, T, 3, H, W) tensor
        'render', 'shaded' and 'truth' over grey, in [-1, 1].

    """
    render, truth = (torch.from_numpy(pairs[name]).float().movedim(4, 2) / 127.5
                     for name in ('render', 'truth'))
    alpha = render[:, :, 3:] / 2
    render, truth = (rgba[:, :, :3] - rgba[:, :, 3:] / 2 for rgba in (render, truth))
    sequences, length, _, height, width = render.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 3, height, width), generator=generator).expand(
        sequences, -1, -1, -1)
    last = before = render[:, 0]
    made = []
    for moment in range(length):
        now = render[:, moment]
        pixels = torch.cat([start(now, noise), now, last, before], 1).contiguous(
            memory_format=torch.channels_last)
        said = network(pixels, torch.from_numpy(pairs['guide'][:, moment]).float(),
                       torch.ones(sequences))
        last, before = within(now, alpha[:, moment], said).clamp(-1, 1), last
        made.append(last)
    return {'render': render, 'shaded': torch.stack(made, 1), 'truth': truth}


def measure(network: ShaderNetwork, pairs: Pairs) -> dict[str, float]:
    """
    Let the network shade the sequences of one file, and compare.

    Returns
    -------
    dict of str to float
        PSNR (dB) where render or truth show the person; sharpness (mean absolute difference to
        the blurred picture) over the truth's; and flicker (mean change from picture to picture
        where the truth stands still) over the render's; of the render and of what was made of it.

    """
    pictures = shade(network, pairs)
    truth = pictures.pop('truth')
    shown = torch.from_numpy(np.maximum(pairs['render'], pairs['truth'])[..., None, :, :, 3] > 127)
    still = shown[:, 1:] & (truth.diff(dim=1).abs().amax(2, keepdim=True) < _STILL)
    changes = {name: float((made.diff(dim=1).abs() * still).sum() / still.sum().clamp_min(1))
               for name, made in pictures.items()}
    out = {}
    for name, made in pictures.items():
        squared = (made - truth).square().mean(2, keepdim=True) / 4
        per_frame = (squared * shown).sum((2, 3, 4)) / shown.sum((2, 3, 4)).clamp_min(1)
        out[f'{name} PSNR'] = float((-10 * per_frame.clamp_min(1e-10).log10()).mean())
        out[f'{name} sharpness'] = float(_sharpness(made, shown) / _sharpness(truth, shown))
        out[f'{name} flicker'] = changes[name] / max(changes['render'], 1e-6)
    return out


def _sharpness(pictures: Tensor, shown: Tensor) -> Tensor:
    flat = pictures.flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), 'replicate'), 3, 1)
    return ((flat - soft).abs() * shown.flatten(0, 1)).mean()
