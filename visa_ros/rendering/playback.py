"""From the operator's stream of poses to the pose that the avatar shows at this moment."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import BodyModel
from visa_ros.config import Config, param
from visa_ros.conventions import JOINT_INDEX, JOINTS, PART_INDEX, PARTS
from visa_ros.types import Float32, GaussianAvatar, OperatorPose, Presence

_NECK = JOINT_INDEX['neck']
# Below the chest a webcam sees nothing worth copying: the avatar keeps its portrait's legs.
_LOWER_BODY = [JOINTS.index(side + part) for side in ('left_', 'right_')
               for part in ('hip', 'knee', 'ankle', 'foot')]
# Which part's confidence says how far a joint follows the operator; the others always follow.
_PART_OF_JOINT = {
    JOINTS.index(f'{side}_{joint}'): PART_INDEX[f'{side}_{part}']
    for side in ('left', 'right')
    for part, joints in (
        ('arm', ('shoulder', 'elbow', 'wrist')),
        ('hand', tuple(f'{finger}{bone}' for finger in ('index', 'middle', 'pinky', 'ring',
                                                         'thumb') for bone in (1, 2, 3))))
    for joint in joints}
_LIMB_JOINTS, _LIMB_PARTS = (np.array(column) for column in zip(*_PART_OF_JOINT.items(),
                                                                strict=True))
# Confidence from which on a limb follows the operator wholly.
_SURE = 0.5
# The operator may leave the portrait's place by this much [m] before the motion is clipped.
_REACH_M = 0.5


@dataclass(frozen=True)
class PlaybackConfig(Config):
    """When the avatar holds, idles and returns, and how it stays in the picture."""

    hold_s: float = param(
        0.4, 'How long the last pose is held when no fresh one arrives [s]', low=0.0, high=10.0)
    lost_s: float = param(
        1.5, 'After how long without a pose the screen says so [s]', low=0.1, high=60.0)
    ease_s: float = param(
        0.7, 'How long the avatar takes to ease into idling and back [s]', low=0.0, high=10.0)
    recentre_s: float = param(
        8.0, 'Time constant with which a lasting shift of the operator returns to the middle '
        'of the picture [s]; 0 follows every shift', low=0.0, high=600.0)


class PosePlayback:
    """
    Retarget the operator's poses to an avatar, and bridge the gaps between them.

    The operator's joint rotations are shown as they are, but for limbs that the camera does not
    see: those rest as in the portrait.  The neck follows the operator's movement from where it has
    lately been, in the portrait's view.  Without a fresh pose the last one is held (``hold_s``),
    then the avatar eases into its portrait's pose; when poses return it eases back.  The picture
    never jumps and never freezes unmarked.

    Parameters
    ----------
    avatar : GaussianAvatar
        Gives the view, the resting pose and the proportions.
    model : BodyModel
        The body that the avatar is bound to.
    config : PlaybackConfig, optional
        Times.

    """

    def __init__(self, avatar: GaussianAvatar, model: BodyModel,
                 config: PlaybackConfig | None = None) -> None:
        self.config = config or PlaybackConfig()
        self._model = model
        _, self._joints = model.shaped(avatar.betas)
        self._idle = avatar.portrait_pose
        self._portrait_neck = self._neck(self._idle.joint_rotations) + self._idle.translation
        self._live = self._idle      # the last retargeted pose
        self._shown = self._idle     # the last pose that was shown
        self._from = self._idle      # where the running transition started
        self._transition_start_s = -np.inf
        self._last_any_s = -np.inf   # when a pose arrived, seen or not
        self._last_seen_s = -np.inf  # when a pose of a visible operator arrived
        self._follows = False        # whether the avatar follows the operator
        self._centre: Float32 | None = None
        self._follow = np.zeros(len(PARTS), np.float32)  # how far each part follows, eased

    def put(self, pose: OperatorPose, now_s: float) -> None:
        """
        Take the operator's newest pose.

        Parameters
        ----------
        pose : OperatorPose
            All confidences zero: the operator was looked for and not seen.
        now_s : float
            Arrival, seconds of a monotonic clock.

        """
        self._last_any_s = now_s
        if not pose.confidence.any():
            return
        if now_s - self._last_seen_s > self.config.hold_s:
            self._start_transition(now_s)
        self._live = self._retarget(pose, now_s - self._last_seen_s)
        self._last_seen_s = now_s
        self._follows = True

    def at(self, now_s: float) -> tuple[OperatorPose, Presence]:
        """
        Return the pose to draw, in the avatar camera's frame, and what the screen must say.

        Parameters
        ----------
        now_s : float
            Seconds of the clock that ``put`` was told.

        """
        unseen_s = now_s - self._last_seen_s
        if unseen_s <= self.config.hold_s:
            presence = Presence.LIVE
        elif unseen_s <= self.config.lost_s:
            presence = Presence.HOLDING
        elif now_s - self._last_any_s <= self.config.lost_s:
            presence = Presence.OPERATOR_LOST
        else:
            presence = Presence.LINK_LOST
        if self._follows and presence > Presence.HOLDING:
            self._follows = False
            self._start_transition(now_s)
        target = self._live if self._follows else self._idle
        elapsed_s = now_s - self._transition_start_s
        if elapsed_s < self.config.ease_s:
            share = elapsed_s / self.config.ease_s
            self._shown = blend(self._from, target, share * share * (3 - 2 * share))
        else:
            self._shown = target
        return replace(self._shown, stamp_ns=self._live.stamp_ns), presence

    def _start_transition(self, now_s: float) -> None:
        self._from = self._shown
        self._transition_start_s = now_s

    def _retarget(self, pose: OperatorPose, elapsed_s: float) -> OperatorPose:
        rotations = pose.joint_rotations.copy()
        rotations[_LOWER_BODY] = self._idle.joint_rotations[_LOWER_BODY]
        wish = np.minimum(pose.confidence / _SURE, 1)
        step = np.float32(min(elapsed_s / max(self.config.ease_s, 1e-6), 1))
        self._follow = self._follow + np.clip(wish - self._follow, -step, step)
        rotations[_LIMB_JOINTS] = _between(
            self._idle.joint_rotations[_LIMB_JOINTS], rotations[_LIMB_JOINTS],
            self._follow[_LIMB_PARTS, None])
        # The pelvis is seldom in view; the neck is: its movement places the avatar.
        neck_from_pelvis = self._neck(rotations)
        neck = pose.translation + neck_from_pelvis
        if self._centre is None or elapsed_s > 10 * self.config.lost_s:
            self._centre = neck
        elif self.config.recentre_s > 0:
            share = -np.expm1(-elapsed_s / self.config.recentre_s)
            self._centre = self._centre + np.float32(share) * (neck - self._centre)
        shift = np.clip(neck - self._centre, -_REACH_M, _REACH_M)
        return replace(pose, joint_rotations=rotations, frame_id=self._idle.frame_id,
                       translation=self._portrait_neck + shift - neck_from_pelvis)

    def _neck(self, rotations: Float32) -> Float32:
        transforms = joint_transforms(
            self._model, self._joints, rotations, np.zeros(3, np.float32))
        return posed_joints(transforms, self._joints)[_NECK]


def blend(first: OperatorPose, second: OperatorPose, share: float) -> OperatorPose:
    """
    Return the pose between two: geodesic for rotations, linear for the rest.

    Parameters
    ----------
    first, second : OperatorPose
        In the same frame; everything but the arrays is the second's.
    share : float
        0 gives the first, 1 the second.

    """
    rotations = _between(first.joint_rotations, second.joint_rotations, share)

    def mix(a: Float32, b: Float32) -> Float32:
        return (a + np.float32(share) * (b - a)).astype(np.float32)

    return replace(second, joint_rotations=rotations,
                   translation=mix(first.translation, second.translation),
                   blendshapes=mix(first.blendshapes, second.blendshapes),
                   confidence=mix(first.confidence, second.confidence))


def _between(first: Float32, second: Float32, share: float | Float32) -> Float32:
    """Return the (K, 3) axis-angle rotations between two, by the shorter way."""
    start = Rotation.from_rotvec(first)
    step = (start.inv() * Rotation.from_rotvec(second)).as_rotvec()
    return (start * Rotation.from_rotvec(share * step)).as_rotvec().astype(np.float32)
