"""Where a frame's time goes: per frame for FrameTiming, over a run for the closing table."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Enough for ten minutes at 30 frames a second.
_KEPT = 18_000


def quantiles_ms(ms: ArrayLike) -> dict[str, float]:
    """Return median, p95 and p99 of durations in milliseconds."""
    p50, p95, p99 = np.percentile(np.asarray(ms, float), (50, 95, 99)).round(2).tolist()
    return {'p50_ms': p50, 'p95_ms': p95, 'p99_ms': p99}


@dataclass
class StageTimes:
    """
    Milliseconds that each stage took for one frame, in order.

    Attributes
    ----------
    ms : dict of str to float
        By stage name.

    """

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time the block as this stage."""
        start_s = time.perf_counter()
        yield
        self.ms[stage] = (time.perf_counter() - start_s) * 1e3


class Flow:
    """
    What passes a stage: how often, how old, and how much of it took too long.

    Parameters
    ----------
    deadline_s : float
        Longer than this is a miss.

    Attributes
    ----------
    deadline_s : float
        May be changed.
    passed, missed : int
        Results so far, and those that took longer than the deadline.

    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.passed = self.missed = 0
        self._stamp_ns: int | None = None
        self._asked = 0, time.monotonic()

    def add(self, stamp_ns: int, took_s: float) -> None:
        """Count one result with its stamp and the time that the stage took for it."""
        self.passed += 1
        self.missed += took_s > self.deadline_s
        self._stamp_ns = stamp_ns

    def values(self, now_ns: int) -> dict[str, object]:
        """
        Return rate [Hz] since the last call, age of the last result [ms], deadline misses.

        Parameters
        ----------
        now_ns : int
            On the clock of the stamps.

        """
        (before, before_s), now_s = self._asked, time.monotonic()
        self._asked = self.passed, now_s
        rate_hz = (self._asked[0] - before) / max(now_s - before_s, 1e-9)
        age_ms = '' if self._stamp_ns is None else round((now_ns - self._stamp_ns) / 1e6)
        return {'rate_hz': round(rate_hz, 1), 'age_ms': age_ms, 'deadline_misses': self.missed}


class RunStatistics:
    """Collect the frames of a run and sum them up."""

    def __init__(self) -> None:
        self._stages: dict[str, _Kept] = {}
        self._latencies_ms = _Kept()
        self._times_s = _Kept()

    def add(self, times: StageTimes, latency_ms: float) -> None:
        """Count one fresh frame that has just been handed to the display."""
        for stage, value in times.ms.items():
            if stage not in self._stages:
                self._stages[stage] = _Kept()
            self._stages[stage].append(value)
        self._latencies_ms.append(latency_ms)
        self._times_s.append(time.monotonic())

    @property
    def frames(self) -> int:
        """How many fresh frames the kept window holds."""
        return len(self._times_s)

    @property
    def fps(self) -> float:
        """Fresh frames a second over the kept window."""
        if len(self._times_s) < 2:
            return 0.0
        times_s = self._times_s.values()
        return (len(times_s) - 1) / (times_s[-1] - times_s[0])

    def rows(self) -> list[dict[str, str | float]]:
        """Return a table row (p50, p95, p99 in ms) for each stage and for the whole way."""
        return [{'stage': stage, **quantiles_ms(kept.values())} for stage, kept in
                (*self._stages.items(), ('camera to display', self._latencies_ms)) if len(kept)]


class _Kept:
    """The last numbers of many, in memory that is there from the first one on."""

    def __init__(self) -> None:
        self._values = np.zeros(_KEPT)
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, _KEPT)

    def append(self, value: float) -> None:
        self._values[self._count % _KEPT] = value
        self._count += 1

    def values(self) -> NDArray[np.float64]:
        """Return them, the oldest first."""
        if self._count <= _KEPT:
            return self._values[:self._count]
        return np.roll(self._values, -(self._count % _KEPT))
