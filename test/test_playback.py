"""Retargeting, holding, easing: what the avatar shows when poses come, stop and return."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, PART_INDEX
from visa_ros.rendering.playback import PlaybackConfig, PosePlayback
from visa_ros.rendering.reach import Reach
from visa_ros.rendering.retarget import blend
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose, Presence

_CONFIG = PlaybackConfig(hold_s=0.4, lost_s=1.5, ease_s=0.6, recentre_s=0.0, idle_motion=0.0,
                         eye_contact=0.0)
_FACING = [np.pi, 0, 0]  # turns the body frame into a camera that the person faces


def _pose(translation=(0.0, 0.5, 1.5), **rotations):
    joints = np.zeros((55, 3), np.float32)
    joints[0] = _FACING
    for name, rotation in rotations.items():
        joints[JOINT_INDEX[name]] = rotation
    return OperatorPose.rest(joint_rotations=joints, translation=np.float32(translation),
                             confidence=np.ones(6, np.float32), stamp_ns=1)


@pytest.fixture
def avatar():
    model = load_body_model()
    return GaussianAvatar(
        body_model=model.name, betas=np.zeros(len(model.shape_basis), np.float32),
        triangles=np.zeros(1, np.int32), barycentrics=np.float32([[1, 0, 0]]),
        means=model.template[model.faces[:1, 0]], quats=np.float32([[1, 0, 0, 0]]),
        scales=np.full((1, 3), 0.01, np.float32), opacities=np.ones(1, np.float32),
        colors=np.ones((1, 3), np.float32), features=np.zeros((1, 0), np.float32),
        camera=Camera.from_focal(800, 512, 512),
        portrait_pose=_pose((0.0, 0.4, 2.0), left_shoulder=(0, 0, -1.2)),
        consent=Consent('operator', 'operator', 0, 'test'))


@pytest.fixture
def playback(avatar):
    return PosePlayback(avatar, load_body_model(), _CONFIG)


def _matrix(pose, joint):
    return Rotation.from_rotvec(pose.joint_rotations[JOINT_INDEX[joint]]).as_matrix()


def _bearings(pose):
    """Return the rotations of chest and head in the camera."""
    chain = ['pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head']
    total, bearings = Rotation.identity(), []
    for joint in chain:
        total = total * Rotation.from_rotvec(pose.joint_rotations[JOINT_INDEX[joint]])
        bearings.append(total)
    return bearings[3], bearings[5]


def _neck(pose):
    return _joints(pose, np.zeros(len(load_body_model().shape_basis), np.float32))[
        JOINT_INDEX['neck']]


def _joints(pose, betas):
    """Return the (55, 3) joints in the camera's frame."""
    model = load_body_model()
    _, joints = model.shaped(betas)
    return posed_joints(joint_transforms(model, joints, pose.joint_rotations, pose.translation),
                        joints)


def _live(playback, start_s, pose, seconds=2.0, rate_hz=30):
    """Feed the pose for some time, longer than the easing; return the time of the last one."""
    now_s = start_s
    for now_s in np.arange(start_s, start_s + seconds, 1 / rate_hz):
        playback.put(pose, now_s)
        playback.at(now_s)
    return now_s


def test_before_anything_arrives_the_portrait_is_shown_and_soon_marked(playback, avatar):
    assert playback.at(0.0)[1] < Presence.OPERATOR_LOST
    pose, presence = playback.at(2.0)
    np.testing.assert_array_equal(pose.joint_rotations, avatar.portrait_pose.joint_rotations)
    assert presence is Presence.LINK_LOST


def test_the_operators_usual_pose_is_the_portraits(playback, avatar):
    """Whatever bearing a camera sees the operator under, it is shown as in the portrait."""
    usual = _pose((0.3, 0.2, 0.9), pelvis=(2.9, 0.1, 0), neck=(0.3, 0.2, 0), left_hip=(1, 0, 0))
    now_s = _live(playback, 0.0, usual)
    pose, presence = playback.at(now_s)
    assert presence is Presence.LIVE
    assert pose.stamp_ns == usual.stamp_ns
    portrait = avatar.portrait_pose
    for joint in ('pelvis', 'spine2', 'neck', 'head', 'left_hip'):
        np.testing.assert_allclose(_matrix(pose, joint), _matrix(portrait, joint), atol=1e-5)
    np.testing.assert_allclose(_neck(pose), _neck(portrait), atol=1e-5)


def test_a_turn_of_head_or_chest_is_the_same_turn_on_the_screen(playback):
    now_s = _live(playback, 0.0, _pose(head=(0.1, 0, 0)))
    before = _bearings(playback.at(now_s)[0])
    turned = _pose(head=(0.1, 0, 0), neck=(0, 0.4, 0), spine2=(0, 0.2, 0))
    now_s = _live(playback, now_s, turned)
    chest, head = (after * b.inv() for after, b in
                   zip(_bearings(playback.at(now_s)[0]), before, strict=True))
    # in the camera the body's y axis points down: a turn to the left is about -y
    np.testing.assert_allclose(chest.as_rotvec(), (0, -0.2, 0), atol=1e-5)
    np.testing.assert_allclose(head.as_rotvec(), (0, -0.6, 0), atol=1e-5)


def test_an_arm_out_of_view_rests_as_in_the_portrait(playback, avatar):
    raised = _pose(left_shoulder=(0, 0, 1.0), right_shoulder=(0, 0, -1.0))
    raised.confidence[PART_INDEX['left_arm']] = 0
    now_s = _live(playback, 0.0, raised)
    shown = playback.at(now_s)[0].joint_rotations
    portrait = avatar.portrait_pose.joint_rotations
    for joint, expected in (('left_shoulder', portrait[JOINT_INDEX['left_shoulder']]),
                            ('right_shoulder', (0, 0, -1.0))):
        np.testing.assert_allclose(shown[JOINT_INDEX[joint]], expected, atol=1e-5)


@pytest.mark.parametrize('side', ['left', 'right'])
def test_a_hand_at_the_face_is_there_on_an_avatar_that_sits_otherwise(avatar, side):
    """Leaning back, with another body: by the arm's angles alone the hand would miss by far."""
    betas = np.linspace(-1, 1, len(avatar.betas)).astype(np.float32)
    avatar = replace(avatar, betas=betas, portrait_pose=_pose(
        (0.0, 0.4, 2.0), spine1=(-0.2, 0, 0.1), neck=(0.2, 0, 0), left_shoulder=(0, 0, -1.2)))
    inward = 1 if side == 'left' else -1
    operator = _pose(**{f'{side}_shoulder': (0, inward * -0.4, inward * -0.9),
                        f'{side}_elbow': (0, inward * -2.3, 0)})
    playback = PosePlayback(avatar, load_body_model(), _CONFIG)
    for moment in range(20):
        playback.put(operator, moment * 0.1)
    shown, _ = playback.at(2.0)
    arm = [JOINT_INDEX[f'{side}_{name}'] for name in ('shoulder', 'elbow', 'wrist')]
    rotations = shown.joint_rotations.copy()
    rotations[arm] = operator.joint_rotations[arm]
    by_angles = replace(shown, joint_rotations=rotations)

    def from_head(pose, betas):
        joints = _joints(pose, betas)
        return _bearings(pose)[1].inv().apply(joints[arm[-1]] - joints[JOINT_INDEX['head']])

    own = from_head(operator, np.zeros_like(betas))
    assert np.linalg.norm(from_head(by_angles, betas) - own) > 0.05
    np.testing.assert_allclose(from_head(shown, betas), own, atol=1e-3)


def test_a_hand_out_of_reach_is_pointed_at_with_a_straight_arm():
    model = load_body_model()
    joints = model.zero_pose_joints(np.zeros(len(model.shape_basis), np.float32))
    local = np.tile(np.eye(3), (55, 1, 1))
    shoulder, elbow, wrist = (
        JOINT_INDEX[f'left_{name}'] for name in ('shoulder', 'elbow', 'wrist'))
    # An operator with arms of twice the length, stretched aside, and an avatar that bends its own.
    longer = joints.copy()
    longer[wrist] += 2 * (joints[wrist] - joints[shoulder])
    local[elbow] = Rotation.from_rotvec((0, -1.5, 0)).as_matrix()
    Reach(joints, longer)(local, ['left'], np.tile(np.eye(3), (55, 1, 1)), np.eye(3))
    assert np.isfinite(local).all()
    assert Rotation.from_matrix(local[elbow]).magnitude() < 0.15


def test_a_step_aside_moves_the_neck_by_as_much(playback):
    now_s = _live(playback, 0.0, _pose())
    before = _neck(playback.at(now_s)[0])
    now_s = _live(playback, now_s, _pose((0.02, 0.5, 1.48)))
    moved = _neck(playback.at(now_s)[0]) - before
    np.testing.assert_allclose(moved, (0.02, 0, -0.02), atol=2e-4)
    now_s = _live(playback, now_s, _pose((5.0, 0.5, 1.5)))  # but never out of the picture
    assert 0.1 < _neck(playback.at(now_s)[0])[0] - before[0] < 0.16


def test_a_lasting_shift_returns_to_the_middle(avatar):
    playback = PosePlayback(avatar, load_body_model(), replace(_CONFIG, recentre_s=2.0))
    now_s = _live(playback, 0.0, _pose())
    middle = _neck(playback.at(now_s)[0])
    now_s = _live(playback, now_s, _pose((0.1, 0.5, 1.5)), seconds=20.0)
    np.testing.assert_allclose(_neck(playback.at(now_s)[0]), middle, atol=0.002)


def test_a_lost_operator_is_held_then_marked_and_eased_to_the_portrait(playback, avatar):
    raised = _pose(left_shoulder=(0, 0, 1.0))
    unseen = replace(raised, confidence=np.zeros(6, np.float32))
    now_s = _live(playback, 0.0, raised)
    states, shoulders = [], []
    for step_s in np.arange(0, 4, 1 / 30):
        playback.put(unseen, now_s + step_s)
        pose, presence = playback.at(now_s + step_s)
        states.append(presence)
        shoulders.append(pose.joint_rotations[JOINT_INDEX['left_shoulder'], 2])
    assert list(dict.fromkeys(states)) == [
        Presence.LIVE, Presence.HOLDING, Presence.OPERATOR_LOST]
    assert shoulders[0] == pytest.approx(1.0)
    assert shoulders[-1] == pytest.approx(-1.2)
    assert np.abs(np.diff(shoulders)).max() < 0.2  # eased over 0.6 s, never a jump


def test_a_lost_link_is_told_from_a_lost_operator(playback):
    now_s = _live(playback, 0.0, _pose())
    assert playback.at(now_s + 1.0)[1] is Presence.HOLDING
    assert playback.at(now_s + 2.0)[1] is Presence.LINK_LOST


def test_the_return_is_eased_even_after_a_short_gap(playback):
    now_s = _live(playback, 0.0, _pose())
    back_s = now_s + 1.0  # held all the time
    playback.at(back_s - 0.01)
    shown = []
    for step_s in np.arange(0, 1, 1 / 30):
        playback.put(_pose(left_elbow=(0, 1.0, 0)), back_s + step_s)
        shown.append(playback.at(back_s + step_s)[0].joint_rotations[JOINT_INDEX['left_elbow'], 1])
    assert shown[0] < 0.05
    assert shown[-1] == pytest.approx(1.0)
    assert np.abs(np.diff(shown)).max() < 0.2


def test_blend_is_geodesic():
    half = blend(_pose(), _pose(head=(0, 1.0, 0)), 0.5)
    np.testing.assert_allclose(half.joint_rotations[JOINT_INDEX['head']], (0, 0.5, 0), atol=1e-6)
    # half a turn has two axis-angle vectors: compare the turns
    facing = Rotation.from_rotvec(half.joint_rotations[0]).as_matrix()
    np.testing.assert_allclose(facing, np.diag([1, -1, -1]), atol=1e-5)


_IDLE = replace(_CONFIG, idle_motion=1.0)
_LIDS = [BLENDSHAPE_INDEX[name] for name in ('eyeBlinkLeft', 'eyeBlinkRight')]


def _run(playback, pose, start_s, end_s, arrives, rate_hz=30):
    """Return times, poses and presences; ``arrives(time_s)`` says whether a pose comes."""
    times = np.arange(start_s, end_s, 1 / rate_hz)
    shown = []
    for time_s in times:
        if arrives(time_s):
            playback.put(pose, time_s)
        shown.append(playback.at(time_s))
    poses, presences = zip(*shown, strict=True)
    return times, list(poses), list(presences)


def test_a_live_operator_gets_no_idle_motion(avatar):
    pose = _pose(left_eye=(0.1, 0.1, 0))
    pose.blendshapes[_LIDS] = 0.6, 0.5
    still, idle = (PosePlayback(avatar, load_body_model(), config) for config in (_CONFIG, _IDLE))
    for playback in (still, idle):
        playback.put(pose, 0.0)
        playback.at(0.0)
    for time_s in np.arange(0.1, 20, 0.1):
        for playback in (still, idle):
            playback.put(pose, time_s)
        one, two = still.at(time_s)[0], idle.at(time_s)[0]
        assert np.array_equal(one.joint_rotations, two.joint_rotations)
        assert np.array_equal(one.blendshapes, two.blendshapes)


def test_a_lost_link_leaves_an_avatar_that_breathes_and_blinks(avatar):
    playback = PosePlayback(avatar, load_body_model(), _IDLE)
    _, poses, presences = _run(playback, _pose(), 0.0, 40.0, lambda time_s: time_s < 2)
    idling = [pose for pose, presence in zip(poses, presences, strict=True)
              if presence is Presence.LINK_LOST]
    lids = np.array([pose.blendshapes[_LIDS[0]] for pose in idling])
    collar = np.array([pose.joint_rotations[JOINT_INDEX['left_collar'], 2] for pose in idling])
    assert lids.max() > 0.95
    assert np.mean(lids < 0.05) > 0.8
    assert 4 <= np.sum(np.diff(np.sign(collar - collar.mean())) > 0) <= 13  # breaths in 36 s


def test_idle_motion_comes_and_goes_without_a_pop(avatar):
    """Nor does it where the link returns in the middle of a blink, or comes and goes."""
    eyes = [JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]
    body = [joint for joint in range(55) if joint not in eyes]
    for back_s in np.arange(6.0, 16.0, 0.7):
        playback = PosePlayback(avatar, load_body_model(), _IDLE)
        _, poses, presences = _run(
            playback, _pose(left_shoulder=(0, 0, -1.1)), 0.0, back_s + 3,
            lambda time_s, back_s=back_s: time_s < 2 or 3 < time_s < 3.2 or time_s > back_s)
        assert presences[-1] is Presence.LIVE
        assert Presence.LINK_LOST in presences
        turns = Rotation.from_rotvec(np.array([p.joint_rotations for p in poses]).reshape(-1, 3))
        turns = turns.as_matrix().reshape(-1, 55, 3, 3)
        steps = Rotation.from_matrix((np.swapaxes(turns[:-1], 2, 3) @ turns[1:]).reshape(-1, 3, 3))
        steps = np.degrees(steps.magnitude().reshape(-1, 55))
        assert steps[:, body].max() < 0.7   # 20 degrees a second: the shoulder's own easing
        assert steps[:, eyes].max() < 6     # a saccade
        shapes = np.array([pose.blendshapes for pose in poses])
        assert np.abs(np.diff(shapes[:, _LIDS], axis=0)).max() < 0.75  # lids shut in 90 ms
        others = np.delete(shapes, _LIDS, axis=1)
        assert np.abs(np.diff(others, axis=0)).max() < 0.2


def test_an_operator_lost_in_mid_blink_does_not_stay_so(avatar):
    playback = PosePlayback(avatar, load_body_model(), _IDLE)
    pose = _pose()
    pose.blendshapes[_LIDS] = 1.0
    _, poses, presences = _run(playback, pose, 0.0, 1.4, lambda time_s: time_s < 0.2)
    assert set(presences) == {Presence.LIVE, Presence.HOLDING}
    assert min(p.blendshapes[_LIDS[0]] for p in poses) < 0.1


def test_eye_contact_is_for_the_live_eyes(avatar):
    config = replace(_CONFIG, eye_contact=1.0)
    with_contact = PosePlayback(avatar, load_body_model(), config)
    without = PosePlayback(avatar, load_body_model(), _CONFIG)
    looks_past = _pose(left_eye=(0.12, 0.05, 0), right_eye=(0.12, 0.05, 0))
    for playback in (with_contact, without):
        _live(playback, 0.0, looks_past)
    led, own = (playback.at(2.0)[0].joint_rotations[JOINT_INDEX['left_eye']]
                for playback in (with_contact, without))
    np.testing.assert_allclose(own, (0.12, 0.05, 0), atol=1e-5)
    assert np.linalg.norm(led - own) > 0.05
