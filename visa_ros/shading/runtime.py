"""
What computes the shader: torch anywhere, OpenVINO on CPUs, ONNX Runtime on both.

torch takes seconds to import and is not needed where an exported graph is computed.
"""
from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from visa_ros._optional import has_cuda, require
from visa_ros.cache import cache_folder
from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.errors import InputError, ResourceError, VisaError
from visa_ros.shading.exported import (
    FLOAT,
    GUIDE,
    HEIGHT,
    INT8,
    PHOTOGRAPH,
    PIXELS,
    WIDTH,
    find_exported,
)
from visa_ros.shading.job import Job
from visa_ros.types import Float32

log = logging.getLogger(__name__)


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
        """
        Return (3, H, W) for (12, H, W) and (9 + F, H / 4, W / 4); see ``ShaderNetwork``.

        The next call may overwrite it.
        """
        ...


class OpenVinoRuntime:
    """
    OpenVINO on the CPU: int8 where it was exported, else bfloat16 where the CPU has it.

    Raises
    ------
    MissingDependencyError
        openvino is not installed.
    ResourceError
        int8 is asked for, and was not exported of these weights.

    """

    def __init__(self, job: Job) -> None:
        # Its converter tells its makers of each use; without this package it takes a stub.
        sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
        openvino = require('openvino')
        core = openvino.Core()
        zeros = [value[None] for value in job.zeros()]
        int8 = _int8_path(job)
        # OpenVINO picks bfloat16 by itself where the CPU has it, at other results.
        half = (job.precision == 'auto' and not int8
                and 'BF16' in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))
        self._requests = {}
        for t in job.times:
            if int8 and t == 1:
                model = core.read_model(int8)
                model.reshape({name: list(value.shape) for name, value in
                               zip((PIXELS, GUIDE), zeros, strict=True)})
            else:
                from visa_ros.shading.torch_runtime import traceable

                module, example = traceable(job.network, t, zeros)
                model = openvino.convert_model(
                    module, example_input=example, input=[tuple(value.shape) for value in zeros])
            compiled = core.compile_model(model, 'CPU', {
                'INFERENCE_PRECISION_HINT': 'bf16' if half else 'f32',
                'PERFORMANCE_HINT': 'LATENCY'})
            self._requests[t] = compiled.create_infer_request()
        precision = INT8 if int8 else 'bfloat16' if half else FLOAT
        self.name = f'openvino {openvino.__version__.partition("-")[0]} (CPU, {precision})'

    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return the photograph as the network says it."""
        request = self._requests[t]
        request.infer([pixels[None], guide[None]], share_inputs=True)
        return request.get_output_tensor(0).data[0]


class OnnxRuntime:
    """
    ONNX Runtime on exported graphs: TensorRT, else CUDA, else the CPU.

    Raises
    ------
    InputError
        More than one step is asked for.
    MissingDependencyError
        onnxruntime is not installed.
    ResourceError
        The graph was not exported of these weights.

    """

    def __init__(self, job: Job) -> None:
        if job.times != (1.0,):
            raise InputError('exported graphs answer at t = 1 only; set shading.steps to 1, or '
                             'shading.runtime to torch or openvino')
        onnxruntime = require('onnxruntime')
        there = onnxruntime.get_available_providers()
        cuda = 'CUDAExecutionProvider' in there
        if cuda:
            onnxruntime.preload_dlls()  # of CUDA and cuDNN, where torch or wheels brought them
        # int8 is for CPUs: TensorRT wants another kind, and a GPU has no need of it.
        path = None if cuda else _int8_path(job)
        precision = INT8 if path else FLOAT
        path = path or find_exported(job.weights, FLOAT)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        for name, side in zip((HEIGHT, WIDTH), job.zeros()[1].shape[1:], strict=True):
            options.add_free_dimension_override_by_name(name, side)
            options.add_free_dimension_override_by_name(f'4 {name}', FEATURE_STRIDE * side)
        try:
            session = onnxruntime.InferenceSession(
                path, options, providers=_providers(there, job.precision == 'auto'))
        except Exception as error:  # its own kinds have no common base
            raise ResourceError(f'onnxruntime cannot open {path} ({error})') from error
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        # Bound, so that nothing is allocated; on a GPU it is copied there and back.
        self._out = np.zeros((1, 3, job.height, job.width), np.float32)
        self._bound = onnxruntime.OrtValue.ortvalue_from_numpy(self._out)
        self._binding.bind_ortvalue_output(PHOTOGRAPH, self._bound)
        first = session.get_providers()[0].removesuffix('ExecutionProvider')
        self.name = f'onnxruntime {onnxruntime.__version__} ({first}, {precision})'

    def __call__(self, pixels: Float32, guide: Float32, t: float) -> Float32:
        """Return the photograph as the network says it."""
        self._binding.bind_cpu_input(PIXELS, pixels[None])
        self._binding.bind_cpu_input(GUIDE, guide[None])
        self._run(self._binding)
        return self._out[0]


def _providers(there: list[str], half: bool) -> list[Any]:
    """Return those of ONNX Runtime that are there, the fastest first, with their options."""
    out: list[Any] = []
    if 'TensorrtExecutionProvider' in there:
        # Building an engine takes a minute, so it is kept.
        folder = str(cache_folder('tensorrt'))
        out.append(('TensorrtExecutionProvider', {
            'trt_bf16_enable': half, 'trt_engine_cache_enable': True,
            'trt_engine_cache_path': folder, 'trt_timing_cache_enable': True,
            'trt_timing_cache_path': folder}))
    if 'CUDAExecutionProvider' in there:
        out.append(('CUDAExecutionProvider', {'use_tf32': half}))
    return [*out, 'CPUExecutionProvider']


def _int8_path(job: Job) -> Path | None:
    """Return the exported int8 graph where one is wanted and, unless it must be, is there."""
    if job.precision == FLOAT:
        return None
    try:
        return find_exported(job.weights, INT8)
    except ResourceError as error:
        if job.precision == INT8:
            raise
        log.info('shading is not in int8: %s', error)
        return None


def _torch(job: Job, device: str | None = None) -> ShaderRuntime:
    from visa_ros.shading.torch_runtime import TorchRuntime

    return TorchRuntime(job, device)


_KINDS: dict[str, Callable[[Job], ShaderRuntime]] = {
    'torch': _torch, 'openvino': OpenVinoRuntime, 'onnxruntime': OnnxRuntime,
    'torch on the CPU': lambda job: _torch(job, 'cpu')}


def open_runtime(wanted: str, job: Job) -> ShaderRuntime:
    """
    Return what computes the shader on this machine, after one picture to warm it.

    Parameters
    ----------
    wanted : str
        Of ``config.RUNTIMES``; 'auto' is the first that works of torch on a GPU, OpenVINO, ONNX
        Runtime and torch on the CPU.
    job : Job

    Raises
    ------
    InputError
        What was asked for does not go together.
    ResourceError
        An exported graph is missing, damaged or of other weights.
    MissingDependencyError
        What was asked for is not installed.

    """
    if job.precision == INT8:
        find_exported(job.weights, INT8)  # what is wrong with it is the error to show
    return _open(wanted, job) if wanted != 'auto' else _first_of(_installed(), job)


def open_instead(failed: ShaderRuntime, job: Job) -> ShaderRuntime:
    """Return another runtime than one that has failed, on the CPU."""
    kinds = ['torch on the CPU']
    if not isinstance(failed, OpenVinoRuntime):
        kinds.insert(0, 'openvino')
    return _first_of(kinds, replace(job, precision='auto'))


def _installed() -> Iterator[str]:
    if has_cuda():
        yield 'torch'
    yield from (name for name in ('openvino', 'onnxruntime') if find_spec(name))
    yield 'torch on the CPU'


def _first_of(kinds: Iterable[str], job: Job) -> ShaderRuntime:
    """Return the first that opens; the last one's error is the caller's."""
    *others, last = kinds
    for kind in others:
        try:
            return _open(kind, job)
        except Exception as error:  # a runtime's own, such as too little memory on the GPU
            log.log(logging.INFO if isinstance(error, VisaError) else logging.WARNING,
                    'shading is not computed by %s: %s', kind, error)
    return _open(last, job)


def _open(kind: str, job: Job) -> ShaderRuntime:
    runtime = _KINDS[kind](job)
    for t in job.times:
        runtime(*job.zeros(), t)
    return runtime
