"""The avatar in a pose, as a picture."""
from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from visa_ros._optional import has_cuda
from visa_ros.body.model import VERTEX_PARTS, load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.config import Config, param
from visa_ros.conventions import FEATURE_STRIDE, TURNING_CHANNELS
from visa_ros.errors import InputError, PoseError
from visa_ros.rendering.background import TRANSPARENT, read_background, rgb_of
from visa_ros.rendering.framing import FRAMINGS, framed
from visa_ros.rendering.splat_cpu import SplatCpu
from visa_ros.rendering.turning import Turning
from visa_ros.rendering.window import HeadWindow
from visa_ros.types import (
    Camera,
    CoarseFrame,
    Float32,
    GaussianAvatar,
    OperatorPose,
    Presence,
    UInt8,
)

_HEAD_EVERY = 16  # of the head's Gaussians: enough to say where it is


@dataclass(frozen=True)
class RenderingConfig(Config):
    """How the avatar's picture is drawn."""

    width: int = param(512, 'Width of the picture [px]', low=16, high=4096)
    height: int = param(512, 'Height of the picture [px]', low=16, high=4096)
    framing: str = param(
        'portrait', "What the picture shows: the portrait's own cut, chest and arms, or the head",
        choices=FRAMINGS)
    background: str = param(
        '#2b3038', "What is behind the avatar: a colour as #rrggbb, an image file, or "
        "'transparent' (rgba8 images and PNG files; other outputs keep a colour)", live=True)
    backend: str = param(
        'auto', 'What draws: gsplat needs a CUDA GPU, cpu needs nothing, auto takes gsplat where '
        'it can work', choices=('auto', 'cpu', 'gsplat'))
    threads: int = param(
        0, 'CPU threads of the cpu backend; 0 for as many as there are cores', low=0, high=64,
        live=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.has_plain_background or self.background == TRANSPARENT:
            return
        if not (self.background and Path(self.background).expanduser().is_file()):
            raise InputError('background must be a colour such as #2b3038, an image file, or '
                             f'{TRANSPARENT!r}; {self.background!r} is none of these')
        read_background(self.background, self.width, self.height)  # refuses what is no image

    @property
    def has_plain_background(self) -> bool:
        """Whether the background is a colour; others are put behind what is drawn over black."""
        return re.fullmatch('#[0-9a-fA-F]{6}', self.background) is not None

    @property
    def background_rgb(self) -> Float32:
        """What the avatar is drawn over, (3,) sRGB in [0, 1]."""
        return rgb_of(self.background if self.has_plain_background else '#000000')


class _Splatter(Protocol):
    """What ``SplatCpu`` and ``SplatGsplat`` have in common."""

    def draw(self, means: Float32, quats: Float32, rgb: UInt8, alpha: Float32,
             depth: Float32) -> None: ...

    def draw_features(self, means: Float32, quats: Float32, features: Float32,
                      window: tuple[slice, slice], out: Float32) -> None: ...


class AvatarRenderer:
    """
    Draw one avatar, pose after pose, as its portrait's camera would see it.

    Parameters
    ----------
    avatar : GaussianAvatar
        Whom to draw.
    config : RenderingConfig, optional
        Size, background, backend.
    window_px : int, optional
        Side of a window around the head, 0 for the whole picture, in which frames say more of the
        surfaces, as the shader wants it: the avatar's features, and how far they have turned
        since the portrait.
    camera : Camera, optional
        Another view than the portrait's at the picture's size.

    Attributes
    ----------
    backend : str
        What draws: 'cpu' or 'gsplat'.
    camera : Camera
        The view of the portrait, or another cut of it (``framing``), at the picture's size.
    means : (N, 3) float32
        Centres of the last frame's Gaussians in the camera's frame, metres.

    Raises
    ------
    AvatarError
        The avatar does not fit its body model.
    ResourceError
        The body model, or the GPU that the settings ask for, is not there.
    MissingDependencyError
        The package was not built, or gsplat is asked for and missing.

    """

    def __init__(self, avatar: GaussianAvatar, config: RenderingConfig | None = None,
                 window_px: int | None = None, camera: Camera | None = None) -> None:
        config = config or RenderingConfig()
        model = load_body_model(avatar.body_model)
        self.camera = camera or framed(avatar, model, config.framing, config.width, config.height)
        self.means = avatar.means
        self._frame_id = avatar.portrait_pose.frame_id
        self._skinning = AvatarSkinning(model, avatar)
        self._head = np.flatnonzero(
            model.vertex_parts()[model.faces[avatar.triangles, 0]] == VERTEX_PARTS.index('head')
            )[::_HEAD_EVERY]
        self.backend = _chosen_backend(config.backend)
        what = (avatar.scales, avatar.opacities, avatar.colors, self.camera,
                config.background_rgb)
        if self.backend == 'gsplat':
            from visa_ros.rendering.splat_gsplat import SplatGsplat

            self._splatter: _Splatter = SplatGsplat(*what)
        else:
            self._splatter = SplatCpu(*what, threads=config.threads)
        own = avatar.features.shape[1]
        self._own, self._since = slice(own), slice(own, own + TURNING_CHANNELS)
        self._window: HeadWindow | None = None
        if window_px is not None:
            self._window = HeadWindow(config.width, config.height, window_px)
            self._turning = Turning(avatar, model, self._skinning)
            # What is told of the Gaussians: features that stay, and how they have turned.
            self._told = np.zeros((len(avatar), self._since.stop), np.float32)
            self._told[:, self._own] = avatar.features
        # Two, so that a frame stays as it is while the next one is drawn.
        shape = self._window.shape if self._window else (0, 0)
        self._buffers = [_buffers(self.camera, (*shape, self._since.stop)) for _ in range(2)]

    def render(self, pose: OperatorPose, presence: Presence = Presence.LIVE,
               told: bool = True) -> CoarseFrame:
        """
        Draw the avatar in a pose.

        Parameters
        ----------
        pose : OperatorPose
            In the frame of the avatar's camera.
        presence : Presence
            Passed on in the frame.
        told : bool
            Whether the window's features and turning are drawn, where there is a window.

        Returns
        -------
        CoarseFrame
            Its arrays are overwritten by the second call after this one.

        Raises
        ------
        PoseError
            The pose is in another frame than the avatar's camera.

        """
        if pose.frame_id != self._frame_id:
            raise PoseError(f'the pose is in the frame {pose.frame_id!r}, the avatar is drawn in '
                            f'{self._frame_id!r}; retarget it first (rendering/playback.py)')
        self.means, quats = self._skinning.pose(pose)
        self._buffers.reverse()
        rgb, alpha, depth, beside = self._buffers[0]
        self._splatter.draw(self.means, quats, rgb, alpha, depth)
        frame = CoarseFrame(rgb, alpha, depth, pose.stamp_ns, presence, self._head_px())
        if not self._window:
            return frame
        window = self._window.follow(frame.head_px)
        if not told:
            return replace(frame, window=window)
        self._turning.into(self._told, quats)
        self._splatter.draw_features(self.means, quats, self._told, window, beside)
        return replace(frame, window=window, features=beside[..., self._own],
                       turning=beside[..., self._since])

    def light_turns_too(self, pose: OperatorPose) -> None:
        """Count turning from this pose: light has turned with the avatar since its portrait."""
        self._turning.light_turns_too(self._skinning.pose(pose)[1])

    def _head_px(self) -> Float32 | None:
        if not len(self._head):
            return None
        return self.camera.project(self.means[self._head].mean(0))


def _chosen_backend(wanted: str) -> str:
    if wanted != 'auto':
        return wanted
    return 'gsplat' if find_spec('gsplat') and has_cuda() else 'cpu'


def _buffers(camera: Camera, told: tuple[int, int, int]
             ) -> tuple[UInt8, Float32, Float32, Float32]:
    """Return colour, alpha, depth, and what is told beside them at a quarter of the size."""
    size = camera.height, camera.width
    height, width, channels = told
    return (np.zeros((*size, 3), np.uint8), np.zeros(size, np.float32),
            np.zeros(size, np.float32),
            np.zeros((height // FEATURE_STRIDE, width // FEATURE_STRIDE, channels), np.float32))
