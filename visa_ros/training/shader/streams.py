"""Endless streams of what the shader is shown, each with the network's own last pictures."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.errors import ResourceError
from visa_ros.identity import FACE_CORNERS
from visa_ros.shading.guidance import HISTORY, SIDEWAYS
from visa_ros.types import Float32

RESET = 0.012          # probability that a stream ends, per picture

_LEAST_BLUR_PX, _BLUR_PX = 0.3, 1.2
_MIRRORED = (2, 3, 0, 1, 4)  # places in FACE_CORNERS of the other side's
_LEAST_SEEN, _TRIES = 0.4, 8  # of a crop, the person; how often a better one is looked for

# Arrays of one file, as ``pairs.write_pairs`` says.
Pairs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Look:
    """
    How far streams stray from what was recorded, so that others than these are shaded well.

    Attributes
    ----------
    mixing, offset : float
        Standard deviations of a colour matrix about the identity, and of a colour that is added.
    gain : (float, float)
        Least and most of brightness.
    permuted, flipped, soft, render_soft : float
        Shares of streams with their colour channels in another order, mirrored, blurred, and
        whose render alone is.

    """

    mixing: float = 0.08
    offset: float = 0.05
    gain: tuple[float, float] = (0.7, 1.2)
    permuted: float = 0.1
    flipped: float = 0.5
    soft: float = 0.2
    render_soft: float = 0.1


STRANGERS = Look()
# Light changes during a day; who it is does not.
ONE_PERSON = Look(mixing=0.01, offset=0.01, gain=(0.9, 1.1), permuted=0, flipped=0, soft=0,
                  render_soft=0)


class People:
    """The pairs of a folder; what is added to it is found by ``look``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pairs: dict[str, Pairs] = {}
        self.look()

    def look(self) -> None:
        """
        Read what is new.

        Raises
        ------
        ResourceError
            There is nothing.

        """
        for path in sorted(self._folder.glob('*.npz')):
            if path.stem not in self.pairs:
                with np.load(path, allow_pickle=False) as file:
                    self.pairs[path.stem] = dict(file)
        if not self.pairs:
            raise ResourceError(f'there are no *.npz in {self._folder}; write some: python -m '
                                'visa_ros.training.shader pairs')


@dataclass(frozen=True, eq=False)
class Batch:
    """
    One moment of B streams; colours in [-1, 1].

    Attributes
    ----------
    render, truth, truth_before, noise : (B, 3, H, W) tensors
    guide : (B, 9 + F, H / 4, W / 4) tensor
    alpha : (B, 1, H, W) tensor
        Of the render, in [0, 1].
    shown : (B, 1, H, W) tensor
        Where render or truth show the person, in [0, 1].
    history : (B, 2, 3, H, W) tensor
        The network's own pictures, the latest first.
    goes_on : (B,) tensor
        1 where the latest of them is its own, 0 where the stream began just now.
    face : (B, 5, 2) tensor
        True pixels of ``identity.FACE_CORNERS``; NaN where one is outside or not known.

    """

    render: Tensor
    truth: Tensor
    truth_before: Tensor
    noise: Tensor
    guide: Tensor
    alpha: Tensor
    shown: Tensor
    history: Tensor
    goes_on: Tensor
    face: Tensor

    def part(self, which: slice) -> Batch:
        """Return some of the streams."""
        return Batch(*(getattr(self, field.name)[which] for field in fields(Batch)))

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(Batch)))


class Streams:
    """
    B streams: each goes back and forth in a sequence, in one look, until it ends by chance.

    What the network made is what it is shown next, as when it is used.

    Parameters
    ----------
    count : int
        B.
    crop_px : int
        Side of what is seen of the window.
    look : Look, optional
    reset : float, optional
        Probability that a stream ends, per picture.

    """

    def __init__(self, count: int, crop_px: int, look: Look = STRANGERS,
                 reset: float = RESET) -> None:
        self._crop_px = crop_px
        self._look = look
        self._reset = reset
        self._streams: list[dict[str, Any] | None] = [None] * count

    def next(self, people: Mapping[str, Pairs], rng: np.random.Generator) -> Batch:
        """Return the next moment of each."""
        parts = []
        for number, stream in enumerate(self._streams):
            if stream is None or stream['name'] not in people or rng.random() < self._reset:
                stream = self._streams[number] = self._begun(people, rng)
            else:
                stream['moment'] += 1
            parts.append(self._seen(stream, people[stream['name']]))
        return Batch(**{name: torch.from_numpy(np.stack([part[name] for part in parts]))
                        for name in parts[0]})

    def remember(self, pictures: Tensor) -> None:
        """Keep what the network made of the last batch, (B, 3, H, W)."""
        for stream, picture in zip(self._streams, pictures.numpy().clip(-1, 1), strict=True):
            assert stream is not None
            stream['history'] = [picture, *stream['history'][:HISTORY - 1]]

    def state(self) -> list[dict[str, Any] | None]:
        """Return what goes into a checkpoint."""
        return [stream and {name: _plain(value) for name, value in stream.items()}
                for stream in self._streams]

    def resume(self, state: list[dict[str, Any] | None]) -> None:
        """Take what ``state`` returned."""
        self._streams = [stream and {name: _arrays(value) for name, value in stream.items()}
                         for stream in state]

    def _begun(self, people: Mapping[str, Pairs], rng: np.random.Generator) -> dict[str, Any]:
        name = sorted(people)[rng.integers(len(people))]
        sequences, length, height, width, _ = people[name]['render'].shape
        look = self._look
        mixing = np.eye(3) + look.mixing * rng.normal(0, 1, (3, 3))
        if rng.random() < look.permuted:
            mixing = mixing[rng.permutation(3)]
        sequence, moment = int(rng.integers(sequences)), int(rng.integers(2 * length))
        first = people[name]['truth'][sequence, _place(moment, length), ..., 3]
        for _ in range(_TRIES):
            top, left = (FEATURE_STRIDE * int(rng.integers((side - self._crop_px)
                                                           // FEATURE_STRIDE + 1))
                         for side in (height, width))
            seen = first[top:top + self._crop_px, left:left + self._crop_px]
            if seen.mean() > 255 * _LEAST_SEEN:
                break
        blur = rng.uniform(0, _BLUR_PX, 2) * (rng.random(2) < (look.soft, look.render_soft))
        return {
            'name': name, 'sequence': sequence, 'moment': moment, 'top': top, 'left': left,
            'flip': bool(rng.random() < look.flipped),
            'mixing': (mixing * rng.uniform(*look.gain)).astype(np.float32),
            'offset': (look.offset * rng.normal(0, 1, 3)).astype(np.float32),
            'background': rng.random(3, np.float32),
            'render_gain': (1 + 0.01 * rng.normal(0, 1, 3)).astype(np.float32),
            'blur_px': blur.tolist(), 'history': [],
            'noise': rng.standard_normal((3, self._crop_px, self._crop_px), np.float32)}

    def _seen(self, stream: dict[str, Any], pairs: Pairs) -> dict[str, Float32]:
        goes_on = bool(stream['history'])
        rgba = {name: self._cut(stream, pairs[name]) for name in ('render', 'truth')}
        before = self._cut(stream, pairs['truth'], before=1)
        soft, render_soft = stream['blur_px']
        render = _colors(_blurred(rgba['render'], np.hypot(soft, render_soft)), stream,
                         stream['render_gain'])
        if not goes_on:
            stream['history'] = [render] * HISTORY
        return {
            'render': render,
            'truth': _colors(_blurred(rgba['truth'], soft), stream),
            'truth_before': _colors(_blurred(before, soft), stream),
            'noise': stream['noise'], 'history': np.stack(stream['history']),
            'guide': self._guide(stream, pairs['guide']),
            'alpha': np.ascontiguousarray(rgba['render'][None, ..., 3]),
            'shown': np.maximum(rgba['render'], rgba['truth'])[None, ..., 3],
            'goes_on': np.float32(goes_on), 'face': self._face(stream, pairs)}

    def _cut(self, stream: dict[str, Any], pictures: np.ndarray, before: int = 0) -> Float32:
        """Return (H, W, 4) in [0, 1] of the stream's moment, or of one before."""
        side = self._crop_px
        picture = pictures[stream['sequence'], _place(stream['moment'] - before,
                                                      pictures.shape[1])]
        picture = picture[stream['top']:stream['top'] + side,
                          stream['left']:stream['left'] + side].astype(np.float32) / 255
        return picture[:, ::-1] if stream['flip'] else picture

    def _face(self, stream: dict[str, Any], pairs: Pairs) -> Float32:
        if 'face' not in pairs:  # of a clip, whose person is not to be told from others
            return np.full((len(FACE_CORNERS), 2), np.nan, np.float32)
        faces = pairs['face'][stream['sequence']]
        corners = faces[_place(stream['moment'], len(faces))] - (stream['left'], stream['top'])
        if stream['flip']:
            corners = corners[list(_MIRRORED)]
            corners[:, 0] = self._crop_px - corners[:, 0]
        outside = (corners < 0).any() or (corners > self._crop_px).any()
        return np.where(outside, np.nan, corners).astype(np.float32)

    def _guide(self, stream: dict[str, Any], guides: np.ndarray) -> Float32:
        side, top, left = (length // FEATURE_STRIDE for length in (
            self._crop_px, stream['top'], stream['left']))
        told = guides[stream['sequence'], _place(stream['moment'], guides.shape[1]), :,
                      top:top + side, left:left + side].astype(np.float32)
        if stream['flip']:
            told = told[..., ::-1].copy()
            told[list(SIDEWAYS)] *= -1
        return told


def _place(moment: int, length: int) -> int:
    """Return where a sequence is that goes forth and back for ever."""
    place = moment % max(2 * length - 2, 1)
    return place if place < length else 2 * length - 2 - place


def _blurred(rgba: Float32, sigma_px: float) -> Float32:
    if sigma_px < _LEAST_BLUR_PX:
        return rgba
    return cv2.GaussianBlur(rgba, (0, 0), sigma_px).astype(np.float32, copy=False)


def _colors(rgba: Float32, stream: dict[str, Any], gain: Float32 | float = 1.0) -> Float32:
    """Return (3, H, W) in [-1, 1] in the stream's look."""
    over = rgba[..., :3] * gain + (1 - rgba[..., 3:]) * stream['background']
    mixed = over @ stream['mixing'].T + stream['offset']
    return np.ascontiguousarray(2 * mixed.clip(0, 1).transpose(2, 0, 1) - 1)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _arrays(value: Any) -> Any:
    if isinstance(value, list):
        return [_arrays(entry) for entry in value]
    return value.numpy() if isinstance(value, Tensor) else value
