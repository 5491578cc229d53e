"""Gaussian splatting as the papers and gsplat define it: slow, exact, float64, differentiable."""
import torch
from torch import Tensor


def project(means, quats, scales, viewmat, K, width, height, eps2d=0.3):
    """Return means2d (N, 2), conics (N, 3) and depths (N,) by EWA projection."""
    R_view, t = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means @ R_view.T + t).T
    (fx, _, cx), (_, fy, cy) = K[0], K[1]
    slope_x = (x / z).clamp(-cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx)
    slope_y = (y / z).clamp(-cy / fy - 0.15 * height / fy,
                            (height - cy) / fy + 0.15 * height / fy)
    zero = torch.zeros_like(z)
    J = torch.stack((fx / z, zero, -fx * slope_x / z,
                     zero, fy / z, -fy * slope_y / z), -1).reshape(-1, 2, 3)
    half = J @ R_view @ (rotation(quats) * scales[:, None, :])
    covariance = half @ half.mT + eps2d * torch.eye(2, dtype=means.dtype)
    inverse = torch.linalg.inv(covariance)
    conics = torch.stack((inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]), -1)
    return torch.stack((fx * x / z + cx, fy * y / z + cy), -1), conics, z


def rotation(quats):
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).T
    return torch.stack((
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1).reshape(-1, 3, 3)


def blend(means2d, conics, depths, opacities, colors, background, width, height):
    """Return the image (H, W, D) and alpha (H, W, 1), Gaussian after Gaussian, front to back."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    image = torch.zeros(height, width, colors.shape[1], dtype=colors.dtype)
    transmittance = torch.ones(height, width, dtype=colors.dtype)
    done = torch.zeros(height, width, dtype=torch.bool)
    for i in torch.argsort(depths.detach(), stable=True):
        dx, dy = means2d[i, 0] - x, means2d[i, 1] - y
        a, b, c = conics[i]
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        alpha = (opacities[i] * torch.exp(-sigma)).clamp(max=0.999)
        after = transmittance * (1 - alpha)
        reached = (alpha >= 1 / 255) & ~done
        drawn = reached & (after > 1e-4)
        done = done | (reached & ~drawn)
        image = image + torch.where(drawn, alpha * transmittance, 0)[..., None] * colors[i]
        transmittance = torch.where(drawn, after, transmittance)
    return image + transmittance[..., None] * background, 1 - transmittance[..., None]


def rasterization(means, quats, scales, opacities, colors, viewmat, K, width, height,
                  background=None, render_mode='RGB', near_plane=0.01) -> tuple[Tensor, Tensor]:
    """One camera; every argument in float64."""
    means2d, conics, depths = project(means, quats, scales, viewmat, K, width, height)
    if background is None:
        background = torch.zeros(colors.shape[1], dtype=colors.dtype)
    if 'RGB' not in render_mode:
        colors, background = colors[:, :0], background[:0]
    if 'D' in render_mode:
        colors = torch.cat((colors, depths[:, None]), 1)
        background = torch.cat((background, torch.zeros(1, dtype=colors.dtype)))
    seen = depths >= near_plane
    image, alpha = blend(means2d[seen], conics[seen], depths[seen], opacities[seen], colors[seen],
                         background, width, height)
    if 'ED' in render_mode:
        depth = image[..., -1:] / alpha.clamp(min=1e-10)
        image = torch.cat((image[..., :-1], depth), -1)
    return image, alpha
