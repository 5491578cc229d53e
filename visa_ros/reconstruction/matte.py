"""The person cut out of the portrait: soft alpha, and colours without the background."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.types import Float32, UInt8

_TRUSTED_PX = 2  # so far inside the outline a pixel has colour of the person alone
_TRIM_PX = 1  # a little hair is lost; a fringe of the old background would be worse


def matte(rgb: UInt8, mask: Float32) -> Float32:
    """
    Refine a coarse mask to the picture's own edges.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    mask : (H, W) float32
        Probability that a pixel shows the person, in [0, 1].

    Returns
    -------
    (H, W) float32
        Alpha in [0, 1]: one piece, without small holes.

    Notes
    -----
    The guided filter (He et al. 2013) makes alpha locally an affine function of the colours.  The
    segmenter works at 256 x 256, so the radius is a few of its pixels.

    """
    radius = max(2, round(max(rgb.shape) / 100))
    alpha = cv2.ximgproc.guidedFilter(rgb, mask.astype(np.float32), radius, (0.02 * 255) ** 2)
    alpha = np.clip((alpha - 0.3) / 0.4, 0, 1)
    person = _without_specks(_largest(alpha > 0.5), (4 * radius) ** 2)
    person = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, _disc(radius // 2))
    # Only hair and seams are soft; elsewhere a half-transparent person is the segmenter's doubt.
    alpha[cv2.erode(person, _disc(radius)) > 0] = 1
    alpha[cv2.dilate(person, _disc(radius)) == 0] = 0
    return cv2.erode(alpha, _disc(_TRIM_PX)).astype(np.float32)


def foreground(rgb: UInt8, alpha: Float32) -> Float32:
    """
    Estimate the person's own colour at pixels that the background shines through.

    Returns
    -------
    (H, W, 3) float32
        sRGB in [0, 1]; defined everywhere, also outside the person.

    Notes
    -----
    Blur fusion (Forte 2021, "Approximate fast foreground colour estimation"): foreground and
    background are alpha-weighted local means, corrected so that they compose to the picture; the
    radii 90 and 6 pixels are the paper's.

    """
    image = rgb.astype(np.float32) / 255
    sure = cv2.erode(alpha, _disc(_TRUSTED_PX)).astype(np.float32)
    a = sure[..., None]
    front, back = image, image
    for radius in (90, 6):
        size = (2 * radius + 1,) * 2
        weight_front, weight_back = cv2.blur(sure, size), cv2.blur(1 - sure, size)
        mean_front = cv2.blur(front * a, size) / (weight_front[..., None] + 1e-5)
        back = cv2.blur(back * (1 - a), size) / (weight_back[..., None] + 1e-5)
        front = np.clip(mean_front + a * (image - a * mean_front - (1 - a) * back), 0, 1)
    return front.astype(np.float32)


def solid(alpha: Float32) -> NDArray[np.bool_]:
    """Return where the portrait shows nothing but the person: ``foreground`` changes nothing."""
    return cv2.erode(alpha, _disc(_TRUSTED_PX)) > 0.99


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def _without_specks(mask: np.ndarray, area: int) -> np.ndarray:
    """Fill holes smaller than ``area`` pixels; between arm and body one sees through."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8))
    return mask | (stats[labels, cv2.CC_STAT_AREA] < area)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
