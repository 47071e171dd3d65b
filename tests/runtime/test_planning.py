"""One plan a period: how many iterations, for when, and what is kept when the size changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from slow_planner import Clock, Slow, goal, obs

from mbrl_control.core import Status
from mbrl_control.runtime.planning import BEFORE_THAT, IN_LOCKSTEP, LATELY, Pace, Planning, taken_over
from mbrl_control.runtime.sizing import MISSES, STRETCH, Sizes, Sizing, Timed, ladder

PACE = Pace(period=0.05, duty=0.5, handover=0.04)


def planning(clock: Clock, pace: Pace = PACE, takes: float = 0.01) -> Planning:
    """One that plans with 32 samples of which all together take so long."""

    def trial(planner: Slow) -> Timed:
        return Timed(planner.takes, planner.takes)

    sizing = Sizing(
        ladder(Sizes(32, 20), Sizes(16, 10)),
        lambda sizes: Slow(clock, sizes, 0.0, takes / 32),
        pace.budget,
        trial,  # type: ignore[arg-type]
        lambda *_: None,
    )
    return Planning(pace, sizing, np.random.default_rng(0), clock)


@pytest.mark.parametrize(
    ("changes", "takes", "iterations"),
    [
        ({}, 0.01, 2),  # a third would end after 30 ms of 25
        ({}, 0.0124, 2),
        ({"duty": 1.0}, 0.01, 5),
        ({"enough": 0.25}, 0.004, 3),
        ({"enough": 0.25}, 0.02, 1),
        ({"enough": 0.9}, 0.01, 2),
        ({"iterations": 1}, 0.001, 1),
        ({"iterations": 7}, 0.001, 7),
        ({"iterations": 7}, 0.01, 2),
        ({"lockstep": True}, 0.02, IN_LOCKSTEP),
        ({"lockstep": True, "iterations": 5}, 0.02, 5),
    ],
)
def test_as_many_iterations_as_fit(changes: dict, takes: float, iterations: int) -> None:
    clock = Clock()
    under = planning(clock, replace(PACE, **changes), takes)
    plan = under.plan(obs(), goal)
    assert plan is not None
    assert under.iterations == clock.calls == plan.seq == iterations
    assert under.took.count == 1
    assert clock.now == pytest.approx(iterations * takes)


def test_a_planner_that_does_not_fit_is_called_once() -> None:
    clock = Clock()
    under = planning(clock)
    clock.slower = 100.0
    assert under.plan(obs(), goal) is not None
    assert clock.calls == 1


# --- The lead -------------------------------------------------------------------------------------------


def test_plans_are_made_for_when_the_guard_can_follow_nearly_all_of_them() -> None:
    under = planning(Clock())
    passed = 0.004 + 0.004 * np.random.default_rng(1).random(LATELY)
    for i, one in enumerate(passed):
        assert i >= BEFORE_THAT - 1 or under.lead == 0.05, "until it is known, as late as it can be"
        under.sent(one)
    assert np.mean(passed + PACE.handover <= under.lead) >= 0.985
    assert under.lead == pytest.approx(0.048, abs=2e-4)


def test_the_lead_follows_what_was_measured_lately_and_is_a_period_at_most() -> None:
    under = planning(Clock())
    for passed, lead in ((0.002, 0.042), (0.03, 0.05), (0.005, 0.045)):
        for _ in range(LATELY):
            under.sent(passed)
        assert under.lead == pytest.approx(lead)
        assert under.figures()["lead_ms"] == pytest.approx(lead * 1e3)


def test_in_lockstep_it_is_one_period_whatever_is_measured() -> None:
    under = planning(Clock(), replace(PACE, lockstep=True))
    for _ in range(LATELY):
        under.sent(0.001)
    assert under.lead == 0.05


# --- Sizes ----------------------------------------------------------------------------------------------


def test_under_load_plans_get_smaller_then_as_large_again_and_their_numbers_go_on() -> None:
    clock = Clock()
    under = planning(clock)
    seqs, rungs = [], []

    def plans(count: int) -> None:
        for _ in range(count):
            plan = under.plan(obs(), goal)
            assert plan is not None
            seqs.append(plan.seq)
            rungs.append((plan.horizon, under.sizing.sizes.samples))

    plans(10)
    clock.slower = 30.0
    plans(3 * MISSES)
    assert rungs[-1] == (15, 16)
    assert under.figures()["samples"] == 16
    assert under.figures()["samples_asked"] == 32
    assert under.figures()["steps_down"] == 2
    clock.slower = 1.0
    plans(3 * STRETCH)
    assert rungs[-1] == (20, 32)
    assert (np.diff(seqs) > 0).all()


def test_what_is_not_finite_is_no_plan_and_is_forgotten() -> None:
    clock = Clock()
    under = planning(clock)
    under.plan(obs(), goal)
    under.sizing.planner.status = Status.NONFINITE  # type: ignore[attr-defined]
    assert under.plan(obs(), goal) is None
    assert under.why == "not finite"
    under.sizing.planner.status = Status.OK  # type: ignore[attr-defined]
    plan = under.plan(obs(), goal)
    assert plan is not None
    assert (plan.seq, under.why) == (under.iterations, ""), "counted anew"
    under.sizing.planner.status = Status.FAULT  # type: ignore[attr-defined]
    assert under.plan(obs(), goal) is None
    assert under.why == "the planner has failed"


def test_what_overlaps_is_taken_over() -> None:
    old = {"mean": np.arange(8.0).reshape(4, 2), "seq": np.array(7), "gone": np.ones(3), "other": np.ones((2, 2))}
    longer = {"mean": np.zeros((6, 2)), "seq": np.array(0), "new": np.full(2, 5.0), "other": np.zeros(2)}
    found = taken_over(old, longer)
    np.testing.assert_array_equal(found["mean"], [[0, 1], [2, 3], [4, 5], [6, 7], [0, 0], [0, 0]])
    assert found["seq"] == 7
    np.testing.assert_array_equal(found["new"], [5.0, 5.0])
    np.testing.assert_array_equal(found["other"], [0.0, 0.0])
    assert found.keys() == longer.keys()
    np.testing.assert_array_equal(taken_over(old, {"mean": np.zeros((2, 2))})["mean"], [[0, 1], [2, 3]])
    assert longer["mean"].sum() == 0.0, "nothing is written into what it was given"
