"""Closed-form matting: alpha as an affine function of the colours in every small window."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import cg

from visa_ros.types import Float32, UInt8

_COLOR_VARIANCE = 1e-5  # below which colours of a window say nothing
_TOLERANCE, _MAX_ITERATIONS = 1e-3, 200


def closed_form_alpha(rgb: UInt8, guess: Float32, unknown: NDArray[np.bool_],
                      trust: Float32) -> Float32:
    """
    Solve for alpha in the unknown pixels of a trimap.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    guess : (H, W) float32
        Alpha as known, and as far as known in the unknown pixels.
    unknown : (H, W) bool
        Time is linear in how many there are: 40,000 take 0.4 s.
    trust : (H, W) float32
        Weight of the guess in an unknown pixel, against that of the colours in a window: decides
        where person and background look the same.

    Returns
    -------
    (H, W) float32
        In [0, 1].

    Notes
    -----
    Levin, Lischinski, Weiss 2008, "A closed-form solution to natural image matting", on windows of
    3 x 3 pixels that touch the unknown ones.

    """
    width = unknown.shape[1]
    touching = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    touching[[0, -1]] = touching[:, [0, -1]] = False
    window = (np.arange(-1, 2)[:, None] * width + np.arange(-1, 2)).ravel()
    pixels = np.flatnonzero(touching)[:, None] + window
    used = np.zeros(unknown.size, bool)
    used[pixels] = True
    number = np.cumsum(used) - 1
    colors = rgb.reshape(-1, 3)[pixels].astype(np.float32) / 255
    colors -= colors.mean(1, keepdims=True)
    covariance = colors.transpose(0, 2, 1) @ colors / 9 + _COLOR_VARIANCE / 9 * np.eye(3)
    affinity = (1 + colors @ np.linalg.solve(covariance, colors.transpose(0, 2, 1))) / 9

    row = number[pixels]
    size = used.sum()
    links = csr_matrix((affinity.ravel(), (row.repeat(9, 1).ravel(), np.tile(row, 9).ravel())),
                       (size, size))
    laplacian = diags(np.asarray(links.sum(1)).ravel()) - links
    free = unknown.ravel()[used]
    alpha = guess.ravel()[used].astype(np.float64)
    rows = laplacian.tocsr()[free]
    weight = trust.ravel()[used][free]
    matrix = rows[:, free] + diags(weight)
    target = weight * alpha[free] - rows[:, ~free] @ alpha[~free]
    alpha[free], _ = cg(matrix, target, alpha[free], rtol=_TOLERANCE, maxiter=_MAX_ITERATIONS,
                        M=diags(1 / matrix.diagonal()))
    result = guess.astype(np.float32)
    result.reshape(-1)[used] = np.clip(alpha, 0, 1)
    return result
