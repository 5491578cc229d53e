"""The body that stands in the portrait as the person does: shape, pose and expression."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from visa_ros.body.derivatives import BodyPoints
from visa_ros.body.model import BodyModel
from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.conventions import BLENDSHAPES, JOINT_INDEX, JOINTS, PART_INDEX, PARTS
from visa_ros.types import Camera, Float32, OperatorPose

# A portrait's focal length over its longer side, when nothing is known: 50 mm on a 36 mm wide
# sensor is 1.4, the usual portrait lens of 85 mm is 2.4; phones and webcams are near 0.9.
FOCAL_RATIO = 1.6

# MediaPipe sees shoulders above their joints, hips below and elbows nearer to the shoulders: by
# that share of the way between two joints, from photographs of synthetic people whose joints are
# known.
_OFFSETS = {f'{side}_{joint}': (share, start.format(side), end.format(side))
            for side in ('left', 'right') for joint, share, start, end in (
                ('shoulder', 0.11, 'spine3', 'neck'), ('hip', -0.19, 'spine3', 'neck'),
                ('elbow', 0.05, '{}_elbow', '{}_shoulder'))}
# MediaPipe pose landmark of each joint that it sees.
_POSE_JOINTS = {
    'left_shoulder': 11, 'right_shoulder': 12, 'left_elbow': 13, 'right_elbow': 14,
    'left_wrist': 15, 'right_wrist': 16, 'left_hip': 23, 'right_hip': 24,
}
# The joint at which the bone before one begins.
_BEFORE = {f'{side}_{end}': f'{side}_{start}' for side in ('left', 'right')
           for start, end in (('shoulder', 'elbow'), ('elbow', 'wrist'))}
# Bones whose slant towards the camera MediaPipe's 3D landmarks tell, and the offset and slope that
# turn what they say into what is most likely, with its standard deviation.  Regressed on
# synthetic people: of arms, they know little more than how arms are mostly held.
_UPPER_ARM, _SHOULDERS = (-0.07, 0.43, 0.19), (0.086, 1.0, 0.25)
_FOREARM, _FOREARM_CUT_OFF = (0.0, 0.85, 0.28), (-0.32, 0.20, 0.28)
_BONES = {('left_shoulder', 'left_elbow'): _UPPER_ARM, ('left_elbow', 'left_wrist'): _FOREARM,
          ('right_shoulder', 'right_elbow'): _UPPER_ARM, ('right_elbow', 'right_wrist'): _FOREARM,
          ('left_shoulder', 'right_shoulder'): _SHOULDERS}
# MediaPipe's hand landmarks are four a finger from 1 (thumb) on; the tips are no joints.
_HAND_JOINTS = {
    f'{finger}{bone}': 1 + 4 * number + bone - 1
    for number, finger in enumerate(('thumb', 'index', 'middle', 'ring', 'pinky'))
    for bone in (1, 2, 3)}

# Prior standard deviations of the free joints, radians per axis.  Spine and neck share what the
# landmarks do not tell; they were set by looking at fits, not measured.
_JOINT_SIGMA = {
    'pelvis': 0.4, 'spine1': 0.1, 'spine2': 0.1, 'spine3': 0.1, 'neck': 0.2, 'head': 0.25,
    'left_collar': 0.12, 'right_collar': 0.12, 'left_shoulder': 0.8, 'right_shoulder': 0.8,
    'left_elbow': 0.8, 'right_elbow': 0.8, 'left_wrist': 0.35, 'right_wrist': 0.35,
    'left_eye': 0.2, 'right_eye': 0.2,
}
_FINGER_SIGMA = 0.4
_EXPRESSION_SIGMA = 0.05  # the same tracker drives the avatar: its zero is the one that counts
_TRANSLATION_SIGMA_M = 1.0

# Standard deviations of what is seen, in heights of the face; of joints along the bone before them
# and across it.
_FACE_SIGMA, _HAND_SIGMA = 0.012, 0.04
_SIGMAS = {'shoulder': (0.07, 0.07), 'elbow': (0.12, 0.05), 'wrist': (0.10, 0.05),
           'hip': (0.1, 0.1)}
# Near the picture's border, and beyond it, MediaPipe sees joints too near to the one before: by
# so much at the border, from there on that it is near, and how uncertain that is.
_NEAR_BORDER, _BORDER_SIGMA = 0.4, 0.15
_DRAWN_IN = {'elbow': 0.3, 'wrist': 0.2}
_MOST_BEYOND = 0.5     # what is farther beyond the border is not known at all
_FINGER_SLANT_SIGMA = 0.35
_ROBUST = 3.0          # standard deviations beyond which a point's pull grows no more

# Arms are not in the trunk, an ellipse about the line from pelvis to neck: the half width and half
# depth that the middle of a forearm or a wrist keeps away, and how soft that is.
_TRUNK_M, _TRUNK_FORWARD_M, _TRUNK_SIGMA_M = np.array((0.17, 0.125)), 0.025, 0.02
_ARMS = np.zeros((4, len(JOINTS)))  # the joints' shares in those middles and wrists
for _row, _joint in enumerate(('left_elbow', 'right_elbow', 'left_wrist', 'right_wrist')):
    _ARMS[_row, JOINT_INDEX[_joint]] += 0.5
    _ARMS[_row, JOINT_INDEX[_joint.replace('elbow', 'wrist')]] += 0.5

_FACE_HEIGHT_M = 0.17   # of the landmarks' extent, forehead to chin
_MAX_STEPS = 25


@dataclass(frozen=True, eq=False)
class BodyFit:
    """
    A person as a body model's shape, pose and expression.

    Attributes
    ----------
    betas : (B,) float32
        Shape.
    pose : OperatorPose
        In the portrait camera's frame.
    face_px, joints_px : float
        Mean distance to the landmarks; weighted by how surely they are known, and without joints
        at the picture's border.

    """

    betas: Float32
    pose: OperatorPose
    face_px: float
    joints_px: float


# BLAS splits these small products over all cores and waits for each: on a busy machine that took
# ten times the processor time.
@threadpool_limits.wrap(limits=1, user_api='blas')
def fit_body(model: BodyModel, landmarks: Landmarks, camera: Camera,
             progress: Callable[[float], None] = lambda fraction: None) -> BodyFit:
    """
    Find shape, expression and pose by damped Gauss-Newton (Levenberg 1944, Marquardt 1963).

    All unknowns are counted in standard deviations of their prior, so that the prior is one
    residual each and the damping treats them alike.  Outliers count linearly.

    Parameters
    ----------
    model : BodyModel
    landmarks : Landmarks
        With a face; pixels of ``camera``.
    camera : Camera
        The portrait's; its focal length is believed.
    progress : callable
        Told the fraction done.

    """
    problem = _Problem(model, landmarks, camera)
    unknowns, damping = np.zeros_like(problem.low), 1e-2
    cost, gradient, normal = problem.linearize(unknowns)
    for step in range(_MAX_STEPS):
        # What its bound holds back takes no part, or the others would count on its step.
        free = ~(((unknowns <= problem.low) & (gradient > 0))
                 | ((unknowns >= problem.high) & (gradient < 0)))
        damped = normal + damping * np.diag(np.diag(normal))
        moved = unknowns.copy()
        moved[free] -= np.linalg.solve(damped[np.ix_(free, free)], gradient[free])
        moved = moved.clip(problem.low, problem.high)
        new_cost, new_gradient, new_normal = problem.linearize(moved)
        progress((step + 1) / _MAX_STEPS)
        if new_cost > cost:
            damping *= 6
            continue
        converged = cost - new_cost < 1e-3 * cost
        unknowns, cost, gradient, normal = moved, new_cost, new_gradient, new_normal
        damping = max(damping / 4, 1e-5)
        if converged:
            break
    return problem.result(unknowns)


class _Problem:
    """
    How unlikely what is seen of one person is, as a function of the unknowns.

    Attributes
    ----------
    low, high : (U,) float
        Bounds of the unknowns, which are in standard deviations of their prior.

    """

    def __init__(self, model: BodyModel, landmarks: Landmarks, camera: Camera) -> None:
        face, blendshapes = landmarks.face, landmarks.blendshapes
        assert face is not None
        assert blendshapes is not None
        self._landmarks = landmarks
        self._focal, self._center = np.diag(camera.K)[:2], camera.K[:2, 2]
        face_px = float(np.ptp(face[:, 1]))

        self._body = BodyPoints(model, model.face_landmarks)
        self._face_points = len(model.face_landmarks.weights)
        self._trust, self._near_border = self._trusted(face_px)
        self._of_joints, targets, weights, sharpness = self._seen_joints(face_px)
        self._targets = np.concatenate([face, targets])
        self._weight = np.concatenate([model.face_landmarks.weights, weights])
        self._sharpness = np.concatenate([
            np.tile(np.eye(2) / (_FACE_SIGMA * face_px), (self._face_points, 1, 1)), sharpness])
        self._bones, self._slants, self._slant_sigma, self._slant_weight = self._seen_slants()
        self._set_prior(model, face.mean(0), face_px, blendshapes)

    # --- what is seen

    def _trusted(self, face_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Return for each pose landmark how surely it is known, and how near to the border."""
        seen = self._landmarks
        inside = np.minimum(seen.pose, (seen.width, seen.height) - seen.pose).min(1) / face_px
        known = np.where(inside > 0, seen.visibility, 0.5 * (1 + inside / _MOST_BEYOND))
        # A wrist just beyond the border would have its hand in the picture.
        wrists = [_POSE_JOINTS['left_wrist'], _POSE_JOINTS['right_wrist']]
        known[wrists] = np.minimum(known[wrists], seen.visibility[wrists])
        return known.clip(0, 1), (1 - inside / _NEAR_BORDER).clip(0, 1)

    def _seen_joints(self, face_px: float) -> tuple[np.ndarray, ...]:
        """
        Return what is seen of the joints.

        Returns
        -------
        of_joints : (L, 55) float32
            The joints' shares in the place that each landmark sees.
        targets : (L, 2) float
            The landmarks, pixels.
        weights : (L,) float
        sharpness : (L, 2, 2) float
            Turns a distance in pixels into one in standard deviations along and across the bone.

        """
        seen, found = self._landmarks, []
        for joint, landmark in _POSE_JOINTS.items():
            kind = joint.split('_')[1]
            target, (along, across) = seen.pose[landmark], _SIGMAS[kind]
            axis = np.array((0.0, 1.0))
            if joint in _BEFORE:
                axis = _unit(target - seen.pose[_POSE_JOINTS[_BEFORE[joint]]])
                near = self._near_border[landmark]
                target = target + _DRAWN_IN[kind] * near * face_px * axis
                along += _BORDER_SIGMA * near
            found.append((joint, target, self._trust[landmark],
                          np.array((axis, (-axis[1], axis[0]))) / ((along,), (across,))))
        for side, hand in self._hands():
            found += [(f'{side}_{joint}', hand.image[landmark], hand.score,
                       np.eye(2) / _HAND_SIGMA) for joint, landmark in _HAND_JOINTS.items()]
        names, targets, weights, sharpness = zip(*found, strict=True)
        of_joints = np.eye(len(JOINTS), dtype=np.float32)
        for joint, (share, start, end) in _OFFSETS.items():
            of_joints[JOINT_INDEX[joint], JOINT_INDEX[start]] -= share
            of_joints[JOINT_INDEX[joint], JOINT_INDEX[end]] += share
        return (of_joints[[JOINT_INDEX[name] for name in names]], np.array(targets),
                np.array(weights), np.array(sharpness) / face_px)

    def _hands(self) -> list[tuple[str, HandLandmarks]]:
        return [(side, hand) for side, hand in (
            ('left', self._landmarks.left_hand), ('right', self._landmarks.right_hand)) if hand]

    def _seen_slants(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bones as joint pairs, the z of their unit direction, its deviation, and a weight."""
        found = [(start, end, self._bone(start, end)[2], self._slant(start, end)[2], 1.0)
                 for start, end in _BONES]
        for side, hand in self._hands():
            for finger in ('index', 'middle', 'ring', 'pinky', 'thumb'):
                chain = [0] + [_HAND_JOINTS[f'{finger}{bone}'] for bone in (1, 2, 3)]
                names = ['wrist'] + [f'{finger}{bone}' for bone in (1, 2, 3)]
                for k in range(3):
                    bone = _unit(hand.world[chain[k + 1]] - hand.world[chain[k]])
                    found.append((f'{side}_{names[k]}', f'{side}_{names[k + 1]}', bone[2],
                                  _FINGER_SLANT_SIGMA, hand.score))
        starts, ends, slants, sigmas, weights = zip(*found, strict=True)
        pairs = [[JOINT_INDEX[name] for name in pair] for pair in zip(starts, ends, strict=True)]
        return (self._face_points + np.array(pairs), np.array(slants), np.array(sigmas),
                np.array(weights))

    def _slant(self, start: str, end: str) -> tuple[float, float, float]:
        """Return what MediaPipe's slant of a bone tells: offset, slope, standard deviation."""
        cut_off = 'wrist' in end and self._near_border[_POSE_JOINTS[end]] > 0.25
        return _FOREARM_CUT_OFF if cut_off else _BONES[start, end]

    def _bone(self, start: str, end: str) -> np.ndarray:
        """Return a bone's most likely direction in camera axes."""
        world = self._landmarks.pose_world
        seen = _unit(world[_POSE_JOINTS[end]] - world[_POSE_JOINTS[start]])
        offset, slope, _ = self._slant(start, end)
        slant = np.clip(offset + slope * seen[2], -0.99, 0.99)
        return np.append(np.sqrt(1 - slant ** 2) * _unit(seen[:2]), slant)

    # --- unknowns

    def _set_prior(self, model: BodyModel, face: Float32, face_px: float,
                   blendshapes: Float32) -> None:
        sigma = dict(_JOINT_SIGMA)
        for side, _ in self._hands():
            sigma |= {f'{side}_{joint}': _FINGER_SIGMA for joint in _HAND_JOINTS}
        turns = [3 * JOINT_INDEX[name] + axis for name in sigma for axis in range(3)]
        rotations = np.zeros((len(JOINTS), 3))
        rotations[JOINT_INDEX['pelvis']] = np.pi, 0, 0  # upright, facing the camera
        for side, sign in (('left', 1), ('right', -1)):
            rotations[JOINT_INDEX[f'{side}_shoulder']], rotations[JOINT_INDEX[f'{side}_elbow']] = (
                self._arm(side, sign))

        betas, shapes = len(model.shape_basis), len(BLENDSHAPES)
        depth = self._focal[1] * _FACE_HEIGHT_M / face_px
        head = model.joints_template[JOINT_INDEX['head']] * (1, -1, -1)  # pelvis to head, camera
        middle = (face - self._center) / self._focal * depth
        translation = np.append(middle, depth) - head
        # Of all parameters, those that are unknown.
        self._prior = np.concatenate([
            np.zeros(betas), blendshapes, rotations.ravel(), translation])
        self._sizes = np.cumsum([betas, shapes, rotations.size])
        self._unknown = np.concatenate([
            np.arange(betas + shapes), betas + shapes + np.array(turns),
            len(self._prior) - 3 + np.arange(3)])
        self._sigma = np.concatenate([
            np.ones(betas), np.full(shapes, _EXPRESSION_SIGMA), np.repeat(list(sigma.values()), 3),
            np.full(3, _TRANSLATION_SIGMA_M)])
        self.low, self.high = np.full((2, len(self._sigma)), ((-np.inf,), (np.inf,)))
        expression = slice(betas, betas + shapes)
        self.low[expression] = -blendshapes / _EXPRESSION_SIGMA
        self.high[expression] = (1 - blendshapes) / _EXPRESSION_SIGMA

    def _arm(self, side: str, sign: int) -> tuple[Float32, Float32]:
        """Return shoulder and elbow rotations: as the 3D landmarks say, hanging if unseen."""
        joints = [f'{side}_{joint}' for joint in ('shoulder', 'elbow', 'wrist')]
        if min(self._trust[[_POSE_JOINTS[joint] for joint in joints]]) < 0.3:
            return (np.array((0, 0, -1.15 * sign), np.float32),
                    np.array((0, -0.3 * sign, 0), np.float32))
        # From camera axes to an upright body's.
        upper, lower = (self._bone(*bone) * (1, -1, -1) for bone in pairwise(joints))
        along = np.array((sign, 0, 0))
        shoulder = _swing(along, upper)
        elbow = _swing(along, shoulder.inv().apply(lower))
        return shoulder.as_rotvec().astype(np.float32), elbow.as_rotvec().astype(np.float32)

    def _parameters(self, unknowns: np.ndarray) -> list[Float32]:
        """Return betas, blendshapes, joint rotations and translation."""
        values = self._prior.copy()
        values[self._unknown] += self._sigma * unknowns
        betas, blendshapes, rotations, translation = np.split(
            values.astype(np.float32), self._sizes)
        return [betas, blendshapes, rotations.reshape(-1, 3), translation]

    # --- cost

    def _landmark_places(self, points: np.ndarray) -> np.ndarray:
        """Return what the landmarks see of the body's (P, ...) points, or of their derivatives."""
        face, joints = np.split(points, [self._face_points])
        return np.concatenate([face, np.tensordot(self._of_joints, joints, 1)])

    def linearize(self, unknowns: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """
        Return the cost, half its gradient, and the Gauss-Newton approximation of half its Hessian.

        The cost of a point seen at a distance of e standard deviations is the pseudo-Huber loss
        ``2 b^2 (sqrt(1 + e^2 / b^2) - 1)``: quadratic within the bound b, linear beyond, so that
        a far landmark pulls but does not rule.
        """
        points, by = self._body(*self._parameters(unknowns))
        by = by[..., self._unknown] * self._sigma.astype(np.float32)

        seen, by_seen = self._landmark_places(points), self._landmark_places(by)
        depth = seen[:, 2:]
        pixels = seen[:, :2] / depth * self._focal + self._center
        by_pixels = (by_seen[:, :2] - (seen[:, :2] / depth)[..., None] * by_seen[:, 2:]
                     ) * (self._focal / depth)[..., None]
        error = (self._sharpness @ (pixels - self._targets)[..., None])[..., 0]
        by_seen = self._sharpness.astype(np.float32) @ by_pixels
        excess = np.sqrt(1 + (error * error).sum(1) / _ROBUST ** 2)
        weight = np.repeat(self._weight / excess, 2)

        start, end = self._bones.T
        bone, by_bone = points[end] - points[start], by[end] - by[start]
        length = np.linalg.norm(bone, axis=1)
        slant = bone[:, 2] / length
        along = np.einsum('bc,bcu->bu', bone, by_bone) / length[:, None]
        by_slant = (by_bone[:, 2] - slant[:, None] * along) / (
            length * self._slant_sigma)[:, None]
        slant_error = (slant - self._slants) / self._slant_sigma

        inside, by_inside = self._inside_trunk(points, by)
        errors = np.concatenate([error.ravel(), slant_error, inside])
        weights = np.concatenate([weight, self._slant_weight, np.ones(len(inside))])
        jacobian = np.concatenate([by_seen.reshape(-1, len(unknowns)), by_slant, by_inside])
        weighted = weights[:, None] * jacobian
        cost = (2 * _ROBUST ** 2 * (self._weight * (excess - 1)).sum()
                + (self._slant_weight * slant_error ** 2).sum() + inside @ inside
                + unknowns @ unknowns)
        return (float(cost), weighted.T @ errors + unknowns,
                weighted.T @ jacobian + np.eye(len(unknowns)))

    def _inside_trunk(self, points: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how far arms are in the trunk, in standard deviations, and its derivatives."""
        joints, by_joints = points[self._face_points:], by[self._face_points:]
        pelvis, neck = JOINT_INDEX['pelvis'], JOINT_INDEX['neck']
        up = joints[neck] - joints[pelvis]
        across = joints[JOINT_INDEX['left_shoulder']] - joints[JOINT_INDEX['right_shoulder']]
        front = _unit(np.cross(across, up))
        axes = np.stack([_unit(np.cross(up, front)), front])
        height = (_ARMS @ joints - joints[pelvis]) @ up / (up @ up)
        away = _ARMS.copy()  # from the trunk's axis
        away[:, pelvis] -= 1 - height
        away[:, neck] -= height
        place = (away @ joints @ axes.T - (0, _TRUNK_FORWARD_M)) / _TRUNK_M
        radius = np.linalg.norm(place, axis=1)
        scale = _TRUNK_M.min() / _TRUNK_SIGMA_M
        inside = scale * np.where((height > -0.1) & (height < 1), 1 - radius, 0).clip(0)
        outwards = place / radius[:, None] / _TRUNK_M @ axes
        by_inside = np.einsum('ac,acu->au', outwards, np.tensordot(away, by_joints, 1))
        return inside, -scale * (inside > 0)[:, None] * by_inside

    def result(self, unknowns: np.ndarray) -> BodyFit:
        """Return the fit and how far it is from the landmarks."""
        betas, blendshapes, rotations, translation = self._parameters(unknowns)
        points, _ = self._body(betas, blendshapes, rotations, translation)
        seen = self._landmark_places(points)
        pixels = seen[:, :2] / seen[:, 2:] * self._focal + self._center
        distance = np.linalg.norm(pixels - self._targets, axis=1)
        weight = self._weight.copy()
        # Where landmarks are drawn in from the border, a distance to them says nothing.
        weight[self._face_points:][:len(_POSE_JOINTS)] *= 1 - self._near_border[
            list(_POSE_JOINTS.values())]
        weight += 1e-9  # of a close-up, all of them may be
        face, joints = np.split(np.stack([distance, weight]), [self._face_points], 1)
        confidence = np.zeros(len(PARTS), np.float32)
        confidence[PART_INDEX['body']] = confidence[PART_INDEX['face']] = 1
        for side in ('left', 'right'):
            confidence[PART_INDEX[f'{side}_arm']] = self._landmarks.visibility[
                _POSE_JOINTS[f'{side}_wrist']]
        for side, hand in self._hands():
            confidence[PART_INDEX[f'{side}_hand']] = hand.score
        pose = OperatorPose(rotations, translation, blendshapes.clip(0, 1), confidence)
        return BodyFit(betas, pose, float(np.average(face[0], weights=face[1])),
                       float(np.average(joints[0], weights=joints[1])))


def _swing(source: np.ndarray, target: np.ndarray) -> Rotation:
    """Return the smallest rotation that turns one unit vector into another."""
    axis = np.cross(source, target)
    sine = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(sine, 1e-9) * np.arctan2(sine, source @ target))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
