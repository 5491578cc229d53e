"""Arms of another body, bent so that the hands are where the operator's are about the face."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visa_ros.capture.rotations import Float64, exp, swing
from visa_ros.conventions import JOINT_INDEX, JOINT_PARENTS
from visa_ros.types import Float32

ARMS = {side: [JOINT_INDEX[f'{side}_{name}'] for name in ('collar', 'shoulder', 'elbow', 'wrist')]
        for side in ('left', 'right')}
_CHAIN = [JOINT_INDEX[name] for name in (
    'pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head')] + ARMS['left'] + ARMS['right']
_HEAD = JOINT_INDEX['head']
_DOWN = np.array((0.0, 1.0, 0.0))  # in the camera's axes: where a straight arm's elbow goes


class Reach:
    """
    Bend an avatar's arms such that its hands are where the operator's are, seen from the head.

    With joint angles alone a hand that touches the chin ends beside it: trunks are inclined
    otherwise, shoulders are wider, arms longer.

    Parameters
    ----------
    joints : (55, 3) array
        The avatar's, in the T-pose.
    operator_joints : (55, 3) array
        Of the body that the operator's poses speak of, in the T-pose.

    """

    def __init__(self, joints: Float32, operator_joints: Float32) -> None:
        parents = list(JOINT_PARENTS[1:])
        self._bones, self._operator_bones = (
            np.concatenate([np.zeros((1, 3)), own[1:] - own[parents]])
            for own in (joints.astype(float), operator_joints.astype(float)))

    def __call__(self, local: Float64, sides: Sequence[str], operator: Float64, turn: Float64
                 ) -> None:
        """
        Bend arms.

        Parameters
        ----------
        local : (55, 3, 3) float
            The avatar's rotations, parent to joint; the arms' shoulders, elbows and wrists are
            written.  Elbows stay in the planes that they gave.
        sides : sequence of {'left', 'right'}
            Which arms.
        operator : (55, 3, 3) float
            The operator's.
        turn : (3, 3) float
            From the operator's head to the avatar's, both in their camera's axes.

        """
        turns, places = _posed(local, self._bones)
        own_turns, own_places = _posed(operator, self._operator_bones)
        for collar, shoulder, elbow, wrist in (ARMS[side] for side in sides):
            way = places[_HEAD] + turn @ (own_places[wrist] - own_places[_HEAD]) - places[shoulder]
            upper, lower = places[elbow] - places[shoulder], places[wrist] - places[elbow]
            bent_upper, bent_lower = _bent(upper, lower, way)
            turned = exp(swing(upper, bent_upper))
            turned_lower = exp(swing(turned @ lower, bent_lower)) @ turned
            shoulder_turn, elbow_turn = turned @ turns[shoulder], turned_lower @ turns[elbow]
            local[shoulder] = turns[collar].T @ shoulder_turn
            local[elbow] = shoulder_turn.T @ elbow_turn
            local[wrist] = elbow_turn.T @ turn @ own_turns[wrist]


def _posed(local: Float64, bones: Float64) -> tuple[dict[int, Float64], dict[int, Float64]]:
    """Return rotations to the camera and places about the pelvis, of the joints to the wrists."""
    turns, places = {0: local[0]}, {0: np.zeros(3)}
    for joint in _CHAIN[1:]:
        parent = JOINT_PARENTS[joint]
        places[joint] = places[parent] + turns[parent] @ bones[joint]
        turns[joint] = turns[parent] @ local[joint]
    return turns, places


def _bent(upper: Float64, lower: Float64, way: Float64) -> tuple[Float64, Float64]:
    """Return upper arm and forearm, as long as before, that go this way from the shoulder."""
    first, second, distance = (float(np.linalg.norm(part)) for part in (upper, lower, way))
    ahead = way / max(distance, 1e-6)
    distance = max(min(distance, first + second), abs(first - second) + 1e-3)
    aside = upper - (upper @ ahead) * ahead
    if np.linalg.norm(aside) < 1e-3 * first:
        aside = _DOWN - (_DOWN @ ahead) * ahead
    along = (first ** 2 + distance ** 2 - second ** 2) / (2 * distance)
    height = max(first ** 2 - along ** 2, 0.0) ** 0.5
    bent = along * ahead + height * aside / max(float(np.linalg.norm(aside)), 1e-9)
    return bent, distance * ahead - bent
