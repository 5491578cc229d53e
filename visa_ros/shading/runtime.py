"""What computes the shader: torch anywhere, OpenVINO on CPUs."""
from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from visa_ros._optional import require
from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.shading.network import (
    PIXEL_CHANNELS,
    SHAPE_CHANNELS,
    ShaderNetwork,
    load_network,
)
from visa_ros.types import Float32


class ShaderRuntime(Protocol):
    """
    One network at one picture size, ready to be asked.

    Attributes
    ----------
    name : str
        What computes, as diagnostics say it.

    """

    name: str

    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return (3, H, W) for (12, H, W) and (2 + F, H / 4, W / 4); see ``ShaderNetwork``."""
        ...


class TorchRuntime:
    """The reference: on a CUDA GPU where torch has one, else on the CPU; float32."""

    def __init__(self, network: ShaderNetwork, height: int, width: int) -> None:
        self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._network = network.to(self._device)
        self.name = f'torch {torch.__version__} ({self._device})'

    @torch.inference_mode()
    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return the photograph as the network says it."""
        out = self._network(*(torch.from_numpy(value)[None].to(self._device)
                              for value in (pixels, guide)),
                            torch.tensor([t], device=self._device))
        return out[0].float().cpu().numpy()


class OpenVinoRuntime:
    """
    OpenVINO on the CPU, float32.

    Raises
    ------
    MissingDependencyError
        openvino is not installed.

    """

    def __init__(self, network: ShaderNetwork, height: int, width: int) -> None:
        # Its converter tells its makers of each use; without this package it takes a stub.
        sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
        openvino = require('openvino')
        example = (*(torch.from_numpy(value)[None] for value in _nothing(network, height, width)),
                   torch.ones(1))
        model = openvino.convert_model(network.cpu(), example_input=example,
                                       input=[tuple(value.shape) for value in example])
        # Picks bfloat16 by itself where the CPU has it, at other results.
        compiled = openvino.compile_model(model, 'CPU', {
            'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'})
        self._request = compiled.create_infer_request()
        self.name = f'openvino {openvino.__version__.partition("-")[0]} (CPU)'

    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return the photograph as the network says it."""
        self._request.infer([pixels[None], guide[None], np.array([t], np.float32)],
                            share_inputs=True)
        return self._request.get_output_tensor(0).data[0]


def open_runtime(wanted: str, weights: Path, height: int, width: int) -> ShaderRuntime:
    """
    Return what computes the shader on this machine, after one picture to warm it.

    Parameters
    ----------
    wanted : str
        Of ``config.RUNTIMES``; 'auto' is torch where it has a GPU, else OpenVINO where it is
        installed.
    weights : Path
    height, width : int
        Of the pictures, multiples of ``GRID``.

    Raises
    ------
    ResourceError
        The weights cannot be read.
    MissingDependencyError
        What was asked for is not installed.

    """
    network = load_network(weights)
    kinds: dict[str, Callable[..., ShaderRuntime]] = {
        'torch': TorchRuntime, 'openvino': OpenVinoRuntime}
    if wanted == 'auto':
        wanted = ('openvino' if find_spec('openvino') and not torch.cuda.is_available()
                  else 'torch')
    runtime = kinds[wanted](network, height, width)
    runtime(*_nothing(network, height, width), 1.0)
    return runtime


def _nothing(network: ShaderNetwork, height: int, width: int) -> tuple[Float32, Float32]:
    """Return pixels and a guide of the right shapes."""
    return (np.zeros((PIXEL_CHANNELS, height, width), np.float32),
            np.zeros((SHAPE_CHANNELS + network.config.features, height // FEATURE_STRIDE,
                      width // FEATURE_STRIDE), np.float32))
