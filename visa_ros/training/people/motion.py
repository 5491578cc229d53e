"""How people hold themselves: as real ones before a webcam do, and as drawn by chance."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros import samples
from visa_ros.body.kinematics import joint_transforms, posed_joints
from visa_ros.body.model import load_body_model
from visa_ros.cache import cache_folder, write_arrays
from visa_ros.conventions import BLENDSHAPE_INDEX, BLENDSHAPES, JOINT_INDEX, JOINTS, PART_INDEX
from visa_ros.types import CameraImage, Float32, OperatorPose

# Clips whose poses people take; the test's is nobody's in training.
CLIPS = {'train': ('cap12', 'cap13'), 'test': ('franck',)}
_EVERY, _MOST_FRAMES = 3, 500
_FINGERS = ('index', 'middle', 'ring', 'pinky')
_SIDES = (('left', 1.0), ('right', -1.0))
_EXPRESSIVE = np.array([not name.startswith('eyeLook') and name != 'tongueOut'
                        for name in BLENDSHAPES])


@dataclass(frozen=True, eq=False)
class Motion:
    """
    Poses without a place, of T moments.

    Attributes
    ----------
    joint_rotations : (T, 55, 3) float32
        As in ``OperatorPose``; the pelvis is of no meaning here.
    blendshapes : (T, 52) float32
        As in ``OperatorPose``.
    confidence : (T, 6) float32
        As in ``OperatorPose``.

    """

    joint_rotations: Float32
    blendshapes: Float32
    confidence: Float32


@cache
def captured(clip: str) -> Motion:
    """
    Return the motion of a person in a clip of ``visa_ros.samples``.

    It is captured by ``visa_ros.capture`` once and then kept in the cache.

    Raises
    ------
    ResourceError
        The clip is out of reach.

    """
    path = cache_folder('training') / f'motion-{clip}-{_EVERY}.npz'
    if not path.is_file():
        poses = _capture(clip)
        write_arrays(path, **{name: np.stack([getattr(pose, name) for pose in poses])
                              for name in ('joint_rotations', 'blendshapes', 'confidence')})
    with np.load(path, allow_pickle=False) as arrays:
        return Motion(**arrays)


def _capture(clip: str) -> list[OperatorPose]:
    from visa_ros.capture.capture import PoseCapture
    from visa_ros.capture.source import read_video

    out = []
    with PoseCapture() as capture:
        frames = islice(read_video(samples.video(clip)), 0, _EVERY * _MOST_FRAMES, _EVERY)
        for rgb, media_ns in frames:
            pose = capture.process(CameraImage(rgb, media_ns + 10**9))
            if pose is not None and pose.confidence[PART_INDEX['face']] > 0.5:
                out.append(pose)
    return out


def draw_motion(rng: np.random.Generator, split: str, kind: str) -> Motion:
    """
    Draw one moment.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chance.
    split : {'train', 'test'}
        Whose clips are used.
    kind : {'portrait', 'captured', 'talking', 'raised', 'front'}
        Facing the camera quietly; a moment of a real clip; head, gaze and face at random; with
        an arm or both raised; with hands before the chest.

    Returns
    -------
    Motion
        With T = 1.

    """
    rotations = np.zeros((len(JOINTS), 3), np.float32)
    blendshapes = np.zeros(len(BLENDSHAPES), np.float32)
    _hands(rng, rotations)
    for joint in ('spine1', 'spine2', 'spine3'):
        rotations[JOINT_INDEX[joint]] = np.deg2rad(rng.normal(0, (3, 4, 2)))
    if kind == 'portrait':
        _head(rng, rotations, np.clip(rng.normal(0, 5, 3), -12, 12))
        _expression(rng, blendshapes, most=0.35, blink=0.0)
        _gaze(rng, rotations, blendshapes, 6)
    else:
        _head(rng, rotations, rng.uniform(-1, 1, 3) * (20, 45, 12))
        _expression(rng, blendshapes, most=1.0, blink=0.25)
        _gaze(rng, rotations, blendshapes, 22)
    wanted = kind if kind in _WRISTS else 'front' if rng.random() < 0.1 else 'down'
    places = [wanted, wanted if rng.random() < 0.5 else 'down']
    rng.shuffle(places)
    for (side, sign), place in zip(_SIDES, places, strict=True):
        _arm(rng, rotations, side, sign, place)
    if kind == 'captured':
        _take_clip(rng, split, rotations, blendshapes)
    return Motion(rotations[None], blendshapes[None], np.ones((1, len(PART_INDEX)), np.float32))


def facing(yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Float32:
    """Return the pelvis' axis-angle of a person who faces the camera, turned about its axes."""
    return (Rotation.from_euler('x', np.pi) * Rotation.from_euler(
        'YXZ', [yaw_deg, pitch_deg, roll_deg], degrees=True)).as_rotvec().astype(np.float32)


def placed(motion: Motion, betas: Float32, pelvis: Float32, neck_m: Float32) -> OperatorPose:
    """Return the pose of a motion's first moment, with the neck joint at a place."""
    rotations = motion.joint_rotations[0].copy()
    rotations[0] = pelvis
    neck = _posed(rotations, betas)[JOINT_INDEX['neck']]
    return OperatorPose(rotations, (neck_m - neck).astype(np.float32), motion.blendshapes[0],
                        motion.confidence[0])


def still(joints_deg: dict[str, tuple[float, float, float]],
          blendshapes: dict[str, float]) -> Motion:
    """Return a moment with the arms down, but for the joints named; Euler angles x, y, z."""
    rotations = np.zeros((len(JOINTS), 3), np.float32)
    for side, sign in _SIDES:
        _set_arm(rotations, side, sign, (68, 8, 0), 18)
        for finger in _FINGERS:
            for bone in (1, 2, 3):
                rotations[JOINT_INDEX[f'{side}_{finger}{bone}']] = [0, 0, -sign * np.deg2rad(18)]
    for joint, angles in joints_deg.items():
        rotations[JOINT_INDEX[joint]] = Rotation.from_euler(
            'XYZ', angles, degrees=True).as_rotvec()
    values = np.zeros(len(BLENDSHAPES), np.float32)
    for name, value in blendshapes.items():
        values[BLENDSHAPE_INDEX[name]] = value
    return Motion(rotations[None], values[None], np.ones((1, len(PART_INDEX)), np.float32))


# Where a wrist may be, metres from the neck joint: outwards, up, to the front; least and most.
_WRISTS = {
    'raised': ((0.12, -0.08, -0.05), (0.70, 0.60, 0.60)),
    'front': ((-0.16, -0.42, 0.22), (0.26, 0.02, 0.50)),
}
# Ranges of the arm's angles, degrees: down, forwards, twist, and the elbow's.
_ARMS = {
    'down': ((62, 78), (-8, 22), (-10, 25), (4, 40)),
    'raised': ((-60, 75), (-25, 60), (-90, 60), (0, 140)),
    'front': ((25, 78), (-10, 60), (-60, 80), (50, 145)),
}
_TRIES = 400


def _arm(rng: np.random.Generator, rotations: Float32, side: str, sign: float,
         place: str) -> None:
    """Draw an arm; for raised ones and such before the chest, until the wrist is there."""
    joints = [JOINT_INDEX['neck'], JOINT_INDEX[f'{side}_wrist']]
    betas = np.zeros(len(load_body_model().shape_basis), np.float32)
    low, high = (np.array(side_) for side_ in _WRISTS.get(place, ((-9,) * 3, (9,) * 3)))
    for _ in range(_TRIES):
        angles = [rng.uniform(*range_) for range_ in _ARMS[place]]
        _set_arm(rotations, side, sign, angles[:3], angles[3])
        alone = np.zeros_like(rotations)
        for bone in ('collar', 'shoulder', 'elbow'):
            alone[JOINT_INDEX[f'{side}_{bone}']] = rotations[JOINT_INDEX[f'{side}_{bone}']]
        neck, wrist = _posed(alone, betas)[joints]
        where = (wrist - neck) * (sign, 1, 1)
        if (low <= where).all() and (where <= high).all():
            break
    rotations[JOINT_INDEX[f'{side}_wrist']] = np.deg2rad(rng.uniform(-1, 1, 3) * (50, 15, 30))


def _set_arm(rotations: Float32, side: str, sign: float, shoulder_deg: tuple | list,
             elbow_deg: float) -> None:
    down, forwards, twist = shoulder_deg
    rotations[JOINT_INDEX[f'{side}_shoulder']] = (
        Rotation.from_euler('y', -sign * forwards, degrees=True)
        * Rotation.from_euler('z', -sign * down, degrees=True)
        * Rotation.from_euler('x', -twist, degrees=True)).as_rotvec()
    rotations[JOINT_INDEX[f'{side}_elbow']] = [0, -sign * np.deg2rad(elbow_deg), 0]
    # The shoulder blade takes a part of what is above the horizontal.
    rotations[JOINT_INDEX[f'{side}_collar']] = [0, 0, sign * np.deg2rad(max(20 - down, 0) / 5)]


def _hands(rng: np.random.Generator, rotations: Float32) -> None:
    """Curl the fingers of each hand: some hands open, some fists, some pointing."""
    for side, sign in _SIDES:
        curl = rng.uniform(0, 75) if rng.random() < 0.6 else rng.uniform(0, 20)
        for finger in _FINGERS:
            own = np.clip(curl + rng.normal(0, 10), -5, 85)
            if rng.random() < 0.1:
                own = rng.uniform(0, 80)
            for bone, share in ((1, 0.8), (2, 1.0), (3, 0.7)):
                spread = rng.normal(0, 4) if bone == 1 else 0
                rotations[JOINT_INDEX[f'{side}_{finger}{bone}']] = np.deg2rad(
                    [0, spread, -sign * share * own])
        thumb = rng.uniform(-5, 35)
        for bone in (1, 2, 3):
            rotations[JOINT_INDEX[f'{side}_thumb{bone}']] = np.deg2rad(
                [0, sign * thumb * 0.5, -sign * thumb * 0.3])


def _head(rng: np.random.Generator, rotations: Float32, angles_deg: np.ndarray) -> None:
    """Share a head's pitch, yaw and roll between neck and head."""
    share = rng.uniform(0.3, 0.6)
    turn = Rotation.from_euler('YXZ', np.array(angles_deg)[[1, 0, 2]], degrees=True).as_rotvec()
    rotations[JOINT_INDEX['neck']] = share * turn
    rotations[JOINT_INDEX['head']] = (1 - share) * turn


def _gaze(rng: np.random.Generator, rotations: Float32, blendshapes: Float32,
          most_deg: float) -> None:
    """Turn both eyes, and let the lids follow."""
    yaw, pitch = rng.uniform(-1, 1, 2) * (most_deg, 0.7 * most_deg)
    for side, _ in _SIDES:
        rotations[JOINT_INDEX[f'{side}_eye']] = np.deg2rad([pitch, yaw, 0])
    for name, angle in (('Down', pitch), ('Up', -pitch)):
        for side in ('Left', 'Right'):
            blendshapes[BLENDSHAPE_INDEX[f'eyeLook{name}{side}']] = np.clip(angle / 30, 0, 1)
    for out, in_, angle in (('Left', 'Right', yaw), ('Right', 'Left', -yaw)):
        blendshapes[BLENDSHAPE_INDEX[f'eyeLookOut{out}']] = np.clip(angle / 30, 0, 1)
        blendshapes[BLENDSHAPE_INDEX[f'eyeLookIn{in_}']] = np.clip(angle / 30, 0, 1)


# Faces that people make: blendshapes, on both sides where a name has two.
_FACES = (('mouthSmile', 'cheekSquint'), ('jawOpen',), ('mouthPucker', 'mouthFunnel'),
          ('browInnerUp', 'browOuterUp'), ('browDown', 'eyeSquint'), ('mouthFrown',),
          ('eyeWide', 'browInnerUp'), ('mouthUpperUp', 'mouthLowerDown'), ('mouthPress',),
          ('noseSneer', 'mouthUpperUp'), ('mouthStretch',), ('mouthRollLower', 'mouthRollUpper'))


def _expression(rng: np.random.Generator, blendshapes: Float32, most: float,
                blink: float) -> None:
    """Add a few faces, some single blendshapes, and a blink."""
    def add(name: str, value: float) -> None:
        for own in (name, f'{name}Left', f'{name}Right'):
            if own in BLENDSHAPE_INDEX:
                uneven = rng.uniform(0.75, 1.0) if own != name else 1.0
                blendshapes[BLENDSHAPE_INDEX[own]] = max(
                    blendshapes[BLENDSHAPE_INDEX[own]], value * uneven)

    for number in rng.choice(len(_FACES), rng.integers(0, 4), replace=False):
        amount = most * rng.uniform(0.1, 1.0)
        for name in _FACES[number]:
            add(name, amount * rng.uniform(0.5, 1.0))
    for number in rng.choice(np.flatnonzero(_EXPRESSIVE), rng.integers(0, 5), replace=False):
        blendshapes[number] = max(blendshapes[number], most * rng.uniform(0, 0.8))
    if rng.random() < 0.4:
        add('jawOpen', most * rng.uniform(0, 0.9))
    add('eyeBlink', rng.uniform(0.5, 1.0) if rng.random() < blink else rng.uniform(0, 0.1))


def _take_clip(rng: np.random.Generator, split: str, rotations: Float32,
               blendshapes: Float32) -> None:
    """Let trunk, head and face do what somebody in a clip did, and the arms that were seen."""
    clip = captured(CLIPS[split][rng.integers(len(CLIPS[split]))])
    moment = rng.integers(len(clip.blendshapes))
    for name in ('spine1', 'spine2', 'spine3', 'neck', 'head', 'jaw', 'left_eye', 'right_eye'):
        rotations[JOINT_INDEX[name]] = clip.joint_rotations[moment, JOINT_INDEX[name]]
    for side, _ in _SIDES:
        if clip.confidence[moment, PART_INDEX[f'{side}_arm']] > 0.5:
            for bone in ('collar', 'shoulder', 'elbow', 'wrist'):
                joint = JOINT_INDEX[f'{side}_{bone}']
                rotations[joint] = clip.joint_rotations[moment, joint]
    blendshapes[:] = clip.blendshapes[moment]


def _posed(rotations: Float32, betas: Float32) -> Float32:
    model = load_body_model()
    joints = (model.joints_template + np.tensordot(betas, model.joints_basis, 1)).astype(
        np.float32)
    return posed_joints(joint_transforms(model, joints, rotations, np.zeros(3, np.float32)),
                        joints)
