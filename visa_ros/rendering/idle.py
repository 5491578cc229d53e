"""
What a person does who does nothing: breathe, blink, look about a little, sway.

Everything is a function of time and a seed, periodic over ten minutes.  Figures marked "measured"
are of real people before webcams (``python -m visa_ros.evaluation behaviour``, doc/behaviour.md).
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.rendering.gaze import EYES, lids_follow
from visa_ros.types import OperatorPose

Float64 = NDArray[np.float64]

PERIOD_S = 600.0

# Blinks (measured, clip franck: a man in conversation; those of the other clips watch a laptop and
# blink two to four times a minute).  Closing and opening were measured from and to a fifth.
_BLINK_INTERVAL_S, _BLINK_SIGMA, _BLINK_LEAST_S = 2.4, 0.9, 0.5
_CLOSING_S, _CLOSED_S, _OPENING_S = 0.09, 0.03, 0.22
BLINK_S = _CLOSING_S + _CLOSED_S + _OPENING_S

# Gaze in the head (measured; a little calmer here, for the tracker's noise looks like jumps).  How
# long a jump takes: the main sequence, 21 ms and 2.2 ms a degree (Carpenter 1988, "Movements of
# the Eyes").
_FIXATION_S, _FIXATION_SIGMA, _FIXATION_LEAST_S = 0.9, 0.75, 0.25
_GAZE_SPREAD_DEG = np.array((1.5, 2.0))  # down, to the left
_GAZE_AT_MOST_DEG = 5.0
_JUMP_S, _JUMP_S_PER_DEG = 0.021, 0.0022

# Sway of the head: nod, turn, tilt, and the share of its power by frequency (measured, about the
# clips' mean; what is slower than 0.125 Hz is a guess).
_SWAY_DEG = np.array((0.5, 0.45, 0.25))
_SWAY_BANDS_HZ = ((0.05, 0.125, 0.1), (0.125, 0.25, 0.2), (0.25, 0.5, 0.3), (0.5, 1.0, 0.4))
_WAVES = 3  # a band
_SWAY_JOINTS = {'spine2': 0.2, 'neck': 0.4, 'head': 0.4}  # shares

# Breathing at rest: 12 to 16 breaths a minute, in for two fifths of a breath.  How far chest and
# collarbones turn [deg, from breathed out to breathed in] is chosen by eye: the clips show too
# little of it.  Arms and head are held against it.
_BREATHS, _BREATHS_VARY, _BREATHS_VARY_PERIODS = 14, 1.6, 13
_IN_SHARE = 0.4
_BREATH_DEG = {
    'spine3': (-0.7, 0, 0), 'head': (0.5, 0, 0), 'left_collar': (0, 0, 1.3),
    'right_collar': (0, 0, -1.3), 'left_shoulder': (0, 0, -1.3), 'right_shoulder': (0, 0, 1.3)}

_LIDS = [BLENDSHAPE_INDEX[name] for name in ('eyeBlinkLeft', 'eyeBlinkRight')]
_TURNED = [JOINT_INDEX[name] for name in dict.fromkeys((*_SWAY_JOINTS, *_BREATH_DEG))]


class IdleMotion:
    """
    Small motion on top of a pose that is not a live operator's.

    Parameters
    ----------
    resting : OperatorPose
        How far the lids are open between blinks.
    seed : int
        Of when and where to.

    """

    def __init__(self, resting: OperatorPose, seed: int = 0) -> None:
        self._lids = resting.blendshapes[_LIDS]
        random = np.random.default_rng(seed)
        self._blinks_s = _times(random, _BLINK_INTERVAL_S, _BLINK_SIGMA, _BLINK_LEAST_S)
        self._jumps_s = _times(random, _FIXATION_S, _FIXATION_SIGMA, _FIXATION_LEAST_S)
        gaze = random.normal(0, _GAZE_SPREAD_DEG, (len(self._jumps_s), 2))
        gaze *= np.minimum(1, _GAZE_AT_MOST_DEG / np.linalg.norm(gaze, axis=1))[:, None]
        self._gaze_deg = gaze
        cycles = [random.integers(round(low * PERIOD_S), round(high * PERIOD_S), _WAVES)
                  for low, high, _ in _SWAY_BANDS_HZ]
        self._sway_rate = 2 * np.pi / PERIOD_S * np.concatenate(cycles)[:, None]
        self._sway_phase = random.uniform(0, 2 * np.pi, (len(self._sway_rate), 3))
        power = np.repeat([power for *_, power in _SWAY_BANDS_HZ], _WAVES) / _WAVES
        self._sway_deg = np.sqrt(2 * power)[:, None] * _SWAY_DEG

    def applied(self, pose: OperatorPose, time_s: float, share: float) -> OperatorPose:
        """
        Return the pose with idle motion.

        Parameters
        ----------
        pose : OperatorPose
            Its lids open to where they rest, and shut only with the idle blinks: whoever was lost
            in mid-blink does not stay so.
        time_s : float
            Seconds; goes on evenly.
        share : float
            How much of it, in [0, 1]; 0 returns the pose itself.

        """
        if share <= 0:
            return pose
        sway_deg = self.sway_deg(time_s)
        turns = np.zeros((len(_TURNED), 3))
        breath = self.breath(time_s)
        for row, joint in enumerate(dict.fromkeys((*_SWAY_JOINTS, *_BREATH_DEG))):
            turns[row] = (_SWAY_JOINTS.get(joint, 0.0) * sway_deg
                          + breath * np.array(_BREATH_DEG.get(joint, (0, 0, 0))))
        # The eyes stay on what they look at while the head sways.
        gaze = np.radians(share * (self.gaze_deg(time_s) - sway_deg[:2]))
        rotations = pose.joint_rotations.copy()
        joints = [*_TURNED, *EYES]
        turns = np.concatenate((np.radians(share * turns), np.tile((*gaze, 0.0), (2, 1))))
        rotations[joints] = (Rotation.from_rotvec(rotations[joints])
                             * Rotation.from_rotvec(turns)).as_rotvec()
        blendshapes = lids_follow(pose.blendshapes, gaze)
        open_lids = np.minimum(blendshapes[_LIDS], self._lids)
        blendshapes[_LIDS] = np.maximum(blendshapes[_LIDS] + share * (
            open_lids - blendshapes[_LIDS]), share * self.blink(time_s))
        return replace(pose, joint_rotations=rotations, blendshapes=blendshapes)

    def breath(self, time_s: float) -> float:
        """Return how far breathed in, from 0 to 1."""
        slow = 2 * np.pi * _BREATHS_VARY_PERIODS * time_s / PERIOD_S
        vary = _BREATHS_VARY / _BREATHS_VARY_PERIODS * PERIOD_S / 60 / (2 * np.pi)
        place = (_BREATHS * time_s / 60 + vary * np.sin(slow)) % 1.0
        place = (place / (2 * _IN_SHARE) if place < _IN_SHARE
                 else (place + 1 - 2 * _IN_SHARE) / (2 - 2 * _IN_SHARE))
        return float(0.5 - 0.5 * np.cos(2 * np.pi * place))

    def blink(self, time_s: float) -> float:
        """Return how far the lids are shut by a blink, from 0 to 1."""
        since_s = time_s % PERIOD_S - self._blinks_s
        since_s = since_s[since_s >= 0]
        if not len(since_s):
            return 0.0
        now_s = float(since_s[-1])
        if now_s < _CLOSING_S:
            return _smooth(now_s / _CLOSING_S)
        opened = np.clip((now_s - _CLOSING_S - _CLOSED_S) / _OPENING_S, 0, 1)
        return _smooth(float(1 - opened)) if opened < 1 else 0.0

    def gaze_deg(self, time_s: float) -> Float64:
        """Return where the eyes look, (2,): down and to the left of straight on, degrees."""
        place_s = time_s % PERIOD_S
        index = int(np.searchsorted(self._jumps_s, place_s, side='right')) - 1
        if index < 0:
            return self._gaze_deg[-1]
        before, after = self._gaze_deg[index - 1], self._gaze_deg[index]
        took_s = _JUMP_S + _JUMP_S_PER_DEG * float(np.linalg.norm(after - before))
        done = min((place_s - float(self._jumps_s[index])) / took_s, 1.0)
        return before + _smooth(done) * (after - before)

    def sway_deg(self, time_s: float) -> Float64:
        """Return how the head has swayed, (3,): nod, turn and tilt, degrees."""
        return (self._sway_deg * np.sin(self._sway_rate * time_s + self._sway_phase)).sum(0)


def _times(random: np.random.Generator, median_s: float, sigma: float,
           least_s: float) -> Float64:
    """Return when something happens in a period: log-normal intervals."""
    gaps = np.maximum(random.lognormal(np.log(median_s), sigma, int(4 * PERIOD_S / median_s)),
                      least_s)
    times = np.cumsum(gaps)
    assert times[-1] > PERIOD_S
    return times[times < PERIOD_S - 1]


def _smooth(share: float) -> float:
    return share * share * (3 - 2 * share)
