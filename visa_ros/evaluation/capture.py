"""
How well and how fast the operator is captured: reprojection, jitter, lag, speed.

Real clips are played image by image through trackers, solver and filter, alone.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from visa_ros.conventions import JOINT_INDEX, PART_INDEX
from visa_ros.evaluation.report import Report
from visa_ros.timing import quantiles_ms
from visa_ros.types import Camera, Float32, OperatorPose, UInt8

if TYPE_CHECKING:
    from visa_ros.body.model import BodyModel
    from visa_ros.capture.landmarks import Landmarks
    from visa_ros.capture.solve import PoseSolver


@dataclass(frozen=True)
class Clip:
    """A stretch of a sample: frames [start, stop), a crop (top, bottom, left, right), a size."""

    video: str
    start: int
    stop: int
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    # A crop of a photographer's video is no webcam view: its focal length is longer.
    focal_ratio: float = 0.9


CLIPS = {
    'talks': Clip('cap12', 0, 700, size=(640, 480)),
    'leans, hand at chin': Clip('cap12', 700, 1325, size=(640, 480)),
    'conversation': Clip('franck', 0, 600, size=(640, 480)),
    'one hand': Clip('party', 0, 130, crop=(0, 720, 500, 1080), focal_ratio=2.0),
    'both hands': Clip('party', 300, 432, crop=(60, 560, 580, 1080), focal_ratio=2.0),
}
_JITTER_FRAMES, _SETTLING_FRAMES, _NOISE_SIGMA = 150, 30, 4.0
_HEAD = ('head', 'left_eye', 'right_eye')
_CONFIDENT = 0.5
_REFERENCE_SIDE_PX = 640  # pixels are quoted at 640x480

# MediaPipe pose landmark -> joint.
_BODY = {11: 'left_shoulder', 12: 'right_shoulder', 13: 'left_elbow', 14: 'right_elbow',
         15: 'left_wrist', 16: 'right_wrist'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--clips', nargs='+', default=list(CLIPS), choices=list(CLIPS),
                        help='which clips (default: all)')
    parser.add_argument('--frames', type=int, default=10_000,
                        help='at most so many of each clip (default: all)')
    parser.add_argument('--hands-every', type=int, default=1, help='capture.hands_every')
    parser.add_argument('--body-every', type=int, default=2, help='capture.body_every')


def run(arguments: argparse.Namespace) -> Report:
    """Measure every clip, then the jitter on still photos."""
    from visa_ros import samples

    report = Report('Pose capture', notes=[
        'Bars: joints within 12 px and fingers within 10 px of the landmarks (median), jitter '
        'at most 0.5 px, 25 frames a second; px at 640x480.',
        'Joints: the solved skeleton with the proportions that the solver estimates, against '
        'pose landmarks with visibility above 0.5 (wrists: against the hand, where it is '
        'tracked).',
        f'Jitter: standard deviation of the visible joints, one photo with noise of sigma '
        f'{_NOISE_SIGMA:g} in {_JITTER_FRAMES} frames.',
        "Lag: the shift of the filtered head's path that fits the unfiltered one best.",
        'Speed is of this machine as loaded as it says; read it when nothing else runs.  cpu: '
        'processor time a frame, of all cores together, which load changes less.'])
    for name in arguments.clips:
        clip = CLIPS[name]
        clip = replace(clip, stop=min(clip.stop, clip.start + arguments.frames))
        row: dict[str, object] = {'input': name}
        report.rows.append(row | measure(clip, arguments.hands_every, arguments.body_every).row())
    for name, image in (('astronaut', samples.portrait()), ('obama', samples.photo('obama'))):
        jitter = jitter_px(image)
        report.rows.append({'input': f'{name}, still'} | {
            f'{what} jitter px': round(value, 2) for what, value in jitter.items()})
    return report


@dataclass
class Measured:
    """What was measured on a clip, frame by frame."""

    frames: int = 0
    faces: int = 0
    hands: int = 0
    cpu_s: float = 0.0
    detect_s: list[float] = field(default_factory=list)
    solve_s: list[float] = field(default_factory=list)
    body_px: list[float] = field(default_factory=list)
    finger_px: list[float] = field(default_factory=list)
    poses: list[OperatorPose] = field(default_factory=list)
    filtered: list[OperatorPose] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Return the columns of the report."""
        total = np.array(self.detect_s[5:]) + np.array(self.solve_s[5:])
        speed = quantiles_ms(1e3 * np.asarray(total))
        row: dict[str, float] = {
            'frames': self.frames, 'seen %': _percent(len(self.poses), self.frames),
            'face %': _percent(self.faces, self.frames),
            'hand %': _percent(self.hands, self.frames),
            'joints px': round(float(np.median(self.body_px)), 1)}
        if len(self.finger_px) > 15 * 0.05 * self.frames:
            row['fingers px'] = round(float(np.median(self.finger_px)), 1)
        return row | {
            'lag ms': round(lag_ms(self.poses, self.filtered)),
            'solve ms': round(float(np.median(self.solve_s)) * 1e3, 1),
            'p50 ms': speed['p50_ms'], 'p95 ms': speed['p95_ms'],
            'cpu ms': round(self.cpu_s / self.frames * 1e3, 1),
            'fps': round(1 / float(total.mean()), 1)}


def measure(clip: Clip, hands_every: int = 1, body_every: int = 2) -> Measured:
    """Play a clip through trackers, solver and filter."""
    from visa_ros.body.model import load_body_model
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.landmarkers import Landmarkers
    from visa_ros.capture.smoothing import PoseFilter
    from visa_ros.capture.solve import PoseSolver

    model = load_body_model()
    solver, smooth = PoseSolver(model), PoseFilter(_mean_joints(model))
    out = Measured()
    last_ns = None
    config = CaptureConfig(hands_every=hands_every, body_every=body_every)
    with Landmarkers(config) as trackers:
        for rgb, stamp_ns in frames(clip):
            out.frames += 1
            cpu_s = time.process_time()
            started = time.perf_counter()
            seen = trackers.detect(rgb, stamp_ns // 1_000_000)
            out.detect_s.append(time.perf_counter() - started)
            out.cpu_s += time.process_time() - cpu_s
            if seen is None:
                out.solve_s.append(0.0)
                continue
            camera = Camera.from_focal(clip.focal_ratio * max(rgb.shape), rgb.shape[1],
                                       rgb.shape[0])
            started = time.perf_counter()
            elapsed_s = 1.0 if last_ns is None else (stamp_ns - last_ns) * 1e-9
            pose = replace(solver.solve(seen, camera, elapsed_s), stamp_ns=stamp_ns)
            out.filtered.append(smooth.filter(pose))
            out.solve_s.append(time.perf_counter() - started)
            out.cpu_s += out.solve_s[-1]
            last_ns = stamp_ns
            out.poses.append(pose)
            out.faces += seen.face is not None
            out.hands += seen.left_hand is not None or seen.right_hand is not None
            body, fingers = reprojection_px(seen, solver, pose, camera)
            out.body_px += body
            out.finger_px += fingers
    return out


def frames(clip: Clip) -> Iterator[tuple[UInt8, int]]:
    """Yield images and stamps of a clip, from 1 s on."""
    import cv2

    from visa_ros import samples
    from visa_ros.capture.source import read_video

    for index, (rgb, media_ns) in enumerate(read_video(samples.video(clip.video))):
        if index >= clip.stop:
            return
        if index < clip.start:
            continue
        if clip.crop is not None:
            top, bottom, left, right = clip.crop
            rgb = np.ascontiguousarray(rgb[top:bottom, left:right])
        if clip.size is not None:
            rgb = np.asarray(cv2.resize(rgb, clip.size), np.uint8)
        yield rgb, media_ns + 10**9


def reprojection_px(seen: Landmarks, solver: PoseSolver, pose: OperatorPose, camera: Camera
                    ) -> tuple[list[float], list[float]]:
    """Return the distances of confident joints and of tracked fingers to their landmarks."""
    from visa_ros.capture.hand_fit import FINGER_LANDMARKS

    pixels = camera.project(solver.joint_positions(pose))
    scale = _REFERENCE_SIDE_PX / max(seen.width, seen.height)
    hands = {'left': seen.left_hand, 'right': seen.right_hand}
    body, fingers = [], []
    for landmark, joint in _BODY.items():
        if seen.visibility[landmark] > _CONFIDENT:
            side, _, bone = joint.partition('_')
            hand = hands[side] if bone == 'wrist' else None
            target = seen.pose[landmark] if hand is None else hand.image[0]
            body.append(scale * float(np.linalg.norm(pixels[JOINT_INDEX[joint]] - target)))
    for side, hand in hands.items():
        if hand is not None:
            first = JOINT_INDEX[f'{side}_index1']
            gaps = pixels[first:first + 15] - hand.image[FINGER_LANDMARKS]
            fingers += (scale * np.linalg.norm(gaps, axis=1)).tolist()
    return body, fingers


def jitter_px(image: UInt8) -> dict[str, float]:
    """Return how much head and all visible joints of a still person shake ('raw': unfiltered)."""
    import cv2

    from visa_ros.body.model import load_body_model
    from visa_ros.capture.config import CaptureConfig
    from visa_ros.capture.landmarkers import Landmarkers
    from visa_ros.capture.smoothing import PoseFilter
    from visa_ros.capture.solve import PoseSolver

    scale = 480 / image.shape[0]
    still = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    margin = max(0, 640 - still.shape[1])
    still = np.asarray(cv2.copyMakeBorder(still, 0, 0, margin // 2, margin - margin // 2,
                                          cv2.BORDER_REPLICATE))
    camera = Camera.from_focal(0.9 * max(still.shape), still.shape[1], still.shape[0])
    model = load_body_model()
    solver, smooth = PoseSolver(model), PoseFilter(_mean_joints(model))
    random = np.random.default_rng(0)
    raw: list[dict[str, np.ndarray]] = []
    filtered: list[dict[str, np.ndarray]] = []
    with Landmarkers(CaptureConfig()) as trackers:
        for index in range(_JITTER_FRAMES):
            noisy = np.clip(still + random.normal(0, _NOISE_SIGMA, still.shape), 0, 255)
            seen = trackers.detect(noisy.astype(np.uint8), 1000 + 40 * index)
            assert seen is not None, 'the photo shows nobody'
            pose = replace(solver.solve(seen, camera, 0.04), stamp_ns=(25 + index) * 40_000_000)
            for path, shown in ((raw, pose), (filtered, smooth.filter(pose))):
                joints = [*_HEAD, 'neck', 'left_shoulder', 'right_shoulder']
                for side in ('left', 'right'):
                    if pose.confidence[PART_INDEX[f'{side}_arm']] > _CONFIDENT:
                        joints += [f'{side}_elbow', f'{side}_wrist']
                positions = solver.joint_positions(shown)
                path.append({name: camera.project(positions[[JOINT_INDEX[name]]])[0]
                             for name in joints})
    raw, filtered = raw[_SETTLING_FRAMES:], filtered[_SETTLING_FRAMES:]
    head = [{name: frame[name] for name in _HEAD} for frame in filtered]
    return {'head': _spread(head), 'all': _spread(filtered), 'raw': _spread(raw)}


def lag_ms(poses: list[OperatorPose], filtered: list[OperatorPose]) -> float:
    """Return by how much the filtered motion of the head is late."""
    if len(poses) < 50:
        return 0.0
    stamps = np.array([pose.stamp_ns for pose in poses]) * 1e-9
    shifts = np.arange(0, 0.2, 0.002)
    misses = np.zeros(len(shifts))
    for raw, smooth in zip(_head_paths(poses), _head_paths(filtered), strict=True):
        inside = (stamps > stamps[0] + 0.2) & (stamps < stamps[-1] - 0.2)
        for k, shift in enumerate(shifts):
            late = np.stack([np.interp(stamps[inside] + shift, stamps, column)
                             for column in smooth.T], axis=1)
            misses[k] += ((late - raw[inside]) ** 2).sum()
    return float(shifts[np.argmin(misses)] * 1e3)


def _head_paths(poses: list[OperatorPose]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the head's places in the image plane (T, 2) and turns (T, 3), metres.

    A turn counts as what it moves 0.1 m away.
    """
    from scipy.spatial.transform import Rotation

    from visa_ros.body.kinematics import joint_transforms
    from visa_ros.body.model import load_body_model

    model, head = load_body_model(), JOINT_INDEX['head']
    joints = model.joints_template
    transforms = np.array([joint_transforms(
        model, joints, pose.joint_rotations, pose.translation)[head] for pose in poses])
    turns = transforms[:, :, :3]
    places = turns @ joints[head] + transforms[:, :, 3]
    return places[:, :2], 0.1 * Rotation.from_matrix(turns @ turns[0].T).as_rotvec()


def _mean_joints(model: BodyModel) -> Float32:
    return model.zero_pose_joints(np.zeros(len(model.shape_basis), np.float32))


def _spread(path: list[dict[str, np.ndarray]]) -> float:
    """Return the mean standard deviation of the joints that every frame has."""
    names = set.intersection(*(set(frame) for frame in path))
    return float(np.mean([np.sqrt(np.var([frame[name] for frame in path], axis=0).sum())
                          for name in names]))


def _percent(part: int, whole: int) -> int:
    return round(100 * part / max(whole, 1))
