"""Colours of what the portrait does not show."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.conventions import JOINT_INDEX
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.anatomy import anatomy, laplacian, vertex_normals
from visa_ros.reconstruction.surface import LASHES, Part, Surface
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, Float32

_EARS = [7, 8]      # of MediaPipe's pose landmarks
_ARMS = [VERTEX_PARTS.index('left_arm'), VERTEX_PARTS.index('right_arm')]
_ARMS_AND_HANDS = [*_ARMS, VERTEX_PARTS.index('left_hand'), VERTEX_PARTS.index('right_hand')]
_HAIR_PULL = 1.0    # of the hair's colour on the back of the head, against its neighbours
_SLEEVE_PULL, _FEW = 0.3, 20  # the same of what is nearest on the arms; of so many places
_SKIN_LIKE = 0.35   # summed difference of colours in [0, 1] that may still be skin


def vertex_colors(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32,
                   alpha: Float32, landmarks: Float32, camera: Camera
                   ) -> Float32:
    """
    Return (V, 3) colours.

    What is not seen takes the harmonic continuation of what is: along the surface, smooth and
    without noise, so that the back of the head takes the hair at its sides.  Hands that are not
    seen take the face's skin.
    """
    normals = vertex_normals(vertices, model.faces)
    pixels = camera.project(vertices)
    framed = ((pixels >= 1) & (pixels < (camera.width - 1, camera.height - 1))).all(1)
    x, y = nearest_pixels(pixels, camera)
    facing = -np.einsum('vc,vc->v', normals, vertices) / np.linalg.norm(vertices, axis=1)
    parts = model.vertex_parts()
    arm = np.select([np.isin(parts, (2, 4)), np.isin(parts, (3, 5))],
                    [Part.LEFT_ARM, Part.RIGHT_ARM], Part.TRUNK)
    target = cv2.blur(colors, (3, 3))[y, x].astype(np.float64)
    skin = skin_color(colors, landmarks)
    limb = surface.limbs()[y, x]
    pixel_arm = np.where(limb == Part.CLOTHES, Part.TRUNK, limb)
    seen = (framed & (facing > 0.3) & (alpha[y, x] > 0.95) & (pixel_arm == arm)
            & (np.abs(surface.depth[y, x] - vertices[:, 2]) < 0.01)
            & (surface.part[y, x] < Part.LEFT_EYE))

    # Hair before the chest, or the chin, is not of it.
    torso = parts == VERTEX_PARTS.index('torso')
    on_skin = np.abs(target - skin).sum(1) < _SKIN_LIKE
    seen &= ~torso | (surface.part[y, x] == Part.CLOTHES) | on_skin

    # Lids take the skin around them: what is seen on their rims are lashes.
    rims = landmarks[[*face.LEFT_EYE, *face.RIGHT_EYE]]
    reach = 2 * LASHES * np.ptp(landmarks[:, 1])
    seen &= cKDTree(rims).query(pixels)[0] > reach

    weight = np.where(seen, 1e3, 1e-9)
    for hand in (4, 5):
        if seen[parts == hand].mean() < 0.05:
            weight[parts == hand], target[parts == hand] = 1, skin
    bare = np.isin(parts, _ARMS) & ~seen
    weight[bare], target[bare] = _SLEEVE_PULL, _sleeves(
        model, seen & np.isin(parts, _ARMS_AND_HANDS), target, skin)[bare]
    back, hair = _hair(model, seen, target, skin)
    weight[back & ~seen], target[back & ~seen] = _HAIR_PULL, hair
    edges = anatomy(model).edges
    if (seen & torso).any():  # hair and skin do not run into clothes that are not seen
        edges = edges[~((parts[edges] == VERTEX_PARTS.index('head')).any(1) & torso[edges].any(1))]
    matrix = diags(weight) + laplacian(len(vertices), edges)
    painted = spsolve(matrix.tocsc(), weight[:, None] * target)
    return painted.astype(np.float32)


def _sleeves(model: BodyModel, seen: NDArray[np.bool_], colors: np.ndarray,
             skin: Float32) -> np.ndarray:
    """Return (V, 3) colours of the nearest seen place of an arm, of either one."""
    if seen.sum() < _FEW:
        return np.broadcast_to(skin, colors.shape)
    mirrored = model.template * (-1, 1, 1)
    tree = cKDTree(np.concatenate([model.template[seen], mirrored[seen]]))
    _, nearest = tree.query(model.template, _FEW)
    return np.median(np.tile(colors[seen], (2, 1))[nearest], axis=1)


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


def skin_color(colors: Float32, landmarks: Float32) -> Float32:
    """Return the median colour of the cheeks."""
    cheeks = landmarks[list(face.CHEEKS)]
    x, y = np.clip(cheeks, 0, (colors.shape[1] - 1, colors.shape[0] - 1)).astype(int).T
    return np.median(cv2.blur(colors, (5, 5))[y, x], axis=0)
