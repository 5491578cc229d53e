"""A managed node: its states, its topics, its process, and how all of them end."""
from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import InvalidQosOverridesError
from sensor_msgs.msg import CompressedImage, Image

from visa_ros.config import Config
from visa_ros.errors import InputError, VisaError
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._params import LifecycleConfig, Settings, TransportConfig
from visa_ros.nodes._qos import OVERRIDES, STREAM_IN

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

# A process ends this long after a signal, whatever it is doing.
_GRACE_S = 1.7


class StageNode(LifecycleNode):
    """
    A managed node of one stage.

    A node says what it loads (``load``) and what it opens (``open``); what has to be undone goes
    onto ``loaded`` and ``opened`` as it is done, and is undone in reverse order, also when the
    rest fails.

    ==========  ============================================================
    configure   ``load``: models, warm-up
    activate    ``open``: topics, threads, devices
    deactivate  ``opened`` is closed: work stops, topics and devices are gone
    cleanup     ``loaded`` is closed: memory is given back
    ==========  ============================================================

    Parameters
    ----------
    name : str
        The node's.
    stages : mapping of str to type of Config
        Its parameters, by prefix.

    Attributes
    ----------
    settings : Settings
        Their values.
    loaded, opened : ExitStack or None
        None while the node is not configured, or not active.

    """

    def __init__(self, name: str, stages: Mapping[str, type[Config]], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.loaded: ExitStack | None = None
        self.opened: ExitStack | None = None
        self.settings = Settings(
            self, {'lifecycle': LifecycleConfig, **stages},
            configured=lambda: self.loaded is not None, on_change=self.change)
        # An impossible transition must not end the node (rclpy lets its error through).
        service = self._service_change_state
        service.callback = self._unless_impossible(service.callback)
        Diagnostics(self, self._health)

    def load(self, loaded: ExitStack) -> None:
        """Read the settings, load models and warm up."""

    def open(self, opened: ExitStack) -> None:
        """Open topics, threads and devices."""
        raise NotImplementedError

    def change(self, config: Config) -> None:
        """Take new settings of a stage while configured or active."""

    def health(self) -> Health:
        """Return how the active node is."""
        raise NotImplementedError

    # --- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; what fails is said in the log, and the node stays unconfigured."""
        self.loaded = ExitStack()
        if self._try('configured', self.load, self.loaded):
            return SUCCESS
        self._close_loaded()
        return FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open; what fails is said in the log, and the node stays inactive."""
        self.opened = ExitStack()
        if self._try('activated', self.open, self.opened):
            return SUCCESS
        self._close_opened()
        return FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop work and close topics and devices."""
        self._close_opened()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give memory back."""
        self._close_loaded()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # glibc would keep what was freed
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, from any state."""
        self.close()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an error in a transition."""
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Stop and free, from any state; may be called again."""
        try:
            self._close_opened()
        finally:
            self._close_loaded()

    def _close_opened(self) -> None:
        opened, self.opened = self.opened, None
        if opened:
            opened.close()

    def _close_loaded(self) -> None:
        loaded, self.loaded = self.loaded, None
        if loaded:
            loaded.close()

    def _try(self, what: str, step: Callable[[ExitStack], None], stack: ExitStack) -> bool:
        try:
            step(stack)
        except VisaError as error:
            self.get_logger().error(f'not {what}: {error}')
        except Exception:
            logging.getLogger('visa_ros').exception('%s is not %s', self.get_name(), what)
        else:
            return True
        return False

    def _unless_impossible(self, change_state: Callable) -> Callable:
        def guarded(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RCLError as error:
                self.get_logger().warning(f'a transition was refused: {error}')
                response.success = False
                return response
        return guarded

    def _health(self) -> Health:
        if self.opened:
            health = self.health()
            return Health(health.message, health.warn, {'state': 'active', **health.values})
        state = 'inactive' if self.loaded else 'unconfigured'
        return Health(state, values={'state': state})

    # --- topics of an active node

    def publish_to(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        """Open a topic to publish to, until deactivation."""
        return self._open_topic(self.create_publisher, self.destroy_publisher,
                                kind, topic, copy(qos))

    def subscribe_to(self, kind: type, topic: str, take: Callable[[Any], None],
                     qos: QoSProfile) -> None:
        """Subscribe until deactivation."""
        self._open_topic(self.create_subscription, self.destroy_subscription,
                         kind, topic, take, copy(qos))

    def subscribe_to_images(self, topic: str, take: Callable[[Any], None]) -> None:
        """Subscribe to ``topic``, or to ``topic/compressed`` if ``transport.compressed``."""
        if self.settings.of(TransportConfig).compressed:
            self.subscribe_to(CompressedImage, f'{topic}/compressed', take, STREAM_IN)
        else:
            self.subscribe_to(Image, topic, take, STREAM_IN)

    def _open_topic(self, create: Callable, destroy: Callable, *what: Any) -> Any:
        assert self.opened is not None
        try:
            topic = create(*what, qos_overriding_options=OVERRIDES)
        except (InvalidQosOverridesError, RuntimeError) as error:
            raise InputError(f'topic {what[1]}: {error}') from error
        self.opened.callback(destroy, topic)
        return topic

    def listeners(self, publisher: Publisher) -> int:
        """Return how many subscribe; nobody does while ROS is shut down."""
        try:
            return publisher.get_subscription_count()
        except RCLError:
            if self.context.ok():
                raise
            return 0

    def wanted(self, *publishers: Publisher) -> bool:
        """Whether anybody subscribes to one of these."""
        return any(map(self.listeners, publishers))

    def send(self, publisher: Publisher, message: Any) -> None:
        """Publish from any thread; a shutdown under way is not an error."""
        try:
            publisher.publish(message)
        except RCLError:
            if self.context.ok():
                raise

    def now_ns(self) -> int:
        """Return ROS time, which is /clock's with ``use_sim_time``."""
        return self.get_clock().now().nanoseconds

    def on_ros_time(self, stamp_ns: int) -> int:
        """Return a recent stamp of the system's clock as ROS time."""
        if not self.get_parameter('use_sim_time').value:
            return stamp_ns
        return self.now_ns() - (time.time_ns() - stamp_ns)


class RosLogHandler(logging.Handler):
    """Send the core's log records to the ROS log."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._logger = get_logger(name)

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record at its level."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


def run(make_nodes: Callable[[], Sequence[StageNode]], args: list[str] | None = None) -> int:
    """
    Make nodes, spin them in one thread until shutdown, and close them.

    Parameters
    ----------
    make_nodes : callable
        Returns the process's nodes.
    args : list of str, optional
        Command line; by default the process's own.

    Returns
    -------
    int
        Exit status: 0 after Ctrl-C or a shutdown, 1 when a node could not start.

    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)  # before rclpy, which chains to it
    _end_in_time()
    rclpy.init(args=args)
    log = logging.getLogger('visa_ros')
    log.setLevel(logging.INFO)
    handler = RosLogHandler('visa_ros')
    log.addHandler(handler)
    log.propagate = False
    nodes: Sequence[StageNode] = ()
    status = 1
    try:
        nodes = make_nodes()
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        if all(_started(node) for node in nodes):
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        status = 0
    except VisaError as error:
        get_logger('visa_ros').fatal(str(error))
    finally:
        for node in nodes:
            node.close()
            node.destroy_node()
            vars(node).clear()  # the lifecycle's state machine holds the DDS participant
        log.removeHandler(handler)
        rclpy.try_shutdown()
        atexit.register(_leave, status)
    return status


def _started(node: StageNode) -> bool:
    """Bring a node up, if it shall start by itself."""
    if not node.settings.of(LifecycleConfig).autostart:
        return True
    return node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS


def _interrupt_once(*_: object) -> None:
    """Begin the end; under ros2 launch a second Ctrl-C follows, which must not interrupt it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: Python writes a traceback where a signal is on its way already.
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _end_in_time() -> None:
    """
    See to it that the process ends soon after a signal.

    A native call (loading a model, a camera that hangs) cannot be interrupted, and the
    interpreter would wait for it: the process leaves it behind.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        os.read(reader, 1)
        time.sleep(_GRACE_S)
        os.write(2, b'visa_ros: ended while something was still at work\n')
        os._exit(0)

    threading.Thread(target=watch, name='end_in_time', daemon=True).start()


def _leave(status: int) -> None:
    """
    End the process at once, now that all is closed.

    The interpreter's own end takes MediaPipe seconds, and crashes in threads that native code
    still holds.  What it would also do: a DDS participant goes with the last reference to its
    node, and takes its shared memory along, which stays for good otherwise (70 MB a process).
    """
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
