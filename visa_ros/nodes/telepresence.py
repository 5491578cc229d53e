"""All of it in one process: camera to screen without a ROS hop in between."""
from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import rclpy
from rich.console import Console
from rich.progress import Progress
from sensor_msgs.msg import CompressedImage, Image

from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.source import SourceConfig, VideoSource
from visa_ros.config import Config
from visa_ros.display.config import DisplayConfig, VideoConfig
from visa_ros.display.sinks import open_sinks
from visa_ros.nodes._conversions import image_from_msg
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._outputs import FrameOutputs, PoseOutputs
from visa_ros.nodes._params import TransportConfig
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
from visa_ros.timing import Flow, StageTimes
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.trust.watermark import WatermarkConfig
from visa_ros.types import CameraImage, CoarseFrame, GaussianAvatar, Presence, ShadedFrame
from visa_ros.worker import Worker


class TelepresenceNode(StageNode):
    """
    Runs the pipeline; publishes the same topics as the separate nodes.

    ``camera.source: topic`` takes ``image_raw`` from the graph instead of opening a camera.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('telepresence', {
            'rendering': RenderingConfig, 'playback': PlaybackConfig, 'shading': ShadingConfig,
            'camera': SourceConfig, 'capture': CaptureConfig, 'pacing': PacingConfig,
            'display': DisplayConfig, 'transport': TransportConfig, 'watermark': WatermarkConfig,
            'video': VideoConfig, 'trust': TrustConfig}, **kwargs)
        self._avatar: GaussianAvatar | None = None
        self._stage: AvatarStage | None = None
        self._loader: Worker[GaussianAvatar] | None = None

    def show(self, avatar: GaussianAvatar) -> None:
        """Show this avatar, now or once the node is active; from any thread."""
        self._avatar = avatar
        if self._loader:
            self._loader.put(avatar)

    def load(self, loaded: ExitStack) -> None:
        """Load the trackers and run each once."""
        self._capture: PoseCapture | None = PoseCapture(self.settings.of(CaptureConfig))
        loaded.callback(self._unload)
        self._capture.warm_up()

    def _unload(self) -> None:
        capture, self._capture, self._stage = self._capture, None, None
        if capture:
            capture.close()

    def open(self, opened: ExitStack) -> None:
        """Open screen and topics, and the camera as soon as there is an avatar."""
        assert self._capture
        self._presence = Presence.LINK_LOST
        capture = self._capture
        self._poses = PoseOutputs(self, self.settings.of(CaptureConfig).operator_id)
        self._frames = FrameOutputs(self, self.settings.of(VideoConfig))
        sinks = open_sinks(self.settings.of(DisplayConfig))
        self._sinks = sinks
        pacing = self.settings.of(PacingConfig)
        self._flow = Flow(1 / pacing.capture_fps)
        self.pipeline = Pipeline(
            capture, sinks, pacing,
            on_pose=lambda pose: self._poses.publish(pose, capture.camera, capture.face),
            on_frame=self._publish_frame, now_ns=self.now_ns)
        opened.callback(self._print_summary)
        opened.callback(self.pipeline.close)
        self._source: VideoSource | None = None
        camera = self.settings.of(SourceConfig)
        if camera.source == 'topic':
            decoder: Worker[Image | CompressedImage] = Worker('image_raw', self._take)
            opened.callback(decoder.close)
            self.subscribe_to_images('image_raw', decoder.put)
        else:
            self._source = VideoSource(
                camera, self._take_own, on_end=lambda: rclpy.try_shutdown())
            opened.callback(self._source.close)
        watch_consent(self, TrustStore(self.settings.of(TrustConfig)), lambda: self._stage)
        loader = self._loader = Worker('avatar_loader', self._load)
        opened.callback(loader.close)
        if self._avatar:
            loader.put(self._avatar)

    def change(self, config: Config) -> None:
        """Take new settings of any stage."""
        if isinstance(config, CaptureConfig) and self._capture:
            self._capture.change(config)
        elif isinstance(config, PacingConfig) and self.opened:
            self._flow.deadline_s = 1 / config.capture_fps
            self.pipeline.pace(config)
        elif isinstance(config, DisplayConfig) and self.opened:
            for sink in self._sinks:
                sink.change(config)
        elif isinstance(config, VideoConfig) and self.opened:
            self._frames.change(config)
        elif self._stage:
            self._stage.change(config)

    def _load(self, avatar: GaussianAvatar) -> None:
        if self._stage is None or self._stage.avatar is not avatar:
            self._stage = AvatarStage(avatar, *map(self.settings.of, (
                RenderingConfig, PlaybackConfig, ShadingConfig, WatermarkConfig)))
        self.pipeline.show(self._stage)
        if self._source:
            self._source.start()

    def _take_own(self, image: CameraImage) -> None:
        self.pipeline.put(replace(image, stamp_ns=self.on_ros_time(image.stamp_ns)))

    def _take(self, msg: Image | CompressedImage) -> None:
        self.pipeline.put(image_from_msg(msg))

    def _publish_frame(self, frame: CoarseFrame, shaded: ShadedFrame, times: StageTimes) -> None:
        self._presence = frame.presence
        if frame.presence is Presence.LIVE:
            self._flow.add(frame.stamp_ns, max(times.ms.values()) / 1e3)
        stage = self._stage
        if stage:
            self._frames.publish(
                frame, shaded, times, sum(self.pipeline.dropped.values()), self.pipeline.refused,
                stage)

    def health(self) -> Health:
        """Return what is shown and how well."""
        camera = self._source.state if self._source else None
        message = 'waiting for the avatar' if self._stage is None else ''
        if camera and not camera.ok:
            message = camera.message
        return Health(
            message, warn=(bool(camera and not camera.ok) or self.pipeline.refused > 0
                           or self._frames.failed),
            values={'presence': self._presence.name, 'fps': round(self.pipeline.statistics.fps, 1),
                    'refused': self.pipeline.refused,
                    **{f'dropped_{name}': n for name, n in self.pipeline.dropped.items()},
                    **(self._stage.health() if self._stage else {}), **self._frames.health(),
                    **self._flow.values(self.now_ns())})

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
