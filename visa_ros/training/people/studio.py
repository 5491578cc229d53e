"""Photographs people: pictures and what is exactly true in them (OpenGL, without a window)."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from visa_ros._optional import require
from visa_ros.body.bake.render import clip_matrix
from visa_ros.errors import ResourceError
from visa_ros.training.people import shaders
from visa_ros.training.people.figure import Figure, Layer, dress
from visa_ros.training.people.light import Light, sphere
from visa_ros.training.people.looks import Look, draw_looks
from visa_ros.training.people.person import Person
from visa_ros.types import Camera, Float32, OperatorPose, UInt8

_AS_IT_IS = np.eye(4, dtype=np.float32)[:3]  # poses are in the camera's frame already
_FINER = 2  # pictures are drawn at this many times the size and averaged
_OPAQUE = 0.95
_SHADOW_PX = 1024
_SHADOW_RADIUS_M = 0.85  # of what can cast shadows, about the chest
_OCCLUSION_PX, _OCCLUSION_VIEWS = 256, 40
_MOUTH_DEPTH_M = 0.02  # in which light falls to 1/e behind the front teeth

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
            for name, code in (
                ('picture', shaders.PICTURE), ('surface', shaders.SURFACE),
                ('depth', shaders.DEPTH))
            for transparent in (False, True)}
        self._shadow = self._gl.depth_texture((_SHADOW_PX, _SHADOW_PX))
        self._shadow.filter = gl.NEAREST, gl.NEAREST
        self._shadow_frame = self._gl.framebuffer(depth_attachment=self._shadow)
        self._targets = lru_cache(maxsize=4)(lambda *size: _Targets(self._gl, *size))
        self._files: dict[int, tuple[UInt8, Any]] = {}
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
        clip = _bytes(clip_matrix(camera, _AS_IT_IS).T)
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
        looks = draw_looks(person, self.assets)
        textures = {name: self._texture(look) for name, look in looks.items()}
        scene = self._scene = _Scene(
            self._gl, person, figure, looks, textures, self._programs)
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
        return self._gl.program(top + shaders.VERTEX, top + shaders.FRAGMENT + code)

    def _draw(self, scene: _Scene, layer: Layer, what: str,
              alpha_range: tuple[float, float]) -> None:
        material = _MATERIALS[layer.name]
        program = self._programs[what, material.transparent]
        if material.transparent or what == 'picture':
            scene.textures[layer.name].use()
        if material.transparent:
            program['alpha_range'] = alpha_range
        program['lift_m'] = material.lift_m if what == 'picture' else 0.0
        if what == 'picture':
            program['tint'].write(_bytes(scene.looks[layer.name].tint.T))
            program['tint_offset'].write(_bytes(scene.looks[layer.name].offset))
            program['wrap'] = material.wrap
            program['gloss'] = material.gloss
            program['specular'] = material.specular
        scene.draw(layer, what, material.transparent)

    def _texture(self, look: Look) -> Any:
        """Bring a texture to the graphics side; those that others may have stay there."""
        if id(look.texture) in self._files:
            return self._files[id(look.texture)][1]
        texture = self._gl.texture(look.texture.shape[1::-1], 4, look.texture)
        texture.build_mipmaps()
        if look.is_file:
            self._files[id(look.texture)] = look.texture, texture
        return texture


class _Scene:
    """A person's figure on the graphics side."""

    def __init__(self, gl: Any, person: Person, figure: Figure, looks: dict[str, Look],
                 textures: dict[str, Any], programs: dict[tuple[str, bool], Any]) -> None:
        self.person, self.figure, self.looks = person, figure, looks
        self.textures = textures
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

    def set_open(self, open_: np.ndarray) -> None:
        """Take the share of the environment that reaches each corner."""
        self._open.write(_bytes(open_))

    def draw(self, layer: Layer, what: str, transparent: bool) -> None:
        self._arrays[what, transparent].render(vertices=3 * layer.count, first=3 * layer.first)

    def release(self) -> None:
        own = (texture for name, texture in self.textures.items()
               if not self.looks[name].is_file)
        for thing in (*own, *self._arrays.values(), self._fixed, self._open, self._moving,
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
        cv2 = require('cv2')
        finer = np.frombuffer(self._rgba.read(), np.uint8).reshape(
            _FINER * self._size[1], _FINER * self._size[0], 4)
        rgba = cv2.resize(finer, self._size, interpolation=cv2.INTER_AREA)[::-1].astype(
            np.float32) / 255
        surface = self._read(self.surface, 4, 0, np.float32)
        labels = self._read(self.surface, 1, 1, np.uint8)[..., 0]
        behind = background.astype(np.float32)
        if background.dtype == np.uint8:
            behind /= 255
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


def _openness(figure: Figure, points: Float32, seen: np.ndarray) -> np.ndarray:
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
