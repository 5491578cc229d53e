"""How points of the body's surface and its joints move with shape, expression and pose."""
from __future__ import annotations

import numpy as np

from visa_ros.body.kinematics import joint_transforms
from visa_ros.body.model import BodyModel, SurfacePoints
from visa_ros.capture.rotations import left_jacobian
from visa_ros.conventions import BLENDSHAPES, JOINT_PARENTS, JOINTS
from visa_ros.types import Float32

_PARENTS = np.array(JOINT_PARENTS)
_PATH = np.eye(len(JOINTS), dtype=np.float32)  # [joint, itself and its ancestors]
for _joint, _parent in enumerate(JOINT_PARENTS[1:], 1):
    _PATH[_joint] += _PATH[_parent]


class BodyPoints:
    """
    P surface points and the 55 joints, with derivatives, for fitting.

    A point takes skin weights and blendshape offsets from its triangle, as a Gaussian does in
    ``AvatarSkinning``.  A joint is a point that has no blendshapes and moves with itself alone.

    Parameters
    ----------
    model : BodyModel
    points : SurfacePoints
        Of which only the places are used.

    """

    def __init__(self, model: BodyModel, points: SurfacePoints) -> None:
        corners, shares = model.faces[points.triangles], points.barycentrics

        def placed(of_vertices: np.ndarray) -> np.ndarray:
            """Return the points' (P, ...) of the vertices' (V, ...)."""
            return np.einsum('pk,pk...->p...', shares, of_vertices[corners])

        vertices, joints = len(model.template), len(JOINTS)
        shapes = np.zeros((vertices, 3, len(BLENDSHAPES)), np.float32)
        index = np.repeat(np.arange(len(BLENDSHAPES)), np.diff(model.blendshapes.starts))
        shapes[model.blendshapes.vertices, :, index] = model.blendshapes.deltas
        skin = np.zeros((vertices, joints), np.float32)
        np.add.at(skin, (np.arange(vertices)[:, None], model.skin_joints), model.skin_weights)

        self._model = model
        self._template = np.concatenate([placed(model.template), model.joints_template])
        self._skin = np.concatenate([placed(skin), np.eye(joints, dtype=np.float32)])
        # Offsets by betas and blendshapes, (P + 55, 3, B + 52).
        self._offsets = np.concatenate([
            np.concatenate([placed(model.shape_basis.transpose(1, 2, 0)), placed(shapes)], 2),
            np.concatenate([model.joints_basis.transpose(1, 2, 0),
                            np.zeros((joints, 3, len(BLENDSHAPES)), np.float32)], 2)])

    def __call__(self, betas: Float32, blendshapes: Float32, joint_rotations: Float32,
                 translation: Float32) -> tuple[Float32, Float32]:
        """
        Pose a person.

        Parameters
        ----------
        betas, blendshapes : (B,), (52,) float32
            Shape and expression.
        joint_rotations, translation : (55, 3), (3,) float32
            As in ``OperatorPose``.

        Returns
        -------
        points : (P + 55, 3) float32
            The surface points, then the joints, in the pose's frame, metres.
        derivatives : (P + 55, 3, B + 52 + 165 + 3) float32
            By each parameter, in the order of the arguments.

        """
        rest = self._template + self._offsets @ np.concatenate([betas, blendshapes])
        transforms = joint_transforms(
            self._model, rest[-len(JOINTS):], joint_rotations, translation)
        turn, shift = transforms[:, :, :3], transforms[:, :, 3]
        # Where each joint alone would take a point, times its weight: their sum is the point.
        moved = (turn @ rest[:, None, :, None])[..., 0] + shift
        moved *= self._skin[..., None]
        points = moved.sum(1)

        blended = np.tensordot(self._skin, turn, 1)
        by_shape = blended @ self._offsets
        by_shape[..., :len(betas)] += np.tensordot(
            self._skin, self._joint_shifts(turn, len(betas)), 1)
        # A joint turns all that hangs on it and on its descendants about itself.
        arms = (moved.transpose(0, 2, 1) @ _PATH).transpose(0, 2, 1)
        arms -= (self._skin @ _PATH)[..., None] * points[-len(JOINTS):]
        by_rotation = np.cross(self._axes(turn, joint_rotations), arms[:, :, None])
        by_translation = np.broadcast_to(np.eye(3, dtype=np.float32), (len(points), 3, 3))
        return points, np.concatenate([
            by_shape, by_rotation.reshape(len(points), -1, 3).transpose(0, 2, 1),
            by_translation], 2)

    def _joint_shifts(self, turn: Float32, count: int) -> Float32:
        """Return (55, 3, B): how betas change the shift of each joint's transform."""
        joints = self._offsets[-len(JOINTS):, :, :count]
        steps = turn[_PARENTS] @ (joints - joints[_PARENTS])
        steps[0] = 0  # the pelvis goes where the translation says
        return np.tensordot(_PATH, steps, 1) - turn @ joints

    def _axes(self, turn: Float32, joint_rotations: Float32) -> Float32:
        """Return the (55, 3, 3) axes about which each rotation vector's x, y and z turn."""
        frames = turn @ self._model.rest_alignment.transpose(0, 2, 1)
        parents = frames[_PARENTS]
        parents[0] = np.eye(3)
        local = left_jacobian(joint_rotations.astype(np.float64))
        return (parents @ local).transpose(0, 2, 1).astype(np.float32)
