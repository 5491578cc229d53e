"""The shader as a stream sees it; what its weights are worth is for evaluation, not for here."""
import json
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save

from visa_ros.errors import InputError, ResourceError
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.config import GENERIC, ShadingConfig
from visa_ros.shading.exported import FLOAT, INT8, find_exported
from visa_ros.shading.guidance import guide, to_bytes, to_network
from visa_ros.shading.network import (
    ShaderNetwork,
    between,
    load_network,
    save_network,
    start,
)
from visa_ros.shading.network_config import ShaderNetworkConfig
from visa_ros.shading.stream import ShaderStream
from visa_ros.stage import AvatarStage

SIZE = 192
SMALL = ShaderNetworkConfig(channels=(16, 24, 32))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights that change the picture visibly, of no use."""
    torch.manual_seed(0)
    network = ShaderNetwork(SMALL)
    torch.nn.init.normal_(network.leave.weight, std=0.02)
    torch.nn.init.constant_(network.leave.bias, 0.2)
    path = tmp_path_factory.mktemp('shader') / 'shader.safetensors'
    save_network(network, path, {})
    return path


@pytest.fixture(scope='module')
def frames(astronaut):
    """Frames of a real avatar that turns its head, with a window around it."""
    return frames_of(astronaut[0], 96)


@pytest.fixture(scope='module')
def whole_frames(astronaut):
    """The same, with a window that is the whole picture."""
    return frames_of(astronaut[0], 0)


def frames_of(avatar, window_px):
    """Draw frames, their buffers their own."""
    renderer = AvatarRenderer(avatar, RenderingConfig(SIZE, SIZE), window_px)
    out = []
    for angle in np.linspace(0, 0.3, 6):
        pose = avatar.portrait_pose
        rotations = pose.joint_rotations.copy()
        rotations[15] += (0, angle, 0)
        frame = renderer.render(replace(pose, joint_rotations=rotations))
        out.append(replace(frame, **{name: getattr(frame, name).copy() for name in (
            'rgb', 'alpha', 'depth', 'features', 'turning')}))
    return out


def config(weights, **values):
    return ShadingConfig(**({'weights': str(weights), 'runtime': 'torch', 'window_px': 96,
                             'deadline_ms': 0.0, 'every': 1} | values))


def shaded(stream, frames):
    return [stream.shade(frame).rgb.copy() for frame in frames]


def test_the_same_frames_give_the_same_pictures(weights, frames):
    first = shaded(ShaderStream(SIZE, SIZE, config(weights)), frames)
    second = shaded(ShaderStream(SIZE, SIZE, config(weights)), frames)
    other = shaded(ShaderStream(SIZE, SIZE, config(weights, seed=1)), frames)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(first[-1], other[-1])  # noise counts from the second step on
    other, another = (shaded(ShaderStream(SIZE, SIZE, config(weights, seed=seed, steps=2)), frames)
                      for seed in (0, 1))
    assert not np.array_equal(other[-1], another[-1])


def test_a_stage_with_weights_shades_its_frames_and_says_so(weights, astronaut):
    avatar, _ = astronaut
    stage = AvatarStage(avatar, RenderingConfig(SIZE, SIZE), shading=config(weights))
    for _ in range(4):
        frame = stage.frame()
        picture = stage.shade(frame).rgb
    assert np.abs(picture.astype(int) - frame.rgb).max() > 0
    assert stage.health()['shader'].startswith('torch')
    plain = AvatarStage(avatar, RenderingConfig(SIZE, SIZE), shading=ShadingConfig(weights='none'))
    frame = plain.frame()
    assert plain.shade(frame).rgb is frame.rgb
    assert plain.health()['shader'] == 'none'


def test_the_shipped_weights_shade_anybody_and_their_graphs_are_theirs(astronaut):
    avatar, _ = astronaut
    for precision in (FLOAT, INT8):
        assert find_exported(GENERIC, precision).is_file()
    stage = AvatarStage(avatar, RenderingConfig(SIZE, SIZE), shading=ShadingConfig())
    assert stage.health()['shader'] != 'none'
    assert load_network(GENERIC).config.features == avatar.features.shape[1]


def test_an_avatar_whose_own_shader_cannot_be_used_is_shown_without_it(
        weights, astronaut, caplog):
    avatar, _ = astronaut
    own = replace(avatar, shader=weights.read_bytes())
    assert AvatarStage(own, RenderingConfig(SIZE, SIZE), shading=ShadingConfig()).shader
    cut = replace(avatar, shader=own.shader[:-1000])
    stage = AvatarStage(cut, RenderingConfig(SIZE, SIZE), shading=ShadingConfig())
    assert 'the avatar does not hold the shader' in caplog.text
    assert stage.shade(stage.frame()).rgb.any()


def test_what_was_shown_before_counts(weights, frames):
    stream = ShaderStream(SIZE, SIZE, config(weights))
    through = shaded(stream, frames)
    stream.reset()
    anew = stream.shade(frames[-1]).rgb
    assert np.abs(through[-1].astype(int) - anew).max() > 0


def test_only_the_window_around_the_head_changes_and_fades_into_the_rest(weights, frames):
    stream = ShaderStream(SIZE, SIZE, config(weights))
    pictures = shaded(stream, 4 * frames)
    change = np.abs(pictures[-1].astype(int) - frames[-1].rgb).max(2)
    rows, columns = np.nonzero(change)
    assert np.ptp(rows) < 96
    assert np.ptp(columns) < 96
    x, y = frames[-1].head_px
    assert abs(rows.mean() - y) < 24
    assert abs(columns.mean() - x) < 24


def test_only_what_has_turned_since_the_portrait_changes(weights, whole_frames):
    frames = whole_frames
    stream = ShaderStream(SIZE, SIZE, config(weights, window_px=0))
    picture = shaded(stream, 4 * frames)[-1]
    change = np.abs(picture.astype(int) - frames[-1].rgb).max(2) > 0
    turned = np.repeat(np.repeat(frames[-1].turning[..., 0], 4, 0), 4, 1)
    assert 0.02 < (turned > 0.9).mean() < 0.3  # the head, by 17 degrees
    alpha = frames[-1].alpha
    assert change[(turned > 0.9) & (alpha > 0.5)].mean() > 0.99
    assert not change[cv2.dilate(turned, np.ones((9, 9))) == 0].any()  # its pixels are 4 wide
    assert not change[alpha == 0].any()  # no halo
    shown = frames[0].alpha > 0.9
    kept = shaded(ShaderStream(SIZE, SIZE, config(weights, window_px=0)), [frames[0]] * 12)[-1]
    same = (np.abs(kept.astype(int) - frames[0].rgb).max(2) == 0)
    assert same[shown].mean() > 0.75  # its own portrait, but for what that does not show


def test_shading_fades_in(weights, frames):
    pictures = shaded(ShaderStream(SIZE, SIZE, config(weights)), [frames[-1]] * 14)
    change = [np.abs(picture.astype(int) - frames[-1].rgb).mean() for picture in pictures]
    assert change[0] == 0
    assert change[3] < 0.7 * change[12]


def test_between_asking_corrections_go_on_glide_and_move_with_the_window(weights, astronaut):
    avatar, _ = astronaut
    renderer = AvatarRenderer(avatar, RenderingConfig(SIZE, SIZE), 96)
    stream = ShaderStream(SIZE, SIZE, config(weights, every=3))
    asked, changes = [], []
    runtime = stream.runtime

    class Counting:
        name = 'counting'

        def __call__(self, *inputs):
            asked.append(number)
            return runtime(*inputs)

    stream.runtime = Counting()
    windows = set()
    for number in range(40):
        pose = avatar.portrait_pose
        rotations = pose.joint_rotations.copy()
        rotations[15] += (0, 0.3, 0)
        pose = replace(pose, joint_rotations=rotations, translation=pose.translation + np.array(
            (0.012 * max(number - 30, 0), 0, 0), np.float32))
        due = stream.due
        frame = renderer.render(pose, told=due)
        assert (frame.turning is not None) == due
        windows.add(str(frame.window))
        picture = stream.shade(frame).rgb
        changes.append(np.abs(picture.astype(int) - frame.rgb).mean())
    assert asked == list(range(0, 40, 3))
    assert len(windows) > 1
    assert min(changes[30:]) > 0.5 * max(changes[30:]) > 0


def test_what_is_too_late_fades_out_is_counted_and_the_picture_goes_on(weights, frames):
    stream = ShaderStream(SIZE, SIZE, config(weights, deadline_ms=1e-6))
    pictures = shaded(stream, frames)
    assert stream.late == 1  # then it is not even tried
    assert all(np.array_equal(picture, frame.rgb)
               for picture, frame in zip(pictures, frames, strict=True))


def test_a_runtime_that_fails_shows_the_avatar_itself(weights, frames):
    stream = ShaderStream(SIZE, SIZE, config(weights))

    class Broken:
        name = 'broken'

        def __call__(self, pixels, guide, t):
            raise torch.cuda.OutOfMemoryError('out of memory')

    shaded(stream, [frames[0]] * 5)
    stream.runtime = Broken()
    assert np.array_equal(stream.shade(frames[0]).rgb, frames[0].rgb)
    assert stream.failed == 1


def test_a_runtime_that_goes_on_failing_is_replaced_and_the_picture_never_stops(weights, frames):
    stream = ShaderStream(SIZE, SIZE, config(weights))

    class Broken:
        name = 'broken'

        def __call__(self, pixels, guide, t):
            raise torch.cuda.OutOfMemoryError('out of memory')

    broken = stream.runtime = Broken()
    until_s = time.monotonic() + 60
    while stream.runtime is broken:
        picture = stream.shade(frames[0]).rgb
        assert stream.runtime is not broken or np.array_equal(picture, frames[0].rgb)
        assert time.monotonic() < until_s
    failed = stream.failed
    assert failed >= 2
    assert '(cpu' in stream.runtime.name.lower()
    pictures = shaded(stream, [frames[0]] * 12)
    assert not np.array_equal(pictures[-1], frames[0].rgb)
    assert stream.failed == failed


def test_nan_in_a_frame_does_no_harm(weights, frames):
    broken = replace(frames[0], depth=np.full_like(frames[0].depth, np.nan),
                     features=np.full_like(frames[0].features, np.nan),
                     turning=np.full_like(frames[0].turning, np.nan))
    stream = ShaderStream(SIZE, SIZE, config(weights))
    shaded(stream, [frames[0]] * 12)
    picture = stream.shade(broken).rgb
    assert stream.failed == 0
    assert np.abs(picture.astype(int) - frames[0].rgb).mean() < 60


def test_an_avatar_without_features_is_shaded(weights, frames):
    bare = replace(frames[0], features=None, turning=None)
    told = guide(bare, SMALL.features)
    assert told.shape == (25, 24, 24)
    assert not told[2:].any()
    assert np.array_equal(told[:2], guide(frames[0], SMALL.features)[:2])
    ShaderStream(SIZE, SIZE, config(weights)).shade(bare)


def test_the_guide_lies_on_the_picture(frames, whole_frames):
    told = guide(frames[0], 16)
    alpha = frames[0].alpha[frames[0].window].reshape(24, 4, 24, 4).mean((1, 3))
    assert np.abs(told[0] - alpha).max() < 1e-5
    assert np.abs(told[1]).max() <= 1
    assert np.array_equal(told[2:9], frames[0].turning.transpose(2, 0, 1))
    assert np.array_equal(told[9:], frames[0].features.transpose(2, 0, 1))
    rows, columns = (slice(side.start // 4, side.stop // 4) for side in frames[0].window)
    assert np.abs(told[2:] - guide(whole_frames[0], 16)[2:, rows, columns]).max() < 1e-3


@pytest.mark.parametrize('steps', [1, 4])
def test_a_network_that_knows_the_photograph_finds_it_in_any_number_of_steps(
        weights, frames, steps):
    photograph = np.full((3, 96, 96), 0.5, np.float32)
    seen = []
    stream = ShaderStream(SIZE, SIZE, config(weights, steps=steps))

    class Knowing:
        name = 'knowing'

        def __call__(self, pixels, guide, t):
            seen.append((t, pixels[:3].copy()))
            return photograph

    stream.runtime = Knowing()
    picture = shaded(stream, [frames[0]] * 12)[-1]
    x, y = frames[0].head_px.astype(int)
    assert np.array_equal(picture[y, x], to_bytes(photograph)[0, 0])
    for t, x_t in seen[-steps:]:  # between the photograph and the render
        expected = (1 - t) * photograph + t * seen[-steps][1]
        assert np.abs(x_t - expected).max() < 1e-5


def test_the_flow_begins_at_the_render_and_ends_at_the_photograph():
    render, photograph, noise = torch.rand(3, 2, 3, 8, 8)
    beginning = start(render, noise)
    assert torch.allclose(between(photograph, beginning, torch.zeros(2)), photograph)
    assert torch.allclose(between(photograph, beginning, torch.ones(2)), beginning)


def test_colours_survive_the_way_to_the_network_and_back(frames):
    assert np.array_equal(to_bytes(to_network(frames[0].rgb)), frames[0].rgb)


def test_weights_that_are_none_are_refused(weights, tmp_path):
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ResourceError, match='does not hold the shader'):
        load_network(cut)
    torch.manual_seed(0)
    other = tmp_path / 'other.safetensors'
    network = ShaderNetwork(SMALL)
    network.config = replace(SMALL, blocks=2)  # another size than the tensors have
    save_network(network, other, {})
    with pytest.raises(ResourceError, match='does not hold the shader'):
        load_network(other)
    with pytest.raises(ResourceError, match='does not hold the shader'):
        load_network(tmp_path / 'absent.safetensors')


@pytest.mark.parametrize('size', [{'channels': [100_000] * 3}, {'channels': [48] * 1000},
                                  {'blocks': 10**9}, {'features': -1}, {'channels': 'abc'}])
def test_an_absurd_network_is_refused_before_anything_is_allocated(size):
    config = {'channels': [48, 96], 'blocks': 1, 'features': 16} | size
    data = save({'x': torch.zeros(1)}, {'config': json.dumps(config)})
    with pytest.raises(ResourceError, match='a network of channels'):
        load_network(data)


@pytest.mark.parametrize(('width', 'height', 'window'), [(500, 512, 256), (512, 512, 100)])
def test_sizes_that_cannot_be_shaded_are_refused(weights, width, height, window):
    with pytest.raises(InputError, match='multiples of 16'):
        ShaderStream(width, height, config(weights, window_px=window))
