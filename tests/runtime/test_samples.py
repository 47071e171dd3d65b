"""What sinks without a trajectory are sent, and a judge that can convict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig import HOME, JOINTS, LIMITS, Rig, swing_plan

from mbrl_control import registry
from mbrl_control.core import Command, Mode
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.safety import EStop, Guard, GuardConfig, PlanArrived, Request
from mbrl_control.runtime.samples import GAIN, SHARE, SampleJudge, position, velocity
from mbrl_control.runtime.states import Event, GuardState
from mbrl_control.wiring import Wiring, wired
from mbrl_sim.world import Config, World

TICK = 0.01


def command(q: list[float], start: float = 1.0) -> Command:
    rows = np.array(q)[:, None] * np.ones(7)
    return Command(start + TICK * np.arange(len(q)), rows, rows * 0, rows * 0, None, Mode.VELOCITY_REFERENCE)


def test_a_velocity_leads_to_the_next_tick() -> None:
    one = command([0.1, 0.12, 0.13])
    np.testing.assert_allclose(velocity(one, 1.0, None, LIMITS.velocity), 2.0)
    np.testing.assert_array_equal(position(one), 0.1)


def test_a_velocity_is_zero_before_the_first_point_and_at_rest() -> None:
    np.testing.assert_array_equal(velocity(command([0.1, 0.12]), 0.9, None, LIMITS.velocity), 0.0)
    np.testing.assert_array_equal(velocity(command([0.1, 0.1, 0.1]), 1.0, None, LIMITS.velocity), 0.0)
    np.testing.assert_array_equal(velocity(command([0.1]), 1.0, None, LIMITS.velocity), 0.0)


def test_a_deviation_is_worked_off_within_a_share_of_the_limit() -> None:
    still = command([0.1, 0.1])
    np.testing.assert_allclose(velocity(still, 1.0, np.full(7, 0.01), LIMITS.velocity), GAIN * 0.01)
    np.testing.assert_allclose(velocity(still, 1.0, np.full(7, -9.0), LIMITS.velocity), -SHARE * LIMITS.velocity)
    fast = velocity(command([0.0, 1.0]), 1.0, np.full(7, 9.0), LIMITS.velocity)
    np.testing.assert_allclose(fast, LIMITS.velocity)


# --- The guard in front of such a sink ------------------------------------------------------------------


def sampled(kind: str) -> Rig:
    rig = Rig()
    rig.guard = Guard(rig.guard.config, JOINTS, LIMITS, 0.1, kind)
    return rig


@pytest.mark.parametrize("kind", ["position", "velocity"])
def test_the_last_sample_of_a_stop_is_the_rest_position(kind: str) -> None:
    rig = sampled(kind).armed()
    rig.run(0.7)
    rig.guard.inbox.append(EStop(True))
    rig.run(1.0, until=GuardState.FAULT)
    last = rig.outcomes[-1]
    assert last.command is not None, "rest is said in so many words"
    np.testing.assert_array_equal(position(last.command), last.command.q[-1])
    np.testing.assert_array_equal(velocity(last.command, last.t, last.error, LIMITS.velocity), 0.0)
    assert rig.tick().command is None


def test_after_a_gap_a_sink_that_holds_is_not_asked_to_jump() -> None:
    """The stop tail was never sent: the arm stands where the last sample put it."""
    rig = sampled("position").armed()
    rig.run(0.7)
    before = rig.outcomes[-1].command
    assert before is not None
    assert np.abs(before.v[0]).max() > 0.1, "nothing moves"
    out = rig.tick(gap=0.3)
    assert out.state is GuardState.LATCHED
    assert out.command is not None
    np.testing.assert_array_equal(out.command.q, np.broadcast_to(before.q[0], out.command.q.shape))


@pytest.mark.parametrize(("missed", "state"), [(1, GuardState.ACTIVE), (2, GuardState.LATCHED)])
def test_one_missed_tick_is_a_larger_step_two_are_a_hold(missed: int, state: GuardState) -> None:
    rig = sampled("position").armed()
    rig.run(0.7)
    assert rig.tick(gap=missed * rig.guard.dt).state is state


def test_where_a_velocity_sink_was_stopped_it_is_armed_from_where_the_arm_is() -> None:
    rig = sampled("velocity").armed()
    rig.guard.inbox.append(EStop(True))
    rig.run(1.0, until=GuardState.FAULT)
    rig.guard.inbox.append(EStop(False))
    rig.ask(Event.RESET)
    rig.arm = rig.arm + 0.3  # it drifted, or was led by hand
    rig.make_plan = lambda t0, seq, stamp: replace(
        swing_plan(t0, seq, stamp), q=np.tile(rig.arm, (21, 1)), v=np.zeros((21, 7))
    )
    rig.run(0.4)
    there = rig.arm.copy()
    assert rig.ask(Event.ARM)[0]
    first = rig.outcomes[-1].command
    assert first is not None
    np.testing.assert_allclose(first.q[0], there)


@pytest.mark.parametrize("latency", [0.0, 0.1])
def test_what_the_arm_deviates_under_velocities_dies_out_without_overshoot(latency: float) -> None:
    """On the simulated Panda, whose drive runs 0.1 rad/s too fast for a while; states are ``latency`` old."""
    robot = wired(registry.make("robots", "panda"), Wiring(sink="velocity", command_topic="v"))
    world = World(robot, Config(latency=latency))
    guard = Guard(GuardConfig(), robot.driver_joints, robot.limits, 0.3, "velocity")
    start = world.observe().q.copy()
    still = replace(swing_plan(0.0, 0, 0.0), q=np.tile(start, (21, 1)), v=np.zeros((21, 7)))
    guard.inbox.append(Request(Event.ACTIVATE))
    deviation = []
    for tick in range(600):
        now, sample = world.time, world.observe()
        guard.inbox.append(Reading(robot.driver_joints, sample.q, sample.v, sample.ns * 1e-9, now))
        if tick % 5 == 0:
            guard.inbox.append(PlanArrived(replace(still, t0=now + 0.05, seq=tick + 1, state_stamp=now), 1, 0.05))
        if tick == 60:
            guard.inbox.append(Request(Event.ARM))
        out = guard.tick(now, now)
        if out.command is not None:
            astray = 0.1 * np.eye(7)[0] if 100 <= tick < 150 else 0.0
            world.command("velocity", velocity(out.command, out.t, out.error, guard.limits.velocity) + astray)
        world.step(10)
        deviation.append(float(world.observe().q[0] - start[0]))
    assert guard.state is GuardState.ACTIVE, guard.describe()
    assert max(deviation) > 0.02, "nothing went astray"
    assert min(deviation[150:]) > -2e-3, "it goes beyond"
    assert max(map(abs, deviation[500:])) < 2e-3, "it does not die out"


# --- The judge ------------------------------------------------------------------------------------------


def motion(n: int = 200) -> np.ndarray:
    """A swing of all joints, at rest where it begins."""
    t = TICK * np.arange(n)
    return HOME + 0.1 * (1.0 - np.cos(2.0 * t))[:, None] * np.ones(7)


def judged(rows: np.ndarray, ticks: list[int] | None = None) -> SampleJudge:
    judge = SampleJudge(LIMITS, TICK)
    for tick, row in zip(ticks or range(len(rows)), rows, strict=True):
        judge.see(tick, row)
    return judge


def test_clean_samples_are_clean() -> None:
    judge = judged(motion())
    assert judge.violations == {}
    assert judge.commands == 200
    assert 0.05 < judge.worst["v"] < 0.2


def planted(change: float, at: int = 100) -> np.ndarray:
    rows = motion()
    rows[at:, 2] += change
    return rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (planted(0.03), "velocity of joint 3"),
        (planted(0.002), "acceleration of joint 3"),
        (planted(3.0), "position of joint 3"),
    ],
)
def test_a_planted_violation_is_found(rows: np.ndarray, says: str) -> None:
    assert says in judged(rows).violations


def test_a_step_across_missing_ticks_is_judged_by_the_time_it_took() -> None:
    rows = motion()[:2].copy()
    rows[1, 2] += 0.1
    assert judged(rows, [0, 10]).violations == {}
    assert judged(rows, [0, 3]).violations == {"velocity of joint 3": 1}


def test_what_is_not_finite_and_what_changes_within_a_tick_is_counted() -> None:
    rows = motion()[:3].copy()
    rows[2] = np.nan
    assert judged(rows).nonfinite == 1
    assert judged(motion()[:3] + np.arange(3)[:, None] * 1e-4, [0, 1, 1]).violations == {"another sample of tick 1": 1}


def test_of_velocities_the_limit_is_judged() -> None:
    judge = SampleJudge(LIMITS, TICK, "velocity")
    judge.see(0, LIMITS.velocity)
    assert judge.violations == {}
    judge.see(1, LIMITS.velocity * 1.01)
    assert len(judge.violations) == 1
