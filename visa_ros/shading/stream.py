"""A stream of drawn frames becomes a stream of shaded ones."""
from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np

from visa_ros.errors import InputError
from visa_ros.rendering.window import GRID, HeadWindow
from visa_ros.shading.config import ShadingConfig
from visa_ros.shading.guidance import (
    HISTORY,
    PIXEL_CHANNELS,
    SIGMA,
    guide,
    to_network,
)
from visa_ros.shading.job import read_job
from visa_ros.shading.runtime import ShaderRuntime, open_instead, open_runtime
from visa_ros.types import CoarseFrame, Float32, ShadedFrame, UInt8

log = logging.getLogger(__name__)

_FEATHER_PX = 24     # over which the window fades into the rest of the picture
_CUT = 0.2           # mean difference of two renders, of 2, that is no motion
_FADE_IN, _FADE_OUT = 0.1, 0.25  # share of the shaded picture, per picture
_RETRY_S = 2.0       # after it was too slow, or failed
_GIVE_UP = 2         # failures one after the other, then another runtime is opened


class ShaderStream:
    """
    Shade one avatar's frames, each seen beside the pictures that it made before.

    What is too slow fades out and what returns fades in, so the picture never jumps and is never
    late; what fails shows the avatar itself, and what goes on failing is computed by another
    runtime, on the CPU.

    Parameters
    ----------
    width, height : int
        Of the pictures.
    config : ShadingConfig
        With weights.
    own : bytes, optional
        Weights that come with the avatar.

    Attributes
    ----------
    runtime : ShaderRuntime
        What computes.
    late, failed : int
        Pictures that took longer than the deadline, and that could not be shaded.

    Raises
    ------
    InputError
        The size is not one that can be shaded.
    ResourceError, MissingDependencyError
        See ``open_runtime``.

    """

    def __init__(self, width: int, height: int, config: ShadingConfig,
                 own: bytes = b'') -> None:
        if width % GRID or height % GRID or config.window_px % GRID:
            raise InputError(f'the shader needs sides that are multiples of {GRID}, got pictures '
                             f'of {width}x{height} and a window of {config.window_px}; change '
                             'rendering.width, rendering.height or shading.window_px, or set '
                             'shading.weights to none')
        source = config.source(own)
        assert source
        self._config = config
        self._shape = HeadWindow(width, height, config.window_px).shape
        self._times = [step / config.steps for step in range(config.steps, -1, -1)]
        self._job = read_job(source, *self._shape, config.precision,
                             tuple(self._times[:-1]))
        self._features = self._job.features
        self.runtime = open_runtime(config.runtime, self._job)
        rng = np.random.default_rng(config.seed)
        self._noise = SIGMA * rng.standard_normal((3, *self._shape), np.float32)
        self._weight = _window_weight(*self._shape, height, width)
        self._pixels = np.zeros((PIXEL_CHANNELS, *self._shape), np.float32)
        # The picture that is handed out, and those before it.
        self._pictures = [np.zeros((height, width, 3), np.uint8) for _ in range(HISTORY + 1)]
        # Levels of 255 that are added in the window, and by how much they change a picture.
        self._correction, self._change = (
            np.zeros((*self._shape, 3), np.float32) for _ in range(2))
        self._window: tuple[slice, slice] | None = None  # that they belong to
        self._waited = 0  # pictures since the network was asked
        self._last_render: UInt8 | None = None
        self._share = 0.0
        self._retry_s = 0.0
        self._failures = 0  # one after the other
        self._opening: Future[ShaderRuntime] | None = None
        self.late = self.failed = 0

    @property
    def due(self) -> bool:
        """Whether the network will be asked for the next picture, and wants to be told of it."""
        return self._last_render is None or self._waited + 1 >= self._config.every

    def reset(self) -> None:
        """Forget what was shown: the next picture begins anew from its render."""
        self._last_render = None

    def change(self, config: ShadingConfig) -> None:
        """Take another deadline; the rest stays as it was loaded."""
        self._config = replace(self._config, deadline_ms=config.deadline_ms)

    def shade(self, frame: CoarseFrame) -> ShadedFrame:
        """
        Return the frame's picture, shaded in its window as far as time allows.

        Where ``due``, the frame's features and turning are looked at.

        Its array is overwritten by the third call after this one.
        """
        self._pictures = [self._pictures[-1], *self._pictures[:-1]]
        picture = self._pictures[0]
        np.copyto(picture, frame.rgb)
        if self._opening and self._opening.done():
            self._take_over(self._opening)
        if time.monotonic() >= self._retry_s:
            self._shade_into(picture, frame)
        return ShadedFrame(picture, frame.stamp_ns, frame.presence)

    def _shade_into(self, picture: UInt8, frame: CoarseFrame) -> None:
        window = frame.window
        assert window
        render = frame.rgb[window]
        begins = self._last_render is None or (
            self._window == window and _cut(render, self._last_render))
        due = begins or self.due
        if begins:
            for before in self._pictures[1:]:
                np.copyto(before, frame.rgb)
        self._last_render = render.copy()
        self._follow(window)
        self._waited += 1
        # Only the avatar, then and now: what is guessed behind it is a halo.
        alpha = np.nan_to_num(frame.alpha[window])[..., None]
        if due:
            start_s = time.perf_counter()
            try:
                wanted = self._ask(render, guide(frame, self._features),
                                   [before[window] for before in self._pictures[1:]])
            except Exception as error:  # a runtime's own: the avatar itself is shown instead
                self._fail(error)
                return
            took_ms = (time.perf_counter() - start_s) * 1e3
            self._failures = self._waited = 0
            wanted *= alpha
            if begins:
                self._correction[:] = wanted
            self._change[:] = (wanted - self._correction) / self._config.every
        self._correction += self._change
        mixed = render + self._share * self._weight * alpha * self._correction
        picture[window] = np.rint(mixed, out=mixed).clip(0, 255, out=mixed)
        if due:
            self._adapt(took_ms)

    def _follow(self, window: tuple[slice, slice]) -> None:
        """Move corrections with the window: they stay where they are in the picture."""
        if self._window and self._window != window:
            for field in (self._correction, self._change):
                field[:] = _moved(field, *(now.start - before.start for now, before in
                                           zip(window, self._window, strict=True)))
        self._window = window

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self._share = 0.0
        self._retry_s = time.monotonic() + _RETRY_S
        self.reset()
        log.warning('shading: %s; the avatar is shown as it is drawn', error)
        self._failures += 1
        if self._failures == _GIVE_UP and not self._opening:
            aside = ThreadPoolExecutor(1)  # it takes a second or more
            self._opening = aside.submit(open_instead, self.runtime, self._job)
            aside.shutdown(wait=False)

    def _take_over(self, opening: Future[ShaderRuntime]) -> None:
        """Go on with another runtime; what cannot be opened is not asked for again soon."""
        self._opening = None
        self._failures = 0
        try:
            self.runtime = opening.result()
        except Exception as error:  # a runtime's own
            log.warning('shading: no other runtime can be opened (%s)', error)
        else:
            self._retry_s = 0.0
            log.warning('shading goes on with %s', self.runtime.name)

    def _ask(self, render: UInt8, told: Float32, before: list[UInt8]) -> Float32:
        """Go from the disturbed render to the photograph; return (h, w, 3), levels to add."""
        pixels = self._pixels
        pixels[3:6] = to_network(render)
        for index, picture in enumerate(before):
            pixels[6 + 3 * index:9 + 3 * index] = to_network(picture)
        beginning = pixels[3:6] + self._noise
        pixels[:3] = beginning
        for t, following in pairwise(self._times):
            answer = self.runtime(pixels, told, t)
            pixels[:3] = (1 - following) * answer + following * beginning
        if not np.isfinite(answer).all():
            raise ArithmeticError('the shader returned NaN or infinity')
        return np.ascontiguousarray((127.5 * (answer - pixels[3:6])).transpose(1, 2, 0))

    def _adapt(self, took_ms: float) -> None:
        if self._config.deadline_ms and took_ms > self._config.deadline_ms:
            self.late += 1
            self._share = max(self._share - _FADE_OUT, 0.0)
            if not self._share:
                self._retry_s = time.monotonic() + _RETRY_S
                self.reset()
        else:
            self._share = min(self._share + _FADE_IN, 1.0)


def _cut(render: UInt8, before: UInt8) -> bool:
    return float(np.abs(to_network(render[::4, ::4]) - to_network(before[::4, ::4])).mean()) > _CUT


def _moved(values: Float32, rows: int, columns: int) -> Float32:
    """Return (h, w, 3) as a window that went on by so much sees it; 0 where it is new."""
    out = np.zeros_like(values)
    height, width = values.shape[:2]
    if abs(rows) < height and abs(columns) < width:
        out[max(-rows, 0):height - max(rows, 0), max(-columns, 0):width - max(columns, 0)] = (
            values[max(rows, 0):height + min(rows, 0), max(columns, 0):width + min(columns, 0)])
    return out


def _window_weight(height: int, width: int, picture_height: int, picture_width: int) -> Float32:
    """Return (h, w, 1): 1 inside, falling to 0 at sides where the picture goes on."""
    def ramp(length: int, whole: int) -> Float32:
        away = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
        return np.clip(away / _FEATHER_PX, 0, 1).astype(np.float32) if whole > length else np.ones(
            length, np.float32)

    return (ramp(height, picture_height)[:, None] * ramp(width, picture_width))[..., None]
