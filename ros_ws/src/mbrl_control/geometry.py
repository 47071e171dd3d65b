"""How far solids are from each other: capsules, boxes and half spaces, as pure array code that can be differentiated.

Distances are signed: positive apart, zero touching, negative when solids overlap. All functions take ``xp`` and points
as x, y, z, each an array of any axes (or a constant), and work on many pairs at once, without a branch.

* capsule and capsule: from segment to segment, less both radii. Exact; segments parallel to within a milliradian may
  be off by a ten-thousandth of their length. Where the two axes cross, the distance is minus the radii, not less.
* capsule and box: from segment to box, less the radius. Exact while the capsule's *axis* is outside of the box. Where
  it goes through, what counts is how deep the middle of the part inside lies: the sign is right and nothing jumps,
  but it is less than one would have to move to come out.
* capsule and half space: from the lower end. Exact.

Derivatives are those of the distance while the nearest points stay where they are on their solids: exact, but where a
capsule's axis is inside of a box. ``ROUNDING`` is added under roots, so that they are finite even where axes meet:
distances are too long by that at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any

import numpy as np

from mbrl_control.core import Array, Box, Capsule, HalfSpace, MbrlError, Robot, Solid
from mbrl_control.vectors import Vector

Segment = tuple[Vector, Vector]
"""Its two ends."""

ROUNDING = 1e-6
"""[m]"""
PARALLEL = 1e-6
"""Share of the denominator by which parallel segments are told from others."""
FLAT = 1e-6
"""A slope of the distance along a segment below this counts as none."""
PLACES = 2.0**20
"""That are told apart along a segment."""
DRAWN = 2048
"""Postures drawn to find out which solids can meet."""
SPARE = 0.1
"""Pairs that came no nearer than this in any of them, and what was asked for, count as never meeting [m]."""


class SolidError(MbrlError):
    """A robot whose solids do not fit together."""


def segments(xp: Any, a: Segment, b: Segment) -> Array:
    """Distance from segment to segment.

    Ericson, "Real-Time Collision Detection", 5.1.9, without its branches: the parameter of the lines' closest point on
    a, clipped; from it that on b, clipped; and from that the one on a once more, which is what matters in the corners.
    """
    along_a, along_b, apart = _less(a[1], a[0]), _less(b[1], b[0]), _less(a[0], b[0])
    aa, bb, ab = _dot(along_a, along_a) + ROUNDING**2, _dot(along_b, along_b) + ROUNDING**2, _dot(along_a, along_b)
    ra, rb = _dot(along_a, apart), _dot(along_b, apart)
    both = aa * bb
    crossing = xp.maximum(both - ab * ab, both * 0.0) + both * PARALLEL
    s = xp.clip((ab * rb - ra * bb) / crossing, 0.0, 1.0)
    t = xp.clip((ab * s + rb) / bb, 0.0, 1.0)
    s = xp.clip((ab * t - ra) / aa, 0.0, 1.0)
    s, t = _held(xp, s), _held(xp, t)
    return _length(xp, [r + u * s - w * t for r, u, w in zip(apart, along_a, along_b, strict=True)])


def segment_box(xp: Any, a: Segment, half: Vector) -> Array:
    """Distance from a segment to the box of these half edges that lies along the axes round the origin.

    With p(t) = start + t way, half of the slope of the squared distance along the segment,

        g(t) = sum_i way_i (p_i - clip(p_i, -half_i, half_i)),

    grows with t and is linear between the (up to six) t where the segment goes through the plane of a face: its zero
    lies between the last of those where g is not positive and the first where it is not negative, on a straight line.
    """
    start, way = a[0], _less(a[1], a[0])
    squared = _dot(way, way) + ROUNDING**2

    def beyond(t: Array) -> list[Array]:
        at = [p + w * t for p, w in zip(start, way, strict=True)]
        return [p - xp.clip(p, -h, h) for p, h in zip(at, half, strict=True)]

    def slope(t: Array) -> Array:
        return _dot(way, beyond(t)) / squared

    def through(p: Array, w: Array, face: Array) -> Array:
        steep = xp.where(w < 0.0, xp.minimum(w, w * 0.0 - ROUNDING), xp.maximum(w, w * 0.0 + ROUNDING))
        return xp.clip((face - p) / steep, 0.0, 1.0)

    low, high = squared * 0.0, squared * 0.0 + 1.0
    for p, w, h in zip(start, way, half, strict=True):
        for face in (-h, h):
            t = through(p, w, face)
            g = slope(t)
            low = xp.maximum(low, xp.where(g <= FLAT, t, t * 0.0))
            high = xp.minimum(high, xp.where(g >= -FLAT, t, t * 0.0 + 1.0))
    at_low, at_high = slope(low), slope(high)
    share = xp.clip((0.5 * FLAT - at_low) / (xp.maximum(at_high - at_low, at_low * 0.0) + FLAT), 0.0, 1.0)
    t = _held(xp, low + (high - low) * share)
    outside = beyond(t)
    deep = reduce(xp.maximum, [xp.abs(p + w * t) - h for p, w, h in zip(start, way, half, strict=True)])
    return _length(xp, outside) + xp.minimum(deep, deep * 0.0)


def _held(xp: Any, t: Array) -> Array:
    """The same place along a segment, to within ``1 / PLACES`` of its length, as a constant to whoever differentiates.

    Where the nearest point is between the ends, moving it along does not change the distance, and where it is an end it
    does not move: derivatives of the place count for nothing, and would be most of what derivatives cost.
    """
    return xp.floor(t * PLACES) * (1.0 / PLACES)


def segment_plane(xp: Any, a: Segment, normal: Vector, height: Any) -> Array:
    """Distance from the lower end of a segment to a plane; negative below it."""
    return xp.minimum(_dot(a[0], normal), _dot(a[1], normal)) - height


def from_points(solid: Solid, points: Annotated[np.ndarray, "... 3"]) -> Annotated[np.ndarray, "..."]:
    """From points in the base's frame to a solid that stands there [m]."""
    ball = Capsule("", 0.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    x, y, z = np.moveaxis(np.asarray(points, dtype=float), -1, 0)
    return _against([(ball, solid)], {"": 0})(np, [((x, y, z), (x, y, z))], x)[0]


Group = Callable[[Any, Sequence[Segment], Array], Array]
"""Distances [n ...] of pairs of one kind: (xp, segments of all solids, an array whose axes they have)."""


@dataclass(frozen=True)
class Distances:
    """Distances of pairs of a robot's solids, or of its solids and obstacles."""

    pairs: tuple[tuple[str, str], ...]
    """Names of the two, in the order of the distances."""
    groups: tuple[Group, ...]

    def __call__(self, xp: Any, ends: Sequence[Segment], like: Array) -> Annotated[Array, "... n"]:
        """Of solids that are where ``ends`` says [m]; ``like`` [...] has the axes of its arrays."""
        found = [group(xp, ends, like) for group in self.groups]
        return xp.moveaxis(xp.concat(found, axis=0), 0, -1)


def to_obstacles(robot: Robot, within: float) -> Distances:
    """Of those solids that move and obstacles that can come as near to each other as ``within`` [m]."""
    moved = [solid for solid in robot.solids if solid.link > 0]
    return _meeting(robot, [(solid, other) for other in robot.obstacles for solid in moved], within)


def to_itself(robot: Robot, within: float) -> Distances:
    """Of those solids that the robot wants kept apart, and that can come so near to each other."""
    named = {solid.name: solid for solid in robot.solids}
    for name in sorted({name for pair in robot.apart for name in pair} - set(named)):
        raise SolidError(f"robot '{robot.name}' keeps '{name}' apart; its solids are {', '.join(named) or 'none'}")
    return _meeting(robot, [(named[a], named[b]) for a, b in robot.apart], within)


def _meeting(robot: Robot, pairs: list[tuple[Capsule, Solid]], within: float) -> Distances:
    """Of those pairs that come near in postures drawn from all that the joints allow, the same ones each time."""
    if robot.ends is None or not pairs:
        return Distances((), ())
    limits, rng = robot.limits, np.random.default_rng(0)
    finite = np.isfinite(limits.upper - limits.lower)
    low, high = np.where(finite, limits.lower, -np.pi), np.where(finite, limits.upper, np.pi)
    q = rng.uniform(low, high, (DRAWN, robot.nj))
    every = _distances(robot, pairs)
    least = every(np, robot.ends(np, q), q[..., 0]).min(axis=0)
    near = {names for names, d in zip(every.pairs, least, strict=True) if d < within + SPARE}
    return _distances(robot, [(a, b) for a, b in pairs if (a.name, b.name) in near])


def _distances(robot: Robot, pairs: list[tuple[Capsule, Solid]]) -> Distances:
    """All of these, those to one kind of solid together."""
    place = {solid.name: i for i, solid in enumerate(robot.solids)}
    kinds = [[pair for pair in pairs if type(pair[1]) is kind] for kind in (Capsule, Box, HalfSpace)]
    names = tuple((a.name, b.name) for kind in kinds for a, b in kind)
    return Distances(names, tuple(_against(kind, place) for kind in kinds if kind))


def _against(pairs: Sequence[tuple[Capsule, Solid]], place: Mapping[str, int]) -> Group:
    """Pairs whose second solids are of one kind; ``place`` of the solids that move among the segments."""
    mine = [place[a.name] for a, _ in pairs]
    others: Any = [b for _, b in pairs]
    radii = np.array([a.radius for a, _ in pairs])

    def group(xp: Any, ends: Sequence[Segment], like: Array) -> Array:
        def constant(values: Any) -> Array:
            values = np.asarray(values, dtype=float)
            return xp.asarray(values.reshape(-1, *[1] * like.ndim), dtype=like.dtype, device=like.device)

        def vector(rows: Any) -> Vector:
            x, y, z = (constant(column) for column in np.asarray(rows, dtype=float).T)
            return x, y, z

        def stacked(which: list[int], end: int) -> Vector:
            x, y, z = (xp.stack([ends[i][end][k] for i in which], axis=0) for k in (0, 1, 2))
            return x, y, z

        a = stacked(mine, 0), stacked(mine, 1)
        if isinstance(others[0], HalfSpace):
            normal, height = vector([b.normal for b in others]), constant([b.height for b in others])
            return segment_plane(xp, a, normal, height) - constant(radii)
        if isinstance(others[0], Box):
            centre = vector([b.centre for b in others])
            axes = [vector([b.axes[k] for b in others]) for k in (0, 1, 2)]
            start, end = ((*(_dot(axis, _less(p, centre)) for axis in axes),) for p in a)
            return segment_box(xp, (start, end), vector([b.half for b in others])) - constant(radii)
        if all(b.name in place for b in others):
            second = [place[b.name] for b in others]
            b = stacked(second, 0), stacked(second, 1)
        else:
            b = vector([b.start for b in others]), vector([b.end for b in others])
        return segments(xp, a, b) - constant(radii + [b.radius for b in others])

    return group


def _less(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _length(xp: Any, v: Sequence[Any]) -> Any:
    return xp.sqrt(_dot(v, v) + ROUNDING**2)
