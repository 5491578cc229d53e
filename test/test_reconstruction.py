import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from visa_ros import samples
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.errors import PortraitError
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.anatomy import anatomy
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.fit import fit_body
from visa_ros.reconstruction.held import find_held
from visa_ros.reconstruction.matte import matte, solid
from visa_ros.reconstruction.portrait import find_person, head_yaw_deg, to_working_size
from visa_ros.reconstruction.reconstruct import (
    ReconstructionConfig,
    posed_body,
    psnr,
    reconstruct,
)
from visa_ros.rendering.splat_cpu import SplatCpu
from visa_ros.types import Camera, Consent

CONSENT = Consent('eileen', 'NASA', 1_700_000_000_000_000_000, 'public domain')
FAST = ReconstructionConfig(size_px=256, gaussians=25_000, refine_steps=8)


@pytest.fixture(scope='module')
def portrait():
    return samples.portrait()


@pytest.fixture(scope='module')
def built(portrait):
    """The one avatar of full quality, and the steps that were reported."""
    torch.set_num_threads(2)
    steps = []
    avatar, summary = reconstruct(portrait, CONSENT, progress=lambda *step: steps.append(step))
    return avatar, summary, steps


class Viewer:
    def __init__(self, avatar):
        self.skinning = AvatarSkinning(load_body_model(), avatar)
        self.camera = avatar.camera
        self.splatter = SplatCpu(avatar.scales, avatar.opacities, avatar.colors, avatar.camera,
                                 np.zeros(3, np.float32))

    def draw(self, pose):
        shape = self.camera.height, self.camera.width
        rgb = np.zeros((*shape, 3), np.uint8)
        alpha, depth = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.splatter.draw(*self.skinning.pose(pose), rgb, alpha, depth)
        return rgb, alpha


@pytest.fixture(scope='module')
def viewer(built):
    return Viewer(built[0])


def changed(pose, joints=(), blendshapes=()):
    rotations, shapes = pose.joint_rotations.copy(), pose.blendshapes.copy()
    for name, add in dict(joints).items():
        rotations[JOINT_INDEX[name]] += add
    for name, value in dict(blendshapes).items():
        shapes[BLENDSHAPE_INDEX[name]] = value
    return replace(pose, joint_rotations=rotations, blendshapes=shapes)


def test_the_avatar_looks_like_the_portrait(built, viewer, portrait):
    avatar, summary, _ = built
    rgb, alpha = viewer.draw(avatar.portrait_pose)
    person = find_person(portrait)
    inside = solid(matte(portrait, person.mask))
    inside[300:, 260:] = False  # the helmet, which is not of her
    measured = psnr(rgb / np.float32(255), portrait / np.float32(255), inside)
    assert measured > 32
    # What was measured on the splats is what the posed avatar shows.
    assert measured == pytest.approx(summary.psnr_db, abs=1.0)
    assert alpha[inside].min() > 0.5
    assert alpha[matte(portrait, person.mask) == 0].mean() < 0.02


def test_folded_arms_are_before_the_trunk():
    image = to_working_size(samples.photo('obama'), 512)
    camera = Camera.from_focal(1.6 * 512, image.shape[1], image.shape[0])
    model = load_body_model()
    fit = fit_body(model, find_person(image), camera)
    _, joints = model.shaped(fit.betas)
    pose = fit.pose
    joints = posed_joints(joint_transforms(
        model, joints, pose.joint_rotations, pose.translation), joints)
    for side in ('left', 'right'):
        assert joints[JOINT_INDEX[f'{side}_wrist'], 2] < joints[JOINT_INDEX['spine2'], 2] - 0.1


def test_the_helmet_that_she_holds_is_found(portrait):
    person = find_person(portrait)
    camera = Camera.from_focal(1.6 * 512, 512, 512)
    model = load_body_model()
    body = posed_body(model, fit_body(model, person, camera))
    held = find_held(model, body, portrait, matte(portrait, person.mask), person.face, camera)
    assert held[420, 330]
    assert 10_000 < held.sum() < 20_000


def test_the_summary_says_how_it_went(built):
    avatar, summary, steps = built
    assert list(summary.seconds) == ['detect', 'fit', 'bind', 'predict', 'refine']
    assert summary.gaussians == len(avatar) <= 66_000
    assert summary.face_px < 3
    # MediaPipe's elbows and wrists are believed as far as they are right along the bone: on
    # synthetic people they err by an eighth of the face's height there.
    assert summary.joints_px < 12
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert steps[-1] == ('refine', 1.0)
    assert list(dict.fromkeys(name for name, _ in steps)) == list(summary.seconds)


def test_the_avatar_is_the_operators_and_a_small_file(built):
    avatar, _, _ = built
    assert avatar.consent == CONSENT
    assert avatar.portrait_pose.operator_id == 'eileen'
    block = avatar_file.encode(avatar)
    assert len(block) < 5_000_000  # two of them are features
    pose = avatar.portrait_pose
    read = avatar_file.decode(block)
    assert np.abs(Viewer(read).draw(pose)[0].astype(int) - Viewer(avatar).draw(pose)[0]).mean() < 1


def test_the_head_turns_without_losing_the_face(built, viewer):
    avatar, _, _ = built
    for angle in (-0.44, 0.44):
        rgb, _ = viewer.draw(changed(avatar.portrait_pose, {'head': (0, angle, 0)}))
        person = find_person(rgb)
        nose, left, right = person.face[[1, 263, 33], 0]
        turned = (nose - (left + right) / 2) / (left - right)
        assert np.sign(turned) == np.sign(angle)
        assert abs(turned) > 0.12
        assert head_yaw_deg(person) == pytest.approx(np.degrees(angle), abs=9)


def test_the_face_does_what_its_blendshapes_say(built, viewer):
    avatar, _, _ = built
    pose = avatar.portrait_pose

    def seen(**blendshapes):
        person = find_person(viewer.draw(changed(pose, blendshapes=blendshapes))[0])
        lips = person.face[14, 1] - person.face[13, 1]  # MediaPipe's jawOpen hardly sees a smile's
        return {'lips': lips / np.ptp(person.face[:, 1])} | {
            name: person.blendshapes[index] for name, index in BLENDSHAPE_INDEX.items()}

    still = seen()
    assert seen(jawOpen=0.8)['lips'] > still['lips'] + 0.07
    shut = seen(eyeBlinkLeft=1, eyeBlinkRight=1)
    assert min(shut['eyeBlinkLeft'], shut['eyeBlinkRight']) > 0.4
    assert max(still['eyeBlinkLeft'], still['eyeBlinkRight']) < 0.3
    straight = seen(mouthSmileLeft=0, mouthSmileRight=0)
    assert straight['mouthSmileLeft'] < still['mouthSmileLeft'] - 0.25


def test_an_open_mouth_is_dark_and_not_stretched_skin(built, viewer):
    avatar, _, _ = built
    rgb, _ = viewer.draw(changed(avatar.portrait_pose, blendshapes={'jawOpen': 0.8}))
    person = find_person(rgb)
    x, y = (0.3 * person.face[13] + 0.7 * person.face[14]).astype(int)
    skin = rgb[person.face[50, 1].astype(int), person.face[50, 0].astype(int)]
    assert rgb[y, x].mean() < 0.4 * skin.mean()


def test_closed_lids_hide_the_eyes(built, viewer):
    avatar, _, _ = built
    model = load_body_model()
    eyes = (anatomy(model).left_eye | anatomy(model).right_eye)[avatar.triangles]
    assert eyes.sum() > 200
    shut = changed(avatar.portrait_pose,
                   blendshapes={'eyeBlinkLeft': 1, 'eyeBlinkRight': 1})
    green = avatar.colors.copy()
    green[eyes] = 0, 1, 0
    painted = Viewer(replace(avatar, colors=green))
    open_rgb = painted.draw(avatar.portrait_pose)[0].astype(int)
    shut_rgb = painted.draw(shut)[0].astype(int)

    def green_pixels(rgb):
        return (rgb[..., 1] > rgb[..., 0] + 60).sum()

    assert green_pixels(open_rgb) > 100
    assert green_pixels(shut_rgb) < 0.15 * green_pixels(open_rgb)


def test_what_moves_stays_in_one_piece(built, viewer):
    """Arms and head moved: no Gaussian flies off, nothing far from the person is painted."""
    avatar, _, _ = built
    pose = changed(avatar.portrait_pose, {
        'left_shoulder': (0, 0, 0.8), 'right_shoulder': (0, 0, -0.5), 'head': (0.3, 0.3, 0)})
    means, quats = viewer.skinning.pose(pose)
    body = means[:, :2] - pose.translation[:2]
    assert np.abs(body).max() < 1.2
    assert np.abs(np.linalg.norm(quats, axis=1) - 1).max() < 1e-3
    _, alpha = viewer.draw(pose)
    pieces, _, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
    sizes = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    assert pieces > 1
    assert sizes[1:].sum() < 0.01 * sizes[0]


def test_the_head_carries_its_hair(built, viewer):
    avatar, _, _ = built
    pose = avatar.portrait_pose
    pixels = avatar.camera.project(viewer.skinning.pose(pose)[0])
    hair = (np.abs(pixels - (225, 40)) < 12).all(1)  # above the forehead
    chest = (np.abs(pixels - (200, 400)) < 20).all(1)
    before = viewer.skinning.pose(pose)[0].copy()
    moved = np.linalg.norm(
        viewer.skinning.pose(changed(pose, {'head': (0, 0.4, 0)}))[0] - before, axis=1)
    assert hair.sum() > 50
    assert np.median(moved[hair]) > 0.01
    assert moved[chest].max() < 0.002


def test_a_webcam_frame_is_a_portrait():
    capture = cv2.VideoCapture(str(samples.video('cap12')))
    frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    avatar, summary = reconstruct(frame, CONSENT, replace(FAST, size_px=400))
    assert (avatar.camera.width, avatar.camera.height) == (400, 300)
    assert summary.face_px < 3
    assert summary.psnr_db > 24


def test_several_people_are_no_portrait():
    capture = cv2.VideoCapture(str(samples.video('party')))
    frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    with pytest.raises(PortraitError, match='several people'):
        reconstruct(frame, CONSENT, FAST)


@pytest.fixture(scope='module')
def cache(tmp_path_factory, portrait):
    """A cache with one avatar in it."""
    folder = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('VISA_CACHE_DIR', str(folder))
        cached_avatar(portrait, CONSENT, FAST)
    return folder


def test_the_cache_returns_the_avatar_with_the_new_consent(cache, portrait, monkeypatch):
    monkeypatch.setenv('VISA_CACHE_DIR', str(cache))
    again = Consent('eileen-2', 'Eileen', 5, 'once more')
    avatar, summary = cached_avatar(portrait.copy(), again, FAST)
    assert summary.cached
    assert avatar.consent == again
    assert avatar.portrait_pose.operator_id == 'eileen-2'
    assert summary.gaussians == len(avatar)


def test_a_damaged_entry_is_built_again_to_the_same_bytes(cache, portrait, monkeypatch, caplog):
    monkeypatch.setenv('VISA_CACHE_DIR', str(cache))
    path, = (cache / 'avatars').glob('*.visa')
    good = path.read_bytes()
    path.write_bytes(good[:1000])
    with caplog.at_level(logging.WARNING):
        _, summary = cached_avatar(portrait, CONSENT, FAST)
    assert not summary.cached
    assert 'built again' in caplog.text
    assert path.read_bytes() == good


def test_an_unwritable_cache_costs_only_time(tmp_path, portrait, monkeypatch, caplog):
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('VISA_CACHE_DIR', str(tmp_path / 'file'))
    with caplog.at_level(logging.WARNING):
        avatar, summary = cached_avatar(portrait, CONSENT, FAST)
    assert len(avatar) > 10_000
    assert not summary.cached
    assert 'not kept' in caplog.text
