"""What is told of surfaces that turned since the portrait."""
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros.body.model import load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.rendering.turning import Turning


@pytest.fixture
def turning(astronaut):
    avatar, _ = astronaut
    model = load_body_model(avatar.body_model)
    skinning = AvatarSkinning(model, avatar)
    return avatar, skinning, Turning(avatar, model, skinning)


def at(told, quats):
    out = np.full((len(quats), 9), np.nan, np.float32)
    told.into(out, quats)
    assert np.isnan(out[:, :2]).all()
    return out[:, 2:]


def turned(avatar, degrees):
    """The whole body turned about the vertical axis of the camera."""
    pose = avatar.portrait_pose
    rotations = pose.joint_rotations.copy()
    rotations[0] = (Rotation.from_rotvec((0, np.radians(degrees), 0))
                    * Rotation.from_rotvec(rotations[0])).as_rotvec()
    return replace(pose, joint_rotations=rotations)


def test_in_the_portrait_only_what_it_hides_counts_as_changed(turning):
    avatar, skinning, told = turning
    means, quats = skinning.pose(avatar.portrait_pose)
    changed, then, change = np.split(at(told, quats), (1, 4), 1)
    assert np.abs(change).max() < 1e-5
    assert np.isin(changed, (0, 1)).all()
    assert 0.2 < changed.mean() < 0.8
    assert np.allclose(np.linalg.norm(then, axis=1), 1, atol=1e-4)
    # what is seen faces the camera, what faces away is not seen
    towards = -(then * means).sum(1)
    assert (towards > 0)[changed[:, 0] == 0].all()
    assert (towards < 0).any()


def test_normals_turn_with_the_body(turning):
    avatar, skinning, told = turning
    _, quats = skinning.pose(turned(avatar, 25))
    changed, then, change = np.split(at(told, quats), (1, 4), 1)
    expected = Rotation.from_rotvec((0, np.radians(25), 0)).apply(then) - then
    assert np.abs(change - expected).max() < 1e-3
    sideways = np.abs(then[:, 1]) < 0.5  # those along the axis do not turn
    assert (changed[sideways] == 1).all()


def test_light_that_turns_with_the_avatar_does_not_change(turning):
    avatar, skinning, told = turning
    _, quats = skinning.pose(turned(avatar, 25))
    before = at(told, quats)
    told.light_turns_too(quats)
    now = at(told, quats)
    assert np.abs(now[:, 4:]).max() < 1e-5
    assert np.abs(now[:, 1:4] - before[:, 1:4] - before[:, 4:]).max() < 1e-5
    assert np.array_equal(now[:, 0], before[:, 0])  # the camera sees it from elsewhere still
