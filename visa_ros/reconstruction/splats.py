"""Gaussians on their way to becoming an avatar."""
from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from visa_ros.rendering.rasterization import rasterization
from visa_ros.types import Camera, Float32

OPACITY = 0.97    # of what is solid
THICKNESS = 0.2   # of a disc, over its in-plane size


@dataclass(frozen=True, eq=False)
class Splats:
    """
    Gaussians in the portrait camera's frame, each tied to a point of the body (N Gaussians).

    Attributes
    ----------
    means, quats, scales, opacities, colors : float32
        As in ``GaussianAvatar``.
    triangles, barycentrics
        As in ``GaussianAvatar``.
    seen : (N,) bool
        Whether the portrait shows it.
    tuned : (N,) bool
        Whether refinement may change it.
    features : (N, F) float32
        As in ``GaussianAvatar``; none before the network has spoken.

    """

    means: Float32
    quats: Float32
    scales: Float32
    opacities: Float32
    colors: Float32
    triangles: NDArray[np.int32]
    barycentrics: Float32
    seen: NDArray[np.bool_]
    tuned: NDArray[np.bool_]
    features: Float32

    def __len__(self) -> int:
        return len(self.means)

    def chosen(self, which: NDArray[np.bool_]) -> Splats:
        """Return some of them."""
        return Splats(*(getattr(self, field.name)[which] for field in fields(Splats)))


def concatenate(layers: list[Splats]) -> Splats:
    """Return several layers as one."""
    return Splats(*(np.concatenate([getattr(layer, field.name) for layer in layers])
                    for field in fields(Splats)))


def quats_of(frames: np.ndarray) -> Float32:
    """Return wxyz for (N, 3, 3) rotations."""
    turns = Rotation.from_matrix(frames, assume_valid=True)
    return turns.as_quat(scalar_first=True).astype(np.float32)


def splats_of(**values: np.ndarray) -> Splats:
    """Return splats of arrays of any type, without features; what is seen is tuned."""
    values['features'] = np.zeros((len(values['means']), 0))
    values.setdefault('tuned', values['seen'])
    kinds = {'triangles': np.int32, 'seen': bool, 'tuned': bool}
    return Splats(**{name: np.ascontiguousarray(value, kinds.get(name, np.float32))
                     for name, value in values.items()})


def draw(splats: Splats, camera: Camera) -> Float32:
    """Return (H, W, 4) float32 in [0, 1]: the splats' picture over black, and alpha."""
    with torch.no_grad():
        image, alpha, _ = rasterization(
            torch.from_numpy(splats.means), torch.from_numpy(splats.quats),
            torch.from_numpy(splats.scales), torch.from_numpy(splats.opacities),
            torch.from_numpy(splats.colors), torch.eye(4)[None],
            torch.from_numpy(camera.K)[None], camera.width, camera.height)
    return torch.cat([image, alpha], 3)[0].clamp(0, 1).numpy()
