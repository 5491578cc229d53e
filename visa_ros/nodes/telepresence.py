"""All of it in one process: camera to screen without a ROS hop in between."""
from __future__ import annotations

import sys
from typing import Any

import rclpy
from rich.console import Console
from rich.progress import Progress
from sensor_msgs.msg import CompressedImage, Image

from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.source import SourceConfig, VideoSource
from visa_ros.display.sinks import DisplayConfig, open_sinks
from visa_ros.nodes._conversions import image_from_msg
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._outputs import FrameOutputs, PoseOutputs
from visa_ros.nodes._params import declare
from visa_ros.nodes._run import StageNode, run
from visa_ros.nodes._trust import watch_consent
from visa_ros.nodes.avatar_reconstruction import AvatarReconstructionNode
from visa_ros.pacing import PacingConfig
from visa_ros.pipeline import Pipeline
from visa_ros.rendering.playback import PlaybackConfig
from visa_ros.rendering.renderer import RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.stage import AvatarStage
from visa_ros.tables import table
from visa_ros.timing import StageTimes
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.trust.watermark import WatermarkConfig
from visa_ros.types import CoarseFrame, GaussianAvatar, Presence, ShadedFrame
from visa_ros.worker import Worker


class TelepresenceNode(StageNode):
    """
    Runs the pipeline; publishes the same topics as the separate nodes.

    ``camera.source: topic`` takes ``image_raw`` from the graph instead of opening a camera.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('telepresence', **kwargs)
        self._rendering = declare(self, 'rendering', RenderingConfig)
        self._playback = declare(self, 'playback', PlaybackConfig)
        self._shading = declare(self, 'shading', ShadingConfig)
        self._watermark = declare(self, 'watermark', WatermarkConfig)
        self._camera = declare(self, 'camera', SourceConfig)
        capture_config = declare(self, 'capture', CaptureConfig)
        pacing = declare(self, 'pacing', PacingConfig)
        sinks = open_sinks(declare(self, 'display', DisplayConfig))
        capture = PoseCapture(capture_config)
        capture.warm_up()
        self._stage: AvatarStage | None = None
        self._presence = Presence.LINK_LOST
        self._poses = PoseOutputs(self)
        self._frames = FrameOutputs(self)
        self.pipeline = Pipeline(capture, sinks, pacing, on_pose=self._poses.publish,
                                 on_frame=self._publish_frame)
        self._source: VideoSource | None = None
        self._decoder: Worker[Image | CompressedImage] | None = None
        if self._camera.source == 'topic':
            self._decoder = Worker('image_raw', self._take)
            self.subscribe_to_images('image_raw', self._decoder.put)
        else:
            self._source = VideoSource(
                self._camera, self.pipeline.put, on_end=lambda: rclpy.try_shutdown())
        watch_consent(self, TrustStore(declare(self, 'trust', TrustConfig)),
                      lambda: self._stage)
        Diagnostics(self, self._health)

    def show(self, avatar: GaussianAvatar) -> None:
        """Show this avatar, and start the camera if it is not running yet."""
        self._stage = AvatarStage(avatar, self._rendering, self._playback, self._shading,
                                  self._watermark)
        self.pipeline.show(self._stage)
        if self._source:
            self._source.start()

    def close(self) -> None:
        """Stop the threads, close camera and screen, and print what the run was like."""
        if self._source:
            self._source.close()
        if self._decoder:
            self._decoder.close()
        self.pipeline.close()
        self._print_summary()

    def _take(self, msg: Image | CompressedImage) -> None:
        self.pipeline.put(image_from_msg(msg))

    def _publish_frame(self, frame: CoarseFrame, shaded: ShadedFrame, times: StageTimes) -> None:
        self._presence = frame.presence
        stage = self._stage
        if stage:
            self._frames.publish(
                frame, shaded, times, sum(self.pipeline.dropped.values()), self.pipeline.refused,
                stage.points(), stage.frame_id)

    def _health(self) -> Health:
        camera = self._source.state if self._source else None
        message = 'waiting for the avatar' if self._stage is None else ''
        if camera and not camera.ok:
            message = camera.message
        return Health(
            message, warn=bool(camera and not camera.ok) or self.pipeline.refused > 0,
            values={'presence': self._presence.name, 'fps': round(self.pipeline.statistics.fps, 1),
                    'refused': self.pipeline.refused,
                    **(self._stage.shading_health() if self._stage else {}),
                    **{f'dropped_{name}': n for name, n in self.pipeline.dropped.items()}})

    def _print_summary(self) -> None:
        statistics = self.pipeline.statistics
        if not statistics.frames:
            return
        console = Console(stderr=True)
        console.print(table(f'{statistics.frames} frames, {statistics.fps:.1f} fps',
                            statistics.rows()))
        dropped = ', '.join(f'{name} {count}' for name, count in self.pipeline.dropped.items())
        console.print(f'dropped for newer ones: {dropped}; refused: {self.pipeline.refused}')


def main(args: list[str] | None = None) -> int:
    """Run the process."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task('avatar', total=1)

    def show_progress(step: str, fraction: float) -> None:
        bar.update(task, completed=fraction, description=f'avatar: {step}')

    def make_nodes() -> list[StageNode]:
        telepresence = TelepresenceNode()

        def show(avatar: GaussianAvatar) -> None:
            bar.stop()
            telepresence.show(avatar)

        return [telepresence, AvatarReconstructionNode(show, show_progress)]

    with bar:
        return run(make_nodes, args)


if __name__ == '__main__':
    sys.exit(main())
