import numpy as np
import pytest

from visa_ros import samples
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.head_fit import HeadFit
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.rotations import exp, log
from visa_ros.capture.solve import PoseSolver
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.types import Camera

MODEL = load_body_model()
CAMERA = Camera.from_focal(576, 640, 480)
K = CAMERA.K.astype(float)
FACING = np.diag((1.0, -1.0, -1.0))
PLACE = np.array((0.05, 0.1, 0.7))
STEP_S = 0.04
# A long, narrow face with a nose of its own.
SHAPE = np.array((0.94, 1.05, 1.08))


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.linalg.norm(log(a.T @ b))))


def own_face() -> np.ndarray:
    """Return (478, 3) landmarks about the head's joint: the mean face's, stretched."""
    mean = HeadFit(MODEL).points
    return mean.mean(0) + (mean - mean.mean(0)) * SHAPE


def seen(points: np.ndarray, turn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pixels = CAMERA.project(points @ turn.T + PLACE)
    return (pixels + rng.normal(0, 0.3, pixels.shape)).astype(np.float32)


def turned(rotvec: tuple[float, float, float]) -> np.ndarray:
    return FACING @ exp(np.array(rotvec))


def follow(fit: HeadFit, points: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Let a head look around; return each frame's errors of rotation [deg] and place [m]."""
    rng = np.random.default_rng(0)
    turn_errors, place_errors = [], []
    for t in np.arange(0, seconds, STEP_S):
        turn = turned((0.25 * np.sin(1.1 * t), 0.5 * np.sin(0.7 * t), 0.1 * np.sin(0.5 * t)))
        # What the tracker itself says of the rotation is off by four degrees.
        matrix = turn @ exp(np.array((0.05, -0.05, 0.0)))
        fit.fit(seen(points, turn, rng), np.zeros(52, np.float32), matrix, K, STEP_S)
        turn_errors.append(np.degrees(log(turn.T @ fit.rotation)))
        place_errors.append(fit.place - PLACE)
    return np.array(turn_errors), np.array(place_errors)


def test_mean_face_is_found_at_once_and_followed():
    fit = HeadFit(MODEL)
    turns_deg, places_m = follow(fit, fit.points.copy(), 4.0)
    assert np.linalg.norm(turns_deg, axis=1).max() < 2.0  # half of what the tracker is off
    assert np.abs(places_m).max() < 0.01


def test_own_face_is_learned_and_the_head_follows_better():
    """
    Which way an own face looks is a convention: what counts is that its error stays the same.

    Depth is told from turns slowly: a flatter face that turns further looks nearly the same.
    """
    turns_deg, places_m = follow(HeadFit(MODEL), own_face(), 40.0)
    first, last = slice(0, 225), slice(-450, None)  # once, and twice, around
    for errors in (turns_deg, places_m):
        wandering = [np.linalg.norm(errors[part].std(0)) for part in (first, last)]
        assert wandering[1] < 0.75 * wandering[0], wandering


def test_what_is_learned_is_a_shape_and_no_place():
    """A face that is only nearer, turned or shifted must not become another face."""
    fit = HeadFit(MODEL)
    mean = fit.points.copy()
    follow(fit, mean, 10.0)
    assert np.abs(fit.points - mean)[MODEL.face_landmarks.weights > 0].max() < 0.002


def test_an_open_mouth_does_not_nod_the_head():
    fit = HeadFit(MODEL)
    rng = np.random.default_rng(1)
    blendshapes = np.zeros(52, np.float32)
    blendshapes[BLENDSHAPE_INDEX['jawOpen']] = 0.8
    turn = turned((0.1, 0.2, 0.0))
    fit.fit(seen(fit.points, turn, rng), 0 * blendshapes, turn, K, STEP_S)
    # It opens half as far as the tracker says.
    half_open = HeadFit(MODEL)
    half_open.fit(seen(half_open.points, turn, rng), blendshapes / 2, turn, K, STEP_S)
    fit.fit(seen(half_open.points, turn, rng), blendshapes, turn, K, STEP_S)
    assert angle_deg(turn, fit.rotation) < 3.0


def test_another_place_after_forgetting_is_found():
    fit = HeadFit(MODEL)
    points = fit.points.copy()
    follow(fit, points, 1.0)
    fit.forget()
    far = PLACE + np.array((0.3, -0.2, 1.5))
    turn = turned((0.0, -0.6, 0.2))
    pixels = CAMERA.project(points @ turn.T + far).astype(np.float32)
    fit.fit(pixels, np.zeros(52, np.float32), turn @ exp(np.array((0.05, 0.05, 0.0))), K, STEP_S)
    assert angle_deg(turn, fit.rotation) < 1.5
    assert np.linalg.norm(fit.place - far) < 0.05


@pytest.mark.parametrize('name', ['obama', 'obama3'])
def test_a_body_of_mean_lengths_has_its_head_on_the_face(name):
    """A pose carries no lengths: with mean ones the face must be where it was seen."""
    image = samples.photo(name)
    with Landmarkers(CaptureConfig(), mode='still') as trackers:
        landmarks = trackers.detect(image, 0)
    camera = Camera.from_focal(0.9 * max(image.shape), image.shape[1], image.shape[0])
    solver = PoseSolver(MODEL)
    for _ in range(10):
        pose = solver.solve(landmarks, camera, STEP_S)
    joints = posed_joints(joint_transforms(
        MODEL, MODEL.joints_template, pose.joint_rotations, pose.translation),
        MODEL.joints_template)
    eyes = camera.project(joints[[JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]])
    irises = landmarks.face[[473, 468]]  # the person's left and right
    face_px = np.ptp(landmarks.face[:, 1])
    assert np.abs(eyes - irises).max() < 0.05 * face_px
