"""Frames a second and latency from camera to screen, everything on this machine.

A real clip plays in real time as the camera; the default portrait's avatar is captured, posed,
drawn and served to a viewer: a process of its own that takes the web display's stream as a
browser does, decodes every picture and acknowledges it.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from visa_ros.evaluation.report import Report
from visa_ros.timing import quantiles_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this measurement's options."""
    parser.add_argument('--source', default='demo', help='video of the operator')
    parser.add_argument('--portrait', default='demo',
                        help='portrait of the avatar, or a .visa file')
    parser.add_argument('--shader', default='auto', metavar='WEIGHTS',
                        help='as shading.weights (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=30.0, help='how long is measured')
    parser.add_argument('--size', type=int, default=512, help='side of the picture [px]')
    parser.add_argument('--capture-fps', type=float, help='pacing.capture_fps')
    parser.add_argument('--hands-every', type=int, help='capture.hands_every')
    parser.add_argument('--body-every', type=int, help='capture.body_every')
    parser.add_argument('--record', default='', help='also write an MP4, as the demo does')


def run(arguments: argparse.Namespace) -> Report:
    """Run the pipeline for some time with one viewer."""
    from visa_ros.capture.capture import PoseCapture
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.source import SourceConfig, VideoSource
    from visa_ros.display.config import DisplayConfig
    from visa_ros.display.sinks import Sink
    from visa_ros.display.web import WebDisplay
    from visa_ros.pacing import PacingConfig
    from visa_ros.pipeline import Pipeline
    from visa_ros.reconstruction import avatar_file
    from visa_ros.reconstruction.avatar_cache import cached_avatar
    from visa_ros.reconstruction.portrait import read_portrait
    from visa_ros.rendering.renderer import RenderingConfig
    from visa_ros.shading.config import ShadingConfig
    from visa_ros.stage import AvatarStage
    from visa_ros.timing import RunStatistics
    from visa_ros.types import Consent

    if arguments.portrait.endswith('.visa'):
        avatar = avatar_file.load(Path(arguments.portrait))
    else:
        consent = Consent('operator', 'operator', 0, 'measurement')
        avatar, _ = cached_avatar(read_portrait(arguments.portrait), consent)
    display = WebDisplay(DisplayConfig(port=0))
    sinks: list[Sink] = [display]
    if arguments.record:
        from visa_ros.display.files import VideoFile
        sinks.append(VideoFile(Path(arguments.record)))
    capture = PoseCapture(CaptureConfig(
        operator_id=avatar.consent.operator_id,
        **_given(hands_every=arguments.hands_every, body_every=arguments.body_every)))
    capture.warm_up()
    pipeline = Pipeline(capture, sinks, PacingConfig(**_given(capture_fps=arguments.capture_fps)))
    pipeline.show(AvatarStage(
        avatar, RenderingConfig(width=arguments.size, height=arguments.size),
        shading=ShadingConfig(weights=arguments.shader)))
    source = VideoSource(SourceConfig(source=arguments.source), pipeline.put)
    with viewer(display.url) as drawn:
        source.start()
        time.sleep(3.0)  # the first frames find the operator
        pipeline.statistics = RunStatistics()
        before = dict(pipeline.dropped)
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        time.sleep(arguments.seconds)
        elapsed_s = time.monotonic() - start_s
        cpu_share = (time.process_time() - start_cpu_s) / elapsed_s
        statistics = pipeline.statistics
        dropped = {name: count - before[name] for name, count in pipeline.dropped.items()}
        source.close()
        pipeline.close()
        capture.close()
    rows: list[dict[str, Any]] = [*statistics.rows()]
    in_time = [row for row in drawn if row[0] > start_s]
    rows.append({'stage': 'camera to viewer, drawn',
                 **quantiles_ms([1e3 * latency_s for _, latency_s in in_time])})
    return Report(
        f'{len(avatar)} Gaussians at {arguments.size}x{arguments.size}: '
        f'{statistics.frames / elapsed_s:.1f} fresh frames a second, '
        f'{len(in_time) / elapsed_s:.1f} drawn by the viewer', rows,
        [f'{elapsed_s:.0f} s; this process used {cpu_share:.2f} cores, the viewer had its own',
         'images not used: ' + ', '.join(f'{name} {n}' for name, n in dropped.items()),
         'source: from the stamp of the camera image to the start of capture; handover: waiting '
         'for the renderer; display: handing over to the sinks'])


def _given(**values: object) -> dict[str, Any]:
    """Return the options that were given; the others keep their defaults."""
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def viewer(url: str) -> Iterator[list[tuple[float, float]]]:
    """Run a viewer; the list is filled with (monotonic time, latency in s) when it ends."""
    context = multiprocessing.get_context('spawn')
    stop, ready = context.Event(), context.Event()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_view, args=(url, stop, ready, sender), daemon=True)
    process.start()
    drawn: list[tuple[float, float]] = []
    try:
        if not ready.wait(60):
            raise TimeoutError(f'the viewer did not reach {url}')
        yield drawn
    finally:
        stop.set()
        if receiver.poll(10):
            drawn.extend(receiver.recv())
        process.join(10)


def _view(url: str, stop: Event, ready: Event, result: Any) -> None:
    """Take the stream, decode and acknowledge each picture, note its age."""
    import asyncio

    import cv2
    from aiohttp import ClientSession, WSMsgType

    from visa_ros.display.web import HEADER

    drawn: list[tuple[float, float]] = []

    async def take() -> None:
        async with (ClientSession() as session,
                    session.ws_connect(url + 'stream', max_msg_size=0) as socket):
            ready.set()
            async for message in socket:
                if stop.is_set() or message.type is not WSMsgType.BINARY:
                    return
                stamp_ns, sequence, _ = HEADER.unpack_from(message.data)
                cv2.imdecode(np.frombuffer(message.data, np.uint8, offset=HEADER.size),
                             cv2.IMREAD_COLOR)
                drawn.append((time.monotonic(), time.time() - stamp_ns / 1e9))
                await socket.send_str(json.dumps(
                    {'sequence': sequence, 'drawn_ms': time.time() * 1e3}))

    asyncio.run(take())
    result.send(drawn)
