"""
Rotations as numpy arrays of matrices and rotation vectors.

SciPy's ``Rotation`` says the same, at five times the cost for the few rotations of a pose.
"""
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_EYE = np.eye(3)


def exp(rotvecs: Float64) -> Float64:
    """Return the (..., 3, 3) matrices of (..., 3) rotation vectors (Rodrigues)."""
    angle2 = np.maximum((rotvecs * rotvecs).sum(-1), 1e-16)[..., None, None]
    angle = np.sqrt(angle2)
    hat = _hat(rotvecs)
    return _EYE + np.sin(angle) / angle * hat + (1 - np.cos(angle)) / angle2 * (hat @ hat)


def log(matrices: Float64) -> Float64:
    """Return the (..., 3) rotation vectors of (..., 3, 3) matrices, angles up to pi (Shepperd)."""
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0],
                  m[..., 1, 0] - m[..., 0, 1])
    if (xx + yy + zz > 0).all():  # turns below 120 degrees: no need to look for a pivot
        return _rotvec(np.stack((wx, wy, wz), axis=-1), (1 + xx + yy + zz)[..., None])
    xy, yz, zx = (m[..., 0, 1] + m[..., 1, 0], m[..., 1, 2] + m[..., 2, 1],
                  m[..., 2, 0] + m[..., 0, 2])
    # Rows of the quaternion's outer product with itself; the one with the largest pivot is exact.
    rows = np.stack((1 + xx - yy - zz, xy, zx, wx, xy, 1 - xx + yy - zz, yz, wy,
                     zx, yz, 1 - xx - yy + zz, wz, wx, wy, wz, 1 + xx + yy + zz),
                    axis=-1).reshape(*xx.shape, 4, 4)
    pivot = np.diagonal(rows, axis1=-2, axis2=-1).argmax(-1)
    quat = np.take_along_axis(rows, pivot[..., None, None], -2)[..., 0, :]
    return _rotvec(quat[..., :3], quat[..., 3:])


def _rotvec(vector: Float64, w: Float64) -> Float64:
    """Return the (..., 3) rotation vectors of quaternions of any length, angles up to pi."""
    sine = np.sqrt((vector * vector).sum(-1, keepdims=True))
    return vector * np.where(w < 0, -1, 1) * (
        2 * np.arctan2(sine, np.abs(w)) / np.maximum(sine, 1e-12))


def left_jacobian(rotvecs: Float64) -> Float64:
    """
    Return how (N, 3) rotation vectors turn when they change, (N, 3, 3).

    ``exp(w + d) = exp(left_jacobian(w) @ d) @ exp(w)`` for small d (Sola et al. 2018, "A micro
    Lie theory for state estimation in robotics", eq. 145).
    """
    angle2 = np.maximum((rotvecs * rotvecs).sum(-1), 1e-8)[:, None, None]
    angle = np.sqrt(angle2)
    hat = _hat(rotvecs)
    return (_EYE + (1 - np.cos(angle)) / angle2 * hat
            + (angle - np.sin(angle)) / (angle2 * angle) * hat @ hat)


def swing(source: Float64, target: Float64) -> Float64:
    """Return the smallest rotations, as (..., 3) vectors, that turn directions onto others."""
    axis = (_hat(source) @ target[..., None])[..., 0]
    sine = np.sqrt((axis * axis).sum(-1, keepdims=True))
    cosine = (source * target).sum(-1, keepdims=True)
    return axis / np.maximum(sine, 1e-9) * np.arctan2(sine, cosine)


def from_line_of_sight(direction: Float64) -> Float64:
    """
    Return the (3, 3) rotation of the optical axis onto a direction of view.

    What is seen under a direction looks turned by this much: rotations that were found in an
    image crop are relative to the line of sight, not to the camera.
    """
    x, y, z = (direction / np.linalg.norm(direction)).tolist()
    k = 1 / (1 + z)
    return np.array(((1 - k * x * x, -k * x * y, x), (-k * x * y, 1 - k * y * y, y), (-x, -y, z)))


def best_rotation(source: Float64, target: Float64, weights: Float64 | None = None) -> Float64:
    """Return the (3, 3) rotation that best turns (N, 3) vectors onto others (Kabsch 1976)."""
    weighted = target if weights is None else target * weights[:, None]
    u, _, vt = np.linalg.svd(weighted.T @ source)
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt


def _hat(vectors: Float64) -> Float64:
    """Return the (..., 3, 3) matrices of the cross products with (..., 3) vectors."""
    out = np.zeros((*vectors.shape, 3))
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    out[..., 2, 1], out[..., 0, 2], out[..., 1, 0] = x, y, z
    out[..., 1, 2], out[..., 2, 0], out[..., 0, 1] = -x, -y, -z
    return out
