"""What an avatar and a shader tuned to one person are worth on later seconds of their clip."""
from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from visa_ros import samples
from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.capture.source import read_video
from visa_ros.enrolment.enrol import EnrolmentConfig, enrol
from visa_ros.enrolment.preview import write_preview
from visa_ros.evaluation.avatars_subjects import CLIPS, before_background
from visa_ros.evaluation.report import Report
from visa_ros.evaluation.shader import (
    EACH_PICTURE,
    add_rollout,
    drift,
    figures,
    shaded,
    tabulate,
    write_sheet,
)
from visa_ros.evaluation.shader_sequences import Sequence, drawn
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.matte import matte
from visa_ros.reconstruction.portrait import to_working_size
from visa_ros.reconstruction.reconstruct import Progress as Steps
from visa_ros.reconstruction.reconstruct import ReconstructionConfig
from visa_ros.rendering.driving import driven
from visa_ros.shading.config import GENERIC
from visa_ros.shading.network import save_network
from visa_ros.types import CameraImage, Consent, Float32, GaussianAvatar, OperatorPose, UInt8

_OUT = Path('out')
_CONSENT = Consent('evaluation', 'evaluation', 0, 'for measuring')
_LEARNT = 0.6        # share of a clip that is enrolled from
_BETWEEN_S = 1.0     # what is learnt and what is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--clips', nargs='*', default=list(CLIPS), choices=CLIPS, metavar='CLIP',
                        help=f'some of: {", ".join(CLIPS)}')
    parser.add_argument('--minutes', type=float, default=EnrolmentConfig.tune_s / 60,
                        help='how long each shader is tuned (default: %(default)g)')
    add_rollout(parser)
    parser.add_argument('--frames', type=int, default=100,
                        help='that are measured of each (default: %(default)s)')


def run(arguments: argparse.Namespace) -> Report:
    """Enrol the first part of each clip, shade a later part, compare it with the clip."""
    report = Report('Enrolment: an avatar and a shader tuned to one person')
    with Progress(console=Console(stderr=True)) as bars:
        for name in arguments.clips:
            task = bars.add_task(name, total=1.0)

            def show(step: str, share: float, name: str = name, task: TaskID = task) -> None:
                bars.update(task, completed=share, description=f'{name}: {step}')

            _measure(report, name, arguments, show)
    tabulate(report)
    report.notes.append(
        'clips: the first 60 % were enrolled, what is measured is later by a second and more and '
        'driven by the live capture; portrait: the avatar of one frame, as anybody has it; '
        'avatar: tuned to the clip; generic: the shader for anybody')
    return report


def _measure(report: Report, name: str, arguments: argparse.Namespace, show: Steps) -> None:
    video = samples.video(name)
    stamps_ns = [stamp_ns for _, stamp_ns in read_video(video)]
    learnt_s = _LEARNT * stamps_ns[-1] / 1e9
    enrolled = enrol(video, _CONSENT, config=EnrolmentConfig(
        most_s=learnt_s, tune_s=60 * arguments.minutes), progress=show)
    write_preview(enrolled, _OUT / f'enrolment_{name}_preview.png')
    first = int(np.searchsorted(stamps_ns, (learnt_s + _BETWEEN_S) * 1e9))
    later = _later(video, first, arguments.frames)
    rgb, _ = next(islice(read_video(video), enrolled.portrait, None))
    untuned, _ = cached_avatar(to_working_size(rgb, ReconstructionConfig.size_px), _CONSENT)
    portrait, sequence = (_shown(name, avatar, enrolled.pose, later)
                          for avatar in (untuned, enrolled.avatar))
    weights = {'personal': _OUT / f'enrolment_{name}.safetensors'}
    save_network(enrolled.tuned, weights['personal'], {})
    if GENERIC.is_file():
        weights['generic'] = GENERIC
    shown = {'portrait': portrait.rgb, 'avatar': sequence.rgb}
    for kind, path in weights.items():
        shown[kind] = shaded(sequence, replace(EACH_PICTURE, weights=str(path)))
    for kind, pictures in shown.items():
        report.values.append({'subject': name, 'group': name, 'method': kind} | figures(
            portrait if kind == 'portrait' else sequence, pictures))
    write_sheet(sequence, shown, _OUT / f'enrolment_{name}.png')
    if arguments.rollout_minutes:
        report.notes.append(drift(
            sequence, replace(EACH_PICTURE, weights=str(weights['personal'])),
            arguments.rollout_minutes))
    seconds = ', '.join(f'{step} {value:.0f}' for step, value in enrolled.seconds.items())
    held_out = ', '.join(f"{kind} {values['PSNR']:.2f} dB"
                         for kind, values in enrolled.held_out.items())
    report.notes.append(f'{name}: {seconds} s; held out while enrolling: {held_out}; the personal '
                        f'shader is {"kept" if enrolled.avatar.shader else "not kept"}')


@dataclass(frozen=True, eq=False)
class _Later:
    """What the live capture and the camera see in a later part of a clip, a value a frame."""

    poses: list[OperatorPose]
    truths: list[UInt8]
    alphas: list[Float32]
    faces: list[Float32]


def _later(video: Path, first: int, frames: int) -> _Later:
    """Follow a clip, from its beginning, to so many frames from the first one on."""
    config = CaptureConfig(focal_ratio=ReconstructionConfig.focal_ratio)
    later = _Later([], [], [], [])
    with PoseCapture(config) as capture, Landmarkers(config, 'still', mask=True) as landmarkers:
        for number, (full, stamp_ns) in enumerate(islice(read_video(video), first + frames)):
            rgb = to_working_size(full, ReconstructionConfig.size_px)
            pose = capture.process(CameraImage(rgb, stamp_ns + 1))
            if number < first or pose is None:
                continue
            seen = landmarkers.detect(rgb, number)
            if seen is None or seen.mask is None or seen.face is None:
                continue
            alpha = matte(rgb, seen.mask, seen.face)
            later.poses.append(pose)
            later.truths.append(before_background(rgb, alpha))
            later.alphas.append(alpha)
            later.faces.append(seen.face)
    return later


def _shown(name: str, avatar: GaussianAvatar, portrait: OperatorPose, later: _Later) -> Sequence:
    """Return what an avatar shows of it, beside it."""
    poses = [driven(avatar, np.zeros_like(avatar.betas), portrait, pose) for pose in later.poses]
    return Sequence(name, **drawn(avatar, avatar.camera, poses, later.truths, later.alphas,
                                  later.faces))
