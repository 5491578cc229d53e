"""The person cut out of the portrait: soft alpha, and colours without the background."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.reconstruction.closed_form import closed_form_alpha
from visa_ros.types import Float32, UInt8

_TRUSTED_PX = 2  # so far inside the outline a pixel has colour of the person alone
_SURE = 0.9  # probability of the person, or of the background, that the segmenter is right about
# Of the segmenter against the colours; how far hair may be from the face, of the face's height.
_TRUST, _TRUST_AT_HAIR, _HAIR_REACH = 0.3, 1e-3, 1.2
_HAZE = 0.1  # alpha that is none, where person and background look alike


def matte(rgb: UInt8, mask: Float32, face: Float32 | None = None) -> Float32:
    """
    Refine a coarse mask to the picture's own edges.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    mask : (H, W) float32
        Probability that a pixel shows the person, in [0, 1].
    face : (N, 2) float32, optional
        Landmarks of the face, pixels: no background, and where there may be hair.

    Returns
    -------
    (H, W) float32
        Alpha in [0, 1]: one piece, without small holes.

    Notes
    -----
    The guided filter (He et al. 2013) brings the mask to the picture's edges; the segmenter works
    at 256 x 256, so the radius is a few of its pixels.  Around the outline closed-form matting
    finds hair.

    """
    radius = max(2, round(max(rgb.shape) / 100))
    guess = cv2.ximgproc.guidedFilter(rgb, mask.astype(np.float32), radius, (0.02 * 255) ** 2)
    guess = np.clip((guess - 0.3) / 0.4, 0, 1)
    person = without_specks(_largest(guess > 0.5), (4 * radius) ** 2)
    person = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, _disc(radius // 2))
    certain = (person > 0) & (mask > _SURE)
    possible = (person > 0) | (mask > 1 - _SURE)
    sure = cv2.erode(certain.astype(np.uint8), _disc(radius)) > 0
    none = cv2.dilate(possible.astype(np.uint8), _disc(2 * radius)) == 0
    trust = np.full(mask.shape, _TRUST, np.float32)
    if face is not None:
        oval = cv2.convexHull(np.round(face).astype(np.int32))
        inside = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), oval, 1)
        sure |= cv2.erode(inside, _disc(radius)) > 0
        away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
        trust[away < _HAIR_REACH * np.ptp(face[:, 1])] = _TRUST_AT_HAIR
    none &= ~sure
    guess[sure], guess[none] = 1, 0
    alpha = closed_form_alpha(rgb, guess, ~sure & ~none, trust)
    return np.clip((alpha - _HAZE) / (1 - 2 * _HAZE), 0, 1)


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
    a, cover = sure[..., None], alpha[..., None]
    front, back = image, image
    for radius in (90, 6, 2):
        size = (2 * radius + 1,) * 2
        weight_front, weight_back = (cv2.blur(w, size)[..., None] for w in (sure, 1 - sure))
        mean_front = cv2.blur(front * a, size) / np.maximum(weight_front, 1e-5)
        mean_front = np.where(weight_front > 1e-3, mean_front, front)
        back = cv2.blur(back * (1 - a), size) / np.maximum(weight_back, 1e-5)
        # The picture is of ``cover``; that it is the person's is only ``sure``.
        front = mean_front + a * (image - cover * mean_front - (1 - cover) * back)
        front = np.clip(front, 0, 1)
    return front.astype(np.float32)


def solid(alpha: Float32) -> NDArray[np.bool_]:
    """Return where the portrait shows nothing but the person: ``foreground`` changes nothing."""
    return cv2.erode(alpha, _disc(_TRUSTED_PX)) > 0.99


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def without_specks(mask: np.ndarray, area: int) -> np.ndarray:
    """Fill holes smaller than ``area`` pixels; between arm and body one sees through."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8))
    return mask | (stats[labels, cv2.CC_STAT_AREA] < area)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
