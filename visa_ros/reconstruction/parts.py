"""What moves on its own, and which pixels of the portrait show an arm, and which clothes."""
from __future__ import annotations

from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.conventions import JOINT_INDEX
from visa_ros.reconstruction.anatomy import anatomy
from visa_ros.reconstruction.zbuffer import ZBuffer, rasterize_some
from visa_ros.types import Camera, Float32, UInt8


class Part(IntEnum):
    """What moves on its own, so that nothing may be bound across; TRUNK is with head and hair."""

    NONE = 0
    TRUNK = 1
    CLOTHES = 2
    LEFT_ARM = 3
    RIGHT_ARM = 4
    UPPER_LIP = 5
    LOWER_LIP = 6
    LEFT_EYE = 7
    RIGHT_EYE = 8
    UPPER_TEETH = 9
    LOWER_TEETH = 10
    MOUTH = 11  # the dark between lips and teeth


ARMS = {Part.LEFT_ARM: ('left_arm', 'left_hand'), Part.RIGHT_ARM: ('right_arm', 'right_hand')}
_HANDS = (VERTEX_PARTS.index('left_hand'), VERTEX_PARTS.index('right_hand'))
# How far the edge between an arm and the trunk may be from where the body has it: clothes.
_SLEEVE_M, _GLOVE_M = 0.02, 0.006
_RARE = 1e-6  # likeliness of a colour that was never seen
_EDGE = 0.03  # difference of colours in [0, 1] that makes an edge


def part_of_triangle(model: BodyModel) -> NDArray[np.uint8]:
    """Return (F,) the part of each triangle: an arm with its hand, or the trunk."""
    part = np.full(len(model.faces), Part.TRUNK, np.uint8)
    of_body = model.vertex_parts()[model.faces[:, 0]]
    for arm, names in ARMS.items():
        part[np.isin(of_body, [VERTEX_PARTS.index(name) for name in names])] = arm
    return part


def outer_faces(model: BodyModel, vertices: Float32) -> NDArray[np.bool_]:
    """Return which triangles are outer skin, its outside towards the camera."""
    corners = vertices[model.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return anatomy(model).skin & (np.einsum('fc,fc->f', outward, corners[:, 0]) < 0)


def find_arms(model: BodyModel, modelled: NDArray[np.uint8], seen: ZBuffer, rgb: UInt8,
              camera: Camera) -> NDArray[np.uint8]:
    """
    Tell arms from the trunk: by the body, and near its edges by the picture's edges.

    Parameters
    ----------
    model : BodyModel
    modelled : (H, W) uint8
        The part that the body shows; NONE beside it.
    seen : ZBuffer
        Of the body.
    rgb : (H, W, 3) uint8
    camera : Camera

    Returns
    -------
    (H, W) uint8
        TRUNK or an arm, everywhere.

    Notes
    -----
    The body's labels are filtered along the picture (Hosni et al. 2013, "Fast cost-volume
    filtering"): they snap to its edges, and where it has none they stay, smooth.

    """
    known = modelled != Part.NONE
    if not known.any():
        return np.full(modelled.shape, Part.TRUNK, np.uint8)
    nearest = nearest_pixel(known)
    coarse = np.where(np.isin(modelled, list(ARMS)), modelled, Part.TRUNK)[nearest]
    hand = np.isin(model.vertex_parts()[model.faces[:, 0]], _HANDS)[seen.triangle[nearest]]
    px_per_m = camera.K[0, 0] / np.median(seen.depth[known])
    result, best = coarse.copy(), np.full(coarse.shape, -np.inf, np.float32)
    radius = max(2, round(px_per_m * _SLEEVE_M))
    for part in (Part.TRUNK, *ARMS):
        vote = (coarse == part).astype(np.float32)
        if not vote.any():
            continue
        reach = px_per_m * np.where(hand, _GLOVE_M, _SLEEVE_M)
        away = cv2.distanceTransform(1 - vote.astype(np.uint8), cv2.DIST_L2, 3)
        vote = cv2.ximgproc.guidedFilter(rgb, vote, radius, (_EDGE * 255) ** 2)
        better = (vote > best) & (away <= reach)
        result[better], best[better] = part, vote[better]
    return result


def find_clothes(model: BodyModel, vertices: Float32, rgb: UInt8, alpha: Float32, nose: Float32,
                 camera: Camera) -> NDArray[np.bool_]:
    """
    Tell the trunk's clothes from skin and hair, by the colours of head and chest.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The posed body in the camera's frame.
    rgb : (H, W, 3) uint8
    alpha : (H, W) float32
        The person.
    nose : (2,) float32
        Its tip's pixel; no clothes above it.
    camera : Camera

    Returns
    -------
    (H, W) bool
        Means nothing where an arm is shown.

    """
    seen = rasterize_some(vertices, model.faces, outer_faces(model, vertices), camera)
    solid = alpha > 0.95
    trunk = solid & (seen.triangle >= 0) & (part_of_triangle(model)[seen.triangle] == Part.TRUNK)
    with_head = follows_head(model)[seen.triangle]
    head = trunk & (with_head > 0.9) | solid & (np.arange(len(rgb))[:, None] < nose[1])
    chest = trunk & (with_head < 0.02)
    if not chest.any() or not head.any():
        return chest
    of_pixel = color_bins(rgb)
    away_head, away_chest = (cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_L2, 3)
                             for seeds in (head, chest))
    nearer = (away_head - away_chest) / np.maximum(away_head + away_chest, 1)
    odds = np.log(likeness(of_pixel, chest) / likeness(of_pixel, head)) + nearer
    odds = cv2.ximgproc.guidedFilter(rgb, odds.astype(np.float32), 4, (_EDGE * 255) ** 2)
    return (~head & (odds > 0))[nearest_pixel(solid)]


def color_bins(rgb: UInt8) -> NDArray[np.intp]:
    """Return (H, W) the bin of each pixel's colour among 32 x 32 x 32 of Lab."""
    bins = (cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) // 8).astype(np.intp)
    return (bins[..., 0] * 32 + bins[..., 1]) * 32 + bins[..., 2]


def color_share(of_pixel: NDArray[np.intp], seeds: NDArray[np.bool_],
                spread: float) -> NDArray[np.float64]:
    """Return (H, W) what share of the seeds has about each pixel's colour, within bins."""
    count = np.bincount(of_pixel[seeds], minlength=32**3).reshape(32, 32, 32)
    return gaussian_filter(count / max(seeds.sum(), 1), spread).ravel()[of_pixel]


def likeness(of_pixel: NDArray[np.intp], seeds: NDArray[np.bool_],
             spread: float = 1.0) -> NDArray[np.float64]:
    """Return (H, W) how likely each pixel's colour is among the seeds'; ``spread`` is in bins."""
    return color_share(of_pixel, seeds, spread) + _RARE


def follows_head(model: BodyModel) -> Float32:
    """Return (F,) how much of a triangle's motion is that of neck and head."""
    joints = [JOINT_INDEX[name] for name in ('neck', 'head', 'jaw')]
    of_vertex = (model.skin_weights * np.isin(model.skin_joints, joints)).sum(1)
    return of_vertex[model.faces].mean(1)


def nearest_pixel(known: NDArray[np.bool_],
                  flat: int = 1) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of the nearest known pixel, for each; rows are ``flat`` high."""
    tall = known.repeat(flat, 0)
    _, labels = cv2.distanceTransformWithLabels(
        (~tall).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    at = np.zeros(labels.max() + 1, np.intp)
    at[labels[tall]] = np.flatnonzero(tall)
    rows, columns = np.divmod(at[labels[::flat]], known.shape[1])
    return rows // flat, columns
