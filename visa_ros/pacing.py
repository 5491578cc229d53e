"""How often the stages run."""
from __future__ import annotations

import time
from dataclasses import dataclass

from visa_ros.config import Config, param


@dataclass(frozen=True)
class PacingConfig(Config):
    """How often the stages run at most, so that none starves the others."""

    capture_fps: float = param(
        30.0, 'Most camera images a second that are captured; the rest is dropped [Hz]',
        low=1.0, high=240.0, live=True)
    idle_fps: float = param(
        15.0, 'Pictures a second while no fresh pose arrives [Hz]', low=1.0, high=60.0,
        live=True)


class Pacer:
    """Let through at most so many a second, evenly."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1 / rate_hz
        self._next_s = 0.0

    def due(self) -> bool:
        """Tell whether the next one may pass now, and if so count it."""
        now_s = time.monotonic()
        # A source at just the wished rate jitters around it: a tenth of a period early is in time.
        if now_s < self._next_s - 0.1 * self._period_s:
            return False
        self._next_s = max(self._next_s + self._period_s, now_s)
        return True


class RateLimit:
    """
    A token bucket.

    Parameters
    ----------
    burst : int
        How often something may happen at once,
    per_s : float
        and how often a second in the long run.

    """

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at_s = float(burst), time.monotonic()

    def allows(self) -> bool:
        """Return whether it may happen now; if so, it has."""
        self._fill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def rested(self) -> bool:
        """Return whether nothing has happened for long."""
        self._fill()
        return self._left == self._burst

    def _fill(self) -> None:
        now_s = time.monotonic()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
