"""Gaussians that cover the dressed body from all sides, also where no portrait shows it."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from visa_ros.body.model import TRIANGLE_PARTS, VERTEX_PARTS, BodyModel
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import anatomy, broad_normals, shape_offsets
from visa_ros.reconstruction.eyes import eye_colors, lash_lines, lid_colors
from visa_ros.reconstruction.mouth import lip_colors, mouth_colors, seam_distance, teeth_shift
from visa_ros.reconstruction.splats import (
    OPACITY,
    THICKNESS,
    Splats,
    concatenate,
    quats_of,
    splats_of,
)
from visa_ros.reconstruction.surface import Part, Surface
from visa_ros.reconstruction.unseen import vertex_colors
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, Float32

# Distance between the Gaussians.  The legs are never in the picture.
_SPACING_M = {'head': 0.007, 'torso': 0.014, 'left_arm': 0.012, 'right_arm': 0.012,
              'left_hand': 0.007, 'right_hand': 0.007, 'legs': 0.0}
_INNER_SPACING_M = {'eyeball': 0.0013, 'eye_socket': 0.0, 'mouth': 0.003, 'tongue': 0.004,
                    'teeth': 0.0013}
_LID_AND_LIP_SPACING_M, _LID_AND_LIP_REACH_M = 0.0015, 0.012
_UPPER_LID_SPACING_M = 0.001
# A Gaussian's standard deviation over that of its patch: the smallest that leaves no holes; and
# the least and most of it over the spacing; in the portrait, lids and lips are folded.
_PATCH_SIGMA = 1.9
_MIN_SIGMA, _FOLDED_SIGMA, _MAX_SIGMA = 0.6, 0.9, 1.2
_DISC_REACH = 2.0       # a disc shows this many standard deviations far
_TURNED = 0.5           # sine between normal and view from which the normal says where outwards is
# Of a disc at the outline, and beside eyes and teeth.
_MIN_SHRINK, _MIN_LID_SHRINK, _MIN_LIP_SHRINK = 0.2, 0.6, 0.3
_UNDER_PIXELS = 1.0     # how far below the surface the layer lies, in its discs' sizes
_LID_DEPTH_M = 0.001    # the same of lids: they stay before the eye
_INNER_DEPTH_M = 0.002   # and inside: lids and lips close before it
_LID_FROM, _LID_TO = 0.05, 0.5  # of a rim's way to the shut eye: what makes more is lid
_LIP_M = 0.004          # from where the lips meet: their inner half
_MAX_PUSH_M = 0.02      # body in front of what the portrait shows by more than this is not there
_FRAME_MARGIN = 0.04    # of the long side: just out of the frame is as its edge is


def body_layer(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
               alpha: Float32, landmarks: Float32, camera: Camera) -> Splats:
    """Return discs that cover the dressed upper body from all sides."""
    parts = anatomy(model)
    painted = vertex_colors(model, vertices, surface, colors, alpha, landmarks, camera)
    patches = _patches(model, vertices)
    triangles, barycentrics = patches.triangles, patches.barycentrics
    spread, axes = np.linalg.eigh(patches.covariances)
    axes = axes[:, :, ::-1].copy()  # the normal last
    axes[:, :, 2] = np.cross(axes[:, :, 0], axes[:, :, 1])
    sizes = _PATCH_SIGMA * np.sqrt(np.maximum(spread[:, ::-1], 1e-12))
    blink = np.einsum('nv,nv->n', barycentrics, parts.blink[model.faces[triangles]])
    lid = blink > _LID_FROM
    from_lips = seam_distance(model, np.einsum(
        'nv,nvc->nc', barycentrics, model.template[model.faces[triangles]]))
    lips = parts.skin[triangles] & (from_lips < _LIP_M)
    least = (np.where(lid | lips, _FOLDED_SIGMA, _MIN_SIGMA) * patches.spacing)[:, None]
    most = _MAX_SIGMA * patches.spacing[:, None]
    sizes[:, :2] = np.clip(sizes[:, :2], least, most)
    sizes[:, 2] = THICKNESS * sizes[:, 1]

    def blend(values: np.ndarray) -> np.ndarray:
        return np.einsum('nv,nvc->nc', barycentrics, values[model.faces[triangles]])

    normal = blend(broad_normals(vertices, model.faces, parts.edges))
    color = blend(painted)
    skin, mouth = parts.skin[triangles], parts.mouth[triangles]
    lining = model.triangle_parts[triangles] == TRIANGLE_PARTS.index('mouth')
    # Below the pixel layer: along the normal, but in the mouth, whose normals point inwards, away
    # from the camera.
    ray = patches.centers / np.linalg.norm(patches.centers, axis=1, keepdims=True)
    under = np.select([lid, lips], [_LID_DEPTH_M, _INNER_DEPTH_M], _UNDER_PIXELS * sizes[:, 1])
    depth = np.where(skin, under, _INNER_DEPTH_M)[:, None]
    center = patches.centers + depth * np.where(mouth[:, None], ray, -normal)
    opening = surface.part >= Part.LEFT_EYE
    eye = np.isin(surface.part, (Part.LEFT_EYE, Part.RIGHT_EYE))
    around_eye = cv2.dilate(np.where(eye, surface.depth, 0), np.ones((5, 5)))
    upper_teeth = parts.upper_teeth[triangles]
    center[upper_teeth] += teeth_shift(model, vertices, surface, landmarks, camera)
    behind = _behind_picture(center, np.minimum(sizes[:, 0], under), surface, alpha, camera)
    # What does not close over an eye lies behind it, and does not glow over it.
    aside = _at(around_eye, center, camera) - center[:, 2]
    behind = np.where(skin & ~lid, np.maximum(behind, aside), behind)
    kept = behind < _MAX_PUSH_M
    center += np.clip(behind, 0, _MAX_PUSH_M)[:, None] * ray
    # None may glow over the outline: further in first, and what is still over it smaller.
    across = _size_across_outline(axes, sizes, normal, ray)
    center -= _over_edge(center, across, alpha > 0.5, camera)[:, None] * normal
    over = _over_edge(center, across, alpha > 0.5, camera) / (_DISC_REACH * across)
    sizes *= np.maximum(1 - over, _MIN_SHRINK)[:, None]
    kept &= _behind_picture(center, sizes[:, 0], surface, alpha, camera) < np.inf
    # Nor far over eyes and teeth.
    before = (skin | lining) & ~_at(opening, center, camera)
    over = _over_edge(center, sizes[:, 0], ~opening, camera) / (_DISC_REACH * sizes[:, 0])
    shrink = np.where(lid, np.maximum(1.5 - over, _MIN_LID_SHRINK),
                      np.maximum(1 - over, _MIN_LIP_SHRINK))
    sizes[before] *= np.minimum(shrink, 1)[before, None]
    rim = cv2.dilate(eye.astype(np.uint8), np.ones((3, 3))) > 0
    kept &= ~(skin & lid & _at(rim, center, camera))  # lids lie before the eye, never behind

    unfolded = np.clip((blink - _LID_FROM) / (_LID_TO - _LID_FROM), 0, 1)[:, None]
    on_left = model.template[model.faces[triangles, 0], 0] > 0
    for side, eyeball in (('left', parts.left_eye), ('right', parts.right_eye)):
        chosen = eyeball[triangles]
        color[chosen] = eye_colors(center[chosen], side, surface, colors, landmarks, camera)
        chosen = skin & lid & (on_left if side == 'left' else ~on_left)
        crease = _at(cv2.blur(colors, (3, 3)), center[chosen], camera)
        own = lid_colors(center[chosen], side, colors, alpha, landmarks, camera)
        color[chosen] = crease + unfolded[chosen] * (own - crease)
    color[lips] = lip_colors(camera.project(center[lips]), surface, colors)
    color[mouth] = mouth_colors(
        model, triangles[mouth], barycentrics[mouth], surface, colors, landmarks, camera,
        center[mouth])
    discs = splats_of(
        means=center[kept], quats=quats_of(axes[kept]), scales=np.maximum(sizes[kept], 1e-5),
        opacities=np.full(kept.sum(), OPACITY), colors=np.clip(color[kept], 0, 1),
        triangles=triangles[kept], barycentrics=barycentrics[kept],
        seen=np.zeros(kept.sum(), bool))
    return concatenate([
        discs, lash_lines(model, vertices, colors, alpha, landmarks, camera)])


@dataclass(frozen=True, eq=False)
class _Patches:
    """
    Pieces of surface of about one size: large triangles split, small ones put together.

    Attributes
    ----------
    centers, covariances : (N, 3), (N, 3, 3)
        Moments of each piece.
    triangles, barycentrics : (N,), (N, 3)
        A point of the body in it.
    spacing : (N,)
        Metres to the next one, at most.

    """

    centers: np.ndarray
    covariances: np.ndarray
    triangles: np.ndarray
    barycentrics: np.ndarray
    spacing: np.ndarray


def _spacing(model: BodyModel) -> Float32:
    """Return (F,) the wanted distance between Gaussians; 0 for none."""
    parts = anatomy(model)
    of_part = np.array([_SPACING_M[name] for name in VERTEX_PARTS])
    spacing = of_part[model.vertex_parts()[model.faces[:, 0]]]
    features = model.face_landmarks.on(model.template, model.faces)[
        [*face.LEFT_EYE, *face.RIGHT_EYE, *face.UPPER_LIP_INNER, *face.LOWER_LIP_INNER]]
    near = cKDTree(features).query(model.template[model.faces].mean(1))[0] < _LID_AND_LIP_REACH_M
    for name, value in _INNER_SPACING_M.items():
        spacing[model.triangle_parts == TRIANGLE_PARTS.index(name)] = value
    spacing[near & parts.skin] = _LID_AND_LIP_SPACING_M
    spacing[parts.skin & (parts.blink[model.faces].max(1) > _LID_FROM)] = _UPPER_LID_SPACING_M
    # Of eyeballs and teeth, only the front is ever seen.
    a, b, c = np.moveaxis(model.template[model.faces], 1, 0)
    backwards = np.cross(b - a, c - a)[:, 2] <= 0
    solid = parts.left_eye | parts.right_eye | parts.upper_teeth | parts.lower_teeth
    spacing[solid & backwards] = 0
    return spacing


@cache
def _pieces(model: BodyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray, Float32]:
    """
    Divide the surface into pieces, and put small ones together.

    Returns
    -------
    triangles, corners : (N,), (N, 3, 3)
        Of each piece, as ``_split`` returns them.
    patch : (N,)
        Which patch it belongs to.
    spacing : (F,)
        The wanted distance between patches.

    """
    # Lids and lips are folded or short in the portrait: count them as they are when stretched.
    stretched = model.template + shape_offsets(
        model, 'eyeBlinkLeft', 'eyeBlinkRight', 'jawOpen')
    spacing = _spacing(model)
    triangles, corners = _split(model, stretched, np.flatnonzero(spacing > 0), 1.5 * spacing)
    rest = np.einsum('nv,nvc->nc', corners.mean(1), stretched[model.faces[triangles]])
    voxel = np.floor(rest / spacing[triangles][:, None]).astype(int)
    _, size = np.unique(spacing[triangles], return_inverse=True)
    key = np.column_stack([model.vertex_parts()[model.faces[triangles, 0]],
                           model.triangle_parts[triangles], size, voxel - voxel.min(0)])
    _, patch = np.unique(np.ravel_multi_index(key.T, key.max(0) + 1), return_inverse=True)
    return triangles, corners, patch, spacing


def _patches(model: BodyModel, vertices: Float32) -> _Patches:
    """Return the surface's patches on a body with these vertices (V, 3)."""
    triangles, corners, patch, spacing = _pieces(model)
    points = corners @ vertices[model.faces[triangles]]
    center, barycentrics = points.mean(1), corners.mean(1)
    off = points - center[:, None]
    covariance = off.transpose(0, 2, 1) @ off / 12
    area = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]),
                          axis=1) / 2 + 1e-12

    def mean(values: np.ndarray) -> np.ndarray:
        flat = (values.reshape(len(values), -1).T * area).T
        total = np.stack([np.bincount(patch, column) for column in flat.T], 1)
        return (total.T / np.bincount(patch, area)).T.reshape(-1, *values.shape[1:])

    centers = mean(center)
    off = center - centers[patch]
    covariances = mean(covariance + off[:, :, None] * off[:, None, :])
    largest_last = np.lexsort((area, patch))
    chosen = largest_last[np.flatnonzero(np.diff(patch[largest_last], append=-1))]
    return _Patches(centers, covariances, triangles[chosen], barycentrics[chosen],
                    spacing[triangles[chosen]])


def _split(model: BodyModel, vertices: Float32, chosen: np.ndarray,
           limit: Float32) -> tuple[np.ndarray, np.ndarray]:
    """
    Split triangles into four until their edges are short.

    Returns
    -------
    triangles : (N,)
        The triangle that each piece is of.
    corners : (N, 3, 3)
        Barycentrics of each piece's corners.

    """
    triangles, corners = chosen, np.tile(np.eye(3), (len(chosen), 1, 1))
    done_triangles, done_corners = [], []
    a, b, c = np.eye(3)
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    quarters = np.array([(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)])
    while len(triangles):
        points = np.einsum('nkv,nvc->nkc', corners, vertices[model.faces[triangles]])
        longest = np.linalg.norm(points - np.roll(points, 1, 1), axis=2).max(1)
        short = longest <= limit[triangles]
        done_triangles.append(triangles[short])
        done_corners.append(corners[short])
        triangles = triangles[~short].repeat(4)
        corners = np.einsum('hkj,njv->nhkv', quarters, corners[~short]).reshape(-1, 3, 3)
    return np.concatenate(done_triangles), np.concatenate(done_corners)


def _behind_picture(points: Float32, margin: Float32, surface: Surface, alpha: Float32,
                    camera: Camera) -> Float32:
    """
    Return how far points must go back to lie behind what the portrait shows.

    Infinity where it shows that nothing is; negative behind the surface and out of the frame.
    """
    pixels = camera.project(points)
    framed = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(1)
    x, y = nearest_pixels(pixels, camera)
    gap = np.where(framed, surface.depth[y, x] + margin - points[:, 2], -1)
    # Just out of the frame is as its edge is.
    outside = np.abs(pixels - np.stack([x, y], 1)).max(1)
    air = (alpha[y, x] <= 0.5) & (outside < _FRAME_MARGIN * max(alpha.shape))
    return np.where(air, np.inf, gap)


def _size_across_outline(axes: np.ndarray, sizes: np.ndarray, normal: Float32,
                         ray: np.ndarray) -> np.ndarray:
    """Return (N,) discs' sizes as the portrait sees them in the direction of their normals."""
    sideways = normal - np.einsum('nc,nc->n', normal, ray)[:, None] * ray
    length = np.linalg.norm(sideways, axis=1)
    turned = np.einsum('nck,nc->nk', axes, sideways / np.maximum(length, 1e-9)[:, None])
    size = np.linalg.norm(sizes * turned, axis=1)
    return np.where(length > _TURNED, size, sizes[:, 0])  # what faces the camera shows all of it


def _over_edge(points: Float32, sizes: Float32, mask: NDArray[np.bool_],
               camera: Camera) -> Float32:
    """Return by how many metres discs reach over the edge of a mask (H, W)."""
    padded = np.pad(mask, 1, constant_values=True)  # beyond the frame the person goes on
    distance = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = _DISC_REACH * sizes
    pixels = camera.project(points)
    outside = np.abs(pixels - np.clip(pixels, 0, (camera.width, camera.height))).max(1)
    to_edge = (_at(distance, points, camera) + outside) * points[:, 2] / camera.K[0, 0]
    return np.clip(reach - to_edge, 0, reach)


def _at(image: np.ndarray, points: Float32, camera: Camera) -> np.ndarray:
    """Return an image's values where points are seen, or at its nearest pixel."""
    pixels = camera.project(points)
    x, y = nearest_pixels(pixels, camera)
    return image[y, x]
