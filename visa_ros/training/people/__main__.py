"""
Photograph synthetic people.

``python -m visa_ros.training.people --assets DIR --out DIR`` writes files to train on,
``python -m visa_ros.training.people sheet --assets DIR --out FILE.png`` a picture of many people.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from visa_ros.training.people.person import SPLITS
from visa_ros.training.people.sheet import write_sheet
from visa_ros.training.people.takes import write_takes


def main() -> None:
    """Read the command line and photograph."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.training.people',
                                     description='Photograph synthetic people.')
    parser.add_argument('what', nargs='?', choices=('takes', 'sheet'), default='takes',
                        help='files to train on, or one picture of all (default: takes)')
    parser.add_argument('--assets', type=Path, required=True,
                        help="folder of MakeHuman's CC0 assets (doc/training.md)")
    parser.add_argument('--out', type=Path, required=True,
                        help='folder of the files, or the PNG file')
    parser.add_argument('--people', type=int, default=24, help='how many (default: %(default)s)')
    parser.add_argument('--views', type=int, help='of each person (default: 8; sheet: 3)')
    parser.add_argument('--split', choices=SPLITS, default='train',
                        help='whose skins, clothes and hair (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help="the first person's number")
    arguments = parser.parse_args()
    write, views = (write_sheet, 3) if arguments.what == 'sheet' else (write_takes, 8)
    write(arguments.assets, arguments.out, arguments.split, arguments.first, arguments.people,
          views if arguments.views is None else arguments.views)


if __name__ == '__main__':
    main()
