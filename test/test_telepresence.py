"""The one-process way, as `make demo` starts it: from a real clip to pages, files and topics."""
import re
import socket

import av
import numpy as np
import pytest
from graph import TIMEOUT_S, Watcher, node_process
from sensor_msgs.msg import Image

from visa_ros import samples
from visa_ros.capture.source import read_video
from visa_ros.msg import FrameTiming, OperatorPose
from visa_ros.nodes._conversions import ImageMessage
from visa_ros.nodes._qos import STREAM_IN, STREAM_OUT


@pytest.fixture(scope='module', autouse=True)
def built(ros_domain, astronaut):
    """Have the avatar in the cache: the processes start in seconds."""


def _short_clip(path, seconds):
    """Write the first seconds of a real clip."""
    with av.open(str(samples.video('cap12'))) as source, av.open(str(path), 'w') as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is None or packet.pts * packet.time_base > seconds:
                break
            packet.stream = stream
            out.mux(packet)
    return path


def test_a_clip_becomes_a_recording_and_a_table_and_then_it_ends(tmp_path):
    clip = _short_clip(tmp_path / 'clip.mp4', 6)
    recording = tmp_path / 'out.mp4'
    with node_process('telepresence', f'camera.source:={clip}', 'camera.loop:=false',
                      'avatar.portrait:=demo', 'display.port:=0',
                      f'display.video_path:={recording}') as process:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    assert 'Traceback' not in output
    frames = int(re.search(r'(\d+) frames, [\d.]+ fps', output)[1])
    assert frames > 10
    assert 'camera to display' in output
    with av.open(str(recording)) as video:
        pictures = [frame.to_ndarray(format='rgb24') for frame in video.decode(video=0)]
    assert len(pictures) > 10
    assert pictures[0].shape == (512, 512, 3)
    # the same person in front of the same background, and not a still
    first, last = pictures[len(pictures) // 2].astype(int), pictures[-1].astype(int)
    assert np.abs(first[:8, :8] - last[:8, :8]).max() < 12
    assert np.abs(first - last).max() > 60


def test_a_person_who_leaves_and_returns_is_marked_and_live_again():
    """Images come over a topic, as from a camera driver; some of them show an empty room."""
    frames = [rgb for rgb, _ in read_video(samples.video('cap12'))][:60]
    empty = np.full_like(frames[0], 127)
    watcher = Watcher('camera_driver')
    message = ImageMessage()
    publisher = watcher.node.create_publisher(Image, 'image_raw', STREAM_OUT)
    timing = watcher.subscribe(FrameTiming, 'frame_timing', STREAM_IN)
    poses = watcher.subscribe(OperatorPose, 'operator_pose', STREAM_IN)

    def show_until(pictures, condition, what):
        for index in range(100_000):
            stamp_ns = watcher.node.get_clock().now().nanoseconds
            image = message.fill(pictures[index % len(pictures)], stamp_ns, 'camera')
            publisher.publish(image)
            try:
                return watcher.wait(condition, what, 0.05)
            except AssertionError:
                if index > TIMEOUT_S / 0.05:
                    raise
        raise AssertionError(what)

    try:
        with node_process('telepresence', 'camera.source:=topic', 'avatar.portrait:=demo',
                          'display.web:=false', 'playback.lost_s:=0.6') as process:
            for pictures, presence in ((frames, FrameTiming.LIVE),
                                       ([empty], FrameTiming.OPERATOR_LOST),
                                       (frames, FrameTiming.LIVE)):
                timing.clear()
                show_until(pictures, lambda presence=presence: (
                    timing and timing[-1].presence == presence), f'presence {presence}')
            assert poses[-1].header.frame_id == 'camera'
            assert process.poll() is None
    finally:
        watcher.close()


def test_a_port_in_use_ends_the_start_with_a_reason():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with node_process('telepresence', f'display.port:={port}') as process:
            output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert str(port) in output
    assert 'display.port' in output


def test_a_missing_camera_ends_the_start_with_a_reason():
    with node_process('telepresence', 'camera.source:=/dev/video99', 'display.port:=0') as process:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert '/dev/video99' in output
