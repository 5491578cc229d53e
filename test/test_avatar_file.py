import hashlib
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from visa_ros.errors import AvatarError, ResourceError
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.rounding import rounded
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose

_HEADER_BYTES = 40


@pytest.fixture(scope='module')
def avatar() -> GaussianAvatar:
    rng = np.random.default_rng(7)
    count = 50

    def unit(*shape):
        return rng.random(shape, np.float32)

    quats = rng.normal(size=(count, 4)).astype(np.float32)
    barycentrics = unit(count, 3)
    return GaussianAvatar(
        body_model='anny-1', betas=unit(5), triangles=rng.integers(0, 900, count, np.int32),
        barycentrics=barycentrics / barycentrics.sum(1, keepdims=True), means=unit(count, 3),
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        scales=0.001 + 0.01 * unit(count, 3), opacities=unit(count), colors=unit(count, 3),
        features=np.zeros((count, 0), np.float32), camera=Camera.from_focal(800, 512, 384),
        portrait_pose=OperatorPose.rest(translation=np.float32([0, 0.5, 1.5]), stamp_ns=3),
        consent=Consent('ada', 'Ada Lovelace', 1_700_000_000_000_000_000, 'Yes — für «ViSA».'))


@pytest.fixture(scope='module')
def block(avatar) -> bytes:
    return avatar_file.encode(avatar)


def repack(block, change_tensors=lambda tensors: None, change_about=lambda about: None) -> bytes:
    """Return the block with other content and a hash that fits it."""
    payload = avatar_file._inflated(block[_HEADER_BYTES:])
    tensors = dict(load_tensors(payload))
    length = int.from_bytes(payload[:8], 'little')
    about = json.loads(json.loads(payload[8:8 + length])['__metadata__']['avatar'])
    change_tensors(tensors)
    change_about(about)
    payload = avatar_file._deflated(save_tensors(tensors, {'avatar': json.dumps(about)}))
    return block[:8] + hashlib.sha256(payload).digest() + payload


def test_a_decoded_avatar_is_the_encoded_one(avatar, block):
    read = avatar_file.decode(block)
    assert read.body_model == 'anny-1'
    assert read.consent == avatar.consent
    assert (read.camera.width, read.camera.height) == (512, 384)
    assert read.portrait_pose.stamp_ns == 3
    np.testing.assert_array_equal(read.portrait_pose.translation,
                                  avatar.portrait_pose.translation)
    np.testing.assert_array_equal(read.triangles, avatar.triangles)
    np.testing.assert_array_equal(read.means, avatar.means)
    np.testing.assert_allclose(read.barycentrics, avatar.barycentrics, atol=1e-3)
    np.testing.assert_allclose(read.barycentrics.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(read.quats, avatar.quats, atol=1e-3)
    np.testing.assert_allclose(read.scales, avatar.scales, rtol=1e-3)
    np.testing.assert_allclose(read.colors, avatar.colors, atol=1 / 1024)
    assert read.means.dtype == read.colors.dtype == read.quats.dtype == np.float32


def test_encoding_is_deterministic_and_stable(avatar, block):
    assert avatar_file.encode(avatar) == block
    assert avatar_file.encode(avatar_file.decode(block)) == block
    assert avatar_file.avatar_id(avatar_file.decode(block)) == avatar_file.avatar_id(avatar)


def test_the_name_of_an_avatar_does_not_change_between_releases(avatar):
    """Signatures are over it.  The arrays are of this test's generator, the value of 0.2.0."""
    assert avatar_file.avatar_id(avatar) == (
        '70d80017cb1e61c567e004784ba6b109e2df3daba800ed989a5705ad9e4d723b')


def test_a_file_of_release_0_1_still_loads_and_is_unsigned(avatar, block):
    def forget(about):
        for name in ('expires_at_ns', 'key', 'signature'):
            about['consent'].pop(name, None)

    assert b'signature' not in avatar_file._inflated(block[_HEADER_BYTES:])
    new = repack(block, change_about=forget)
    payload = avatar_file._inflated(new[_HEADER_BYTES:])
    old = b'VISA\1\0\0\0' + hashlib.sha256(payload).digest() + payload  # as version 1 had it
    for data in (old, new):
        read = avatar_file.decode(data)
        assert read.consent == avatar.consent
        assert avatar_file.avatar_id(read) == avatar_file.avatar_id(avatar)


def test_a_full_avatar_is_small(avatar):
    many = np.arange(65_000) % len(avatar)
    large = replace(avatar, **{name: getattr(avatar, name)[many] for name in (
        'triangles', 'barycentrics', 'means', 'quats', 'scales', 'opacities', 'colors',
        'features')})
    assert len(avatar_file.encode(large)) < 3_000_000


def test_what_inflates_without_end_is_refused(block):
    for payload, words in ((zlib.compress(bytes(2 * avatar_file.MAX_BYTES)), 'within'),
                           (block[_HEADER_BYTES:-1], 'end where'),
                           (block[_HEADER_BYTES:] + b'x', 'end where'), (b'x' * 99, 'inflated')):
        with pytest.raises(AvatarError, match=words):
            avatar_file.decode(block[:8] + hashlib.sha256(payload).digest() + payload)


def test_rounding_changes_little_keeps_the_rules_and_is_done_once(avatar):
    few = rounded(avatar)
    assert np.abs(few.means - avatar.means).max() <= 2**-16
    assert np.abs(few.colors - avatar.colors).max() <= 2**-9
    assert np.abs(few.scales / avatar.scales - 1).max() <= 2**-6
    assert np.abs(few.barycentrics - avatar.barycentrics).max() <= 2**-7
    again = avatar_file.decode(avatar_file.encode(few))
    for name in ('means', 'quats', 'scales', 'opacities', 'colors', 'features', 'barycentrics'):
        np.testing.assert_array_equal(getattr(again, name), getattr(few, name))
        np.testing.assert_array_equal(getattr(rounded(again), name), getattr(few, name))


def test_files(avatar, block, tmp_path):
    path = tmp_path / 'ada.visa'
    avatar_file.save(avatar, path)
    assert path.read_bytes() == block
    assert len(avatar_file.load(path)) == len(avatar)
    assert [file.name for file in tmp_path.iterdir()] == ['ada.visa']
    with pytest.raises(ResourceError, match=r'missing\.visa'):
        avatar_file.load(tmp_path / 'missing.visa')
    with pytest.raises(ResourceError, match='cannot write'):
        avatar_file.save(avatar, tmp_path / 'no folder' / 'ada.visa')
    path.write_bytes(block[:-1])
    with pytest.raises(AvatarError, match=r'ada\.visa.*damaged'):
        avatar_file.load(path)


def test_wrong_blocks_say_what_is_wrong(block):
    for data, words in (
            (b'', 'not a .visa'), (b'PNG' + block, 'not a .visa'), (block[:20], 'not a .visa'),
            (block[:4] + struct.pack('<H', 9) + block[6:], 'version 9'),
            (block[:-3], 'damaged'), (block + b'\0', 'damaged'),
            (block + bytes(avatar_file.MAX_BYTES), 'more than')):
        with pytest.raises(AvatarError, match=words):
            avatar_file.decode(data)


@pytest.mark.parametrize(('name', 'change', 'words'), [
    ('means', lambda v: v.astype(np.float64), 'means must be float32'),
    ('means', lambda v: v[:, :2], 'means must be'),
    ('means', lambda v: v * np.nan, 'NaN'),
    ('means', lambda v: v + 100, 'within 10 m'),
    ('colors', lambda v: v[:-1], 'colors must be'),
    ('colors', lambda v: v + np.float16(1), 'colors: in'),
    ('opacities', lambda v: v - np.float16(1), 'opacities: in'),
    ('quats', lambda v: v * np.float16(2), 'unit length'),
    ('scales', lambda v: v * np.float16(0), 'scales: above 0'),
    ('triangles', lambda v: v - 1000, 'not negative'),
    ('barycentrics_12', lambda v: v + np.float16(1), 'inside the triangle'),
    ('camera.K', lambda v: -v, r'camera\.K'),
    ('pose.blendshapes', lambda v: v + 2, 'blendshapes'),
    ('pose.joint_rotations', lambda v: v[:54], 'joint_rotations must be'),
    ('triangles', lambda v: np.zeros(0, np.int32), 'must be|0 Gaussians'),
])
def test_fields_are_checked_behind_a_valid_hash(block, name, change, words):
    with pytest.raises(AvatarError, match=words):
        avatar_file.decode(repack(block, lambda t: t.update({name: change(t[name])})))


def test_no_gaussians_unknown_fields_and_bad_headers_are_refused(block):
    def empty(tensors):
        count = len(tensors['means'])
        tensors.update({k: v[:0] for k, v in tensors.items() if len(v) == count})

    with pytest.raises(AvatarError, match='0 Gaussians'):
        avatar_file.decode(repack(block, empty))
    with pytest.raises(AvatarError, match='unknown: extra'):
        avatar_file.decode(repack(block, lambda t: t.update(extra=np.zeros(1))))
    for change in (lambda a: a.pop('consent'), lambda a: a.update(camera=3),
                   lambda a: a['camera'].update(width=-5), lambda a: a.update(body_model=None),
                   lambda a: a['consent'].update(granted_at_ns='yesterday'),
                   lambda a: a['consent'].update(granted_at_ns=-1),
                   lambda a: a['consent'].update(expires_at_ns=2**63),
                   lambda a: a['consent'].update(statement='x' * 5000),
                   lambda a: a['consent'].update(signature=['00']),
                   lambda a: a['pose'].update(stamp_ns=2**62)):
        with pytest.raises(AvatarError, match='header'):
            avatar_file.decode(repack(block, change_about=change))


@settings(max_examples=300, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_only_ever_an_avatar_error(block, data):
    """Flipped bytes, cut ends and foreign bytes, with the hash left wrong or made to fit."""
    inside = data.draw(st.booleans())
    payload = bytearray(block[_HEADER_BYTES:])
    if inside:
        payload = bytearray(avatar_file._inflated(bytes(payload)))
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of the damage goes into the JSON header, which is a small part of the file.
        end = data.draw(st.sampled_from([1000, len(payload)])) - 1
        payload[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    payload = payload[:data.draw(st.sampled_from([len(payload), len(payload) // 2, 3]))]
    if inside:
        payload = avatar_file._deflated(bytes(payload))
    fits = data.draw(st.booleans())
    digest = hashlib.sha256(payload).digest() if fits else block[8:_HEADER_BYTES]
    damaged = block[:8] + digest + bytes(payload)
    try:
        avatar_file.decode(damaged)
    except AvatarError:
        return
    assert fits or damaged == block


def test_ply_has_the_common_layout(avatar, tmp_path):
    path = tmp_path / 'ada.ply'
    avatar_file.export_ply(avatar, path)
    header, _, body = path.read_bytes().partition(b'end_header\n')
    lines = header.decode().splitlines()
    assert lines[:3] == ['ply', 'format binary_little_endian 1.0', 'element vertex 50']
    names = [line.split()[2] for line in lines[3:]]
    assert ' '.join(names) == ('x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 '
                               'scale_2 rot_0 rot_1 rot_2 rot_3')
    table = np.frombuffer(body, [(name, '<f4') for name in names])
    np.testing.assert_array_equal(table['y'], avatar.means[:, 1])
    np.testing.assert_allclose(np.exp(table['scale_2']), avatar.scales[:, 2], rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-table['opacity'])),
                               np.clip(avatar.opacities, 1e-4, 1), atol=1e-4)
    np.testing.assert_allclose(0.5 + 0.28209479 * table['f_dc_0'], avatar.colors[:, 0],
                               atol=1e-6)
    np.testing.assert_array_equal(table['rot_0'], avatar.quats[:, 0])
