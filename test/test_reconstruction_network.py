"""The avatar network: what it may change, what it may not, and its file."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from visa_ros.body.model import load_body_model
from visa_ros.conventions import JOINT_INDEX
from visa_ros.errors import ResourceError
from visa_ros.reconstruction.evidence import freedom, token_places
from visa_ros.reconstruction.network import (
    FEATURES,
    IMAGE_PX,
    Attributes,
    AvatarNetwork,
    Evidence,
    NetworkConfig,
    load_network,
    save_network,
)
from visa_ros.reconstruction.predict import changed

COUNT = 500


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    model = load_body_model()
    places = torch.from_numpy(token_places(model))
    config = NetworkConfig(tokens=len(places), vertices=len(model.template), width=40, blocks=1,
                           heads=2)
    return AvatarNetwork(config, places).eval()


@pytest.fixture(scope='module')
def evidence(network):
    generator = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.rand(shape, generator=generator)

    rays = torch.nn.functional.normalize(rand(COUNT, 3) - 0.5, dim=1)
    nearness = rand(COUNT, 3)
    return Evidence(
        image=rand(7, IMAGE_PX, IMAGE_PX), pixels=2 * rand(COUNT, 2) - 1,
        seen=(rand(COUNT, 1) < 0.5).float(),
        freedom=(2 * rand(COUNT, 1) - 0.5).clamp(0, 1), colors=rand(COUNT, 3),
        geometry=rand(COUNT, 10),
        rays=rays, corners=torch.randint(network.config.vertices, (COUNT, 3), generator=generator),
        barycentrics=torch.full((COUNT, 3), 1 / 3),
        neighbours=torch.randint(network.config.tokens, (COUNT, 3), generator=generator),
        nearness=nearness / nearness.sum(1, keepdim=True))


def gaussians(seed=2):
    rng = np.random.default_rng(seed)
    means = rng.normal((0, 0, 2), 0.2, (COUNT, 3))
    quats = Rotation.random(COUNT, rng).as_quat(scalar_first=True)
    return tuple(torch.tensor(value, dtype=torch.float32) for value in (
        means, quats, rng.uniform(0.002, 0.02, (COUNT, 3)), rng.uniform(0.1, 0.9, COUNT)))


def said(**values):
    zero = torch.zeros(COUNT, 3)
    return Attributes(**{'offsets': zero, 'log_scales': zero, 'turns': zero,
                         'opacity_logits': torch.zeros(COUNT), 'colors': zero,
                         'features': torch.zeros(COUNT, FEATURES)} | values)


def test_saying_nothing_changes_nothing():
    before = gaussians()
    for value, same in zip(changed(said(), *before), before, strict=True):
        assert torch.allclose(value, same, atol=1e-6)


def test_changes_turn_with_the_body():
    means, quats, scales, opacities = gaussians()
    generator = torch.Generator().manual_seed(3)
    words = said(offsets=0.05 * torch.randn(COUNT, 3, generator=generator),
                 turns=0.1 * torch.randn(COUNT, 3, generator=generator))
    turn = Rotation.from_euler('xyz', (20, -50, 70), degrees=True)

    def turned(means, quats):
        turned_quats = turn * Rotation.from_quat(quats.numpy(), scalar_first=True)
        return (torch.tensor(turn.apply(means.numpy()), dtype=torch.float32),
                torch.tensor(turned_quats.as_quat(scalar_first=True), dtype=torch.float32))

    first = turned(*changed(words, means, quats, scales, opacities)[:2])
    second = changed(words, *turned(means, quats), scales, opacities)[:2]
    assert torch.allclose(first[0], second[0], atol=1e-5)
    assert ((first[1] * second[1]).sum(1).abs() > 1 - 1e-5).all()


def test_what_the_portrait_shows_keeps_its_colour_and_moves_along_its_ray(network, evidence):
    with torch.no_grad():
        words = network(evidence)
    seen = evidence.seen[:, 0] > 0
    assert torch.equal(words.colors[seen], evidence.colors[seen])
    for name in ('log_scales', 'turns', 'opacity_logits'):
        assert not getattr(words, name)[seen].any()
    across = torch.linalg.cross(words.offsets, evidence.rays).norm(dim=1)
    assert across[seen].max() < 1e-6
    assert across[~seen].max() > 1e-6
    assert words.features.shape == (COUNT, FEATURES)
    assert words.features.abs().max() <= 1


def test_the_face_is_left_to_the_fit(network, evidence):
    with torch.no_grad():
        words = network(evidence)
    face = evidence.freedom[:, 0] == 0
    assert torch.equal(words.colors[face], evidence.colors[face])
    for name in ('offsets', 'log_scales', 'turns', 'opacity_logits'):
        value = getattr(words, name)
        assert not value[face].any()
        assert value[~face].any()
    model = load_body_model()
    nose = model.faces[model.face_landmarks.triangles[1]]
    crown, hand, eye = ([vertex] * 3 for vertex in (
        model.template[:, 1].argmax(), model.template[:, 0].argmax(),
        np.argmax(model.skin_joints[:, 0] == JOINT_INDEX['left_eye'])))
    free = freedom(model, np.array([nose, crown, hand, eye]), np.full((4, 3), 1 / 3))
    assert free.ravel().tolist() == [0, 1, 1, 0]


def test_parts_that_are_switched_off_do_not_matter(network, evidence):
    for switch, change in (('image_features', {'image': torch.rand_like(evidence.image)}),
                           ('surface_embedding', None)):
        config = replace(network.config, **{switch: False})
        off = AvatarNetwork(config, network.places)
        off.load_state_dict(network.state_dict())
        with torch.no_grad():
            without = off(evidence)
            if change is None:
                off.token_embedding.fill_(1)
                off.vertex_embedding.fill_(1)
            again = off(evidence._replace(**change or {}))
            whole = network(evidence)
        assert torch.equal(without.colors, again.colors)
        assert not torch.equal(without.colors, whole.colors)


def test_weights_come_back_from_their_file(network, evidence, tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_network(network, path, {'steps': '0'})
    again = load_network(path)
    assert again.config == network.config
    with torch.no_grad():
        first, second = network(evidence), again(evidence)
    for value, same in zip(first, second, strict=True):
        assert (value - same).abs().max() < 5e-3  # half precision


@pytest.mark.parametrize('damage', ['missing', 'short', 'foreign'])
def test_a_file_that_holds_no_network_is_named(network, tmp_path, damage):
    path = tmp_path / f'{damage}.safetensors'
    if damage == 'short':
        save_network(network, path, {})
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == 'foreign':
        path.write_bytes(b'\x02\0\0\0\0\0\0\0{}')
    with pytest.raises(ResourceError, match=damage):
        load_network(path)
