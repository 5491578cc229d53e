"""What is where on a face: contours of MediaPipe's landmarks, and the body model's inner parts."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINT_INDEX
from visa_ros.types import Float32

# Contours of MediaPipe's 478 face landmarks (face_mesh_connections.py); left is the person's.
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400,
             377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67,
             109)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_IRIS = (473, 474, 475, 476, 477)  # the centre first
RIGHT_IRIS = (468, 469, 470, 471, 472)
# Lips from the right corner to the left one.
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)

_LIP_SEAM_M = 0.004
_NORMAL_SMOOTHING = 30.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """
    Parts of a body model's mesh.

    Attributes
    ----------
    left_eye, right_eye : (F,) bool
        Triangles of the eyeballs.
    mouth : (F,) bool
        Triangles of the mouth's inside, tongue and teeth.
    edges : (E, 2) int
        Pairs of neighbouring vertices.

    """

    left_eye: NDArray[np.bool_]
    right_eye: NDArray[np.bool_]
    mouth: NDArray[np.bool_]
    edges: NDArray[np.int64]

    @property
    def skin(self) -> NDArray[np.bool_]:
        """Triangles that the world sees: all but eyeballs and mouth."""
        return ~(self.left_eye | self.right_eye | self.mouth)


@cache
def anatomy(model: BodyModel) -> Anatomy:
    """Find the parts of a body model."""
    faces = model.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    left, right = ((model.skin_joints[:, 0] == JOINT_INDEX[f'{side}_eye'])[faces].all(1)
                   for side in ('left', 'right'))

    # Cut along the seam of the lips and the mesh falls into pieces: the largest is the skin, the
    # others inside the head are the mouth.  The seam itself goes to whichever is nearer.
    seam = _densely(model.face_landmarks.on(model.template, faces)[
        [*UPPER_LIP_INNER, *LOWER_LIP_INNER[-2:0:-1]]])
    on_seam = cKDTree(seam).query(model.template)[0] < _LIP_SEAM_M
    kept = edges[~on_seam[edges].any(1)]
    count = len(model.template)
    links = coo_matrix((np.ones(len(kept)), kept.T), (count, count))
    pieces = connected_components(links, directed=False)[1]
    outside = (pieces == np.bincount(pieces).argmax()) & ~on_seam
    whole = coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    to_skin, to_mouth = (
        dijkstra(whole, directed=False, indices=np.flatnonzero(chosen), unweighted=True,
                 min_only=True) for chosen in (outside, ~outside & ~on_seam))
    mouth = (to_mouth < to_skin)[faces].all(1) & ~left & ~right
    return Anatomy(left, right, mouth, edges)


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


def _densely(loop: Float32) -> Float32:
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    return (loop + steps * (np.roll(loop, -1, 0) - loop)).reshape(-1, 3)
