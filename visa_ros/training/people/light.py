"""What light people stand in: an environment that is smooth, and one lamp."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visa_ros.types import Float32


@dataclass(frozen=True, eq=False)
class Light:
    """
    Light that stays with the camera, as a room's does while the person turns.

    Attributes
    ----------
    key_direction : (3,) float32
        Towards the lamp, unit length; camera axes.
    key_color : (3,) float32
        What it adds to a white surface that faces it, linear RGB.
    ambient : (9, 3) float32
        What the environment adds to a white surface, linear RGB, as coefficients of
        ``harmonics`` of its normal in camera axes (Ramamoorthi and Hanrahan 2001).
    softness_m : float
        How wide the edges of the lamp's shadows are.

    """

    key_direction: Float32
    key_color: Float32
    ambient: Float32
    softness_m: float


def harmonics(normals: np.ndarray) -> np.ndarray:
    """Return the (N, 9) spherical harmonics up to second order, unnormalized, of unit vectors."""
    x, y, z = normals.T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y,
                     3 * z * z - 1], 1)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a room: soft coloured lamps and walls around, one lamp that casts shadows."""
    brightness = rng.uniform(0.55, 1.05)  # of a white surface that faces the camera
    key_share = rng.beta(1.6, 1.6)
    azimuth, elevation = np.deg2rad([rng.normal(0, 45), rng.uniform(-5, 60)])
    key_direction = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation),
                              -np.cos(azimuth) * np.cos(elevation)])
    # The environment: darker below, with a few wide lamps.
    around = sphere(2000)
    radiance = np.full((len(around), 3), 0.4) * _tint(rng, 0.12)
    radiance *= (1 - rng.uniform(0, 0.5) * around[:, 1:2])
    for _ in range(rng.integers(1, 5)):
        middle = rng.normal(size=3)
        middle[2] -= 0.5  # more of them on the camera's side
        middle /= np.linalg.norm(middle)
        lobe = np.maximum(around @ middle, 0) ** rng.uniform(2, 16)
        radiance += lobe[:, None] * rng.uniform(0.3, 2.0) * _tint(rng, 0.25)
    normals = sphere(200)
    irradiance = 4 * np.maximum(normals @ around.T, 0) @ radiance / len(around)
    ambient = np.linalg.lstsq(harmonics(normals), irradiance, rcond=None)[0]
    front = (harmonics(np.array([[0.0, 0, -1]])) @ ambient).mean()
    ambient *= brightness * (1 - 0.8 * key_share) / front
    facing = max(-float(key_direction[2]), 0.35)
    key_color = brightness * 0.8 * key_share / facing * _tint(rng, 0.15)
    return Light(key_direction.astype(np.float32), key_color.astype(np.float32),
                 ambient.astype(np.float32), float(rng.uniform(0.004, 0.03)))


def _tint(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Return a colour of mean 1, mostly on the line from warm to cold."""
    warmth = rng.normal(0, spread)
    color = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.normal(1, spread / 4, 3)
    color = np.maximum(color, 0.2)
    return color / color.mean()


def sphere(count: int) -> np.ndarray:
    """Return (count, 3) evenly spread unit vectors (Fibonacci lattice)."""
    number = np.arange(count) + 0.5
    z, angle = 1 - 2 * number / count, np.pi * (1 + 5 ** 0.5) * number
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)
