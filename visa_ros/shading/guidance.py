"""What the shader is told of a drawn frame, in its own terms."""
from __future__ import annotations

import cv2
import numpy as np

from visa_ros.conventions import FEATURE_STRIDE, TURNING_CHANNELS
from visa_ros.types import CoarseFrame, Float32, UInt8

HISTORY = 2          # own pictures that the network is shown
PIXEL_CHANNELS = 3 * (2 + HISTORY)  # x_t, render, history
SIGMA = 0.3          # of the noise on the render, whose colours are in [-1, 1]
# Of the guide, beside the features: alpha, depth, and how surfaces have turned.
SHAPE_CHANNELS = 2 + TURNING_CHANNELS
CHANGED = 2             # of them, how much of a surface the portrait does not tell
SIDEWAYS = (3, 6)       # those that change their sign where a picture is mirrored: x of normals

_DEPTH_RANGE_M = 0.3  # in front of and behind the person's mean depth: -1 to 1


def guide(frame: CoarseFrame, features: int) -> Float32:
    """
    Return alpha, depth, turning and features in a frame's window.

    Parameters
    ----------
    frame : CoarseFrame
        With a window.
    features : int
        F; an avatar that has none gets zeros.

    Returns
    -------
    (9 + F, h / 4, w / 4) float32
        Alpha in [0, 1]; depth in [-1, 1] about the mean depth of what is shown, 0 beside it;
        what ``rendering.turning`` says; features.  Without NaN, whatever the frame holds.

    """
    window = frame.window
    assert window
    height, width = (len(range(side.start, side.stop, FEATURE_STRIDE)) for side in window)
    out = np.zeros((SHAPE_CHANNELS + features, height, width), np.float32)
    alpha = np.nan_to_num(frame.alpha[window])
    # A mean over what is shown alone: depth is 0 beside it.
    seen, weighted = (cv2.resize(value, (width, height), interpolation=cv2.INTER_AREA)
                      for value in (alpha, alpha * np.nan_to_num(frame.depth[window])))
    out[0] = seen
    if seen.sum() > 0:
        depth = weighted / np.maximum(seen, 1e-3) - weighted.sum() / seen.sum()
        out[1] = np.clip(depth / _DEPTH_RANGE_M, -1, 1) * seen
    if frame.turning is not None:
        out[2:SHAPE_CHANNELS] = np.nan_to_num(frame.turning).transpose(2, 0, 1)
    if frame.features is not None and features == frame.features.shape[2]:
        out[SHAPE_CHANNELS:] = np.nan_to_num(frame.features).transpose(2, 0, 1)
    return out


def to_network(rgb: UInt8) -> Float32:
    """Return (..., H, W, 3) sRGB bytes as (..., 3, H, W) in [-1, 1]."""
    return np.moveaxis(rgb, -1, -3).astype(np.float32) / 127.5 - 1


def to_bytes(colors: Float32) -> UInt8:
    """Return (3, H, W) in [-1, 1] as (H, W, 3) sRGB bytes."""
    return np.rint((colors.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
