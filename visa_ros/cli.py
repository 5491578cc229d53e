"""
The command ``visa``: enrolment, keys, consent and trust, at a terminal and without ROS.

::

    visa enroll me.mp4                an avatar with a shader of its own, of a clip of oneself
    visa enroll --camera              the same, filmed now: the screen says what to do
    visa key                          the operator's key; made at first use
    visa sign me.visa --days 30       the operator agrees to this avatar, for so long
    visa verify me.visa               whose avatar is it, and may it be shown here?
    visa verify clip.mp4              whose avatar does this picture or video show?
    visa trust KEY OPERATOR_ID        this machine shows what KEY signs for that operator
    visa revoke me.visa               this machine shows it no more
"""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visa_ros.trust.store import TrustStore

from visa_ros.errors import ConsentError, VisaError

_Commands = argparse._SubParsersAction
_MOST_PICTURES = 1000  # of a video that are looked at


def main(args: list[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0; 1 with one line on stderr if something is wrong.

    """
    parser = argparse.ArgumentParser(
        prog='visa', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for add in (_add_enroll, _add_key, _add_sign, _add_verify, _add_trust, _add_revoke):
        add(commands)
    arguments = parser.parse_args(args)
    try:
        arguments.run(arguments)
    except VisaError as error:
        print(f'visa: {error}', file=sys.stderr)
        return 1
    return 0


# Each command: add its options to the parser, then do it.  Imports are in the functions, so that
# one command does not wait for another one's libraries.

def _add_enroll(commands: _Commands) -> None:
    parser = commands.add_parser(
        'enroll', help='make an avatar with a shader of its own, of a clip of oneself',
        description='Build the avatar of the person in a clip and tune a shader to them, which '
        'is kept only if it is better on seconds of the clip that it did not learn from.  The '
        'consent record is signed with the key of this account.  Film 30 s, alone, head and '
        'shoulders, light from the front: talk, smile, turn the head slowly to all sides; or let '
        '--camera film and say what to do.  That clip is not kept.')
    filmed = parser.add_mutually_exclusive_group(required=True)
    filmed.add_argument('video', type=Path, nargs='?', metavar='VIDEO',
                        help='any that FFmpeg reads')
    filmed.add_argument('--camera', nargs='?', const='0', metavar='CAMERA',
                        help='film now; its number or device (default: 0)')
    parser.add_argument('--portrait', metavar='IMAGE',
                        help='refuse a clip of anybody but who is on this photo')
    parser.add_argument('--out', type=Path, metavar='FILE.visa',
                        help='(default: beside the clip, or OPERATOR_ID.visa); a preview is '
                        'written beside it')
    parser.add_argument('--operator-id', default='operator', help='(default: %(default)s)')
    parser.add_argument('--granted-by', metavar='NAME', help='who agrees (default: the operator)')
    parser.add_argument('--days', type=float, default=90.0,
                        help='how long the consent holds; 0: for ever (default: %(default)g)')
    parser.add_argument('--minutes', type=float, default=4.5,
                        help='how long the shader is tuned (default: %(default)g)')
    _add_folder(parser)
    parser.set_defaults(run=_enroll)


def _enroll(arguments: argparse.Namespace) -> None:
    import time

    from rich.progress import Progress

    from visa_ros.enrolment.enrol import EnrolmentConfig, enrol
    from visa_ros.enrolment.preview import write_preview
    from visa_ros.reconstruction import avatar_file
    from visa_ros.reconstruction.portrait import read_portrait
    from visa_ros.trust.consent import expiry, signed
    from visa_ros.trust.keys import load_or_make_key, trust_folder
    from visa_ros.types import Consent

    granted_by = arguments.granted_by or arguments.operator_id
    now_ns = time.time_ns()
    consent = Consent(
        arguments.operator_id, granted_by, now_ns,
        f'{granted_by} agrees to an avatar and a shader made of this clip, for telepresence',
        expires_at_ns=expiry(now_ns, arguments.days))
    key = load_or_make_key(trust_folder(arguments.folder))  # before the work, not after it
    portrait = read_portrait(arguments.portrait) if arguments.portrait else None
    config = EnrolmentConfig(tune_s=60 * arguments.minutes)
    with _filmed(arguments) as video, Progress() as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, share: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=share)

        enrolled = enrol(video, consent, portrait, config, progress=show)
    out = arguments.out or (arguments.video.with_suffix('.visa') if arguments.video
                            else Path(f'{arguments.operator_id}.visa'))
    avatar = signed(enrolled.avatar, key)
    avatar_file.save(avatar, out)
    write_preview(enrolled, out.with_suffix('.png'))
    for name, values in enrolled.held_out.items():
        print(f"{name:9} {values['PSNR']:5.2f} dB, sharpness {values['sharpness']:.2f}, flicker "
              f"{values['flicker']:.2f}")
    print('(on seconds of the clip that were not learnt from)')
    if not avatar.shader:
        print('The personal shader is not better: it is not kept.')
    print(f'{out}: avatar {avatar_file.avatar_id(avatar)[:12]} of {consent.operator_id}, made in '
          f'{sum(enrolled.seconds.values()):.0f} s; preview: {out.with_suffix(".png")}\n'
          f'Show it: ros2 launch visa_ros telepresence.launch.py portrait:={out}')


@contextmanager
def _filmed(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the clip: the user's, or one of the camera's that is deleted afterwards."""
    if arguments.video:
        yield arguments.video
        return
    from tempfile import TemporaryDirectory

    from rich.progress import Progress

    from visa_ros.capture.source import SourceConfig
    from visa_ros.enrolment.record import open_screen, record

    with TemporaryDirectory(prefix='visa_') as folder:
        clip = Path(folder) / 'clip.mp4'
        with Progress() as bars:
            task = bars.add_task('', total=1.0)
            record(SourceConfig(arguments.camera, 1280, 720, loop=False), clip,
                   screen=open_screen(),
                   say=lambda text, share: bars.update(task, completed=share, description=text))
        yield clip


def _add_key(commands: _Commands) -> None:
    parser = commands.add_parser(
        'key', help="show this account's operator key, made at first use")
    _add_folder(parser)
    parser.set_defaults(run=_key)


def _key(arguments: argparse.Namespace) -> None:
    from visa_ros.trust.keys import KEY_FILE, load_or_make_key, public_key, trust_folder

    folder = trust_folder(arguments.folder)
    key = public_key(load_or_make_key(folder))
    print(f'public key   {key}\nprivate key  {folder / KEY_FILE} (give it to nobody)\n'
          f'On the robot: visa trust {key} OPERATOR_ID')


def _add_sign(commands: _Commands) -> None:
    parser = commands.add_parser(
        'sign', help='sign the consent record of an avatar file',
        description='Sign the consent record of an avatar file with the key of this account, '
        'which is made at first use.  Whoever signs says: this is my likeness, and it may be '
        'shown.')
    parser.add_argument('file', type=Path, metavar='FILE.visa')
    parser.add_argument('--days', type=float, default=90.0,
                        help='how long the consent holds from now on; 0: for ever '
                        '(default: %(default)g)')
    parser.add_argument('--granted-by', metavar='NAME', help='who agrees (default: as before)')
    parser.add_argument('--statement', metavar='TEXT', help='to what (default: as before)')
    parser.add_argument('--out', type=Path, metavar='FILE.visa',
                        help='where to write (default: the same file)')
    _add_folder(parser)
    parser.set_defaults(run=_sign)


def _sign(arguments: argparse.Namespace) -> None:
    import time
    from dataclasses import replace

    from visa_ros.reconstruction import avatar_file
    from visa_ros.trust.consent import expiry, signed
    from visa_ros.trust.keys import load_or_make_key, trust_folder

    avatar = avatar_file.load(arguments.file)
    now_ns = time.time_ns()
    consent = replace(
        avatar.consent, granted_at_ns=now_ns, expires_at_ns=expiry(now_ns, arguments.days),
        granted_by=arguments.granted_by or avatar.consent.granted_by,
        statement=arguments.statement or avatar.consent.statement)
    key = load_or_make_key(trust_folder(arguments.folder))
    avatar = signed(replace(avatar, consent=consent), key)
    avatar_file.save(avatar, arguments.out or arguments.file)
    print(f'signed {avatar_file.avatar_id(avatar)} of {avatar.consent.operator_id}')


def _add_verify(commands: _Commands) -> None:
    parser = commands.add_parser(
        'verify', help='whose avatar is this, and may it be shown here?',
        description='Check an avatar file: consent record, signature, expiry, and whether this '
        'machine trusts the key.  The exit status is 0 if it may be shown here.  Of a picture or '
        'video read the invisible mark: the first digits of the avatar id.  The exit status is '
        '0 if there is one.')
    parser.add_argument('file', type=Path, metavar='FILE')
    _add_folder(parser)
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> None:
    if arguments.file.suffix == '.visa':
        _verify_avatar(arguments)
    else:
        _verify_picture(arguments)


def _verify_picture(arguments: argparse.Namespace) -> None:
    from itertools import islice

    from visa_ros.capture.source import read_video  # pictures too
    from visa_ros.trust.watermark import WatermarkReader

    reader, alone, count = WatermarkReader(), 0, 0
    for rgb, _ in islice(read_video(arguments.file), _MOST_PICTURES):
        single = WatermarkReader()
        for each in (reader, single):
            each.add(rgb)
        alone += single.avatar_id() is not None
        count += 1
    name = reader.avatar_id()
    if name is None:
        raise ConsentError(f'{arguments.file} has no mark of an avatar that can be read (score '
                           f'{reader.score:.1f}); it may be cropped, turned or strongly '
                           'compressed, or show no avatar')
    print(f'avatar       {name}...\nscore        {reader.score:.1f} (2.8 without a mark)')
    if count > 1:
        print(f'pictures     {count}, of which {alone} are enough by themselves')


def _verify_avatar(arguments: argparse.Namespace) -> None:
    from visa_ros.reconstruction import avatar_file
    from visa_ros.trust.store import date

    avatar = avatar_file.load(arguments.file)
    consent, name = avatar.consent, avatar_file.avatar_id(avatar)
    expires = date(consent.expires_at_ns) if consent.expires_at_ns else 'never'
    for title, value in (
            ('avatar', name), ('likeness of', consent.operator_id),
            ('granted by', consent.granted_by), ('granted at', date(consent.granted_at_ns)),
            ('expires', expires), ('statement', consent.statement),
            ('signed by', consent.key or 'nobody')):
        # What came in a file must not drive the terminal.
        print(f'{title:12} {value if value.isprintable() else ascii(value)}')
    _store(arguments.folder).check(avatar, name)
    print('It may be shown on this machine.')


def _add_trust(commands: _Commands) -> None:
    parser = commands.add_parser(
        'trust', help='list the trusted keys, or trust one',
        description='Show on this machine what KEY signs for the operator; without arguments '
        'list the keys.  To trust a key no more, revoke it.')
    parser.add_argument('key', nargs='?', metavar='KEY', help='as `visa key` shows it')
    parser.add_argument('operator_id', nargs='?', metavar='OPERATOR_ID')
    _add_folder(parser)
    parser.set_defaults(run=lambda arguments: _trust(arguments, parser))


def _trust(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    store = _store(arguments.folder)
    if arguments.key and not arguments.operator_id:
        parser.error('for whom does the key sign? visa trust KEY OPERATOR_ID')
    if arguments.key:
        store.trust(arguments.key.lower(), arguments.operator_id)
    for key, operators in store.trusted().items():
        print(key, ', '.join(sorted(operators)))


def _add_revoke(commands: _Commands) -> None:
    parser = commands.add_parser(
        'revoke', help='list what is revoked, or revoke an avatar or a key',
        description='Show an avatar, or whatever a key signs, no more on this machine, from now '
        'on and while it is on the screen; without arguments list what is revoked.  The lists '
        'are files: copy them to other robots.')
    parser.add_argument('what', nargs='?', metavar='FILE.visa|AVATAR_ID|KEY')
    parser.add_argument('--why', default='withdrawn', help='(default: %(default)s)')
    _add_folder(parser)
    parser.set_defaults(run=_revoke)


def _revoke(arguments: argparse.Namespace) -> None:
    store = _store(arguments.folder)
    if arguments.what:
        name = arguments.what
        if not re.fullmatch('[0-9a-fA-F]{64}', name):
            from visa_ros.reconstruction import avatar_file

            name = avatar_file.avatar_id(avatar_file.load(Path(name)))
        store.revoke(name.lower(), arguments.why)
    for name, why in store.revoked().items():
        print(name, why)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--folder', default='', help='of key and lists, as the parameter '
                        "trust.folder (default: $VISA_CONFIG_DIR, else the user's)")


def _store(folder: str) -> TrustStore:
    from visa_ros.trust.store import TrustConfig, TrustStore

    # 'known': what is asked here changes no list.
    return TrustStore(TrustConfig(accept='known', folder=folder))


if __name__ == '__main__':
    sys.exit(main())
