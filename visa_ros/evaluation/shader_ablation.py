"""What each part of the shader's training buys: all of it without that, trained as long."""
from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from visa_ros.evaluation.avatars_subjects import CLIPS
from visa_ros.evaluation.report import Report
from visa_ros.evaluation.shader import (
    EACH_PICTURE,
    PEOPLE,
    add_rollout,
    add_subjects,
    figures,
    rollout,
    shaded,
    subjects_of,
    tabulate,
)
from visa_ros.training.shader.train import TrainingConfig, train

ALL = TrainingConfig(identity_weight=0.1)
VARIANTS = {
    'all of it': ALL,
    'no identity loss': replace(ALL, identity_weight=0.0),
    'no loss of change': replace(ALL, change_weight=0.0),
    "the truth's past, not its own": replace(ALL, past='true'),
    'no past': replace(ALL, past='none'),
    'not progressive': replace(ALL, progressive=False, crop_px=128),
    'with a critic': replace(ALL, adversarial_from=0.5),
    'distilled from four steps': replace(ALL, distil_from=0.75),
    '1.6 M parameters': replace(ALL, size='2m'),
    '6 M parameters': replace(ALL, size='6m'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--pairs', type=Path, required=True, help='to learn from '
                        '(python -m visa_ros.training.shader pairs)')
    parser.add_argument('--checks', type=Path, required=True, help='pairs of other people')
    parser.add_argument('--steps', type=int, default=1500,
                        help='that each variant is trained for (default: %(default)s)')
    parser.add_argument('--variants', nargs='*', default=list(VARIANTS), choices=VARIANTS,
                        metavar='VARIANT', help='some of: ' + ', '.join(VARIANTS))
    parser.add_argument('--trained', type=Path, default=Path('out/ablation'), metavar='FOLDER',
                        help='where networks are written; those that are there are not trained '
                             'again (default: %(default)s)')
    add_subjects(parser, 3)
    add_rollout(parser)


def run(arguments: argparse.Namespace) -> Report:
    """Train each variant, shade sequences with each, compare them with the truth."""
    report = Report("Ablations of the shader's training")
    weights, minutes = {}, {}
    for name in arguments.variants:
        path = arguments.trained / f'{name.replace(" ", "_")}.safetensors'
        train(arguments.pairs, arguments.checks, path,
              replace(VARIANTS[name], steps=arguments.steps))
        weights[name] = replace(EACH_PICTURE, weights=str(path))
        minutes[name] = json.loads(path.with_suffix('.json').read_text())[-1]['minutes']
    for sequence in subjects_of(arguments):
        shown = {'render': sequence.rgb} | {
            name: shaded(sequence, config, VARIANTS[name].past != 'none')
            for name, config in weights.items()}
        for name, pictures in shown.items():
            values = figures(sequence, pictures)
            if arguments.rollout_minutes:
                first, last = (rollout(sequence, weights[name], arguments.rollout_minutes)
                               if name in weights else (0.0, 0.0))
                values['drift'] = last - first
            report.values.append({
                'subject': sequence.name, 'method': name,
                'group': 'clips' if sequence.name in CLIPS else PEOPLE} | values)
    tabulate(report)
    report.notes.append(
        f'each trained for {arguments.steps} steps, the best of its checks: '
        + ', '.join(f'{name} {value:.1f} min' for name, value in minutes.items()))
    if arguments.rollout_minutes:
        report.notes.append(f'drift: PSNR (dB) of the last pass less that of the first, in '
                            f'{arguments.rollout_minutes:g} minutes to and fro')
    return report
