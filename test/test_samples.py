import hashlib
import os
import subprocess
import sys

import pytest

from visa_ros import samples
from visa_ros.errors import InputError


def test_portrait_is_an_rgb_image():
    image = samples.portrait()
    assert image.shape == (512, 512, 3)
    assert image.dtype == 'uint8'


@pytest.mark.parametrize('name', ['cap12', 'party'])
def test_clip_decodes(name):
    import cv2

    clip = cv2.VideoCapture(str(samples.video(name)))
    size = {'cap12': (300, 400, 3), 'party': (720, 1080, 3)}[name]
    assert clip.read()[1].shape == size


def test_photo_is_rgb_not_bgr():
    image = samples.photo('obama')
    assert image.shape == (1137, 910, 3)
    face = image[300:500, 400:500].mean((0, 1))
    assert face[0] > face[2]  # skin is redder than blue


def test_damaged_file_is_fetched_again(monkeypatch, tmp_path):
    monkeypatch.setenv('VISA_CACHE_DIR', str(tmp_path))
    path = samples.video('cap13')
    digest = hashlib.sha256(path.read_bytes()).digest()
    path.write_bytes(b'damaged')
    assert hashlib.sha256(samples.video('cap13').read_bytes()).digest() == digest


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match='cap12, cap13, franck, party'):
        samples.video('holiday')


def test_registry_out_of_reach_says_what_to_do(tmp_path):
    code = ('from visa_ros import samples\n'
            'from visa_ros.errors import ResourceError\n'
            'for get, name in ((samples.video, "party"), (samples.photo, "obama"),\n'
            '                  (samples.video, "cap12")):\n'
            '    try:\n'
            '        get(name)\n'
            '    except ResourceError as error:\n'
            '        print(error)\n')
    offline = {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': '', 'npm_config_offline': 'true',
               'npm_config_cache': str(tmp_path / 'npm'), 'VISA_CACHE_DIR': str(tmp_path)}
    result = subprocess.run([sys.executable, '-c', code], env=os.environ | offline, check=True,
                            capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith('cannot fetch') and 'put the file at' in line for line in lines)
