"""How fast each runtime computes the shader, and how far it is from the reference."""
from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from visa_ros._optional import require
from visa_ros.errors import VisaError
from visa_ros.evaluation.report import Report
from visa_ros.shading.config import PRECISIONS, RUNTIMES
from visa_ros.shading.guidance import HISTORY, SIGMA, to_bytes, to_network
from visa_ros.shading.job import read_job
from visa_ros.shading.runtime import ShaderRuntime, open_runtime
from visa_ros.training.shader.streams import Pairs, People
from visa_ros.types import Float32, UInt8

_SIDE_PX = 256       # of the pairs
_BEHIND = 128        # grey level behind the person
_SHEET = Path('out') / 'shader_runtimes.png'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--weights', type=Path, required=True,
                        help='of the shader; what was exported beside them is measured too')
    parser.add_argument('--pairs', type=Path, required=True,
                        help='pairs that neither training nor calibration has seen')
    parser.add_argument('--sizes', type=int, nargs='+', default=[256, 512],
                        help='sides of the picture, px, multiples of 256 (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=30,
                        help='timed calls of each (default: %(default)s)')


def run(arguments: argparse.Namespace) -> Report:
    """Ask all runtimes in turns; let each shade sequences with its own pictures as the past."""
    report = Report(
        f'The shader by runtime, {arguments.repeats} calls of each in turns, ms',
        notes=['CPU: time of all threads together, which other processes disturb less.',
               'difference: levels of 255 to torch in float32, after eight pictures that each '
               'was shown its own of; PSNR: to the truth, dB.',
               f'{_SHEET} shows the last picture of each.'])
    sequences = [_Sequence(pairs) for pairs in People(arguments.pairs).pairs.values()]
    opened: dict[tuple[str, int], ShaderRuntime] = {}
    for kind, precision in product(RUNTIMES[1:], PRECISIONS):
        for size in arguments.sizes:
            try:
                runtime = open_runtime(kind, replace(
                    read_job(arguments.weights, size, size), precision=precision))
            except VisaError as error:
                report.notes.append(f'{kind} in {precision} is not measured: {error}')
                break
            opened.setdefault((runtime.name, size), runtime)
    shown = {name: [sequence.shaded(runtime) for sequence in sequences]
             for (name, size), runtime in opened.items() if size == _SIDE_PX}
    timings = _timed(opened, sequences[0], arguments.repeats)
    for (name, size), (wall, cpu) in timings.items():
        row = {'runtime': name, 'px': size, 'least': round(min(wall), 1),
               'median': round(float(np.median(wall)), 1),
               'p95': round(float(np.percentile(wall, 95)), 1),
               'CPU, least': round(min(cpu), 1), 'CPU, median': round(float(np.median(cpu)), 1)}
        if size == _SIDE_PX:
            reference = next(iter(shown.values()))
            away = np.abs(np.stack(shown[name]).astype(int) - np.stack(reference))
            row |= {'difference, mean': round(float(away.mean()), 3), 'most': int(away.max()),
                    'PSNR': round(float(np.mean([
                        _psnr(pictures[-1], sequence.truth[-1]) for pictures, sequence in
                        zip(shown[name], sequences, strict=True)])), 2)}
        report.rows.append(row)
        report.values.append({'runtime': name, 'px': size, 'wall_ms': wall, 'cpu_ms': cpu})
    if shown:
        _write_sheet(shown, sequences[:4])
    return report


class _Sequence:
    """A sequence of pairs before grey, and what a runtime makes of it."""

    def __init__(self, pairs: Pairs) -> None:
        self.render, self.truth = (_before_grey(pairs[name][-1]) for name in ('render', 'truth'))
        self._guide = pairs['guide'][-1].astype(np.float32)
        self._noise = SIGMA * np.random.default_rng(0).standard_normal(
            (3, _SIDE_PX, _SIDE_PX), np.float32)

    def seen(self, moment: int, past: list[UInt8]) -> tuple[Float32, Float32]:
        """Return pixels and guide."""
        render = to_network(self.render[moment])
        return (np.concatenate([render + self._noise, render, *map(to_network, past)]),
                self._guide[moment])

    def shaded(self, runtime: ShaderRuntime) -> UInt8:
        """Return (T, H, W, 3)."""
        past = [self.render[0]] * HISTORY
        out = []
        for moment in range(len(self.render)):
            past = [to_bytes(runtime(*self.seen(moment, past), 1.0)), *past[:-1]]
            out.append(past[0])
        return np.stack(out)


def _timed(opened: dict[tuple[str, int], ShaderRuntime], sequence: _Sequence, repeats: int
           ) -> dict[tuple[str, int], tuple[list[float], list[float]]]:
    """Return wall and CPU time of each call, ms."""
    pixels, guide = sequence.seen(0, [sequence.render[0]] * HISTORY)
    out: dict[tuple[str, int], tuple[list[float], list[float]]] = {
        key: ([], []) for key in opened}
    for _ in range(repeats):
        for (name, size), runtime in opened.items():
            often = 1, size // _SIDE_PX, size // _SIDE_PX
            asked = np.tile(pixels, often), np.tile(guide, often), 1.0
            runtime(*asked)  # another one has filled the caches
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            runtime(*asked)
            for values, began_s, now_s in zip(
                    out[name, size], (wall_s, cpu_s), (time.perf_counter(), time.process_time()),
                    strict=True):
                values.append((now_s - began_s) * 1e3)
    return out


def _before_grey(rgba: UInt8) -> UInt8:
    values = rgba.astype(np.float32)
    over = values[..., :3] + (1 - values[..., 3:] / 255) * _BEHIND
    return np.rint(over.clip(0, 255)).astype(np.uint8)


def _psnr(picture: UInt8, truth: UInt8) -> float:
    return float(10 * np.log10(255**2 / np.square(picture.astype(float) - truth).mean()))


def _write_sheet(shown: dict[str, list[UInt8]], sequences: list[_Sequence]) -> None:
    """Write a picture: a row for each sequence, a column for each runtime."""
    cv2 = require('cv2')
    rows = [np.concatenate([sequence.render[-1], *(
        pictures[number][-1] for pictures in shown.values()), sequence.truth[-1]], 1)
        for number, sequence in enumerate(sequences)]
    _SHEET.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(_SHEET), np.concatenate(rows)[..., ::-1])
