"""SMPL-X's interface, on a made-up file of its shapes."""
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros.body.kinematics import joint_transforms, posed_joints, posed_vertices
from visa_ros.body.model import load_body_model
from visa_ros.conventions import JOINT_PARENTS
from visa_ros.errors import ResourceError

VERTICES, FACES = 200, 300


def made_up_file(path, **changes):
    """Write random numbers where a licensed model has a person."""
    rng = np.random.default_rng(0)
    weights = rng.random((VERTICES, 55)) * (rng.random((VERTICES, 55)) < 0.04)
    weights[np.arange(VERTICES), rng.integers(0, 55, VERTICES)] += 1
    for row in weights:
        row[np.argsort(row)[:-4]] = 0
    regressor = rng.random((55, VERTICES))
    arrays = {
        'v_template': rng.normal(size=(VERTICES, 3)),
        'shapedirs': rng.normal(0, 0.01, (VERTICES, 3, 400)),
        'J_regressor': regressor / regressor.sum(1, keepdims=True),
        'weights': weights / weights.sum(1, keepdims=True),
        'kintree_table': np.array([[2**32 - 1, *JOINT_PARENTS[1:]], range(55)]),
        'f': rng.integers(0, VERTICES, (FACES, 3)).astype(np.uint32),
        'lmk_faces_idx': rng.integers(0, FACES, 51),
        'lmk_bary_coords': rng.dirichlet([1, 1, 1], 51),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return made_up_file(tmp_path_factory.mktemp('smplx') / 'SMPLX_NEUTRAL.npz')


def test_it_poses_as_smplx_does(path):
    """SMPL-X's own order of steps in float64: shape, joints of the shape, chain, skinning."""
    model = load_body_model(path)
    rng = np.random.default_rng(1)
    betas = rng.normal(size=len(model.shape_basis)).astype(np.float32)
    rotations = rng.normal(0, 0.4, (55, 3)).astype(np.float32)
    with np.load(path) as file:
        shaped = file['v_template'] + file['shapedirs'][:, :, :len(betas)] @ betas
        rest, weights = file['J_regressor'] @ shaped, file['weights']
    world = np.zeros((55, 4, 4))
    for joint, parent in enumerate(JOINT_PARENTS):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(rotations[joint]).as_matrix()
        local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
        world[joint] = world[parent] @ local if joint else local
    move = world[:, :3].copy()
    move[:, :, 3] -= np.einsum('jab,jb->ja', world[:, :3, :3], rest)
    blended = np.einsum('vj,jab->vab', weights, move)
    posed = np.einsum('vab,vb->va', blended[:, :, :3], shaped) + blended[:, :, 3]

    vertices, joints = model.shaped(betas)
    # SMPL-X leaves the pelvis where the shape has it; here it goes to the translation.
    transforms = joint_transforms(model, joints, rotations, rest[0].astype(np.float32))
    np.testing.assert_allclose(posed_joints(transforms, joints), world[:, :3, 3], atol=1e-4)
    np.testing.assert_allclose(posed_vertices(model, vertices, transforms), posed, atol=1e-4)


def test_it_has_what_a_body_model_has(path):
    model = load_body_model(path)
    assert model.name == 'smplx-neutral-100'
    assert model.shape_basis.shape == (100, VERTICES, 3)
    assert (model.face_landmarks.weights > 0).sum() == 51
    assert model.blendshapes.offsets(np.ones(52, np.float32), VERTICES).max() == 0
    np.testing.assert_array_equal(model.zero_pose_joints(np.zeros(100, np.float32))[0], 0)
    assert model.face_landmarks.on(model.template, model.faces).shape == (478, 3)


def test_an_older_file_has_ten_shapes(tmp_path):
    shapes = np.random.default_rng(0).normal(size=(VERTICES, 3, 20))
    model = load_body_model(made_up_file(tmp_path / 'SMPLX_MALE.npz', shapedirs=shapes))
    assert model.name == 'smplx-male-10'


@pytest.mark.parametrize('changes', [
    {'v_template': None},
    {'kintree_table': np.zeros((2, 24))},
    {'shapedirs': np.zeros((VERTICES, 3))},
    {'J_regressor': np.array({'pickled': 1}, dtype=object)},
])
def test_a_wrong_file_is_refused_and_the_licence_named(tmp_path, changes):
    with pytest.raises(ResourceError, match=r'SMPLX_FEMALE\.npz.*licence'):
        load_body_model(made_up_file(tmp_path / 'SMPLX_FEMALE.npz', **changes))
