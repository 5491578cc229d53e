"""The soak's arithmetic: pictures go to their interval, and what grows has a slope."""
import numpy as np
import pytest

from visa_ros.evaluation.soak import _add_latencies, _slopes


def test_latencies_belong_to_the_interval_in_which_they_were_seen():
    rows = [{'minute': 0.5}, {'minute': 1.0}]
    _add_latencies(rows, [(1.0, 0.040), (29.0, 0.060), (31.0, 0.200), (61.0, 9.0)], 30.0)
    assert rows[0]['fps'] == pytest.approx(2 / 30, abs=0.01)
    assert rows[0]['p50_ms'] == 50.0
    assert rows[1]['p50_ms'] == 200.0


def test_a_leak_has_a_slope_and_noise_has_none():
    rng = np.random.default_rng(0)
    rows = [{'minute': float(minute), 'memory_mb': 500 + 2 * minute + rng.normal(),
             'p50_ms': 40 + rng.normal()} for minute in range(1, 61)]
    slope, error = _slopes(rows)
    assert slope['memory_mb'] == pytest.approx(120, abs=error['memory_mb'])
    assert abs(slope['p50_ms']) < error['p50_ms']
    assert error['memory_mb'] < 3
