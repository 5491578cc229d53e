"""The operator's Ed25519 key: a PEM file that only its owner reads."""
from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from platformdirs import user_config_path

from visa_ros.errors import ResourceError

KEY_FILE = 'operator_key.pem'
_MAX_BYTES = 4096


def trust_folder(path: str = '') -> Path:
    """
    Return the folder of keys and lists; it need not exist.

    Parameters
    ----------
    path : str
        Where it is; empty: ``$VISA_CONFIG_DIR``, else the user's configuration folder.

    """
    chosen = path or os.environ.get('VISA_CONFIG_DIR')
    return Path(chosen).expanduser() if chosen else user_config_path('visa_ros')


def load_key(folder: Path) -> Ed25519PrivateKey:
    """
    Return the operator's key.

    Raises
    ------
    ResourceError
        There is none, it is not an Ed25519 key, or others may read it.

    """
    path = folder / KEY_FILE
    try:
        with path.open('rb') as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(_MAX_BYTES)
    except OSError as error:
        raise ResourceError(f'cannot read the key {path} ({error.strerror}); make one with: '
                            'visa key') from error
    if mode & 0o077:
        raise ResourceError(f'others may read the key {path}; say: chmod 600 {path}, or make a '
                            'new one if they have')
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ResourceError(f'{path} is not a private key in PEM without a password; restore it, '
                            'or remove it and say: visa key') from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ResourceError(f'{path} is not an Ed25519 key; remove it and say: visa key')
    return key


def load_or_make_key(folder: Path) -> Ed25519PrivateKey:
    """
    Return the operator's key, made at first use.

    Raises
    ------
    ResourceError
        The folder refuses; else see ``load_key``.

    """
    path = folder / KEY_FILE
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption())
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder) as part:  # readable by its owner only
                part.write(pem)
                part.flush()
                os.fsync(part.fileno())
                os.link(part.name, path)  # unlike a rename, never replaces a key
        except FileExistsError:
            pass  # another process was quicker
        except OSError as error:
            raise ResourceError(f'cannot make the key {path} ({error.strerror}); make the folder '
                                'writable, or set VISA_CONFIG_DIR or trust.folder to another'
                                ) from error
    return load_key(folder)


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public half, 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def is_signature(key: str, signature: str, message: bytes) -> bool:
    """Return whether a hexadecimal signature of a message is by a hexadecimal public key."""
    # One spelling only: lists compare keys as text.
    if not (re.fullmatch('[0-9a-f]{64}', key) and re.fullmatch('[0-9a-f]{128}', signature)):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True
