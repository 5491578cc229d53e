"""What the trackers see in one image of one person, before it becomes a pose."""
from __future__ import annotations

from dataclasses import dataclass

from visa_ros.types import Float32


@dataclass(frozen=True, eq=False)
class HandLandmarks:
    """
    One hand.

    Attributes
    ----------
    image : (21, 2) float32
        Pixels; MediaPipe's hand landmark order.
    world : (21, 3) float32
        Metres in camera axes (x right, y down, z away), about the hand's own centre.
    score : float
        In [0, 1].

    """

    image: Float32
    world: Float32
    score: float


@dataclass(frozen=True, eq=False)
class Landmarks:
    """
    What was found; None where nothing was.

    Attributes
    ----------
    width, height : int
        Of the image, pixels.
    pose : (33, 2) float32
        Body landmarks, pixels; MediaPipe's pose landmark order.
    pose_world : (33, 3) float32
        The same in metres, camera axes, about the middle of the hips.
    visibility : (33,) float32
        In [0, 1].
    face : (478, 2) float32, optional
        Face mesh with irises, pixels.
    blendshapes : (52,) float32, optional
        In [0, 1]; order ``conventions.BLENDSHAPES``.
    head_matrix : (4, 4) float32, optional
        MediaPipe's canonical face to its camera (x right, y up, z towards the viewer;
        centimetres).
    left_hand, right_hand : HandLandmarks, optional
        The person's own left and right.
    mask : (H, W) float32, optional
        Probability in [0, 1] that a pixel shows the person.

    """

    width: int
    height: int
    pose: Float32
    pose_world: Float32
    visibility: Float32
    face: Float32 | None = None
    blendshapes: Float32 | None = None
    head_matrix: Float32 | None = None
    left_hand: HandLandmarks | None = None
    right_hand: HandLandmarks | None = None
    mask: Float32 | None = None
