"""How the rest pose (Anny's A-pose) turns into SMPL-X's zero pose (T-pose)."""
from __future__ import annotations

from itertools import pairwise

import numpy as np

from visa_ros.conventions import JOINT_INDEX, JOINT_PARENTS, JOINTS
from visa_ros.types import Float32


def rest_alignment(joints: Float32, fingertips: dict[str, Float32]) -> Float32:
    """
    Return the (55, 3, 3) global rotations from the rest pose to the T-pose.

    Trunk, neck and head stay.  Legs hang straight down.  Arms point sideways with the elbow's
    hinge vertical, hands lie flat with the palm down, fingers are straight and keep their spread,
    thumbs keep their place in the hand: SMPL-X's zero pose with ``flat_hand_mean=True``.

    Parameters
    ----------
    joints : (55, 3)
        The mean shape's.
    fingertips : dict of str to (3,)
        Of each last finger joint, by its name.

    """
    out = np.tile(np.eye(3, dtype=np.float32), (len(JOINTS), 1, 1))
    at = {name: joints[index] for name, index in JOINT_INDEX.items()} | {
        f'{name}_tip': tip for name, tip in fingertips.items()}

    def set_(joint: str, rotation: np.ndarray) -> None:
        out[JOINT_INDEX[joint]] = rotation

    for side, outward in (('left', 1.0), ('right', -1.0)):
        x, y = np.array([outward, 0, 0]), np.array([0.0, 1, 0])

        def bone(start: str, end: str, side: str = side) -> np.ndarray:
            return at[f'{side}_{end}'] - at[f'{side}_{start}']

        for start, end in (('hip', 'knee'), ('knee', 'ankle')):
            set_(f'{side}_{start}', _between(bone(start, end), -y))
        # In the rest pose the elbow is bent: forwards, about the axis that shall stand upright.
        hinge = np.cross(bone('elbow', 'wrist'), bone('shoulder', 'elbow')) * outward
        set_(f'{side}_shoulder', _frame(x, y) @ _frame(bone('shoulder', 'elbow'), hinge).T)
        set_(f'{side}_elbow', _frame(x, y) @ _frame(bone('elbow', 'wrist'), hinge).T)
        across = bone('pinky1', 'index1')
        back = np.cross(across, bone('wrist', 'middle1')) * outward
        hand = _frame(x, y) @ _frame(bone('wrist', 'middle1'), back).T
        set_(f'{side}_wrist', hand)
        for thumb in (1, 2, 3):
            set_(f'{side}_thumb{thumb}', hand)
        for finger in ('index', 'middle', 'ring', 'pinky'):
            ends = [f'{finger}1', f'{finger}2', f'{finger}3', f'{finger}3_tip']
            straight = (hand @ bone(ends[0], ends[1])) * [1, 0, 1]
            for start, end in pairwise(ends):
                set_(f'{side}_{start}', _between(hand @ bone(start, end), straight) @ hand)
    return out


def fingertips(vertices: Float32, joints: Float32, skin: Float32) -> dict[str, Float32]:
    """Return where each finger ends: the farthest skin that its last joint alone moves."""
    out = {}
    for index, name in enumerate(JOINTS):
        if name.endswith('3') and index > JOINT_INDEX['right_eye']:
            own = vertices[skin[:, index] > 0.95]
            reach = (own - joints[index]) @ (joints[index] - joints[JOINT_PARENTS[index]])
            out[name] = own[np.argsort(reach)[-8:]].mean(0)
    return out


def _frame(along: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the rotation whose columns are ``along``, ``up`` made square to it, and the rest."""
    along = along / np.linalg.norm(along)
    up = up - along * (up @ along)
    up = up / np.linalg.norm(up)
    return np.stack([along, up, np.cross(along, up)], 1)


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the smallest rotation that brings one direction onto another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    v = np.cross(a, b)
    K = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + K + K @ K / (1 + a @ b)
