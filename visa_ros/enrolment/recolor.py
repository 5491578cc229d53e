"""Colours that the portrait hides and the clip shows: sides of head and neck, ears, teeth."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visa_ros.enrolment.pairs import Beside, Moment, registered, rgba_of
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
    return replace(avatar, colors=colors)


def _seen(means: Float32, frame: CoarseFrame, camera: Camera
          ) -> tuple[NDArray[np.bool_], tuple[np.ndarray, np.ndarray]]:
    """Return which points (N, 3) a frame shows, and each one's pixel: row, column."""
    places = means @ camera.K.T
    columns, rows = (np.floor(places[:, axis] / places[:, 2]).astype(int) for axis in (0, 1))
    inside = ((means[:, 2] > 0) & (rows >= 0) & (rows < camera.height) & (columns >= 0)
              & (columns < camera.width))
    pixels = rows.clip(0, camera.height - 1), columns.clip(0, camera.width - 1)
    return inside & (means[:, 2] < frame.depth[pixels] + _BEHIND_M), pixels
