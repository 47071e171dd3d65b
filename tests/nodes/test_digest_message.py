"""The digest on the wire: nothing is lost, and what is no digest is refused whole."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_control.nodes import convert
from mbrl_control.runtime.digest import Digest
from mbrl_control.runtime.states import GuardState

JOINTS = ("a", "b", "c")
DIGEST = Digest(
    t=1_795_000_000.125,
    state=GuardState.LATCHED,
    state_age=0.0042,
    ticks=123456,
    missed=7,
    holds=2,
    late_p50=4e-5,
    late_p99=7e-4,
    late_worst=1.8e-3,
    latency_p50=0.06,
    latency_p99=0.075,
    not_handed_over=3,
    q=np.array([0.1, 0.2, 0.3]),
    v=np.array([1.0, 2.0, 3.0]),
    reference=np.array([0.11, 0.21, 0.31]),
)


def data(**changes: float) -> np.ndarray:
    values = np.array(convert.pack_digest(DIGEST, JOINTS).data)
    for name, value in changes.items():
        values[convert.DIGEST_HEADER.index(name)] = value
    return values


@pytest.mark.parametrize("state", list(GuardState))
def test_a_digest_survives_the_way(state: GuardState) -> None:
    sent = replace(DIGEST, state=state)
    message = convert.pack_digest(sent, JOINTS)
    got = convert.unpack_digest(message.data, JOINTS)
    for field in fields(Digest):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(sent, field.name))
    assert [(dim.label, dim.size) for dim in message.layout.dim] == [
        ("header", len(convert.DIGEST_HEADER)), ("q", 3), ("v", 3), ("reference", 3),
    ]  # fmt: skip


def test_what_is_not_known_yet_survives_too() -> None:
    sent = replace(DIGEST, state_age=np.inf, q=np.full(3, np.nan), reference=np.full(3, np.nan))
    got = convert.unpack_digest(convert.pack_digest(sent, JOINTS).data, JOINTS)
    assert got.state_age == np.inf
    assert np.isnan([got.q, got.reference]).all()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (data()[:-1], "23 numbers; a digest of 3 joints has 24"),
        (np.zeros(0), "0 numbers"),
        (data(magic=1.0), "magic"),
        (data(version=1.0), "version"),
        (data(joints=3.0), "other joints"),
        (data(state=8), "state 8"),
        (data(state=-1), "state -1"),
        (data(state=0.5), "state 0.5"),
        (data(ticks=np.inf), "not finite"),
        (data(state_age=np.nan), "not finite"),
    ],
)
def test_what_is_no_digest_is_refused_whole(bad: np.ndarray, says: str) -> None:
    with pytest.raises(convert.DigestError, match=says):
        convert.unpack_digest(bad, JOINTS)


def test_a_plan_is_no_digest() -> None:
    assert convert.MAGIC != convert.DIGEST_MAGIC


@given(st.lists(st.tuples(st.integers(0, 23), st.floats(allow_nan=True, allow_infinity=True)), max_size=4))
@settings(max_examples=200)
def test_garbage_is_a_digest_or_a_digest_error(changes: list[tuple[int, float]]) -> None:
    values = data()
    for at, value in changes:
        values[at] = value
    try:
        got = convert.unpack_digest(values, JOINTS)
    except convert.DigestError:
        return
    assert isinstance(got.state, GuardState)
    assert got.q.shape == got.v.shape == got.reference.shape == (3,)
