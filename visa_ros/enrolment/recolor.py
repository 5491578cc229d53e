"""Colours that the portrait hides and the clip shows: sides of head and neck, ears, teeth."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visa_ros.enrolment.pairs import Beside, Moment, registered, rgba_of
from visa_ros.reconstruction.rounding import rounded
from visa_ros.reconstruction.zbuffer import nearest_pixels
from visa_ros.types import Camera, CoarseFrame, Float32, GaussianAvatar

_BEHIND_M = 0.015     # behind what is drawn: a Gaussian is hidden
_OPAQUE = 250         # alpha, of 255, where a pixel is of the person alone
_LEAST_MOMENTS = 3    # that show a Gaussian, or its colour stays
_EVERY = 4            # of the moments is looked at: neighbours show the same


def recolored(avatar: GaussianAvatar, beside: Beside, moments: Sequence[Moment]
              ) -> GaussianAvatar:
    """
    Return the avatar with colours from the clip where its portrait shows none.

    A Gaussian that the portrait hides takes the median of what the clip shows where it is drawn,
    over the moments that show it.  What the portrait shows stays: there it is sharper than a
    median.

    Parameters
    ----------
    avatar : GaussianAvatar
    beside : Beside
        Draws it.
    moments : sequence of Moment

    """
    frame, means = beside.draw(beside.portrait)
    hidden = np.flatnonzero(~_seen(means, frame, beside.camera)[0])
    samples = []
    for moment in moments[::_EVERY]:
        frame, means = beside.draw(moment.pose)
        height, width = frame.alpha.shape
        picture = registered(moment.rgba[:height, :width], rgba_of(frame.rgb, frame.alpha))
        seen, pixels = _seen(means[hidden], frame, beside.camera)
        own = picture[pixels].astype(np.float16)
        own[~seen | (own[:, 3] < _OPAQUE)] = np.nan
        samples.append(own[:, :3])
    stacked = np.stack(samples)
    known = (~np.isnan(stacked[..., 0])).sum(0) >= _LEAST_MOMENTS
    colors = avatar.colors.copy()
    colors[hidden[known]] = np.nanmedian(stacked[:, known].astype(np.float32), axis=0) / 255
    return rounded(replace(avatar, colors=colors))


def _seen(means: Float32, frame: CoarseFrame, camera: Camera
          ) -> tuple[NDArray[np.bool_], tuple[np.ndarray, np.ndarray]]:
    """Return which points (N, 3) a frame shows, and each one's pixel: row, column."""
    places = camera.project(means)
    columns, rows = nearest_pixels(places, camera)
    inside = ((means[:, 2] > 0) & (places >= 0).all(1)
              & (places < (camera.width, camera.height)).all(1))
    return inside & (means[:, 2] < frame.depth[rows, columns] + _BEHIND_M), (rows, columns)
