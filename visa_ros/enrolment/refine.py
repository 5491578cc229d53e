"""Make the Gaussians' pictures those of a clip, by differentiable splatting."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from visa_ros.body.model import BodyModel, load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import JOINT_INDEX
from visa_ros.enrolment.pairs import Beside, Moment, registered, rgba_of
from visa_ros.reconstruction.reconstruct import Progress
from visa_ros.reconstruction.rounding import rounded
from visa_ros.reconstruction.threads import one_torch_thread
from visa_ros.rendering.rasterization import rasterization
from visa_ros.types import Float32, GaussianAvatar

_EVERY = 4            # of the moments is learnt from: neighbours show the same
_BETAS = (0.9, 0.98)
# Adam step sizes: shape in metres, opacities as logits, scales and light as logarithms, turns in
# radians, shifts in units of _METRES.
_LEARNING_RATES = {'shape': 2e-4, 'colors': 0.01, 'opacities': 0.03, 'scales': 0.01,
                   'misses': 1e-3}
_LOOKS = ('colors', 'opacities', 'scales')
_ROUNDS = ((*_LOOKS, 'shape', 'misses'), _LOOKS)
_NODE_M, _NODES_OF = 0.012, 6  # spacing of the shape's nodes; how many move a Gaussian
_MIN_GROWTH, _MAX_GROWTH = 0.5, 1.3  # of a Gaussian's scale
_KNEE = 0.01          # errors below it count by their square, larger ones by their size
# What the terms of the loss weigh: levels in [0, 1], square metres, turns by a radian.
_ERROR, _ROUGH, _MISSED = 0.1, 10.0, 1e-4
_HEAD_JOINTS = [JOINT_INDEX[name] for name in ('head', 'jaw', 'left_eye', 'right_eye')]
_METRES = 0.3         # of a shift by 1, so that it is as visible as a turn by 1


@one_torch_thread()
def refined(beside: Beside, moments: Sequence[Moment], steps: int, seed: int, progress: Progress
            ) -> GaussianAvatar:
    """
    Tune an avatar to what a clip shows in many poses: its shape, colours, opacities, scales.

    Two rounds.  In the first the outline is learnt: the shape moves smoothly, and in each moment
    head and trunk are where the pose says but for a small miss, which is learnt beside it and then
    forgotten, as is how bright the camera took that moment.  Else the misses would become blur.
    In the second the clip's pictures are first moved to where the avatar is, smoothly, so that
    expressions that do not quite match do not become blur either; its shape stays.

    Parameters
    ----------
    beside : Beside
        The avatar, and what drives it.
    moments : sequence of Moment
    steps : int
        Of each round.
    seed : int
        Of the order of the moments, and of the backgrounds.
    progress : callable

    """
    scene = _Scene(beside, moments[::_EVERY])
    generator = torch.Generator().manual_seed(seed)
    for number, names in enumerate(_ROUNDS):
        if number:
            scene.register()
        optimizer = torch.optim.Adam(
            [{'params': [scene.learnt[name]], 'lr': _LEARNING_RATES[name]} for name in names],
            betas=_BETAS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        order: list[int] = []
        for step in range(steps):
            order = order or torch.randperm(len(scene.truths), generator=generator).tolist()
            loss = scene.loss(order.pop(), torch.rand(3, generator=generator))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress('refine', (number + (step + 1) / steps) / len(_ROUNDS))
    return scene.avatar()


class _Scene:
    """The avatar, what is learnt of it, and the moments that it is compared with."""

    def __init__(self, beside: Beside, moments: Sequence[Moment]) -> None:
        avatar, camera = beside.avatar, beside.camera
        model = load_body_model(avatar.body_model)
        self._avatar, self._camera = avatar, camera
        self._skinning = AvatarSkinning(model, avatar)
        self._poses = [beside.driven(moment.pose) for moment in moments]
        self.truths = [moment.rgba[:camera.height, :camera.width] for moment in moments]
        self._of_head = torch.from_numpy(_share_of_head(model, avatar))[:, None]
        self._to_own = torch.from_numpy(Rotation.from_quat(
            avatar.quats, scalar_first=True).as_matrix().astype(np.float32).swapaxes(1, 2))
        self._nodes = _Nodes(avatar.means)
        self._colors = torch.from_numpy(avatar.colors)
        self._logits = torch.from_numpy(avatar.opacities).clamp(0.01, 0.99).logit()
        self._scales = torch.from_numpy(avatar.scales)
        count = len(avatar)
        # Misses: the head's turn (3), its shift and the trunk's (3 + 3), and the light's (3).
        self.learnt = {name: torch.zeros(shape, requires_grad=True) for name, shape in (
            ('shape', (self._nodes.count, 3)), ('colors', (count, 3)), ('opacities', (count,)),
            ('scales', (count, 1)), ('misses', (len(moments), 12)))}

    def loss(self, number: int, background: Tensor) -> Tensor:
        """Return how far a moment's picture is from the clip's, and how odd what is learnt."""
        image, _ = self._draw(number, background)
        truth = torch.from_numpy(self.truths[number]).float() / 255
        error = image - torch.addcmul(truth[..., :3], background, 1 - truth[..., 3:])
        return (_ERROR * (error.square() + _KNEE ** 2).sqrt().mean()
                + _ROUGH * self._nodes.roughness(self.learnt['shape'])
                + _MISSED * self.learnt['misses'].square().mean())

    def register(self) -> None:
        """Move the clip's pictures to where the avatar is."""
        with torch.no_grad():
            for number, truth in enumerate(self.truths):
                image, alpha = self._draw(number, torch.zeros(3))
                self.truths[number] = registered(truth, rgba_of(
                    (255 * image.clamp(0, 1)).numpy(), alpha[..., 0].numpy()))

    def avatar(self) -> GaussianAvatar:
        """Return the avatar as it is learnt."""
        with torch.no_grad():
            means = self._avatar.means + self._nodes.at_gaussians(self.learnt['shape']).numpy()
            colors, opacities, scales = (value.numpy() for value in self._looks())
        return rounded(replace(self._avatar, means=means, colors=colors, opacities=opacities,
                               scales=scales))

    def _looks(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return colours, opacities and scales."""
        growth = self.learnt['scales'].clamp(np.log(_MIN_GROWTH), np.log(_MAX_GROWTH))
        return ((self._colors + self.learnt['colors']).clamp(0, 1),
                (self._logits + self.learnt['opacities']).sigmoid(), self._scales * growth.exp())

    def _draw(self, number: int, background: Tensor) -> tuple[Tensor, Tensor]:
        """Return (H, W, 3) and alpha (H, W, 1) of a moment, in [0, 1]."""
        means, quats = map(torch.from_numpy, self._skinning.pose(self._poses[number]))
        own = torch.einsum('nij,nj->ni', self._to_own,
                           self._nodes.at_gaussians(self.learnt['shape']))
        turn, head, trunk, light = self.learnt['misses'][number].split(3)
        moved = means + _turned(quats, own)
        about = ((moved * self._of_head).sum(0) / self._of_head.sum()).detach()
        with_head = torch.linalg.cross(turn.expand_as(moved), moved - about) + _METRES * head
        moved = moved + torch.lerp((_METRES * trunk).expand_as(moved), with_head, self._of_head)
        colors, opacities, scales = self._looks()
        image, alpha, _ = rasterization(
            moved, quats, scales, opacities, colors * light.exp(),
            torch.eye(4)[None], torch.from_numpy(self._camera.K)[None], self._camera.width,
            self._camera.height, backgrounds=background[None], threads=0)
        return image[0], alpha[0]


class _Nodes:
    """A smooth field on the Gaussians: its values at nodes, and between them their mean."""

    def __init__(self, means: Float32) -> None:
        _, cells = np.unique(np.floor(means / _NODE_M), axis=0, return_inverse=True)
        cells = cells.ravel()
        members = np.bincount(cells)
        places = np.stack([np.bincount(cells, column) for column in means.T], 1) / members[:, None]
        self.count = len(places)
        tree = cKDTree(places)
        distances, nodes = tree.query(means, _NODES_OF)
        weights = np.exp(-np.square(distances / _NODE_M) / 2) + 1e-9
        self._weights = torch.from_numpy(
            (weights / weights.sum(1, keepdims=True)).astype(np.float32))
        self._nodes = torch.from_numpy(nodes)
        self._around = torch.from_numpy(tree.query(places, 1 + _NODES_OF)[1][:, 1:])

    def at_gaussians(self, values: Tensor) -> Tensor:
        """Return (N, 3) of the nodes' (M, 3)."""
        return torch.nn.functional.embedding_bag(
            self._nodes, values, per_sample_weights=self._weights, mode='sum')

    def roughness(self, values: Tensor) -> Tensor:
        """Return the mean squared difference of nodes to those around them."""
        return (values[self._around].mean(1) - values).square().mean()


def _share_of_head(model: BodyModel, avatar: GaussianAvatar) -> Float32:
    """Return (N,) how far each Gaussian moves with the head."""
    corners = model.faces[avatar.triangles]
    own = np.isin(model.skin_joints[corners], _HEAD_JOINTS) * model.skin_weights[corners]
    return np.einsum('nck,nc->n', own, avatar.barycentrics).astype(np.float32)


def _turned(quats: Tensor, vectors: Tensor) -> Tensor:
    """Turn (N, 3) vectors by (N, 4) unit wxyz."""
    scalar, axis = quats[:, :1], quats[:, 1:]
    twice = 2 * torch.linalg.cross(axis, vectors)
    return vectors + scalar * twice + torch.linalg.cross(axis, twice)
