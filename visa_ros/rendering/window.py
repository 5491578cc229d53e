"""The part of a picture around the head, where a face is looked at and shading pays."""
from __future__ import annotations

import numpy as np

from visa_ros.types import Float32

GRID = 16  # pixels; a window's place and sides are multiples of it: shading works at 1/4 to 1/16


class HeadWindow:
    """
    A window that follows the head, in steps, and only as far as it must.

    Parameters
    ----------
    width, height : int
        Of the picture.
    side_px : int
        Of the window; 0 for the whole picture.

    Attributes
    ----------
    shape : (int, int)
        Its rows and columns.

    """

    def __init__(self, width: int, height: int, side_px: int) -> None:
        side = side_px or max(width, height)
        self.shape = min(side, height), min(side, width)
        self._limits = height - self.shape[0], width - self.shape[1]
        self._corner = 0, 0

    def follow(self, head_px: Float32 | None) -> tuple[slice, slice]:
        """Return rows and columns with the head at (x, y) in their middle, or where they were."""
        if head_px is not None and np.isfinite(head_px).all():
            wanted = [centre - side / 2 for centre, side in
                      zip(head_px[::-1], self.shape, strict=True)]
            moved = [GRID * round(place / GRID) if abs(place - now) > GRID else now
                     for place, now in zip(wanted, self._corner, strict=True)]
            top, left = (min(max(int(place), 0), most)
                         for place, most in zip(moved, self._limits, strict=True))
            self._corner = top, left
        top, left = self._corner
        return slice(top, top + self.shape[0]), slice(left, left + self.shape[1])
