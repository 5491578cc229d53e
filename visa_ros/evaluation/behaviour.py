"""
How people before a webcam blink, look about and sway: what the avatar's idle motion imitates.

Real clips are captured image by image; blinks and gaze come from the face's blendshapes.
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import find_peaks
from scipy.spatial.transform import Rotation

from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.evaluation.report import Report

Float64 = NDArray[np.float64]

CLIPS = ('cap12', 'cap13', 'franck')
_SIZE = 640, 480  # of the images that are captured
_LIDS = [BLENDSHAPE_INDEX[name] for name in ('eyeBlinkLeft', 'eyeBlinkRight')]
_HEAD_CHAIN = [JOINT_INDEX[name] for name in (
    'pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head')]

# A blink rises by this much above the lids' median over so many seconds, and is over again within
# the third [s]; it lasts while it is above a share of its height.
_BLINK_RISE, _LIDS_WINDOW_S, _BLINK_AT_MOST_S, _BLINK_EDGE = 0.25, 3.0, 0.8, 0.2
# A gaze shift: this much [deg] between the medians of so many seconds before and after, not within
# so many seconds of a blink, whose lids disturb the iris.
_SHIFT_DEG, _SHIFT_WINDOW_S, _BLINK_GUARD_S = 2.0, 0.2, 0.25
# Sway is judged in windows of so many seconds; the stillest quarter of them is idling.
_SWAY_WINDOW_S, _STILL = 8.0, 0.25
_BANDS_HZ = ((0.125, 0.25), (0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0))


@dataclass(frozen=True, eq=False)
class Trace:
    """
    What was captured of a clip (T images with a person, at even times).

    Attributes
    ----------
    fps : float
        Images a second.
    lids : (T,) float64
        Mean of both eyes' blink blendshapes.
    gaze_deg : (T, 2) float64
        To the left and down, of the eyes in the head.
    head_deg : (T, 3) float64
        The head's turns about the camera's x (nod), y (turn) and z (tilt), from their mean.

    """

    fps: float
    lids: Float64
    gaze_deg: Float64
    head_deg: Float64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--clips', nargs='+', default=list(CLIPS), choices=CLIPS,
                        help='which clips (default: all)')


def run(arguments: argparse.Namespace) -> Report:
    """Capture every clip and take its statistics."""
    report = Report('Blinks, gaze shifts and sway', notes=[
        f'Blinks: the lids rise by {_BLINK_RISE} over their median and fall again; closing and '
        f'opening from and to {_BLINK_EDGE:.0%} of the height, lengthened by the images\' 40 ms '
        "and the capture's filter. sigma: of the interval's logarithm.",
        f'Gaze shifts: {_SHIFT_DEG:g} degrees or more of the eyes in the head, medians.',
        f'Sway: standard deviation of nod, turn and tilt within windows of {_SWAY_WINDOW_S:g} s, '
        f'of the stillest quarter of them; bands: share of its power.'])
    for name in arguments.clips:
        captured = trace(name)
        report.rows.append({'clip': name, 's': round(len(captured.lids) / captured.fps)}
                           | blinks(captured) | gaze_shifts(captured) | sway(captured))
    return report


def trace(name: str) -> Trace:
    """Capture a sample clip with the project's own capture."""
    import cv2

    from visa_ros import samples
    from visa_ros.capture.capture import PoseCapture
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.source import read_video
    from visa_ros.types import CameraImage

    poses = []
    with PoseCapture(CaptureConfig(hands=False)) as capture:
        for rgb, media_ns in read_video(samples.video(name)):
            image = CameraImage(np.asarray(cv2.resize(rgb, _SIZE), np.uint8), media_ns + 10**9)
            pose = capture.process(image)
            if pose is not None:
                poses.append(pose)
    return trace_of(np.array([pose.stamp_ns * 1e-9 for pose in poses]),
                    np.array([pose.joint_rotations for pose in poses], float),
                    np.array([pose.blendshapes for pose in poses], float))


def trace_of(stamps_s: Float64, rotations: Float64, blendshapes: Float64) -> Trace:
    """Return the trace of T stamps, (T, 55, 3) joint rotations and (T, 52) blendshapes."""
    head = Rotation.from_rotvec(rotations[:, _HEAD_CHAIN[0]])
    for joint in _HEAD_CHAIN[1:]:
        head = head * Rotation.from_rotvec(rotations[:, joint])
    eyes = np.degrees(rotations[:, JOINT_INDEX['left_eye']])
    return Trace(1 / float(np.median(np.diff(stamps_s))), blendshapes[:, _LIDS].mean(1),
                 eyes[:, [1, 0]], np.degrees((head * head.mean().inv()).as_rotvec()))


def blinks(captured: Trace) -> dict[str, Any]:
    """Return rate, intervals, closing and opening times of the blinks."""
    peaks, closing, opening = _blinks(captured)
    intervals = np.diff(peaks) / captured.fps
    minutes = len(captured.lids) / captured.fps / 60
    return {'blinks/min': round(len(peaks) / minutes, 1),
            'interval s': round(float(np.median(intervals)), 1),
            'sigma': round(float(np.log(intervals).std()), 2),
            'closing ms': round(1e3 * float(np.median(closing))),
            'opening ms': round(1e3 * float(np.median(opening)))}


def _blinks(captured: Trace) -> tuple[NDArray[np.intp], Float64, Float64]:
    """Return where blinks peak, and how long they close and open in seconds."""
    size = round(_LIDS_WINDOW_S * captured.fps) | 1
    rise = captured.lids - median_filter(captured.lids, size)
    peaks, seen = find_peaks(
        rise, height=_BLINK_RISE, prominence=_BLINK_RISE,
        width=(0, _BLINK_AT_MOST_S * captured.fps), rel_height=1 - _BLINK_EDGE)
    return (peaks, (peaks - seen['left_ips']) / captured.fps,
            (seen['right_ips'] - peaks) / captured.fps)


def gaze_shifts(captured: Trace) -> dict[str, Any]:
    """Return how often and how far the eyes jump within the head."""
    span = max(round(_SHIFT_WINDOW_S * captured.fps), 2)
    windows = np.lib.stride_tricks.sliding_window_view(captured.gaze_deg, span, axis=0)
    medians = np.median(windows, axis=-1)
    jump = np.linalg.norm(medians[span + 1:] - medians[:-span - 1], axis=1)
    middle = np.arange(len(jump)) + span
    guard = round(_BLINK_GUARD_S * captured.fps)
    for peak in _blinks(captured)[0]:
        jump[np.abs(middle - peak) <= guard + span] = 0
    shifts, seen = find_peaks(jump, height=_SHIFT_DEG, distance=span)
    intervals = np.diff(middle[shifts]) / captured.fps
    still = captured.gaze_deg - np.median(captured.gaze_deg, axis=0)
    return {'shifts/min': round(60 * len(shifts) * captured.fps / len(captured.lids), 1),
            'fixation s': round(float(np.median(intervals)), 2),
            'fixation sigma': round(float(np.log(intervals).std()), 2),
            'shift deg': round(float(np.median(seen['peak_heights'])), 1),
            'gaze spread deg': [round(float(value), 1) for value in
                                1.48 * np.median(np.abs(still), axis=0)],
            'gaze median deg': [round(float(value), 1) for value in
                                np.median(captured.gaze_deg, axis=0)]}


def sway(captured: Trace) -> dict[str, Any]:
    """Return how much and how fast the head turns while it is as good as still."""
    length = round(_SWAY_WINDOW_S * captured.fps)
    count = len(captured.head_deg) // length
    windows = captured.head_deg[:count * length].reshape(count, length, 3)
    time = np.linspace(-1, 1, length)[:, None]
    windows = windows - windows.mean(1, keepdims=True)
    windows = windows - time * (windows * time).sum(1, keepdims=True) / (time**2).sum()
    deviation = windows.std(1)
    total = np.linalg.norm(deviation, axis=1)
    still = total <= np.quantile(total, _STILL)
    power = (np.abs(np.fft.rfft(windows[still] * np.hanning(length)[:, None], axis=1))**2
             ).sum((0, 2))
    frequency = np.fft.rfftfreq(length, 1 / captured.fps)
    shares = [float(power[(frequency >= low) & (frequency < high)].sum()) for low, high
              in _BANDS_HZ]
    return {'sway deg': [round(float(value), 2) for value in np.median(deviation[still], axis=0)],
            'all sway deg': [round(float(value), 2) for value in np.median(deviation, axis=0)],
            **{f'{low:g}-{high:g} Hz': round(share / sum(shares), 2)
               for (low, high), share in zip(_BANDS_HZ, shares, strict=True)}}
