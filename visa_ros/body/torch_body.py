"""The body as a differentiable function, for fitting it to what is seen."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visa_ros.body.kinematics import LEVELS
from visa_ros.body.model import BodyModel, SurfacePoints
from visa_ros.conventions import BLENDSHAPES, JOINT_PARENTS, JOINTS
from visa_ros.errors import InputError


class TorchBody:
    """
    A body model in torch; the same maths as ``joint_transforms`` and linear blend skinning.

    Parameters
    ----------
    model : BodyModel
        What to evaluate.
    vertices : (P,) int, optional
        The vertices that are wanted, all by default; fewer cost less.  For surface points take
        ``corners_of(model, points)``.
    device : str
        Where the tensors live.

    Attributes
    ----------
    vertices : (P,) int64 array
        The vertices that calls return, sorted.

    """

    def __init__(self, model: BodyModel, vertices: np.ndarray | None = None,
                 device: str = 'cpu') -> None:
        everything = np.arange(len(model.template))
        self.vertices = everything if vertices is None else np.unique(vertices)
        count, chosen = len(self.vertices), self.vertices

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), device=device)

        expressions = np.zeros((len(BLENDSHAPES), len(everything), 3), np.float32)
        shapes = np.repeat(np.arange(len(BLENDSHAPES)), np.diff(model.blendshapes.starts))
        expressions[shapes, model.blendshapes.vertices] = model.blendshapes.deltas
        skin = np.zeros((count, len(JOINTS)), np.float32)
        np.add.at(skin, (np.arange(count)[:, None], model.skin_joints[chosen]),
                  model.skin_weights[chosen])
        self._faces = model.faces
        self._template = tensor(model.template[chosen])
        self._basis = tensor(model.shape_basis[:, chosen]).flatten(1)
        self._joints_template = tensor(model.joints_template)
        self._joints_basis = tensor(model.joints_basis).flatten(1)
        self._expressions = tensor(expressions[:, chosen]).flatten(1)
        self._skin = tensor(skin)
        self._alignment = tensor(model.rest_alignment)
        self._parents = tensor(np.array(JOINT_PARENTS))
        # Levels of the tree: a level's parents are all in the level before.
        levels = [np.array([0])] + [own for own, _ in LEVELS]
        self._levels = [tensor(own) for own in levels]
        self._uplinks = [tensor(np.searchsorted(before, parents)) for before, (_, parents)
                         in zip(levels[:-1], LEVELS, strict=True)]
        self._order = tensor(np.argsort(np.concatenate(levels)))

    def shaped(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Return rest-pose (..., P, 3) vertices and (..., 55, 3) joints for (..., B) betas."""
        vertices = (betas @ self._basis).unflatten(-1, (-1, 3)) + self._template
        joints = (betas @ self._joints_basis).unflatten(-1, (-1, 3)) + self._joints_template
        return vertices, joints

    def __call__(self, betas: Tensor, blendshapes: Tensor, joint_rotations: Tensor,
                 translation: Tensor) -> tuple[Tensor, Tensor]:
        """
        Pose a person.

        Parameters
        ----------
        betas, blendshapes : (..., B), (..., 52)
            Shape and expression.
        joint_rotations, translation : (..., 55, 3), (..., 3)
            As in ``OperatorPose``; leading dimensions broadcast.

        Returns
        -------
        vertices : (..., P, 3)
            In the pose's frame, metres.
        joints : (..., 55, 3)
            Likewise.

        """
        rest, rest_joints = self.shaped(betas)
        rest = rest + (blendshapes @ self._expressions).unflatten(-1, (-1, 3))
        turn = self._globals(rotation_matrix(joint_rotations)) @ self._alignment
        bones = rest_joints - rest_joints[..., self._parents, :]
        steps = (turn[..., self._parents, :, :] @ bones[..., None])[..., 0]
        steps, root = torch.broadcast_tensors(steps, translation[..., None, :])
        joints = self._positions(root[..., :1, :], steps)
        shift = joints - (turn @ rest_joints[..., None])[..., 0]
        move = torch.cat([turn.expand(*shift.shape, 3), shift[..., None]], -1)
        blended = (self._skin @ move.flatten(-2)).unflatten(-1, (3, 4))
        vertices = (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]
        return vertices, joints

    def points(self, vertices: Tensor, points: SurfacePoints) -> Tensor:
        """
        Return (..., P, 3) surface points on vertices that a call returned.

        Raises
        ------
        InputError
            A corner is not among this body's vertices.

        """
        wanted = self._faces[points.triangles]
        corners = np.searchsorted(self.vertices, wanted).clip(max=len(self.vertices) - 1)
        if not np.array_equal(self.vertices[corners], wanted):
            raise InputError('these surface points need vertices that this TorchBody was not '
                             'given; build it with corners_of(model, points)')
        weights = torch.as_tensor(points.barycentrics, device=vertices.device)
        corner_positions = vertices[..., torch.as_tensor(corners, device=vertices.device), :]
        return (corner_positions * weights[..., None]).sum(-2)

    def _globals(self, local: Tensor) -> Tensor:
        """Return the (..., 55, 3, 3) products of local rotations from the root on."""
        levels = [local[..., :1, :, :]]
        for own, up in zip(self._levels[1:], self._uplinks, strict=True):
            levels.append(levels[-1][..., up, :, :] @ local[..., own, :, :])
        return torch.cat(levels, -3)[..., self._order, :, :]

    def _positions(self, root: Tensor, steps: Tensor) -> Tensor:
        """Return the (..., 55, 3) sums of steps from joint to joint, the first at ``root``."""
        levels = [root]
        for own, up in zip(self._levels[1:], self._uplinks, strict=True):
            levels.append(levels[-1][..., up, :] + steps[..., own, :])
        return torch.cat(levels, -2)[..., self._order, :]


def corners_of(model: BodyModel, *points: SurfacePoints) -> np.ndarray:
    """Return the vertices that surface points hang on, for ``TorchBody(model, vertices)``."""
    return np.unique(np.concatenate([model.faces[some.triangles].ravel() for some in points]))


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """Return (..., 3, 3) rotations for (..., 3) axis-angles: Rodrigues, smooth at zero."""
    angle = (axis_angle.square().sum(-1, keepdim=True) + 1e-16).sqrt()[..., None]
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    half = torch.sin(angle / 2) / angle
    identity = torch.eye(3, dtype=K.dtype, device=K.device)
    return identity + torch.sin(angle) / angle * K + 2 * half.square() * (K @ K)
