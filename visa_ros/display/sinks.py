"""What shows or keeps the pictures, and how to open it."""
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from visa_ros.display.config import DisplayConfig
from visa_ros.types import ShadedFrame


class Sink(Protocol):
    """Something that shows or keeps pictures."""

    def show(self, frame: ShadedFrame) -> None:
        """Take a frame; never waits and keeps no reference to its array."""

    def change(self, config: DisplayConfig) -> None:
        """Take those of the settings that may change while it is open."""

    def close(self) -> None:
        """Finish and release everything; may be called again."""


def open_sinks(config: DisplayConfig) -> list[Sink]:
    """
    Open every sink that the settings ask for.

    Raises
    ------
    ResourceError
        A port is in use, there is no display, or a file cannot be written; nothing stays open.

    """
    sinks: list[Sink] = []
    with ExitStack() as opened:
        def add(sink: Sink) -> None:
            opened.callback(sink.close)
            sinks.append(sink)

        if config.web:
            from visa_ros.display.web import WebDisplay
            add(WebDisplay(config))
        if config.window:
            from visa_ros.display.window import Window
            add(Window(config.fullscreen, config.mirror))
        if config.video_path:
            from visa_ros.display.files import VideoFile
            add(VideoFile(Path(config.video_path).expanduser()))
        if config.image_folder:
            from visa_ros.display.files import ImageFolder
            add(ImageFolder(Path(config.image_folder).expanduser()))
        opened.pop_all()
    return sinks
