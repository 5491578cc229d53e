"""Run a measurement: ``python -m visa_ros.evaluation {capture,latency,...} [options]``."""
import argparse
from importlib import import_module
from pathlib import Path

# Each is a module of this folder with add_arguments(parser) and run(arguments) -> Report.
MEASUREMENTS = ('capture', 'display', 'latency', 'reconstruction', 'rendering', 'wire')


def main() -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(prog='python -m visa_ros.evaluation', description=__doc__)
    commands = parser.add_subparsers(dest='name', required=True)
    for name in MEASUREMENTS:
        module = import_module(f'visa_ros.evaluation.{name}')
        command = commands.add_parser(name, help=str(module.__doc__).splitlines()[0])
        command.add_argument('--json', type=Path, default=Path('out') / f'{name}.json',
                             help='where the figures are written (default: %(default)s)')
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    report = arguments.run(arguments)
    report.print()
    report.write(arguments.json)


if __name__ == '__main__':
    main()
