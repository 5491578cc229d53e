"""Somebody else moves an avatar: it stays its person."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from PIL import Image

from visa_ros.shading.network import ShaderNetwork, save_network
from visa_ros.shading.network_config import ShaderNetworkConfig

pytest.importorskip('dlib', reason='dlib compares faces (requirements-faces.txt)')

_ROOT = Path(__file__).resolve().parents[1]


def test_the_astronaut_moved_by_a_man_stays_the_astronaut(tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / 'shader.safetensors'
    save_network(ShaderNetwork(ShaderNetworkConfig(channels=(16, 24))), weights, {})
    subprocess.run(
        [sys.executable, '-m', 'visa_ros.evaluation', 'reenactment', '--frames', '5', '--weights',
         str(weights), '--json', str(tmp_path / 'out.json')],
        cwd=tmp_path, check=True, capture_output=True, timeout=200)
    (row,) = json.loads((tmp_path / 'out.json').read_text())['rows']
    avatar, shaded, mover = (float(row[f'{name}, ID-L2'])
                             for name in ('avatar', 'shaded', 'mover'))
    assert avatar < 0.45 < 0.6 < mover
    assert shaded == pytest.approx(avatar, abs=0.05)  # weights that were not trained do little
    sheet = cv2.imread(str(tmp_path / 'out' / 'reenactment.png'))
    assert sheet.shape == (512, 8 * 512, 3)
    with Image.open(tmp_path / 'out' / 'reenactment.webp') as film:
        assert film.n_frames == 5
        assert film.size == (256, 512)  # the avatar above, shaded below
