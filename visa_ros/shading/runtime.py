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
from visa_ros.shading.network import PIXEL_CHANNELS, ShaderNetwork, load_network
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
        stride_h, stride_w = height // 4, width // 4
        example = (torch.zeros(1, PIXEL_CHANNELS, height, width),
                   torch.zeros(1, 2 + network.config.features, stride_h, stride_w),
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
        Of ``RUNTIMES``; 'auto' is torch where it has a GPU, else OpenVINO where it is installed.
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
    runtime(np.zeros((PIXEL_CHANNELS, height, width), np.float32),
            np.zeros((2 + network.config.features, height // 4, width // 4), np.float32), 1.0)
    return runtime
