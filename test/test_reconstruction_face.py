"""Mouth and eyes in motion: teeth, lids, lashes and gaze."""
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import samples
from visa_ros.body.model import load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX
from visa_ros.reconstruction.anatomy import (
    LEFT_EYE,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    RIGHT_EYE,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
    anatomy,
    lid_rim,
)
from visa_ros.reconstruction.fit import BodyFit
from visa_ros.reconstruction.reconstruct import ReconstructionConfig, posed_body, reconstruct
from visa_ros.rendering.splat_cpu import SplatCpu
from visa_ros.types import Consent

SHUT = {'eyeBlinkLeft': 1, 'eyeBlinkRight': 1}


def webcam_avatar():
    """Return the avatar of a webcam's frame that shows a closed mouth."""
    capture = cv2.VideoCapture(str(samples.video('cap12')))
    frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    config = ReconstructionConfig(size_px=400, gaussians=40_000, refine_steps=0)
    return reconstruct(frame, Consent('a', 'a', 0, 'test'), config)[0]


@pytest.fixture(scope='module')
def closed():
    return Face(webcam_avatar())


@pytest.fixture(scope='module')
def smiling(astronaut):
    return Face(astronaut[0])


class Face:
    """An avatar, what its pictures show, and where its body's parts are in them."""

    def __init__(self, avatar):
        self.avatar, self.model = avatar, load_body_model()
        self.triangles = avatar.triangles
        self.skinning = AvatarSkinning(self.model, avatar)

    def pose(self, blendshapes=(), eyes_deg=(0, 0)):
        pose = self.avatar.portrait_pose
        rotations, shapes = pose.joint_rotations.copy(), pose.blendshapes.copy()
        for joint in ('left_eye', 'right_eye'):
            turn = Rotation.from_rotvec(rotations[JOINT_INDEX[joint]])
            turn *= Rotation.from_euler('xy', eyes_deg, degrees=True)
            rotations[JOINT_INDEX[joint]] = turn.as_rotvec()
        for name, value in dict(blendshapes).items():
            shapes[BLENDSHAPE_INDEX[name]] = value
        return replace(pose, joint_rotations=rotations, blendshapes=shapes)

    def draw(self, pose, colors=None):
        """Return picture in [0, 1] and alpha."""
        camera = self.avatar.camera
        splatter = SplatCpu(
            self.avatar.scales, self.avatar.opacities,
            self.avatar.colors if colors is None else colors, camera, np.zeros(3, np.float32))
        rgb = np.zeros((camera.height, camera.width, 3), np.uint8)
        alpha, depth = np.zeros((2, camera.height, camera.width), np.float32)
        splatter.draw(*self.skinning.pose(pose), rgb, alpha, depth)
        return rgb / np.float32(255), alpha

    def painted(self, chosen):
        """Return the avatar's colours, black but for the chosen Gaussians, which are white."""
        return np.ascontiguousarray(np.repeat(chosen[:, None], 3, 1), np.float32)

    def pixels(self, pose, points):
        body = posed_body(self.model, BodyFit(self.avatar.betas, pose, 0, 0))
        return self.avatar.camera.project(points.on(body, self.model.faces))

    def within(self, pose, *contours):
        """Return the pixels within contours of face landmarks."""
        landmarks = self.pixels(pose, self.model.face_landmarks)
        camera = self.avatar.camera
        mask = np.zeros((camera.height, camera.width), np.uint8)
        for contour in contours:
            cv2.fillPoly(mask, [np.round(landmarks[list(contour)]).astype(np.int32)], 1)
        return mask > 0

    def between_lips(self, pose):
        inner = self.within(pose, UPPER_LIP_INNER + LOWER_LIP_INNER[::-1])
        return cv2.erode(inner.astype(np.uint8), np.ones((3, 3))) > 0


def saturation(colors):
    return np.ptp(colors, axis=-1) / np.maximum(colors.max(-1), 1e-6)


@pytest.mark.parametrize('shapes', [{'jawOpen': 0.5}, {'jawOpen': 1},
                                    {'mouthUpperUpLeft': 0.9, 'mouthUpperUpRight': 0.9,
                                     'mouthLowerDownLeft': 0.9, 'mouthLowerDownRight': 0.9}])
def test_a_closed_mouth_opens_on_teeth_and_not_on_a_hole(closed, shapes):
    pose = closed.pose(shapes)
    rgb, alpha = closed.draw(pose)
    mouth = closed.between_lips(pose)
    assert mouth.sum() > 40
    assert alpha[mouth].min() > 0.95
    lips = closed.within(pose, UPPER_LIP_OUTER + UPPER_LIP_INNER[::-1],
                         LOWER_LIP_OUTER + LOWER_LIP_INNER[::-1])
    light = rgb.mean(-1)
    like_teeth = (light > 0.85 * np.median(light[lips])) & (
        saturation(rgb) < 0.75 * np.median(saturation(rgb)[lips]))
    assert (like_teeth & mouth).sum() > 0.04 * mouth.sum()


def test_the_closed_mouth_of_the_portrait_shows_no_teeth(closed):
    parts = anatomy(closed.model)
    teeth = (parts.upper_teeth | parts.lower_teeth)[closed.triangles]
    assert teeth.sum() > 500
    seen, _ = closed.draw(closed.avatar.portrait_pose, closed.painted(teeth))
    assert seen.max() < 0.3


def test_upper_teeth_stay_with_the_head_and_lower_teeth_go_with_the_jaw(smiling):
    parts = anatomy(smiling.model)
    before = smiling.skinning.pose(smiling.pose({'jawOpen': 0}))[0].copy()
    moved = smiling.skinning.pose(smiling.pose({'jawOpen': 1}))[0] - before
    upper, lower = (row[smiling.triangles] for row in (parts.upper_teeth, parts.lower_teeth))
    assert upper.sum() > 500
    assert np.abs(moved[upper]).max() < 1e-5
    assert np.median(moved[lower, 1]) > 0.01  # down, in an optical frame


def test_teeth_of_the_portrait_stay_sharp_and_in_place(smiling):
    still, _ = smiling.draw(smiling.avatar.portrait_pose)
    teeth = anatomy(smiling.model).upper_teeth[smiling.triangles]
    seen, _ = smiling.draw(smiling.avatar.portrait_pose, smiling.painted(teeth))
    shown = seen[..., 0] > 0.8
    assert shown.sum() > 40
    pose = smiling.pose({'jawOpen': 0.8})
    moved, _ = smiling.draw(pose)
    opened, _ = smiling.draw(pose, smiling.painted(teeth))
    assert (opened[..., 0] > 0.5).sum() > shown.sum()
    assert np.median(np.abs(moved - still)[shown]) < 0.05


@pytest.mark.parametrize('person', ['closed', 'smiling'])
def test_shut_lids_cover_the_eyes(person, request):
    face = request.getfixturevalue(person)
    parts = anatomy(face.model)
    eyes = (parts.left_eye | parts.right_eye)[face.triangles]
    opened, _ = face.draw(face.pose(dict.fromkeys(SHUT, 0)), face.painted(eyes))
    assert (opened[..., 0] > 0.5).sum() > 80
    pose = face.pose(SHUT)
    shut, _ = face.draw(pose, face.painted(eyes))
    assert shut.max() < 0.25


@pytest.mark.parametrize('person', ['closed', 'smiling'])
def test_shut_lids_are_skin_above_a_dark_line_without_gaps(person, request):
    face = request.getfixturevalue(person)
    pose = face.pose(SHUT)
    rgb, _ = face.draw(pose)
    light = cv2.blur(rgb.mean(-1), (1, 1))
    landmarks = face.pixels(pose, face.model.face_landmarks)
    for side, below in (('left', 450), ('right', 230)):  # the skin below the eye
        rim = face.pixels(pose, lid_rim(face.model, side))
        order = rim[:, 0].argsort()
        low, high = rim[:, 0].min(), rim[:, 0].max()
        columns = np.arange(int(low + 0.25 * (high - low)), int(low + 0.75 * (high - low)))
        rows = np.interp(columns, rim[order, 0], rim[order, 1]).astype(int)
        lid = np.array([rgb[row - 6:row - 2, column].mean(0)
                        for row, column in zip(rows, columns, strict=True)])
        x, y = landmarks[below].astype(int)
        skin = rgb[y - 2:y + 3, x - 2:x + 3].mean((0, 1))
        assert np.abs(np.median(lid, 0) - skin).max() < 0.2
        line = np.array([light[row - 2:row + 3, column].min()
                         for row, column in zip(rows, columns, strict=True)])
        assert (line < lid.mean(1) - 0.04).mean() >= 0.85


@pytest.mark.parametrize('eyes_deg', [(0, 25), (0, -25), (12, 0), (-12, 0)])
def test_a_turned_eye_is_whole(smiling, eyes_deg):
    parts = anatomy(smiling.model)
    eyes = (parts.left_eye | parts.right_eye)[smiling.triangles]
    straight, _ = smiling.draw(smiling.pose(), smiling.painted(eyes))
    turned, _ = smiling.draw(smiling.pose(eyes_deg=eyes_deg), smiling.painted(eyes))
    opening = straight[..., 0] > 0.8
    assert opening.sum() > 50
    assert (turned[opening][:, 0] > 0.5).mean() > 0.9
    # The iris is dark before and after, and went where the eye looks.
    landmarks = smiling.pixels(smiling.pose(), smiling.model.face_landmarks)
    for contour in (LEFT_EYE, RIGHT_EYE):
        inside = opening & smiling.within(smiling.pose(), contour)
        center = []
        for pose in (smiling.pose(), smiling.pose(eyes_deg=eyes_deg)):
            light = smiling.draw(pose)[0].mean(-1)
            dark = np.argwhere(inside & (light < np.quantile(light[inside], 0.35)))
            center.append(dark.mean(0))
        moved = center[1] - center[0]
        width = np.ptp(landmarks[list(contour), 0])
        if eyes_deg[1]:
            assert np.sign(moved[1]) == np.sign(eyes_deg[1])
            assert abs(moved[1]) > 0.06 * width


@pytest.mark.parametrize('shapes', [
    {'jawOpen': 0.8}, {'mouthSmileLeft': 1, 'mouthSmileRight': 1},
    {'mouthSmileLeft': 0.9, 'mouthSmileRight': 0.9, 'jawOpen': 0.8}, {'mouthPucker': 1},
    {'mouthFunnel': 1}, {'tongueOut': 1, 'jawOpen': 0.5}], ids=lambda shapes: '+'.join(shapes))
def test_the_face_has_no_holes(smiling, closed, shapes):
    for face in (smiling, closed):
        pose = face.pose(shapes)
        _, alpha = face.draw(pose)
        mouth = face.within(pose, UPPER_LIP_OUTER + LOWER_LIP_OUTER[::-1])
        around = cv2.dilate(mouth.astype(np.uint8), np.ones((9, 9))) > 0
        assert alpha[around].min() > 0.9


def test_the_same_frame_gives_the_same_face(closed):
    again = webcam_avatar()
    for name in ('means', 'scales', 'colors', 'triangles', 'barycentrics'):
        np.testing.assert_array_equal(getattr(again, name), getattr(closed.avatar, name))


def test_the_tongue_comes_out_of_the_mouth(closed):
    tongue = anatomy(closed.model).tongue[closed.triangles]
    hidden, _ = closed.draw(closed.avatar.portrait_pose, closed.painted(tongue))
    out, _ = closed.draw(closed.pose({'tongueOut': 1, 'jawOpen': 0.5}), closed.painted(tongue))
    assert hidden.max() < 0.3
    assert (out[..., 0] > 0.9).sum() > 40


def test_every_blendshape_is_drawn(smiling):
    """Each shape alone moves the picture and leaves no hole in the face."""
    landmarks = smiling.pixels(smiling.pose(), smiling.model.face_landmarks)
    low, high = landmarks.min(0).astype(int) + 10, landmarks.max(0).astype(int) - 10
    for name in BLENDSHAPES:
        _, alpha = smiling.draw(smiling.pose({name: 1}))
        assert alpha[low[1]:high[1], (low[0] + high[0]) // 2].min() > 0.9, name
