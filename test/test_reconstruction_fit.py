"""The fit, on people whose shape, expression and pose are known."""
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from visa_ros import samples
from visa_ros.body.derivatives import BodyPoints
from visa_ros.body.model import load_body_model
from visa_ros.capture.landmarks import Landmarks
from visa_ros.capture.source import read_video
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINTS
from visa_ros.reconstruction.fit import fit_body
from visa_ros.reconstruction.portrait import find_person
from visa_ros.types import Camera

CAMERA = Camera.from_focal(820, 512, 512)
# MediaPipe's pose landmarks, and how many metres above their joints it sees them.
SEEN = {11: ('left_shoulder', 0.02), 12: ('right_shoulder', 0.02), 13: ('left_elbow', 0),
        14: ('right_elbow', 0), 15: ('left_wrist', 0), 16: ('right_wrist', 0),
        23: ('left_hip', -0.034), 24: ('right_hip', -0.034)}
HALF_RAISED = {'left_shoulder': (0, -0.3, -0.9), 'right_shoulder': (0, 0.3, 0.9),
               'left_elbow': (0, -1.2, 0), 'right_elbow': (0, 1.2, 0)}
HANGING = {'left_shoulder': (0, 0, -1.2), 'right_shoulder': (0, 0, 1.2),
           'left_elbow': (0, -0.3, 0), 'right_elbow': (0, 0.3, 0)}


@pytest.fixture(scope='module')
def model():
    return load_body_model()


def person(model, seed, arms=HALF_RAISED):
    """Return points of someone before the camera, and their landmarks."""
    rng = np.random.default_rng(seed)
    betas = rng.normal(0, 0.5, len(model.shape_basis)).astype(np.float32)
    blendshapes = np.zeros(52, np.float32)
    blendshapes[BLENDSHAPE_INDEX['jawOpen']] = 0.3
    rotations = np.zeros((55, 3), np.float32)
    for joint, turn in {'pelvis': (np.pi, 0, 0), 'head': (0.1, rng.uniform(-0.3, 0.3), 0.1),
                        **arms}.items():
        rotations[JOINT_INDEX[joint]] = turn
    translation = np.array((0.03, 0.45, 1.7), np.float32)
    points, _ = BodyPoints(model, model.face_landmarks)(betas, blendshapes, rotations, translation)
    joints = points[-len(JOINTS):]

    pose, world = np.zeros((33, 2), np.float32), np.ones((33, 3), np.float32)
    visibility = np.zeros(33, np.float32)
    for landmark, (joint, up) in SEEN.items():
        world[landmark] = joints[JOINT_INDEX[joint]]
        pose[landmark] = CAMERA.project(world[landmark] - (0, up, 0))
        visibility[landmark] = 1
    landmarks = Landmarks(512, 512, pose, world, visibility,
                          face=CAMERA.project(points[:478]).astype(np.float32),
                          blendshapes=blendshapes)
    return points, landmarks


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_a_person_is_found_again_from_the_landmarks(model, seed):
    truth, landmarks = person(model, seed)
    fit = fit_body(model, landmarks, CAMERA)
    found, _ = BodyPoints(model, model.face_landmarks)(
        fit.betas, fit.pose.blendshapes, fit.pose.joint_rotations, fit.pose.translation)
    assert fit.face_px < 0.7
    assert fit.joints_px < 4
    away = np.linalg.norm(CAMERA.project(found) - CAMERA.project(truth), axis=1)
    assert away[:478].mean() < 1
    joints = {name: away[478 + JOINT_INDEX[name]] for name in JOINTS}
    assert joints['head'] < 6
    assert max(joints['left_shoulder'], joints['right_shoulder']) < 6
    assert max(joints['left_elbow'], joints['right_wrist']) < 8
    assert found[:478, 2].mean() == pytest.approx(truth[:478, 2].mean(), rel=0.08)
    assert fit.pose.blendshapes[BLENDSHAPE_INDEX['jawOpen']] == pytest.approx(0.3, abs=0.1)
    assert fit.pose.blendshapes.min() >= 0
    assert fit.pose.blendshapes.max() <= 1


def test_one_landmark_far_off_does_not_move_the_others(model):
    _, landmarks = person(model, 3)
    straight = fit_body(model, landmarks, CAMERA)
    landmarks.pose[13] += 150  # the left elbow, mistaken
    pulled = fit_body(model, landmarks, CAMERA)
    assert pulled.face_px < straight.face_px + 0.3
    head = JOINT_INDEX['head']
    np.testing.assert_allclose(pulled.pose.joint_rotations[head],
                               straight.pose.joint_rotations[head], atol=0.1)


def joints_of(model, fit):
    points, _ = BodyPoints(model, model.face_landmarks)(
        fit.betas, fit.pose.blendshapes, fit.pose.joint_rotations, fit.pose.translation)
    return dict(zip(JOINTS, points[-len(JOINTS):], strict=True))


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_arms_that_the_border_cuts_off_are_not_foreshortened(model, seed):
    truth, landmarks = person(model, seed, HANGING)
    face_px = np.ptp(landmarks.face[:, 1])
    for shoulder, elbow, wrist in ((11, 13, 15), (12, 14, 16)):
        arm = landmarks.pose[elbow] - landmarks.pose[shoulder]
        landmarks.pose[elbow] -= 0.3 * face_px * arm / np.linalg.norm(arm)  # as MediaPipe does
        landmarks.visibility[wrist] = 0
    landmarks = replace(landmarks, height=int(landmarks.pose[[13, 14], 1].max()) + 2)
    found = joints_of(model, fit_body(model, landmarks, CAMERA))
    true = dict(zip(JOINTS, truth[-len(JOINTS):], strict=True))
    for side in ('left', 'right'):
        slant = [joints[f'{side}_elbow'][2] - joints[f'{side}_shoulder'][2]
                 for joints in (found, true)]
        assert slant[0] == pytest.approx(slant[1], abs=0.06)


def test_a_close_up_that_shows_no_joint_is_fitted(model):
    _, landmarks = person(model, 0)
    # The picture ends above the shoulders.
    shift = np.array((0, landmarks.height - landmarks.pose[11:13, 1].min() + 5), np.float32)
    camera = Camera(CAMERA.K + np.float32([[0, 0, 0], [0, 0, shift[1]], [0, 0, 0]]), 512, 512)
    low = replace(landmarks, face=landmarks.face + shift, pose=landmarks.pose + shift)
    fit = fit_body(model, low, camera)
    assert fit.face_px < 1
    assert np.isfinite(fit.joints_px)
    assert fit.pose.translation[2] == pytest.approx(1.7, rel=0.15)


def test_no_hand_is_lifted_into_a_close_up_that_shows_none(model):
    rgb, _ = next(islice(read_video(samples.video('cap12')), 250, None))
    height, width = rgb.shape[:2]
    camera = Camera.from_focal(1.6 * width, width, height)
    found = joints_of(model, fit_body(model, find_person(rgb), camera))
    for wrist in ('left_wrist', 'right_wrist'):
        assert camera.project(found[wrist])[1] > height
