"""Recordings and marks: real frames written, read back and compared."""
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from visa_ros import samples
from visa_ros.capture.source import read_video
from visa_ros.display import files
from visa_ros.display.config import DisplayConfig
from visa_ros.display.files import ImageFolder, VideoFile
from visa_ros.display.mark import TEXTS, draw_mark
from visa_ros.display.sinks import open_sinks
from visa_ros.errors import ResourceError
from visa_ros.types import Presence, ShadedFrame


@pytest.fixture(scope='module')
def pictures():
    """Ten pictures of a man who moves, 400x300."""
    return [rgb for rgb, _ in islice(read_video(samples.video('cap12')), 0, 100, 10)]


def record(sink, pictures, presence=Presence.LIVE):
    """Show the pictures, each as soon as the one before is written."""
    with closing(sink):
        for stamp_ns, rgb in enumerate(pictures):
            sink.show(ShadedFrame(rgb, stamp_ns, presence))
            while sink._frames._waiting:
                time.sleep(0.001)


def read_back(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context.name, [
            (float(frame.time), frame.to_ndarray(format='rgb24'))
            for frame in container.decode(stream)]


@pytest.mark.parametrize('codec', [name for name in files._CODECS if name in av.codecs_available])
def test_a_video_holds_what_was_shown(codec, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(files, '_CODECS', {codec: files._CODECS[codec]})
    path = tmp_path / 'new folder' / 'screen.mp4'
    sink = VideoFile(path)
    start_s = time.monotonic()
    record(sink, pictures)
    wall_s = time.monotonic() - start_s
    name, frames = read_back(path)
    assert name == {'libx264': 'h264', 'libopenh264': 'h264'}.get(codec, codec)
    assert sink.dropped == 0
    assert len(frames) == len(pictures)
    times_s = [time_s for time_s, _ in frames]
    assert times_s[0] == 0
    assert min(np.diff(times_s)) > 0
    assert times_s[-1] <= wall_s
    for (_, rgb), shown in zip(frames, pictures, strict=True):
        assert rgb.shape == shown.shape
        assert np.abs(rgb.astype(int) - shown).mean() < 4


def test_colours_survive(tmp_path):
    """With the wrong matrix this red comes back by more than ten levels another."""
    red = np.full((64, 64, 3), (200, 40, 60), np.uint8)
    record(VideoFile(tmp_path / 'a.mp4'), [red])
    (_, rgb), = read_back(tmp_path / 'a.mp4')[1]
    assert np.abs(rgb.astype(int) - red).max() <= 4


def test_a_video_says_when_the_operator_is_lost(pictures, tmp_path):
    record(VideoFile(tmp_path / 'a.mp4'), pictures[:1])
    record(VideoFile(tmp_path / 'b.mp4'), pictures[:1], Presence.OPERATOR_LOST)
    (_, live), = read_back(tmp_path / 'a.mp4')[1]
    (_, lost), = read_back(tmp_path / 'b.mp4')[1]
    marked = pictures[0].copy()
    draw_mark(marked, TEXTS[Presence.OPERATOR_LOST])
    assert np.abs(lost.astype(int) - marked)[:200].mean() < 4
    assert lost.mean() < 0.7 * live.mean()


def test_a_video_takes_odd_and_changing_sizes(pictures, tmp_path):
    odd = np.ascontiguousarray(pictures[0][:201, :301])
    record(VideoFile(tmp_path / 'a.mp4'), [odd, pictures[0], odd])
    _, frames = read_back(tmp_path / 'a.mp4')
    assert [rgb.shape for _, rgb in frames] == [(200, 300, 3)] * 3


def test_a_recording_that_shows_nothing_can_be_closed(tmp_path):
    sink = VideoFile(tmp_path / 'a.mp4')
    sink.close()
    sink.close()


def test_a_killed_recording_can_be_played(tmp_path):
    """What a robot leaves whose battery ran out."""
    path = tmp_path / 'a.mp4'
    process = subprocess.Popen([sys.executable, '-c', '''
import sys
from itertools import cycle, islice
from pathlib import Path
from visa_ros import samples
from visa_ros.capture.source import read_video
from visa_ros.display.files import VideoFile
from visa_ros.types import ShadedFrame
sink = VideoFile(Path(sys.argv[1]))
for rgb, stamp_ns in read_video(samples.video('cap12'), loop=True):
    sink.show(ShadedFrame(rgb, stamp_ns))
''', str(path)], cwd=Path(__file__).parents[1])
    deadline_s = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < 1_000_000:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    frames = [rgb for rgb, _ in read_video(path)]
    assert len(frames) > 20
    assert frames[-1].std() > 30, 'a real picture'


def test_a_full_queue_drops_frames_and_never_blocks(pictures, tmp_path, monkeypatch):
    """A pipe that nobody reads stands for a disk that hangs."""
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    folder = ImageFolder(tmp_path / 'pictures')
    (tmp_path / 'pictures' / '000001_0.png').symlink_to(pipe)
    folder.show(ShadedFrame(pictures[0], 0))
    deadline_s = time.monotonic() + 30
    while folder._frames._waiting:  # until it is taken: it is the one that hangs
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    for stamp_ns in range(1, 100):
        folder.show(ShadedFrame(pictures[0], stamp_ns))
    assert folder.dropped >= 100 - 1 - files._DEPTH
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    while os.read(reader, 1 << 20):
        pass
    os.close(reader)
    folder.close()
    kept = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
    assert kept[-1] == '000100_99.png', 'the latest are kept'


def test_pictures_are_lossless_ordered_and_without_a_mark(pictures, tmp_path):
    record(ImageFolder(tmp_path / 'out'), pictures, Presence.LINK_LOST)
    paths = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in paths] == [f'{n + 1:06d}_{n}.png' for n in range(10)]
    for path, shown in zip(paths, pictures, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], shown)


def test_a_transparent_picture_is_kept_as_such_in_png_and_over_its_colour_in_mp4(
        pictures, tmp_path):
    rgb = pictures[0]
    alpha = np.broadcast_to(np.linspace(0, 255, rgb.shape[1]).astype(np.uint8), rgb.shape[:2])
    frame = ShadedFrame(rgb, 7, rgba=np.dstack([rgb[::-1], alpha]))
    for sink in (ImageFolder(tmp_path / 'png'), VideoFile(tmp_path / 'a.mp4')):
        with closing(sink):
            sink.show(frame)
    path, = (tmp_path / 'png').iterdir()
    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(bgra[..., [2, 1, 0, 3]], frame.rgba)
    (_, shown), = read_back(tmp_path / 'a.mp4')[1]
    assert np.abs(shown.astype(int) - rgb).mean() < 4


def test_a_sink_that_fails_is_logged_and_ends_alone(pictures, tmp_path, caplog):
    folder = tmp_path / 'out'
    sink = ImageFolder(folder)
    folder.rmdir()
    record(sink, pictures[:1])
    assert sink.closed
    assert 'image_folder has stopped: cannot write' in caplog.text
    sink.show(ShadedFrame(pictures[0], 1))


def test_places_that_cannot_be_written_are_named(pictures, tmp_path):
    occupied = tmp_path / 'file'
    occupied.write_text('')
    with pytest.raises(ResourceError, match=r'display\.video_path'):
        VideoFile(occupied / 'a.mp4')
    with pytest.raises(ResourceError, match=r'display\.video_path'):
        VideoFile(tmp_path)
    with pytest.raises(ResourceError, match=r'display\.image_folder'):
        ImageFolder(occupied)
    record(ImageFolder(tmp_path / 'out'), pictures[:1])
    with pytest.raises(ResourceError, match='holds pictures already'):
        ImageFolder(tmp_path / 'out')


@pytest.mark.parametrize('text', TEXTS.values())
@pytest.mark.parametrize('size', [256, 512, 1080])
def test_a_mark_fits_and_is_legible(text, size):
    bgr = cv2.resize(samples.portrait(), (size, size))
    draw_mark(bgr, text)
    bright = np.argwhere(bgr.min(axis=2) > 160)
    assert len(bright) > 0.001 * size ** 2, 'white letters on a darkened picture'
    top, left = bright.min(axis=0)
    bottom, right = bright.max(axis=0)
    assert top > 0.85 * size
    assert bottom < size - 1
    assert 0.05 * size < left
    assert right < 0.95 * size


def test_the_settings_open_the_sinks_and_none_stays_open_on_an_error(pictures, tmp_path):
    video, folder = tmp_path / 'a.mp4', tmp_path / 'out'
    sinks = open_sinks(DisplayConfig(port=0, video_path=str(video), image_folder=str(folder)))
    for sink in sinks:
        sink.show(ShadedFrame(pictures[0], 7))
    for sink in sinks:
        sink.close()
    assert [type(sink).__name__ for sink in sinks] == ['WebDisplay', 'VideoFile', 'ImageFolder']
    assert len(read_back(video)[1]) == 1
    assert [path.name for path in folder.iterdir()] == ['000001_7.png']
    assert open_sinks(DisplayConfig(web=False)) == []

    settings = {'port': 0, 'image_folder': str(folder)}
    with pytest.raises(ResourceError, match='holds pictures already'):
        open_sinks(DisplayConfig(**settings))
    assert not [thread for thread in threading.enumerate() if 'web_display' in thread.name]
