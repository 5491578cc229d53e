"""The operator in other robots' words: hinge angles, FACS action units, ROS4HRI's image points."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import humans
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINTS
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


def test_nobody_has_no_boxes(portrait):
    pose, positions, camera = portrait
    unseen = replace(pose, confidence=np.zeros(6, np.float32))
    points = humans.key_points(unseen, positions, camera)
    assert (points == 0).all()
    assert humans.body_box(unseen, positions, camera) is None
    assert humans.face_box(unseen, positions, camera) is None
