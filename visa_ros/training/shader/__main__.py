"""Write pairs of an avatar's render and the truth, train the shader on them, export it."""
from __future__ import annotations

import argparse
from pathlib import Path

from visa_ros._optional import has_cuda
from visa_ros.shading.network_config import SIZES
from visa_ros.training.people.person import SPLITS
from visa_ros.training.shader.train import TrainingConfig, train


def main() -> None:
    """Parse the command line and run one of the steps."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.training.shader',
                                     description=__doc__)
    steps = parser.add_subparsers(dest='step', required=True)
    pairs = steps.add_parser('pairs', help='of people and photographs; what is there stays')
    pairs.add_argument('--assets', type=Path, required=True,
                       help='holds makehuman_cc0/ and portraits_ai/')
    pairs.add_argument('--out', type=Path, required=True)
    pairs.add_argument('--split', choices=SPLITS, default='train')
    pairs.add_argument('--people', type=int, default=60)
    pairs.add_argument('--first', type=int, default=0, help="the first person's number")
    pairs.add_argument('--portraits', type=int, default=40, help='generated ones, at most')
    pairs.add_argument('--frames', type=int, default=16, help='of each person')
    training = steps.add_parser('train', help='train, or go on from the checkpoint')
    training.add_argument('--pairs', type=Path, required=True, help='people to learn from')
    training.add_argument('--checks', type=Path, required=True,
                          help='other people, to measure on')
    training.add_argument('--out', type=Path, default=Path('out/shader.safetensors'))
    training.add_argument('--start', type=Path, metavar='FILE',
                          help='weights to begin with; otherwise by chance')
    training.add_argument('--size', choices=SIZES, default=TrainingConfig.size,
                          help='unless begun with weights (default: %(default)s)')
    training.add_argument('--steps', type=int, default=TrainingConfig.steps)
    training.add_argument('--learning-rate', type=float, default=TrainingConfig.learning_rate)
    training.add_argument('--crop', type=int, default=TrainingConfig.crop_px,
                          help='side of what is learnt on at last [px]')
    training.add_argument('--progressive', action=argparse.BooleanOptionalAction,
                          default=TrainingConfig.progressive,
                          help='with smaller crops before, and short streams at first')
    training.add_argument('--adversarial-from', type=float,
                          default=TrainingConfig.adversarial_from,
                          help='share of the steps after which a critic joins in; 1: never')
    training.add_argument('--distil-from', type=float, default=TrainingConfig.distil_from,
                          help='share of the steps after which one step learns what four say; '
                               '1: never')
    training.add_argument('--identity-weight', type=float,
                          default=TrainingConfig.identity_weight,
                          help="of a loss that knows faces (dlib's descriptor)")
    training.add_argument('--device', choices=('cpu', 'cuda'),
                          default='cuda' if has_cuda() else 'cpu')
    training.add_argument('--seed', type=int, default=0)
    exporting = steps.add_parser('export', help='write ONNX graphs beside the weights')
    exporting.add_argument('--weights', type=Path, required=True)
    exporting.add_argument('--calibration', type=Path, metavar='PAIRS',
                           help='pairs that int8 learns the ranges of values from; without them '
                                'there is no int8')
    arguments = parser.parse_args()
    if arguments.step == 'pairs':
        from visa_ros.training.shader.pairs import write_pairs

        write_pairs(arguments.assets, arguments.out, arguments.split, arguments.first,
                    arguments.people, arguments.portraits, arguments.frames)
    elif arguments.step == 'export':
        from visa_ros.training.shader.export import export

        for path in export(arguments.weights, arguments.calibration):
            print(f'{path}, {path.stat().st_size / 1e6:.1f} MB')
    else:
        train(arguments.pairs, arguments.checks, arguments.out, TrainingConfig(
            arguments.size, arguments.steps, arguments.crop,
            progressive=arguments.progressive, learning_rate=arguments.learning_rate,
            adversarial_from=arguments.adversarial_from, distil_from=arguments.distil_from,
            identity_weight=arguments.identity_weight, device=arguments.device,
            seed=arguments.seed), arguments.start)


if __name__ == '__main__':
    main()
