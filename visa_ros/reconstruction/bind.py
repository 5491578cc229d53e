"""From a fitted body and a portrait to Gaussians that hang on the body."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction import anatomy as face
from visa_ros.reconstruction.body_layer import body_layer
from visa_ros.reconstruction.clothing import dress
from visa_ros.reconstruction.held import find_held
from visa_ros.reconstruction.hidden_layer import hidden_layer
from visa_ros.reconstruction.matte import foreground
from visa_ros.reconstruction.parts import find_clothes
from visa_ros.reconstruction.pixel_layer import pixel_layer
from visa_ros.reconstruction.splats import Splats, concatenate, draw
from visa_ros.reconstruction.surface import Surface, find_surface
from visa_ros.types import Camera, Float32, UInt8


@dataclass(frozen=True, eq=False)
class Bound:
    """
    A portrait bound to its body.

    Attributes
    ----------
    splats : Splats
        In the portrait camera's frame.
    surface : Surface
        What the pixels show.
    colors, alpha : (H, W, 3), (H, W) float32
        The person without background, nor what is held before it.
    held : (H, W) bool
        Where something was.

    """

    splats: Splats
    surface: Surface
    colors: Float32
    alpha: Float32
    held: NDArray[np.bool_]


def bind(model: BodyModel, vertices: Float32, rgb: UInt8, alpha: Float32, landmarks: Float32,
         camera: Camera, count: int) -> Bound:
    """
    Place about ``count`` Gaussians.

    The body layer covers the dressed body, also where the portrait does not see it; the hidden
    layer continues the trunk behind arms; the pixel layer repeats the portrait on top of them,
    finer where there is more to see.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The posed body in the camera's frame.
    rgb : (H, W, 3) uint8
        The portrait.
    alpha : (H, W) float32
        The person in it.
    landmarks : (478, 2) float32
        Of the face, pixels.
    camera : Camera
    count : int

    """
    held = find_held(model, vertices, rgb, alpha, landmarks, camera)
    own = np.where(held, 0, alpha).astype(np.float32)
    clothes = find_clothes(model, vertices, rgb, own, landmarks[face.NOSE], camera)
    dressed = dress(model, vertices, own > 0.5, clothes, held, camera)
    surface = find_surface(model, dressed, rgb, own, clothes, landmarks, camera)
    shown = foreground(rgb, own)
    colors = surface.unmixed(shown)
    body = np.where(held, 1, alpha).astype(np.float32)  # it goes on behind a thing
    hidden = concatenate([
        body_layer(model, dressed, surface, colors, body, landmarks, camera),
        hidden_layer(model, dressed, surface, colors, body, camera)])
    pixels = pixel_layer(surface, colors, own, landmarks, camera,
                         max(count - len(hidden), 1000))
    splats = concatenate([hidden, pixels])
    if held.any():
        behind = draw(hidden, camera)
        own[held] = behind[held, 3]
        shown[held] = behind[held, :3] / np.maximum(behind[held, 3:], 1e-3)
    return Bound(splats, surface, shown, own, held)
