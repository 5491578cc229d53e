"""H.264: real pictures coded one by one, decoded again and compared."""
from itertools import islice

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from visa_ros import samples
from visa_ros.capture.source import read_video
from visa_ros.display.config import VideoConfig
from visa_ros.display.h264 import H264Encoder
from visa_ros.errors import InputError

_STEP_NS = 40_000_000
_SPS, _PPS, _IDR = 7, 8, 5


@pytest.fixture(scope='module')
def pictures():
    """A second of a man who moves, 400x300, BGR."""
    return [rgb[..., ::-1].copy() for rgb, _ in islice(read_video(samples.video('cap12')), 25)]


def encoded(pictures, keyframes=(), **settings):
    height, width = pictures[0].shape[:2]
    encoder = H264Encoder(width, height, VideoConfig(**settings))
    return [encoder.encode(picture, index * _STEP_NS, index in keyframes)
            for index, picture in enumerate(pictures)]


def decoded(stream):
    """Return the pictures, each as its part comes, and their colour space."""
    decoder = av.CodecContext.create('h264', 'r')
    frames = [frame for coded in stream for frame in decoder.decode(av.Packet(coded.data))]
    return [frame.to_ndarray(format='bgr24') for frame in frames], frames[0].colorspace


def units(data):
    """Return the types of an Annex B block's NAL units."""
    assert data.startswith(b'\x00\x00\x00\x01')
    return [part[0] & 31 for part in data.split(b'\x00\x00\x01')[1:]]


def psnr_db(left, right):
    return 10 * np.log10(255**2 / np.square(left.astype(float) - right).mean())


def test_each_picture_comes_at_once_and_looks_as_it_was(pictures):
    stream = encoded(pictures)
    shown, colours = decoded(stream)
    assert len(shown) == len(pictures)
    assert colours == Colorspace.ITU601
    for index, picture in enumerate(shown):
        assert psnr_db(picture, pictures[index]) > 35
    assert [coded.time_ms for coded in stream] == [40 * index for index in range(len(stream))]


def test_colours_are_kept():
    bars = np.repeat(np.array([[[0, 0, 255], [0, 255, 0], [255, 0, 0], [200, 200, 40]]],
                              np.uint8), 16, 1).repeat(64, 0)
    shown, _ = decoded(encoded([bars], crf=1))
    assert np.abs(shown[0].astype(int) - bars)[:, 8::16].max() <= 8


def test_decoders_may_begin_with_keyframes_which_come_in_time_and_when_asked_for(pictures):
    stream = encoded(pictures, keyframes={13}, keyframe_every=10)
    assert [index for index, coded in enumerate(stream) if coded.keyframe] == [0, 10, 13, 23]
    for coded in stream:
        assert ({_SPS, _PPS, _IDR} <= set(units(coded.data))) == coded.keyframe
    late, _ = decoded(stream[13:])
    assert len(late) == 12
    assert psnr_db(late[-1], pictures[-1]) > 35


def test_odd_sides_lose_a_row_and_a_column(pictures):
    shown, _ = decoded(encoded([picture[:99, :101] for picture in pictures[:2]]))
    assert shown[1].shape == (98, 100, 3)
    assert psnr_db(shown[1], pictures[1][:98, :100]) > 30


def test_quality_and_limit_cost_bits(pictures):
    kbit_s = {name: sum(len(coded.data) for coded in encoded(pictures, **settings)) * 8e-3
              for name, settings in {'good': {'crf': 18}, 'usual': {},
                                     'limited': {'max_kbit_s': 100}}.items()}
    assert kbit_s['good'] > 1.3 * kbit_s['usual']
    assert kbit_s['limited'] < 170 < kbit_s['usual']  # a second, and the half that may be ahead


@pytest.mark.parametrize('settings', [
    {'transport': 'h265'}, {'crf': 0}, {'crf': 52}, {'max_kbit_s': -1}, {'keyframe_every': 0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        VideoConfig(**settings)
