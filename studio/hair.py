"""What grows on the actor: head hair as strands, eyebrow hairs drawn into the skin's texture, lashes as fine triangles.

Shape letters: R strands, J points along a strand, N points of any kind. Units: centimetres, +y up, +z out of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from realtime.arrays import Float64Array, FloatArray, IntArray
from studio.actor import Actor, smoothstep

STRANDS = 1250  # ribbons of a few hairs each
POINTS = 14  # along a strand
# Half of the hairline, from the middle of the forehead over the temple and the ear to the nape; cm on the mean head.
HAIRLINE = np.stack(
    [
        (0.0, 2.0, 3.9, 5.2, 6.0, 6.6, 6.9, 7.1, 7.2, 7.2, 7.1, 6.4, 3.5, 0.0),  # x
        (4.55, 4.75, 4.45, 3.3, 1.6, 0.0, -1.6, -2.6, -1.2, -0.2, -2.8, -6.5, -9.5, -10.5),  # y, from the brows
        (9.3, 8.9, 7.9, 6.8, 5.6, 4.6, 3.9, 3.2, 2.2, 0.0, -2.4, -3.6, -5.0, -5.4),  # z
    ],
    axis=1,
)
FACE_POLE = np.array([0.0, -0.30, 0.954])  # direction from the skull's centre that the hairline winds around


@dataclass(frozen=True)
class Strands:
    """Head hair: points [R, J, 3], half widths [R, J] and a tone in [0, 1] for each strand [R]."""

    points_RJ3: FloatArray
    half_width_RJ: FloatArray
    tone_R: FloatArray


def _unit(v: Float64Array) -> Float64Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


class Skull:
    """The head without ears as a radius over directions from its centre, and the hairline on it."""

    def __init__(self, actor: Actor) -> None:
        head = actor.neutral_V3[:11248].astype(np.float64)
        top = head[:, 1].max()
        brow = np.mean([actor.landmark(k)[1] for k in range(17, 27)])
        half_width = np.abs(head[(np.abs(head[:, 1] - brow) < 1.5)][:, 0]).max()
        self.scale = top / 14.5  # the model's mean head is 14.5 high
        self.centre = np.array([0.0, brow - 1.0, 0.6])
        jaw_x = abs(actor.landmark(0)[0])
        ear = (
            (np.abs(head[:, 0]) > jaw_x - 0.1)
            & (head[:, 1] < brow + 1.5)
            & (head[:, 1] > brow - 10)
            & (head[:, 2] < 4.2)
        )
        ear &= head[:, 2] > -4.5
        keep = head[~ear & (head[:, 1] > brow - 13)]
        self._tree = cKDTree(_unit(keep - self.centre))
        self._radius = np.linalg.norm(keep - self.centre, axis=1)
        self.brow, self.half_width = brow, half_width
        line = HAIRLINE * self.scale + (0, brow, 0)
        azimuth, polar = self.about_face(_unit(line - self.centre))
        order = np.argsort(azimuth)
        self._azimuth, self._polar = azimuth[order], polar[order]

    def radius(self, direction_N3: Float64Array) -> Float64Array:
        """Distance (cm) of the skin from the centre along unit directions, smoothed over about 7 degrees."""
        distance, near = self._tree.query(direction_N3, k=24)
        weight = np.exp(-0.5 * (distance / 0.09) ** 2) + 1e-9
        return np.asarray((self._radius[near] * weight).sum(1) / weight.sum(1))

    def depth_of(self, points_N3: FloatArray) -> FloatArray:
        """Radians behind the hairline of points [N, 3]."""
        return self.behind_hairline(_unit(points_N3 - self.centre)).astype(np.float32)

    def about_face(self, direction_N3: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Azimuth in [0, pi] (0 up, the two sides alike) and polar angle of unit directions about the face's pole."""
        side = np.array([1.0, 0, 0])
        up = np.cross(FACE_POLE, side)
        x, y = direction_N3 @ side, direction_N3 @ up
        return np.arctan2(np.abs(x), y), np.arccos(np.clip(direction_N3 @ FACE_POLE, -1, 1))

    def behind_hairline(self, direction_N3: Float64Array) -> Float64Array:
        """Radians behind the hairline, negative on the face."""
        azimuth, polar = self.about_face(direction_N3)
        return np.asarray(polar - np.interp(azimuth, self._azimuth, self._polar))


def parting(z: Float64Array) -> Float64Array:
    """x (cm) of the parting at depth z: a soft side parting that fades to the middle at the crown."""
    return np.asarray(1.5 * smoothstep(-5, 5, z))


def grow(actor: Actor, skull: Skull) -> Strands:
    """Long hair, parted, combed back over the ears' tops and falling behind the shoulders."""
    rng = np.random.default_rng(actor.seed + 7_000)
    root = _unit(rng.normal(size=(STRANDS * 12, 3)))
    depth = skull.behind_hairline(root)
    root_x = root[:, 0] * 8
    off_part = np.abs(root_x - parting(root[:, 2] * 9))
    chance = smoothstep(-0.035, 0.05, depth + rng.normal(size=len(root)) * 0.012)
    chance *= 1 - 0.75 * np.exp(-((off_part / 0.16) ** 2)) * (root[:, 1] > 0.3)
    # The underside at the back isn't seen; the front and the parting's flanks are.
    chance *= smoothstep(-0.75, 0.1, root[:, 2])
    chosen = np.flatnonzero(rng.random(len(root)) < chance)[:STRANDS]
    root, depth, off_part = root[chosen], depth[chosen], off_part[chosen]
    side = np.where(root[:, 0] * 8 > parting(root[:, 2] * 9), 1.0, -1.0)[:, None]

    # On the skull: a quadratic curve over directions, from the root over the ear's top to behind the ear.
    n = len(root)
    lock = _lock_noise(root, rng)
    middle = _unit(np.concatenate([side * 0.86, np.full((n, 1), 0.52), np.full((n, 1), -0.12)], 1) + 0.5 * root)
    goal = _unit(
        np.concatenate([side * (0.62 + 0.25 * rng.random((n, 1))), np.full((n, 1), -0.35), np.full((n, 1), -0.5)], 1)
        + 0.12 * np.clip(rng.normal(size=(n, 3)), -1.5, 1.5) * (1, 1, 0.6)
        - 0.25 * root * (0, 0, 1)
    )
    on_skull = 9
    t = np.linspace(0, 1, on_skull)[None, :, None]
    path = (1 - t) ** 2 * root[:, None] + 2 * t * (1 - t) * middle[:, None] + t**2 * goal[:, None]
    path = _unit(path)
    along = t[..., 0]
    layer = rng.random((n, 1)) ** 0.7
    by_part = np.exp(-((off_part / 2.2) ** 2))[:, None] * smoothstep(0.3, 0.8, root[:, 1:2])
    lift = 0.18 + skull.scale * (0.25 + 0.75 * layer * (1 - 0.7 * by_part)) * (
        0.55 + 0.75 * smoothstep(0.0, 0.55, depth)[:, None]
    )
    lift = (
        lift
        * np.maximum(smoothstep(-0.06, 0.22, along), 0.5 * by_part)
        * (1 + 0.35 * smoothstep(0.2, 0.9, path[..., 1]))
    )
    lift = lift + 0.16 * lock[:, None] * np.sin(np.pi * along)
    radius = skull.radius(path.reshape(-1, 3)).reshape(n, on_skull) + lift
    points = skull.centre + path * radius[..., None]

    # Then it hangs: down behind the ear, slightly outwards, in soft waves.
    hang = POINTS - on_skull
    length = (19.0 + 4.0 * rng.random((n, 1))) * skull.scale
    s = (np.arange(1, hang + 1) / hang)[None]
    start, heading = points[:, -1], _unit(points[:, -1] - points[:, -2])
    phase = 2.2 * lock[:, None] + 1.2 * side
    fall = np.empty((n, hang, 3))
    bend = 2.2 * (1 - np.exp(-s * 3))
    fall[..., 0] = start[:, :1] + heading[:, :1] * bend + side * (0.5 * s + 0.5 * np.sin(5.0 * s + phase) * s)
    fall[..., 1] = start[:, 1:2] - length * s + heading[:, 1:2] * bend
    fall[..., 2] = start[:, 2:] + heading[:, 2:] * bend - 2.8 * s + 0.4 * np.cos(4.0 * s + phase) * s
    points = np.concatenate([points, fall], 1)

    share = np.linspace(0, 1, POINTS)
    width = 0.085 + 0.085 * rng.random((n, 1))
    width = width * np.minimum(0.35 + share * 9, 1) * np.clip((1.02 - share) * 5, 0.1, 1)
    fine = smoothstep(0.10, 0.0, depth)[:, None]  # finer and shorter hair at the hairline
    width = width * (1 - 0.5 * fine)
    order = np.argsort(-points[:, :on_skull].mean(1)[:, 2])  # front first: the depth test then spares what is hidden
    points, width = points[order], width[order]
    tone = np.clip(0.5 + 0.22 * rng.normal(size=n) + 0.25 * lock, 0, 1)[order]
    return Strands(points.astype(np.float32), width.astype(np.float32), tone.astype(np.float32))


def _lock_noise(root_N3: Float64Array, rng: np.random.Generator) -> Float64Array:
    """A value in about [-1, 1] that neighbouring roots share: strands gather into locks."""
    seeds = _unit(rng.normal(size=(260, 3)))
    value = rng.uniform(-1, 1, len(seeds))
    _, near = cKDTree(seeds).query(root_N3)
    return np.asarray(value[near])


@dataclass(frozen=True)
class Strokes:
    """Fine hairs as quads in the face's UV chart: corners [R, 4, 2] (root left, root right, tip left, tip right)."""

    quads_R42: FloatArray
    shade_R: FloatArray


def eyebrows(actor: Actor, hairs: int = 430) -> Strokes:
    """Eyebrow hairs in the UV chart: from the landmarks 17..26, thin, denser in the middle, combed outwards."""
    rng = np.random.default_rng(actor.seed + 8_000)
    corners = actor.groups["skin"].reshape(-1)
    corners = np.unique(corners)
    xyz = actor.neutral_V3[actor.corner_N[corners]]
    brow_y = actor.landmark(19)[1]
    near = (np.abs(xyz[:, 1] - brow_y) < 2.5) & (xyz[:, 2] > 4)
    tri = actor.groups["skin"]
    tri = tri[np.isin(tri, corners[near]).all(1)]
    xy = actor.neutral_V3[actor.corner_N[tri]][..., :2].astype(np.float64)

    def to_uv(points_R42: Float64Array) -> Float64Array:
        found = [_locate(p, tri, xy) for p in points_R42.reshape(-1, 2)]
        return np.stack([w @ actor.uv_N2[c] for c, w in found]).reshape(points_R42.shape)

    quads, shades = [], []
    for ids in ((21, 20, 19, 18, 17), (22, 23, 24, 25, 26)):  # from the nose outwards
        line = np.stack([actor.landmark(k)[:2] for k in ids])
        knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        total = knots[-1]
        bend = np.polynomial.polynomial.polyfit(knots / total, line, 3)
        u = np.sort(rng.beta(1.25, 1.2, hairs)) * 0.96 + 0.02
        at = np.polynomial.polynomial.polyval(u, bend).T
        ahead = np.polynomial.polynomial.polyval(u + 0.02, bend).T
        along = _unit(ahead - at)
        across = np.stack([-along[:, 1], along[:, 0]], -1)
        across *= np.sign(across[:, 1:])
        half = np.interp(u, [0, 0.15, 0.45, 0.75, 1], [0.20, 0.27, 0.25, 0.16, 0.05])
        v = np.clip(rng.normal(size=hairs) * 0.5, -1, 1)
        root = at + across * (v * half)[:, None] - (0, 0.16)
        lean = np.interp(u, [0, 0.2, 0.6, 1], [1.15, 0.6, 0.25, -0.05]) - 0.35 * v + 0.12 * rng.normal(size=hairs)
        heading = along * np.cos(lean)[:, None] + across * np.sin(lean)[:, None]
        length = np.interp(u, [0, 0.3, 1], [0.42, 0.62, 0.42]) * rng.uniform(0.75, 1.15, hairs)
        tip = root + heading * length[:, None]
        normal = np.stack([-heading[:, 1], heading[:, 0]], -1) * 0.025
        quads.append(to_uv(np.stack([root - normal, root + normal, tip - normal * 0.3, tip + normal * 0.3], 1)))
        shades.append(rng.uniform(0.5, 1.0, hairs))
    quad, shade = np.concatenate(quads), np.concatenate(shades)
    inside = np.isfinite(quad).all((1, 2))
    return Strokes(quad[inside].astype(np.float32), shade[inside].astype(np.float32))


@dataclass(frozen=True)
class Lashes:
    """Lashes as triangle strips that follow the lids: `matrix` [N, V] takes model vertices to lash vertices."""

    matrix: csr_matrix
    cover_N: FloatArray  # opacity
    triangles_T3: IntArray


def lashes(actor: Actor) -> Lashes:
    """Thin curved lashes laid into the model's six eyelash strips (three of the upper lid, three of the lower)."""
    rng = np.random.default_rng(actor.seed + 9_000)
    model = actor.model
    strips = model.material_T == model.material_names.index("M_EyeLashes")
    vertices, charts = model.triangles_T3[strips], model.uv_triangles_T3[strips]
    rows: list[tuple[int, int, float]] = []
    triangles: list[tuple[int, int, int]] = []
    cover: list[float] = []
    count = 0
    v_edges = np.array([0.0, 0.168, 0.334, 0.5, 0.668, 0.834, 1.0])
    for eye in (0, 1):
        for band in range(6):
            upper = band >= 3
            uv = model.uv_U2[charts]
            middle = uv.mean(1)
            chosen = (
                (middle[:, 1] > v_edges[band])
                & (middle[:, 1] < v_edges[band + 1])
                & ((middle[:, 0] > 6.5) == (eye == 0))
            )
            tri, tri_uv = vertices[chosen], uv[chosen].astype(np.float64)
            low, high = tri_uv.reshape(-1, 2).min(0), tri_uv.reshape(-1, 2).max(0)
            # The edge on the lid is the one whose vertices lie nearest to the eyeball's centre.
            centre = actor.eye_centres["left" if eye == 0 else "right"]
            far = np.linalg.norm(actor.neutral_V3[tri] - centre, axis=-1)
            rooted_low = far[tri_uv[..., 1] < low[1] + 0.02].mean() < far[tri_uv[..., 1] > high[1] - 0.02].mean()
            for _ in range(34 if upper else 12):
                u0 = rng.uniform(0.04, 0.96)
                length = (0.75 if upper else 0.45) * rng.uniform(0.7, 1.0)
                slant = rng.normal() * 0.02
                thick = 0.0060 if upper else 0.0042
                for k, share in enumerate((0.0, 0.35, 0.7, 1.0)):
                    v = share * length
                    v = low[1] + (v if rooted_low else 1 - v) * (high[1] - low[1])
                    half = thick * (1 - share) + 0.0008
                    for sign in (-1, 1):
                        u = np.clip(u0 + slant * share + sign * half, 0.001, 0.999)
                        point = np.array([low[0] + u * (high[0] - low[0]), v])
                        corner, weight = _locate(point, tri, tri_uv)
                        rows += [(count, int(c), float(w)) for c, w in zip(corner, weight, strict=True)]
                        cover.append((0.85 if upper else 0.40) * (1 - 0.4 * share))
                        count += 1
                    if k:
                        a = count - 4
                        triangles += [(a, a + 1, a + 2), (a + 1, a + 3, a + 2)]
    row, column, value = (np.array(x) for x in zip(*rows, strict=True))
    matrix = csr_matrix((value.astype(np.float32), (row, column)), shape=(count, len(actor.neutral_V3)))
    return Lashes(matrix, np.array(cover, np.float32), np.array(triangles, np.int32))


def _locate(point: Float64Array, triangles_T3: IntArray, uv_T32: Float64Array) -> tuple[IntArray, Float64Array]:
    """Corners and barycentric weights of the triangle that holds a UV point (the nearest one, if none does)."""
    a, b, c = uv_T32[:, 0], uv_T32[:, 1], uv_T32[:, 2]
    d = (b[:, 1] - c[:, 1]) * (a[:, 0] - c[:, 0]) + (c[:, 0] - b[:, 0]) * (a[:, 1] - c[:, 1])
    w0 = ((b[:, 1] - c[:, 1]) * (point[0] - c[:, 0]) + (c[:, 0] - b[:, 0]) * (point[1] - c[:, 1])) / d
    w1 = ((c[:, 1] - a[:, 1]) * (point[0] - c[:, 0]) + (a[:, 0] - c[:, 0]) * (point[1] - c[:, 1])) / d
    weights = np.stack([w0, w1, 1 - w0 - w1], -1)
    best = int(weights.min(1).argmax())
    return triangles_T3[best], np.clip(weights[best], 0, 1)
