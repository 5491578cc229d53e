"""What an operator looks at before saying yes: avatar, shaded avatar and clip, side by side."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from visa_ros.cache import write_atomically
from visa_ros.enrolment.enrol import Enrolled
from visa_ros.training.shader.measure import shade

_ROWS = 4


def write_preview(enrolled: Enrolled, path: Path) -> None:
    """
    Write a PNG of moments that were not learnt from.

    Raises
    ------
    ResourceError
        The folder refuses.

    """
    columns = {'avatar': 'render', 'shaded': 'shaded', 'clip': 'truth'}
    pictures = shade(enrolled.tuned, enrolled.held)
    rows = []
    for moment in np.linspace(0, len(enrolled.held['render']) - 1, _ROWS).astype(int):
        row = [np.rint((pictures[key][moment, -1].numpy().transpose(1, 2, 0) + 1) * 127.5)
               for key in columns.values()]
        rows.append(np.concatenate(row, 1).clip(0, 255).astype(np.uint8))
    sheet = np.ascontiguousarray(np.concatenate(rows)[..., ::-1])
    for number, title in enumerate(columns):
        cv2.putText(sheet, title, (8 + number * sheet.shape[1] // len(columns), 20),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, cv2.imencode('.png', sheet)[1].tobytes())
