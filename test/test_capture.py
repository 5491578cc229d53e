import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.smoothing import PoseFilter
from visa_ros.conventions import JOINT_INDEX, JOINTS, PART_INDEX
from visa_ros.errors import ImageError
from visa_ros.evaluation.capture import Clip, frames
from visa_ros.types import CameraImage, OperatorPose

MODEL = load_body_model()
JOINTS_M = MODEL.zero_pose_joints(np.zeros(len(MODEL.shape_basis), np.float32))
SECOND_NS = 10**9


@pytest.fixture(scope='module')
def capture():
    with PoseCapture(CaptureConfig()) as stage:
        stage.warm_up()
        yield stage


def test_operator_leaves_and_returns(capture):
    poses, blank = [], np.zeros((480, 640, 3), np.uint8)
    for index, (rgb, stamp_ns) in enumerate(frames(Clip('cap12', 0, 60, size=(640, 480)))):
        away = 25 <= index < 35
        image = CameraImage(blank if away else rgb, stamp_ns, 'webcam')
        poses.append(capture.process(image))
    seen = [pose is not None for pose in poses]
    assert all(seen[:25])
    assert not any(seen[26:35])
    assert all(seen[36:])
    assert poses[-1].frame_id == 'webcam'
    assert poses[-1].stamp_ns == image.stamp_ns
    assert poses[-1].confidence[PART_INDEX['face']] == 1
    # The head is where it was before: about as far away, not turned.
    before, after = poses[24], poses[-1]
    assert np.linalg.norm(before.translation - after.translation) < 0.15
    head = JOINT_INDEX['head']
    assert np.abs(before.joint_rotations[head] - after.joint_rotations[head]).max() < 0.3


def test_time_may_go_back(capture):
    rgb = np.ascontiguousarray(samples.portrait())
    capture.process(CameraImage(rgb, 100 * SECOND_NS))  # may still look for somebody else
    for stamp_ns in (103 * SECOND_NS, 103 * SECOND_NS + 40_000_000, 50 * SECOND_NS):
        pose = capture.process(CameraImage(rgb, stamp_ns))
        assert pose is not None
        assert pose.stamp_ns == stamp_ns


def test_tiny_image_is_refused_and_counted(capture):
    bad = capture.bad
    with pytest.raises(ImageError, match='too small'):
        capture.process(CameraImage(np.zeros((8, 8, 3), np.uint8), 0))
    assert capture.bad == bad + 1
    assert capture.process(CameraImage(np.zeros((16, 16, 3), np.uint8), 1)) is None


def test_every_frame_may_skip_the_hands():
    clip = Clip('party', 340, 352, crop=(60, 560, 580, 1080))
    with PoseCapture(CaptureConfig(hands_every=3)) as stage:
        poses = [stage.process(CameraImage(rgb, stamp_ns)) for rgb, stamp_ns in frames(clip)]
    hands = [pose.confidence[PART_INDEX['left_hand']] > 0 for pose in poses[4:]]
    assert all(hands)


def steps(dt_s: float, duration_s: float, jump: dict) -> list[OperatorPose]:
    """Return what the filter makes of a pose that changes at once."""
    smooth = PoseFilter(JOINTS_M)
    rest = OperatorPose.rest(confidence=np.ones(6, np.float32))
    smooth.filter(rest)
    changed = replace(rest, **jump)
    count = round(duration_s / dt_s)
    return [smooth.filter(replace(changed, stamp_ns=round((i + 1) * dt_s * SECOND_NS)))
            for i in range(count)]


def turned(joint: str, angle: float) -> np.ndarray:
    rotations = np.zeros((len(JOINTS), 3), np.float32)
    rotations[JOINT_INDEX[joint], 2] = angle
    return rotations


def test_filter_reaches_the_pose():
    jump = {'joint_rotations': turned('left_elbow', 1.0),
            'translation': np.array((0.1, 0.2, 1.0), np.float32)}
    last = steps(0.04, 4.0, jump)[-1]
    np.testing.assert_allclose(last.joint_rotations, jump['joint_rotations'], atol=0.01)
    np.testing.assert_allclose(last.translation, jump['translation'], atol=0.01)


def test_filter_depends_on_time_not_on_frames():
    jump = {'joint_rotations': turned('left_elbow', 0.002)}  # slow: the cutoff at rest
    coarse, fine = steps(0.04, 0.2, jump)[-1], steps(0.01, 0.2, jump)[-1]
    elbow = JOINT_INDEX['left_elbow']
    assert coarse.joint_rotations[elbow, 2] == pytest.approx(
        fine.joint_rotations[elbow, 2], rel=0.1)


def test_hidden_arm_goes_to_rest_slowly_and_the_face_at_once():
    unsure = np.array((1, 1, 0, 0, 0, 0), np.float32)
    blendshapes = np.ones(52, np.float32)
    path = steps(0.04, 0.4, {'joint_rotations': turned('left_shoulder', 1.0),
                             'confidence': unsure, 'blendshapes': blendshapes})
    arm = [pose.joint_rotations[JOINT_INDEX['left_shoulder'], 2] for pose in path]
    shown = steps(0.04, 0.4, {'joint_rotations': turned('left_shoulder', 1.0)})
    assert arm[-1] < shown[-1].joint_rotations[JOINT_INDEX['left_shoulder'], 2]
    assert np.diff(arm).min() > 0
    assert path[1].blendshapes.min() > 0.8


def test_head_does_not_shake_with_an_unsure_trunk():
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(0)
    smooth = PoseFilter(JOINTS_M)
    heads = []
    for index in range(100):
        rotations = np.zeros((len(JOINTS), 3), np.float32)
        trunk = random.normal(0, 0.1, 3)  # the neck makes up for it
        rotations[JOINT_INDEX['spine3']], rotations[JOINT_INDEX['head']] = trunk, -trunk
        pose = smooth.filter(OperatorPose.rest(
            joint_rotations=rotations, confidence=np.ones(6, np.float32),
            stamp_ns=index * 40_000_000))
        turn = Rotation.identity()
        for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head'):
            turn *= Rotation.from_rotvec(pose.joint_rotations[JOINT_INDEX[name]])
        heads.append(turn.magnitude())
    assert max(heads) < 1e-3


def test_modules_without_trackers_load_none_of_them():
    code = ('import sys, visa_ros.capture.config, visa_ros.capture.landmarks, visa_ros.samples\n'
            'print([m for m in ("cv2", "mediapipe", "torch") if m in sys.modules])')
    result = subprocess.run([sys.executable, '-c', code], env=dict(os.environ), check=True,
                            capture_output=True, text=True)
    assert result.stdout.strip() == '[]'


def test_loading_the_trackers_prints_nothing():
    code = ('from visa_ros.capture.capture import PoseCapture\n'
            'with PoseCapture() as capture:\n    capture.warm_up()\n')
    result = subprocess.run([sys.executable, '-c', code], env=dict(os.environ), check=True,
                            capture_output=True, text=True)
    assert result.stdout + result.stderr == ''
