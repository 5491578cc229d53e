"""
The avatar as one block of bytes (a ``.visa`` file, the body of the GaussianAvatar message).

Layout: ``b'VISA'``, version (uint16), reserved (uint16), SHA-256 of the payload, payload; little
endian.  The payload is a safetensors file: raw arrays and a JSON header, nothing that runs when it
is read; first every fourth byte of it, then the next ones (like bytes together), deflated by zlib.
In version 1 it was stored as it is; such files are still read.  Attributes are float16 where that
is far below what can be seen (65k Gaussians with features: 1.9 MB once ``rounded``).
Encoding what was decoded gives the same values, so that a consent record can be signed over them.
"""
from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from visa_ros.cache import write_atomically
from visa_ros.conventions import BLENDSHAPES, JOINTS, PARTS
from visa_ros.errors import AvatarError, ResourceError
from visa_ros.types import POSE_LIMIT, Camera, Consent, GaussianAvatar, OperatorPose

T = TypeVar('T')

VERSION = 2
MAX_BYTES = 64 * 2**20  # as stored, and once more when inflated
MAX_GAUSSIANS = 1_000_000
MAX_TEXT = 4096  # characters of any text inside
_MAGIC = b'VISA'
_HEADER = struct.Struct('<4sHH32s')
_OPTIONAL = ('expires_at_ns', 'key', 'signature')  # of the consent record, left out when empty
_MAX_SIDE = 16384  # pixels
_STRIDE = 4  # bytes of a float32, or of two float16
_ROS_END_NS = (2**31 - 1) * 10**9  # what a ROS time holds
_INT64 = 2**63 - 1

# Tensor -> (dtype, shape); N Gaussians, B shape coefficients, F features.  The first barycentric
# is left out: it is one minus the others, so that skin weights sum to one whatever is rounded.
_TENSORS: dict[str, tuple[str, Any]] = {
    'betas': ('float32', 'B'),
    'triangles': ('int32', 'N'),
    'barycentrics_12': ('float16', 'N2'),
    'means': ('float32', 'N3'),
    'quats': ('float16', 'N4'),
    'scales': ('float16', 'N3'),
    'opacities': ('float16', 'N'),
    'colors': ('float16', 'N3'),
    'features': ('float16', 'NF'),
    'camera.K': ('float32', '33'),
    'pose.joint_rotations': ('float32', (len(JOINTS), 3)),
    'pose.translation': ('float32', '3'),
    'pose.blendshapes': ('float32', (len(BLENDSHAPES),)),
    'pose.confidence': ('float32', (len(PARTS),)),
    'shader': ('uint8', 'W'),
}
_MAY_LACK = 'shader'  # left out when empty


def encode(avatar: GaussianAvatar) -> bytes:
    """
    Return the avatar as bytes; the same avatar gives the same bytes.

    Raises
    ------
    AvatarError
        The avatar breaks a rule that ``decode`` checks.

    """
    tensors, about = _content(avatar)
    consent = {name: value for name, value in asdict(avatar.consent).items()
               if value or name not in _OPTIONAL}
    payload = _deflated(save_tensors(tensors, {'avatar': _json(about | {'consent': consent})}))
    return _HEADER.pack(_MAGIC, VERSION, 0, hashlib.sha256(payload).digest()) + payload


def avatar_id(avatar: GaussianAvatar) -> str:
    """
    Return the avatar's name: the SHA-256 of its content, hexadecimal.

    The content is everything that the file holds but the consent record, which names it by this.
    It does not depend on how the file is laid out.

    Raises
    ------
    AvatarError
        The avatar breaks a rule that ``decode`` checks.

    """
    tensors, about = _content(avatar)
    digest = hashlib.sha256(f'visa_ros avatar 1\n{_json(about)}\n'.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f'{name} {value.dtype} {value.shape}\n'.encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _json(value: dict) -> str:
    return json.dumps(value, sort_keys=True)


def _content(avatar: GaussianAvatar) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return what is stored: tensors, and what describes them, without the consent record."""
    pose, camera = avatar.portrait_pose, avatar.camera
    values = {
        'betas': avatar.betas, 'triangles': avatar.triangles,
        'barycentrics_12': avatar.barycentrics[:, 1:], 'means': avatar.means,
        'quats': avatar.quats, 'scales': avatar.scales, 'opacities': avatar.opacities,
        'colors': avatar.colors, 'features': avatar.features, 'camera.K': camera.K,
        'pose.joint_rotations': pose.joint_rotations, 'pose.translation': pose.translation,
        'pose.blendshapes': pose.blendshapes, 'pose.confidence': pose.confidence,
    }
    if avatar.shader:
        values['shader'] = np.frombuffer(avatar.shader, np.uint8)
    tensors = {name: np.ascontiguousarray(value, _TENSORS[name][0])
               for name, value in values.items()}
    _check_tensors(tensors)
    return tensors, {
        'body_model': avatar.body_model,
        'camera': {'width': camera.width, 'height': camera.height},
        'pose': {'stamp_ns': pose.stamp_ns, 'frame_id': pose.frame_id,
                 'operator_id': pose.operator_id},
    }


def decode(data: bytes) -> GaussianAvatar:
    """
    Return the avatar in a block of bytes, after checking all of it.

    Size, magic, version and hash are checked before anything is parsed; then types, shapes and
    ranges.  Whether the triangles exist in the body is checked where the body is known
    (``AvatarSkinning``).

    Raises
    ------
    AvatarError
        The block is not an avatar, is damaged, or is of another version.

    """
    if len(data) > MAX_BYTES:
        raise AvatarError(f'the avatar has {len(data)} bytes, more than the {MAX_BYTES} allowed; '
                          'build it again with fewer Gaussians')
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise AvatarError('this is not a .visa avatar (it does not begin with VISA); build one '
                          'with visa_ros.reconstruction')
    _, version, _, digest = _HEADER.unpack_from(data)
    if version not in (1, VERSION):
        raise AvatarError(f'the avatar has format version {version}, this package reads 1 to '
                          f'{VERSION}; build the avatar again from its portrait')
    payload = bytes(data[_HEADER.size:])
    if hashlib.sha256(payload).digest() != digest:
        raise AvatarError('the avatar is damaged (its SHA-256 does not match); copy it again')
    if version != 1:
        payload = _inflated(payload)
    try:
        tensors = load_tensors(payload)
        about = _metadata(payload)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AvatarError(f'the avatar cannot be parsed ({error!s:.200}); build it again'
                          ) from error
    _check_tensors(tensors)
    return _assemble(tensors, about)


def _deflated(payload: bytes) -> bytes:
    return zlib.compress(b''.join(payload[first::_STRIDE] for first in range(_STRIDE)))


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        planes = inflate.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise AvatarError(f'the avatar cannot be inflated ({error}); build it again') from error
    if len(planes) > MAX_BYTES or not inflate.eof or inflate.unused_data:
        raise AvatarError(f'the avatar does not end where it should, within {MAX_BYTES} bytes; '
                          'build it again with fewer Gaussians')
    payload, start = bytearray(len(planes)), 0
    for first in range(_STRIDE):
        end = start + len(range(first, len(planes), _STRIDE))
        payload[first::_STRIDE] = planes[start:end]
        start = end
    return bytes(payload)


def save(avatar: GaussianAvatar, path: Path) -> None:
    """
    Write the avatar to a file.

    Raises
    ------
    AvatarError
        The avatar breaks a rule that ``decode`` checks.
    ResourceError
        The folder refuses.

    """
    write_atomically(path, encode(avatar))


def load(path: Path) -> GaussianAvatar:
    """
    Read an avatar from a file.

    Raises
    ------
    AvatarError
        See ``decode``.
    ResourceError
        The file cannot be read.

    """
    try:
        with path.open('rb') as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ResourceError(f'cannot read the avatar {path} ({error.strerror})') from error
    try:
        return decode(data)
    except AvatarError as error:
        raise AvatarError(f'{path}: {error}') from error


def _metadata(payload: bytes) -> dict:
    # safetensors: a uint64 with the length of the JSON header, then the header.
    length = int.from_bytes(payload[:8], 'little')
    return json.loads(json.loads(payload[8:8 + length])['__metadata__']['avatar'])


def _check_tensors(tensors: dict[str, np.ndarray]) -> None:
    """Check names, dtypes, shapes and ranges."""
    if tensors.keys() | {_MAY_LACK} != _TENSORS.keys():
        names = ', '.join(sorted((tensors.keys() | {_MAY_LACK}) ^ _TENSORS.keys()))
        raise AvatarError(f'avatar fields missing or unknown: {names:.200}; build it again')
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in _TENSORS.items():
        if name not in tensors:
            continue
        value = tensors[name]
        expected = tuple(
            axis if isinstance(axis, int) else int(axis) if axis.isdigit()
            else sizes.setdefault(axis, value.shape[i] if i < value.ndim else -1)
            for i, axis in enumerate(shape))
        if value.dtype != dtype or value.shape != expected:
            raise AvatarError(f'avatar field {name} must be {dtype} {expected}, got '
                              f'{value.dtype} {value.shape}; build it again')
        if value.dtype.kind == 'f' and not np.isfinite(value).all():
            raise AvatarError(f'avatar field {name} holds NaN or infinity; build it again')
    if not 0 < sizes['N'] <= MAX_GAUSSIANS:
        raise AvatarError(f'the avatar has {sizes["N"]} Gaussians; 1 to {MAX_GAUSSIANS} allowed')
    rest = tensors['barycentrics_12'].astype(np.float32)
    K = tensors['camera.K']
    rules = {
        'triangles: indices are not negative': tensors['triangles'].min() >= 0,
        'barycentrics: inside the triangle': (rest >= 0).all() and (rest.sum(1) <= 1.001).all(),
        'means: within 10 m': np.abs(tensors['means']).max() <= 10,
        'quats: unit length': np.abs(
            np.linalg.norm(tensors['quats'].astype(np.float32), axis=1) - 1).max() <= 0.01,
        'scales: above 0, at most 1 m': (
            tensors['scales'].min() > 0 and tensors['scales'].max() <= 1),
        'opacities: in [0, 1]': _in_unit(tensors['opacities']),
        'colors: in [0, 1]': _in_unit(tensors['colors']),
        'pose.blendshapes: in [0, 1]': _in_unit(tensors['pose.blendshapes']),
        'betas: within 100': np.abs(tensors['betas']).max(initial=0) <= 100,
        'pose: within 1000': max(np.abs(tensors[f'pose.{name}']).max() for name in (
            'joint_rotations', 'translation', 'confidence')) <= POSE_LIMIT,
        'camera.K: within 1e6': np.abs(K).max() <= 1e6,
        'camera.K: positive focal lengths and a last row of 0 0 1': (
            K[0, 0] > 0 and K[1, 1] > 0 and (K[2] == (0, 0, 1)).all()),
    }
    for rule, holds in rules.items():
        if not holds:
            raise AvatarError(f'the avatar breaks a rule ({rule}); build it again')


def _in_unit(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _assemble(tensors: dict[str, np.ndarray], about: dict) -> GaussianAvatar:
    values: dict[str, Any] = {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for name, tensor in tensors.items()}
    rest = values['barycentrics_12']
    first = np.maximum(1 - rest.sum(1, keepdims=True), 0)
    try:
        size, pose, consent = about['camera'], about['pose'], about['consent']
        return GaussianAvatar(
            body_model=_typed(about['body_model'], str),
            betas=values['betas'],
            triangles=values['triangles'],
            barycentrics=np.concatenate([first, rest], 1),
            means=values['means'],
            quats=values['quats'],
            scales=values['scales'],
            opacities=values['opacities'],
            colors=values['colors'],
            features=values['features'],
            shader=values['shader'].tobytes() if 'shader' in values else b'',
            camera=Camera(values['camera.K'], _integer(size['width'], 1, _MAX_SIDE),
                          _integer(size['height'], 1, _MAX_SIDE)),
            portrait_pose=OperatorPose(
                values['pose.joint_rotations'], values['pose.translation'],
                values['pose.blendshapes'], values['pose.confidence'],
                _integer(pose['stamp_ns'], 0, _ROS_END_NS), _typed(pose['frame_id'], str),
                _typed(pose['operator_id'], str)),
            consent=Consent(
                _typed(consent['operator_id'], str), _typed(consent['granted_by'], str),
                _integer(consent['granted_at_ns'], 0, _INT64), _typed(consent['statement'], str),
                _integer(consent.get('expires_at_ns', 0), 0, _INT64),
                _typed(consent.get('key', ''), str),
                _typed(consent.get('signature', ''), str)),
        )
    except (KeyError, TypeError) as error:
        raise AvatarError(f'the avatar header lacks or garbles {error!s:.200}; build it again'
                          ) from error


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f'{value!r:.50}, which is not {kind.__name__}')
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise TypeError(f'a text of {len(value)} characters')
    return value


def _integer(value: object, low: int, high: int) -> int:
    if not low <= _typed(value, int) <= high:
        raise TypeError(f'{value!r:.50}, which is not in [{low}, {high}]')
    return _typed(value, int)


def export_ply(avatar: GaussianAvatar, path: Path) -> None:
    """
    Write the rest pose in the PLY layout that Gaussian splat viewers read.

    Field names and encodings as in the reference code of 3D Gaussian Splatting (Kerbl et al.
    2023): ``f_dc = (rgb - 0.5) / C0`` with the spherical harmonic ``C0 = 1 / (2 sqrt(pi))``,
    logit opacity, log scales, rotation wxyz.

    Raises
    ------
    ResourceError
        The folder refuses.

    """
    opacities = np.clip(avatar.opacities, 1e-4, 1 - 1e-4)
    c0 = 0.5 / np.sqrt(np.pi)
    columns = {
        ('x', 'y', 'z'): avatar.means,
        ('nx', 'ny', 'nz'): np.zeros_like(avatar.means),
        ('f_dc_0', 'f_dc_1', 'f_dc_2'): (avatar.colors - 0.5) / c0,
        ('opacity',): np.log(opacities / (1 - opacities))[:, None],
        ('scale_0', 'scale_1', 'scale_2'): np.log(avatar.scales),
        ('rot_0', 'rot_1', 'rot_2', 'rot_3'): avatar.quats,
    }
    names = [name for group in columns for name in group]
    header = '\n'.join([
        'ply', 'format binary_little_endian 1.0', f'element vertex {len(avatar)}',
        *(f'property float {name}' for name in names), 'end_header', ''])
    table = np.concatenate(list(columns.values()), 1).astype('<f4')
    write_atomically(path, header.encode('ascii') + table.tobytes())
