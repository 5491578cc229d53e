"""How the avatar's picture is shaded."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visa_ros.config import Config, param

GENERIC = Path(__file__).parent.parent / 'weights' / 'shader.safetensors'  # for anybody
RUNTIMES = ('auto', 'torch', 'openvino', 'onnxruntime')
PRECISIONS = ('auto', 'float32', 'int8')


@dataclass(frozen=True)
class ShadingConfig(Config):
    """How the avatar's picture becomes photoreal."""

    weights: str = param(
        'auto', "Weights of the shader: auto: the avatar's own where it has one (visa enroll), "
        'else those for anybody that come with the package; none: the screen shows the Gaussian '
        'avatar itself; or a file, as visa_ros.training.shader writes it')
    runtime: str = param(
        'auto', 'What computes: torch, on a GPU where it has one; openvino, on a CPU; '
        'onnxruntime, with TensorRT or CUDA where it has them; auto: torch on a GPU, else the '
        'first that works of openvino, onnxruntime and torch', choices=RUNTIMES)
    precision: str = param(
        'auto', 'auto: bfloat16 on a GPU; on a CPU int8 where it was exported of the weights, '
        'else bfloat16 where the CPU has it; float32: as trained', choices=PRECISIONS)
    every: int = param(
        4, 'The network is asked for every n-th picture; between, its corrections, which are '
        'smooth, go on and glide to the next', low=1, high=30)
    steps: int = param(1, 'Steps of the flow per picture', low=1, high=8)
    window_px: int = param(
        256, 'Side of the square around the head that is shaded, a multiple of 16 [px]; 0: the '
        'whole picture', low=0, high=4096)
    deadline_ms: float = param(
        50.0, 'Shading that takes longer than this fades out, and is tried again later [ms]; 0: '
        'never', low=0.0, high=10000.0, live=True)
    seed: int = param(0, 'Of the noise, which stays the same for a whole stream', low=0)

    def source(self, own: bytes) -> Path | bytes | None:
        """
        Return the weights, or the file that holds them; None where nothing is shaded.

        Parameters
        ----------
        own : bytes
            ``GaussianAvatar.shader``.

        """
        if self.weights == 'auto':
            return own or (GENERIC if GENERIC.is_file() else None)
        return None if self.weights == 'none' else Path(self.weights)
