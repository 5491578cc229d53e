"""From a fitted body and a portrait to Gaussians that hang on the body."""
from __future__ import annotations

from visa_ros.body.model import BodyModel
from visa_ros.reconstruction.body_layer import body_layer
from visa_ros.reconstruction.pixel_layer import pixel_layer
from visa_ros.reconstruction.splats import Splats, concatenate
from visa_ros.reconstruction.surface import Surface
from visa_ros.types import Camera, Float32


def bind(model: BodyModel, vertices: Float32, surface: Surface, colors: Float32, alpha: Float32,
         landmarks: Float32, camera: Camera, count: int) -> Splats:
    """
    Place about ``count`` Gaussians.

    The body layer covers the dressed body, also where the portrait does not see it; the pixel
    layer repeats the portrait on top of it, finer where there is more to see.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The dressed body in the camera's frame.
    surface : Surface
        What the pixels show.
    colors, alpha : (H, W, 3), (H, W) float32
        The person without the background.
    landmarks : (478, 2) float32
        Of the face, pixels.
    camera : Camera
    count : int

    """
    body = body_layer(model, vertices, surface, colors, alpha, landmarks, camera)
    pixels = pixel_layer(surface, colors, alpha, landmarks, camera, max(count - len(body), 1000))
    return concatenate([body, pixels])
