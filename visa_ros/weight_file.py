"""Trained networks as files: half-precision tensors and, in the header, size and training."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from visa_ros.cache import write_atomically
from visa_ros.errors import ResourceError

if TYPE_CHECKING:
    from torch import nn  # torch takes seconds to import, and a header is read without

C = TypeVar('C')
N = TypeVar('N', bound='nn.Module')


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
    from safetensors.torch import save

    tensors = {name: (value if name in exact else value.half()).contiguous()
               for name, value in network.state_dict().items()}
    return save(tensors, {'config': json.dumps(asdict(config)), **about})


def save_weights(network: nn.Module, config: Any, path: Path, about: Mapping[str, str],
                 exact: tuple[str, ...] = ()) -> None:
    """Write ``encode_weights``; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode_weights(network, config, about, exact))


def read_config(source: Path | bytes, of: Callable[[dict[str, Any]], C], what: str,
                remedy: str) -> C:
    """
    Read a network's size from its header.

    Parameters
    ----------
    source : Path or bytes
        The file, or what it holds.
    of : callable
        Makes the size of its stored config.
    what, remedy : str
        For the message of an error: which network it is, and what to do.

    Raises
    ------
    ResourceError
        There is no such file, or its header is none of such a network.

    """
    try:
        return of(_header(source if isinstance(source, bytes) else source.read_bytes()))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _refusal(source, what, error, remedy) from error


def load_weights(source: Path | bytes, build: Callable[[dict[str, Any]], N], what: str,
                 remedy: str) -> N:
    """
    Read a network, ready to be asked, in float32.

    Parameters
    ----------
    source, what, remedy
        As in ``read_config``.
    build : callable
        Makes the network of its stored config.

    Raises
    ------
    ResourceError
        There is no such file, it is cut short, or it is not such a network's weights.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        network = build(_header(data))
        network.load_state_dict({name: value.float() for name, value in load(data).items()})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _refusal(source, what, error, remedy) from error
    return network.eval().requires_grad_(False)


def _header(data: bytes) -> dict[str, Any]:
    # safetensors: a uint64 with the length of the JSON header, then the header.
    header = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')])
    return json.loads(header['__metadata__']['config'])


def _refusal(source: Path | bytes, what: str, error: Exception, remedy: str) -> ResourceError:
    where = 'the avatar' if isinstance(source, bytes) else source
    return ResourceError(f'{where} does not hold {what} ({error}); {remedy}')
