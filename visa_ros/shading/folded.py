"""The shader's network at one time: what depends on the time alone is computed once."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.shading.guidance import HISTORY, PIXEL_CHANNELS
from visa_ros.shading.network import Residual, ShaderNetwork, corrected, sinusoids

_UNSHUFFLED = FEATURE_STRIDE**2  # channels of one of the picture's where the network works


class FoldedNetwork(nn.Module):
    """
    What the network answers at one t, up to rounding, without the layers that see only t.

    At t = 1, as one step asks, x_t counts as nothing and is not looked at: the first layer is a
    quarter smaller.

    Parameters
    ----------
    network : ShaderNetwork
        It stays as it is.
    t : float
        In (0, 1].

    """

    def __init__(self, network: ShaderNetwork, t: float) -> None:
        super().__init__()
        self._share = 1 - t
        pixels = PIXEL_CHANNELS * _UNSHUFFLED
        unseen = 0 if self._share else 3 * _UNSHUFFLED
        # Pictures and guide apart: in int8 each has its own range.
        weight = network.enter.weight
        self.of_pixels = _convolution(weight[:, unseen:pixels], network.enter.bias)
        self.of_guide = _convolution(weight[:, pixels:])
        time = network.time(sinusoids(torch.tensor([t])))
        self.down = nn.ModuleList(_folded(level, time) for level in network.down)
        self.middle = _folded(network.middle, time)
        self.up = nn.ModuleList(_folded(level, time) for level in network.up)
        self.smaller, self.larger = network.smaller, network.larger
        self.leave = network.leave
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor, guide: Tensor) -> Tensor:
        """Return (B, 3, H, W), as ``ShaderNetwork`` does."""
        render = pixels[:, 3:6]
        seen = [render, pixels[:, 6:] - render.repeat(1, HISTORY, 1, 1)]
        if self._share:
            seen.insert(0, self._share * (pixels[:, :3] - render))
        x = (self.of_pixels(F.pixel_unshuffle(torch.cat(seen, 1), FEATURE_STRIDE))
             + self.of_guide(guide))
        kept = []
        for smaller, blocks in zip(self.smaller, self.down[:-1], strict=True):
            x = blocks(x)
            kept.append(x)
            x = smaller(x)
        x = self.middle(self.down[-1](x))
        for larger, blocks in zip(reversed(self.larger), reversed(self.up), strict=True):
            x = blocks(F.pixel_shuffle(larger(x), 2) + kept.pop())
        return corrected(render, guide, self.leave(x))


class _FoldedResidual(nn.Module):
    def __init__(self, block: Residual, time: Tensor) -> None:
        super().__init__()
        self.first = _convolution(block.first.weight, block.first.bias + block.by_time(time)[0])
        self.second = block.second

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def _folded(level: nn.Module, time: Tensor) -> nn.Sequential:
    return nn.Sequential(*(_FoldedResidual(block, time) for block in level.modules()
                           if isinstance(block, Residual)))


def _convolution(weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    side = weight.shape[2]
    out = nn.Conv2d(weight.shape[1], weight.shape[0], side, padding=side // 2,
                    bias=bias is not None)
    out.weight.data.copy_(weight.detach())
    if out.bias is not None and bias is not None:
        out.bias.data.copy_(bias.detach())
    return out
