"""Draws frames of the actor with OpenGL: skin, hair, garment, eyes and mouth before a backdrop.

Shape letters: N drawn vertices, V model vertices, R strands, J points along a strand, C expression channels.
"""

from __future__ import annotations

import moderngl
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix, diags

from realtime.arrays import BoolArray, ByteArray, FloatArray, IntArray
from studio import bake
from studio.actor import (
    BACK,
    FOCAL_PIXELS,
    FRAME_PIXELS,
    IRIS,
    MOUTH,
    NECKLINE_ANGLES,
    SCLERA,
    SKIN,
    TEETH,
    Actor,
    Mesh,
    head_pose,
    neckline_radius,
    polar,
    projection,
    rigid_weight,
)
from studio.face_model import FaceModel, load_face_model
from studio.hair import Skull, Strands, eyebrows, grow, lashes

SAMPLES = 2  # supersampling in each direction
Layout = tuple[tuple[str, int], ...]  # vertex attributes and how many floats each has
MOVING: Layout = (("position", 3), ("normal", 3))
STILL: Layout = (("rest", 3), ("uv", 2), ("light", 3), ("rigid", 1))
HAIR: Layout = (("position", 3), ("tangent", 3), ("light", 3), ("offset", 1), ("across", 1), ("tone", 1), ("rigid", 1))


class Studio:
    """An actor in front of a fixed camera. Construction bakes skin and light (seconds); then each frame is quick."""

    def __init__(self, identity: int, context: moderngl.Context, model: FaceModel | None = None) -> None:
        self.context = context
        self.actor = Actor(model or load_face_model(), identity)
        self._rest_C = np.zeros(len(self.actor.model.expression_names), np.float32)
        size = FRAME_PIXELS * SAMPLES
        self._drawn = context.texture((size, size), 4)
        self._drawn.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._large_frame = context.framebuffer([self._drawn], context.depth_renderbuffer((size, size)))
        self._frame = context.framebuffer([context.texture((FRAME_PIXELS, FRAME_PIXELS), 4)])
        self._torso = head_pose()
        self._programs: dict[str, moderngl.Program] = {}
        skull = Skull(self.actor)
        strands = grow(self.actor, skull)
        self._lashes = lashes(self.actor)
        self._textures = bake.skin_textures(
            context, self.actor, skull.depth_of(self.actor.neutral_V3), eyebrows(self.actor)
        )
        self._draw_lists(strands)
        self._backdrop()

    # -- construction -------------------------------------------------------------------------------------------------

    def _program(self, name: str, vertex: str = "actor.vert") -> moderngl.Program:
        if name not in self._programs:
            prog = bake.program(self.context, vertex, f"{name}.frag")
            half = FRAME_PIXELS * SAMPLES / 2
            bake.set_uniforms(
                prog, projection=projection(), torso=self._torso, eye_ray=(half, half, FOCAL_PIXELS * SAMPLES)
            )
            self._programs[name] = prog
        return self._programs[name]

    def _draw_lists(self, strands: Strands) -> None:
        context, actor = self.context, self.actor
        rest_V3 = actor.neutral_V3
        normal_V3 = actor.normals(rest_V3)
        skin = np.concatenate([actor.groups[SKIN], actor.groups[BACK]])
        skin = skin[self._outside_cloth(actor, skin)]
        skin_model = actor.corner_N[skin].astype(np.int32)
        garment, hair_points, hair_triangles = actor.garment, *_ribbons(strands)
        occluders = [(rest_V3, skin_model), (garment.vertices_N3, garment.triangles_T3), (hair_points, hair_triangles)]
        light_V3 = bake.received_light(context, occluders, rest_V3, normal_V3, 0.30)
        light_V3 = self._softened(light_V3)
        garment_light = bake.received_light(context, occluders, garment.vertices_N3, garment.normals_N3, 0.35)
        grid = garment_light.reshape(-1, NECKLINE_ANGLES + 1, 3)
        garment_light = gaussian_filter(grid, (1.5, 3.0, 0)).reshape(-1, 3).astype(np.float32)
        strand_points = strands.points_RJ3.reshape(-1, 3)
        strand_light = bake.received_light(context, occluders, strand_points, None, 0.45)
        self._model_buffers(rest_V3, light_V3, skin)
        self._garment_buffers(garment, garment_light)
        self._hair_buffers(strands, strand_light)

    @staticmethod
    def _outside_cloth(actor: Actor, triangles_T3: IntArray) -> BoolArray:
        """Skin triangles that the garment doesn't cover."""
        rest = actor.neutral_V3[actor.corner_N]
        angle, radius = polar(rest)
        covered = (rest[:, 1] < -8) & (radius > neckline_radius(angle) + 0.7)
        return np.asarray(~covered[triangles_T3].all(1))

    def _softened(self, light_V3: FloatArray) -> FloatArray:
        """Light averaged with that of neighbouring vertices, a few times: no steps between a depth map's pixels."""
        t = self.actor.model.triangles_T3
        edges = np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]])
        edges = np.concatenate([edges, edges[:, ::-1]])
        count = len(light_V3)
        near = coo_matrix((np.ones(len(edges), np.float32), (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
        near = diags(1 / np.maximum(np.asarray(near.sum(1)).ravel(), 1)) @ near
        for _ in range(3):
            light_V3 = 0.4 * light_V3 + 0.6 * (near @ light_V3)
        return np.asarray(light_V3, np.float32)

    def _model_buffers(self, rest_V3: FloatArray, light_V3: FloatArray, skin: IntArray) -> None:
        context, actor = self.context, self.actor
        corner = actor.corner_N
        static = np.concatenate(
            [rest_V3[corner], actor.uv_N2, light_V3[corner], rigid_weight(rest_V3[corner])[:, None]], 1
        ).astype(np.float32)
        self._dynamic = np.empty((len(corner), 6), np.float32)
        self._moving = context.buffer(reserve=self._dynamic.nbytes, dynamic=True)
        fixed = context.buffer(static.tobytes())
        lash = self._lashes
        lash_rest = np.asarray(lash.matrix @ rest_V3, np.float32)
        lash_static = np.zeros((len(lash_rest), 9), np.float32)
        lash_static[:, :3], lash_static[:, 3], lash_static[:, 8] = lash_rest, lash.cover_N, 1
        self._lash_dynamic = np.zeros((len(lash_rest), 6), np.float32)
        self._lash_moving = context.buffer(reserve=self._lash_dynamic.nbytes, dynamic=True)

        def array(
            prog: moderngl.Program, triangles: IntArray, moving: moderngl.Buffer, still: moderngl.Buffer
        ) -> moderngl.VertexArray:
            return _vertex_array(
                context,
                prog,
                triangles,
                [(moving, MOVING), (still, STILL)],
            )

        face, mouth, eye = self._program("actor"), self._program("actor_mouth"), self._program("actor_eye")
        groups = actor.groups
        kept = self._outside_cloth(actor, groups[BACK]), self._outside_cloth(actor, groups[SKIN])
        self._skin_arrays = {
            SKIN: array(face, groups[SKIN][kept[1]], self._moving, fixed),
            BACK: array(face, groups[BACK][kept[0]], self._moving, fixed),
        }
        self._mouth_arrays = {g: array(mouth, groups[g], self._moving, fixed) for g in (TEETH, MOUTH)}
        self._eye_array = array(eye, np.concatenate([groups[SCLERA], groups[IRIS]]), self._moving, fixed)
        self._lash_array = array(
            self._program("actor_lash"), lash.triangles_T3, self._lash_moving, context.buffer(lash_static.tobytes())
        )
        bake.set_uniforms(
            eye, eye_left=actor.eye_centres["left"], eye_right=actor.eye_centres["right"], iris_radius=0.60
        )
        position = self._program("actor_position")
        self._position_arrays = [array(position, groups[g], self._moving, fixed) for g in (SKIN, BACK)]
        bake.set_units(face, albedo_map=0, bump_map=1)

    def _garment_buffers(self, garment: Mesh, light_N3: FloatArray) -> None:
        data = np.concatenate(
            [
                garment.vertices_N3,
                garment.normals_N3,
                garment.vertices_N3,
                garment.uv_N2,
                light_N3,
                np.zeros((len(light_N3), 1), np.float32),
            ],
            1,
        ).astype(np.float32)
        self._garment_array = _vertex_array(
            self.context,
            self._program("actor_cloth"),
            garment.triangles_T3,
            [(self.context.buffer(data.tobytes()), MOVING + STILL)],
        )

    def _hair_buffers(self, strands: Strands, light_N3: FloatArray) -> None:
        points = strands.points_RJ3
        tangent = np.gradient(points, axis=1)
        tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-9
        light = light_N3.reshape(*points.shape)
        light = np.clip(light, 0.05, 1)
        r, j = points.shape[:2]
        tone = np.broadcast_to(strands.tone_R[:, None, None], (r, j, 1))
        rigid = np.maximum(rigid_weight(points.reshape(-1, 3)), 0).reshape(r, j, 1)
        sides = [
            np.concatenate(
                [
                    points,
                    tangent,
                    light,
                    sign * strands.half_width_RJ[..., None],
                    np.full((r, j, 1), sign),
                    tone,
                    rigid,
                ],
                -1,
            )
            for sign in (-1, 1)
        ]
        data = np.stack(sides, 2).reshape(-1, 13).astype(np.float32)
        prog = self._program("actor_hair", "actor_hair.vert")
        self._hair_array = _vertex_array(
            self.context,
            prog,
            _strip_triangles(r, j),
            [(self.context.buffer(data.tobytes()), HAIR)],
        )

    def _backdrop(self) -> None:
        context = self.context
        self._room = context.texture((FRAME_PIXELS, FRAME_PIXELS), 4)
        frame = context.framebuffer([self._room])
        frame.use()
        context.disable(moderngl.DEPTH_TEST | moderngl.BLEND)
        context.vertex_array(bake.program(context, "backdrop.vert", "backdrop.frag"), []).render(moderngl.TRIANGLES, 3)
        resolve = bake.program(context, "backdrop.vert", "actor_resolve.frag")
        bake.set_units(resolve, actor=0, backdrop=1)
        self._resolve_array = context.vertex_array(resolve, [])

    # -- one frame ----------------------------------------------------------------------------------------------------

    def draw(
        self, expression_C: NDArray[np.floating], pose_44: NDArray[np.floating], gaze: tuple[float, float] = (0, 0)
    ) -> ByteArray:
        """One frame, uint8 sRGB [512, 512, 3], row 0 at the top.

        expression_C: weights of the model's 57 expression shapes. pose_44: object to camera, OpenGL axes, cm.
        gaze: yaw (to the actor's left) and pitch (down) of both eyes, radians.
        """
        context, actor = self.context, self.actor
        vertices_V3 = actor.displaced(expression_C, gaze)
        normals_V3 = actor.normals(vertices_V3)
        self._dynamic[:, :3] = vertices_V3[actor.corner_N]
        self._dynamic[:, 3:] = normals_V3[actor.corner_N]
        self._moving.write(self._dynamic)
        self._lash_dynamic[:, :3] = self._lashes.matrix @ vertices_V3
        self._lash_moving.write(self._lash_dynamic)
        upper, lower = vertices_V3[actor.landmarks_68[62]], vertices_V3[actor.landmarks_68[66]]
        lips = (upper[1], max(upper[2], lower[2]), max(upper[1] - lower[1], 0.0))
        for prog in self._programs.values():
            bake.set_uniforms(prog, head=pose_44, lips=lips)

        self._large_frame.use()
        self._large_frame.clear(0, 0, 0, 0)
        context.enable(moderngl.DEPTH_TEST)
        context.disable(moderngl.BLEND | moderngl.CULL_FACE)
        context.enable(moderngl.CULL_FACE)
        for group, skin_array in self._skin_arrays.items():
            albedo, relief = self._textures[group]
            albedo.use(0)
            relief.use(1)
            skin_array.render()
        context.disable(moderngl.CULL_FACE)
        self._hair_array.render()
        self._garment_array.render()
        self._eye_array.render()
        for group, mouth_array in self._mouth_arrays.items():
            bake.set_uniforms(self._programs["actor_mouth"], teeth=float(group == TEETH))
            mouth_array.render()
        context.enable(moderngl.BLEND)
        context.blend_func = bake.OVER
        self._lash_array.render()
        context.disable(moderngl.BLEND)

        self._frame.use()
        context.disable(moderngl.DEPTH_TEST)
        self._drawn.use(0)
        self._room.use(1)
        self._resolve_array.render(moderngl.TRIANGLES, 3)
        pixels = np.frombuffer(self._frame.read(components=3), np.uint8).reshape(FRAME_PIXELS, FRAME_PIXELS, 3)
        return np.ascontiguousarray(pixels[::-1])

    def position_maps(
        self, expression_C: NDArray[np.floating], pose_44: NDArray[np.floating]
    ) -> tuple[FloatArray, FloatArray]:
        """Neutral and displaced position of the skin at each pixel, float32 [512, 512, 4]: cm, and coverage."""
        context, actor = self.context, self.actor
        vertices_V3 = actor.displaced(expression_C)
        self._dynamic[:, :3] = vertices_V3[actor.corner_N]
        self._moving.write(self._dynamic)
        textures = [context.texture((FRAME_PIXELS, FRAME_PIXELS), 4, dtype="f4") for _ in range(2)]
        frame = context.framebuffer(textures, context.depth_renderbuffer((FRAME_PIXELS, FRAME_PIXELS)))
        frame.use()
        frame.clear()
        context.enable(moderngl.DEPTH_TEST)
        bake.set_uniforms(self._programs["actor_position"], head=pose_44)
        for array in self._position_arrays:
            array.render()
        neutral, displaced = (
            np.frombuffer(frame.read(components=4, attachment=k, dtype="f4"), np.float32).reshape(
                FRAME_PIXELS, FRAME_PIXELS, 4
            )
            for k in range(2)
        )
        frame.release()
        for texture in textures:
            texture.release()
        return neutral[::-1], displaced[::-1]


def _vertex_array(
    context: moderngl.Context,
    prog: moderngl.Program,
    triangles_T3: IntArray,
    buffers: list[tuple[moderngl.Buffer, Layout]],
) -> moderngl.VertexArray:
    """Binds float attributes; those that the compiler removed are skipped over."""
    content = []
    for buffer, attributes in buffers:
        layout = " ".join(f"{n}f" if name in prog else f"{4 * n}x" for name, n in attributes)
        content.append((buffer, layout, *(name for name, _ in attributes if name in prog)))
    return context.vertex_array(prog, content, context.buffer(np.ascontiguousarray(triangles_T3, np.int32).tobytes()))


def _strip_triangles(strands: int, points: int) -> IntArray:
    """Triangles of ribbons whose vertices are ordered strand, point, side."""
    first = (np.arange(strands)[:, None] * points + np.arange(points - 1)[None]).reshape(-1, 1) * 2
    return np.asarray((first + np.array([[0, 1, 2, 1, 3, 2]])).reshape(-1, 3), np.int32)


def _ribbons(strands: Strands) -> tuple[FloatArray, IntArray]:
    """Strands as ribbons along x and z, wider than drawn: what holds the light back."""
    points = strands.points_RJ3[::2]
    half = np.stack([np.full(points.shape[:2], 0.12), np.zeros(points.shape[:2]), np.full(points.shape[:2], 0.12)], -1)
    vertices = np.stack([points - half, points + half], 2).reshape(-1, 3).astype(np.float32)
    return vertices, _strip_triangles(*points.shape[:2])
