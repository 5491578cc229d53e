"""Which pixels show a thing that is held before the body, and is none of the person."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINTS
from visa_ros.reconstruction.anatomy import CHEEKS
from visa_ros.reconstruction.matte import without_specks
from visa_ros.reconstruction.parts import color_bins, color_share, outer_faces
from visa_ros.reconstruction.zbuffer import rasterize_some
from visa_ros.types import Camera, Float32, UInt8

_HOLDING = ('elbow', 'wrist', 'thumb', 'index', 'middle', 'ring', 'pinky')
_CHEEK = 0.06          # radius of the skin that is looked at, of the face's height
_REACH_M = 0.2         # of a thing around forearm and hand
_CLEAR_M = 0.04        # so far from a forearm an arm or the chest show themselves
_MIN_SIDE_M = 0.04     # smaller things are watches, rings and folds
_GLOVE_M = 0.03        # what covers the hand and no more than this around it is worn
_MIN_BEYOND = 0.15     # of a thing's area that is beyond what a glove covers
_RARE = 3e-4           # share of an arm's pixels of one colour, below which it is not the arm's
_COMMON, _MOST_WORN = 3e-3, 0.4  # colours that more than this share of the chest has are clothes
_SPREAD = 1.5          # of colours, in bins
_RIM_PX = 3
_CONTRAST, _MIN_OUTLINED = 18.0, 0.6  # in Lab; share of a thing's outline that has it


def find_held(model: BodyModel, vertices: Float32, rgb: UInt8, alpha: Float32,
              landmarks: Float32, camera: Camera) -> NDArray[np.bool_]:
    """
    Find a thing that hides a forearm or a hand.

    Where the body has forearm and hand, but the picture shows neither skin nor sleeve, there may
    be one; a watershed tells how far it reaches.  It is one if it is large, is no glove, is
    not what the chest wears, and has a clear outline: else the body is not where the arm is.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The posed body in the camera's frame.
    rgb : (H, W, 3) uint8
    alpha : (H, W) float32
        The person, with what the segmenter took for it.
    landmarks : (478, 2) float32
        Of the face, pixels.
    camera : Camera

    Returns
    -------
    (H, W) bool

    """
    nothing = np.zeros(alpha.shape, bool)
    seen = rasterize_some(vertices, model.faces, outer_faces(model, vertices), camera)
    covered = seen.triangle >= 0
    if not covered.any():
        return nothing
    px_per_m = camera.K[0, 0] / np.median(seen.depth[covered])
    names = np.array([name.split('_')[-1].rstrip('123') for name in JOINTS])
    of_triangle = names[model.skin_joints[model.faces[:, 0], 0]][seen.triangle]
    holding = covered & np.isin(of_triangle, _HOLDING)
    away = cv2.distanceTransform((~holding).astype(np.uint8), cv2.DIST_L2, 3) / px_per_m
    solid = alpha > 0.95
    clear = solid & covered & (away > _CLEAR_M)
    chest = clear & np.isin(of_triangle, ('spine3', 'collar'))
    upper_arm = cv2.erode((clear & (of_triangle == 'shoulder')).astype(np.uint8), np.ones(
        (2 * round(_CLEAR_M * px_per_m / 3) + 1,) * 2, np.uint8), borderValue=0) > 0
    cheeks = np.zeros(alpha.shape, np.uint8)
    for x, y in landmarks[list(CHEEKS)]:
        cv2.circle(cheeks, (int(x), int(y)), int(_CHEEK * np.ptp(landmarks[:, 1])), 1, -1)
    skin = (cheeks > 0) & solid
    sleeve = upper_arm if upper_arm.any() else chest

    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
    of_pixel = color_bins(rgb)
    share = np.maximum(*(color_share(of_pixel, own, _SPREAD) for own in (skin, sleeve)))
    side = max(2, round(_MIN_SIDE_M * px_per_m))
    unlike = (share < _RARE) & (alpha > 0.5)
    seeds = cv2.morphologyEx((unlike & holding).astype(np.uint8), cv2.MORPH_OPEN,
                             np.ones((side // 2,) * 2, np.uint8)) > 0
    if seeds.sum() < side ** 2:
        return nothing
    near = unlike & (away < _REACH_M) & ~upper_arm & ~chest
    near = cv2.morphologyEx(near.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (side // 2 + 1,) * 2))  # without folds and straps
    found = without_specks(near > 0, 4 * side ** 2)
    found = cv2.dilate(found.astype(np.uint8), np.ones((5, 5), np.uint8))
    result = nothing
    _, pieces = cv2.connectedComponents(found)
    for piece in (pieces == number for number in np.unique(pieces[seeds & (found > 0)])):
        beyond = piece & (away > _GLOVE_M)
        like_piece = chest & (color_share(of_pixel, piece, _SPREAD) > _COMMON)
        worn = like_piece.sum() > _MOST_WORN * chest.sum()
        if (piece.sum() >= side ** 2 and not worn and beyond.sum() > _MIN_BEYOND * piece.sum()
                and _outlined(piece, lab, solid) > _MIN_OUTLINED):
            result = result | piece
    if not result.any():
        return result
    # With its rim, what the segmenter left beside it, and where it goes on before the body.
    beside = cv2.distanceTransform((~result).astype(np.uint8), cv2.DIST_L2, 3)
    goes_on = covered & (beside < _REACH_M * px_per_m) & (
        color_share(of_pixel, result, _SPREAD) > _RARE)
    return (beside < _RIM_PX) | (alpha < 0.95) & ((beside < side) | goes_on)


def _outlined(piece: NDArray[np.bool_], lab: np.ndarray, person: NDArray[np.bool_]) -> float:
    """Return the share of a piece's outline at which the colours change, within the person."""
    small = cv2.GaussianBlur(lab, (3, 3), 0).astype(np.float32)
    away = cv2.distanceTransform((~piece).astype(np.uint8), cv2.DIST_L2, 3)
    within = cv2.distanceTransform(piece.astype(np.uint8), cv2.DIST_L2, 3)
    kernel = np.ones((7, 7), np.uint8)
    inner, outer = (within > 2) & (within <= 4), (away > 2) & (away <= 4) & person

    def mean(where: NDArray[np.bool_]) -> np.ndarray:
        weight = cv2.blur(where.astype(np.float32), (9, 9))
        total = cv2.blur(np.where(where[..., None], small, 0), (9, 9))
        return total / np.maximum(weight, 1e-6)[..., None]

    rim = (cv2.dilate(piece.astype(np.uint8), kernel) > 0) & outer
    near = rim & (cv2.blur(inner.astype(np.float32), (9, 9)) > 0)
    if not near.any():
        return 1.0
    step = np.linalg.norm(mean(inner) - mean(outer), axis=2)[near]
    return float((step > _CONTRAST).mean())
