"""How long an avatar takes, how close it is to its portrait, and what it looks like when moved."""
from __future__ import annotations

import argparse
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from visa_ros._optional import require
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX
from visa_ros.errors import PortraitError
from visa_ros.evaluation.report import Report
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose, UInt8

_OUT = Path('out')
_BACKGROUND = np.array((0.17, 0.19, 0.22), np.float32)
_CONSENT = Consent('evaluation', 'evaluation', 0, 'a public portrait, for measuring')

# What the contact sheet shows: joint rotations in degrees (x nods, y turns, z tilts), blendshapes,
# and the degrees that the camera goes round the person.
_POSES: dict[str, tuple[dict[str, tuple[int, int, int]], dict[str, float], int]] = {
    'portrait': ({}, {}, 0),
    'yaw +25': ({'neck': (0, 8, 0), 'head': (0, 17, 0)}, {}, 0),
    'yaw -25': ({'neck': (0, -8, 0), 'head': (0, -17, 0)}, {}, 0),
    'nod': ({'head': (20, 0, 0)}, {}, 0),
    'jaw open': ({}, {'jawOpen': 0.7}, 0),
    'blink': ({}, {'eyeBlinkLeft': 1, 'eyeBlinkRight': 1}, 0),
    'smile': ({}, {'mouthSmileLeft': 0.9, 'mouthSmileRight': 0.9}, 0),
    'gaze': ({'left_eye': (0, 20, 0), 'right_eye': (0, 20, 0)}, {}, 0),
    'arm raised': ({'left_shoulder': (0, 0, 50)}, {}, 0),
    'camera +30': ({}, {}, 30),
    'camera -30': ({}, {}, -30),
}
# Of these, what the sheet of many portraits shows.
_GLIMPSE = ('portrait', 'yaw +25', 'jaw open', 'smile', 'camera -30')
_TILE_PX = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--portrait', nargs='+', default=['demo'],
                        help='image files; demo is the astronaut (default: %(default)s)')
    parser.add_argument('--variants', action='store_true',
                        help='also the first portrait in black and white, dark, covered, ...')
    parser.add_argument('--sheet', type=Path,
                        help='one picture of all portraits and a few poses of each avatar')


def run(arguments: argparse.Namespace) -> Report:
    """Build an avatar of each portrait; write its contact sheet into out/."""
    from visa_ros.evaluation.portrait_variants import VARIANTS
    from visa_ros.reconstruction import avatar_file
    from visa_ros.reconstruction.portrait import read_portrait, to_working_size
    from visa_ros.reconstruction.reconstruct import ReconstructionConfig, reconstruct

    config = ReconstructionConfig()
    report = Report('Portrait to avatar', notes=[
        'PSNR and SSIM of the render against the portrait, where it shows the person alone '
        '(two pixels inside the outline).'])
    portraits = {Path(source).stem: read_portrait(source) for source in arguments.portrait}
    if arguments.variants:
        first = to_working_size(next(iter(portraits.values())), config.size_px)
        portraits |= {name: vary(first) for name, vary in VARIANTS.items()}
    columns: dict[str, dict[str, Any]] = {}
    overview = []
    for name, portrait in portraits.items():
        memory = _PeakMemory()
        try:
            avatar, summary = reconstruct(portrait, _CONSENT, config, memory)
        except PortraitError as error:
            report.notes.append(f'{name} is refused: {error}')
            overview.append(_refused(name, portrait, str(error)))
            continue
        rgb = to_working_size(portrait, config.size_px)
        sheet = _OUT / f'reconstruction_{name}.png'
        write_sheet(avatar, rgb, sheet)
        overview.append(_glimpse(name, rgb, avatar))
        columns[name] = {
            **{f'{step} (s)': round(s, 2) for step, s in summary.seconds.items()},
            'all (s)': round(sum(summary.seconds.values()), 2),
            **{f'{step}, peak (MB)': mb for step, mb in memory.mb.items()},
            'Gaussians': summary.gaussians,
            'PSNR (dB)': round(summary.psnr_db, 2), 'SSIM': round(_ssim(avatar, rgb), 4),
            'face to landmarks (px)': round(summary.face_px, 2),
            'joints to landmarks (px)': round(summary.joints_px, 2),
            'file (MB)': round(len(avatar_file.encode(avatar)) / 1e6, 2)}
        report.notes.append(f'{sheet} shows {name} in new poses')
    for figure in dict.fromkeys(figure for of in columns.values() for figure in of):
        report.rows.append({'': figure} | {name: of[figure] for name, of in columns.items()})
    if arguments.sheet:
        _write_overview(overview, arguments.sheet)
        report.notes.append(f'{arguments.sheet} shows all portraits')
    return report


def _glimpse(name: str, portrait: UInt8, avatar: GaussianAvatar) -> UInt8:
    """Return head and shoulders of the portrait and of the avatar in a few poses, in a row."""
    viewer, window = _Viewer(avatar), _head_and_shoulders(portrait)
    pictures = [portrait] + [
        viewer.draw(_changed(avatar.portrait_pose, joints, blendshapes), angle_deg)
        for joints, blendshapes, angle_deg in (_POSES[pose] for pose in _GLIMPSE)]
    return _captioned(np.concatenate([_tile(picture[window]) for picture in pictures], 1), [name])


def _head_and_shoulders(portrait: UInt8) -> tuple[slice, slice]:
    """Return rows and columns about the face, three times as high."""
    from visa_ros.reconstruction.portrait import find_person

    face = find_person(portrait).face
    assert face is not None
    (left, top), (right, bottom) = face.min(0), face.max(0)
    half, across = 1.5 * (bottom - top), (left + right) / 2
    return (slice(max(0, int(top - half / 2)), int(top + 3 * half / 2)),
            slice(max(0, int(across - half)), int(across + half)))


def _refused(name: str, portrait: UInt8, reason: str) -> UInt8:
    """Return the portrait and why it was refused, as wide as a glimpse."""
    row = np.full((_TILE_PX, _TILE_PX * (1 + len(_GLIMPSE)), 3), 40, np.uint8)
    _captioned(row[:, _TILE_PX:], ['', '', *textwrap.wrap(f'refused: {reason}', 80)])
    row[:, :_TILE_PX] = _tile(portrait)
    return _captioned(row, [name])


def _tile(picture: UInt8) -> UInt8:
    """Return a picture fitted into a square."""
    cv2 = require('cv2')
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
    scale = _TILE_PX / max(picture.shape[:2])
    size = [min(_TILE_PX, max(1, round(side * scale))) for side in picture.shape[:2]]
    small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    tile = np.full((_TILE_PX, _TILE_PX, 3), 40, np.uint8)
    top, left = ((_TILE_PX - side) // 2 for side in size)
    tile[top:top + size[0], left:left + size[1]] = small
    return tile


def _captioned(picture: UInt8, lines: list[str]) -> UInt8:
    """Write white lines on dark ground from the upper left corner on; returns the picture."""
    cv2 = require('cv2')
    for number, line in enumerate(lines):
        top, (width, _) = 17 * number, cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0]
        if line:
            picture[top:top + 17, :width + 8] = 40
            cv2.putText(picture, line, (4, top + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42,
                        (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _write_overview(rows: list[UInt8], path: Path) -> None:
    """Write the rows in two columns."""
    if len(rows) % 2:
        rows = [*rows, np.full_like(rows[0], 40)]
    half = len(rows) // 2
    picture = np.concatenate([np.concatenate([rows[k], rows[half + k]], 1) for k in range(half)])
    path.parent.mkdir(parents=True, exist_ok=True)
    require('PIL.Image').fromarray(picture).save(path, quality=82, optimize=True)


def write_sheet(avatar: GaussianAvatar, portrait: UInt8, path: Path) -> None:
    """Write the portrait and the avatar in new poses as one picture, four a row."""
    cv2 = require('cv2')
    viewer = _Viewer(avatar)
    pictures = [('input', portrait)]
    for name, (joints, blendshapes, angle_deg) in _POSES.items():
        pose = _changed(avatar.portrait_pose, joints, blendshapes)
        pictures.append((name, viewer.draw(pose, angle_deg)))
    for name, picture in pictures:
        cv2.putText(picture, name, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 255, 0), 1,
                    cv2.LINE_AA)
    rows = [np.concatenate([picture for _, picture in pictures[start:start + 4]], 1)
            for start in range(0, len(pictures), 4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


class _PeakMemory:
    """The process' largest resident memory in each step, as a progress callback (Linux)."""

    def __init__(self) -> None:
        self.mb: dict[str, int] = {}
        self._start_over()

    def __call__(self, step: str, fraction: float) -> None:
        status = Path('/proc/self/status').read_text()
        peak_kb = next(int(line.split()[1]) for line in status.splitlines()
                       if line.startswith('VmHWM'))
        self.mb[step] = max(self.mb.get(step, 0), peak_kb // 1024)
        self._start_over()

    def _start_over(self) -> None:
        """Forget the peak so far: see proc(5), clear_refs."""
        Path('/proc/self/clear_refs').write_text('5')


class _Viewer:
    """Draws an avatar from its portrait's camera, or from around it."""

    def __init__(self, avatar: GaussianAvatar) -> None:
        from visa_ros.body.model import load_body_model
        from visa_ros.body.skinning import AvatarSkinning
        from visa_ros.rendering.splat_cpu import SplatCpu

        self._skinning = AvatarSkinning(load_body_model(), avatar)
        self._splatter = SplatCpu(avatar.scales, avatar.opacities, avatar.colors, avatar.camera,
                                  _BACKGROUND)
        self._camera: Camera = avatar.camera
        self._center = np.array((0, 0, avatar.portrait_pose.translation[2]), np.float32)

    def draw(self, pose: OperatorPose, angle_deg: float = 0) -> UInt8:
        means, quats = self._skinning.pose(pose)
        turn = Rotation.from_euler('y', angle_deg, degrees=True)
        means = turn.apply(means - self._center) + self._center
        quats = (turn * Rotation.from_quat(quats, scalar_first=True)).as_quat(scalar_first=True)
        shape = self._camera.height, self._camera.width
        rgb = np.empty((*shape, 3), np.uint8)
        alpha, depth = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._splatter.draw(np.ascontiguousarray(means, np.float32),
                            np.ascontiguousarray(quats, np.float32), rgb, alpha, depth)
        return rgb


def _changed(pose: OperatorPose, joints: dict[str, tuple[int, int, int]],
             blendshapes: dict[str, float]) -> OperatorPose:
    rotations, shapes = pose.joint_rotations.copy(), pose.blendshapes.copy()
    for name, degrees in joints.items():
        joint = JOINT_INDEX[name]
        rotations[joint] = (Rotation.from_rotvec(rotations[joint])
                            * Rotation.from_euler('xyz', degrees, degrees=True)).as_rotvec()
    for name, value in blendshapes.items():
        shapes[BLENDSHAPE_INDEX[name]] = value
    return replace(pose, joint_rotations=rotations, blendshapes=shapes)


def _ssim(avatar: GaussianAvatar, portrait: UInt8) -> float:
    """Return the mean structural similarity where the portrait shows the person alone."""
    from visa_ros.reconstruction.matte import matte, solid
    from visa_ros.reconstruction.portrait import find_person

    landmarks = find_person(portrait)
    assert landmarks.mask is not None
    render = _Viewer(avatar).draw(avatar.portrait_pose)
    _, each = require('skimage.metrics').structural_similarity(
        render, portrait, channel_axis=2, full=True)
    return float(each[solid(matte(portrait, landmarks.mask))].mean())
