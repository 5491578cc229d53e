"""Moments of a clip beside what the avatar shows of them: what a personal shader learns from."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.landmarks import Landmarks
from visa_ros.enrolment.clip import Clip
from visa_ros.errors import InputError
from visa_ros.identity import FACE_CORNERS, SAME_PERSON, descriptor
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.reconstruction.reconstruct import Progress
from visa_ros.rendering.driving import driven
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.rendering.window import GRID
from visa_ros.shading.guidance import guide
from visa_ros.training.shader.streams import Pairs
from visa_ros.types import (
    Camera,
    CoarseFrame,
    Float32,
    GaussianAvatar,
    OperatorPose,
    UInt8,
)

SEQUENCE = 8          # consecutive frames
_REACH_PX, _SMOOTH = 8.0, 1 / 24  # of registration: most, and its smoothness, of the window


def runs(clip: Clip, count: int) -> list[list[int]]:
    """Return so many runs of frames that show the person at most, spread evenly over a clip."""
    runs: list[list[int]] = []
    for begin in np.linspace(0, len(clip) - SEQUENCE, count).astype(int):
        run = list(range(begin, begin + SEQUENCE))
        if all(clip.poses[number] is not None for number in run) and (
                not runs or run[0] > runs[-1][-1]):
            runs.append(run)
    return runs


@dataclass(frozen=True, eq=False)
class Moment:
    """
    A frame of a clip.

    Attributes
    ----------
    pose : OperatorPose
        As the live capture saw it.
    rgba : (H, W, 4) uint8
        The person, colour times alpha, and alpha.

    """

    pose: OperatorPose
    rgba: UInt8


def cut_out(clip: Clip, runs: Sequence[list[int]], face: Float32, config: CaptureConfig,
            progress: Progress) -> list[Moment]:
    """
    Cut the person out of runs of frames.

    Parameters
    ----------
    clip : Clip
    runs : sequence of list of int
        Frames, in order.
    face : (128,) float32
        Descriptor of the person's face; runs that begin with another's are left out.
    config : CaptureConfig
        Where the segmenter is.
    progress : callable

    Returns
    -------
    list of Moment
        ``SEQUENCE`` of each run.

    Raises
    ------
    InputError
        No run shows the person.

    """
    begins, kept = {run[0] for run in runs}, True
    out: list[Moment] = []
    with Landmarkers(config, 'still', mask=True) as landmarkers:
        frames = clip.frames({number for run in runs for number in run})
        for done, (number, rgb) in enumerate(frames):
            progress('cut out', done / (len(runs) * SEQUENCE))
            seen = landmarkers.detect(rgb, number)
            if number in begins:
                kept = seen is not None and _is(face, rgb, seen)
            pose = clip.poses[number]
            if not kept or pose is None:
                continue
            if seen is None or seen.mask is None:
                alpha = np.zeros(rgb.shape[:2], np.float32)
            else:
                alpha = matte(rgb, seen.mask, seen.face)
            out.append(Moment(pose, rgba_of(
                np.rint(255 * foreground(rgb, alpha) * alpha[..., None]), alpha)))
    if not out:
        raise InputError(f'{clip.path} shows the person too seldom or too briefly to learn from; '
                         'film 30 s in one go, alone')
    return out


class Beside:
    """
    Draw an avatar as its person is in frames of the clip that it was made of.

    Parameters
    ----------
    avatar : GaussianAvatar
    portrait : OperatorPose
        As the live capture saw its portrait.
    window_px : int
        Side of the window around the head.

    Attributes
    ----------
    avatar : GaussianAvatar
    camera : Camera
        Of what is drawn: the avatar's, its sides cut to multiples of ``GRID``.

    """

    def __init__(self, avatar: GaussianAvatar, portrait: OperatorPose, window_px: int) -> None:
        camera = avatar.camera
        height, width = (side // GRID * GRID for side in (camera.height, camera.width))
        self.avatar, self._portrait = avatar, portrait
        self.camera = Camera(camera.K, width, height)
        self._renderer = AvatarRenderer(
            avatar, RenderingConfig(width, height, background='#000000', backend='cpu'),
            window_px, self.camera)

    def driven(self, pose: OperatorPose) -> OperatorPose:
        """Return the avatar's pose."""
        return driven(self.avatar, np.zeros_like(self.avatar.betas), self._portrait, pose)

    def draw(self, pose: OperatorPose) -> CoarseFrame:
        """Return the avatar's picture."""
        return self._renderer.render(self.driven(pose))


def clip_pairs(beside: Beside, moments: Sequence[Moment]) -> Pairs:
    """
    Return pairs in the layout of ``training.shader.pairs``, in a window around the head.

    Parameters
    ----------
    beside : Beside
        Draws the avatar.
    moments : sequence of Moment
        ``SEQUENCE`` of each run.

    """
    out: list[dict[str, np.ndarray]] = []
    for moment in moments:
        frame = beside.draw(moment.pose)
        assert frame.window is not None
        assert frame.features is not None
        render = rgba_of(frame.rgb, frame.alpha)[frame.window]
        truth = registered(moment.rgba[frame.window], render)
        out.append({'guide': guide(frame, frame.features.shape[2]).astype(np.float16),
                    'render': render, 'truth': truth})
    return {name: np.stack([entry[name] for entry in out]).reshape(
        -1, SEQUENCE, *value.shape) for name, value in out[0].items()}


def error(pairs: Pairs) -> float:
    """Return the mean squared difference of render and truth, in levels of 255."""
    difference = pairs['render'].astype(np.float32) - pairs['truth']
    return float(np.square(difference[..., :3]).mean())


def rgba_of(rgb: np.ndarray, alpha: Float32) -> UInt8:
    """Return colour times alpha, and alpha, (H, W, 4), of (H, W, 3) in [0, 255] and (H, W)."""
    return np.dstack([rgb, np.rint(255 * alpha)]).astype(np.uint8)


def _is(face: Float32, rgb: UInt8, seen: Landmarks) -> bool:
    """Whether a picture shows this face, or none that can be told."""
    if seen.face is None:
        return True
    return bool(np.linalg.norm(descriptor(rgb, seen.face[list(FACE_CORNERS), :2]) - face)
                <= SAME_PERSON)


def registered(truth: UInt8, render: UInt8) -> UInt8:
    """
    Move a photograph's person to where the render shows them, smoothly and a little.

    Parameters
    ----------
    truth, render : (H, W, 4) uint8
        Colour times alpha, and alpha.

    Returns
    -------
    (H, W, 4) uint8
        The truth.  Where head and shoulders are is the render's to say: what capture errs in
        would only teach blur.

    """
    height, width = truth.shape[:2]
    grey = [cv2.cvtColor(picture[..., :3], cv2.COLOR_RGB2GRAY) + (255 - picture[..., 3]) // 2
            for picture in (render, truth)]
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = flow_of.calc(grey[0], grey[1], np.zeros((height, width, 2), np.float32))
    weight = (np.minimum(render[..., 3], truth[..., 3]).astype(np.float32) / 255)[..., None]
    sigma_px = _SMOOTH * max(height, width)
    flow_sum, weight_sum = (cv2.GaussianBlur(values, (0, 0), sigma_px)
                            for values in (flow * weight, weight))
    smooth = flow_sum / np.maximum(weight_sum[..., None], 1e-3)
    length = np.linalg.norm(smooth, axis=2, keepdims=True)
    smooth *= np.minimum(1, _REACH_PX / np.maximum(length, 1e-6))
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    places = grid + smooth
    moved = cv2.remap(truth, places[..., 0], places[..., 1], cv2.INTER_CUBIC,
                      borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)
