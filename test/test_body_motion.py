"""Poses: kinematics, derivatives and C++ against a slow composition, and what each joint moves."""
from importlib import import_module

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros import _native
from visa_ros.body.derivatives import BodyPoints
from visa_ros.body.kinematics import joint_transforms, posed_joints, posed_vertices
from visa_ros.body.model import VERTEX_PARTS, load_body_model
from visa_ros.body.skinning import AvatarSkinning
from visa_ros.conventions import BLENDSHAPE_INDEX, JOINT_INDEX, JOINT_PARENTS, JOINTS
from visa_ros.errors import AvatarError
from visa_ros.types import Camera, Consent, GaussianAvatar, OperatorPose

STILL = np.zeros((55, 3), np.float32)
ORIGIN = np.zeros(3, np.float32)


@pytest.fixture(scope='module')
def model():
    return load_body_model()


@pytest.fixture(scope='module')
def betas(model):
    return np.random.default_rng(1).normal(size=len(model.shape_basis)).astype(np.float32)


@pytest.fixture(scope='module')
def pose():
    rng = np.random.default_rng(2)
    return OperatorPose.rest(
        joint_rotations=rng.normal(0, 0.4, (55, 3)).astype(np.float32),
        translation=np.array([0.3, -0.2, 1.5], np.float32),
        blendshapes=rng.random(52).astype(np.float32))


def make_avatar(model, betas, count=3000, **changes):
    """Return Gaussians all over the body, on its surface and up to 3 cm off it."""
    rng = np.random.default_rng(3)
    triangles = rng.integers(0, len(model.faces), count).astype(np.int32)
    barycentrics = rng.dirichlet([1, 1, 1], count).astype(np.float32)
    vertices, _ = model.shaped(betas)
    means = np.einsum('pk,pkc->pc', barycentrics, vertices[model.faces[triangles]])
    means += rng.normal(0, 0.01, means.shape)
    quats = rng.normal(size=(count, 4))
    fields = {
        'body_model': model.name, 'betas': betas, 'triangles': triangles,
        'barycentrics': barycentrics, 'means': means.astype(np.float32),
        'quats': (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        'scales': np.full((count, 3), 0.005, np.float32),
        'opacities': np.ones(count, np.float32), 'colors': np.ones((count, 3), np.float32),
        'features': np.zeros((count, 0), np.float32), 'camera': Camera.from_focal(500, 512, 512),
        'portrait_pose': OperatorPose.rest(), 'consent': Consent('operator', 'me', 0, 'test'),
    }
    return GaussianAvatar(**(fields | changes))


def slow_transforms(model, joints, pose):
    """Compose SMPL's chain in 4x4 matrices from the T-pose, after an explicit rest-to-T step."""
    def homogeneous(R, t):
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = R, t
        return out

    t_pose = np.zeros((55, 3))
    for joint in range(1, 55):
        parent = JOINT_PARENTS[joint]
        t_pose[joint] = t_pose[parent] + model.rest_alignment[parent] @ (
            joints[joint] - joints[parent])
    world, out = [], []
    for joint in range(55):
        local = Rotation.from_rotvec(pose.joint_rotations[joint]).as_matrix()
        parent = JOINT_PARENTS[joint]
        if parent < 0:
            world.append(homogeneous(local, pose.translation))
        else:
            world.append(world[parent] @ homogeneous(local, t_pose[joint] - t_pose[parent]))
        to_joint = homogeneous(np.eye(3), -joints[joint])
        out.append(world[joint] @ homogeneous(model.rest_alignment[joint], 0) @ to_joint)
    return np.array(out)[:, :3]


def moved_by(model, rotations=None, blendshapes=None):
    """Return how far each vertex of the mean body moves from the zero pose, metres."""
    vertices, joints = model.shaped(np.zeros(len(model.shape_basis), np.float32))
    turned = STILL.copy()
    for name, rotation in (rotations or {}).items():
        turned[JOINT_INDEX[name]] = rotation
    still = posed_vertices(model, vertices, joint_transforms(model, joints, STILL, ORIGIN))
    moved = posed_vertices(model, vertices, joint_transforms(model, joints, turned, ORIGIN))
    return moved - still


# --- numpy


def test_transforms_equal_the_slow_composition(model, betas, pose):
    _, joints = model.shaped(betas)
    fast = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    np.testing.assert_allclose(fast, slow_transforms(model, joints, pose), atol=2e-5)


def test_pelvis_lands_at_the_translation(model, betas, pose):
    _, joints = model.shaped(betas)
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    np.testing.assert_allclose(posed_joints(transforms, joints)[0], pose.translation, atol=1e-6)


def test_zero_pose_is_the_t_pose(model, betas):
    _, joints = model.shaped(betas)
    transforms = joint_transforms(model, joints, STILL, ORIGIN)
    np.testing.assert_allclose(
        posed_joints(transforms, joints), model.zero_pose_joints(betas), atol=1e-6)


def test_bones_keep_their_length(model, betas, pose):
    _, joints = model.shaped(betas)
    posed = posed_joints(
        joint_transforms(model, joints, pose.joint_rotations, pose.translation), joints)
    parents = list(JOINT_PARENTS[1:])
    np.testing.assert_allclose(np.linalg.norm(posed[1:] - posed[parents], axis=1),
                               np.linalg.norm(joints[1:] - joints[parents], axis=1), atol=1e-5)


# --- what moves what


@pytest.mark.parametrize(('side', 'out'), [('left', 1), ('right', -1)])
def test_eyes_turn_alone(model, side, out):
    joint = JOINT_INDEX[f'{side}_eye']
    distance = np.linalg.norm(moved_by(model, {f'{side}_eye': [0, 0.4, 0]}), axis=1)
    eyeball = model.skin_joints[:, 0] == joint
    assert (distance[eyeball] > 1e-5).mean() > 0.9
    # The lids' edges follow a little.
    moved = distance > 1e-5
    assert distance[~eyeball].max() < 0.5 * distance.max()
    from_eye = np.linalg.norm(model.template[moved] - model.joints_template[joint], axis=1)
    assert from_eye.max() < 0.03
    assert (out * model.template[moved, 0] > 0).all()


@pytest.mark.parametrize('side', ['left', 'right'])
def test_fingers_move_alone_and_curl_towards_the_palm(model, side):
    curl = -1.2 if side == 'left' else 1.2
    offsets = moved_by(model, {f'{side}_index{bone}': [0, 0, curl] for bone in (1, 2, 3)})
    moved = np.linalg.norm(offsets, axis=1) > 1e-4
    hand = VERTEX_PARTS.index(f'{side}_hand')
    assert (model.vertex_parts()[moved] == hand).all()
    tip = np.linalg.norm(offsets, axis=1).argmax()
    assert offsets[tip, 1] < -0.02, 'palms face down in the zero pose'


def test_raised_arm_goes_up_and_the_other_stays(model):
    offsets = moved_by(model, {'left_shoulder': [0, 0, 1.0]})
    parts = model.vertex_parts()
    assert (offsets[parts == VERTEX_PARTS.index('left_hand'), 1] > 0.2).all()
    assert np.abs(offsets[parts == VERTEX_PARTS.index('right_hand')]).max() < 1e-6


def test_head_turns_to_the_persons_left(model):
    offsets = moved_by(model, {'head': [0, 0.5, 0]})
    nose = model.faces[model.pose_landmarks.triangles[0], 0]
    assert offsets[nose, 0] > 0.03
    assert np.abs(offsets[model.vertex_parts() == VERTEX_PARTS.index('legs')]).max() == 0


def test_jaw_of_anny_moves_by_blendshape_only(model):
    assert np.abs(moved_by(model, {'jaw': [0.5, 0, 0]})).max() == 0


# --- derivatives


@pytest.fixture(scope='module')
def parameters(betas, pose):
    return betas, pose.blendshapes, pose.joint_rotations, pose.translation


def test_body_points_are_where_the_surface_and_the_joints_are(model, betas, pose, parameters):
    vertices, joints = model.shaped(betas)
    vertices = vertices + model.blendshapes.offsets(pose.blendshapes, len(vertices))
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    surface = posed_vertices(model, vertices, transforms)
    points, _ = BodyPoints(model, model.face_landmarks)(*parameters)
    # Skin weights are interpolated: what that moves is a fraction of a triangle.
    np.testing.assert_allclose(points[:478], model.face_landmarks.on(surface, model.faces),
                               atol=1e-4)
    np.testing.assert_allclose(points[478:], posed_joints(transforms, joints), atol=1e-6)


def test_derivatives_are_those_of_finite_differences(model, parameters):
    body = BodyPoints(model, model.pose_landmarks)
    rng = np.random.default_rng(4)
    _, derivatives = body(*parameters)
    column, step = 0, 1e-2
    for which, value in enumerate(parameters):
        part = derivatives[:, :, column:column + value.size]
        column += value.size
        direction = rng.normal(size=value.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            moved = list(parameters)
            moved[which] = value + np.float32(sign * step) * direction
            ends.append(body(*moved)[0].astype(np.float64))
        np.testing.assert_allclose(
            part @ direction.ravel(), (ends[0] - ends[1]) / (2 * step), atol=1e-4)
    assert column == derivatives.shape[2]


# --- C++


def blended_matrices(model, avatar, pose):
    """Return (N, 3, 4): skin weights interpolated in the triangle, four kept."""
    corners = model.faces[avatar.triangles]
    weights = np.zeros((len(avatar), len(JOINTS)))
    for corner in range(3):
        for bone in range(4):
            np.add.at(weights, (np.arange(len(avatar)),
                                model.skin_joints[corners[:, corner], bone]),
                      model.skin_weights[corners[:, corner], bone]
                      * avatar.barycentrics[:, corner])
    weights[weights < np.sort(weights, axis=1)[:, [-4]]] = 0
    weights /= weights.sum(1, keepdims=True)
    _, joints = model.shaped(avatar.betas)
    return np.einsum('nj,jab->nab', weights, slow_transforms(model, joints, pose))


def test_gaussians_move_as_the_slow_skinning_says(model, betas, pose):
    avatar = make_avatar(model, betas)
    means, quats = AvatarSkinning(model, avatar).pose(pose)
    matrices = blended_matrices(model, avatar, pose)
    face = model.blendshapes.offsets(pose.blendshapes, len(model.template))
    canonical = avatar.means + np.einsum(
        'nk,nkc->nc', avatar.barycentrics, face[model.faces[avatar.triangles]])
    expected = np.einsum('nab,nb->na', matrices[:, :, :3], canonical) + matrices[:, :, 3]
    # Equal fifth weights may be cut differently; nearly all agree to float precision.
    assert np.quantile(np.abs(means - expected).max(1), 0.99) < 1e-5
    assert np.abs(means - expected).max() < 2e-3

    np.testing.assert_allclose(np.linalg.norm(quats, axis=1), 1, atol=1e-5)
    left, _, right = np.linalg.svd(matrices[:, :, :3])
    polar = Rotation.from_matrix(left @ right)
    expected = polar * Rotation.from_quat(avatar.quats, scalar_first=True)
    angle = (expected.inv() * Rotation.from_quat(quats, scalar_first=True)).magnitude()
    assert np.degrees(np.median(angle)) < 0.1
    assert np.degrees(np.quantile(angle, 0.99)) < 4  # quaternion blend, polar decomposition


def test_gaussians_on_the_surface_stay_on_it(model, betas, pose):
    """Those of one bone move exactly as the triangle they lie in."""
    vertices, joints = model.shaped(betas)
    avatar = make_avatar(model, betas)
    corners = model.faces[avatar.triangles]
    on_it = np.einsum('nk,nkc->nc', avatar.barycentrics, vertices[corners]).astype(np.float32)
    means, _ = AvatarSkinning(model, make_avatar(model, betas, means=on_it)).pose(pose)
    vertices = vertices + model.blendshapes.offsets(pose.blendshapes, len(vertices))
    transforms = joint_transforms(model, joints, pose.joint_rotations, pose.translation)
    surface = posed_vertices(model, vertices, transforms)
    distance = np.linalg.norm(means - np.einsum('nk,nkc->nc', avatar.barycentrics,
                                                surface[corners]), axis=1)
    assert np.median(distance) < 1e-4
    assert distance.max() < 0.01


def test_rest_pose_returns_the_canonical_gaussians(model, betas):
    """With the T-pose undone, joint by joint, nothing has moved."""
    undone = STILL.copy()
    for joint in range(1, 55):
        parent = JOINT_PARENTS[joint]
        undone[joint] = Rotation.from_matrix(
            model.rest_alignment[parent] @ model.rest_alignment[joint].T).as_rotvec()
    _, joints = model.shaped(betas)
    avatar = make_avatar(model, betas)
    means, quats = AvatarSkinning(model, avatar).pose(
        OperatorPose.rest(joint_rotations=undone, translation=joints[0]))
    np.testing.assert_allclose(means, avatar.means, atol=1e-5)
    np.testing.assert_allclose(np.abs((quats * avatar.quats).sum(1)), 1, atol=1e-5)


def test_smile_moves_the_face_only(model, betas):
    avatar = make_avatar(model, betas)
    skinning = AvatarSkinning(model, avatar)
    still = skinning.pose(OperatorPose.rest())[0].copy()
    values = np.zeros(52, np.float32)
    values[BLENDSHAPE_INDEX['mouthSmileLeft']] = 1
    moved = np.linalg.norm(skinning.pose(OperatorPose.rest(blendshapes=values))[0] - still, axis=1)
    head = model.vertex_parts()[model.faces[avatar.triangles]] == VERTEX_PARTS.index('head')
    assert moved[head.any(1)].max() > 0.005
    assert moved[~head.any(1)].max() < 1e-6
    again = skinning.pose(OperatorPose.rest())[0]
    np.testing.assert_array_equal(again, still)


def test_both_builds_of_the_kernel_agree(model, betas, pose, monkeypatch):
    base = import_module('visa_ros._skinning_base')
    if not base.cpu_has_v3():
        pytest.skip('this processor has one build only')
    avatar = make_avatar(model, betas)
    fast = [array.copy() for array in AvatarSkinning(model, avatar).pose(pose)]
    monkeypatch.setattr(_native, 'load', lambda name: base)
    for one, other in zip(fast, AvatarSkinning(model, avatar).pose(pose), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'body_model': 'smplx-neutral-100'}, 'smplx-neutral-100'),
    ({'betas': np.zeros(3, np.float32)}, 'betas'),
    ({'triangles': np.full(3000, 10**6, np.int32)}, 'triangles'),
    ({'triangles': np.full(3000, -1, np.int32)}, 'triangles'),
])
def test_an_avatar_of_another_body_is_refused(model, betas, changes, message):
    avatar = make_avatar(model, betas)
    wrong = GaussianAvatar(**(vars(avatar) | changes))
    with pytest.raises(AvatarError, match=message):
        AvatarSkinning(model, wrong)
