"""An operator's picture on its way to the robot: as poses, and as H.264 video by WebRTC.

Both keep two logs, of what was sent and of what was shown: the stamps and times [ns] that the
figures of ``network`` are computed from.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visa_ros.errors import ResourceError
from visa_ros.evaluation.network_link import AVATAR_KBIT, OPERATOR, ROBOT, Link

FRESH_NS = 250_000_000
_END_S = 15.0
_LEAST_AVATAR_KBIT = 40
_PROBE = 'visa_ros.nodes._probe'


class Stream:
    """
    Processes on both hosts of a link, and the logs of what they send and show.

    Parameters
    ----------
    link : Link
        Between the hosts.
    folder : Path
        For the logs.

    Attributes
    ----------
    processes : dict of str to (str, str, tuple of str)
        Name to host, module and arguments of each.
    sending, restartable : tuple of str
        Those that run before the robot joins; those that may be started anew by themselves.

    """

    sending: tuple[str, ...] = ()
    restartable: tuple[str, ...] = ()

    def __init__(self, link: Link, folder: Path) -> None:
        self._link, self._folder = link, folder
        self._running: dict[str, subprocess.Popen] = {}
        self._environment: dict[str, str] = {}
        self._options: dict[str, Any] = {}
        self.processes: dict[str, tuple[str, str, tuple[str, ...]]] = {}

    def __enter__(self) -> Stream:
        """Start nothing yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End all that runs."""
        for name in list(self._running):
            self.stop(name)

    def fit(self, rate_kbit: int) -> bool:
        """Set up for a link of this rate (0: any), as a user would; return whether it changed."""
        return False

    def join(self) -> None:
        """Start what shows on the robot, last of all."""
        raise NotImplementedError

    def leave(self) -> None:
        """End it."""
        raise NotImplementedError

    def start(self, *names: str) -> None:
        """Start some of the processes."""
        for name in names:
            host, module, words = self.processes[name]
            self._running[name] = self._link.start(
                host, module, *words, env=os.environ | self._environment, **self._options)

    def stop(self, name: str) -> None:
        """End a process as Ctrl-C does."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGINT)
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def sent(self) -> NDArray[np.int64]:
        """Return the (N,) stamps of what was sent [ns]."""
        return self._log('sent', 1)[:, 0]

    def shown(self) -> NDArray[np.int64]:
        """Return the (N, 2) stamps of what was shown, and when [ns]."""
        return self._log('shown', 2)

    def _log(self, name: str, columns: int) -> NDArray[np.int64]:
        path = self._folder / name
        text = path.read_text() if path.exists() else ''
        whole = text[:text.rfind('\n') + 1]  # the last line may be half written
        return np.array(whole.split(), np.int64).reshape(-1, columns)

    def fresh_since(self, from_ns: int) -> float | None:
        """Return how long after a time something fresh was shown [s]; None: not yet."""
        shown = self.shown()
        fresh = shown[(shown[:, 1] >= from_ns) & (shown[:, 1] - shown[:, 0] <= FRESH_NS)]
        return float((fresh[0, 1] - from_ns) / 1e9) if len(fresh) else None

    def wait_for_fresh(self, from_ns: int, timeout_s: float) -> float | None:
        """Wait until something fresh is shown; returns as ``fresh_since``."""
        end_s = time.monotonic() + timeout_s
        while (after_s := self.fresh_since(from_ns)) is None and time.monotonic() < end_s:
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise ResourceError(f'{name} has ended with status {process.returncode}')
            time.sleep(0.05)
        return after_s


class ArrivalStream(Stream):
    """
    The poses as they arrive at the robot: what the network does, without what drawing costs.

    Parameters
    ----------
    link, folder
        As for ``Stream``.
    hz : float
        Poses a second.

    """

    sending = ('poses',)
    restartable = ('poses',)

    def __init__(self, link: Link, folder: Path, hz: float = 30.0) -> None:
        super().__init__(link, folder)
        self.processes = {
            'poses': (OPERATOR, _PROBE, ('operator', str(folder / 'sent'), str(hz))),
            'arrival': (ROBOT, _PROBE, ('arrival', str(folder / 'shown')))}

    def join(self) -> None:
        """Start who listens."""
        self.start('arrival')

    def leave(self) -> None:
        """End it."""
        self.stop('arrival')


class PoseStream(Stream):
    """
    Poses, as this package sends them: those of a clip, the avatar; a renderer and a screen there.

    Parameters
    ----------
    link, folder
        As for ``Stream``.
    avatar : Path
        A ``.visa`` file, signed with the key in ``folder``.
    hz : float
        Poses a second.

    """

    sending = ('avatar', 'poses', 'screen')
    restartable = ('renderer', 'avatar', 'poses')

    def __init__(self, link: Link, folder: Path, avatar: Path, hz: float = 30.0) -> None:
        super().__init__(link, folder)
        # keys of this measurement, none of the user's
        self._environment = {'VISA_CONFIG_DIR': str(folder),
                             'VISA_AVATAR_KBIT': str(AVATAR_KBIT)}
        self.processes = {
            'poses': (OPERATOR, _PROBE, ('operator', str(folder / 'sent'), str(hz))),
            'avatar': (OPERATOR, 'visa_ros.nodes.avatar_reconstruction', (
                '--ros-args', '--log-level', 'warn', '-p', f'avatar.portrait:={avatar}')),
            'screen': (ROBOT, _PROBE, ('screen', str(folder / 'shown'))),
            'renderer': (ROBOT, 'visa_ros.nodes.avatar_renderer', (
                '--ros-args', '--log-level', 'warn', '-p', 'rendering.width:=256',
                '-p', 'rendering.height:=256', '-p', 'rendering.threads:=1'))}

    def fit(self, rate_kbit: int) -> bool:
        """Send the avatar at the rate that doc/deployment.md advises; its process starts again."""
        kbit = AVATAR_KBIT
        if rate_kbit:
            kbit = min(kbit, max(_LEAST_AVATAR_KBIT, round(0.9 * (rate_kbit - 200))))
        if self._environment['VISA_AVATAR_KBIT'] == str(kbit):
            return False
        self._environment['VISA_AVATAR_KBIT'] = str(kbit)
        self.stop('avatar')
        self.start('avatar')
        return True

    def join(self) -> None:
        """Start the robot's renderer."""
        self.start('renderer')

    def leave(self) -> None:
        """End it."""
        self.stop('renderer')


class VideoStream(Stream):
    """
    The pick of today: a clip as H.264 at 640x480 by WebRTC (aiortc).

    Offer and answer pass through this process, which is no part of what is measured.

    Parameters
    ----------
    link, folder
        As for ``Stream``.
    clip : Path
        The operator's video.

    """

    sending = ('sender',)

    def __init__(self, link: Link, folder: Path, clip: Path) -> None:
        super().__init__(link, folder)
        module = 'visa_ros.evaluation.network_video'
        self._options = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
        self.processes = {
            'sender': (OPERATOR, module, ('send', str(folder / 'sent'), str(clip))),
            'receiver': (ROBOT, module, ('receive', str(folder / 'shown')))}

    def join(self) -> None:
        """Start the receiver and connect."""
        self.start('receiver')
        offer = self._ask('sender', '')
        self._tell('sender', self._ask('receiver', offer))

    def leave(self) -> None:
        """End it."""
        self.stop('receiver')

    def _tell(self, name: str, line: str) -> None:
        pipe = self._running[name].stdin
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.write(line + '\n')
            pipe.flush()

    def _ask(self, name: str, line: str) -> str:
        self._tell(name, line)
        pipe = self._running[name].stdout
        assert pipe is not None
        answer = pipe.readline().strip()
        if not answer:
            raise ResourceError(f'the {name} of the video has ended')
        json.loads(answer)
        return answer
