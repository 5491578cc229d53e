"""What the shader's training calls wrong: colours, detail, change, another face, and a critic."""
from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.training.shader.face_embedder import FaceEmbedder, chips
from visa_ros.training.shader.streams import Batch

_BEHIND_WEIGHT = 0.5    # of a pixel without the person, beside one with
_DETAIL_WEIGHT = 1.0
_DETAIL_SCALES = (1, 2, 4)
_ADVERSARIAL_WEIGHT, _MATCHING_WEIGHT = 0.02, 0.2


def distance(picture: Tensor, batch: Batch, small: float, change_weight: float) -> Tensor:
    """
    Return how far pictures are from the truth: in colour, in detail, and in what changes.

    Parameters
    ----------
    picture : (B, 3, H, W)
        In [-1, 1].
    batch : Batch
    small : float
        Errors below it, of 2, count by their square.
    change_weight : float
        Of what changes since the picture before otherwise than in the truth.

    """
    weight = _BEHIND_WEIGHT + (1 - _BEHIND_WEIGHT) * batch.shown
    error = weight * (picture - batch.truth)
    loss = _size(error, small)
    for scale in _DETAIL_SCALES:
        # A larger scale has fewer pixels: what is wrong over a wide area counts there.
        coarser = F.avg_pool2d(error, scale) if scale > 1 else error
        for axis in (2, 3):
            loss = loss + _DETAIL_WEIGHT / (2 * len(_DETAIL_SCALES)) * _size(
                coarser.diff(dim=axis), small)
    change = (picture - batch.history[:, 0]) - (batch.truth - batch.truth_before)
    change = weight * batch.goes_on[:, None, None, None] * change
    return loss + change_weight * _size(change, small)


def _size(error: Tensor, small: float) -> Tensor:
    """Return the mean error; by its square where it is small."""
    return F.smooth_l1_loss(error, error.new_zeros(()).expand_as(error), beta=small)


def otherness(embedder: FaceEmbedder, picture: Tensor, batch: Batch) -> Tensor:
    """Return how much faces look like somebody else's: squared distance of descriptors, mean."""
    seen = batch.face.isfinite().all(2).all(1)
    if not seen.any():
        return picture.new_zeros(())
    made, real = (embedder(chips((value[seen] + 1) / 2, batch.face[seen]))
                  for value in (picture, batch.truth))
    return (made - real).square().sum(1).sum() / len(seen)


class Critic(nn.Module):
    """Tells patches of photographs from patches of pictures; shown the render as well."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (6, 24, 48, 96)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1))
            for a, b in pairwise(sizes))
        self.leave = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3))

    def forward(self, picture: Tensor, render: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return how real each patch looks, and what each layer saw."""
        x, seen = torch.cat([picture, render], 1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.leave(x), seen


def contest(critic: Critic, picture: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the critic's judgement costs the network, and its mistakes the critic."""
    real, wanted = critic(batch.truth, batch.render)
    made, _ = critic(picture.detach(), batch.render)
    patches = F.interpolate(batch.shown, real.shape[2:], mode='area')
    patches = patches / patches.mean().clamp_min(1e-3)
    mistakes = (patches * (F.relu(1 - real) + F.relu(1 + made))).mean()
    judged, seen = critic(picture, batch.render)
    matching = sum(((a - b.detach()).abs().mean() for a, b in zip(seen, wanted, strict=True)),
                   picture.new_zeros(()))
    said = _MATCHING_WEIGHT * matching - _ADVERSARIAL_WEIGHT * (patches * judged).mean()
    return said, mistakes
