"""Distances of solids against MuJoCo's, their derivatives against finite differences, and special cases."""

from __future__ import annotations

import itertools

import casadi
import mujoco
import numpy as np
import pytest

from mbrl_control import casadi_graph, geometry
from mbrl_control.core import Box, Capsule, HalfSpace

COUNT = 200
HALF = np.array([0.15, 0.1, 0.05])
WORLD = """
<mujoco><worldbody>
  <geom name="plane" type="plane" size="1 1 1"/>
  <body name="a" mocap="true"><geom name="a" type="capsule" size="0.05 0.12"/></body>
  <body name="b" mocap="true"><geom name="b" type="capsule" size="0.03 0.2"/></body>
  <body name="box" mocap="true"><geom name="box" type="box" size="0.15 0.1 0.05"/></body>
</worldbody></mujoco>
"""
SIZES = {"a": (0.05, 0.12), "b": (0.03, 0.2)}


def vector(points):
    return tuple(np.moveaxis(np.asarray(points, dtype=float), -1, 0))


def segment(starts, ends):
    return vector(starts), vector(ends)


class Placed:
    """Capsules and a box at random places, in MuJoCo and as numbers."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.model = mujoco.MjModel.from_xml_string(WORLD)
        self.data = mujoco.MjData(self.model)
        self.data.mocap_pos[:] = rng.uniform([-0.4, -0.4, -0.1], [0.4, 0.4, 0.7], (3, 3))
        self.data.mocap_quat[:] = [q / np.linalg.norm(q) for q in rng.normal(size=(3, 4))]
        mujoco.mj_forward(self.model, self.data)

    def capsule(self, name):
        radius, half = SIZES[name]
        at, axis = self.data.geom(name).xpos, self.data.geom(name).xmat.reshape(3, 3)[:, 2]
        return at - half * axis, at + half * axis, radius

    def box(self):
        return self.data.geom("box").xpos.copy(), self.data.geom("box").xmat.reshape(3, 3).copy()

    def distance(self, first, second):
        ids = [self.model.geom(name).id for name in (first, second)]
        return mujoco.mj_geomDistance(self.model, self.data, *ids, 5.0, None)


PLACED = [Placed(seed) for seed in range(COUNT)]


def test_capsules_are_as_far_apart_as_mujoco_says():
    (a0, a1, ra), (b0, b1, rb) = (map(np.array, zip(*(p.capsule(n) for p in PLACED), strict=True)) for n in "ab")
    found = geometry.segments(np, segment(a0, a1), segment(b0, b1)) - ra - rb
    expected = np.array([p.distance("a", "b") for p in PLACED])
    assert (expected < 0.0).sum() > 10
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=2e-6)


def test_a_capsule_is_as_far_from_a_box_as_mujoco_says():
    """Where the axis runs through the box both overlap; the depth is not more than that of the axis' deepest point."""
    outside = inside = 0
    for placed in PLACED:
        (start, end, radius), (at, axes) = placed.capsule("a"), placed.box()
        solid = Box("box", tuple(HALF), tuple(at), tuple(map(tuple, axes.T)))
        found = float(geometry.segment_box(np, (axes.T @ (start - at), axes.T @ (end - at)), HALF)) - radius
        if found > -radius:
            assert geometry.from_points(solid, start) >= found + radius - 1e-9
        expected = placed.distance("a", "box")
        if found > -radius + 1e-5:
            outside += 1
            assert found == pytest.approx(expected, abs=2e-6)
        else:
            inside += 1
            deep = (np.abs(densely(axes.T @ (start - at), axes.T @ (end - at))) - HALF).max(axis=-1).min()
            assert expected < 0.0
            assert deep - radius - 1e-3 <= found <= -radius + 1e-5
    assert (outside, inside) > (100, 10)


def test_a_capsule_is_as_far_from_a_half_space_as_mujoco_says():
    for placed in PLACED:
        start, end, radius = placed.capsule("b")
        found = geometry.segment_plane(np, (start, end), (0.0, 0.0, 1.0), 0.0) - radius
        assert found == pytest.approx(placed.distance("plane", "b"), abs=1e-6)


def test_a_point_has_its_distance_from_every_kind_of_solid():
    """A sphere is a capsule whose ends are one."""
    ball = Capsule("ball", 0.1, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    box = Box("box", (0.1, 0.2, 0.3), (0.0, 0.0, 0.0), ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    floor = HalfSpace("floor", (0.0, 0.0, 1.0), -0.5)
    found = [geometry.from_points(solid, np.array([0.5, 0.05, 0.0])) for solid in (ball, box, floor)]
    np.testing.assert_allclose(found, [np.hypot(0.5, 0.05) - 0.1, 0.3, 0.5], atol=2e-6)
    assert geometry.from_points(box, np.array([0.15, 0.0, 0.0])) == pytest.approx(-0.05, abs=2e-6)


# --- Edges ----------------------------------------------------------------------------------------------

LINE = np.linspace(0.0, 1.0, 401)[:, None]


def densely(start, end):
    return np.asarray(start) + LINE * (np.asarray(end) - np.asarray(start))


X, Y, Z = np.eye(3)
ORIGIN = np.zeros(3)
PAIRS = {
    "crossing": ((-X, X), (-Y, Y), 0.0),
    "end on end": ((ORIGIN, X), (X, X + Y), 0.0),
    "above, crossing": ((-X, X), (0.3 * Z - Y, 0.3 * Z + Y), 0.3),
    "parallel, side by side": ((ORIGIN, X), (0.5 * X + 0.2 * Y, 2.0 * X + 0.2 * Y), 0.2),
    "parallel, one behind the other": ((ORIGIN, X), (1.5 * X, 3.0 * X), 0.5),
    "parallel, the other way round": ((ORIGIN, X), (0.2 * Y, 0.2 * Y - X), 0.2),
    "parallel, far along": ((ORIGIN, X), (3.0 * X + Y, 2.0 * X + Y), np.sqrt(2.0)),
    "the same": ((ORIGIN, X), (ORIGIN, X), 0.0),
    "a point": ((ORIGIN, X), (0.4 * X + 0.3 * Z, 0.4 * X + 0.3 * Z), 0.3),
    "two points": ((ORIGIN, ORIGIN), (X, X), 1.0),
    "the same point": ((X, X), (X, X), 0.0),
    "nearly parallel": ((ORIGIN, X), (0.2 * Y + 1e-5 * Z, X + 0.2 * Y), 0.2),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_segments_that_cross_touch_are_parallel_or_degenerate(name, dtype):
    a, b, expected = PAIRS[name]
    for (a0, a1), (b0, b1) in itertools.product((a, a[::-1]), (b, b[::-1])):
        first, second = (tuple(tuple(dtype(x) for x in p) for p in ends) for ends in ((a0, a1), (b0, b1)))
        for one, two in ((first, second), (second, first)):
            assert geometry.segments(np, one, two) == pytest.approx(expected, abs=5e-6)


def test_slightly_slanted_segments_are_off_by_a_ten_thousandth_at_most():
    rng, worst = np.random.default_rng(0), 0.0
    for angle in np.geomspace(1e-8, 1e-1, 60):
        shift = rng.uniform(-1.0, 1.0)
        way = np.array([np.cos(angle), np.sin(angle), 0.0])
        b0 = np.array([shift, 0.05, 0.01])
        found = geometry.segments(np, (ORIGIN, X), (b0, b0 + way))
        apart = densely(ORIGIN, X)[:, None] - densely(b0, b0 + way)[None]
        worst = max(worst, found - np.sqrt(np.square(apart).sum(axis=-1)).min())
    assert worst < 1e-4


BOXED = {
    "over a face": ((-0.1, 0.0, 0.2), (0.1, 0.05, 0.25), 0.15),
    "along a face": ((-1.0, 0.0, 0.08), (1.0, 0.0, 0.08), 0.03),
    "on a face": ((-1.0, 0.0, 0.05), (1.0, 0.0, 0.05), 0.0),
    "across an edge": ((0.25, 0.0, 0.0), (0.0, 0.0, 0.25), None),
    "past a corner": ((0.3, 0.1, 0.1), (0.1, 0.3, 0.12), None),
    "through": ((0.0, 0.0, -1.0), (0.0, 0.0, 1.0), -0.05),
    "one end inside": ((0.0, 0.0, 0.02), (0.0, 0.0, 1.0), -0.015),
    "inside": ((0.02, 0.0, 0.02), (-0.02, 0.0, 0.02), -0.03),
    "a point outside": ((0.25, 0.0, 0.0), (0.25, 0.0, 0.0), 0.1),
    "a point inside": ((0.12, 0.0, 0.0), (0.12, 0.0, 0.0), -0.03),
    "a corner touched": ((0.15, 0.1, 0.05), (0.3, 0.3, 0.3), 0.0),
}


@pytest.mark.parametrize("name", BOXED)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_segments_over_along_and_through_a_box(name, dtype):
    start, end, expected = BOXED[name]
    if expected is None:
        beyond = np.maximum(np.abs(densely(start, end)) - HALF, 0.0)
        expected = np.linalg.norm(beyond, axis=-1).min()
    for a, b in ((start, end), (end, start)):
        for sign in itertools.product((1.0, -1.0), repeat=3):
            turned = tuple(tuple(dtype(x * s) for x, s in zip(p, sign, strict=True)) for p in (a, b))
            found = geometry.segment_box(np, turned, tuple(dtype(h) for h in HALF))
            assert found == pytest.approx(expected, abs=1e-5)


# --- Derivatives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["segments", "box"])
def test_derivatives_by_casadi_are_those_of_finite_differences(kind):
    xp, rng, step = casadi_graph.namespace(), np.random.default_rng(1), 1e-6
    size = 12 if kind == "segments" else 6

    def distance(xp, x):
        points = [tuple(x[..., 3 * i + k] for k in range(3)) for i in range(size // 3)]
        if kind == "segments":
            return geometry.segments(xp, (points[0], points[1]), (points[2], points[3]))
        return geometry.segment_box(xp, (points[0], points[1]), tuple(HALF))

    x = casadi_graph.symbols("x", size)
    column, found = casadi_graph.column(x), casadi_graph.column(distance(xp, x))
    function = casadi.Function("d", [column], [found, casadi.jacobian(found, column)])
    wrong, outside = 0, 0
    for at in rng.uniform(-0.4, 0.4, (150, size)):
        value, slope = function(at)
        assert float(value) == pytest.approx(float(distance(np, at)), abs=1e-9)
        if float(value) < 1e-3:  # the axis inside of the box
            continue
        outside += 1
        moved = at + step * np.concatenate([np.eye(size), -np.eye(size)])
        ahead, behind = np.split(distance(np, moved), 2)
        wrong += not np.allclose(slope.full().ravel(), (ahead - behind) / (2.0 * step), rtol=1e-4, atol=1e-4)
    assert outside > 80
    assert wrong <= 1, "but for a place where the nearest point jumps"


def test_derivatives_are_finite_where_axes_meet():
    xp = casadi_graph.namespace()
    x = casadi_graph.symbols("x", 12)
    points = [tuple(x[..., 3 * i + k] for k in range(3)) for i in range(4)]
    found = [
        geometry.segments(xp, (points[0], points[1]), (points[2], points[3])),
        geometry.segment_box(xp, (points[0], points[1]), tuple(HALF)),
    ]
    column = casadi_graph.column(x)
    slopes = casadi.Function("d", [column], [casadi.jacobian(casadi_graph.column(d), column) for d in found])
    for a, b, _ in PAIRS.values():
        for slope in slopes(np.concatenate([*a, *b])):
            assert np.isfinite(np.asarray(slope)).all()
            assert np.abs(np.asarray(slope)).max() < 10.0
