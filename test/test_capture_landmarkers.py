import dataclasses
import itertools

import numpy as np
import pytest

from visa_ros import samples
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.landmarks import HandLandmarks
from visa_ros.capture.models import load_model
from visa_ros.capture.people import assigned_hands
from visa_ros.conventions import BLENDSHAPE_INDEX
from visa_ros.errors import ResourceError
from visa_ros.evaluation.capture import Clip, frames

BODY_CENTER = [11, 12, 23, 24]


@pytest.fixture(scope='module')
def still():
    with Landmarkers(CaptureConfig(), mode='still', mask=True) as trackers:
        yield trackers


@pytest.fixture(scope='module')
def astronaut(still):
    return still.detect(samples.portrait(), 0)


def test_photo_shows_body_face_and_mask(astronaut):
    left_shoulder, right_shoulder = astronaut.pose[11], astronaut.pose[12]
    assert left_shoulder[0] > right_shoulder[0] + 100  # her left is on the image's right
    eye_height = astronaut.face[[33, 263], 1].mean()
    assert 85 < eye_height < 125
    assert abs(astronaut.face[:, 0].mean() - 225) < 25
    assert astronaut.blendshapes[BLENDSHAPE_INDEX['mouthSmileLeft']] > 0.4
    assert astronaut.blendshapes[BLENDSHAPE_INDEX['jawOpen']] < 0.3
    assert astronaut.mask.shape == (512, 512)
    assert astronaut.mask[110, 225] > 0.9   # face
    assert astronaut.mask[60, 460] < 0.1    # space shuttle
    assert astronaut.mask[400, 440] < 0.5   # her helmet is not her


def test_still_images_have_nothing_in_common(still, astronaut):
    still.detect(samples.photo('obama'), 0)
    again = still.detect(samples.portrait(), 0)
    np.testing.assert_allclose(again.pose, astronaut.pose, atol=0.1)


def test_small_face_in_a_large_image_is_found(still):
    image = np.full((1080, 1920, 3), 128, np.uint8)
    image[300:812, 200:712] = samples.portrait()
    seen = still.detect(image, 0)
    assert seen.face is not None
    assert abs(seen.face[:, 0].mean() - (200 + 225)) < 25


@pytest.mark.parametrize('shape', [(16, 16), (1, 1), (8, 200), (3648, 5472)])
def test_any_size_without_people_gives_none(still, shape):
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert still.detect(noise, 0) is None


def test_landmarks_of_a_huge_image_are_in_its_own_pixels(still, astronaut):
    huge = samples.portrait().repeat(9, 0).repeat(9, 1)  # 21 megapixels
    seen = still.detect(huge, 0)
    assert (seen.width, seen.height) == (4608, 4608)
    assert seen.mask.shape == (4608, 4608)
    face = seen.face.mean(0) / 9
    assert np.linalg.norm(face - astronaut.face.mean(0)) < 6


def test_hands_belong_to_the_wrist_that_is_near_whatever_their_label():
    clip = Clip('party', 340, 360, crop=(60, 560, 580, 1080))
    with Landmarkers(CaptureConfig()) as trackers:
        seen = [trackers.detect(rgb, stamp_ns // 1_000_000) for rgb, stamp_ns in frames(clip)]
    both = [s for s in seen[5:] if s.left_hand is not None and s.right_hand is not None]
    assert len(both) > 10
    for s in both:
        # His left hand is at the chin, his right one below it holds a stick.
        assert s.left_hand.image[:, 1].mean() < s.right_hand.image[:, 1].mean() - 40
        assert s.left_hand.image[0, 0] > s.right_hand.image[0, 0]


def test_hand_far_from_every_wrist_is_nobodys(astronaut):
    hand = HandLandmarks(np.full((21, 2), 5, np.float32), np.zeros((21, 3), np.float32), 1.0)
    visible = dataclasses.replace(astronaut, visibility=np.ones(33, np.float32))
    assert assigned_hands([hand], visible) == (None, None)


def test_operator_stays_the_same_among_three_people():
    # The man in the suit is largest at first; then he crosses the picture and passes before both
    # others.  Places of his torso in the image, by eye:
    known = {0: 800, 120: 710, 240: 860, 264: 758, 312: 396, 336: 341, 384: 310, 426: 320}
    lost = 0
    with Landmarkers(CaptureConfig(hands=False)) as trackers:
        for index, (rgb, stamp_ns) in enumerate(frames(Clip('party', 0, 432))):
            seen = trackers.detect(rgb, stamp_ns // 1_000_000)
            lost += seen is None
            if index in known:
                assert seen is not None
                center = np.median(seen.pose[BODY_CENTER, 0])
                assert abs(center - known[index]) < 90, f'frame {index}: {center}'
    assert lost < 20


def kept_bodies(images: list[tuple[np.ndarray, int]], body_every: int) -> int:
    """Return how many of the images show the body of the one before."""
    with Landmarkers(CaptureConfig(hands=False, body_every=body_every)) as trackers:
        seen = [trackers.detect(rgb, stamp_ns // 10**6) for rgb, stamp_ns in images]
    pairs = list(itertools.pairwise(seen))
    # The face is always new.
    assert not any(np.array_equal(before.face, after.face) for before, after in pairs)
    return sum(np.array_equal(before.pose, after.pose) for before, after in pairs)


def test_calm_body_is_tracked_in_every_second_image():
    calm = list(frames(Clip('cap12', 0, 40)))
    assert 12 <= kept_bodies(calm, 2) <= 20
    assert kept_bodies(calm, 1) == 0


def test_moving_body_is_tracked_in_every_image():
    moving = [(np.ascontiguousarray(rgb[:, round(50 + 40 * np.sin(i / 2)):][:, :300]), stamp_ns)
              for i, (rgb, stamp_ns) in enumerate(frames(Clip('cap12', 0, 30)))]
    assert kept_bodies(moving, 2) <= 3


def test_somebody_else_takes_the_place_only_after_a_while():
    def scene(image=None, left=0):
        out = np.zeros((512, 900, 3), np.uint8)
        if image is not None:
            out[:image.shape[0], left:left + image.shape[1]] = image
        return out

    portrait = samples.portrait()
    stranger = scene(samples.photo('obama')[:1024:2, 100:810:2], 540)
    with Landmarkers(CaptureConfig(away_s=2.0, hands=False)) as trackers:
        for stamp_ms in range(1000, 1400, 40):
            assert trackers.detect(scene(portrait), stamp_ms) is not None
        assert trackers.detect(scene(), 1440) is None
        for stamp_ms in (1480, 2000, 3000):
            assert trackers.detect(stranger, stamp_ms) is None
        assert trackers.detect(stranger, 3500) is not None


def test_missing_model_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r'pose_landmarker_full\.task.*pip install'):
        Landmarkers(CaptureConfig(model_folder=str(tmp_path)))


def test_other_model_version_is_refused(tmp_path):
    (tmp_path / 'face_landmarker.task').write_bytes(b'newer')
    with pytest.raises(ResourceError, match='SHA-256'):
        load_model('face_landmarker.task', str(tmp_path))
