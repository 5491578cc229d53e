"""A picture of many people, to look at."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from visa_ros._optional import require
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.motion import draw_motion, facing, placed
from visa_ros.training.people.person import SPLITS, draw_person
from visa_ros.training.people.studio import Studio
from visa_ros.training.people.takes import KINDS, draw_setting
from visa_ros.types import Camera

_CELL_PX = 192
_ACROSS = 3  # people


def write_sheet(assets: Path, path: Path, split: str, first: int, people: int,
                views: int) -> None:
    """Photograph each person's portrait and some views, and write all into one PNG file."""
    cv2 = require('cv2')
    studio = Studio(assets, Camera.from_focal(_CELL_PX, _CELL_PX, _CELL_PX))
    strips = []
    for index in range(first, first + people):
        person = draw_person(assets, split, index)
        rng = np.random.default_rng([SPLITS.index(split), index, 3])
        setting = draw_setting(rng)
        behind = draw_background(rng, _CELL_PX, _CELL_PX)
        kinds = ['portrait', *(KINDS[number % len(KINDS)] for number in range(views))]
        turns = [0.0, *rng.uniform(-60, 60, views)]
        poses = [placed(draw_motion(rng, split, kind), person.betas, facing(turn), setting.neck_m)
                 for kind, turn in zip(kinds, turns, strict=True)]
        camera = setting.camera.resized(_CELL_PX, _CELL_PX)
        strips.append(np.concatenate([
            studio.shoot(person, pose, setting.light, behind, camera).rgb for pose in poses], 1))
    studio.close()
    blank = np.zeros_like(strips[0])
    rows = [np.concatenate(strips[row:row + _ACROSS] + [blank] * (row + _ACROSS - len(strips)), 1)
            for row in range(0, len(strips), _ACROSS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
