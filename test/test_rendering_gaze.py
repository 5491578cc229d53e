"""Eye contact: rays of the eyes, in the camera's frame."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.evaluation.rendering import surface_avatar
from visa_ros.rendering.gaze import EYES, EyeContact, lids_follow

_STEP_S = 1 / 30


@pytest.fixture(scope='module')
def avatar():
    return surface_avatar(100)


@pytest.fixture
def contact(avatar):
    return EyeContact(avatar, load_body_model(), 1.0)


def _turned(pose, down_deg=0.0, left_deg=0.0, **joints):
    rotations = pose.joint_rotations.copy()
    for name, degrees in joints.items():
        rotations[JOINT_INDEX[name]] = np.radians(degrees)
    rotations[EYES] = np.radians((down_deg, left_deg, 0))
    return replace(pose, joint_rotations=rotations)


def _misses_m(avatar, pose):
    """Return how far from the lens, the origin, each eye's ray passes, metres."""
    model = load_body_model()
    joints = model.shaped(avatar.betas)[1]
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    places = posed_joints(transforms, joints)[EYES]
    turns = transforms[EYES, :, :3] @ np.swapaxes(model.rest_alignment[EYES], 1, 2)
    rays = turns[:, :, 2]  # the body's z looks ahead
    assert (rays[:, 2] < 0).all()  # towards the camera
    return np.linalg.norm(np.cross(places, rays), axis=1)


@pytest.mark.parametrize('joints', [
    {}, {'head': (0, 20, 0)}, {'neck': (10, -15, 5), 'spine3': (0, 8, 0)}])
def test_eyes_that_look_beside_the_camera_look_into_it(avatar, contact, joints):
    facing = _turned(avatar.portrait_pose, **joints)
    straight = np.degrees(contact.to_camera(facing).mean(0))
    pose = _turned(facing, straight[0] + 5, straight[1] - 4, **joints)
    before, after = _misses_m(avatar, pose), _misses_m(avatar, contact.applied(pose, _STEP_S))
    assert before.min() > 0.15
    assert after.max() < 0.045  # a fifth of the 6 degrees is left


def test_a_glance_away_stays_what_it_is(avatar, contact):
    straight = np.degrees(contact.to_camera(avatar.portrait_pose).mean(0))
    for down_deg, left_deg in ((0, 26), (0, -26), (25, 0), (-24, 5)):
        pose = _turned(avatar.portrait_pose, straight[0] + down_deg, straight[1] + left_deg)
        assert contact.applied(pose, _STEP_S) is pose


def test_between_the_two_gaze_goes_on_without_a_jump(avatar, contact):
    angles = np.arange(0, 30, 0.25)
    shown = [np.degrees(contact.applied(_turned(avatar.portrait_pose, 0, angle), 0.0)
                        .joint_rotations[EYES[0], 1]) for angle in angles]
    steps = np.diff(shown)
    assert steps.min() > -0.01
    assert steps.max() < 1.0


def test_a_webcam_above_the_screen_makes_looking_down_usual(avatar, contact):
    usual = _turned(avatar.portrait_pose, 13, 6)
    for _ in range(600):
        shown = contact.applied(usual, _STEP_S)
    assert _misses_m(avatar, shown).max() < 0.02
    up = _turned(avatar.portrait_pose, -12, 6)  # near the camera, and yet a glance away
    assert np.allclose(contact.applied(up, _STEP_S).joint_rotations[EYES],
                       up.joint_rotations[EYES])


def test_eyes_do_not_leave_their_sockets_for_a_head_turned_away(avatar, contact):
    away = _turned(avatar.portrait_pose, 0, -30, head=(0, 45, 0))
    shown = contact.applied(away, _STEP_S).joint_rotations[EYES]
    assert np.degrees(np.linalg.norm(shown, axis=1)).max() < 30.5


def test_a_blink_and_the_head_are_left_alone(avatar, contact):
    pose = _turned(avatar.portrait_pose, 6, 0)
    pose.blendshapes[BLENDSHAPE_INDEX['eyeBlinkLeft']] = 0.8
    pose.blendshapes[BLENDSHAPE_INDEX['eyeLookDownLeft']] = 0.25
    shown = contact.applied(pose, _STEP_S)
    assert shown.blendshapes[BLENDSHAPE_INDEX['eyeBlinkLeft']] == np.float32(0.8)
    assert shown.blendshapes[BLENDSHAPE_INDEX['eyeLookDownLeft']] < 0.2  # lids go with the eye
    others = [joint for joint in range(55) if joint not in EYES]
    assert np.array_equal(shown.joint_rotations[others], pose.joint_rotations[others])


def test_a_share_goes_part_of_the_way_and_none_changes_nothing(avatar):
    pose = _turned(avatar.portrait_pose, 0, 8)
    none, half, whole = (EyeContact(avatar, load_body_model(), share).applied(pose, _STEP_S)
                         for share in (0.0, 0.5, 1.0))
    assert none is pose
    turns = [Rotation.from_rotvec(p.joint_rotations[EYES[0]] - pose.joint_rotations[EYES[0]])
             .magnitude() for p in (half, whole)]
    assert turns[0] == pytest.approx(turns[1] / 2, rel=1e-3)


def test_lids_follow_without_leaving_their_range():
    shapes = np.zeros(52, np.float32)
    down, up = (BLENDSHAPE_INDEX[f'eyeLook{way}Left'] for way in ('Down', 'Up'))
    shapes[down] = 0.2
    raised = lids_follow(shapes, np.array((-0.45, 0)))
    assert raised[down] == 0
    assert raised[up] == pytest.approx(0.8)
    assert lids_follow(shapes, np.array((9.0, -9.0))).max() <= 1
    assert np.array_equal(lids_follow(shapes, np.zeros(2)), shapes)
