"""A portrait in, an avatar out: at start, and on request through the action ``reconstruct``."""
from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import rclpy.action
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from visa_ros.action import Reconstruct
from visa_ros.config import Config, param
from visa_ros.errors import ConsentError, ResourceError, VisaError
from visa_ros.msg import GaussianAvatar as GaussianAvatarMsg
from visa_ros.nodes._conversions import avatar_to_msg
from visa_ros.nodes._diagnostics import Health
from visa_ros.nodes._qos import LATCHED
from visa_ros.nodes._run import StageNode, run
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.portrait import read_portrait
from visa_ros.reconstruction.reconstruct import (
    Progress,
    ReconstructionConfig,
    ReconstructionSummary,
)
from visa_ros.trust.consent import expiry, signed
from visa_ros.trust.keys import load_or_make_key
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.types import Consent, GaussianAvatar


@dataclass(frozen=True)
class AvatarConfig(Config):
    """Whose avatar is built when the node starts."""

    portrait: str = param(
        'demo', "Image file to build the avatar of at start, or a .visa file to show as it is; "
        "'demo' is a public-domain portrait, empty builds none")
    operator_id: str = param('operator', 'Whose likeness it is; only this operator moves it')
    consent_granted_by: str = param(
        'operator', 'Who agreed that this avatar exists; kept in its consent record')
    consent_days: float = param(
        90.0, 'How long the consent holds, days; each start of the node renews it; 0: for ever',
        low=0, high=36500)
    sign_requests: bool = param(
        False, 'Whether the action reconstruct builds and signs avatars for whoever calls it; on '
        'a graph without SROS 2 that is anybody in the network')


class _CancelledError(Exception):
    """The node has left the active state: nobody waits for this avatar any more."""


class AvatarReconstructionNode(StageNode):
    """
    Publishes ``avatar`` (latched), serves ``reconstruct``.

    The avatar built last is kept until cleanup and published again by each activation.

    Parameters
    ----------
    on_avatar : callable, optional
        Told each avatar in this process, in a thread of the node's.
    on_progress : callable, optional
        Told step and fraction while an avatar is built.

    """

    def __init__(self, on_avatar: Callable[[GaussianAvatar], None] | None = None,
                 on_progress: Progress | None = None, **kwargs: Any) -> None:
        super().__init__('avatar_reconstruction', {
            'reconstruction': ReconstructionConfig, 'avatar': AvatarConfig,
            'trust': TrustConfig}, **kwargs)
        self._on_avatar = on_avatar
        self._on_progress = on_progress
        self._built: tuple[GaussianAvatar, ReconstructionSummary] | None = None
        self._state = Health()
        self._busy = False

    def load(self, loaded: ExitStack) -> None:
        """Load nothing: building begins with the cache, which needs no network."""
        loaded.callback(self._unload)

    def _unload(self) -> None:
        self._built = None

    def open(self, opened: ExitStack) -> None:
        """Publish the avatar, build the first one, serve requests for others."""
        self._state = Health('no avatar built yet')
        self._publisher = self.publish_to(GaussianAvatarMsg, 'avatar', LATCHED)
        # Set by deactivation: the build at work ends with its next step, and nobody waits for it.
        self._stopping = Event()
        opened.callback(self._stopping.set)
        self._busy = False
        server = rclpy.action.ActionServer(
            self, Reconstruct, 'reconstruct', self._execute, goal_callback=self._accept)
        opened.callback(server.destroy)
        start = self.settings.of(AvatarConfig)
        if self._built:
            self._publish(*self._built)
        elif start.portrait:
            goal = Reconstruct.Goal(
                portrait_path=start.portrait, operator_id=start.operator_id,
                consent_granted_by=start.consent_granted_by)
            self._busy = True
            self._in_thread(lambda stopping: self._build(
                goal, self._report_start, stopping, requested=False))

    def _in_thread(self, work: Callable[[Event], object]) -> None:
        Thread(target=work, args=(self._stopping,), name='avatar_reconstruction',
               daemon=True).start()

    def _accept(self, goal: Reconstruct.Goal) -> rclpy.action.GoalResponse:
        if self._busy:
            self.get_logger().warning('a goal was rejected: an avatar is being built already')
            return rclpy.action.GoalResponse.REJECT
        self._busy = True
        return rclpy.action.GoalResponse.ACCEPT

    async def _execute(self, goal: ServerGoalHandle) -> Reconstruct.Result:
        """Build in a thread, so that the executor stays free; await its result."""
        done: Future = Future(executor=self.executor)

        def feed_back(step: str, fraction: float) -> None:
            goal.publish_feedback(Reconstruct.Feedback(step=step, progress=float(fraction)))

        self._in_thread(lambda stopping: done.set_result(
            self._build(goal.request, feed_back, stopping, requested=True)))
        result = await done
        if result.success:
            goal.succeed()
        else:
            goal.abort()
        return result

    def _report_start(self, step: str, fraction: float) -> None:
        self._state = Health(f'building: {step} {fraction:.0%}')
        if self._on_progress:
            self._on_progress(step, fraction)

    def _build(self, goal: Reconstruct.Goal, progress: Progress, stopping: Event, requested: bool
               ) -> Reconstruct.Result:
        start_s = time.monotonic()

        def go_on(step: str, fraction: float) -> None:
            if stopping.is_set():
                raise _CancelledError
            progress(step, fraction)

        try:
            if requested and not self.settings.of(AvatarConfig).sign_requests:
                raise ConsentError('avatars that are requested over ROS would be signed in the '
                                   "operator's name; to allow it set avatar.sign_requests")
            built = self._reconstruct(goal, go_on)
            go_on('publish', 1.0)
            self._built = built
            result = self._publish(*built)
        except _CancelledError:
            return Reconstruct.Result(message='cancelled: the node was deactivated')
        except VisaError as error:
            result = Reconstruct.Result(message=str(error))
        except Exception as error:  # a node does not die of a portrait
            result = Reconstruct.Result(message=f'unexpected {type(error).__name__}: {error}')
        finally:
            if stopping is self._stopping:
                self._busy = False
        result.seconds = time.monotonic() - start_s
        if result.success:
            self._state = Health(f'avatar {result.avatar_id[:12]}', values={
                'gaussians': result.gaussians, 'psnr_db': round(result.psnr_db, 2),
                'seconds': round(result.seconds, 1)})
        else:
            self.get_logger().error(f'no avatar was built: {result.message}')
            self._state = Health(result.message, warn=True)
        return result

    def _reconstruct(self, goal: Reconstruct.Goal, progress: Progress
                     ) -> tuple[GaussianAvatar, ReconstructionSummary]:
        if goal.portrait_path.endswith('.visa') and not goal.portrait:
            avatar = avatar_file.load(Path(goal.portrait_path))
            TrustStore(self.settings.of(TrustConfig)).check(avatar)
            return avatar, ReconstructionSummary(
                {}, len(avatar), math.nan, math.nan, math.nan, cached=True)
        portrait = read_portrait(bytes(goal.portrait) or goal.portrait_path)
        granted_by = goal.consent_granted_by or goal.operator_id
        now_ns = time.time_ns()
        consent = Consent(
            operator_id=goal.operator_id, granted_by=granted_by, granted_at_ns=now_ns,
            statement=f'{granted_by} agrees to an avatar of this portrait for telepresence',
            expires_at_ns=expiry(now_ns, self.settings.of(AvatarConfig).consent_days))
        avatar, summary = cached_avatar(
            portrait, consent, self.settings.of(ReconstructionConfig), progress)
        return self._signed(avatar), summary

    def _signed(self, avatar: GaussianAvatar) -> GaussianAvatar:
        """Sign with this account's key, and refuse what is revoked here."""
        trust = TrustStore(self.settings.of(TrustConfig))
        try:
            avatar = signed(avatar, load_or_make_key(trust.folder))
        except ResourceError as error:
            self.get_logger().warning(
                f'the avatar is not signed, robots will not show it: {error}')
            return avatar
        trust.check(avatar)
        return avatar

    def health(self) -> Health:
        """Return what is being built, or was."""
        return self._state

    def _publish(self, avatar: GaussianAvatar, summary: ReconstructionSummary
                 ) -> Reconstruct.Result:
        msg = avatar_to_msg(avatar, time.time_ns())
        self.send(self._publisher, msg)
        if self._on_avatar:
            self._on_avatar(avatar)
        return Reconstruct.Result(
            success=True, avatar_id=msg.avatar_id, gaussians=len(avatar),
            psnr_db=float(summary.psnr_db))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run(lambda: [AvatarReconstructionNode()], args)


if __name__ == '__main__':
    sys.exit(main())
