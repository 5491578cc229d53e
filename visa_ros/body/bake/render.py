"""Draws a textured body without a window (OpenGL through EGL; Mesa on a machine without GPU)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visa_ros._optional import require
from visa_ros.body.model import TRIANGLE_PARTS, BodyModel
from visa_ros.conventions import JOINT_INDEX
from visa_ros.types import Camera, Float32, UInt8

_VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec2 uv; in vec4 gaze;
uniform mat4 clip;
out vec3 v_normal; out vec2 v_uv; out vec4 v_gaze; out vec3 v_corner;
void main() {
    gl_Position = clip * vec4(position, 1);
    v_normal = normal; v_uv = uv; v_gaze = gaze;
    v_corner = vec3(gl_VertexID % 3 == 0, gl_VertexID % 3 == 1, gl_VertexID % 3 == 2);
}
"""

# Eyes and teeth have no texture: eyes are white, with an iris of 11.8 mm across and a pupil.
_FRAGMENT = """
#version 330
in vec3 v_normal; in vec2 v_uv; in vec4 v_gaze; in vec3 v_corner;
uniform sampler2D skin;
uniform vec3 light;
layout(location=0) out vec4 rgb;
layout(location=1) out vec4 surface;
void main() {
    vec3 albedo = texture(skin, v_uv).rgb;
    if (v_gaze.w > 1.5) {
        albedo = vec3(0.85, 0.82, 0.76);
    } else if (v_gaze.w > 0.5) {
        float aside = length(v_gaze.xy) / length(v_gaze.xyz);
        albedo = v_gaze.z < 0 || aside > 0.45 ? vec3(0.85)
            : aside > 0.16 ? vec3(0.30, 0.20, 0.13) : vec3(0.03);
    }
    float shade = 0.45 + 0.6 * max(dot(normalize(v_normal), light), 0.0);
    rgb = vec4(min(albedo * shade, 1.0), 1);
    surface = vec4(gl_PrimitiveID + 1, v_corner.yz, 0);
}
"""


@dataclass(frozen=True, eq=False)
class View:
    """
    What was drawn.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        The picture.
    triangles : (H, W) int32
        What is seen in a pixel, -1 for the background.
    barycentrics : (H, W, 3) float32
        Where in the triangle.

    """

    rgb: UInt8
    triangles: np.ndarray
    barycentrics: Float32


class BodyRenderer:
    """
    Draws one body model at one size.

    Parameters
    ----------
    model : BodyModel
        Faces, texture coordinates, eyes.
    width, height : int
        Pixels.

    Raises
    ------
    MissingDependencyError
        moderngl is not installed.

    """

    def __init__(self, model: BodyModel, width: int, height: int) -> None:
        gl = require('moderngl')
        self._model, self._size = model, (width, height)
        self._context = gl.create_standalone_context(backend='egl')
        self._context.enable(gl.DEPTH_TEST)
        self._program = self._context.program(_VERTEX, _FRAGMENT)
        self._program['light'] = tuple(np.array([-0.3, 0.45, 0.85]) / np.linalg.norm(
            [0.3, 0.45, 0.85]))
        corners = 3 * len(model.faces)
        self._moving = self._context.buffer(reserve=corners * 6 * 4)
        fixed = np.concatenate(
            [model.uvs[model.uv_faces], self._gaze()[model.faces]], axis=2).astype(np.float32)
        self._array = self._context.vertex_array(self._program, [
            (self._moving, '3f 3f', 'position', 'normal'),
            (self._context.buffer(fixed), '2f 4f', 'uv', 'gaze')])
        self._targets = [self._context.texture(self._size, 4, dtype=kind) for kind in ('f1', 'f4')]
        self._frame = self._context.framebuffer(
            self._targets, self._context.depth_renderbuffer(self._size))
        self.set_skin(np.full((2, 2, 3), (205, 165, 145), np.uint8))

    def set_skin(self, rgb: UInt8) -> None:
        """Take a texture; its first row is the top (v = 1)."""
        upwards = np.ascontiguousarray(rgb[::-1])
        self._skin = self._context.texture(upwards.shape[1::-1], 3, upwards, alignment=1)
        self._skin.build_mipmaps()

    def draw(self, vertices: Float32, camera: Camera, T_camera_body: Float32) -> View:
        """
        Draw the body.

        Parameters
        ----------
        vertices : (V, 3) float32
            Any pose, metres.
        camera : Camera
            Of the renderer's size.
        T_camera_body : (3, 4) float32
            Brings the vertices into the camera's optical frame.

        """
        triangles = vertices[self._model.faces]
        flat = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals = np.zeros_like(vertices)
        np.add.at(normals, self._model.faces, flat[:, None])
        moving = np.concatenate([triangles, normals[self._model.faces]], axis=2)
        self._moving.write(moving.astype(np.float32))
        self._program['clip'].write(clip_matrix(camera, T_camera_body).astype('f4').T.tobytes())
        self._frame.use()
        self._frame.clear(0.7, 0.7, 0.7)
        self._skin.use()
        self._array.render()
        width, height = self._size
        rgb, surface = (np.frombuffer(target.read(), kind).reshape(height, width, 4)[::-1]
                        for target, kind in zip(self._targets, (np.uint8, np.float32),
                                                strict=True))
        seen = rgb[..., 3] == 255
        first = 1 - surface[..., 1] - surface[..., 2]
        return View(
            np.ascontiguousarray(rgb[..., :3]),
            np.where(seen, surface[..., 0].astype(np.int32) - 1, -1),
            np.stack([first, surface[..., 1], surface[..., 2]], -1))

    def _gaze(self) -> Float32:
        """Return per vertex its place about its eyeball's centre; and 1 for eyes, 2 for teeth."""
        out = np.zeros((len(self._model.template), 4), np.float32)
        for eye in (JOINT_INDEX['left_eye'], JOINT_INDEX['right_eye']):
            own = self._model.skin_joints[:, 0] == eye
            out[own, :3] = self._model.template[own] - self._model.joints_template[eye]
            out[own, 3] = 1
        teeth = self._model.triangle_parts == TRIANGLE_PARTS.index('teeth')
        out[self._model.faces[teeth], 3] = 2
        return out


def clip_matrix(camera: Camera, T_camera_body: Float32, near: float = 0.05,
                far: float = 20.0) -> np.ndarray:
    """Return OpenGL's 4x4 clip matrix for a pinhole camera with optical axes."""
    K, width, height = camera.K, camera.width, camera.height
    project = np.array([
        [2 * K[0, 0] / width, 0, 2 * K[0, 2] / width - 1, 0],
        [0, -2 * K[1, 1] / height, 1 - 2 * K[1, 2] / height, 0],
        [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
        [0, 0, 1, 0]])
    return project @ np.vstack([T_camera_body, [0, 0, 0, 1]])
