"""What the avatar's renderer shows beside what is true: the shader learns from it."""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from visa_ros.body.model import load_body_model
from visa_ros.cache import write_arrays
from visa_ros.errors import PortraitError
from visa_ros.identity import FACE_CORNERS
from visa_ros.reconstruction.bind import bind
from visa_ros.reconstruction.fit import FOCAL_RATIO, BodyFit
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.reconstruction.network import FEATURES, load_network
from visa_ros.reconstruction.portrait import find_person, read_portrait, to_working_size
from visa_ros.reconstruction.predict import predict
from visa_ros.reconstruction.reconstruct import (
    ReconstructionConfig,
    face_corners,
    posed_body,
    reconstruct,
    to_rest_pose,
)
from visa_ros.reconstruction.refine import refine
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.guidance import guide
from visa_ros.training.avatars.cycle import turned
from visa_ros.training.people.background import draw_background
from visa_ros.training.people.motion import CLIPS, Motion, captured, draw_motion, facing, placed
from visa_ros.training.people.person import SPLITS, draw_person
from visa_ros.training.people.portraits import portraits_of
from visa_ros.training.people.studio import Studio
from visa_ros.training.people.takes import KINDS, PORTRAIT_PX, draw_setting
from visa_ros.types import Camera, Consent, Float32, GaussianAvatar, OperatorPose, UInt8

WINDOW_PX = 256
SEQUENCES = 2            # of each person
_BLACK = np.zeros(3, np.float32)
_MOST_REFINE_STEPS = 60  # fewer than for use: avatars of all qualities are shaded
_NOBODY = Consent('pairs', 'training', 0, 'a synthetic person, or a generated portrait')
_STRAY_PX = 40.0         # of the window's middle from the head's, standard deviation
_WIDE_SHARE, _WIDE_PX = 0.3, 128.0  # of windows that show more of shoulders and hands

log = logging.getLogger(__name__)

# Guide, render, truth and corners of the face, of one moment in one window.
_Frame = tuple[Float32, UInt8, UInt8, Float32]


def write_pairs(assets: Path, out: Path, split: str, first: int, people: int, portraits: int,
                frames: int) -> None:
    """
    Write ``out/<name>.npz`` for people and photographs; those already there stay as they are.

    The arrays, of S sequences of T frames: ``render`` and ``truth`` (S, T, 256, 256, 4) uint8,
    colour times alpha, and alpha; ``guide`` (S, T, 9 + F, 64, 64) float16 as
    ``shading.guidance`` gives it; ``face`` (S, T, 5, 2) float32, true pixels of
    ``identity.FACE_CORNERS``, which may lie outside.

    Parameters
    ----------
    assets : Path
        Holds makehuman_cc0/ and portraits_ai/.
    out : Path
    split : {'train', 'test'}
        Of people and of photographs.
    first, people : int
        Numbers of the people.
    portraits : int
        How many photographs at most.
    frames : int
        Of each person, all sequences together.

    """
    out.mkdir(parents=True, exist_ok=True)
    photographs = portraits_of(assets, split)[:portraits]
    missing = [path for path in photographs if not (out / f'{path.stem}.npz').is_file()]
    for path in track(missing, 'photographs'):
        rng = np.random.default_rng([SPLITS.index(split), photographs.index(path), 5])
        try:
            pairs = of_photograph(path, rng, frames // SEQUENCES)
        except PortraitError as error:
            log.warning('%s is left out: %s', path.name, error)
            continue
        write_arrays(out / f'{path.stem}.npz', **pairs)
    numbers = [number for number in range(first, first + people)
               if not (out / f'{split}-{number:06d}.npz').is_file()]
    if not numbers:
        return
    studio = Studio(assets / 'makehuman_cc0', Camera.from_focal(
        1.6 * PORTRAIT_PX, PORTRAIT_PX, PORTRAIT_PX))
    for number in track(numbers, 'people'):
        write_arrays(out / f'{split}-{number:06d}.npz',
                     **of_person(studio, split, number, frames // SEQUENCES))
    studio.close()


def of_person(studio: Studio, split: str, number: int, frames: int) -> dict[str, np.ndarray]:
    """
    Return the pairs of a synthetic person: a moment of a clip goes on, and a face is made.

    The avatar hangs on the true body and takes the true poses, so render and truth agree.
    """
    person = draw_person(studio.assets, split, number)
    rng = np.random.default_rng([SPLITS.index(split), number, 4])
    setting = draw_setting(rng)
    portrait = studio.shoot(
        person, placed(draw_motion(rng, split, 'portrait'), person.betas,
                       facing(*rng.normal(0, (6, 3, 2))), setting.neck_m),
        setting.light, draw_background(rng, PORTRAIT_PX, PORTRAIT_PX), setting.camera)
    avatar = _avatar(portrait.rgb, portrait.alpha, BodyFit(person.betas, portrait.pose, 0, 0),
                     setting.camera, rng)
    model = load_body_model()
    sequences = []
    clip = captured(CLIPS[split][rng.integers(len(CLIPS[split]))])
    speed = rng.uniform(0.3, 1.0)
    begin_at = rng.uniform(0, len(clip.blendshapes) - 1 - speed * frames)
    for motions in (clip_motion(clip, begin_at, speed, frames), _between(rng, split, frames)):
        # The trunk turns a little, from one place to another.
        begin, end = (np.concatenate([
            np.clip(rng.normal(0, (25, 4, 3)), -50, 50),
            setting.neck_m + 0.03 * setting.neck_m[2] * rng.normal(0, 1, 3)]) for _ in range(2))
        end = begin + 0.2 * (end - begin)
        poses = []
        for motion, share in zip(motions, np.linspace(0, 1, frames), strict=True):
            place = begin + share * (end - begin)
            poses.append(placed(motion, person.betas, facing(*place[:3]), place[3:]))
        camera = _window(setting.camera, _corner(_head(avatar, setting.camera, poses[0]), rng))
        renderer = _Renderer(avatar, camera)
        sequences.append([(*renderer(pose), _over_black(shot.rgb, shot.alpha),
                           face_corners(model, posed_body(model, BodyFit(
                               person.betas, pose, 0, 0)), camera))
                          for pose in poses
                          for shot in [studio.shoot(person, pose, setting.light, _BLACK,
                                                    camera)]])
    return _arrays(sequences)


def of_photograph(path: Path, rng: np.random.Generator, frames: int) -> dict[str, np.ndarray]:
    """
    Return the pairs of a photograph, over which the window wanders.

    Its avatar is seen from one side, and from the other; an avatar of each view is brought back
    to the front: what the side hides is true in the photograph.  Light came back with it, unlike
    a studio's: it was turned with the avatar.

    Raises
    ------
    PortraitError
        No avatar can be made of it.

    """
    rgb = to_working_size(read_portrait(path), PORTRAIT_PX)
    landmarks = find_person(rgb)
    assert landmarks.mask is not None
    assert landmarks.face is not None
    face = landmarks.face[list(FACE_CORNERS), :2]
    alpha = matte(rgb, landmarks.mask, landmarks.face)
    truth = _over_black(np.rint(255 * foreground(rgb, alpha) * alpha[..., None]), alpha)
    own, _ = reconstruct(rgb, _NOBODY, ReconstructionConfig(
        refine_steps=int(rng.integers(_MOST_REFINE_STEPS)), focal_ratio=FOCAL_RATIO))
    height, width = rgb.shape[:2]
    front = own.portrait_pose
    aside = AvatarRenderer(own, RenderingConfig(width, height))
    sequences = []
    for side in rng.permutation([-1, 1])[:SEQUENCES]:
        pose = turned(front, own.betas, side * rng.uniform(10, 35))
        seen = aside.render(pose)
        avatar = _avatar(seen.rgb, seen.alpha, BodyFit(own.betas, pose, 0, 0), own.camera, rng)
        sequence = []
        for corner in _wander(_corner(_head(avatar, own.camera, front), rng), frames, rng):
            renderer = _Renderer(avatar, _window(own.camera, corner))
            renderer.light_turns_too(front)
            sequence.append((*renderer(front), _cut(truth, corner), face - corner))
        sequences.append(sequence)
    return _arrays(sequences)


# --- motion


def clip_motion(clip: Motion, begin: float, speed: float, frames: int) -> Iterator[Motion]:
    """
    Yield consecutive moments of a clip.

    Parameters
    ----------
    clip : Motion
    begin : float
        The first moment.
    speed : float
        Moments from one picture to the next; they were captured at a third of the clip's rate.
    frames : int

    """
    for moment in begin + speed * np.arange(frames):
        number = int(moment)
        yield _mixed(_at(clip, number), _at(clip, number + 1), moment - number)


def _between(rng: np.random.Generator, split: str, frames: int) -> Iterator[Motion]:
    """Yield a slow change from one drawn moment to another: heads, faces, arms and hands."""
    kind = rng.choice(KINDS)
    begin, end = (draw_motion(rng, split, kind) for _ in range(2))
    if kind in ('raised', 'front'):
        # Arms would go through the body on their way: they move a little.
        end = _mixed(begin, end, 0.15)
    for share in np.linspace(0, 1, frames):
        yield _mixed(begin, end, share)


def _at(clip: Motion, moment: int) -> Motion:
    one = slice(moment, moment + 1)
    return Motion(clip.joint_rotations[one], clip.blendshapes[one], clip.confidence[one])


def _mixed(begin: Motion, end: Motion, share: float) -> Motion:
    def mix(a: Float32, b: Float32) -> Float32:
        return (a + share * (b - a)).astype(np.float32)

    return replace(begin, joint_rotations=mix(begin.joint_rotations, end.joint_rotations),
                   blendshapes=mix(begin.blendshapes, end.blendshapes))


# --- pictures


def _avatar(rgb: UInt8, alpha: Float32, fit: BodyFit, camera: Camera,
            rng: np.random.Generator) -> GaussianAvatar:
    """Build an avatar on a body that is known."""
    model = load_body_model()
    body = posed_body(model, fit)
    landmarks = camera.project(model.face_landmarks.on(body, model.faces)).astype(np.float32)
    bound = bind(model, body, rgb, alpha, landmarks, camera, ReconstructionConfig.gaussians)
    splats = predict(model, bound.splats, bound.surface, bound.colors, bound.alpha, camera,
                     load_network())
    splats = refine(splats, bound.colors, bound.alpha, camera,
                    int(rng.integers(_MOST_REFINE_STEPS)), seed=0)
    return to_rest_pose(model, splats, fit, camera, _NOBODY)


class _Renderer:
    """An avatar in a window, as the shader is shown it."""

    def __init__(self, avatar: GaussianAvatar, camera: Camera) -> None:
        self._renderer = AvatarRenderer(
            avatar, RenderingConfig(WINDOW_PX, WINDOW_PX, background='#000000', backend='cpu'),
            window_px=0, camera=camera)
        self.light_turns_too = self._renderer.light_turns_too

    def __call__(self, pose: OperatorPose) -> tuple[Float32, UInt8]:
        """Return the guide, and colour times alpha beside alpha."""
        frame = self._renderer.render(pose)
        return guide(frame, FEATURES), _over_black(frame.rgb, frame.alpha)


def _head(avatar: GaussianAvatar, camera: Camera, pose: OperatorPose) -> Float32:
    """Return where the head is in a picture, pixels."""
    head = AvatarRenderer(avatar, RenderingConfig(16, 16), camera=Camera(
        camera.K, 16, 16)).render(pose).head_px
    assert head is not None
    return head


def _corner(head_px: Float32, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the window's left and top."""
    stray = _WIDE_PX if rng.random() < _WIDE_SHARE else _STRAY_PX
    middle = head_px + rng.normal(0, stray, 2)
    left, top = np.clip(np.rint(middle - WINDOW_PX / 2), 0, PORTRAIT_PX - WINDOW_PX).astype(int)
    return int(left), int(top)


def _wander(corner: tuple[int, int], frames: int, rng: np.random.Generator
            ) -> Sequence[tuple[int, int]]:
    """Return the window's corners on its way over a still picture."""
    speed = rng.uniform(-3, 3, 2)
    path = np.array(corner) + speed * np.arange(frames)[:, None]
    return [(int(left), int(top)) for left, top in
            np.clip(np.rint(path), 0, PORTRAIT_PX - WINDOW_PX).astype(int)]


def _window(camera: Camera, corner: tuple[int, int]) -> Camera:
    left, top = corner
    return camera.cut((slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)))


def _cut(picture: UInt8, corner: tuple[int, int]) -> UInt8:
    left, top = corner
    out = np.zeros((WINDOW_PX, WINDOW_PX, picture.shape[2]), np.uint8)
    part = picture[top:top + WINDOW_PX, left:left + WINDOW_PX]
    out[:len(part), :part.shape[1]] = part
    return out


def _over_black(rgb: np.ndarray, alpha: Float32) -> UInt8:
    """Return (H, W, 4) uint8 of colour over black and alpha."""
    return np.dstack([rgb, np.rint(255 * alpha)]).astype(np.uint8)


def _arrays(sequences: list[list[_Frame]]) -> dict[str, np.ndarray]:
    def stacked(place: int) -> np.ndarray:
        return np.stack([np.stack([frame[place] for frame in sequence])
                         for sequence in sequences])

    return {'guide': stacked(0).astype(np.float16), 'render': stacked(1), 'truth': stacked(2),
            'face': stacked(3).astype(np.float32)}


