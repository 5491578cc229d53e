"""Operator poses and an avatar in, pictures out: the avatar's, and the shaded ones."""
from __future__ import annotations

import sys
from typing import Any

from visa_ros.msg import GaussianAvatar as GaussianAvatarMsg
from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.nodes._conversions import avatar_from_msg, pose_from_msg
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._outputs import FrameOutputs
from visa_ros.nodes._params import declare
from visa_ros.nodes._qos import LATCHED, STREAM_IN
from visa_ros.nodes._run import StageNode, run
from visa_ros.nodes._trust import watch_consent
from visa_ros.pacing import PacingConfig
from visa_ros.rendering.playback import PlaybackConfig
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.stage import AvatarStage
from visa_ros.timing import StageTimes
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
        super().__init__('avatar_renderer', **kwargs)
        self._rendering = declare(self, 'rendering', RenderingConfig)
        self._playback = declare(self, 'playback', PlaybackConfig)
        self._shading = declare(self, 'shading', ShadingConfig)
        self._watermark = declare(self, 'watermark', WatermarkConfig)
        pacing = declare(self, 'pacing', PacingConfig)
        self._trust = TrustStore(declare(self, 'trust', TrustConfig))
        self._outputs = FrameOutputs(self)
        self._stage: AvatarStage | None = None
        self._presence = Presence.LINK_LOST
        self._loader: Worker[GaussianAvatarMsg] = Worker('avatar_loader', self._load)
        self._worker: Worker[OperatorPoseMsg] = Worker(
            'avatar_renderer', self._draw, idle_s=1 / pacing.idle_fps)
        self.create_subscription(OperatorPoseMsg, 'operator_pose', self._worker.put, STREAM_IN)
        self.create_subscription(GaussianAvatarMsg, 'avatar', self._loader.put, LATCHED)
        watch_consent(self, self._trust, lambda: self._stage)
        Diagnostics(self, self._health)

    def close(self) -> None:
        """Stop the threads."""
        self._worker.close()
        self._loader.close()

    def _load(self, msg: GaussianAvatarMsg) -> None:
        avatar = avatar_from_msg(msg)
        self._trust.check(avatar, msg.avatar_id)
        self._stage = AvatarStage(avatar, self._rendering, self._playback, self._shading,
                                  self._watermark)
        self.get_logger().info(f'showing avatar {msg.avatar_id[:12]} of {msg.operator_id!r:.60}')

    def _draw(self, msg: OperatorPoseMsg | None) -> None:
        stage = self._stage
        if stage is None:
            return
        if msg is not None:
            stage.put(pose_from_msg(msg))
        if not self._outputs.wanted:
            return
        times = StageTimes()
        with times.measure('render'):
            frame = stage.frame()
        with times.measure('shade'):
            shaded = stage.shade(frame)
        self._presence = frame.presence
        self._outputs.publish(
            frame, shaded, times, self._worker.dropped, self._worker.refused, stage.points(),
            stage.frame_id)

    def _health(self) -> Health:
        stage = self._stage
        return Health(
            ('waiting for an avatar' if stage is None
             else 'the avatar may be shown no more' if stage.withdrawn else ''),
            warn=self._worker.refused + self._loader.refused > 0,
            values={'presence': self._presence.name, 'dropped': self._worker.dropped,
                    'refused_poses': self._worker.refused,
                    'refused_avatars': self._loader.refused,
                    'gaussians': len(stage.avatar) if stage else 0,
                    **(stage.shading_health() if stage else {})})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [AvatarRendererNode()], args)


if __name__ == '__main__':
    sys.exit(main())
