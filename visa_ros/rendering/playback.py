"""From the operator's stream of poses to the pose that the avatar shows at this moment."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from visa_ros.body.model import BodyModel
from visa_ros.config import Config, param
from visa_ros.rendering.gaze import EyeContact
from visa_ros.rendering.idle import IdleMotion
from visa_ros.rendering.retarget import Retargeting, blend
from visa_ros.types import GaussianAvatar, OperatorPose, Presence


@dataclass(frozen=True)
class PlaybackConfig(Config):
    """When the avatar holds, idles and returns, how it stays in the picture, where it looks."""

    hold_s: float = param(
        0.4, 'How long the last pose is held when no fresh one arrives [s]', low=0.0, high=10.0,
        live=True)
    lost_s: float = param(
        1.5, 'After how long without a pose the screen says so [s]', low=0.1, high=60.0, live=True)
    ease_s: float = param(
        0.7, 'How long the avatar takes to ease into idling and back [s]', low=0.0, high=10.0,
        live=True)
    recentre_s: float = param(
        30.0, "Time constant with which a lasting place or bearing of the operator becomes the "
        "portrait's [s]; 0: the first one counts for ever", low=0.0, high=3600.0, live=True)
    away_s: float = param(
        10.0, 'After how long an absence the operator may have sat down elsewhere: place and '
        'bearing are learned anew [s]', low=1.0, high=3600.0, live=True)
    idle_motion: float = param(
        1.0, 'How much the avatar breathes, blinks and sways while it does not follow its '
        'operator; 0: it stands still', low=0.0, high=1.0, live=True)
    eye_contact: float = param(
        0.8, 'How far eyes that look at the operator\'s screen are led into the camera that the '
        'avatar is seen by; 0: they stay as they are, 1: all the way', low=0.0, high=1.0,
        live=True)


class PosePlayback:
    """
    Show the operator's poses on an avatar, and bridge the gaps between them.

    Without a fresh pose the last one is held (``hold_s``), then the avatar eases into its
    portrait's pose; when poses return it eases back.  Whenever it does not follow its operator it
    breathes, blinks and sways, eased in and out too.  The picture never jumps and never freezes
    unmarked.

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
        self._retarget = Retargeting(avatar, model, self.config.recentre_s, self.config.ease_s)
        self._eye_contact = EyeContact(avatar, model, self.config.eye_contact)
        self._idle = avatar.portrait_pose
        self._idle_motion = IdleMotion(self._idle)
        self._idle_share = 0.0       # how far idle motion is eased in
        self._last_at_s: float | None = None
        self._live = self._idle      # the last retargeted pose
        self._shown = self._idle     # the last pose that was shown, without idle motion
        self._from = self._idle      # where the running transition started
        self._transition_start_s = -np.inf
        self._last_any_s = -np.inf   # when a pose arrived, seen or not
        self._last_seen_s = -np.inf  # when a pose of a visible operator arrived
        self._first_s: float | None = None  # when the first picture was asked for
        self._follows = False        # whether the avatar follows the operator

    def change(self, config: PlaybackConfig) -> None:
        """Take other times from now on."""
        self.config = config
        self._retarget.recentre_s, self._retarget.ease_s = config.recentre_s, config.ease_s
        self._eye_contact.share = config.eye_contact

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
        gap_s = now_s - self._last_seen_s
        if gap_s > self.config.hold_s:
            self._start_transition(now_s)
        if gap_s > self.config.away_s:
            self._retarget.forget()
            self._eye_contact.forget()
        elapsed_s = min(gap_s, self.config.away_s)
        self._live = self._eye_contact.applied(self._retarget(pose, elapsed_s), elapsed_s)
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
        if self._first_s is None:
            self._first_s = now_s
        unseen_s = now_s - max(self._last_seen_s, self._first_s)
        if self._follows and unseen_s <= self.config.hold_s:
            presence = Presence.LIVE
        elif unseen_s <= self.config.lost_s:
            presence = Presence.HOLDING
        elif now_s - max(self._last_any_s, self._first_s) <= self.config.lost_s:
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
        return replace(self._with_idle_motion(now_s, presence),
                       stamp_ns=self._live.stamp_ns), presence

    def _with_idle_motion(self, now_s: float, presence: Presence) -> OperatorPose:
        since_s = 0.0 if self._last_at_s is None else max(now_s - self._last_at_s, 0.0)
        self._last_at_s = now_s
        step = since_s / max(self.config.ease_s, 1e-6)
        self._idle_share = (max(self._idle_share - step, 0.0) if presence is Presence.LIVE
                            else min(self._idle_share + step, 1.0))
        share = self._idle_share * self._idle_share * (3 - 2 * self._idle_share)
        return self._idle_motion.applied(self._shown, now_s, self.config.idle_motion * share)

    def _start_transition(self, now_s: float) -> None:
        self._from = self._shown
        self._transition_start_s = now_s
