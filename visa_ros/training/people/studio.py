"""Photographs people: pictures and what is exactly true in them (OpenGL, without a window)."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from visa_ros._optional import require
from visa_ros.errors import ResourceError
from visa_ros.training.people.assets import lightness, read_texture, texture_file
from visa_ros.training.people.figure import Figure, Layer, dress
from visa_ros.training.people.light import Light, sphere
from visa_ros.training.people.person import Person
from visa_ros.types import Camera, Float32, OperatorPose, UInt8

_NEAR_M, _FAR_M = 0.1, 10.0
_FINER = 2  # pictures are drawn at this many times the size and averaged
_OPAQUE = 0.95
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Lightness of hair varies by at most this share (a standard deviation): the textures of black
# hair have highlights that would burn out in blond.
_HAIR_CONTRAST = 0.35

_SHADOW_PX = 1024
_SHADOW_RADIUS_M = 0.85  # of what can cast shadows, about the chest
_OCCLUSION_PX, _OCCLUSION_VIEWS = 256, 40
_MOUTH_DEPTH_M = 0.02  # in which light falls to 1/e behind the front teeth

_VERTEX = """
in vec3 position; in vec3 normal; in vec2 uv; in float label; in float open;
uniform mat4 clip; uniform float lift_m; uniform vec3 ambient[9];
out vec3 v_position; out vec3 v_normal; out vec2 v_uv; out float v_open; flat out float v_label;
out vec3 v_even; out vec3 v_odd;
void main() {
    v_position = position; v_normal = normal; v_uv = uv; v_open = open; v_label = label;
    // The environment's light; its odd part changes its sign where the back is seen.
    vec3 n = normal;
    v_odd = open * (ambient[1] * n.x + ambient[2] * n.y + ambient[3] * n.z);
    v_even = open * (ambient[0] + ambient[4] * n.x * n.y + ambient[5] * n.y * n.z
        + ambient[6] * n.x * n.z + ambient[7] * (n.x * n.x - n.y * n.y)
        + ambient[8] * (3.0 * n.z * n.z - 1.0));
    gl_Position = clip * vec4(position * (1.0 - lift_m / position.z), 1);
}
"""

_FRAGMENT = """
in vec3 v_position; in vec3 v_normal; in vec2 v_uv; in float v_open; flat in float v_label;
uniform sampler2D albedo; uniform vec2 alpha_range;
vec4 texel() {
    vec4 color = texture(albedo, v_uv);
    if (TRANSPARENT && (color.a < alpha_range.x || color.a >= alpha_range.y)) discard;
    if (!TRANSPARENT) color.a = 1.0;
    return color;
}
float side() {
    return dot(v_normal, v_position) > 0.0 ? -1.0 : 1.0;
}
"""

# Lambert with a terminator that is softened per channel ("wrapped": light scatters in skin and
# hair), Blinn-Phong with Schlick's Fresnel term, all in linear light (squared in place of
# sRGB's curve: it is quicker by far); shadows by percentage
# closer filtering (Reeves et al. 1987) on a Vogel disk.
_PICTURE = """
uniform mat3 tint; uniform vec3 tint_offset;
in vec3 v_even; in vec3 v_odd;
uniform vec3 key_direction; uniform vec3 key_color; uniform vec3 wrap;
uniform float gloss; uniform float specular;
uniform mat4 shadow_clip; uniform sampler2DShadow shadow; uniform float softness;
out vec4 rgba;
const vec2 disk[8] = vec2[8](vec2(0.250, 0.000), vec2(-0.319, 0.292), vec2(0.049, -0.557),
    vec2(0.402, 0.525), vec2(-0.739, -0.131), vec2(0.700, -0.445),
    vec2(-0.234, 0.870), vec2(-0.446, -0.859));
float unshadowed(vec3 n) {
    vec3 at = (shadow_clip * vec4(v_position + 0.004 * n, 1)).xyz * 0.5 + 0.5;
    float turn = 6.28 * fract(52.98 * fract(dot(gl_FragCoord.xy, vec2(0.0671, 0.00584))));
    mat2 spin = softness * mat2(cos(turn), sin(turn), -sin(turn), cos(turn));
    float sum = 0.0;
    for (int i = 0; i < 8; ++i)
        sum += texture(shadow, at + vec3(spin * disk[i], -0.002));
    return sum / 8.0;
}
void main() {
    vec4 color = texel();
    color.rgb = clamp(tint * color.rgb + tint_offset, 0.0, 1.0);
    vec3 n = side() * normalize(v_normal), view = normalize(-v_position);
    vec3 base = color.rgb * color.rgb, around = max(v_even + side() * v_odd, 0.0);
    float cosine = dot(n, key_direction);
    vec3 lit = max((vec3(cosine) + wrap) / (1.0 + wrap), 0.0);
    vec3 middle = normalize(key_direction + view);
    float grazing = 1.0 - max(dot(view, middle), 0.0), twice = grazing * grazing;
    float shine = specular * (0.04 + 0.96 * twice * twice * grazing) * (gloss + 8.0) / 8.0
        * pow(max(dot(n, middle), 0.0), gloss) * max(cosine, 0.0);
    vec3 key = key_color * (cosine > -max(wrap.r, 0.01) ? unshadowed(n) : 0.0);
    vec3 light = base * (around + key * lit * sqrt(v_open)) + key * shine;
    light = min(light, 0.8) + max(light - 0.8, 0.0) / (1.0 + 2.0 * max(light - 0.8, 0.0));
    rgba = vec4(sqrt(min(light, 1.0)) * color.a, color.a);
}
"""

_SURFACE = """
layout(location=0) out vec4 surface; layout(location=1) out float label;
void main() {
    texel();
    surface = vec4(side() * normalize(v_normal), v_position.z);
    label = v_label / 255.0;
}
"""

_DEPTH = 'void main() { texel(); }'


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
    lift_m: float = 0.0         # towards the camera, so that it lies on the skin and not in it
    transparent: bool = False
    casts_shadow: bool = True
    least_open: float = 0.2     # in its deepest fold, of the environment's light
    in_surface: bool = True     # whether depth, normals and labels know it


_MATERIALS = {
    'skin': _Material((0.25, 0.13, 0.08), 22.0, 0.5),
    'mouth': _Material((0.3, 0.15, 0.1), 40.0, 0.3),
    'teeth': _Material((0.2, 0.15, 0.1), 60.0, 0.5),
    'outfit': _Material((0.1, 0.1, 0.1), 8.0, 0.15),
    'eyes': _Material((0.2, 0.2, 0.2), 300.0, 1.0, transparent=True, casts_shadow=False,
                      least_open=0.3),
    'brows': _Material((0.3, 0.3, 0.3), lift_m=0.0008, transparent=True, casts_shadow=False,
                       in_surface=False, least_open=1.0),
    'lashes': _Material((0.3, 0.3, 0.3), lift_m=0.0005, transparent=True, casts_shadow=False,
                        in_surface=False, least_open=1.0),
    'hair': _Material((0.4, 0.35, 0.3), 14.0, 0.4, transparent=True, least_open=0.45),
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
        self._gl.enable(gl.DEPTH_TEST)
        self._gl.blend_func = gl.ONE, gl.ONE_MINUS_SRC_ALPHA
        self._programs = {
            (name, transparent): self._program(code, transparent)
            for name, code in (('picture', _PICTURE), ('surface', _SURFACE), ('depth', _DEPTH))
            for transparent in (False, True)}
        self._white = self._gl.texture((1, 1), 4, b'\xff' * 4)
        self._shadow = self._gl.depth_texture((_SHADOW_PX, _SHADOW_PX))
        self._shadow.filter = gl.NEAREST, gl.NEAREST
        self._shadow_frame = self._gl.framebuffer(depth_attachment=self._shadow)
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
            self._enter(person)
        scene = self._scene
        assert scene is not None
        scene.move(pose)
        targets = self._targets(camera.width, camera.height)
        shadow_clip = _lamp_clip(light.key_direction, scene.chest)
        self._draw_shadow(scene, shadow_clip)
        clip = _bytes(_clip(camera).T)
        for transparent in (False, True):
            self._programs['surface', transparent]['clip'].write(clip)
            program = self._programs['picture', transparent]
            program['clip'].write(clip)
            program['key_direction'].write(_bytes(light.key_direction))
            program['key_color'].write(_bytes(light.key_color))
            program['ambient'].write(_bytes(light.ambient))
            program['shadow_clip'].write(_bytes(shadow_clip.T))
            program['softness'] = light.softness_m / (2 * _SHADOW_RADIUS_M)
            program['shadow'] = 1
        self._shadow.use(1)

        targets.picture.use()
        targets.picture.depth_mask = True
        targets.picture.clear(0, 0, 0, 0, depth=1.0)
        for layer in scene.figure.layers:
            self._draw(scene, layer, 'picture', (_OPAQUE, 2.0))
        self._gl.enable(self._gl.BLEND)
        targets.picture.depth_mask = False
        for layer in scene.figure.layers:
            if _MATERIALS[layer.name].transparent:
                self._draw(scene, layer, 'picture', (0.02, _OPAQUE))
        self._gl.disable(self._gl.BLEND)
        targets.picture.depth_mask = True

        targets.surface.use()
        targets.surface.clear(0, 0, 0, 0, depth=1.0)
        for layer in scene.figure.layers:
            if _MATERIALS[layer.name].in_surface:
                self._draw(scene, layer, 'surface', (0.5, 2.0))
        return targets.shot(background, camera, pose)

    def close(self) -> None:
        """Give OpenGL back."""
        self._gl.release()

    def _enter(self, person: Person) -> None:
        """Dress somebody new, and find how much light the folds and hollows get."""
        if self._scene is not None:
            self._scene.release()
        figure = dress(person, self.assets)
        scene = self._scene = _Scene(self._gl, person, figure, self._programs)
        points = scene.move(OperatorPose.rest())[figure.corner_points]
        seen = np.zeros(len(points), np.float32)
        weight = np.zeros_like(seen)
        depth = self._gl.depth_texture((_OCCLUSION_PX, _OCCLUSION_PX))
        frame = self._gl.framebuffer(depth_attachment=depth)
        normals = scene.normals[figure.corner_points]
        for direction in sphere(_OCCLUSION_VIEWS):
            clip = _lamp_clip(direction, scene.chest)
            frame.use()
            frame.clear(depth=1.0)
            self._draw_depth(scene, clip)
            ndc = (points + 0.012 * normals) @ clip[:3, :3].T + clip[:3, 3]
            column, row = np.clip(((ndc[:, :2] + 1) / 2 * _OCCLUSION_PX).astype(int), 0,
                                  _OCCLUSION_PX - 1).T
            found = np.frombuffer(depth.read(alignment=1), np.float32).reshape(
                _OCCLUSION_PX, _OCCLUSION_PX)[row, column]
            cosine = np.maximum(normals @ direction.astype(np.float32), 0)
            seen += cosine * (2 * found - 1 > ndc[:, 2] - 0.004)
            weight += cosine
        frame.release()
        depth.release()
        scene.set_open(_openness(figure, points, seen / np.maximum(weight, 1e-6)))

    def _draw_shadow(self, scene: _Scene, clip: np.ndarray) -> None:
        self._shadow_frame.use()
        self._shadow_frame.clear(depth=1.0)
        self._shadow.compare_func = ''
        self._draw_depth(scene, clip)
        self._shadow.compare_func = '<='

    def _draw_depth(self, scene: _Scene, clip: np.ndarray) -> None:
        for transparent in (False, True):
            self._programs['depth', transparent]['clip'].write(_bytes(clip.T))
        for layer in scene.figure.layers:
            if _MATERIALS[layer.name].casts_shadow:
                self._draw(scene, layer, 'depth', (0.5, 2.0))

    def _program(self, code: str, transparent: bool) -> Any:
        top = f'#version 330\n#define TRANSPARENT {str(transparent).lower()}\n'
        return self._gl.program(top + _VERTEX, top + _FRAGMENT + code)

    def _draw(self, scene: _Scene, layer: Layer, what: str,
              alpha_range: tuple[float, float]) -> None:
        texture, tint, offset = self._look(scene.person, layer.name)
        material = _MATERIALS[layer.name]
        program = self._programs[what, material.transparent]
        if material.transparent or what == 'picture':
            texture.use()
        if material.transparent:
            program['alpha_range'] = alpha_range
        program['lift_m'] = material.lift_m if what == 'picture' else 0.0
        if what == 'picture':
            program['tint'].write(_bytes(tint.T))
            program['tint_offset'].write(_bytes(offset))
            program['wrap'] = material.wrap
            program['gloss'] = material.gloss
            program['specular'] = material.specular
        scene.draw(layer, what, material.transparent)

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
        texture, (mean, spread) = self._texture('/'.join(folder))
        # Lightness varies about the wanted colour as it does about the texture's own.
        mean = max(mean, 1e-3)
        contrast = _HAIR_CONTRAST * mean / max(spread, _HAIR_CONTRAST * mean)
        return texture, contrast * np.outer(color, _LUMA) / mean, (1 - contrast) * color

    def _load_texture(self, name: str) -> tuple[Any, tuple[float, float]]:
        path = self.assets / name
        file = texture_file(path) if path.is_dir() else path
        if file is None:
            raise ResourceError(f'{path} has no texture')
        rgba = read_texture(file)
        texture = self._gl.texture(rgba.shape[1::-1], 4, rgba)
        texture.build_mipmaps()
        return texture, lightness(rgba)

    def _make_targets(self, width: int, height: int) -> _Targets:
        return _Targets(self._gl, width, height)


class _Scene:
    """A person's figure on the graphics side."""

    def __init__(self, gl: Any, person: Person, figure: Figure, programs: dict) -> None:
        self.person, self.figure = person, figure
        count = len(figure.corner_points)
        fixed = np.column_stack([figure.uvs, figure.labels.astype(np.float32)])
        self._fixed = gl.buffer(_bytes(fixed))
        self._open = gl.buffer(_bytes(np.ones(count)))
        self._moving = gl.buffer(reserve=24 * count)
        self._faces = gl.buffer(figure.faces.astype('i4').tobytes())
        self._arrays = {key: gl.vertex_array(program, [
            (self._moving, '3f 3f', 'position', 'normal'),
            (self._fixed, '2f 1f', 'uv', 'label'), (self._open, '1f', 'open')],
            self._faces, skip_errors=True) for key, program in programs.items()}
        self._hair = next((layer for layer in figure.layers if layer.name == 'hair'), None)

    def move(self, pose: OperatorPose) -> Float32:
        """Pose the figure, hair from far to near; return its points."""
        figure = self.figure
        points, self.normals = figure.posed(pose)
        self.chest = figure.chest(pose)
        corners = np.concatenate([points, self.normals], 1, dtype='f4')[figure.corner_points]
        self._moving.write(corners.tobytes())
        if self._hair is not None:
            own = slice(self._hair.first, self._hair.first + self._hair.count)
            faces = figure.faces[own]
            order = np.argsort(-corners[faces, 2].sum(1))
            self._faces.write(faces[order].astype('i4').tobytes(), offset=12 * own.start)
        return points

    def set_open(self, open_: Float32) -> None:
        """Take the share of the environment that reaches each corner."""
        self._open.write(_bytes(open_))

    def draw(self, layer: Layer, what: str, transparent: bool) -> None:
        self._arrays[what, transparent].render(vertices=3 * layer.count, first=3 * layer.first)

    def release(self) -> None:
        for thing in (*self._arrays.values(), self._fixed, self._open, self._moving,
                      self._faces):
            thing.release()


class _Targets:
    """What pictures of one size are drawn into."""

    def __init__(self, gl: Any, width: int, height: int) -> None:
        size = width, height
        self._size = size
        finer = _FINER * width, _FINER * height
        self._rgba = gl.texture(finer, 4)
        self.picture = gl.framebuffer([self._rgba], gl.depth_renderbuffer(finer))
        self.surface = gl.framebuffer(
            [gl.renderbuffer(size, 4, dtype='f4'), gl.renderbuffer(size, 1)],
            gl.depth_renderbuffer(size))

    def shot(self, background: UInt8 | Float32, camera: Camera, pose: OperatorPose) -> Shot:
        """Read back what was drawn."""
        self._rgba.build_mipmaps(max_level=1)
        width, height = self._size
        rgba = np.frombuffer(self._rgba.read(level=1), np.uint8).reshape(height, width, 4)[::-1]
        rgba = rgba.astype(np.float32) / 255
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


def _openness(figure: Figure, points: Float32, seen: Float32) -> Float32:
    """Return how much of the environment's light reaches each corner, from what was seen."""
    out = np.ones_like(seen)
    for layer in figure.layers:
        own = figure.corners(layer)
        least = _MATERIALS[layer.name].least_open
        out[own] = least + (1 - least) * np.minimum(1.1 * seen[own], 1)
    # The mouth was closed: what opens later is the darker the farther behind the front teeth.
    depth = points[:, 2]
    front = max(depth[figure.corners(layer)].max() for layer in figure.layers
                if layer.name == 'teeth')
    for layer in figure.layers:
        if layer.name in ('teeth', 'mouth'):
            own = figure.corners(layer)
            out[own] = 0.75 * np.exp((depth[own] - front) / _MOUTH_DEPTH_M)
    return out


def _lamp_clip(direction: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the 4x4 clip matrix of a lamp far away in this direction; all about the middle."""
    aside = np.cross(direction, [0, 0, 1] if abs(direction[2]) < 0.9 else [0, 1, 0])
    aside /= np.linalg.norm(aside)
    out = np.eye(4)
    out[:3, :3] = np.stack([aside, np.cross(direction, aside), -direction]) / _SHADOW_RADIUS_M
    out[:3, 3] = -out[:3, :3] @ middle
    return out


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, np.float32).tobytes()
