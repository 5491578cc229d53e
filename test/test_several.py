"""Two operators and two robots in one graph: nothing crosses, and each comes and goes alone."""
import json
import socket
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from graph import Watcher, node_process
from sensor_msgs.msg import Image

from visa_ros.msg import FrameTiming, OperatorPose
from visa_ros.nodes._conversions import image_from_msg, pose_to_msg, stamp_from_msg
from visa_ros.nodes._qos import STREAM_IN, STREAM_OUT
from visa_ros.reconstruction import avatar_file
from visa_ros.trust.consent import signed
from visa_ros.trust.keys import load_or_make_key
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.trust.watermark import DIGITS, WatermarkReader
from visa_ros.types import Consent

OPERATORS = ('ada', 'bob')
ROBOTS = {'robot1': 'ada', 'robot2': 'bob'}  # whom each shows
_RATE_HZ = 20.0


class Laptop:
    """
    An operator's poses; the remainder of their stamps by two says whose they are.

    They are the portrait's, sent by this process: capture has its own tests.
    """

    def __init__(self, operator, pose):
        self._watcher = Watcher(f'laptop_{operator}')
        self._pose, self._mark = replace(pose, operator_id=operator), OPERATORS.index(operator)
        node = self._watcher.node
        self._publisher = node.create_publisher(
            OperatorPose, f'/{operator}/operator_pose', STREAM_OUT)
        node.create_timer(1 / _RATE_HZ, self._send)
        self.close = self._watcher.close

    def _send(self):
        stamp_ns = time.time_ns() // 2 * 2 + self._mark
        self._publisher.publish(pose_to_msg(replace(self._pose, stamp_ns=stamp_ns)))


class Graph:
    """The edge's and the robots' processes, and who looks at their pictures."""

    def __init__(self, stack, folder, avatar):
        self.folder, self.watcher = folder, Watcher('watcher')
        stack.callback(self.watcher.close)
        self.watcher.subscribe(DiagnosticArray, '/diagnostics', 20)
        self.pictures, self.timings, self.ports = {}, {}, {}
        for robot in ROBOTS:
            self.pictures[robot] = self.watcher.subscribe(
                Image, f'/{robot}/shaded/image', STREAM_IN)
            self.timings[robot] = self.watcher.subscribe(
                FrameTiming, f'/{robot}/frame_timing', STREAM_IN)
            with socket.create_server(('127.0.0.1', 0)) as free:
                self.ports[robot] = free.getsockname()[1]
        self.avatars, self.poses = {}, {}
        for operator in OPERATORS:
            own = replace(avatar, consent=Consent(operator, operator, 0, 'test'),
                          portrait_pose=replace(avatar.portrait_pose, operator_id=operator),
                          colors=avatar.colors if operator == 'ada' else 1 - avatar.colors)
            own = signed(own, load_or_make_key(folder / operator))
            avatar_file.save(own, folder / f'{operator}.visa')
            self.avatars[operator], self.poses[operator] = own, own.portrait_pose

    def edge(self, operator):
        """Run the process that publishes an operator's avatar."""
        return node_process(
            'avatar_reconstruction', f'avatar.portrait:={self.folder / operator}.visa',
            f'trust.folder:={self.folder / operator}', namespace=f'/{operator}')

    def renderer(self, robot, operator):
        """Run the process that draws an operator on a robot."""
        return node_process(
            'avatar_renderer', f'trust.folder:={self.folder / robot}', 'rendering.width:=256',
            'rendering.height:=256', 'rendering.threads:=1', namespace=f'/{robot}',
            remappings=[f'{topic}:=/{operator}/{topic}' for topic in ('operator_pose', 'avatar')])

    def screen(self, robot):
        """Run a robot's web page."""
        return node_process('avatar_display', f'display.port:={self.ports[robot]}',
                            namespace=f'/{robot}')

    def health(self, node):
        """Return the values of a node's last diagnostics."""
        for message in reversed(self.watcher.received['/diagnostics']):
            for status in message.status:
                if status.name == f'/{node}: status':
                    return {value.key: value.value for value in status.values}
        return {}

    def wait_for(self, robot, presence, since=None):
        """Wait for a picture in this state, after a time on."""
        since = since or time.time_ns()
        self.watcher.wait(
            lambda: any(message.presence == presence and (
                presence != FrameTiming.LIVE or stamp_from_msg(message.header.stamp) > since)
                for message in self.timings[robot][-3:]), f'{robot} in state {presence}')

    def shown(self, robot):
        """Return whose likeness the last pictures of a robot are, and who has moved them."""
        pictures = self.pictures[robot][-5:]
        reader = WatermarkReader()
        for message in pictures:
            reader.add(image_from_msg(message).rgb)
        names = {avatar_file.avatar_id(avatar)[:DIGITS]: operator
                 for operator, avatar in self.avatars.items()}
        return (names.get(reader.avatar_id()),
                {OPERATORS[stamp_from_msg(message.header.stamp) % 2] for message in pictures})


@pytest.fixture(scope='module')
def graph(ros_domain, astronaut, tmp_path_factory):
    """Run two edges and two robots; no operator sits down yet."""
    with ExitStack() as stack:
        graph = Graph(stack, tmp_path_factory.mktemp('several'), astronaut[0])
        robot2 = TrustStore(TrustConfig(folder=str(graph.folder / 'robot2')))
        for operator in OPERATORS:  # robot1 keeps the first key that it meets
            robot2.trust(graph.avatars[operator].consent.key, operator)
        graph.renderers = {robot: stack.enter_context(ExitStack()) for robot in ROBOTS}
        for operator in OPERATORS:
            stack.enter_context(graph.edge(operator))
        for robot, operator in ROBOTS.items():
            stack.enter_context(graph.screen(robot))
            graph.renderers[robot].enter_context(graph.renderer(robot, operator))
        yield graph


@pytest.fixture(scope='module')
def laptops(graph):
    """Let both operators sit down."""
    with ExitStack() as stack:
        laptops = {}
        for operator in OPERATORS:
            own = stack.enter_context(ExitStack())
            own.callback(Laptop(operator, graph.poses[operator]).close)
            laptops[operator] = own
        yield laptops


class TestSeveral:
    """In this order: what one leaves is what the next begins with."""

    def test_each_robot_shows_its_own_operator(self, graph, laptops):
        for robot, operator in ROBOTS.items():
            graph.wait_for(robot, FrameTiming.LIVE)
            graph.watcher.wait(lambda robot=robot: len(graph.pictures[robot]) > 10, 'pictures')
            assert graph.shown(robot) == (operator, {operator})
            with urllib.request.urlopen(
                    f'http://127.0.0.1:{graph.ports[robot]}/healthz', timeout=10) as page:
                assert json.load(page)

    def test_one_goes_away_and_comes_back_while_the_other_goes_on(self, graph, laptops):
        laptops['bob'].close()
        graph.wait_for('robot2', FrameTiming.LINK_LOST)
        graph.wait_for('robot1', FrameTiming.LIVE)
        assert graph.shown('robot1') == ('ada', {'ada'})
        assert graph.shown('robot2')[0] == 'bob', 'his avatar idles'
        laptops['bob'].callback(Laptop('bob', graph.poses['bob']).close)
        graph.wait_for('robot2', FrameTiming.LIVE)
        assert {timing.presence for timing in graph.timings['robot1'][-20:]} <= {
            FrameTiming.LIVE, FrameTiming.HOLDING}, 'ada has been there all the time'

    def test_a_robot_shows_one_operator_after_the_other(self, graph, laptops):
        """Its screen stays; what draws starts again with the other's topics."""
        graph.renderers['robot2'].close()
        del graph.pictures['robot2'][:]
        graph.renderers['robot2'].enter_context(graph.renderer('robot2', 'ada'))
        graph.watcher.wait(lambda: len(graph.pictures['robot2']) > 10, 'pictures of ada')
        graph.wait_for('robot2', FrameTiming.LIVE)
        for robot in ROBOTS:
            assert graph.shown(robot) == ('ada', {'ada'})
        graph.watcher.wait(lambda: graph.health('robot2/avatar_display').get('presence')
                           == 'LIVE', 'the screen live again')

    def test_nothing_has_crossed_not_even_to_be_refused(self, graph, laptops):
        seen = {name for message in graph.watcher.received['/diagnostics']
                for name in (status.name for status in message.status)}
        assert seen == {f'/{operator}/avatar_reconstruction: status' for operator in OPERATORS} | {
            f'/{robot}/{node}: status' for robot in ROBOTS
            for node in ('avatar_renderer', 'avatar_display')}
        for robot in ROBOTS:
            assert graph.health(f'{robot}/avatar_renderer')['refused_poses'] == '0'
