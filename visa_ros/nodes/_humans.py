"""The operator as ROS4HRI describes humans (REP-155), where hri_msgs is installed."""
from __future__ import annotations

import re

from sensor_msgs.msg import JointState

from visa_ros import humans
from visa_ros._optional import require
from visa_ros.nodes._conversions import header, joint_state_to_msg
from visa_ros.nodes._qos import STREAM_OUT
from visa_ros.nodes._run import StageNode
from visa_ros.types import Camera, Float32, OperatorPose


def ros_name(operator_id: str) -> str:
    """Return the id as names of topics and frames may hold it: not beginning with a digit."""
    return re.sub(r'\W|^(?=\d)', '_', operator_id, flags=re.ASCII)


class HumanOutputs:
    """
    Publish one operator under ``humans``; each topic only while somebody listens.

    ``bodies/tracked``, ``faces/tracked``: who is seen.  Of the operator, whose ``operator_id`` is
    ID: ``bodies/ID/{roi,skeleton2d,joint_states}``, ``faces/ID/{roi,landmarks,facs}``.  Relative
    to the namespace, as two publishers of one ``tracked`` would contradict each other.

    Parameters
    ----------
    node : StageNode
        Active.
    operator_id : str
        Whose topics these are.

    """

    def __init__(self, node: StageNode, operator_id: str) -> None:
        self._node = node
        self._id = operator_id = ros_name(operator_id)
        self._msgs = msgs = require('hri_msgs.msg')
        kinds = {'roi': msgs.NormalizedRegionOfInterest2D, 'skeleton2d': msgs.Skeleton2D,
                 'facs': msgs.FacialActionUnits, 'landmarks': msgs.FacialLandmarks}
        self._joints = node.publish_to(
            JointState, f'humans/bodies/{operator_id}/joint_states', STREAM_OUT)
        self._topics = {
            (kind, name): node.publish_to(
                kinds[name], f'humans/{kind}/{operator_id}/{name}', STREAM_OUT)
            for kind, name in (('bodies', 'roi'), ('bodies', 'skeleton2d'), ('faces', 'roi'),
                               ('faces', 'landmarks'), ('faces', 'facs'))}
        self._tracked = {kind: node.publish_to(msgs.IdsList, f'humans/{kind}/tracked', STREAM_OUT)
                         for kind in ('bodies', 'faces')}

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._node.wanted(self._joints, *self._topics.values(), *self._tracked.values())

    def publish(self, pose: OperatorPose, positions: Float32, camera: Camera,
                face: Float32 | None) -> None:
        """
        Publish one pose.

        Parameters
        ----------
        pose : OperatorPose
            Of somebody seen, or not.
        positions : (55, 3) float32
            Its joints in the camera's frame, metres.
        camera : Camera
            Of the image.
        face : (478, 2) float32, optional
            The face mesh that was seen in it, pixels.

        """
        if not self.wanted:
            return
        head = header(pose.stamp_ns, pose.frame_id)
        points = humans.key_points(pose, positions, camera)
        boxes = {'bodies': humans.body_box(pose, positions, camera),
                 'faces': humans.face_box(pose, positions, camera)}
        for kind, box in boxes.items():
            self._node.send(self._tracked[kind], self._msgs.IdsList(
                header=head, ids=[] if box is None else [self._id]))
            if box is not None:
                xmin, ymin, xmax, ymax = map(float, box)
                part = pose.confidence[0 if kind == 'bodies' else 1]
                self._node.send(self._topics[kind, 'roi'], self._msgs.NormalizedRegionOfInterest2D(
                    header=head, xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax, c=float(part)))
        if boxes['bodies'] is not None:
            self._node.send(self._joints, joint_state_to_msg(pose))
            self._node.send(self._topics['bodies', 'skeleton2d'], self._msgs.Skeleton2D(
                header=head, skeleton=self._points(points)))
        if boxes['faces'] is not None:
            intensity, confidence = humans.action_units(pose)
            self._node.send(self._topics['faces', 'facs'], self._msgs.FacialActionUnits(
                header=head, intensity=intensity, confidence=confidence))
            if face is not None:
                landmarks = humans.facial_landmarks(face, pose, camera)
                self._node.send(self._topics['faces', 'landmarks'], self._msgs.FacialLandmarks(
                    header=head, landmarks=self._points(landmarks), height=camera.height,
                    width=camera.width))

    def _points(self, points: Float32) -> list:
        return [self._msgs.NormalizedPointOfInterest2D(x=x, y=y, c=c)
                for x, y, c in points.tolist()]
