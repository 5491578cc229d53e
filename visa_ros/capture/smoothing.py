"""
One Euro filters for poses: steady when still, quick when moving.

Casiez, Roussel and Vogel 2012, "1 Euro filter: a simple speed-based low-pass filter for noisy
input in interactive systems".  Rotations are filtered in the tangent space of the filtered
rotation; real stamps make the result independent of the frame rate.

The head's place and its rotation to the camera are filtered as such, and pelvis and neck follow:
what is seen best must not shake with the unseen trunk that carries it.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from visa_ros.capture.rotations import Float64, exp, log
from visa_ros.conventions import BLENDSHAPES, JOINT_INDEX, JOINTS, PART_INDEX, PARTS
from visa_ros.types import Float32, OperatorPose

# Part -> (cutoff at rest [Hz], its growth with speed [Hz per rad/s]); set by measuring noise and
# lag (python -m visa_ros.evaluation capture).
_TUNING = {
    'body': (0.8, 4.0), 'face': (6.0, 10.0), 'left_arm': (0.8, 4.0), 'right_arm': (0.8, 4.0),
    'left_hand': (1.5, 3.0), 'right_hand': (1.5, 3.0),
}
_PLACE_TUNING = (6.0, 60.0)        # of the head; growth per m/s
_BLENDSHAPE_TUNING = (6.0, 6.0)    # growth per unit a second: nearly unfiltered
_EYES_AND_JAW = (4.0, 4.0)
_HIDDEN_CUTOFF_HZ = 0.3            # unseen parts go to rest this slowly
_SPEED_CUTOFF_HZ = 1.5             # of the speed's own low-pass
_CONFIDENCE_TIME_S = 0.15          # in which a part appears or vanishes


def _part_of(joint: str) -> str:
    side, _, bone = joint.partition('_')
    if joint in ('neck', 'head', 'jaw') or bone == 'eye':
        return 'face'
    if bone in ('shoulder', 'elbow'):
        return f'{side}_arm'
    if bone and bone not in ('hip', 'knee', 'ankle', 'foot', 'collar'):
        return f'{side}_hand'
    return 'body'


_JOINT_PARTS = [_part_of(joint) for joint in JOINTS]
_JOINT_PART = np.array([PART_INDEX[part] for part in _JOINT_PARTS])
_JOINT_TUNING = np.array([_EYES_AND_JAW if joint == 'jaw' or joint.endswith('eye')
                          else _TUNING[part] for joint, part in zip(JOINTS, _JOINT_PARTS,
                                                                    strict=True)])
# The trunk and the head turn to rest only with the whole body.
_CAN_HIDE = np.array([part.endswith(('arm', 'hand')) for part in _JOINT_PARTS])


_HEAD = JOINT_INDEX['head']
_TO_HEAD = [JOINT_INDEX[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck', 'head')]


class PoseFilter:
    """
    Smooth a stream of poses.

    Parameters
    ----------
    zero_pose_joints : (55, 3) float
        Of the reference body, T-pose; tells where the head is.

    """

    def __init__(self, zero_pose_joints: Float64 | Float32) -> None:
        joints = np.asarray(zero_pose_joints, float)[_TO_HEAD]
        self._bones = np.diff(joints, axis=0)
        self._pose: OperatorPose | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the past; the next pose comes out as it is."""
        self._pose = None
        self._turns = np.zeros((len(JOINTS), 3, 3))
        self._spins = np.zeros((len(JOINTS), 3))         # rad/s
        self._place = np.zeros(3)
        self._velocity = np.zeros(3)                     # m/s
        self._blendshapes = np.zeros(len(BLENDSHAPES))
        self._rates = np.zeros(len(BLENDSHAPES))         # 1/s
        self._shown = np.zeros(len(PARTS))

    def filter(self, pose: OperatorPose) -> OperatorPose:
        """Return the pose smoothed; it must be younger than the one before."""
        turns = exp(pose.joint_rotations.astype(float))
        neck_turn, from_pelvis = self._neck(turns)
        turns[_HEAD] = neck_turn @ turns[_HEAD]  # to the camera, from here on
        place = pose.translation + from_pelvis
        if self._pose is None:
            self._turns, self._place = turns, place
            self._blendshapes = pose.blendshapes.astype(float)
            self._shown = pose.confidence.astype(float)
            self._pose = pose
            return pose
        dt = max((pose.stamp_ns - self._pose.stamp_ns) * 1e-9, 1e-3)
        self._pose = pose
        self._shown += -np.expm1(-dt / _CONFIDENCE_TIME_S) * (pose.confidence - self._shown)

        change = log(self._turns.transpose(0, 2, 1) @ turns)
        self._spins += _share(_SPEED_CUTOFF_HZ, dt) * (change / dt - self._spins)
        cutoff = _JOINT_TUNING[:, 0] + _JOINT_TUNING[:, 1] * np.linalg.norm(self._spins, axis=1)
        shown = np.where(_CAN_HIDE, self._shown[_JOINT_PART], 1.0)
        cutoff = _HIDDEN_CUTOFF_HZ + shown * (cutoff - _HIDDEN_CUTOFF_HZ)
        self._turns = self._turns @ exp(_share(cutoff, dt)[:, None] * change)

        place_change = place - self._place
        self._velocity += _share(_SPEED_CUTOFF_HZ, dt) * (place_change / dt - self._velocity)
        self._place = self._place + place_change * _share(
            _PLACE_TUNING[0] + _PLACE_TUNING[1] * float(np.linalg.norm(self._velocity)), dt)

        face_change = pose.blendshapes - self._blendshapes
        self._rates += _share(_SPEED_CUTOFF_HZ, dt) * (face_change / dt - self._rates)
        self._blendshapes = self._blendshapes + face_change * _share(
            _BLENDSHAPE_TUNING[0] + _BLENDSHAPE_TUNING[1] * np.abs(self._rates), dt)
        out = self._turns.copy()
        neck_turn, from_pelvis = self._neck(out)
        out[_HEAD] = neck_turn.T @ out[_HEAD]
        return replace(
            pose, joint_rotations=_single(log(out)),
            translation=_single(self._place - from_pelvis),
            blendshapes=_single(self._blendshapes))

    def _neck(self, turns: Float64) -> tuple[Float64, Float64]:
        """Return the neck's rotation to the camera, and the head's place from the pelvis."""
        turn, place = turns[_TO_HEAD[0]], np.zeros(3)
        for joint, bone in zip(_TO_HEAD[1:], self._bones, strict=True):
            place = place + turn @ bone
            if joint != _HEAD:
                turn = turn @ turns[joint]
        return turn, place


def _share(cutoff_hz: Float64 | float, dt: float) -> Float64:
    """Return how far a low-pass goes towards its input in a time step, exactly."""
    return np.asarray(-np.expm1(-2 * np.pi * cutoff_hz * dt))


def _single(values: Float64) -> Float32:
    return values.astype(np.float32)
