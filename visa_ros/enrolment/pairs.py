"""Moments of a clip beside what the avatar shows of them: what a personal shader learns from."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.enrolment.clip import Clip, Progress
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.rendering.driving import driven
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.guidance import guide
from visa_ros.shading.network import GRID
from visa_ros.types import GaussianAvatar, OperatorPose, UInt8

SEQUENCE = 8          # consecutive frames
_REACH_PX, _SMOOTH = 8.0, 1 / 24  # of registration: most, and its smoothness, of the window


def sequences(clip: Clip, first: int, last: int, count: int) -> list[list[int]]:
    """
    Return runs of frames that show the person, spread evenly over a part of a clip.

    Parameters
    ----------
    clip : Clip
    first, last : int
        The part: frames first to last - 1.
    count : int
        Runs at most.

    """
    runs = []
    for begin in np.linspace(first, last - SEQUENCE, count).astype(int):
        run = list(range(begin, begin + SEQUENCE))
        if all(clip.poses[number] is not None for number in run) and (
                not runs or run[0] > runs[-1][-1]):
            runs.append(run)
    return runs


def clip_pairs(clip: Clip, avatar: GaussianAvatar, portrait: OperatorPose,
               runs: Sequence[list[int]], config: CaptureConfig, window_px: int,
               features: int, progress: Progress) -> dict[str, np.ndarray]:
    """
    Return pairs in the layout of ``training.shader.pairs``, around the head.

    Parameters
    ----------
    clip : Clip
    avatar : GaussianAvatar
        Of one of its frames.
    portrait : OperatorPose
        As that frame was followed.
    runs : sequence of list of int
        Frames, all lists of one length.
    config : CaptureConfig
        Where the segmenter is.
    window_px, features : int
        As the shader is shown: side of the window, F.
    progress : callable

    """
    height, width = (side // GRID * GRID for side in (avatar.camera.height, avatar.camera.width))
    renderer = AvatarRenderer(avatar, RenderingConfig(width, height, '#000000'), features=True,
                              camera=avatar.camera)
    side = min(window_px, height, width)
    numbers = [number for run in runs for number in run]
    out: dict[str, list[np.ndarray]] = {'guide': [], 'render': [], 'truth': [], 'corner': []}
    with Landmarkers(config, 'still', mask=True) as landmarkers:
        for done, (number, rgb) in enumerate(clip.frames(set(numbers))):
            pose = clip.poses[number]
            assert pose is not None
            frame = renderer.render(driven(
                avatar, np.zeros_like(avatar.betas), portrait, pose))
            seen = landmarkers.detect(rgb, number)
            mask = (np.zeros(rgb.shape[:2], np.float32) if seen is None or seen.mask is None
                    else seen.mask)
            alpha = matte(rgb, mask, None if seen is None else seen.face)
            assert frame.head_px is not None
            left, top = np.clip(np.rint((frame.head_px - side / 2) / GRID) * GRID, 0,
                                (width - side, height - side)).astype(int)
            window = slice(top, top + side), slice(left, left + side)
            color = np.rint(255 * foreground(rgb, alpha) * alpha[..., None])
            out['truth'].append(np.dstack([color, np.rint(255 * alpha)]).astype(np.uint8)[window])
            out['render'].append(np.dstack([
                frame.rgb, np.rint(255 * frame.alpha)]).astype(np.uint8)[window])
            out['guide'].append(guide(frame, window, features).astype(np.float16))
            out['corner'].append(np.array([left, top]))
            progress('pairs', (done + 1) / len(numbers))
    return {name: np.stack(values).reshape(len(runs), -1, *values[0].shape)
            for name, values in out.items()}


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
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = flow_of.calc(grey[0], grey[1], None)
    weight = (np.minimum(render[..., 3], truth[..., 3]).astype(np.float32) / 255)[..., None]
    sigma_px = _SMOOTH * max(height, width)
    moved = cv2.GaussianBlur(flow * weight, (0, 0), sigma_px)
    share = cv2.GaussianBlur(weight, (0, 0), sigma_px)[..., None]
    smooth = moved / np.maximum(share, 1e-3)
    length = np.linalg.norm(smooth, axis=2, keepdims=True)
    smooth *= np.minimum(1, _REACH_PX / np.maximum(length, 1e-6))
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    return cv2.remap(truth, grid + smooth, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
