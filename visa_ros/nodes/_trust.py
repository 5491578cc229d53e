"""An avatar is shown only as long as it may be."""
from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType

from visa_ros.errors import ConsentError, ResourceError
from visa_ros.nodes._run import StageNode
from visa_ros.stage import AvatarStage
from visa_ros.trust.store import TrustStore

_EVERY_S = 10.0


def watch_consent(node: StageNode, trust: TrustStore,
                  shown: Callable[[], AvatarStage | None]) -> None:
    """
    Take an avatar off the screen when its consent expires or is revoked, until deactivation.

    Parameters
    ----------
    node : StageNode
        Whose timer looks.
    trust : TrustStore
        Decides.
    shown : callable
        Returns what the node shows.

    """
    def look() -> None:
        stage = shown()
        if stage is None or stage.withdrawn:
            return
        try:
            trust.check_standing(stage.avatar.consent, stage.avatar_id)
        except (ConsentError, ResourceError) as error:
            stage.withdraw()
            node.get_logger().error(f'the avatar is shown no more: {error}')

    assert node.opened is not None
    # Steady: also while /clock stands still.
    timer = node.create_timer(_EVERY_S, look, clock=Clock(clock_type=ClockType.STEADY_TIME))
    node.opened.callback(node.destroy_timer, timer)
