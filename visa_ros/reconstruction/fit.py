"""The body that stands in the portrait as the person does: shape, pose and expression."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from visa_ros.body.model import BodyModel
from visa_ros.body.torch_body import TorchBody
from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.conventions import JOINT_INDEX, JOINTS, PART_INDEX, PARTS
from visa_ros.types import Camera, Float32, OperatorPose

# A portrait's focal length over its longer side, when nothing is known: 50 mm on a 36 mm wide
# sensor is 1.4, the usual portrait lens of 85 mm is 2.4; phones and webcams are near 0.9.
FOCAL_RATIO = 1.6

# MediaPipe pose landmark of each joint that it sees.
_POSE_JOINTS = {
    'left_shoulder': 11, 'right_shoulder': 12, 'left_elbow': 13, 'right_elbow': 14,
    'left_wrist': 15, 'right_wrist': 16, 'left_hip': 23, 'right_hip': 24,
}
# Bones whose slant towards the camera MediaPipe's 3D landmarks tell.
_BONES = (('left_shoulder', 'left_elbow'), ('right_shoulder', 'right_elbow'),
          ('left_elbow', 'left_wrist'), ('right_elbow', 'right_wrist'),
          ('left_shoulder', 'right_shoulder'))
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
_EXPRESSION_SIGMA = 0.12
_TRANSLATION_SIGMA_M = 1.0

# Standard deviations of what is seen.
_FACE_SIGMA = 0.012    # of the face's height
_JOINT_SIGMA_PX = 0.04  # of the face's height: clothes hide the joints
_HAND_SIGMA = 0.04
_SLANT_SIGMA = 0.25

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
        Mean distance to the landmarks; weighted by how surely they are known.

    """

    betas: Float32
    pose: OperatorPose
    face_px: float
    joints_px: float


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
    unknowns = problem.start()
    damping = 1e-2
    residuals, jacobian = problem.linearize(unknowns)
    cost = float(residuals @ residuals)
    for step in range(_MAX_STEPS):
        normal = jacobian.T @ jacobian
        normal.diagonal().mul_(1 + damping)
        moved = problem.within_bounds(
            unknowns - torch.linalg.solve(normal, jacobian.T @ residuals))
        new_residuals, new_jacobian = problem.linearize(moved)
        new_cost = float(new_residuals @ new_residuals)
        progress((step + 1) / _MAX_STEPS)
        if new_cost < cost:
            converged = cost - new_cost < 1e-3 * cost
            unknowns, residuals, jacobian, cost = moved, new_residuals, new_jacobian, new_cost
            damping = max(damping / 4, 1e-5)
            if converged:
                break
        else:
            damping *= 6
            if damping > 1e4:
                break
    return problem.result(unknowns)


class _Problem:
    """Residuals of one portrait as a function of the unknowns."""

    def __init__(self, model: BodyModel, landmarks: Landmarks, camera: Camera) -> None:
        assert landmarks.face is not None
        assert landmarks.blendshapes is not None
        self._seen_face = landmarks.face
        self._seen_blendshapes = landmarks.blendshapes
        self._camera = camera
        self._K = torch.from_numpy(camera.K)
        self._landmarks = landmarks
        face_px = float(np.ptp(landmarks.face[:, 1]))

        used = np.flatnonzero(model.face_landmarks.weights > 0)
        points = model.face_landmarks
        corners = model.faces[points.triangles[used]]
        vertices, inverse = np.unique(corners, return_inverse=True)
        self._body = TorchBody(model, vertices)
        self._corners = torch.from_numpy(inverse.reshape(corners.shape))
        self._barycentrics = torch.from_numpy(points.barycentrics[used])[..., None]
        self._face = torch.from_numpy(landmarks.face[used])
        self._face_weight = torch.from_numpy(points.weights[used] ** 0.5)
        self._face_sigma = _FACE_SIGMA * face_px

        joints, targets, weights, sigmas = self._seen_joints()
        self._joints = torch.tensor(joints)
        self._joint_targets = torch.from_numpy(targets)
        self._joint_weight = torch.from_numpy(weights ** 0.5)
        self._joint_sigma = torch.tensor(sigmas) * face_px
        self._bones, self._slants, self._slant_weight = self._seen_slants()
        self._set_prior(model, face_px)

    # --- what is seen

    def _seen_joints(self) -> tuple[list[int], Float32, Float32, list[float]]:
        seen, found = self._landmarks, []
        for joint, landmark in _POSE_JOINTS.items():
            hips = 0.3 if 'hip' in joint else 1.0  # under clothes and seldom in the picture
            found.append((joint, seen.pose[landmark], hips * seen.visibility[landmark],
                          _JOINT_SIGMA_PX))
        for side, hand in self._hands():
            found += [(f'{side}_{joint}', hand.image[landmark], hand.score, _HAND_SIGMA)
                      for joint, landmark in _HAND_JOINTS.items()]
        names, targets, weights, sigmas = zip(*found, strict=True)
        return ([JOINT_INDEX[name] for name in names], np.array(targets, np.float32),
                np.array(weights, np.float32), list(sigmas))

    def _hands(self) -> list[tuple[str, HandLandmarks]]:
        return [(side, hand) for side, hand in (
            ('left', self._landmarks.left_hand), ('right', self._landmarks.right_hand)) if hand]

    def _seen_slants(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bones as joint pairs, the z of their unit direction, and a weight."""
        pairs, slants, weights = [], [], []
        world, visibility = self._landmarks.pose_world, self._landmarks.visibility
        for start, end in _BONES:
            a, b = _POSE_JOINTS[start], _POSE_JOINTS[end]
            bone = world[b] - world[a]
            pairs.append((JOINT_INDEX[start], JOINT_INDEX[end]))
            slants.append(bone[2] / np.linalg.norm(bone))
            weights.append(min(visibility[a], visibility[b]))
        for side, hand in self._hands():
            for finger in ('index', 'middle', 'ring', 'pinky', 'thumb'):
                chain = [0] + [_HAND_JOINTS[f'{finger}{bone}'] for bone in (1, 2, 3)]
                names = ['wrist'] + [f'{finger}{bone}' for bone in (1, 2, 3)]
                for k in range(3):
                    bone = hand.world[chain[k + 1]] - hand.world[chain[k]]
                    pairs.append((JOINT_INDEX[f'{side}_{names[k]}'],
                                  JOINT_INDEX[f'{side}_{names[k + 1]}']))
                    slants.append(bone[2] / np.linalg.norm(bone))
                    weights.append(0.5 * hand.score)
        return (torch.tensor(pairs), torch.tensor(slants, dtype=torch.float32),
                torch.tensor(weights, dtype=torch.float32) ** 0.5)

    # --- unknowns

    def _set_prior(self, model: BodyModel, face_px: float) -> None:
        sigma = dict(_JOINT_SIGMA)
        for side, _ in self._hands():
            sigma |= {f'{side}_{joint}': _FINGER_SIGMA for joint in _HAND_JOINTS}
        free = [JOINT_INDEX[name] for name in sigma]
        rotations = np.zeros((len(JOINTS), 3), np.float32)
        rotations[JOINT_INDEX['pelvis']] = np.pi, 0, 0  # upright, facing the camera
        for side, sign in (('left', 1), ('right', -1)):
            rotations[JOINT_INDEX[f'{side}_shoulder']], rotations[JOINT_INDEX[f'{side}_elbow']] = (
                self._arm(side, sign))
        self._rotations = torch.from_numpy(rotations)
        self._free = torch.tensor(free)

        K = self._camera.K
        depth = K[1, 1] * _FACE_HEIGHT_M / face_px
        _, joints = model.shaped(np.zeros(len(model.shape_basis), np.float32))
        head = joints[JOINT_INDEX['head']] * (1, -1, -1)  # from the pelvis, in camera axes
        middle = (self._seen_face.mean(0) - K[:2, 2]) / (K[0, 0], K[1, 1]) * depth
        translation = np.append(middle, depth) - head

        parts: dict[str, tuple[np.ndarray, Any]] = {
            'betas': (np.zeros(len(model.shape_basis)), 1.0),
            'blendshapes': (self._seen_blendshapes, _EXPRESSION_SIGMA),
            'rotations': (rotations[free].ravel(), np.repeat(list(sigma.values()), 3)),
            'translation': (translation, _TRANSLATION_SIGMA_M),
        }
        self._sizes = [len(mean) for mean, _ in parts.values()]
        self._mean = torch.tensor(np.concatenate([mean for mean, _ in parts.values()]),
                                  dtype=torch.float32)
        self._sigma = torch.tensor(np.concatenate(
            [np.broadcast_to(s, len(mean)) for mean, s in parts.values()]), dtype=torch.float32)

    def _arm(self, side: str, sign: int) -> tuple[Float32, Float32]:
        """Return shoulder and elbow rotations: as the 3D landmarks say, hanging if unseen."""
        a, b, c = (_POSE_JOINTS[f'{side}_{joint}'] for joint in ('shoulder', 'elbow', 'wrist'))
        if min(self._landmarks.visibility[[a, b, c]]) < 0.3:
            return (np.array((0, 0, -1.15 * sign), np.float32),
                    np.array((0, -0.3 * sign, 0), np.float32))
        world = self._landmarks.pose_world * (1, -1, -1)  # camera axes to an upright body's
        upper, lower = _unit(world[b] - world[a]), _unit(world[c] - world[b])
        along = np.array((sign, 0, 0))
        shoulder = _swing(along, upper)
        elbow = _swing(along, shoulder.inv().apply(lower))
        return shoulder.as_rotvec().astype(np.float32), elbow.as_rotvec().astype(np.float32)

    def start(self) -> torch.Tensor:
        """Return the unknowns at which the search starts."""
        return torch.zeros(len(self._mean))

    def within_bounds(self, unknowns: torch.Tensor) -> torch.Tensor:
        """Clip the expression to [0, 1]."""
        values = self._mean + self._sigma * unknowns
        expression = slice(self._sizes[0], self._sizes[0] + self._sizes[1])
        values[expression].clamp_(0, 1)
        return (values - self._mean) / self._sigma

    def _pose(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = self._mean + self._sigma * unknowns
        betas, blendshapes, rotations, translation = values.split(self._sizes)
        rotations = self._rotations.index_put((self._free,), rotations.reshape(-1, 3))
        return betas, blendshapes, rotations, translation

    # --- residuals

    def _seen(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return face (P, 2) and joint (J, 2) pixels, and the bones' slants."""
        vertices, joints = self._body(*self._pose(unknowns))
        face = (vertices[self._corners] * self._barycentrics).sum(1)
        bones = joints[self._bones[:, 1]] - joints[self._bones[:, 0]]
        return (self._project(face), self._project(joints[self._joints]),
                bones[:, 2] / bones.norm(dim=1))

    def _project(self, points: torch.Tensor) -> torch.Tensor:
        return points[:, :2] / points[:, 2:] * self._K.diagonal()[:2] + self._K[:2, 2]

    def _residuals(self, unknowns: torch.Tensor) -> torch.Tensor:
        face, joints, slants = self._seen(unknowns)
        face_error = _robust((face - self._face) / self._face_sigma)
        joint_error = _robust((joints - self._joint_targets) / self._joint_sigma[:, None])
        return torch.cat([
            (self._face_weight[:, None] * face_error).flatten(),
            (self._joint_weight[:, None] * joint_error).flatten(),
            self._slant_weight * (slants - self._slants) / _SLANT_SIGMA,
            unknowns,
        ])

    def linearize(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return residuals (R,) and their Jacobian (R, unknowns)."""
        return (self._residuals(unknowns),
                torch.func.jacfwd(self._residuals)(unknowns))

    def result(self, unknowns: torch.Tensor) -> BodyFit:
        """Return the fit and how far it is from the landmarks."""
        betas, blendshapes, rotations, translation = self._pose(unknowns)
        face, joints, _ = self._seen(unknowns)
        face_px = _mean_distance(face - self._face, self._face_weight ** 2)
        joints_px = _mean_distance(joints - self._joint_targets, self._joint_weight ** 2)
        confidence = np.zeros(len(PARTS), np.float32)
        confidence[PART_INDEX['body']] = confidence[PART_INDEX['face']] = 1
        for side in ('left', 'right'):
            confidence[PART_INDEX[f'{side}_arm']] = self._landmarks.visibility[
                _POSE_JOINTS[f'{side}_wrist']]
        for side, hand in self._hands():
            confidence[PART_INDEX[f'{side}_hand']] = hand.score
        pose = OperatorPose(rotations.numpy(), translation.numpy(),
                            blendshapes.clamp(0, 1).numpy(), confidence)
        return BodyFit(betas.numpy(), pose, face_px, joints_px)


def _robust(error: torch.Tensor, bound: float = 3.0) -> torch.Tensor:
    """
    Scale (P, 2) errors so that their square is the pseudo-Huber loss of the distance.

    The square is ``2 b^2 (sqrt(1 + e^2 / b^2) - 1)``: quadratic within the bound, linear beyond,
    so that a far landmark pulls but does not rule.
    """
    square = (error * error).sum(1, keepdim=True) / bound ** 2
    return error * (2 / (1 + (1 + square).sqrt())).sqrt()


def _swing(source: np.ndarray, target: np.ndarray) -> Rotation:
    """Return the smallest rotation that turns one unit vector into another."""
    axis = np.cross(source, target)
    sine = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(sine, 1e-9) * np.arctan2(sine, source @ target))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _mean_distance(error: torch.Tensor, weight: torch.Tensor) -> float:
    return float((weight * error.norm(dim=1)).sum() / weight.sum().clamp_min(1e-6))
