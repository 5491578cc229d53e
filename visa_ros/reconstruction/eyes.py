"""Eyes that stay whole when they turn, and lids that cover them when they shut."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import UPPER_LID, densely, lid_rim
from visa_ros.reconstruction.splats import OPACITY, Splats, concatenate, splats_of
from visa_ros.reconstruction.surface import LASHES, Part, Surface
from visa_ros.types import Camera, Float32

_SIDES = {'left': (Part.LEFT_EYE, face.LEFT_EYE, face.LEFT_IRIS),
          'right': (Part.RIGHT_EYE, face.RIGHT_EYE, face.RIGHT_IRIS)}
# The skin around an eye that tells its lids' colour, in reaches of the lashes from the eye.
_SKIN_FROM, _SKIN_TO = 1.0, 2.5
# What is darker there are lashes and wrinkles, what is brighter are glints; and rounds of leaving
# out what else does not fit.
_SKIN_LIGHT, _TRIMS = (0.25, 0.9), 4
_WHITE_SHADE = 0.93   # the lids' shadow on what they hide of the white
_LASH_SHADE = 0.85    # of the lid, at most: lashes are darker than lids
_LASH_SIZE_M = 0.0004
_LASH_BEFORE_M = 0.0015  # the lid


def eye_colors(points: Float32, side: str, surface: Surface, colors: Float32,
               landmarks: Float32, camera: Camera) -> Float32:
    """
    Return colours (N, 3) of points on an eyeball.

    Where the portrait shows the eye, its own; what the lids hide of the iris is the mirror image
    through its centre, or the iris' median at that distance from it; of the white, its brighter
    half's median, and near to what is seen, that.
    """
    part, _, iris = _SIDES[side]
    center = landmarks[iris[0]]
    radius = np.linalg.norm(landmarks[list(iris[1:])] - center, axis=1).max()
    shown = surface.part == part
    # What borders on the lids is their shadow, and lashes.
    clear = cv2.erode(shown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rows, columns = np.nonzero(shown)
    seen, distance = colors[rows, columns], np.hypot(columns + 0.5 - center[0],
                                                     rows + 0.5 - center[1])
    beside = distance > 1.2 * radius
    light = seen.sum(1)
    bright = light > np.quantile(light[beside], 0.5) if beside.any() else beside
    white = _median(seen[beside & bright], np.full(3, 0.6))
    white = np.tile(_WHITE_SHADE * (white + white.mean()) / 2, (len(points), 1))
    iris_color = _median(seen[distance < 0.8 * radius], np.full(3, 0.2))

    pixels = camera.project(points)
    if beside.any():
        away, nearest = cKDTree(np.stack([columns, rows], 1)[beside] + 0.5).query(pixels)
        white += np.exp(-away / (0.5 * radius))[:, None] * (seen[beside][nearest] - white)
    from_center = np.linalg.norm(pixels - center, axis=1)
    rings = [_median(seen[np.abs(distance - r * radius) < 0.15 * radius], iris_color)
             for r in np.linspace(0, 0.9, 7)]
    ring = np.stack([np.interp(from_center / radius, np.linspace(0, 0.9, 7), channel)
                     for channel in np.array(rings).T], 1)
    own, own_seen = _look_up(colors, clear, pixels)
    mirrored, mirrored_seen = _look_up(colors, clear, 2 * center - pixels)
    edge = np.clip((from_center / radius - 0.9) / 0.2, 0, 1)[:, None]
    iris_hidden = np.where(mirrored_seen[:, None], mirrored, ring)
    hidden = (1 - edge) * iris_hidden + edge * white
    return np.where(own_seen[:, None], own, hidden).astype(np.float32)


def lid_colors(points: Float32, side: str, colors: Float32, alpha: Float32, landmarks: Float32,
               camera: Camera) -> Float32:
    """
    Return colours (N, 3) of points on the lids of an eye, as it looks when it is shut.

    The skin beside and below the eye, brighter or darker from left to right as it is there,
    without lashes and glints.
    """
    contour = landmarks[list(_SIDES[side][1])]
    reach = LASHES * np.ptp(landmarks[:, 1])
    low, high = np.floor([contour.min(0) - 3 * reach, contour.max(0) + 3 * reach]).astype(int)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(low[0], high[0]),
                                                 np.arange(low[1], high[1])))
    inside = (x >= 0) & (y >= 0) & (x < alpha.shape[1]) & (y < alpha.shape[0])
    x, y = x[inside], y[inside]
    middle = contour[:, 0].mean()
    ring = densely(np.concatenate([contour, contour[:1]]))
    distance = cKDTree(ring).query(np.stack([x, y], 1) + 0.5)[0] / reach
    chosen = (distance > _SKIN_FROM) & (distance < _SKIN_TO) & (alpha[y, x] > 0.95)
    chosen &= y > contour[:, 1].min()  # above is the brow's shadow
    if chosen.sum() < 10:
        return np.tile(_median(colors[y, x], np.full(3, 0.5)), (len(points), 1))
    values = colors[y[chosen], x[chosen]].astype(np.float64)
    terms = np.column_stack([np.ones(chosen.sum()), x[chosen] - middle])
    light = values.sum(1)
    low, high = np.quantile(light, _SKIN_LIGHT)
    kept = (light >= low) & (light <= high)
    for _ in range(_TRIMS):
        line, *_ = np.linalg.lstsq(terms[kept], values[kept], rcond=None)
        error = np.abs(values - terms @ line).sum(1)
        kept = error < 2 * np.median(error[kept])
    at = np.clip(camera.project(points)[:, 0], contour[:, 0].min(), contour[:, 0].max())
    lid = np.column_stack([np.ones(len(at)), at - middle]) @ line
    return np.clip(lid, 0, 1).astype(np.float32)


def lash_lines(model: BodyModel, vertices: Float32, colors: Float32, alpha: Float32,
               landmarks: Float32, camera: Camera) -> Splats:
    """
    Return a dark line along the rim of each upper lid.

    It goes with the rim, so that the shut eye has a lash line without gaps.  It is as dark as
    what the portrait shows there.
    """
    return concatenate([_lash_line(model, side, vertices, colors, alpha, landmarks, camera)
                        for side in _SIDES])


def _lash_line(model: BodyModel, side: str, vertices: Float32, colors: Float32, alpha: Float32,
               landmarks: Float32, camera: Camera) -> Splats:
    rim = lid_rim(model, side)
    line = densely(landmarks[list(UPPER_LID[side])])
    near = np.indices((3, 3)).reshape(2, -1).T[:, ::-1] - (1, 2)  # above and not below
    height, width = alpha.shape
    x, y = np.clip(np.floor(line[:, None] + near).astype(int), 0,
                   (width - 1, height - 1)).transpose(2, 0, 1)
    around = colors[y, x]
    dark = np.take_along_axis(around, around.sum(2).argsort(1)[:, :3, None], 1).mean(1)
    lid = lid_colors(rim.on(vertices, model.faces), side, colors, alpha, landmarks, camera)
    dark = np.minimum(cv2.blur(dark, (1, 9)), _LASH_SHADE * lid)
    z = rim.on(vertices, model.faces)[:, 2:] - _LASH_BEFORE_M
    rays = np.column_stack([(line - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]],
                            np.ones(len(line))])
    count = len(line)
    return splats_of(
        means=rays * z, quats=np.tile((1, 0, 0, 0), (count, 1)),
        scales=np.full((count, 3), _LASH_SIZE_M), opacities=np.full(count, OPACITY), colors=dark,
        triangles=rim.triangles, barycentrics=rim.barycentrics, seen=np.zeros(count, bool))


def _median(values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.median(values, axis=0) if len(values) > 3 else otherwise


def _look_up(colors: Float32, known: NDArray[np.bool_],
             pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours at pixels, and whether they are known there."""
    height, width = known.shape
    x, y = np.clip(pixels, 0, (width - 1, height - 1)).astype(int).T
    return colors[y, x], known[y, x]
