"""Both ends of a measured network: an operator's recorded poses, and who keeps a log of them.

``python -m visa_ros.nodes._probe {operator,arrival,screen} LOG [HZ]``.  The operator writes the
stamp of each pose that it sends, one a line; the others write stamp and time of arrival of each
pose or shaded picture [ns since the epoch].
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from sensor_msgs.msg import Image

from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.nodes._conversions import pose_to_msg, stamp_from_msg
from visa_ros.nodes._qos import STREAM_IN, STREAM_OUT
from visa_ros.types import OperatorPose

_HZ = 30.0
_CLIP = 'cap12'
_BEFORE_CAMERA_M = (0.0, 0.35, 0.8)


class _Operator(Node):
    """Sends the captured poses of a clip over and over, stamped with the time at which they go."""

    def __init__(self, hz: float, log: TextIO) -> None:
        from visa_ros.training.people.motion import captured

        super().__init__('operator')
        self._motion, self._log, self._count = captured(_CLIP), log, 0
        self._publisher = self.create_publisher(OperatorPoseMsg, 'operator_pose', STREAM_OUT)
        self.create_timer(1 / hz, self._send)

    def _send(self) -> None:
        motion = self._motion
        index = self._count % len(motion.joint_rotations)
        self._count += 1
        rotations = motion.joint_rotations[index].copy()
        rotations[0] = np.pi, 0, 0  # upright in the optical frame
        stamp_ns = time.time_ns()
        self._publisher.publish(pose_to_msg(OperatorPose(
            rotations, np.array(_BEFORE_CAMERA_M, np.float32), motion.blendshapes[index],
            motion.confidence[index], stamp_ns, 'camera', 'operator')))
        print(stamp_ns, file=self._log)


class _Log(Node):
    """Takes what a topic brings, as our nodes do."""

    def __init__(self, kind: type, topic: str, log: TextIO) -> None:
        super().__init__('log')
        self._log = log
        self.create_subscription(kind, topic, self._take, STREAM_IN)

    def _take(self, msg: Any) -> None:
        print(stamp_from_msg(msg.header.stamp), time.time_ns(), file=self._log)


def main() -> None:
    """Run one of them until it is interrupted."""
    probes: dict[str, Callable[[TextIO], Node]] = {
        'operator': partial(_Operator, float(sys.argv[3]) if len(sys.argv) > 3 else _HZ),
        'arrival': partial(_Log, OperatorPoseMsg, 'operator_pose'),
        'screen': partial(_Log, Image, 'shaded/image')}
    with open(sys.argv[2], 'a', buffering=1) as log:
        rclpy.init()
        try:
            rclpy.spin(probes[sys.argv[1]](log))
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except rclpy_implementation.RCLError:  # a publish raced the shutdown
            if rclpy.ok():
                raise


if __name__ == '__main__':
    main()
