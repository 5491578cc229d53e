"""Where MediaPipe's face landmarks lie on the body: found by showing it renders of the body."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visa_ros._optional import require
from visa_ros.body.bake.render import BodyRenderer, View
from visa_ros.body.model import BodyModel, SurfacePoints
from visa_ros.capture.models import load_model
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX
from visa_ros.errors import ResourceError
from visa_ros.types import Camera, Float32

_SIZE_PX = 640
_DISTANCE_M = 0.9
_VIEW_M = 0.36  # what the picture's side covers at the head
_YAWS_DEG = (-24.0, -12.0, 0.0, 12.0, 24.0)
_UNCERTAIN = 0.05  # the share of landmarks that is not to be used

# The lips' inner contours, without the corners of the mouth (61, 291).
_UPPER_LIP_INNER = [191, 80, 81, 82, 13, 312, 311, 310, 415]
_LOWER_LIP_INNER = [95, 88, 178, 87, 14, 317, 402, 318, 324]

# MediaPipe pose landmarks 0..10 by face landmark; the ears are not in the face mesh.
_POSE_FROM_FACE = {0: 1, 1: 362, 2: 473, 3: 263, 4: 133, 5: 468, 6: 33, 9: 291, 10: 61}


@dataclass(frozen=True, eq=False)
class Head:
    """A person to show: (V, 3) rest vertices, metres, and the skin texture's file."""

    vertices: Float32
    skin: Path


def face_landmarks(model: BodyModel, heads: list[Head]) -> tuple[SurfacePoints, dict]:
    """
    Find MediaPipe's 478 face landmarks on the surface.

    Each head is drawn from several sides; the surface under every landmark is brought to the
    mean shape, and the median over all views, moved to the nearest seen surface, is kept.

    Returns
    -------
    points : SurfacePoints
        Weight ``1 / (1 + spread / median spread)``, 0 for the least certain 5 %.
    figures : dict
        Spread among the views in millimetres.

    """
    cv2 = require('cv2')
    vision = require('mediapipe.tasks.python.vision')
    base = require('mediapipe.tasks.python.core.base_options')
    mediapipe = require('mediapipe')
    renderer = BodyRenderer(model, _SIZE_PX, _SIZE_PX)
    camera = Camera.from_focal(_SIZE_PX * _DISTANCE_M / _VIEW_M, _SIZE_PX, _SIZE_PX)
    hits, seen = [], np.zeros(len(model.faces), bool)
    with vision.FaceLandmarker.create_from_options(vision.FaceLandmarkerOptions(
            base_options=base.BaseOptions(model_asset_buffer=load_model('face_landmarker.task')),
            num_faces=1)) as detector:
        for head in heads:
            picture = cv2.imread(str(head.skin))
            if picture is None:
                raise ResourceError(f'cannot read the skin texture {head.skin}')
            renderer.set_skin(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            for yaw in _YAWS_DEG:
                view = renderer.draw(head.vertices, camera, _look(model, head.vertices, yaw))
                image = mediapipe.Image(mediapipe.ImageFormat.SRGB, view.rgb)
                for face in detector.detect(image).face_landmarks:
                    pixels = np.array([[point.x, point.y] for point in face]) * _SIZE_PX
                    hits.append(_surface_under(model, view, pixels))
                    seen[view.triangles[view.triangles >= 0]] = True
    if len(hits) < len(heads) * len(_YAWS_DEG) / 2:
        raise ResourceError(f'MediaPipe found a face in {len(hits)} of '
                            f'{len(heads) * len(_YAWS_DEG)} renders; look at them')
    found = np.stack(hits)
    place = np.nanmedian(found, 0)
    spread = np.nanmedian(np.linalg.norm(found - place, axis=2), 0)
    spread[~np.isfinite(place).all(1)] = np.inf
    triangles, barycentrics = _nearest(model, np.nan_to_num(place), seen)
    on_jaw = _moves_with_jaw(model, place[[61, 291]])
    for lip, own in ((_UPPER_LIP_INNER, ~on_jaw), (_LOWER_LIP_INNER, on_jaw)):
        # On a shut mouth both contours are one line; each belongs on its own lip.
        triangles[lip], barycentrics[lip] = _nearest(model, place[lip], seen & own)
    weights = 1 / (1 + spread / np.median(spread))
    weights[spread >= np.quantile(spread, 1 - _UNCERTAIN)] = 0
    figures = {'views': len(hits), 'spread_median_mm': round(1e3 * float(np.median(spread)), 2),
               'spread_p95_mm': round(1e3 * float(np.quantile(spread, 0.95)), 2)}
    return SurfacePoints(triangles, barycentrics, weights.astype(np.float32)), figures


def pose_landmarks(model: BodyModel, face: SurfacePoints, ears: Float32) -> SurfacePoints:
    """
    Return MediaPipe's pose landmarks 0 to 10: the face's own, and the ears.

    Parameters
    ----------
    model : BodyModel
        The surface.
    face : SurfacePoints
        The face landmarks.
    ears : (2, 3)
        Middle of the left and the right ear on the mean shape.

    """
    triangles = np.zeros(11, np.int32)
    barycentrics, weights = np.zeros((11, 3), np.float32), np.ones(11, np.float32)
    for pose, mesh in _POSE_FROM_FACE.items():
        triangles[pose], barycentrics[pose] = face.triangles[mesh], face.barycentrics[mesh]
    triangles[7:9], barycentrics[7:9] = _nearest(model, ears, np.ones(len(model.faces), bool))
    return SurfacePoints(triangles, barycentrics, weights)


def _look(model: BodyModel, vertices: Float32, yaw_deg: float) -> Float32:
    """Return T_camera_body of a camera before the face, the body turned by ``yaw_deg``."""
    eyes = np.isin(model.skin_joints[:, 0], [JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']])
    target = vertices[eyes].mean(0) - [0, 0.035, 0.05]
    c, s = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    R = np.diag([1.0, -1, -1]) @ turn
    return np.column_stack([R, [0, 0, _DISTANCE_M] - R @ target])


def _surface_under(model: BodyModel, view: View, pixels: np.ndarray) -> np.ndarray:
    """Return the mean shape's (P, 3) points seen at these pixels; NaN where there is none."""
    column, row = np.clip(pixels.astype(int), 0, _SIZE_PX - 1).T
    triangles = view.triangles[row, column]
    points = np.einsum('pk,pkc->pc', view.barycentrics[row, column],
                       model.template[model.faces[triangles]])
    points[triangles < 0] = np.nan
    return points


def _moves_with_jaw(model: BodyModel, mouth_corners: np.ndarray) -> np.ndarray:
    """Return (F,) which triangles an opening jaw takes further down than the mouth's corners."""
    values = np.zeros(len(BLENDSHAPES), np.float32)
    values[BLENDSHAPE_INDEX['jawOpen']] = 1
    down = -model.blendshapes.offsets(values, len(model.template))[model.faces, 1].mean(1)
    every = np.ones(len(model.faces), bool)
    corners, _ = _nearest(model, mouth_corners, every)
    return down > down[corners].mean()


def _nearest(model: BodyModel, points: np.ndarray,
             allowed: np.ndarray) -> tuple[np.ndarray, Float32]:
    """Return triangle and barycentrics of the nearest of many samples of the allowed surface."""
    from scipy.spatial import cKDTree

    middle = model.template[model.faces].mean(1)
    close = cKDTree(points).query(middle)[0] < 0.02
    candidates = np.flatnonzero(allowed & close)
    samples = np.random.default_rng(0).dirichlet([0.7] * 3, (len(candidates), 200))
    samples = samples.astype(np.float32)
    surface = samples @ model.template[model.faces[candidates]]
    _, best = cKDTree(surface.reshape(-1, 3)).query(points)
    return candidates[best // 200].astype(np.int32), samples.reshape(-1, 3)[best]
