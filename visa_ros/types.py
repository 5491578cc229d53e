"""
The values that pass between the stages: plain frozen dataclasses of numpy arrays.

Arrays are shared, not copied: whoever receives a value does not write into it.  A value that must
outlive the next frame of a stage that reuses its buffers says so (``copy``).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from visa_ros.conventions import BLENDSHAPES, JOINTS, PARTS
from visa_ros.errors import ImageError, PoseError

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

# Metres or radians.  Larger numbers are nobody's, and would spoil every mean that they enter.
POSE_LIMIT = 1000.0


@dataclass(frozen=True, eq=False)
class CameraImage:
    """
    One frame of a camera.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        C-contiguous, sRGB.
    stamp_ns : int
        When the light fell in, nanoseconds since the epoch; carried through every stage.
    frame_id : str
        The camera's optical frame.

    """

    rgb: UInt8
    stamp_ns: int
    frame_id: str = 'camera_optical_frame'

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ImageError(
                f'a camera image must be (H, W, 3) uint8 RGB, got {self.rgb.shape} '
                f'{self.rgb.dtype}; convert it first')


@dataclass(frozen=True, eq=False)
class OperatorPose:
    """
    How the operator stands, moves and looks, at one moment.

    Attributes
    ----------
    joint_rotations : (55, 3) float32
        Axis-angle, radians, relative to the parent joint; order ``conventions.JOINTS``.  The
        first turns the body frame into the frame ``frame_id`` (SMPL-X's ``global_orient``).
    translation : (3,) float32
        Where the pelvis joint is in ``frame_id``, metres; captured: that of a body of mean
        proportions whose head is where the operator's is.
    blendshapes : (52,) float32
        In [0, 1]; order ``conventions.BLENDSHAPES``.
    confidence : (6,) float32
        In [0, 1]; order ``conventions.PARTS``; 0 means unseen: the values are then held or
        resting ones.
    stamp_ns : int
        Of the camera image, nanoseconds since the epoch.
    frame_id : str
        An optical frame.
    operator_id : str
        Whose pose this is.

    Raises
    ------
    PoseError
        An array has the wrong shape, or holds NaN, infinity or a number that is no pose.

    """

    joint_rotations: Float32
    translation: Float32
    blendshapes: Float32
    confidence: Float32
    stamp_ns: int = 0
    frame_id: str = 'camera_optical_frame'
    operator_id: str = 'operator'

    def __post_init__(self) -> None:
        for name, shape in (('joint_rotations', (len(JOINTS), 3)), ('translation', (3,)),
                            ('blendshapes', (len(BLENDSHAPES),)), ('confidence', (len(PARTS),))):
            value = getattr(self, name)
            if value.shape != shape:
                raise PoseError(f'OperatorPose.{name} must have shape {shape}, got {value.shape}')
            if not np.abs(value).max() <= POSE_LIMIT:  # nor is NaN
                raise PoseError(f'OperatorPose.{name} holds NaN, infinity or more than '
                                f'{POSE_LIMIT:g}; frame skipped')

    @classmethod
    def rest(cls, **values: object) -> OperatorPose:
        """Return the zero pose, all parts unseen; keyword arguments replace fields."""
        fields: dict = {
            'joint_rotations': np.zeros((len(JOINTS), 3), np.float32),
            'translation': np.zeros(3, np.float32),
            'blendshapes': np.zeros(len(BLENDSHAPES), np.float32),
            'confidence': np.zeros(len(PARTS), np.float32),
        }
        return cls(**(fields | values))

    def unseen(self, image: CameraImage) -> OperatorPose:
        """Return this pose held, saying that nobody was seen in ``image``."""
        return replace(self, confidence=np.zeros_like(self.confidence), stamp_ns=image.stamp_ns,
                       frame_id=image.frame_id)


@dataclass(frozen=True, eq=False)
class Camera:
    """
    A pinhole camera without distortion.

    Attributes
    ----------
    K : (3, 3) float32
        Intrinsics, pixels.
    width, height : int
        Pixels.

    """

    K: Float32
    width: int
    height: int

    @classmethod
    def from_focal(cls, focal_px: float, width: int, height: int) -> Camera:
        """Return the camera with square pixels and the principal point in the middle."""
        K = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], np.float32)
        return cls(K, width, height)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels (..., 2) of points (..., 3) in the camera's frame, metres."""
        return points[..., :2] / points[..., 2:] * self.K.diagonal()[:2] + self.K[:2, 2]

    def smaller(self, stride: int) -> Camera:
        """Return the same view with pixels of ``stride`` by ``stride`` of this one's."""
        scale = np.float32(1 / stride)
        K = self.K * np.array([[scale], [scale], [1]], np.float32)
        return Camera(K, self.width // stride, self.height // stride)

    def cut(self, window: tuple[slice, slice]) -> Camera:
        """Return the view of a part of the picture: rows and columns."""
        rows, columns = window
        K = self.K.copy()
        K[:2, 2] -= columns.start, rows.start
        return Camera(K, columns.stop - columns.start, rows.stop - rows.start)

    def resized(self, width: int, height: int) -> Camera:
        """Return the same view at another size; the short side keeps its field of view."""
        scale = min(width, height) / min(self.width, self.height)
        K = self.K * np.array([[scale], [scale], [1]], np.float32)
        K[0, 2] += (width - self.width * scale) / 2
        K[1, 2] += (height - self.height * scale) / 2
        return Camera(K, width, height)


@dataclass(frozen=True)
class Consent:
    """
    Who agreed that this avatar exists, when, and until when; signed by ``trust.consent.signed``.

    Attributes
    ----------
    operator_id : str
        Whose likeness it is; only poses of this operator drive it.
    granted_by : str
        Who said so.
    granted_at_ns : int
        Nanoseconds since the epoch.
    statement : str
        What was agreed.
    expires_at_ns : int
        From when on it holds no more, nanoseconds since the epoch; 0: it does not expire.
    key : str
        The Ed25519 public key that signed it, 64 hexadecimal digits; empty: unsigned.
    signature : str
        Over this record and the avatar's content, 128 hexadecimal digits; empty: unsigned.

    """

    operator_id: str
    granted_by: str
    granted_at_ns: int
    statement: str
    expires_at_ns: int = 0
    key: str = ''
    signature: str = ''


@dataclass(frozen=True, eq=False)
class GaussianAvatar:
    """
    A person as 3D Gaussians on a parametric body (N Gaussians).

    Attributes
    ----------
    body_model : str
        ``BodyModel.name`` of the body it is bound to.
    betas : (B,) float32
        The person's shape coefficients.
    triangles : (N,) int32
        The triangle of the body that each Gaussian moves with.
    barycentrics : (N, 3) float32
        Its foot point in that triangle.
    means : (N, 3) float32
        Body frame, rest pose of the body model with these betas and a neutral face; metres.
    quats : (N, 4) float32
        wxyz, unit length within 1 %.
    scales : (N, 3) float32
        Standard deviations, metres.
    opacities : (N,) float32
        In [0, 1].
    colors : (N, 3) float32
        sRGB in [0, 1].
    features : (N, F) float32
        3D-aware features for the shader; F may be 0.
    shader : bytes
        Weights of a shader that was tuned to this person (``visa enroll``), as
        ``shading.network.save_network`` writes them; may be empty.
    camera : Camera
        The view of the portrait, in whose frame ``portrait_pose`` is.
    portrait_pose : OperatorPose
        The pose that the portrait shows.
    consent : Consent
        Travels with the avatar.

    """

    body_model: str
    betas: Float32
    triangles: NDArray[np.int32]
    barycentrics: Float32
    means: Float32
    quats: Float32
    scales: Float32
    opacities: Float32
    colors: Float32
    features: Float32
    camera: Camera
    portrait_pose: OperatorPose
    consent: Consent
    shader: bytes = b''

    def __len__(self) -> int:
        return len(self.means)


class Presence(IntEnum):
    """What the person before the screen must know about the picture."""

    LIVE = 0           # the avatar follows the operator
    HOLDING = 1        # no fresh pose for a moment: the last one is held
    OPERATOR_LOST = 2  # nobody before the camera: the avatar idles, and the screen says so
    LINK_LOST = 3      # no pose arrives at all: the avatar idles, and the screen says so


@dataclass(frozen=True, eq=False)
class CoarseFrame:
    """
    The avatar as the Gaussian renderer shows it.

    The arrays belong to the renderer and are overwritten by a later frame.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        Over the background, sRGB.
    alpha : (H, W) float32
        In [0, 1].
    depth : (H, W) float32
        Metres along the camera's z, 0 where nothing is (REP-118).
    stamp_ns : int
        Of the operator's camera image.
    presence : Presence
        State of the operator's stream.
    head_px : (2,) float32, optional
        Where the middle of the head is, x and y in pixels, which may be outside of the picture.
    window : (slice, slice), optional
        Rows and columns of which more is known, where the renderer was asked for it.
    features : (h / 4, w / 4, F) float32, optional
        In the window, the avatar's features, splatted like colours over zero; pixels of
        ``FEATURE_STRIDE``.
    turning : (h / 4, w / 4, 7) float32, optional
        In the window, what ``rendering.turning`` says of the Gaussians, splatted in the same way.

    """

    rgb: UInt8
    alpha: Float32
    depth: Float32
    stamp_ns: int
    presence: Presence = Presence.LIVE
    head_px: Float32 | None = None
    window: tuple[slice, slice] | None = None
    features: Float32 | None = None
    turning: Float32 | None = None


@dataclass(frozen=True, eq=False)
class ShadedFrame:
    """
    What goes on the screen; without a shader, the coarse picture itself.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        sRGB, C-contiguous.
    stamp_ns : int
        Of the operator's camera image.
    presence : Presence
        State of the operator's stream; a display marks all but LIVE and HOLDING.
    rgba : (H, W, 4) uint8, optional
        The picture with straight (not premultiplied) alpha, where its background is transparent;
        ``rgb`` is then over a colour.

    """

    rgb: UInt8
    stamp_ns: int
    presence: Presence = Presence.LIVE
    rgba: UInt8 | None = None
