"""Sources of images: real clips, a photo, and a real MJPEG stream that goes and comes back."""
import socket
import time
from contextlib import closing
from itertools import islice
from queue import Queue
from threading import Event, Thread

import av
import cv2
import numpy as np
import pytest

from visa_ros import samples
from visa_ros.capture.source import SourceConfig, VideoSource, read_video
from visa_ros.errors import ResourceError

TIMEOUT_S = 20


@pytest.fixture(scope='module')
def clip():
    return samples.video('cap12')


@pytest.fixture(scope='module')
def frames(clip):
    """The clip's first 51 pictures."""
    return [rgb for rgb, _ in islice(read_video(clip), 51)]


@pytest.fixture
def short_clip(tmp_path, frames):
    """The clip's first ten frames as a file of its own, 25 frames a second."""
    return write_clip(tmp_path / 'short.mp4', frames[:10])


def write_clip(path, pictures):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.bit_rate = 4_000_000
        for rgb in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format='rgb24')))
        container.mux(stream.encode(None))
    return path


def wait_until(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, 'did not come to pass'
        time.sleep(0.01)


def play(path, count, on_image=None, **settings):
    """Run a source until `count` images came or it ended; return the images."""
    images, done = [], Event()

    def take(image):
        if len(images) < count:
            images.append(image)
            if on_image:
                on_image(image)
        if len(images) == count:
            done.set()

    source = VideoSource(SourceConfig(source=str(path), **settings), take, on_end=done.set)
    source.start()
    assert done.wait(TIMEOUT_S)
    source.close()
    return images


def test_a_clip_is_decoded_whole_and_timed_by_its_own_stamps(clip):
    times_ns = []
    for rgb, media_ns in read_video(clip):
        times_ns.append(media_ns)
        assert rgb.shape == (300, 400, 3)
        assert rgb.std() > 30, 'a real picture'
    # As its container says: 1337 frames at 25 a second.
    assert times_ns == [40_000_000 * i for i in range(1337)]


def test_playing_in_real_time_keeps_the_files_pace(clip):
    images = play(clip, 15)
    intervals_ms = np.diff([image.stamp_ns for image in images]) / 1e6
    # Skipped frames (a busy machine) leave gaps of whole frames.
    assert np.abs(intervals_ms - 40 * np.round(intervals_ms / 40)).max() < 5
    assert intervals_ms.min() > 35


def test_a_slow_taker_gets_fresh_images_and_not_a_backlog(clip):
    never = Event()
    images = play(clip, 4, on_image=lambda image: never.wait(0.3))
    intervals_ms = np.diff([image.stamp_ns for image in images]) / 1e6
    assert intervals_ms.min() > 150, 'frames that came meanwhile were skipped'


def test_as_fast_as_taken_every_frame_comes_with_its_own_time(short_clip):
    images = play(short_clip, 100, realtime=False, loop=False)
    assert len(images) == 10
    assert np.all(np.diff([image.stamp_ns for image in images]) == 40_000_000)


def test_a_looped_file_starts_again_and_time_runs_on(short_clip):
    images = play(short_clip, 25, realtime=False)
    assert np.all(np.diff([image.stamp_ns for image in images]) == 40_000_000)
    np.testing.assert_array_equal(images[3].rgb, images[13].rgb)
    assert not np.array_equal(images[3].rgb, images[4].rgb)


def test_a_looped_file_that_is_removed_is_reported(short_clip):
    ended = Event()
    source = VideoSource(SourceConfig(source=str(short_clip), realtime=False),
                         lambda image: short_clip.unlink(missing_ok=True), on_end=ended.set)
    source.start()
    assert ended.wait(TIMEOUT_S)
    source.close()
    assert source.frames == 10
    assert not source.state.ok
    assert str(short_clip) in source.state.message


def test_the_demo_needs_no_settings(frames):
    image, = play('demo', 1)
    np.testing.assert_array_equal(image.rgb, frames[0])


def test_a_photo_is_repeated(tmp_path):
    path = tmp_path / 'portrait.png'
    portrait = samples.portrait()
    cv2.imwrite(str(path), portrait[..., ::-1])
    images = play(path, 3, realtime=False, fps=10.0)
    np.testing.assert_array_equal(images[2].rgb, portrait)
    assert images[2].stamp_ns - images[0].stamp_ns == 200_000_000
    assert len(play(path, 3, realtime=False, loop=False)) == 1


def test_a_telephones_upright_video_is_shown_upright(short_clip, tmp_path):
    """A telephone writes lying frames and a matrix that says how to turn them."""
    lying, _ = next(read_video(short_clip))
    data = short_clip.read_bytes()
    identity = np.array([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000], '>i4').tobytes()
    clockwise = np.array([0, 0x10000, 0, -0x10000, 0, 0, lying.shape[0] << 16, 0, 0x40000000],
                         '>i4').tobytes()
    header = data.index(b'tkhd')
    at = data.index(identity, header)
    turned = tmp_path / 'turned.mp4'
    turned.write_bytes(data[:at] + clockwise + data[at + len(clockwise):])
    upright, _ = next(read_video(turned))
    np.testing.assert_array_equal(upright, np.rot90(lying, -1))
    assert upright.flags.c_contiguous


def test_a_file_cut_short_is_played_as_far_as_it_goes(clip, tmp_path, frames):
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(clip.read_bytes()[:200_000])
    images = play(cut, 2000, realtime=False, loop=False)
    assert 100 < len(images) < 1337
    np.testing.assert_array_equal(images[50].rgb, frames[50])


def test_damage_in_the_middle_costs_only_the_damaged_frames(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    data[300_000:320_000] = bytes(20_000)
    damaged = tmp_path / 'damaged.mp4'
    damaged.write_bytes(data)
    assert 1200 < sum(1 for _ in read_video(damaged)) < 1337


@pytest.mark.parametrize(('content', 'says'), [
    (None, 'there is no file'),
    (b'', 'cannot play'),
    (b'not a video' * 100, 'cannot play'),
    ('cut before its index', 'cannot play'),
    ('sound only', 'holds no video'),
    ('a photo cut short', 'photo'),
], ids=str)
def test_what_cannot_be_played_is_refused_at_once(content, says, clip, tmp_path):
    path = tmp_path / 'file'
    if content == 'cut before its index':
        path.write_bytes(clip.read_bytes()[:1000])
    elif content == 'sound only':
        with av.open(str(path), 'w', format='mp4') as container:
            stream = container.add_stream('aac', rate=48000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp',
                                               layout='mono')
            sound.sample_rate = 48000
            container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
    elif content == 'a photo cut short':
        _, data = cv2.imencode('.png', samples.portrait())
        path.write_bytes(data.tobytes()[:60])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ResourceError, match=says) as caught:
        VideoSource(SourceConfig(source=str(path)), print)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(('source', 'says'), [
    ('97', 'there is no camera /dev/video97'),
    ('/dev/null', '/dev/null gives no image; close the program'),
    ('tcp://127.0.0.1:1', 'check address and network'),
])
def test_a_camera_that_cannot_be_opened_is_refused_at_once(source, says):
    with pytest.raises(ResourceError, match=says):
        VideoSource(SourceConfig(source=source), print)


def test_an_error_does_not_show_a_streams_password():
    with pytest.raises(ResourceError, match='//127') as caught:
        VideoSource(SourceConfig(source='rtsp://me:secret@127.0.0.1:1/camera'), print)
    assert 'secret' not in str(caught.value)


def test_a_fault_of_the_taker_does_not_end_the_source(short_clip, caplog):
    ended = Event()
    source = VideoSource(SourceConfig(source=str(short_clip), realtime=False, loop=False),
                         lambda image: 1 / 0, on_end=ended.set)
    source.start()
    assert ended.wait(TIMEOUT_S)
    assert source.frames == 10
    assert 'ZeroDivisionError' in caplog.text


def test_close_is_prompt_and_may_be_repeated(clip):
    taken = Event()
    source = VideoSource(SourceConfig(source=str(clip)), lambda image: taken.set())
    source.close()
    source.close()
    source = VideoSource(SourceConfig(source=str(clip)), lambda image: taken.set())
    source.start()
    source.start()
    assert taken.wait(TIMEOUT_S)
    source.close()
    frames = source.frames
    source.close()
    assert source.frames == frames


def test_closing_from_the_taker_does_not_lock_up(clip):
    closed = Event()

    def close(image):
        source.close()
        closed.set()

    source = VideoSource(SourceConfig(source=str(clip)), close)
    source.start()
    assert closed.wait(TIMEOUT_S)
    source.close()
    assert source.frames == 1


class NetworkCamera:
    """An MJPEG camera on a loopback port, as many network cameras are; can be unplugged."""

    def __init__(self, pictures, port=0):
        self._jpegs = [cv2.imencode('.jpg', rgb[..., ::-1])[1].tobytes() for rgb in pictures]
        self._listener = socket.create_server(('127.0.0.1', port))
        self.port = self._listener.getsockname()[1]
        self._unplugged = Event()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._unplugged.is_set():
            connection, _ = self._listener.accept()
            with closing(connection):
                try:
                    connection.sendall(b'HTTP/1.0 200 OK\r\nContent-Type: multipart/'
                                       b'x-mixed-replace; boundary=next\r\n\r\n')
                    while not self._unplugged.is_set():
                        for jpeg in self._jpegs:
                            connection.sendall(
                                b'--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d'
                                b'\r\n\r\n%s\r\n' % (len(jpeg), jpeg))
                            self._unplugged.wait(0.02)  # its frame rate
                except OSError:
                    continue  # the viewer has gone

    def unplug(self):
        self._unplugged.set()
        socket.create_connection(('127.0.0.1', self.port)).close()  # ends accept()
        self._thread.join()
        self._listener.close()


def test_a_camera_that_is_unplugged_is_opened_again_when_it_is_back(frames, caplog):
    caplog.set_level('INFO')
    images = Queue()
    camera = NetworkCamera([frames[0]])
    source = VideoSource(SourceConfig(source=f'http://127.0.0.1:{camera.port}/'), images.put)
    source.start()
    try:
        first = images.get(timeout=TIMEOUT_S)
        assert source.state.ok
        assert np.abs(first.rgb.astype(int) - frames[0]).mean() < 4, 'JPEG of the clip'

        camera.unplug()
        wait_until(lambda: not source.state.ok)
        assert 'is lost' in source.state.message
        while not images.empty():  # what was on its way
            images.get()
        lost_ns = time.time_ns()

        camera = NetworkCamera([frames[50]], camera.port)
        back = images.get(timeout=TIMEOUT_S)
        assert source.state.ok
        assert back.stamp_ns > lost_ns
        assert np.abs(back.rgb.astype(int) - frames[50]).mean() < 4, 'the new picture'
        assert 'is lost' in caplog.text
        assert 'is back' in caplog.text
    finally:
        source.close()
        camera.unplug()


def test_closing_while_the_camera_is_away(frames):
    taken = Event()
    camera = NetworkCamera([frames[0]])
    source = VideoSource(SourceConfig(source=f'http://127.0.0.1:{camera.port}/'),
                         lambda image: taken.set())
    source.start()
    assert taken.wait(TIMEOUT_S)
    camera.unplug()
    source.close()
    assert not source._thread.is_alive()
