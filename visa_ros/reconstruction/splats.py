"""Gaussians on their way to becoming an avatar."""
from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from visa_ros.types import Float32

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
    return Rotation.from_matrix(frames).as_quat(scalar_first=True).astype(np.float32)


def splats_of(**values: np.ndarray) -> Splats:
    """Return splats of arrays of any type, without features."""
    values['features'] = np.zeros((len(values['means']), 0))
    kinds = {'triangles': np.int32, 'seen': bool}
    return Splats(**{name: np.ascontiguousarray(value, kinds.get(name, np.float32))
                     for name, value in values.items()})
