"""Portraits as people give them, made of good ones: dark, tilted, covered, and so on."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visa_ros._optional import require
from visa_ros.types import UInt8

_LEFT_EYE, _RIGHT_EYE = 263, 33  # face landmarks: the outer corners
# Rim of a surgical mask: over the nose, along the jaw.
_MASK = (195, 118, 132, 172, 136, 150, 176, 152, 400, 379, 365, 397, 361, 347)


def grey(rgb: UInt8) -> UInt8:
    """Return it in black and white."""
    cv2 = require('cv2')
    return cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def dark(rgb: UInt8) -> UInt8:
    """Return it with a twelfth of the light, and the noise of a small sensor."""
    noise = np.random.default_rng(0).normal(0, 3, rgb.shape)
    return _bytes(_encoded(_linear(rgb) / 12) + noise)


def overexposed(rgb: UInt8) -> UInt8:
    """Return it with three times the light, clipped."""
    return _bytes(_encoded(_linear(rgb) * 3))


def tilted(rgb: UInt8) -> UInt8:
    """Return it turned by 40 degrees."""
    cv2 = require('cv2')
    height, width = rgb.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 40, 1)
    return cv2.warpAffine(rgb, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def small(rgb: UInt8) -> UInt8:
    """Return it with 100 pixels on its shorter side."""
    cv2 = require('cv2')
    scale = 100 / min(rgb.shape[:2])
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def far_away(rgb: UInt8) -> UInt8:
    """Return it as a sixth of a picture."""
    cv2 = require('cv2')
    height, width = rgb.shape[:2]
    out = np.tile(rgb[:1, :1], (height, width, 1))
    part = cv2.resize(rgb, (width // 6, height // 6), interpolation=cv2.INTER_AREA)
    out[height // 2:][:height // 6, width // 2:][:, :width // 6] = part
    return out


def two_people(rgb: UInt8) -> UInt8:
    """Return the person and a mirror image side by side."""
    return np.concatenate([rgb, rgb[:, ::-1]], 1)


def drawing(rgb: UInt8) -> UInt8:
    """Return it as flat colours with dark lines."""
    cv2 = require('cv2')
    flat = cv2.pyrMeanShiftFiltering(rgb, 12, 40)
    flat = flat // 48 * 48 + 24
    lines = cv2.adaptiveThreshold(cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 5), 255,
                                  cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4)
    return np.where(lines[..., None] > 0, flat, np.uint8(20))


def sunglasses(rgb: UInt8) -> UInt8:
    """Return it with opaque glasses drawn on."""
    cv2 = require('cv2')
    face, out = _face(rgb), rgb.copy()
    left, right = face[_LEFT_EYE], face[_RIGHT_EYE]
    across = left - right
    size = np.linalg.norm(across)
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    centers = [right + 0.2 * across, left - 0.2 * across]
    for center in centers:
        cv2.ellipse(out, _pixel(center), (int(0.3 * size), int(0.24 * size)), angle, 0, 360,
                    (18, 18, 22), -1, cv2.LINE_AA)
    cv2.line(out, _pixel(centers[0]), _pixel(centers[1]), (18, 18, 22), max(2, int(size / 15)))
    for end, center in ((right, centers[0]), (left, centers[1])):
        cv2.line(out, _pixel(center), _pixel(center + 1.9 * (end - center)), (18, 18, 22),
                 max(2, int(size / 25)))
    return out


def masked(rgb: UInt8) -> UInt8:
    """Return it with a surgical mask drawn on."""
    cv2 = require('cv2')
    out = rgb.copy()
    cv2.fillPoly(out, [np.round(_face(rgb)[list(_MASK)]).astype(np.int32)], (150, 190, 205),
                 cv2.LINE_AA)
    return out


VARIANTS: dict[str, Callable[[UInt8], UInt8]] = {
    'black and white': grey, 'low light': dark, 'overexposed': overexposed, 'tilted': tilted,
    'sunglasses': sunglasses, 'mask': masked, 'drawing': drawing, 'small': small,
    'far away': far_away, 'two people': two_people,
}


def _linear(rgb: UInt8) -> np.ndarray:
    return (rgb / 255) ** 2.2


def _encoded(light: np.ndarray) -> np.ndarray:
    return 255 * light.clip(0, 1) ** (1 / 2.2)


def _bytes(values: np.ndarray) -> UInt8:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _face(rgb: UInt8) -> np.ndarray:
    from visa_ros.reconstruction.portrait import find_person

    face = find_person(rgb).face
    assert face is not None
    return face


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
