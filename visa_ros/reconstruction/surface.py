"""What each pixel of the portrait is a picture of: a place on the dressed body."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import (
    UPPER_LID,
    anatomy,
    densely,
    lid_rim,
    vertex_normals,
)
from visa_ros.reconstruction.parts import (
    ARMS,
    Part,
    find_arms,
    follows_head,
    nearest_pixel,
    outer_faces,
    part_of_triangle,
)
from visa_ros.reconstruction.zbuffer import ZBuffer, rasterize_mesh, rasterize_some
from visa_ros.types import Camera, Float32, UInt8

_LIMBS = (Part.NONE, Part.TRUNK, Part.CLOTHES, *ARMS)
_MAX_BRIDGE_M = 0.01  # smoothing does not build bridges between a hand and what is behind it
LASHES = 0.025  # how far they reach, of the face's height
_EYES_BEHIND_LIDS_M = 0.002  # more than the body has it: lids close before what an eye shows
# Share of a rim's way to the shut eye: lids' pixels that make less stay, more go with the rim.
_STAYS, _GOES = 0.1, 0.5
_RIM_PX = 0.5       # the half of an upper lid's rim that is over the eye
_IRIS = 1.15        # of its radius: beyond begins the white
_SEAM_PX = 1.2      # so far from the lips it is a line, no gap
_BORDERS = 0.2      # of the distance to the upper lip: what is so near to the lower is its own
_LOWER_ROW = 0.2    # of all teeth in sight: fewer are specks
# What is nearest to a pixel beside an edge: first of its limb, then on its side of the step.
_APART_PX, _PX_PER_M, _FAR_M, _PURE_PX = 100, 1000, 9.0, 11
_STILL = 0.3     # share of the head's motion that clothes beside the neck may have
_HANGING = 2     # hair beside the neck is of the same height of it, rather than jaw or shoulder
_STEP_M = 0.012  # between neighbouring pixels: two surfaces, one before the other
_OPEN_MOUTH_PX = 1.5
_GRAZING = 0.25  # cosine between normal and view below which a pixel tells nothing to others


@dataclass(frozen=True, eq=False)
class Surface:
    """
    A place on the body for each pixel, also beside the body.

    Attributes
    ----------
    part : (H, W) uint8
        What the pixel shows, a ``Part``; NONE outside the person.
    depth : (H, W) float32
        Metres along the camera's z.
    normal : (H, W, 3) float32
        Unit, in camera axes.
    triangle : (H, W) int32
        What the pixel moves with.
    barycentric : (H, W, 3) float32
        Where in it.

    """

    part: NDArray[np.uint8]
    depth: Float32
    normal: Float32
    triangle: NDArray[np.int32]
    barycentric: Float32

    def limbs(self) -> NDArray[np.uint8]:
        """Return the (H, W) part without the features of the face."""
        return np.where(np.isin(self.part, _LIMBS), self.part, Part.TRUNK).astype(np.uint8)

    def edges(self) -> NDArray[np.bool_]:
        """Return the (H, W) pixels beside another limb, or a step in depth."""
        limb = self.limbs()
        result = np.zeros(limb.shape, bool)
        for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
            with np.errstate(invalid='ignore'):  # infinite beside the person
                step = np.abs(self.depth[first] - self.depth[second]) > _STEP_M
            step |= limb[first] != limb[second]
            result[first] |= step
            result[second] |= step
        return result & (self.part != Part.NONE)

    def slope(self) -> Float32:
        """Return by how many metres (H, W) depth changes from pixel to pixel, steps left out."""
        depth = np.pad(self.depth, 1, mode='edge')
        total = np.zeros_like(self.depth)
        for before, after in ((depth[:-2, 1:-1], depth[2:, 1:-1]),
                              (depth[1:-1, :-2], depth[1:-1, 2:])):
            with np.errstate(invalid='ignore'):  # infinite beside the person
                first, second = abs(self.depth - before), abs(self.depth - after)
            total += np.fmin(first, second) ** 2
        return np.sqrt(total)

    def unmixed(self, colors: Float32) -> Float32:
        """Return (H, W, 3) colours of which each is of one surface, at the edges of arms too."""
        edge = self.edges()
        arm = np.isin(self.part, list(ARMS))
        beside = cv2.dilate(arm.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        edge &= beside  # what an arm leaves behind is seen; other edges stay as they are
        mixed = edge
        near = cv2.dilate(edge.astype(np.uint8), np.ones((_PURE_PX,) * 2, np.uint8)) > 0
        pure = near & ~mixed & (self.part != Part.NONE)
        if not mixed.any() or not pure.any():
            return colors
        limb, depth = self.limbs(), np.minimum(self.depth, _FAR_M)
        places = np.dstack([*np.indices(limb.shape), limb * _APART_PX, depth * _PX_PER_M])
        _, nearest = cKDTree(places[pure]).query(places[mixed])
        result = colors.copy()
        result[mixed] = colors[pure][nearest]
        return result


def find_surface(model: BodyModel, vertices: Float32, rgb: UInt8, alpha: Float32,
                 clothes: NDArray[np.bool_], landmarks: Float32, camera: Camera) -> Surface:
    """
    Find what each pixel shows.

    The picture says which part a pixel shows (lips and eyes from the face landmarks, arms by
    watershed from where the body has them); the nearest pixel at which the body shows that same
    part says where on the body it is.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The dressed body in the camera's frame.
    rgb : (H, W, 3) uint8
    alpha : (H, W) float32
        The person.
    clothes : (H, W) bool
        As ``find_clothes`` tells them.
    landmarks : (478, 2) float32
        Of the face, pixels.
    camera : Camera

    """
    mask = cv2.dilate((alpha > 0.01).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    everything = rasterize_mesh(vertices, model.faces, camera)
    normals = vertex_normals(vertices, model.faces)
    modelled = _modelled_parts(model, vertices, everything, camera)
    shown = _shown_parts(model, modelled, everything, rgb, mask, landmarks, camera)

    parts, of_triangle = anatomy(model), part_of_triangle(model)
    outside = outer_faces(model, vertices)
    trunk = rasterize_some(vertices, model.faces, outside & (of_triangle == Part.TRUNK), camera)
    shown[clothes & (shown == Part.TRUNK)] = Part.CLOTHES

    result = Surface(shown, everything.depth.copy(), np.zeros((*mask.shape, 3), np.float32),
                     everything.triangle.copy(), everything.barycentric.copy())
    covered = everything.triangle >= 0
    result.normal[covered] = _normals(model, normals, everything, covered)
    lips = np.isin(modelled, (Part.UPPER_LIP, Part.LOWER_LIP))
    known = (trunk.triangle >= 0) & ~lips
    still = known & (follows_head(model)[trunk.triangle] < _STILL)
    _spread(result, Part.TRUNK, known, trunk, model, normals, flat=_HANGING)
    _spread(result, Part.CLOTHES, known, trunk, model, normals, sources=still)
    for part, chosen in ((Part.LEFT_EYE, parts.left_eye), (Part.RIGHT_EYE, parts.right_eye),
                         (Part.UPPER_TEETH, parts.upper_teeth),
                         (Part.LOWER_TEETH, parts.lower_teeth),
                         *((arm, outside & (of_triangle == arm)) for arm in ARMS)):
        if (shown == part).any():
            seen = rasterize_some(vertices, model.faces, chosen, camera)
            _spread(result, part, seen.triangle >= 0, seen, model, normals)
    for part in (Part.UPPER_LIP, Part.LOWER_LIP):
        _spread(result, part, modelled == part, everything, model, normals)
    result.depth[np.isin(shown, (Part.LEFT_EYE, Part.RIGHT_EYE))] += _EYES_BEHIND_LIDS_M
    result.normal[shown >= Part.UPPER_TEETH] = 0, 0, -1
    _bind_dark(result, camera)
    _bind_lids(model, result, landmarks)
    return result


def _bind_dark(surface: Surface, camera: Camera) -> None:
    """
    Let the dark between the lips go with them, the deeper the further from them.

    It is the upper lip's shadow, but for what borders on the lower lip.  A mere line lies before
    the lips, or they would cover it.
    """
    dark = surface.part == Part.MOUTH
    places = np.argwhere(dark)
    upper, lower = (np.argwhere(surface.part == part)
                    for part in (Part.UPPER_LIP, Part.LOWER_LIP))
    if not len(places) or not len(upper) or not len(lower):
        return
    (up, above), (down, below) = (cKDTree(lip).query(places) for lip in (upper, lower))
    source = tuple(np.where((down < _BORDERS * up)[:, None], lower[below], upper[above]).T)
    z = np.maximum(surface.depth[tuple(upper[above].T)], surface.depth[tuple(lower[below].T)])
    inside = np.minimum(up, down) - _SEAM_PX
    surface.depth[dark] = z + np.where(inside > 0, inside, inside - 1) * z / camera.K[0, 0]
    surface.triangle[dark] = surface.triangle[source]
    surface.barycentric[dark] = surface.barycentric[source]


def _bind_lids(model: BodyModel, surface: Surface, landmarks: Float32) -> None:
    """
    Let what the portrait shows of the upper lids go down with their rims, or stay above.

    A lid is folded while the eye is open: bound all along the fold, its few pixels would be torn
    apart when it unfolds.  Lashes stay with their rim; between rim and crease opens the body
    layer.
    """
    blink = anatomy(model).blink
    rims = [lid_rim(model, side) for side in ('left', 'right')]
    triangles, barycentrics = (np.concatenate([getattr(rim, name) for rim in rims])
                               for name in ('triangles', 'barycentrics'))
    lines = np.concatenate([densely(landmarks[list(UPPER_LID[side])])
                            for side in ('left', 'right')])
    share = np.einsum('hwk,hwk->hw', surface.barycentric, blink[model.faces[surface.triangle]])
    trunk = surface.part == Part.TRUNK
    rows, columns = np.nonzero(trunk & (share > _STAYS))
    if not len(rows):
        return
    _, nearest = cKDTree(lines).query(np.stack([columns, rows], 1) + 0.5)
    rim_share = np.einsum('nk,nk->n', barycentrics, blink[model.faces[triangles]])[nearest]
    goes = share[rows, columns] > _GOES * rim_share
    at = rows[goes], columns[goes]
    surface.triangle[at] = triangles[nearest[goes]]
    surface.barycentric[at] = barycentrics[nearest[goes]]

    at = rows[~goes], columns[~goes]
    still = np.argwhere(trunk & (share <= _STAYS))
    source = tuple(still[cKDTree(still).query(np.stack(at, 1))[1]].T)
    surface.triangle[at] = surface.triangle[source]
    surface.barycentric[at] = surface.barycentric[source]


def _normals(model: BodyModel, normals: Float32, seen: ZBuffer,
             where: NDArray[np.bool_]) -> Float32:
    """Return (N, 3) unit normals of chosen pixels."""
    corners = normals[model.faces[seen.triangle[where]]]
    normal = np.einsum('nk,nkc->nc', seen.barycentric[where], corners)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)


# --- parts

def _modelled_parts(model: BodyModel, vertices: Float32, seen: ZBuffer,
                    camera: Camera) -> NDArray[np.uint8]:
    """Return the (H, W) part at which the body's outer skin is seen; NONE elsewhere."""
    parts = np.where(seen.triangle >= 0, part_of_triangle(model)[seen.triangle], Part.NONE)
    parts[(seen.triangle >= 0) & ~outer_faces(model, vertices)[seen.triangle]] = Part.NONE
    points = camera.project(model.face_landmarks.on(vertices, model.faces))
    lips = _lips(points, parts.shape)
    return np.where((parts == Part.TRUNK) & (lips > 0), lips, parts).astype(np.uint8)


def _shown_parts(model: BodyModel, modelled: NDArray[np.uint8], seen: ZBuffer, rgb: UInt8,
                 mask: NDArray[np.bool_], landmarks: Float32,
                 camera: Camera) -> NDArray[np.uint8]:
    """Return the (H, W) part that the portrait shows."""
    parts = find_arms(model, modelled, seen, rgb, camera)
    _show_mouth(parts, rgb, landmarks)
    for part, eye, iris, side in (
            (Part.LEFT_EYE, face.LEFT_EYE, face.LEFT_IRIS, 'left'),
            (Part.RIGHT_EYE, face.RIGHT_EYE, face.RIGHT_IRIS, 'right')):
        contour = landmarks[list(eye)]
        contour[np.isin(eye, UPPER_LID[side][1:-1]), 1] += _RIM_PX
        within = _filled(contour, parts.shape)
        parts[within & ~_beside_eye(within, rgb, landmarks[list(iris)])] = part
    return np.where(mask, parts, Part.NONE).astype(np.uint8)


def _lips(points: Float32, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an image of UPPER_LIP and LOWER_LIP, 0 elsewhere."""
    out = np.zeros(shape, np.uint8)
    for part, outer, inner in (
            (Part.UPPER_LIP, face.UPPER_LIP_OUTER, face.UPPER_LIP_INNER),
            (Part.LOWER_LIP, face.LOWER_LIP_OUTER, face.LOWER_LIP_INNER)):
        out[_filled(points[list(outer + inner[::-1])], shape)] = part
    return out


def _filled(polygon: Float32, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels whose centre is in a polygon, and those on its edge."""
    out = np.zeros(shape, np.uint8)
    fixed = np.round((polygon - 0.5) * 16).astype(np.int32)  # cv2 counts from pixel centres
    cv2.fillPoly(out, [fixed], 1, shift=4)
    return out > 0


def _beside_eye(eye: NDArray[np.bool_], rgb: UInt8, iris: Float32) -> NDArray[np.bool_]:
    """Return what between the lids is no eyeball: lashes, their shadow, the corners' flesh."""
    radius = np.linalg.norm(iris[1:] - iris[0], axis=1).max()
    y, x = np.indices(eye.shape)
    white = eye & (np.hypot(x + 0.5 - iris[0, 0], y + 0.5 - iris[0, 1]) > _IRIS * radius)
    if not white.any():
        return white
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light, red = lab[..., 0], lab[..., 1]
    return white & ((light < 0.55 * np.percentile(light[white], 75))
                    | (red > np.median(red[white]) + 14))


def _show_mouth(parts: NDArray[np.uint8], rgb: UInt8, landmarks: Float32) -> None:
    """
    Tell teeth, the dark behind them, and lips between the contours of the lips.

    Teeth are brighter than the dark and less red than the lips; below a gap they are the lower
    ones.
    """
    lips = _lips(landmarks, parts.shape)
    inner = face.UPPER_LIP_INNER + face.LOWER_LIP_INNER[-2:0:-1]
    mouth = _filled(landmarks[list(inner)], parts.shape)
    if not mouth.any() or not lips.any():
        return
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light, red = lab[..., 0], lab[..., 1]
    lip_light, lip_red = np.median(light[lips > 0]), np.median(red[lips > 0])
    upper, lower = landmarks[list(face.UPPER_LIP_INNER)], landmarks[list(face.LOWER_LIP_INNER)]
    is_open = np.linalg.norm(upper - lower, axis=1).max() > _OPEN_MOUTH_PX
    bright = light > max(0.5 * np.percentile(light[mouth], 95), 0.7 * lip_light)
    less_red = red < np.where(light > 1.1 * lip_light, 0.85, 0.65) * lip_red
    teeth = mouth & bright & less_red & is_open
    closed = cv2.morphologyEx(teeth.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    teeth = mouth & (closed > 0)  # with the gaps between them
    dark = mouth & ~teeth & ((light < 0.75 * lip_light) | (red < 0.85 * lip_red) & is_open)
    parts[lips > 0] = lips[lips > 0]
    parts[mouth] = lips[nearest_pixel(lips > 0)][mouth]
    parts[dark] = Part.MOUTH
    parts[teeth] = Part.UPPER_TEETH
    gap = mouth & ~teeth & (np.cumsum(teeth, 0) > 0)
    below = teeth & (np.cumsum(gap, 0) > 1)
    parts[below] = Part.LOWER_TEETH if below.sum() > _LOWER_ROW * teeth.sum() else Part.MOUTH


# --- places

def _spread(surface: Surface, part: Part, known: NDArray[np.bool_], seen: ZBuffer,
            model: BodyModel, normals: Float32, sources: NDArray[np.bool_] | None = None,
            flat: int = 1) -> None:
    """
    Give each pixel of a part its place on the body.

    Where the body does not show the part (``known``), that of the nearest pixel of ``sources``;
    ``flat`` times as far counts what is above or below.
    """
    here = surface.part == part
    if not here.any() or not known.any():
        return
    normal = np.zeros_like(surface.normal)
    normal[known] = _normals(model, normals, seen, known)
    sources = known if sources is None or not sources.any() else sources
    facing = sources & (-normal[..., 2] > _GRAZING)
    wanted = here & ~known
    # The outline's last pixels fall off so steeply that they would come apart as dots.
    beside = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    joined = wanted | here & beside & ~facing
    rows, columns = nearest_pixel(facing if facing.any() else sources, flat)
    rows[known], columns[known] = np.nonzero(known)
    source = rows[here], columns[here]
    for target, values in ((surface.triangle, seen.triangle), (surface.depth, seen.depth),
                           (surface.barycentric, seen.barycentric), (surface.normal, normal)):
        target[here] = values[source]
    near = surface.depth.copy()
    _relax(surface.depth, here, joined)
    np.clip(surface.depth, near - _MAX_BRIDGE_M, near + _MAX_BRIDGE_M, out=surface.depth)
    _relax(surface.normal, here, wanted)
    surface.normal[here] /= np.linalg.norm(surface.normal[here], axis=1, keepdims=True)


def _relax(values: np.ndarray, region: NDArray[np.bool_], free: NDArray[np.bool_],
           rounds: int = 40) -> None:
    """Smooth the free pixels of a region; the others hold what they have."""
    if not free.any():
        return
    rows, columns = (np.flatnonzero(free.any(axis)) for axis in (1, 0))
    window = tuple(slice(max(used[0] - 2, 0), used[-1] + 3) for used in (rows, columns))
    inside, moving = region[window], free[window]
    weight = cv2.blur(inside.astype(np.float32), (5, 5))[moving]
    part = values[window].copy()
    part[~inside] = 0
    for _ in range(rounds):
        part[moving] = (cv2.blur(part, (5, 5))[moving].T / weight).T
    values[free] = part[moving]
