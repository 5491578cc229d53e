"""Make samples of takes, and train the avatar network on them."""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from visa_ros.body.model import load_body_model
from visa_ros.reconstruction.evidence import token_places
from visa_ros.reconstruction.network import WEIGHTS, NetworkConfig, load_network
from visa_ros.training.avatars.cycle import write_cycle_takes
from visa_ros.training.avatars.samples import prepare
from visa_ros.training.avatars.train import TrainingConfig, fresh_network, train
from visa_ros.training.people.portraits import portraits_of


def main() -> None:
    """Parse the command line and run one of the steps."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.training.avatars',
                                     description=__doc__)
    steps = parser.add_subparsers(dest='step', required=True)
    cycle = steps.add_parser('cycle', help='takes of photographs; what is there stays')
    cycle.add_argument('--assets', type=Path, required=True, help='holds portraits_ai/')
    cycle.add_argument('--out', type=Path, required=True)
    samples = steps.add_parser('samples', help='bind the portraits of takes; what is there stays')
    samples.add_argument('--takes', type=Path, required=True, help='folder of *.npz')
    samples.add_argument('--out', type=Path, required=True)
    samples.add_argument('--start', type=Path, help='weights that training will begin with')
    training = steps.add_parser('train', help='train, or go on from the checkpoint')
    training.add_argument('--samples', type=Path, required=True, help='people to learn from')
    training.add_argument('--checks', type=Path, required=True,
                          help='other people, to measure on')
    training.add_argument('--out', type=Path, default=WEIGHTS)
    training.add_argument('--start', type=Path, help='weights to begin with')
    training.add_argument('--steps', type=int, default=TrainingConfig.steps)
    training.add_argument('--seed', type=int, default=TrainingConfig.seed)
    training.add_argument('--no-surface-embedding', action='store_true',
                          help='to measure what they are worth')
    training.add_argument('--no-image-features', action='store_true',
                          help='the same')
    arguments = parser.parse_args()
    if arguments.step == 'cycle':
        arguments.out.mkdir(parents=True, exist_ok=True)
        for portrait in track(portraits_of(arguments.assets, 'train'), 'portraits'):
            if not any(arguments.out.glob(f'{portrait.stem}_*.npz')):
                write_cycle_takes(portrait, arguments.out)
        return
    if arguments.step == 'samples':
        arguments.out.mkdir(parents=True, exist_ok=True)
        places = (load_network(arguments.start).places.numpy() if arguments.start
                  else token_places(load_body_model()))
        takes = sorted(arguments.takes.glob('*.npz'))
        for take in track([take for take in takes
                           if not (arguments.out / take.name).exists()], 'samples'):
            prepare(take, arguments.out / take.name, places)
        return
    parts = {'surface_embedding': not arguments.no_surface_embedding,
             'image_features': not arguments.no_image_features}
    if arguments.start:
        network = load_network(arguments.start)
        network.config = replace(network.config, **parts)
    else:
        network = fresh_network(NetworkConfig(**parts), arguments.seed)
    train(arguments.samples, arguments.checks, arguments.out, network,
          TrainingConfig(arguments.steps, seed=arguments.seed))


if __name__ == '__main__':
    main()
