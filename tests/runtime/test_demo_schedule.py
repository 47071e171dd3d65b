"""The demonstration's schedule: goals in equal time, pushes once, reached or not; a clock that is an argument."""

from __future__ import annotations

import numpy as np
import pytest

from mbrl_control.runtime.demo import APART, DemoConfig, schedule


def draw(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, 3)


@pytest.mark.parametrize(
    ("seconds", "speed", "total"), [(45.0, 1.0, 8), (20.0, 1.0, 3), (30.0, 1.0, 5), (1.0, 1.0, 1), (45.0, 0.3, 3)]
)
def test_as_many_goals_as_fit(seconds: float, speed: float, total: int) -> None:
    plan = schedule(DemoConfig(seconds=seconds, speed=speed), draw)
    assert len(plan.goals) == len(plan.reached) == total
    for a, b in zip(plan.goals, plan.goals[1:], strict=False):
        assert np.linalg.norm(a - b) >= APART
    assert all(0.0 < t < seconds for t in plan.push_times)


def test_goals_and_pushes_follow_each_other_from_the_moment_of_arming() -> None:
    plan = schedule(DemoConfig(seconds=10.0), lambda rng: draw(rng))
    plan.goals, plan.reached = [np.zeros(3), np.ones(3)], plan.reached[:1] * 2
    assert plan.elapsed(5.0) == 0.0
    plan.armed_at = 100.0
    seen = [(t, plan.goal(t)[0]) for t in (100.0, 104.9, 105.0, 109.0)]
    assert [g for _, g in seen] == [0.0, 0.0, 1.0, 1.0]
    assert plan.starts == [100.0, 105.0]
    assert plan.over(110.0)
    assert not plan.over(109.9)


def test_each_push_is_given_once() -> None:
    plan = schedule(DemoConfig(seconds=45.0), draw)
    plan.armed_at = 0.0
    given = [t for t in np.arange(0.0, 45.0, 0.1) if plan.push(float(t)) is not None]
    assert given == pytest.approx(plan.push_times, abs=0.11)
    assert len(plan.pushes) == 2
    assert all(np.linalg.norm(d) == pytest.approx(1.0) for d in plan.directions)


def test_only_what_was_measured_after_a_goal_was_given_counts_for_it() -> None:
    plan = schedule(DemoConfig(seconds=11.0), draw)
    plan.armed_at = 0.0
    plan.goal(0.0)
    for t in np.arange(0.0, 1.0, 0.05):
        plan.see(float(t), 0.01)
    assert plan.count == 1
    plan.goal(6.0)
    plan.see(5.9, 0.0)
    plan.see(6.25, 0.0)
    assert plan.count == 1
    plan.see(6.6, 0.0)
    assert plan.count == 2


def test_the_seed_decides() -> None:
    one, same, other = (schedule(DemoConfig(seed=s), draw) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.goals, same.goals)
    assert not np.array_equal(one.goals, other.goals)
