"""The rasterizer against an exact float64 reference, gsplat's torch code, and hostile input."""
import itertools
from importlib import import_module

import numpy as np
import pytest
import splat_reference as reference
import torch

from visa_ros import _native
from visa_ros.errors import InputError
from visa_ros.rendering.rasterization import rasterization

NAMES = ('means', 'quats', 'scales', 'opacities', 'colors')


def scene(count=300, channels=3, seed=0):
    """A cloud before the camera: some behind it, some beside the picture, most overlapping."""
    random = np.random.default_rng(seed)
    means = random.normal((0, 0, 2), (0.5, 0.5, 0.3), (count, 3))
    means[: count // 20, 2] *= -1
    arrays = (means, random.normal(size=(count, 4)), random.uniform(0.01, 0.15, (count, 3)),
              random.uniform(0.02, 1, count), random.random((count, channels)))
    return [torch.tensor(array, dtype=torch.float32) for array in arrays]


def camera(width, height):
    """A camera that is turned, moved and off-centre."""
    turn = torch.tensor([[0.98, 0.05, -0.05, 0.1]])
    view = torch.eye(4)
    view[:3, :3] = reference.rotation(turn)[0]
    view[:3, 3] = torch.tensor([0.1, -0.05, 0.2])
    K = torch.tensor([[1.1 * width, 0, 0.55 * width], [0, 1.2 * width, 0.45 * height], [0, 0, 1]])
    return view[None], K[None]


def double(*tensors):
    return [tensor.detach().double() for tensor in tensors]


@pytest.mark.parametrize(('width', 'height', 'channels', 'mode'), [
    (64, 48, 3, 'RGB'), (50, 37, 3, 'RGB'), (50, 37, 4, 'RGB'), (33, 20, 1, 'RGB'),
    (33, 20, 32, 'RGB'), (17, 16, 3, 'RGB+D'), (50, 37, 3, 'RGB+ED'), (20, 40, 5, 'RGB+D'),
    (20, 40, 3, 'D'), (20, 40, 3, 'ED'), (1, 1, 3, 'RGB'), (1, 40, 3, 'RGB'), (5, 3, 3, 'RGB'),
])
def test_matches_reference(width, height, channels, mode):
    gaussians, (view, K) = scene(channels=channels), camera(width, height)
    background = torch.linspace(0.1, 0.9, channels)
    image, alpha, info = rasterization(*gaussians, view, K, width, height,
                                       backgrounds=background[None], render_mode=mode)
    expected, expected_alpha = reference.rasterization(
        *double(*gaussians, view[0], K[0]), width, height, background.double(), mode)
    assert image.shape == (1, *expected.shape)
    assert (image[0] - expected).abs().max() < 1e-4
    assert (alpha[0] - expected_alpha).abs().max() < 1e-4
    assert expected_alpha.max() > 0.05  # something was there to be compared
    assert info['radii'].shape == (1, 300, 2)


@pytest.mark.parametrize(('channels', 'mode'), [
    (3, 'RGB'), (4, 'RGB'), (3, 'RGB+ED'), (7, 'RGB+D'), (3, 'ED')])
def test_gradients_match_autograd_of_reference(channels, mode):
    width, height = 45, 38
    gaussians, (view, K) = scene(channels=channels, seed=1), camera(width, height)
    background = torch.linspace(0.1, 0.9, channels)[None]
    ours = [tensor.requires_grad_() for tensor in (*gaussians, background)]
    exact = [tensor.requires_grad_() for tensor in double(*ours)]
    image, alpha, info = rasterization(*ours[:5], view, K, width, height, backgrounds=ours[5],
                                       render_mode=mode)
    info['means2d'].retain_grad()
    expected = reference.rasterization(*exact[:5], *double(view[0], K[0]), width, height,
                                       exact[5][0], mode)
    torch.manual_seed(2)
    weights = [torch.randn_like(tensor) for tensor in (image, alpha)]
    sum((a * w).sum() for a, w in zip((image, alpha), weights, strict=True)).backward()
    sum((a * w[0]).sum() for a, w in zip(expected, weights, strict=True)).backward()
    for name, a, b in zip((*NAMES, 'background'), ours, exact, strict=True):
        if b.grad is None or not b.grad.any():  # the colours of a depth picture
            assert a.grad is None or not a.grad.any()
            continue
        assert (a.grad - b.grad).norm() <= 1e-3 * b.grad.norm(), name
    assert info['means2d'].grad.abs().max() > 0


def test_gradients_through_the_projection_match_finite_differences():
    """Where the float64 reference could share a mistake, the kernel itself is differentiated."""
    width, height = 64, 48
    gaussians, (view, K) = scene(40, seed=3), camera(width, height)
    gaussians[0][:, 2] = gaussians[0][:, 2].abs()

    def project(means, quats, scales):
        info = rasterization(means, quats, scales, *gaussians[3:], view, K, width, height)[2]
        return [info[name] for name in ('means2d', 'conics', 'depths')]

    torch.manual_seed(0)
    inputs = [tensor.clone().requires_grad_() for tensor in gaussians[:3]]
    outputs = project(*inputs)
    weights = [torch.randn_like(output) for output in outputs]
    grads = torch.autograd.grad(outputs, inputs, weights)
    for index, (value, grad) in enumerate(zip(gaussians, grads, strict=False)):
        direction = torch.randn_like(value)
        step = 2e-3 * value.abs().mean()
        ends = []
        for sign in (1, -1):
            moved = [tensor.clone() for tensor in gaussians[:3]]
            moved[index] += sign * step * direction
            ends.append(sum((a * w).double().sum()
                            for a, w in zip(project(*moved), weights, strict=True)))
        slope = (ends[0] - ends[1]) / (2 * step)
        expected = (grad * direction).double().sum()
        assert abs(slope - expected) < 0.02 * (grad * direction).double().norm() + 1e-3 * abs(
            expected), NAMES[index]


def test_projection_matches_gsplat():
    torch_impl = pytest.importorskip(
        'gsplat.cuda._torch_impl', reason='gsplat is not installed (requirements-dev.txt)')
    width, height = 64, 48
    gaussians, (view, K) = scene(seed=4), camera(width, height)
    info = rasterization(*gaussians, view, K, width, height)[2]
    covariances, _ = torch_impl._quat_scale_to_covar_preci(*gaussians[1:3], compute_preci=False)
    radii, means2d, depths, conics, _ = torch_impl._fully_fused_projection(
        gaussians[0], covariances, view, K, width, height)
    seen = (info['radii'] > 0).all(-1)
    assert seen.sum() > 100
    assert ((radii > 0).all(-1) | ~seen).all()  # its radii ignore the opacity: they are wider
    assert (info['radii'] <= radii).all()
    for name, expected in (('means2d', means2d), ('conics', conics), ('depths', depths)):
        torch.testing.assert_close(info[name][seen], expected[seen], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_agrees():
    pytest.importorskip('gsplat', reason='gsplat is not installed (requirements-dev.txt)')
    gaussians, (view, K) = scene(seed=5), camera(70, 50)
    grads = []
    for device in ('cpu', 'cuda'):
        inputs = [tensor.to(device).requires_grad_() for tensor in gaussians]
        image, alpha, _ = rasterization(*inputs, view.to(device), K.to(device), 70, 50,
                                        render_mode='RGB+ED')
        (image.square().sum() + alpha.sum()).backward()
        grads.append([image.detach().cpu(), *(tensor.grad.cpu() for tensor in inputs)])
    for ours, theirs in zip(*grads, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * theirs.norm()


HOSTILE = {
    'behind the camera': ('means', (0.0, 0.0, -3.0)),
    'NaN mean': ('means', (float('nan'), 0.0, 2.0)),
    'NaN depth': ('means', (0.0, 0.0, float('nan'))),
    'infinite mean': ('means', (float('inf'), 0.0, 2.0)),
    'infinitely far': ('means', (0.0, 0.0, float('inf'))),
    'in the camera': ('means', (0.0, 0.0, 0.0)),
    'far beside': ('means', (1e8, -1e8, 2.0)),
    'zero quaternion': ('quats', (0.0,) * 4),
    'NaN quaternion': ('quats', (float('nan'),) * 4),
    'NaN scale': ('scales', (float('nan'),) * 3),
    'infinite scale': ('scales', (float('inf'),) * 3),
    'scale beyond float': ('scales', (1e30, 1.0, 1.0)),
    'opacity 0': ('opacities', 0.0),
    'negative opacity': ('opacities', -1.0),
    'NaN opacity': ('opacities', float('nan')),
}


@pytest.mark.parametrize('what', HOSTILE)
def test_void_gaussians_are_left_out(what):
    name, value = HOSTILE[what]
    gaussians, K = scene(60, seed=6), camera(40, 30)[1]
    view = torch.eye(4)[None]
    expected, expected_alpha, _ = rasterization(
        *(tensor[1:] for tensor in gaussians), view, K, 40, 30)
    gaussians[NAMES.index(name)][0] = torch.tensor(value)
    inputs = [tensor.requires_grad_() for tensor in gaussians]
    image, alpha, info = rasterization(*inputs, view, K, 40, 30)
    assert torch.equal(image, expected)
    assert torch.equal(alpha, expected_alpha)
    assert not info['radii'][0, 0].any()
    for tensor, grad in zip(inputs, torch.autograd.grad(image.sum() + alpha.sum(), inputs),
                            strict=True):
        assert grad.isfinite().all()
        assert not grad[0].any()
        assert tensor.shape == grad.shape


@pytest.mark.parametrize('scale', [1e-9, 30.0, 1e4])
def test_extreme_sizes_are_drawn(scale):
    gaussians, (view, K) = scene(30, seed=7), camera(40, 30)
    gaussians[2][:3] = scale
    image, alpha, _ = rasterization(*gaussians, view, K, 40, 30)
    expected, expected_alpha = reference.rasterization(
        *double(*gaussians, view[0], K[0]), 40, 30)
    assert (image[0] - expected).abs().max() < 1e-3
    assert (alpha[0] - expected_alpha).abs().max() < 1e-3


def test_nothing_to_draw():
    background = torch.tensor([[0.2, 0.4, 0.6]])
    empty = [tensor[:0].requires_grad_() for tensor in scene()]
    image, alpha, _ = rasterization(*empty, *camera(20, 10), 20, 10, backgrounds=background)
    assert torch.equal(image, background.expand(1, 10, 20, 3))
    assert not alpha.any()
    image.sum().backward()
    assert empty[0].grad.shape == (0, 3)


def test_cameras_and_their_colours_are_drawn_one_by_one():
    means, quats, scales, opacities, _ = scene(seed=8)
    views, Ks = camera(40, 30)
    views = torch.cat((views, torch.eye(4)[None]))
    Ks = Ks.repeat(2, 1, 1)
    colors = torch.rand(2, len(means), 3, generator=torch.Generator().manual_seed(0))
    means.requires_grad_()
    both, alphas, info = rasterization(means, quats, scales, opacities, colors, views, Ks, 40, 30)
    assert both.shape == (2, 30, 40, 3)
    assert alphas.shape == (2, 30, 40, 1)
    assert info['means2d'].shape == (2, 300, 2)
    both_grad = torch.autograd.grad(both.square().sum(), means)[0]
    singles = [rasterization(means, quats, scales, opacities, colors[i], views[i:i + 1],
                             Ks[i:i + 1], 40, 30)[0] for i in range(2)]
    assert torch.equal(both, torch.cat(singles))
    grads = [torch.autograd.grad(single.square().sum(), means)[0] for single in singles]
    torch.testing.assert_close(both_grad, grads[0] + grads[1])


def test_threads_do_not_change_a_bit():
    gaussians, (view, K) = scene(2000, seed=9), camera(200, 150)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            inputs = [tensor.clone().requires_grad_() for tensor in gaussians]
            image, alpha, _ = rasterization(*inputs, view, K, 200, 150)
            grads = torch.autograd.grad(image.square().sum() + alpha.sum(), inputs)
            results.append((image, alpha, *grads))
    finally:
        torch.set_num_threads(before)
    for first, other in itertools.product(results[:1], results[1:]):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_graphs_may_overlap():
    """Two pictures drawn before either is differentiated keep their own state."""
    gaussians, (view, K) = scene(seed=10), camera(40, 30)
    means = gaussians[0].requires_grad_()

    def draw(shift):
        return rasterization(means + shift, *gaussians[1:], view, K, 40, 30)[0].square().sum()

    alone = [torch.autograd.grad(draw(shift), means)[0] for shift in (0.0, 0.1)]
    first, second = draw(0.0), draw(0.1)
    assert torch.equal(torch.autograd.grad(first, means)[0], alone[0])
    assert torch.equal(torch.autograd.grad(second, means, retain_graph=True)[0], alone[1])
    assert torch.equal(torch.autograd.grad(second, means)[0], alone[1])


def test_both_builds_agree(monkeypatch):
    base = import_module('visa_ros._splat_cpu_base')
    if not base.cpu_has_v3():
        pytest.skip('this processor lacks AVX2: only the base build runs here')
    gaussians, (view, K) = scene(seed=11), camera(50, 37)
    results = []
    for build in (base, import_module('visa_ros._splat_cpu_v3')):
        monkeypatch.setattr('visa_ros.rendering.rasterization.load', lambda _, b=build: b)
        inputs = [tensor.clone().requires_grad_() for tensor in gaussians]
        rasterizer = type('Lease', (), {'rasterizer': build.Rasterizer()})
        monkeypatch.setattr('visa_ros.rendering.rasterization._Lease', rasterizer)
        image = rasterization(*inputs, view, K, 50, 37, render_mode='RGB+D')[0]
        results.append((image.detach(), *torch.autograd.grad(image.square().sum(), inputs)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
    assert _native.load('splat_cpu') is build


@pytest.mark.parametrize(('index', 'change', 'message'), [
    (0, lambda t: t[:, :2], 'means must have shape'),
    (1, lambda t: t[:-1], 'quats must have shape'),
    (2, lambda t: t.double(), 'scales must be a float32 tensor'),
    (3, lambda t: t[:, None], 'opacities must have shape'),
    (4, lambda t: t[:-1], 'colors must have shape'),
    (4, lambda t: t.numpy(), 'colors must be a float32 tensor'),
    (0, lambda t: t.to('meta'), 'means'),
    (5, lambda t: t[0], 'viewmats must have shape'),
    (5, lambda t: t.clone().requires_grad_(), 'viewmats have no gradient'),
    (6, lambda t: t[:, :2], 'Ks must have shape'),
    (7, lambda t: 0, 'width and height'),
    (8, lambda t: 10**6, 'width and height'),
])
def test_wrong_input_is_named(index, change, message):
    arguments = [*scene(10), *camera(20, 10), 20, 10]
    arguments[index] = change(arguments[index])
    with pytest.raises(InputError, match=message):
        rasterization(*arguments)


@pytest.mark.parametrize(('options', 'message'), [
    ({'render_mode': 'BGR'}, 'render_mode must be one of'),
    ({'backgrounds': torch.zeros(3)}, 'backgrounds must have shape'),
    ({'near_plane': 0.0}, 'near_plane must be above 0'),
])
def test_wrong_option_is_named(options, message):
    with pytest.raises(InputError, match=message):
        rasterization(*scene(10), *camera(20, 10), 20, 10, **options)
