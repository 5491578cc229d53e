"""What is where on a face: contours of MediaPipe's landmarks, and the body model's inner parts."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from visa_ros.body.model import TRIANGLE_PARTS, BodyModel, SurfacePoints
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX
from visa_ros.types import Float32

# Contours of MediaPipe's 478 face landmarks (face_mesh_connections.py); left is the person's.
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400,
             377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67,
             109)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
NOSE = 1
CHEEKS = (50, 101, 118, 280, 330, 347)
LEFT_IRIS = (473, 474, 475, 476, 477)  # the centre first
RIGHT_IRIS = (468, 469, 470, 471, 472)
# Lips from the right corner to the left one.
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)

# The upper lids from the inner to the outer corner.
UPPER_LID = {'left': (362, 398, 384, 385, 386, 387, 388, 466, 263),
             'right': (133, 173, 157, 158, 159, 160, 161, 246, 33)}

_MOVED_M = 1e-3     # by a blendshape
_RIM_SAMPLES = 8    # from one landmark to the next
_RIM_REACH_M = 0.006
_NORMAL_SMOOTHING = 30.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """
    Parts of a body model's mesh.

    Attributes
    ----------
    skin : (F,) bool
        Triangles that the world sees.
    left_eye, right_eye : (F,) bool
        Triangles of the eyeballs.
    upper_teeth, lower_teeth, tongue : (F,) bool
        Triangles of these.
    mouth : (F,) bool
        Triangles of all that is in the mouth: these and its lining.
    blink : (V,) float32
        How far a lid's vertex goes down when the eyes are shut, over how far the rim goes.
    edges : (E, 2) int
        Pairs of neighbouring vertices.

    """

    skin: NDArray[np.bool_]
    left_eye: NDArray[np.bool_]
    right_eye: NDArray[np.bool_]
    upper_teeth: NDArray[np.bool_]
    lower_teeth: NDArray[np.bool_]
    tongue: NDArray[np.bool_]
    mouth: NDArray[np.bool_]
    blink: Float32
    edges: NDArray[np.int64]


@cache
def anatomy(model: BodyModel) -> Anatomy:
    """Find the parts of a body model."""
    faces = model.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    left, right = ((model.skin_joints[:, 0] == JOINT_INDEX[f'{side}_eye'])[faces].all(1)
                   for side in ('left', 'right'))
    skin, lining, tongue, teeth = (model.triangle_parts == TRIANGLE_PARTS.index(name)
                                   for name in ('skin', 'mouth', 'tongue', 'teeth'))
    with_jaw = shape_offsets(model, 'jawOpen')[faces, 1].min(1) < -_MOVED_M
    blink = -shape_offsets(model, 'eyeBlinkLeft', 'eyeBlinkRight')[:, 1]
    return Anatomy(
        skin, left, right, teeth & ~with_jaw, teeth & with_jaw, tongue, lining | tongue | teeth,
        np.clip(blink / blink.max(), 0, 1), edges)


def shape_offsets(model: BodyModel, *shapes: str) -> Float32:
    """Return how far each vertex goes (V, 3) when these blendshapes are 1."""
    values = np.zeros(len(BLENDSHAPES), np.float32)
    values[[BLENDSHAPE_INDEX[name] for name in shapes]] = 1
    return model.blendshapes.offsets(values, len(model.template))


@cache
def lid_rim(model: BodyModel, side: str) -> SurfacePoints:
    """
    Return the rim of an upper lid, densely: places between its landmarks.

    Of the places near the line between two landmarks those are taken that also move as the line
    does when the eye is shut, so that the rim stays in one piece.
    """
    faces, near = model.faces, np.array(UPPER_LID[side])
    blink = shape_offsets(model, 'eyeBlinkLeft', 'eyeBlinkRight')
    motion = np.concatenate([model.template, blink], 1)
    line = densely(np.einsum('pk,pkc->pc', model.face_landmarks.barycentrics[near],
                             motion[faces[model.face_landmarks.triangles[near]]]))
    middle = model.template[faces].mean(1)
    close = cKDTree(line[:, :3]).query(middle)[0] < _RIM_REACH_M
    candidates = np.flatnonzero(anatomy(model).skin & close)
    grid = np.array([(i, j, 12 - i - j) for i in range(13) for j in range(13 - i)]) / 12
    _, best = cKDTree((grid @ motion[faces[candidates]]).reshape(-1, 6)).query(line)
    return SurfacePoints(candidates[best // len(grid)].astype(np.int32),
                         grid[best % len(grid)].astype(np.float32), np.ones(len(line), np.float32))


def densely(line: Float32) -> Float32:
    """Return the points of a line (P, C) and some between them."""
    steps = np.linspace(0, len(line) - 1, _RIM_SAMPLES * (len(line) - 1) + 1)
    return np.stack([np.interp(steps, range(len(line)), column) for column in line.T], 1)


def laplacian(vertex_count: int, edges: NDArray[np.int64]) -> csr_matrix:
    """Return the graph Laplacian (V, V) of a mesh."""
    links = coo_matrix((np.ones(len(edges)), edges.T), (vertex_count, vertex_count)).tocsr()
    links = links + links.T
    degree = np.asarray(links.sum(1)).ravel()
    return csr_matrix((degree, (np.arange(vertex_count),) * 2)) - links


def vertex_normals(vertices: Float32, faces: NDArray[np.int32]) -> Float32:
    """Return (V, 3) unit normals, the mean of the adjoining triangles' by area."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def broad_normals(vertices: Float32, faces: NDArray[np.int32],
                  edges: NDArray[np.int64]) -> Float32:
    """
    Return (V, 3) unit normals of the broad shape.

    Ears and folds point everywhere; hair and clothes stand off along the shape beneath.
    """
    smoothing = identity(len(vertices)) + _NORMAL_SMOOTHING * laplacian(len(vertices), edges)
    normals = splu(smoothing.tocsc()).solve(vertex_normals(vertices, faces).astype(np.float64))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals.astype(np.float32)
