"""The marks in pictures: not seen, read after what happens to pictures, not read where none is."""
import cv2
import numpy as np
import pytest

from visa_ros import cli, samples
from visa_ros.errors import InputError
from visa_ros.evaluation.watermark import _write_h264
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.stage import AvatarStage
from visa_ros.trust.watermark import DIGITS, Watermark, WatermarkConfig, WatermarkReader

NAME = '0123456789abcdef' * 4


@pytest.fixture(scope='module')
def picture():
    """A person before a plain wall, as an avatar is shown: the astronaut's head and shoulders."""
    photo = samples.portrait()
    inside = np.zeros(photo.shape[:2], np.uint8)
    cv2.ellipse(inside, (220, 300), (190, 290), 0, 0, 360, 255, cv2.FILLED)
    return np.where(inside[..., None] > 0, photo, np.uint8([43, 48, 56]))


@pytest.fixture(scope='module')
def marked(picture):
    rgb = picture.copy()
    Watermark(NAME).mark(rgb)
    return rgb


def read(*pictures):
    reader = WatermarkReader()
    for rgb in pictures:
        reader.add(np.ascontiguousarray(rgb))
    return reader.avatar_id()


def jpeg(rgb, quality):
    _, data = cv2.imencode('.jpg', rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def test_the_mark_is_read_and_is_small(picture, marked):
    assert read(marked) == NAME[:DIGITS]
    change = marked.astype(int) - picture
    assert np.abs(change).max() <= 5
    assert 10 * np.log10(255**2 / np.square(change).mean()) > 42
    assert not change[:, 440:].any(), 'the plain wall stays as it is'


@pytest.mark.parametrize('spoil', [
    lambda rgb: jpeg(rgb, 50),
    lambda rgb: cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    lambda rgb: cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR),
    lambda rgb: cv2.resize(rgb, (1920, 1080), interpolation=cv2.INTER_CUBIC),
    lambda rgb: np.clip(rgb * 0.7 + 20, 0, 255).astype(np.uint8),
    lambda rgb: np.clip(rgb + np.random.default_rng(0).normal(0, 4, rgb.shape), 0, 255)
    .astype(np.uint8),
    lambda rgb: cv2.GaussianBlur(rgb, (5, 5), 1)],
    ids=['JPEG q50', 'half', 'half, linear', 'full HD', 'darker', 'noise', 'blur'])
def test_the_mark_is_read_after(marked, spoil):
    assert read(spoil(marked)) == NAME[:DIGITS]


def test_several_pictures_say_what_one_does_not(picture):
    watermark = Watermark(NAME)
    moved = [np.roll(picture, shift, 1) for shift in range(0, 90, 6)]
    for rgb in moved:
        watermark.mark(rgb)
    small = [jpeg(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), 40)
             for rgb in moved]
    assert None in [read(rgb) for rgb in small]
    assert read(*small) == NAME[:DIGITS]


def test_nothing_is_read_where_nothing_is(picture):
    rng = np.random.default_rng(1)
    for rgb in (picture, samples.portrait(), samples.photo('obama'), np.zeros_like(picture),
                np.full_like(picture, 255), rng.integers(0, 256, picture.shape, np.uint8),
                picture[:1, :1], picture[:37, :1000]):
        assert read(rgb) is None
    assert WatermarkReader().avatar_id() is None


def test_a_picture_without_content_is_not_marked():
    plain = np.full((300, 400, 3), 99, np.uint8)
    Watermark(NAME).mark(plain)
    assert (plain == 99).all()


def test_a_stage_marks_what_it_shows(astronaut):
    avatar, _ = astronaut
    stage = AvatarStage(avatar, RenderingConfig(512, 512))
    picture = stage.shade(stage.frame())
    assert read(picture.rgb) == stage.avatar_id[:DIGITS]
    stage.withdraw()
    assert read(stage.shade(stage.frame()).rgb) is None
    plain = AvatarStage(avatar, RenderingConfig(512, 512),
                        watermark=WatermarkConfig(invisible=False))
    unmarked = plain.shade(plain.frame()).rgb.copy()
    assert read(unmarked) is None
    label = AvatarStage(avatar, RenderingConfig(512, 512),
                        watermark=WatermarkConfig(invisible=False, visible='AVATAR'))
    changed = np.argwhere((label.shade(label.frame()).rgb != unmarked).any(2))
    assert len(changed) > 100
    assert (changed.min(0) > (480, 420)).all(), 'in the lower right corner'


def test_the_visible_mark_is_a_short_line():
    for text in ('x' * 41, 'zwei\nZeilen', 'für Ada'):
        with pytest.raises(InputError, match='visible'):
            WatermarkConfig(visible=text)


def test_the_command_reads_pictures_and_videos(picture, marked, tmp_path, capsys):
    for name in ('marked.png', 'marked.jpg'):
        cv2.imwrite(str(tmp_path / name), marked[..., ::-1])
        assert cli.main(['verify', str(tmp_path / name)]) == 0
        assert NAME[:DIGITS] in capsys.readouterr().out
    _write_h264(tmp_path / 'clip.mp4', [marked] * 10, 1_000_000)
    assert cli.main(['verify', str(tmp_path / 'clip.mp4')]) == 0
    assert 'pictures     10, of which' in capsys.readouterr().out
    cv2.imwrite(str(tmp_path / 'plain.png'), picture[..., ::-1])
    assert cli.main(['verify', str(tmp_path / 'plain.png')]) == 1
    assert 'no mark' in capsys.readouterr().err
    assert cli.main(['verify', __file__]) == 1
    assert cli.main(['verify', str(tmp_path / 'none.png')]) == 1
