"""Size of the shader's network, as its weights' header says it; known without torch."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visa_ros.weight_file import read_config

_MOST_LEVELS, _MOST_CHANNELS, _MOST_BLOCKS = 4, 512, 4
WHAT = 'the shader'
REMEDY = 'train it: python -m visa_ros.training.shader, or set shading.weights to none'


@dataclass(frozen=True)
class ShaderNetworkConfig:
    """
    Size of the network; stored with its weights.

    Attributes
    ----------
    channels : tuple of int
        At 1/4, 1/8 and 1/16 of the picture's size.
    blocks : int
        Residual blocks on each level and way.
    features : int
        Channels of the avatar's features.

    """

    channels: tuple[int, ...] = (48, 96, 160)
    blocks: int = 1
    features: int = 16

    def __post_init__(self) -> None:
        # Avatars bring networks from elsewhere: nothing is allocated for an absurd one.
        sizes = (*self.channels, self.blocks, self.features)
        if not (2 <= len(self.channels) <= _MOST_LEVELS and all(
                isinstance(size, int) and 0 < size <= _MOST_CHANNELS for size in sizes)
                and self.blocks <= _MOST_BLOCKS):
            raise ValueError(f'a network of channels {self.channels!r:.80}, blocks '
                             f'{self.blocks!r:.20} and features {self.features!r:.20}')


# By millions of parameters, about.
SIZES = {'1m': ShaderNetworkConfig(channels=(32, 64, 128)),
         '2m': ShaderNetworkConfig(),
         '6m': ShaderNetworkConfig(channels=(64, 128, 256), blocks=2),
         '14m': ShaderNetworkConfig(channels=(104, 208, 400), blocks=2)}


def from_header(config: dict[str, Any]) -> ShaderNetworkConfig:
    """Return the size that a header holds; ``ValueError`` or ``TypeError`` if it is none."""
    return ShaderNetworkConfig(**config | {'channels': tuple(config['channels'])})


def read_network_config(source: Path | bytes) -> ShaderNetworkConfig:
    """
    Read the size of a network from the header of its file, or of what one holds.

    Raises
    ------
    ResourceError
        There is no such file, or it is not the shader's weights.

    """
    return read_config(source, from_header, WHAT, REMEDY)
