"""Whom avatars are measured on: synthetic people with exact truth, and people in clips."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.capture.landmarks import Landmarks
from visa_ros.capture.source import read_video
from visa_ros.errors import PortraitError
from visa_ros.evaluation.metrics import Mask
from visa_ros.identity import FACE_CORNERS
from visa_ros.reconstruction.fit import FOCAL_RATIO, BodyFit, fit_body
from visa_ros.reconstruction.matte import foreground, matte, solid
from visa_ros.reconstruction.portrait import find_person
from visa_ros.reconstruction.reconstruct import face_corners, posed_body
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.figure import LABELS, Figure, dress
from visa_ros.training.people.person import draw_person
from visa_ros.training.people.studio import Shot, Studio
from visa_ros.training.people.takes import NAMED_POSES, benchmark_setting, named_poses
from visa_ros.types import Camera, Float32, OperatorPose, UInt8

# Behind all pictures that are compared, sRGB in [0, 1]; '#808080' in the renderer's words.
BACKGROUND = np.full(3, 128 / 255, np.float32)
BACKGROUND_HEX = '#' + ''.join(f'{round(255 * value):02x}' for value in BACKGROUND)

PORTRAIT_POSE = 'front'  # the pose of ``View`` that is the portrait's own

# What is looked at apart, as labels of the synthetic people.
PARTS = {
    'face': ('face', 'eyes', 'mouth'),
    'hair': ('hair',),
    'head': ('face', 'eyes', 'mouth', 'hair'),
    'torso': ('torso',),
    'arms': ('left_arm', 'right_arm'),
    'hands': ('left_hand', 'right_hand'),
}
_HIDDEN_PARTS = ('head', 'torso', 'arms')
_SAMPLES = 300_000      # points on a figure's surface
_HIDDEN_M = 0.01        # behind what the portrait shows
_GRAZING = 0.1          # cosine to the line of sight below which a surface is not seen

# The clips of one person who is free of hands and things, and how far apart the frames are.
CLIPS = {'cap12': 50, 'cap13': 50, 'franck': 100}
_FRAMES = 10  # that are compared, after the portrait's


@dataclass(frozen=True, eq=False)
class View:
    """
    The person in a pose, and what is true of the picture.

    Attributes
    ----------
    name : str
        Of the pose.
    pose : OperatorPose
        The person's, in the camera's frame.
    betas : (B,) float32
        The body's that has this pose.
    rgb : (H, W, 3) uint8
        Over ``BACKGROUND``.
    alpha : (H, W) float32
        In [0, 1].
    regions : dict of str to (H, W) bool
        Parts of the person: ``PARTS``, and beginning with 'hidden' what the portrait does not show
        of them; in clips only 'inside', two pixels within the outline.
    face : (5, 2) float32
        Pixels of ``FACE_CORNERS``.

    """

    name: str
    pose: OperatorPose
    betas: Float32
    rgb: UInt8
    alpha: Float32
    regions: dict[str, Mask]
    face: Float32


@dataclass(frozen=True, eq=False)
class Subject:
    """
    A portrait, and the same person in other poses.

    Attributes
    ----------
    name : str
        Whose.
    portrait : (H, W, 3) uint8
        What an avatar is built of; the views have its size and camera.
    focal_ratio : float
        The camera's focal length over the portrait's long side.
    betas, pose
        The person's in the portrait.
    views : list of View

    """

    name: str
    portrait: UInt8
    focal_ratio: float
    betas: Float32
    pose: OperatorPose
    views: list[View]


# --- synthetic people


def people(assets: Path, count: int, first: int = 0,
           poses: tuple[str, ...] = tuple(NAMED_POSES)) -> Iterator[Subject]:
    """
    Yield people whom no training has seen, in the fixed poses.

    Parameters
    ----------
    assets : Path
        The folder of MakeHuman's CC0 assets (doc/training.md).
    count, first : int
        How many, from which number on.
    poses : tuple of str
        Of ``NAMED_POSES``.

    Raises
    ------
    ResourceError
        The assets are not there, or OpenGL does not start.

    """
    studio: Studio | None = None
    model = load_body_model()
    for index in range(first, first + count):
        person = draw_person(assets, 'test', index)
        setting, figure = benchmark_setting(person), dress(person, assets)
        camera = setting.camera
        studio = studio or Studio(assets, camera)
        wanted = named_poses(person, setting)
        rng = np.random.default_rng([index, 3])
        portrait = studio.shoot(person, wanted[PORTRAIT_POSE], setting.light, draw_background(
            rng, camera.width, camera.height), camera)
        surface = _Surface(figure, portrait)
        views = []
        for name in poses:
            shot = studio.shoot(person, wanted[name], setting.light, BACKGROUND, camera)
            body = posed_body(model, BodyFit(person.betas, shot.pose, 0, 0))
            views.append(View(name, shot.pose, person.betas, shot.rgb, shot.alpha,
                              _regions(shot, surface.hidden(shot)),
                              face_corners(model, body, camera)))
        yield Subject(person.name, portrait.rgb, float(camera.K[0, 0] / camera.width),
                      person.betas, portrait.pose, views)


def _regions(shot: Shot, hidden: Mask) -> dict[str, Mask]:
    shown = shot.alpha > 0.5
    parts = {name: shown & np.isin(shot.labels, [LABELS.index(label) for label in labels])
             for name, labels in PARTS.items()}
    return parts | {'hidden': shown & hidden} | {
        f'hidden {name}': parts[name] & hidden for name in _HIDDEN_PARTS}



class _Surface:
    """
    Points all over a figure, and which of them the portrait shows.

    A point is shown that is inside of the portrait, no farther than ``_HIDDEN_M`` behind what the
    portrait shows there and, unless it is hair, turned towards the camera.
    """

    def __init__(self, figure: Figure, portrait: Shot) -> None:
        self._figure = figure
        points, normals = self._corners(portrait.pose)
        sides = points[:, 1:] - points[:, :1]
        areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
        rng = np.random.default_rng(0)
        self._faces = rng.choice(len(areas), _SAMPLES, p=areas / areas.sum())
        self._shares = rng.dirichlet(np.ones(3), _SAMPLES).astype(np.float32)
        where, normal = self._on(points), self._on(normals)
        column, row = np.floor(portrait.camera.project(where)).astype(int).T
        height, width = portrait.depth.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        depth = np.full(_SAMPLES, -np.inf)
        depth[inside] = portrait.depth[row[inside], column[inside]]
        slope = -(normal * where).sum(1) / np.linalg.norm(where, axis=1)
        hair = figure.labels[figure.faces[self._faces, 0]] == LABELS.index('hair')
        self._hidden = (where[:, 2] > depth + _HIDDEN_M) | (~hair & (slope < _GRAZING))

    def hidden(self, shot: Shot) -> Mask:
        """Return where a shot of the same figure shows what the portrait does not."""
        points, _ = self._corners(shot.pose)
        rows, columns = np.nonzero(shot.depth > 0)
        depth = shot.depth[rows, columns]
        K = shot.camera.K
        seen = np.stack([(columns + 0.5 - K[0, 2]) / K[0, 0] * depth,
                         (rows + 0.5 - K[1, 2]) / K[1, 1] * depth, depth], 1)
        _, nearest = cKDTree(self._on(points)).query(seen)
        out = np.zeros(shot.depth.shape, bool)
        out[rows, columns] = self._hidden[nearest]
        return out

    def _corners(self, pose: OperatorPose) -> tuple[Float32, Float32]:
        """Return the triangles' (F, 3, 3) corners and normals there."""
        points, normals = self._figure.posed(pose)
        corners = self._figure.corner_points[self._figure.faces]
        return points[corners], normals[corners]

    def _on(self, corners: Float32) -> Float32:
        return np.einsum('nk,nkc->nc', self._shares, corners[self._faces])


# --- people in clips


def clips(names: tuple[str, ...] = tuple(CLIPS)) -> Iterator[Subject]:
    """
    Yield the people of clips: their first frame as portrait, later ones as poses.

    What is true of them was found by the landmarkers and ``fit_body``, as for any portrait.

    Raises
    ------
    ResourceError
        A clip is out of reach.

    """
    for name in names:
        frames = [rgb for rgb, _ in islice(
            read_video(samples.video(name)), 0, (_FRAMES + 1) * CLIPS[name], CLIPS[name])]
        height, width = frames[0].shape[:2]
        camera = Camera.from_focal(FOCAL_RATIO * max(height, width), width, height)
        fit = fit_body(load_body_model(), find_person(frames[0]), camera)
        yield Subject(name, frames[0], FOCAL_RATIO, fit.betas, fit.pose,
                      [view for number, frame in enumerate(frames)
                       if (view := _frame(
                           f'{number:02d}' if number else PORTRAIT_POSE, frame, camera))])


def _frame(name: str, rgb: UInt8, camera: Camera) -> View | None:
    try:
        landmarks: Landmarks = find_person(rgb)
    except PortraitError:  # looks away
        return None
    assert landmarks.mask is not None
    assert landmarks.face is not None
    fit = fit_body(load_body_model(), landmarks, camera)
    alpha = matte(rgb, landmarks.mask)
    return View(name, fit.pose, fit.betas, before_background(rgb, alpha), alpha,
                {'inside': solid(alpha)}, landmarks.face[list(FACE_CORNERS)].astype(np.float32))


def before_background(rgb: UInt8, alpha: Float32) -> UInt8:
    """Return a picture's person, (H, W) alpha of it, before ``BACKGROUND``."""
    cover = alpha[..., None]
    over = foreground(rgb, alpha) * cover + BACKGROUND * (1 - cover)
    return np.rint(255 * over.clip(0, 1)).astype(np.uint8)
