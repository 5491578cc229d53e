"""Square cells over the portrait: small where there is detail, large where it is flat."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visa_ros.types import Float32

_SIZES = (4, 2, 1)
_NO_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class Cells:
    """
    A tiling of the person's pixels.

    Attributes
    ----------
    x, y : (N,) int32
        Top left pixel of each cell.
    size : (N,) int32
        1, 2 or 4 pixels.

    """

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    size: NDArray[np.int32]

    @property
    def centers(self) -> Float32:
        """Middles, (N, 2) float32, pixels."""
        return np.stack([self.x + self.size / 2, self.y + self.size / 2], 1).astype(np.float32)

    def mean(self, image: Float32) -> Float32:
        """Return the mean over each cell of an image (H, W) or (H, W, C)."""
        values = np.zeros((len(self.x), *image.shape[2:]), np.float32)
        padded = _padded(image)
        for size in _SIZES:
            chosen = self.size == size
            values[chosen] = _blocks(padded, size).mean((1, 3))[
                self.y[chosen] // size, self.x[chosen] // size]
        return values


def detail_cells(image: Float32, mask: NDArray[np.bool_], weight: Float32, count: int,
                 cut: NDArray[np.bool_] | None = None) -> Cells:
    """
    Tile a mask with about ``count`` cells such that little of the picture is lost.

    A quadtree of three levels.  Splitting a cell gains what the squared error of painting it in
    one colour falls by; the splits with the largest gain are made until ``count`` is reached.

    Parameters
    ----------
    image : (H, W, C) float32
        What is to be kept: colours, and any field whose edges no cell should cross.
    mask : (H, W) bool
        Pixels to be covered; a cell is kept if any of its pixels is in the mask.
    weight : (H, W) float32
        Of a pixel's squared error.
    count : int
    cut : (H, W) bool, optional
        Pixels that are cells of their own.

    """
    padded, cover = _padded(image), _padded(mask)
    weight = _padded(weight) * cover
    error = [_error(padded, weight, size) for size in _SIZES]
    coarse_gain = error[0] - _coarser(error[1]).sum(-1)
    fine_gain = error[1] - _coarser(error[2]).sum(-1)
    if cut is not None:
        cut = _padded(cut & mask)
        coarse_gain, fine_gain = (np.where(_blocks(cut, size).any((1, 3)), np.inf, gain)
                                  for size, gain in zip(_SIZES, (coarse_gain, fine_gain),
                                                        strict=False))
    # A fine split needs the coarse one, which is worth what it opens the way to.
    coarse_gain = np.maximum(coarse_gain, _coarser(fine_gain).max(-1))
    used = [np.asarray(_blocks(cover, size).any((1, 3))) for size in _SIZES]
    coarse_cost = _coarser(used[1]).sum(-1) - 1
    fine_cost = _coarser(used[2]).sum(-1) - 1

    gains = np.concatenate([coarse_gain[used[0]], fine_gain[used[1]]])
    costs = np.concatenate([coarse_cost[used[0]], fine_cost[used[1]]])
    order = np.argsort(-gains, kind='stable')
    affordable = used[0].sum() + np.cumsum(costs[order]) <= count
    chosen = np.zeros(len(gains), bool)
    chosen[order[affordable & (gains[order] > _NO_GAIN)]] = True
    split_coarse, split_fine = np.zeros_like(used[0]), np.zeros_like(used[1])
    split_coarse[used[0]], split_fine[used[1]] = np.split(chosen, [used[0].sum()])
    split_fine &= _finer(split_coarse)
    kept = (used[0] & ~split_coarse, used[1] & _finer(split_coarse) & ~split_fine,
            used[2] & _finer(split_fine))
    y, x, sizes = [], [], []
    for size, here in zip(_SIZES, kept, strict=True):
        rows, columns = np.nonzero(here)
        y.append(rows * size)
        x.append(columns * size)
        sizes.append(np.full(len(rows), size))
    return Cells(*(np.concatenate(values).astype(np.int32) for values in (x, y, sizes)))


def grid_cells(mask: NDArray[np.bool_]) -> Cells:
    """Tile a mask with the largest cells: those whose middle is in it."""
    size = _SIZES[0]
    y, x = (size * at for at in np.nonzero(_padded(mask)[size // 2::size, size // 2::size]))
    return Cells(x.astype(np.int32), y.astype(np.int32), np.full(len(x), size, np.int32))


def _padded(image: np.ndarray) -> np.ndarray:
    """Repeat the last row and column until the largest cell fits."""
    return np.pad(image, [(0, -image.shape[0] % _SIZES[0]), (0, -image.shape[1] % _SIZES[0])]
                  + [(0, 0)] * (image.ndim - 2), mode='edge')


def _blocks(image: np.ndarray, size: int) -> np.ndarray:
    """View (H, W, ...) as (H / size, size, W / size, size, ...)."""
    height, width = image.shape[:2]
    return image.reshape(height // size, size, width // size, size, *image.shape[2:])


def _error(image: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """Weighted squared error of painting each cell in its mean colour."""
    total = _blocks(weight, size).sum((1, 3))
    mean = _blocks(image * weight[..., None], size).sum((1, 3))
    mean /= np.maximum(total, 1e-9)[..., None]
    square = (_blocks(image ** 2, size).sum(-1) * _blocks(weight, size)).sum((1, 3))
    return square - total * (mean ** 2).sum(-1)


def _coarser(cells: np.ndarray) -> np.ndarray:
    """Group each 2 x 2 cells on the last axis."""
    blocks = _blocks(cells, 2)
    return blocks.transpose(0, 2, 1, 3).reshape(blocks.shape[0], blocks.shape[2], 4)


def _finer(cells: np.ndarray) -> np.ndarray:
    return cells.repeat(2, 0).repeat(2, 1)
