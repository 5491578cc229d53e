"""Trained networks as files: half-precision tensors and, in the header, size and training."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from visa_ros.cache import write_atomically
from visa_ros.errors import ResourceError

N = TypeVar('N', bound=nn.Module)


def encode_weights(network: nn.Module, config: Any, about: Mapping[str, str],
                   exact: tuple[str, ...] = ()) -> bytes:
    """
    Return a network as the bytes of a file.

    Parameters
    ----------
    network : nn.Module
    config : dataclass
        Its size.
    about : mapping of str to str
        Facts about its training.
    exact : tuple of str
        Tensors that keep their precision.

    """
    tensors = {name: (value if name in exact else value.half()).contiguous()
               for name, value in network.state_dict().items()}
    return save(tensors, {'config': json.dumps(asdict(config)), **about})


def save_weights(network: nn.Module, config: Any, path: Path, about: Mapping[str, str],
                 exact: tuple[str, ...] = ()) -> None:
    """Write ``encode_weights``; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode_weights(network, config, about, exact))


def load_weights(source: Path | bytes, build: Callable[[dict[str, Any]], N], what: str,
                 remedy: str) -> N:
    """
    Read a network, ready to be asked, in float32.

    Parameters
    ----------
    source : Path or bytes
        The file, or what it holds.
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
        data = source if isinstance(source, bytes) else source.read_bytes()
        # safetensors: a uint64 with the length of the JSON header, then the header.
        header = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')])
        network = build(json.loads(header['__metadata__']['config']))
        network.load_state_dict({name: value.float() for name, value in load(data).items()})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        where = 'the avatar' if isinstance(source, bytes) else source
        raise ResourceError(f'{where} does not hold {what} ({error}); {remedy}') from error
    return network.eval().requires_grad_(False)
