"""
What other robots' software asks about the operator: joint angles, and ROS4HRI's view (REP-155).

ROS4HRI describes a human by joints, 18 key points, boxes in the image, 70 landmarks of the face
and FACS action units; ``nodes/_humans.py`` publishes them where ``hri_msgs`` is installed.
Nothing here is tracked anew: all of it is the ``OperatorPose``, or the face mesh that it was
solved from, said in other words.
"""
from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINTS, PART_INDEX
from visa_ros.types import Camera, Float32, OperatorPose

# Each joint but the root as three hinges, first to last.  The middle one must stay away from 90
# degrees, where the others have no value of their own: of an arm, which points along x in the
# zero pose, that is x (its twist); of all others it is y.
_ARM = ('collar', 'shoulder', 'elbow', 'wrist', 'index', 'middle', 'pinky', 'ring', 'thumb')
_HINGED = {order: [index for index, name in enumerate(JOINTS) if index and
                   (order == 'YXZ') == any(part in name for part in _ARM)]
           for order in ('YXZ', 'XYZ')}

HINGES = tuple(f'{JOINTS[joint]}_{axis.lower()}'
               for order, joints in _HINGED.items() for joint in joints for axis in order)

# hri_msgs/Skeleton2D's key points that the pose has; nose and ears are none of its joints.
KEY_POINTS = {
    1: 'neck', 2: 'right_shoulder', 3: 'right_elbow', 4: 'right_wrist', 5: 'left_shoulder',
    6: 'left_elbow', 7: 'left_wrist', 8: 'right_hip', 9: 'right_knee', 10: 'right_ankle',
    11: 'left_hip', 12: 'left_knee', 13: 'left_ankle', 14: 'left_eye', 15: 'right_eye'}
KEY_POINT_COUNT = 18
_KEY_POINTS = np.array(list(KEY_POINTS))
_KEY_JOINTS = np.array([JOINT_INDEX[name] for name in KEY_POINTS.values()])
_KEY_PARTS = np.array([PART_INDEX[
    f'{name.split("_")[0]}_arm' if 'elbow' in name or 'wrist' in name
    else 'face' if 'eye' in name else 'body'] for name in KEY_POINTS.values()])

# FACS action units (Ekman and Friesen 1978; numbers as in hri_msgs/FacialActionUnits) and the
# ARKit blendshapes (Apple, ARFaceAnchor.BlendShapeLocation) that show the same movement.  An
# action of one side counts as the action; both sides are given as the stronger one.
ACTION_UNITS = {
    1: ('browInnerUp',), 2: ('browOuterUpLeft', 'browOuterUpRight'),
    4: ('browDownLeft', 'browDownRight'), 5: ('eyeWideLeft', 'eyeWideRight'),
    6: ('cheekSquintLeft', 'cheekSquintRight'), 7: ('eyeSquintLeft', 'eyeSquintRight'),
    9: ('noseSneerLeft', 'noseSneerRight'), 10: ('mouthUpperUpLeft', 'mouthUpperUpRight'),
    12: ('mouthSmileLeft', 'mouthSmileRight'), 14: ('mouthDimpleLeft', 'mouthDimpleRight'),
    15: ('mouthFrownLeft', 'mouthFrownRight'), 16: ('mouthLowerDownLeft', 'mouthLowerDownRight'),
    17: ('mouthShrugLower',), 18: ('mouthPucker',), 19: ('tongueOut',),
    20: ('mouthStretchLeft', 'mouthStretchRight'), 22: ('mouthFunnel',),
    24: ('mouthPressLeft', 'mouthPressRight'), 26: ('jawOpen',),
    28: ('mouthRollLower', 'mouthRollUpper'), 29: ('jawForward',), 30: ('jawLeft', 'jawRight'),
    34: ('cheekPuff',), 61: ('eyeLookOutLeft', 'eyeLookInRight'),
    62: ('eyeLookInLeft', 'eyeLookOutRight'), 63: ('eyeLookUpLeft', 'eyeLookUpRight'),
    64: ('eyeLookDownLeft', 'eyeLookDownRight')}
_LIPS_PART, _BLINK, _WINK = 25, 45, 46
ACTION_UNIT_COUNT = 99

# hri_msgs/FacialLandmarks: the 68 points of the iBUG annotation (Sagonas et al. 2013) and the
# pupils, and where each is in MediaPipe's face mesh (468 points and the irises).
FACE_MESH = np.array([
    127, 234, 93, 58, 172, 136, 149, 148, 152,          # right ear along the jaw to the chin
    377, 378, 365, 397, 288, 323, 454, 356,             # and on to the left ear
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,      # brows, right to left
    168, 197, 5, 4, 98, 97, 2, 326, 327,                # nose: its bridge to the tip, nostrils
    33, 160, 158, 133, 153, 144,                        # right eye, from outside over the top
    362, 385, 387, 263, 373, 380,                       # left eye, from inside over the top
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips' outline, from the right corner
    78, 81, 13, 311, 308, 402, 14, 178,                 # and their inner edge
    468, 473])                                          # pupils, right and left

# Half a face around the middle of the eyes, metres, x right and y down, with room for hair and
# chin: a mean adult head is 0.15 wide and 0.23 high.
_FACE_M = np.array([[-0.09, -0.12], [0.09, 0.12]], np.float32)
_BODY_MARGIN = 0.1  # of the joints' box, on each side


def hinge_angles(pose: OperatorPose) -> Float32:
    """
    Return the pose as angles of hinges, (162,) float32 in radians, in the order of ``HINGES``.

    A joint's rotation is the product of its three, in their order: R = R_first R_middle R_last.
    """
    angles = [Rotation.from_rotvec(pose.joint_rotations[joints]).as_euler(
        order, suppress_warnings=True).ravel() for order, joints in _HINGED.items()]
    return np.concatenate(angles).astype(np.float32)


def action_units(pose: OperatorPose) -> tuple[Float32, Float32]:
    """
    Return the face as FACS action units.

    Returns
    -------
    intensity, confidence : (99,) float32
        In [0, 1], by the units' numbers; units that blendshapes do not tell have confidence 0.

    """
    shapes = pose.blendshapes
    intensity = np.zeros(ACTION_UNIT_COUNT, np.float32)
    confidence = np.zeros(ACTION_UNIT_COUNT, np.float32)
    for unit, names in ACTION_UNITS.items():
        intensity[unit] = max(shapes[BLENDSHAPE_INDEX[name]] for name in names)
    lids = shapes[[BLENDSHAPE_INDEX['eyeBlinkLeft'], BLENDSHAPE_INDEX['eyeBlinkRight']]]
    intensity[_BLINK], intensity[_WINK] = lids.min(), lids.max() - lids.min()
    intensity[_LIPS_PART] = max(0.0, shapes[BLENDSHAPE_INDEX['jawOpen']]
                                - shapes[BLENDSHAPE_INDEX['mouthClose']])
    confidence[[*ACTION_UNITS, _LIPS_PART, _BLINK, _WINK]] = pose.confidence[PART_INDEX['face']]
    return intensity, confidence


def key_points(pose: OperatorPose, positions: Float32, camera: Camera) -> Float32:
    """
    Return the 18 key points of ``hri_msgs/Skeleton2D`` in the image.

    Parameters
    ----------
    pose : OperatorPose
        For its confidences.
    positions : (55, 3) float32
        Its joints in the camera's frame, metres.
    camera : Camera
        Of the image.

    Returns
    -------
    (18, 3) float32
        x and y over width and height, and confidence; all 0 where the pose has no such point or
        it is not in the image.

    """
    points = np.zeros((KEY_POINT_COUNT, 3), np.float32)
    points[_KEY_POINTS, :2] = _projected(positions[_KEY_JOINTS], camera)
    points[_KEY_POINTS, 2] = pose.confidence[_KEY_PARTS]
    return _inside(points)


def _inside(points: Float32) -> Float32:
    """Set what is not in the image, or not known, to 0."""
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= 1)).all(1) & (points[:, 2] > 0)
    points[~inside] = 0
    return points


def facial_landmarks(face: Float32, pose: OperatorPose, camera: Camera) -> Float32:
    """
    Return the 70 landmarks of ``hri_msgs/FacialLandmarks`` in the image.

    Parameters
    ----------
    face : (478, 2) float32
        MediaPipe's face mesh with irises, pixels.
    pose : OperatorPose
        For its confidence.
    camera : Camera
        Of the image.

    Returns
    -------
    (70, 3) float32
        x and y over width and height, and confidence; all 0 where a point is not in the image.

    """
    points = np.empty((len(FACE_MESH), 3), np.float32)
    points[:, :2] = face[FACE_MESH] / (camera.width, camera.height)
    points[:, 2] = pose.confidence[PART_INDEX['face']]
    return _inside(points)


def body_box(pose: OperatorPose, positions: Float32, camera: Camera) -> Float32 | None:
    """Return xmin, ymin, xmax, ymax of head and joints, cut at the image; None if not seen."""
    joints = _projected(positions[_KEY_JOINTS[pose.confidence[_KEY_PARTS] > 0]], camera)
    joints = joints[np.isfinite(joints).all(1)]
    if not len(joints):
        return None
    margin = _BODY_MARGIN * np.ptp(joints, axis=0)
    corners = [joints.min(0) - margin, joints.max(0) + margin]
    head = face_box(pose, positions, camera)
    if head is not None:
        corners += [head[:2], head[2:]]
    low, high = np.clip([np.min(corners, 0), np.max(corners, 0)], 0, 1)
    return np.concatenate([low, high]).astype(np.float32) if (high > low).all() else None


def face_box(pose: OperatorPose, positions: Float32, camera: Camera) -> Float32 | None:
    """Return xmin, ymin, xmax, ymax of a head of mean size around the eyes; None if not seen."""
    eyes = positions[[JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]].mean(0)
    if not pose.confidence[PART_INDEX['face']] or eyes[2] <= 0:
        return None
    corners = eyes + np.pad(_FACE_M, ((0, 0), (0, 1)))
    box = np.clip(_projected(corners, camera), 0, 1)
    return box.ravel() if (box[1] > box[0]).all() else None


def _projected(points: Float32, camera: Camera) -> Float32:
    """Return (N, 2): where points in the camera's frame are, over width and height."""
    with np.errstate(divide='ignore', invalid='ignore'):
        pixels = camera.project(points)
    pixels[points[:, 2] <= 0] = np.nan
    return (pixels / (camera.width, camera.height)).astype(np.float32)
