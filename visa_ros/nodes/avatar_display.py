"""Pictures in, a screen out."""
from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from visa_ros.config import Config
from visa_ros.display.config import DisplayConfig
from visa_ros.display.sinks import open_sinks
from visa_ros.msg import FrameTiming
from visa_ros.nodes._conversions import picture_from_msg
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._params import TransportConfig
from visa_ros.nodes._qos import STREAM_IN
from visa_ros.nodes._run import StageNode, run
from visa_ros.timing import Flow
from visa_ros.types import Presence, ShadedFrame
from visa_ros.worker import Worker

# A picture is published at least at pacing.idle_fps; none for so long means that the link is gone.
_LINK_LOST_S = 1.5
# Showing a picture is handing it over: longer than this, something is wrong with the screen.
_SHOWN_S = 1 / 30


class AvatarDisplayNode(StageNode):
    """Subscribes to ``shaded/image`` and ``frame_timing``; the screen is open while active."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('avatar_display', {
            'display': DisplayConfig, 'transport': TransportConfig}, **kwargs)

    def open(self, opened: ExitStack) -> None:
        """Open the screen and take pictures."""
        self._flow = Flow(_SHOWN_S)
        self._presence = Presence.LIVE
        self._last: ShadedFrame | None = None
        self._link_losses = 0
        self._sinks = open_sinks(self.settings.of(DisplayConfig))
        for sink in self._sinks:
            opened.callback(sink.close)
        self._worker: Worker[Image | CompressedImage] = Worker(
            'avatar_display', self._show, idle_s=_LINK_LOST_S)
        opened.callback(self._worker.close)
        self.subscribe_to_images('shaded/image', self._worker.put)
        self.subscribe_to(FrameTiming, 'frame_timing', self._take_timing, STREAM_IN)

    def change(self, config: Config) -> None:
        """Take other settings of the screen."""
        if isinstance(config, DisplayConfig) and self.opened:
            for sink in self._sinks:
                sink.change(config)

    def _take_timing(self, msg: FrameTiming) -> None:
        self._presence = Presence(min(msg.presence, max(Presence)))

    def _show(self, msg: Image | CompressedImage | None) -> None:
        start_s = time.monotonic()
        if msg is None:
            if self._last is None:
                return
            self._link_losses += self._presence is not Presence.LINK_LOST
            self._presence = Presence.LINK_LOST
            frame = replace(self._last, presence=Presence.LINK_LOST)
        else:
            frame = self._last = picture_from_msg(msg, self._presence)
        for sink in self._sinks:
            sink.show(frame)
        if msg is not None:
            self._flow.add(frame.stamp_ns, time.monotonic() - start_s)

    def health(self) -> Health:
        """Return whether pictures come."""
        return Health('' if self._last else 'waiting for pictures',
                      warn=self._worker.refused > 0,
                      values={'presence': self._presence.name, 'dropped': self._worker.dropped,
                              'refused': self._worker.refused, 'link_losses': self._link_losses,
                              **self._flow.values(self.now_ns())})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [AvatarDisplayNode()], args)


if __name__ == '__main__':
    sys.exit(main())
