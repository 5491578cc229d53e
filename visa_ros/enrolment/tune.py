"""A shader for one person: trained on their pairs, and judged by what it did not see."""
from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from visa_ros.reconstruction.reconstruct import Progress
from visa_ros.shading.network import ShaderNetwork
from visa_ros.training.shader.measure import measure
from visa_ros.training.shader.streams import ONE_PERSON, Pairs
from visa_ros.training.shader.train import Run, TrainingConfig, keep_memory

_CROP_PX, _STREAMS, _LEARNING_RATE, _AVERAGING = 96, 12, 6e-4, 0.995
# Of what is kept.  The avatar changes by about a level of 255 where the clip stands still, as the
# camera's own noise does; a fifth more is not seen.
_LEAST_GAIN_DB, _MOST_FLICKER = 0.1, 1.2
_JUDGED_AT = 1 / 3  # of the time: a shader that is no nearer by then is given up


def tune(learnt: Pairs, held: Pairs, generic: ShaderNetwork | None, seconds: float, seed: int,
         progress: Progress) -> ShaderNetwork:
    """
    Train a shader on one person, beginning with the generic one where there is one.

    Parameters
    ----------
    learnt, held : dict of str to ndarray
        As ``pairs.clip_pairs`` makes them: to learn from, and to tell when that is in vain.
    generic : ShaderNetwork or None
    seconds : float
        How long to train; a third of it where that brings nothing.
    seed : int
    progress : callable

    """
    keep_memory()
    run = Run(TrainingConfig(crop_px=_CROP_PX, streams=_STREAMS, progressive=False,
                             learning_rate=_LEARNING_RATE, averaging=_AVERAGING,
                             change_weight=1.0, seed=seed),
              ONE_PERSON, generic)
    begin_s, judged = time.monotonic(), False
    while (share := (time.monotonic() - begin_s) / seconds) < 1:
        run.step({'person': learnt}, share)
        progress('tune', share)
        if share >= _JUDGED_AT and not judged:
            judged = True
            if _gain_db(judge(held, generic, run.averaged)) < 0:
                break
    return run.averaged.eval()


def judge(held: Pairs, generic: ShaderNetwork | None, personal: ShaderNetwork
          ) -> dict[str, dict[str, float]]:
    """
    Compare what shaders make of moments that they have not seen.

    Parameters
    ----------
    held : dict of str to ndarray
        As ``pairs.clip_pairs`` makes them.
    generic : ShaderNetwork or None
    personal : ShaderNetwork

    Returns
    -------
    dict of str to dict of str to float
        Of 'generic' and 'personal', and 'avatar' without any: 'PSNR' (dB) against the clip's
        pictures moved to where the avatar is, 'sharpness' over theirs, 'flicker' over the
        avatar's.

    """
    out = {}
    networks = {'generic': generic} if generic else {}
    for name, network in (networks | {'personal': personal}).items():
        values = measure(network, held)
        for row, kind in (('avatar', 'render'), (name, 'shaded')):
            out[row] = {key: values[f'{kind} {key}'] for key in ('PSNR', 'sharpness', 'flicker')}
    return out


def is_better(held_out: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether 'personal' is nearer to the clip than 'generic' and 'avatar', and as calm."""
    return (_gain_db(held_out) > _LEAST_GAIN_DB
            and held_out['personal']['flicker'] <= _MOST_FLICKER)


def _gain_db(held_out: Mapping[str, Mapping[str, float]]) -> float:
    return held_out['personal']['PSNR'] - max(
        values['PSNR'] for name, values in held_out.items() if name != 'personal')


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
