"""The face network in torch is dlib's: the same descriptors, of faces cut out alike."""
import numpy as np
import pytest
import torch

pytest.importorskip('dlib', reason='dlib compares faces (requirements-faces.txt)')

import dlib

from visa_ros import samples
from visa_ros.errors import ResourceError
from visa_ros.identity import FACE_CORNERS, SAME_PERSON, descriptor, face_model_path
from visa_ros.reconstruction.portrait import find_person
from visa_ros.training.shader.face_embedder import CHIP_PX, FaceEmbedder, chips


@pytest.fixture(scope='module')
def embedder():
    return FaceEmbedder()


@pytest.fixture(scope='module')
def face():
    """Return a photograph and the corners of its face."""
    rgb = samples.portrait()
    found = find_person(rgb).face
    return rgb, np.rint(found[list(FACE_CORNERS), :2]).astype(np.float32)


def _as_tensor(rgb):
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255


def test_it_says_what_dlib_says_of_a_face(embedder, face):
    rgb, corners = face
    found = dlib.full_object_detection(
        dlib.rectangle(0, 0, 1, 1), [dlib.point(*map(int, corner)) for corner in corners])
    chip = dlib.get_face_chip(rgb, found, CHIP_PX, 0.25)
    assert np.abs(embedder(_as_tensor(chip))[0].numpy() - descriptor(rgb, corners)).max() < 1e-3
    own = chips(_as_tensor(rgb), torch.from_numpy(corners)[None])
    # dlib halves large pictures first
    assert (255 * own - 255 * _as_tensor(chip)).abs().mean() < 6
    assert np.linalg.norm(embedder(own)[0].numpy() - descriptor(rgb, corners)) < SAME_PERSON / 4


def test_a_face_that_changes_becomes_another_s_and_gradients_lead_back(embedder, face):
    rgb, corners = face
    picture = _as_tensor(rgb)
    real = embedder(chips(picture, torch.from_numpy(corners)[None]))
    changed = (picture * torch.tensor([0.8, 1.0, 1.2])[:, None, None]).clamp(0, 1)
    changed.requires_grad_()

    def otherness():
        made = embedder(chips(changed, torch.from_numpy(corners)[None]))
        return (made - real).square().sum()

    before = otherness()
    (slope,) = torch.autograd.grad(before, changed)
    assert before > 1e-3
    with torch.no_grad():
        changed -= 0.002 * slope.sign()
        assert otherness() < before


def test_a_file_that_is_cut_short_or_not_dlib_s_is_told(tmp_path):
    whole = face_model_path().read_bytes()
    for content in (whole[:len(whole) // 2], b'', whole[:400]):
        (tmp_path / 'model.dat').write_bytes(content)
        with pytest.raises(ResourceError, match=r'model\.dat is not dlib'):
            FaceEmbedder(tmp_path / 'model.dat')
    with pytest.raises(ResourceError, match='nowhere'):
        FaceEmbedder(tmp_path / 'nowhere.dat')
