"""
MediaPipe's pose, face and hand trackers as one: image to ``Landmarks`` of the operator.

The trackers run in parallel threads, face and hands in a window around where the operator's head
and body were in the last frame.  Why each decision was made is in doc/capture.md.
"""
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from visa_ros._optional import require
from visa_ros.capture._quiet import quiet_native_logs
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.capture.models import load_model
from visa_ros.capture.people import (
    TORSO,
    UPPER_BODY,
    Operator,
    assigned_hands,
    hands_in_view,
    head,
    is_on,
    kept_hands,
    motion,
    prominence,
)
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES
from visa_ros.types import Float32, UInt8

_CLOCK_SET_MS = 1000
_MAX_PEOPLE = 4  # that are told apart when the operator is chosen
_CALM = 0.15     # sizes of the torso a second; slower bodies are tracked every `body_every` images


class Landmarkers:
    """
    Find the operator's body, face and hands.

    Parameters
    ----------
    config : CaptureConfig
        Where the models are and what to track.
    mode : {'video', 'still'}
        Whether images follow one another (tracked and smoothed) or have nothing in common.
    mask : bool
        Whether to segment the person; in 'still' mode only.

    Attributes
    ----------
    people : int
        How many people the last search for the operator saw.

    Raises
    ------
    ResourceError
        A model file is missing.
    MissingDependencyError
        MediaPipe is not installed.

    """

    def __init__(self, config: CaptureConfig, mode: str = 'video', mask: bool = False) -> None:
        self.config = config
        self._video = mode == 'video'
        self._with_mask = mask and not self._video
        self.people = 0
        with quiet_native_logs():
            self._load(config)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix='landmarker')
        self._face_window = _Window(margin=0.6)
        self._body_window = _Window(margin=0.15)
        self._alone = np.zeros((0, 0, 3), np.uint8)
        self._last: Landmarks | None = None
        self._operator: Operator | None = None
        self._last_seen_ms = 0
        self._tracked_ms = 0    # when the body was tracked last,
        self._kept = 0          # how many images it has been kept since,
        self._speed = np.inf    # and how fast it moved then, sizes of the torso a second
        self._stamp_ms = 0
        self._clock_ms = 0  # what is added to the stamps that come in
        self._frame = 0

    def detect(self, rgb: UInt8, stamp_ms: int) -> Landmarks | None:
        """
        Find the operator in one image.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The camera's image.
        stamp_ms : int
            When it was taken; in 'video' mode it should increase.

        Returns
        -------
        Landmarks or None
            None where nobody is, or somebody else.

        """
        # MediaPipe refuses stamps that stand still or go back; a frame may use three.
        behind_ms = self._stamp_ms + 3 - (stamp_ms + self._clock_ms)
        if behind_ms > _CLOCK_SET_MS:
            self._clock_ms += behind_ms  # the clock was set back: go on from here
        self._stamp_ms = max(self._stamp_ms + 3, stamp_ms + self._clock_ms)
        self._frame += 1
        image = _shrunk(rgb, self.config.max_side_px)
        last, self._last = self._last, None
        if last is None:
            body = self._find(image)
            if body is None:
                return None
            self._tracked_ms, self._kept, self._speed = self._stamp_ms, 0, np.inf
            parts = self._start_parts(image, body, keep_hands=False)
            face, hands = (part.result() for part in parts)
        else:
            keep_hands = self._frame % self.config.hands_every != 0
            # Among others every image counts: who passes by must not be taken for the operator.
            keep_body = (self._kept + 1 < self.config.body_every and self._speed < _CALM
                         and last.face is not None and self.people == 1)
            parts = self._start_parts(image, last, keep_hands)
            body = None if keep_body else self._follow(image, last)
            face, hands = (part.result() for part in parts)
            if keep_body and face is not None and is_on(face['face'], last):
                self._kept += 1
                body = replace(last, face=None, blendshapes=None, head_matrix=None)
            elif keep_body:
                body = self._follow(image, last)
        if (body is not None and last is not None and last.face is not None and face is not None
                and is_on(face['face'], last) and not is_on(face['face'], body)):
            # The face is where it was: it is the body's tracker that slid to a neighbour.
            body = self._find(image)
        if body is None:
            return None
        left, right = kept_hands(last, body) if hands is None else assigned_hands(hands, body)
        body = replace(body, left_hand=left, right_hand=right)
        if face is not None and is_on(face['face'], body):
            body = replace(body, **face)
        if self._video:
            self._last = body
            self._last_seen_ms = self._stamp_ms
        return _resized(body, rgb.shape[1], rgb.shape[0])

    def close(self) -> None:
        """Release threads and models."""
        self._threads.shutdown()
        for task in (self._finder, self._pose, self._face, self._hands, self._segmenter):
            if task is not None:
                task.close()

    def __enter__(self) -> Landmarkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who is the operator

    def _find(self, image: UInt8) -> Landmarks | None:
        """Choose among everybody in the image."""
        padded = _padded(image)
        result = self._finder.detect(self._make_image(padded))
        people = [_body(result, index, padded, image)
                  for index in range(len(result.pose_landmarks))]
        self.people = len(people)
        if not people:
            return None
        if self._operator is None or not self._video or self._is_away():
            chosen = int(np.argmax([prominence(body) for body in people]))
            self._operator = Operator(image, people[chosen])
        else:
            unlike = [self._operator.unlikeness(image, body) for body in people]
            chosen = int(np.argmin(unlike))
            if unlike[chosen] > 1:
                return None
            self._operator.torso = people[chosen].pose[TORSO]
        if self._pose is not None:
            self._lock_on(image, people[chosen])
        if self._segmenter is None:
            return people[chosen]
        mask = self._segment(padded, result.segmentation_masks[chosen])
        return replace(people[chosen], mask=mask[:image.shape[0], :image.shape[1]])

    def _lock_on(self, image: UInt8, body: Landmarks) -> None:
        """Make the pose tracker follow this person and nobody else."""
        assert self._pose is not None
        alone = np.zeros_like(image)
        # With nothing to see the tracker forgets whom it followed before ...
        self._pose.detect_for_video(self._make_image(alone), self._stamp_ms + 1)
        # ... and takes the next one that it is shown.
        center, radius = head(body.pose)
        points = np.concatenate((body.pose[TORSO], center[None] - radius, center[None] + radius))
        size = image.shape[1], image.shape[0]
        (left, top), (right, bottom) = np.clip((points.min(0), points.max(0)), 0, size).astype(int)
        alone[top:bottom, left:right] = image[top:bottom, left:right]
        self._pose.detect_for_video(self._make_image(alone), self._stamp_ms + 2)

    def _is_away(self) -> bool:
        return self._stamp_ms - self._last_seen_ms > 1e3 * self.config.away_s

    def _follow(self, image: UInt8, last: Landmarks) -> Landmarks | None:
        """Track the operator, who was seen in the last frame."""
        assert self._pose is not None
        assert self._operator is not None
        alone = self._only_operator(image)
        result = self._pose.detect_for_video(self._make_image(alone), self._stamp_ms)
        if not result.pose_landmarks:
            return None
        body = _body(result, 0, image, image)
        if not self._operator.is_still(image, body):
            return None
        elapsed_s = (self._stamp_ms - self._tracked_ms) * 1e-3
        self._tracked_ms, self._kept = self._stamp_ms, 0
        self._speed = motion(last, body) / elapsed_s
        return body

    def _only_operator(self, image: UInt8) -> UInt8:
        """Return the image with everything black that is far from the operator."""
        left, top, right, bottom = self._body_window.box
        if (right - left, bottom - top) == (image.shape[1], image.shape[0]):
            return image
        if self._alone.shape != image.shape:
            self._alone = np.zeros_like(image)
        elif self._body_window.moved:
            self._alone[:] = 0
        self._alone[top:bottom, left:right] = image[top:bottom, left:right]
        return self._alone

    def _segment(self, image: UInt8, of_pose: Any) -> Float32:
        """
        Return the person's mask.

        The selfie segmenter has the better contour; the pose's own mask leaves out other people
        and things (the helmet of ``samples.portrait()``).
        """
        segments = self._segmenter.segment(self._make_image(image)).confidence_masks
        contour = segments[0].numpy_view().reshape(image.shape[:2])
        size = max(3, max(image.shape) // 25) | 1
        around = cv2.GaussianBlur(
            cv2.dilate(of_pose.numpy_view().reshape(image.shape[:2]), np.ones((size, size))),
            (size, size), 0)
        return contour * around

    # --- face and hands

    def _start_parts(self, image: UInt8, body: Landmarks, keep_hands: bool
                     ) -> tuple[Future, Future]:
        """Begin to look for face and hands near a body that was just found, or a frame ago."""
        size = image.shape[1], image.shape[0]
        center, radius = head(body.pose)
        self._face_window.fit(np.stack((center - radius, center + radius)), size)
        inside = np.clip(body.pose[UPPER_BODY], 0, size)
        reach = 0.3 * np.ptp(body.pose[TORSO], 0).max()
        self._body_window.fit(np.stack((inside.min(0) - reach, inside.max(0) + reach)), size)
        return (self._threads.submit(self._find_face, image),
                self._threads.submit(self._find_hands, image, body, keep_hands))

    def _find_face(self, image: UInt8) -> dict[str, Any] | None:
        result = self._run(self._face, image, self._face_window,
                           lambda result: result.face_landmarks)
        if not result.face_landmarks:
            return None
        blendshapes = np.zeros(len(BLENDSHAPES), np.float32)
        for category in result.face_blendshapes[0]:
            if category.category_name in BLENDSHAPE_INDEX:  # all but '_neutral'
                blendshapes[BLENDSHAPE_INDEX[category.category_name]] = category.score
        return {
            'face': self._face_window.to_image(result.face_landmarks[0]),
            'blendshapes': blendshapes,
            'head_matrix': np.asarray(result.facial_transformation_matrixes[0], np.float32),
        }

    def _find_hands(self, image: UInt8, body: Landmarks, keep: bool) -> list[HandLandmarks] | None:
        """Return the hands found; None where those of the last frame are to be kept."""
        if self._hands is None or not hands_in_view(body).any():
            return []
        if keep:
            return None
        result = self._run(self._hands, image, self._body_window,
                           lambda result: result.hand_landmarks)
        return [
            HandLandmarks(self._body_window.to_image(points),
                          np.array([(p.x, p.y, p.z) for p in world], np.float32), label[0].score)
            for points, world, label in zip(result.hand_landmarks, result.hand_world_landmarks,
                                            result.handedness, strict=True)]

    def _run(self, task: Any, image: UInt8, window: _Window,
             found: Callable[[Any], list]) -> Any:
        """Run a tracker in a window; a moved window makes it lose its target, so look again."""
        view = self._make_image(window.cut(image))
        if not self._video:
            return task.detect(view)
        result = task.detect_for_video(view, self._stamp_ms)
        if window.moved and not found(result):
            result = task.detect_for_video(view, self._stamp_ms + 1)
        return result

    # --- MediaPipe

    def _load(self, config: CaptureConfig) -> None:
        self._vision = require('mediapipe.tasks.python.vision')
        self._make_image = _image_maker()
        folder = config.model_folder
        self._finder = self._create(
            'Pose', load_model('pose_landmarker_full.task', folder), video=False,
            num_poses=_MAX_PEOPLE, output_segmentation_masks=self._with_mask)
        self._pose = self._create('Pose', load_model('pose_landmarker_full.task', folder)
                                  ) if self._video else None
        self._face = self._create(
            'Face', load_model('face_landmarker.task', folder), output_face_blendshapes=True,
            output_facial_transformation_matrixes=True)
        self._hands = self._create('Hand', load_model('hand_landmarker.task', folder), num_hands=2
                                   ) if config.hands else None
        self._segmenter: Any = None
        if self._with_mask:
            self._segmenter = self._vision.ImageSegmenter.create_from_options(
                self._vision.ImageSegmenterOptions(
                    base_options=self._model(load_model('selfie_segmenter.tflite', folder)),
                    output_confidence_masks=True))

    def _model(self, data: bytes) -> Any:
        return require('mediapipe.tasks.python').BaseOptions(model_asset_buffer=data)

    def _create(self, kind: str, model: bytes, video: bool | None = None, **options: Any) -> Any:
        running = self._vision.RunningMode
        video = self._video if video is None else video
        make_options = getattr(self._vision, f'{kind}LandmarkerOptions')
        return getattr(self._vision, f'{kind}Landmarker').create_from_options(make_options(
            base_options=self._model(model),
            running_mode=running.VIDEO if video else running.IMAGE, **options))


class _Window:
    """
    The part of the image that a tracker sees.

    It stays where it is for as long as its content fits: a tracker that follows its target
    through a moving window loses it.

    Parameters
    ----------
    margin : float
        Room around the content on each side, relative to the content's size, when the window
        is laid anew.

    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self.box = (0, 0, 0, 0)  # left, top, right, bottom
        self.moved = False

    def fit(self, content: Float32, size: tuple[int, int]) -> None:
        """Move only if the content (2 corners) leaves the window or has become small in it."""
        low, high = np.clip(content, 0, size)
        left, top, right, bottom = self.box
        room = (1 + 2 * self._margin) ** 2 * max(1.0, float(np.prod(high - low)))
        self.moved = bool(
            low[0] < left or low[1] < top or high[0] > right or high[1] > bottom
            or right > size[0] or bottom > size[1] or (right - left) * (bottom - top) > 2 * room)
        if self.moved:
            margin = np.maximum(self._margin * (high - low), 8)
            left, top = np.floor(np.maximum(low - margin, 0)).astype(int).tolist()
            right, bottom = np.ceil(np.minimum(high + margin, size)).astype(int).tolist()
            self.box = left, top, right, bottom

    def cut(self, image: UInt8) -> UInt8:
        """Return the window's pixels as a contiguous array."""
        left, top, right, bottom = self.box
        return np.ascontiguousarray(image[top:bottom, left:right])

    def to_image(self, points: list[Any]) -> Float32:
        """Return MediaPipe's normalized points of the window as (N, 2) pixels of the image."""
        left, top, right, bottom = self.box
        size = np.array((right - left, bottom - top), np.float32)
        return (np.array([(p.x, p.y) for p in points], np.float32) * size
                + np.array((left, top), np.float32))


def _image_maker() -> Callable[[UInt8], Any]:
    mediapipe = require('mediapipe')
    return lambda rgb: mediapipe.Image(mediapipe.ImageFormat.SRGB, rgb)


def _shrunk(rgb: UInt8, max_side: int) -> UInt8:
    """Return the image contiguous and no larger than asked."""
    scale = max_side / max(rgb.shape)
    if scale >= 1:
        return np.ascontiguousarray(rgb)
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _padded(rgb: UInt8) -> UInt8:
    """
    Return the image with its width padded to a multiple of 16.

    Reading a float mask of another width aborts the process in MediaPipe 0.10.33 (image_frame.cc,
    CopyToBuffer: "Check failed: 1 == ChannelSize()").
    """
    missing = -rgb.shape[1] % 16
    if not missing:
        return rgb
    return np.asarray(cv2.copyMakeBorder(rgb, 0, 0, 0, missing, cv2.BORDER_REPLICATE))


def _body(result: Any, index: int, seen: UInt8, image: UInt8) -> Landmarks:
    """Read one person of a pose result; ``seen`` is what MediaPipe saw of ``image``."""
    height, width = image.shape[:2]
    points = np.array([(p.x, p.y, p.visibility) for p in result.pose_landmarks[index]], np.float32)
    pose = points[:, :2] * np.array((seen.shape[1], seen.shape[0]), np.float32)
    world = np.array([(p.x, p.y, p.z) for p in result.pose_world_landmarks[index]], np.float32)
    inside = ((pose >= 0) & (pose < (width, height))).all(1)
    return Landmarks(width, height, pose, world, points[:, 2] * inside)


def _resized(body: Landmarks, width: int, height: int) -> Landmarks:
    """Return the landmarks in the pixels of the camera's own image."""
    if (body.width, body.height) == (width, height):
        return body
    scale = np.array((width / body.width, height / body.height), np.float32)
    left, right = (None if hand is None else replace(hand, image=hand.image * scale)
                   for hand in (body.left_hand, body.right_hand))
    return replace(
        body, width=width, height=height, pose=body.pose * scale,
        face=None if body.face is None else body.face * scale,
        mask=None if body.mask is None else np.asarray(cv2.resize(body.mask, (width, height)),
                                                       np.float32),
        left_hand=left, right_hand=right)
