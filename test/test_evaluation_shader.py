"""Measuring the shader: the truth is the best, what flickers or drifts is told."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('dlib', reason='dlib compares faces (requirements-faces.txt)')
pytest.importorskip('skimage', reason='scikit-image measures (requirements-faces.txt)')

from visa_ros import samples
from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.evaluation.report import Report
from visa_ros.evaluation.shader import _METHODS, figures, tabulate
from visa_ros.evaluation.shader_sequences import Sequence

_ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8


@pytest.fixture(scope='module')
def sequence():
    """Return a photograph that moves by a pixel from one picture to the next."""
    cv2 = pytest.importorskip('cv2')
    photo = samples.portrait()[:272, 60:420]
    truth = np.stack([photo[:256, number:256 + number] for number in range(FRAMES)])
    soft = np.stack([cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in truth])
    alpha = np.zeros((FRAMES, 256, 256), np.float16)
    alpha[:, 20:, 40:230] = 1
    # The astronaut's face is about there.
    low, high = np.array((124.0, 70)), np.array((204.0, 170))
    rng = np.random.default_rng(0)
    face = (low + rng.random((478, 2)) * (high - low))[None].repeat(FRAMES, 0)
    face = (face - np.arange(FRAMES)[:, None, None] * (1, 0)).astype(np.float32)
    told = np.zeros((FRAMES, 256 // FEATURE_STRIDE, 256 // FEATURE_STRIDE, 16), np.float16)
    return Sequence('photo', soft, truth, alpha, alpha, alpha, np.zeros((FRAMES, 2), int), told,
                    told[..., :7], face.mean(1), face)


def test_the_truth_is_best_in_every_figure(sequence):
    true, render = (figures(sequence, pictures) for pictures in (sequence.truth, sequence.rgb))
    assert true['PSNR'] == true['head'] == 100
    for name in ('SSIM', 'sharpness', 'warp error'):
        assert true[name] == pytest.approx(1, abs=1e-4)
    assert render['PSNR'] < 40
    assert render['SSIM'] < 1
    assert render['ID-L2'] > 0
    assert render['sharpness'] < 0.8
    assert render['warp error'] < 1  # what is soft warps well: it is no figure by itself


def test_flicker_is_told(sequence):
    rng = np.random.default_rng(0)
    light = rng.choice((-6, 6), FRAMES)[:, None, None, None]
    flickers = np.clip(sequence.rgb + light, 0, 255).astype(np.uint8)
    steady = np.clip(sequence.rgb + 6.0, 0, 255).astype(np.uint8)
    assert (figures(sequence, flickers)['warp error']
            > 1.2 * figures(sequence, steady)['warp error'])
    assert figures(sequence, flickers)['PSNR'] == pytest.approx(
        figures(sequence, steady)['PSNR'], abs=1)


def test_drift_is_told(sequence):
    drifts = np.clip(sequence.truth + 5.0 * np.arange(FRAMES)[:, None, None, None], 0,
                     255).astype(np.uint8)
    values = figures(sequence, drifts)
    assert values['last quarter'] < values['first quarter'] - 10


def test_the_head_is_part_of_the_person(sequence):
    head = sequence.head(0)
    assert head.sum() > 5000
    assert not (head & (sequence.truth_alpha[0] < 0.5)).any()
    assert head[100, 160]
    assert not head[240, 160]


def test_the_table_has_a_row_for_each_method_of_people_and_of_each_clip():
    figure = {'PSNR': 20.0, 'SSIM': 0.9}
    report = Report('', values=[
        {'subject': subject, 'group': group, 'method': method} | figure
        for subject, group in (('test-000000', 'people'), ('test-000001', 'people'),
                               ('cap12', 'cap12')) for method in ('render', *_METHODS)])
    report.values[0]['PSNR'] = 24.0
    tabulate(report)
    assert len(report.rows) == 2 * (1 + len(_METHODS))
    assert report.rows[0] == {'': 'people: render', 'PSNR': '22.00', 'SSIM': '0.900'}
    assert report.rows[-1][''].startswith('cap12: ')


@pytest.mark.parametrize(('name', 'wanted'), [('shader', '--weights'),
                                              ('shader_ablation', '--pairs')])
def test_the_command_line_says_what_it_wants(name, wanted):
    result = subprocess.run(
        [sys.executable, '-m', 'visa_ros.evaluation', name, '--help'],
        capture_output=True, text=True, cwd=_ROOT, check=True)
    for option in ('--assets', '--clips', wanted, '--keep'):
        assert option in result.stdout
