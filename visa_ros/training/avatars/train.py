"""Trains the avatar network on samples: what it says of one view must look right in the others."""
from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.body.model import load_body_model
from visa_ros.reconstruction.evidence import token_places
from visa_ros.reconstruction.network import (
    FEATURES,
    Attributes,
    AvatarNetwork,
    NetworkConfig,
    save_network,
)
from visa_ros.reconstruction.predict import changed
from visa_ros.rendering.rasterization import rasterization
from visa_ros.training.avatars.samples import Sample, load_sample

_HIDDEN_WEIGHT = 3.0     # of a pixel that the portrait did not show, beside one that it did
_ALPHA_WEIGHT, _POOLED_WEIGHT, _FEATURE_WEIGHT, _RESTRAINT = 0.5, 1.0, 0.5, 0.01
_VIEWS = 4               # drawn in one step
_EMA = 0.998
_CHECKPOINT_S = 360.0
_CLIP_NORM = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """
    One training run.

    Attributes
    ----------
    steps : int
        One person each, over all resumed slices.
    learning_rate : float
        Highest, of AdamW.
    seed : int
        Of weights, order and augmentation.

    """

    steps: int = 6000
    learning_rate: float = 4e-4
    seed: int = 0


class FeatureReader(nn.Module):
    """
    A stand-in for the shader while training: splatted features must tell what colours do not.

    Reads features, colour and alpha of a drawn view and corrects the colour.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(FEATURES + 4, 24, 3, padding=1), nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 3, 1))

    def forward(self, colors: Tensor, alpha: Tensor, features: Tensor) -> Tensor:
        """Return corrected (V, H, W, 3) colours; gradients reach the features alone."""
        colors, alpha = colors.detach(), alpha.detach()
        x = torch.cat([features, colors, alpha], 3).permute(0, 3, 1, 2)
        return colors + self.layers(x).permute(0, 2, 3, 1)


def fresh_network(config: NetworkConfig, seed: int) -> AvatarNetwork:
    """Return an untrained network for the package's body; its tokens and vertices are set here."""
    model = load_body_model()
    places = torch.from_numpy(token_places(model))
    torch.manual_seed(seed)
    return AvatarNetwork(replace(config, tokens=len(places), vertices=len(model.template)), places)


def train(samples: Path, checks: Path, out: Path, network: AvatarNetwork,
          config: TrainingConfig) -> None:
    """
    Train for so many steps, writing checkpoints; go on from one that is there.

    Parameters
    ----------
    samples, checks : Path
        Folders of ``*.npz``: to learn from (what is added meanwhile counts from the next round
        on); and of other people, to measure on.
    out : Path
        The weights; ``.checkpoint`` and ``.json`` (the measurements) are written beside them.
    network : AvatarNetwork
        Untrained, or trained before.
    config : TrainingConfig

    """
    run = _Run(network, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = out.with_suffix('.checkpoint')
    if checkpoint.exists():
        run.resume(checkpoint)
    saved_s = time.monotonic()
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with ThreadPoolExecutor(1) as loader, Progress(*columns) as progress:
        task = progress.add_task('training', total=config.steps)
        following = loader.submit(load_sample, run.next_of(samples))
        while run.steps < config.steps:
            sample = following.result()
            following = loader.submit(load_sample, run.next_of(samples))
            loss = run.step(sample)
            progress.update(task, completed=run.steps, description=f'loss {loss:.4f}')
            if time.monotonic() - saved_s > _CHECKPOINT_S:
                saved_s = time.monotonic()
                run.save(checkpoint)
                run.check(checks)
                progress.console.print(json.dumps(run.history[-1]))
    run.save(checkpoint)
    run.check(checks)
    count = sum(1 for _ in samples.glob('*.npz'))
    about = {'steps': str(run.steps), 'training': json.dumps(asdict(config)),
             'samples': str(count), 'checks': json.dumps(run.history[-1])}
    save_network(run.averaged, out, about)
    out.with_suffix('.json').write_text(json.dumps(run.history, indent=1))


class _Run:
    """The state of a training run."""

    def __init__(self, network: AvatarNetwork, config: TrainingConfig) -> None:
        self._config = config
        self._random = random.Random(config.seed)
        self.network = deepcopy(network).train().requires_grad_()
        self.averaged = deepcopy(network)
        torch.manual_seed(config.seed)
        self.reader = FeatureReader()
        self._weights = [*self.network.parameters(), *self.reader.parameters()]
        self._optimizer = torch.optim.AdamW(self._weights, config.learning_rate, (0.9, 0.98),
                                            weight_decay=0.01, fused=True)
        self.steps, self.spent_s = 0, 0.0
        self.history: list[dict[str, float]] = []
        self._order: list[Path] = []

    def next_of(self, samples: Path) -> Path:
        """Return the next sample: all of them in a new random order, again and again."""
        if not self._order:
            self._order = sorted(samples.glob('*.npz'))
            self._random.shuffle(self._order)
        return self._order.pop()

    def step(self, sample: Sample) -> float:
        """Learn from one person; return the loss."""
        begin_s = time.perf_counter()
        share = min(self.steps / self._config.steps, 1)
        rate = self._config.learning_rate * min(1, (self.steps + 1) / 200) * (1.03 - share)
        for group in self._optimizer.param_groups:
            group['lr'] = rate
        count = len(sample.targets)
        views = torch.tensor(self._random.sample(range(count), min(_VIEWS, count)))
        loss = _loss(self.network, self.reader, _recoloured(sample, self._random), views)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, _CLIP_NORM)
        self._optimizer.step()
        with torch.no_grad():
            keep = min(_EMA, (self.steps + 1) / (self.steps + 10))
            for mean, value in zip(self.averaged.parameters(), self.network.parameters(),
                                   strict=True):
                mean.lerp_(value, 1 - keep)
        self.steps += 1
        self.spent_s += time.perf_counter() - begin_s
        return float(loss.detach())

    def check(self, checks: Path) -> None:
        """Measure the averaged network on other people, and the avatars without it."""
        rows = []
        with torch.no_grad():
            for path in sorted(checks.glob('*.npz')):
                sample = load_sample(path)
                for name, said in (('bound', _nothing(sample)),
                                   ('network', self.averaged(sample.evidence))):
                    rows.append({f'{name}_{key}': value
                                 for key, value in _errors(sample, said).items()})
        names = sorted({key for row in rows for key in row})
        means = {name: fmean(row[name] for row in rows if name in row) for name in names}
        self.history.append({'minutes': round(self.spent_s / 60, 2), 'steps': self.steps}
                            | {name: round(value, 5) for name, value in means.items()})

    def save(self, path: Path) -> None:
        """Write everything that going on needs."""
        part = path.with_suffix('.part')
        torch.save({
            'network': self.network.state_dict(), 'averaged': self.averaged.state_dict(),
            'reader': self.reader.state_dict(), 'optimizer': self._optimizer.state_dict(),
            'steps': self.steps, 'spent_s': self.spent_s, 'history': self.history,
            'random': self._random.getstate()}, part)
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint stopped."""
        state = torch.load(path, weights_only=True)
        for name in ('network', 'averaged', 'reader'):
            getattr(self, name).load_state_dict(state[name])
        self._optimizer.load_state_dict(state['optimizer'])
        self.steps, self.spent_s = state['steps'], state['spent_s']
        self.history = state['history']
        version, internal, gauss = state['random']
        self._random.setstate((version, tuple(internal), gauss))


def _loss(network: AvatarNetwork, reader: FeatureReader, sample: Sample,
          views: Tensor) -> Tensor:
    said = network(sample.evidence)
    image, alpha, features, seen = _draw(sample, said, views)
    target = sample.targets[views].float() / 255
    color, cover = target[..., :3], target[..., 3:]
    weight = 1 + (_HIDDEN_WEIGHT - 1) * (1 - seen.detach())
    loss = (weight * (image - color).abs()).mean()
    loss = loss + _ALPHA_WEIGHT * (weight * (alpha - cover).abs()).mean()
    error = (weight * (image - color)).permute(0, 3, 1, 2)
    loss = loss + _POOLED_WEIGHT * F.avg_pool2d(error, 8).abs().mean()
    read = reader(image, alpha, features)
    loss = loss + _FEATURE_WEIGHT * (read - color).abs().mean()
    restraint = (said.offsets / 0.05).square().mean() + said.log_scales.square().mean()
    return loss + _RESTRAINT * (restraint + said.turns.square().mean())


def _draw(sample: Sample, said: Attributes, views: Tensor) -> tuple[Tensor, ...]:
    """Return colours over black, alpha, features, and how far the portrait showed each pixel."""
    size = sample.targets.shape[1]
    channels = torch.cat([said.colors, said.features, sample.evidence.seen], 1)
    drawn, alphas = [], []
    for view in views.tolist():
        means, quats, scales, opacities = changed(
            said, sample.means[view], sample.quats[view].float(), sample.scales,
            sample.opacities)
        image, alpha, _ = rasterization(means, quats, scales, opacities, channels,
                                        torch.eye(4)[None], sample.K[None], size, size)
        drawn.append(image[0])
        alphas.append(alpha[0])
    images = torch.stack(drawn)
    return images[..., :3], torch.stack(alphas), images[..., 3:-1], images[..., -1:]


def _errors(sample: Sample, said: Attributes) -> dict[str, float]:
    """Return mean squared errors over all views but the portrait: all, and what it hid."""
    views = torch.arange(1, len(sample.targets))
    image, alpha, _, _ = _draw(sample, said, views)
    _, _, _, seen = _draw(sample, _nothing(sample), views)  # the same pixels for all that compare
    target = sample.targets[views].float() / 255
    square = (image - target[..., :3]).square().mean(3, keepdim=True)
    person = ((target[..., 3:] > 0.5) | (alpha > 0.5)).float()
    hidden = person * (seen < 0.5)
    overlap = ((target[..., 3:] > 0.5) & (alpha > 0.5)).sum() / person.sum()
    return {'mse': float((square * person).sum() / person.sum()),
            'hidden_mse': float((square * hidden).sum() / hidden.sum().clamp_min(1)),
            'iou': float(overlap)}


def _nothing(sample: Sample) -> Attributes:
    """Return what leaves the Gaussians as they were bound."""
    count = len(sample.scales)
    zero = torch.zeros(count, 3)
    return Attributes(zero, zero, zero, torch.zeros(count), sample.evidence.colors,
                      torch.zeros(count, FEATURES))


def _recoloured(sample: Sample, rng: random.Random) -> Sample:
    """Return the person in other colours: more skins, hair and clothes than there are assets."""
    generator = torch.Generator().manual_seed(rng.getrandbits(31))
    mixing = torch.eye(3) + 0.12 * torch.randn(3, 3, generator=generator)
    mixing = mixing * (0.75 + 0.5 * torch.rand(1, generator=generator))
    if torch.rand(1, generator=generator) < 0.3:
        mixing = mixing[torch.randperm(3, generator=generator)]
    evidence = sample.evidence
    image = evidence.image.clone()
    image[:3] = torch.einsum('ab,bhw->ahw', mixing, image[:3]).clamp(0, 1)
    targets = sample.targets.clone()
    targets[..., :3] = (sample.targets[..., :3].float() @ mixing.T).clamp(0, 255).byte()
    return Sample(
        evidence._replace(image=image, colors=(evidence.colors @ mixing.T).clamp(0, 1)),
        sample.scales, sample.opacities, sample.means, sample.quats, targets, sample.K)
