"""The quality of service of every topic, in one place."""
from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

# Offered by publishers of streams: any subscriber matches, reliable or not (REP-2003).
STREAM_OUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)

# Asked for by subscribers of streams: the latest or nothing, never a backlog.
STREAM_IN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

# Of streams whose messages build on each other: what is lost is sent again, until a keyframe has
# come instead.
VIDEO_OUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=30, reliability=ReliabilityPolicy.RELIABLE)

# State that late joiners must get: the avatar.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _bounded(qos: QoSProfile) -> SetParametersResult:
    if qos.history is HistoryPolicy.KEEP_LAST and qos.depth > 0:
        return SetParametersResult(successful=True)
    return SetParametersResult(
        successful=False, reason='history must be keep_last with a depth of 1 or more: a backlog '
        'makes the picture late')


# Reliability, history and depth of each topic as parameters qos_overrides.TOPIC.publisher.DEPTH.
OVERRIDES = QoSOverridingOptions.with_default_policies(callback=_bounded)
