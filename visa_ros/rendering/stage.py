"""One avatar, live: poses in, pictures out."""
from __future__ import annotations

import time

from visa_ros.body.model import load_body_model
from visa_ros.errors import PoseError
from visa_ros.rendering.playback import PlaybackConfig, PosePlayback
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.types import CoarseFrame, Float32, GaussianAvatar, OperatorPose


class AvatarStage:
    """
    OperatorPose to CoarseFrame at this moment: playback and renderer of one avatar.

    Parameters
    ----------
    avatar : GaussianAvatar
        Whom to show.
    rendering, playback : Config, optional
        Settings.

    """

    def __init__(self, avatar: GaussianAvatar, rendering: RenderingConfig | None = None,
                 playback: PlaybackConfig | None = None) -> None:
        self.avatar = avatar
        self._renderer = AvatarRenderer(avatar, rendering)
        self._playback = PosePlayback(avatar, load_body_model(avatar.body_model), playback)
        self._renderer.render(avatar.portrait_pose)  # warm before the first frame

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

    def points(self) -> tuple[Float32, Float32]:
        """Return the last frame's Gaussian centres (N, 3) in metres and their colours (N, 3)."""
        return self._renderer.means, self.avatar.colors

    @property
    def frame_id(self) -> str:
        """The frame that pictures and points are in: the portrait's camera."""
        return self.avatar.portrait_pose.frame_id
