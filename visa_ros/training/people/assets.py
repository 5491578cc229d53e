"""MakeHuman's asset files: meshes fitted to the base mesh, and their textures."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from visa_ros._optional import require
from visa_ros.body.model import Int32
from visa_ros.errors import ResourceError
from visa_ros.types import Float32, UInt8

_BASE_VERTICES = 19158


@dataclass(frozen=True, eq=False)
class Garment:
    """
    A mesh that is bound to the base mesh: clothes, hair, eyes, brows, lashes or teeth.

    A vertex lies at the weighted mean of three base vertices, plus an offset that scales with the
    person (MakeHuman's .mhclo format).

    Attributes
    ----------
    binding : (N, 19158) sparse
        Weights of the base vertices; rows sum to 1.
    offsets : (N, 3) float32
        In units of ``scales``.
    scales : three of (int, int, float)
        Per axis two base vertices, and what to divide their distance along it by.
    faces, uv_faces : (F, 3) int32
        Triangles; rows of ``uvs`` for their corners.
    uvs : (T, 2) float32
        v upwards.
    hides : (H,) int32
        Base vertices that must not be drawn where this is worn.

    """

    binding: sparse.csr_matrix
    offsets: Float32
    scales: tuple[tuple[int, int, float], ...]
    faces: Int32
    uv_faces: Int32
    uvs: Float32
    hides: Int32

    def on(self, base: Float32) -> Float32:
        """Return the (N, 3) vertices on a person with these (19158, 3) base vertices."""
        scale = [abs(base[start, axis] - base[end, axis]) / distance
                 for axis, (start, end, distance) in enumerate(self.scales)]
        return (self.binding @ base + self.offsets * np.array(scale, np.float32)).astype(
            np.float32)


def garment_file(assets: Path, name: str) -> Path:
    """Return the .mhclo file of an asset such as 'hair/bob02'."""
    found = sorted((assets / name).glob('*.mhclo'))
    if not found:
        raise ResourceError(f'no .mhclo file in {assets / name}; --assets must be the folder of '
                            "MakeHuman's CC0 assets (doc/training.md)")
    return found[0]


@cache
def load_garment(path: Path) -> Garment:
    """Read a .mhclo file and the .obj file that it names."""
    bound: list[tuple[list[int], list[float], list[float]]] = []
    scales: dict[str, tuple[int, int, float]] = {}
    hides: list[int] = []
    obj = mode = ''
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        words = line.split()
        if not words or words[0].startswith('#'):
            continue
        numeric = words[0].lstrip('-').isdigit()
        if not numeric:
            key = words[0]
            if key in ('verts', 'delete_verts'):
                mode = key
            elif key.endswith('_scale'):
                scales[key[0]] = int(words[1]), int(words[2]), float(words[3])
            elif key == 'obj_file':
                obj = words[1]
        elif mode == 'verts' and len(words) == 1:
            bound.append(([int(words[0])] * 3, [1, 0, 0], [0, 0, 0]))
        elif mode == 'verts':
            bound.append(([int(word) for word in words[:3]],
                          [float(word) for word in words[3:6]],
                          [float(word) for word in words[6:9]]))
        elif mode == 'delete_verts':
            hides += _ranges(words)
    corners, weights, offsets = (np.array(column) for column in zip(*bound, strict=True))
    rows = np.repeat(np.arange(len(bound)), 3)
    binding = sparse.csr_matrix((weights.ravel().astype(np.float32), (rows, corners.ravel())),
                                (len(bound), _BASE_VERTICES))
    faces, uv_faces, uvs = _read_obj(path.parent / obj)
    return Garment(binding, offsets.astype(np.float32), tuple(scales[axis] for axis in 'xyz'),
                   faces, uv_faces, uvs, np.array(hides, np.int32))


def texture_file(folder: Path) -> Path | None:
    """Return the diffuse texture of an asset's folder, by its .mhmat file; None: it has none."""
    for material in sorted(folder.glob('*.mhmat')):
        for line in material.read_text(encoding='utf-8', errors='replace').splitlines():
            words = line.split()
            if words[:1] == ['diffuseTexture'] and (folder / words[1]).is_file():
                return folder / words[1]
    return None


def read_texture(path: Path) -> UInt8:
    """
    Return an (H, W, 4) uint8 RGBA texture, first row at the bottom (v = 0).

    Where it is transparent it takes the colour of what is near, so that smaller mipmap levels
    have no fringes.
    """
    cv2 = require('cv2')
    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if bgra is None:
        raise ResourceError(f'cannot read the texture {path}')
    if bgra.shape[2] == 3:
        rgba = cv2.cvtColor(bgra, cv2.COLOR_BGR2RGBA)
    else:
        rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA)
        rgba[..., :3] = _bleed(rgba)
    return np.ascontiguousarray(rgba[::-1])


def _bleed(rgba: UInt8) -> UInt8:
    """Fill transparent texels from a pyramid of premultiplied means."""
    cv2 = require('cv2')
    alpha = rgba[..., 3:].astype(np.float32) / 255
    levels = [np.concatenate([rgba[..., :3] * alpha, alpha], 2)]
    while min(levels[-1].shape[:2]) > 1:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5,
                                 interpolation=cv2.INTER_AREA))
    filled = levels[-1]
    for level in levels[-2::-1]:
        above = cv2.resize(filled, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        filled = level + above * (1 - level[..., 3:])
    color = filled[..., :3] / np.maximum(filled[..., 3:], 1e-6)
    return np.clip(np.where(alpha > 0.6, rgba[..., :3], color), 0, 255).astype(np.uint8)


def _ranges(words: list[str]) -> list[int]:
    """Return the numbers of '3 7 - 9': 3, 7, 8, 9."""
    out: list[int] = []
    numbers = iter(words)
    for word in numbers:
        if word == '-':
            out += range(out[-1] + 1, int(next(numbers)) + 1)
        else:
            out.append(int(word))
    return out


def _read_obj(path: Path) -> tuple[Int32, Int32, Float32]:
    """Return triangles, their corners' texture coordinates, and these."""
    uvs, faces, uv_faces = [], [], []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        kind, *words = line.split() or ['']
        if kind == 'vt':
            uvs.append([float(word) for word in words[:2]])
        elif kind == 'f':
            corners = [[int(number) - 1 for number in word.split('/')[:2]] for word in words]
            for second, third in pairwise(corners[1:]):
                faces.append([corners[0][0], second[0], third[0]])
                uv_faces.append([corners[0][1], second[1], third[1]])
    return np.array(faces, np.int32), np.array(uv_faces, np.int32), np.array(uvs, np.float32)
