"""
What a robot trusts: two lists of lines that people can read, write and copy.

``trusted_keys``: ``KEY OPERATOR_ID``, a key that may sign for that operator.  ``revoked``:
``KEY`` or ``AVATAR_ID``, and behind it why.  Lines that begin with ``#`` are comments.
"""
from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from visa_ros.cache import write_atomically
from visa_ros.config import Config, param
from visa_ros.errors import ConsentError, ResourceError
from visa_ros.reconstruction.avatar_file import avatar_id
from visa_ros.trust.consent import check_text, is_signed_rightly
from visa_ros.trust.keys import KEY_FILE, load_key, public_key, trust_folder
from visa_ros.types import Consent, GaussianAvatar

log = logging.getLogger(__name__)

_TRUSTED, _REVOKED = 'trusted_keys', 'revoked'
_LINE = re.compile('([0-9a-f]{64})(?: (.+))?')
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class TrustConfig(Config):
    """Whose avatars are shown."""

    accept: str = param(
        'first', 'Which avatars a robot shows: known: signed by a key of trusted_keys; first: '
        'the same, and while that list is empty the first signed one, whose key is kept; any: '
        'unsigned ones and unknown keys too. Never one that is expired or revoked',
        choices=('first', 'known', 'any'))
    folder: str = param(
        '', 'Folder of the operator\'s key and of the lists trusted_keys and revoked; empty: '
        '$VISA_CONFIG_DIR, else visa_ros in the user\'s configuration folder')


class TrustStore:
    """
    Decide whether an avatar may be shown.

    The lists are read each time, so that a change counts at once.

    Parameters
    ----------
    config : TrustConfig, optional
        Settings.

    Attributes
    ----------
    folder : Path
        Of key and lists.

    """

    def __init__(self, config: TrustConfig | None = None) -> None:
        config = config or TrustConfig()
        self.folder = trust_folder(config.folder)
        self._accept = config.accept

    def check(self, avatar: GaussianAvatar, name: str = '', now_ns: int | None = None) -> None:
        """
        Return if the avatar may be shown; under ``first`` this may keep its key.

        Parameters
        ----------
        avatar : GaussianAvatar
            With its consent record.
        name : str
            Its ``avatar_id``, if known: computing it takes some milliseconds.
        now_ns : int, optional
            Nanoseconds since the epoch; by default the wall clock's.

        Raises
        ------
        ConsentError
            It may not; the message says why and what to do.
        ResourceError
            A list cannot be read, or a first key cannot be kept.

        """
        name = name or avatar_id(avatar)
        consent = avatar.consent
        self.check_standing(consent, name, now_ns)
        whose = _whose(consent, name)
        if not (consent.key or consent.signature):
            if self._accept == 'any':
                return
            raise ConsentError(f'{whose} is not signed; its operator signs it with: visa sign '
                               'FILE. To show unsigned avatars set trust.accept to any')
        if not is_signed_rightly(name, consent):
            raise ConsentError(f'{whose} has a signature that does not fit: avatar or consent '
                               'record were changed; get it again from its operator')
        if self._accept == 'any' or self._is_trusted(consent):
            return
        if self._accept == 'first' and not self.trusted() and not self._own_key():
            self.trust(consent.key, consent.operator_id)
            log.warning('the first operator here is %r with the key %s: no other is shown from '
                        'now on (%s)', consent.operator_id, consent.key, self.folder / _TRUSTED)
            return
        raise ConsentError(
            f'{whose} is signed by a key that is not trusted for this operator, {consent.key}; if '
            'it is theirs, say on this machine: visa trust KEY OPERATOR_ID')

    def check_standing(self, consent: Consent, name: str, now_ns: int | None = None) -> None:
        """
        Return if a consent record has neither expired nor been revoked.

        Parameters
        ----------
        consent : Consent
            Of the avatar.
        name : str
            The ``avatar_id``.
        now_ns : int, optional
            Nanoseconds since the epoch; by default the wall clock's.

        Raises
        ------
        ConsentError
            It has.
        ResourceError
            The list cannot be read.

        """
        whose = _whose(consent, name)
        for revoked, why in self._lines(_REVOKED):
            if revoked in (name, consent.key):
                raise ConsentError(f'{whose} is revoked ({why or "no reason given"}) in '
                                   f'{self.folder / _REVOKED}')
        now_ns = time.time_ns() if now_ns is None else now_ns
        if consent.expires_at_ns and now_ns >= consent.expires_at_ns:
            raise ConsentError(
                f'the consent to {whose} has expired on {date(consent.expires_at_ns)}; its '
                'operator renews it with: visa sign FILE (or check the clock of this machine)')

    def trusted(self) -> dict[str, set[str]]:
        """
        Return the trusted keys and for which operators each signs.

        Raises
        ------
        ResourceError
            The list cannot be read.

        """
        keys: dict[str, set[str]] = {}
        for key, operator_id in self._lines(_TRUSTED):
            keys.setdefault(key, set()).add(operator_id)
        return keys

    def revoked(self) -> dict[str, str]:
        """
        Return the revoked keys and avatar ids, and why.

        Raises
        ------
        ResourceError
            The list cannot be read.

        """
        return dict(self._lines(_REVOKED))

    def trust(self, key: str, operator_id: str) -> None:
        """
        Let a key sign for an operator.

        Raises
        ------
        ConsentError
            This is no key or no operator id.
        ResourceError
            The list cannot be written.

        """
        check_text('operator_id', operator_id)
        self._append(_TRUSTED, key, operator_id)

    def revoke(self, name: str, why: str) -> None:
        """
        Show an avatar, or whatever a key signs, no more.

        Raises
        ------
        ConsentError
            This is no key or avatar id, or the reason is no line of text.
        ResourceError
            The list cannot be written.

        """
        check_text('the reason', why)
        self._append(_REVOKED, name, why)

    def _is_trusted(self, consent: Consent) -> bool:
        # Who holds the key of this account could as well write its lists.
        return (consent.operator_id in self.trusted().get(consent.key, ())
                or consent.key == self._own_key())

    def _own_key(self) -> str:
        return public_key(load_key(self.folder)) if (self.folder / KEY_FILE).exists() else ''

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        """Read a list; one that is not understood is refused as a whole."""
        path = self.folder / name
        try:
            with path.open('rb') as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ResourceError(f'cannot read {path} ({error.strerror})') from error
        if len(data) > _MAX_BYTES:
            raise ResourceError(f'{path} has more than {_MAX_BYTES} bytes; shorten it')
        for number, line in enumerate(data.decode(errors='replace').splitlines(), 1):
            if not line.strip() or line.startswith('#'):
                continue
            match = _LINE.fullmatch(line.strip())
            if not match:
                raise ResourceError(f'{path}, line {number}: not 64 hexadecimal digits, a space '
                                    'and text; correct it')
            yield match[1], match[2] or ''

    def _append(self, name: str, digits: str, text: str) -> None:
        if not re.fullmatch('[0-9a-f]{64}', digits):
            raise ConsentError(f'{digits!r:.80} is no key and no avatar id: 64 hexadecimal digits')
        if (digits, text) in self._lines(name):
            return
        path = self.folder / name
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = path.read_text() if path.exists() else ''
        except OSError as error:
            raise ResourceError(f'cannot write {path} ({error.strerror})') from error
        gap = '' if not old or old.endswith('\n') else '\n'
        write_atomically(path, f'{old}{gap}{digits} {text}\n'.encode())


def date(stamp_ns: int) -> str:
    """Return a time for people, such as 2026-11-25 21:17 UTC."""
    return f'{datetime.fromtimestamp(stamp_ns // 10**9, UTC):%Y-%m-%d %H:%M} UTC'


def _whose(consent: Consent, name: str) -> str:
    return f'the avatar {name[:12]} of {consent.operator_id!r:.60}'
