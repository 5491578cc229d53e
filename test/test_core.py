"""Values, settings, the latest-wins slot, the worker thread, the cache."""
import os
import threading
from dataclasses import dataclass, fields

import numpy as np
import pytest

from visa_ros import conventions
from visa_ros.cache import cache_folder, write_atomically
from visa_ros.config import Config, param
from visa_ros.errors import (
    ImageError,
    InputError,
    MissingDependencyError,
    PoseError,
    ResourceError,
)
from visa_ros.latest import Latest
from visa_ros.types import Camera, CameraImage, OperatorPose
from visa_ros.worker import Worker


class TestConventions:

    def test_joint_table_is_a_tree_in_order(self):
        assert len(conventions.JOINTS) == len(set(conventions.JOINTS)) == 55
        assert len(conventions.JOINT_PARENTS) == 55
        assert conventions.JOINT_PARENTS[0] == -1
        assert all(0 <= parent < joint
                   for joint, parent in enumerate(conventions.JOINT_PARENTS) if joint)

    def test_left_and_right_mirror(self):
        names, parents = conventions.JOINTS, conventions.JOINT_PARENTS
        for joint, name in enumerate(names):
            if name.startswith('left_'):
                mirrored = names.index('right_' + name[5:])
                parent, other = names[parents[joint]], names[parents[mirrored]]
                assert other == parent.replace('left_', 'right_')

    def test_blendshapes_are_arkits_52(self):
        assert len(conventions.BLENDSHAPES) == len(set(conventions.BLENDSHAPES)) == 52
        sided = [name for name in conventions.BLENDSHAPES if name.endswith('Left')]
        assert all(name[:-4] + 'Right' in conventions.BLENDSHAPES for name in sided)


class TestTypes:

    @pytest.mark.parametrize('name', ['joint_rotations', 'translation', 'blendshapes',
                                      'confidence'])
    @pytest.mark.parametrize('fault', ['nan', 'inf', 'length'])
    def test_bad_pose_is_refused_with_the_field_named(self, name, fault):
        value = getattr(OperatorPose.rest(), name).copy()
        if fault == 'length':
            value = value[:-1]
        else:
            value.flat[1] = float(fault)
        with pytest.raises(PoseError, match=name):
            OperatorPose.rest(**{name: value})

    @pytest.mark.parametrize('array', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                       np.zeros((4, 4, 3), np.float32)])
    def test_only_rgb8_is_a_camera_image(self, array):
        with pytest.raises(ImageError, match='RGB'):
            CameraImage(array, 0)

    def test_unseen_keeps_the_pose_and_takes_the_stamp(self):
        pose = OperatorPose.rest(confidence=np.ones(6, np.float32), stamp_ns=1)
        unseen = pose.unseen(CameraImage(np.zeros((2, 2, 3), np.uint8), 7, 'eye'))
        assert not unseen.confidence.any()
        assert (unseen.stamp_ns, unseen.frame_id) == (7, 'eye')
        assert pose.confidence.all()

    def test_resized_camera_keeps_the_field_of_view_of_the_short_side(self):
        camera = Camera.from_focal(800, 640, 480).resized(1024, 512)
        assert camera.K[0, 0] == pytest.approx(800 * 512 / 480)
        assert camera.K[0, 2] == pytest.approx(512)
        assert camera.K[1, 2] == pytest.approx(256)


@dataclass(frozen=True)
class _Settings(Config):
    """Settings of nothing."""

    rate_hz: float = param(30.0, 'rate [Hz]', low=1.0, high=60.0)
    mode: str = param('auto', 'mode', choices=('auto', 'cpu'))
    count: int = param(3, 'count', low=0)
    flag: bool = param(False, 'flag')


class TestConfig:

    def test_defaults_are_valid_and_ints_become_floats(self):
        assert isinstance(_Settings(rate_hz=25).rate_hz, float)

    @pytest.mark.parametrize(('name', 'value'), [
        ('rate_hz', 0.5), ('rate_hz', 61.0), ('rate_hz', float('nan')), ('rate_hz', 'fast'),
        ('mode', 'gpu'), ('count', -1), ('count', 1.5), ('flag', 1)])
    def test_bad_value_is_refused_by_name(self, name, value):
        with pytest.raises(InputError, match=name):
            _Settings(**{name: value})


class TestLatest:

    def test_only_the_newest_value_is_taken_and_drops_are_counted(self):
        slot = Latest()
        for value in range(5):
            slot.put(value)
        assert slot.take(0) == 4
        assert slot.dropped == 4
        assert slot.take(0) is None

    def test_close_wakes_a_waiting_reader(self):
        slot = Latest()
        taken = []
        reader = threading.Thread(target=lambda: taken.append(slot.take()))
        reader.start()
        slot.close()
        reader.join(10)
        assert taken == [None]


class TestWorker:

    def test_bad_inputs_are_counted_and_the_next_good_one_is_handled(self, caplog):
        handled, done = [], threading.Event()

        def handle(value):
            if value == 'bad':
                refused.set()
                raise PoseError('NaN in the pose')
            if value == 'fault':
                refused.set()
                raise ZeroDivisionError
            handled.append(value)
            done.set()

        worker = Worker('stage', handle)
        for value in ('bad', 'fault'):
            refused = threading.Event()
            worker.put(value)
            assert refused.wait(10)
        worker.put('good')
        assert done.wait(10)
        worker.close()
        assert handled == ['good']
        assert worker.refused == 2
        assert 'NaN in the pose' in caplog.text
        assert 'ZeroDivisionError' in caplog.text

    def test_idle_calls_come_while_nothing_arrives(self):
        idle = threading.Semaphore(0)
        worker = Worker('idle', lambda value: idle.release() if value is None else None,
                        idle_s=0.01)
        assert all(idle.acquire(timeout=10) for _ in range(3))
        worker.close()

    def test_refused_inputs_do_not_keep_a_stage_from_its_idle_work(self):
        idle, done = threading.Semaphore(0), threading.Event()

        def handle(value):
            if value is not None:
                raise PoseError('of somebody else')
            idle.release()

        def flood():
            while not done.is_set():
                worker.put('bad')

        worker = Worker('idle', handle, idle_s=0.05)
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            assert all(idle.acquire(timeout=10) for _ in range(3))
        finally:
            done.set()
            flooding.join()
            worker.close()
        assert worker.refused

    def test_a_slow_stage_sees_the_newest_input_only(self):
        entered, go, seen = threading.Event(), threading.Event(), []
        last = threading.Event()

        def handle(value):
            seen.append(value)
            entered.set()
            go.wait(10)
            if value == 9:
                last.set()

        worker = Worker('slow', handle)
        worker.put(0)
        assert entered.wait(10)
        for value in range(1, 10):
            worker.put(value)
        go.set()
        assert last.wait(10)
        worker.close()
        assert seen == [0, 9]
        assert worker.dropped == 8


class TestCache:

    def test_folder_is_made_under_the_variable(self, tmp_path, monkeypatch):
        monkeypatch.setenv('VISA_CACHE_DIR', str(tmp_path / 'deep'))
        assert cache_folder('avatars') == tmp_path / 'deep' / 'avatars'

    def test_unusable_folder_is_an_error_that_names_the_way_out(self, tmp_path, monkeypatch):
        (tmp_path / 'file').write_text('in the way')
        monkeypatch.setenv('VISA_CACHE_DIR', str(tmp_path / 'file'))
        with pytest.raises(ResourceError, match='VISA_CACHE_DIR'):
            cache_folder('avatars')

    def test_a_write_replaces_whole_files_and_leaves_nothing_behind(self, tmp_path):
        path = tmp_path / 'x'
        write_atomically(path, b'old')
        write_atomically(path, b'new')
        assert path.read_bytes() == b'new'
        assert os.listdir(tmp_path) == ['x']
        with pytest.raises(ResourceError):
            write_atomically(tmp_path / 'missing' / 'x', b'')


def test_a_missing_package_is_named_with_its_purpose_and_command(monkeypatch):
    import sys

    from visa_ros._optional import available, require
    monkeypatch.setitem(sys.modules, 'gsplat', None)  # what Python does for "not importable"
    assert not available('gsplat')
    with pytest.raises(MissingDependencyError, match=r'CUDA GPU.*pip install gsplat'):
        require('gsplat')


def test_every_setting_has_a_description():
    for item in fields(_Settings):
        assert item.metadata['description']
