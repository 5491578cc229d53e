"""A take of a person as what the avatar network learns from: evidence, and the truth elsewhere."""
from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from visa_ros.body.model import load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.cache import write_arrays
from visa_ros.conventions import PARTS
from visa_ros.reconstruction.bind import bind
from visa_ros.reconstruction.evidence import gather_evidence
from visa_ros.reconstruction.fit import BodyFit
from visa_ros.reconstruction.network import Evidence
from visa_ros.reconstruction.reconstruct import posed_body, to_rest_pose
from visa_ros.training.people.takes import VIEW_BACKGROUND, VIEW_PX
from visa_ros.types import Camera, Consent, Float32, OperatorPose

# Targets have 256 x 256 pixels: more Gaussians than this would not be told apart.
_GAUSSIANS = 32_000
_NOBODY = Consent('synthetic', 'training', 0, 'a synthetic person')


@dataclass(frozen=True, eq=False)
class Sample:
    """
    One person: N Gaussians as bound to one portrait, and V views of the truth.

    Attributes
    ----------
    evidence : Evidence
        What the network is told.
    scales, opacities : (N, 3), (N,) float32 tensors
        As bound.
    means, quats : (V, N, 3), (V, N, 4) tensors
        The Gaussians as bound, moved into each view's pose.
    targets : (V, 256, 256, 4) uint8 tensor
        True colour times alpha, and alpha.
    K : (3, 3) float32 tensor
        The views' camera.

    """

    evidence: Evidence
    scales: Tensor
    opacities: Tensor
    means: Tensor
    quats: Tensor
    targets: Tensor
    K: Tensor


def prepare(take: Path, out: Path, places: Float32) -> None:
    """
    Bind the portrait of a take to its true body and write the sample for a network's tokens.

    The body is the true one, not a fit: what is learnt is what a portrait hides, not how fits
    fail.  The first view is the portrait itself.
    """
    with np.load(take, allow_pickle=False) as file:
        data = dict(file)
    model = load_body_model()
    # Bound at the size that it is compared at, in a quarter of the time.
    rgb, coverage = (cv2.resize(data[f'portrait_{name}'], (VIEW_PX, VIEW_PX),
                                interpolation=cv2.INTER_AREA).astype(np.uint8)
                     for name in ('rgb', 'alpha'))
    alpha = (coverage / 255).astype(np.float32)
    camera = Camera(data['view_K'], VIEW_PX, VIEW_PX)
    fit = BodyFit(data['betas'], _pose(data, 'portrait'), 0.0, 0.0)
    body = posed_body(model, fit)
    landmarks = camera.project(model.face_landmarks.on(body, model.faces)).astype(np.float32)
    bound = bind(model, body, rgb, alpha, landmarks, camera, _GAUSSIANS)
    splats, colors, alpha = bound.splats, bound.colors, bound.alpha
    evidence = gather_evidence(model, places, splats, bound.surface, colors, alpha, camera)
    skinning = AvatarSkinning(model, to_rest_pose(model, splats, fit, camera, _NOBODY))

    own = np.dstack([colors * alpha[..., None], alpha])
    cover = data['view_alpha'][..., None] / np.float32(255)
    views = np.concatenate([data['view_rgb'] / np.float32(255) - VIEW_BACKGROUND * (1 - cover),
                            cover], 3)
    targets = np.concatenate([own[None], views]).clip(0, 1)
    moved = [[values.copy() for values in skinning.pose(pose)]
             for pose in (fit.pose, *(_pose(data, 'view', k) for k in range(len(views))))]
    means, quats = (np.stack(values) for values in zip(*moved, strict=True))
    narrow = {'corners': np.int32, 'neighbours': np.int16, 'pixels': np.float32}
    write_arrays(
        out, **{f'evidence_{name}': value.numpy().astype(narrow.get(name, np.float16))
                for name, value in evidence._asdict().items()},
        scales=splats.scales, opacities=splats.opacities, means=means,
        quats=quats.astype(np.float16), K=data['view_K'],
        targets=np.rint(255 * targets).astype(np.uint8))


def _pose(data: dict[str, np.ndarray], of: str, index: int | None = None) -> OperatorPose:
    values = (data[f'{of}_{name}'] for name in ('joint_rotations', 'translation', 'blendshapes'))
    rotations, translation, blendshapes = (
        np.ascontiguousarray(value if index is None else value[index], np.float32)
        for value in values)
    return OperatorPose(rotations, translation, blendshapes, np.ones(len(PARTS), np.float32))


def load_sample(path: Path) -> Sample:
    """Read what ``prepare`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        tensors = {name: torch.from_numpy(value) for name, value in file.items()}
    whole = {'corners', 'neighbours'}
    evidence = Evidence(**{
        name: tensors.pop(f'evidence_{name}').to(torch.int64 if name in whole else torch.float32)
        for name in Evidence._fields})
    return Sample(evidence=evidence, **{
        field.name: tensors[field.name] for field in fields(Sample) if field.name != 'evidence'})
