"""What is behind the avatar on the screen: a picture, or nothing."""
from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np

from visa_ros.errors import InputError
from visa_ros.types import Float32, ShadedFrame, UInt8

TRANSPARENT = 'transparent'
_MAX_FILE_BYTES = 64 * 2**20
# Behind a transparent picture where a screen cannot be: web page, window, video, JPEG.
STAND_IN = '#2b3038'


def rgb_of(color: str) -> Float32:
    """Return '#rrggbb' as (3,) sRGB in [0, 1]."""
    channels = np.frombuffer(bytes.fromhex(color[1:]), np.uint8)
    return np.divide(channels, 255, dtype=np.float32)


def read_background(path: str, width: int, height: int) -> UInt8:
    """
    Return an image file as (height, width, 3) sRGB: scaled to cover the picture, cut evenly.

    Raises
    ------
    InputError
        It is no image, or too large.

    """
    try:
        with Path(path).expanduser().open('rb') as file:
            data = np.frombuffer(file.read(_MAX_FILE_BYTES + 1), np.uint8)
        if data.size > _MAX_FILE_BYTES:
            raise InputError(f'background: {path} has more than {_MAX_FILE_BYTES >> 20} MB; '
                             'scale it down')
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error) as error:
        raise InputError(f'background: the image {path} cannot be read ({error})') from error
    if image is None:
        raise InputError(f'background: {path} is no image that can be decoded; use a JPEG or PNG')
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(width, round(scale * image.shape[1])), max(height, round(scale * image.shape[0]))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1
                       else cv2.INTER_LINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(image[top:top + height, left:left + width], np.uint8)


class Background:
    """
    Put something behind pictures of the avatar that were drawn over black.

    All buffers are its own: nothing is allocated per frame.

    Parameters
    ----------
    what : str
        'transparent', or the path of an image file.
    width, height : int
        Of the pictures, pixels.

    Raises
    ------
    InputError
        The file is no image.

    """

    def __init__(self, what: str, width: int, height: int) -> None:
        if what == TRANSPARENT:
            self._behind = np.empty((height, width, 3), np.uint8)
            self._behind[:] = np.rint(255 * rgb_of(STAND_IN))
        else:
            self._behind = read_background(what, width, height)
        # Two, so that a picture stays as it is while the next one is made.
        self._pictures = [np.empty_like(self._behind) for _ in range(2)]
        self._rgba = ([np.empty((height, width, 4), np.uint8) for _ in range(2)]
                      if what == TRANSPARENT else None)
        self._share = np.empty((height, width), np.uint8)
        self._shares, self._seen = np.empty_like(self._behind), np.empty_like(self._behind)

    def applied(self, frame: ShadedFrame, alpha: Float32) -> ShadedFrame:
        """
        Return the frame with the background.

        Parameters
        ----------
        frame : ShadedFrame
            Over black.
        alpha : (H, W) float32
            Of what was drawn, in [0, 1].

        Returns
        -------
        ShadedFrame
            Its arrays are overwritten by the second call after this one.

        """
        self._pictures.reverse()
        rgb = self._pictures[0]
        # 255 (1 - alpha), then: what is behind, as far as it shines through.
        cv2.convertScaleAbs(alpha, self._share, alpha=-255, beta=255)
        cv2.merge([self._share] * 3, self._shares)
        cv2.multiply(self._behind, self._shares, rgb, scale=1 / 255)
        cv2.add(rgb, frame.rgb, rgb)
        if self._rgba is None:
            return ShadedFrame(rgb, frame.stamp_ns, frame.presence)
        self._rgba.reverse()
        rgba = self._rgba[0]
        cv2.bitwise_not(self._shares, self._shares)
        cv2.divide(frame.rgb, self._shares, self._seen, scale=255)
        cv2.bitwise_not(self._share, self._share)
        cv2.mixChannels([self._seen, self._share], [rgba], [0, 0, 1, 1, 2, 2, 3, 3])
        return ShadedFrame(rgb, frame.stamp_ns, frame.presence, rgba)


def over_stand_in(rgba: UInt8) -> UInt8:
    """Return a (H, W, 4) picture with straight alpha over ``STAND_IN``, (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    behind = 255 * rgb_of(STAND_IN)
    return cast(UInt8, np.rint(behind + alpha * (rgba[..., :3] - behind)).astype(np.uint8))
