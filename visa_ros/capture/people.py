"""Who and what belongs together among the things that the trackers find."""
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from visa_ros.capture.landmarks import HandLandmarks, Landmarks
from visa_ros.types import Float32, UInt8

# MediaPipe's pose landmarks.
_NOSE, _EYES, _EARS, _MOUTH = 0, [2, 5], [7, 8], [9, 10]
WRISTS = [15, 16]
_LIMBS = [11, 12, 13, 14, 15, 16]  # shoulders, elbows, wrists
_HANDS = [[15, 17, 19, 21], [16, 18, 20, 22]]  # wrist, little finger, index, thumb
TORSO = [11, 12, 23, 24]
UPPER_BODY = slice(0, 25)
_HAND_WRIST = 0  # of the hand's landmarks

_MIN_VISIBILITY = 0.25    # below it an arm cannot own a hand
_MIN_MOVING = 0.5         # visibility below which a joint does not say that a body moves
_MIN_IOU = 0.2            # of the operator's torso in consecutive frames
_MAX_COLOR_DISTANCE = 0.4
_MIN_COLOR_PX = 4         # sides of a patch that has colours to speak of
_COLOR_RATE = 0.02        # a frame, at which the operator's colours are learned anew
_MAX_HAND_DISTANCE = 0.5  # of a hand's wrist to the arm's, in sizes of the torso

Hands = tuple[HandLandmarks | None, HandLandmarks | None]  # left, right


def head(pose: Float32) -> tuple[Float32, float]:
    """Return the middle of the face and the head's rough size in pixels, from body landmarks."""
    eyes, mouth = pose[_EYES].mean(0), pose[_MOUTH].mean(0)
    # Proportions of MediaPipe's canonical face; the largest, since each may be foreshortened.
    size = max(np.linalg.norm(pose[_EARS[0]] - pose[_EARS[1]]),
               2.2 * np.linalg.norm(eyes - mouth), 0.4 * np.linalg.norm(pose[11] - pose[12]))
    return (eyes + mouth + pose[_NOSE]) / 3, float(size)


def prominence(body: Landmarks) -> float:
    """Return how likely a person is the operator: large and in the middle."""
    size = np.array((body.width, body.height), np.float32)
    inside = np.clip(body.pose[UPPER_BODY], 0, size)
    low, high = inside.min(0), inside.max(0)
    off_center = abs((low[0] + high[0]) / size[0] - 1)
    return float(np.prod(high - low) * (1 - 0.5 * off_center))


class Operator:
    """
    Where the operator was last and what colours hair, skin and clothes have.

    On a clip of three people who change places, the colours tell the operator (distance 0.1-0.3)
    from the others (0.4-0.7); positions alone jump to whoever passes by (doc/capture.md).

    Attributes
    ----------
    torso : (4, 2) float32
        Shoulders and hips where they were seen last, pixels.

    """

    def __init__(self, image: UInt8, body: Landmarks) -> None:
        self.torso = body.pose[TORSO]
        self._colors = _colors(image, body)

    def unlikeness(self, image: UInt8, body: Landmarks) -> float:
        """Return how unlike the operator a person is, by place and colours; above 1: another."""
        place = np.linalg.norm(body.pose[TORSO].mean(0) - self.torso.mean(0))
        place /= np.ptp(self.torso, 0).max()
        return float(place + self._color_distance(_colors(image, body)) / _MAX_COLOR_DISTANCE) / 2

    def is_still(self, image: UInt8, body: Landmarks) -> bool:
        """Tell whether a tracked body is the operator's still, and if so, remember it."""
        colors = _colors(image, body)
        distance = self._color_distance(colors)
        if not _overlap(body.pose[TORSO], self.torso) or distance > _MAX_COLOR_DISTANCE:
            return False
        self.torso = body.pose[TORSO]
        self._colors = [new if old is None or new is None else old + _COLOR_RATE * (new - old)
                        for old, new in zip(self._colors, colors, strict=True)]
        return True

    def _color_distance(self, colors: list[Float32 | None]) -> float:
        """Return the mean Hellinger-type distance of the histograms that both have."""
        distances = [1 - np.sqrt(a * b).sum() for a, b in zip(self._colors, colors, strict=True)
                     if a is not None and b is not None]
        return float(np.mean(distances)) if distances else 0.0


def _colors(image: UInt8, body: Landmarks) -> list[Float32 | None]:
    """Return Lab histograms (8 x 16 x 16 bins) of chest and face; None out of the image."""
    left, right, nose = body.pose[11], body.pose[12], body.pose[_NOSE]
    size = max(float(np.linalg.norm(left - right)), 0.5 * float(np.ptp(body.pose[TORSO, 1])))
    middle = (left + right) / 2
    histograms: list[Float32 | None] = []
    for center, low, high in ((middle, (-0.4, 0.05), (0.4, 0.8)),
                              (nose, (-0.2, -0.5), (0.2, 0.25))):
        corners = center + size * np.array((low, high))
        corners = np.clip(corners, 0, (body.width, body.height)).astype(int)
        (x0, y0), (x1, y1) = corners
        if min(x1 - x0, y1 - y0) < _MIN_COLOR_PX:
            histograms.append(None)
            continue
        patch = cv2.resize(image[y0:y1, x0:x1], (24, 24), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(int)
        a, b = np.clip((lab[:, 1:] - 64) // 8, 0, 15).T  # colours of people are not saturated
        counts = np.bincount((lab[:, 0] // 32) * 256 + a * 16 + b, minlength=2048)
        histograms.append(counts.astype(np.float32) / np.float32(len(lab)))
    return histograms


def _overlap(a: Float32, b: Float32) -> bool:
    """Tell whether torsos in consecutive frames can be one person's, by their boxes."""
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    both = np.prod(np.maximum(high - low, 0))
    either = np.prod(np.ptp(a, 0)) + np.prod(np.ptp(b, 0)) - both
    return bool(both > _MIN_IOU * either)


def motion(before: Landmarks, after: Landmarks) -> float:
    """Return how far the joint in view that moved most has moved, in sizes of the torso."""
    moved = np.linalg.norm(after.pose[_LIMBS] - before.pose[_LIMBS], axis=1)
    seen = after.visibility[_LIMBS] > _MIN_MOVING
    return float((moved * seen).max() / max(np.ptp(after.pose[TORSO], 0).max(), 1.0))


def is_on(face: Float32, body: Landmarks) -> bool:
    """Tell whether a face is on this body."""
    center, size = head(body.pose)
    return bool(np.linalg.norm(face.mean(0) - center) < size)


def hands_in_view(body: Landmarks) -> NDArray[np.bool_]:
    """Tell for left and right whether the image shows wrist or knuckles."""
    return body.visibility[_HANDS].max(1) > _MIN_VISIBILITY


def assigned_hands(hands: list[HandLandmarks], body: Landmarks) -> Hands:
    """
    Give each hand to the nearest wrist of an arm in view.

    MediaPipe's own left and right are not used: they are often wrong, and a wrist cannot be.
    """
    reach = _MAX_HAND_DISTANCE * np.ptp(body.pose[TORSO], 0).max()
    wrists = body.pose[WRISTS]
    pairs = sorted(
        (float(np.linalg.norm(hand.image[_HAND_WRIST] - wrists[side])), index, int(side))
        for index, hand in enumerate(hands) for side in np.flatnonzero(hands_in_view(body)))
    assigned: list[HandLandmarks | None] = [None, None]
    taken: set[int] = set()
    for gap, index, side in pairs:
        if gap < reach and assigned[side] is None and index not in taken:
            assigned[side] = hands[index]
            taken.add(index)
    return assigned[0], assigned[1]


def kept_hands(last: Landmarks | None, body: Landmarks) -> Hands:
    """Return the hands of the last frame, moved as the wrists have."""
    if last is None:
        return None, None
    left, right = (
        None if hand is None else replace(hand, image=hand.image + body.pose[wrist]
                                          - last.pose[wrist])
        for hand, wrist in zip((last.left_hand, last.right_hand), WRISTS, strict=True))
    return left, right
