"""A dressed person as one mesh that follows poses as the body model does."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import TRIANGLE_PARTS, VERTEX_PARTS, Int32, load_body_model
from visa_ros.conventions import BLENDSHAPES, JOINT_INDEX, JOINTS
from visa_ros.training.people.assets import Garment, garment_file, load_garment
from visa_ros.training.people.basemesh import load_base_mesh
from visa_ros.training.people.person import Person
from visa_ros.types import Float32, OperatorPose, UInt8

# What is seen in a pixel: skin and clothes by part of the body, the rest by what it is.
LABELS = ('background', 'face', 'hair', 'torso', 'left_arm', 'right_arm', 'left_hand',
          'right_hand', 'eyes', 'mouth', 'legs', 'brows', 'lashes')

_PART_LABELS = np.array([LABELS.index(name) for name in (
    'face', 'torso', 'left_arm', 'right_arm', 'left_hand', 'right_hand', 'legs')], np.uint8)


# Nobody is photographed below the knees.
_NEVER_SEEN = [JOINT_INDEX[f'{side}_{joint}'] for side in ('left', 'right')
               for joint in ('knee', 'ankle', 'foot')]


@dataclass(frozen=True, eq=False)
class Layer:
    """
    Triangles that share a texture.

    Attributes
    ----------
    name : str
        'skin', 'mouth', 'eyes', 'teeth', 'outfit', 'brows', 'lashes' or 'hair'.
    first, count : int
        Its rows of ``Figure.faces``.

    """

    name: str
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class Figure:
    """
    A person in clothes: N points of several meshes, drawn at M corners and in F triangles.

    Attributes
    ----------
    layers : list of Layer
        Opaque ones first.
    faces : (F, 3) int32
        Corners.
    corner_points : (M,) int32
        The point that each corner is at; corners differ where textures have a seam.
    uvs : (M, 2) float32
        Texture coordinates, v upwards.
    labels : (M,) uint8
        Indices of ``LABELS``.

    """

    layers: list[Layer]
    faces: Int32
    corner_points: Int32
    uvs: Float32
    labels: UInt8
    _rest: Float32
    _joints: Float32
    _skin: sparse.csr_matrix
    _expressions: sparse.csr_matrix
    _point_faces: Int32
    _faces_at_points: sparse.csr_matrix

    def posed(self, pose: OperatorPose) -> tuple[Float32, Float32]:
        """Return the (N, 3) points and their (N, 3) outward normals in the pose's frame."""
        model = load_body_model()
        points = self._rest + (self._expressions @ pose.blendshapes).reshape(-1, 3)
        transforms = joint_transforms(
            model, self._joints, pose.joint_rotations, pose.translation)
        blended = (self._skin @ transforms.reshape(-1, 12)).reshape(-1, 3, 4)
        points = np.einsum('nab,nb->na', blended[..., :3], points) + blended[..., 3]
        a, b, c = (points[self._point_faces[:, corner]] for corner in range(3))
        normals = self._faces_at_points @ np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return points, normals

    def corners(self, layer: Layer) -> slice:
        """Return which corners are a layer's."""
        own = self.faces[layer.first:layer.first + layer.count]
        return slice(int(own.min()), int(own.max()) + 1)

    def chest(self, pose: OperatorPose) -> Float32:
        """Return the (3,) place of the upmost spine joint."""
        transforms = joint_transforms(load_body_model(), self._joints, pose.joint_rotations,
                                      pose.translation)
        return posed_joints(transforms, self._joints)[JOINT_INDEX['spine3']]


def dress(person: Person, assets: Path) -> Figure:
    """
    Put the clothes, hair, eyes, brows, lashes and teeth of a person on the body.

    Raises
    ------
    ResourceError
        An asset is missing.

    """
    model, base = load_body_model(), load_base_mesh()
    shaped = base.shaped(person.betas)
    vertices, joints = model.shaped(person.betas)
    garments = {name: load_garment(garment_file(assets, folder))
                for name, folder in _worn(person) if folder}
    hidden = np.zeros(len(base.template), bool)
    hidden[garments['outfit'].hides] = True
    shown = ~hidden[base.kept][model.faces].all(1)

    builder = _Builder()
    body = _Mesh(vertices, _dense_skin(), _dense_expressions(), model.faces, model.uvs,
                 model.uv_faces, _PART_LABELS[model.vertex_parts()])
    parts = model.triangle_parts
    inside = np.isin(parts, [TRIANGLE_PARTS.index(name) for name in ('mouth', 'tongue')])
    skin = shown & np.isin(parts, [TRIANGLE_PARTS.index(name) for name in ('skin', 'eye_socket')])
    builder.add(body, [('skin', skin, None), ('mouth', inside, 'mouth')])
    for name, garment in garments.items():
        builder.add(_garment_mesh(name, garment, shaped), [
            (name, np.ones(len(garment.faces), bool), _WHOLE_LABELS.get(name))])
    return builder.figure(joints)


_WHOLE_LABELS = {'hair': 'hair', 'eyes': 'eyes', 'teeth': 'mouth', 'brows': 'brows',
                 'lashes': 'lashes'}


@dataclass(frozen=True, eq=False)
class _Mesh:
    points: Float32
    skin: sparse.csr_matrix
    expressions: sparse.csr_matrix
    faces: Int32
    uvs: Float32
    uv_faces: Int32
    labels: UInt8


class _Builder:
    """Joins meshes."""

    def __init__(self) -> None:
        self._meshes: list[_Mesh] = []
        self._layers: list[Layer] = []
        self._faces: list[Int32] = []
        self._point_faces: list[Int32] = []
        self._points: list[Int32] = []
        self._uvs: list[Float32] = []
        self._labels: list[UInt8] = []
        self._point_count = self._corner_count = self._face_count = 0

    def add(self, mesh: _Mesh, layers: list[tuple[str, np.ndarray, str | None]]) -> None:
        """Take some of a mesh's triangles as layers, with the points' labels or their own."""
        below = np.isin(mesh.skin.toarray().argmax(1), _NEVER_SEEN)
        for name, chosen, label in layers:
            wanted = chosen & ~below[mesh.faces].all(1)
            faces, uv_faces = mesh.faces[wanted], mesh.uv_faces[wanted]
            pairs, corners = np.unique(np.stack([faces.ravel(), uv_faces.ravel()], 1), axis=0,
                                       return_inverse=True)
            self._layers.append(Layer(name, self._face_count, len(faces)))
            self._faces.append(self._corner_count + corners.reshape(-1, 3).astype(np.int32))
            self._point_faces.append(self._point_count + faces)
            self._points.append(self._point_count + pairs[:, 0].astype(np.int32))
            self._uvs.append(mesh.uvs[pairs[:, 1]])
            self._labels.append(mesh.labels[pairs[:, 0]] if label is None else np.full(
                len(pairs), LABELS.index(label), np.uint8))
            self._face_count += len(faces)
            self._corner_count += len(pairs)
        self._meshes.append(mesh)
        self._point_count += len(mesh.points)

    def figure(self, joints: Float32) -> Figure:
        point_faces = np.concatenate(self._point_faces)
        rows = point_faces.ravel()
        columns = np.repeat(np.arange(len(point_faces)), 3)
        at_points = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)),
                                      (self._point_count, len(point_faces)))
        return Figure(
            self._layers, np.concatenate(self._faces), np.concatenate(self._points),
            np.concatenate(self._uvs), np.concatenate(self._labels),
            np.concatenate([mesh.points for mesh in self._meshes]), joints,
            sparse.vstack([mesh.skin for mesh in self._meshes], 'csr'),
            sparse.vstack([mesh.expressions for mesh in self._meshes], 'csr'),
            point_faces, at_points)


def _worn(person: Person) -> Iterator[tuple[str, str | None]]:
    """Yield the layers' names and the assets' folders, in the order of drawing."""
    yield 'teeth', f'teeth/{person.teeth}'
    yield 'outfit', f'clothes/{person.outfit}'
    yield 'eyes', 'eyes/high-poly'
    yield 'brows', f'eyebrows/{person.brows}'
    yield 'lashes', f'eyelashes/{person.lashes}'
    yield 'hair', person.hair and f'hair/{person.hair}'


def _garment_mesh(name: str, garment: Garment, shaped: Float32) -> _Mesh:
    base = load_base_mesh()
    skin = _heaviest(garment.binding @ base.skin)
    if name in ('eyes', 'hair'):  # eyes turn by their joints alone, hair is no skin
        expressions = sparse.csr_matrix((3 * len(garment.offsets), len(BLENDSHAPES)),
                                        dtype=np.float32)
    else:
        moves = np.stack([garment.binding @ shape for shape in base.blendshapes])
        moves[np.abs(moves) < 2e-5] = 0
        expressions = sparse.csr_matrix(moves.reshape(len(moves), -1).T)
    parts = np.array([LABELS.index('torso'), *_PART_LABELS[1:]], np.uint8)
    labels = parts[_joint_parts()[skin.toarray().argmax(1)]]
    return _Mesh(garment.on(shaped), skin, expressions, garment.faces, garment.uvs,
                 garment.uv_faces, labels)


def _joint_parts() -> UInt8:
    """Return for each joint its part of the body, an index of ``VERTEX_PARTS``."""
    model = load_body_model()
    out = np.full(len(JOINTS), VERTEX_PARTS.index('torso'), np.uint8)
    out[model.skin_joints[:, 0]] = model.vertex_parts()
    return out


def _heaviest(skin: sparse.csr_matrix, count: int = 4) -> sparse.csr_matrix:
    """Keep each row's largest weights, made to sum to 1."""
    dense = skin.toarray()
    dense[dense < np.sort(dense, 1)[:, -count, None]] = 0
    return sparse.csr_matrix(dense / dense.sum(1, keepdims=True))


def _dense_skin() -> sparse.csr_matrix:
    model = load_body_model()
    rows = np.repeat(np.arange(len(model.template)), model.skin_joints.shape[1])
    return sparse.csr_matrix(
        (model.skin_weights.ravel(), (rows, model.skin_joints.ravel().astype(np.int32))),
        (len(model.template), len(JOINTS)))


def _dense_expressions() -> sparse.csr_matrix:
    """Return the body model's blendshapes as one (3 V, 52) matrix."""
    shapes = load_body_model().blendshapes
    rows = 3 * shapes.vertices[:, None] + np.arange(3)
    columns = np.repeat(np.arange(len(BLENDSHAPES)), np.diff(shapes.starts))
    return sparse.csr_matrix(
        (shapes.deltas.ravel(), (rows.ravel(), np.repeat(columns, 3))),
        (3 * len(load_body_model().template), len(BLENDSHAPES)))
