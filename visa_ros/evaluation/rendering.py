"""How fast Gaussians are drawn and differentiated, by their number, size and channels."""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from visa_ros.evaluation.report import Report
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose

_DISTANCE_M = 1.75
_FOCAL_PER_HEIGHT = 1.9  # head and chest fill the picture at that distance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--counts', type=int, nargs='+', default=[20_000, 50_000, 100_000],
                        help='numbers of Gaussians (default: %(default)s)')
    parser.add_argument('--sizes', type=int, nargs='+', default=[256, 512, 1024],
                        help='widths of the square picture, px (default: %(default)s)')
    parser.add_argument('--channels', type=int, nargs='+', default=[3, 32],
                        help='channels of the differentiable rasterizer (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=0,
                        help='CPU threads, 0 for all cores (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=10,
                        help='timed calls of each (default: %(default)s)')


def run(arguments: argparse.Namespace) -> Report:
    """Time the live loop's rasterizer and the differentiable one on a surface-bound avatar."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    report = Report(
        f'CPU rasterizer, {torch.get_num_threads()} threads, ms',
        notes=['Gaussians lie on the body model (head three times as dense), head and chest in '
               'view.',
               'live: numpy in, RGB uint8 + alpha + depth out; forward and backward: '
               'rasterization() and its whole gradient, projection included.',
               f'Wall time of {arguments.repeats} calls: on a busy machine read the least.'])
    for count in arguments.counts:
        avatar = surface_avatar(count)
        for size in arguments.sizes:
            timings = {'live': _live(avatar, size, arguments.threads, arguments.repeats)}
            for channels in arguments.channels:
                timings[f'forward {channels}'], timings[f'backward {channels}'] = _differentiable(
                    avatar, size, channels, arguments.repeats)
            for name, statistic in (('least', np.min), ('median', np.median)):
                report.rows.append(
                    {'Gaussians': f'{count // 1000}k', 'px': size, '': name}
                    | {what: round(float(statistic(ms)), 1) for what, ms in timings.items()})
    return report


def surface_avatar(count: int, seed: int = 0) -> GaussianAvatar:
    """
    Return a person-like avatar: flat Gaussians spread over the body model, coloured by normals.

    Parameters
    ----------
    count : int
        Of Gaussians, on the body above the hips; the head is three times as dense.
    seed : int
        Of the random places.

    """
    from visa_ros.body.model import load_body_model
    from visa_ros.conventions import JOINT_INDEX

    random = np.random.default_rng(seed)
    model = load_body_model()
    betas = np.zeros(len(model.shape_basis), np.float32)
    vertices, joints = model.shaped(betas)
    corners = vertices[model.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    height = corners[..., 1].mean(1)
    weight = area * (height > joints[JOINT_INDEX['pelvis'], 1])
    weight = weight * np.where(height > joints[JOINT_INDEX['head'], 1], 3, 1)
    weight /= weight.sum()
    shares = (np.arange(count) + 0.5) / count  # evenly over the surface, not in random clumps
    triangles = np.searchsorted(np.cumsum(weight), shares).clip(max=len(weight) - 1)
    barycentrics = random.dirichlet((1, 1, 1), count).astype(np.float32)

    normals = cross[triangles] / (2 * area[triangles, None])
    x, y, z = normals.T
    # The shortest turn from z to the normal; a normal along -z takes any half turn.
    quats = np.stack((1 + z, -y, x, np.zeros(count)), 1)
    quats[z < -0.9999] = 0, 1, 0, 0
    spacing = 1 / np.sqrt(count * weight[triangles] / area[triangles])
    return GaussianAvatar(
        body_model=model.name, betas=betas, triangles=triangles.astype(np.int32),
        barycentrics=barycentrics,
        means=np.einsum('nk,nkc->nc', barycentrics, corners[triangles]).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=(spacing[:, None] * (0.7, 0.7, 0.14)).astype(np.float32),
        opacities=np.full(count, 0.95, np.float32),
        colors=(0.5 + 0.5 * normals).astype(np.float32),
        features=np.zeros((count, 0), np.float32),
        camera=Camera.from_focal(_FOCAL_PER_HEIGHT * 512, 512, 512),
        portrait_pose=_portrait_pose(joints),
        consent=Consent('operator', 'operator', 0, 'no real person'))


def _portrait_pose(joints: np.ndarray) -> OperatorPose:
    """Face the camera with the arms down, the neck just above the picture's middle."""
    from visa_ros.conventions import JOINT_INDEX

    pose = OperatorPose.rest()
    pose.joint_rotations[JOINT_INDEX['pelvis']] = np.pi, 0, 0
    pose.joint_rotations[JOINT_INDEX['left_shoulder']] = 0, 0, -1.2
    pose.joint_rotations[JOINT_INDEX['right_shoulder']] = 0, 0, 1.2
    neck_above_pelvis = joints[JOINT_INDEX['neck'], 1] - joints[JOINT_INDEX['pelvis'], 1]
    pose.translation[:] = 0, neck_above_pelvis + 0.05, _DISTANCE_M
    return pose


def _live(avatar: GaussianAvatar, size: int, threads: int, repeats: int) -> np.ndarray:
    from visa_ros.body.model import load_body_model
    from visa_ros.body.skinning import AvatarSkinning
    from visa_ros.rendering.splat_cpu import SplatCpu

    means, quats = AvatarSkinning(load_body_model(), avatar).pose(avatar.portrait_pose)
    splatter = SplatCpu(avatar.scales, avatar.opacities, avatar.colors,
                        avatar.camera.resized(size, size), np.zeros(3, np.float32), threads)
    out = (np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.float32),
           np.zeros((size, size), np.float32))
    return _timed(lambda: splatter.draw(means, quats, *out), repeats)


def _differentiable(avatar: GaussianAvatar, size: int, channels: int,
                    repeats: int) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from visa_ros.body.model import load_body_model
    from visa_ros.body.skinning import AvatarSkinning
    from visa_ros.rendering.rasterization import rasterization

    posed = AvatarSkinning(load_body_model(), avatar).pose(avatar.portrait_pose)
    inputs = tuple(torch.tensor(array).requires_grad_() for array in (
        *posed, avatar.scales, avatar.opacities, np.random.default_rng(0).random(
            (len(avatar), channels), np.float32)))
    K = torch.tensor(avatar.camera.resized(size, size).K)[None]
    view = torch.eye(4)[None]

    def forward() -> torch.Tensor:
        means, quats, scales, opacities, colors = inputs
        return rasterization(means, quats, scales, opacities, colors, view, K, size, size)[0]

    image = forward()
    grad = torch.rand_like(image)
    backward = _timed(lambda: torch.autograd.grad(image, inputs, grad, retain_graph=True),
                      repeats)
    return _timed(forward, repeats), backward


def _timed(call: Callable[[], object], repeats: int) -> np.ndarray:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds) * 1e3
