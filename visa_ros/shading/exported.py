"""The shader's network as ONNX graphs beside its weights, and whether they are theirs."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from visa_ros.errors import ResourceError

VERSION = 1
FLOAT, INT8 = 'float32', 'int8'
PIXELS, GUIDE, PHOTOGRAPH = 'pixels', 'guide', 'photograph'  # inputs and output of the graphs
HEIGHT, WIDTH = 'height', 'width'  # of the guide; '4 height' and '4 width' of the pixels
REMEDY = 'write it: python -m visa_ros.training.shader export'


def manifest_path(weights: Path) -> Path:
    """Return where it is said what was exported of the weights."""
    return weights.with_suffix('.exported.json')


def onnx_path(weights: Path, precision: str) -> Path:
    """Return the graph of a precision, ``FLOAT`` or ``INT8``."""
    return weights.with_name(f'{weights.stem}_{precision}.onnx')


def write_manifest(weights: Path, precisions: list[str], about: dict[str, Any]) -> None:
    """Say that the graphs of these precisions beside the weights are theirs."""
    manifest_path(weights).write_text(json.dumps({
        'version': VERSION, 'weights': _digest(weights),
        'files': {precision: _digest(onnx_path(weights, precision)) for precision in precisions},
        **about}, indent=1) + '\n')


def find_exported(weights: Path | bytes, precision: str) -> Path:
    """
    Return the graph of a precision.

    Raises
    ------
    ResourceError
        There is none, it is damaged, or it was exported of other weights or by another version.

    """
    if isinstance(weights, bytes):
        raise ResourceError("nothing is exported of an avatar's own shader; set shading.precision "
                            'to auto and shading.runtime to anything but onnxruntime')
    path = onnx_path(weights, precision)
    try:
        manifest = json.loads(manifest_path(weights).read_text())
        version, of, files = (manifest[name] for name in ('version', 'weights', 'files'))
        digest = files.get(precision)
        if version != VERSION:
            raise ResourceError(f'{path} is of version {version}, not {VERSION}; {REMEDY}')
        if of != _digest(weights):
            raise ResourceError(f'{path} was exported of other weights than {weights}; {REMEDY}')
        if digest is None:
            raise ResourceError(f'{path} has not been exported; {REMEDY}')
        if digest != _digest(path):
            raise ResourceError(f'{path} is damaged or cut short; {REMEDY}')
    except FileNotFoundError as error:
        raise ResourceError(f'{error.filename} is missing; {REMEDY}') from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ResourceError):
            raise
        raise ResourceError(f'{manifest_path(weights)} cannot be read ({error}); {REMEDY}'
                            ) from error
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
