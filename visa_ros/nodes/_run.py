"""Start a node, spin it, and end it cleanly."""
from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image

from visa_ros.errors import VisaError
from visa_ros.nodes._params import TransportConfig, declare
from visa_ros.nodes._qos import STREAM_IN

RCLError = rclpy_implementation.RCLError


class StageNode(Node):
    """A node that owns threads, and ends them."""

    def close(self) -> None:
        """Stop the threads and close what was opened; called before the node is destroyed."""
        raise NotImplementedError

    def subscribe_to_images(self, topic: str, take: Callable[[Any], None]) -> None:
        """Subscribe to ``topic``, or to ``topic/compressed`` if ``transport.compressed``."""
        if declare(self, 'transport', TransportConfig).compressed:
            self.create_subscription(CompressedImage, f'{topic}/compressed', take, STREAM_IN)
        else:
            self.create_subscription(Image, topic, take, STREAM_IN)

    def wanted(self, *publishers: Publisher) -> bool:
        """Whether anybody subscribes to one of these; nobody does while ROS is shut down."""
        try:
            return any(publisher.get_subscription_count() for publisher in publishers)
        except RCLError:
            if self.context.ok():
                raise
            return False

    def send(self, publisher: Publisher, message: Any) -> None:
        """Publish from any thread; a shutdown under way is not an error."""
        try:
            publisher.publish(message)
        except RCLError:
            if self.context.ok():
                raise


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
    signal.signal(signal.SIGINT, _interrupt_once)  # before rclpy, which chains to it
    rclpy.init(args=args)
    log = logging.getLogger('visa_ros')
    log.setLevel(logging.INFO)
    handler = RosLogHandler('visa_ros')
    log.addHandler(handler)
    log.propagate = False
    nodes: Sequence[StageNode] = ()
    try:
        nodes = make_nodes()
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except VisaError as error:
        get_logger('visa_ros').fatal(str(error))
        return 1
    finally:
        for node in nodes:
            node.close()
            node.destroy_node()
        log.removeHandler(handler)
        rclpy.try_shutdown()
    return 0


def _interrupt_once(*_: object) -> None:
    """Begin the end; under ros2 launch a second Ctrl-C follows, which must not interrupt it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
