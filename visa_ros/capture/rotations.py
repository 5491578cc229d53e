"""Rotations as numpy arrays of matrices and rotation vectors."""
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Float64 = NDArray[np.float64]


def exp(rotvecs: Float64) -> Float64:
    """Return the (..., 3, 3) matrices of (..., 3) rotation vectors."""
    return Rotation.from_rotvec(rotvecs).as_matrix()


def log(matrices: Float64) -> Float64:
    """Return the (..., 3) rotation vectors of (..., 3, 3) matrices."""
    return Rotation.from_matrix(matrices).as_rotvec()


def left_jacobian(rotvecs: Float64) -> Float64:
    """
    Return how (N, 3) rotation vectors turn when they change, (N, 3, 3).

    ``exp(w + d) = exp(left_jacobian(w) @ d) @ exp(w)`` for small d (Sola et al. 2018, "A micro
    Lie theory for state estimation in robotics", eq. 145).
    """
    angle2 = np.maximum((rotvecs ** 2).sum(-1), 1e-8)[:, None, None]
    angle = np.sqrt(angle2)
    hat = np.zeros((len(rotvecs), 3, 3))
    hat[:, 2, 1], hat[:, 0, 2], hat[:, 1, 0] = rotvecs.T
    hat[:, 1, 2], hat[:, 2, 0], hat[:, 0, 1] = -rotvecs.T
    return (np.eye(3) + (1 - np.cos(angle)) / angle2 * hat
            + (angle - np.sin(angle)) / (angle2 * angle) * hat @ hat)


def swing(source: Float64, target: Float64) -> Float64:
    """Return the smallest rotations, as (..., 3) vectors, that turn directions onto others."""
    axis = np.cross(source, target)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    cosine = (source * target).sum(-1, keepdims=True)
    return axis / np.maximum(sine, 1e-9) * np.arctan2(sine, cosine)


def from_line_of_sight(direction: Float64) -> Float64:
    """
    Return the (3, 3) rotation of the optical axis onto a direction of view.

    What is seen under a direction looks turned by this much: rotations that were found in an
    image crop are relative to the line of sight, not to the camera.
    """
    unit = direction / np.linalg.norm(direction)
    return exp(swing(np.array((0.0, 0.0, 1.0)), unit))


def best_rotation(source: Float64, target: Float64, weights: Float64 | None = None) -> Float64:
    """Return the (3, 3) rotation that best turns (N, 3) vectors onto others (Kabsch 1976)."""
    weighted = target if weights is None else target * weights[:, None]
    u, _, vt = np.linalg.svd(weighted.T @ source)
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt


def clip_angle(rotvec: Float64, limit: Float64 | float) -> Float64:
    """Return rotation vectors with the angle limited."""
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    return rotvec * np.minimum(1, limit / np.maximum(angle, 1e-9))
