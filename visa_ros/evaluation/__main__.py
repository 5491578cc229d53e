"""Run a measurement: ``python -m visa_ros.evaluation {capture,latency,...} [options]``."""
import argparse
import sys
from importlib import import_module
from pathlib import Path

from visa_ros.errors import VisaError

# Each is a module of this folder with add_arguments(parser) and run(arguments) -> Report.
MEASUREMENTS = ('avatars', 'behaviour', 'capture', 'display', 'enrolment', 'latency', 'network',
                'reconstruction', 'reenactment', 'rendering', 'shader', 'shader_ablation',
                'shader_runtimes', 'soak', 'video', 'watermark', 'wire')


def main() -> None:
    """Parse the command line, measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(
        prog='python -m visa_ros.evaluation', add_help=False, description=__doc__)
    parser.add_argument('name', choices=MEASUREMENTS)
    name = parser.parse_args(sys.argv[1:2]).name
    module = import_module(f'visa_ros.evaluation.{name}')
    command = argparse.ArgumentParser(prog=f'{parser.prog} {name}', description=module.__doc__)
    command.add_argument('--json', type=Path, default=Path('out') / f'{name}.json',
                         help='where the figures are written (default: %(default)s)')
    module.add_arguments(command)
    arguments = command.parse_args(sys.argv[2:])
    try:
        report = module.run(arguments)
    except VisaError as error:
        sys.exit(f'{parser.prog} {name}: {error}')
    report.print()
    report.write(arguments.json)


if __name__ == '__main__':
    main()
