"""The consent record, signed: who may be shown, bound to this very avatar."""
from __future__ import annotations

import json
from dataclasses import asdict, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from visa_ros.errors import ConsentError
from visa_ros.reconstruction.avatar_file import MAX_TEXT, avatar_id
from visa_ros.trust.keys import is_signature, public_key
from visa_ros.types import Consent, GaussianAvatar

_DAY_NS = 86_400 * 10**9

# Says what the signature is for, so that it is good for nothing else.
_PURPOSE = b'visa_ros consent 1\n'


def signed(avatar: GaussianAvatar, key: Ed25519PrivateKey) -> GaussianAvatar:
    """
    Return the avatar with its consent record signed.

    Raises
    ------
    ConsentError
        A text of the record is empty, too long or not printable.

    """
    consent = replace(avatar.consent, key=public_key(key), signature='')
    for name in ('operator_id', 'granted_by', 'statement'):
        check_text(name, getattr(consent, name))
    signature = key.sign(_message(avatar_id(avatar), consent)).hex()
    return replace(avatar, consent=replace(consent, signature=signature))


def is_signed_rightly(name: str, consent: Consent) -> bool:
    """
    Return whether the record is signed by the key that it names, for this avatar.

    Parameters
    ----------
    name : str
        ``avatar_id`` of the avatar.
    consent : Consent
        Its record.

    """
    return is_signature(consent.key, consent.signature, _message(name, consent))


def expiry(granted_at_ns: int, days: float) -> int:
    """Return ``Consent.expires_at_ns`` of a record that holds some days, or for ever with 0."""
    return granted_at_ns + round(days * _DAY_NS) if days else 0


def check_text(name: str, text: str) -> None:
    """
    Check a text that people read and lists hold.

    Raises
    ------
    ConsentError
        It is empty, too long, or holds control characters or spaces at its ends.

    """
    if not text or len(text) > MAX_TEXT or not text.isprintable() or text != text.strip():
        raise ConsentError(f'{name} of a consent record must be printable text of one line, up to '
                           f'{MAX_TEXT} characters, got {text!r:.60}')


def _message(name: str, consent: Consent) -> bytes:
    """Return what is signed: every field but the signature, and the avatar's id."""
    fields = asdict(consent) | {'avatar_id': name}
    del fields['signature']
    return _PURPOSE + json.dumps(fields, sort_keys=True).encode('ascii')
