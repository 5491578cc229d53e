"""Avatars that were built before: a portrait's second start takes a second."""
from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from visa_ros import body
from visa_ros.cache import cache_folder, write_atomically
from visa_ros.errors import AvatarError, ResourceError
from visa_ros.reconstruction import avatar_file
from visa_ros.reconstruction.reconstruct import (
    Progress,
    ReconstructionConfig,
    ReconstructionSummary,
    reconstruct,
)
from visa_ros.types import Consent, GaussianAvatar, UInt8

log = logging.getLogger(__name__)


def cached_avatar(portrait: UInt8, consent: Consent, config: ReconstructionConfig | None = None,
                  progress: Progress = lambda step, fraction: None
                  ) -> tuple[GaussianAvatar, ReconstructionSummary]:
    """
    Return the avatar of a portrait from the cache, or build and keep it.

    The key is the portrait's pixels, the settings and the code: what is found is what would be
    built.  A cache that cannot be used is a warning, a damaged entry is built again.

    Parameters
    ----------
    portrait, consent, config, progress
        As for ``reconstruct``.

    Returns
    -------
    avatar : GaussianAvatar
        With this consent record.
    summary : ReconstructionSummary
        Of the build; ``cached`` says whether it was an earlier one.

    Raises
    ------
    PortraitError
        No avatar can be made of this portrait.
    ResourceError
        The network's weights cannot be read.

    """
    config = config or ReconstructionConfig()
    try:
        folder = cache_folder('avatars')
    except ResourceError as error:
        log.warning('the avatar is not kept: %s', error)
        return reconstruct(portrait, consent, config, progress)
    path = folder / f'{_key(portrait, config)}.visa'
    try:
        avatar = avatar_file.load(path)
        summary = ReconstructionSummary(**json.loads(path.with_suffix('.json').read_text()))
    except (AvatarError, ResourceError, OSError, ValueError, TypeError) as error:
        if path.exists():
            log.warning('a kept avatar cannot be used and is built again: %s', error)
    else:
        pose = replace(avatar.portrait_pose, operator_id=consent.operator_id)
        return (replace(avatar, consent=consent, portrait_pose=pose),
                replace(summary, cached=True))
    avatar, summary = reconstruct(portrait, consent, config, progress)
    try:
        avatar_file.save(avatar, path)
        write_atomically(path.with_suffix('.json'), json.dumps(asdict(summary)).encode())
    except ResourceError as error:
        log.warning('the avatar is not kept: %s', error)
    # What is read back next time is what is shown now: the file rounds.
    return avatar_file.decode(avatar_file.encode(avatar)), summary


def _key(portrait: UInt8, config: ReconstructionConfig) -> str:
    key = hashlib.sha256(_code())
    key.update(repr((portrait.shape, asdict(config))).encode())
    key.update(portrait.tobytes())
    if config.weights:
        key.update(_weights(config.weights))
    return key.hexdigest()[:32]


def _weights(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b''  # building it says what is wrong


@cache
def _code() -> bytes:
    """Return a hash of the code and the body model that avatars come from."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(body.__file__).parent):
        for path in sorted(folder.rglob('*')):
            if path.suffix in ('.py', '.npz'):
                digest.update(path.read_bytes())
    return digest.digest()
