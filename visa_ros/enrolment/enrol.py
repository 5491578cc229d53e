"""A clip of one person in; their avatar, with a shader of its own, out."""
from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from visa_ros.capture.config import CaptureConfig
from visa_ros.config import Config, param
from visa_ros.enrolment.clip import follow
from visa_ros.enrolment.pairs import Beside, Moment, clip_pairs, cut_out, error, runs
from visa_ros.enrolment.refine import refined
from visa_ros.enrolment.tune import is_better, judge, parted, tune
from visa_ros.errors import InputError
from visa_ros.identity import FACE_CORNERS, SAME_PERSON, descriptor
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.portrait import find_person, to_working_size
from visa_ros.reconstruction.reconstruct import Progress, ReconstructionConfig
from visa_ros.shading.config import GENERIC
from visa_ros.shading.network import ShaderNetwork, encode_network, load_network
from visa_ros.training.shader.streams import Pairs
from visa_ros.types import Consent, Float32, GaussianAvatar, OperatorPose, UInt8


@dataclass(frozen=True)
class EnrolmentConfig(Config):
    """How much is learnt of a clip."""

    most_s: float = param(90.0, 'How much of a clip is looked at [s]', low=8.0, high=3600.0)
    moments: int = param(64, 'Runs of eight frames that are looked at', low=4, high=1000)
    refine_steps: int = param(
        400, 'Steps of each of two rounds that tune the avatar to the clip', low=0, high=10000)
    tune_s: float = param(
        270.0, 'How long the shader is tuned [s]; a third of it where that brings nothing',
        low=1.0, high=36000.0)
    window_px: int = param(
        256, 'Side of the square around the head that is learnt, as shading.window_px', low=96,
        high=1024)
    seed: int = param(0, 'Of the training', low=0)


@dataclass(frozen=True, eq=False)
class Enrolled:
    """
    What came of a clip.

    Attributes
    ----------
    avatar : GaussianAvatar
        Of its best frame, tuned to the clip where that is nearer to it; ``shader`` is filled
        where a shader of its own is better.
    portrait : int
        The number of that frame.
    pose : OperatorPose
        As the live capture saw it there.
    tuned : ShaderNetwork
        The personal shader, kept or not.
    held : dict of str to ndarray
        Pairs that it has not seen.
    held_out : dict of str to dict of str to float
        What shaders make of them, as ``tune.judge`` says.
    seconds : dict of str to float
        By step.

    """

    avatar: GaussianAvatar
    portrait: int
    pose: OperatorPose
    tuned: ShaderNetwork
    held: Pairs
    held_out: dict[str, dict[str, float]]
    seconds: dict[str, float]


def enrol(video: Path, consent: Consent, portrait: UInt8 | None = None,
          config: EnrolmentConfig | None = None, capture: CaptureConfig | None = None,
          reconstruction: ReconstructionConfig | None = None,
          progress: Progress = lambda step, share: None) -> Enrolled:
    """
    Build the avatar of a person in a clip and tune a shader to them.

    Parameters
    ----------
    video : Path
        Head and shoulders of one person who talks, smiles and turns the head, 30 s or more.
    consent : Consent
        Travels with avatar and shader.
    portrait : (H, W, 3) uint8, optional
        Whose face it must be.
    config, capture, reconstruction : Config, optional
    progress : callable
        Told step and share.

    Raises
    ------
    InputError
        The clip shows nobody for long enough, or somebody else than the portrait.
    PortraitError
        No avatar can be made of its best frame.
    ResourceError, MissingDependencyError
        A file cannot be read, or the package that compares faces is not installed.

    """
    config, capture = config or EnrolmentConfig(), capture or CaptureConfig()
    reconstruction = reconstruction or ReconstructionConfig()
    # One camera for avatar and clip: the portrait is a frame of it.
    capture = replace(capture, focal_ratio=reconstruction.focal_ratio)
    seconds: dict[str, float] = {}
    begin_s = time.monotonic()

    def done(step: str) -> None:
        nonlocal begin_s
        seconds[step] = time.monotonic() - begin_s
        begin_s = time.monotonic()

    wanted = None if portrait is None else _face(to_working_size(portrait, reconstruction.size_px))
    clip = follow(video, reconstruction.size_px, config.most_s, capture, progress)
    done('follow')
    number = clip.portrait()
    (_, rgb), = clip.frames({number})
    own = _face(rgb)
    if wanted is not None and np.linalg.norm(own - wanted) > SAME_PERSON:
        raise InputError(f'{video} does not show the person of the portrait (their faces differ '
                         f'by {np.linalg.norm(own - wanted):.2f}, {SAME_PERSON} at most); a '
                         'likeness is enrolled by its own operator only')
    avatar, _ = cached_avatar(rgb, consent, reconstruction, progress)
    done('reconstruct')
    followed = clip.poses[number]
    assert followed is not None
    learnt, held = (cut_out(clip, part, own, capture, progress)
                    for part in parted(runs(clip, config.moments), clip.frames_per_s))
    done('cut out')
    before = Beside(avatar, followed, config.window_px)
    refined_avatar = refined(before, learnt, config.refine_steps, config.seed, progress)
    done('refine')
    held_pairs, beside = _nearer(
        before, Beside(refined_avatar, followed, config.window_px), held)
    avatar, pairs = beside.avatar, clip_pairs(beside, learnt)
    done('draw')
    generic = load_network(GENERIC) if GENERIC.is_file() else None
    tuned = tune(pairs, held_pairs, generic, config.tune_s, config.seed, progress)
    held_out = judge(held_pairs, generic, tuned)
    done('tune')
    if is_better(held_out):
        avatar = replace(avatar, shader=encode_network(tuned, {
            'operator_id': consent.operator_id, 'held out': json.dumps(held_out)}))
    return Enrolled(avatar, number, followed, tuned, held_pairs, held_out, seconds)


def _nearer(before: Beside, after: Beside, held: Sequence[Moment]) -> tuple[Pairs, Beside]:
    """Return what is nearer to the moments that are held out, and its pairs."""
    return min(((clip_pairs(beside, held), beside) for beside in (before, after)),
               key=lambda both: error(both[0]))


def _face(rgb: UInt8) -> Float32:
    """Return the descriptor of the one face in a picture."""
    face = find_person(rgb).face
    assert face is not None
    return descriptor(rgb, face[list(FACE_CORNERS), :2])
