"""A portrait in, an avatar out."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_vertices
from visa_ros.body.model import BodyModel, load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.config import Config, param
from visa_ros.identity import FACE_CORNERS
from visa_ros.reconstruction.bind import bind
from visa_ros.reconstruction.fit import FOCAL_RATIO, BodyFit, fit_body
from visa_ros.reconstruction.gaps import open_gaps
from visa_ros.reconstruction.matte import matte, solid
from visa_ros.reconstruction.network import WEIGHTS, load_network
from visa_ros.reconstruction.portrait import find_person, to_working_size
from visa_ros.reconstruction.predict import predict
from visa_ros.reconstruction.refine import refine
from visa_ros.reconstruction.rounding import rounded
from visa_ros.reconstruction.splats import Splats, draw
from visa_ros.types import Camera, Consent, Float32, GaussianAvatar, UInt8

# Step (detect, fit, bind, predict, refine) and fraction of all.
Progress = Callable[[str, float], None]

# Where each step ends in the whole, from measured times.
_STEP_ENDS = {'detect': 0.05, 'fit': 0.15, 'bind': 0.3, 'predict': 0.35, 'refine': 1.0}


@dataclass(frozen=True)
class ReconstructionConfig(Config):
    """How the next avatar is built of a portrait."""

    size_px: int = param(
        512, 'The portrait is scaled down until its long side has this many pixels', low=128,
        high=1024, live=True)
    gaussians: int = param(
        65000, 'How many Gaussians the avatar has, about', low=25000, high=200000,
        live=True)
    network: str = param(
        '', 'Weights of the network that completes what the portrait hides; empty: those that '
        'come with the package, none: the avatar shows smooth colours there', live=True)
    refine_steps: int = param(
        150, 'Steps of differentiable splatting that tune the avatar to the portrait', low=0,
        high=2000, live=True)
    focal_ratio: float = param(
        FOCAL_RATIO, "The portrait's focal length over its long side", low=0.5, high=5.0,
        live=True)
    seed: int = param(0, 'Of the random backgrounds while tuning', low=0, live=True)

    @property
    def weights(self) -> Path | None:
        """The network's file; None for an avatar without it."""
        return None if self.network == 'none' else Path(self.network or WEIGHTS)


@dataclass(frozen=True)
class ReconstructionSummary:
    """
    How a build went.

    Attributes
    ----------
    seconds : dict
        By step.
    gaussians : int
        How many.
    psnr_db : float
        Of the avatar's render against the portrait, where it shows nothing but the person.
    face_px, joints_px : float
        Mean distance of the fitted body to the landmarks, at working size.
    cached : bool
        Whether the avatar came from the cache.

    """

    seconds: dict[str, float]
    gaussians: int
    psnr_db: float
    face_px: float
    joints_px: float
    cached: bool = False


def reconstruct(portrait: UInt8, consent: Consent, config: ReconstructionConfig | None = None,
                progress: Progress = lambda step, fraction: None
                ) -> tuple[GaussianAvatar, ReconstructionSummary]:
    """
    Build an avatar of one portrait.

    Parameters
    ----------
    portrait : (H, W, 3) uint8
        Of one person, as ``read_portrait`` returns.
    consent : Consent
        Travels with the avatar.
    config : ReconstructionConfig, optional
    progress : callable
        Told step and fraction.

    Returns
    -------
    avatar : GaussianAvatar
        The same portrait, settings and machine give the same avatar.
    summary : ReconstructionSummary

    Raises
    ------
    PortraitError
        No avatar can be made of this portrait.
    ResourceError
        The network's weights cannot be read.

    """
    config = config or ReconstructionConfig()
    clock = _Clock(progress)
    rgb = to_working_size(portrait, config.size_px)
    height, width = rgb.shape[:2]
    camera = Camera.from_focal(config.focal_ratio * max(height, width), width, height)
    model = load_body_model()
    landmarks = find_person(rgb)
    clock.done('detect')
    fit = fit_body(model, landmarks, camera, clock.within('fit'))
    clock.done('fit')
    assert landmarks.face is not None
    assert landmarks.mask is not None
    body = posed_body(model, fit)
    mask = open_gaps(model, body, rgb, landmarks.mask, landmarks.face, camera)
    alpha = matte(rgb, mask, landmarks.face)
    bound = bind(model, body, rgb, alpha, landmarks.face, camera, config.gaussians)
    splats, colors, alpha = bound.splats, bound.colors, bound.alpha
    clock.done('bind')
    if config.weights:
        network = load_network(config.weights)
        splats = predict(model, splats, bound.surface, colors, alpha, camera, network)
    clock.done('predict')
    splats = refine(splats, colors, alpha, camera, config.refine_steps, config.seed,
                    clock.within('refine'))
    avatar = rounded(to_rest_pose(model, splats, fit, camera, consent))
    psnr_db = psnr(draw(splats, camera)[..., :3], (rgb / 255).astype(np.float32),
                   solid(alpha) & ~bound.held)
    clock.done('refine')
    return avatar, ReconstructionSummary(
        clock.seconds, len(avatar), psnr_db, fit.face_px, fit.joints_px)


def posed_body(model: BodyModel, fit: BodyFit) -> Float32:
    """Return the fitted body's (V, 3) vertices in the portrait camera's frame."""
    vertices, joints = model.shaped(fit.betas)
    transforms = joint_transforms(
        model, joints, fit.pose.joint_rotations, fit.pose.translation)
    shapes = model.blendshapes.offsets(fit.pose.blendshapes, len(vertices))
    return posed_vertices(model, vertices + shapes, transforms).astype(np.float32)


def face_corners(model: BodyModel, body: Float32, camera: Camera) -> Float32:
    """Return (5, 2) where ``identity.FACE_CORNERS`` of a posed body are in a picture, pixels."""
    face = camera.project(model.face_landmarks.on(body, model.faces))
    return face[list(FACE_CORNERS)].astype(np.float32)


def to_rest_pose(model: BodyModel, splats: Splats, fit: BodyFit, camera: Camera,
                 consent: Consent) -> GaussianAvatar:
    """
    Undo pose and expression, such that ``AvatarSkinning`` in the portrait's pose restores them.

    How it moves each Gaussian is read off itself: what it does to the origin and to the three
    unit vectors is the affine map of the means, what it does to no rotation that of the quats.
    """
    identity = np.tile(np.array((1, 0, 0, 0), np.float32), (len(splats), 1))
    avatar = GaussianAvatar(
        body_model=model.name, betas=fit.betas, triangles=splats.triangles,
        barycentrics=splats.barycentrics, means=np.zeros_like(splats.means), quats=identity,
        scales=splats.scales, opacities=splats.opacities, colors=splats.colors,
        features=splats.features, camera=camera,
        portrait_pose=replace(fit.pose, operator_id=consent.operator_id), consent=consent)

    def moved(point: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        probe = replace(avatar, means=np.tile(np.array(point, np.float32), (len(splats), 1)))
        means, quats = AvatarSkinning(model, probe).pose(fit.pose)
        return means.astype(np.float64), quats.astype(np.float64)

    origin, turn = moved((0, 0, 0))
    columns = [moved(axis)[0] - origin for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    means = np.linalg.solve(np.stack(columns, 2), (splats.means - origin)[..., None])[..., 0]
    quats = (Rotation.from_quat(turn, scalar_first=True).inv()
             * Rotation.from_quat(splats.quats, scalar_first=True)).as_quat(scalar_first=True)
    return replace(avatar, means=means.astype(np.float32), quats=quats.astype(np.float32))


def psnr(image: Float32, target: Float32, mask: np.ndarray) -> float:
    """Return the peak signal to noise ratio of colours in [0, 1] inside a mask, dB."""
    return float(-10 * np.log10(np.mean((image[mask] - target[mask]) ** 2) + 1e-12))


class _Clock:
    """Times the steps and reports progress."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._start_s = time.perf_counter()
        self._from = 0.0

    def within(self, step: str) -> Callable[[float], None]:
        """Return a callback for the fraction of a step."""
        begin, end = self._from, _STEP_ENDS[step]
        return lambda fraction: self._progress(step, begin + fraction * (end - begin))

    def done(self, step: str) -> None:
        """End a step."""
        now_s = time.perf_counter()
        self.seconds[step], self._start_s = now_s - self._start_s, now_s
        self._from = _STEP_ENDS[step]
        self._progress(step, self._from)
