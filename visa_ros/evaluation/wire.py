"""Bytes on the wire between the operator's machine and the robot, counted on a real link.

Two network namespaces stand for the two machines, joined by a veth pair: capture runs in one, the
renderer in the other, and the kernel counts what crosses.  Needs root, iproute2 and nftables.
"""
from __future__ import annotations

import argparse
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from visa_ros.evaluation.network_link import OPERATOR, ROBOT, Link
from visa_ros.evaluation.report import Report

_SETTLE_S = 5.0  # discovery of the new node, and the first images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--source', default='demo', help='video of the operator')
    parser.add_argument('--seconds', type=float, default=15.0, help='how long each row is counted')


def run(arguments: argparse.Namespace) -> Report:
    """Count the bytes of discovery alone, of poses at 30 Hz, and with the avatar moving."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        empty_room = folder / 'empty_room.png'
        Image.new('RGB', (320, 240), 'grey').save(empty_room)
        link = stack.enter_context(Link())
        stack.enter_context(_node(link, ROBOT, 'avatar_renderer'))
        capture = stack.enter_context(_node(link, OPERATOR, 'pose_capture'))
        _wait_for_traffic(link, capture)
        rows = [{'camera': 'none: discovery only', **_count(link, arguments.seconds)}]
        for what, source in (('an empty room at 30 Hz', empty_room),
                             ('the operator', arguments.source)):
            with _node(link, OPERATOR, 'video_source', f'camera.source:={source}',
                       'camera.fps:=30.0'):
                time.sleep(_SETTLE_S)
                rows.append({'camera': what, **_count(link, arguments.seconds)})
    return Report(
        'Operator to robot: what the link carries, IP and Ethernet headers included', rows,
        ['an empty room is captured at the full 30 Hz, and its poses are as long as any: that '
         'row is the rate of OperatorPose at 30 Hz with discovery',
         'the operator is captured as fast as this machine can at its load'])


@contextmanager
def _node(link: Link, host: str, module: str, *parameters: str) -> Iterator[subprocess.Popen]:
    """Run a node on one of the hosts."""
    words = [word for parameter in parameters for word in ('-p', parameter)]
    process = link.start(host, f'visa_ros.nodes.{module}', '--ros-args', *words)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _wait_for_traffic(link: Link, process: subprocess.Popen) -> None:
    """Wait until the node has announced itself."""
    while process.poll() is None and link.sent(OPERATOR)[1] < 20:
        time.sleep(0.1)


def _count(link: Link, seconds: float) -> dict[str, Any]:
    """Return what the operator's machine sends a second, over some seconds."""
    start_s, (start_bytes, start_packets) = time.monotonic(), link.sent(OPERATOR)
    time.sleep(seconds)
    elapsed_s, (end_bytes, end_packets) = time.monotonic() - start_s, link.sent(OPERATOR)
    return {'kB/s': round((end_bytes - start_bytes) / elapsed_s / 1000, 2),
            'packets/s': round((end_packets - start_packets) / elapsed_s, 1)}
