"""Writes the shader's network as ONNX graphs, one in float32 and one in int8."""
from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from visa_ros._optional import require
from visa_ros.rendering.window import GRID
from visa_ros.shading.exported import (
    FLOAT,
    GUIDE,
    HEIGHT,
    INT8,
    PHOTOGRAPH,
    PIXELS,
    WIDTH,
    manifest_path,
    onnx_path,
    write_manifest,
)
from visa_ros.shading.folded import FoldedNetwork
from visa_ros.shading.job import Job
from visa_ros.shading.network import (
    ShaderNetwork,
    load_network,
    start,
    within,
)
from visa_ros.training.shader.streams import People, Streams
from visa_ros.types import Float32

_OPSET = 18
_STREAMS, _MOMENTS = 8, 8  # that int8 is calibrated on


def export(weights: Path, pairs: Path | None = None, crop_px: int = 256) -> list[Path]:
    """
    Write graphs of the network at t = 1, for pictures of any size, beside its weights.

    Parameters
    ----------
    weights : Path
    pairs : Path, optional
        Folder of ``pairs.write_pairs``, from which int8 learns the ranges of values; without it
        there is no int8.
    crop_px : int
        Side of what is seen of them.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ResourceError
        Weights or pairs cannot be read.
    MissingDependencyError
        onnx or onnxruntime is not installed.

    """
    for module in ('onnx', 'onnxruntime'):
        require(module)
    network = load_network(weights)
    seen = list(_seen(network, People(pairs), crop_px)) if pairs else []
    paths = [onnx_path(weights, FLOAT)]
    manifest_path(weights).unlink(missing_ok=True)  # nobody takes what is being written
    _write_float(network, weights, paths[0])
    if seen:
        paths.append(onnx_path(weights, INT8))
        _write_int8(paths[0], seen, paths[1])
    write_manifest(weights, [FLOAT, INT8][:len(paths)],
                   {'calibrated_on': len(seen), 'torch': torch.__version__})
    return paths


def _write_float(network: ShaderNetwork, weights: Path, path: Path) -> None:
    example = tuple(torch.from_numpy(value)[None]
                    for value in Job(weights, network.config.features, 2 * GRID, 3 * GRID).zeros())
    with warnings.catch_warnings():
        # The exporter that succeeds this one takes minutes for sizes that are not fixed.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            FoldedNetwork(network, 1.0), example, path, dynamo=False, opset_version=_OPSET,
            input_names=[PIXELS, GUIDE], output_names=[PHOTOGRAPH], dynamic_axes={
                PIXELS: {2: f'4 {HEIGHT}', 3: f'4 {WIDTH}'}, GUIDE: {2: HEIGHT, 3: WIDTH}})


def _write_int8(source: Path, seen: list[dict[str, Float32]], path: Path) -> None:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Seen(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(seen)

        def get_next(self) -> dict[str, Float32] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / 'ready.onnx'
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(ready).graph.node
                        if node.op_type == 'Conv']
        # What the last one rounds is seen, as grain: it stays in float32.
        # AVX2's products of bytes overflow in pairs unless weights have 7 bits.
        quantize_static(ready, path, Seen(), quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        per_channel=True, reduce_range=True, op_types_to_quantize=['Conv'],
                        nodes_to_exclude=convolutions[-1:])


@torch.inference_mode()
def _seen(network: ShaderNetwork, people: People, crop_px: int) -> Iterator[dict[str, Float32]]:
    """Yield what the network is shown of pairs, with its own pictures as the past."""
    rng = np.random.default_rng(0)
    streams = Streams(_STREAMS, crop_px)
    for _ in range(_MOMENTS):
        batch = streams.next(people.pairs, rng)
        pixels = torch.cat([start(batch.render, batch.noise), batch.render,
                            batch.history.flatten(1, 2)], 1)
        said = network(pixels, batch.guide, torch.ones(_STREAMS))
        streams.remember(within(batch.render, batch.alpha, said))
        for one, told in zip(pixels.numpy(), batch.guide.numpy(), strict=True):
            yield {PIXELS: one[None], GUIDE: told[None]}
