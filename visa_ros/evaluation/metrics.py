"""How much one picture of a person is like another."""
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from visa_ros._optional import require
from visa_ros.identity import descriptor
from visa_ros.types import Float32, UInt8

Mask = NDArray[np.bool_]

LEAST_PX = 100  # of a region; below it a figure says little
_MOST_DB = 100.0  # of equal pictures, whose PSNR is infinite
_SSIM_WINDOW_PX = 7


def compare(rgb: UInt8, alpha: Float32, truth_rgb: UInt8, truth_alpha: Float32,
            regions: dict[str, Mask]) -> dict[str, float]:
    """
    Compare a render with the truth where either of them shows the person.

    Parameters
    ----------
    rgb, truth_rgb : (H, W, 3) uint8
        Over the same background.
    alpha, truth_alpha : (H, W) float32
        In [0, 1]; the person is where it is above one half.
    regions : dict of str to (H, W) bool
        Parts of the true person.  What a render shows outside of the true outline counts to the
        region of the nearest true pixel.

    Returns
    -------
    dict of str to float
        'PSNR' (dB) and 'SSIM' (Wang et al. 2004, windows of 7 px) within the union of both
        outlines, 'IoU' of the outlines, and the PSNR of each region of ``LEAST_PX`` or more.

    """
    shown, true = alpha > 0.5, truth_alpha > 0.5
    union = shown | true
    rows, columns = _box(union)
    shown, true, union = (mask[rows, columns] for mask in (shown, true, union))
    rgb, truth_rgb = rgb[rows, columns], truth_rgb[rows, columns]
    squared = (np.square(rgb.astype(np.float32) - truth_rgb) / 255 ** 2).mean(2)
    _, similarity = require('skimage.metrics').structural_similarity(
        rgb, truth_rgb, channel_axis=2, full=True, win_size=_SSIM_WINDOW_PX)
    out = {'PSNR': _decibels(squared[union]), 'SSIM': float(similarity[union].mean()),
           'IoU': float((shown & true).sum() / union.sum())}
    nearest = distance_transform_edt(~true, return_distances=False, return_indices=True)
    for name, region in regions.items():
        if region.sum() >= LEAST_PX:
            own = region[rows, columns][tuple(nearest)] & union
            out[name] = _decibels(squared[own])
    return out


def _box(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns around a mask, with room for a window of the SSIM."""
    y, x = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (slice(max(y[0] - _SSIM_WINDOW_PX, 0), y[-1] + _SSIM_WINDOW_PX + 1),
            slice(max(x[0] - _SSIM_WINDOW_PX, 0), x[-1] + _SSIM_WINDOW_PX + 1))


def _decibels(squared: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(max(squared.mean(), 10 ** (-_MOST_DB / 10))))


def identity(rgb: UInt8, corners: Float32) -> Float32:
    """
    Return ``identity.descriptor`` with unit length.

    Pictures of one person are near each other; two people of one sex and age are often alike to
    0.9 and more.
    """
    values = descriptor(rgb, corners)
    return values / np.linalg.norm(values)
