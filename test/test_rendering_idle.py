"""Idle motion: like a person's, bounded, the same for the same seed and time."""
import numpy as np
import pytest
from scipy.signal import find_peaks
from scipy.spatial.transform import Rotation

from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.evaluation.rendering import surface_avatar
from visa_ros.rendering.idle import BLINK_S, PERIOD_S, IdleMotion

_LEFT_LID, _RIGHT_LID = BLENDSHAPE_INDEX['eyeBlinkLeft'], BLENDSHAPE_INDEX['eyeBlinkRight']


@pytest.fixture(scope='module')
def resting():
    return surface_avatar(100).portrait_pose


@pytest.fixture(scope='module')
def idle(resting):
    return IdleMotion(resting)


def _sampled(function, seconds, rate_hz=100):
    times = np.arange(0, seconds, 1 / rate_hz)
    return times, np.array([function(time_s) for time_s in times])


def test_breathing_is_that_of_a_resting_adult(idle):
    times, breath = _sampled(idle.breath, 300, 20)
    breaths = find_peaks(breath)[0]
    assert 12 <= len(breaths) / 5 <= 16
    assert 60 / 16.5 < np.diff(times[breaths]).min() < np.diff(times[breaths]).max() < 60 / 11.5
    assert breath.min() < 0.01
    assert breath.max() > 0.99
    rising = np.mean(np.diff(breath) > 0)
    assert 0.35 < rising < 0.45  # breathing in is quicker


def test_blinks_are_as_often_and_as_quick_as_peoples(idle):
    times, lids = _sampled(idle.blink, PERIOD_S)
    shut = find_peaks(lids, height=0.99, plateau_size=1)[0]
    gaps_s = np.diff(times[shut])
    assert 8 < len(shut) / (PERIOD_S / 60) < 20
    assert gaps_s.min() > BLINK_S
    assert 0.4 < np.log(gaps_s).std() < 1.0  # neither a metronome nor fits
    closed_s = np.mean(lids > 0.5) * PERIOD_S / len(shut)
    assert 0.1 < closed_s < 0.25


def test_gaze_rests_and_jumps(idle):
    _, gaze = _sampled(idle.gaze_deg, 120)
    speed = np.linalg.norm(np.diff(gaze, axis=0), axis=1) * 100
    assert np.mean(speed == 0) > 0.85
    assert 50 < speed.max() < 500  # degrees a second, as of small saccades
    assert np.linalg.norm(gaze, axis=1).max() < 5.01


def test_sway_is_slow_and_small(idle):
    _, sway = _sampled(idle.sway_deg, PERIOD_S, 10)
    assert (sway.std(0) > 0.2).all()
    assert (np.abs(sway).max(0) < 3).all()
    assert (np.abs(np.diff(sway, axis=0)).max(0) * 10 < 6).all()  # degrees a second


def test_it_repeats_for_the_same_seed_and_not_for_another(idle, resting):
    again, other = IdleMotion(resting), IdleMotion(resting, seed=1)
    for time_s in (0.0, 3.3, 59.0, 1234.5):
        pose = idle.applied(resting, time_s, 1.0)
        same = again.applied(resting, time_s, 1.0)
        assert np.array_equal(pose.joint_rotations, same.joint_rotations)
        assert np.array_equal(pose.blendshapes, same.blendshapes)
    assert not np.allclose(idle.sway_deg(3.3), other.sway_deg(3.3))


def test_nothing_jumps_where_the_period_begins_anew(idle):
    before, after = PERIOD_S - 1e-3, PERIOD_S + 1e-3
    assert abs(idle.breath(after) - idle.breath(before)) < 0.01
    assert idle.blink(before) == idle.blink(after) == 0
    for what in (idle.sway_deg, idle.gaze_deg):
        assert np.abs(what(after) - what(before)).max() < 0.05


def test_both_eyes_blink_and_look_together_and_stay_on_their_target(idle, resting):
    left, right, head = (JOINT_INDEX[name] for name in ('left_eye', 'right_eye', 'head'))
    for time_s in np.arange(0, 60, 0.05):
        pose = idle.applied(resting, time_s, 1.0)
        assert pose.blendshapes[_LEFT_LID] == pose.blendshapes[_RIGHT_LID]
        assert np.array_equal(pose.joint_rotations[left], pose.joint_rotations[right])
        assert (pose.blendshapes >= 0).all()
        assert (pose.blendshapes <= 1).all()
    # where the gaze rests while the head sways, the eyes turn against it
    rests = [time_s for time_s in np.arange(0, 60, 0.2)
             if np.array_equal(idle.gaze_deg(time_s), idle.gaze_deg(time_s + 0.2))]
    assert len(rests) > 100
    changes = []
    for time_s in rests:
        one, two = (idle.applied(resting, t, 1.0).joint_rotations for t in (time_s, time_s + 0.2))
        sway = idle.sway_deg(time_s + 0.2) - idle.sway_deg(time_s)
        changes.append((two[left][1] - one[left][1], np.radians(sway[1])))
    eyes, sways = np.array(changes).T
    assert np.corrcoef(eyes, sways)[0, 1] < -0.99
    assert head  # the head joint itself is turned:
    assert not np.array_equal(one[head], resting.joint_rotations[head])


def test_a_share_of_nothing_is_the_pose_itself(idle, resting):
    assert idle.applied(resting, 5.0, 0.0) is resting
    half, whole = (idle.applied(resting, 5.0, share) for share in (0.5, 1.0))
    turn = [Rotation.from_rotvec(pose.joint_rotations[JOINT_INDEX['neck']]).magnitude()
            for pose in (half, whole)]
    assert turn[0] == pytest.approx(turn[1] / 2, rel=1e-3)
