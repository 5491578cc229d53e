"""Operator poses and an avatar in, pictures out: the avatar's, and the shaded ones."""
from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from visa_ros.body.model import load_body_model
from visa_ros.config import Config
from visa_ros.display.config import VideoConfig
from visa_ros.msg import GaussianAvatar as GaussianAvatarMsg
from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.nodes._conversions import avatar_from_msg, pose_from_msg
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._outputs import FrameOutputs
from visa_ros.nodes._qos import LATCHED, STREAM_IN
from visa_ros.nodes._run import StageNode, run
from visa_ros.nodes._trust import watch_consent
from visa_ros.pacing import PacingConfig
from visa_ros.rendering.playback import PlaybackConfig
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.stage import AvatarStage
from visa_ros.timing import Flow, StageTimes
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.trust.watermark import WatermarkConfig
from visa_ros.types import Presence
from visa_ros.worker import Worker


class AvatarRendererNode(StageNode):
    """
    Subscribes to ``operator_pose`` and ``avatar``, publishes pictures.

    Drawing and shading are one node: what the shader needs beside the picture would be a megabyte
    a frame on the wire.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('avatar_renderer', {
            'rendering': RenderingConfig, 'playback': PlaybackConfig, 'shading': ShadingConfig,
            'watermark': WatermarkConfig, 'video': VideoConfig, 'pacing': PacingConfig,
            'trust': TrustConfig}, **kwargs)
        self._stage: AvatarStage | None = None

    def load(self, loaded: ExitStack) -> None:
        """Load the body model; the avatar comes over its topic and stays until cleanup."""
        load_body_model()
        loaded.callback(self._unload)

    def _unload(self) -> None:
        self._stage = None

    def open(self, opened: ExitStack) -> None:
        """Take poses and avatars, publish pictures."""
        pacing = self.settings.of(PacingConfig)
        self._flow = Flow(1 / pacing.capture_fps)
        self._presence = Presence.LINK_LOST
        self._trust = TrustStore(self.settings.of(TrustConfig))
        self._outputs = FrameOutputs(self, self.settings.of(VideoConfig))
        self._loader: Worker[GaussianAvatarMsg] = Worker('avatar_loader', self._load)
        opened.callback(self._loader.close)
        self._worker: Worker[OperatorPoseMsg] = Worker(
            'avatar_renderer', self._draw, idle_s=1 / pacing.idle_fps)
        opened.callback(self._worker.close)
        self.subscribe_to(OperatorPoseMsg, 'operator_pose', self._worker.put, STREAM_IN)
        self.subscribe_to(GaussianAvatarMsg, 'avatar', self._loader.put, LATCHED)
        watch_consent(self, self._trust, lambda: self._stage)

    def change(self, config: Config) -> None:
        """Take new settings of the avatar, or other rates."""
        if isinstance(config, PacingConfig) and self.opened:
            self._flow.deadline_s = 1 / config.capture_fps
            self._worker.idle_s = 1 / config.idle_fps
        elif isinstance(config, VideoConfig) and self.opened:
            self._outputs.change(config)
        elif self._stage:
            self._stage.change(config)

    def _load(self, msg: GaussianAvatarMsg) -> None:
        avatar = avatar_from_msg(msg)
        self._trust.check(avatar, msg.avatar_id)
        stage = self._stage
        if (stage and not stage.withdrawn and stage.avatar_id == msg.avatar_id
                and stage.avatar.consent == avatar.consent):
            return
        self._stage = AvatarStage(avatar, *map(self.settings.of, (
            RenderingConfig, PlaybackConfig, ShadingConfig, WatermarkConfig)))
        self.get_logger().info(f'showing avatar {msg.avatar_id[:12]} of {msg.operator_id!r:.60}')

    def _draw(self, msg: OperatorPoseMsg | None) -> None:
        stage = self._stage
        if stage is None:
            return
        if msg is not None:
            stage.put(pose_from_msg(msg))
        if not self._outputs.wanted:
            return
        times, start_s = StageTimes(), time.monotonic()
        with times.measure('render'):
            frame = stage.frame()
        with times.measure('shade'):
            shaded = stage.shade(frame)
        self._presence = frame.presence
        self._outputs.publish(
            frame, shaded, times, self._worker.dropped, self._worker.refused, stage)
        self._flow.add(frame.stamp_ns, time.monotonic() - start_s)

    def health(self) -> Health:
        """Return what is shown and how well."""
        stage = self._stage
        message = '' if self._outputs.wanted else 'nobody listens'
        return Health(
            ('waiting for an avatar' if stage is None
             else 'the avatar may be shown no more' if stage.withdrawn else message),
            warn=self._worker.refused + self._loader.refused > 0 or self._outputs.failed,
            values={'presence': self._presence.name, 'dropped': self._worker.dropped,
                    'refused_poses': self._worker.refused,
                    'refused_avatars': self._loader.refused,
                    **(stage.health() if stage else {'gaussians': 0}), **self._outputs.health(),
                    **self._flow.values(self.now_ns())})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [AvatarRendererNode()], args)


if __name__ == '__main__':
    sys.exit(main())
