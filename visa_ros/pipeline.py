"""
The arrows joined in one process, without ROS: camera to screen.

::

    VideoSource --CameraImage--> PoseCapture --OperatorPose--> PosePlayback
                                                                    |
            sinks <--ShadedFrame-- ShaderStream <--CoarseFrame-- AvatarRenderer

Capture and rendering have a thread each and pass only the latest value, so a slow stage drops
frames and never delays them.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visa_ros.capture.capture import PoseCapture
from visa_ros.display.sinks import Sink
from visa_ros.pacing import Pacer, PacingConfig
from visa_ros.stage import AvatarStage
from visa_ros.timing import RunStatistics, StageTimes
from visa_ros.types import (
    CameraImage,
    CoarseFrame,
    OperatorPose,
    Presence,
    ShadedFrame,
)
from visa_ros.worker import Worker


class Pipeline:
    """
    Run capture and rendering on the latest image, and hand the pictures to the sinks.

    Parameters
    ----------
    capture : PoseCapture
        Warmed up; it stays open when the pipeline is closed.
    sinks : sequence of Sink
        Where the pictures go; closed by the pipeline.
    pacing : PacingConfig, optional
        Rates.
    on_pose : callable, optional
        Told every pose, in the capture thread; of all-zero confidence while nobody is seen.
    on_frame : callable, optional
        Told every drawn frame, its shaded picture and its stage times, in the render thread; the
        buffers are reused after it returns.
    now_ns : callable, optional
        The clock of the images' stamps.

    Attributes
    ----------
    statistics : RunStatistics
        Of the frames that showed a fresh pose.

    """

    def __init__(self, capture: PoseCapture, sinks: Sequence[Sink],
                 pacing: PacingConfig | None = None, *,
                 on_pose: Callable[[OperatorPose], None] | None = None,
                 on_frame: Callable[[CoarseFrame, ShadedFrame, StageTimes], None] | None = None,
                 now_ns: Callable[[], int] = time.time_ns) -> None:
        pacing = pacing or PacingConfig()
        self._now_ns = now_ns
        self.statistics = RunStatistics()
        self._capture = capture
        self._sinks = sinks
        self._on_pose = on_pose
        self._on_frame = on_frame
        self._stage: AvatarStage | None = None
        self._pacer = Pacer(pacing.capture_fps)
        self._paced_out = 0
        self._last_pose = OperatorPose.rest()
        self._render_worker = Worker('render', self._render, idle_s=1 / pacing.idle_fps)
        self._capture_worker = Worker('capture', self._capture_image)

    @property
    def dropped(self) -> dict[str, int]:
        """Inputs of each stage that were dropped for newer ones; 'paced': by ``capture_fps``."""
        return {'paced': self._paced_out, 'capture': self._capture_worker.dropped,
                'render': self._render_worker.dropped}

    @property
    def refused(self) -> int:
        """Inputs that a stage refused as bad."""
        return self._capture_worker.refused + self._render_worker.refused

    def show(self, stage: AvatarStage) -> None:
        """Show this avatar from the next frame on."""
        self._stage = stage

    def put(self, image: CameraImage) -> None:
        """Take a camera image; never waits."""
        if self._pacer.due():
            self._capture_worker.put(image)
        else:
            self._paced_out += 1

    def pace(self, pacing: PacingConfig) -> None:
        """Take other rates."""
        self._pacer = Pacer(pacing.capture_fps)
        self._render_worker.idle_s = 1 / pacing.idle_fps

    def close(self) -> None:
        """Stop the threads and close the sinks."""
        self._capture_worker.close()
        self._render_worker.close()
        for sink in self._sinks:
            sink.close()

    def _capture_image(self, image: CameraImage) -> None:
        times = StageTimes({'source': (self._now_ns() - image.stamp_ns) / 1e6})
        with times.measure('capture'):
            pose = self._capture.process(image)
        if pose is None:
            pose = self._last_pose.unseen(image)
        self._last_pose = pose
        self._render_worker.put(_Posed(pose, times, time.perf_counter()))
        if self._on_pose:
            self._on_pose(pose)

    def _render(self, posed: _Posed | None) -> None:
        stage = self._stage
        if stage is None:
            return
        times = posed.times if posed else StageTimes()
        if posed:
            times.ms['handover'] = (time.perf_counter() - posed.since_s) * 1e3
            stage.put(posed.pose)
        with times.measure('render'):
            frame = stage.frame()
        with times.measure('shade'):
            shaded = stage.shade(frame)
        with times.measure('display'):
            for sink in self._sinks:
                sink.show(shaded)
        if posed and frame.presence is Presence.LIVE:
            self.statistics.add(times, (self._now_ns() - frame.stamp_ns) / 1e6)
        if self._on_frame:
            self._on_frame(frame, shaded, times)


@dataclass(frozen=True, eq=False)
class _Posed:
    """A pose between capture and rendering, and since when it waits."""

    pose: OperatorPose
    times: StageTimes
    since_s: float
