"""The picture in a window of this desktop."""
from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import cast

import cv2

from visa_ros.display.frame_queue import Picture
from visa_ros.display.mark import INTERRUPTED, INTERRUPTED_AFTER_S, TEXTS, draw_mark
from visa_ros.display.threaded import ThreadedSink
from visa_ros.errors import ResourceError
from visa_ros.types import UInt8

_TITLE = 'Telepresence'
_EVENTS_EVERY_S = 0.05
_ESCAPE = 27
_DARK = (16, 13, 11)
_PROBE_TIMEOUT_S = 30


class Window(ThreadedSink):
    """
    Show frames in an OpenCV window; q or Escape closes it.

    All of OpenCV's window calls come from this sink's thread, so there is one a process.

    Parameters
    ----------
    fullscreen : bool
        Fill the screen.
    mirror : bool
        Show the picture as a mirror does; words stay readable.

    Raises
    ------
    ResourceError
        There is no desktop to open a window on.

    """

    def __init__(self, fullscreen: bool = False, mirror: bool = False) -> None:
        _check_desktop()
        self._fullscreen = fullscreen
        self._mirror = mirror
        self._last: Picture | None = None
        self._last_s = 0.0
        self._is_marked = False
        super().__init__('window', idle_s=_EVENTS_EVERY_S)

    def _handle(self, picture: Picture | None) -> None:
        if picture:
            if self._mirror:
                picture = replace(picture, bgr=cast(UInt8, cv2.flip(picture.bgr, 1)))
            if self._last is None:
                self._open(picture)
            self._last, self._last_s = picture, time.monotonic()
            self._draw(TEXTS.get(picture.presence))
        elif self._last is None:
            return
        elif not self._is_marked and time.monotonic() - self._last_s > INTERRUPTED_AFTER_S:
            self._draw(INTERRUPTED)
        if (cv2.waitKey(1) & 0xFF in (_ESCAPE, ord('q'))
                or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1):
            self._frames.close()

    def _open(self, picture: Picture) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
        if self._fullscreen:
            cv2.setWindowProperty(_TITLE, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
        else:
            height, width = picture.bgr.shape[:2]
            cv2.resizeWindow(_TITLE, width, height)

    def _draw(self, text: str | None) -> None:
        assert self._last is not None
        self._is_marked = text is not None
        if text:
            draw_mark(self._last.bgr, text)
        _, _, width, height = cv2.getWindowImageRect(_TITLE)
        cv2.imshow(_TITLE, _letterboxed(self._last.bgr, width, height))

    def _finish(self) -> None:
        if self._last:
            cv2.destroyAllWindows()
            cv2.waitKey(1)


def _letterboxed(bgr: UInt8, width: int, height: int) -> UInt8:
    """Return the picture with dark bars, in the proportions of a window: Qt's bars are white."""
    bars_x = max(0, round(bgr.shape[0] * width / height - bgr.shape[1])) // 2
    bars_y = max(0, round(bgr.shape[1] * height / width - bgr.shape[0])) // 2
    if not (bars_x or bars_y):
        return bgr
    return cast(UInt8, cv2.copyMakeBorder(bgr, bars_y, bars_y, bars_x, bars_x,
                                          cv2.BORDER_CONSTANT, value=_DARK))


def _check_desktop() -> None:
    """Open a window in another process first: without a desktop Qt aborts the one it is in."""
    probe = subprocess.run(
        [sys.executable, '-c', 'import cv2; cv2.namedWindow("probe")'],
        capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S)
    if probe.returncode:
        reason = next((line for line in probe.stderr.splitlines() if line.strip()), 'no reason')
        raise ResourceError(
            f'no window can be opened ({reason}); run this on a desktop (DISPLAY is set), or use '
            'the web page (display.web) instead of display.window')
