"""Colours of what is in the mouth: rows of teeth, tongue and lining."""
from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import anatomy, densely, vertex_normals
from visa_ros.reconstruction.surface import Part, Surface
from visa_ros.reconstruction.unseen import skin_color
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, Float32

# Widths of the teeth from the middle on, and how high their crowns are (Wheeler's Dental
# Anatomy, rounded).
_WIDTHS_M = {'upper': np.array([8.5, 6.5, 7.5, 7, 7, 10, 9]) * 1e-3,
             'lower': np.array([5, 5.5, 7, 7, 7, 11, 10.5]) * 1e-3}
_CROWN_M = {'upper': 0.0095, 'lower': 0.0085}
_GAP_M, _GAP_SHADE = 0.0006, 0.12
_IVORY = np.array((1.08, 1.0, 0.88))  # teeth over the whites of the eyes
_SHOWN_M, _INCISORS_M = 0.0035, 0.012  # below the upper lip at rest; to both sides of the middle
_MAX_SHIFT_M = 0.006
_MANY_PX = 20           # that tell a colour
_MIN_TOOTH, _MAX_TOOTH = 0.4, 0.85    # mean of a tooth's channels
# Light that falls into the mouth: it is a third at these distances behind the lips.
_INTO_LINING_M, _INTO_MOUTH_M = 0.010, 0.03
_DEEP = np.array((0.30, 0.13, 0.12))  # what the throat has of the skin's colour
_LINING = np.array((0.85, 0.7, 0.7))  # what lining and tongue have of the lips' colour
_TONGUE = np.array((0.78, 0.58, 0.58))
_FROM_ABOVE = np.array((0, 0.55, 0.83))
_SHADED_FROM_M, _SHADED_OVER_M = 0.014, 0.018  # cheeks shade teeth that are so far to the side


def mouth_colors(model: BodyModel, triangles: NDArray[np.int32], barycentrics: Float32,
                 surface: Surface, colors: Float32, landmarks: Float32,
                 camera: Camera, points: Float32) -> Float32:
    """
    Return colours (N, 3) of points in the mouth.

    Teeth that the portrait shows are its own; others are as bright as these, or as the whites of
    the eyes.  The lining continues the lips into the dark.

    Parameters
    ----------
    model : BodyModel
    triangles, barycentrics : (N,), (N, 3)
        The points' places on the body.
    surface : Surface
        What the pixels show.
    colors : (H, W, 3) float32
    landmarks : (478, 2) float32
    camera : Camera
    points : (N, 3) float32
        Where they are in the portrait.

    """
    parts = anatomy(model)
    rest = np.einsum('nk,nkc->nc', barycentrics, model.template[model.faces[triangles]])
    inwards = seam_distance(model, rest)
    front = model.face_landmarks.on(model.template, model.faces)[13, 2]
    light = np.exp(-np.maximum(front - rest[:, 2] - 0.01, 0) / _INTO_MOUTH_M)[:, None]

    skin = skin_color(colors, landmarks)
    pixels = camera.project(points)
    lips = lip_colors(pixels, surface, colors)
    wet = np.exp(-inwards / _INTO_LINING_M)[:, None]
    result = wet * _LINING * lips + (1 - wet) * light * skin * _DEEP
    tongue = parts.tongue[triangles]
    normals = np.einsum('nk,nkc->nc', barycentrics, vertex_normals(
        model.template, model.faces)[model.faces[triangles]])
    lit = 0.6 + 0.4 * np.clip(normals @ _FROM_ABOVE, 0, 1)[:, None]
    result[tongue] = (lit * light * _TONGUE * np.median(lips, axis=0))[tongue]
    tooth = tooth_color(surface, colors)
    x, y = nearest_pixels(pixels, camera)
    for row, part, faces in (('upper', Part.UPPER_TEETH, parts.upper_teeth),
                             ('lower', Part.LOWER_TEETH, parts.lower_teeth)):
        own = faces[triangles]
        crown, shade = _crowns(model, row, rest[own])
        drawn = crown[:, None] * tooth + (1 - crown[:, None]) * _LINING * lips[own]
        drawn *= shade[:, None]
        shown = surface.part[y[own], x[own]] == part
        result[own] = np.where(shown[:, None], colors[y[own], x[own]], drawn)
    return result.astype(np.float32)


def seam_distance(model: BodyModel, rest: Float32) -> Float32:
    """Return how far (N,) points of the rest body are from where the lips meet, metres."""
    points = model.face_landmarks.on(model.template, model.faces)
    seam = np.concatenate([densely(points[list(lip)])
                           for lip in (face.UPPER_LIP_INNER, face.LOWER_LIP_INNER)])
    return cKDTree(seam).query(rest)[0]


def teeth_shift(model: BodyModel, vertices: Float32, surface: Surface, landmarks: Float32,
                camera: Camera) -> Float32:
    """
    Return by how much (3,) the upper teeth must move to end where the portrait shows them to.

    Behind closed lips they end as far below the upper lip as they do on people at rest.
    """
    parts = anatomy(model)
    row = np.unique(model.faces[parts.upper_teeth])
    arch, _, edge = _arch(model, 'upper')
    front = row[np.abs(model.template[row, 0]) < 0.25 * arch.max()]
    height = model.template[front, 1]
    cutting, rooted = (vertices[front[height < edge + 0.001]].mean(0),
                       vertices[front[height > height.max() - 0.001]].mean(0))
    down = (cutting - rooted) / np.linalg.norm(cutting - rooted)
    center, along = camera.project(np.stack([cutting, cutting + 1e-3 * down]))
    px_per_m = 1e3 * np.linalg.norm(along - center)
    lip = landmarks[face.UPPER_LIP_INNER[len(face.UPPER_LIP_INNER) // 2]]
    target = lip[1] + _SHOWN_M * px_per_m
    rows, columns = np.nonzero(surface.part == Part.UPPER_TEETH)
    middle = np.abs(columns + 0.5 - center[0]) < _INCISORS_M * px_per_m
    if middle.any():
        target = max(target, np.percentile(rows[middle], 90) + 1)
    shift = np.clip((target - center[1]) / px_per_m, 0, _MAX_SHIFT_M)
    return (shift * down).astype(np.float32)


def tooth_color(surface: Surface, colors: Float32) -> Float32:
    """Return the colour of teeth: those in sight, else as the whites of the eyes are lit."""
    teeth = colors[np.isin(surface.part, (Part.UPPER_TEETH, Part.LOWER_TEETH))]
    eyes = colors[np.isin(surface.part, (Part.LEFT_EYE, Part.RIGHT_EYE))]
    white = np.full(3, 0.7)
    if len(eyes) > _MANY_PX:
        white = np.median(eyes[eyes.sum(1) > np.quantile(eyes.sum(1), 0.7)], axis=0)
    mean = white.mean()
    drawn = np.clip(mean, _MIN_TOOTH, _MAX_TOOTH) / mean * (0.5 * white + 0.5 * mean * _IVORY)
    if len(teeth) < _MANY_PX:
        return drawn
    seen = np.median(teeth[teeth.sum(1) >= np.quantile(teeth.sum(1), 0.6)], axis=0)
    return seen * max(1, drawn.mean() / seen.mean())  # few are in the lips' shadow


def _crowns(model: BodyModel, row: str, rest: Float32) -> tuple[Float32, Float32]:
    """Return how much each point (N, 3) of a row is tooth and not gum, and its shade."""
    arch, length, edge = _arch(model, row)
    along = np.abs(np.interp(rest[:, 0], arch, length))
    high = np.abs(rest[:, 1] - edge)
    crown = np.clip((_CROWN_M[row] - high) / 0.001, 0, 1)
    borders = np.concatenate([[0], np.cumsum(_WIDTHS_M[row])])
    gap = np.abs(along[:, None] - borders).min(1)
    aside = np.maximum(along - _SHADED_FROM_M, 0) / _SHADED_OVER_M
    shade = np.exp(-aside ** 2) * (1 - _GAP_SHADE * np.exp(-(gap / _GAP_M) ** 2))
    return crown, shade


@cache
def _arch(model: BodyModel, row: str) -> tuple[Float32, Float32, float]:
    """Return x along a row's edge, the length along it from the middle, and its height."""
    parts = anatomy(model)
    faces = parts.upper_teeth if row == 'upper' else parts.lower_teeth
    points = model.template[np.unique(model.faces[faces])]
    edge = points[:, 1].min() if row == 'upper' else points[:, 1].max()
    bins = np.linspace(points[:, 0].min(), points[:, 0].max(), 24)
    near = cKDTree(points[:, :1]).query(bins[:, None], k=6)[1]
    front = points[near, 2].max(1)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(bins), np.diff(front)))])
    return bins, length - np.interp(0, bins, length), float(edge)


def lip_colors(pixels: Float32, surface: Surface, colors: Float32) -> Float32:
    """Return the colour (N, 3) of the lips where they are nearest to pixels (N, 2)."""
    lips = np.isin(surface.part, (Part.UPPER_LIP, Part.LOWER_LIP))
    if not lips.any():
        return np.full((len(pixels), 3), 0.5, np.float32)
    smooth = cv2.blur(colors * lips[..., None], (5, 5)) / np.maximum(
        cv2.blur(lips.astype(np.float32), (5, 5)), 1e-6)[..., None]
    known = np.argwhere(cv2.erode(lips.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    known = known if len(known) else np.argwhere(lips)
    y, x = known[cKDTree(known[:, ::-1] + 0.5).query(pixels)[1]].T
    return smooth[y, x]
