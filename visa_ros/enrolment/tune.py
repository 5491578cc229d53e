"""A shader for one person: trained on their pairs, and judged by what it did not see."""
from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from visa_ros.reconstruction.reconstruct import Progress
from visa_ros.shading.network import ShaderNetwork
from visa_ros.training.shader.streams import ONE_PERSON, Pairs
from visa_ros.training.shader.train import Run, TrainingConfig, keep_memory, measure

_CROP_PX, _STREAMS, _LEARNING_RATE, _AVERAGING = 96, 12, 6e-4, 0.995
# Of what is kept.  The avatar changes by about a level of 255 where the clip stands still, as the
# camera's own noise does; a fifth more is not seen.
_LEAST_GAIN_DB, _MOST_FLICKER = 0.1, 1.2


def tune(learnt: Pairs, generic: ShaderNetwork | None, seconds: float, seed: int,
         progress: Progress) -> ShaderNetwork:
    """
    Train a shader on one person, beginning with the generic one where there is one.

    Parameters
    ----------
    learnt : dict of str to ndarray
        As ``pairs.clip_pairs`` makes them.
    generic : ShaderNetwork or None
    seconds : float
        How long to train.
    seed : int
    progress : callable

    """
    keep_memory()
    run = Run(TrainingConfig(crop_px=_CROP_PX, streams=_STREAMS, learning_rate=_LEARNING_RATE,
                             adversarial_from=1, averaging=_AVERAGING, change_weight=1.0,
                             seed=seed),
              ONE_PERSON, generic)
    begin_s = time.monotonic()
    while (share := (time.monotonic() - begin_s) / seconds) < 1:
        run.step({'person': learnt}, share)
        progress('tune', share)
    return run.averaged.eval()


def judge(held: Pairs, networks: Mapping[str, ShaderNetwork]) -> dict[str, dict[str, float]]:
    """
    Compare what shaders make of moments that they have not seen.

    Parameters
    ----------
    held : dict of str to ndarray
        As ``pairs.clip_pairs`` makes them.
    networks : mapping of str to ShaderNetwork

    Returns
    -------
    dict of str to dict of str to float
        By the networks' names, and 'avatar' without any: 'PSNR' (dB) against the clip's pictures
        moved to where the avatar is, 'sharpness' over theirs, 'flicker' over the avatar's.

    """
    out = {}
    for name, network in networks.items():
        values = measure(network, held)
        for row, kind in (('avatar', 'render'), (name, 'shaded')):
            out[row] = {key: values[f'{kind} {key}'] for key in ('PSNR', 'sharpness', 'flicker')}
    return out


def is_better(held_out: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether 'personal' is nearer to the clip than 'generic' and 'avatar', and as calm."""
    personal = held_out['personal']
    before = max(values['PSNR'] for name, values in held_out.items() if name != 'personal')
    return (personal['PSNR'] > before + _LEAST_GAIN_DB
            and personal['flicker'] <= _MOST_FLICKER)


def parted(runs: list[list[int]], frames_per_s: float) -> tuple[list[list[int]], list[list[int]]]:
    """
    Part runs of frames into those to learn from and those to judge by: each fifth second.

    Runs that reach into both, or come nearer than half a second to the others, are left out.
    """
    def held(frame: float) -> bool:
        return int(frame / frames_per_s) % 5 == 2

    margin = frames_per_s / 2
    learn = [run for run in runs
             if not any(held(frame) for frame in np.arange(run[0] - margin, run[-1] + margin))]
    return learn, [run for run in runs if held(run[0]) and held(run[-1])]
