"""Bytes on the wire between the operator's machine and the robot, counted on a real link.

Two network namespaces stand for the two machines, joined by a veth pair: capture runs in one, the
renderer in the other, and the kernel counts what crosses.  Needs root and iproute2.
"""
from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from visa_ros.errors import ResourceError
from visa_ros.evaluation.report import Report

_OPERATOR, _ROBOT = 'visa-operator', 'visa-robot'
_LINK = 'visa0'
_PROFILE = Path(__file__).resolve().parents[2] / 'config' / 'fastdds_profile.xml'
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
        stack.enter_context(_two_hosts())
        stack.enter_context(_node(_ROBOT, 'avatar_renderer'))
        capture = stack.enter_context(_node(_OPERATOR, 'pose_capture'))
        _wait_for_traffic(capture)
        rows = [{'camera': 'none: discovery only', **_count(arguments.seconds)}]
        for what, source in (('an empty room at 30 Hz', empty_room),
                             ('the operator', arguments.source)):
            with _node(_OPERATOR, 'video_source', f'camera.source:={source}',
                       'camera.fps:=30.0'):
                time.sleep(_SETTLE_S)
                rows.append({'camera': what, **_count(arguments.seconds)})
    return Report(
        'Operator to robot: what the link carries, IP and Ethernet headers included', rows,
        ['an empty room is captured at the full 30 Hz, and its poses are as long as any: that '
         'row is the rate of OperatorPose at 30 Hz with discovery',
         'the operator is captured as fast as this machine can at its load'])


@contextmanager
def _two_hosts() -> Iterator[None]:
    """Make the two namespaces and their link; nothing outside them is reached or changed."""
    if os.geteuid():
        raise ResourceError('network namespaces need root: run this measurement with sudo')
    try:
        for name in (_OPERATOR, _ROBOT):
            _ip('netns', 'add', name)
            _ip('-n', name, 'link', 'set', 'lo', 'up')
        _ip('link', 'add', _LINK, 'netns', _OPERATOR, 'type', 'veth',
            'peer', 'name', _LINK, 'netns', _ROBOT)
        for host, name in ((1, _OPERATOR), (2, _ROBOT)):
            _ip('-n', name, 'address', 'add', f'10.77.0.{host}/24', 'dev', _LINK)
            _ip('-n', name, 'link', 'set', _LINK, 'up')
            # discovery is multicast: it needs a route, and this link is the only way out
            _ip('-n', name, 'route', 'add', '224.0.0.0/4', 'dev', _LINK)
        yield
    finally:
        for name in (_OPERATOR, _ROBOT):
            subprocess.run(['ip', 'netns', 'delete', name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    try:
        subprocess.run(['ip', *words], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ResourceError('iproute2 is needed: install the system package') from error
    except subprocess.CalledProcessError as error:
        raise ResourceError(f'ip {" ".join(words)}: {error.stderr.strip()}') from error


@contextmanager
def _node(host: str, module: str, *parameters: str) -> Iterator[subprocess.Popen]:
    """Run a node on one of the hosts."""
    words = [word for parameter in parameters for word in ('-p', parameter)]
    # Inside the namespaces the subnet is the veth pair and nothing else.
    environment = os.environ | {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_DOMAIN_ID': '0'}
    if _PROFILE.exists():  # what the launch file sets: shared memory on a machine, UDP between
        environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(_PROFILE)
    process = subprocess.Popen(
        ['ip', 'netns', 'exec', host, sys.executable, '-m', f'visa_ros.nodes.{module}',
         '--ros-args', *words], env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _sent() -> tuple[int, int]:
    """Return bytes and packets that the operator's machine has sent."""
    folder = Path('/sys/class/net') / _LINK / 'statistics'
    text = subprocess.run(
        ['ip', 'netns', 'exec', _OPERATOR, 'cat', folder / 'tx_bytes', folder / 'tx_packets'],
        check=True, capture_output=True, text=True).stdout.split()
    return int(text[0]), int(text[1])


def _wait_for_traffic(process: subprocess.Popen) -> None:
    """Wait until the node has announced itself."""
    while process.poll() is None and _sent()[1] < 20:
        time.sleep(0.1)


def _count(seconds: float) -> dict[str, Any]:
    """Return what is sent a second, over some seconds."""
    start_s, (start_bytes, start_packets) = time.monotonic(), _sent()
    time.sleep(seconds)
    elapsed_s, (end_bytes, end_packets) = time.monotonic() - start_s, _sent()
    return {'kB/s': round((end_bytes - start_bytes) / elapsed_s / 1000, 2),
            'packets/s': round((end_packets - start_packets) / elapsed_s, 1)}
