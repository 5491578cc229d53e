"""From a portrait and a fitted body to the attributes of every Gaussian: ViSA's first stage."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.weight_file import load_weights, save_weights

WEIGHTS = Path(__file__).parent.parent / 'weights' / 'avatar_network.safetensors'
IMAGE_PX = 128
FEATURES = 16
NEIGHBOURS = 3  # tokens that a Gaussian listens to

# What the network may change, at most.
_HIDDEN_REACH_M = 0.05   # where a Gaussian that the portrait does not show may go
_DEPTH_REACH_M = 0.03    # how far one that it shows may move along its ray
_LOG_SCALE, _TURN_RAD, _OPACITY_LOGIT = 0.7, 0.5, 6.0
_COLOR = 0.25            # beside the colours copied from what is seen
_POINT = 64              # width of the MLP that answers for each Gaussian
_PALETTE = 4             # colours that a hidden Gaussian may choose between, and the painted one
_IMAGE_CHANNELS = 7      # colour x alpha, alpha, place on the body
_FINE, _COARSE = 32, 4  # channels of pixel-aligned features; log2 of the coarse grid's stride


@dataclass(frozen=True)
class NetworkConfig:
    """
    Size and parts of the network; stored with its weights.

    Attributes
    ----------
    tokens : int
        Places on the body's surface between which attention runs.
    width, blocks, heads : int
        Of the transformer.
    embedding : int
        Channels of the learned embedding of each vertex.
    surface_embedding, image_features : bool
        Whether the learned embeddings, and the features of the image, are used: off to measure
        what they are worth.

    """

    tokens: int = 512
    vertices: int = 0
    width: int = 160
    blocks: int = 4
    heads: int = 5
    embedding: int = 16
    surface_embedding: bool = True
    image_features: bool = True


class Evidence(NamedTuple):
    """
    What is known of N Gaussians before the network is asked.

    Attributes
    ----------
    image : (7, 128, 128) float32
        The person's colours times alpha, alpha, and where on the rest body a pixel lies [m].
    pixels : (N, 2) float32
        Where the portrait has each Gaussian, in [-1, 1] over the image.
    seen : (N, 1) float32
        1 if the portrait shows it.
    freedom : (N, 1) float32
        In [0, 1], how much of what the network says about place, size and colour counts; 0 in
        the face, whose shape the fit knows, and whose lids, lips and teeth move on their own.
    colors : (N, 3) float32
        Seen, or painted from what is seen around it.
    geometry : (N, 10) float32
        Foot point and normal on the rest body, log of the three scales over a centimetre, cosine
        between normal and view.
    rays : (N, 3) float32
        Unit view direction, in the Gaussian's own axes.
    corners : (N, 3) int64
        Vertices of the triangle that it hangs on.
    barycentrics : (N, 3) float32
    neighbours : (N, 3) int64
        Nearest tokens.
    nearness : (N, 3) float32
        Their weights; rows sum to 1.

    """

    image: Tensor
    pixels: Tensor
    seen: Tensor
    freedom: Tensor
    colors: Tensor
    geometry: Tensor
    rays: Tensor
    corners: Tensor
    barycentrics: Tensor
    neighbours: Tensor
    nearness: Tensor


class Attributes(NamedTuple):
    """
    What the network says about N Gaussians, relative to how they were bound.

    Attributes
    ----------
    offsets : (N, 3) float32
        Metres, in the Gaussian's own axes.
    log_scales : (N, 3) float32
        Added to the logarithms of the scales.
    turns : (N, 3) float32
        Axis-angle in the Gaussian's own axes, radians.
    opacity_logits : (N,) float32
        Added to the logits of the opacities.
    colors : (N, 3) float32
        sRGB in [0, 1]; what the portrait shows keeps its colour.
    features : (N, 16) float32
        In [-1, 1], for the shader; splatted like colours.

    """

    offsets: Tensor
    log_scales: Tensor
    turns: Tensor
    opacity_logits: Tensor
    colors: Tensor
    features: Tensor


class ImageEncoder(nn.Module):
    """
    A small U-Net: (7, 128, 128) to fine (32, 32, 32) and coarse (width, 8, 8) features.

    Another encoder (DINOv2, a video VAE's pyramid) takes the same image and needs the same
    attributes and results, of any size.

    Attributes
    ----------
    channels : int
        Of the fine features, which are gathered at each Gaussian's pixel.
    cells : int
        How many coarse features there are, which the surface attends to.

    """

    channels, cells = _FINE, (IMAGE_PX >> _COARSE) ** 2

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (_IMAGE_CHANNELS, 32, 64, 96, width)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())
            if b > 32 else nn.Sequential(nn.Conv2d(a, b, 5, 2, 2), nn.ReLU())
            for a, b in pairwise(sizes))
        self.lateral = nn.ModuleList(nn.Conv2d(size, 64, 1) for size in sizes[2:])
        self.fine = nn.Conv2d(64, _FINE, 3, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return fine and coarse features of one image."""
        x, levels = image[None], []
        for down in self.down:
            x = down(x)
            levels.append(x)
        up = self.lateral[-1](levels[-1])
        for lateral, level in zip(self.lateral[-2::-1], levels[-2:0:-1], strict=True):
            up = F.interpolate(up, scale_factor=2) + lateral(level)
        return self.fine(F.relu(up))[0], x[0]


class Block(nn.Module):
    """Attention among the surface's tokens, from them to the image, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.self_qkv, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross_q, self.cross_kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(),
                                 nn.Linear(3 * width, width))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.unflatten(1, (self.heads, -1)).transpose(0, 1) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)

    def forward(self, tokens: Tensor, image: Tensor | None) -> Tensor:
        """Return new (K, width) tokens, given those of the image (M, width)."""
        q, k, v = self.self_qkv(self.norms[0](tokens)).chunk(3, 1)
        tokens = tokens + self.self_out(self._attend(q, k, v))
        if image is not None:
            k, v = self.cross_kv(image).chunk(2, 1)
            tokens = tokens + self.cross_out(
                self._attend(self.cross_q(self.norms[1](tokens)), k, v))
        return tokens + self.mlp(self.norms[2](tokens))


class AvatarNetwork(nn.Module):
    """
    One forward pass from evidence to attributes.

    Features of the portrait are gathered on tokens spread over the body's surface, each with a
    learned embedding; a transformer lets what is seen tell what is not; a small MLP answers for
    each Gaussian from the tokens near it, its own pixel and its own place.  Hidden colours are
    mostly copied: attention picks them among the colours that are seen, so that strangers keep
    their own.

    Parameters
    ----------
    config : NetworkConfig
    places : (K, 3) float32 tensor, optional
        The tokens' places on the rest body [m]; loaded with the weights otherwise.
    encoder : nn.Module, optional
        Of the portrait, see ``ImageEncoder``.

    """

    def __init__(self, config: NetworkConfig, places: Tensor | None = None,
                 encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.places: Tensor
        self.register_buffer('places', torch.zeros(config.tokens, 3) if places is None else places)
        images: Any = encoder or ImageEncoder(width)
        self.encoder, fine = images, images.channels
        self.token_embedding = nn.Parameter(0.02 * torch.randn(config.tokens, width))
        self.vertex_embedding = nn.Parameter(0.1 * torch.randn(config.vertices, config.embedding))
        self.image_place = nn.Parameter(0.02 * torch.randn(images.cells, width))
        self.gather = nn.Linear(fine + 3 + 2 + 3, width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.palette_q, self.palette_k = nn.Linear(width, width), nn.Linear(width, width)
        self.to_point = nn.Linear(width, _POINT)
        self.point = nn.Linear(fine + config.embedding + 3 + 1 + 10 + 3 * _PALETTE, _POINT)
        self.hidden = nn.Linear(_POINT, _POINT)
        self.sizes = (3, 1, 3, 3, 1, _PALETTE + 1, 3, FEATURES)
        self.out = nn.Linear(_POINT, sum(self.sizes))
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, evidence: Evidence) -> Attributes:
        """Return the attributes of all Gaussians."""
        fine, coarse = self.encoder(evidence.image)
        if not self.config.image_features:
            fine, coarse = torch.zeros_like(fine), torch.zeros_like(coarse)
        at_pixel = F.grid_sample(fine[None], evidence.pixels[None, None], align_corners=False,
                                 padding_mode='border')[0, :, 0].T * evidence.seen
        tokens, colors, share = self._tokens(evidence, at_pixel)
        image = coarse.flatten(1).T + self.image_place
        for block in self.blocks:
            tokens = block(tokens, image if self.config.image_features else None)
        tokens = self.norm(tokens)
        palette = self._palette(tokens, colors, share)
        near = self._spread(torch.cat([self.to_point(tokens), palette.flatten(1)], 1), evidence)
        near, palette = near[:, :_POINT], near[:, _POINT:].unflatten(1, (_PALETTE, 3))
        embedding = (self.vertex_embedding[evidence.corners]
                     * evidence.barycentrics[..., None]).sum(1)
        if not self.config.surface_embedding:
            embedding = torch.zeros_like(embedding)
        own = torch.cat([at_pixel, embedding, evidence.colors, evidence.seen, evidence.geometry,
                         palette.flatten(1)], 1)
        point = F.gelu(self.point(own) + near)
        values = self.out(point + F.gelu(self.hidden(point)))
        return self._attributes(evidence, palette, values.split(self.sizes, 1))

    def _tokens(self, evidence: Evidence, at_pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (K, width), mean seen colours (K, 3), how much of each is seen (K,)."""
        nearest = evidence.neighbours[:, 0]
        own = torch.cat([at_pixel, evidence.colors * evidence.seen, evidence.seen,
                         torch.ones_like(evidence.seen)], 1)
        total = own.new_zeros(len(self.places), own.shape[1]).index_add(0, nearest, own)
        seen = total[:, -2:-1]
        mean = total[:, :-2] / seen.clamp_min(1)
        share = seen / total[:, -1:].clamp_min(1)
        tokens = self.gather(torch.cat([mean, share, (seen > 0).float(), self.places], 1))
        if self.config.surface_embedding:
            tokens = tokens + self.token_embedding
        return tokens, mean[:, -3:], seen[:, 0]

    def _palette(self, tokens: Tensor, colors: Tensor, seen: Tensor) -> Tensor:
        """Return for each token (K, P, 3) colours picked among those that are seen."""
        q, k = (linear(tokens).unflatten(1, (_PALETTE, -1)).transpose(0, 1)
                for linear in (self.palette_q, self.palette_k))
        score = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
        score = score.masked_fill(seen == 0, -1e4)
        return (score.softmax(2) @ colors).transpose(0, 1)

    def _spread(self, values: Tensor, evidence: Evidence) -> Tensor:
        """Interpolate tokens' values at the Gaussians."""
        out = values[evidence.neighbours[:, 0]] * evidence.nearness[:, :1]
        for k in range(1, NEIGHBOURS):
            out = out + values[evidence.neighbours[:, k]] * evidence.nearness[:, k:k + 1]
        return out

    def _attributes(self, evidence: Evidence, palette: Tensor,
                    values: tuple[Tensor, ...]) -> Attributes:
        offset, depth, scale, turn, opacity, choice, color, features = values
        seen, freedom = evidence.seen > 0, evidence.freedom
        offsets = torch.where(seen, _DEPTH_REACH_M * depth.tanh() * evidence.rays,
                              _HIDDEN_REACH_M * offset.tanh())
        scope = freedom * ~seen
        # The painted colour is the first choice until the network has learnt better.
        first = choice.new_tensor([2.0] + [0.0] * _PALETTE)
        mix = (choice + first).softmax(1)[..., None]
        candidates = torch.cat([evidence.colors[:, None], palette], 1)
        hidden = ((mix * candidates).sum(1) + _COLOR * color.tanh()).clamp(0, 1)
        colors = torch.where(seen, evidence.colors, evidence.colors.lerp(hidden, freedom))
        return Attributes(
            freedom * offsets, scope * _LOG_SCALE * scale.tanh(), scope * _TURN_RAD * turn.tanh(),
            scope[:, 0] * _OPACITY_LOGIT * opacity[:, 0].tanh(), colors, features.tanh())


def save_network(network: AvatarNetwork, path: Path, about: Mapping[str, str]) -> None:
    """Write weights with the network's size and facts about its training."""
    save_weights(network, network.config, path, about, exact=('places',))


@cache
def load_network(path: Path = WEIGHTS, encoder: nn.Module | None = None) -> AvatarNetwork:
    """
    Read a network, ready to be asked; with its own encoder if it was trained with one.

    Raises
    ------
    ResourceError
        There is no such file, or it is not the network's weights.

    """
    return load_weights(
        path, lambda config: AvatarNetwork(NetworkConfig(**config), encoder=encoder),
        'the avatar network',
        'install the package again, or train it: python -m visa_ros.training.avatars')
