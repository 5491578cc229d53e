"""``python -m visa_ros.training.people --assets DIR --out DIR``: photograph synthetic people."""
from __future__ import annotations

import argparse
from pathlib import Path

from visa_ros.training.people.person import SPLITS
from visa_ros.training.people.takes import write_takes


def main() -> None:
    """Read the command line and photograph."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.training.people',
                                     description=__doc__)
    parser.add_argument('--assets', type=Path, required=True,
                        help="folder of MakeHuman's CC0 assets (doc/training.md)")
    parser.add_argument('--out', type=Path, required=True, help='folder of the files')
    parser.add_argument('--people', type=int, default=24)
    parser.add_argument('--views', type=int, default=8, help='of each person')
    parser.add_argument('--split', choices=SPLITS, default='train')
    parser.add_argument('--first', type=int, default=0, help="the first person's number")
    arguments = parser.parse_args()
    write_takes(arguments.assets, arguments.out, arguments.split, arguments.first,
                arguments.people, arguments.views)


if __name__ == '__main__':
    main()
