"""Managed nodes: states, parameters and QoS while they run, and their end, in real processes."""
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from graph import TIMEOUT_S, Managed, Watcher, alive, node_process
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.qos import ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from visa_ros.action import Reconstruct
from visa_ros.msg import FrameTiming, GaussianAvatar, OperatorPose
from visa_ros.nodes._conversions import image_from_msg
from visa_ros.nodes._qos import LATCHED, STREAM_IN

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = (
    Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE)

# Each node, a parameter that keeps it quiet, and a topic that it opens.
NODES = {
    'video_source': ('camera.source:=demo', 'image_raw'),
    'pose_capture': ('capture.hands:=false', 'operator_pose'),
    'avatar_reconstruction': ('avatar.portrait:=demo', 'avatar'),
    'avatar_renderer': ('rendering.threads:=1', 'shaded/image'),
    'avatar_display': ('display.port:=0', 'frame_timing'),
    'telepresence': ('display.port:=0', 'frame_timing'),
}
# 2 s are promised; what is added is for a crowded machine.
END_S = 2 + 3


@pytest.fixture
def watcher(ros_domain, astronaut):
    watcher = Watcher('manager')
    watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
    yield watcher
    watcher.close()


def managed(name, *parameters, namespace='/'):
    return node_process(name, NODES[name][0], 'lifecycle.autostart:=false', *parameters,
                        namespace=namespace)


def endpoints(watcher, topic):
    return watcher.node.count_publishers(topic) + watcher.node.count_subscribers(topic)


def health(watcher, name):
    """Return message and values of a node's last diagnostics."""
    for message in reversed(watcher.received['/diagnostics']):
        for status in message.status:
            if status.name == f'/{name}: status':
                return {'message': status.message} | {v.key: v.value for v in status.values}
    return {}


@pytest.mark.parametrize('name', NODES)
def test_topics_are_open_while_active_only_and_no_request_ends_the_node(watcher, name):
    topic = NODES[name][1]
    with managed(name) as process:
        node = Managed(watcher, name)
        assert node.state == 'unconfigured'
        assert not node.change(ACTIVATE)  # impossible from here
        for _ in range(2):
            assert node.change(CONFIGURE)
            assert not node.change(CONFIGURE)
            assert node.state == 'inactive'
            assert endpoints(watcher, topic) == 0
            for _ in range(2):
                assert node.change(ACTIVATE)
                watcher.wait(lambda: endpoints(watcher, topic), f'topic {topic}')
                assert node.state == 'active'
                assert node.change(DEACTIVATE)
                watcher.wait(lambda: not endpoints(watcher, topic), f'no topic {topic}')
            assert node.change(CLEANUP)
        assert node.state == 'unconfigured'
        last = watcher.wait(lambda: health(watcher, name), 'diagnostics')
        assert int(last['memory_mb']) > 20
        assert int(last['threads']) >= 1
        assert alive(process)


@pytest.mark.parametrize('transitions', [(), (CONFIGURE,), (CONFIGURE, ACTIVATE)],
                         ids=('unconfigured', 'inactive', 'active'))
@pytest.mark.parametrize('name', NODES)
def test_a_signal_ends_a_node_in_time_from_any_state(watcher, name, transitions):
    number = signal.SIGINT if transitions else signal.SIGTERM
    before = _shared_memory()
    with managed(name) as process:
        node = Managed(watcher, name)
        for transition in transitions:
            assert node.change(transition)
        assert node.state
        own = _shared_memory() - before
        assert own or get_rmw_implementation_identifier() != 'rmw_fastrtps_cpp'
        _end(process, number)
    assert not own & _shared_memory()  # else it fills the machine's memory, start by start


def _shared_memory():
    """Return the names of Fast DDS's segments; those of ports are everybody's."""
    return {path.name for path in Path('/dev/shm').glob('fastrtps_*')
            if not path.name.startswith('fastrtps_port') and not path.name.endswith('_el')}


def test_a_signal_ends_a_node_that_is_loading(watcher):
    with managed('pose_capture') as process:
        node = Managed(watcher, 'pose_capture')
        assert node.state == 'unconfigured'
        node.send('change_state', ChangeState.Request(transition=Transition(id=CONFIGURE)))
        _end(process, signal.SIGTERM)


def test_a_signal_ends_a_node_that_builds_an_avatar(watcher):
    with node_process('avatar_reconstruction', 'reconstruction.refine_steps:=1999') as process:
        watcher.wait(lambda: 'building' in health(watcher, 'avatar_reconstruction').get(
            'message', ''), 'a build at work')
        _end(process, signal.SIGINT)


def _end(process, number):
    start_s = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert time.monotonic() - start_s < END_S, output
    assert process.returncode == 0, output
    assert 'Traceback' not in output


def test_what_cannot_be_configured_says_why_and_can_be_mended(watcher, tmp_path):
    with managed('pose_capture', f'capture.model_folder:={tmp_path}') as process:
        node = Managed(watcher, 'pose_capture')
        assert not node.change(CONFIGURE)
        assert node.state == 'unconfigured'
        assert node.set('capture.model_folder', '').successful
        assert node.change(CONFIGURE)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert 'not configured' in output
    assert str(tmp_path) in output
    assert 'Traceback' not in output


def test_an_avatar_in_the_making_is_given_up_by_deactivation(watcher):
    with managed('avatar_reconstruction', 'avatar.portrait:=""', 'avatar.sign_requests:=true',
                 'reconstruction.refine_steps:=1998') as process:
        node = Managed(watcher, 'avatar_reconstruction')
        assert node.change(CONFIGURE)
        assert node.change(ACTIVATE)
        client = ActionClient(watcher.node, Reconstruct, 'reconstruct')
        assert client.wait_for_server(TIMEOUT_S)
        steps = []
        sent = client.send_goal_async(
            Reconstruct.Goal(portrait_path='demo', operator_id='operator'),
            feedback_callback=lambda message: steps.append(message.feedback.step))
        goal = watcher.wait(sent.result, 'the goal')
        goal.get_result_async()
        watcher.wait(lambda: 'fit' in steps or 'refine' in steps, 'a build at work')
        second = client.send_goal_async(
            Reconstruct.Goal(portrait_path='demo', operator_id='operator'))
        assert not watcher.wait(second.result, 'an answer').accepted, 'one at a time'
        assert node.change(DEACTIVATE)
        assert node.change(CLEANUP)
        assert node.set('reconstruction.refine_steps', 150).successful
        assert node.set('avatar.portrait', 'demo').successful
        assert node.change(CONFIGURE)
        assert node.change(ACTIVATE)
        avatars = watcher.subscribe(GaussianAvatar, 'avatar', LATCHED)
        watcher.wait(lambda: avatars, 'the avatar')
        assert alive(process)


def test_the_picture_returns_with_each_activation(watcher):
    """One process, two nodes; the avatar outlives deactivation and cleanup of the picture."""
    timing = watcher.subscribe(FrameTiming, 'frame_timing', STREAM_IN)
    with managed('telepresence'):
        telepresence, builder = (
            Managed(watcher, name) for name in ('telepresence', 'avatar_reconstruction'))
        for node in (telepresence, builder):
            assert node.change(CONFIGURE)
            assert node.change(ACTIVATE)
        for way in ((), (DEACTIVATE, ACTIVATE), (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE)):
            for transition in way:
                assert telepresence.change(transition)
                timing.clear()
            watcher.wait(lambda: any(frame.presence == FrameTiming.LIVE for frame in timing),
                         f'a live picture after {way}')


@pytest.fixture(scope='class')
def renderer(ros_domain, astronaut):
    """Yield a watcher and an active renderer with its avatar, watched."""
    watcher = Watcher('manager')
    watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
    pictures = watcher.subscribe(Image, '/robot1/coarse/image', STREAM_IN)
    with node_process('avatar_reconstruction', namespace='/robot1'), \
            node_process('avatar_renderer', namespace='/robot1'):
        watcher.wait(lambda: pictures, 'a picture')
        yield watcher, Managed(watcher, '/robot1/avatar_renderer'), pictures
    watcher.close()


class TestParametersOfANodeThatRuns:

    def test_what_may_change_is_seen_at_once(self, renderer):
        watcher, node, pictures = renderer
        assert node.set('rendering.background', '#00ff00').successful
        watcher.wait(lambda: np.array_equal(image_from_msg(pictures[-1]).rgb[0, 0], (0, 255, 0)),
                     'a green background')

    @pytest.mark.parametrize(('name', 'value', 'reason'), [
        ('rendering.width', 256, 'is read when the node is configured'),
        ('lifecycle.autostart', False, 'is read when the node is configured'),
        ('rendering.background', 'blueish', 'must be a colour'),
        ('playback.hold_s', -1.0, 'playback.hold_s'),
        ('pacing.idle_fps', 'fast', 'Wrong parameter type')])
    def test_what_may_not_is_refused_with_a_reason(self, renderer, name, value, reason):
        result = renderer[1].set(name, value)
        assert not result.successful
        assert reason in result.reason

    def test_an_image_that_is_none_is_refused_and_the_picture_stays(self, renderer, tmp_path):
        watcher, node, pictures = renderer
        path = tmp_path / 'cut.png'
        path.write_bytes(cv2.imencode('.png', np.zeros((64, 64, 3), np.uint8))[1].tobytes()[:60])
        before = node.get('rendering.background')
        result = node.set('rendering.background', str(path))
        assert not result.successful
        assert 'rendering.background' in result.reason
        assert node.get('rendering.background') == before
        pictures.clear()
        watcher.wait(lambda: pictures, 'a picture')

    def test_a_rate_changes(self, renderer):
        watcher, node, _ = renderer
        assert node.set('pacing.idle_fps', 2.0).successful
        watcher.wait(lambda: 1.5 < float(
            health(watcher, 'robot1/avatar_renderer').get('rate_hz', 0)) < 2.5, '2 Hz')

    def test_diagnostics_say_what_draws(self, renderer):
        watcher, _, _ = renderer
        last = watcher.wait(lambda: health(watcher, 'robot1/avatar_renderer'), 'diagnostics')
        assert last['backend'] in ('cpu', 'gsplat')
        assert {'rate_hz', 'age_ms', 'dropped', 'deadline_misses', 'memory_mb', 'threads',
                'state'} <= set(last)


def test_qos_is_overridden_by_parameters_and_a_backlog_is_refused(watcher):
    name = 'qos_overrides./operator_pose.subscription.{}:={}'
    with node_process('avatar_renderer', name.format('reliability', 'reliable')):
        found = watcher.wait(lambda: watcher.node.get_subscriptions_info_by_topic(
            'operator_pose'), 'the subscription')
        assert found[0].qos_profile.reliability is ReliabilityPolicy.RELIABLE
    with node_process('avatar_renderer', name.format('history', 'keep_all')) as process:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert 'backlog' in output


def test_a_node_that_nobody_listens_to_does_not_work(watcher):
    with node_process('video_source'), node_process('pose_capture'):
        watcher.wait(lambda: health(watcher, 'pose_capture').get('message') == 'nobody listens',
                     'an idle capture')
        assert health(watcher, 'pose_capture')['age_ms'] == ''
        poses = watcher.subscribe(OperatorPose, 'operator_pose', STREAM_IN)
        watcher.wait(lambda: poses, 'a pose')


def test_stamps_are_of_simulated_time_where_that_is_used(watcher):
    clock = watcher.node.create_publisher(Clock, '/clock', 1)
    images = watcher.subscribe(Image, 'image_raw', STREAM_IN)
    now = Clock()
    now.clock.sec = 1000
    with node_process('video_source', 'use_sim_time:=true'):
        watcher.publish_until(clock, now, lambda: any(
            abs(image.header.stamp.sec - 1000) < 5 for image in images), 'an image of 1000 s')
