"""The live renderer: an avatar on the real body model, posed and drawn."""
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.errors import InputError, PoseError
from visa_ros.evaluation.rendering import surface_avatar
from visa_ros.rendering.background import read_background
from visa_ros.rendering.rasterization import rasterization
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.rendering.splat_cpu import SplatCpu
from visa_ros.stage import AvatarStage
from visa_ros.trust.watermark import WatermarkConfig, WatermarkReader
from visa_ros.types import OperatorPose, Presence

CONFIG = RenderingConfig(width=160, height=120, background='#102030', backend='cpu')


@pytest.fixture(scope='module')
def avatar():
    return surface_avatar(8000)


@pytest.fixture(scope='module')
def renderer(avatar):
    return AvatarRenderer(avatar, CONFIG)


def turned(pose: OperatorPose, joint: str, axis_angle) -> OperatorPose:
    rotations = pose.joint_rotations.copy()
    rotations[JOINT_INDEX[joint]] = axis_angle
    return replace(pose, joint_rotations=rotations)


def test_frame_shows_the_body_where_it_is(avatar, renderer):
    pose = replace(avatar.portrait_pose, stamp_ns=123)
    frame = renderer.render(pose, Presence.HOLDING)
    assert frame.rgb.shape == (120, 160, 3)
    assert frame.rgb.dtype == np.uint8
    assert frame.stamp_ns == 123
    assert frame.presence is Presence.HOLDING
    assert frame.rgb[0, 0].tolist() == [0x10, 0x20, 0x30]
    assert frame.alpha[0, 0] == frame.depth[0, 0] == 0
    # Where Gaussians of the face project, the picture is opaque and as deep as they are.
    means = renderer.means
    u, v, _ = (renderer.camera.K @ (means / means[:, 2:]).T).round().astype(int)
    head = avatar.means[:, 1] > np.quantile(avatar.means[:, 1], 0.8)
    front = head & (means[:, 2] < np.quantile(means[head, 2], 0.3))
    assert (frame.alpha[v[front], u[front]] > 0.9).mean() > 0.97
    error = np.abs(frame.depth[v[front], u[front]] - means[front, 2])
    assert np.median(error) < 0.01


def test_pose_and_face_move_the_picture(avatar, renderer):
    rest = renderer.render(avatar.portrait_pose).rgb.astype(int)
    nod = renderer.render(turned(avatar.portrait_pose, 'head', (0.4, 0, 0))).rgb
    smile = avatar.portrait_pose.blendshapes.copy()
    smile[BLENDSHAPE_INDEX['jawOpen']] = 1
    mouth = renderer.render(replace(avatar.portrait_pose, blendshapes=smile)).rgb
    changed = [np.abs(rest - picture).max(-1) > 20 for picture in (nod, mouth)]
    assert changed[0].sum() > changed[1].sum() > 10
    assert not changed[0][100:].any()  # the belly does not nod


def test_previous_frame_stays_while_the_next_is_drawn(avatar, renderer):
    first = renderer.render(avatar.portrait_pose)
    kept = first.rgb.copy(), first.alpha.copy(), first.depth.copy()
    second = renderer.render(turned(avatar.portrait_pose, 'head', (0, 0.5, 0)))
    for array, copy in zip((first.rgb, first.alpha, first.depth), kept, strict=True):
        assert np.array_equal(array, copy)
    assert not np.array_equal(first.rgb, second.rgb)
    third = renderer.render(avatar.portrait_pose)
    assert third.rgb is first.rgb  # buffers are reused
    assert np.array_equal(third.rgb, kept[0])


def assert_alike(rgb: np.ndarray, exact: np.ndarray) -> None:
    """Check bytes against floats: rounded, and finished by the screen's rule."""
    error = np.abs(rgb - exact.clip(0, 1) * 255)
    assert np.quantile(error, 0.9) < 0.501
    assert np.quantile(error, 0.999) < 1.01
    assert error.max() < 10


def test_live_picture_is_the_rasterizers(avatar):
    means, quats = AvatarSkinning(load_body_model(), avatar).pose(avatar.portrait_pose)
    camera = avatar.camera.resized(100, 80)
    background = np.array([0.1, 0.2, 0.3], np.float32)
    rgb, alpha, depth = (np.zeros((80, 100, 3), np.uint8), np.zeros((80, 100), np.float32),
                         np.zeros((80, 100), np.float32))
    SplatCpu(avatar.scales, avatar.opacities, avatar.colors, camera, background).draw(
        means, quats, rgb, alpha, depth)
    image, alphas, _ = rasterization(
        *(torch.tensor(array) for array in (means, quats, avatar.scales, avatar.opacities,
                                            avatar.colors)),
        torch.eye(4)[None], torch.tensor(camera.K)[None], 100, 80,
        backgrounds=torch.tensor(background)[None], render_mode='RGB+ED')
    image, alphas = image[0].numpy(), alphas[0, ..., 0].numpy()
    assert_alike(rgb, image[..., :3])
    assert np.array_equal(alpha == 0, alphas == 0)
    # A finished pixel may let half a grey level through, or, as gsplat finishes it, a tenth.
    assert (alpha - alphas).min() > -0.003
    assert (alpha - alphas).max() < 0.1
    assert np.abs(depth - np.where(alphas > 0, image[..., 3], 0)).mean() < 1e-4


def test_features_are_splatted_like_colours_where_they_are_wanted(avatar, renderer):
    assert renderer.render(avatar.portrait_pose).features is None
    shown = replace(avatar, features=np.concatenate([avatar.colors, -avatar.colors], 1))
    black = RenderingConfig(width=160, height=120, background='#000000', backend='cpu')
    renderer = AvatarRenderer(shown, black, window_px=0)
    frame = renderer.render(avatar.portrait_pose)
    assert frame.features.shape == (30, 40, 6)
    small = AvatarRenderer(shown, black, camera=renderer.camera.smaller(4))
    rgb = small.render(avatar.portrait_pose).rgb
    assert_alike(rgb, frame.features[..., :3])
    assert np.array_equal(frame.features[..., :3], -frame.features[..., 3:])
    assert frame.features.max() > 0.3


def test_a_frame_says_where_the_head_is(avatar, renderer):
    frame = renderer.render(avatar.portrait_pose)
    x, y = frame.head_px
    rows, columns = np.nonzero(frame.alpha > 0.5)
    assert columns.min() < x < columns.max()
    assert rows.min() < y < (rows.min() + rows.max()) / 2


def test_a_framing_is_another_cut_of_the_same_view(avatar, renderer):
    shown = renderer.render(avatar.portrait_pose)
    kept = shown.rgb.copy()
    for framing in ('head', 'upper_body'):
        cut = AvatarRenderer(avatar, replace(CONFIG, framing=framing, width=480, height=360))
        frame = cut.render(avatar.portrait_pose)
        x, y = frame.head_px
        assert 0 < x < 480
        assert 0 < y < 360
        # what is at a pixel of the cut is at that ray's pixel of the portrait's view
        to_portrait = (renderer.camera.K @ np.linalg.inv(cut.camera.K))[:2]
        again = cv2.warpAffine(frame.rgb, to_portrait, (160, 120), flags=cv2.INTER_LINEAR)
        both = again.any(2)
        assert both.mean() > 0.05
        assert np.abs(again[both].astype(int) - kept[both]).mean() < 25
    head = AvatarRenderer(avatar, replace(CONFIG, framing='head')).render(avatar.portrait_pose)
    assert head.alpha[40:60].mean() > 1.7 * shown.alpha[40:60].mean()


@pytest.mark.parametrize(('width', 'height'), [(160, 120), (120, 160), (128, 128)])
@pytest.mark.parametrize('framing', ['head', 'upper_body'])
def test_a_framing_shows_the_whole_head_and_nothing_below_the_portrait(avatar, framing, width,
                                                                       height):
    renderer = AvatarRenderer(avatar, RenderingConfig(
        width=width, height=height, framing=framing, backend='cpu'))
    frame = renderer.render(avatar.portrait_pose)
    first = np.flatnonzero(frame.alpha.max(1) > 0.5)[0]
    assert first > 0  # room above
    top = np.flatnonzero(frame.alpha[first + 5] > 0.5)
    assert 0 < top.min() < top.max() < width - 1
    K, portrait = renderer.camera.K, avatar.camera
    lowest = (height - K[1, 2]) / K[1, 1]
    assert lowest <= (portrait.height - portrait.K[1, 2]) / portrait.K[1, 1] + 1e-5


def test_an_image_is_behind_the_avatar(avatar, tmp_path):
    photo = samples.portrait()
    cv2.imwrite(str(tmp_path / 'room.png'), photo[..., ::-1])
    behind = read_background(str(tmp_path / 'room.png'), 160, 120)
    assert np.abs(behind.astype(int) - cv2.resize(photo, (160, 160), interpolation=cv2.INTER_AREA)[
        20:140]).max() <= 1
    stage = AvatarStage(avatar, replace(CONFIG, background=str(tmp_path / 'room.png')),
                        watermark=WatermarkConfig(invisible=False))
    frame = stage.frame()
    shown = stage.shade(frame)
    assert shown.rgba is None
    expected = frame.rgb + (1 - frame.alpha[..., None]) * behind
    assert np.abs(shown.rgb - expected).max() <= 1.5
    assert np.array_equal(shown.rgb[frame.alpha == 0], behind[frame.alpha == 0])
    kept = shown.rgb.copy()
    assert stage.shade(stage.frame()).rgb is not shown.rgb
    assert np.array_equal(shown.rgb, kept)
    assert stage.shade(stage.frame()).rgb is shown.rgb  # buffers are reused


def test_a_transparent_background_is_straight_alpha(avatar):
    stage = AvatarStage(avatar, replace(CONFIG, background='transparent'),
                        watermark=WatermarkConfig(invisible=False))
    frame = stage._renderer.render(avatar.portrait_pose)
    shown = stage.shade(frame)
    alpha = shown.rgba[..., 3:].astype(float) / 255
    assert np.abs(alpha[..., 0] - frame.alpha).max() < 0.003
    assert 0.05 < alpha.mean() < 0.95
    color = np.array((0x2b, 0x30, 0x38))
    plain = AvatarRenderer(avatar, replace(CONFIG, background='#2b3038'))
    over = plain.render(avatar.portrait_pose).rgb
    assert np.abs(shown.rgb.astype(int) - over).mean() < 0.6
    again = alpha * shown.rgba[..., :3] + (1 - alpha) * color
    assert np.abs(again - shown.rgb).max() < 2.5
    assert (shown.rgb[alpha[..., 0] == 0] == color).all()


def test_renderers_in_several_threads_do_not_disturb_each_other(avatar):
    def pictures(angle):
        renderer = AvatarRenderer(avatar, CONFIG)
        pose = turned(avatar.portrait_pose, 'head', (0, angle, 0))
        return [renderer.render(pose).rgb.copy() for _ in range(10)]

    angles = (-0.4, 0.0, 0.4)
    with ThreadPoolExecutor(3) as executor:
        together = list(executor.map(pictures, angles))
    for angle, results in zip(angles, together, strict=True):
        alone = pictures(angle)[0]
        assert all(np.array_equal(picture, alone) for picture in results)


def test_size_may_differ_from_the_portraits(avatar, renderer):
    wide = AvatarRenderer(avatar, RenderingConfig(width=320, height=120, backend='cpu'))
    inner = wide.render(avatar.portrait_pose).alpha[:, 80:240]
    assert np.abs(inner - renderer.render(avatar.portrait_pose).alpha).max() < 1e-3


def test_a_pose_in_another_frame_is_refused(avatar, renderer):
    with pytest.raises(PoseError, match='other_camera'):
        renderer.render(replace(avatar.portrait_pose, frame_id='other_camera'))


@pytest.mark.parametrize('settings', [
    {'background': 'blue'}, {'background': '#12345'}, {'background': ''},
    {'background': '/'}, {'background': '/nowhere/room.jpg'}, {'framing': 'feet'},
    {'width': 0}, {'backend': 'metal'}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        RenderingConfig(**settings)


@pytest.mark.parametrize('size', [8, 65 * 2**20], ids=('no image', 'too large'))
def test_a_background_that_is_no_image_is_named(tmp_path, size):
    with (tmp_path / 'room.jpg').open('wb') as file:
        file.truncate(size)
    with pytest.raises(InputError, match=r'background.*room\.jpg'):
        replace(CONFIG, background=str(tmp_path / 'room.jpg'))


@pytest.mark.parametrize(('name', 'change', 'message'), [
    ('means', lambda a: a[:-1], 'means must hold 24000 values'),
    ('depth', lambda a: a[:10], 'out_depths must hold 1024 values'),
    ('quats', lambda a: a.astype(float), 'quats float64'),
    ('rgb', lambda a: a[:, ::-1], 'C-contiguous')])
def test_wrong_buffers_are_named(avatar, name, change, message):
    splatter = SplatCpu(avatar.scales, avatar.opacities, avatar.colors,
                        avatar.camera.resized(32, 32), np.zeros(3, np.float32))
    arrays = {'means': avatar.means, 'quats': avatar.quats,
              'rgb': np.zeros((32, 32, 3), np.uint8), 'alpha': np.zeros((32, 32), np.float32),
              'depth': np.zeros((32, 32), np.float32)}
    arrays[name] = change(arrays[name])
    with pytest.raises(InputError, match=message):
        splatter.draw(**arrays)


def test_what_leaves_is_marked_and_the_picture_below_only_on_demand(avatar):
    stage = AvatarStage(avatar, replace(CONFIG, width=512, height=512, background='transparent'))
    frame = stage._renderer.render(avatar.portrait_pose)
    drawn = frame.rgb.copy()
    shown = stage.shade(frame)
    assert np.array_equal(frame.rgb, drawn)
    stage.mark(frame.rgb)
    for marked in (shown.rgb, np.ascontiguousarray(shown.rgba[..., :3]), frame.rgb):
        reader = WatermarkReader()
        reader.add(marked)
        assert reader.avatar_id() == stage.avatar_id[:12]
