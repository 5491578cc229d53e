"""The fit, on people whose shape, expression and pose are known."""
import numpy as np
import pytest

from visa_ros.body.derivatives import BodyPoints
from visa_ros.body.model import load_body_model
from visa_ros.capture.landmarks import Landmarks
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINTS
from visa_ros.reconstruction.fit import fit_body
from visa_ros.reconstruction.zbuffer import project
from visa_ros.types import Camera

CAMERA = Camera.from_focal(820, 512, 512)
# MediaPipe's pose landmarks, and how many metres above their joints it sees them.
SEEN = {11: ('left_shoulder', 0.02), 12: ('right_shoulder', 0.02), 13: ('left_elbow', 0),
        14: ('right_elbow', 0), 15: ('left_wrist', 0), 16: ('right_wrist', 0),
        23: ('left_hip', -0.034), 24: ('right_hip', -0.034)}


@pytest.fixture(scope='module')
def model():
    return load_body_model()


def person(model, seed):
    """Return parameters of someone before the camera, arms half raised, and their landmarks."""
    rng = np.random.default_rng(seed)
    betas = rng.normal(0, 0.5, len(model.shape_basis)).astype(np.float32)
    blendshapes = np.zeros(52, np.float32)
    blendshapes[BLENDSHAPE_INDEX['jawOpen']] = 0.3
    rotations = np.zeros((55, 3), np.float32)
    for joint, turn in {'pelvis': (np.pi, 0, 0), 'head': (0.1, rng.uniform(-0.3, 0.3), 0.1),
                        'left_shoulder': (0, -0.3, -0.9), 'right_shoulder': (0, 0.3, 0.9),
                        'left_elbow': (0, -1.2, 0), 'right_elbow': (0, 1.2, 0)}.items():
        rotations[JOINT_INDEX[joint]] = turn
    translation = np.array((0.03, 0.45, 1.7), np.float32)
    points, _ = BodyPoints(model, model.face_landmarks)(betas, blendshapes, rotations, translation)
    joints = points[-len(JOINTS):]

    pose, world = np.zeros((33, 2), np.float32), np.ones((33, 3), np.float32)
    visibility = np.zeros(33, np.float32)
    for landmark, (joint, up) in SEEN.items():
        world[landmark] = joints[JOINT_INDEX[joint]]
        pose[landmark] = project(world[landmark] - (0, up, 0), CAMERA)
        visibility[landmark] = 1
    landmarks = Landmarks(512, 512, pose, world, visibility,
                          face=project(points[:478], CAMERA).astype(np.float32),
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
    away = np.linalg.norm(project(found, CAMERA) - project(truth, CAMERA), axis=1)
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
