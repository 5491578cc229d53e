"""
Photograph synthetic people: ``python -m visa_ros.training.people --assets DIR --out DIR``.

``sheet`` writes a picture of many people, ``check`` measures how true the truth is.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from visa_ros.training.people.person import SPLITS


def main() -> None:
    """Read the command line and photograph."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.training.people',
                                     description='Photograph synthetic people.')
    parser.add_argument('what', nargs='?', choices=('takes', 'sheet', 'check'), default='takes',
                        help='files to train on, one picture of all, or a measurement of the '
                        'truth (default: takes)')
    parser.add_argument('--assets', type=Path, required=True,
                        help="folder of MakeHuman's CC0 assets (doc/training.md)")
    parser.add_argument('--out', type=Path,
                        help="the takes' folder, the sheet's PNG file, the check's JSON file "
                        '(default: out/people, .png or .json)')
    parser.add_argument('--people', type=int, default=24, help='how many (default: %(default)s)')
    parser.add_argument('--views', type=int, help='of each person (default: 8; sheet: 3)')
    parser.add_argument('--split', choices=SPLITS, default='train',
                        help='whose skins, clothes and hair (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help="the first person's number")
    arguments = parser.parse_args()
    assets, out = arguments.assets, arguments.out
    who = arguments.split, arguments.first, arguments.people
    if arguments.what == 'takes':
        from visa_ros.training.people.takes import write_takes

        write_takes(assets, out or Path('out/people'), *who, _or(arguments.views, 8))
    elif arguments.what == 'sheet':
        from visa_ros.training.people.sheet import write_sheet

        write_sheet(assets, out or Path('out/people.png'), *who, _or(arguments.views, 3))
    else:
        from visa_ros.training.people.check import check

        report = check(assets, *who)
        report.print()
        report.write(out or Path('out/people.json'))


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


if __name__ == '__main__':
    main()
