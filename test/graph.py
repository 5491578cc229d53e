"""What the tests of the ROS graph share: node processes, and a node that looks at them."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile

TIMEOUT_S = 60.0
_SETTLED = ('unconfigured', 'inactive', 'active', 'finalized')
_AGAIN_S = 10.0   # until a call without an answer is made again


@contextmanager
def node_process(module: str, *parameters: str, namespace: str = '/',
                 remappings: Iterable[str] = ()) -> Iterator[subprocess.Popen]:
    """Run ``visa_ros.nodes.MODULE`` in a fresh process; interrupt it at the end."""
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    for rule in (f'__ns:={namespace}', *remappings):
        arguments += ['-r', rule]
    process = subprocess.Popen(
        [sys.executable, '-m', f'visa_ros.nodes.{module}', '--ros-args', *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


class Watcher:
    """A node in this process that subscribes, publishes and waits for conditions."""

    def __init__(self, name: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context)
        self.received: dict[str, list[Any]] = {}
        self._changed = threading.Condition()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        self._thread.join()

    def subscribe(self, kind: type, topic: str, qos: QoSProfile | int,
                  raw: bool = False) -> list[Any]:
        """Subscribe; messages, or their bytes, gather in the returned list."""
        messages = self.received[topic] = []

        def take(message: Any) -> None:
            with self._changed:
                messages.append(message)
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, take, qos, raw=raw)
        return messages

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the condition's value once it is true; it is asked after every message."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while not (value := condition()):
                if time.monotonic() > end_s:
                    raise AssertionError(f'waited {timeout_s:.0f} s in vain for {what}')
                self._changed.wait(0.1)
        return value

    def publish_until(self, publisher: Any, message: Any, condition: Callable[[], Any],
                      what: str) -> Any:
        """Publish again and again until the condition holds: streams may lose a message."""
        end_s = time.monotonic() + TIMEOUT_S
        while True:
            publisher.publish(message)
            try:
                return self.wait(condition, what, 0.2)
            except AssertionError:
                if time.monotonic() > end_s:
                    raise


class Managed:
    """A managed node in another process, led by its services as a lifecycle manager does."""

    def __init__(self, watcher: Watcher, name: str) -> None:
        self._watcher = watcher
        self._clients = {
            service: watcher.node.create_client(kind, f'{name}/{service}')
            for service, kind in (('change_state', ChangeState), ('get_state', GetState),
                                  ('get_parameters', GetParameters),
                                  ('set_parameters', SetParameters))}

    def ask(self, service: str, request: Any) -> Any:
        """
        Call a service of the node, again where no answer comes.

        A client that has found a server may not be found by it yet: then the first call is lost.
        """
        end_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._answer(service, self.send(service, request))
            except AssertionError:
                if time.monotonic() > end_s:
                    raise

    def _answer(self, service: str, future: Any) -> Any:
        return self._watcher.wait(future.result, f'an answer of {service}', _AGAIN_S)

    def send(self, service: str, request: Any) -> Any:
        """Call a service of the node and return the future."""
        client = self._clients[service]
        assert client.wait_for_service(TIMEOUT_S), service
        return client.call_async(request)

    def change(self, transition: int) -> bool:
        """Ask for a transition, once more where it did not begin; return whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        end_s = time.monotonic() + TIMEOUT_S
        before = self.state
        future = self.send('change_state', request)
        while True:
            try:
                return self._answer('change_state', future).success
            except AssertionError:
                if time.monotonic() > end_s:
                    raise
                state = self.state
                if future.done():
                    continue
                if state == before:
                    future = self.send('change_state', request)
                elif state in _SETTLED:
                    return True  # the answer was lost

    @property
    def state(self) -> str:
        """The state's label."""
        return self.ask('get_state', GetState.Request()).current_state.label

    def get(self, name: str) -> Any:
        """Return a parameter's value."""
        return parameter_value_to_python(
            self.ask('get_parameters', GetParameters.Request(names=[name])).values[0])

    def set(self, name: str, value: Any) -> Any:
        """Set a parameter and return its result."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.ask('set_parameters', SetParameters.Request(parameters=[parameter])).results[0]


def alive(process: subprocess.Popen) -> bool:
    """Whether the process runs."""
    return process.poll() is None and os.path.exists(f'/proc/{process.pid}')
