"""
Where the head is and how it is turned: Gauss-Newton on the whole face mesh.

The operator's own face is learned along the way, by where its landmarks are seen from all sides:
a mean face is a centimetre wrong in places, which turns and shifts a head that turns.
"""
from __future__ import annotations

import numpy as np

from visa_ros.body.derivatives import BodyPoints
from visa_ros.body.model import BodyModel
from visa_ros.capture.rotations import Float64, exp, log
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JAW_OPEN_RAD, JOINT_INDEX, JOINTS
from visa_ros.types import Float32

_SIGMA_M = 0.006          # of a landmark that expressions do not move
_EXPRESSION_SIGMA = 0.3   # of each blendshape's value
_MATRIX_SIGMA = 0.2       # radians, of the tracker's own rotation
# Landmarks err together: so many tell as much as all of them.
_INDEPENDENT = 30
_HUBER = 3.0
_ITERATIONS, _FIRST_ITERATIONS = 2, 10
_MAX_STEP = 0.3           # radians and metres an iteration
# How far the own face may be from the mean one, and how many seconds it is the mean of.
_OWN_SIGMA_M = 0.02
_LEARNED_OVER_S = 20.0


class HeadFit:
    """
    Follow a head by its face mesh.

    Parameters
    ----------
    model : BodyModel
        The reference body, whose mean shape is the first guess of the operator's face.

    Attributes
    ----------
    rotation : (3, 3) float
        Of the head to the camera.
    place : (3,) float
        Of the head's joint in the camera's frame, metres.
    points : (478, 3) float
        The operator's landmarks with the last expression, relative to the head's joint, in the
        T-pose's axes, metres.

    """

    def __init__(self, model: BodyModel) -> None:
        betas = np.zeros(len(model.shape_basis), np.float32)
        count = len(model.face_landmarks.weights)
        points, derivatives = BodyPoints(model, model.face_landmarks)(
            betas, np.zeros(len(BLENDSHAPES), np.float32), np.zeros((len(JOINTS), 3), np.float32),
            np.zeros(3, np.float32))
        self._mean = (points[:count] - points[count + JOINT_INDEX['head']]).astype(float)
        first = len(betas)
        self._expressions = derivatives[:count, :, first:first + len(BLENDSHAPES)].astype(float)
        jaw = first + len(BLENDSHAPES) + 3 * JOINT_INDEX['jaw']
        self._expressions[:, :, BLENDSHAPE_INDEX['jawOpen']] += (
            JAW_OPEN_RAD * derivatives[:count, :, jaw])
        moved = _EXPRESSION_SIGMA * np.sqrt(np.square(self._expressions).sum((1, 2)))
        weights = np.sqrt(model.face_landmarks.weights) / np.hypot(_SIGMA_M, moved)
        self._weights = weights * np.sqrt(_INDEPENDENT / (model.face_landmarks.weights > 0).sum())
        self.points = self._mean.copy()
        self.rotation, self.place = np.eye(3), np.zeros(3)
        self._own = np.zeros_like(self._mean)
        # What a turn, a shift or another size of the mean face would say as well is not its shape.
        x, y, z = self._mean.T
        zero, one = np.zeros_like(x), np.ones_like(x)
        self._moves = np.stack([np.stack(move, 1).ravel() for move in (
            (one, zero, zero), (zero, one, zero), (zero, zero, one), (zero, -z, y), (z, zero, -x),
            (-y, x, zero), (x, y, z))], 1)
        weighted = self._moves * np.repeat(self._weights ** 2, 3)[:, None]
        self._to_moves = np.linalg.solve(weighted.T @ self._moves, weighted.T)
        # Information that an own point is the mean one's; of what was seen of it, and that times
        # its place.
        self._prior = np.eye(3) / _OWN_SIGMA_M ** 2 * (_INDEPENDENT / count)
        self._known = np.zeros((count, 3, 3))
        self._known_place = np.zeros((count, 3))
        self._found = False

    def forget(self) -> None:
        """Start anew with the next face, at any place."""
        self._found = False

    def fit(self, face: Float32, blendshapes: Float32, matrix: Float64, K: Float64,
            elapsed_s: float) -> None:
        """
        Move the head onto a face mesh.

        Parameters
        ----------
        face : (478, 2) float32
            Pixels.
        blendshapes : (52,) float32
        matrix : (3, 3) float
            The tracker's own rotation of the head to the camera.
        K : (3, 3) float
            Intrinsics.
        elapsed_s : float
            Since the face before.

        """
        self.points = self._mean + self._own + self._expressions @ blendshapes
        sight = (face - K[:2, 2]) / (K[0, 0], K[1, 1])
        if not self._found:
            self._start(sight, matrix)
        for _ in range(_ITERATIONS if self._found else _FIRST_ITERATIONS):
            self._step(sight, matrix)
        self._found = True
        self._learn(sight, elapsed_s)

    def _start(self, sight: Float64, matrix: Float64) -> None:
        """Put the head where the face has the size and middle that were seen."""
        self.rotation = matrix
        turned = self.points @ matrix.T
        used = self._weights > 0
        depth = (turned[used, :2].std(0).sum() / max(sight[used].std(0).sum(), 1e-3))
        middle = turned[used].mean(0)
        self.place = np.append(sight[used].mean(0), 1.0) * np.clip(depth, 0.1, 20) - middle

    def _rows(self, sight: Float64) -> tuple[Float64, Float64, Float64]:
        """Return arms (P, 3), misses (P, 2) in metres across the line of sight, and weights."""
        arms = self.points @ self.rotation.T
        z = np.maximum(arms[:, 2:] + self.place[2], 0.05)
        misses = sight * z - arms[:, :2] - self.place[:2]
        far = np.sqrt(np.square(misses).sum(1)) * self._weights
        return arms, misses, self._weights * np.sqrt(
            np.minimum(1, _HUBER / np.maximum(far, 1e-9)))

    def _step(self, sight: Float64, matrix: Float64) -> None:
        """Do one Gauss-Newton iteration."""
        arms, misses, weights = self._rows(sight)
        # How x - sight_x z and y - sight_y z change with a turn about x, y, z and a shift.
        x, y, z = arms.T
        u, v = sight.T
        rows = np.zeros((len(arms), 2, 6))
        rows[:, 0] = np.stack((-u * y, z + u * x, -y, np.ones_like(x), np.zeros_like(x), -u), 1)
        rows[:, 1] = np.stack((-z - v * y, v * x, x, np.zeros_like(x), np.ones_like(x), -v), 1)
        rows *= weights[:, None, None]
        flat, right = rows.reshape(-1, 6), (misses * weights[:, None]).ravel()
        normal, gradient = flat.T @ flat, flat.T @ right
        trust = 1 / _MATRIX_SIGMA ** 2
        normal[:3, :3] += trust * np.eye(3)
        gradient[:3] += trust * log(matrix @ self.rotation.T)
        step = np.clip(np.linalg.solve(normal + 1e-6 * np.eye(6), gradient), -_MAX_STEP, _MAX_STEP)
        self.rotation = exp(step[:3]) @ self.rotation
        self.place = self.place + step[3:]

    def _learn(self, sight: Float64, elapsed_s: float) -> None:
        """Add what this image tells of the own face; forget slowly what older ones told."""
        _, misses, weights = self._rows(sight)
        # The rows of the rotation that say how an own point moves in the image.
        seen = self.rotation[:2] - sight[:, :, None] * self.rotation[2]       # (P, 2, 3)
        keep = np.exp(-elapsed_s / _LEARNED_OVER_S)
        information = (weights ** 2 * (elapsed_s / _LEARNED_OVER_S))[:, None, None] * (
            seen.transpose(0, 2, 1))
        target = misses + (seen @ self._own[:, :, None])[..., 0]
        self._known = keep * self._known + information @ seen
        self._known_place = keep * self._known_place + (information @ target[..., None])[..., 0]
        own = np.linalg.solve(self._known + self._prior, self._known_place[..., None])[..., 0]
        self._own = own - (self._moves @ (self._to_moves @ own.ravel())).reshape(own.shape)
