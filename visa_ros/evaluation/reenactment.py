"""Whether an avatar stays its person when somebody else moves it, without and with the shader."""
from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from visa_ros import samples
from visa_ros._optional import require
from visa_ros.body.model import BodyModel, load_body_model
from visa_ros.capture.capture import PoseCapture
from visa_ros.capture.source import read_video
from visa_ros.evaluation.avatars_subjects import CLIPS
from visa_ros.evaluation.report import Report
from visa_ros.evaluation.shader import EACH_PICTURE
from visa_ros.identity import FACE_CORNERS, SAME_PERSON, descriptor
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.fit import BodyFit
from visa_ros.reconstruction.portrait import find_person, read_portrait
from visa_ros.reconstruction.reconstruct import face_corners, posed_body
from visa_ros.rendering.playback import PosePlayback
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.shading.config import ShadingConfig
from visa_ros.shading.stream import ShaderStream
from visa_ros.types import CameraImage, Consent, Float32, OperatorPose, UInt8

_OUT = Path('out')
_CONSENT = Consent('evaluation', 'evaluation', 0, 'for measuring')
_SIZE_PX = 512
_EVERY = 4           # of the pictures is compared
_MOMENTS = 4         # of each portrait in the sheet
_FILM_MS, _FILM_PX = 120, 256  # of a picture, in the film: its time, the side of each avatar
_METHODS = ('avatar', 'shaded')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--portraits', type=Path, nargs='*', default=[], metavar='FILE',
                        help="whose avatars are moved (default: scikit-image's astronaut)")
    parser.add_argument('--clip', choices=CLIPS, default='cap12',
                        help='who moves them (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=100,
                        help='that are shown (default: %(default)s)')
    parser.add_argument('--every', type=int, default=3,
                        help='of so many frames of the clip, all of which are followed, one is '
                        'shown (default: %(default)s)')
    parser.add_argument('--weights', default=ShadingConfig.weights,
                        help='of the shader, as shading.weights (default: %(default)s)')


def run(arguments: argparse.Namespace) -> Report:
    """Move each portrait's avatar as the clip's person moves, and compare faces."""
    report = Report(f'Avatars moved by the person of {arguments.clip}')
    poses, driver = _captured(arguments.clip, arguments.every * arguments.frames)
    portraits = {path.stem: read_portrait(path) for path in arguments.portraits} or {
        'astronaut': samples.portrait()}
    model = load_body_model()
    shading = replace(EACH_PICTURE, weights=arguments.weights, window_px=0)
    sheet: list[UInt8] = []
    film: list[list[UInt8]] = []
    for name, rgb in track(portraits.items(), 'portraits', console=Console(stderr=True)):
        face = find_person(rgb).face
        assert face is not None
        own = descriptor(rgb, face[list(FACE_CORNERS), :2])
        distances: dict[str, list[float]] = {method: [] for method in _METHODS}
        changes, shown, tiles = [], [], []
        for moment, (pictures, corners) in enumerate(
                _moved(rgb, poses, arguments.every, model, shading)):
            shown.append(np.concatenate(list(pictures.values()), 1))
            tiles.append(np.concatenate([_small(picture) for picture in pictures.values()]))
            changes.append(float(np.abs(np.subtract(*pictures.values(), dtype=np.float32)).mean()))
            if moment % _EVERY == 0:
                for method, picture in pictures.items():
                    distances[method].append(
                        float(np.linalg.norm(descriptor(picture, corners) - own)))
        report.rows.append({
            'portrait': name,
            **{f'{method}, ID-L2': f'{np.mean(values):.3f}'
               for method, values in distances.items()},
            'mover, ID-L2': f'{np.linalg.norm(driver - own):.3f}',
            'changed by shading, of 255': f'{np.mean(changes):.2f}'})
        sheet.append(np.concatenate([shown[moment] for moment in np.linspace(
            0, len(shown) - 1, _MOMENTS).astype(int)], 1))
        film.append(tiles)
    report.notes.append(
        f'ID-L2: mean distance of face descriptors to the portrait (one person: below '
        f'{SAME_PERSON}); mover: of the person who moves the avatars; pictures: '
        f'{_OUT}/reenactment.png (avatar, shaded), .webp (avatars above, shaded below)')
    _write(sheet, film)
    return report


def _captured(clip: str, frames: int) -> tuple[list[tuple[float, OperatorPose]], Float32]:
    """Return a clip's poses with their times in seconds, and its person's face descriptor."""
    poses = []
    video = list(islice(read_video(samples.video(clip)), frames))
    with PoseCapture() as capture:
        for rgb, stamp_ns in video:
            pose = capture.process(CameraImage(rgb, stamp_ns + 1))
            if pose is not None:
                poses.append((stamp_ns / 1e9, pose))
    face = find_person(video[0][0]).face
    assert face is not None
    return poses, descriptor(video[0][0], face[list(FACE_CORNERS), :2])


def _moved(portrait: UInt8, poses: list[tuple[float, OperatorPose]], every: int,
           model: BodyModel, shading: ShadingConfig) -> Iterator[tuple[dict[str, UInt8], Float32]]:
    """Yield an avatar's picture as it is drawn and as it is shaded, and its face's corners."""
    avatar, _ = cached_avatar(portrait, _CONSENT)
    playback = PosePlayback(avatar, model)
    renderer = AvatarRenderer(avatar, RenderingConfig(_SIZE_PX, _SIZE_PX, framing='head'),
                              shading.window_px)
    stream = ShaderStream(_SIZE_PX, _SIZE_PX, shading, avatar.shader)
    for number, (time_s, pose) in enumerate(poses):
        playback.put(replace(pose, operator_id=avatar.consent.operator_id), time_s)
        shown, _ = playback.at(time_s)
        if number % every:
            continue
        frame = renderer.render(shown)
        pictures = {'avatar': frame.rgb.copy(), 'shaded': stream.shade(frame).rgb.copy()}
        yield pictures, face_corners(
            model, posed_body(model, BodyFit(avatar.betas, shown, 0, 0)), renderer.camera)


def _small(picture: UInt8) -> UInt8:
    cv2 = require('cv2')
    return np.asarray(cv2.resize(picture, (_FILM_PX, _FILM_PX), interpolation=cv2.INTER_AREA))


def _write(sheet: list[UInt8], film: list[list[UInt8]]) -> None:
    _OUT.mkdir(parents=True, exist_ok=True)
    cv2, image = require('cv2'), require('PIL.Image')
    cv2.imwrite(str(_OUT / 'reenactment.png'), np.concatenate(sheet)[..., ::-1])
    first, *rest = (image.fromarray(np.concatenate(at_once, 1))
                    for at_once in zip(*film, strict=True))
    first.save(_OUT / 'reenactment.webp', save_all=True, append_images=rest, duration=_FILM_MS,
               loop=0, quality=60, method=6)
