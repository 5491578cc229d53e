"""A slot that holds the latest value: the only queue of this package."""
from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

T = TypeVar('T')


class Latest(Generic[T]):
    """
    Hand the newest value from one thread to another; older ones are dropped and counted.

    Attributes
    ----------
    dropped : int
        Values that were replaced before anybody took them.

    """

    def __init__(self) -> None:
        self.dropped = 0
        self._value: T | None = None
        self._closed = False
        self._changed = Condition()

    def put(self, value: T) -> None:
        """Replace the value; never waits for the reader."""
        with self._changed:
            self.dropped += self._value is not None
            self._value = value
            self._changed.notify()

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for a value and remove it; None after the timeout or once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._value is not None or self._closed, timeout_s)
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Wake every reader; what is still in the slot can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed
