"""Where built avatars and fetched clips are kept between runs."""
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from visa_ros.errors import ResourceError


def cache_folder(name: str) -> Path:
    """
    Return a folder of the cache, made and writable.

    The cache is ``$VISA_CACHE_DIR``, else the user's cache folder.

    Parameters
    ----------
    name : str
        What is kept there, such as 'avatars'.

    Raises
    ------
    ResourceError
        It cannot be made or written to.

    """
    root = os.environ.get('VISA_CACHE_DIR')
    folder = (Path(root) if root else user_cache_path('visa_ros')) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResourceError(
            f'cannot write to the cache folder {folder} ({error.strerror}); free it, or set '
            'VISA_CACHE_DIR to a folder of yours') from error
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    """
    Write a file so that a reader sees the old content or the new, never a part.

    Raises
    ------
    ResourceError
        The folder refuses.

    """
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ResourceError(f'cannot write {path} ({error.strerror})') from error


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """
    Write named arrays as one uncompressed ``.npz`` file, atomically.

    Raises
    ------
    ResourceError
        The folder refuses.

    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
