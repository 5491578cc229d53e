"""What a person's surfaces look like: textures, and the colours they are given."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from visa_ros._optional import require
from visa_ros.errors import ResourceError
from visa_ros.training.people.assets import read_texture, texture_file
from visa_ros.training.people.person import Cloth, Person
from visa_ros.types import Float32, UInt8

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Lightness of hair varies by at most this share (a standard deviation): the textures of black
# hair have highlights that would burn out in blond.
_HAIR_CONTRAST = 0.35
_MOUTH = np.array([0.60, 0.28, 0.27], np.float32)  # sRGB of what is pink in it
_PLAIN_PX = 512


@dataclass(frozen=True, eq=False)
class Look:
    """
    A layer's colour: ``tint @ texture + offset``, clipped to [0, 1], all sRGB.

    Attributes
    ----------
    texture : (H, W, 4) uint8
        First row at v = 0.
    tint : (3, 3) float32
    offset : (3,) float32
    is_file : bool
        The texture is an asset's as it is, so that others may have the very same array.

    """

    texture: UInt8
    tint: Float32
    offset: Float32
    is_file: bool = True


def draw_looks(person: Person, assets: Path) -> dict[str, Look]:
    """
    Return the look of each layer of a person's figure.

    Raises
    ------
    ResourceError
        A texture is missing.

    """
    same, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    white = np.full((1, 1, 4), 255, np.uint8)
    eyes = _read(assets / 'eyes/materials' / f'{person.eyes}.png')
    looks = {
        'skin': Look(_skin(person, assets), np.diag(person.skin_gain), none,
                     is_file=False),
        'mouth': Look(white, 0 * same, _MOUTH * person.skin_gain ** 0.5, is_file=False),
        'teeth': Look(_of(assets / 'teeth' / person.teeth), same * person.teeth_gain, none),
        'outfit': _outfit(person.cloth, assets / 'clothes' / person.outfit),
        'eyes': Look(eyes, 0.85 * same, none),
        'brows': _colored(_of(assets / 'eyebrows' / person.brows), person.brow_color),
        'lashes': Look(_of(assets / 'eyelashes' / person.lashes), same, none),
    }
    if person.hair is not None:
        looks['hair'] = _colored(_of(assets / 'hair' / person.hair), person.hair_color)
    return looks


def _skin(person: Person, assets: Path) -> UInt8:
    """Mix two skins: all of them have the same layout."""
    cv2 = require('cv2')
    first, second = (_of(assets / 'skins' / name) for name in (person.skin, person.other_skin))
    return cv2.addWeighted(first, 1 - person.other_skin_share, second, person.other_skin_share, 0)


def _outfit(cloth: Cloth, folder: Path) -> Look:
    """Print a pattern on the cloth and turn its colours."""
    file = texture_file(folder)
    texture = np.full((_PLAIN_PX, _PLAIN_PX, 4), 190, np.uint8) if file is None else _read(file)
    if cloth.pattern != 'plain':
        cover = _pattern(cloth, texture.shape[0])[..., None] * cloth.pattern_strength
        printed = texture[..., :3] * (1 - cover) + 255 * cloth.pattern_color * cover
        texture = np.concatenate([printed.astype(np.uint8), texture[..., 3:]], 2)
    tint = cloth.gain[:, None] * _hue_turned(cloth.hue_rad, cloth.saturation)
    return Look(texture, tint.astype(np.float32), np.zeros(3, np.float32), is_file=False)


def _pattern(cloth: Cloth, size_px: int) -> Float32:
    """Return (S, S) in [0, 1]: where the pattern covers the cloth."""
    cv2 = require('cv2')
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) / size_px * cloth.pattern_repeats
    edge = np.cos(np.pi * cloth.pattern_width)
    stripes = [np.clip(4 * (np.cos(2 * np.pi * axis) - edge), 0, 1) for axis in (x, y)]
    if cloth.pattern == 'stripes':
        return stripes[1]
    if cloth.pattern == 'pinstripes':
        return stripes[0]
    if cloth.pattern == 'checks':
        return (stripes[0] + stripes[1]) / 2
    if cloth.pattern == 'dots':
        return stripes[0] * stripes[1]
    cells = int(cloth.pattern_repeats) + 2
    noise = np.random.default_rng(cells).normal(0.3, 1, (cells, cells)).astype(np.float32)
    smooth = cv2.resize(noise, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(4 * smooth, 0, 1)


def _colored(texture: UInt8, color: Float32) -> Look:
    """Give hair a mean colour; its lightness varies about that as about the texture's own."""
    mean, spread = _lightness(texture)
    contrast = _HAIR_CONTRAST * mean / max(spread, _HAIR_CONTRAST * mean)
    return Look(texture, (contrast * np.outer(color, _LUMA) / mean).astype(np.float32),
                (1 - contrast) * color)


def _lightness(texture: UInt8) -> tuple[float, float]:
    """Return mean and standard deviation of the luma, in [0, 1], of what is not transparent."""
    pixels = texture[::4, ::4].reshape(-1, 4).astype(np.float32) / 255
    luma, weight = pixels[:, :3] @ _LUMA, pixels[:, 3]
    mean = float(np.average(luma, weights=weight))
    return max(mean, 1e-3), float(np.average((luma - mean) ** 2, weights=weight) ** 0.5)


def _hue_turned(angle_rad: float, saturation: float) -> Float32:
    """Return the matrix that turns colours about the grey axis and scales their distance to it."""
    from scipy.spatial.transform import Rotation

    grey = np.full((3, 3), 1 / 3)
    turn = Rotation.from_rotvec(np.full(3, angle_rad / np.sqrt(3))).as_matrix()
    return (grey + saturation * (turn @ (np.eye(3) - grey))).astype(np.float32)


def _of(folder: Path) -> UInt8:
    file = texture_file(folder)
    if file is None:
        raise ResourceError(f'{folder} has no texture')
    return _read(file)


_read = lru_cache(maxsize=64)(read_texture)
