"""Pictures in, a screen out."""
from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from visa_ros.display.sinks import DisplayConfig, open_sinks
from visa_ros.msg import FrameTiming
from visa_ros.nodes._conversions import picture_from_msg
from visa_ros.nodes._diagnostics import Diagnostics, Health
from visa_ros.nodes._params import declare
from visa_ros.nodes._qos import STREAM_IN
from visa_ros.nodes._run import StageNode, run
from visa_ros.types import Presence, ShadedFrame
from visa_ros.worker import Worker

# A picture is published at least at pacing.idle_fps; none for so long means that the link is gone.
_LINK_LOST_S = 1.5


class AvatarDisplayNode(StageNode):
    """Subscribes to ``shaded/image`` and ``frame_timing``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('avatar_display', **kwargs)
        self._sinks = open_sinks(declare(self, 'display', DisplayConfig))
        self._presence = Presence.LIVE
        self._last: ShadedFrame | None = None
        self._worker: Worker[Image | CompressedImage] = Worker(
            'avatar_display', self._show, idle_s=_LINK_LOST_S)
        self.subscribe_to_images('shaded/image', self._worker.put)
        self.create_subscription(FrameTiming, 'frame_timing', self._take_timing, STREAM_IN)
        Diagnostics(self, self._health)

    def close(self) -> None:
        """Stop the thread and close the screen."""
        self._worker.close()
        for sink in self._sinks:
            sink.close()

    def _take_timing(self, msg: FrameTiming) -> None:
        self._presence = Presence(min(msg.presence, max(Presence)))

    def _show(self, msg: Image | CompressedImage | None) -> None:
        if msg is None:
            if self._last is None:
                return
            frame = replace(self._last, presence=Presence.LINK_LOST)
        else:
            frame = self._last = picture_from_msg(msg, self._presence)
        for sink in self._sinks:
            sink.show(frame)

    def _health(self) -> Health:
        return Health('' if self._last else 'waiting for pictures',
                      warn=self._worker.refused > 0,
                      values={'presence': self._presence.name, 'dropped': self._worker.dropped,
                              'refused': self._worker.refused})


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [AvatarDisplayNode()], args)


if __name__ == '__main__':
    sys.exit(main())
