from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.hand_fit import HandFit
from visa_ros.capture.head_fit import HeadFit
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.capture.rotations import (
    best_rotation,
    exp,
    from_line_of_sight,
    left_jacobian,
    log,
    swing,
)
from visa_ros.capture.solve import PoseSolver
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINT_PARENTS, PART_INDEX
from visa_ros.errors import PoseError
from visa_ros.evaluation.capture import CLIPS, jitter_px, measure, reprojection_px
from visa_ros.types import Camera

MODEL = load_body_model()
FACING = np.diag((1.0, -1.0, -1.0))


def camera_of(seen: Landmarks, focal_ratio: float = 0.9) -> Camera:
    return Camera.from_focal(focal_ratio * max(seen.width, seen.height), seen.width, seen.height)


def to_camera(pose, joint: str) -> np.ndarray:
    """Return a joint's rotation to the camera."""
    turn, index = np.eye(3), JOINT_INDEX[joint]
    while index >= 0:
        turn = exp(pose.joint_rotations[index].astype(float)) @ turn
        index = JOINT_PARENTS[index]
    return turn


def settled(seen: Landmarks, focal_ratio: float = 0.9):
    """Return solver and pose once a still image has had some frames."""
    solver = PoseSolver(MODEL)
    camera = camera_of(seen, focal_ratio)
    for _ in range(10):
        pose = solver.solve(seen, camera, 0.04)
    return solver, pose, camera


@pytest.fixture(scope='module')
def photos() -> dict[str, Landmarks]:
    with Landmarkers(CaptureConfig(), mode='still') as trackers:
        images = {'astronaut': samples.portrait(), 'obama': samples.photo('obama'),
                  'obama3': samples.photo('obama3')}
        images['mirrored'] = np.ascontiguousarray(images['obama3'][:, ::-1])
        return {name: trackers.detect(image, 0) for name, image in images.items()}


@pytest.mark.parametrize('name', ['astronaut', 'obama', 'obama3'])
def test_joints_of_photos_reproject(photos, name):
    seen = photos[name]
    body, _ = reprojection_px(seen, *settled(seen)[:2], camera_of(seen))
    assert np.median(body) < 12


def test_person_facing_the_camera_has_an_upright_body(photos):
    for name in ('astronaut', 'obama', 'obama3'):
        solver, pose, _ = settled(photos[name])
        angle = Rotation.from_matrix(FACING @ to_camera(pose, 'spine3')).magnitude()
        assert np.degrees(angle) < 35, name
        positions = solver.joint_positions(pose)
        assert positions[JOINT_INDEX['head'], 1] < positions[JOINT_INDEX['pelvis'], 1] - 0.4
        assert positions[JOINT_INDEX['left_shoulder'], 0] > (
            positions[JOINT_INDEX['right_shoulder'], 0] + 0.2)
        assert 0.3 < positions[JOINT_INDEX['head'], 2] < 3


def test_mirrored_photo_gives_the_mirrored_head(photos):
    forward = [to_camera(settled(photos[name])[1], 'head')[:, 2]
               for name in ('obama3', 'mirrored')]
    np.testing.assert_allclose(forward[0] * (-1, 1, 1), forward[1], atol=0.12)


def test_head_turns_with_the_face(photos):
    """A mesh that has turned turns the head, though the tracker's own rotation says half of it."""
    seen = photos['obama']
    points = HeadFit(MODEL).points
    noses = []
    for yaw in (0.0, 0.35):  # to the person's left
        placed = points @ exp(np.array((0.0, yaw, 0.0))).T @ FACING + (0.0, 0.0, 1.0)
        face = camera_of(seen).project(placed)
        matrix = seen.head_matrix.copy()
        matrix[:3, :3] = exp(np.array((0.0, yaw / 2, 0.0))) @ matrix[:3, :3]
        noses.append(to_camera(settled(replace(
            seen, face=face.astype(np.float32), head_matrix=matrix))[1], 'head')[:, 2])
    assert noses[1][0] - noses[0][0] == pytest.approx(np.sin(0.35), abs=0.07)


def test_landmarks_that_are_no_numbers_are_refused_and_leave_no_trace(photos):
    seen = photos['obama']
    face = seen.face.copy()
    face[5] = np.nan
    solver, before, camera = settled(seen)
    with pytest.raises(PoseError, match='not finite'):
        solver.solve(replace(seen, face=face), camera, 0.04)
    after = solver.solve(seen, camera, 0.04)
    np.testing.assert_allclose(after.joint_rotations, before.joint_rotations, atol=0.02)


def test_a_face_that_returns_elsewhere_is_where_it_is_seen_at_once(photos):
    near = photos['obama']
    aside = np.float32((0.5, 0.1)) * near.width
    far = replace(near, pose=near.pose * np.float32(0.3) + aside,
                  face=near.face * np.float32(0.3) + aside)
    solver, _, camera = settled(near)
    solver.solve(replace(near, face=None, blendshapes=None, head_matrix=None), camera, 0.04)
    fresh = PoseSolver(MODEL)
    pair = [each.joint_positions(each.solve(far, camera, 0.04))[JOINT_INDEX['head']]
            for each in (solver, fresh)]
    np.testing.assert_allclose(*pair, atol=0.02)


def test_crossed_arms_are_bent_and_in_front(photos):
    solver, pose, _ = settled(photos['obama3'], focal_ratio=1.5)
    positions = solver.joint_positions(pose)
    for side, wrist_x in (('left', -1), ('right', 1)):
        flexion = np.linalg.norm(pose.joint_rotations[JOINT_INDEX[f'{side}_elbow']])
        assert flexion > 1.0
        wrist, chest = positions[JOINT_INDEX[f'{side}_wrist']], positions[JOINT_INDEX['spine3']]
        assert wrist[2] < chest[2]                           # nearer to the camera
        shoulder = positions[JOINT_INDEX[f'{side}_shoulder']]
        assert (wrist[0] - shoulder[0]) * wrist_x > 0.05     # towards the other side


def test_unseen_arms_hang(photos):
    seen = photos['obama']
    hidden = seen.visibility.copy()
    hidden[13:23] = 0
    _, pose, _ = settled(replace(seen, visibility=hidden, left_hand=None, right_hand=None))
    assert not pose.confidence[[PART_INDEX['left_arm'], PART_INDEX['right_arm'],
                                PART_INDEX['left_hand'], PART_INDEX['right_hand']]].any()
    for side, outwards in (('left', 1), ('right', -1)):
        along = to_camera(pose, f'{side}_shoulder') @ (outwards, 0, 0)
        assert along[1] > 0.8  # the upper arm points down


def test_jaw_and_eyes_follow_the_blendshapes(photos):
    blendshapes = np.zeros(52, np.float32)
    for name, value in (('jawOpen', 0.5), ('eyeLookOutLeft', 0.8), ('eyeLookInRight', 0.8),
                        ('eyeLookDownLeft', 0.4), ('eyeLookDownRight', 0.4)):
        blendshapes[BLENDSHAPE_INDEX[name]] = value
    _, pose, _ = settled(replace(photos['obama'], blendshapes=blendshapes))
    gaze = exp(pose.joint_rotations[JOINT_INDEX['left_eye']].astype(float))[:, 2]
    assert gaze[0] > 0.3   # to the person's left
    assert gaze[1] < -0.1  # down
    chin = exp(pose.joint_rotations[JOINT_INDEX['jaw']].astype(float)) @ (0, 0, 1)
    assert chin[1] < -0.1


def synthetic_hand(side: str, palm: np.ndarray, flexions: tuple[float, ...]) -> HandLandmarks:
    """Return the landmarks of a hand of the model's shape, fingers bent like hooks."""
    joints = MODEL.zero_pose_joints(np.zeros(len(MODEL.shape_basis), np.float32)).astype(float)
    first, wrist = JOINT_INDEX[f'{side}_index1'], joints[JOINT_INDEX[f'{side}_wrist']]
    axis = np.array((0, 0, -1.0 if side == 'left' else 1.0))
    points = np.zeros((21, 3))
    for finger, landmark in enumerate((5, 9, 17, 13, 1)):
        chain = joints[first + 3 * finger:first + 3 * finger + 3]
        bones = [*np.diff(chain, axis=0), chain[2] - chain[1]]
        points[landmark] = chain[0] - wrist
        turn = np.eye(3)
        for k in range(3):
            turn = turn @ exp(axis * (flexions[k] if landmark != 1 else 0.0))
            points[landmark + k + 1] = points[landmark + k] + turn @ bones[k]
    points = points @ palm.T
    points_px = 400 + 600 * points[:, :2]
    return HandLandmarks(points_px.astype(np.float32), points.astype(np.float32), 1.0)


@pytest.mark.parametrize('side', ['left', 'right'])
@pytest.mark.parametrize('flexions', [(0.0, 0.0, 0.0), (0.8, 1.0, 0.6)])
def test_fingers_are_recovered(side, flexions):
    joints = MODEL.zero_pose_joints(np.zeros(len(MODEL.shape_basis), np.float32))
    palm = exp(np.array((0.4, -0.3, 1.2))) @ FACING
    hand = synthetic_hand(side, palm, flexions)
    fit = HandFit(joints, side)
    points = hand.world.astype(float)
    np.testing.assert_allclose(fit.palm(points), palm, atol=1e-3)
    fingers = fit.fingers(points, palm).reshape(5, 3, 3)
    expected = np.zeros((4, 3, 3))
    expected[..., 2] = np.array(flexions) * (-1 if side == 'left' else 1)
    np.testing.assert_allclose(fingers[:4], expected, atol=0.02)


def test_real_clips_meet_the_bars():
    for name, start in (('talks', 100), ('both hands', 300)):
        clip = replace(CLIPS[name], start=start, stop=start + 60)
        measured = measure(clip)
        assert len(measured.poses) == 60
        assert np.median(measured.body_px) < 12, name
        if name == 'both hands':
            assert np.median(measured.finger_px) < 15
            visible = np.array([pose.confidence for pose in measured.poses])
            assert visible[:, PART_INDEX['left_hand']].mean() > 0.5
        turns = np.array([pose.joint_rotations for pose in measured.filtered])
        assert np.isfinite(turns).all()
        assert np.abs(turns).max() < 3.2


def test_still_face_does_not_shake():
    jitter = jitter_px(samples.photo('obama'))
    assert jitter['head'] < 0.5
    assert jitter['all'] < jitter['raw']


def test_projection_is_the_cameras():
    camera = Camera.from_focal(500, 640, 480)
    np.testing.assert_allclose(camera.project(np.array([(0.1, -0.2, 2.0)])), [(345, 190)])


def test_exp_and_log_agree_with_scipy():
    rotvecs = np.random.default_rng(0).normal(size=(50, 3))
    rotvecs[:4] = (0, 0, 0), (np.pi, 0, 0), (0, 1e-9, 0), (3.1, 0.3, -0.2)
    matrices = Rotation.from_rotvec(rotvecs).as_matrix()
    np.testing.assert_allclose(exp(rotvecs), matrices, atol=1e-12)
    np.testing.assert_allclose(exp(log(matrices)), matrices, atol=1e-7)
    assert np.linalg.norm(log(matrices), axis=1).max() < np.pi + 1e-9


def test_left_jacobian_is_the_derivative_of_exp():
    rotvec, step = np.array((0.7, -1.1, 0.4)), np.array((1e-6, -2e-6, 3e-6))
    moved = Rotation.from_matrix(exp(rotvec + step) @ exp(rotvec).T).as_rotvec()
    np.testing.assert_allclose(left_jacobian(rotvec[None])[0] @ step, moved, atol=1e-11)


def test_swing_and_best_rotation_turn_as_asked():
    source, target = np.array((1.0, 0, 0)), np.array((0, 0.6, 0.8))
    np.testing.assert_allclose(exp(swing(source, target)) @ source, target, atol=1e-12)
    turn = exp(np.array((0.3, -2.0, 0.9)))
    points = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_allclose(best_rotation(points, points @ turn.T), turn, atol=1e-12)
    ray = np.array((0.3, -0.4, 1.0))
    np.testing.assert_allclose(from_line_of_sight(ray)[:, 2], ray / np.linalg.norm(ray))
