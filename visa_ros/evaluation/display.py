"""What the web display costs and how late its picture is, with no, one and several viewers.

A real clip, cropped to the picture's size, is shown at a fixed rate.  The viewers are processes of
their own that decode and acknowledge every picture; the last one is a real browser, if there is
one, whose latency is that of the drawn picture.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from typing import Any
from urllib.request import urlopen

import numpy as np

from visa_ros import samples
from visa_ros.evaluation.latency import viewer
from visa_ros.evaluation.report import Report
from visa_ros.timing import quantiles_ms
from visa_ros.types import ShadedFrame, UInt8

_WARM_UP_S = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--seconds', type=float, default=15.0, help='how long is each row')
    parser.add_argument('--fps', type=float, default=25.0, help='frames shown a second')
    parser.add_argument('--size', type=int, default=512, help='side of the picture [px]')
    parser.add_argument('--quality', type=int, default=85, help='display.jpeg_quality')


def run(arguments: argparse.Namespace) -> Report:
    """Measure each number of viewers in turn."""
    import cv2

    pictures = _pictures(arguments.size)
    encode_s, sizes = [], []
    for rgb in pictures:
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        start_s = time.perf_counter()
        _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, arguments.quality])
        encode_s.append(time.perf_counter() - start_s)
        sizes.append(len(jpeg))
    rows = [_measure(arguments, pictures, viewers) for viewers in (0, 1, 3)]
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if browser:
        rows.append(_measure(arguments, pictures, 1, browser))
    kilobytes = np.mean(sizes) / 1e3
    return Report(
        f'{arguments.size}x{arguments.size} at {arguments.fps:g} frames a second, '
        f'JPEG quality {arguments.quality}', rows,
        ['encoding, ms: ' + ', '.join(f'{name[:3]} {value:.2f}' for name, value
                                      in quantiles_ms(1e3 * np.array(encode_s)).items()),
         f'a frame: {kilobytes:.1f} kB; each viewer: '
         f'{kilobytes * 8e-3 * arguments.fps:.1f} Mbit/s',
         'cores: of this process; show: what the render loop waits; latency: from there to the '
         'decoded picture, for the browser to the drawn one'])


def _pictures(size: int) -> list[UInt8]:
    """Return two seconds of people waist-up."""
    from visa_ros.capture.source import read_video

    return [np.ascontiguousarray(rgb[:size, -size:])
            for rgb, _ in islice(read_video(samples.video('party')), 50)]


def _measure(arguments: argparse.Namespace, pictures: list[UInt8], viewers: int,
             browser: str = '') -> dict[str, Any]:
    from visa_ros.display.config import DisplayConfig
    from visa_ros.display.web import WebDisplay

    display = WebDisplay(DisplayConfig(port=0, jpeg_quality=arguments.quality))
    with ExitStack() as stack:
        drawn = [stack.enter_context(_browser(browser, display.url) if browser
                                     else viewer(display.url)) for _ in range(viewers)]
        _show(display, pictures, arguments.fps, _WARM_UP_S)
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        show_s = _show(display, pictures, arguments.fps, arguments.seconds)
        elapsed_s = time.monotonic() - start_s
        cores = (time.process_time() - start_cpu_s) / elapsed_s
        if browser:
            with urlopen(display.url + 'healthz') as answer:
                latency = {'p50_ms': json.load(answer)['draw_latency_ms']}
        display.close()
    if not browser:
        latencies_s = [latency_s for views in drawn for at_s, latency_s in views
                       if at_s > start_s]
        latency = quantiles_ms(1e3 * np.array(latencies_s)) if latencies_s else {}
    return {'viewers': '1 browser' if browser else viewers, 'cores': round(cores, 3),
            'show_p50_us': round(float(np.median(show_s)) * 1e6),
            **{f'latency_{name}': value for name, value in latency.items()}}


def _show(display: Any, pictures: list[UInt8], fps: float, seconds: float) -> list[float]:
    """Show the pictures at a fixed rate; return how long each call took, in seconds."""
    took_s = []
    next_s = time.monotonic()
    end_s = next_s + seconds
    for rgb in cycle(pictures):
        if next_s > end_s:
            break
        time.sleep(max(0.0, next_s - time.monotonic()))
        next_s += 1 / fps
        start_s = time.perf_counter()
        display.show(ShadedFrame(rgb, time.time_ns()))
        took_s.append(time.perf_counter() - start_s)
    return took_s


@contextmanager
def _browser(program: str, url: str) -> Iterator[list[tuple[float, float]]]:
    """Open the page in a headless Chromium, whose latencies the display itself keeps."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, '--headless', '--disable-gpu', '--disable-quic', '--no-first-run',
             '--disable-background-networking', '--disable-component-update', '--disable-sync',
             '--remote-debugging-port=0', f'--user-data-dir={profile}',
             *(['--no-sandbox'] if os.getuid() == 0 else []), url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield []
        finally:
            process.terminate()
            process.wait()
