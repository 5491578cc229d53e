"""What of the avatar the picture shows: another cut of the portrait's view."""
from __future__ import annotations

import numpy as np

from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import BodyModel
from visa_ros.conventions import JOINT_INDEX
from visa_ros.types import Camera, GaussianAvatar

FRAMINGS = ('portrait', 'upper_body', 'head')

# Above and below the eyes, in distances of the eyes from the neck joint (about 19 cm).
_CUTS = {'upper_body': (1.15, 3.6), 'head': (1.1, 1.2)}


def framed(avatar: GaussianAvatar, model: BodyModel, framing: str, width: int,
           height: int) -> Camera:
    """
    Return the camera of a framing.

    It stands where the portrait's stands, so the avatar is seen from the side that the portrait
    shows, and gaze and depth stay what they are; focal length and principal point alone differ.
    It depends on the portrait's pose and not on the operator's: the frame is still.

    Parameters
    ----------
    avatar : GaussianAvatar
    model : BodyModel
        Its body.
    framing : {'portrait', 'upper_body', 'head'}
        The portrait's own cut; chest and arms; head and neck.
    width, height : int
        Of the picture, pixels; its shorter side shows what the framing says.

    """
    if framing == 'portrait':
        return avatar.camera.resized(width, height)
    pose = avatar.portrait_pose
    _, joints = model.shaped(avatar.betas)
    places = posed_joints(joint_transforms(
        model, joints, pose.joint_rotations, pose.translation), joints)
    eyes = places[[JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]].mean(0)
    neck = places[JOINT_INDEX['neck']]
    unit = float(np.linalg.norm(eyes - neck))
    above, below = _CUTS[framing]
    # On the plane at depth 1.  Below the portrait's lower edge the body may end.
    lowest = (avatar.camera.height - avatar.camera.K[1, 2]) / avatar.camera.K[1, 1]
    top = (eyes[1] - above * unit) / eyes[2]
    bottom = min((eyes[1] + below * unit) / eyes[2], lowest)
    middle = eyes[0] / eyes[2] if framing == 'head' else neck[0] / neck[2]
    focal_px = min(width, height) / (bottom - top)
    center_y = max(height / 2 - focal_px * (top + bottom) / 2, height - focal_px * lowest)
    return Camera(np.array([[focal_px, 0, width / 2 - focal_px * middle],
                            [0, focal_px, center_y], [0, 0, 1]], np.float32), width, height)
