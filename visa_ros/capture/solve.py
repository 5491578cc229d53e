"""
Landmarks to ``OperatorPose``.

Spine, head and arms are fitted together (``body_fit``), hands bone by bone (``hand_fit``), gaze
and jaw come from the face's blendshapes.
"""
from __future__ import annotations

from itertools import pairwise

import numpy as np

from visa_ros.body.model import BodyModel
from visa_ros.capture.body_fit import BONE, BONES, BodyFit, Observations
from visa_ros.capture.hand_fit import (
    FINGER_LANDMARK_PARENTS,
    FINGER_LANDMARKS,
    HandFit,
    forearm_and_wrist,
)
from visa_ros.capture.head_fit import HeadFit
from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.capture.rotations import (
    Float64,
    best_rotation,
    exp,
    from_line_of_sight,
    log,
)
from visa_ros.conventions import (
    BLENDSHAPE_INDEX,
    BLENDSHAPES,
    EYE_LOOK_RAD,
    JAW_OPEN_RAD,
    JOINT_INDEX,
    JOINT_PARENTS,
    JOINTS,
    PART_INDEX,
    PARTS,
)
from visa_ros.errors import PoseError
from visa_ros.types import Camera, Float32, OperatorPose

# MediaPipe's pose landmarks of the fitted joints, and how far they are from them (standard
# deviation, metres): clothes hide shoulders and hips.
_BODY_POINTS = {
    'left_shoulder': (11, 0.012), 'right_shoulder': (12, 0.012), 'left_elbow': (13, 0.012),
    'right_elbow': (14, 0.012), 'left_wrist': (15, 0.01), 'right_wrist': (16, 0.01),
    'left_hip': (23, 0.03), 'right_hip': (24, 0.03),
}
_BODY_BONES = [BONE[name] for name in _BODY_POINTS]
_BODY_LANDMARKS = [landmark for landmark, _ in _BODY_POINTS.values()]
_BODY_SIGMA = np.array([sigma for _, sigma in _BODY_POINTS.values()])
_SHOULDERS, _ELBOWS, _WRISTS, _HIPS = [0, 1], [2, 3], [4, 5], [6, 7]  # rows of _BODY_POINTS
# Points whose difference in depth MediaPipe's world landmarks tell (standard deviation, metres).
_PAIRS = np.array(((0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (6, 0), (7, 1)))
_CAMERA_TO_WRISTS = np.array(((-1, 4), (-1, 5)))
_CAMERA_TO_FACE = np.array(((-1, len(_BODY_POINTS)),))
_HAND_DEPTH_SIGMA = 0.1  # of the depth
_PAIR_SIGMA = np.array((0.06, 0.08, 0.08, 0.08, 0.08, 0.12, 0.12))

# Points of the fitted face that hold the head: corners of the eyes, bridge, tip and foot of the
# nose, forehead, temples and chin.  Distances in metres: together they weigh more than a trunk.
_FACE_POINTS = [33, 133, 362, 263, 168, 6, 4, 2, 10, 127, 356, 152]
_FACE_SIGMA = 0.006
_FACE_DEPTH_SIGMA = 0.01
_FACE_HEAD_SIGMA = 0.01  # radians, of the head's rotation from the face
# Without a face mesh: nose, eyes, ears and mouth of the pose landmarks.
_POSE_HEAD_POINTS = list(range(11))
_POSE_HEAD_SIGMA = 0.02
_POSE_HEAD_ROTATION_SIGMA = 0.2
# MediaPipe's canonical face looks this much further down than the heads of our bodies, radians
# about x; between 1.4 (all vertices) and 4.5 degrees (eyes and nose) for Anny's mean head.
_CANONICAL_TO_HEAD = exp(np.array((0.05, 0.0, 0.0)))
_FACING = np.diag((1.0, -1.0, -1.0))  # OpenGL's camera axes to ours

# Below the first a joint comes to rest; above the second it is followed again.
_MIN_VISIBILITY, _SURE_VISIBILITY = 0.35, 0.65
# Of what the trackers only guess beyond the image's edge.
_GUESS = 0.15

_SIDES = ('left', 'right')
_TO_NECK = [JOINT_INDEX[name] for name in ('pelvis', 'spine1', 'spine2', 'spine3', 'neck')]
_HAND_TIME_S = 2.0  # in which the length of the hands' bones is learned


class PoseSolver:
    """
    Turn landmarks into joint rotations, image after image.

    The proportions of the operator (width of the shoulders, trunk, arms and hands relative to
    the head) are estimated along the way, slowly.

    Parameters
    ----------
    model : BodyModel
        The reference body, whose mean shape gives the lengths and the places of the face's
        landmarks.

    """

    def __init__(self, model: BodyModel) -> None:
        betas = np.zeros(len(model.shape_basis), np.float32)
        joints = model.zero_pose_joints(betas).astype(float)
        parents = np.array(JOINT_PARENTS)
        self._offsets = joints - joints[parents]
        self._offsets[0] = 0
        head = model.joints_template[JOINT_INDEX['head']]
        head_turn = model.rest_alignment[JOINT_INDEX['head']]
        features = model.pose_landmarks.on(model.template, model.faces)[_POSE_HEAD_POINTS]
        self._feature_points = (features - head) @ head_turn.T
        self._features = features - features.mean(0)
        self._head = HeadFit(model)
        self._body = BodyFit(joints)
        self._hands = {side: HandFit(joints, side) for side in _SIDES}
        self._followed = np.zeros(len(_BODY_POINTS), bool)
        self._hand_scales = np.ones(15)
        self._hands_measured = False

    def forget(self) -> None:
        """Start anew: the operator was away."""
        self._head.forget()
        self._body.forget()

    def solve(self, seen: Landmarks, camera: Camera, elapsed_s: float) -> OperatorPose:
        """
        Return the pose in the camera's frame, without a stamp.

        Parameters
        ----------
        seen : Landmarks
            Of one image.
        camera : Camera
            Of that image, same size.
        elapsed_s : float
            Since the image before.

        Raises
        ------
        PoseError
            The trackers gave landmarks that are no numbers.

        """
        if not all(np.isfinite(points).all() for points in (seen.pose, seen.pose_world, seen.face)
                   if points is not None):
            raise PoseError('the trackers gave landmarks that are not finite')
        if seen.face is None:
            self._head.forget()  # it may return anywhere
        else:
            self._fit_head(seen, camera, elapsed_s)
        trust = self._trust(seen)
        self._body.fit(self._observations(seen, camera, trust), camera, elapsed_s)
        rotations = np.zeros((len(JOINTS), 3))
        rotations[[JOINT_INDEX[name] for name in BONES]] = log(self._body.rotations)
        confidence = np.zeros(len(PARTS), np.float32)
        confidence[PART_INDEX['body']] = max(seen.visibility[[11, 12]].mean(), 0.05)
        confidence[PART_INDEX['face']] = float(seen.face is not None)
        for arm, (side, hand) in enumerate(zip(_SIDES, (seen.left_hand, seen.right_hand),
                                               strict=True)):
            confidence[PART_INDEX[f'{side}_arm']] = max(trust[_ELBOWS[arm]], trust[_WRISTS[arm]])
            confidence[PART_INDEX[f'{side}_hand']] = 0 if hand is None else hand.score
            self._solve_hand(side, hand, camera, rotations)
        self._measure_hands(seen, camera, rotations, elapsed_s)
        blendshapes = (np.zeros(len(BLENDSHAPES), np.float32) if seen.blendshapes is None
                       else seen.blendshapes)
        _solve_face(blendshapes, rotations)
        # Who draws the pose knows no lengths: with mean ones the head must be where it was seen.
        place = self._body.place + self._longer_trunk(rotations)
        return OperatorPose(rotations.astype(np.float32), place.astype(np.float32),
                            blendshapes, np.clip(confidence, 0, 1))

    def joint_positions(self, pose: OperatorPose) -> Float64:
        """Return the (55, 3) joints of a pose with the operator's estimated proportions."""
        rotations = pose.joint_rotations.astype(float)
        return self._positions(rotations, pose.translation - self._longer_trunk(rotations))

    def _longer_trunk(self, rotations: Float64) -> Float64:
        """Return by how much the operator's neck is farther from the pelvis than a mean one's."""
        turn, way = np.eye(3), np.zeros(3)
        longer = (self._body.length_scales - 1)[:, None] * self._offsets
        for parent, joint in pairwise(_TO_NECK):
            turn = turn @ exp(rotations[parent])
            way += turn @ longer[joint]
        return way

    def _positions(self, rotations: Float64, place: Float64 | Float32) -> Float64:
        turned = exp(rotations)
        bones = self._offsets * self._body.length_scales[:, None]
        for side in _SIDES:
            bones[_fingers(side)] *= self._hand_scales[:, None]
        positions = np.empty_like(bones)
        positions[0] = place
        for joint, parent in enumerate(JOINT_PARENTS[1:], 1):
            positions[joint] = positions[parent] + turned[parent] @ bones[joint]
            turned[joint] = turned[parent] @ turned[joint]
        return positions

    # --- what the body is fitted to

    def _fit_head(self, seen: Landmarks, camera: Camera, elapsed_s: float) -> None:
        assert seen.face is not None
        assert seen.blendshapes is not None
        K = camera.K.astype(float)
        self._head.fit(seen.face, seen.blendshapes, self._face_rotation(seen, K), K, elapsed_s)

    def _observations(self, seen: Landmarks, camera: Camera, trust: Float64) -> Observations:
        K = camera.K.astype(float)
        # World landmarks are seen along the line of sight to the person.
        world = (seen.pose_world.astype(float)
                 @ from_line_of_sight(_ray(seen.pose[[11, 12]].mean(0), K)).T)
        body_pixels = seen.pose[_BODY_LANDMARKS].astype(float)
        hand_depths, hand_weights = np.zeros(2), np.zeros(2)
        for arm, hand in enumerate((seen.left_hand, seen.right_hand)):
            if hand is not None:
                body_pixels[_WRISTS[arm]] = hand.image[0]
                # How large a hand is tells how far, better than arms of which half is hidden.
                hand_depths[arm] = _metres_per_pixel(hand) * K[0, 0]
                hand_weights[arm] = 1 / (_HAND_DEPTH_SIGMA * max(hand_depths[arm], 0.1))
        depths = world[_BODY_LANDMARKS]
        depth_trust = np.minimum(*trust[_PAIRS].T)
        depth_trust[-2:] = np.maximum(depth_trust[-2:], _GUESS)  # even unseen hips are a guess

        if seen.face is not None:
            head, head_weight = self._head.rotation, 1 / _FACE_HEAD_SIGMA
            face = self._head.points[_FACE_POINTS] @ head.T + self._head.place
            face_depth = face[0, 2]
            head_pixels = np.concatenate((camera.project(face), seen.pose[_POSE_HEAD_POINTS]))
            head_trust = np.concatenate((np.full(len(_FACE_POINTS), 1 / _FACE_SIGMA),
                                         np.zeros(len(_POSE_HEAD_POINTS))))
        else:
            face_depth = 0.0
            head_pixels = np.concatenate((np.zeros((len(_FACE_POINTS), 2)),
                                          seen.pose[_POSE_HEAD_POINTS]))
            shown = seen.visibility[_POSE_HEAD_POINTS]
            head_trust = np.concatenate((np.zeros(len(_FACE_POINTS)), shown / _POSE_HEAD_SIGMA))
            features = world[_POSE_HEAD_POINTS]
            head = best_rotation(self._features, features - features.mean(0))
            head_weight = float(shown.mean()) / _POSE_HEAD_ROTATION_SIGMA
        return Observations(
            bones=np.array(_BODY_BONES + [BONE['head']] * len(head_pixels)),
            offsets=np.concatenate((np.zeros((len(_BODY_BONES), 3)),
                                    self._head.points[_FACE_POINTS], self._feature_points)),
            pixels=np.concatenate((body_pixels, head_pixels)),
            weights=np.concatenate((trust / _BODY_SIGMA, head_trust)),
            pairs=np.concatenate((_PAIRS, _CAMERA_TO_WRISTS, _CAMERA_TO_FACE)),
            depths=np.concatenate((depths[_PAIRS[:, 1], 2] - depths[_PAIRS[:, 0], 2], hand_depths,
                                   [face_depth])),
            depth_weights=np.concatenate((depth_trust / _PAIR_SIGMA, hand_weights,
                                          [float(seen.face is not None) / _FACE_DEPTH_SIGMA])),
            head=head, head_weight=head_weight)

    def _trust(self, seen: Landmarks) -> Float64:
        """Return for each of _BODY_POINTS how surely it is seen; 0 for what shall rest."""
        trust = seen.visibility[_BODY_LANDMARKS].astype(float)
        # What is at the edge of being seen must not flutter between its place and rest.
        self._followed = trust > np.where(self._followed, _MIN_VISIBILITY, _SURE_VISIBILITY)
        trust[~self._followed] = 0
        trust[_SHOULDERS] = np.maximum(trust[_SHOULDERS], _GUESS)
        for arm, hand in enumerate((seen.left_hand, seen.right_hand)):
            if hand is not None:
                trust[_WRISTS[arm]] = 1
            if trust[_WRISTS[arm]] > 0:
                trust[_ELBOWS[arm]] = max(trust[_ELBOWS[arm]], _GUESS)
        return trust

    @staticmethod
    def _face_rotation(seen: Landmarks, K: Float64) -> Float64:
        """Return the head's rotation to the camera from the face's matrix."""
        assert seen.head_matrix is not None
        assert seen.face is not None
        matrix = _FACING @ seen.head_matrix[:3].astype(float)
        turn = best_rotation(np.eye(3), matrix[:, :3].T)  # without scale
        # The matrix is of the camera that MediaPipe assumes for its crop of the image.
        assumed = from_line_of_sight(matrix[:, 3])
        actual = from_line_of_sight(_ray(seen.face.mean(0), K))
        return actual @ assumed.T @ turn @ _CANONICAL_TO_HEAD.T

    # --- hands and face

    def _solve_hand(self, side: str, hand: HandLandmarks | None, camera: Camera,
                    rotations: Float64) -> None:
        fit = self._hands[side]
        if hand is None:
            rotations[_fingers(side)] = fit.resting
            return
        points = _in_space(hand) @ from_line_of_sight(
            _ray(hand.image.mean(0), camera.K.astype(float))).T
        palm = fit.palm(points)
        elbow = JOINT_INDEX[f'{side}_elbow']
        twist, rotations[JOINT_INDEX[f'{side}_wrist']] = forearm_and_wrist(
            self._body.global_rotations[BONE[f'{side}_elbow']], palm)
        rotations[elbow] = log(exp(rotations[elbow]) @ exp(np.array((twist, 0.0, 0.0))))
        rotations[_fingers(side)] = fit.fingers(points, palm)

    def _measure_hands(self, seen: Landmarks, camera: Camera, rotations: Float64,
                       elapsed_s: float) -> None:
        """Follow slowly how long the hands' bones are, by their length in the image."""
        hands = [(side, hand) for side, hand in zip(_SIDES, (seen.left_hand, seen.right_hand),
                                                    strict=True) if hand is not None]
        if not hands:
            return
        positions = self._positions(rotations, self._body.place)
        pixels = positions[:, :2] / positions[:, 2:] * camera.K[0, 0]
        both = np.zeros((2, 15))
        for side, hand in hands:
            joints = np.arange(len(JOINTS))[_fingers(side)]
            own = pixels[joints] - pixels[np.array(JOINT_PARENTS)[joints]]
            measured = hand.image[FINGER_LANDMARKS] - hand.image[FINGER_LANDMARK_PARENTS]
            both += (own * measured).sum(1), (own * own).sum(1)
        share = -np.expm1(-elapsed_s / _HAND_TIME_S) if self._hands_measured else 1.0
        ratio = np.clip(both[0] / np.maximum(both[1], 1.0), 0.5, 2.0)
        self._hand_scales = np.clip(self._hand_scales * ratio ** share, 0.4, 1.8)
        self._hands_measured = True


def _in_space(hand: HandLandmarks) -> Float64:
    """
    Return the hand's points (21, 3) along the line of sight: depth from the world landmarks.

    Across the line of sight the image knows better; world landmarks miss it by a tenth of the
    hand.
    """
    points = hand.world.astype(float) - hand.world[0]
    points[:, :2] = (hand.image - hand.image[0]) * _metres_per_pixel(hand)
    return points


def _metres_per_pixel(hand: HandLandmarks) -> float:
    """Return the scale at which the world landmarks' shape is seen."""
    metres, pixels = hand.world[:, :2] - hand.world[0, :2], hand.image - hand.image[0]
    return float(max((metres * pixels).sum() / max((pixels * pixels).sum(), 1.0), 1e-6))


def _fingers(side: str) -> slice:
    """Return the 15 finger joints of a side."""
    first = JOINT_INDEX[f'{side}_index1']
    return slice(first, first + 15)


def _ray(pixel: Float64 | Float32, K: Float64) -> Float64:
    """Return the direction in which a pixel looks."""
    return np.array(((pixel[0] - K[0, 2]) / K[0, 0], (pixel[1] - K[1, 2]) / K[1, 1], 1.0))


def _solve_face(blendshapes: Float32, rotations: Float64) -> None:
    """Turn jaw and eyes as the blendshapes say; both eyes alike, which halves the noise."""
    def value(name: str) -> float:
        return float(blendshapes[BLENDSHAPE_INDEX[name]])

    to_left = (value('eyeLookOutLeft') - value('eyeLookInLeft')
               + value('eyeLookInRight') - value('eyeLookOutRight')) / 2
    down = (value('eyeLookDownLeft') - value('eyeLookUpLeft')
            + value('eyeLookDownRight') - value('eyeLookUpRight')) / 2
    pitch, yaw = EYE_LOOK_RAD
    gaze = np.array((pitch * down, yaw * to_left, 0.0))
    rotations[JOINT_INDEX['left_eye']] = rotations[JOINT_INDEX['right_eye']] = gaze
    rotations[JOINT_INDEX['jaw']] = (JAW_OPEN_RAD * value('jawOpen'), 0.0, 0.0)
