"""Whether two pictures show one person."""
from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from visa_ros._optional import require
from visa_ros.errors import MissingDependencyError
from visa_ros.types import Float32, UInt8

# MediaPipe's numbers of the landmarks that dlib aligns faces by: the corners of the person's left
# eye, outer first, those of the right eye, and the nose's base.
FACE_CORNERS = (263, 362, 33, 133, 2)
# Of the descriptors of one person, at most: dlib's own threshold.
SAME_PERSON = 0.6

_FACE_MODEL = 'models/dlib_face_recognition_resnet_model_v1.dat'


def descriptor(rgb: UInt8, corners: Float32) -> Float32:
    """
    Describe a face such that pictures of one person are near each other.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    corners : (5, 2) float32
        Pixels of ``FACE_CORNERS``: the face is not searched for, so that a bad one counts as bad
        and not as absent.

    Returns
    -------
    (128,) float32
        dlib's face descriptor (King 2017, a ResNet-29; 99.4 % on Labelled Faces in the Wild).

    Raises
    ------
    MissingDependencyError
        requirements-faces.txt is not installed.

    """
    dlib = require('dlib')
    low, high = corners.min(0), corners.max(0)
    face = dlib.full_object_detection(
        dlib.rectangle(*np.rint(np.concatenate([low, high])).astype(int).tolist()),
        [dlib.point(round(x), round(y)) for x, y in corners.tolist()])
    return np.array(_face_model().compute_face_descriptor(np.ascontiguousarray(rgb), face),
                    np.float32)


def face_model_path() -> Path:
    """
    Return where dlib's face network lies.

    Raises
    ------
    MissingDependencyError
        requirements-faces.txt is not installed.

    """
    # Found and not imported: the package's own code needs a part that setuptools has given up.
    package = find_spec('face_recognition_models')
    if package is None or package.origin is None:
        raise MissingDependencyError(
            'face_recognition_models is needed for comparing faces; install it: pip install -r '
            'requirements-faces.txt')
    return Path(package.origin).parent / _FACE_MODEL


@cache
def _face_model() -> Any:
    return require('dlib').face_recognition_model_v1(str(face_model_path()))
