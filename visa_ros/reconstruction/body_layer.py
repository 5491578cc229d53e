"""Gaussians that cover the dressed body from all sides, also where no portrait shows it."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import anatomy, broad_normals
from visa_ros.reconstruction.splats import OPACITY, THICKNESS, Splats, quats_of, splats_of
from visa_ros.reconstruction.surface import Surface
from visa_ros.reconstruction.unseen import eye_colors, vertex_colors
from visa_ros.reconstruction.zbuffer import project
from visa_ros.types import Camera, Float32

# Distance between the Gaussians.  The legs are never in the picture.
_SPACING_M = {'head': 0.007, 'torso': 0.014, 'left_arm': 0.012, 'right_arm': 0.012,
              'left_hand': 0.007, 'right_hand': 0.007, 'legs': 0.0}
_EYE_SPACING_M = 0.0015
_LID_AND_LIP_SPACING_M, _LID_AND_LIP_REACH_M = 0.0015, 0.012
# Lids and lips are counted as they are on this face.
_STRETCHED = np.zeros(len(BLENDSHAPES), np.float32)
_STRETCHED[[BLENDSHAPE_INDEX[name] for name in ('eyeBlinkLeft', 'eyeBlinkRight', 'jawOpen')]] = 1
# A Gaussian's standard deviation over that of its patch: the smallest that leaves no holes; and
# the least and most of it over the spacing.
_PATCH_SIGMA = 1.9
_PATCH_SIGMAS = np.array([0.6, 1.2])
_DISC_REACH = 2.0       # a disc shows this many standard deviations far
_MIN_SHRINK = 0.2       # of a disc at the outline
_UNDER_PIXELS = 1.0     # how far below the surface the layer lies, in its discs' sizes
_EYE_DEPTH_M, _MOUTH_DEPTH_M = 0.001, 0.01  # the same inside: lids and lips close before them
_MAX_PUSH_M = 0.02      # body in front of what the portrait shows by more than this is not there
_FRAME_MARGIN = 0.04    # of the long side: just out of the frame is as its edge is


def body_layer(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
               alpha: Float32, landmarks: Float32, camera: Camera) -> Splats:
    """Return discs that cover the dressed upper body from all sides."""
    parts = anatomy(model)
    painted = vertex_colors(model, vertices, surface, colors, alpha, landmarks, camera)
    patches = _patches(model, vertices, _spacing(model, vertices))
    triangles, barycentrics = patches.triangles, patches.barycentrics
    spread, axes = np.linalg.eigh(patches.covariances)
    axes = axes[:, :, ::-1].copy()  # the normal last
    axes[:, :, 2] = np.cross(axes[:, :, 0], axes[:, :, 1])
    sizes = _PATCH_SIGMA * np.sqrt(np.maximum(spread[:, ::-1], 1e-12))
    least, most = _PATCH_SIGMAS[:, None, None] * patches.spacing[:, None]
    sizes[:, :2] = np.clip(sizes[:, :2], least, most)
    sizes[:, 2] = THICKNESS * sizes[:, 1]

    def blend(values: np.ndarray) -> np.ndarray:
        return np.einsum('nv,nvc->nc', barycentrics, values[model.faces[triangles]])

    normal = blend(broad_normals(vertices, model.faces, parts.edges))
    color = blend(painted)
    # Below the pixel layer: skin along its normal, the mouth (whose normals point inwards) and the
    # eyes away from the camera.
    inner = np.where(parts.mouth, _MOUTH_DEPTH_M, np.where(parts.skin, 0, _EYE_DEPTH_M))
    inner = inner[triangles][:, None]
    ray = patches.centers / np.linalg.norm(patches.centers, axis=1, keepdims=True)
    center = patches.centers + np.where(
        inner > 0, inner * ray, -_UNDER_PIXELS * sizes[:, 1:2] * normal)
    behind = _behind_picture(center, sizes[:, 0], surface, alpha, camera)
    kept = behind < _MAX_PUSH_M
    center += np.clip(behind, 0, _MAX_PUSH_M)[:, None] * ray
    # None may glow over the outline: further in first, and what is still over it smaller.
    center -= _over_outline(center, sizes[:, 0], alpha, camera)[:, None] * normal
    over = _over_outline(center, sizes[:, 0], alpha, camera) / (_DISC_REACH * sizes[:, 0])
    sizes *= np.maximum(1 - over, _MIN_SHRINK)[:, None]
    kept &= _behind_picture(center, sizes[:, 0], surface, alpha, camera) < np.inf
    for side, faces in (('left', parts.left_eye), ('right', parts.right_eye)):
        chosen = faces[triangles]
        color[chosen] = eye_colors(center[chosen], side, surface, colors, landmarks, camera)
    return splats_of(
        means=center[kept], quats=quats_of(axes[kept]), scales=np.maximum(sizes[kept], 1e-5),
        opacities=np.full(kept.sum(), OPACITY), colors=np.clip(color[kept], 0, 1),
        triangles=triangles[kept], barycentrics=barycentrics[kept],
        seen=np.zeros(kept.sum(), bool))


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


def _spacing(model: BodyModel, vertices: Float32) -> Float32:
    """Return (F,) the wanted distance between Gaussians; 0 for none."""
    parts = anatomy(model)
    of_part = np.array([_SPACING_M[name] for name in VERTEX_PARTS])
    spacing = of_part[model.vertex_parts()[model.faces[:, 0]]]
    features = model.face_landmarks.on(vertices, model.faces)[
        [*face.LEFT_EYE, *face.RIGHT_EYE, *face.UPPER_LIP_INNER, *face.LOWER_LIP_INNER]]
    corners = vertices[model.faces]
    near = cKDTree(features).query(corners.mean(1))[0] < _LID_AND_LIP_REACH_M
    spacing[near & parts.skin] = _LID_AND_LIP_SPACING_M
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    in_front = np.einsum('fc,fc->f', outward, corners[:, 0]) < 0
    eyes = parts.left_eye | parts.right_eye
    spacing[eyes] = np.where(in_front[eyes], _EYE_SPACING_M, 0)
    return spacing


def _patches(model: BodyModel, vertices: Float32, spacing: Float32) -> _Patches:
    """Divide the surface into patches of about ``spacing`` (F,)."""
    # Lids and lips are folded or short in the portrait: count them as they are when stretched.
    stretched = model.template + model.blendshapes.offsets(_STRETCHED, len(model.template))
    triangles, corners = _split(model, stretched, np.flatnonzero(spacing > 0), 1.5 * spacing)
    points = np.einsum('nkv,nvc->nkc', corners, vertices[model.faces[triangles]])
    center, barycentrics = points.mean(1), corners.mean(1)
    covariance = np.einsum('nki,nkj->nij', points - center[:, None], points - center[:, None]) / 12
    area = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]),
                          axis=1) / 2 + 1e-12

    # Small pieces of one part in one voxel become one.
    rest = np.einsum('nv,nvc->nc', barycentrics, stretched[model.faces[triangles]])
    voxel = np.floor(rest / spacing[triangles][:, None]).astype(int)
    part = model.vertex_parts()[model.faces[triangles, 0]] + 100 * ~anatomy(model).skin[triangles]
    key = np.column_stack([part, np.round(spacing[triangles] * 1e4), voxel])
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.ravel()

    def mean(values: np.ndarray) -> np.ndarray:
        flat = (values.reshape(len(values), -1).T * area).T
        total = np.stack([np.bincount(group, column) for column in flat.T], 1)
        return (total.T / np.bincount(group, area)).T.reshape(-1, *values.shape[1:])

    centers = mean(center)
    off = center - centers[group]
    covariances = mean(covariance + off[:, :, None] * off[:, None, :])
    largest_last = np.lexsort((area, group))
    chosen = largest_last[np.flatnonzero(np.diff(group[largest_last], append=-1))]
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
    pixels = project(points, camera)
    framed = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(1)
    x, y = np.clip(pixels, 0, (camera.width - 1, camera.height - 1)).astype(int).T
    gap = np.where(framed, surface.depth[y, x] + margin - points[:, 2], -1)
    # Just out of the frame is as its edge is.
    outside = np.abs(pixels - np.stack([x, y], 1)).max(1)
    air = (alpha[y, x] <= 0.5) & (outside < _FRAME_MARGIN * max(alpha.shape))
    return np.where(air, np.inf, gap)


def _over_outline(points: Float32, sizes: Float32, alpha: Float32, camera: Camera) -> Float32:
    """Return by how many metres discs reach over the person's outline."""
    mask = np.pad(alpha > 0.5, 1, constant_values=True)  # beyond the frame the person goes on
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    pixels = project(points, camera)
    x, y = np.clip(pixels, 0, (camera.width - 1, camera.height - 1)).astype(int).T
    reach = _DISC_REACH * sizes
    return np.clip(reach - distance[y, x] * points[:, 2] / camera.K[0, 0], 0, reach)
