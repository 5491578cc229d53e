"""Photographs people: pictures and what is exactly true in them (OpenGL, without a window)."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from visa_ros._optional import require
from visa_ros.errors import ResourceError
from visa_ros.training.people.assets import mean_color, read_texture, texture_file
from visa_ros.training.people.figure import Figure, Layer, dress
from visa_ros.training.people.light import Light
from visa_ros.training.people.person import Person
from visa_ros.types import Camera, Float32, OperatorPose, UInt8

_NEAR_M, _FAR_M = 0.1, 10.0
_SAMPLES = 4  # a pixel
_OPAQUE = 0.95
_BLENDED = ('eyes', 'brows', 'lashes', 'hair')
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec2 uv; in float label;
uniform mat4 clip; uniform float lift_m;
out vec3 v_position; out vec3 v_normal; out vec2 v_uv; flat out float v_label;
void main() {
    v_position = position; v_normal = normal; v_uv = uv; v_label = label;
    gl_Position = clip * vec4(position * (1.0 - lift_m / position.z), 1);
}
"""

_ALBEDO = """
uniform sampler2D albedo; uniform mat3 tint; uniform vec3 tint_offset;
uniform vec2 alpha_range;
vec4 texel() {
    vec4 color = texture(albedo, v_uv);
    if (color.a < alpha_range.x || color.a >= alpha_range.y) discard;
    color.rgb = clamp(tint * color.rgb + tint_offset, 0.0, 1.0);
    return color;
}
vec3 facing() {
    vec3 n = normalize(v_normal);
    return dot(n, v_position) > 0.0 ? -n : n;
}
"""

# Lambert with a terminator that is softened per channel ("wrapped": light scatters in skin and
# hair), Blinn-Phong with Schlick's Fresnel term, all in linear light.
_PICTURE = """
#version 330
in vec3 v_position; in vec3 v_normal; in vec2 v_uv; flat in float v_label;
""" + _ALBEDO + """
uniform vec3 key_direction; uniform vec3 key_color; uniform vec3 ambient[9];
uniform vec3 wrap; uniform float open; uniform float gloss; uniform float specular;
out vec4 rgba;
void main() {
    vec4 color = texel();
    vec3 n = facing(), view = normalize(-v_position);
    vec3 base = pow(color.rgb, vec3(2.2));
    vec3 around = ambient[0] + ambient[1] * n.x + ambient[2] * n.y + ambient[3] * n.z
        + ambient[4] * n.x * n.y + ambient[5] * n.y * n.z + ambient[6] * n.x * n.z
        + ambient[7] * (n.x * n.x - n.y * n.y) + ambient[8] * (3.0 * n.z * n.z - 1.0);
    vec3 lit = max((vec3(dot(n, key_direction)) + wrap) / (1.0 + wrap), 0.0);
    vec3 middle = normalize(key_direction + view);
    float fresnel = 0.04 + 0.96 * pow(1.0 - max(dot(view, middle), 0.0), 5.0);
    float shine = specular * fresnel * (gloss + 8.0) / 8.0
        * pow(max(dot(n, middle), 0.0), gloss) * max(dot(n, key_direction), 0.0);
    vec3 light = base * (max(around, 0.0) * open + key_color * lit * mix(open, 1.0, 0.5))
        + key_color * shine;
    light = min(light, 0.8) + max(light - 0.8, 0.0) / (1.0 + 2.0 * max(light - 0.8, 0.0));
    rgba = vec4(pow(min(light, 1.0), vec3(1.0 / 2.2)) * color.a, color.a);
}
"""

_SURFACE = """
#version 330
in vec3 v_position; in vec3 v_normal; in vec2 v_uv; flat in float v_label;
""" + _ALBEDO + """
layout(location=0) out vec4 surface; layout(location=1) out float label;
void main() {
    texel();
    surface = vec4(facing(), v_position.z);
    label = v_label / 255.0;
}
"""


@dataclass(frozen=True, eq=False)
class Shot:
    """
    A photograph and its truth.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        Over the background, sRGB.
    alpha : (H, W) float32
        In [0, 1]; soft at hair and outlines.
    depth : (H, W) float32
        Metres along the camera's z at the pixel's middle, 0 where nothing is.
    normal : (H, W, 3) float32
        Unit length, towards the camera; camera axes; 0 where nothing is.
    labels : (H, W) uint8
        Indices of ``LABELS``.
    camera : Camera
        The view.
    pose : OperatorPose
        In the camera's optical frame.

    """

    rgb: UInt8
    alpha: Float32
    depth: Float32
    normal: Float32
    labels: UInt8
    camera: Camera
    pose: OperatorPose


@dataclass(frozen=True, eq=False)
class _Material:
    """How a layer's surface answers light."""

    wrap: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gloss: float = 12.0
    specular: float = 0.0
    open: float = 1.0    # the share of the environment that reaches it
    lift_m: float = 0.0  # towards the camera, so that a layer lies on the skin and not in it


_MATERIALS = {
    'skin': _Material((0.25, 0.13, 0.08), 22.0, 0.5),
    'mouth': _Material((0.3, 0.15, 0.1), 40.0, 0.4, open=0.3),
    'teeth': _Material((0.2, 0.15, 0.1), 60.0, 0.5, open=0.55),
    'eyes': _Material((0.2, 0.2, 0.2), 300.0, 1.0, open=0.85),
    'outfit': _Material((0.1, 0.1, 0.1), 8.0, 0.15),
    'brows': _Material((0.3, 0.3, 0.3), lift_m=0.0008),
    'lashes': _Material((0.3, 0.3, 0.3), lift_m=0.0005),
    'hair': _Material((0.4, 0.35, 0.3), 14.0, 0.4),
}


class Studio:
    """
    One camera before which people are posed and lit.

    Parameters
    ----------
    assets : Path
        The folder of MakeHuman's CC0 assets.
    camera : Camera
        The view of shots that name no other.

    Raises
    ------
    MissingDependencyError
        moderngl is not installed.
    ResourceError
        No OpenGL 3.3 is to be had.

    """

    def __init__(self, assets: Path, camera: Camera) -> None:
        gl = require('moderngl')
        try:
            self._gl = gl.create_standalone_context(backend='egl')
        except Exception as error:
            raise ResourceError(f'OpenGL does not start ({error}); install libegl1 and '
                                'libgl1-mesa-dri') from error
        self.assets, self.camera = assets, camera
        self._gl.enable(gl.DEPTH_TEST | gl.BLEND)
        self._gl.blend_func = gl.ONE, gl.ONE_MINUS_SRC_ALPHA
        self._picture = self._gl.program(_VERTEX, _PICTURE)
        self._surface = self._gl.program(_VERTEX, _SURFACE)
        self._white = self._gl.texture((1, 1), 4, b'\xff' * 4)
        self._texture = lru_cache(maxsize=40)(self._load_texture)
        self._targets = lru_cache(maxsize=4)(self._make_targets)
        self._scene: _Scene | None = None

    def shoot(self, person: Person, pose: OperatorPose, light: Light,
              background: UInt8 | Float32, camera: Camera | None = None) -> Shot:
        """
        Photograph a person.

        Parameters
        ----------
        person : Person
            Dressing somebody new takes a moment; the same person again does not.
        pose : OperatorPose
            In the camera's optical frame.
        light : Light
            Stays with the camera.
        background : (H, W, 3) uint8, or float32 in [0, 1]
            sRGB; a single colour (3,) will do.
        camera : Camera, optional
            Another view than the studio's, perhaps of another size.

        Raises
        ------
        ResourceError
            An asset is missing.

        """
        camera = camera or self.camera
        if self._scene is None or self._scene.person is not person:
            if self._scene is not None:
                self._scene.release()
            self._scene = _Scene(self._gl, person, dress(person, self.assets),
                                 self._picture, self._surface)
        scene = self._scene
        scene.move(pose)
        targets = self._targets(camera.width, camera.height)
        clip = _clip(camera).astype('f4').T.tobytes()
        self._picture['clip'].write(clip)
        self._surface['clip'].write(clip)
        self._picture['key_direction'].write(light.key_direction.astype('f4').tobytes())
        self._picture['key_color'].write(light.key_color.astype('f4').tobytes())
        self._picture['ambient'].write(light.ambient.astype('f4').tobytes())

        targets.samples.use()
        targets.samples.depth_mask = True
        targets.samples.clear(0, 0, 0, 0, depth=1.0)
        for layer in scene.figure.layers:
            self._draw(scene, layer, self._picture, (
                _OPAQUE if layer.name in _BLENDED else 0.5, 2.0))
        targets.samples.depth_mask = False
        for layer in scene.figure.layers:
            if layer.name in _BLENDED:
                self._draw(scene, layer, self._picture, (0.02, _OPAQUE))
        targets.samples.depth_mask = True
        self._gl.copy_framebuffer(targets.picture, targets.samples)

        targets.surface.use()
        targets.surface.clear(0, 0, 0, 0, depth=1.0)
        self._gl.disable(self._gl.BLEND)
        for layer in scene.figure.layers:
            if layer.name not in ('brows', 'lashes'):
                self._draw(scene, layer, self._surface, (0.5, 2.0))
        self._gl.enable(self._gl.BLEND)
        return targets.shot(background, camera, pose)

    def close(self) -> None:
        """Give OpenGL back."""
        self._gl.release()

    def _draw(self, scene: _Scene, layer: Layer, program: Any,
              alpha_range: tuple[float, float]) -> None:
        texture, tint, offset = self._look(scene.person, layer.name)
        material = _MATERIALS[layer.name]
        texture.use()
        program['alpha_range'] = alpha_range
        program['lift_m'] = material.lift_m
        if program is self._picture:
            program['tint'].write(tint.T.astype('f4').tobytes())
            program['tint_offset'].write(offset.astype('f4').tobytes())
            program['wrap'] = material.wrap
            program['gloss'] = material.gloss
            program['specular'] = material.specular
            program['open'] = material.open
        scene.draw(layer, program is self._picture)

    def _look(self, person: Person, layer: str) -> tuple[Any, Float32, Float32]:
        """Return a layer's texture, and the affine map of its sRGB colours."""
        same, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
        if layer == 'skin':
            texture, _ = self._texture(f'skins/{person.skin}')
            return texture, np.diag(person.skin_gain), none
        if layer == 'mouth':
            return self._white, 0 * same, np.array([0.62, 0.3, 0.29]) * person.skin_gain ** 0.5
        if layer == 'teeth':
            return self._texture(f'teeth/{person.teeth}')[0], same, none
        if layer == 'eyes':
            return self._texture(f'eyes/materials/{person.eyes}.png')[0], same, none
        if layer == 'outfit':
            texture, _ = self._texture(f'clothes/{person.outfit}')
            return texture, person.outfit_gain[:, None] * _hue_turned(
                person.outfit_hue_rad, person.outfit_saturation), none
        if layer == 'lashes':
            return self._texture(f'eyelashes/{person.lashes}')[0], same, none
        folder, color = (('eyebrows', person.brows), person.brow_color) if layer == 'brows' else (
            ('hair', person.hair), person.hair_color)
        texture, mean = self._texture('/'.join(folder))
        # Lightness varies about the wanted colour as it does about the texture's own.
        contrast = 0.85
        tint = contrast * np.outer(color, _LUMA) / max(float(mean @ _LUMA), 0.06)
        return texture, tint, (1 - contrast) * color

    def _load_texture(self, name: str) -> tuple[Any, Float32]:
        path = self.assets / name
        file = texture_file(path) if path.is_dir() else path
        if file is None:
            raise ResourceError(f'{path} has no texture')
        rgba = read_texture(file)
        texture = self._gl.texture(rgba.shape[1::-1], 4, rgba)
        texture.build_mipmaps()
        return texture, mean_color(rgba)

    def _make_targets(self, width: int, height: int) -> _Targets:
        return _Targets(self._gl, width, height)


class _Scene:
    """A person's figure on the graphics side."""

    def __init__(self, gl: Any, person: Person, figure: Figure, *programs: Any) -> None:
        self.person, self.figure = person, figure
        fixed = np.column_stack([figure.uvs, figure.labels.astype(np.float32)]).astype('f4')
        self._fixed = gl.buffer(fixed.tobytes())
        self._moving = gl.buffer(reserve=24 * len(figure.corner_points))
        self._faces = gl.buffer(figure.faces.astype('i4').tobytes())
        self._arrays = [gl.vertex_array(program, [
            (self._moving, '3f 3f', 'position', 'normal'),
            (self._fixed, '2f 1f', 'uv', 'label')], self._faces, skip_errors=True)
            for program in programs]
        self._hair = next((layer for layer in figure.layers if layer.name == 'hair'), None)

    def move(self, pose: OperatorPose) -> None:
        """Pose the figure; hair is drawn from far to near."""
        figure = self.figure
        points, normals = figure.posed(pose)
        corners = np.concatenate([points, normals], 1).astype('f4')[figure.corner_points]
        self._moving.write(corners.tobytes())
        if self._hair is not None:
            own = slice(self._hair.first, self._hair.first + self._hair.count)
            faces = figure.faces[own]
            order = np.argsort(-corners[faces, 2].sum(1))
            self._faces.write(faces[order].astype('i4').tobytes(), offset=12 * own.start)

    def draw(self, layer: Layer, picture: bool) -> None:
        self._arrays[0 if picture else 1].render(vertices=3 * layer.count, first=3 * layer.first)

    def release(self) -> None:
        for thing in (*self._arrays, self._fixed, self._moving, self._faces):
            thing.release()


class _Targets:
    """What pictures of one size are drawn into."""

    def __init__(self, gl: Any, width: int, height: int) -> None:
        size = width, height
        self._size = size
        self.samples = gl.framebuffer(
            [gl.renderbuffer(size, 4, samples=_SAMPLES)],
            gl.depth_renderbuffer(size, samples=_SAMPLES))
        self.picture = gl.framebuffer([gl.renderbuffer(size, 4)])
        self.surface = gl.framebuffer(
            [gl.renderbuffer(size, 4, dtype='f4'), gl.renderbuffer(size, 1)],
            gl.depth_renderbuffer(size))

    def shot(self, background: UInt8 | Float32, camera: Camera, pose: OperatorPose) -> Shot:
        """Read back what was drawn."""
        rgba = self._read(self.picture, 4, 0, np.uint8).astype(np.float32) / 255
        surface = self._read(self.surface, 4, 0, np.float32)
        labels = self._read(self.surface, 1, 1, np.uint8)[..., 0]
        behind = np.asarray(background)
        behind = behind / np.float32(255) if behind.dtype == np.uint8 else behind
        rgb = rgba[..., :3] + (1 - rgba[..., 3:]) * behind
        return Shot(
            np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8),
            np.ascontiguousarray(rgba[..., 3]), np.ascontiguousarray(surface[..., 3]),
            np.ascontiguousarray(surface[..., :3]), np.ascontiguousarray(labels), camera, pose)

    def _read(self, frame: Any, channels: int, attachment: int, kind: type) -> np.ndarray:
        dtype = 'f4' if kind is np.float32 else 'f1'
        width, height = self._size
        data = frame.read(components=channels, attachment=attachment, dtype=dtype, alignment=1)
        return np.frombuffer(data, kind).reshape(height, width, channels)[::-1]


def _hue_turned(angle_rad: float, saturation: float) -> Float32:
    """Return the matrix that turns colours about the grey axis and scales their distance to it."""
    from scipy.spatial.transform import Rotation

    grey = np.full((3, 3), 1 / 3)
    turn = Rotation.from_rotvec(np.full(3, angle_rad / np.sqrt(3))).as_matrix()
    return (grey + saturation * (turn @ (np.eye(3) - grey))).astype(np.float32)


def _clip(camera: Camera) -> np.ndarray:
    """Return OpenGL's 4x4 clip matrix for a pinhole camera with optical axes."""
    K, width, height = camera.K, camera.width, camera.height
    depth, far = _FAR_M - _NEAR_M, _FAR_M
    return np.array([
        [2 * K[0, 0] / width, 0, 2 * K[0, 2] / width - 1, 0],
        [0, -2 * K[1, 1] / height, 1 - 2 * K[1, 2] / height, 0],
        [0, 0, (far + _NEAR_M) / depth, -2 * far * _NEAR_M / depth],
        [0, 0, 1, 0]])
