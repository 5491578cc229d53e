"""SMPL-X behind the same interface, from the user's own licensed file."""
from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from visa_ros.body.model import TRIANGLE_PARTS, Blendshapes, BodyModel, SurfacePoints
from visa_ros.conventions import BLENDSHAPES, JOINT_INDEX, JOINT_PARENTS, JOINTS
from visa_ros.errors import ResourceError

_LICENCE = ('SMPL-X files come from https://smpl-x.is.tue.mpg.de and are for non-commercial '
            'research unless you hold another licence; this project ships none')

# A file of version 1.1 has 300 shape and 100 expression directions, an older one 10 and 10
# (smplx/body_models.py, SHAPE_SPACE_DIM).
_SHAPES, _SHAPES_OLD = 300, 10
_BETAS = 100  # the first ones, sorted by variance: the rest is detail that one photo cannot show

# MediaPipe's face landmarks at the 51 landmarks of SMPL-X files, which come in the order of
# iBUG's 68 without the jaw line (smplx/joint_names.py): brows, nose, eyes, outer and inner lips.
_FACE_LANDMARKS = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)


def load_smplx(path: Path) -> BodyModel:
    """
    Read ``SMPLX_NEUTRAL.npz`` (or _MALE, _FEMALE).

    Pose-dependent corrections (``posedirs``) are left out.  SMPL-X has no ARKit blendshapes and
    no licence-free table to its own expressions: here they are empty, the face keeps its neutral
    expression, and the jaw and the eyes move by their joints.  Of MediaPipe's face landmarks
    only the 51 that the file places have a weight.

    Raises
    ------
    ResourceError
        The file is missing, or is not an SMPL-X model.

    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _from_arrays(f'smplx-{path.stem.removeprefix("SMPLX_").lower()}', file)
    except FileNotFoundError as error:
        raise ResourceError(f'no SMPL-X model at {path}; {_LICENCE}') from error
    except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise ResourceError(f'{path} is not an SMPL-X .npz model ({error}); {_LICENCE}') from error


def _from_arrays(name: str, file: np.lib.npyio.NpzFile) -> BodyModel:
    parents = file['kintree_table'][0].astype(np.int64).astype(np.int32)
    if tuple(parents[1:]) != JOINT_PARENTS[1:]:
        raise ValueError('its joint tree is not that of SMPL-X')
    directions = file['shapedirs']
    shapes = _SHAPES if directions.shape[2] > _SHAPES else _SHAPES_OLD
    basis = np.moveaxis(directions[:, :, :min(shapes, _BETAS)], 2, 0).astype(np.float32)
    regressor = file['J_regressor'].astype(np.float32)[:len(JOINTS)]
    template = file['v_template'].astype(np.float32)
    joints = regressor @ template
    skin = file['weights'].astype(np.float32)
    skin_joints = np.argsort(-skin, axis=1)[:, :4]
    skin_weights = np.take_along_axis(skin, skin_joints, 1)
    faces = file['f'].astype(np.int32)
    textured = 'vt' in file and 'ft' in file
    eyes = [JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']]
    eyeball = np.isin(skin_joints[faces, 0], eyes).all(1)
    face = SurfacePoints(np.zeros(478, np.int32), np.zeros((478, 3), np.float32),
                         np.zeros(478, np.float32))
    placed = list(_FACE_LANDMARKS)
    face.triangles[placed] = file['lmk_faces_idx']
    face.barycentrics[placed] = file['lmk_bary_coords']
    face.weights[placed] = 1
    return BodyModel(
        name=f'{name}-{len(basis)}',
        template=template - joints[0],
        faces=faces,
        uvs=file['vt'].astype(np.float32) if textured else np.zeros((1, 2), np.float32),
        uv_faces=file['ft'].astype(np.int32) if textured else np.zeros_like(faces),
        triangle_parts=np.where(eyeball, TRIANGLE_PARTS.index('eyeball'), 0).astype(np.uint8),
        shape_basis=basis,
        body_betas=len(basis),
        joints_template=joints - joints[0],
        joints_basis=np.einsum('jv,bvc->bjc', regressor, basis),
        blendshapes=Blendshapes(np.zeros(len(BLENDSHAPES) + 1, np.int32), np.zeros(0, np.int32),
                                np.zeros((0, 3), np.float32)),
        skin_joints=skin_joints.astype(np.uint8),
        skin_weights=skin_weights / skin_weights.sum(1, keepdims=True),
        rest_alignment=np.tile(np.eye(3, dtype=np.float32), (len(JOINTS), 1, 1)),
        face_landmarks=face,
        pose_landmarks=SurfacePoints(np.zeros(11, np.int32), np.zeros((11, 3), np.float32),
                                     np.zeros(11, np.float32)),
    )
