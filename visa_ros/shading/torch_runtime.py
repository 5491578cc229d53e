"""The shader computed by torch: the reference, and what a GPU computes."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visa_ros.errors import InputError
from visa_ros.shading.exported import INT8
from visa_ros.shading.folded import FoldedNetwork
from visa_ros.shading.job import Job
from visa_ros.shading.network import ShaderNetwork
from visa_ros.types import Float32


class TorchRuntime:
    """
    The reference; bfloat16 and a CUDA graph on a GPU unless float32 is asked for.

    Parameters
    ----------
    job : Job
    device : {'cuda', 'cpu'}, optional
        The GPU where torch has one.

    Raises
    ------
    InputError
        int8 is asked for.

    """

    def __init__(self, job: Job, device: str | None = None) -> None:
        if job.precision == INT8:
            raise InputError('torch does not compute the shader in int8; set shading.runtime to '
                             'openvino or onnxruntime, or shading.precision to auto')
        self._device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self._half = self._device == 'cuda' and job.precision == 'auto'
        self._network = copy.deepcopy(job.network).to(self._device)
        self._inputs = [torch.from_numpy(value)[None].to(self._device) for value in job.zeros()]
        self._inputs.append(torch.ones(1, device=self._device))
        self._replay: Callable[[], None] | None = None
        if self._device == 'cuda':
            self._capture()
        self.name = (f'torch {torch.__version__} ({self._device}'
                     f'{", bfloat16" if self._half else ""})')

    @torch.inference_mode()
    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return the photograph as the network says it."""
        for tensor, value in zip(self._inputs, (pixels, guide, t), strict=True):
            tensor.copy_(torch.as_tensor(value))
        if self._replay:
            self._replay()
        else:
            self._out = self._ask()
        return self._out[0].cpu().numpy()

    def _ask(self) -> Tensor:
        # Convolutions alone are in half precision; a picture of it would lose its last bit.
        with torch.autocast(self._device, torch.bfloat16, enabled=self._half,
                            cache_enabled=False):
            return self._network(*self._inputs)

    @torch.inference_mode()
    def _capture(self) -> None:
        """Record one pass: memory and kernels are settled before the first picture."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._ask()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._out = self._ask()
        self._replay = graph.replay


def traceable(network: ShaderNetwork, t: float, inputs: Sequence[Float32]
              ) -> tuple[FoldedNetwork, tuple[Tensor, ...]]:
    """Return the network at one t and example inputs, as OpenVINO's converter takes them."""
    return FoldedNetwork(network, t), tuple(torch.from_numpy(value) for value in inputs)
