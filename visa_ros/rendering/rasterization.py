"""
Differentiable Gaussian splatting for torch: gsplat's interface, on CPU and CUDA.

``rasterization`` has the names, shapes and meaning of ``gsplat.rasterization`` (1.5.3).  CUDA
tensors go to gsplat itself, CPU tensors to this package's kernel (src/splat_cpu), which gives the
same picture and gradients without a GPU.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from visa_ros._native import load
from visa_ros._optional import require
from visa_ros.errors import InputError

_TILE_SIZE = 16
_MAX_SIZE_PX = 16384  # the kernel counts blocks of pixels in 16 bits
_RENDER_MODES = ('RGB', 'D', 'ED', 'RGB+D', 'RGB+ED')


def rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor,
    viewmats: Tensor, Ks: Tensor, width: int, height: int, near_plane: float = 0.01,
    far_plane: float = 1e10, eps2d: float = 0.3, backgrounds: Tensor | None = None,
    render_mode: str = 'RGB', threads: int | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """
    Draw N Gaussians with C cameras.

    Differentiable in means, quats, scales, opacities, colors and backgrounds; on CUDA also in
    viewmats.

    Parameters
    ----------
    means : (N, 3) float32
        Centres, in the world.
    quats : (N, 4) float32
        wxyz, of any length.
    scales : (N, 3) float32
        Standard deviations along the Gaussians' own axes.
    opacities : (N,) float32
        In [0, 1].
    colors : (N, D) or (C, N, D) float32
        Any D channels.
    viewmats : (C, 4, 4) float32
        World to camera; x right, y down, z forward.
    Ks : (C, 3, 3) float32
        Intrinsics, pixels; skew is ignored.
    width, height : int
        Pixels; the centre of the first pixel is (0.5, 0.5).
    near_plane, far_plane : float
        Range of depths of the centres that are drawn.
    eps2d : float
        Added to the diagonal of projected covariances, px^2, so that none is too thin to see.
    backgrounds : (C, D) float32, optional
        Behind the Gaussians; black if not given.
    render_mode : {'RGB', 'D', 'ED', 'RGB+D', 'RGB+ED'}
        'RGB' the colours; 'D' the accumulated depth ``sum_i w_i z_i``; 'ED' the expected depth
        ``sum_i w_i z_i / sum_i w_i``; the others both, the depth as last channel.
    threads : int, optional
        Of the CPU's kernel, 0 for all cores; ``torch.get_num_threads()`` if not given.  Neither
        the picture nor the gradients depend on it.

    Returns
    -------
    render_colors : (C, H, W, D), (C, H, W, 1) or (C, H, W, D + 1) float32
        As ``render_mode`` says.
    render_alphas : (C, H, W, 1) float32
        Accumulated opacity.
    info : dict
        ``means2d`` (C, N, 2), ``conics`` (C, N, 3), ``depths`` (C, N), ``radii`` (C, N, 2) int32
        (0 where unseen) and ``opacities`` (C, N), as gsplat names them with ``packed=False``.
        ``means2d`` is part of the graph: after ``retain_grad()`` its gradient can be read.

    Raises
    ------
    InputError
        A shape, type or device is wrong.
    MissingDependencyError
        The tensors are on CUDA and gsplat is missing, or the package was not built.

    """
    _check(means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane,
           backgrounds, render_mode)
    if means.is_cuda:
        return require('gsplat').rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height,
            near_plane=near_plane, far_plane=far_plane, eps2d=eps2d, packed=False,
            backgrounds=backgrounds, render_mode=render_mode)

    threads = torch.get_num_threads() if threads is None else threads
    cameras = range(len(viewmats))
    projections = [_Project.apply(means, quats, scales, opacities, viewmats[i], Ks[i], width,
                                  height, near_plane, far_plane, eps2d, threads)
                   for i in cameras]
    means2d, conics, depths, extents = (
        _stack(arrays) for arrays in zip(*projections, strict=True))

    with_depth = 'D' in render_mode
    if backgrounds is None:
        backgrounds = colors.new_zeros(len(viewmats), colors.shape[-1])
    if 'RGB' not in render_mode:
        colors, backgrounds = colors[..., :0], backgrounds[:, :0]
    pictures = [_Blend.apply(
        means2d[i], conics[i], depths[i], extents[i], opacities,
        colors if colors.dim() == 2 else colors[i], backgrounds[i], with_depth, width, height,
        torch.is_grad_enabled(), threads) for i in cameras]
    render_colors, render_alphas = (_stack(images) for images in zip(*pictures, strict=True))
    if 'ED' in render_mode:
        depth = render_colors[..., -1:] / render_alphas.clamp(min=1e-10)
        render_colors = torch.cat((render_colors[..., :-1], depth), -1)
    info = {
        'means2d': means2d, 'conics': conics, 'depths': depths,
        'radii': extents.ceil().to(torch.int32), 'opacities': opacities.expand_as(depths),
        'width': width, 'height': height, 'tile_size': _TILE_SIZE, 'n_cameras': len(viewmats),
    }
    return render_colors, render_alphas, info


def _stack(tensors: tuple[Tensor, ...]) -> Tensor:
    """Stack along a new first axis; one tensor is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _check(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor,
           viewmats: Tensor, Ks: Tensor, width: int, height: int, near_plane: float,
           backgrounds: Tensor | None, render_mode: str) -> None:
    tensors = {'means': means, 'quats': quats, 'scales': scales, 'opacities': opacities,
               'colors': colors, 'viewmats': viewmats, 'Ks': Ks}
    if backgrounds is not None:
        tensors['backgrounds'] = backgrounds
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            raise InputError(f'{name} must be a float32 tensor, got '
                             f'{getattr(value, "dtype", type(value).__name__)}')
        if value.device != means.device:
            raise InputError(f'{name} is on {value.device}, means on {means.device}; '
                             'put all on one device')
    if means.device.type not in ('cpu', 'cuda'):
        raise InputError(f'only CPU and CUDA tensors can be drawn, got {means.device}')

    count, cameras = len(means), len(viewmats)
    shapes: dict[str, tuple[int, ...]] = {
        'means': (count, 3), 'quats': (count, 4), 'scales': (count, 3), 'opacities': (count,),
        'viewmats': (cameras, 4, 4), 'Ks': (cameras, 3, 3)}
    if backgrounds is not None:
        shapes['backgrounds'] = (cameras, colors.shape[-1])
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise InputError(f'{name} must have shape {shape}, got {tuple(tensors[name].shape)}')
    if cameras < 1:
        raise InputError('viewmats must hold at least one camera')
    if colors.dim() not in (2, 3) or colors.shape[:-1] not in ((count,), (cameras, count)):
        raise InputError(f'colors must have shape ({count}, D) or ({cameras}, {count}, D), got '
                         f'{tuple(colors.shape)}')
    if not (1 <= width <= _MAX_SIZE_PX and 1 <= height <= _MAX_SIZE_PX):
        raise InputError(f'width and height must lie in [1, {_MAX_SIZE_PX}], got '
                         f'{width}x{height}')
    if not near_plane > 0:
        raise InputError(f'near_plane must be above 0, got {near_plane}')
    if render_mode not in _RENDER_MODES:
        raise InputError(f'render_mode must be one of {", ".join(_RENDER_MODES)}, got '
                         f'{render_mode!r}')
    if viewmats.requires_grad and not means.is_cuda:
        raise InputError('viewmats have no gradient on the CPU; detach() them, or move the '
                         'Gaussians instead')


def _arrays(*tensors: Tensor) -> list:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


class _Project(torch.autograd.Function):
    """3D Gaussians to ellipses in the image: means2d, conics, depths, extents."""

    @staticmethod
    def forward(ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor,
                viewmat: Tensor, K: Tensor, *settings: Any) -> tuple[Tensor, ...]:
        count = len(means)
        projected = tuple(means.new_empty(shape) for shape in (
            (count, 2), (count, 3), (count,), (count, 2)))
        load('splat_cpu').project(*_arrays(means, quats, scales, opacities, viewmat, K),
                                  *settings, *_arrays(*projected))
        ctx.save_for_backward(means, quats, scales, opacities, viewmat, K, projected[3])
        ctx.settings = settings
        ctx.mark_non_differentiable(projected[3])
        return projected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        *inputs, extents = ctx.saved_tensors
        out = tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format)
                    for tensor in inputs[:3])
        load('splat_cpu').project_backward(
            *_arrays(*inputs), *ctx.settings,
            *_arrays(extents, *grads[:3]), *_arrays(*out))
        return *out, *(None,) * (3 + len(ctx.settings))


class _Blend(torch.autograd.Function):
    """Ellipses to an image (H, W, D) and its alpha (H, W, 1)."""

    @staticmethod
    def forward(ctx: Any, means2d: Tensor, conics: Tensor, depths: Tensor, extents: Tensor,
                opacities: Tensor, colors: Tensor, background: Tensor, with_depth: bool,
                width: int, height: int, record: bool, threads: int) -> tuple[Tensor, Tensor]:
        image = colors.new_empty((height, width, colors.shape[1] + with_depth))
        alpha = colors.new_empty((height, width, 1))
        lease = _Lease()
        try:
            lease.rasterizer.draw(
                *_arrays(means2d, conics, depths, extents, opacities, colors, background),
                with_depth, width, height, record, threads,
                *_arrays(image, alpha))
        except ValueError as error:
            raise InputError(f'cannot draw {len(means2d)} Gaussians at {width}x{height}: '
                             f'{error}') from error
        if record:
            ctx.save_for_backward(means2d, conics, depths, extents, opacities, colors, background,
                                  alpha)
            ctx.lease, ctx.settings = lease, (with_depth, width, height, threads)
        return image, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor, grad_alpha: Tensor) -> tuple:
        *inputs, alpha = ctx.saved_tensors
        means2d, conics, depths, _, opacities, colors, _ = inputs
        out = tuple(torch.zeros_like(tensor, memory_format=torch.contiguous_format)
                    for tensor in (means2d, conics, depths, opacities, colors))
        ctx.lease.rasterizer.draw_backward(
            *_arrays(*inputs), *ctx.settings,
            *_arrays(grad_image, grad_alpha), *_arrays(*out))
        grad_background = None
        if ctx.needs_input_grad[6]:
            grad_background = (grad_image[..., :colors.shape[1]] * (1 - alpha)).sum((0, 1))
        return *out[:3], None, *out[3:], grad_background, *(None,) * 5


class _Lease:
    """One of a pool of rasterizers, whose buffers outlive the graph that borrowed them."""

    _pool: list[Any] = []  # noqa: RUF012 - shared on purpose; list's append and pop are atomic

    def __init__(self) -> None:
        try:
            self.rasterizer = self._pool.pop()
        except IndexError:
            self.rasterizer = load('splat_cpu').Rasterizer()

    def __del__(self) -> None:
        if hasattr(self, 'rasterizer'):
            self._pool.append(self.rasterizer)
