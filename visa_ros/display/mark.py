"""The mark on the screen that says why the avatar does not follow its operator."""
from __future__ import annotations

import cv2

from visa_ros.types import Presence, UInt8

# What the person before the robot reads; page.html says the same (a test compares them).
TEXTS = {
    Presence.OPERATOR_LOST: 'The operator is away',
    Presence.LINK_LOST: 'Reconnecting to the operator',
}
INTERRUPTED = 'Picture interrupted'

# No frame for so long: the picture on the screen is stale and must say so.
INTERRUPTED_AFTER_S = 1.5

_VEIL = 0.6  # how bright the picture remains,
_BAND = 0.35  # and how much of that behind the text
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _AMBER = (245, 245, 245), (70, 180, 255)


def draw_mark(bgr: UInt8, text: str) -> None:
    """
    Darken a picture and write a line near its lower edge, in place.

    Parameters
    ----------
    bgr : (H, W, 3) uint8
        The picture, changed.
    text : str
        ASCII.

    """
    height, width = bgr.shape[:2]
    cv2.convertScaleAbs(bgr, bgr, alpha=_VEIL)
    band = bgr[round(height * 0.87):]
    cv2.convertScaleAbs(band, band, alpha=_BAND)
    scale = min(height, width) / 512
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, 0.65 * scale, 1)
    radius = text_height // 3
    left = (width - text_width) // 2
    base = round(height * 0.95)
    cv2.circle(bgr, (left - 3 * radius, base - text_height // 3), radius, _AMBER, cv2.FILLED,
               cv2.LINE_AA)
    cv2.putText(bgr, text, (left, base), _FONT, 0.65 * scale, _WHITE, 1, cv2.LINE_AA)
