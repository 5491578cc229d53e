"""Two hosts and the bad network between them: namespaces, impairment, counters.

Nothing outside of the namespaces is reached or changed.  Needs root, iproute2 and nftables.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from visa_ros.errors import ResourceError

OPERATOR, ROBOT = HOSTS = ('operator', 'robot')
_PORT = 'visa0'
AVATAR_KBIT = 8000  # the launch file's default
_CONFIG = Path(__file__).resolve().parents[2] / 'config'


@dataclass(frozen=True)
class Impairment:
    """
    What a network does to packets, in each direction.

    Attributes
    ----------
    delay_ms, jitter_ms : float
        One way; jitter is uniform, +-.
    loss : float
        Share of packets (IP fragments, where a datagram has several), independent of each other.
    rate_kbit : int
        Cap [kbit/s] with a queue of 50 ms and 10 kB (0.46 s at 200 kbit/s); 0: none.

    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    rate_kbit: int = 0


class Link:
    """
    The hosts ``OPERATOR`` (10.77.0.1) and ``ROBOT`` (10.77.0.2), each a network namespace.

    Loss is nftables' random drop where packets arrive, the cap is ``tbf`` where they leave, delay
    is our own relay between them, in a third namespace: kernels without ``netem`` have all three.

    Raises
    ------
    ResourceError
        On entering: no root, a tool is missing, or this machine forbids namespaces.

    """

    def __init__(self) -> None:
        self._names = {host: f'visa-{host}-{os.getpid()}' for host in (*HOSTS, 'relay')}
        self._stack = ExitStack()

    def __enter__(self) -> Link:
        """Make it."""
        if os.geteuid():
            raise ResourceError('network namespaces need root: run this with sudo')
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Take all of it away."""
        self._stack.close()

    def _make(self) -> None:
        for name in self._names.values():
            call('ip', 'netns', 'add', name)
            self._stack.callback(call, 'ip', 'netns', 'delete', name)
        relay = self._names['relay']
        for number, host in enumerate(HOSTS, 1):
            name = self._names[host]
            memory = Path('/dev/shm', name)
            memory.mkdir()
            self._stack.callback(shutil.rmtree, memory, ignore_errors=True)
            call('ip', 'link', 'add', _PORT, 'netns', name, 'type', 'veth',
                 'peer', 'name', host, 'netns', relay)
            for at, port in ((name, 'lo'), (name, _PORT), (relay, host)):
                call('ip', '-n', at, 'link', 'set', port, 'up')
            call('ip', '-n', name, 'address', 'add', f'10.77.0.{number}/24', 'dev', _PORT)
            # discovery is multicast: it needs a route, and this link is the only way out
            call('ip', '-n', name, 'route', 'add', '224.0.0.0/4', 'dev', _PORT)
            if call('ip', '-n', name, 'route', 'show', 'default'):
                raise ResourceError('a namespace that should be isolated has a route out')
            self._in(host, 'nft', 'add table netdev visa; add chain netdev visa loss '
                     f'{{ type filter hook ingress device {_PORT} priority 0; }}')
        self._relay = subprocess.Popen(
            ['ip', 'netns', 'exec', relay, sys.executable, '-m',
             'visa_ros.evaluation.network_relay', *HOSTS], stdin=subprocess.PIPE, text=True)
        self._stack.callback(self._relay.wait, 10)
        assert self._relay.stdin is not None
        self._stack.callback(self._relay.stdin.close)

    def impair(self, impairment: Impairment) -> None:
        """Let the network behave like this from now on."""
        for host in HOSTS:
            self._in(host, 'nft', 'flush chain netdev visa loss')
            if impairment.loss:
                per_mille = round(1000 * impairment.loss)
                self._in(host, 'nft', 'add rule netdev visa loss '
                         f'numgen random mod 1000 <= {per_mille - 1} drop')
            if impairment.rate_kbit:
                self._in(host, 'tc', *f'qdisc replace dev {_PORT} root tbf rate '
                         f'{impairment.rate_kbit}kbit burst 10kb latency 50ms'.split())
            elif 'tbf' in self._in(host, 'tc', 'qdisc', 'show', 'dev', _PORT):
                self._in(host, 'tc', 'qdisc', 'delete', 'dev', _PORT, 'root')
        assert self._relay.stdin is not None
        self._relay.stdin.write(f'{impairment.delay_ms} {impairment.jitter_ms}\n')
        self._relay.stdin.flush()

    def start(self, host: str, module: str, *words: str, **options: Any) -> subprocess.Popen:
        """
        Run ``python -m MODULE WORDS`` on a host.

        Parameters
        ----------
        host : str
            ``OPERATOR`` or ``ROBOT``; each has its own shared memory, too.
        module : str
            What to run.
        *words : str
            Its arguments.
        **options
            Of ``subprocess.Popen``.

        """
        # Inside of the namespaces the subnet is this link and nothing else.
        environment = options.pop('env', os.environ) | {
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_DOMAIN_ID': '0'}
        profile = _CONFIG / 'fastdds_profile.xml'
        if module.endswith('avatar_reconstruction'):
            profile = _CONFIG / 'fastdds_avatar.xml'
            environment['RMW_FASTRTPS_PUBLICATION_MODE'] = 'ASYNCHRONOUS'
            environment.setdefault('VISA_AVATAR_KBIT', str(AVATAR_KBIT))
        if profile.exists():  # as the launch file sets it
            environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(profile)
        return subprocess.Popen(
            [*self._enter(host), 'sh', '-c',
             f'mount --bind /dev/shm/{self._names[host]} /dev/shm && exec "$@"', 'sh',
             sys.executable, '-m', module, *words], env=environment, **options)

    def sent(self, host: str) -> tuple[int, int]:
        """Return bytes and packets that a host has sent, Ethernet headers included."""
        folder = f'/sys/class/net/{_PORT}/statistics'
        text = self._in(host, 'cat', f'{folder}/tx_bytes', f'{folder}/tx_packets').split()
        return int(text[0]), int(text[1])

    def _enter(self, host: str) -> list[str]:
        return ['ip', 'netns', 'exec', self._names[host]]

    def _in(self, host: str, *words: str) -> str:
        return call(*self._enter(host), *words)


def call(*words: str) -> str:
    """
    Run a command and return what it prints.

    Raises
    ------
    ResourceError
        It is not installed, or it fails.

    """
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise ResourceError(f'{words[0]} is needed: install the packages of '
                            'requirements-system.txt') from error
    except subprocess.CalledProcessError as error:
        raise ResourceError(f'{" ".join(words)}: {error.stderr.strip()}') from error
