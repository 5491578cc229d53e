"""One avatar, live: poses in, pictures out."""
from __future__ import annotations

import time
from typing import TYPE_CHECKING

from visa_ros.body.model import load_body_model
from visa_ros.errors import PoseError
from visa_ros.rendering.background import Background
from visa_ros.rendering.playback import PlaybackConfig, PosePlayback
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.types import CoarseFrame, Float32, GaussianAvatar, OperatorPose, ShadedFrame

if TYPE_CHECKING:
    from visa_ros.shading.stream import ShaderStream


class AvatarStage:
    """
    OperatorPose to ShadedFrame at this moment: playback, renderer and shader of one avatar.

    Parameters
    ----------
    avatar : GaussianAvatar
        Whom to show.
    rendering, playback, shading : Config, optional
        Settings; nothing is shaded without the last one.

    Attributes
    ----------
    shader : ShaderStream or None
        What shades.

    """

    def __init__(self, avatar: GaussianAvatar, rendering: RenderingConfig | None = None,
                 playback: PlaybackConfig | None = None,
                 shading: ShadingConfig | None = None) -> None:
        self.avatar = avatar
        self.shader: ShaderStream | None = None
        rendering = rendering or RenderingConfig()
        self._background = None if rendering.has_plain_background else Background(
            rendering.background, rendering.width, rendering.height)
        if shading and shading.file:
            from visa_ros.shading.stream import ShaderStream  # torch takes seconds to import

            self.shader = ShaderStream(rendering.width, rendering.height, shading)
        self._renderer = AvatarRenderer(avatar, rendering, features=self.shader is not None)
        self._playback = PosePlayback(avatar, load_body_model(avatar.body_model), playback)
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
            raise PoseError(f'a pose of operator {pose.operator_id!r} was refused: the avatar is '
                            f'the likeness of {owner!r}; set capture.operator_id')
        self._playback.put(pose, time.monotonic())

    def frame(self) -> CoarseFrame:
        """Draw the avatar as it is now; the frame's buffers are reused."""
        pose, presence = self._playback.at(time.monotonic())
        return self._renderer.render(pose, presence)

    def shade(self, frame: CoarseFrame) -> ShadedFrame:
        """Return what goes on the screen: the frame shaded, or as it is, and its background."""
        shaded = (self.shader.shade(frame) if self.shader
                  else ShadedFrame(frame.rgb, frame.stamp_ns, frame.presence))
        return self._background.applied(shaded, frame.alpha) if self._background else shaded

    def shading_health(self) -> dict[str, str | int]:
        """Return what diagnostics say of the shader."""
        if not self.shader:
            return {'shader': 'none'}
        return {'shader': self.shader.runtime.name, 'shaded_late': self.shader.late,
                'shading_failed': self.shader.failed}

    def points(self) -> tuple[Float32, Float32]:
        """Return the last frame's Gaussian centres (N, 3) in metres and their colours (N, 3)."""
        return self._renderer.means, self.avatar.colors

    @property
    def frame_id(self) -> str:
        """The frame that pictures and points are in: the portrait's camera."""
        return self.avatar.portrait_pose.frame_id
