"""A recorded stream of poses, kept as rosbag2 keeps it (MCAP), is played back bit by bit."""
from pathlib import Path

from graph import Watcher, node_process
from mcap.reader import make_reader
from mcap.writer import Writer
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from visa_ros.msg import OperatorPose
from visa_ros.nodes._conversions import pose_from_msg, stamp_from_msg

_RELIABLE = QoSProfile(depth=1000)
_SCHEMA = f'\n{"=" * 80}\n'.join((
    (Path(__file__).resolve().parents[1] / 'msg' / 'OperatorPose.msg').read_text(),
    'MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n',
    'MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n'))


def write_bag(path, topic, messages):
    """Write serialized poses as a file of rosbag2's MCAP storage."""
    with path.open('wb') as file:
        writer = Writer(file)
        writer.start('ros2', 'visa_ros')
        schema = writer.register_schema('visa_ros/msg/OperatorPose', 'ros2msg', _SCHEMA.encode())
        channel = writer.register_channel(topic, 'cdr', schema)
        for data in messages:
            stamp_ns = stamp_from_msg(deserialize_message(data, OperatorPose).header.stamp)
            writer.add_message(channel, log_time=stamp_ns, publish_time=stamp_ns, data=data)
        writer.finish()


def test_poses_are_recorded_and_replayed_bit_by_bit(ros_domain, astronaut, tmp_path):
    watcher = Watcher('recorder')
    try:
        recorded = watcher.subscribe(OperatorPose, 'operator_pose', _RELIABLE, raw=True)
        with node_process('pose_capture'), node_process('video_source'):
            watcher.wait(lambda: len(recorded) >= 20, 'twenty poses')
        live = [bytes(data) for data in recorded]
        write_bag(tmp_path / 'poses.mcap', 'operator_pose', live)

        with (tmp_path / 'poses.mcap').open('rb') as file:
            kept = [message.data for _, _, message in make_reader(file).iter_messages()]
        assert kept == live
        played = watcher.subscribe(OperatorPose, 'replayed/operator_pose', _RELIABLE, raw=True)
        publisher = watcher.node.create_publisher(
            OperatorPose, 'replayed/operator_pose', _RELIABLE)
        watcher.wait(publisher.get_subscription_count, 'a listener')
        for data in kept:
            publisher.publish(data)
        watcher.wait(lambda: len(played) == len(kept), 'all of them')
        assert [bytes(data) for data in played] == live
        assert any(pose_from_msg(deserialize_message(data, OperatorPose)).confidence.any()
                   for data in kept)
    finally:
        watcher.close()
