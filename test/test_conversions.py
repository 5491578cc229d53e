"""Types to messages and back."""
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import samples
from visa_ros.errors import ImageError, PoseError
from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.nodes._conversions import (
    ImageMessage,
    compressed_to_msg,
    image_from_msg,
    picture_from_msg,
    points_to_msg,
    pose_from_msg,
    pose_to_msg,
    stamp_from_msg,
    stamp_to_msg,
)
from visa_ros.types import OperatorPose, Presence

_STAMP_NS = 1_700_000_000_123_456_789


def test_stamps_keep_every_nanosecond():
    assert stamp_from_msg(stamp_to_msg(_STAMP_NS)) == _STAMP_NS


def test_pictures_of_any_size_go_through_one_reused_message():
    message = ImageMessage()
    photo = samples.portrait()
    for rgb in (photo, photo[::-1], photo[:100, :130], photo):
        image = image_from_msg(message.fill(rgb, _STAMP_NS, 'eye'))
        np.testing.assert_array_equal(image.rgb, rgb)
        assert (image.stamp_ns, image.frame_id) == (_STAMP_NS, 'eye')
    buffer = message.fill(photo, 0, '').data
    assert message.fill(photo[::-1], 0, '').data is buffer  # nothing is allocated again


def test_a_transparent_picture_is_shown_over_a_colour():
    photo = samples.portrait()
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:, 200:], alpha[:, 400:] = 128, 255
    rgba = np.dstack([photo, alpha])
    message = ImageMessage().fill(rgba, _STAMP_NS, 'eye')
    assert (message.encoding, message.step) == ('rgba8', 4 * 512)
    frame = picture_from_msg(message, Presence.HOLDING)
    assert (frame.stamp_ns, frame.presence) == (_STAMP_NS, Presence.HOLDING)
    np.testing.assert_array_equal(frame.rgba, rgba)
    np.testing.assert_array_equal(frame.rgb[:, 400:], photo[:, 400:])
    assert (frame.rgb[:, :200] == (0x2b, 0x30, 0x38)).all()
    between = photo[:, 200:400] / 2 + np.array((0x2b, 0x30, 0x38)) / 2
    assert np.abs(frame.rgb[:, 200:400] - between).max() < 1.5
    plain = picture_from_msg(ImageMessage().fill(photo, _STAMP_NS, 'eye'), Presence.LIVE)
    assert plain.rgba is None
    np.testing.assert_array_equal(plain.rgb, photo)


def test_jpeg_comes_back_nearly_as_it_was():
    import cv2

    photo = samples.portrait()
    _, jpeg = cv2.imencode('.jpg', photo[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    image = image_from_msg(compressed_to_msg(jpeg.tobytes(), _STAMP_NS, 'eye'))
    assert np.abs(image.rgb.astype(int) - photo).mean() < 4
    with pytest.raises(ImageError):
        image_from_msg(compressed_to_msg(jpeg.tobytes()[:200], 0, 'eye'))


def test_pose_round_trip_and_its_size_on_the_wire():
    from rclpy.serialization import serialize_message

    rng = np.random.default_rng(0)
    pose = OperatorPose(
        rng.normal(0, 2, size=(55, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32),
        rng.uniform(size=52).astype(np.float32), rng.uniform(size=6).astype(np.float32),
        _STAMP_NS, 'camera_optical_frame', 'ada')
    message = pose_to_msg(pose)
    back = pose_from_msg(message)
    turned = (Rotation.from_rotvec(back.joint_rotations)
              * Rotation.from_rotvec(pose.joint_rotations).inv()).magnitude()
    assert turned.max() < 1e-4
    np.testing.assert_array_equal(pose_to_msg(back).joint_rotations, message.joint_rotations)
    np.testing.assert_array_equal(back.translation, pose.translation)
    np.testing.assert_allclose(back.blendshapes, pose.blendshapes, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(back.confidence, pose.confidence, atol=0.5 / 255 + 1e-6)
    assert (back.stamp_ns, back.frame_id, back.operator_id) == (
        _STAMP_NS, 'camera_optical_frame', 'ada')
    assert len(serialize_message(message)) <= 500
    message.translation[1] = np.inf
    with pytest.raises(PoseError, match='translation'):
        pose_from_msg(message)


def test_a_pose_of_another_release_is_refused():
    from rclpy.serialization import deserialize_message, serialize_message
    from std_msgs.msg import Header

    def words(values):  # of CDR, aligned to four bytes
        return np.asarray(values).astype('<f4').tobytes()

    start = serialize_message(Header(stamp=stamp_to_msg(_STAMP_NS), frame_id='eye'))
    start += bytes(-(len(start) - 4) % 4)
    start += (4).to_bytes(4, 'little') + b'ada\0'
    facing = np.zeros(165)
    facing[0] = np.pi
    for rotations in (facing, np.zeros(165), np.full(165, -0.3)):  # as release 0.1.0 sent them
        old = start + words(rotations) + words(np.ones(3)) + bytes(52) + words(np.ones(6))
        message = deserialize_message(old, OperatorPoseMsg)
        assert message.operator_id == 'ada'
        with pytest.raises(PoseError, match=r'version .* same release'):
            pose_from_msg(message)


def test_points_carry_place_and_colour():
    points = np.float32([[1, 2, 3], [4, 5, 6]])
    message = points_to_msg(points, np.float32([[1, 0, 0], [0, 0.5, 1]]), 0, 'eye')
    packed = np.frombuffer(message.data, np.float32).reshape(2, 4)
    np.testing.assert_array_equal(packed[:, :3], points)
    assert [hex(value) for value in packed[:, 3].copy().view(np.uint32)] == ['0xff0000', '0x80ff']
