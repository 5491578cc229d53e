"""Whether the shaded picture is nearer to the truth than the avatar, sharp, without flicker."""
from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from visa_ros._optional import require
from visa_ros.evaluation.avatars_subjects import CLIPS
from visa_ros.evaluation.features import feature_distance
from visa_ros.evaluation.metrics import compare
from visa_ros.evaluation.report import Report
from visa_ros.evaluation.shader_sequences import Sequence, sequences
from visa_ros.identity import descriptor
from visa_ros.shading.config import ShadingConfig
from visa_ros.shading.stream import ShaderStream
from visa_ros.types import Float32, UInt8

_OUT = Path('out')
_FADE_IN = 10       # pictures until what is shaded is shown wholly
_EVERY = 4           # of the pictures is compared; warping looks at all
_SAME = 12.0         # difference of true pictures, warped, that show the same surface, of 255
_BLUR_PX = 1.5
_SHEET_PX = 384
_FRAMES_PER_S = 25   # of a roll-out
_RENDER = 'render'
# Every picture is shaded, however long it takes.
EACH_PICTURE = ShadingConfig(deadline_ms=0, every=1)
# Steps of the flow, and whether past pictures are seen.
_METHODS = {'shaded, 1 step': (1, True), 'shaded, 2 steps': (2, True),
            'shaded, 1 step, no history': (1, False)}
PEOPLE = 'people'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    add_subjects(parser, 6)
    parser.add_argument('--weights', type=Path, required=True, help='of the shader')
    add_rollout(parser)


def add_subjects(parser: argparse.ArgumentParser, people: int) -> None:
    """Declare on whom it is measured; so many synthetic people unless told."""
    parser.add_argument('--assets', type=Path,
                        help="folder of MakeHuman's CC0 assets (doc/training.md); without it only "
                             'the clips are measured')
    parser.add_argument('--people', type=int, default=people,
                        help='how many (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help="the first test person's number")
    parser.add_argument('--clips', nargs='*', default=list(CLIPS), choices=CLIPS, metavar='CLIP',
                        help='real people, driven by their own later frames; some or none of: '
                             + ', '.join(CLIPS))
    parser.add_argument('--frames', type=int, default=100,
                        help='of each sequence (default: %(default)s)')
    parser.add_argument('--keep', type=Path, metavar='FOLDER',
                        help='where drawn sequences are kept for the next time')


def subjects_of(arguments: argparse.Namespace) -> Iterable[Sequence]:
    """Yield the sequences that ``add_subjects`` asked for, beside a progress bar."""
    return track(
        sequences(arguments.assets, arguments.people, arguments.first, tuple(arguments.clips),
                  arguments.frames, arguments.keep),
        'sequences', console=Console(stderr=True))


def add_rollout(parser: argparse.ArgumentParser) -> None:
    """Declare how long sequences are played to see drift."""
    parser.add_argument('--rollout-minutes', type=float, default=0.0,
                        help='how long a sequence is played to and fro at 25 pictures a second, '
                        'to see whether the shader drifts (default: not at all)')


def run(arguments: argparse.Namespace) -> Report:
    """Shade sequences, compare them with the truth."""
    report = Report('The shader on sequences')
    config = replace(EACH_PICTURE, weights=str(arguments.weights))
    try:
        for sequence in subjects_of(arguments):
            shown = {_RENDER: sequence.rgb}
            for name, (steps, history) in _METHODS.items():
                shown[name] = shaded(sequence, replace(config, steps=steps), history)
            group = sequence.name if sequence.name in CLIPS else PEOPLE
            for name, pictures in shown.items():
                report.values.append({'subject': sequence.name, 'group': group, 'method': name}
                                     | figures(sequence, pictures))
            write_sheet(sequence, shown, _OUT / f'shader_{sequence.name}.png')
            if arguments.rollout_minutes:
                report.notes.append(drift(sequence, config, arguments.rollout_minutes))
    except KeyboardInterrupt:
        report.notes.append('interrupted: these are the sequences so far')
    tabulate(report)
    return report


def shaded(sequence: Sequence, config: ShadingConfig, history: bool = True) -> UInt8:
    """Return the pictures that the shader's stream makes of a sequence."""
    height, width = sequence.rgb.shape[1:3]
    stream = ShaderStream(width, height, config)
    for _ in range(_FADE_IN):
        stream.shade(sequence.frame(0))
    out = []
    for moment in range(len(sequence)):
        if not history:
            stream.reset()
        out.append(stream.shade(sequence.frame(moment)).rgb.copy())
    return np.stack(out)


def drift(sequence: Sequence, config: ShadingConfig, minutes: float) -> str:
    """Play a sequence to and fro, and say its PSNR in the first and in the last pass."""
    first, last = rollout(sequence, config, minutes)
    return (f'{sequence.name}: {minutes:g} minutes to and fro: PSNR {first:.2f} dB in the first '
            f'pass, {last:.2f} dB in the last')


def rollout(sequence: Sequence, config: ShadingConfig, minutes: float) -> tuple[float, float]:
    """Play a sequence to and fro; return its PSNR (dB) in the first and in the last pass."""
    height, width = sequence.rgb.shape[1:3]
    stream = ShaderStream(width, height, config)
    for _ in range(_FADE_IN):
        stream.shade(sequence.frame(0))
    last = len(sequence) - 1
    count = round(60 * _FRAMES_PER_S * minutes)
    passes: list[list[float]] = []
    for number in range(count):
        turn, place = divmod(number, last)
        moment = place if turn % 2 == 0 else last - place
        if place == 0:
            passes.append([])
        rgb = stream.shade(sequence.frame(moment)).rgb
        error = (rgb.astype(np.float32) - sequence.truth[moment])[
            sequence.truth_alpha[moment] > 0.5]
        passes[-1].append(float(-10 * np.log10(np.square(error / 255).mean())))
    *complete, _ = passes if len(passes) > 2 else [*passes, []]
    return float(np.mean(complete[0])), float(np.mean(complete[-1]))


# --- figures


def figures(sequence: Sequence, pictures: UInt8) -> dict[str, float]:
    """
    Compare pictures of a sequence with the truth.

    Returns
    -------
    dict of str to float
        'PSNR' (dB) and 'SSIM' where render or truth show the person; 'head', the PSNR there;
        'ID-L2', the distance of dlib's face descriptors (one person: below 0.6); 'features',
        ``feature_distance`` in the window around the head; 'sharpness', the mean absolute
        difference to the blurred picture over the truth's; 'warp error', the mean absolute
        difference to the last picture moved by the truth's optical flow, over the truth's;
        'first quarter' and 'last quarter', the PSNR there.

    """
    compared: dict[str, list[float]] = defaultdict(list)
    for moment in range(0, len(sequence), _EVERY):
        truth = sequence.truth[moment]
        alphas = (picture[moment].astype(np.float32)
                  for picture in (sequence.alpha, sequence.truth_alpha))
        alpha, truth_alpha = alphas
        values = compare(pictures[moment], alpha, truth, truth_alpha,
                         {'head': sequence.head(moment)})
        for name in ('PSNR', 'SSIM', 'head'):
            compared[name].append(values.get(name, np.nan))
        corners = sequence.corners(moment)
        faces = [descriptor(picture, corners) for picture in (truth, pictures[moment])]
        compared['ID-L2'].append(float(np.linalg.norm(faces[0] - faces[1])))
        window = sequence.window(moment)
        compared['features'].append(feature_distance(pictures[moment][window], truth[window]))
        person = truth_alpha > 0.9
        compared['sharpness'].append(_detail(pictures[moment], person) / _detail(truth, person))
    quarter = max(len(compared['PSNR']) // 4, 1)
    out = {name: float(np.nanmean(values)) for name, values in compared.items()}
    out['warp error'] = _warp_error(sequence, pictures) / _warp_error(sequence, sequence.truth)
    out['first quarter'] = float(np.mean(compared['PSNR'][:quarter]))
    out['last quarter'] = float(np.mean(compared['PSNR'][-quarter:]))
    return {name: round(value, 4) for name, value in out.items()}


def _detail(picture: UInt8, where: np.ndarray) -> float:
    values = picture.astype(np.float32)
    soft = require('cv2').GaussianBlur(values, (0, 0), _BLUR_PX)
    return float(np.abs(values - soft)[where].mean())


def _warp_error(sequence: Sequence, pictures: UInt8) -> float:
    """Return how much a picture differs from the last one moved as the truth moves, of 255."""
    cv2 = require('cv2')
    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = pictures.shape[1:3]
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in sequence.truth]
    out = []
    for moment in range(1, len(sequence)):
        places = grid + flow_of.calc(grey[moment], grey[moment - 1], None)

        def difference(of: UInt8, moment: int = moment, places: Float32 = places) -> Float32:
            moved = cv2.remap(of[moment - 1], places, None, cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_REPLICATE)
            return np.abs(of[moment].astype(np.float32) - moved).mean(2)

        same = (difference(sequence.truth) < _SAME) & (sequence.truth_alpha[moment] > 0.9)
        out.append(float(difference(pictures)[same].mean()))
    return float(np.mean(out))


def tabulate(report: Report) -> None:
    """Fill the report's table: means over each group."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for value in report.values:
        groups[value['group'], value['method']].append(value)
    for (group, method), values in groups.items():
        row: dict[str, Any] = {'': f'{group}: {method}'}
        for name in values[0]:
            if name not in ('subject', 'group', 'method'):
                decimals = 2 if name in ('PSNR', 'head', 'first quarter', 'last quarter') else 3
                row[name] = f'{np.mean([value[name] for value in values]):.{decimals}f}'
        report.rows.append(row)
    report.notes += [
        'PSNR (dB) and SSIM where the truth or the render shows the person; head: PSNR there; '
        'ID-L2: distance of face descriptors; features: distance of those of EfficientNet-Lite0 '
        'around the head; sharpness, warp error: over those of the truth '
        '(warp error: difference to the last picture moved by the flow of the truth)',
        'people: test split, avatars of one portrait as for anybody, moved as the test clip; '
        'clips: the first frame is the portrait, later frames are the truth and were fitted']


# --- pictures


def write_sheet(sequence: Sequence, shown: dict[str, UInt8], path: Path) -> None:
    """Write a picture: some moments, the head by each method and as it is."""
    cv2 = require('cv2')
    columns = shown | {'truth': sequence.truth}
    height, width = sequence.rgb.shape[1:3]
    side = min(256, height, width)
    rows = []
    for moment in np.linspace(0, len(sequence) - 1, 4).astype(int):
        left, top = np.clip(sequence.head_px[moment] - side / 2, 0,
                            (width - side, height - side)).astype(int)
        row = [cv2.resize(pictures[moment, top:top + side, left:left + side],
                          (_SHEET_PX, _SHEET_PX), interpolation=cv2.INTER_CUBIC)
               for pictures in columns.values()]
        for picture, title in zip(row, columns, strict=True):
            cv2.putText(picture, f'{title}, {moment}', (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.concatenate(row, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])
