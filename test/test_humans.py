"""The operator in other robots' words: hinge angles, FACS action units, ROS4HRI's image points."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import humans
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINTS
from visa_ros.reconstruction.portrait import find_person, read_portrait, to_working_size
from visa_ros.types import OperatorPose


@pytest.fixture(scope='module')
def portrait(astronaut):
    """Return the portrait's pose, where its joints are, and its camera."""
    avatar = astronaut[0]
    model = load_body_model(avatar.body_model)
    _, joints = model.shaped(avatar.betas)
    pose = avatar.portrait_pose
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    return pose, posed_joints(transforms, joints), avatar.camera


def rotations_of(angles):
    """Return the rotations of all joints but the root from their hinges."""
    values = dict(zip(humans.HINGES, angles, strict=True))
    out = {}
    for name in JOINTS[1:]:
        hinges = [hinge for hinge in humans.HINGES if hinge.rpartition('_')[0] == name]
        order = ''.join(hinge[-1].upper() for hinge in hinges)
        out[name] = Rotation.from_euler(order, [values[hinge] for hinge in hinges])
    return out


def test_hinges_turn_joints_as_the_pose_says():
    rng = np.random.default_rng(0)
    pose = OperatorPose.rest(joint_rotations=rng.normal(0, 0.6, (55, 3)).astype(np.float32))
    for name, rotation in rotations_of(humans.hinge_angles(pose)).items():
        given = Rotation.from_rotvec(pose.joint_rotations[JOINT_INDEX[name]])
        assert (rotation * given.inv()).magnitude() < 1e-5


@pytest.mark.parametrize(('joint', 'axis'), [
    ('left_elbow', 1), ('right_shoulder', 2), ('left_knee', 0), ('neck', 0), ('left_index2', 2)])
def test_a_right_angle_of_a_usual_movement_is_one_hinge(joint, axis):
    vector = np.zeros((55, 3), np.float32)
    vector[JOINT_INDEX[joint], axis] = np.pi / 2
    angles = humans.hinge_angles(OperatorPose.rest(joint_rotations=vector))
    moved = [name for name, angle in zip(humans.HINGES, angles, strict=True) if abs(angle) > 1e-3]
    assert moved == [f'{joint}_{"xyz"[axis]}']


def test_there_are_three_hinges_for_each_joint_but_the_root():
    assert len(humans.HINGES) == len(set(humans.HINGES)) == 3 * 54


def face(**shapes):
    blendshapes = np.zeros(52, np.float32)
    for name, value in shapes.items():
        blendshapes[BLENDSHAPE_INDEX[name]] = value
    return OperatorPose.rest(blendshapes=blendshapes,
                             confidence=np.array([1, 0.9, 0, 0, 0, 0], np.float32))


def test_expressions_are_action_units():
    intensity, confidence = humans.action_units(face(
        mouthSmileLeft=0.7, mouthSmileRight=0.5, eyeBlinkLeft=1.0, eyeBlinkRight=0.2, jawOpen=0.4,
        mouthClose=0.1))
    assert intensity[12] == pytest.approx(0.7)   # lip corner puller
    assert intensity[45] == pytest.approx(0.2)   # blink: both eyes
    assert intensity[46] == pytest.approx(0.8)   # wink: what one eye does more
    assert intensity[26] == pytest.approx(0.4)   # jaw drop
    assert intensity[25] == pytest.approx(0.3)   # lips part
    assert confidence[12] == pytest.approx(0.9)
    assert confidence[40] == 0                   # sniff: no blendshape tells
    assert np.flatnonzero(intensity).tolist() == [12, 25, 26, 45, 46]


def test_every_blendshape_of_an_action_unit_exists():
    for names in humans.ACTION_UNITS.values():
        assert set(names) <= set(BLENDSHAPE_INDEX)


def test_key_points_lie_on_the_person(portrait):
    pose, positions, camera = portrait
    points = humans.key_points(pose, positions, camera)
    left_eye, right_eye, neck = points[14], points[15], points[1]
    assert (points[[1, 14, 15], 2] > 0).all()
    assert left_eye[0] > right_eye[0]  # the person's left is on the right of an unmirrored picture
    assert points[5, 0] > points[2, 0]
    assert neck[1] > left_eye[1]       # y points down
    assert (points[[0, 16, 17]] == 0).all()


def test_boxes_hold_what_they_are_of(portrait):
    pose, positions, camera = portrait
    points = humans.key_points(pose, positions, camera)
    seen = points[points[:, 2] > 0, :2]
    xmin, ymin, xmax, ymax = body = humans.body_box(pose, positions, camera)
    assert ((seen >= (xmin, ymin)) & (seen <= (xmax, ymax))).all()
    xmin, ymin, xmax, ymax = head = humans.face_box(pose, positions, camera)
    assert (body[:2] <= head[:2]).all()
    eyes = points[[14, 15], :2]
    assert ((eyes > (xmin, ymin)) & (eyes < (xmax, ymax))).all()
    assert ymin < ymax < points[2, 1] + 0.1  # not below the shoulders


@pytest.fixture(scope='module')
def landmarks(portrait):
    """Return the 70 landmarks of the portrait's face, pixels."""
    pose, _, camera = portrait
    face = find_person(to_working_size(read_portrait('demo'), max(camera.width, camera.height))
                       ).face
    points = humans.facial_landmarks(face, pose, camera)
    assert points.shape == (70, 3)
    assert (points[:, 2] == pose.confidence[1]).all()
    return points[:, :2] * (camera.width, camera.height)


def test_facial_landmarks_are_where_their_names_say(landmarks):
    """Numbers as in hri_msgs/FacialLandmarks."""
    menton, sellion, nose = landmarks[[8, 27, 30]]
    assert menton[1] == landmarks[:, 1].max()
    assert sellion[1] < nose[1] < landmarks[33, 1] < landmarks[51, 1]  # nostrils, upper lip
    right_to_left = landmarks[[0, 17, 36, 68, 39, 27, 42, 69, 45, 26, 16], 0]
    assert (np.diff(right_to_left) > 0).all()  # ears, brows, corners of the eyes, pupils, nose
    for eye, pupil in ((landmarks[36:42], landmarks[68]), (landmarks[42:48], landmarks[69])):
        assert (eye[[1, 2], 1] < pupil[1]).all()
        assert (eye[[4, 5], 1] > pupil[1]).all()
        assert np.linalg.norm(pupil - eye.mean(0)) < 0.2 * np.ptp(eye[:, 0])
    outer, inner = landmarks[48:60], landmarks[60:68]
    assert (inner[:, 0] > outer[:, 0].min()).all()
    assert (inner[:, 0] < outer[:, 0].max()).all()
    for ring in (landmarks[36:42], landmarks[42:48], outer, inner):  # all the same way round
        after = np.roll(ring, -1, 0)
        assert (ring[:, 0] * after[:, 1] - ring[:, 1] * after[:, 0]).sum() > 0


def test_facial_landmarks_of_both_sides_mirror_each_other(landmarks):
    sides = [(*range(8), 17, 18, 19, 20, 21, 31, 32, 36, 37, 38, 39, 40, 41, 48, 49, 50, 59, 58,
              60, 61, 67, 68),
             (*range(16, 8, -1), 26, 25, 24, 23, 22, 35, 34, 45, 44, 43, 42, 47, 46, 54, 53, 52,
              55, 56, 64, 63, 65, 69)]
    right, left = (landmarks[list(side)] for side in sides)
    across = left - right
    middle = landmarks[[8, 27, 30, 33, 51, 57, 62, 66]]
    # the head is turned and tilted a little: all pairs lie across the same way
    assert np.ptp(np.arctan2(across[:, 1], across[:, 0])) < 0.35
    axis = across.sum(0) / np.linalg.norm(across.sum(0))
    width = across @ axis
    assert (np.abs((right + left) @ axis / 2 - middle.mean(0) @ axis) < 0.15 * width.max()).all()


def test_landmarks_outside_the_image_are_unknown(portrait):
    pose, _, camera = portrait
    face = np.full((478, 2), 5.0, np.float32)
    face[468] = -1, 5
    points = humans.facial_landmarks(face, pose, camera)
    assert (points[68] == 0).all()
    assert points[69, 2] > 0


def test_nobody_has_no_boxes(portrait):
    pose, positions, camera = portrait
    unseen = replace(pose, confidence=np.zeros(6, np.float32))
    points = humans.key_points(unseen, positions, camera)
    assert (points == 0).all()
    assert humans.body_box(unseen, positions, camera) is None
    assert humans.face_box(unseen, positions, camera) is None
