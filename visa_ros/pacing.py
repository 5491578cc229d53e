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
