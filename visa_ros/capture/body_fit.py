"""
Spine, head and arms from landmarks: damped Gauss-Newton on a small skeleton.

Unknowns are the pelvis' place, rotation vectors of the ball joints relative to a resting pose,
the elbows' flexion, and the logarithms of four lengths.  What the image does not show is held by
the priors alone, so unseen parts come to rest instead of taking any value.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visa_ros.capture.rotations import Float64, exp, left_jacobian, log
from visa_ros.conventions import JOINT_INDEX, JOINT_PARENTS
from visa_ros.types import Camera

# The fitted part of the skeleton; parents come first.
BONES = ('pelvis', 'left_hip', 'right_hip', 'spine1', 'spine2', 'spine3', 'neck', 'left_collar',
         'right_collar', 'head', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow',
         'left_wrist', 'right_wrist')
BONE = {name: index for index, name in enumerate(BONES)}
_JOINTS = [JOINT_INDEX[name] for name in BONES]
_PARENT = [-1] + [_JOINTS.index(JOINT_PARENTS[joint]) for joint in _JOINTS[1:]]
_PATH = np.zeros((len(BONES), len(BONES)), bool)  # [bone, itself and its ancestors]
for _bone, _parent in enumerate(_PARENT):
    _PATH[_bone] = _PATH[_parent] if _bone else False
    _PATH[_bone, _bone] = True

# Each ball joint: (bones that share its rotation, prior standard deviations and limits about
# x, y, z, radians).  Ranges of motion: about those of the American Academy of Orthopaedic
# Surgeons (1965); standard deviations were set by looking at the results.
_BALLS: tuple[tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]], ...] = (
    (('pelvis',), (0.12, 0.7, 0.12), (0.8, 3.2, 0.8)),
    (('spine1', 'spine2', 'spine3'), (0.30, 0.30, 0.25), (0.9, 0.8, 0.6)),
    (('neck',), (0.30, 0.40, 0.25), (0.6, 0.8, 0.5)),
    (('head',), (0.30, 0.40, 0.25), (0.6, 0.8, 0.5)),
    (('left_collar',), (0.05, 0.25, 0.30), (0.2, 0.5, 0.6)),
    (('right_collar',), (0.05, 0.25, 0.30), (0.2, 0.5, 0.6)),
    (('left_shoulder',), (1.0, 0.5, 1.0), (2.9, 1.5, 2.9)),
    (('right_shoulder',), (1.0, 0.5, 1.0), (2.9, 1.5, 2.9)),
)
_HINGES = ('left_elbow', 'right_elbow')
_WRISTS = (BONE['left_wrist'], BONE['right_wrist'])
_FLEXION_START = 1.5
_ITERATIONS, _FIRST_ITERATIONS = 3, 12
_FLEXION_REST, _FLEXION_SIGMA, _FLEXION_LIMITS = 0.3, 0.8, (0.0, 2.6)
# Arms hang from the T-pose by this much, radians.
_HANG = 1.25
# Bones whose length is estimated: shoulders' width, trunk and neck, upper arms, forearms.
_LENGTHS = (('left_shoulder', 'right_shoulder', 'left_collar', 'right_collar'),
            ('spine1', 'spine2', 'spine3', 'neck'),
            ('left_elbow', 'right_elbow'), ('left_wrist', 'right_wrist'))
_LENGTH_SIGMA = 0.15  # of people around the mean, logarithm
_LENGTH_DRIFT = 0.05  # logarithm, for each square root of a second
_LENGTH_LIMIT = 0.35

# Columns of the unknowns.
_PLACE = slice(0, 3)
_TURNS = slice(3, 3 + 3 * len(_BALLS))
_FLEXIONS = slice(_TURNS.stop, _TURNS.stop + len(_HINGES))
_SCALES = slice(_FLEXIONS.stop, _FLEXIONS.stop + len(_LENGTHS))
_UNKNOWNS = _SCALES.stop

_TURNED = [BONE[bone] for bones, _, _ in _BALLS for bone in bones]  # bones of ball joints
_BALL_OF = [ball for ball, (bones, _, _) in enumerate(_BALLS) for _ in bones]
_SHARE = np.array([1 / len(_BALLS[ball][0]) for ball in _BALL_OF])
_HINGED = [BONE[bone] for bone in _HINGES]
# Flexion turns the T-pose's forearm forwards.
_FLEXION_AXIS = np.array(((0.0, -1.0, 0.0), (0.0, 1.0, 0.0)))
# The axes about which anything turns, and the unknown that each one belongs to.
_AXIS_BONES = np.array([bone for bone in _TURNED for _ in range(3)] + _HINGED)
_AXIS_UNKNOWN = np.zeros((len(_AXIS_BONES), _UNKNOWNS))
for _row, _bone in enumerate(_TURNED):
    for _axis in range(3):
        _AXIS_UNKNOWN[3 * _row + _axis, _TURNS.start + 3 * _BALL_OF[_row] + _axis] = _SHARE[_row]
for _row in range(len(_HINGED)):
    _AXIS_UNKNOWN[3 * len(_TURNED) + _row, _FLEXIONS.start + _row] = 1
_LENGTH_OF = np.zeros((len(BONES), len(_LENGTHS)))
for _column, _names in enumerate(_LENGTHS):
    _LENGTH_OF[[BONE[name] for name in _names], _column] = 1

_FACING = np.diag((1.0, -1.0, -1.0))  # body to camera axes of a person who faces the camera
_HUBER = 3.0       # standard deviations from which a point's pull grows no more
_DAMPING = 1e-3
_MAX_STEP = 0.6    # radians and metres an iteration


@dataclass(frozen=True, eq=False)
class Observations:
    """
    What the body is fitted to (P points, Q pairs).

    Attributes
    ----------
    bones : (P,) int
        The bone of ``BONES`` that each point is fixed to.
    offsets : (P, 3) float
        Where it is in that bone's T-pose axes, relative to the joint, metres.
    pixels : (P, 2) float
        Where it was seen.
    weights : (P,) float
        1 / standard deviation, 1/metres across the line of sight; 0 for points not seen.
    pairs : (Q, 2) int
        Points whose difference in depth is known; -1 stands for the camera.
    depths : (Q,) float
        Second minus first, metres along the camera's z.
    depth_weights : (Q,) float
        1 / standard deviation, 1/metres.
    head : (3, 3) float
        Rotation of the head to the camera.
    head_weight : float
        1 / standard deviation, 1/radians.

    """

    bones: np.ndarray
    offsets: Float64
    pixels: Float64
    weights: Float64
    pairs: np.ndarray
    depths: Float64
    depth_weights: Float64
    head: Float64
    head_weight: float


class BodyFit:
    """
    Fit the skeleton, from where the last fit ended.

    Parameters
    ----------
    zero_pose_joints : (55, 3) float
        Of the reference body, T-pose, metres.

    Attributes
    ----------
    rotations : (16, 3, 3) float
        Local rotations of ``BONES``, forearms untwisted.
    global_rotations : (16, 3, 3) float
        To the camera.
    place : (3,) float
        Of the pelvis joint in the camera's frame, metres.

    """

    def __init__(self, zero_pose_joints: Float64) -> None:
        joints = np.asarray(zero_pose_joints, float)[_JOINTS]
        self._offsets = joints - joints[_PARENT]
        self._offsets[0] = 0
        self._rest = np.tile(np.eye(3), (len(_TURNED), 1, 1))
        for side, sign in (('left', -1), ('right', 1)):
            self._rest[_TURNED.index(BONE[f'{side}_shoulder'])] = exp(
                np.array((0.0, 0.0, sign * _HANG)))
        self._rest[0] = _FACING
        sigma = np.full(_UNKNOWNS, np.inf)
        sigma[_TURNS] = np.concatenate([sigmas for _, sigmas, _ in _BALLS])
        sigma[_FLEXIONS] = _FLEXION_SIGMA
        sigma[_SCALES] = _LENGTH_SIGMA
        self._prior = 1 / sigma ** 2
        self._center = np.zeros(_UNKNOWNS)
        self._center[_FLEXIONS] = _FLEXION_REST
        self._limit = np.full(_UNKNOWNS, np.inf)
        self._limit[_TURNS] = np.concatenate([limits for _, _, limits in _BALLS])
        self._limit[_SCALES] = _LENGTH_LIMIT
        self._x = self._center.copy()
        self._placed = False
        self._reached = np.zeros(2, bool)  # which wrists were seen in the last fit
        self._measured = False  # whether the lengths are known at all
        self.rotations = np.tile(np.eye(3), (len(BONES), 1, 1))
        self._pose()

    @property
    def place(self) -> Float64:
        """Of the pelvis joint in the camera's frame, metres."""
        return self._x[_PLACE]

    @property
    def length_scales(self) -> Float64:
        """Factors of all 55 bones' lengths (the bone that ends at the joint) to the reference."""
        scales = np.ones(len(JOINT_PARENTS))
        scales[_JOINTS] = np.exp(_LENGTH_OF @ self._x[_SCALES])
        return scales

    def forget(self) -> None:
        """Start anew with the next fit, for another person or after a gap; keep the lengths."""
        lengths = self._x[_SCALES].copy()
        self._x = self._center.copy()
        self._x[_SCALES] = lengths
        self._placed = False

    def fit(self, seen: Observations, camera: Camera, elapsed_s: float) -> None:
        """
        Move the skeleton onto the observations.

        Parameters
        ----------
        seen : Observations
            Of one image.
        camera : Camera
            Of that image.
        elapsed_s : float
            Since the last fit; bounds how far the lengths may drift.

        """
        K = camera.K.astype(float)
        iterations = _ITERATIONS
        if not self._placed:
            self._place_roughly(seen, K)
            iterations = _FIRST_ITERATIONS
        reached = np.array([(seen.weights[seen.bones == wrist] > 0).any() for wrist in _WRISTS])
        if (reached & ~self._reached).any():
            # A straight elbow hardly knows which way to bend: begin with a bent one.
            self._x[_FLEXIONS][reached & ~self._reached] = _FLEXION_START
            iterations = _FIRST_ITERATIONS
        self._reached = reached
        lengths = self._x[_SCALES].copy()
        drift = 1 / (_LENGTH_DRIFT ** 2 * max(elapsed_s, 1e-3)) if self._measured else 0.0
        self._measured = True
        for _ in range(iterations):
            self._step(seen, K, lengths, drift)
        self._pose()

    def _place_roughly(self, seen: Observations, K: Float64) -> None:
        """Put the resting skeleton where its points have the size and middle that were seen."""
        self._pose()
        points = self._points(seen)[0]
        used = seen.weights > 0
        share = seen.weights[used] / seen.weights[used].sum()
        model, image = points[used, :2], seen.pixels[used]
        model_mean, image_mean = share @ model, share @ image
        spread = np.sqrt(share @ ((model - model_mean) ** 2).sum(1)
                         / max(share @ ((image - image_mean) ** 2).sum(1), 1.0))
        z = float(np.clip(spread * K[0, 0], 0.2, 20))
        depth = share @ points[used, 2] - self._x[2]
        ray = (image_mean - K[:2, 2]) / (K[0, 0], K[1, 1])
        self._x[_PLACE] += (*(ray * z - model_mean), z - depth - self._x[2])
        self._placed = True

    def _pose(self) -> None:
        """Compute rotations, positions and lengths from the unknowns."""
        turns = (self._x[_TURNS].reshape(-1, 3)[_BALL_OF] * _SHARE[:, None])
        self._turns = turns
        self.rotations[_TURNED] = exp(turns) @ self._rest
        self.rotations[_HINGED] = exp(_FLEXION_AXIS * self._x[_FLEXIONS, None])
        bones = self._offsets * np.exp(_LENGTH_OF @ self._x[_SCALES])[:, None]
        turned = np.empty_like(self.rotations)
        arms = np.empty_like(bones)
        positions = np.empty_like(bones)
        turned[0], positions[0], arms[0] = self.rotations[0], self._x[_PLACE], 0
        for bone in range(1, len(BONES)):
            parent = _PARENT[bone]
            turned[bone] = turned[parent] @ self.rotations[bone]
            arms[bone] = turned[parent] @ bones[bone]
            positions[bone] = positions[parent] + arms[bone]
        self.global_rotations, self._positions, self._arms = turned, positions, arms

    def _points(self, seen: Observations) -> tuple[Float64, Float64]:
        """Return the observed points (P, 3) and their offsets from their joints, camera axes."""
        offsets = np.einsum('pab,pb->pa', self.global_rotations[seen.bones], seen.offsets)
        return self._positions[seen.bones] + offsets, offsets

    def _axes(self) -> Float64:
        """Return the axes (A, 3) about which the unknowns turn things, camera axes."""
        parents = [_PARENT[bone] for bone in _TURNED]
        above = self.global_rotations[parents]
        above[0] = np.eye(3)
        balls = (above @ left_jacobian(self._turns)).transpose(0, 2, 1).reshape(-1, 3)
        hinges = np.einsum('hab,hb->ha', self.global_rotations[[_PARENT[b] for b in _HINGED]],
                           _FLEXION_AXIS)
        return np.concatenate((balls, hinges))

    def _step(self, seen: Observations, K: Float64, lengths: Float64, drift: float) -> None:
        """Do one Gauss-Newton iteration."""
        self._pose()
        points, _ = self._points(seen)
        axes = self._axes()
        moves = _PATH[seen.bones]                                      # (P, bones)
        # Derivatives of the points, (P, 3, unknowns): rotation axis x lever arm ...
        levers = points[:, None] - self._positions[_AXIS_BONES]
        turning = _cross(axes, levers) * moves[:, _AXIS_BONES, None]   # (P, A, 3)
        derivative = turning.transpose(0, 2, 1) @ _AXIS_UNKNOWN
        derivative[:, :, _PLACE] = np.eye(3)                           # ... place ...
        derivative[:, :, _SCALES] = np.einsum(                         # ... and lengths
            'pb,bc,bl->pcl', moves.astype(float), self._arms, _LENGTH_OF)
        # Points in the image, measured in metres at their depth.
        z = np.maximum(points[:, 2:], 0.1)
        sight = points[:, :2] / z
        miss = (seen.pixels - K[:2, 2]) / (K[0, 0], K[1, 1]) * z - points[:, :2]
        weights = seen.weights.copy()
        far = np.linalg.norm(miss, axis=1) * weights
        weights *= np.sqrt(np.minimum(1, _HUBER / np.maximum(far, 1e-9)))
        image_rows = (derivative[:, :2] - sight[:, :, None] * derivative[:, 2:]
                      ) * weights[:, None, None]
        first, second = seen.pairs.T
        depth = np.append(points[:, 2], 0)  # the last is the camera's
        depth_derivative = np.concatenate((derivative[:, 2], np.zeros((1, _UNKNOWNS))))
        depth_rows = ((depth_derivative[second] - depth_derivative[first])
                      * seen.depth_weights[:, None])
        depth_miss = (seen.depths - depth[second] + depth[first]) * seen.depth_weights
        head = BONE['head']
        head_rows = seen.head_weight * (
            (axes * _PATH[head, _AXIS_BONES, None]).T @ _AXIS_UNKNOWN)
        head_miss = seen.head_weight * log(seen.head @ self.global_rotations[head].T)
        rows = np.concatenate((image_rows.reshape(-1, _UNKNOWNS), depth_rows, head_rows))
        misses = np.concatenate(((miss * weights[:, None]).ravel(), depth_miss, head_miss))
        normal = rows.T @ rows
        gradient = rows.T @ misses + self._prior * (self._center - self._x)
        gradient[_SCALES] += drift * (lengths - self._x[_SCALES])
        diagonal = normal.ravel()[::_UNKNOWNS + 1]  # a view
        diagonal += self._prior
        diagonal[_SCALES] += drift
        diagonal *= 1 + _DAMPING
        diagonal += 1e-6
        step = np.linalg.solve(normal, gradient)
        self._x += np.clip(step, -_MAX_STEP, _MAX_STEP)
        np.clip(self._x, -self._limit, self._limit, out=self._x)
        self._x[_FLEXIONS] = np.clip(self._x[_FLEXIONS], *_FLEXION_LIMITS)


def _cross(a: Float64, b: Float64) -> Float64:
    """Return the cross products of (A, 3) with (P, A, 3): np.cross without its overhead."""
    out = np.empty_like(b)
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[..., k] = a[:, i] * b[..., j] - a[:, j] * b[..., i]
    return out
