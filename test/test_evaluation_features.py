"""The distance of pictures by a network's features orders what one sees."""
import cv2
import numpy as np
import pytest

pytest.importorskip('efficientnet_lite_pytorch',
                    reason='efficientnet-lite-pytorch is not installed (requirements-dev.txt)')

from visa_ros import samples
from visa_ros.evaluation.features import feature_distance


def test_blur_and_grain_are_further_than_a_shift_by_a_pixel():
    picture = cv2.resize(samples.portrait(), (256, 256), interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(0).normal(0, 8, picture.shape)
    shift, *worse = (feature_distance(picture, other) for other in (
        np.roll(picture, 1, 1), cv2.GaussianBlur(picture, (0, 0), 1.5),
        (picture + grain).clip(0, 255).astype(np.uint8)))
    assert feature_distance(picture, picture) == pytest.approx(0, abs=1e-6)
    assert 0 < shift < min(worse)
    assert max(worse) < 2
