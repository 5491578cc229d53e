"""Does the avatar of one portrait hold in new poses?  Against true pictures, beside baselines."""
from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import track

from visa_ros._optional import require
from visa_ros.errors import AvatarError, InputError, PortraitError, ResourceError
from visa_ros.evaluation.avatars_subjects import (
    BACKGROUND,
    BACKGROUND_HEX,
    CLIPS,
    PORTRAIT_POSE,
    Subject,
    View,
    clips,
    people,
)
from visa_ros.evaluation.baselines import FlatBody, WarpedPortrait
from visa_ros.evaluation.metrics import compare, identity
from visa_ros.evaluation.report import Report
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.avatar_cache import cached_avatar
from visa_ros.reconstruction.matte import foreground, matte
from visa_ros.reconstruction.portrait import find_person
from visa_ros.reconstruction.reconstruct import ReconstructionConfig
from visa_ros.rendering.driving import driven
from visa_ros.rendering.renderer import AvatarRenderer, RenderingConfig
from visa_ros.training.people.takes import NAMED_POSES
from visa_ros.types import Consent, Float32, GaussianAvatar, OperatorPose, UInt8

_CONSENT = Consent('evaluation', 'evaluation', 0, 'for measuring')
_OUT = Path('out')
_CURRENT = 'current'
# Rows that are the present code with other settings.
_VARIANTS: dict[str, dict[str, Any]] = {
    'no network': {'network': 'none'}, _CURRENT: {}, 'no refinement': {'refine_steps': 0}}
_KEYS = ('subject', 'pose', 'method')
_UNITLESS = ('SSIM', 'IoU', 'identity')
_SHEET_PX = 256
_SHEET_POSES = ('yaw +30', 'pitch -20', 'jaw open', 'arms raised', 'camera +45')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this measurement."""
    parser.add_argument('--assets', type=Path,
                        help="folder of MakeHuman's CC0 assets (doc/training.md); without it only "
                             'the clips are measured')
    parser.add_argument('--people', type=int, default=20, help='how many (default: %(default)s)')
    parser.add_argument('--first', type=int, default=0, help="the first test person's number")
    parser.add_argument('--poses', nargs='+', default=list(NAMED_POSES), metavar='POSE',
                        help='some of: ' + ', '.join(NAMED_POSES))
    parser.add_argument('--clips', nargs='*', default=list(CLIPS), choices=CLIPS, metavar='CLIP',
                        help='real people, driven by their own later frames; some or none of: '
                             + ', '.join(CLIPS))
    parser.add_argument('--variants', nargs='*', default=list(_VARIANTS), choices=_VARIANTS,
                        metavar='NAME', help='rows of this code: ' + ', '.join(_VARIANTS))
    parser.add_argument('--set', nargs='+', action='append', default=[],
                        metavar=('NAME', 'FIELD=VALUE'),
                        help='another row of this code, with settings of the reconstruction')
    parser.add_argument('--also', action='append', default=[], metavar='NAME=FOLDER',
                        help='a row of avatars built elsewhere of the same portraits: '
                             'FOLDER/<person>.visa')
    parser.add_argument('--write-portraits', type=Path, metavar='FOLDER',
                        help='only write the portraits there, as <person>.png')
    parser.add_argument('--sheets', type=int, default=6,
                        help='contact sheets of so many subjects go to out/ (default: '
                             '%(default)s)')


def run(arguments: argparse.Namespace) -> Report:
    """Build avatars, drive them, compare them with the truth."""
    subjects = _subjects(arguments)
    if arguments.write_portraits:
        return _write_portraits(subjects, arguments.write_portraits)
    variants = {name: _VARIANTS[name] for name in arguments.variants} | _settings(arguments.set)
    folders = dict(entry.split('=', 1) for entry in arguments.also)
    report = Report('Avatars of one portrait in new poses')
    faces: list[Float32] = []
    clock = _Clock()
    try:
        for subject in track(clock.timed('truth', subjects), 'subjects',
                             console=Console(stderr=True)):
            try:
                methods = _methods(subject, variants, folders)
            except (PortraitError, AvatarError, ResourceError) as error:
                report.notes.append(f'{subject.name} is left out: {error}')
                continue
            clock.lap('avatars')
            report.values += _measured(subject, methods)
            if len(faces) < arguments.sheets:
                _write_sheet(subject, methods, _OUT / f'avatars_{subject.name}.png')
            faces.append(identity(subject.views[0].rgb, subject.views[0].face))
            clock.lap('comparison')
    except KeyboardInterrupt:
        report.notes.append('interrupted: these are the subjects so far')
    _tabulate(report)
    if len(faces) > 1:
        alike = np.array(faces) @ np.array(faces).T
        others = alike[~np.eye(len(faces), dtype=bool)]
        report.notes.append(f'identity of two different subjects: mean {others.mean():.3f}, '
                            f'95th percentile {np.percentile(others, 95):.3f}')
    report.notes.append('seconds: ' + ', '.join(
        f'{name} {value:.0f}' for name, value in clock.seconds.items()))
    return report


class _Clock:
    """Adds up what the parts of a loop take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start_s = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap."""
        now_s = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0) + now_s - self._start_s
        self._start_s = now_s

    def timed(self, name: str, subjects: Iterator[Subject]) -> Iterator[Subject]:
        """Count what it takes to get the next one."""
        for subject in subjects:
            self.lap(name)
            yield subject


def _subjects(arguments: argparse.Namespace) -> Iterator[Subject]:
    unknown = set(arguments.poses) - set(NAMED_POSES)
    if unknown:
        raise InputError(f'no pose is called {", ".join(sorted(unknown))}; choose from '
                         + ', '.join(NAMED_POSES))
    real = clips(tuple(arguments.clips))
    if arguments.assets is None:
        return real
    return chain(people(arguments.assets, arguments.people, arguments.first,
                        tuple(arguments.poses)), real)


def _settings(entries: list[list[str]]) -> dict[str, dict[str, Any]]:
    kinds = {name: type(value) for name, value in asdict(ReconstructionConfig()).items()}
    out: dict[str, dict[str, Any]] = {}
    for name, *settings in entries:
        out[name] = {}
        for setting in settings:
            field, _, value = setting.partition('=')
            if field not in kinds:
                raise InputError(f'{field!r} is no setting of the reconstruction; choose from '
                                 + ', '.join(kinds))
            out[name][field] = kinds[field](value)
    return out


def _write_portraits(subjects: Iterator[Subject], folder: Path) -> Report:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    report = Report('Portraits')
    for subject in subjects:
        path = folder / f'{subject.name}.png'
        Image.fromarray(subject.portrait).save(path)
        report.rows.append({'': str(path), 'focal ratio': subject.focal_ratio})
    return report


# --- methods


class Method(Protocol):
    """What shows a person in a pose."""

    def draw(self, view: View) -> tuple[UInt8, Float32]:
        """Return picture (H, W, 3) and alpha (H, W)."""
        ...


@dataclass(frozen=True, eq=False)
class _Avatar:
    """An avatar's Gaussians."""

    avatar: GaussianAvatar
    subject: Subject
    renderer: AvatarRenderer

    def draw(self, view: View) -> tuple[UInt8, Float32]:
        frame = self.renderer.render(_driven(self.avatar, self.subject, view))
        return frame.rgb.copy(), frame.alpha.copy()


@dataclass(frozen=True, eq=False)
class _Baseline:
    """A baseline on the body that an avatar is bound to."""

    avatar: GaussianAvatar
    subject: Subject
    baseline: FlatBody | WarpedPortrait

    def draw(self, view: View) -> tuple[UInt8, Float32]:
        return self.baseline.draw(_driven(self.avatar, self.subject, view))


def _driven(avatar: GaussianAvatar, subject: Subject, view: View) -> OperatorPose:
    return driven(avatar, subject.betas, subject.pose, view.pose, view.betas)


def _methods(subject: Subject, variants: dict[str, dict[str, Any]],
             folders: dict[str, str]) -> dict[str, Method]:
    """Build what a subject is shown by; the baselines stand on the present code's body."""
    height, width = subject.portrait.shape[:2]
    config = ReconstructionConfig(size_px=max(height, width), focal_ratio=subject.focal_ratio)
    current, _ = cached_avatar(subject.portrait, _CONSENT, config)
    landmarks = find_person(subject.portrait)
    assert landmarks.mask is not None
    alpha = matte(subject.portrait, landmarks.mask)
    colors = np.rint(255 * foreground(subject.portrait, alpha)).astype(np.uint8)
    out: dict[str, Method] = {
        name: _Baseline(current, subject, kind(current, colors, alpha, BACKGROUND))
        for name, kind in (('flat colours on the body', FlatBody),
                           ('warped portrait', WarpedPortrait))}

    def add(name: str, avatar: GaussianAvatar) -> None:
        renderer = AvatarRenderer(avatar, RenderingConfig(
            width=width, height=height, background=BACKGROUND_HEX))
        out[name] = _Avatar(avatar, subject, renderer)

    for name, folder in folders.items():
        add(name, avatar_file.load(Path(folder) / f'{subject.name}.visa'))
    built = {config: current}
    for name, settings in variants.items():
        variant = replace(config, **settings)
        if variant not in built:
            built[variant], _ = cached_avatar(subject.portrait, _CONSENT, variant)
        add(name, built[variant])
    return out


# --- comparison


def _measured(subject: Subject, methods: dict[str, Method]) -> list[dict[str, Any]]:
    out = []
    for view in subject.views:
        true = identity(view.rgb, view.face)
        for name, method in methods.items():
            rgb, alpha = method.draw(view)
            figures = compare(rgb, alpha, view.rgb, view.alpha, view.regions)
            figures['identity'] = float(true @ identity(rgb, view.face))
            out.append({'subject': subject.name, 'pose': view.name, 'method': name,
                        **{figure: round(value, 4) for figure, value in figures.items()}})
    return out


def _tabulate(report: Report) -> None:
    """Fill the table: means over subjects and poses, the portrait's own pose apart."""
    values = report.values
    names = list(dict.fromkeys(value['method'] for value in values))
    for kind in ('people', 'clip'):
        own = [value for value in values if (value['subject'] in CLIPS) == (kind == 'clip')]
        new = [value for value in own if value['pose'] != PORTRAIT_POSE]
        count = len({value['subject'] for value in own})
        poses = len({value['pose'] for value in new})
        if not new:
            continue
        report.notes.append(f'{kind}: {count} subjects, {poses} new poses')
        figures = sorted(dict.fromkeys(key for value in new for key in value if key not in _KEYS),
                         key=lambda figure: figure.startswith('hidden'))  # the sort is stable
        for figure in figures:
            report.rows.append(_row(f'{kind}: {_title(figure)}', new, figure, names))
        of_pose = 'head' if kind == 'people' else 'PSNR'
        for pose in dict.fromkeys(value['pose'] for value in own if kind == 'people'
                                  or value['pose'] == PORTRAIT_POSE):
            report.rows.append(_row(f'{kind}: {_title(of_pose)}, {pose}', [
                value for value in own if value['pose'] == pose], of_pose, names))
    report.notes.append(
        'means over subjects and poses without the portrait\'s own ("front"); PSNR and SSIM where '
        "the truth or the render shows the person, parts by the truth's labels; hidden: what the "
        'portrait does not show; IoU of the outlines; identity: cosine of face descriptors')


def _title(figure: str) -> str:
    return figure if figure in _UNITLESS or figure.endswith(')') else f'{figure} (dB)'


def _row(title: str, values: list[dict[str, Any]], figure: str,
         methods: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {'': title}
    for method in methods:
        known = [value[figure] for value in values
                 if value['method'] == method and figure in value]
        row[method] = (f'{np.mean(known):.{3 if figure in _UNITLESS else 2}f}' if known else '')
    return row


# --- pictures


def _write_sheet(subject: Subject, methods: dict[str, Method], path: Path) -> None:
    """Write a picture: a row for each pose, the truth beside each method."""
    cv2 = require('cv2')
    views = ([view for view in subject.views if view.name in _SHEET_POSES]
             or subject.views[1:6])
    rows = []
    for view in views:
        pictures = {f'truth, {view.name}': view.rgb}
        pictures |= {name: method.draw(view)[0] for name, method in methods.items()}
        scale = _SHEET_PX / max(view.rgb.shape)
        row = [cv2.resize(picture, None, None, scale, scale, cv2.INTER_AREA)
               for picture in pictures.values()]
        for picture, title in zip(row, pictures, strict=True):
            cv2.putText(picture, title, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1,
                        cv2.LINE_AA)
        rows.append(np.concatenate(row, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])
