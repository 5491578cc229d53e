"""
What comes from outside, broken in every way: nothing but clear refusals.

``FUZZ_INPUTS=100000 python -m pytest test/test_fuzz.py`` tries so many of each kind; the suite
tries a few hundred.  A failure names the number of its input, which ``FUZZ_FIRST`` begins with.
"""
import hashlib
import json
import os
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from visa_ros.conventions import JOINTS
from visa_ros.errors import AvatarError, ConsentError, ImageError, PoseError, VisaError
from visa_ros.evaluation.rendering import surface_avatar
from visa_ros.reconstruction import avatar_file
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.stage import AvatarStage
from visa_ros.trust.consent import signed
from visa_ros.trust.keys import load_or_make_key
from visa_ros.trust.store import TrustConfig, TrustStore

INPUTS = int(os.environ.get('FUZZ_INPUTS', '300'))
FIRST = int(os.environ.get('FUZZ_FIRST', '0'))
HEADER_BYTES = 40
MOST_SHOWN = 200  # drawing takes longer than loading
SMALL = RenderingConfig(width=48, height=48, threads=1)

JSON = [None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -2**63, 10**400, 1e308, -0.0,
        float('nan'), float('inf'), '', 'x' * 5000, '\0', '\ud800', 'ä\x1b[2J', [], {}, [[]],
        {'a': {}}, [0, 0], [-1, 5], [2**62, 2**63], ['F16'], 'F8_E4M3', 'BF16', 'I64', 'F32']
FLOATS = [0, -1, 1, 1.0001, -1e-8, 1e-45, 65504, 1e6, 3e38, -3e38, np.nan, np.inf, -np.inf]
INTEGERS = [0, -1, 1, 2**31 - 1, -2**31]


@pytest.fixture
def inputs():
    """Give a generator of random numbers for each input; say at the end which was the last."""
    last = FIRST

    def generators():
        nonlocal last
        for last in range(FIRST, FIRST + INPUTS):
            yield np.random.default_rng(last)

    yield generators()
    print(f'the last input was FUZZ_FIRST={last}')


def some(rng, values):
    return values[rng.integers(len(values))]


def is_clear(error):
    """Check that an error says something, and does not fill the log."""
    assert 20 < len(str(error)) < 500, error


def block_of(payload):
    return stored(avatar_file._deflated(payload))


def stored(data):
    return avatar_file.encode(AVATAR)[:8] + hashlib.sha256(data).digest() + data


def with_header(payload, change):
    """Change safetensors' JSON header."""
    length = int.from_bytes(payload[:8], 'little')
    text = json.dumps(change(json.loads(payload[8:8 + length]))).encode()
    return len(text).to_bytes(8, 'little') + text + payload[8 + length:]


def change_leaf(rng, tree):
    """Replace, remove, rename or double something somewhere in a tree of JSON."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        name = some(rng, sorted(tree))
        action = rng.random()
        if action < 0.7:
            return {**tree, name: change_leaf(rng, tree[name])}
        rest = {key: value for key, value in tree.items() if key != name}
        return rest if action < 0.85 else rest | {str(some(rng, JSON)): tree[name]}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        place = rng.integers(len(tree))
        return [*tree[:place], change_leaf(rng, tree[place]), *tree[place + 1:]]
    return some(rng, JSON)


def change_about(rng, header):
    about = change_leaf(rng, json.loads(header['__metadata__']['avatar']))
    return header | {'__metadata__': {'avatar': json.dumps(about)}}


def nested(rng, header):
    depth = int(rng.integers(10, 5000))
    text = some(rng, ['[' * depth, '{"a":' * depth, '[' * depth + ']' * depth])
    return header | {'__metadata__': {'avatar': text}}


def poisoned(rng, payload):
    """Put nasty numbers into the tensors themselves."""
    length = int.from_bytes(payload[:8], 'little')
    header = json.loads(payload[8:8 + length])
    data = bytearray(payload)
    for _ in range(rng.integers(1, 3)):
        entry = header[some(rng, sorted(set(header) - {'__metadata__'}))]
        code = {'F32': '<f', 'F16': '<e', 'I32': '<i'}[entry['dtype']]
        begin, end = entry['data_offsets']
        if begin == end:
            continue
        size = struct.calcsize(code)
        value = np.array(some(rng, INTEGERS if code == '<i' else FLOATS))
        with np.errstate(over='ignore'):
            raw = value.astype(code[1]).tobytes()
        place = 8 + length + begin + size * int(rng.integers((end - begin) // size))
        count = 1 if rng.random() < 0.7 else (end - (place - 8 - length)) // size
        data[place:place + size * count] = raw * count
    return bytes(data)


def flipped(rng, data):
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        # Half of it in the header, which is a small part of the file.
        end = len(data) if rng.random() < 0.5 else min(1500, len(data))
        data[rng.integers(end)] = rng.integers(256)
    return bytes(data)


MUTATIONS = [
    lambda rng, payload: block_of(flipped(rng, payload)),
    lambda rng, payload: flipped(rng, block_of(payload)),
    lambda rng, payload: stored(flipped(rng, avatar_file._deflated(payload))),
    lambda rng, payload: block_of(payload[:rng.integers(len(payload))]),
    lambda rng, payload: block_of(payload + rng.bytes(rng.integers(1, 50))),
    lambda rng, payload: block_of(rng.bytes(rng.integers(200))),
    lambda rng, payload: rng.bytes(rng.integers(200)),
    lambda rng, payload: block_of(with_header(payload, lambda h: change_leaf(rng, h))),
    lambda rng, payload: block_of(with_header(payload, lambda h: change_about(rng, h))),
    lambda rng, payload: block_of(with_header(payload, lambda h: nested(rng, h))),
    lambda rng, payload: block_of(poisoned(rng, payload)),
    lambda rng, payload: block_of(int(some(rng, [0, 1, 2**32, 2**63, 2**64 - 1])).to_bytes(
        8, 'little') + payload[8:]),
]

AVATAR = surface_avatar(60)


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """Trust of a robot, and an avatar that it shows."""
    trust = TrustStore(TrustConfig(accept='known', folder=str(tmp_path_factory.mktemp('trust'))))
    return trust, signed(AVATAR, load_or_make_key(trust.folder))


@pytest.mark.timeout(36_000)
def test_avatars(own, inputs):
    """Loading ends in an avatar or an AvatarError; what is not the signed one is refused."""
    trust, avatar = own
    good = avatar_file.encode(avatar)
    name = avatar_file.avatar_id(avatar)
    trust.check(avatar_file.decode(good))
    payload = avatar_file._inflated(good[HEADER_BYTES:])
    loaded = shown = 0
    for rng in inputs:
        data = some(rng, MUTATIONS)(rng, payload)
        try:
            read = avatar_file.decode(data)
        except AvatarError as error:
            is_clear(error)
            continue
        loaded += 1
        assert avatar_file.decode(avatar_file.encode(read)).consent == read.consent
        try:
            trust.check(read)
        except ConsentError as error:
            is_clear(error)
        else:
            assert (avatar_file.avatar_id(read), read.consent) == (name, avatar.consent)
        if rng.random() < 0.3 and shown < MOST_SHOWN:
            try:
                stage = AvatarStage(read, SMALL)
            except VisaError:
                continue
            shown += 1
            assert stage.shade(stage.frame()).rgb.std() >= 0
    assert loaded > INPUTS // 50, 'some damage is none'
    assert shown


@pytest.mark.timeout(36_000)
def test_poses(inputs):
    """A pose message ends in a pose that can be shown, or a PoseError; the avatar comes back."""
    from visa_ros.msg import OperatorPose as OperatorPoseMsg
    from visa_ros.nodes._conversions import pose_from_msg, pose_to_msg

    stage = AvatarStage(AVATAR, SMALL)
    good = replace(AVATAR.portrait_pose, confidence=np.ones(6, np.float32), stamp_ns=10**18)
    texts = ['', 'operator', 'operator\0', 'x' * 5000, '\x1b[2J', 'camera_optical_frame']
    taken = shown = 0
    for rng in inputs:
        msg = pose_to_msg(good)
        assert isinstance(msg, OperatorPoseMsg)
        for _ in range(rng.integers(1, 4)):
            what = rng.integers(6)
            if what == 0:
                msg.joint_rotations[rng.integers(3 * len(JOINTS))] = rng.integers(-2**15, 2**15)
            elif what == 1:
                msg.translation[rng.integers(3)] = some(rng, FLOATS)
            elif what == 2:
                msg.confidence[rng.integers(6)] = rng.integers(256)
            elif what == 3:
                msg.operator_id = some(rng, texts)
            elif what == 4:
                msg.header.frame_id = some(rng, texts)
            else:
                msg.header.stamp.sec = int(some(rng, [0, -1, 2**31 - 1, -2**31]))
                msg.header.stamp.nanosec = int(some(rng, [0, 10**9, 2**32 - 1]))
        try:
            with np.errstate(over='ignore'):
                stage.put(pose_from_msg(msg))
        except PoseError as error:
            is_clear(error)
            continue
        taken += 1
        if rng.random() < 0.2 and shown < MOST_SHOWN:
            shown += 1
            stage.frame()
            assert np.isfinite(stage.points()[0]).all()
    assert taken > INPUTS // 50
    stage.put(good)
    assert np.isfinite(stage._playback._live.translation).all()


@pytest.mark.timeout(36_000)
def test_pictures(inputs):
    """An image message ends in a picture or an ImageError."""
    from sensor_msgs.msg import CompressedImage, Image

    from visa_ros.nodes._conversions import image_from_msg

    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    files = [cv2.imencode(kind, rgb)[1].tobytes() for kind in ('.jpg', '.png', '.tiff', '.bmp')]
    encodings = ['rgb8', 'bgr8', 'mono8', 'yuyv', 'yuv422_yuy2', '32FC1', '', 'rgb8\0', 'x' * 500]
    sizes = [0, 1, 2, 24, 32, 33, 96, 97, 2**16, 2**31, 2**32 - 1]
    taken = 0
    for rng in inputs:
        if rng.random() < 0.5:
            msg = Image(encoding=some(rng, encodings), width=some(rng, sizes),
                        height=some(rng, sizes), step=some(rng, sizes),
                        data=rng.bytes(some(rng, [0, 1, 95, 96, 768, 1536, 2304, 3072])))
        else:
            data = some(rng, files)
            data = flipped(rng, data) if rng.random() < 0.8 else data[:rng.integers(len(data))]
            if data[:4] == b'\x89PNG' and rng.random() < 0.3:
                claim = struct.pack('>II', some(rng, sizes), some(rng, sizes))
                data = data[:16] + claim + data[24:]
            msg = CompressedImage(format='jpeg', data=data)
        try:
            image = image_from_msg(msg)
        except ImageError as error:
            is_clear(error)
            continue
        taken += 1
        assert 0 < image.rgb.size <= 2**28
    assert taken
