"""
The shader: from the avatar's render and its own last pictures to a photoreal picture.

A flow from the render to the photograph, after Flow Matching (Lipman et al. 2023) and Image-to-
Image Schroedinger Bridge (Liu et al. 2023): at time t in [0, 1] the network is shown

    x_t = (1 - t) photograph + t (render + sigma noise)

and says what the photograph is, as a correction of the render.  Asked once at t = 1 it is a
one-step model; asked again at smaller t it refines its answer.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.shading.guidance import (
    CHANGED,
    HISTORY,
    PIXEL_CHANNELS,
    SHAPE_CHANNELS,
    SIGMA,
)
from visa_ros.shading.network_config import REMEDY, WHAT, ShaderNetworkConfig, from_header
from visa_ros.weight_file import encode_weights, load_weights, save_weights

_TIME_CHANNELS = 64
_LEAST_ALPHA = 0.05


class Residual(nn.Module):
    """Two convolutions beside the identity, shifted by the time; without norms, which CPUs pay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.by_time = nn.Linear(_TIME_CHANNELS, channels)
        for layer in (self.second, self.by_time):  # begins as the identity
            for value in layer.parameters():
                nn.init.zeros_(value)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return (B, C, H, W) for the embedded time (B, T)."""
        return x + self.second(F.relu(self.first(x) + self.by_time(time)[..., None, None]))


class Residuals(nn.Module):
    """Several of them, one after the other."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(count)))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        for block in self.blocks:
            x = block(x, time)
        return x


class ShaderNetwork(nn.Module):
    """
    A U-Net over pixel-unshuffled pictures: little memory traffic, which is what CPUs lack.

    Parameters
    ----------
    config : ShaderNetworkConfig

    """

    def __init__(self, config: ShaderNetworkConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.channels
        self.time = nn.Sequential(nn.Linear(_TIME_CHANNELS, _TIME_CHANNELS), nn.ReLU())
        self.enter = nn.Conv2d(
            PIXEL_CHANNELS * FEATURE_STRIDE**2 + SHAPE_CHANNELS + config.features, sizes[0], 1)
        self.down = nn.ModuleList(
            Residuals(size, config.blocks) for size in sizes)
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(sizes))
        self.middle = Residual(sizes[-1])
        self.larger = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(sizes))
        self.up = nn.ModuleList(
            Residuals(size, config.blocks) for size in sizes[:-1])
        self.leave = nn.Conv2d(sizes[0], 3, 3, padding=1)
        for value in self.leave.parameters():  # begins as the render
            nn.init.normal_(value, std=1e-3)

    def forward(self, pixels: Tensor, guide: Tensor, t: Tensor) -> Tensor:
        """
        Say what the photograph is.

        Parameters
        ----------
        pixels : (B, 12, H, W)
            x_t, the render, the last picture and the one before it; colours in [-1, 1].
        guide : (B, 9 + F, H / 4, W / 4)
            Alpha, depth, turning and features, as ``guidance.guide`` makes them.
        t : (B,)
            In [0, 1].

        Returns
        -------
        (B, 3, H, W)
            In about [-1, 1]; only where the avatar is it means anything.

        """
        render = pixels[:, 3:6]
        # How x_t and the past differ from the render: where nothing does, nothing disturbs it.
        # At t = 1 the difference is noise and no more, and counts as nothing.
        x_t = (1 - t)[:, None, None, None] * (pixels[:, :3] - render)
        past = pixels[:, 6:] - render.repeat(1, HISTORY, 1, 1)
        seen = torch.cat([x_t, render, past], 1)
        time = self.time(sinusoids(t))
        x = self.enter(torch.cat([F.pixel_unshuffle(seen, FEATURE_STRIDE), guide], 1))
        kept = []
        for level, blocks in enumerate(self.down):
            x = blocks(x, time)
            if level < len(self.smaller):
                kept.append(x)
                x = self.smaller[level](x)
        x = self.middle(x, time)
        for level in reversed(range(len(kept))):
            x = F.pixel_shuffle(self.larger[level](x), 2) + kept[level]
            x = self.up[level](x, time)
        return corrected(render, guide, self.leave(x))


def corrected(render: Tensor, guide: Tensor, correction: Tensor) -> Tensor:
    """
    Return the picture, corrected smoothly as far as surfaces have turned since the portrait.

    What faces the camera as it did is right already.  Detail is the render's: a network that
    corrects each pixel makes grain, which figures of sharpness take for skin.
    """
    alpha, changed = guide[:, :1], guide[:, CHANGED:CHANGED + 1]  # both times alpha
    wide = F.interpolate(torch.cat([changed * correction, alpha], 1),
                         scale_factor=float(FEATURE_STRIDE), mode='bilinear')
    return render + wide[:, :3] / wide[:, 3:].clamp(min=_LEAST_ALPHA)


def within(render: Tensor, alpha: Tensor, picture: Tensor) -> Tensor:
    """Return the picture (B, 3, H, W) where alpha (B, 1, H, W) is 1, the render beside."""
    return render + alpha * (picture - render)


def start(render: Tensor, noise: Tensor) -> Tensor:
    """Return x at t = 1: the render, disturbed."""
    return render + SIGMA * noise


def between(photograph: Tensor, beginning: Tensor, t: Tensor) -> Tensor:
    """Return x_t for (B,) times, of a photograph and x at t = 1."""
    return torch.lerp(photograph, beginning, t[:, None, None, None])


def sinusoids(t: Tensor) -> Tensor:
    """Embed (B,) times as (B, T)."""
    half = _TIME_CHANNELS // 2
    scale = torch.exp(-math.log(1000.0) / half * torch.arange(half, device=t.device))
    angle = 1000 * t[:, None] * scale
    return torch.cat([angle.sin(), angle.cos()], 1)


def encode_network(network: ShaderNetwork, about: Mapping[str, str]) -> bytes:
    """Return weights with the network's size and facts about its training."""
    return encode_weights(network, network.config, about)


def save_network(network: ShaderNetwork, path: Path, about: Mapping[str, str]) -> None:
    """Write weights with the network's size and facts about its training."""
    save_weights(network, network.config, path, about)


def load_network(source: Path | bytes) -> ShaderNetwork:
    """
    Read a network, ready to be asked, from a file or what one holds.

    Raises
    ------
    ResourceError
        There is no such file, it is cut short, or it is not the shader's weights.

    """
    return load_weights(source, lambda config: ShaderNetwork(from_header(config)), WHAT, REMEDY)
