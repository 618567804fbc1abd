"""What is computed once for an actor, with OpenGL: skin textures in the model's chart, light at each vertex.

Shape letters: N points, T triangles. Units: centimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moderngl
import numpy as np

from realtime.arrays import Float64Array, FloatArray, IntArray
from realtime.resources import resource_folder
from studio.actor import BACK, SKIN, Actor
from studio.hair import Strokes

SHADERS = resource_folder("shaders")
FACE_TEXELS, BACK_TEXELS = 2048, 1024
CHARTS = {SKIN: (0.0, 0.0), BACK: (1.0, 0.0)}  # lower left corner of each part's chart
# Texels by which the chart is drawn again to all sides, so that its islands grow a little beyond their edges.
GUTTER = ((0, 0), (-3, 0), (3, 0), (0, -3), (0, 3), (-2, -2), (2, 2), (-2, 2), (2, -2))
DIRECTIONS = 72  # light is sampled from so many directions over the sphere
DEPTH_PIXELS = 384
SCENE_RADIUS = 27.0  # cm around the scene's centre
SCENE_CENTRE = np.array([0.0, -2.0, 0.0])
KEY = np.array([-0.43, 0.45, 0.78])  # as in shaders/light.glsl, the head looking straight ahead
FILL = np.array([0.70, 0.12, 0.70])
LOBE = 7.0  # sharpness of the two soft boxes: about 35 degrees of half width

# Blending that keeps what the target's alpha says. moderngl's stub knows only the form with two factors.
OVER: Any = (moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA, moderngl.ZERO, moderngl.ONE)


def source(name: str) -> str:
    """A GLSL file of shaders/, with its `#include` lines resolved."""
    lines = (SHADERS / name).read_text().splitlines()
    return "\n".join(source(line.split()[1]) if line.startswith("#include") else line for line in lines)


def program(context: moderngl.Context, vertex: str, fragment: str) -> moderngl.Program:
    """Compiles two files of shaders/."""
    return context.program(vertex_shader=source(vertex), fragment_shader=source(fragment))


def set_uniforms(prog: moderngl.Program, **values: object) -> None:
    """Sets uniforms; matrices are given in row order. Uniforms that the compiler removed are left out."""
    for name, value in values.items():
        uniform = prog.get(name, None)
        if isinstance(uniform, moderngl.Uniform):
            array = np.asarray(value, np.float32)
            if array.ndim == 2 and array.shape[0] == array.shape[1] and array.shape[0] > 2:
                array = array.T
            uniform.write(np.ascontiguousarray(array).tobytes())


def set_units(prog: moderngl.Program, **units: int) -> None:
    """Tells samplers which texture unit they read."""
    for name, unit in units.items():
        sampler = prog[name]
        assert isinstance(sampler, moderngl.Uniform)
        sampler.value = unit


def smooth_curve(points: Float64Array, count: int, closed: bool) -> Float64Array:
    """`count` points on the Catmull-Rom curve through `points` [P, D]."""
    p = (
        np.concatenate([points[-1:], points, points[:2]])
        if closed
        else np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    )
    spans = len(points) if closed else len(points) - 1
    t = np.linspace(0, spans, count, endpoint=not closed)
    k = np.minimum(t.astype(int), spans - 1)
    f = (t - k)[:, None]
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    return np.asarray(0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3))


def skin_textures(
    context: moderngl.Context, actor: Actor, scalp_V: FloatArray, brows: Strokes
) -> dict[str, tuple[moderngl.Texture, ...]]:
    """Albedo with gloss, and relief, for the face and the rest of the head: {group: (albedo, relief)}, with mipmaps.

    scalp_V: how far behind the hairline each model vertex lies, radians, negative on the face.
    """
    prog = program(context, "actor_bake.vert", "actor_bake.frag")
    mark = actor.landmark

    def curve(ids: Sequence[int], count: int, closed: bool = False) -> Float64Array:
        return smooth_curve(np.stack([mark(k) for k in ids]), count, closed)

    cheek = 0.5 * (mark(13) + mark(35)) * (1, 0, 1) + (0.35, mark(29)[1] - 0.9, 0)
    brow = float(np.mean([mark(k)[1] for k in range(17, 27)]))
    set_uniforms(
        prog,
        lip_outline=curve(range(48, 60), 48, closed=True)[:, :2],
        lid_left=curve((42, 43, 44, 45), 9),
        lid_right=curve((39, 38, 37, 36), 9),
        low_left=curve((42, 47, 46, 45), 9),
        low_right=curve((39, 40, 41, 36), 9),
        nose=mark(30),
        mouth=mark(62),
        chin=mark(8),
        cheek=cheek,
        head_frame=(brow, 0.0, brow, abs(mark(0)[0])),
    )
    rest = actor.neutral_V3
    data = np.concatenate([rest, scalp_V[:, None]], 1)[actor.corner_N]
    vertices = context.buffer(np.concatenate([data, actor.uv_N2], 1).astype(np.float32).tobytes())
    first_lining = actor.model.parts["mouth_socket"].start
    textures: dict[str, tuple[moderngl.Texture, ...]] = {}
    for group, size in ((SKIN, FACE_TEXELS), (BACK, BACK_TEXELS)):
        albedo, relief = (context.texture((size, size), 4) for _ in range(2))
        albedo.repeat_x = albedo.repeat_y = relief.repeat_x = relief.repeat_y = True
        target = context.framebuffer([albedo, relief], context.depth_renderbuffer((size, size)))
        target.clear()
        for attachment, colour in ((albedo, (0.8, 0.62, 0.53, 0.1)), (relief, (0.5, 0.5, 0.5, 0.0))):
            context.framebuffer([attachment]).clear(*colour)
        target.use()
        context.disable(moderngl.CULL_FACE | moderngl.BLEND)
        context.enable(moderngl.DEPTH_TEST)
        triangles = actor.groups[group]
        lining = actor.corner_N[triangles[:, 0]] >= first_lining
        texel = 2.0 / size
        for part, is_lining in ((triangles[~lining], 0.0), (triangles[lining], 1.0)):
            if not len(part):
                continue
            set_uniforms(prog, chart=CHARTS[group], socket=is_lining)
            array = context.vertex_array(
                prog, [(vertices, "3f 1f 2f", "rest", "scalp", "uv")], context.buffer(part.tobytes())
            )
            for dx, dy in GUTTER:
                set_uniforms(prog, nudge=(dx * texel, dy * texel, float((dx, dy) != (0, 0)) * 0.5))
                array.render()
        if group == SKIN:
            _draw_brows(context, albedo, brows)
        for texture in (albedo, relief):
            texture.build_mipmaps()
            texture.filter = (moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR)
        textures[group] = (albedo, relief)
    return textures


def _draw_brows(context: moderngl.Context, albedo: moderngl.Texture, brows: Strokes) -> None:
    prog = program(context, "actor_brow.vert", "actor_brow.frag")
    count = len(brows.quads_R42)
    corners = np.broadcast_to(np.array([[-1, 0], [1, 0], [-1, 1], [1, 1]], np.float32), (count, 4, 2))
    shade = np.broadcast_to(brows.shade_R[:, None, None], (count, 4, 1))
    data = np.concatenate([brows.quads_R42, corners, shade], -1).astype(np.float32)
    order = (np.arange(count)[:, None] * 4 + np.array([0, 1, 2, 1, 3, 2])).astype(np.int32)
    array = context.vertex_array(
        prog, [(context.buffer(data.tobytes()), "2f 2f 1f", "uv", "across", "shade")], context.buffer(order.tobytes())
    )
    context.framebuffer([albedo]).use()
    context.enable(moderngl.BLEND)
    context.blend_func = OVER
    array.render()
    context.disable(moderngl.BLEND)


def sphere_directions(count: int) -> Float64Array:
    """`count` unit vectors [count, 3] spread evenly over the sphere (Fibonacci)."""
    k = np.arange(count) + 0.5
    y = 1 - 2 * k / count
    turn = np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(turn), y, r * np.sin(turn)], -1)


def received_light(
    context: moderngl.Context,
    occluders: Sequence[tuple[FloatArray, IntArray]],
    points_N3: FloatArray,
    normals_N3: FloatArray | None,
    bias: float,
) -> FloatArray:
    """How much of key, fill and surroundings reaches each point [N, 3], in [0, 1], 1 where nothing stands in the way.

    Depth maps from many directions, each compared with the points' own depth. `occluders` are (vertices [n, 3],
    triangles [t, 3]); without normals (hair) the light is taken from all around. `bias` is in cm.
    """
    prog = program(context, "actor_depth.vert", "actor_depth.frag")
    arrays = [
        context.vertex_array(
            prog, [(context.buffer(v.astype(np.float32).tobytes()), "3f", "position")], context.buffer(t.tobytes())
        )
        for v, t in occluders
    ]
    depth = context.depth_texture((DEPTH_PIXELS, DEPTH_PIXELS))
    target = context.framebuffer([], depth)
    context.enable(moderngl.DEPTH_TEST)
    seen = np.zeros((len(points_N3), 3))
    possible = np.zeros((len(points_N3), 3))
    start = points_N3 if normals_N3 is None else points_N3 + bias * normals_N3
    centred = start - SCENE_CENTRE
    lights = [KEY / np.linalg.norm(KEY), FILL / np.linalg.norm(FILL)]
    for towards in sphere_directions(DIRECTIONS):
        side = np.cross([0.31, 0.9, 0.3], towards)
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(towards, side), -towards])  # camera axes; depth grows away from the light
        view = np.eye(4)
        view[:3, :3] = frame / SCENE_RADIUS
        view[:3, 3] = -frame @ SCENE_CENTRE / SCENE_RADIUS
        set_uniforms(prog, view=view)
        target.use()
        target.clear(depth=1.0)
        for array in arrays:
            array.render()
        drawn = np.frombuffer(depth.read(), np.float32).reshape(DEPTH_PIXELS, DEPTH_PIXELS) * 2 - 1
        at = centred @ (frame.T / SCENE_RADIUS)
        pixel = np.clip(((at[:, :2] + 1) * 0.5 * DEPTH_PIXELS).astype(int), 0, DEPTH_PIXELS - 1)
        visible = at[:, 2] < drawn[pixel[:, 1], pixel[:, 0]] + bias / SCENE_RADIUS
        cosine = np.ones(len(points_N3)) if normals_N3 is None else np.clip(normals_N3 @ towards, 0, 1)
        sky = 0.75 + 0.25 * towards[1]
        for k, weight in enumerate((*(np.exp(LOBE * (towards @ light - 1)) for light in lights), sky)):
            w = weight * (cosine if k == 2 else np.maximum(cosine, 0.02))
            possible[:, k] += w
            seen[:, k] += w * visible
    return np.asarray(seen / np.maximum(possible, 1e-6), np.float32)
