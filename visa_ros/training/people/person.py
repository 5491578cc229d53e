"""Who is photographed: a body, and what it wears."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visa_ros.body.model import load_body_model
from visa_ros.errors import InputError, ResourceError
from visa_ros.training.people.assets import texture_file
from visa_ros.training.people.basemesh import TRAITS, load_base_mesh
from visa_ros.types import Float32

SPLITS = ('train', 'test')

# Worn by test people only, and by nobody of the training split.
HELD_OUT = {
    'skins': ('old_african_male', 'young_asian_female', 'young_caucasian_male2'),
    'hair': ('ponytail01', 'short04'),
    'clothes': ('female_elegantsuit01', 'male_casualsuit03', 'male_casualsuit06'),
}

# sRGB of hair as people have it, from black to white, and dyed.
_HAIR_COLORS = ((18, 15, 14), (40, 28, 22), (66, 44, 30), (96, 64, 40), (134, 94, 56),
                (176, 136, 84), (206, 172, 118), (112, 46, 26), (150, 70, 34), (128, 124, 120),
                (196, 192, 186))
_UNUSUAL_HAIR_COLORS = ((120, 30, 70), (40, 70, 130), (30, 100, 90))
_BALD = 0.12
# How far people are from the mean, in the betas' standard deviations.
_MOST_SIGMAS = 2.2


PATTERNS = ('plain', 'stripes', 'pinstripes', 'checks', 'dots', 'blotches')


@dataclass(frozen=True, eq=False)
class Cloth:
    """
    What an outfit's cloth looks like.

    Attributes
    ----------
    pattern : str
        One of ``PATTERNS``, printed on the texture.
    pattern_color : (3,) float32
        sRGB in [0, 1].
    pattern_strength, pattern_width : float
        In [0, 1]: how much of the cloth's own colour the print hides, and how wide it is.
    pattern_repeats : float
        Across the texture.
    hue_rad, saturation : float
        How far all hues are turned, and what multiplies their saturation.
    gain : (3,) float32
        Multiplies the colour after that.

    """

    pattern: str
    pattern_color: Float32
    pattern_strength: float
    pattern_width: float
    pattern_repeats: float
    hue_rad: float
    saturation: float
    gain: Float32


@dataclass(frozen=True, eq=False)
class Person:
    """
    Everything that identity, clothes and hair need.

    Attributes
    ----------
    name : str
        Such as 'train-000017'.
    betas : (B,) float32
        Of ``load_body_model()``.
    skin, other_skin, outfit, eyes, brows, lashes, teeth : str
        Names of MakeHuman's assets.
    hair : str or None
        None for the bald.
    other_skin_share : float
        How much of the other skin is mixed in, in [0, 1].
    skin_gain : (3,) float32
        Multiplies the skin's sRGB colour.
    hair_color, brow_color : (3,) float32
        Mean sRGB colour, in [0, 1].
    teeth_gain : float
        Multiplies the teeth's colour.
    cloth : Cloth
        Of the outfit.

    """

    name: str
    betas: Float32
    skin: str
    other_skin: str
    other_skin_share: float
    outfit: str
    eyes: str
    brows: str
    lashes: str
    teeth: str
    hair: str | None
    skin_gain: Float32
    hair_color: Float32
    brow_color: Float32
    teeth_gain: float
    cloth: Cloth


def draw_person(assets: Path, split: str, index: int) -> Person:
    """
    Draw somebody; the same arguments always give the same person.

    Skin and clothes fit the body's looks, mostly: a body that looks female and African gets an
    African or a female skin.

    Parameters
    ----------
    assets : Path
        The folder of MakeHuman's CC0 assets.
    split : {'train', 'test'}
        A test person's skin, clothes and hair are worn by nobody in training.
    index : int
        Which one.

    Raises
    ------
    InputError
        There is no such split.
    ResourceError
        The folder has not got the assets.

    """
    if split not in SPLITS:
        raise InputError(f'no split is called {split!r}; choose from {", ".join(SPLITS)}')
    rng = np.random.default_rng([SPLITS.index(split), index])
    count = len(load_body_model().shape_basis)
    betas = np.clip(rng.normal(0, 0.8, count), -_MOST_SIGMAS, _MOST_SIGMAS).astype(np.float32)
    looks = _looks(betas)
    skins = _worn(assets, 'skins', split)
    skin = _pick(rng, skins, looks)
    hairs = _worn(assets, 'hair', split)
    hair_color = _hair_color(rng, looks)
    return Person(
        name=f'{split}-{index:06d}',
        betas=betas,
        skin=skin,
        other_skin=_pick(rng, skins, looks),
        other_skin_share=float(rng.uniform(0, 0.5)),
        outfit=_pick(rng, _worn(assets, 'clothes', split), looks),
        eyes=_eyes(rng, assets, looks),
        brows=_any(rng, _names(assets / 'eyebrows')),
        lashes=_any(rng, _names(assets / 'eyelashes')),
        teeth=_any(rng, _names(assets / 'teeth')),
        hair=None if rng.random() < _BALD else _any(rng, hairs),
        skin_gain=(rng.uniform(0.82, 1.08) * rng.uniform(0.95, 1.05, 3)).astype(np.float32),
        hair_color=hair_color.astype(np.float32),
        brow_color=(hair_color * rng.uniform(0.5, 0.9)).astype(np.float32),
        teeth_gain=float(rng.uniform(0.85, 1.1)),
        cloth=_cloth(rng),
    )


def _hair_color(rng: np.random.Generator, looks: dict[str, float]) -> Float32:
    colors = np.array(_UNUSUAL_HAIR_COLORS if rng.random() < 0.05 else _HAIR_COLORS)
    dark = np.exp(-3 * max(looks['african'], looks['asian'], 0) * colors.mean(1) / 100)
    chosen = colors[rng.choice(len(colors), p=dark / dark.sum())] / 255
    varied = chosen * rng.uniform(0.8, 1.25) * rng.uniform(0.94, 1.06, 3)
    return np.clip(varied, 0.03, 0.85).astype(np.float32)


def _eyes(rng: np.random.Generator, assets: Path, looks: dict[str, float]) -> str:
    """Most people's eyes are brown, Caucasians' less often."""
    names = sorted(path.stem for path in (assets / 'eyes/materials').glob('*.png'))
    if rng.random() < 0.5 + 0.8 * max(looks['african'], looks['asian']):
        names = [name for name in names if 'brown' in name]
    return _any(rng, names)


def _cloth(rng: np.random.Generator) -> Cloth:
    return Cloth(
        pattern='plain' if rng.random() < 0.55 else _any(rng, list(PATTERNS[1:])),
        pattern_color=rng.uniform(0.05, 0.95, 3).astype(np.float32),
        pattern_strength=float(rng.uniform(0.3, 1.0)),
        pattern_width=float(rng.uniform(0.1, 0.7)),
        pattern_repeats=float(np.exp(rng.uniform(np.log(6), np.log(60)))),
        hue_rad=float(rng.uniform(-np.pi, np.pi)),
        saturation=float(rng.uniform(0.3, 1.5)),
        gain=(rng.uniform(0.6, 1.5) * rng.uniform(0.85, 1.15, 3)).astype(np.float32),
    )


def _looks(betas: Float32) -> dict[str, float]:
    """Return how far each trait is present: 0 the mean, 1 wholly."""
    traits = load_base_mesh().traits
    return dict(zip(TRAITS, traits @ betas / (traits * traits).sum(1), strict=True))


def _pick(rng: np.random.Generator, names: list[str], looks: dict[str, float]) -> str:
    """Choose an asset by its name, which tells for whom MakeHuman's makers meant it."""
    female = looks['female'] + rng.normal(0, 0.2) > 0
    fits = []
    for name in names:
        score = float((female and 'female' in name) or (not female and 'female' not in name))
        score += sum(0.7 * looks[origin] for origin in ('african', 'asian', 'caucasian')
                     if origin in name)
        score += 0.5 * looks['old'] * ('old' in name) - 0.3 * looks['old'] * ('young' in name)
        fits.append(score)
    weights = np.exp(2.5 * np.array(fits))
    return names[rng.choice(len(names), p=weights / weights.sum())]


def _worn(assets: Path, kind: str, split: str) -> list[str]:
    """Return the assets that people of this split may wear."""
    folder = assets / kind
    names = [name for name in _names(folder)
             if (texture_file(folder / name) or kind == 'clothes')
             and not name.startswith(('shoes', 'fedora'))]
    if not set(HELD_OUT[kind]) < set(names):
        raise ResourceError(f'{folder} has not got the assets expected; --assets must be the '
                            "folder of MakeHuman's CC0 assets (doc/training.md)")
    return [name for name in names if (name in HELD_OUT[kind]) == (split == 'test')]


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ResourceError(f"there is no folder {folder}; --assets must be the folder of "
                            "MakeHuman's CC0 assets (doc/training.md)")
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _any(rng: np.random.Generator, names: list[str]) -> str:
    return names[rng.integers(len(names))]
