import io
import re

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from visa_ros import samples
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.errors import PortraitError, ResourceError
from visa_ros.evaluation import portrait_variants as variants
from visa_ros.reconstruction import portrait
from visa_ros.reconstruction.cells import detail_cells
from visa_ros.reconstruction.matte import foreground, matte, solid
from visa_ros.reconstruction.portrait import (
    find_person,
    head_yaw_deg,
    read_portrait,
    to_working_size,
)
from visa_ros.reconstruction.zbuffer import rasterize_mesh
from visa_ros.types import Camera


def encoded(image, file_format='PNG', **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope='module')
def astronaut():
    return samples.portrait()


def test_common_formats_are_read(astronaut, tmp_path):
    image = Image.fromarray(astronaut)
    np.testing.assert_array_equal(read_portrait(encoded(image)), astronaut)
    path = tmp_path / 'me.png'
    path.write_bytes(encoded(image))
    np.testing.assert_array_equal(read_portrait(path), astronaut)
    np.testing.assert_array_equal(read_portrait('demo'), astronaut)
    grey = read_portrait(encoded(image.convert('L')))
    assert grey.shape == (512, 512, 3)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    for mode in ('P', 'CMYK', 'I;16'):
        file_format = 'TIFF' if mode == 'CMYK' else 'PNG'
        source = image.convert('L') if mode == 'I;16' else image
        assert read_portrait(encoded(source.convert(mode), file_format)).shape == (512, 512, 3)


def test_transparent_parts_are_grey(astronaut):
    image = Image.fromarray(astronaut)
    image.putalpha(Image.fromarray(np.uint8(255) * (np.indices((512, 512))[1] > 99).astype('u1')))
    rgb = read_portrait(encoded(image))
    assert (rgb[:, :100] == 128).all()
    np.testing.assert_array_equal(rgb[:, 100:], astronaut[:, 100:])


def test_a_photo_taken_sideways_is_turned(astronaut):
    image = Image.fromarray(np.rot90(astronaut))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    rgb = read_portrait(encoded(image, exif=exif))
    np.testing.assert_array_equal(rgb, astronaut)


def test_large_photos_are_scaled_down_and_bombs_refused(astronaut):
    large = Image.fromarray(np.zeros((4500, 6000, 3), np.uint8))
    for data in (encoded(large, 'JPEG'), encoded(large, 'PNG')):
        height, width, _ = read_portrait(data).shape
        assert height * width <= portrait.MAX_PIXELS
        assert abs(width / height - 4 / 3) < 0.01
    with pytest.raises(PortraitError, match='9400 x 9400'):
        read_portrait(encoded(Image.new('1', (9400, 9400))))
    with pytest.raises(PortraitError, match='bomb'):
        read_portrait(encoded(Image.new('1', (20_000, 20_000))))


def test_what_is_no_portrait_is_refused_with_a_reason(astronaut, tmp_path):
    with pytest.raises(PortraitError, match='cannot be decoded'):
        read_portrait(b'GIF89a, or so it says')
    with pytest.raises(PortraitError, match='cannot be decoded'):
        read_portrait(encoded(Image.fromarray(astronaut))[:5000])
    with pytest.raises(ResourceError, match=r'none\.jpg'):
        read_portrait(tmp_path / 'none.jpg')
    with pytest.raises(PortraitError, match='16 x 16 pixels'):
        to_working_size(astronaut[:16, :16], 512)
    with pytest.raises(PortraitError, match='uint8 RGB'):
        to_working_size(astronaut / 255, 512)


def test_working_size_keeps_the_framing(astronaut):
    assert to_working_size(astronaut[:300], 256).shape == (150, 256, 3)
    assert to_working_size(astronaut[:300, :200], 512).shape == (300, 200, 3)  # never larger
    assert to_working_size(astronaut[..., 0], 256).shape == (256, 256, 3)
    clear = np.dstack([astronaut, np.zeros((512, 512), np.uint8)])
    assert (to_working_size(clear, 512) == 128).all()


def test_the_person_must_be_one_and_large(astronaut):
    with pytest.raises(PortraitError, match='no face'):
        find_person(astronaut[300:].copy())
    with pytest.raises(PortraitError, match='no face'):
        find_person(np.full((256, 256, 3), 90, np.uint8))
    two = np.concatenate([astronaut[:, 60:400], astronaut[:, 60:400]], 1)
    with pytest.raises(PortraitError, match='several people'):
        find_person(to_working_size(two, 512))
    small = np.full((512, 512, 3), 90, np.uint8)
    small[250:400, 180:330] = cv2.resize(astronaut, (150, 150), interpolation=cv2.INTER_AREA)
    with pytest.raises(PortraitError, match=r'no face|pixels high'):
        find_person(small)


@pytest.mark.parametrize('size', [200, 256, 300])
def test_the_mask_of_a_small_head_is_looked_at_closely(astronaut, size):
    small = cv2.resize(astronaut, (size, size), interpolation=cv2.INTER_AREA)
    picture = np.full((512, 512, 3), (200, 190, 185), np.uint8)
    picture[100:100 + size, 150:150 + size] = small
    truth = cv2.resize(find_person(astronaut).mask, (size, size), interpolation=cv2.INTER_AREA)
    head = np.s_[:size * 200 // 512, size * 120 // 512:size * 320 // 512]
    with Landmarkers(CaptureConfig(), 'still', mask=True) as landmarkers:
        once = landmarkers.detect(picture, 0).mask
    error, of_one_look = (
        np.abs(mask[100:100 + size, 150:150 + size] - truth)[head].mean()
        for mask in (find_person(picture).mask, once))
    assert error < 0.75 * of_one_look


def test_a_head_in_profile_is_refused():
    man = to_working_size(skimage.data.camera(), 512)  # looks to the right, through a camera
    with pytest.raises(PortraitError, match=r"turned \d\d degrees to the picture's right, at most "
                                            '40.*looks into the camera') as refusal:
        find_person(man)
    assert 45 < int(re.search(r'\d+', str(refusal.value))[0]) < 80


def test_a_face_that_the_picture_cuts_off_is_refused(astronaut):
    assert find_person(np.ascontiguousarray(astronaut[:, 165:])).face[:, 0].min() > 5
    with pytest.raises(PortraitError, match=r'cuts off.*whole head'):
        find_person(np.ascontiguousarray(astronaut[:, 205:]))
    with pytest.raises(PortraitError, match=r'cuts off.*whole head'):
        find_person(np.ascontiguousarray(astronaut[105:]))


@pytest.mark.parametrize('vary', [variants.grey, variants.dark, variants.overexposed,
                                  variants.tilted, variants.sunglasses, variants.masked])
def test_portraits_that_are_not_ideal_are_taken(astronaut, vary):
    plain, person = find_person(astronaut), find_person(vary(astronaut))
    if vary is not variants.tilted:
        height = np.ptp(plain.face[:, 1])
        away = np.linalg.norm(person.face - plain.face, axis=1)
        assert np.median(away) < 0.04 * height
    assert abs(head_yaw_deg(person)) < 20


def test_matte_and_foreground_leave_the_background_behind(astronaut):
    person = find_person(astronaut)
    alpha = matte(astronaut, person.mask)
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert 0.3 < (alpha > 0.5).mean() < 0.55
    face = person.face.astype(int)
    assert (alpha[face[:, 1], face[:, 0]] > 0.9).mean() > 0.98
    assert (alpha[:100, 330:] == 0).all()      # the shuttle
    assert (alpha[:200, :60] == 0).all()       # the flag
    assert ((alpha > 0.02) & (alpha < 0.98)).mean() < 0.03
    colors = foreground(astronaut, alpha)
    np.testing.assert_allclose(colors[solid(alpha)], astronaut[solid(alpha)] / 255, atol=0.02)
    # Beside the hair the wall is bright and the hair is not.
    rim = (alpha[:100] > 0.05) & (alpha[:100] < 0.9)
    assert rim.sum() > 50
    assert colors[:100][rim].mean() < astronaut[:100][rim].mean() / 255


def test_cells_cover_the_mask_once_and_are_small_at_detail():
    image = np.zeros((30, 43, 1), np.float32)
    image[:, 20:] = 1
    image[8, 8] = 1
    mask = np.ones((30, 43), bool)
    mask[:, 30:] = False
    cells = detail_cells(image, mask, np.ones((30, 43), np.float32), 100)
    assert len(cells.x) <= 100
    painted = np.zeros((32, 44), int)
    for x, y, size in zip(cells.x, cells.y, cells.size, strict=True):
        painted[y:y + size, x:x + size] += 1
    assert (painted[:30, :30] == 1).all()
    assert painted.max() == 1
    at_dot = (abs(cells.centers - 8.5) < cells.size[:, None] / 2 + 0.1).all(1)
    assert cells.size[at_dot].tolist() == [1]
    assert cells.size[cells.x < 4].min() == 4  # nothing is gained there
    np.testing.assert_array_equal(cells.mean(image)[at_dot], [[1]])


def test_zbuffer_sees_the_nearest_triangle_and_its_barycentrics():
    camera = Camera.from_focal(100, 80, 60)
    rng = np.random.default_rng(3)
    vertices = (rng.random((60, 3)) * (0.8, 0.6, 1) + (-0.4, -0.3, 1)).astype(np.float32)
    faces = np.arange(60, dtype=np.int32).reshape(-1, 3)
    seen = rasterize_mesh(vertices, faces, camera)
    hit = seen.triangle >= 0
    assert 0.2 < hit.mean() < 1
    assert (np.isfinite(seen.depth) == hit).all()
    points = np.einsum('nk,nkc->nc', seen.barycentric[hit], vertices[faces[seen.triangle[hit]]])
    np.testing.assert_allclose(points[:, 2], seen.depth[hit], rtol=1e-5)
    rows, columns = np.nonzero(hit)
    np.testing.assert_allclose(camera.project(points), np.stack([columns, rows], 1) + 0.5,
                               atol=1e-3)
    for triangle in range(20):  # alone, none is nearer than what was found
        alone = rasterize_mesh(vertices, faces[triangle:triangle + 1], camera)
        assert (alone.depth >= seen.depth).all()
