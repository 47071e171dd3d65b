"""Between messages and the core: nothing is lost on the way, and what is no plan is refused whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_control.core import Command, Mode, Plan
from mbrl_control.nodes import convert

JOINTS = ("a", "b", "c")
BASE = 1_795_000_000_123_456_789


def plan(horizon: int = 4, gains: bool = False, seed: int = 0) -> Plan:
    rng = np.random.default_rng(seed)
    q, v, u = (rng.normal(size=(n, 3)) for n in (horizon + 1, horizon + 1, horizon))
    K = rng.normal(size=(horizon, 3, 6)) if gains else None
    return Plan(12.345678901, 0.05, Mode.VELOCITY_REFERENCE, q, v, u, K, 12.3, 77)


@pytest.mark.parametrize("gains", [False, True])
def test_a_plan_survives_the_way(gains: bool) -> None:
    sent = plan(gains=gains)
    message = convert.pack_plan(sent, BASE, JOINTS, session=5, period=0.04)
    got = convert.unpack_plan(message.data, BASE, JOINTS)
    for name in ("q", "v", "u", "K"):
        np.testing.assert_array_equal(getattr(got.plan, name), getattr(sent, name))
    assert (got.plan.t0, got.plan.dt, got.plan.state_stamp) == pytest.approx(
        (sent.t0, sent.dt, sent.state_stamp), abs=1e-9
    )
    assert (got.plan.mode, got.plan.seq, got.session, got.host) == (sent.mode, 77, 5, convert.this_host())
    assert got.period == 0.04
    assert [dim.label for dim in message.layout.dim] == ["header", "q", "v", "u"]


def test_a_plan_of_single_precision_is_sent_like_any_other() -> None:
    exact = plan()
    single = replace(exact, q=exact.q.astype(np.float32), v=exact.v.astype(np.float32), u=exact.u.astype(np.float32))
    got = convert.unpack_plan(convert.pack_plan(single, BASE, JOINTS, 5, 0.04).data, BASE, JOINTS)
    np.testing.assert_array_equal(got.plan.q, single.q)
    points = convert.plan_trajectory(single, BASE, JOINTS).points
    np.testing.assert_array_equal([point.positions for point in points], single.q)
    np.testing.assert_array_equal([point.velocities for point in points], single.v)


def data(**changes: float) -> np.ndarray:
    values = np.array(convert.pack_plan(plan(), BASE, JOINTS, 5, 0.04).data)
    for name, value in changes.items():
        values[convert.HEADER.index(name)] = value
    return values


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (data()[:-1], "numbers"),
        (data()[:5], "numbers"),
        (np.zeros(0), "numbers"),
        (data(magic=1.0), "magic"),
        (data(version=1.0), "version"),
        (data(joints=3.0), "other joints"),
        (data(H=1e9), "H 1000000000"),
        (data(H=-1), "H -1"),
        (data(nu=2), "numbers"),
        (data(mode=9), "mode 9"),
        (data(gains=1), "numbers"),
        (data(t0_s=np.nan), "not finite"),
        (data(H=np.inf), "not finite"),
    ],
)
def test_what_is_no_plan_is_refused_whole(bad: np.ndarray, says: str) -> None:
    with pytest.raises(convert.PlanError, match=says):
        convert.unpack_plan(bad, BASE, JOINTS)


def test_other_joints_or_another_order_is_another_robot() -> None:
    with pytest.raises(convert.PlanError, match="other joints"):
        convert.unpack_plan(data(), BASE, ("a", "c", "b"))


@given(
    cut=st.integers(0, 60),
    changes=st.lists(st.tuples(st.integers(0, 60), st.floats(allow_nan=True, allow_infinity=True)), max_size=4),
)
@settings(max_examples=300)
def test_garbage_is_a_plan_or_a_plan_error(cut: int, changes: list[tuple[int, float]]) -> None:
    values = data()
    for at, value in changes:
        values[at % len(values)] = value
    try:
        got = convert.unpack_plan(values[: len(values) - cut], BASE, JOINTS)
    except convert.PlanError:
        return
    assert got.plan.q.shape == got.plan.v.shape == (got.plan.horizon + 1, 3)


def test_a_command_on_the_wire_is_exact_to_the_nanosecond() -> None:
    t = (1234567 + np.array([0, 1, 2, 17])) * 0.01
    q = np.random.default_rng(0).normal(size=(4, 3))
    message = convert.trajectory(Command(t, q, q * 0, q * 0, None, Mode.VELOCITY_REFERENCE), BASE, JOINTS)
    start = convert.to_ns(message.header.stamp)
    assert start == BASE + 1234567 * 10_000_000
    after = [p.time_from_start.sec * convert.SECOND + p.time_from_start.nanosec for p in message.points]
    assert after == [0, 10_000_000, 20_000_000, 170_000_000]
    np.testing.assert_array_equal([p.positions for p in message.points], q)
