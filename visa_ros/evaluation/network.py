"""What a bad network does to poses, and beside it to video: freshness, recovery, bytes.

Two network namespaces stand for the two machines, with real nodes in them.  Needs root, iproute2
and nftables; the video also ``pip install -r requirements-network.txt``.
"""
from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visa_ros import samples
from visa_ros._optional import available
from visa_ros.errors import ResourceError
from visa_ros.evaluation.network_link import HOSTS, Impairment, Link
from visa_ros.evaluation.network_streams import (
    FRESH_NS,
    ArrivalStream,
    PoseStream,
    Stream,
    VideoStream,
)
from visa_ros.evaluation.report import Report
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.portrait import read_portrait
from visa_ros.trust.consent import signed
from visa_ros.trust.keys import load_or_make_key
from visa_ros.types import Consent

GOOD = Impairment()
CONDITIONS = {
    'good': GOOD,
    '20 ms': Impairment(delay_ms=20, jitter_ms=4),
    '80 ms': Impairment(delay_ms=80, jitter_ms=16),
    '150 ms': Impairment(delay_ms=150, jitter_ms=30),
    '1 % loss': Impairment(loss=0.01),
    '5 % loss': Impairment(loss=0.05),
    '20 % loss': Impairment(loss=0.2),
    '200 kbit/s': Impairment(rate_kbit=200),
    '500 kbit/s': Impairment(rate_kbit=500),
    '1 Mbit/s': Impairment(rate_kbit=1000),
    '10 Mbit/s': Impairment(rate_kbit=10_000)}
OUTAGES_S = (2.0, 20.0)
JOINS = ('good', '5 % loss', '20 % loss', '10 Mbit/s', '1 Mbit/s', '500 kbit/s', '200 kbit/s')
_STREAMS = ('arrival', 'video', 'poses')
_SETTLE_S = 3.0
_RESTART_S = 15.0  # of a process that others wait for
_STEP_NS = 10_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--seconds', type=float, default=30.0, help='how long each row is watched')
    parser.add_argument('--patience', type=float, default=60.0,
                        help='how long a picture is waited for [s]')
    parser.add_argument('--hz', type=float, default=30.0, help='poses a second')
    parser.add_argument('--clip', default='cap12', help="the video's operator (a sample clip)")
    parser.add_argument('--streams', nargs='*', choices=_STREAMS, default=_STREAMS,
                        help='what is sent: poses up to the subscription, poses up to the '
                        'picture, or video')
    parser.add_argument('--networks', nargs='*', choices=tuple(CONDITIONS),
                        default=tuple(CONDITIONS), help='which rows')


def run(arguments: argparse.Namespace) -> Report:
    """Let poses, then video, pass all the networks."""
    notes = [
        'arrival: poses at the subscription of a renderer; poses, video: pictures on the screen',
        'fresh: share of what was sent that was shown within '
        f'{FRESH_NS / 1e6:.0f} ms',
        'age: 95th percentile over time of now minus the stamp of what the screen shows',
        'kB/s: both directions, all headers, discovery and repair included; kB: the same, until '
        'the first fresh picture',
        'back: from the event (start, end of the outage) to the first fresh picture; a start '
        'holds that of the process']
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        link = stack.enter_context(Link())
        streams: dict[str, Stream] = {}
        for name in arguments.streams:
            own = folder / name
            own.mkdir()
            if name == 'arrival':
                streams[name] = ArrivalStream(link, own, arguments.hz)
            elif name == 'poses':
                streams[name] = PoseStream(link, own, write_avatar(own), arguments.hz)
            elif available('aiortc'):
                streams[name] = VideoStream(link, own, samples.video(arguments.clip))
            else:
                notes.append('no video: pip install -r requirements-network.txt')
        found = {name: _pass_all(link, stream, arguments) for name, stream in streams.items()}
    columns = ('fresh %', 'age ms', 'kB/s', 'back s', 'kB')
    networks = list(dict.fromkeys(network for rows in found.values() for network in rows))
    rows = [{'network': network} | {
        f'{name}: {column}': found[name].get(network, {}).get(column, '')
        for name in found for column in columns} for network in networks]
    return Report(f'Poses and video in bad networks, {arguments.seconds:g} s each', rows, notes)


def write_avatar(folder: Path) -> Path:
    """Write the demo's avatar, signed with a key that is made there, and return its file."""
    consent = Consent('operator', 'operator', time.time_ns(), 'for a measurement')
    avatar, _ = cached_avatar(read_portrait('demo'), consent)
    path = folder / 'avatar.visa'
    avatar_file.save(signed(avatar, load_or_make_key(folder)), path)
    return path


def _pass_all(link: Link, stream: Stream, arguments: argparse.Namespace
              ) -> dict[str, dict[str, Any]]:
    """Return what is measured of a stream, by network or event."""
    rows: dict[str, dict[str, Any]] = {}

    def add(network: str, **values: Any) -> None:
        rows.setdefault(network, {}).update(values)
        print(network, values, file=sys.stderr, flush=True)

    def back(event: str, from_ns: int) -> None:
        after_s = stream.wait_for_fresh(from_ns, arguments.patience)
        add(event, **{'back s': f'> {arguments.patience:g}' if after_s is None
                      else round(after_s, 2)})

    with stream:
        link.impair(GOOD)
        stream.start(*stream.sending)
        _join_once(stream, arguments.patience)
        for name in JOINS:
            if name not in arguments.networks:
                continue
            if stream.fit(CONDITIONS[name].rate_kbit):
                time.sleep(_RESTART_S)
            link.impair(CONDITIONS[name])
            start_ns, start_bytes = time.time_ns(), _bytes(link)
            stream.join()
            back(f'late join, {name}', start_ns)
            add(f'late join, {name}', **{'kB': round((_bytes(link) - start_bytes) / 1000)})
            stream.leave()
        if stream.fit(0):
            time.sleep(_RESTART_S)
        link.impair(GOOD)
        start_ns = time.time_ns()
        stream.join()
        stream.wait_for_fresh(start_ns, arguments.patience)
        for name in arguments.networks:
            link.impair(CONDITIONS[name])
            add(name, **_watch(link, stream, arguments.seconds))
        link.impair(GOOD)
        for outage_s in OUTAGES_S:
            stream.wait_for_fresh(time.time_ns(), arguments.patience)
            time.sleep(_SETTLE_S)
            link.impair(Impairment(loss=1.0))
            time.sleep(outage_s)
            link.impair(GOOD)
            back(f'outage of {outage_s:g} s', time.time_ns())
        for name in stream.restartable:
            stream.stop(name)
            start_ns = time.time_ns()
            stream.start(name)
            back(f'restart of {name}', start_ns)
    return rows


def _join_once(stream: Stream, patience_s: float) -> None:
    """See that the operator's side is complete before the robot joins it late."""
    start_ns = time.time_ns()
    stream.join()
    if stream.wait_for_fresh(start_ns, patience_s) is None:
        raise ResourceError(f'nothing was shown within {patience_s:g} s on a good network')
    stream.leave()


def _bytes(link: Link) -> int:
    return sum(link.sent(host)[0] for host in HOSTS)


def _watch(link: Link, stream: Stream, seconds: float) -> dict[str, Any]:
    """Return freshness and bytes over some seconds."""
    time.sleep(_SETTLE_S)
    start_ns, start_bytes = time.time_ns(), _bytes(link)
    time.sleep(seconds)
    end_ns, end_bytes = time.time_ns(), _bytes(link)
    time.sleep(2 * FRESH_NS / 1e9)  # what was sent last may still arrive in time
    sent, shown = stream.sent(), stream.shown()
    return {'fresh %': round(100 * fresh_share(sent, shown, start_ns, end_ns), 1),
            'age ms': round(age_p95_ms(shown, start_ns, end_ns)),
            'kB/s': round((end_bytes - start_bytes) / (end_ns - start_ns) * 1e6, 1)}


def fresh_share(sent: NDArray[np.int64], shown: NDArray[np.int64], start_ns: int, end_ns: int
                ) -> float:
    """
    Return which share of what was sent was shown in time.

    Parameters
    ----------
    sent : (N,) int64
        Stamps [ns].
    shown : (M, 2) int64
        Stamp of what was shown, and when [ns], in the order of time.
    start_ns, end_ns : int
        Counted are stamps in between.

    """
    counted = sent[(sent >= start_ns) & (sent < end_ns)]
    if not len(counted):
        return 0.0
    stamps, first = np.unique(shown[:, 0], return_index=True)
    in_time = stamps[shown[first, 1] - stamps <= FRESH_NS]
    return float(np.isin(counted, in_time).mean())


def age_p95_ms(shown: NDArray[np.int64], start_ns: int, end_ns: int) -> float:
    """Return the 95th percentile over time of the age of what the screen shows [ms]."""
    moments = np.arange(start_ns, end_ns, _STEP_NS)
    index = np.searchsorted(shown[:, 1], moments, 'right') - 1
    if index[0] < 0:
        return float('inf')
    return float(np.percentile(moments - shown[index, 0], 95) / 1e6)
