"""From Anny's hundreds of directions to a small basis with unit variance."""
from __future__ import annotations

import numpy as np

from visa_ros.body.bake.source import Source
from visa_ros.conventions import JOINT_INDEX
from visa_ros.types import Float32

BODY_BETAS, HEAD_BETAS = 48, 96
_HEAD_WEIGHT = 4.0  # of a head vertex' squared error, in the basis of the whole body


def vertex_weights(source: Source) -> np.ndarray:
    """Return what the (V,) vertices' squared errors count in the basis of the whole body."""
    head = [JOINT_INDEX[name] for name in ('neck', 'head', 'left_eye', 'right_eye')]
    return np.where(source.skin[:, head].sum(1) > 0.5, _HEAD_WEIGHT, 1.0)


def beta_directions(source: Source, people: Float32) -> Float32:
    """Return the (B, D) combinations of directions that the betas are, from sampled people."""
    weights = vertex_weights(source)
    return np.concatenate([
        principal_directions(source, people, ~source.head, BODY_BETAS, weights),
        principal_directions(source, people, source.head, HEAD_BETAS, np.ones(len(weights)))])


def principal_directions(source: Source, coefficients: Float32, use: np.ndarray, count: int,
                         vertex_weights: np.ndarray) -> Float32:
    """
    Return the (count, D) combinations of directions that explain most of the sampled people.

    Principal components in vertex space, found in the smaller space of the coefficients
    (the Gram matrix of the directions); one unit of a component is one standard deviation.

    Parameters
    ----------
    source : Source
        Directions.
    coefficients : (n, D)
        Sampled people.
    use : (D,) bool
        The directions to speak of; the others are left at their mean.
    count : int
        How many to keep.
    vertex_weights : (V,)
        What a vertex's squared error counts.

    """
    scores = coefficients[:, use].astype(np.float64)
    scores -= scores.mean(0)
    moves = source.directions[use] * np.sqrt(vertex_weights)[:, None]
    moves = moves.reshape(len(moves), -1)
    gram = (moves @ moves.T).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(scores.T))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    _, inner = np.linalg.eigh(root.T @ gram @ root)
    found = (root @ inner[:, ::-1][:, :count]).T
    found *= np.sign(found[np.arange(count), np.abs(found).argmax(1)])[:, None]
    out = np.zeros((count, len(use)))
    out[:, use] = found
    return out.astype(np.float32)


def symmetric(points: Float32, mirror: np.ndarray) -> Float32:
    """Return points (P, 3) averaged with their mirror image, ``mirror`` naming the partners."""
    return (points + points[mirror] * np.array([-1, 1, 1], np.float32)) / 2


def reconstruction_error_mm(basis: Float32, offsets: Float32, weights: np.ndarray,
                            where: np.ndarray) -> np.ndarray:
    """
    Return how far people are from the basis, per person the mean distance at ``where``.

    Parameters
    ----------
    basis : (B, V, 3)
        Shape basis.
    offsets : (n, V, 3)
        People, less the mean shape; metres.
    weights : (V,)
        Of the least squares that finds the betas.
    where : (V,) bool
        The vertices to report.

    """
    root = np.sqrt(weights)[:, None]
    matrix = (basis * root).reshape(len(basis), -1)
    targets = (offsets * root).reshape(len(offsets), -1)
    gram = matrix @ matrix.T
    ridge = 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    betas = np.linalg.solve(gram + ridge, matrix @ targets.T).T.astype(np.float32)
    left = offsets[:, where] - np.tensordot(betas, basis[:, where], 1)
    return 1e3 * np.linalg.norm(left, axis=2).mean(1)
