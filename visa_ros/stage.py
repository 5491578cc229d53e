"""One avatar, live: poses in, pictures out."""
from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import cast

import cv2
import numpy as np

from visa_ros.body.model import load_body_model
from visa_ros.config import Config
from visa_ros.errors import PoseError, ResourceError
from visa_ros.reconstruction.avatar_file import avatar_id
from visa_ros.rendering.background import Background
from visa_ros.rendering.playback import PlaybackConfig, PosePlayback
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.shading.stream import ShaderStream
from visa_ros.trust.watermark import Watermark, WatermarkConfig, draw_label
from visa_ros.types import (
    CoarseFrame,
    Float32,
    GaussianAvatar,
    OperatorPose,
    Presence,
    ShadedFrame,
    UInt8,
)

log = logging.getLogger(__name__)


class AvatarStage:
    """
    OperatorPose to ShadedFrame at this moment: playback, renderer and shader of one avatar.

    Parameters
    ----------
    avatar : GaussianAvatar
        Whom to show.
    rendering, playback, shading, watermark : Config, optional
        Settings; nothing is shaded without ``shading``.

    Attributes
    ----------
    avatar_id : str
        Its name.
    shader : ShaderStream or None
        What shades.
    withdrawn : bool
        Whether the avatar must not be shown any more.

    """

    def __init__(self, avatar: GaussianAvatar, rendering: RenderingConfig | None = None,
                 playback: PlaybackConfig | None = None,
                 shading: ShadingConfig | None = None,
                 watermark: WatermarkConfig | None = None) -> None:
        self.avatar = avatar
        self.avatar_id = avatar_id(avatar)
        self.withdrawn = False
        watermark = watermark or WatermarkConfig()
        self._watermark = Watermark(self.avatar_id) if watermark.invisible else None
        self._label = watermark.visible
        rendering = rendering or RenderingConfig()
        self._background = _background(rendering)
        self.shader = _shader(avatar.shader, rendering, shading) if shading else None
        if self.shader:
            self._screens = [np.zeros((rendering.height, rendering.width, 3), np.uint8)
                             for _ in range(2)]
        self._window_px = shading.window_px if shading and self.shader else None
        self._renderer = AvatarRenderer(avatar, rendering, self._window_px)
        self._playback = PosePlayback(avatar, load_body_model(avatar.body_model), playback)
        self._nobody = _nobody(rendering)
        # warm before the first frame
        self.shade(self._renderer.render(avatar.portrait_pose))

    def put(self, pose: OperatorPose) -> None:
        """
        Take the operator's newest pose.

        Raises
        ------
        PoseError
            It is somebody else's: a likeness is moved by its own operator only.

        """
        owner = self.avatar.consent.operator_id
        if pose.operator_id != owner:
            raise PoseError(f'a pose of operator {pose.operator_id!r:.60} was refused: the avatar '
                            f'is the likeness of {owner!r}; set capture.operator_id')
        self._playback.put(pose, time.monotonic())

    def withdraw(self) -> None:
        """Show the avatar no more: from now on frames are empty."""
        self.withdrawn = True

    def change(self, config: Config) -> None:
        """Take new settings of rendering, playback or shading while it runs."""
        if isinstance(config, RenderingConfig):
            self._renderer = AvatarRenderer(self.avatar, config, self._window_px)
            self._nobody, self._background = _nobody(config), _background(config)
        elif isinstance(config, PlaybackConfig):
            self._playback.change(config)
        elif isinstance(config, ShadingConfig) and self.shader:
            self.shader.change(config)

    def frame(self) -> CoarseFrame:
        """Draw the avatar as it is now; the frame's buffers are reused."""
        if self.withdrawn:
            return self._nobody
        pose, presence = self._playback.at(time.monotonic())
        return self._renderer.render(pose, presence, not self.shader or self.shader.due)

    def shade(self, frame: CoarseFrame) -> ShadedFrame:
        """
        Return what goes on the screen, marked: the frame shaded, or as it is.

        Where it is another picture than ``frame.rgb``, that one is not marked: ``mark`` it before
        it leaves the process.
        """
        shaded = ShadedFrame(frame.rgb, frame.stamp_ns, frame.presence)
        if self.withdrawn:
            return shaded
        if self.shader:
            # A copy: the shader looks at its own pictures again, without marks.
            self._screens.reverse()
            np.copyto(self._screens[0], self.shader.shade(frame).rgb)
            shaded = replace(shaded, rgb=self._screens[0])
        if self._background:
            shaded = self._background.applied(shaded, frame.alpha)
        self.mark(shaded.rgb)
        if shaded.rgba is not None:
            seen = cast(UInt8, cv2.cvtColor(shaded.rgba, cv2.COLOR_RGBA2RGB))
            self.mark(seen)
            cv2.mixChannels([seen], [shaded.rgba], [0, 0, 1, 1, 2, 2])
        return shaded

    def mark(self, rgb: UInt8) -> None:
        """Write the avatar's marks into a picture (H, W, 3), in place."""
        if self._watermark:
            self._watermark.mark(rgb)
        if self._label:
            draw_label(rgb, self._label)

    def health(self) -> dict[str, str | int]:
        """Return what diagnostics say: what draws and shades, and how the shader fares."""
        drawn: dict[str, str | int] = {
            'gaussians': len(self.avatar), 'backend': self._renderer.backend}
        if not self.shader:
            return {**drawn, 'shader': 'none'}
        return {**drawn, 'shader': self.shader.runtime.name, 'shaded_late': self.shader.late,
                'shading_failed': self.shader.failed}

    def points(self) -> tuple[Float32, Float32]:
        """Return the last frame's Gaussian centres (N, 3) in metres and their colours (N, 3)."""
        if self.withdrawn:
            return self._renderer.means[:0], self.avatar.colors[:0]
        return self._renderer.means, self.avatar.colors

    @property
    def frame_id(self) -> str:
        """The frame that pictures and points are in: the portrait's camera."""
        return self.avatar.portrait_pose.frame_id


def _shader(own: bytes, rendering: RenderingConfig, shading: ShadingConfig
            ) -> ShaderStream | None:
    """Return what shades; an avatar whose own shader cannot be used is shaded as anybody."""
    if not shading.source(own):
        return None
    try:
        return ShaderStream(rendering.width, rendering.height, shading, own)
    except ResourceError as error:
        if not own or shading.source(own) is not own:
            raise
        log.warning('the avatar is shaded as anybody: %s', error)
        return _shader(b'', rendering, shading)


def _background(rendering: RenderingConfig) -> Background | None:
    """Return what is put behind the avatar; None where it is drawn over its colour."""
    if rendering.has_plain_background:
        return None
    return Background(rendering.background, rendering.width, rendering.height)


def _nobody(rendering: RenderingConfig) -> CoarseFrame:
    """Return the picture of the background alone."""
    size = (rendering.height, rendering.width)
    rgb = np.empty((*size, 3), np.uint8)
    rgb[:] = np.rint(255 * rendering.background_rgb)
    empty = np.zeros(size, np.float32)
    return CoarseFrame(rgb, empty, empty, 0, Presence.LINK_LOST)
