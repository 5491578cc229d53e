"""Trained networks as files: half-precision tensors and, in the header, size and training."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from visa_ros.errors import ResourceError

N = TypeVar('N', bound=nn.Module)


def save_weights(network: nn.Module, config: Any, path: Path, about: Mapping[str, str],
                 exact: tuple[str, ...] = ()) -> None:
    """
    Write a network.

    Parameters
    ----------
    network : nn.Module
    config : dataclass
        Its size.
    path : Path
    about : mapping of str to str
        Facts about its training.
    exact : tuple of str
        Tensors that keep their precision.

    """
    tensors = {name: (value if name in exact else value.half()).contiguous()
               for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {'config': json.dumps(asdict(config)), **about})


def load_weights(path: Path, build: Callable[[dict[str, Any]], N], what: str, remedy: str) -> N:
    """
    Read a network, ready to be asked, in float32.

    Parameters
    ----------
    path : Path
    build : callable
        Makes the network of its stored config.
    what, remedy : str
        For the message of an error: which network it is, and what to do.

    Raises
    ------
    ResourceError
        There is no such file, it is cut short, or it is not such a network's weights.

    """
    try:
        with safe_open(path, 'pt') as file:
            config = json.loads((file.metadata() or {})['config'])
            # The file is no mapping: it has keys and cannot be iterated.
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = build(config)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ResourceError(f'{path} does not hold {what} ({error}); {remedy}') from error
    return network.eval().requires_grad_(False)
