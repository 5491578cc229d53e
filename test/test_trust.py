"""Consent: signed, bound to its avatar, trusted, expired, revoked; and the command `visa`."""
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from visa_ros import cli
from visa_ros.errors import ConsentError, ResourceError
from visa_ros.reconstruction import avatar_file
from visa_ros.trust.consent import expiry, signed
from visa_ros.trust.keys import KEY_FILE, load_key, load_or_make_key, public_key
from visa_ros.trust.store import TrustConfig, TrustStore
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose

DAY_NS = 86_400 * 10**9
NOW_NS = 1_800_000_000 * 10**9


@pytest.fixture(scope='module')
def unsigned() -> GaussianAvatar:
    rng = np.random.default_rng(3)
    count = 40

    def unit(*shape):
        return rng.random(shape, np.float32)

    quats = rng.normal(size=(count, 4)).astype(np.float32)
    thirds = np.full((count, 3), 1 / 3, np.float32)
    avatar = GaussianAvatar(
        body_model='anny-1', betas=unit(5), triangles=rng.integers(0, 900, count, np.int32),
        barycentrics=thirds, means=unit(count, 3),
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        scales=0.001 + 0.01 * unit(count, 3), opacities=unit(count), colors=unit(count, 3),
        features=unit(count, 2), camera=Camera.from_focal(800, 512, 384),
        portrait_pose=OperatorPose.rest(operator_id='ada'),
        consent=Consent('ada', 'Ada Lovelace', NOW_NS, 'Yes — für «ViSA».'))
    return avatar_file.decode(avatar_file.encode(avatar))


@pytest.fixture(scope='module')
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(scope='module')
def avatar(unsigned, key) -> GaussianAvatar:
    consent = replace(unsigned.consent, expires_at_ns=expiry(NOW_NS, 30))
    return signed(replace(unsigned, consent=consent), key)


def store(folder, accept='known'):
    return TrustStore(TrustConfig(accept=accept, folder=str(folder)))


def check(trust, avatar, days=1.0):
    trust.check(avatar, now_ns=NOW_NS + round(days * DAY_NS))


# --- keys

def test_a_key_is_made_once_and_read_by_its_owner_only(tmp_path):
    folder = tmp_path / 'new' / 'visa_ros'
    made = load_or_make_key(folder)
    path = folder / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b'-----BEGIN PRIVATE KEY-----')
    assert public_key(load_or_make_key(folder)) == public_key(load_key(folder)) == public_key(made)
    assert [file.name for file in folder.iterdir()] == [KEY_FILE]


def test_processes_that_make_the_key_at_once_agree(tmp_path):
    code = ('import sys; from pathlib import Path; from visa_ros.trust.keys import *;'
            'print(public_key(load_or_make_key(Path(sys.argv[1]))))')
    processes = [subprocess.Popen([sys.executable, '-c', code, tmp_path], text=True,
                                  stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1


def test_a_key_that_is_no_good_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(ResourceError, match='visa key'):
        load_key(tmp_path)
    path = tmp_path / KEY_FILE
    load_or_make_key(tmp_path)
    path.chmod(0o644)
    with pytest.raises(ResourceError, match='chmod 600'):
        load_key(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b'not a key')
    with pytest.raises(ResourceError, match='not a private key'):
        load_key(tmp_path)
    other = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())
    path.write_bytes(other)
    with pytest.raises(ResourceError, match='Ed25519'):
        load_key(tmp_path)


# --- what a signature covers

def test_a_signed_avatar_is_good_after_files_and_copies(avatar, key, tmp_path):
    trust = store(tmp_path)
    trust.trust(public_key(key), 'ada')
    check(trust, avatar)
    path = tmp_path / 'ada.visa'
    avatar_file.save(avatar, path)
    again = avatar_file.load(path)
    assert again.consent == avatar.consent
    check(trust, again)
    assert avatar_file.encode(again) == path.read_bytes()


def test_the_record_alone_does_not_change_the_avatars_name(unsigned, avatar):
    assert avatar.consent != unsigned.consent
    assert avatar_file.avatar_id(avatar) == avatar_file.avatar_id(unsigned)


@pytest.mark.parametrize('change', [
    {'operator_id': 'eve'}, {'granted_by': 'Eve'}, {'granted_at_ns': 1}, {'statement': 'Never.'},
    {'expires_at_ns': 0}, {'expires_at_ns': NOW_NS + 31 * DAY_NS}, {'signature': 'ab' * 64},
    {'signature': ''}, {'signature': 'zz'}, {'key': 'ab' * 32}, {'key': ''}])
@pytest.mark.parametrize('accept', ['first', 'known', 'any'])
def test_a_changed_record_is_refused(avatar, key, tmp_path, change, accept):
    trust = store(tmp_path, accept)
    trust.trust(public_key(key), 'ada')
    trust.trust(public_key(key), 'eve')
    with pytest.raises(ConsentError, match='does not fit'):
        check(trust, replace(avatar, consent=replace(avatar.consent, **change)))


@pytest.mark.parametrize('field', [
    'betas', 'triangles', 'barycentrics', 'means', 'quats', 'scales', 'opacities', 'colors',
    'features', 'camera', 'portrait_pose', 'body_model'])
def test_a_record_is_good_for_its_own_avatar_only(avatar, key, tmp_path, field):
    """Anything that is read from a file is covered."""
    trust = store(tmp_path)
    trust.trust(public_key(key), 'ada')
    value = getattr(avatar, field)
    if field == 'camera':
        changed = replace(value, width=513)
    elif field == 'portrait_pose':
        changed = replace(value, frame_id='elsewhere')
    elif field == 'body_model':
        changed = 'anny-2'
    elif field == 'quats':
        changed = -value
    elif field == 'barycentrics':
        changed = np.roll(np.float32([0.5, 0.3, 0.2]), 1) + 0 * value
    else:
        changed = value[::-1].copy()
    with pytest.raises(ConsentError, match='does not fit'):
        check(trust, replace(avatar, **{field: changed}))


def test_texts_that_could_deceive_a_reader_are_not_signed(unsigned, key):
    for name, text in (('operator_id', ''), ('operator_id', 'ada\n' + 64 * 'a' + ' eve'),
                       ('statement', 'yes\x1b[2K'), ('granted_by', ' Ada'),
                       ('statement', 'x' * 5000)):
        with pytest.raises(ConsentError, match=name):
            signed(replace(unsigned, consent=replace(unsigned.consent, **{name: text})), key)


# --- whom a robot trusts

def test_unsigned_avatars_are_refused_unless_told_otherwise(unsigned, tmp_path):
    for accept in ('first', 'known'):
        with pytest.raises(ConsentError, match=r'not signed.*visa sign'):
            check(store(tmp_path, accept), unsigned)
    check(store(tmp_path, 'any'), unsigned)
    with pytest.raises(ConsentError, match='not signed'):
        TrustStore().check(unsigned)


def test_a_key_signs_for_its_own_operator_only(avatar, key, tmp_path):
    trust = store(tmp_path)
    trust.trust(public_key(key), 'bob')
    with pytest.raises(ConsentError, match=f'{public_key(key)}.*visa trust'):
        check(trust, avatar)
    trust.trust(public_key(key), 'ada')
    check(trust, avatar)


def test_the_first_key_is_kept_and_no_other_is_taken(avatar, unsigned, key, tmp_path):
    trust = store(tmp_path / 'robot', 'first')
    check(trust, avatar)
    assert trust.trusted() == {public_key(key): {'ada'}}
    eve = Ed25519PrivateKey.generate()
    for operator_id in ('ada', 'eve'):
        other = replace(unsigned, consent=replace(unsigned.consent, operator_id=operator_id))
        with pytest.raises(ConsentError, match='not trusted'):
            check(trust, signed(other, eve))
    check(trust, avatar)


def test_a_broken_avatar_is_never_the_first(avatar, unsigned, tmp_path):
    trust = store(tmp_path, 'first')
    bad = replace(avatar, consent=replace(avatar.consent, granted_by='Eve'))
    for avatar_refused in (bad, unsigned):
        with pytest.raises(ConsentError):
            check(trust, avatar_refused)
    with pytest.raises(ConsentError, match='expired'):
        check(trust, avatar, days=30)
    assert trust.trusted() == {}


def test_this_accounts_own_key_is_trusted_and_makes_others_no_first(unsigned, avatar, tmp_path):
    trust = store(tmp_path, 'first')
    check(trust, signed(unsigned, load_or_make_key(tmp_path)))
    with pytest.raises(ConsentError, match='not trusted'):
        check(trust, avatar)


def test_expiry_is_the_wall_clocks(avatar, key, tmp_path):
    trust = store(tmp_path)
    trust.trust(public_key(key), 'ada')
    check(trust, avatar, days=29.99)
    with pytest.raises(ConsentError, match=r'expired on 2027-02-14'):
        check(trust, avatar, days=30)
    for_ever = replace(avatar.consent, expires_at_ns=expiry(NOW_NS, 0))
    check(trust, signed(replace(avatar, consent=for_ever), key), days=9999)
    trust.check(signed(replace(avatar, consent=replace(
        for_ever, expires_at_ns=time.time_ns() + DAY_NS)), key))


def test_what_is_revoked_is_refused_whatever_else_is_set(avatar, unsigned, key, tmp_path):
    for number, name in enumerate((public_key(key), avatar_file.avatar_id(avatar))):
        for accept in ('first', 'known', 'any'):
            trust = store(tmp_path / f'{number}{accept}', accept)
            trust.trust(public_key(key), 'ada')
            check(trust, avatar)
            trust.revoke(name, 'stolen laptop')
            with pytest.raises(ConsentError, match=r'revoked \(stolen laptop\)'):
                check(trust, avatar)
    with pytest.raises(ConsentError, match='revoked'):
        check(trust, unsigned)  # the avatar's id, without the signature
    # The same key spelt otherwise is no other key.
    trust = store(tmp_path / '0any', 'any')
    spelt = replace(avatar.consent, key=avatar.consent.key.upper())
    with pytest.raises(ConsentError):
        check(trust, replace(avatar, consent=spelt))


def test_lists_are_for_people_and_a_broken_one_trusts_nobody(avatar, key, tmp_path):
    path = tmp_path / 'trusted_keys'
    path.write_text(f'# the lab\n\n{public_key(key)} ada')
    trust = store(tmp_path, 'first')
    check(trust, avatar)
    trust.trust('ab' * 32, 'Bob the Builder')
    trust.trust('ab' * 32, 'Bob the Builder')
    assert path.read_text() == (f'# the lab\n\n{public_key(key)} ada\n'
                                f'{"ab" * 32} Bob the Builder\n')
    for bad in ('nonsense', public_key(key)[:-1] + ' ada', f'{public_key(key)}ada'):
        path.write_text(bad)
        with pytest.raises(ResourceError, match='line 1'):
            check(trust, avatar)
    path.write_bytes(b'#' + bytes(2**20))
    with pytest.raises(ResourceError, match='shorten'):
        check(trust, avatar)
    for words in (('xyz', 'ada'), ('ab' * 32, 'two\nlines'), ('AB' * 32, 'ada')):
        with pytest.raises(ConsentError):
            trust.trust(*words)


def test_a_first_key_that_cannot_be_kept_is_not_trusted(avatar, tmp_path):
    robot = tmp_path / 'robot'
    robot.symlink_to('nowhere/else')  # neither there nor to be made
    with pytest.raises(ResourceError, match='cannot write'):
        check(store(robot, 'first'), avatar)


# --- the command

def visa(*words):
    return cli.main([str(word) for word in words])


def test_the_command_from_key_to_revocation(unsigned, tmp_path, capsys):
    laptop, robot, path = tmp_path / 'laptop', tmp_path / 'robot', tmp_path / 'ada.visa'
    avatar_file.save(unsigned, path)
    assert visa('verify', path, '--folder', robot) == 1
    assert 'not signed' in capsys.readouterr().err
    assert visa('key', '--folder', laptop) == 0
    key = public_key(load_key(laptop))
    assert f'visa trust {key} OPERATOR_ID' in capsys.readouterr().out
    assert visa('sign', path, '--days', 2, '--granted-by', 'Countess Ada', '--folder',
                laptop) == 0
    consent = avatar_file.load(path).consent
    assert consent.granted_by == 'Countess Ada'
    assert consent.expires_at_ns - consent.granted_at_ns == 2 * DAY_NS
    assert abs(consent.granted_at_ns - time.time_ns()) < 60 * 10**9
    assert visa('verify', path, '--folder', robot) == 1
    assert f'not trusted for this operator, {key}' in capsys.readouterr().err
    assert visa('trust', key.upper(), 'ada', '--folder', robot) == 0
    assert capsys.readouterr().out == f'{key} ada\n'
    assert visa('verify', path, '--folder', robot) == 0
    out = capsys.readouterr().out
    assert 'Countess Ada' in out
    assert avatar_file.avatar_id(unsigned) in out
    assert visa('revoke', path, '--why', 'left the team', '--folder', robot) == 0
    assert visa('verify', path, '--folder', robot) == 1
    assert 'left the team' in capsys.readouterr().err


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    for words in (('verify', tmp_path / 'none.visa'), ('sign', __file__),
                  ('trust', 'abc', 'ada', '--folder', tmp_path),
                  ('revoke', 'nothing', '--folder', tmp_path)):
        assert visa(*words) == 1
        err = capsys.readouterr().err
        assert err.startswith('visa: ')
        assert err.count('\n') == 1
    with pytest.raises(SystemExit):
        visa('trust', 'ab' * 32)
    assert 'for whom' in capsys.readouterr().err


def test_a_file_does_not_drive_the_terminal(unsigned, tmp_path, capsys):
    path = tmp_path / 'eve.visa'
    consent = replace(unsigned.consent, statement='\x1b]0;owned\x07', operator_id='eve\nada')
    avatar_file.save(replace(unsigned, consent=consent), path)
    assert visa('verify', path, '--folder', tmp_path) == 1
    said = capsys.readouterr()
    assert not set('\x1b\x07') & set(said.out + said.err)
    assert said.err.count('\n') == 1


def test_the_command_is_installed():
    from ament_index_python import get_package_prefix

    command = Path(get_package_prefix('visa_ros'), 'bin', 'visa')
    said = subprocess.run([command, '--help'], capture_output=True, text=True, check=True).stdout
    assert 'visa sign' in said
