"""Health of a node on /diagnostics, once a second."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from visa_ros.process import usage


@dataclass(frozen=True)
class Health:
    """
    A node's state as it reports it.

    Attributes
    ----------
    message : str
        One line; empty means 'ok'.
    warn : bool
        Somebody should look.
    values : dict
        Counters and settings in use.

    """

    message: str = ''
    warn: bool = False
    values: dict[str, object] = field(default_factory=dict)


class Diagnostics:
    """
    Publish what ``health`` returns and what the process needs, once a second.

    (ROS installations have diagnostic_updater; it is in no wheel, and this is all it would do.)
    """

    def __init__(self, node: Node, health: Callable[[], Health]) -> None:
        self._node = node
        self._health = health
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        # Steady: they come also while /clock stands still.
        node.create_timer(1.0, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _publish(self) -> None:
        health = self._health()
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if health.warn else DiagnosticStatus.OK,
            name=f'{self._node.get_fully_qualified_name()}: status', hardware_id='visa_ros',
            message=health.message or 'ok',
            values=[KeyValue(key=key, value=str(value))
                    for key, value in {**health.values, **usage()}.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
