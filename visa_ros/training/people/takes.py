"""Photographs of people for training: one portrait and several views of each."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visa_ros.cache import write_arrays
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.light import Light, draw_light
from visa_ros.training.people.motion import Motion, draw_motion, facing, placed, still
from visa_ros.training.people.person import SPLITS, Person, draw_person
from visa_ros.training.people.studio import Shot, Studio
from visa_ros.types import Camera, Float32, OperatorPose

PORTRAIT_PX, VIEW_PX = 512, 256
# Behind the views, so that whoever reads them can take it off again: rgb - grey * (1 - alpha).
VIEW_BACKGROUND = np.full(3, 128 / 255, np.float32)
_HEAD_M = 0.24
KINDS, _KIND_SHARES = ('captured', 'talking', 'raised', 'front'), (0.3, 0.4, 0.15, 0.15)

# Fixed poses of the benchmark: joint rotations in degrees (x nods, y turns, z tilts),
# blendshapes, and the degrees that the whole person turns.
NAMED_POSES: dict[str, tuple[dict[str, tuple[float, float, float]], dict[str, float], float]] = {
    'front': ({}, {}, 0),
    'yaw +30': ({'neck': (0, 12, 0), 'head': (0, 18, 0)}, {}, 0),
    'yaw -30': ({'neck': (0, -12, 0), 'head': (0, -18, 0)}, {}, 0),
    'pitch +20': ({'neck': (8, 0, 0), 'head': (12, 0, 0)}, {}, 0),
    'pitch -20': ({'neck': (-8, 0, 0), 'head': (-12, 0, 0)}, {}, 0),
    'jaw open': ({}, {'jawOpen': 0.7}, 0),
    'blink': ({}, {'eyeBlinkLeft': 1.0, 'eyeBlinkRight': 1.0}, 0),
    'smile': ({}, {'mouthSmileLeft': 0.9, 'mouthSmileRight': 0.9, 'cheekSquintLeft': 0.4,
                   'cheekSquintRight': 0.4, 'mouthUpperUpLeft': 0.3, 'mouthUpperUpRight': 0.3},
              0),
    'arms raised': ({'left_shoulder': (-90, -20, 10), 'right_shoulder': (-90, 20, -10),
                     'left_elbow': (0, -95, 0), 'right_elbow': (0, 95, 0)}, {}, 0),
    'hands in front': ({'left_shoulder': (0, -25, -60), 'right_shoulder': (0, 25, 60),
                        'left_elbow': (0, -115, 0), 'right_elbow': (0, 115, 0)}, {}, 0),
    'camera +45': ({}, {}, 45),
    'camera -45': ({}, {}, -45),
}


@dataclass(frozen=True, eq=False)
class Setting:
    """How a person is photographed: the camera, the light, and where the neck is before it."""

    camera: Camera
    light: Light
    neck_m: Float32


def draw_setting(rng: np.random.Generator) -> Setting:
    """Draw lens, light and framing as of a webcam or a portrait photo, 512 px square."""
    focal_px = PORTRAIT_PX * np.exp(rng.uniform(np.log(0.95), np.log(2.3)))
    camera = Camera.from_focal(focal_px, PORTRAIT_PX, PORTRAIT_PX)
    head_px = PORTRAIT_PX * rng.uniform(0.2, 0.4)
    depth_m = focal_px * _HEAD_M / head_px
    across = rng.normal(0, 0.04)
    neck_row = 0.33 + rng.normal(0, 0.04) + 0.65 * head_px / PORTRAIT_PX
    neck_m = depth_m * np.array([across, neck_row - 0.5, 0]) * PORTRAIT_PX / focal_px
    neck_m[2] = depth_m
    return Setting(camera, draw_light(rng), neck_m.astype(np.float32))


def named_poses(person: Person, setting: Setting) -> dict[str, OperatorPose]:
    """Return the benchmark's poses of a person; 'front' is its portrait's."""
    return {name: placed(still(joints, blendshapes), person.betas, facing(yaw), setting.neck_m)
            for name, (joints, blendshapes, yaw) in NAMED_POSES.items()}


def benchmark_setting(person: Person) -> Setting:
    """Return the fixed camera, light and framing of a person in the benchmark."""
    split, _, index = person.name.partition('-')
    rng = np.random.default_rng([SPLITS.index(split), int(index), 2])
    camera = Camera.from_focal(1.6 * PORTRAIT_PX, PORTRAIT_PX, PORTRAIT_PX)
    neck_m = np.array([0, 0.06, 1.6 * PORTRAIT_PX * _HEAD_M / (0.27 * PORTRAIT_PX)], np.float32)
    return Setting(camera, draw_light(rng), neck_m)


def take(studio: Studio, split: str, index: int, views: int) -> dict[str, np.ndarray]:
    """
    Photograph one person.

    Returns
    -------
    dict of str to ndarray
        The arrays of a file (doc/training.md): ``portrait_*`` over a random background,
        ``view_*`` over ``VIEW_BACKGROUND``.

    """
    person = draw_person(studio.assets, split, index)
    rng = np.random.default_rng([SPLITS.index(split), index, 1])
    setting = draw_setting(rng)
    motion = draw_motion(rng, split, 'portrait')
    pose = placed(motion, person.betas, facing(*rng.normal(0, (6, 3, 2))), setting.neck_m)
    background = draw_background(rng, PORTRAIT_PX, PORTRAIT_PX)
    portrait = studio.shoot(person, pose, setting.light, background, setting.camera)
    small = setting.camera.resized(VIEW_PX, VIEW_PX)
    shots = []
    for _ in range(views):
        pose = _draw_view(rng, split, person, setting)
        shots.append(studio.shoot(person, pose, setting.light, VIEW_BACKGROUND, small))
    return _arrays(person, portrait, shots)


def _draw_view(rng: np.random.Generator, split: str, person: Person,
               setting: Setting) -> OperatorPose:
    motion: Motion = draw_motion(rng, split, rng.choice(KINDS, p=_KIND_SHARES))
    yaw = rng.uniform(-180, 180) if rng.random() < 0.1 else np.clip(rng.normal(0, 30), -60, 60)
    shift = rng.normal(0, 0.03, 3) * setting.neck_m[2]
    return placed(motion, person.betas, facing(yaw, *rng.normal(0, (5, 3))),
                  setting.neck_m + shift)


def _arrays(person: Person, portrait: Shot, views: list[Shot]) -> dict[str, np.ndarray]:
    def alpha(shot: Shot) -> np.ndarray:
        return np.rint(255 * shot.alpha).astype(np.uint8)

    def stack(values: list) -> np.ndarray:
        return np.stack(values) if values else np.zeros(0, np.float32)

    return {
        'betas': person.betas,
        'portrait_rgb': portrait.rgb,
        'portrait_alpha': alpha(portrait),
        'portrait_labels': portrait.labels,
        'portrait_K': portrait.camera.K,
        'portrait_joint_rotations': portrait.pose.joint_rotations,
        'portrait_translation': portrait.pose.translation,
        'portrait_blendshapes': portrait.pose.blendshapes,
        'view_rgb': stack([shot.rgb for shot in views]),
        'view_alpha': stack([alpha(shot) for shot in views]),
        'view_depth': stack([shot.depth.astype(np.float16) for shot in views]),
        'view_labels': stack([shot.labels for shot in views]),
        'view_K': portrait.camera.resized(VIEW_PX, VIEW_PX).K,
        'view_joint_rotations': stack([shot.pose.joint_rotations for shot in views]),
        'view_translation': stack([shot.pose.translation for shot in views]),
        'view_blendshapes': stack([shot.pose.blendshapes for shot in views]),
    }


def write_takes(assets: Path, out: Path, split: str, first: int, people: int,
                views: int) -> None:
    """Photograph people into ``out/<name>.npz``; those already there are left as they are."""
    from rich.progress import track

    out.mkdir(parents=True, exist_ok=True)
    studio = Studio(assets, Camera.from_focal(1.6 * PORTRAIT_PX, PORTRAIT_PX, PORTRAIT_PX))
    for index in track(range(first, first + people), 'photographing people'):
        path = out / f'{split}-{index:06d}.npz'
        if not path.is_file():
            write_arrays(path, **take(studio, split, index, views))
    studio.close()
