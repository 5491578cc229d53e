"""Between arm and trunk one sees through: the background that a segmenter took for the person."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction.parts import (
    ARMS,
    Part,
    color_bins,
    likeness,
    outer_faces,
    part_of_triangle,
)
from visa_ros.reconstruction.zbuffer import rasterize_some
from visa_ros.types import Camera, Float32, UInt8

_MIN_SIDE_M = 0.03   # a square's of the area below which no gap is looked into
_BESIDE_M = 0.2      # so far around a gap colours are those of its background and of its clothes
_PERSON, _NONE = 0.9, 0.1  # probability beyond which a pixel teaches colours
_SEEN_THROUGH = 0.3  # probability of the person where the segmenter itself sees background
_RIM_PX = 2          # that teaches none
_SPREAD = 0.5        # of colours, in bins: dark walls and dark suits differ by little
_DOUBT = 0.05        # probability that the segmenter errs where it is certain
_MAX_ODDS = 6.0      # of colours, in logarithms
_RADIUS_PX, _EDGE = 4, 0.03  # of the guided filter; difference of colours in [0, 1]
_PASSES = 2          # what is found teaches the background's colours


def open_gaps(model: BodyModel, vertices: Float32, rgb: UInt8, mask: Float32, face: Float32,
              camera: Camera) -> Float32:
    """
    Take the background between arms and trunk out of a segmenter's mask.

    Only where the fitted body has a gap, and only what looks so much more like the background
    around it than like the person that this outweighs what the segmenter says, and goes
    on in what it too calls background: wide sleeves, hair and things that look like neither stay.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The posed body in the camera's frame.
    rgb : (H, W, 3) uint8
    mask : (H, W) float32
        Probability that a pixel shows the person, in [0, 1].
    face : (N, 2) float32
        Landmarks of the face, pixels: gaps are below the chin.
    camera : Camera

    Returns
    -------
    (H, W) float32
        The mask, 0 in such background.

    """
    part, outer = part_of_triangle(model), outer_faces(model, vertices)
    trunk, *arms = (
        rasterize_some(vertices, model.faces, outer & (part == each), camera).triangle >= 0
        for each in (Part.TRUNK, *ARMS))
    body = trunk | arms[0] | arms[1]
    chin = max(0, int(face[:, 1].max()))
    gaps = (_between(trunk, arms[0]) | _between(trunk, arms[1])) & ~body
    gaps[:chin] = False
    px_per_m = camera.K[0, 0] / np.median(vertices[:, 2])
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(gaps.astype(np.uint8))
    result = mask.copy()
    for number in range(1, count):
        left, top, width, height, area = stats[number]
        if area < (_MIN_SIDE_M * px_per_m) ** 2:
            continue
        margin = round(_BESIDE_M * px_per_m)
        around = np.s_[max(0, top - margin):top + height + margin,
                       max(0, left - margin):left + width + margin]
        person = _without_rim((mask > _PERSON) & body)[around]
        for _ in range(_PASSES):
            none = _without_rim((result < _NONE) & ~body)[around]
            seen_through = (pieces[around] == number) & _background(
                rgb[around], result[around], person, none)
            result[around][_touching(seen_through, result[around] < _SEEN_THROUGH)] = 0
    return result


def _between(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels have the one to their left and the other to their right."""
    def right_of(each: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.logical_or.accumulate(each, 1)

    def left_of(each: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return right_of(each[:, ::-1])[:, ::-1]

    return (right_of(first) & left_of(second)) | (right_of(second) & left_of(first))


def _background(rgb: UInt8, mask: Float32, person: NDArray[np.bool_],
                none: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the colours of two kinds of pixels and the mask speak for the background."""
    if not person.any() or not none.any():
        return np.zeros(mask.shape, bool)
    of_pixel = color_bins(rgb)
    odds = np.log(likeness(of_pixel, person, _SPREAD) / likeness(of_pixel, none, _SPREAD))
    odds = cv2.ximgproc.guidedFilter(
        np.ascontiguousarray(rgb), odds.clip(-_MAX_ODDS, _MAX_ODDS).astype(np.float32),
        _RADIUS_PX, (_EDGE * 255) ** 2)
    doubtful = mask.clip(_DOUBT, 1 - _DOUBT)
    return odds + np.log(doubtful / (1 - doubtful)) < 0


def _touching(where: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the pieces that go on in what is known: islands are folds and shadows."""
    _, pieces = cv2.connectedComponents((where | known).astype(np.uint8))
    return where & np.isin(pieces, np.unique(pieces[known]))


def _without_rim(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return cv2.erode(where.astype(np.uint8), np.ones((2 * _RIM_PX + 1,) * 2, np.uint8)) > 0
