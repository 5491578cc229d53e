"""Frames on their way from the render loop to a sink's thread."""
from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from threading import Condition
from typing import cast

import cv2

from visa_ros.types import Presence, ShadedFrame, UInt8


@dataclass(frozen=True, eq=False)
class Picture:
    """
    A sink's own copy of a frame, in OpenCV's colour order.

    Attributes
    ----------
    bgr : (H, W, 3) uint8
        May be drawn upon; valid until ``take`` returns the next one.  (H, W, 4) with alpha, if
        the queue was asked for it and the frame has it.
    stamp_ns, presence
        As in ShadedFrame.
    sequence : int
        Counts the frames that were put, from 1.
    shown_ns : int
        When it was put, nanoseconds since the epoch.

    """

    bgr: UInt8
    stamp_ns: int
    presence: Presence
    sequence: int
    shown_ns: int


class FrameQueue:
    """
    Copy frames out of the render loop's buffers; the oldest are dropped when it is full.

    The one copy is the conversion to BGR, which OpenCV's encoders and windows take; its buffers
    are reused.

    Parameters
    ----------
    depth : int
        How many frames may wait; with 1 the latest wins.
    alpha : bool
        Whether transparent pictures are taken as such.

    Attributes
    ----------
    dropped : int
        Frames that were replaced before they were taken.

    """

    def __init__(self, depth: int = 1, alpha: bool = False) -> None:
        self.dropped = 0
        self._alpha = alpha
        self._depth = depth
        self._sequence = 0
        self._waiting: deque[Picture] = deque()
        self._spare: list[UInt8] = []
        self._taken: Picture | None = None
        self._closed = False
        self._changed = Condition()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def put(self, frame: ShadedFrame) -> None:
        """Append a copy of the frame; never waits for the reader.  One thread may call it."""
        shown_ns = time.time_ns()
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) == self._depth:
                self._spare.append(self._waiting.popleft().bgr)
                self.dropped += 1
            spare = self._spare.pop() if self._spare else None
        transparent = frame.rgba if self._alpha else None
        bgr = cast(UInt8, cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR, spare)
                   if transparent is None else
                   cv2.cvtColor(transparent, cv2.COLOR_RGBA2BGRA, spare))
        with self._changed:
            self._sequence += 1
            self._waiting.append(Picture(
                bgr, frame.stamp_ns, frame.presence, self._sequence, shown_ns))
            self._changed.notify()

    def take(self, timeout_s: float | None = None) -> Picture | None:
        """Wait for the next frame; None after the timeout or once closed and empty."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s):
                return None
            if self._taken:
                self._spare.append(self._taken.bgr)
            self._taken = self._waiting.popleft() if self._waiting else None
            return self._taken

    def clear(self) -> None:
        """Forget the frames that wait."""
        with self._changed:
            self._spare.extend(picture.bgr for picture in self._waiting)
            self._waiting.clear()

    def close(self) -> None:
        """Take no more frames, and wake the reader; what waits can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
