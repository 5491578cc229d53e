"""Does it stay as it is: memory, threads, rate and latency of the running nodes over a long time.

The nodes run as a user starts them, in one process or in five, with a clip that plays for ever as
the camera and a viewer that takes, decodes and acknowledges every picture of the web page.
"""
from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

from visa_ros.errors import ResourceError
from visa_ros.evaluation.latency import viewer
from visa_ros.evaluation.report import Report
from visa_ros.process import usage

_TOGETHER = ('telepresence',)
_APART = ('avatar_display', 'avatar_renderer', 'avatar_reconstruction', 'pose_capture',
          'video_source')
_START_S = 120.0
_END_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--minutes', type=float, default=60.0, help='how long')
    parser.add_argument('--interval', type=float, default=60.0, help='one row each so many [s]')
    parser.add_argument('--source', default='demo', help='video of the operator')
    parser.add_argument('--portrait', default='demo', help='portrait of the avatar')
    parser.add_argument('--apart', action='store_true', help='one process a node')


def run(arguments: argparse.Namespace) -> Report:
    """Let the nodes run, and look at them at the end of each interval."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    url = f'http://127.0.0.1:{port}/'
    rows: list[dict[str, Any]] = []
    with _nodes(arguments, port) as processes:
        _wait_for_pictures(url, processes)
        with viewer(url) as drawn:
            start_s = time.monotonic()
            while len(rows) * arguments.interval < arguments.minutes * 60:
                time.sleep(max(0.0, start_s + (len(rows) + 1) * arguments.interval
                               - time.monotonic()))
                rows.append(_look(processes, (len(rows) + 1) * arguments.interval / 60))
                print(rows[-1], file=sys.stderr, flush=True)
    _add_latencies(rows, [(at_s - start_s, late_s) for at_s, late_s in drawn],
                   arguments.interval)
    ended_s = max(end_s for _, end_s in processes.values())
    return Report(
        f'{"Five processes" if arguments.apart else "One process"}, {arguments.minutes:g} minutes',
        [*rows, *_slopes(rows)],
        ['memory and threads are the sum over the nodes\' processes, without the viewer',
         'latency: from the camera image to the picture decoded by the viewer',
         'slope: straight line through all rows but the first tenth, with twice its standard '
         'error; 0 within it is flat',
         f'ended by SIGINT in {ended_s:.1f} s'])


@contextmanager
def _nodes(arguments: argparse.Namespace, port: int
           ) -> Iterator[dict[subprocess.Popen, tuple[str, float]]]:
    """Run the nodes; yields process to name and, in the end, how long its end took [s]."""
    parameters = {
        'display.port': port, 'camera.source': f"'{arguments.source}'",
        'avatar.portrait': f"'{arguments.portrait}'"}
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    processes = {
        subprocess.Popen([sys.executable, '-m', f'visa_ros.nodes.{name}', '--ros-args',
                          '--log-level', 'warn', *words]): (name, 0.0)
        for name in (_APART if arguments.apart else _TOGETHER)}
    try:
        yield processes
    finally:
        for process, (name, _) in processes.items():
            start_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            processes[process] = name, time.monotonic() - start_s


def _wait_for_pictures(url: str, processes: dict[subprocess.Popen, tuple[str, float]]) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        _check(processes)
        try:
            with urlopen(url + 'healthz', timeout=5) as page:
                if json.load(page)['frames']:
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.5)
    raise ResourceError(f'no picture was shown within {_START_S:.0f} s')


def _check(processes: dict[subprocess.Popen, tuple[str, float]]) -> None:
    for process, (name, _) in processes.items():
        if process.poll() is not None:
            raise ResourceError(f'{name} has ended with status {process.returncode}')


def _look(processes: dict[subprocess.Popen, tuple[str, float]], minute: float) -> dict[str, Any]:
    _check(processes)
    all_usage = [usage(process.pid) for process in processes]
    return {'minute': minute, **{name: sum(one[name] for one in all_usage)
                                 for name in all_usage[0]}}


def _add_latencies(rows: list[dict[str, Any]], drawn: list[tuple[float, float]],
                   interval_s: float) -> None:
    for index, row in enumerate(rows):
        late_ms = [1e3 * late_s for at_s, late_s in drawn
                   if index * interval_s <= at_s < (index + 1) * interval_s]
        row['fps'] = round(len(late_ms) / interval_s, 2)
        for name, share in (('p50_ms', 50), ('p95_ms', 95)):
            row[name] = round(float(np.percentile(late_ms, share)), 1) if late_ms else np.nan


def _slopes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row of slopes per hour and one of twice their standard errors."""
    kept = rows[len(rows) // 10:]
    if len(kept) < 3:
        return []
    hours = np.array([row['minute'] for row in kept]) / 60
    slopes: dict[str, Any] = {'minute': 'slope per hour'}
    errors: dict[str, Any] = {'minute': '± (2 s.e.)'}
    for name in list(rows[0])[1:]:
        values = np.array([row[name] for row in kept], float)
        slope, offset = np.polyfit(hours, values, 1)
        spread = np.sum((hours - hours.mean()) ** 2)
        variance = np.sum((values - slope * hours - offset) ** 2) / max(len(kept) - 2, 1)
        slopes[name] = round(float(slope), 2)
        errors[name] = round(2 * float(np.sqrt(variance / spread)), 2)
    return [slopes, errors]
