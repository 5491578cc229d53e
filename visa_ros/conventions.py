"""
Names, orders and frames, said once.  The prose is in doc/conventions.md.

Frames
------
body
    SMPL-X's canonical axes: x to the person's left, y up, z out of the chest; metres.  In the
    zero pose the person stands in a T-pose with the pelvis joint at the origin.
camera
    An optical frame (REP-103): x right, y down, z forward; metres.
image
    Pixels: x right, y down; the centre of the top left pixel is (0.5, 0.5).

Rotations are active: ``R_camera_body @ p_body`` is the point in camera axes.  Axis-angle vectors
are in radians; quaternions are ``wxyz`` as in gsplat (geometry_msgs is xyzw).  Joint rotations
are relative to the parent joint, in the axes that both have in the zero pose, as in SMPL-X.
Colours are RGB, sRGB-encoded: uint8 in images, float32 in [0, 1] in Gaussians.
"""
from typing import Final

# SMPL-X joints, in the model's own order (smplx/joint_names.py, the 55 that have a rotation).
JOINTS: Final = (
    'pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2',
    'left_ankle', 'right_ankle', 'spine3', 'left_foot', 'right_foot', 'neck', 'left_collar',
    'right_collar', 'head', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow',
    'left_wrist', 'right_wrist', 'jaw', 'left_eye', 'right_eye',
    'left_index1', 'left_index2', 'left_index3', 'left_middle1', 'left_middle2', 'left_middle3',
    'left_pinky1', 'left_pinky2', 'left_pinky3', 'left_ring1', 'left_ring2', 'left_ring3',
    'left_thumb1', 'left_thumb2', 'left_thumb3',
    'right_index1', 'right_index2', 'right_index3', 'right_middle1', 'right_middle2',
    'right_middle3', 'right_pinky1', 'right_pinky2', 'right_pinky3', 'right_ring1',
    'right_ring2', 'right_ring3', 'right_thumb1', 'right_thumb2', 'right_thumb3',
)

# Index of each joint's parent; -1 for the root.  A parent always comes before its children.
JOINT_PARENTS: Final = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
    20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
    21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
)

JOINT_INDEX: Final = {name: index for index, name in enumerate(JOINTS)}

# ARKit's 52 face blendshapes in the order of MediaPipe's face landmarker, which has the first 51;
# "left" is the person's own left.  Values lie in [0, 1].
BLENDSHAPES: Final = (
    'browDownLeft', 'browDownRight', 'browInnerUp', 'browOuterUpLeft', 'browOuterUpRight',
    'cheekPuff', 'cheekSquintLeft', 'cheekSquintRight', 'eyeBlinkLeft', 'eyeBlinkRight',
    'eyeLookDownLeft', 'eyeLookDownRight', 'eyeLookInLeft', 'eyeLookInRight',
    'eyeLookOutLeft', 'eyeLookOutRight', 'eyeLookUpLeft', 'eyeLookUpRight', 'eyeSquintLeft',
    'eyeSquintRight', 'eyeWideLeft', 'eyeWideRight', 'jawForward', 'jawLeft', 'jawOpen',
    'jawRight', 'mouthClose', 'mouthDimpleLeft', 'mouthDimpleRight', 'mouthFrownLeft',
    'mouthFrownRight', 'mouthFunnel', 'mouthLeft', 'mouthLowerDownLeft', 'mouthLowerDownRight',
    'mouthPressLeft', 'mouthPressRight', 'mouthPucker', 'mouthRight', 'mouthRollLower',
    'mouthRollUpper', 'mouthShrugLower', 'mouthShrugUpper', 'mouthSmileLeft',
    'mouthSmileRight', 'mouthStretchLeft', 'mouthStretchRight', 'mouthUpperUpLeft',
    'mouthUpperUpRight', 'noseSneerLeft', 'noseSneerRight', 'tongueOut',
)

BLENDSHAPE_INDEX: Final = {name: index for index, name in enumerate(BLENDSHAPES)}

# A value of 1 of the eyeLook shapes stands for about so many radians up or down, and sideways:
# ARKit's gaze saturates near the eye's range of 25 and 35 degrees.
EYE_LOOK_RAD: Final = (0.45, 0.6)
# How far a jawOpen of 1 turns the jaw joint: jaws open by about 20 degrees.
JAW_OPEN_RAD: Final = 0.35

# What OperatorPose.confidence speaks of.
PARTS: Final = ('body', 'face', 'left_arm', 'right_arm', 'left_hand', 'right_hand')

PART_INDEX: Final = {name: index for index, name in enumerate(PARTS)}

# Confidence from which on a part counts as seen.
SEEN: Final = 0.5

# Which part's confidence speaks of a joint; none does of those from pelvis to head, and of legs.
PART_OF_JOINT: Final = {
    JOINT_INDEX[joint]: PART_INDEX[part]
    for part, joints in (
        ('face', ('jaw', 'left_eye', 'right_eye')),
        *((f'{side}_arm', tuple(f'{side}_{name}' for name in (
            'collar', 'shoulder', 'elbow', 'wrist'))) for side in ('left', 'right')),
        *((f'{side}_hand', tuple(
            f'{side}_{finger}{bone}' for finger in ('index', 'middle', 'pinky', 'ring', 'thumb')
            for bone in (1, 2, 3))) for side in ('left', 'right')))
    for joint in joints}

# A picture of the avatar's features has 1/4 of the sides of its colours: the shader works there.
FEATURE_STRIDE: Final = 4

# What is splatted of how surfaces have turned: changed or not, the normal in the portrait, its
# change.
TURNING_CHANNELS: Final = 7
