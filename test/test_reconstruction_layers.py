"""What a portrait's Gaussians show from the side, on shapes whose truth is known."""
from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visa_ros.reconstruction.matte import foreground
from visa_ros.reconstruction.pixel_layer import pixel_layer
from visa_ros.reconstruction.refine import refine
from visa_ros.reconstruction.splats import draw
from visa_ros.reconstruction.surface import Part, Surface
from visa_ros.types import Camera

SIZE, RADIUS_M, AXIS_M = 192, 0.15, 0.8
CAMERA = Camera.from_focal(1.6 * SIZE, SIZE, SIZE)
COLOR = np.float32((0.8, 0.6, 0.5))


@pytest.fixture(scope='module')
def column():
    """Alpha (H, W) and Gaussians of an upright cylinder in one colour, as a face is one."""
    x = (np.arange(SIZE) + 0.5 - SIZE / 2) / CAMERA.K[0, 0]
    # The nearer point at which the ray (x, 1) meets the circle around (0, AXIS_M).
    root = AXIS_M ** 2 - (1 + x ** 2) * (AXIS_M ** 2 - RADIUS_M ** 2)
    inside = np.broadcast_to(root > 0, (SIZE, SIZE)).copy()
    z = (AXIS_M - np.sqrt(np.maximum(root, 0))) / (1 + x ** 2)
    normal = np.stack([x * z, 0 * x, z - AXIS_M], 1) / RADIUS_M
    surface = Surface(
        np.where(inside, Part.TRUNK, Part.NONE).astype(np.uint8),
        np.where(inside, z, np.inf).astype(np.float32),
        np.broadcast_to(normal, (SIZE, SIZE, 3)).astype(np.float32),
        np.zeros((SIZE, SIZE), np.int32), np.full((SIZE, SIZE, 3), 1 / 3, np.float32))
    alpha = inside.astype(np.float32)
    colors = np.broadcast_to(COLOR, (SIZE, SIZE, 3)).astype(np.float32)
    nowhere = np.zeros((478, 2), np.float32)
    return alpha, pixel_layer(surface, colors, alpha, nowhere, CAMERA, 40_000)


def turned(splats, angle_deg):
    turn, center = Rotation.from_euler('y', angle_deg, degrees=True), np.array((0, 0, AXIS_M))
    quats = turn * Rotation.from_quat(splats.quats, scalar_first=True)
    return replace(splats, means=np.float32(turn.apply(splats.means - center) + center),
                   quats=np.float32(quats.as_quat(scalar_first=True)))


@pytest.mark.parametrize('angle_deg', [-45, 45])
def test_what_was_seen_at_a_grazing_angle_is_whole_from_the_side(column, angle_deg):
    alpha, splats = column
    shown = draw(turned(splats, angle_deg), CAMERA)[20:-20, :, 3].mean(0)
    # From the middle of the portrait's view to where it saw the surface at 10 degrees.
    angles = np.radians(np.sign(angle_deg) * np.array((0, 70)) - angle_deg)
    offset = np.array((np.sin(angles) * RADIUS_M, AXIS_M - np.cos(angles) * RADIUS_M))
    columns = np.sort(SIZE / 2 + CAMERA.K[0, 0] * offset[0] / offset[1]).astype(int)
    assert shown[columns[0]:columns[1]].min() > 0.9
    # And beyond its own edge nothing sticks out.
    assert (draw(splats, CAMERA)[..., 3] - alpha).max() < 0.5


def test_refinement_leaves_what_is_seen_at_a_grazing_angle_nearly_as_it_was(column):
    alpha, splats = column
    noise = np.random.default_rng(5).normal(0, 0.2, (SIZE, SIZE, 3))
    target = np.clip(COLOR + noise, 0, 1).astype(np.float32)
    splats = replace(splats, tuned=splats.seen)  # the rim too, where angles are most grazing
    tuned = refine(splats, target, alpha, CAMERA, 30, 0)
    normal = Rotation.from_quat(splats.quats, scalar_first=True).apply((0, 0, 1))
    facing = np.abs(np.einsum('nc,nc->n', normal, splats.means))
    facing /= np.linalg.norm(splats.means, axis=1)
    change = np.abs(tuned.colors - splats.colors).mean(1)
    grazing = facing < 0.25
    assert grazing.sum() > 100
    assert change[facing > 0.7].mean() > 0.08
    assert change[grazing].mean() < 0.13


@pytest.mark.parametrize(('person', 'wall'), [(0.15, 0.8), (0.75, 0.1)])
def test_the_rim_has_the_persons_colour_without_a_line_along_it(person, wall):
    mask = np.zeros((200, 200), np.float32)
    cv2.circle(mask, (100, 100), 60, 1.0, -1)
    alpha = cv2.GaussianBlur(mask, (0, 0), 1)
    grain = np.random.default_rng(3).normal(0, 0.02, (200, 200))
    rgb = alpha * person + (1 - alpha) * wall + grain
    rgb = np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)[..., None].repeat(3, 2)
    colors = foreground(rgb, alpha)
    assert np.abs(colors[alpha > 0.05] - person).max() < 0.12
