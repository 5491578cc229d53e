"""Between this package's types and ROS messages: the only place that knows both."""
from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from visa_ros.capture.encodings import decode_compressed, decode_image
from visa_ros.conventions import JOINTS
from visa_ros.errors import AvatarError, ImageError, PoseError
from visa_ros.humans import HINGES, hinge_angles
from visa_ros.msg import GaussianAvatar as GaussianAvatarMsg
from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.reconstruction import avatar_file
from visa_ros.rendering.background import over_stand_in
from visa_ros.types import (
    CameraImage,
    Float32,
    GaussianAvatar,
    OperatorPose,
    Presence,
    ShadedFrame,
    UInt8,
)

_NS = 1_000_000_000
_MAX_TEXT = 4096
# Of a message's rotations, radians: 0.006 degrees.
_ROTATION_UNIT = np.float32(1e-4)


def stamp_to_msg(stamp_ns: int) -> Time:
    """Return nanoseconds since the epoch as a message."""
    return Time(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)


def stamp_from_msg(stamp: Time) -> int:
    """Return a message's time as nanoseconds since the epoch."""
    return stamp.sec * _NS + stamp.nanosec


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header."""
    return Header(stamp=stamp_to_msg(stamp_ns), frame_id=frame_id)


def _why_bad(head: Header) -> str:
    """Return what is wrong with a header that came from elsewhere; '' if nothing is."""
    if len(head.frame_id) > _MAX_TEXT:
        return f'with a name of more than {_MAX_TEXT} characters'
    if head.stamp.sec < 0 or head.stamp.nanosec >= _NS:
        return f'with the time {head.stamp.sec} s {head.stamp.nanosec} ns'
    return ''


class ImageMessage:
    """An Image message whose buffer is kept: filling it copies once and allocates nothing."""

    def __init__(self) -> None:
        self._msg = Image()
        self._pixels = np.empty(0, np.uint8)

    def fill(self, rgb: UInt8, stamp_ns: int, frame_id: str) -> Image:
        """Return the message holding a (H, W, 3) or rgba8 (H, W, 4) picture, until the next."""
        height, width, channels = rgb.shape
        if len(self._pixels) != rgb.size:
            # Only an array.array is fast here (any other sequence costs 20 ms or more); the
            # message may copy it, so look at what the message has.
            self._msg.data = array('B', bytes(rgb.size))
            self._pixels = np.frombuffer(self._msg.data, np.uint8)
            self._msg.height, self._msg.width, self._msg.step = height, width, channels * width
            self._msg.encoding = 'rgba8' if channels == 4 else 'rgb8'
        self._pixels.reshape(rgb.shape)[:] = rgb
        self._msg.header = header(stamp_ns, frame_id)
        return self._msg


def image_from_msg(msg: Image | CompressedImage) -> CameraImage:
    """
    Return a camera image; rgb8 without padding is not copied.

    Raises
    ------
    ImageError
        Unknown encoding, sizes that do not fit the data, no JPEG or PNG, or a time that is none.

    """
    if bad := _why_bad(msg.header):
        raise ImageError(f'an image {bad} was refused; mend who sends it')
    data = np.frombuffer(msg.data, np.uint8)
    rgb = (decode_image(msg.encoding, msg.width, msg.height, msg.step, data)
           if isinstance(msg, Image) else decode_compressed(data))
    return CameraImage(rgb, stamp_from_msg(msg.header.stamp), msg.header.frame_id)


def picture_from_msg(msg: Image | CompressedImage, presence: Presence) -> ShadedFrame:
    """
    Return a picture for the screen; rgba8 is also shown over a colour.

    Raises
    ------
    ImageError
        As ``image_from_msg``.

    """
    image = image_from_msg(msg)
    if not (isinstance(msg, Image) and msg.encoding == 'rgba8'):
        return ShadedFrame(image.rgb, image.stamp_ns, presence)
    rows = np.frombuffer(msg.data, np.uint8)[:msg.step * msg.height].reshape(msg.height, msg.step)
    rgba = rows[:, :4 * msg.width].reshape(msg.height, msg.width, 4)
    return ShadedFrame(over_stand_in(rgba), image.stamp_ns, presence, rgba)


def compressed_to_msg(jpeg: bytes, stamp_ns: int, frame_id: str) -> CompressedImage:
    """Return a JPEG as a message, with image_transport's format string."""
    return CompressedImage(header=header(stamp_ns, frame_id), data=array('B', jpeg),
                           format='rgb8; jpeg compressed bgr8')


def pose_to_msg(pose: OperatorPose) -> OperatorPoseMsg:
    """Return the pose as a message."""
    return OperatorPoseMsg(
        header=header(pose.stamp_ns, pose.frame_id), operator_id=pose.operator_id,
        version=OperatorPoseMsg.VERSION,
        joint_rotations=np.rint(_within_half_a_turn(pose.joint_rotations) / _ROTATION_UNIT
                                ).astype(np.int16).reshape(-1),
        translation=pose.translation.astype(np.float32),
        blendshapes=_bytes(pose.blendshapes), confidence=_bytes(pose.confidence))


def _bytes(values: Float32) -> UInt8:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _within_half_a_turn(vectors: Float32) -> Float32:
    """Return the same rotations, (N, 3) axis-angle, turned the shorter way round."""
    angles = np.linalg.norm(vectors, axis=1, keepdims=True)
    turns = np.rint(angles / (2 * np.pi))
    return vectors * (1 - 2 * np.pi * turns / np.maximum(angles, 1))


def pose_from_msg(msg: OperatorPoseMsg) -> OperatorPose:
    """
    Return the message's pose.

    Raises
    ------
    PoseError
        It holds NaN or infinity, or a time or length that is none, or is of another version.

    """
    if msg.version != OperatorPoseMsg.VERSION:
        raise PoseError(f'a pose of version {msg.version} was refused, this package reads '
                        f'{OperatorPoseMsg.VERSION}; install the same release of visa_ros on the '
                        'operator\'s and the robot\'s side')
    if len(msg.operator_id) > _MAX_TEXT:
        raise PoseError(f'a pose of an operator with more than {_MAX_TEXT} characters was refused')
    if bad := _why_bad(msg.header):
        raise PoseError(f'a pose {bad} was refused; mend who sends it')
    return OperatorPose(
        joint_rotations=(np.asarray(msg.joint_rotations, np.float32) * _ROTATION_UNIT
                         ).reshape(len(JOINTS), 3),
        translation=np.asarray(msg.translation, np.float32),
        blendshapes=np.asarray(msg.blendshapes, np.float32) / np.float32(255),
        confidence=np.asarray(msg.confidence, np.float32) / np.float32(255),
        stamp_ns=stamp_from_msg(msg.header.stamp), frame_id=msg.header.frame_id,
        operator_id=msg.operator_id)


def joint_state_to_msg(pose: OperatorPose) -> JointState:
    """Return the pose as angles of three hinges a joint, the root left out."""
    return JointState(header=header(pose.stamp_ns, pose.frame_id), name=HINGES,
                      position=hinge_angles(pose).tolist())


def avatar_to_msg(avatar: GaussianAvatar, stamp_ns: int) -> GaussianAvatarMsg:
    """Return the avatar as a message."""
    return GaussianAvatarMsg(
        header=header(stamp_ns, avatar.portrait_pose.frame_id),
        avatar_id=avatar_file.avatar_id(avatar), body_model=avatar.body_model,
        operator_id=avatar.consent.operator_id, data=array('B', avatar_file.encode(avatar)))


def avatar_from_msg(msg: GaussianAvatarMsg) -> GaussianAvatar:
    """
    Return the message's avatar.

    Raises
    ------
    AvatarError
        The block is damaged, or is not the one that the message names.

    """
    avatar = avatar_file.decode(bytes(msg.data))
    if (avatar_file.avatar_id(avatar), avatar.consent.operator_id) != (
            msg.avatar_id, msg.operator_id):
        raise AvatarError(f'the avatar received is not {msg.avatar_id[:12]!r} of '
                          f'{msg.operator_id[:60]!r}, as its message says; publish it again')
    return avatar


def points_to_msg(points: Float32, colors: Float32, stamp_ns: int, frame_id: str) -> PointCloud2:
    """Return (N, 3) points in metres with (N, 3) sRGB colours in [0, 1] as a cloud for rviz."""
    rgb = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint32)
    packed = np.empty((len(points), 4), np.float32)
    packed[:, :3] = points
    packed[:, 3] = (rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]).view(np.float32)
    fields = [PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
              for index, name in enumerate(('x', 'y', 'z', 'rgb'))]
    return PointCloud2(header=header(stamp_ns, frame_id), height=1, width=len(points),
                       fields=fields, is_bigendian=False, point_step=16,
                       row_step=16 * len(points), data=array('B', packed.tobytes()),
                       is_dense=True)
