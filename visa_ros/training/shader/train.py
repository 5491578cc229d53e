"""Trains the shader on pairs, on its own pictures of them: what it errs in it learns to mend."""
from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.shading.network import (
    ShaderNetwork,
    between,
    load_network,
    save_network,
    start,
    within,
)
from visa_ros.shading.network_config import SIZES
from visa_ros.training.shader.face_embedder import FaceEmbedder
from visa_ros.training.shader.losses import Critic, contest, distance, otherness
from visa_ros.training.shader.measure import measure
from visa_ros.training.shader.streams import (
    RESET,
    STRANGERS,
    Batch,
    Look,
    Pairs,
    People,
    Streams,
)

# An error that counts by its square, of 2: small at first, which makes sharp, and then larger, so
# that what the network does not know stays as the render shows it.
_SMALL, _SMALL_AT_LAST = 0.01, 0.5
_CHECK_EVERY = 200       # steps
_CLIP_NORM = 1.0
_WARM_UP = 0.05          # of the steps, in which the learning rate rises
_INPUTS = 432            # of a layer that learns at the whole rate: 48 channels, 3 x 3
_ANY_TIME = 4            # one of so many streams is asked at any time, the others at t = 1
# mallopt(3): what is freed, and what is as large as this, goes back to the system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 2**30
_THREADS = 2             # of a CPU; each learns from its own streams
_TEACHER_STEPS = 4
# Of a progressive run: until which share of it, by what crops are smaller, and how often streams
# end.
_STAGES = ((0.25, 2, 0.2), (0.85, 2, RESET), (1.0, 1, RESET))


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
        Side of what is learnt on at last, a multiple of ``GRID``.
    streams : int
        That a step learns from; fewer are too alike.
    progressive : bool
        Whether crops are of half that side before, and streams short at first.
    past : {'own', 'true', 'none'}
        The last pictures that the network is shown: its own, as in use; the truth's ("teacher
        forcing"); or none, but the render.
    learning_rate : float
        Highest, of AdamW.
    square_from : float
        Share of the steps after which errors count by their square.
    adversarial_from : float
        Share of the steps after which a critic joins in; 1: never.
    distil_from : float
        Share of the steps after which one step learns what the mean network says in four, and
        not the truth; 1: never.
    averaging : float
        Share of the mean weights that each step keeps.
    change_weight : float
        Of what changes from picture to picture otherwise than in the truth.
    identity_weight : float
        Of how much a face looks like another's; needs requirements-faces.txt unless it is 0.
    device : {'cpu', 'cuda'}
    seed : int
        Of weights, order and augmentation.

    """

    size: str = '1m'
    steps: int = 6000
    crop_px: int = 256
    streams: int = 8
    progressive: bool = True
    past: str = 'own'
    learning_rate: float = 1e-3
    square_from: float = 0.75
    adversarial_from: float = 1.0
    distil_from: float = 1.0
    averaging: float = 0.998
    change_weight: float = 0.3
    identity_weight: float = 0.0
    device: str = 'cpu'
    seed: int = 0


class _Stage(NamedTuple):
    """How a part of a run learns."""

    crop_px: int
    reset: float


def train(pairs: Path, checks: Path, out: Path, config: TrainingConfig,
          begin: Path | None = None) -> None:
    """
    Train for so many steps, writing checkpoints; go on from one that is there.

    Of what was learnt, that is kept which was best on the checks: more steps make it better on
    those that it learns from, and then worse on others.

    Parameters
    ----------
    pairs, checks : Path
        Folders of ``*.npz``: to learn from (what is added meanwhile is found); and of other
        people, to measure on.
    out : Path
        The weights; ``.checkpoint`` and ``.json`` (the measurements) are written beside them.
    config : TrainingConfig
    begin : Path, optional
        Weights to begin with; their size counts.

    """
    keep_memory()
    people, others = People(pairs), People(checks)
    run = Run(config, start=load_network(begin) if begin else None)
    checkpoint = out.with_suffix('.checkpoint')
    if checkpoint.exists():
        run.resume(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)

    def check() -> None:
        run.check(others)
        if run.is_best():
            save_network(run.averaged, out, {
                'steps': str(run.steps), 'training': json.dumps(asdict(config)),
                'pairs': str(len(people.pairs)), 'minutes': f'{run.spent_s / 60:.0f}',
                'checks': json.dumps(run.history[-1])})
        run.save(checkpoint)
        out.with_suffix('.json').write_text(json.dumps(run.history, indent=1))
        progress.console.print(json.dumps(run.history[-1]))

    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task('training', total=config.steps)
        while run.steps < config.steps:
            loss = run.step(people.pairs, run.steps / config.steps)
            progress.update(task, completed=run.steps, description=f'loss {loss:.4f}')
            if run.steps % _CHECK_EVERY == 0 or run.steps == config.steps:
                people.look()
                others.look()
                check()


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
        self.network, self.critic = (
            module.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for module in (network, Critic()))
        self.averaged = deepcopy(self.network).requires_grad_(False)
        self._embedder = FaceEmbedder().to(config.device) if config.identity_weight else None
        # Adam moves all weights alike: the more inputs a layer has, the less each may move.
        self._optimizer = torch.optim.AdamW(
            [{'params': [value], 'share': min(1.0, _INPUTS / max(value[0].numel(), 1))}
             for value in self.network.parameters()],
            config.learning_rate, (0.9, 0.98), weight_decay=0.01, fused=True)
        self._critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), config.learning_rate / 2, (0.0, 0.98), fused=True)
        self.critic.eval()
        self._threads = _THREADS if config.device == 'cpu' else 1
        self._pool = ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads,
                                        initargs=(1,))
        self._look = look
        self._enter(self._stage_at(0.0))
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
        if (stage := self._stage_at(share)) != self._stage:
            self._enter(stage)
        batch = self._streams.next(people, self._rng)
        if self._config.past == 'none':
            past = batch.render[:, None].expand_as(batch.history)
        else:
            past = _disturbed(batch.history, batch.render, self._rng)
        drawn = self._rng.random((2, self._config.streams), np.float32)
        t = torch.from_numpy(np.where(drawn[0] < 1 / _ANY_TIME, drawn[1], 1))
        parts = [slice(first, None, self._threads) for first in range(self._threads)]
        learnt = list(self._pool.map(
            lambda part: self._learn(batch.part(part).to(self._config.device),
                                     past[part].to(self._config.device),
                                     t[part].to(self._config.device), share), parts))
        _descend(self._optimizer, self.network, [part.slopes for part in learnt])
        if share >= self._config.adversarial_from:
            _descend(self._critic_optimizer, self.critic, [part.critic_slopes for part in learnt])
            _normalize(self.critic)
        pictures = batch.truth.clone()
        if self._config.past != 'true':
            for part, said in zip(parts, learnt, strict=True):
                pictures[part] = said.picture
        self._streams.remember(pictures)
        with torch.no_grad():
            keep = min(self._config.averaging, (self.steps + 1) / (self.steps + 10))
            for mean, value in zip(self.averaged.parameters(), self.network.parameters(),
                                   strict=True):
                mean.lerp_(value, 1 - keep)
        self.steps += 1
        self.spent_s += time.perf_counter() - begin_s
        return fmean(part.loss for part in learnt)

    def _stage_at(self, share: float) -> _Stage:
        if not self._config.progressive:
            return _Stage(self._config.crop_px, RESET)
        _, smaller, reset = next(stage for stage in _STAGES if share < stage[0])
        return _Stage(self._config.crop_px // smaller, reset)

    def _enter(self, stage: _Stage) -> None:
        self._stage = stage
        self._streams = Streams(self._config.streams, stage.crop_px, self._look, stage.reset)

    def _learn(self, batch: Batch, past: Tensor, t: Tensor, share: float) -> _Learnt:
        """Shade a part of the streams; return the picture, and where to go from here."""
        config = self._config
        begin = start(batch.render, batch.noise)
        picture = _asked(self.network, batch, between(batch.truth, begin, t), past, t)
        wanted = batch
        if share >= config.distil_from:
            wanted = replace(batch, truth=self._taught(batch, begin, past))
        small = _SMALL if share < config.square_from else _SMALL_AT_LAST
        loss = total = distance(picture, wanted, small, config.change_weight)
        if self._embedder:
            total = total + config.identity_weight * otherness(self._embedder, picture, batch)
        critic_slopes: tuple[Tensor, ...] = ()
        if share >= config.adversarial_from:
            said, critics = contest(self.critic, picture, batch)
            total = total + said
            critic_slopes = torch.autograd.grad(critics, list(self.critic.parameters()))
        slopes = torch.autograd.grad(total, list(self.network.parameters()))
        return _Learnt(picture.detach().cpu(), float(loss.detach()), slopes, critic_slopes)

    @torch.no_grad()
    def _taught(self, batch: Batch, begin: Tensor, past: Tensor) -> Tensor:
        """Return what the mean network says in several steps."""
        x, ones = begin, torch.ones(len(begin), device=begin.device)
        for step in range(_TEACHER_STEPS, 0, -1):
            picture = _asked(self.averaged, batch, x, past, step / _TEACHER_STEPS * ones)
            x = between(picture, begin, (step - 1) / _TEACHER_STEPS * ones)
        return picture

    def check(self, others: People) -> None:
        """Measure one-step roll-outs of the averaged network on other people."""
        network = deepcopy(self.averaged).cpu()
        rows = [(name.startswith('test-'), measure(network, pairs))
                for name, pairs in others.pairs.items()]
        means: dict[str, float] = {'steps': self.steps,
                                   'minutes': round(self.spent_s / 60, 2)}
        for kind, synthetic in (('people', True), ('photographs', False)):
            own = [row for is_synthetic, row in rows if is_synthetic == synthetic]
            for key in own[0] if own else ():
                means[f'{kind}: {key}'] = round(fmean(row[key] for row in own), 4)
        self.history.append(means)

    def is_best(self) -> bool:
        """Whether the last check was the best: by how much nearer to the truth than renders."""
        gains = [fmean(value - row[name.replace('shaded', 'render')]
                       for name, value in row.items() if name.endswith('shaded PSNR'))
                 for row in self.history]
        return gains[-1] == max(gains)

    def save(self, path: Path) -> None:
        """Write everything that going on needs."""
        part = path.with_suffix('.part')
        torch.save({
            'network': self.network.state_dict(), 'averaged': self.averaged.state_dict(),
            'critic': self.critic.state_dict(), 'optimizer': self._optimizer.state_dict(),
            'critic_optimizer': self._critic_optimizer.state_dict(),
            'stage': tuple(self._stage), 'streams': self._streams.state(),
            'random': self._rng.bit_generator.state,
            'steps': self.steps, 'spent_s': self.spent_s, 'history': self.history}, part)
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint stopped."""
        state = torch.load(path, weights_only=True, map_location='cpu')
        for name in ('network', 'averaged', 'critic'):
            getattr(self, name).load_state_dict(state[name])
        self._optimizer.load_state_dict(state['optimizer'])
        self._critic_optimizer.load_state_dict(state['critic_optimizer'])
        self._enter(_Stage(*state['stage']))
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


def _asked(network: ShaderNetwork, batch: Batch, x: Tensor, past: Tensor, t: Tensor) -> Tensor:
    """Return the picture that a network says, within the avatar's outline."""
    pixels = torch.cat([x, batch.render, past.flatten(1, 2)], 1)
    said = network(pixels.contiguous(memory_format=torch.channels_last), batch.guide, t)
    return within(batch.render, batch.alpha, said)


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
