"""Sequences of drawn frames and what is true of them, on which the shader is measured."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.cache import write_arrays
from visa_ros.capture.source import read_video
from visa_ros.conventions import FEATURE_STRIDE
from visa_ros.evaluation.avatars_subjects import (
    BACKGROUND,
    BACKGROUND_HEX,
    before_background,
)
from visa_ros.identity import FACE_CORNERS
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.fit import FOCAL_RATIO, BodyFit, fit_body
from visa_ros.reconstruction.matte import matte
from visa_ros.reconstruction.portrait import find_person
from visa_ros.reconstruction.reconstruct import ReconstructionConfig, posed_body
from visa_ros.rendering.driving import driven
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.rendering.window import GRID
from visa_ros.shading.config import ShadingConfig
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.motion import CLIPS, captured, facing, placed, still
from visa_ros.training.people.person import draw_person
from visa_ros.training.people.studio import Studio
from visa_ros.training.people.takes import benchmark_setting
from visa_ros.training.shader.pairs import clip_motion
from visa_ros.types import (
    Camera,
    CoarseFrame,
    Consent,
    Float32,
    GaussianAvatar,
    OperatorPose,
    UInt8,
)

_CONSENT = Consent('evaluation', 'evaluation', 0, 'for measuring')
_SKIPPED = 25   # frames of a clip after the portrait's
_SPEED = 0.5    # moments from one picture to the next: 20 a second
_HEAD = ((-0.15, -0.55), (1.15, 1.1))  # of the box around the face: its corners in its own sizes


@dataclass(frozen=True, eq=False)
class Sequence:
    """
    Somebody moves: T pictures.

    Attributes
    ----------
    name : str
    rgb, truth : (T, H, W, 3) uint8
        What the renderer shows, and what is true; over one colour.
    alpha, truth_alpha : (T, H, W) float16
    depth : (T, H, W) float16
        As in ``CoarseFrame``.
    corner : (T, 2) int
        First row and column of the frame's window.
    features, turning : (T, h / 4, w / 4, ...) float16
        In the window.
    head_px : (T, 2) float32
    face : (T, 478, 2) float32
        True landmarks, pixels.

    """

    name: str
    rgb: UInt8
    truth: UInt8
    alpha: np.ndarray
    truth_alpha: np.ndarray
    depth: np.ndarray
    corner: np.ndarray
    features: np.ndarray
    turning: np.ndarray
    head_px: Float32
    face: Float32

    def __len__(self) -> int:
        return len(self.rgb)

    def window(self, moment: int) -> tuple[slice, slice]:
        """Return the frame's window: rows and columns."""
        rows, columns = (slice(first, first + FEATURE_STRIDE * length) for first, length in zip(
            self.corner[moment].tolist(), self.features.shape[1:3], strict=True))
        return rows, columns

    def frame(self, moment: int) -> CoarseFrame:
        """Return what the shader is given."""
        return CoarseFrame(
            self.rgb[moment], self.alpha[moment].astype(np.float32),
            self.depth[moment].astype(np.float32), 0, head_px=self.head_px[moment],
            window=self.window(moment), features=self.features[moment].astype(np.float32),
            turning=self.turning[moment].astype(np.float32))

    def corners(self, moment: int) -> Float32:
        """Return the (5, 2) pixels by which ``metrics.identity`` aligns the true face."""
        return self.face[moment, list(FACE_CORNERS)]

    def head(self, moment: int) -> np.ndarray:
        """Return where the true head is, (H, W) bool."""
        low, high = self.face[moment].min(0), self.face[moment].max(0)
        (left, top), (right, bottom) = (low + share * (high - low) for share in np.array(_HEAD))
        rows, columns = np.mgrid[:self.rgb.shape[1], :self.rgb.shape[2]]
        return ((rows > top) & (rows < bottom) & (columns > left) & (columns < right)
                & (self.truth_alpha[moment] > 0.5))


def sequences(assets: Path | None, people: int, first: int, clips: tuple[str, ...], frames: int,
              keep: Path | None) -> Iterator[Sequence]:
    """
    Yield the sequences of test people and of clips.

    Parameters
    ----------
    assets : Path or None
        Folder of MakeHuman's assets; without it there are only clips.
    people, first : int
        Numbers of the test people.
    clips : tuple of str
        Of ``visa_ros.samples``.
    frames : int
        T.
    keep : Path or None
        Folder in which they are kept, and looked for.

    """
    studio: Studio | None = None
    names = [f'test-{number:06d}' for number in range(first, first + people if assets else first)]
    for name in (*names, *clips):
        kept = keep and keep / f'{name}-{frames}.npz'
        if kept and kept.is_file():
            with np.load(kept, allow_pickle=False) as file:
                arrays = dict(file)
        elif name in clips:
            arrays = _clip(name, frames)
        else:
            assert assets
            studio = studio or Studio(assets, Camera.from_focal(1000, 512, 512))
            arrays = _person(studio, int(name.partition('-')[2]), frames)
        if kept and not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(kept, **arrays)
        yield Sequence(name, **arrays)


def _person(studio: Studio, number: int, frames: int) -> dict[str, np.ndarray]:
    """Let a test person do what the test's clip does; the avatar is built as for anybody."""
    person = draw_person(studio.assets, 'test', number)
    setting = benchmark_setting(person)
    camera = setting.camera
    rng = np.random.default_rng([number, 3])
    shown = placed(still({}, {}), person.betas, facing(), setting.neck_m)
    portrait = studio.shoot(person, shown, setting.light,
                            draw_background(rng, camera.width, camera.height), camera)
    avatar, _ = cached_avatar(portrait.rgb, _CONSENT, ReconstructionConfig(
        focal_ratio=float(camera.K[0, 0] / camera.width)))
    clip = captured(CLIPS['test'][0])
    begin = rng.uniform(0, len(clip.blendshapes) - 1 - _SPEED * frames)
    poses = [placed(motion, person.betas, facing(), setting.neck_m)
             for motion in clip_motion(clip, begin, _SPEED, frames)]
    shots = [studio.shoot(person, pose, setting.light, BACKGROUND, camera) for pose in poses]
    model = load_body_model()
    faces = [camera.project(model.face_landmarks.on(
        posed_body(model, BodyFit(person.betas, pose, 0, 0)), model.faces))
        for pose in poses]
    return drawn(
        avatar, camera, [driven(avatar, person.betas, shown, pose) for pose in poses],
        [shot.rgb for shot in shots], [shot.alpha for shot in shots], faces)


def _clip(name: str, frames: int) -> dict[str, np.ndarray]:
    """Let the first frame's avatar do what later frames show, as they were fitted."""
    pictures = [rgb for rgb, _ in islice(read_video(samples.video(name)), 0,
                                         1 + _SKIPPED + frames)]
    height, width = pictures[0].shape[:2]
    camera = Camera.from_focal(FOCAL_RATIO * max(height, width), width, height)
    model = load_body_model()
    avatar, _ = cached_avatar(pictures[0], _CONSENT, ReconstructionConfig(
        size_px=max(height, width)))
    first = fit_body(model, find_person(pictures[0]), camera)
    poses, truths, alphas, faces = [], [], [], []
    for rgb in pictures[1 + _SKIPPED:]:
        landmarks = find_person(rgb)
        assert landmarks.mask is not None
        assert landmarks.face is not None
        fit = fit_body(model, landmarks, camera)
        alpha = matte(rgb, landmarks.mask)
        poses.append(driven(avatar, first.betas, first.pose, fit.pose, fit.betas))
        truths.append(before_background(rgb, alpha))
        alphas.append(alpha)
        faces.append(landmarks.face)
    return drawn(avatar, camera, poses, truths, alphas, faces)


def drawn(avatar: GaussianAvatar, camera: Camera, poses: list[OperatorPose],
            truths: list[UInt8], alphas: list[Float32], faces: list[Float32]
            ) -> dict[str, np.ndarray]:
    """Draw the avatar in the poses; sides become multiples of ``GRID``."""
    width, height = camera.width // GRID * GRID, camera.height // GRID * GRID
    renderer = AvatarRenderer(avatar, RenderingConfig(width, height, background=BACKGROUND_HEX),
                              ShadingConfig.window_px, Camera(camera.K, width, height))
    out: dict[str, list[np.ndarray]] = {
        'rgb': [], 'alpha': [], 'depth': [], 'features': [], 'turning': [], 'head_px': []}
    corners = []
    for pose in poses:
        frame = renderer.render(pose)
        assert frame.window is not None
        corners.append([side.start for side in frame.window])
        for name, values in out.items():
            value = getattr(frame, name)
            values.append(value.copy() if name in ('rgb', 'head_px')
                          else value.astype(np.float16))
    return {name: np.stack(values) for name, values in out.items()} | {
        'corner': np.array(corners),
        'truth': np.stack(truths)[:, :height, :width],
        'truth_alpha': np.stack(alphas)[:, :height, :width].astype(np.float16),
        'face': np.stack(faces)[..., :2].astype(np.float32)}
