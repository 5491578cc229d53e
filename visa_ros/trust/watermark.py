"""
The invisible mark in every picture: the first 12 digits of the avatar's id.

Spread spectrum in luma.  The picture is a grid of cells, whatever its size, and each cell is made
a little brighter or darker.  Eight bytes, six of the id and two of a check sum, own 2048 random
cells each, and write one of 256 orthogonal Walsh functions into them.  Where the picture is flat
nothing is changed, so that nobody sees it; each byte is written as strongly as this very picture
needs.  Scaling, compression and noise leave sums over 2048 cells; cropping and turning do not.
doc/trust.md has figures.
"""
from __future__ import annotations

import hashlib
from binascii import crc_hqx
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from visa_ros.config import Config, param
from visa_ros.errors import InputError
from visa_ros.types import Float32, UInt8

DIGITS = 12  # of the avatar id that are written

_GRID = 128
_BYTES = DIGITS // 2 + 2
_CELLS = _GRID * _GRID // _BYTES  # of each byte

# The score that each byte shall have in each picture, and by how many grey levels its cells may
# change for it.  Unmarked pictures have standard normal scores: the best of 256 is 2.8.
_TARGET, _CHANGE = 21.0, (0.5, 4.5)
# Mean difference between neighbouring cells, grey levels, from which on a place is not flat.
_FLAT = 1 / 6
# Mean of the best scores from which on a picture counts as marked.
_MARKED = 3.3
# Grey levels below which a cell's difference from its neighbours says little.
_NOISE = 1.5
# Neighbours predict a cell of a natural picture well in this way; what is left is the mark.
_DETAIL = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32) / 4

_ZERO = 128
_MORE = np.maximum(np.arange(256) - _ZERO, 0).astype(np.uint8)
_LESS = np.maximum(_ZERO - np.arange(256), 0).astype(np.uint8)


@dataclass(frozen=True)
class WatermarkConfig(Config):
    """What says in the picture itself that it is an avatar's, and whose."""

    invisible: bool = param(
        True, 'Write the first digits of the avatar id invisibly into every picture; `visa '
        'verify FILE` reads them')
    visible: str = param('', 'Text in the lower right corner of every picture, such as AVATAR, '
                         'up to 40 ASCII characters; empty: none')

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.visible) > 40 or not (self.visible.isascii() and self.visible.isprintable()):
            raise InputError('visible must be up to 40 printable ASCII characters')


class Watermark:
    """
    Mark pictures of one avatar.

    Parameters
    ----------
    avatar_id : str
        Hexadecimal; the first 12 digits are written.

    """

    def __init__(self, avatar_id: str) -> None:
        identity = bytes.fromhex(avatar_id[:DIGITS])
        walsh = _carrier().walsh[list(identity + _check_sum(identity))]
        self._chips = np.repeat(walsh, _CELLS // walsh.shape[1], axis=1)

    def mark(self, rgb: UInt8) -> None:
        """Mark a picture (H, W, 3) in place."""
        height, width = rgb.shape[:2]
        cells = _cells(rgb)
        # The least of the surroundings: beside an outline the flat side stays as it is.
        variation = cv2.erode(cv2.blur(np.abs(cells - cv2.blur(cells, (3, 3))), (3, 3)),
                              np.ones((5, 5), np.uint8))
        strength = _carrier().own(np.minimum(variation / _FLAT, 1))
        # What the picture says already, and what the change would say.
        detail, deviation = _details(cells)
        norm = np.sqrt((detail * detail).sum(1)) + 1e-6
        says = (detail * self._chips).sum(1) / norm
        would = (strength / deviation).sum(1) / norm + 1e-6
        levels = np.clip((_TARGET - says) / would, *_CHANGE)
        cells = _carrier().grid(self._chips * strength * levels[:, None])
        # Bytes around 128, added in two halves: ten times as fast as signed numbers.
        change = cv2.resize(np.rint(_ZERO + cells).astype(np.uint8), (width, height),
                            interpolation=cv2.INTER_LINEAR)
        cv2.add(rgb, cv2.cvtColor(cv2.LUT(change, _MORE), cv2.COLOR_GRAY2RGB), rgb)
        cv2.subtract(rgb, cv2.cvtColor(cv2.LUT(change, _LESS), cv2.COLOR_GRAY2RGB), rgb)


class WatermarkReader:
    """Read the mark from one picture, or from several of the same avatar together."""

    def __init__(self) -> None:
        self._scores = np.zeros((_BYTES, 256))

    def add(self, rgb: UInt8) -> None:
        """Take a picture (H, W, 3), of any size and proportions."""
        detail, _ = _details(_cells(rgb))
        walsh = _carrier().walsh
        sums = detail.reshape(_BYTES, walsh.shape[1], -1).sum(2) @ walsh.T
        self._scores += sums / (np.sqrt((detail * detail).sum(1, keepdims=True)) + 1e-6)

    @property
    def score(self) -> float:
        """How much the pictures look marked: 2.8 if they are not, from 3.3 on they may be."""
        # By their own deviation: a still clip tells no more than one picture.
        return float((self._scores.max(1) / (self._scores.std(1) + 1e-6)).mean())

    def avatar_id(self) -> str | None:
        """Return the first 12 digits of the avatar's id; None if there is no mark to be read."""
        if self.score < _MARKED:
            return None
        order = np.argsort(-self._scores, axis=1)[:, :2].astype(np.uint8)
        lead = -np.diff(-np.sort(-self._scores, axis=1)[:, :2]).ravel()
        doubtful = np.argsort(lead)[:2]
        for second in product((0, 1), repeat=len(doubtful)):
            said = order[:, 0].copy()
            said[doubtful] = order[doubtful, second]
            identity, check = said[:DIGITS // 2].tobytes(), said[DIGITS // 2:].tobytes()
            if check == _check_sum(identity):
                return identity.hex()
        return None


def draw_label(rgb: UInt8, text: str) -> None:
    """Write the visible mark into a picture (H, W, 3), in place."""
    height, width = rgb.shape[:2]
    scale = 0.45 * min(height, width) / 512
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, 1)
    place = width - text_width - text_height, height - text_height
    cv2.putText(rgb, text, place, font, scale, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(rgb, text, place, font, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _check_sum(identity: bytes) -> bytes:
    return crc_hqx(identity, 0xffff).to_bytes(2, 'big')


def _cells(rgb: UInt8) -> Float32:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cast(Float32, cv2.resize(grey, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
                .astype(np.float32))


def _details(cells: Float32) -> tuple[Float32, Float32]:
    """Return each cell's detail over its usual size there, and that size; (bytes, cells)."""
    detail = cast(Float32, cv2.filter2D(cells, -1, _DETAIL))
    power = cast(Float32, cv2.blur(detail * detail, (5, 5)))
    deviation = np.sqrt(np.maximum(power, 0)) + np.float32(_NOISE)
    carrier = _carrier()
    return carrier.own(carrier.signs * detail / deviation), carrier.own(deviation)


@dataclass(frozen=True, eq=False)
class _Carrier:
    """Which cells are whose (``order``, (cells,)), their ``signs`` (grid), the Walsh functions."""

    order: NDArray[np.int64]
    signs: Float32
    walsh: Float32

    def own(self, grid: Float32) -> Float32:
        """Return a grid's cells by byte, (bytes, cells)."""
        return grid.ravel()[self.order].reshape(_BYTES, _CELLS)

    def grid(self, own: Float32) -> Float32:
        """Put the cells of the bytes back into the grid, with the signs."""
        grid = np.empty(_GRID * _GRID, np.float32)
        grid[self.order] = own.ravel()
        return self.signs * grid.reshape(_GRID, _GRID)


@cache
def _carrier() -> _Carrier:
    """Return the carrier: the same for ever, whatever numpy's generators become."""
    count = _GRID * _GRID
    stream = hashlib.shake_256(b'visa_ros watermark 1').digest(5 * count)
    signs = 1 - 2 * (np.frombuffer(stream[:count], np.uint8) & 1).astype(np.float32)
    order = np.argsort(np.frombuffer(stream[count:], '<u4'), kind='stable')
    return _Carrier(order, signs.reshape(_GRID, _GRID), hadamard(256).astype(np.float32))
