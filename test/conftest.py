"""What all tests share: this machine only, an own ROS domain, one cache, one avatar."""
import os
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

_ROOT = Path(__file__).resolve().parents[1]

# Before any ROS process starts: discovery stays on this machine, images fit shared memory.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(_ROOT / 'config' / 'fastdds_profile.xml')
# Samples and built avatars are kept between runs; git ignores the folder.
os.environ.setdefault('VISA_CACHE_DIR', str(_ROOT / '.cache'))
# Keys and trusted keys: none of the user's, and none of an earlier run.
_TRUST = tempfile.TemporaryDirectory()
os.environ['VISA_CONFIG_DIR'] = _TRUST.name


@pytest.fixture(scope='session')
def ros_domain():
    """Give this run a ROS domain of its own, so that parallel runs do not meet."""
    from domain_coordinator import domain_id

    with domain_id() as number:
        os.environ['ROS_DOMAIN_ID'] = str(number)
        yield number


@pytest.fixture(scope='session')
def astronaut():
    """Return the avatar of the default portrait, as a user gets it, and how its build went."""
    from visa_ros.reconstruction.avatar_cache import cached_avatar
    from visa_ros.reconstruction.portrait import read_portrait
    from visa_ros.types import Consent

    consent = Consent('operator', 'operator', 0, 'test')
    return cached_avatar(read_portrait('demo'), consent)


@pytest.fixture
def grey_video(tmp_path):
    """Return what writes a video of so many grey pictures, ten a second, and returns its path."""
    def write(count):
        path = tmp_path / 'grey.mp4'
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('mpeg4', rate=10)
            stream.width, stream.height = 160, 128
            frame = av.VideoFrame.from_ndarray(np.full((128, 160, 3), 128, np.uint8))
            for _ in range(count):
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
