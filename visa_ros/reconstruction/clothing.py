"""How far hair and clothes stand off the body, from the person's outline."""
from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags
from scipy.sparse.linalg import spsolve

from visa_ros.body.model import VERTEX_PARTS, BodyModel
from visa_ros.reconstruction.anatomy import (
    FACE_OVAL,
    anatomy,
    broad_normals,
    laplacian,
    vertex_normals,
)
from visa_ros.reconstruction.zbuffer import rasterize_mesh
from visa_ros.types import Camera, Float32

# How far hair and clothes may stand off; what is further off, as long hair beside the neck, is not
# of the body beneath.  Hair may stand off further only where the pixel layer carries it.
_MAX_HAIR_M, _MAX_CLOTH_M, _MAX_IN_M = 0.10, 0.06, 0.02
_HEAD, _TORSO = VERTEX_PARTS.index('head'), VERTEX_PARTS.index('torso')
_SMOOTHNESS = 0.3
_FACE_WEIGHT = 100.0
_REST_WEIGHT, _TORSO_REST_WEIGHT = 1e-4, 0.02


def dress(model: BodyModel, vertices: Float32, mask: NDArray[np.bool_],
          clothes: NDArray[np.bool_], held: NDArray[np.bool_], camera: Camera) -> Float32:
    """
    Move the surface along its normals until its outline is the person's.

    Each vertex on the body's outline looks along its normal in the picture for where the person
    ends; that distance, spread smoothly over the mesh, is the thickness of hair and clothes.
    The face keeps its place.

    Parameters
    ----------
    model : BodyModel
    vertices : (V, 3) float32
        The posed body in the camera's frame.
    mask : (H, W) bool
        The person.
    clothes : (H, W) bool
        As ``find_clothes`` tells them: none are of the head, and only they are of the trunk.
    held : (H, W) bool
        Where something hides the person.
    camera : Camera

    Returns
    -------
    (V, 3) float32
        The dressed surface.

    """
    parts = anatomy(model)
    smooth = laplacian(len(vertices), parts.edges)
    normals = broad_normals(vertices, model.faces, parts.edges)
    body = rasterize_mesh(vertices, model.faces, camera)
    outline = _outline(vertices, model.faces[parts.skin])
    thickness, known = _thickness(
        model, vertices, normals, outline, body.depth, mask, clothes, held, camera)

    # Hair ends at the shoulders; the clothes below are as thick as they are elsewhere.
    weight = np.where(model.vertex_parts() == _TORSO, _TORSO_REST_WEIGHT, _REST_WEIGHT)
    weight[outline[known]] = 1
    target = np.zeros(len(vertices))
    target[outline[known]] = thickness[known]
    bare = _bare(model, vertices, camera)
    weight[bare], target[bare] = _FACE_WEIGHT, 0
    offset = spsolve((diags(weight) + _SMOOTHNESS * smooth).tocsc(), weight * target)
    return (vertices + offset[:, None] * normals).astype(np.float32)


def _outline(vertices: Float32, faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the vertices between triangles that face the camera and triangles that do not."""
    corners = vertices[faces]
    towards = np.einsum('fc,fc->f', corners.mean(1), np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])) < 0
    front, back = np.zeros((2, len(vertices)), bool)
    front[faces[towards]] = True
    back[faces[~towards]] = True
    return np.flatnonzero(front & back)


def _thickness(model: BodyModel, vertices: Float32, normals: Float32, outline: NDArray[np.int64],
               depth: Float32, mask: NDArray[np.bool_], clothes: NDArray[np.bool_],
               held: NDArray[np.bool_], camera: Camera) -> tuple[Float32, NDArray[np.bool_]]:
    """Return for each vertex of the outline the metres to the person's edge, and if it is told."""
    height, width = mask.shape
    points, z = vertices[outline], vertices[outline, 2]
    pixels = camera.project(points)
    along = camera.project(points + 1e-3 * normals[outline]) - pixels
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    px_per_m = camera.K[0, 0] / z

    reach = int(np.ceil(_MAX_HAIR_M * px_per_m.max()))
    back = int(np.ceil(_MAX_IN_M * px_per_m.max()))
    steps = np.arange(-back, reach + 1)
    at = np.floor(pixels[:, None] + along[:, None] * steps[:, None]).astype(int)
    inside = ((at >= 0) & (at < (width, height))).all(2)
    x, y = np.clip(at, 0, (width - 1, height - 1)).transpose(2, 0, 1)
    part = model.vertex_parts()[outline]
    other = (held[y, x] | (part == _HEAD)[:, None] & clothes[y, x]
             | (part == _TORSO)[:, None] & ~clothes[y, x] & mask[y, x])
    person, body = mask[y, x] & inside & ~other, np.isfinite(depth)[y, x] & inside

    # Only the visible outline counts: body inside it at the vertex' own depth, none outside.
    inner, outer = (np.flatnonzero(steps == step)[0] for step in (-2, 2))
    here = np.abs(depth[y[:, inner], x[:, inner]] - z) < 0.04
    known = inside[:, outer] & here & ~body[:, outer]
    outwards = steps >= 2
    stop = ~person[:, outwards] | body[:, outwards]
    first = np.argmax(stop, 1)
    row = np.arange(len(outline))
    known &= stop.any(1) & inside[:, outwards][row, first]
    known &= ~other[:, outwards][row, first]  # hair before the shoulder hides where that ends
    gap = steps[outwards][first].astype(float)
    gap[body[:, outwards][row, first]] *= 0.5  # cloth between two limbs: half for each
    # The body overlaps the background: how far in the person begins.
    inwards = np.flatnonzero(steps <= 1)[::-1]
    overlap = np.argmax(person[:, inwards], 1)
    outside = ~person[:, np.flatnonzero(steps == 1)[0]]
    gap = np.where(outside, 1 - overlap, gap)
    known &= person[:, inwards].any(1)
    thickness = np.maximum(gap / px_per_m, -_MAX_IN_M).astype(np.float32)
    limit = np.where(part == _HEAD, _MAX_HAIR_M, _MAX_CLOTH_M)
    known &= (part == _HEAD) | (thickness < limit)
    return np.minimum(thickness, limit), known


def _bare(model: BodyModel, vertices: Float32, camera: Camera) -> NDArray[np.bool_]:
    """Return which vertices nothing covers: face, eyes, mouth and hands."""
    parts = anatomy(model)
    oval = camera.project(model.face_landmarks.on(vertices, model.faces)[list(FACE_OVAL)])
    corners = cv2.convexHull(oval.astype(np.float32))[:, 0]
    sides = np.roll(corners, -1, 0) - corners
    from_corners = camera.project(vertices)[:, None] - corners
    turn = sides[:, 0] * from_corners[..., 1] - sides[:, 1] * from_corners[..., 0]
    in_oval = (turn >= 0).all(1) | (turn <= 0).all(1)
    normals = vertex_normals(vertices, model.faces)
    facing = np.einsum('vc,vc->v', normals, vertices) < 0
    part = model.vertex_parts()
    bare = in_oval & facing & (part == 0)
    bare |= (part == 4) | (part == 5)
    bare[model.faces[~parts.skin]] = True
    return bare
