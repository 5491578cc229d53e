import cv2
import numpy as np
import pytest

from visa_ros import samples
from visa_ros.capture.encodings import decode_compressed, decode_image
from visa_ros.errors import ImageError

PHOTO = samples.portrait()[:300, :400]  # wider than high, so that swapped axes show
PHOTO.flags.writeable = False


def with_padding(rows: np.ndarray, padding: int) -> tuple[int, bytes]:
    """Return step and data of rows (H, bytes) followed by padding each."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return padded.shape[1], padded.tobytes()


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize(('encoding', 'encode'), [
    ('rgb8', lambda rgb: rgb),
    ('bgr8', lambda rgb: rgb[..., ::-1]),
    ('rgba8', lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 99, np.uint8)])),
])
def test_colour_comes_back_exactly(encoding, encode, padding):
    step, data = with_padding(encode(PHOTO).reshape(300, -1), padding)
    rgb = decode_image(encoding, 400, 300, step, data)
    np.testing.assert_array_equal(rgb, PHOTO)
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize('padding', [0, 16])
@pytest.mark.parametrize('encoding', ['yuv422_yuy2', 'yuyv'])
def test_yuyv_comes_back_but_for_its_colour_resolution(encoding, padding):
    smooth = cv2.GaussianBlur(PHOTO, (0, 0), 2)
    step, data = with_padding(
        cv2.cvtColor(smooth, cv2.COLOR_RGB2YUV_YUY2).reshape(300, -1), padding)
    rgb = decode_image(encoding, 400, 300, step, data)
    assert rgb.shape == PHOTO.shape
    assert np.abs(rgb.astype(int) - smooth).mean() < 1.5


def test_grey_is_repeated():
    grey = np.ascontiguousarray(PHOTO[..., 1])
    rgb = decode_image('mono8', 400, 300, 400, grey.tobytes())
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_compressed_comes_back_as_rgb(suffix):
    data = cv2.imencode(suffix, PHOTO[..., ::-1])[1].tobytes()
    rgb = decode_compressed(data)
    assert rgb.shape == PHOTO.shape
    assert np.abs(rgb.astype(int) - PHOTO).mean() < (2 if suffix == '.jpg' else 1e-9)


@pytest.mark.parametrize(('arguments', 'message'), [
    (('bayer_rggb8', 4, 4, 4, bytes(16)), "'bayer_rggb8'.*rgb8, bgr8, yuv422_yuy2"),
    (('rgb8', 4, 4, 11, bytes(99)), 'at least 12 bytes, but step is 11'),
    (('rgb8', 4, 4, 12, bytes(47)), '48 bytes, but the data has 47'),
    (('rgb8', 0, 4, 0, b''), '0x4 pixels'),
    (('yuv422_yuy2', 3, 2, 6, bytes(12)), 'must be even, got 3'),
])
def test_wrong_sizes_are_named(arguments, message):
    with pytest.raises(ImageError, match=message):
        decode_image(*arguments)


@pytest.mark.parametrize('data', [b'', b'no image', cv2.imencode('.jpg', PHOTO)[1].tobytes()[:90]])
def test_damaged_compressed_image(data):
    with pytest.raises(ImageError, match='compressed image'):
        decode_compressed(data)
