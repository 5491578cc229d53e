"""What a runtime computes: a network, at a size."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.shading.guidance import PIXEL_CHANNELS, SHAPE_CHANNELS
from visa_ros.shading.network_config import read_network_config
from visa_ros.types import Float32

if TYPE_CHECKING:
    from visa_ros.shading.network import ShaderNetwork


@dataclass(frozen=True, eq=False)
class Job:
    """
    What a runtime is opened for.

    Attributes
    ----------
    weights : Path or bytes
        The file, beside which exported graphs may lie, or what one holds.
    features : int
        Channels of the avatar's features that the network is shown.
    height, width : int
        Of the pictures, multiples of ``GRID``.
    precision : str
        Of ``config.PRECISIONS``.
    times : tuple of float
        All t that will be asked for.
    network : ShaderNetwork
        Of the weights, in float32 on the CPU, read when first asked for; runtimes leave it as it
        is.

    """

    weights: Path | bytes
    features: int
    height: int
    width: int
    precision: str = 'auto'
    times: tuple[float, ...] = (1.0,)

    @cached_property
    def network(self) -> ShaderNetwork:  # noqa: D102
        from visa_ros.shading.network import load_network

        return load_network(self.weights)

    def zeros(self) -> tuple[Float32, Float32]:
        """Return pixels and a guide of the right shapes."""
        return (np.zeros((PIXEL_CHANNELS, self.height, self.width), np.float32),
                np.zeros((SHAPE_CHANNELS + self.features,
                          self.height // FEATURE_STRIDE, self.width // FEATURE_STRIDE),
                         np.float32))


def read_job(weights: Path | bytes, height: int, width: int, precision: str = 'auto',
             times: tuple[float, ...] = (1.0,)) -> Job:
    """
    Return a job of weights.

    Raises
    ------
    ResourceError
        The weights cannot be read.

    """
    return Job(weights, read_network_config(weights).features, height, width, precision, times)
