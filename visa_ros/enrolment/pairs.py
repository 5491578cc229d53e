"""Moments of a clip beside what the avatar shows of them: what a personal shader learns from."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.landmarks import Landmarks
from visa_ros.enrolment.clip import Clip, Progress
from visa_ros.errors import InputError
from visa_ros.identity import FACE_CORNERS, SAME_PERSON, descriptor
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.rendering.driving import driven
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.guidance import guide
from visa_ros.shading.network import GRID
from visa_ros.training.shader.streams import Pairs
from visa_ros.types import Camera, Float32, GaussianAvatar, OperatorPose, UInt8

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


def clip_pairs(clip: Clip, avatar: GaussianAvatar, portrait: OperatorPose, face: Float32,
               runs: Sequence[list[int]], config: CaptureConfig, window_px: int,
               progress: Progress) -> Pairs:
    """
    Return pairs in the layout of ``training.shader.pairs``, around the head.

    Parameters
    ----------
    clip : Clip
    avatar : GaussianAvatar
        Of one of its frames.
    portrait : OperatorPose
        As that frame was followed.
    face : (128,) float32
        Descriptor of the person's face; runs that begin with another's are left out.
    runs : sequence of list of int
        Frames, in order, all lists of one length.
    config : CaptureConfig
        Where the segmenter is.
    window_px : int
        Side of the window.
    progress : callable

    """
    drawn = _Drawn(avatar, portrait, window_px)
    begins, kept = {run[0] for run in runs}, True
    out: list[dict[str, np.ndarray]] = []
    with Landmarkers(config, 'still', mask=True) as landmarkers:
        frames = clip.frames({number for run in runs for number in run})
        for done, (number, rgb) in enumerate(frames):
            progress('pairs', done / (len(runs) * SEQUENCE))
            seen = landmarkers.detect(rgb, number)
            if number in begins:
                kept = seen is not None and _is(face, rgb, seen)
            if not kept:
                continue
            pose = clip.poses[number]
            assert pose is not None
            out.append(drawn.beside(rgb, seen, pose))
    if len(out) < SEQUENCE:
        raise InputError(f'{clip.path} shows the person too seldom or too briefly to learn from; '
                         'film 30 s in one go, alone')
    return {name: np.stack([entry[name] for entry in out]).reshape(
        -1, SEQUENCE, *value.shape) for name, value in out[0].items()}


class _Drawn:
    """The avatar beside frames of its clip, in a window around the head."""

    def __init__(self, avatar: GaussianAvatar, portrait: OperatorPose, window_px: int) -> None:
        camera = avatar.camera
        self._size = tuple(side // GRID * GRID for side in (camera.height, camera.width))
        height, width = self._size
        self._avatar, self._portrait = avatar, portrait
        self._side = min(window_px, height, width)
        self._renderer = AvatarRenderer(
            avatar, RenderingConfig(width, height, background='#000000', backend='cpu'),
            features=True, camera=Camera(camera.K, width, height))

    def beside(self, rgb: UInt8, seen: Landmarks | None, pose: OperatorPose
               ) -> dict[str, np.ndarray]:
        """Return guide, render and truth of a frame."""
        frame = self._renderer.render(driven(
            self._avatar, np.zeros_like(self._avatar.betas), self._portrait, pose))
        assert frame.head_px is not None
        corner = np.rint((frame.head_px[::-1] - self._side / 2) / GRID) * GRID
        top, left = np.clip(corner, 0, np.subtract(self._size, self._side)).astype(int)
        window = slice(top, top + self._side), slice(left, left + self._side)
        if seen is None or seen.mask is None:
            alpha = np.zeros(rgb.shape[:2], np.float32)
        else:
            alpha = matte(rgb, seen.mask, seen.face)
        color = np.rint(255 * foreground(rgb, alpha) * alpha[..., None])
        render = _rgba(frame.rgb, frame.alpha)[window]
        return {'guide': guide(frame, window, self._avatar.features.shape[1]).astype(np.float16),
                'render': render, 'truth': registered(_rgba(color, alpha)[window], render)}


def _rgba(rgb: np.ndarray, alpha: Float32) -> UInt8:
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
