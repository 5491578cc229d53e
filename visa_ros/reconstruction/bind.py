"""From a fitted body and a portrait to Gaussians that hang on the body."""
from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import anatomy, broad_normals, laplacian, vertex_normals
from visa_ros.reconstruction.cells import detail_cells
from visa_ros.reconstruction.surface import LASHES, Part, Surface
from visa_ros.reconstruction.zbuffer import project
from visa_ros.types import Camera, Float32

# A Gaussian's standard deviation over the side of the cell, or over that of the patch of surface,
# that it stands for; by looking for the smallest that leaves no holes.
_CELL_SIGMA = 0.6
_PATCH_SIGMA = 1.9
_PATCH_SIGMAS = np.array([0.6, 1.2])  # least and most, over the spacing
_THICKNESS = 0.2        # of a disc, over its in-plane size
_MAX_STRETCH = 2.5      # of a disc that the portrait sees at a grazing angle
_OPACITY = 0.97
# Distance between the Gaussians of the body layer.  The legs are never in the picture.
_SPACING_M = {'head': 0.007, 'torso': 0.014, 'left_arm': 0.012, 'right_arm': 0.012,
              'left_hand': 0.007, 'right_hand': 0.007, 'legs': 0.0}
_EYE_SPACING_M = 0.0015
_LID_AND_LIP_SPACING_M, _LID_AND_LIP_REACH_M = 0.0015, 0.012
_STRETCHED = np.zeros(len(BLENDSHAPES), np.float32)
_STRETCHED[[BLENDSHAPE_INDEX[name] for name in ('eyeBlinkLeft', 'eyeBlinkRight', 'jawOpen')]] = 1
_UNDER_PIXELS = 1.0  # how far below the surface the body layer lies, in its discs' sizes
_DISC_REACH = 2.0       # a disc shows this many standard deviations far
_MIN_SHRINK = 0.2
_EARS = [7, 8]          # of MediaPipe's pose landmarks
_HAIR_PULL = 1.0        # of the hair's colour on the back of the head, against its neighbours
_SKIN_LIKE = 0.35       # summed difference of colours in [0, 1] that may still be skin
_MAX_PUSH_M = 0.02     # body in front of what the portrait shows by more than this is not there
_FRAME_MARGIN = 0.04    # of the long side
_EYE_DEPTH_M, _MOUTH_DEPTH_M = 0.001, 0.01  # the same inside: lids and lips close before them


@dataclass(frozen=True, eq=False)
class Splats:
    """
    Gaussians in the portrait camera's frame, each tied to a point of the body (N Gaussians).

    Attributes
    ----------
    means, quats, scales, opacities, colors : float32
        As in ``GaussianAvatar``.
    triangles, barycentrics
        As in ``GaussianAvatar``.
    seen : (N,) bool
        Whether the portrait shows it.

    """

    means: Float32
    quats: Float32
    scales: Float32
    opacities: Float32
    colors: Float32
    triangles: NDArray[np.int32]
    barycentrics: Float32
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.means)


def concatenate(layers: list[Splats]) -> Splats:
    """Return several layers as one."""
    return Splats(*(np.concatenate([getattr(layer, field.name) for layer in layers])
                    for field in fields(Splats)))


def bind(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32, alpha: Float32,
         landmarks: Float32, camera: Camera, count: int) -> Splats:
    """
    Place about ``count`` Gaussians.

    The body layer covers the dressed body, also where the portrait does not see it; the pixel
    layer repeats the portrait on top of it, finer where there is more to see.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The dressed body in the camera's frame.
    surface : Surface
        What the pixels show.
    colors, alpha : (H, W, 3), (H, W) float32
        The person without the background.
    landmarks : (478, 2) float32
        Of the face, pixels.
    camera : Camera
    count : int

    """
    body = body_layer(model, vertices, surface, colors, alpha, landmarks, camera)
    pixels = pixel_layer(surface, colors, alpha, landmarks, camera, max(count - len(body), 1000))
    return concatenate([body, pixels])


# --- pixels

def pixel_layer(surface: Surface, colors: Float32, alpha: Float32, landmarks: Float32,
                camera: Camera, count: int) -> Splats:
    """Return discs on the surface that show the portrait."""
    mask = alpha > 0.04
    field = np.dstack([colors * alpha[..., None], alpha, surface.part * 1.0,
                       np.where(mask, surface.depth, 0) * 10]).astype(np.float32)
    cells = detail_cells(field, mask, _importance(landmarks, alpha.shape), count)
    coverage = cells.mean(alpha)
    color = cells.mean(colors * alpha[..., None]) / coverage[:, None]
    x = np.minimum(cells.x + cells.size // 2, camera.width - 1)
    y = np.minimum(cells.y + cells.size // 2, camera.height - 1)
    z = surface.depth[y, x]
    K = camera.K
    rays = np.column_stack([(cells.centers - K[:2, 2]) / (K[0, 0], K[1, 1]), np.ones(len(z))])
    side = cells.size * z / K[0, 0]
    quats, stretch = _discs(surface.normal[y, x], rays)
    scales = _CELL_SIGMA * side[:, None] * np.column_stack(
        [stretch, np.ones_like(side), np.full_like(side, _THICKNESS / _CELL_SIGMA)])
    return _splats(
        means=rays * z[:, None], quats=quats, scales=scales, opacities=_OPACITY * coverage,
        colors=color, triangles=surface.triangle[y, x],
        barycentrics=surface.barycentric[y, x], seen=np.ones(len(z), bool))


def _importance(landmarks: Float32, shape: tuple[int, ...]) -> Float32:
    """Return (H, W) weights: what people look at is painted finer."""
    weight = np.ones(shape, np.float32)
    low, high = landmarks.min(0), landmarks.max(0)
    center, size = (low + high) / 2, (high - low).max()
    y, x = np.indices(shape)
    distance = np.hypot(x + 0.5 - center[0], y + 0.5 - center[1])
    weight += 1.0 * (distance < size)
    weight += 6.0 * (distance < 0.6 * size)
    return weight


def _discs(normal: Float32, rays: Float32) -> tuple[Float32, Float32]:
    """
    Return quaternions of discs on a surface, and how much each is stretched.

    The first axis is the direction in which the surface runs away from the camera; a disc is
    stretched along it so that it covers its pixels.
    """
    view = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    facing = -np.einsum('nc,nc->n', normal, view)
    away = view + facing[:, None] * normal
    length = np.linalg.norm(away, axis=1, keepdims=True)
    sideways = np.cross(normal, np.array((0.0, 1.0, 0.0)))
    first = np.where(length > 1e-3, away / np.maximum(length, 1e-9), sideways)
    first -= np.einsum('nc,nc->n', first, normal)[:, None] * normal
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frame = np.stack([first, np.cross(normal, first), normal], 2)
    return _quats(frame), 1 / np.clip(facing, 1 / _MAX_STRETCH, 1)


def _quats(frames: np.ndarray) -> Float32:
    """Return wxyz for (N, 3, 3) rotations."""
    return Rotation.from_matrix(frames).as_quat(scalar_first=True).astype(np.float32)


def _splats(**values: np.ndarray) -> Splats:
    kinds = {'triangles': np.int32, 'seen': bool}
    return Splats(**{name: np.ascontiguousarray(value, kinds.get(name, np.float32))
                     for name, value in values.items()})


# --- body

def body_layer(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
               alpha: Float32, landmarks: Float32, camera: Camera) -> Splats:
    """Return discs that cover the dressed upper body from all sides."""
    parts = anatomy(model)
    painted = _vertex_colors(model, vertices, surface, colors, alpha, landmarks, camera)
    patches = _patches(model, vertices, _spacing(model, vertices))
    triangles, barycentrics = patches.triangles, patches.barycentrics
    spread, axes = np.linalg.eigh(patches.covariances)
    axes = axes[:, :, ::-1].copy()  # the normal last
    axes[:, :, 2] = np.cross(axes[:, :, 0], axes[:, :, 1])
    sizes = _PATCH_SIGMA * np.sqrt(np.maximum(spread[:, ::-1], 1e-12))
    least, most = _PATCH_SIGMAS[:, None, None] * patches.spacing[:, None]
    sizes[:, :2] = np.clip(sizes[:, :2], least, most)
    sizes[:, 2] = _THICKNESS * sizes[:, 1]

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
        color[chosen] = _eye_colors(center[chosen], side, surface, colors, landmarks, camera)
    return _splats(
        means=center[kept], quats=_quats(axes[kept]), scales=np.maximum(sizes[kept], 1e-5),
        opacities=np.full(kept.sum(), _OPACITY), colors=np.clip(color[kept], 0, 1),
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


# --- colours of what is not seen

def _vertex_colors(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
                   alpha: Float32, landmarks: Float32, camera: Camera
                   ) -> Float32:
    """
    Return (V, 3) colours.

    What is not seen takes the harmonic continuation of what is: along the surface, smooth and
    without noise, so that the back of the head takes the hair at its sides.  Hands that are not
    seen take the face's skin.
    """
    normals = vertex_normals(vertices, model.faces)
    pixels = project(vertices, camera)
    framed = ((pixels >= 1) & (pixels < (camera.width - 1, camera.height - 1))).all(1)
    x, y = np.clip(pixels, 0, (camera.width - 1, camera.height - 1)).astype(int).T
    facing = -np.einsum('vc,vc->v', normals, vertices) / np.linalg.norm(vertices, axis=1)
    parts = model.vertex_parts()
    arm = np.select([np.isin(parts, (2, 4)), np.isin(parts, (3, 5))],
                    [Part.LEFT_ARM, Part.RIGHT_ARM], Part.TRUNK)
    pixel_arm = np.where(surface.part > Part.RIGHT_ARM, Part.TRUNK, surface.part)[y, x]
    seen = (framed & (facing > 0.3) & (alpha[y, x] > 0.95) & (pixel_arm == arm)
            & (np.abs(surface.depth[y, x] - vertices[:, 2]) < 0.01))

    # Lids take the skin around them: what is seen on their rims are lashes.
    rims = landmarks[[*face.LEFT_EYE, *face.RIGHT_EYE]]
    reach = 2 * LASHES * np.ptp(landmarks[:, 1])
    seen &= cKDTree(rims).query(pixels)[0] > reach

    weight = np.where(seen, 1e3, 1e-9)
    target = cv2.blur(colors, (3, 3))[y, x].astype(np.float64)
    skin = _skin_color(colors, landmarks)
    for hand in (4, 5):
        if seen[parts == hand].mean() < 0.05:
            weight[parts == hand], target[parts == hand] = 1, skin
    back, hair = _hair(model, seen, target, skin)
    weight[back & ~seen], target[back & ~seen] = _HAIR_PULL, hair
    matrix = diags(weight) + laplacian(len(vertices), anatomy(model).edges)
    painted = spsolve(matrix.tocsc(), weight[:, None] * target)
    inside = np.zeros(len(vertices), bool)
    inside[model.faces[anatomy(model).mouth]] = True
    lips = vertices[model.faces[model.face_landmarks.triangles[list(face.UPPER_LIP_INNER)]]]
    depth = np.maximum(vertices[inside, 2] - lips[..., 2].mean(), 0)
    painted[inside] = skin * (0.4, 0.2, 0.2) * (0.2 + 0.8 * np.exp(-depth / 0.015))[:, None]
    return painted.astype(np.float32)


def _hair(model: BodyModel, seen: NDArray[np.bool_], colors: np.ndarray, skin: Float32
          ) -> tuple[NDArray[np.bool_], np.ndarray]:
    """Return which vertices are the back of the head, and the colour of the hair in sight."""
    rest = model.template
    head = model.skin_joints[:, 0] == JOINT_INDEX['head']
    _, height, front = model.pose_landmarks.on(rest, model.faces)[_EARS].mean(0)
    crown = head & (rest[:, 2] < front + 0.08) & (rest[:, 1] > height + 0.04)
    chosen = seen & crown & (np.abs(colors - skin).sum(1) > _SKIN_LIKE)
    if chosen.sum() < 10:  # bald, or under a hood
        return np.zeros(len(rest), bool), skin
    back = head & (rest[:, 2] < front) & (rest[:, 1] > height - 0.02)
    return back, np.median(colors[chosen], axis=0)


def _skin_color(colors: Float32, landmarks: Float32) -> Float32:
    """Return the median colour of the cheeks."""
    cheeks = landmarks[[50, 101, 118, 280, 330, 347]]
    x, y = np.clip(cheeks, 0, (colors.shape[1] - 1, colors.shape[0] - 1)).astype(int).T
    return np.median(cv2.blur(colors, (5, 5))[y, x], axis=0)


def _eye_colors(points: Float32, side: str, surface: Surface, colors: Float32,
                landmarks: Float32, camera: Camera) -> Float32:
    """
    Return colours of an eyeball: what the lids leave to see, and behind them its continuation.

    The iris is completed by its own mirror image through its centre, the white by its median.
    """
    part = Part.LEFT_EYE if side == 'left' else Part.RIGHT_EYE
    iris = landmarks[list(face.LEFT_IRIS if side == 'left' else face.RIGHT_IRIS)]
    center = iris[0]
    radius = np.linalg.norm(iris[1:] - center, axis=1).max()
    height, width = surface.part.shape
    open_pixels = surface.part == part

    def look_up(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.clip(pixels, 0, (width - 1, height - 1)).astype(int).T
        return colors[y, x], open_pixels[y, x]

    def median(chosen: NDArray[np.bool_], otherwise: Float32) -> Float32:
        return np.median(colors[chosen], axis=0) if chosen.sum() > 3 else otherwise

    y, x = np.indices((height, width))
    from_iris = np.hypot(x + 0.5 - center[0], y + 0.5 - center[1])
    bright = colors.sum(2) > np.median(colors[open_pixels].sum(1)) if open_pixels.any() else False
    white = median(open_pixels & (from_iris > 1.1 * radius) & bright, np.full(3, 0.7))
    dark = median(open_pixels & (from_iris < 0.8 * radius), np.full(3, 0.15))

    pixels = project(points, camera)
    in_iris = (np.linalg.norm(pixels - center, axis=1) < radius)[:, None]
    own, own_seen = look_up(pixels)
    mirrored, mirrored_seen = look_up(2 * center - pixels)
    hidden = np.where(in_iris, np.where(mirrored_seen[:, None], mirrored, dark), white)
    return np.where(own_seen[:, None], own, hidden).astype(np.float32)
