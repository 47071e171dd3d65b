"""joint_trajectory_controller's semantics, against polynomials solved independently from their end conditions."""

import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from mbrl_sim.jtc import LAST_VELOCITY, Points, TrajectoryController

JOINTS = ("shoulder", "elbow", "wrist")
HOME = np.array([0.1, -0.2, 0.3])


def controller():
    return TrajectoryController(JOINTS, HOME)


def solved(length, *ends):
    """The polynomial whose k-th derivative at 0 and at ``length`` is ends[k]: a linear system, nothing clever."""
    size = 2 * len(ends)
    rows, values = [], []
    for k, (first, last) in enumerate(ends):
        for x, value in ((0.0, first), (length, last)):
            rows.append([Polynomial.basis(i).deriv(k)(x) for i in range(size)])
            values.append(value)
    return Polynomial(np.linalg.solve(np.array(rows), np.array(values)))


def trajectory(rng, n=4, fields=3, first=0.2):
    t = first + np.cumsum(np.r_[0.0, rng.uniform(0.05, 0.5, n - 1)])
    q, v, a = rng.normal(size=(3, n, len(JOINTS)))
    v[-1] = 0.0
    return Points(t, q, v if fields > 1 else None, a if fields > 2 else None)


@pytest.mark.parametrize("fields", [1, 2, 3])
def test_segments_are_the_polynomial_of_their_ends(fields):
    points = trajectory(np.random.default_rng(fields), fields=fields)
    jtc, now = controller(), 7.0
    assert jtc.accept(JOINTS, points, None, now) is None
    rows = [f for f in points[1:] if f is not None]
    before = [HOME, np.zeros(3), np.zeros(3)][:fields]
    rows = [np.vstack((start, row)) for start, row in zip(before, rows, strict=True)]
    times = np.r_[0.0, points.t]
    for i, j in np.ndindex(len(points.t), 3):
        length = times[i + 1] - times[i]
        expected = solved(length, *((row[i, j], row[i + 1, j]) for row in rows))
        for x in np.linspace(0.0, length, 9)[:-1]:
            got = jtc.sample(now + times[i] + x)
            for k in range(3):
                assert got[k][j] == pytest.approx(expected.deriv(k)(x), rel=1e-7, abs=1e-8)


def test_holds_before_any_message_and_after_the_last_point():
    jtc = controller()
    for part, expected in zip(jtc.sample(3.0), (HOME, 0.0, 0.0), strict=True):
        np.testing.assert_array_equal(part, np.broadcast_to(expected, 3))
    points = trajectory(np.random.default_rng(0))
    points.a[-1] = 0.0
    jtc.accept(JOINTS, points, None, 3.0)
    for t in (jtc.end, jtc.end + 1e-6, jtc.end + 100.0):
        q, v, a = jtc.sample(t)
        np.testing.assert_array_equal(q, points.q[-1])
        assert not v.any()
        assert not a.any()


def test_a_splice_continues_the_desired_state():
    """Position, velocity and acceleration go on from where they were, whatever the arm itself does."""
    rng, jtc = np.random.default_rng(1), controller()
    jtc.accept(JOINTS, trajectory(rng), None, 1.0)
    for now in (1.1, 1.35, 1.6):
        before = jtc.sample(now)
        jtc.accept(JOINTS, trajectory(rng), None, now)
        for old, new in zip(before, jtc.sample(now), strict=True):
            np.testing.assert_allclose(new, old, atol=1e-12)


def test_a_stamp_in_the_past_is_joined_where_it_is():
    points = trajectory(np.random.default_rng(2), first=0.0)
    ahead, late = controller(), controller()
    ahead.accept(JOINTS, points, None, 10.0)
    assert late.accept(JOINTS, points, 10.0, 10.3) is None
    for t in (10.3, 10.4, 11.0):
        for a, b in zip(ahead.sample(t), late.sample(t), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_stamp_in_the_future_is_approached_from_now_on():
    points, jtc = trajectory(np.random.default_rng(3)), controller()
    assert jtc.accept(JOINTS, points, 12.0, 10.0) is None
    np.testing.assert_allclose(jtc.sample(10.0)[0], HOME, atol=1e-12)
    assert np.abs(jtc.sample(11.0)[0] - HOME).max() > 1e-3
    np.testing.assert_allclose(jtc.sample(12.0 + points.t[0])[0], points.q[0], atol=1e-12)


def test_one_point_is_a_trajectory_too():
    jtc = controller()
    assert jtc.accept(JOINTS, Points([1.0], [[1.0, 1.0, 1.0]]), 0.0, 5.0) is None
    np.testing.assert_allclose(jtc.sample(5.5)[0], (HOME + 1.0) / 2)
    np.testing.assert_array_equal(jtc.sample(6.0)[0], np.ones(3))


GOOD = Points([0.1, 0.2], [[0.0] * 3] * 2, [[0.0] * 3] * 2, [[0.0] * 3] * 2)
BAD = {
    "missing": (JOINTS[:2], GOOD, None),
    "not one of": ((*JOINTS, "gripper"), GOOD, None),
    "named twice": ((*JOINTS, "wrist"), GOOD, None),
    "0 points": (JOINTS, Points([], []), None),
    "100000 points": (JOINTS, Points(np.arange(100_000.0), np.zeros((100_000, 3))), None),
    "do not increase": (JOINTS, GOOD._replace(t=[0.1, 0.1]), None),
    "increase from 0": (JOINTS, GOOD._replace(t=[-0.1, 0.1]), None),
    "times from start": (JOINTS, GOOD._replace(t=[0.1, np.nan]), None),
    "2 positions at point 1": (JOINTS, GOOD._replace(q=[[0.0] * 3, [0.0] * 2]), None),
    "4 velocities at point 0": (JOINTS, GOOD._replace(v=[[0.0] * 4, [0.0] * 3]), None),
    "0 velocities at point 1": (JOINTS, GOOD._replace(v=[[0.0] * 3, []]), None),
    "1 accelerations at point 0": (JOINTS, GOOD._replace(a=[[0.0], [0.0] * 3]), None),
    "3 rows of positions": (JOINTS, GOOD._replace(q=[[0.0] * 3] * 3), None),
    "no positions": (JOINTS, GOOD._replace(q=[[], []]), None),
    "without velocities": (JOINTS, GOOD._replace(v=[[], []]), None),
    "positions that are not finite": (JOINTS, GOOD._replace(q=[[0.0] * 3, [0.0, np.nan, 0.0]]), None),
    "velocities that are not finite": (JOINTS, GOOD._replace(v=[[np.inf] * 3, [0.0] * 3]), None),
    "accelerations that are not finite": (JOINTS, GOOD._replace(a=[[0.0] * 3, [-np.inf] * 3]), None),
    "last velocity of wrist is 1e-06": (JOINTS, GOOD._replace(v=[[0.0] * 3, [0.0, 0.0, 1e-6]]), None),
    "ended 0.300 s ago": (JOINTS, GOOD, 9.5),
}


@pytest.mark.parametrize("reason", BAD)
def test_refuses(reason):
    names, points, start = BAD[reason]
    jtc = controller()
    jtc.accept(JOINTS, GOOD._replace(q=[[1.0] * 3] * 2), None, 9.9)
    before = jtc.sample(10.05)
    assert reason in str(jtc.accept(names, points, start, 10.0))
    for old, new in zip(before, jtc.sample(10.05), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_last_velocity_that_is_zero_in_single_precision_passes():
    assert controller().accept(JOINTS, GOOD._replace(v=[[0.0] * 3, [LAST_VELOCITY] * 3]), None, 0.0) is None


def test_takes_the_rows_of_a_message_as_they_are():
    """Messages carry array.array, empty where a field is not given."""
    points, plain, rows = trajectory(np.random.default_rng(4), fields=2), controller(), controller()
    message = Points(
        points.t.tolist(),
        [array.array("d", row.tobytes()) for row in points.q],
        [array.array("d", row.tobytes()) for row in points.v],
        [array.array("d") for _ in points.q],
    )
    assert plain.accept(JOINTS, points, None, 1.0) is None
    assert rows.accept(JOINTS, message, None, 1.0) is None
    for a, b in zip(plain.sample(1.4), rows.sample(1.4), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=50)
@given(order=st.permutations(range(3)), fields=st.integers(1, 3), x=st.floats(0.0, 2.0))
def test_the_order_of_the_names_changes_nothing(order, fields, x):
    points = trajectory(np.random.default_rng(5), fields=fields)
    shuffled = Points(points.t, *(None if row is None else row[:, order] for row in points[1:]))
    straight, mapped = controller(), controller()
    assert straight.accept(JOINTS, points, None, 1.0) is None
    assert mapped.accept([JOINTS[i] for i in order], shuffled, None, 1.0) is None
    for a, b in zip(straight.sample(1.0 + x), mapped.sample(1.0 + x), strict=True):
        np.testing.assert_array_equal(a, b)
