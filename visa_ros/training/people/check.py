"""How true the truth is, and how long a picture takes."""
from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np

from visa_ros.body.kinematics import joint_transforms, posed_vertices
from visa_ros.body.model import load_body_model
from visa_ros.capture.config import CaptureConfig
from visa_ros.capture.landmarkers import Landmarkers
from visa_ros.evaluation.report import Report
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.person import Person, draw_person
from visa_ros.training.people.studio import Shot, Studio
from visa_ros.training.people.takes import VIEW_PX, benchmark_setting, named_poses
from visa_ros.types import Float32

_VISIBLE_M = 0.02  # landmarks deeper than that lie behind nose, hair or hand


def check(assets: Path, split: str, first: int, people: int) -> Report:
    """
    Photograph people from the front and compare with the body model and with MediaPipe.

    Returns
    -------
    Report
        How many faces MediaPipe found, the median over people of the median distance of its
        landmarks from the body model's, of the picture's depth from the body model's at the
        visible landmarks, and the processor time of a shot.

    """
    found, distances_px, depths_mm = 0, [], []
    seconds: dict[str, list[float]] = {'512': [], '256': []}
    studio = None
    with Landmarkers(CaptureConfig(), 'still') as landmarkers:
        for index in range(first, first + people):
            person = draw_person(assets, split, index)
            setting = benchmark_setting(person)
            camera = setting.camera
            studio = studio or Studio(assets, camera)
            behind = draw_background(np.random.default_rng(index), camera.width, camera.height)
            poses = named_poses(person, setting)
            shot = studio.shoot(person, poses['front'], setting.light, behind)
            points, used = _landmarks(person, shot)
            pixels = camera.project(points)
            column, row = pixels.astype(int).T
            off = np.abs(shot.depth[row, column] - points[:, 2])
            depths_mm.append(1e3 * float(np.median(off[off < _VISIBLE_M])))
            seen = landmarkers.detect(shot.rgb, index)
            if seen is not None and seen.face is not None:
                found += 1
                distances_px.append(float(np.median(
                    np.linalg.norm(seen.face[used, :2] - pixels, axis=1))))
            for name, view in (('512', camera), ('256', camera.resized(VIEW_PX, VIEW_PX))):
                for pose in ('yaw +30', 'camera +45'):
                    start = time.process_time()
                    studio.shoot(person, poses[pose], setting.light, np.zeros(3, np.float32),
                                 view)
                    seconds[name].append(time.process_time() - start)
    if studio is not None:
        studio.close()
    figures = {
        'people': people,
        'faces that MediaPipe finds': found,
        'its landmarks off, median (px)': round(median(distances_px), 2) if found else '',
        'its landmarks off, worst person (px)': round(max(distances_px), 2) if found else '',
        'depth of the face off, median (mm)': round(median(depths_mm), 2),
        **{f'processor time of a shot of {name} px, least and median (ms)':
           f'{1e3 * min(of):.0f}, {1e3 * median(of):.0f}' for name, of in seconds.items()}}
    return Report('Synthetic people',
                  [{'': name, 'figure': value} for name, value in figures.items()],
                  ['Portraits are 512 px square; processor time is of all threads together.'])


def _landmarks(person: Person, shot: Shot) -> tuple[Float32, np.ndarray]:
    """Return the (P, 3) face landmarks that are known, in the shot's pose, and which they are."""
    model = load_body_model()
    vertices, joints = model.shaped(person.betas)
    vertices = vertices + model.blendshapes.offsets(shot.pose.blendshapes, len(vertices))
    posed = posed_vertices(model, vertices, joint_transforms(
        model, joints, shot.pose.joint_rotations, shot.pose.translation))
    used = model.face_landmarks.weights > 0
    return model.face_landmarks.on(posed, model.faces)[used], used
