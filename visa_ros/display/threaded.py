"""Sinks that handle their pictures in a thread of their own."""
from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from threading import Thread

from visa_ros.display.config import DisplayConfig
from visa_ros.display.frame_queue import FrameQueue, Picture
from visa_ros.types import ShadedFrame

log = logging.getLogger(__name__)


class ThreadedSink(ABC):
    """
    A sink with a thread; a fault in it is logged and ends this sink, never the render loop.

    The thread starts in ``__init__``: subclasses call it last.

    Parameters
    ----------
    name : str
        Of the thread and in the log.
    depth : int
        How many frames may wait; older ones are dropped.
    idle_s : float, optional
        How long to wait for a frame before ``_handle(None)``; by default for ever.
    alpha : bool
        Whether transparent pictures are taken as such.

    """

    def __init__(self, name: str, depth: int = 1, idle_s: float | None = None,
                 alpha: bool = False) -> None:
        self._frames = FrameQueue(depth, alpha)
        self._idle_s = idle_s
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that this sink was too slow for."""
        return self._frames.dropped

    @property
    def closed(self) -> bool:
        """Whether frames are no longer taken: closed, by the user or after a fault."""
        return self._frames.closed

    def show(self, frame: ShadedFrame) -> None:
        """Take a frame; never waits."""
        self._frames.put(frame)

    def change(self, config: DisplayConfig) -> None:  # noqa: B027
        """Change nothing: what files and windows are is settled when they open."""

    def close(self) -> None:
        """Handle what waits, finish and end the thread; may be called again."""
        self._frames.close()
        self._thread.join()

    @abstractmethod
    def _handle(self, picture: Picture | None) -> None:
        """Show or keep a picture."""

    @abstractmethod
    def _finish(self) -> None:
        """Release what the sink holds; called once, last."""

    def _run(self) -> None:
        try:
            try:
                while (picture := self._frames.take(self._idle_s)) or not self._frames.closed:
                    self._handle(picture)
            finally:
                self._finish()
        except Exception as error:
            log.error('%s has stopped: %s', self._thread.name, error,
                      exc_info=not isinstance(error, OSError))
            self._frames.close()
