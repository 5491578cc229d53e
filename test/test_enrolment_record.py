"""A camera films for enrolment and says what to do; a clip plays the camera."""
import numpy as np
import pytest

from visa_ros import samples
from visa_ros.capture.source import SourceConfig, read_video
from visa_ros.cli import main
from visa_ros.enrolment.record import PROMPTS, Prompt, prompted, record
from visa_ros.errors import ResourceError


class Screen:
    """Keeps what it is shown."""

    def __init__(self):
        self.pictures = []
        self.closed = False

    def show(self, frame):
        self.pictures.append(frame.rgb)

    def close(self):
        self.closed = True


def camera():
    return SourceConfig(str(samples.video('cap13')), loop=False)


def test_what_the_camera_sees_is_recorded_without_the_words(tmp_path):
    path, screen, said = tmp_path / 'clip.mp4', Screen(), []
    record(camera(), path, (Prompt('Look here', 0.6), Prompt('Now there', 0.6)), screen,
           lambda text, share: said.append((text, share)))
    clip = [rgb for rgb, _ in read_video(path)]
    assert len(clip) > 15
    first = next(rgb for rgb, _ in read_video(samples.video('cap13')))
    assert np.abs(clip[0].astype(int) - first).mean() < 4
    assert screen.closed
    shown = screen.pictures[0]
    assert shown[:20].max() < 255
    assert np.abs(shown[100:, ::-1].astype(int) - first[100:]).mean() < 4  # a mirror
    assert [text for text, share in said if share == 1.0] == ['Look here', 'Now there']


def test_words_fit_the_picture_and_the_bar_grows():
    grey = np.full((480, 640, 3), 128, np.uint8)
    for prompt in PROMPTS:
        picture = prompted(grey, prompt.text, 0.5)
        light = (picture[:60] > 200).all(2)  # of the words
        assert light.any()
        assert not light[:, :8].any()
        assert not light[:, -8:].any()
        bar = (picture[66] == (255, 180, 70)).all(1)
        assert bar[:300].all()
        assert not bar[340:].any()
    assert (grey == 128).all()
    assert 30 <= sum(prompt.seconds for prompt in PROMPTS) <= 60


def test_a_camera_that_goes_away_is_told(tmp_path, grey_video):
    source = SourceConfig(str(grey_video(5)), loop=False)
    with pytest.raises(ResourceError, match=r'went away .*has ended'):
        record(source, tmp_path / 'clip.mp4', (Prompt('Hold', 1),))


def test_the_command_says_what_is_wrong_with_the_camera(tmp_path, capsys):
    assert main(['enroll', '--camera', '/dev/video99', '--folder', str(tmp_path)]) == 1
    assert 'there is no camera /dev/video99' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['enroll'])
    assert 'VIDEO' in capsys.readouterr().err
