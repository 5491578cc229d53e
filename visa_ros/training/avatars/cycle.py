"""Photographs as takes: an avatar seen from the side is the portrait, the photograph the truth."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.cache import write_arrays
from visa_ros.conventions import JOINT_INDEX
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.reconstruction.portrait import find_person, read_portrait, to_working_size
from visa_ros.reconstruction.reconstruct import ReconstructionConfig, reconstruct
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.training.people.takes import PORTRAIT_PX, VIEW_BACKGROUND, VIEW_PX
from visa_ros.types import Consent, Float32, OperatorPose

_REFINE_STEPS = 40  # fewer than for use: the side view is degraded anyway
_ANGLES_DEG = (-35, 18)
_NOBODY = Consent('portrait', 'training', 0, 'a generated portrait')


def write_cycle_takes(portrait: Path, out: Path) -> None:
    """
    Write a take for each angle by which the portrait's avatar is turned before it is seen.

    What the side view hides is real in the photograph, with textures that no synthetic person
    has.  Files are named ``<portrait>_<angle>.npz``, in the format of ``training.people``.

    Raises
    ------
    PortraitError
        No avatar can be made of the portrait.

    """
    rgb = to_working_size(read_portrait(portrait), PORTRAIT_PX)
    landmarks = find_person(rgb)
    assert landmarks.mask is not None
    truth = matte(rgb, landmarks.mask)
    avatar, _ = reconstruct(rgb, _NOBODY, ReconstructionConfig(refine_steps=_REFINE_STEPS))
    renderer = AvatarRenderer(
        avatar, RenderingConfig(PORTRAIT_PX, PORTRAIT_PX, background='#808080'))
    cover = truth[..., None]
    shown = foreground(rgb, truth) * cover + VIEW_BACKGROUND * (1 - cover)
    small = np.rint(255 * cv2.resize(np.dstack([shown, truth]), (VIEW_PX, VIEW_PX),
                                     interpolation=cv2.INTER_AREA)).astype(np.uint8)
    K = renderer.camera.K * np.array([[0.5], [0.5], [1]], np.float32)
    for angle_deg in _ANGLES_DEG:
        pose = turned(avatar.portrait_pose, avatar.betas, angle_deg)
        seen = renderer.render(pose)
        write_arrays(
            out / f'{portrait.stem}_{angle_deg:+d}.npz', betas=avatar.betas,
            portrait_rgb=seen.rgb, portrait_alpha=(255 * seen.alpha).astype(np.uint8),
            portrait_K=renderer.camera.K, **_pose('portrait', pose),
            view_rgb=small[None, ..., :3], view_alpha=small[None, ..., 3], view_K=K,
            **{name: value[None] for name, value in _pose('view', avatar.portrait_pose).items()})


def turned(pose: OperatorPose, betas: Float32, angle_deg: float) -> OperatorPose:
    """Return the pose turned about the vertical through the neck, to the person's left."""
    model = load_body_model()
    _, joints = model.shaped(betas)
    neck = posed_joints(joint_transforms(
        model, joints, pose.joint_rotations, pose.translation), joints)[JOINT_INDEX['neck']]
    turn = Rotation.from_euler('y', angle_deg, degrees=True)
    rotations = pose.joint_rotations.copy()
    rotations[0] = (turn * Rotation.from_rotvec(rotations[0])).as_rotvec()
    translation = neck + turn.apply(pose.translation - neck)
    return replace(pose, joint_rotations=rotations, translation=translation.astype(np.float32))


def _pose(of: str, pose: OperatorPose) -> dict[str, Float32]:
    return {f'{of}_joint_rotations': pose.joint_rotations, f'{of}_translation': pose.translation,
            f'{of}_blendshapes': pose.blendshapes}
