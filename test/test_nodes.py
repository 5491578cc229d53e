"""The separate nodes as a user runs them: fresh processes over real DDS, good and bad input."""
import array
import os
import signal
import socket
import time
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import dropwhile

import av
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from graph import TIMEOUT_S, Watcher, alive, node_process
from rclpy.action import ActionClient
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from visa_ros._optional import available
from visa_ros.action import Reconstruct
from visa_ros.msg import FrameTiming, GaussianAvatar, OperatorPose
from visa_ros.nodes import _policy
from visa_ros.nodes._conversions import (
    avatar_to_msg,
    image_from_msg,
    pose_from_msg,
    pose_to_msg,
    stamp_from_msg,
)
from visa_ros.nodes._qos import LATCHED, STREAM_IN, STREAM_OUT, VIDEO_OUT
from visa_ros.trust.consent import signed
from visa_ros.trust.keys import load_or_make_key
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.types import Presence

with socket.create_server(('127.0.0.1', 0)) as _free:
    _WEB_PORT = _free.getsockname()[1]


def _reports(watcher, node):
    """Return a node's diagnostics so far, each as a dictionary."""
    return [{'message': status.message} | {v.key: v.value for v in status.values}
            for message in watcher.received['/diagnostics'] for status in message.status
            if status.name == f'/{node}: status']


def _health(watcher, node):
    """Return the values of a node's last diagnostics."""
    return (_reports(watcher, node) or [{}])[-1]


@pytest.fixture(scope='module')
def graph(ros_domain, astronaut):
    """Run capture, reconstruction (from the cache), rendering and display; no camera yet."""
    with ExitStack() as stack:
        watcher = Watcher('watcher')
        stack.callback(watcher.close)
        watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
        processes = {name: stack.enter_context(node_process(name, *parameters))
                     for name, parameters in {
                         'pose_capture': (),
                         'avatar_reconstruction': ('avatar.portrait:=demo',
                                                   'avatar.sign_requests:=true'),
                         'avatar_renderer': ('video.transport:=h264',),
                         'avatar_display': (f'display.port:={_WEB_PORT}',)}.items()}
        watcher.subscribe(OperatorPose, 'operator_pose', STREAM_IN)
        watcher.subscribe(Image, 'coarse/image', STREAM_IN)
        watcher.subscribe(FrameTiming, 'frame_timing', STREAM_IN)
        watcher.subscribe(GaussianAvatar, 'avatar', LATCHED)
        yield watcher, processes


@pytest.fixture(scope='class')
def live(graph):
    """Add the camera, and wait until the avatar follows it."""
    watcher, _ = graph
    watcher.subscribe(Image, 'image_raw', STREAM_IN)
    with node_process('video_source'):
        watcher.wait(lambda: any(message.presence == FrameTiming.LIVE and message.stage_ms
                                 for message in watcher.received['frame_timing'][-3:]),
                     'a live frame')
        yield watcher


def test_the_avatar_reaches_a_late_joiner(graph, astronaut):
    watcher, _ = graph
    message = watcher.wait(lambda: watcher.received['avatar'], 'the avatar')[-1]
    assert len(message.avatar_id) == 64
    assert message.body_model == astronaut[0].body_model
    late = Watcher('late_joiner')
    try:
        messages = late.subscribe(GaussianAvatar, 'avatar', LATCHED)
        late.wait(lambda: messages, 'the latched avatar')
        assert messages[-1].avatar_id == message.avatar_id
    finally:
        late.close()


def test_the_policy_allows_what_the_nodes_open_and_no_more(graph):
    watcher, processes = graph
    unused = {'/tf', '/clock', '/image_raw/compressed', '/shaded/image/compressed',
              *(f'/shaded/image/{name}' for name in ('h264', 'ffmpeg', 'foxglove')),
              *(f'/{topic}' for topic in _policy._HUMANS)}  # hri_msgs and tf2_ros are in no wheel

    def opened(ask, node):
        return {name for name, _ in ask(node, '/')}

    for node in processes:
        # A node is complete when its last topic is: diagnostics.
        watcher.wait(lambda node=node: _health(watcher, node), f'{node} in the graph')
        may = _policy.NODES[node]
        for ask, topics in (
                (watcher.node.get_publisher_names_and_types_by_node,
                 (*_policy._EVERY_NODE, *may.publish)),
                (watcher.node.get_subscriber_names_and_types_by_node, may.subscribe)):
            names = {name for name in opened(ask, node) if '/_action/' not in name}
            allowed = {name if name[0] == '/' else f'/{name}'
                       for name in (topic.replace('~', node) for topic in topics)}
            assert names <= allowed, node
            assert allowed - names <= unused, node
        services = opened(watcher.node.get_service_names_and_types_by_node, node)
        assert services == {f'/{node}/{name}' for name in _policy._SERVICES} | {
            f'/{action}/_action/{part}' for action in may.execute
            for part in ('send_goal', 'get_result', 'cancel_goal')}, node


class TestLive:

    def test_stamps_of_the_camera_reach_the_picture(self, live):
        def matched():
            seen = _stamps(live.received['image_raw'])
            return [m for m in live.received['coarse/image']
                    if stamp_from_msg(m.header.stamp) in seen]
        live.wait(lambda: len(matched()) > 10, 'pictures with the stamps of camera images')

    def test_stamps_of_the_camera_reach_the_screens_picture_and_its_timing(self, live):
        """What sound is aligned by: doc/display.md."""
        pictures = live.subscribe(Image, 'shaded/image', STREAM_IN)

        def matched():
            return (_stamps(live.received['image_raw']) & _stamps(live.received['frame_timing'])
                    & _stamps(pictures))
        live.wait(lambda: len(matched()) > 10, 'pictures and timings with stamps of the camera')

    def test_the_picture_shows_somebody_who_moves(self, live):
        frames = live.received['coarse/image']
        live.wait(lambda: len({stamp_from_msg(m.header.stamp) for m in frames}) > 15, 'frames')
        pictures = [image_from_msg(m).rgb.astype(np.float32) for m in frames[-12:]]
        assert pictures[0].shape == (512, 512, 3)
        assert pictures[0].std() > 20
        assert np.abs(pictures[-1] - pictures[0]).max() > 30

    def test_poses_are_valid_and_of_somebody_seen(self, live):
        live.wait(lambda: live.received['operator_pose'][-1].confidence[1] > 0.5, 'a face')
        pose = pose_from_msg(live.received['operator_pose'][-1])
        assert pose.translation[2] > 0.3  # before the camera
        assert pose.operator_id == 'operator'

    def test_rviz_topics_come_on_request(self, live):
        markers = live.subscribe(MarkerArray, 'skeleton', STREAM_IN)
        points = live.subscribe(PointCloud2, 'avatar/points', STREAM_IN)
        jpegs = live.subscribe(CompressedImage, 'coarse/image/compressed', STREAM_IN)
        live.wait(lambda: markers and points and jpegs, 'skeleton, points and JPEG')
        assert len(markers[-1].markers[0].points) == 2 * 54
        assert points[-1].width > 10_000
        assert bytes(jpegs[-1].data[:2]) == b'\xff\xd8'

    def test_the_picture_comes_as_h264_to_whoever_joins_when_he_does(self, live):
        pictures = live.subscribe(Image, 'shaded/image', STREAM_IN)
        for name in ('viewer', 'late_viewer'):
            with closing(Watcher(name)) as viewer:
                stream = viewer.subscribe(CompressedImage, 'shaded/image/h264', VIDEO_OUT)
                viewer.wait(lambda stream=stream: _alike(_from_keyframe(stream), pictures) > 3,
                            'a stream that shows what the pictures show')
            assert len(stream) - len(_from_keyframe(stream)) < 2  # one may have been under way
            assert {message.format for message in stream} == {'h264'}
        seen, start = len(pictures), len(_reports(live, 'avatar_renderer'))

        def counts():
            return [report['video_coded'] for report in _reports(live, 'avatar_renderer')[start:]]

        live.wait(lambda: len(counts()) > 2 and len(set(counts()[-2:])) == 1,
                  'a second without coding, for nobody looks')
        assert len(pictures) > seen

    def test_the_web_page_is_served(self, live):
        with urllib.request.urlopen(f'http://127.0.0.1:{_WEB_PORT}/healthz', timeout=10) as page:
            assert page.status == 200


def _stamps(messages):
    return {stamp_from_msg(message.header.stamp) for message in messages}


def _from_keyframe(stream):
    """Return H.264 messages from the first that a decoder can begin with."""
    return list(dropwhile(
        lambda message: b'\x00\x00\x01\x65' not in bytes(message.data), stream))


def _alike(stream, pictures):
    """
    Decode H.264 messages; return how many show the picture of their stamp.

    Not all need to: a stamp stands still, unlike the avatar, while no pose comes.
    """
    raw = {stamp_from_msg(message.header.stamp): image_from_msg(message).rgb.astype(float)
           for message in pictures}
    decoder, count = av.CodecContext.create('h264', 'r'), 0
    for message in stream:
        frame, = decoder.decode(av.Packet(bytes(message.data)))
        picture = raw.get(stamp_from_msg(message.header.stamp))
        if picture is not None:
            noise = np.square(frame.to_ndarray(format='rgb24') - picture).mean()
            count += noise < 255**2 * 10**-3.2  # 32 dB
    return count


def _flood(watcher, publisher, message, condition, what):
    """Publish without a pause, 200 times a second, until the condition holds."""
    for _ in range(int(200 * TIMEOUT_S)):
        publisher.publish(message)
        try:
            return watcher.wait(condition, what, 0.005)
        except AssertionError:
            pass
    raise AssertionError(f'waited in vain for {what}')


class TestBadInput:
    """Each bad message is refused and counted, and the node works on."""

    def test_nan_pose(self, graph):
        watcher, processes = graph
        publisher = watcher.node.create_publisher(OperatorPose, 'operator_pose', STREAM_OUT)
        bad = OperatorPose(operator_id='operator', version=OperatorPose.VERSION)
        bad.translation[1] = np.nan
        watcher.publish_until(
            publisher, bad,
            lambda: int(_health(watcher, 'avatar_renderer').get('refused_poses', 0)),
            'a refused pose in the diagnostics')
        assert alive(processes['avatar_renderer'])

    def test_pose_of_somebody_else(self, graph):
        watcher, processes = graph
        publisher = watcher.node.create_publisher(OperatorPose, 'operator_pose', STREAM_OUT)
        before = int(_health(watcher, 'avatar_renderer').get('refused_poses', 0))
        stranger = OperatorPose(operator_id='stranger', version=OperatorPose.VERSION)
        watcher.publish_until(
            publisher, stranger,
            lambda: int(_health(watcher, 'avatar_renderer').get('refused_poses', 0)) > before,
            'a refused stranger')
        assert alive(processes['avatar_renderer'])

    def test_strangers_poses_at_any_rate_do_not_stop_the_picture(self, graph):
        watcher, _ = graph
        publisher = watcher.node.create_publisher(OperatorPose, 'operator_pose', STREAM_OUT)
        timing = watcher.received['frame_timing']
        before = int(_health(watcher, 'avatar_renderer').get('refused_poses', 0))
        _flood(watcher, publisher, OperatorPose(operator_id='stranger'),
               lambda: int(_health(watcher, 'avatar_renderer').get('refused_poses', 0)) > before,
               'refused strangers')
        start = len(timing)
        _flood(watcher, publisher, OperatorPose(operator_id='stranger'),
               lambda: len(timing) > start + 10, 'pictures meanwhile')
        assert timing[-1].presence == FrameTiming.LINK_LOST
        watcher.node.destroy_publisher(publisher)

    def test_poses_of_any_time_move_the_avatar_and_are_called_by_it(self, graph, astronaut):
        watcher, _ = graph
        watcher.wait(lambda: int(_health(watcher, 'avatar_renderer').get('gaussians', 0)),
                     'the avatar in the renderer')
        publisher = watcher.node.create_publisher(OperatorPose, 'operator_pose', STREAM_OUT)
        pose = replace(astronaut[0].portrait_pose, confidence=np.ones(6, np.float32),
                       operator_id='operator')
        now_ns = time.time_ns()
        for stamp_ns in (now_ns + 3600 * 10**9, now_ns, now_ns - 3600 * 10**9, 0):
            watcher.publish_until(
                publisher, pose_to_msg(replace(pose, stamp_ns=stamp_ns)),
                lambda stamp_ns=stamp_ns: any(
                    stamp_from_msg(frame.header.stamp) == stamp_ns
                    and frame.presence == FrameTiming.LIVE
                    for frame in watcher.received['frame_timing'][-30:]), 'a live frame')
        watcher.node.destroy_publisher(publisher)

    @pytest.mark.parametrize('changes', [
        {'encoding': 'nonsense8'}, {'step': 7}, {'data': array.array('B', b'123')},
        {'width': 0, 'height': 0, 'step': 0, 'data': array.array('B')},
        {'header': Header(stamp=Time(sec=-1))},
        {'header': Header(stamp=Time(sec=2**31 - 1, nanosec=2**32 - 1))},
        {'header': Header(frame_id='x' * 5000)}])
    def test_bad_image(self, graph, changes):
        watcher, processes = graph
        publisher = watcher.node.create_publisher(Image, 'image_raw', STREAM_OUT)
        good = {'encoding': 'rgb8', 'width': 64, 'height': 48, 'step': 192,
                'data': array.array('B', bytes(64 * 48 * 3))}
        before = int(_health(watcher, 'pose_capture').get('refused', 0))
        watcher.publish_until(
            publisher, Image(**(good | changes)),
            lambda: int(_health(watcher, 'pose_capture').get('refused', 0)) > before,
            'a refused image')
        assert alive(processes['pose_capture'])

    def test_tampered_avatar_leaves_the_shown_one(self, graph):
        watcher, processes = graph
        good = watcher.wait(lambda: watcher.received['avatar'], 'the avatar')[0]
        watcher.wait(lambda: int(_health(watcher, 'avatar_renderer').get('gaussians', 0)),
                     'the avatar in the renderer')
        data = array.array('B', good.data)
        data[len(data) // 2] ^= 1
        bad = GaussianAvatar(header=good.header, avatar_id=good.avatar_id, data=data,
                             body_model=good.body_model, operator_id=good.operator_id)
        publisher = watcher.node.create_publisher(GaussianAvatar, 'avatar', LATCHED)
        watcher.publish_until(
            publisher, bad,
            lambda: int(_health(watcher, 'avatar_renderer').get('refused_avatars', 0)),
            'a refused avatar')
        watcher.node.destroy_publisher(publisher)
        assert int(_health(watcher, 'avatar_renderer')['gaussians']) > 10_000
        assert alive(processes['avatar_renderer'])

    def test_unsigned_avatar_leaves_the_shown_one(self, graph, astronaut):
        watcher, processes = graph
        watcher.wait(lambda: int(_health(watcher, 'avatar_renderer').get('gaussians', 0)),
                     'the avatar in the renderer')
        before = int(_health(watcher, 'avatar_renderer')['refused_avatars'])
        publisher = watcher.node.create_publisher(GaussianAvatar, 'avatar', LATCHED)
        watcher.publish_until(
            publisher, avatar_to_msg(astronaut[0], 0),
            lambda: int(_health(watcher, 'avatar_renderer')['refused_avatars']) > before,
            'a refused avatar')
        watcher.node.destroy_publisher(publisher)
        assert int(_health(watcher, 'avatar_renderer')['gaussians']) > 10_000
        assert alive(processes['avatar_renderer'])

    @pytest.mark.parametrize(('request_', 'reason'), [
        ({'portrait': array.array('B', b'not an image')}, 'cannot be decoded'),
        ({'portrait_path': '/nowhere.jpg'}, 'No such file'),
        ({'portrait_path': '/dev/zero'}, '64 MB'),
        ({'portrait_path': 'later.visa'}, 'format version 9'),
        ({'portrait_path': 'demo', 'operator_id': 'two\nlines'}, 'printable text'),
        ({'portrait_path': 'demo', 'operator_id': ''}, 'printable text')])
    def test_a_bad_goal_is_aborted_with_a_reason(self, graph, tmp_path, request_, reason):
        watcher, processes = graph
        if request_.get('portrait_path') == 'later.visa':
            path = tmp_path / 'later.visa'
            path.write_bytes(b'VISA' + (9).to_bytes(2, 'little') + bytes(100))
            request_ = {'portrait_path': str(path)}
        client = ActionClient(watcher.node, Reconstruct, 'reconstruct')
        assert client.wait_for_server(60)
        sent = client.send_goal_async(Reconstruct.Goal(**{'operator_id': 'x'} | request_))
        handle = watcher.wait(lambda: sent.done() and sent.result(), 'the goal')
        assert handle.accepted
        answer = handle.get_result_async()
        result = watcher.wait(lambda: answer.done() and answer.result(), 'the result').result
        assert not result.success
        assert reason in result.message
        assert alive(processes['avatar_reconstruction'])

    def test_after_all_that_the_avatar_follows_its_operator(self, graph):
        watcher, _ = graph
        with node_process('video_source'):
            watcher.wait(lambda: any(
                frame.presence == FrameTiming.LIVE and frame.stage_ms
                and frame.header.stamp.sec > time.time() - 30
                for frame in watcher.received['frame_timing'][-3:]), 'a live frame')


def test_a_screen_refuses_bad_pictures_marks_the_last_and_goes_on(ros_domain):
    rows = {'width': 64, 'height': 48, 'step': 192, 'data': array.array('B', bytes(64 * 48 * 3))}
    good = Image(encoding='rgb8', **rows)

    def health():
        return _health(watcher, 'screen/avatar_display')

    with closing(Watcher('edge')) as watcher, \
            node_process('avatar_display', 'display.port:=0', namespace='/screen') as process:
        watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
        publisher = watcher.node.create_publisher(Image, '/screen/shaded/image', STREAM_OUT)
        timing = watcher.node.create_publisher(FrameTiming, '/screen/frame_timing', STREAM_OUT)

        def shown_live():
            timing.publish(FrameTiming(presence=FrameTiming.LIVE))
            return health().get('presence') == 'LIVE' and health()['age_ms']

        watcher.publish_until(publisher, good, shown_live, 'a live picture')
        for bad in (Image(encoding='32FC1', **rows), Image(encoding='rgb8', **rows | {'step': 7}),
                    Image(header=Header(stamp=Time(sec=-1)), encoding='rgb8', **rows)):
            before = int(health()['refused'])
            _flood(watcher, publisher, bad, lambda before=before: (
                int(health()['refused']) > before and health()['presence'] == 'LINK_LOST'),
                'a mark over the last picture')
            watcher.publish_until(publisher, good, shown_live, 'a live picture again')
        timing.publish(FrameTiming(presence=200))  # of a later version
        watcher.publish_until(publisher, good, lambda: (
            timing.publish(FrameTiming(presence=200))
            or health()['presence'] == 'LINK_LOST'), 'the most careful mark')
        assert alive(process)


def test_a_revoked_avatar_leaves_the_screen(ros_domain, astronaut, tmp_path):
    """The robot meets its first operator, and is told while it shows her."""
    trust = TrustStore(TrustConfig(folder=str(tmp_path / 'robot')))
    avatar = signed(astronaut[0], load_or_make_key(tmp_path / 'laptop'))
    watcher = Watcher('operator')
    try:
        watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
        pictures = watcher.subscribe(Image, '/robot/shaded/image', STREAM_IN)
        publisher = watcher.node.create_publisher(GaussianAvatar, '/robot/avatar', LATCHED)
        publisher.publish(avatar_to_msg(avatar, 0))
        # Simulated time, and nobody who tells it: consent ends all the same.
        with node_process('avatar_renderer', f'trust.folder:={trust.folder}', 'use_sim_time:=true',
                          namespace='/robot'):
            watcher.wait(lambda: pictures, 'a picture')
            assert trust.trusted() == {avatar.consent.key: {'operator'}}
            assert image_from_msg(pictures[-1]).rgb.std() > 20, 'a person'
            trust.revoke(avatar.consent.key, 'stolen')
            watcher.wait(lambda: 'no more' in _health(watcher, 'robot/avatar_renderer')
                         .get('message', ''), 'the withdrawal')
            del pictures[:]
            watcher.wait(lambda: len(pictures) > 1, 'pictures after it')
            assert image_from_msg(pictures[-1]).rgb.std(axis=(0, 1)).max() == 0, 'nobody'
    finally:
        watcher.close()


def test_nobody_gets_an_avatar_signed_over_ros_unasked(ros_domain):
    watcher = Watcher('stranger')
    try:
        with node_process('avatar_reconstruction', "avatar.portrait:=''", namespace='/strict'):
            client = ActionClient(watcher.node, Reconstruct, '/strict/reconstruct')
            assert client.wait_for_server(60)
            sent = client.send_goal_async(Reconstruct.Goal(portrait_path='demo', operator_id='x'))
            handle = watcher.wait(lambda: sent.done() and sent.result(), 'the goal')
            answer = handle.get_result_async()
            result = watcher.wait(lambda: answer.done() and answer.result(), 'the result').result
        assert not result.success
        assert 'avatar.sign_requests' in result.message
    finally:
        watcher.close()


def test_without_a_camera_the_screen_says_so(graph):
    watcher, _ = graph
    watcher.wait(lambda: watcher.received['frame_timing']
                 and watcher.received['frame_timing'][-1].presence != Presence.LIVE,
                 'a frame that is marked')


@pytest.mark.parametrize(('parameter', 'reason'), [
    ('rendering.width:=-3', 'rendering.width'),
    pytest.param('video.transport:=ffmpeg', 'ros-jazzy-ffmpeg-image-transport-msgs',
                 marks=pytest.mark.skipif(available('ffmpeg_image_transport_msgs'),
                                          reason='is installed'))])
def test_what_cannot_be_had_ends_the_start_with_a_reason(ros_domain, parameter, reason):
    with node_process('avatar_renderer', parameter) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert reason in output


def test_nodes_end_cleanly_when_interrupted(ros_domain):
    with node_process('avatar_display', 'display.port:=0', namespace='/alone') as process:
        watcher = Watcher('waiting')
        try:
            watcher.subscribe(DiagnosticArray, '/diagnostics', 10)
            watcher.wait(lambda: _health(watcher, 'alone/avatar_display'), 'the node')
        finally:
            watcher.close()
        while process.poll() is None:  # Ctrl-C under ros2 launch: the terminal's and launch's
            os.kill(process.pid, signal.SIGINT)
            os.sched_yield()
        output = process.stdout.read()
        assert process.returncode == 0, output
        assert 'Traceback' not in output
