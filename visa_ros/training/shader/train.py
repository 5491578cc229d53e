"""Trains the shader on pairs, on its own pictures of them: what it errs in it learns to mend."""
from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.shading.network import (
    ShaderNetwork,
    between,
    save_network,
    start,
    within,
)
from visa_ros.shading.network_config import SIZES
from visa_ros.training.shader.streams import (
    STRANGERS,
    Batch,
    Look,
    Pairs,
    People,
    Streams,
)

_BEHIND_WEIGHT = 0.5    # of a pixel without the person, beside one with
_DETAIL_WEIGHT = 1.0
_ADVERSARIAL_WEIGHT, _MATCHING_WEIGHT = 0.02, 0.2
_DETAIL_SCALES = (1, 2, 4)
# An error that counts by its square, of 2: small at first, which makes sharp, and then larger, so
# that what the network does not know stays as the render shows it.
_SMALL, _SMALL_AT_LAST = 0.01, 0.5
_CHECK_S = 300.0
_CLIP_NORM = 1.0
_WARM_UP = 0.05          # of the steps, in which the learning rate rises
_INPUTS = 432            # of a layer that learns at the whole rate: 48 channels, 3 x 3
_STILL = 6 / 127.5       # change of a colour, of 2, that is the camera's noise
_ANY_TIME = 4            # one of so many streams is asked at any time, the others at t = 1
# mallopt(3): what is freed, and what is as large as this, goes back to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 2**30
_THREADS = 2             # each learns from its own streams


@dataclass(frozen=True)
class TrainingConfig:
    """
    One training run.

    Attributes
    ----------
    size : str
        Of ``SIZES``.
    steps : int
        Of training, over all resumed slices.
    crop_px : int
        Side of what is learnt on, a multiple of ``GRID``.
    streams : int
        That a step learns from.
    learning_rate : float
        Highest, of AdamW.
    square_from : float
        Share of the steps after which errors count by their square.
    adversarial_from : float
        Share of the steps after which a critic joins in.
    averaging : float
        Share of the mean weights that each step keeps.
    change_weight : float
        Of what changes from picture to picture otherwise than in the truth.
    seed : int
        Of weights, order and augmentation.

    """

    size: str = '1m'
    steps: int = 6000
    crop_px: int = 128
    streams: int = 8
    learning_rate: float = 1e-3
    square_from: float = 0.75
    adversarial_from: float = 0.7
    averaging: float = 0.998
    change_weight: float = 0.3
    seed: int = 0


class Critic(nn.Module):
    """Tells patches of photographs from patches of pictures; shown the render as well."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (6, 24, 48, 96)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1))
            for a, b in pairwise(sizes))
        self.leave = nn.utils.parametrizations.spectral_norm(nn.Conv2d(sizes[-1], 1, 3))

    def forward(self, picture: Tensor, render: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return how real each patch looks, and what each layer saw."""
        x, seen = torch.cat([picture, render], 1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.leave(x), seen


def train(pairs: Path, checks: Path, out: Path, config: TrainingConfig) -> None:
    """
    Train for so many steps, writing checkpoints; go on from one that is there.

    Parameters
    ----------
    pairs, checks : Path
        Folders of ``*.npz``: to learn from (what is added meanwhile is found); and of other
        people, to measure on.
    out : Path
        The weights; ``.checkpoint`` and ``.json`` (the measurements) are written beside them.
    config : TrainingConfig

    """
    keep_memory()
    people, others = People(pairs), People(checks)
    run = Run(config)
    checkpoint = out.with_suffix('.checkpoint')
    if checkpoint.exists():
        run.resume(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        run.save(checkpoint)
        run.check(others)
        count = str(len(people.pairs))
        save_network(run.averaged, out, {
            'steps': str(run.steps), 'training': json.dumps(asdict(config)), 'pairs': count,
            'minutes': f'{run.spent_s / 60:.0f}', 'checks': json.dumps(run.history[-1])})
        out.with_suffix('.json').write_text(json.dumps(run.history, indent=1))
        progress.console.print(json.dumps(run.history[-1]))

    kept_s = time.monotonic()
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task('training', total=config.steps)
        while run.steps < config.steps:
            loss = run.step(people.pairs, run.steps / config.steps)
            progress.update(task, completed=run.steps, description=f'loss {loss:.4f}')
            if time.monotonic() - kept_s > _CHECK_S:
                people.look()
                others.look()
                keep()
                kept_s = time.monotonic()
        keep()


def keep_memory() -> None:
    """Let freed pictures stay with the process: fetching them anew costs a third of a step."""
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEPT_BYTES)


class Run:
    """
    The state of a training run.

    Parameters
    ----------
    config : TrainingConfig
    look : Look, optional
        How far streams stray from what was recorded.
    start : ShaderNetwork, optional
        What to go on from; its size counts.

    Attributes
    ----------
    averaged : ShaderNetwork
        What was learnt so far: the mean of the last weights.
    steps : int
        That were taken.

    """

    def __init__(self, config: TrainingConfig, look: Look = STRANGERS,
                 start: ShaderNetwork | None = None) -> None:
        self._config = config
        torch.manual_seed(config.seed)
        network = ShaderNetwork(start.config if start else SIZES[config.size])
        if start:
            network.load_state_dict(start.state_dict())
        critic = Critic()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = deepcopy(self.network).requires_grad_(False)
        self.critic = critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Adam moves all weights alike: the more inputs a layer has, the less each may move.
        self._optimizer = torch.optim.AdamW(
            [{'params': [value], 'share': min(1.0, _INPUTS / max(value[0].numel(), 1))}
             for value in self.network.parameters()],
            config.learning_rate, (0.9, 0.98), weight_decay=0.01, fused=True)
        self._critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), config.learning_rate / 2, (0.0, 0.98), fused=True)
        self.critic.eval()
        self._pool = ThreadPoolExecutor(_THREADS, initializer=torch.set_num_threads,
                                        initargs=(1,))
        self._streams = Streams(config.streams, config.crop_px, look)
        self._rng = np.random.default_rng(config.seed)
        self.steps, self.spent_s = 0, 0.0
        self.history: list[dict[str, float]] = []

    def step(self, people: Mapping[str, Pairs], share: float) -> float:
        """
        Learn from one picture of each stream; return the loss without the critic's part.

        Parameters
        ----------
        people : mapping of str to Pairs
            The same each time; more may have come.
        share : float
            Of the run that is done, in [0, 1).

        """
        begin_s = time.perf_counter()
        rate = self._config.learning_rate * min(1, share / _WARM_UP + 0.01) * (1.03 - share)
        for group in self._optimizer.param_groups:
            group['lr'] = rate * group['share']
        batch = self._streams.next(people, self._rng)
        shown = _disturbed(batch.history, batch.render, self._rng)
        t = np.ones(self._config.streams, np.float32)
        t[::_ANY_TIME] = self._rng.random(len(t[::_ANY_TIME]))
        contested = share >= self._config.adversarial_from
        small = _SMALL if share < self._config.square_from else _SMALL_AT_LAST
        parts = [batch.part(np.arange(first, len(t), _THREADS)) for first in range(_THREADS)]
        learnt = list(self._pool.map(
            lambda part, past, time: self._learn(part, past, time, small, contested), parts,
            *([values[first::_THREADS] for first in range(_THREADS)]
              for values in (shown, torch.from_numpy(t)))))
        _descend(self._optimizer, self.network, [part.slopes for part in learnt])
        if contested:
            _descend(self._critic_optimizer, self.critic, [part.critic_slopes for part in learnt])
            _normalize(self.critic)
        pictures = torch.empty_like(batch.render)
        for first, part in enumerate(learnt):
            pictures[first::_THREADS] = part.picture
        self._streams.remember(pictures)
        with torch.no_grad():
            keep = min(self._config.averaging, (self.steps + 1) / (self.steps + 10))
            for mean, value in zip(self.averaged.parameters(), self.network.parameters(),
                                   strict=True):
                mean.lerp_(value, 1 - keep)
        self.steps += 1
        self.spent_s += time.perf_counter() - begin_s
        return fmean(part.loss for part in learnt)

    def _learn(self, batch: Batch, past: Tensor, t: Tensor, small: float, contested: bool
               ) -> _Learnt:
        """Shade a part of the streams; return the picture, and where to go from here."""
        x = between(batch.truth, start(batch.render, batch.noise), t)
        said = self.network(
            torch.cat([x, batch.render, past.flatten(1, 2)], 1).contiguous(
                memory_format=torch.channels_last), batch.guide, t)
        picture = within(batch.render, batch.alpha, said)
        loss = total = _loss(picture, batch, small, self._config.change_weight)
        critic_slopes: tuple[Tensor, ...] = ()
        if contested:
            said, critics = _contest(self.critic, picture, batch)
            total = loss + said
            critic_slopes = torch.autograd.grad(critics, list(self.critic.parameters()))
        slopes = torch.autograd.grad(total, list(self.network.parameters()))
        return _Learnt(picture.detach(), float(loss.detach()), slopes, critic_slopes)

    def check(self, others: People) -> None:
        """Measure one-step roll-outs of the averaged network on other people."""
        rows = [(name.startswith('test-'), measure(self.averaged, pairs))
                for name, pairs in others.pairs.items()]
        means: dict[str, float] = {'steps': self.steps,
                                   'minutes': round(self.spent_s / 60, 2)}
        for kind, synthetic in (('people', True), ('photographs', False)):
            own = [row for is_synthetic, row in rows if is_synthetic == synthetic]
            for key in own[0] if own else ():
                means[f'{kind}: {key}'] = round(fmean(row[key] for row in own), 4)
        self.history.append(means)

    def save(self, path: Path) -> None:
        """Write everything that going on needs."""
        part = path.with_suffix('.part')
        torch.save({
            'network': self.network.state_dict(), 'averaged': self.averaged.state_dict(),
            'critic': self.critic.state_dict(), 'optimizer': self._optimizer.state_dict(),
            'critic_optimizer': self._critic_optimizer.state_dict(),
            'streams': self._streams.state(), 'random': self._rng.bit_generator.state,
            'steps': self.steps, 'spent_s': self.spent_s, 'history': self.history}, part)
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint stopped."""
        state = torch.load(path, weights_only=True)
        for name in ('network', 'averaged', 'critic'):
            getattr(self, name).load_state_dict(state[name])
        self._optimizer.load_state_dict(state['optimizer'])
        self._critic_optimizer.load_state_dict(state['critic_optimizer'])
        self._streams.resume(state['streams'])
        self._rng.bit_generator.state = state['random']
        self.steps, self.spent_s = state['steps'], state['spent_s']
        self.history = state['history']


@dataclass(frozen=True, eq=False)
class _Learnt:
    """What a part of a batch says."""

    picture: Tensor
    loss: float
    slopes: tuple[Tensor, ...]
    critic_slopes: tuple[Tensor, ...]


def _descend(optimizer: torch.optim.Optimizer, network: nn.Module,
             slopes: list[tuple[Tensor, ...]]) -> None:
    """Step along the mean of the parts' gradients."""
    for value, *own in zip(network.parameters(), *slopes, strict=True):
        value.grad = torch.stack(own).mean(0)
    nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
    optimizer.step()


def _normalize(critic: Critic) -> None:
    """Follow the weights' norms; while learning they stay, so that threads agree."""
    critic.train()
    for layer in (*critic.layers, critic.leave):
        _ = layer.weight  # a step of the power iteration
    critic.eval()


def _contest(critic: Critic, picture: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the critic's judgement costs the network, and its mistakes the critic."""
    real, wanted = critic(batch.truth, batch.render)
    made, _ = critic(picture.detach(), batch.render)
    patches = F.interpolate(batch.shown, real.shape[2:], mode='area')
    patches = patches / patches.mean().clamp_min(1e-3)
    mistakes = (patches * (F.relu(1 - real) + F.relu(1 + made))).mean()
    judged, seen = critic(picture, batch.render)
    matching = sum(((a - b.detach()).abs().mean() for a, b in zip(seen, wanted, strict=True)),
                   torch.zeros(()))
    said = _MATCHING_WEIGHT * matching - _ADVERSARIAL_WEIGHT * (patches * judged).mean()
    return said, mistakes


def _loss(picture: Tensor, batch: Batch, small: float, change_weight: float) -> Tensor:
    weight = _BEHIND_WEIGHT + (1 - _BEHIND_WEIGHT) * batch.shown
    error = weight * (picture - batch.truth)
    loss = _size(error, small)
    for scale in _DETAIL_SCALES:
        # A larger scale has fewer pixels: what is wrong over a wide area counts there.
        coarser = F.avg_pool2d(error, scale) if scale > 1 else error
        for axis in (2, 3):
            loss = loss + _DETAIL_WEIGHT / (2 * len(_DETAIL_SCALES)) * _size(
                coarser.diff(dim=axis), small)
    change = (picture - batch.history[:, 0]) - (batch.truth - batch.truth_before)
    change = weight * batch.goes_on[:, None, None, None] * change
    return loss + change_weight * _size(change, small)


def _size(error: Tensor, small: float) -> Tensor:
    """Return the mean error; by its square where it is small."""
    return F.smooth_l1_loss(error, torch.zeros(()).expand_as(error), beta=small)


def _disturbed(history: Tensor, render: Tensor, rng: np.random.Generator) -> Tensor:
    """Return past pictures as worse networks would have made them: noisy, soft, off in colour."""
    out = history.clone()
    for number, own in enumerate(out):
        if rng.random() < 0.05:
            own[:] = render[number]
        if rng.random() < 0.3:
            own[:] = F.avg_pool2d(F.pad(own, (1, 1, 1, 1), 'replicate'), 3, 1)
        if rng.random() < 0.2:
            own += torch.from_numpy(rng.normal(0, 0.03, (1, 3, 1, 1)).astype(np.float32))
        sigma = rng.uniform(0, 0.08) * (rng.random() < 0.5)
        own += sigma * torch.from_numpy(rng.standard_normal(own.shape, np.float32))
    return out


@torch.no_grad()
def shade(network: ShaderNetwork, pairs: Pairs) -> dict[str, Tensor]:
    """
    Let the network shade the sequences of one file, in one step a picture.

    Returns
    -------
    dict of str to (S, T, 3, H, W) tensor
        'render', 'shaded' and 'truth' over grey, in [-1, 1].

    """
    render, truth = (torch.from_numpy(pairs[name]).float().movedim(4, 2) / 127.5
                     for name in ('render', 'truth'))
    alpha = render[:, :, 3:] / 2
    render, truth = (rgba[:, :, :3] - rgba[:, :, 3:] / 2 for rgba in (render, truth))
    sequences, length, _, height, width = render.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 3, height, width), generator=generator).expand(
        sequences, -1, -1, -1)
    last = before = render[:, 0]
    made = []
    for moment in range(length):
        now = render[:, moment]
        pixels = torch.cat([start(now, noise), now, last, before], 1).contiguous(
            memory_format=torch.channels_last)
        said = network(pixels, torch.from_numpy(pairs['guide'][:, moment]).float(),
                       torch.ones(sequences))
        last, before = within(now, alpha[:, moment], said).clamp(-1, 1), last
        made.append(last)
    return {'render': render, 'shaded': torch.stack(made, 1), 'truth': truth}


def measure(network: ShaderNetwork, pairs: Pairs) -> dict[str, float]:
    """
    Let the network shade the sequences of one file, and compare.

    Returns
    -------
    dict of str to float
        PSNR (dB) where render or truth show the person; sharpness (mean absolute difference to
        the blurred picture) over the truth's; and flicker (mean change from picture to picture
        where the truth stands still) over the render's; of the render and of what was made of it.

    """
    pictures = shade(network, pairs)
    truth = pictures.pop('truth')
    shown = torch.from_numpy(np.maximum(pairs['render'], pairs['truth'])[..., None, :, :, 3] > 127)
    still = shown[:, 1:] & (truth.diff(dim=1).abs().amax(2, keepdim=True) < _STILL)
    changes = {name: float((made.diff(dim=1).abs() * still).sum() / still.sum().clamp_min(1))
               for name, made in pictures.items()}
    out = {}
    for name, made in pictures.items():
        squared = (made - truth).square().mean(2, keepdim=True) / 4
        per_frame = (squared * shown).sum((2, 3, 4)) / shown.sum((2, 3, 4)).clamp_min(1)
        out[f'{name} PSNR'] = float((-10 * per_frame.clamp_min(1e-10).log10()).mean())
        out[f'{name} sharpness'] = float(_sharpness(made, shown) / _sharpness(truth, shown))
        out[f'{name} flicker'] = changes[name] / max(changes['render'], 1e-6)
    return out


def _sharpness(pictures: Tensor, shown: Tensor) -> Tensor:
    flat = pictures.flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), 'replicate'), 3, 1)
    return ((flat - soft).abs() * shown.flatten(0, 1)).mean()
