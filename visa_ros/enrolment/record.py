"""A clip for enrolment from a camera, with words on the screen that say what to do."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from visa_ros.capture.source import SourceConfig, VideoSource
from visa_ros.display.files import VideoFile
from visa_ros.display.sinks import Sink
from visa_ros.errors import ResourceError
from visa_ros.types import CameraImage, ShadedFrame, UInt8

log = logging.getLogger(__name__)

_FIRST_IMAGE_S = 10.0
_BAND = 0.14  # of the picture's height, for the words
_DARK, _WHITE, _AMBER = (16, 13, 11), (245, 245, 245), (255, 180, 70)


@dataclass(frozen=True)
class Prompt:
    """What the person is asked to do, and for how long."""

    text: str
    seconds: float


# What a portrait does not show: sides of the head, teeth, closed eyes, brows; slowly, so that
# pictures are sharp.
PROMPTS = (
    Prompt('Look into the camera, mouth closed', 4),
    Prompt('Count aloud to ten', 6),
    Prompt('Turn your head slowly to one side', 5),
    Prompt('... and slowly to the other', 5),
    Prompt('Look up, then down', 5),
    Prompt('Smile, show your teeth', 4),
    Prompt('Raise your brows, blink twice', 4),
    Prompt('Tell what you did today', 7),
)


def record(source: SourceConfig, path: Path, prompts: Sequence[Prompt] = PROMPTS,
           screen: Sink | None = None,
           say: Callable[[str, float], None] = lambda text, share: None) -> None:
    """
    Record a person who is told what to do.

    Parameters
    ----------
    source : SourceConfig
        The camera.
    path : Path
        Of the clip, MP4.
    prompts : sequence of Prompt
    screen : Sink, optional
        Shows the person as in a mirror, with the words; closed at the end.
    say : callable
        Told each prompt and the share of it that is over, for a terminal.

    Raises
    ------
    ResourceError
        There is no such camera, it went away, or the clip cannot be written.

    """
    said, share, seen = prompts[0], 0.0, Event()
    recorder = VideoFile(path)

    def take(image: CameraImage) -> None:
        recorder.show(ShadedFrame(image.rgb, image.stamp_ns))
        if screen:
            screen.show(ShadedFrame(prompted(image.rgb, said.text, share), image.stamp_ns))
        seen.set()

    try:
        camera = VideoSource(source, take)
        camera.start()
        try:
            if not seen.wait(_FIRST_IMAGE_S):
                raise ResourceError(f'no image comes from the camera {source.source}; '
                                    'choose another --camera')
            for said in prompts:
                begin_s = time.monotonic()
                while (share := (time.monotonic() - begin_s) / said.seconds) < 1:
                    say(said.text, share)
                    seen.clear()
                    if not seen.wait(said.seconds) or not camera.state.ok:
                        raise ResourceError(f'the camera {source.source} went away '
                                            f'({camera.state.message or "no image comes"}); '
                                            'enrol again')
                say(said.text, 1.0)
        finally:
            camera.close()
    finally:
        recorder.close()
        if screen:
            screen.close()


def open_screen() -> Sink | None:
    """Return a window of this desktop; None where there is none, which is logged."""
    from visa_ros.display.window import Window

    try:
        return Window()
    except ResourceError as error:
        log.warning('%s; what to do is said here', error)
        return None


def prompted(rgb: UInt8, text: str, share: float) -> UInt8:
    """Return a mirrored copy of a picture with words over a bar that shows how long they hold."""
    picture = np.ascontiguousarray(rgb[:, ::-1])
    height, width = picture.shape[:2]
    band = picture[:round(_BAND * height)]
    band[:] = _DARK
    bar = max(len(band) // 12, 1)
    band[-bar:, :round(min(share, 1.0) * width)] = _AMBER
    scale = 1.0
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale = min(0.9 * width / text_width, 0.45 * len(band) / text_height)
    place = round((width - scale * text_width) / 2), round((len(band) + scale * text_height) / 2)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE,
                max(round(2 * scale), 1), cv2.LINE_AA)
    return picture
