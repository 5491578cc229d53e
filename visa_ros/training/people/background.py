"""What is behind people: drawn by chance, never a photograph."""
from __future__ import annotations

import numpy as np

from visa_ros._optional import require
from visa_ros.types import Float32


def draw_background(rng: np.random.Generator, width: int, height: int) -> Float32:
    """Return an (H, W, 3) float32 sRGB picture in [0, 1]: wall, furniture-like shapes, texture."""
    cv2 = require('cv2')
    corners = _color(rng) + rng.normal(0, 0.08, (2, 2, 3))
    picture = cv2.resize(corners.astype(np.float32), (width, height),
                         interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 9) if rng.random() < 0.75 else 0):
        middle = rng.uniform(0, 1, 2) * (width, height)
        size = rng.uniform(0.05, 0.6, 2) * (width, height)
        color = tuple(float(value) for value in _color(rng))
        if rng.random() < 0.7:
            tilt = float(rng.normal(0, 4)) if rng.random() < 0.8 else float(rng.uniform(0, 90))
            box = cv2.boxPoints((middle.tolist(), size.tolist(), tilt))
            cv2.fillConvexPoly(picture, box.astype(np.int32), color, cv2.LINE_AA)
        else:
            cv2.ellipse(picture, (middle.tolist(), size.tolist(), float(rng.uniform(0, 180))),
                        color, -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        for cells in (8, 32, 128):
            noise = rng.normal(0, rng.uniform(0, 0.05), (cells, cells, 3 if cells < 9 else 1))
            noise = cv2.resize(noise.astype(np.float32), (width, height),
                               interpolation=cv2.INTER_CUBIC)
            picture = picture + noise.reshape(height, width, -1)
    blur_px = rng.uniform(0, 0.02) * width if rng.random() < 0.7 else 0.0
    if blur_px > 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), blur_px)
    return np.clip(picture, 0, 1).astype(np.float32)


def _color(rng: np.random.Generator) -> np.ndarray:
    """Return a colour; most are greyish, as rooms are."""
    grey = rng.uniform(0.05, 0.95)
    spread = rng.choice([0.03, 0.1, 0.3], p=[0.5, 0.35, 0.15])
    return np.clip(grey + rng.normal(0, spread, 3), 0, 1)
