"""A camera's raw or compressed buffer to RGB, by the encoding names of sensor_msgs."""
import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from visa_ros.errors import ImageError
from visa_ros.types import UInt8

_MAX_PIXELS = 64 * 2**20

Buffer = bytes | bytearray | memoryview | np.ndarray

# encoding -> (bytes a pixel, conversion of (H, W, bytes) to (H, W, 3) RGB)
_FORMATS: dict[str, tuple[int, Callable[[UInt8], UInt8]]] = {
    'rgb8': (3, np.ascontiguousarray),
    'bgr8': (3, lambda pixels: _convert(pixels, cv2.COLOR_BGR2RGB)),
    'yuv422_yuy2': (2, lambda pixels: _convert(pixels, cv2.COLOR_YUV2RGB_YUY2)),
    'yuyv': (2, lambda pixels: _convert(pixels, cv2.COLOR_YUV2RGB_YUY2)),
    'mono8': (1, lambda pixels: _convert(pixels, cv2.COLOR_GRAY2RGB)),
    'rgba8': (4, lambda pixels: _convert(pixels, cv2.COLOR_RGBA2RGB)),
}


def decode_image(encoding: str, width: int, height: int, step: int, data: Buffer) -> UInt8:
    """
    Convert the fields of a sensor_msgs/Image.

    Parameters
    ----------
    encoding : {'rgb8', 'bgr8', 'yuv422_yuy2', 'yuyv', 'mono8', 'rgba8'}
        YUV is BT.601, as webcams send it; alpha is left out.
    width, height : int
        Pixels.
    step : int
        Bytes a row, padding included.
    data : buffer
        At least ``step * height`` bytes.

    Returns
    -------
    (height, width, 3) uint8
        RGB, C-contiguous; for 'rgb8' without padding a view of ``data``.

    Raises
    ------
    ImageError
        The encoding is unknown, or the sizes do not fit together.

    """
    if encoding not in _FORMATS:
        raise ImageError(f"cannot read images with encoding {encoding!r:.40}; set the camera's "
                         f'driver to one of {", ".join(_FORMATS)}')
    pixel_bytes, convert = _FORMATS[encoding]
    if width < 1 or height < 1:
        raise ImageError(f'an image of {width}x{height} pixels has nothing to see')
    if step < width * pixel_bytes:
        raise ImageError(f"an '{encoding}' row of {width} pixels needs at least "
                         f'{width * pixel_bytes} bytes, but step is {step}')
    flat = np.frombuffer(data, np.uint8)
    if flat.size < step * height:
        raise ImageError(f'{height} rows of {step} bytes are {step * height} bytes, but the data '
                         f'has {flat.size}; the message was cut short')
    if pixel_bytes == 2 and width % 2:
        raise ImageError(f"'{encoding}' shares colour between pairs of pixels, so the width must "
                         f'be even, got {width}')
    rows = flat[:step * height].reshape(height, step)[:, :width * pixel_bytes]
    return convert(rows.reshape(height, width, pixel_bytes))


def decode_compressed(data: Buffer) -> UInt8:
    """
    Decode the data of a sensor_msgs/CompressedImage: JPEG or PNG.

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    ImageError
        It is neither, is damaged, or has more than 64 megapixels.

    """
    flat = np.frombuffer(data, np.uint8)
    try:
        # OpenCV would try twenty formats, and allocate what a header claims.
        with Image.open(io.BytesIO(flat.data), formats=('JPEG', 'PNG')) as image:
            width, height = image.size
    except Exception as error:  # Pillow raises many kinds
        raise ImageError(f'{flat.size} bytes of a compressed image are no JPEG or PNG that can be '
                         'decoded; frame skipped') from error
    if width * height > _MAX_PIXELS:
        raise ImageError(f'a compressed image of {width}x{height} pixels is too large; frame '
                         'skipped')
    try:
        rgb = cv2.imdecode(flat, cv2.IMREAD_COLOR_RGB) if flat.size else None
    except cv2.error as error:  # such as a header that claims more than OpenCV's pixel limit
        raise ImageError(f'a compressed image cannot be decoded ({error.err})') from error
    if rgb is None:
        raise ImageError(f'{flat.size} bytes of a compressed image are no JPEG or PNG that can be '
                         'decoded; frame skipped')
    return np.asarray(rgb, np.uint8)


def _convert(pixels: UInt8, code: int) -> UInt8:
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
