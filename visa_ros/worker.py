"""A thread that always works on the latest input: how every stage runs."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Thread
from typing import Any, Generic, TypeVar, overload

from visa_ros.errors import VisaError
from visa_ros.latest import Latest
from visa_ros.pacing import RateLimit

T = TypeVar('T')
log = logging.getLogger(__name__)

# Of refused inputs: so many at once, so many a second in the long run.
_LOGGED = (10, 0.1)


class Worker(Generic[T]):
    """
    Call ``handle`` with each newest input, in a thread of its own.

    An input that ``handle`` refuses (``VisaError``) is counted and skipped, and logged when the
    reason is a new one; anything else that it raises is a fault of ours, logged with its
    traceback.  No more than a few are logged.  The thread lives on.

    Parameters
    ----------
    name : str
        Of the thread and in the log.
    handle : callable
        Takes an input; with ``idle_s`` set also None, when nothing came for that long.
    idle_s : float, optional
        How long without an input that was handled before ``handle(None)`` is called: who floods a
        stage with bad ones does not stop it.  By default it is never called so.

    Attributes
    ----------
    refused : int
        Inputs that ``handle`` refused.
    idle_s : float or None
        May be changed.

    """

    @overload
    def __init__(self, name: str, handle: Callable[[T], None]) -> None: ...

    @overload
    def __init__(self, name: str, handle: Callable[[T | None], None], idle_s: float) -> None: ...

    def __init__(self, name: str, handle: Callable[[Any], None],
                 idle_s: float | None = None) -> None:
        self.name = name
        self.refused = 0
        self._handle = handle
        self.idle_s = idle_s
        self._inbox: Latest[T] = Latest()
        self._reason = ''  # why the last one was refused
        self._speaks = RateLimit(*_LOGGED)
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Inputs that were replaced by newer ones before their turn."""
        return self._inbox.dropped

    def put(self, value: T) -> None:
        """Hand over an input; never waits."""
        self._inbox.put(value)

    def close(self) -> None:
        """Finish the input at work and end the thread."""
        self._inbox.close()
        self._thread.join()

    def _run(self) -> None:
        handled_s = time.monotonic()
        while True:
            value = self._inbox.take(self.idle_s)
            if self._inbox.closed:
                return
            if value is None and self.idle_s is None:
                continue
            if not self._handles(value) and value is not None and self.idle_s is not None:
                if time.monotonic() - handled_s < self.idle_s:
                    continue
                self._handles(None)
            handled_s = time.monotonic()

    def _handles(self, value: T | None) -> bool:
        try:
            self._handle(value)
        except VisaError as error:
            self.refused += 1
            # A camera sends the same fault 30 times a second, an attacker ever new ones.
            if str(error) != self._reason and self._speaks.allows():
                self._reason = str(error)
                log.warning('%s: %s', self.name, self._reason)
        except Exception:
            self.refused += 1
            if self._speaks.allows():
                log.exception('%s: an input was skipped after an unexpected error', self.name)
        else:
            return True
        return False
