"""Tables of figures with the machine and versions that they were measured on."""
from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from visa_ros.tables import table

_PACKAGES = ('numpy', 'torch', 'openvino', 'onnxruntime', 'mediapipe', 'opencv-contrib-python',
             'gsplat', 'ros-jazzy-rclpy')


def machine() -> dict[str, Any]:
    """Describe processor, load and versions."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    model = next((line.split(':', 1)[1].strip() for line in
                  Path('/proc/cpuinfo').read_text().splitlines()
                  if line.startswith('model name')), platform.processor())
    return {'processor': model, 'cores': len(os.sched_getaffinity(0)),
            'load_1min': round(os.getloadavg()[0], 2), 'python': platform.python_version(),
            'packages': packages}


@dataclass
class Report:
    """
    One measurement's result.

    Attributes
    ----------
    title : str
        What was measured, on what.
    rows : list of dict
        The table; the keys of the first row are its columns.
    notes : list of str
        What a reader must know to trust the figures.
    values : list of dict
        What the table was made of, for the JSON file alone.

    """

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)

    def print(self) -> None:
        """Print the table to the terminal."""
        from rich.console import Console

        console = Console()
        console.print(table(self.title, self.rows))
        about = machine()
        console.print(f'{about["processor"]}, {about["cores"]} cores, load {about["load_1min"]}')
        for note in self.notes:
            console.print(f'- {note}')

    def write(self, path: Path) -> None:
        """Write all that there is, machine and time as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({
            'title': self.title, 'measured_at': datetime.now(UTC).isoformat(timespec='seconds'),
            'machine': machine(), 'rows': self.rows, 'notes': self.notes,
            **({'values': self.values} if self.values else {})}, indent=1) + '\n')
