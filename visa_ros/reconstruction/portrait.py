"""Reading a portrait, and refusing what no avatar can be made of before any work is done."""
from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from visa_ros import samples
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.landmarks import Landmarks
from visa_ros.errors import PortraitError, ResourceError
from visa_ros.types import Float32, UInt8

MIN_SIDE_PX = 128
MIN_FACE_PX = 40      # at working size; below it eyes and lips are a few pixels
MAX_OTHER_FACE = 0.5  # of the person's own: smaller ones are in the background
MAX_CUT_OFF = 0.05    # share of the face's landmarks that are outside the picture
MAX_YAW_DEG = 40      # beyond it half of the face is not in the picture
# How far around the face is its head, in the face's heights; of the picture: needs no closer look.
_HEAD_REACH, _LARGE = 1.4, 0.8
MAX_FILE_BYTES = 64 * 2**20
# Larger pictures are scaled down; beyond the second bound decoding alone is an attack.
MAX_PIXELS = 20_000_000
MAX_DECODED_PIXELS = 80_000_000


def read_portrait(source: str | Path | bytes) -> UInt8:
    """
    Decode an image file: any common format, greyscale and alpha too, turned as EXIF says.

    Parameters
    ----------
    source : path or bytes
        The file, or its content; 'demo' is the sample portrait.

    Returns
    -------
    (H, W, 3) uint8
        sRGB; transparent parts are grey; at most 20 megapixels.

    Raises
    ------
    PortraitError
        It is not an image, is damaged, or is far too large.
    ResourceError
        The file cannot be read.

    """
    if source == 'demo':
        return samples.portrait()
    name = 'the portrait'
    if isinstance(source, str | Path):
        name = f'the portrait {source}'
        try:
            with Path(source).open('rb') as file:
                source = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ResourceError(f'cannot read {name} ({error.strerror})') from error
    if len(source) > MAX_FILE_BYTES:
        raise PortraitError(f'{name} has more than {MAX_FILE_BYTES >> 20} MB; scale it down')
    try:
        with Image.open(io.BytesIO(source)) as image:
            if image.width * image.height > MAX_DECODED_PIXELS:
                raise PortraitError(f'{name} has {image.width} x {image.height} pixels; scale it '
                                    'down to 20 megapixels or less')
            image.draft('RGB', (5000, 4000))  # JPEG decodes straight to a smaller size
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail(_bounded(upright.size), Image.Resampling.LANCZOS, reducing_gap=2)
            if 'A' in upright.getbands() or 'transparency' in upright.info:
                upright = upright.convert('RGBA')
                grey = Image.new('RGBA', upright.size, (128, 128, 128))
                upright = Image.alpha_composite(grey, upright)
            return np.array(upright.convert('RGB'))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, PortraitError):
            raise
        raise PortraitError(f'{name} cannot be decoded ({error}); give a JPEG or PNG photo of '
                            'one person') from error


def to_working_size(image: np.ndarray, long_side: int) -> UInt8:
    """
    Check an image array and scale it down; the framing stays, nothing is scaled up.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8
        Grey, RGB or RGB with alpha.
    long_side : int
        Pixels.

    Raises
    ------
    PortraitError
        It is not such an array, or is smaller than 128 pixels.

    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (
            image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise PortraitError(f'a portrait must be (H, W, 3) uint8 RGB, got {image.shape} '
                            f'{image.dtype}; read the file with read_portrait')
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise PortraitError(f'the portrait has {image.shape[1]} x {image.shape[0]} pixels; '
                            f'at least {MIN_SIDE_PX} on each side are needed')
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 128 * (255 - alpha)) // 255).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
    scale = long_side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


def _bounded(size: tuple[int, int]) -> tuple[int, int]:
    shrink = min(1, (MAX_PIXELS / (size[0] * size[1])) ** 0.5)
    return int(size[0] * shrink), int(size[1] * shrink)


def find_person(rgb: UInt8, trackers: CaptureConfig | None = None) -> Landmarks:
    """
    Find the one person of a portrait, with face and mask.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        At working size.
    trackers : CaptureConfig, optional
        Where the trackers' models are.

    Raises
    ------
    PortraitError
        There is no face, one that is small, cut off or averted, or a second of similar size.

    """
    with Landmarkers(trackers or CaptureConfig(), 'still', mask=True) as landmarkers:
        person = landmarkers.detect(rgb, 0)
        people = landmarkers.people
        if person is None or person.face is None or person.mask is None:
            raise PortraitError('no face was found in the portrait; give a photo of one person, '
                                'the uncovered face towards the camera, head and shoulders in the '
                                'picture')
        height = np.ptp(person.face[:, 1])
        if people > 1:
            other = landmarkers.detect(_without(rgb, person), 1)
            if (other is not None and other.face is not None
                    and np.ptp(other.face[:, 1]) > MAX_OTHER_FACE * height):
                raise PortraitError('the portrait shows several people; crop the photo to one')
        if height < MIN_FACE_PX:
            raise PortraitError(f'the face is {height:.0f} pixels high once the portrait is '
                                f'scaled down, at least {MIN_FACE_PX} are needed; crop the photo '
                                'to head and shoulders')
        outside = ((person.face < 0) | (person.face >= (person.width, person.height))).any(1)
        if outside.mean() > MAX_CUT_OFF:
            raise PortraitError('the picture cuts off a part of the face; give a photo with the '
                                'whole head in it')
        yaw = head_yaw_deg(person)
        if abs(yaw) > MAX_YAW_DEG:
            raise PortraitError(f'the head is turned {abs(yaw):.0f} degrees to the '
                                f"picture's {'right' if yaw > 0 else 'left'}, at most "
                                f'{MAX_YAW_DEG} can be used; give a photo that looks into the '
                                'camera')
        return replace(person, mask=_mask_with_head(landmarkers, rgb, person))


def _mask_with_head(landmarkers: Landmarkers, rgb: UInt8, person: Landmarks) -> Float32:
    """
    Return the person's mask, around the head the mean of it and of that of the head alone.

    The segmenter works at 256 x 256: it takes what is beside a small head for hair, but is not
    always better at a large one.
    """
    assert person.face is not None
    assert person.mask is not None
    half = _HEAD_REACH * np.ptp(person.face[:, 1])
    center = person.face.mean(0)
    left, top = np.maximum(center - half, 0).astype(int)
    right, bottom = np.minimum(center + half, (person.width, person.height)).astype(int)
    if max(right - left, bottom - top) > _LARGE * max(person.width, person.height):
        return person.mask
    head = np.s_[top:bottom, left:right]
    closer = landmarkers.detect(np.ascontiguousarray(rgb[head]), 2)
    if closer is None or closer.mask is None:
        return person.mask
    fade = int(half / 6)
    weight = np.zeros_like(person.mask)
    weight[top + fade:bottom - fade, left + fade:right - fade] = 0.5
    weight = np.asarray(cv2.blur(weight, (2 * fade + 1,) * 2), np.float32)
    mask = person.mask.copy()
    mask[head] += weight[head] * (closer.mask - mask[head])
    return mask


def head_yaw_deg(person: Landmarks) -> float:
    """
    Return how far a face is turned away from whom it is seen by, positive to the picture's right.

    On synthetic people it is within 5 degrees (standard deviation) up to 40.
    """
    assert person.head_matrix is not None
    across, _, towards = person.head_matrix[:3, 2]  # MediaPipe's face looks along its z
    return float(np.degrees(np.arctan2(across, towards)))


def _without(rgb: UInt8, person: Landmarks) -> UInt8:
    """Paint the person grey."""
    assert person.mask is not None
    size = max(rgb.shape) // 25
    hidden = cv2.dilate(person.mask, np.ones((size, size), np.uint8)) > 0.2
    return np.where(hidden[..., None], np.uint8(128), rgb)
