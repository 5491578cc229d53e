"""What the nodes publish of poses and frames; each topic only while somebody listens."""
from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from geometry_msgs.msg import Point, TransformStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from visa_ros._optional import available, require
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.conventions import JOINT_INDEX, JOINT_PARENTS
from visa_ros.display.config import VideoConfig
from visa_ros.msg import FrameTiming
from visa_ros.msg import OperatorPose as OperatorPoseMsg
from visa_ros.nodes._conversions import (
    ImageMessage,
    compressed_to_msg,
    header,
    joint_state_to_msg,
    points_to_msg,
    pose_to_msg,
)
from visa_ros.nodes._humans import HumanOutputs, ros_name
from visa_ros.nodes._qos import STREAM_OUT
from visa_ros.nodes._run import StageNode
from visa_ros.nodes._video import VideoOutput
from visa_ros.timing import StageTimes
from visa_ros.types import Camera, CoarseFrame, Float32, OperatorPose, Presence, ShadedFrame, UInt8

if TYPE_CHECKING:
    from visa_ros.stage import AvatarStage

# Columns: REP-155's body axes (x forward, y left, z up) in the body frame (x left, y up, z
# forward).
_R_BODY_REP155 = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
_BONES = [(joint, parent) for joint, parent in enumerate(JOINT_PARENTS) if parent >= 0]
_JPEG_QUALITY = 85


class PoseOutputs:
    """
    Publish operator poses: as message, joint angles, skeleton for rviz, TF and ROS4HRI's topics.

    The last two where tf2_ros and hri_msgs are installed.

    Parameters
    ----------
    node : StageNode
        Topics are relative to its namespace: ``operator_pose``, ``operator_joint_states``,
        ``skeleton``.
    operator_id : str
        Whose poses.

    """

    def __init__(self, node: StageNode, operator_id: str) -> None:
        self._node = node
        self._pose = node.publish_to(OperatorPoseMsg, 'operator_pose', STREAM_OUT)
        self._skeleton = node.publish_to(MarkerArray, 'skeleton', STREAM_OUT)
        self._joints = node.publish_to(JointState, 'operator_joint_states', STREAM_OUT)
        self._humans = HumanOutputs(node, operator_id) if available('hri_msgs') else None
        self._model = load_body_model()
        self._tf = (require('tf2_ros').TransformBroadcaster(node)
                    if available('tf2_ros') else None)
        if self._tf:
            assert node.opened is not None
            node.opened.callback(node.destroy_publisher, self._tf.pub_tf)

    @property
    def wanted(self) -> bool:
        """Whether anybody listens to poses in any form."""
        return self._node.wanted(
            self._pose, self._joints, self._skeleton, *([self._tf.pub_tf] if self._tf else ())
            ) or bool(self._humans and self._humans.wanted)

    def publish(self, pose: OperatorPose, camera: Camera | None,
                face: Float32 | None = None) -> None:
        """Publish one pose; ``camera`` is that of its image, ``face`` the mesh seen in it."""
        self._node.send(self._pose, pose_to_msg(pose))
        humans = self._humans if self._humans and self._humans.wanted and camera else None
        skeleton_wanted = self._node.wanted(self._skeleton)
        seen = bool(pose.confidence.any())
        if seen and self._node.wanted(self._joints):
            self._node.send(self._joints, joint_state_to_msg(pose))
        if not (humans or (seen and (skeleton_wanted or self._tf))):
            return
        joints = self._model.joints_template  # of the mean person: the pose has no shape
        transforms = joint_transforms(
            self._model, joints, pose.joint_rotations, pose.translation)
        positions = posed_joints(transforms, joints)
        if humans and camera:
            humans.publish(pose, positions, camera, face)
        if skeleton_wanted and seen:
            marker = _skeleton_marker(pose, positions)
            self._node.send(self._skeleton, MarkerArray(markers=[marker]))
        if self._tf and seen:
            operator = ros_name(pose.operator_id)
            self._tf.sendTransform([
                _transform(pose, f'{name}_{operator}', positions[JOINT_INDEX[joint]],
                           transforms[JOINT_INDEX[joint], :, :3]
                           @ self._model.rest_alignment[JOINT_INDEX[joint]].T)
                for name, joint in (('body', 'pelvis'), ('head', 'head'))])


class FrameOutputs:
    """
    Publish frames: pictures (raw, JPEG and H.264), timing, and the Gaussians as points.

    Parameters
    ----------
    node : StageNode
        Topics: ``shaded/image`` for the screen, ``coarse/image`` for the avatar alone, both also
        with ``/compressed``; ``avatar/points``, ``frame_timing``.
    video : VideoConfig
        Whether and how ``shaded/image`` is published as H.264, too.

    """

    def __init__(self, node: StageNode, video: VideoConfig) -> None:
        self._node = node
        self._pictures = {name: _PictureOutput(node, f'{name}/image')
                          for name in ('coarse', 'shaded')}
        self._points = node.publish_to(PointCloud2, 'avatar/points', STREAM_OUT)
        self._timing = node.publish_to(FrameTiming, 'frame_timing', STREAM_OUT)
        self._video = (VideoOutput(node, 'shaded/image', video)
                       if video.transport != 'none' else None)

    def change(self, video: VideoConfig) -> None:
        """Take other settings of the video."""
        if self._video:
            self._video.config = video

    @property
    def failed(self) -> bool:
        """Whether the video has stopped after a fault."""
        return bool(self._video and self._video.closed)

    def health(self) -> dict[str, object]:
        """Return what diagnostics say of the video."""
        video = self._video
        return {} if video is None else {
            'video': 'stopped' if self.failed else video.config.transport,
            'video_coded': video.coded, 'video_dropped': video.dropped}

    @property
    def wanted(self) -> bool:
        """Whether anybody listens to a picture or to the points."""
        return (self._node.wanted(self._points) or bool(self._video and self._video.wanted)
                or any(picture.wanted for picture in self._pictures.values()))

    def publish(self, frame: CoarseFrame, shaded: ShadedFrame, times: StageTimes, dropped: int,
                refused: int, stage: AvatarStage) -> None:
        """Publish one frame of a stage."""
        frame_id = stage.frame_id
        if self._pictures['coarse'].wanted and frame.rgb is not shaded.rgb:
            stage.mark(frame.rgb)
        self._pictures['coarse'].publish(frame.rgb, frame.stamp_ns, frame_id)
        self._pictures['shaded'].publish(shaded.rgb, frame.stamp_ns, frame_id, shaded.rgba)
        if self._video:
            self._video.publish(shaded, frame_id)
        if self._node.wanted(self._points):
            self._node.send(self._points, points_to_msg(*stage.points(), frame.stamp_ns, frame_id))
        live = frame.presence is Presence.LIVE
        latency_ms = (self._node.now_ns() - frame.stamp_ns) / 1e6 if live else 0.0
        self._node.send(self._timing, FrameTiming(
            header=header(frame.stamp_ns, frame_id), stages=list(times.ms),
            stage_ms=list(times.ms.values()), latency_ms=latency_ms, dropped=dropped,
            refused=refused, presence=int(frame.presence)))


class _PictureOutput:
    """A picture, raw and as JPEG, each while somebody listens."""

    def __init__(self, node: StageNode, topic: str) -> None:
        self._node = node
        self._image = node.publish_to(Image, topic, STREAM_OUT)
        self._jpeg = node.publish_to(CompressedImage, f'{topic}/compressed', STREAM_OUT)
        self._message = ImageMessage()

    @property
    def wanted(self) -> bool:
        return self._node.wanted(self._image, self._jpeg)

    def publish(self, rgb: UInt8, stamp_ns: int, frame_id: str, rgba: UInt8 | None = None
                ) -> None:
        if self._node.wanted(self._image):
            self._node.send(self._image, self._message.fill(
                rgb if rgba is None else rgba, stamp_ns, frame_id))
        if self._node.wanted(self._jpeg):
            _, jpeg = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
                                   (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
            self._node.send(self._jpeg, compressed_to_msg(jpeg.tobytes(), stamp_ns, frame_id))


def _skeleton_marker(pose: OperatorPose, positions: Float32) -> Marker:
    points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in positions]
    marker = Marker(header=header(pose.stamp_ns, pose.frame_id), ns=pose.operator_id,
                    type=Marker.LINE_LIST, action=Marker.ADD,
                    color=ColorRGBA(r=0.2, g=0.8, b=1.0, a=1.0))
    marker.scale.x = 0.008
    marker.pose.orientation.w = 1.0
    marker.lifetime.sec = 1
    marker.points = [points[end] for bone in _BONES for end in bone]
    return marker


def _transform(pose: OperatorPose, child: str, position: Float32,
               R_camera_body: Float32) -> TransformStamped:
    transform = TransformStamped(header=header(pose.stamp_ns, pose.frame_id),
                                 child_frame_id=child)
    t, q = transform.transform.translation, transform.transform.rotation
    t.x, t.y, t.z = map(float, position)
    q.x, q.y, q.z, q.w = map(float, Rotation.from_matrix(R_camera_body @ _R_BODY_REP155).as_quat())
    return transform
