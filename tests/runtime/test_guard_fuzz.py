"""No limit is ever violated, whatever plans, states, gaps and events come: fake clock, independent judge."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from rig import JOINTS, LIMITS, Rig, plain, swing_plan

from mbrl_control import core, registry
from mbrl_control.core import Limits, Mode, Plan
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.judge import Judge, Sent
from mbrl_control.runtime.safety import EStop, Guard, GuardConfig, PlanArrived, PlannerDied, Request
from mbrl_control.runtime.samples import SampleJudge, position
from mbrl_control.runtime.states import Event, GuardState
from mbrl_control.runtime.torque_judge import TorqueJudge


def random_plan(
    rng: np.random.Generator, now: float, near: np.ndarray, seq: int, bad: float, usual: Mode = Mode.VELOCITY_REFERENCE
) -> Plan:
    """Smooth, rough, late, early, far, wrong-shaped or non-finite: whatever a broken planner might send."""
    horizon, dt = int(rng.integers(1, 25)), float(rng.choice([0.01, 0.05, 0.1]))
    kind = rng.integers(12) if rng.random() < bad else 11
    step = rng.normal(size=(horizon + 1, 7)) * rng.choice([0.01, 0.1, 1.0])
    q = near + np.cumsum(step, axis=0) * dt - step[0] * dt
    v = np.gradient(q, dt, axis=0) if horizon > 1 else np.zeros_like(q)
    t0 = now + float(rng.choice([0.0, 0.01, 0.05, -0.02]))
    if kind == 0:
        q = rng.uniform(-7, 7, size=q.shape)
    elif kind == 1:
        v = rng.normal(size=v.shape) * 100.0
    elif kind == 2:
        q[rng.integers(len(q))] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == 3:
        q, v = q[:, :5], v[:, :5]
    elif kind == 4:
        t0 += float(rng.choice([-100.0, 100.0, np.nan]))
    elif kind == 5:
        v = v * np.nan
    [other] = set(Mode) - {usual}
    stamp = now - (1.0 if rng.random() < 0.1 * bad else 0.02)
    u, K = np.zeros((horizon, q.shape[1])), None
    if usual is Mode.TORQUE:
        u = rng.normal(size=u.shape) * rng.choice([1.0, 30.0, 1e6])
        K = rng.normal(size=(*u.shape, 14)) * rng.choice([0.0, 100.0, 1e300]) if kind not in (3, 7) else None
        if K is not None and kind == 8:
            K[rng.integers(horizon)] = rng.choice([np.nan, np.inf, -np.inf])
    return Plan(t0, dt, other if kind == 6 else usual, q, v, u, K, stamp, seq)


def fuzz(
    seed: int, ticks: int, limits: Limits = LIMITS, rate: float = 100.0, sink: str = "joint_trajectory"
) -> tuple[Judge | SampleJudge | TorqueJudge, Guard, set[GuardState]]:
    rng = np.random.default_rng(seed)
    config = GuardConfig(rate=rate, speed=float(rng.choice([1.0, 0.2])), state_timeout=0.1)
    robot = replace(registry.make("robots", "panda_torque"), limits=limits) if sink == "effort" else None
    guard = Guard(config, JOINTS, limits, 0.1, sink, robot)
    within = limits.at_speed(config.speed)
    judge = Judge(within) if sink == "joint_trajectory" else SampleJudge(within, guard.dt)
    if sink == "effort":
        judge = TorqueJudge(within, guard.dt)
    mode = Mode.TORQUE if sink == "effort" else Mode.VELOCITY_REFERENCE
    seen = set()
    guard.inbox.append(Request(Event.ACTIVATE))
    now = mono = 0.0
    arm = rng.uniform(limits.lower - 0.02, limits.upper + 0.02)
    near, seq, session = arm, 0, 1
    storm = 0.0
    for step in range(ticks):
        if step % 500 == 0:  # alternate calm stretches, in which things move, with storms
            storm = float(rng.choice([0.0, 0.02, 0.3]))
        gap = rng.random() < storm * 0.1
        dt = guard.dt * (rng.integers(1, 80) if gap else rng.choice([1.0, 1.0, 1.0, 1.3, 0.7]))
        now, mono = now + dt, mono + dt
        back = rng.random() < storm * 0.02
        if back:
            now -= float(rng.uniform(0.0, 2.0))
        if rng.random() > storm:
            q = arm + rng.normal(size=7) * 1e-4 + (rng.normal(size=7) if rng.random() < storm * 0.1 else 0.0)
            if rng.random() < storm * 0.1:
                q = q * np.nan
            order = rng.permutation(7)
            size = 5 if rng.random() < storm * 0.1 else 7
            names = [JOINTS[i] for i in order]
            guard.inbox.append(Reading(names, q[order][:size], np.zeros(7), now, mono))
        if step % max(1, round(0.05 / guard.dt)) == 0 and rng.random() > storm * 0.5:
            seq += 1
            guard.inbox.append(PlanArrived(random_plan(rng, now, near, seq, storm, mode), session, 0.05))
        if rng.random() < storm * 0.02:
            guard.inbox.append(PlannerDied(session))
            session += 1
        if rng.random() < 0.002 + storm * 0.02:
            events = (Event.ACTIVATE, Event.RESET, Event.ESTOP, Event.DEACTIVATE)
            guard.inbox.append(Request(events[rng.integers(len(events))]))
            guard.inbox.append(EStop(bool(rng.random() < 0.2)))
        if rng.random() < 0.1:
            guard.inbox.extend([Request(Event.ACTIVATE), Request(Event.ARM)])
        if rng.random() < 0.02:
            guard.inbox.extend([EStop(False), Request(Event.RESET)])
        out = guard.tick(now, mono)
        seen.add(out.state)
        if out.reference is not None:
            near = arm = out.reference.motion.q
        sent_at = now + (guard.dt * rng.uniform(0.0, 6.0) if rng.random() < storm * 0.1 else 0.0)
        now, mono = max(now, sent_at), mono + sent_at - now
        if out.command is not None and sent_at > out.deadline:
            guard.unsent()
        elif out.command is not None and isinstance(judge, Judge):
            judge.see(Sent(sent_at, out.command.t, out.command.q, out.command.v, out.command.a))
        elif out.command is not None and isinstance(judge, TorqueJudge):
            assert out.command.effort is not None
            judge.see(round(out.t / guard.dt), out.command.effort[0])
            assert len(out.command.t) == 1
        elif out.command is not None:
            assert isinstance(judge, SampleJudge)
            judge.see(round(out.t / guard.dt), position(out.command))
            arm = position(out.command)  # what a sink that takes samples has of it
        if back:
            judge.forget()
    judge.finish()
    return judge, guard, seen


def assert_clean(judge: Judge | SampleJudge | TorqueJudge) -> None:
    assert judge.violations == {}, judge.examples
    assert judge.nonfinite == 0


def ten_thousand(seed: int) -> tuple[Judge | SampleJudge | TorqueJudge, set[GuardState]]:
    """For the pool. The shapes of what it makes are checked by the other tests."""
    core.SHAPE_CHECKS = False
    judge, _, states = fuzz(seed, 10_000)
    return judge, states


def test_no_limit_is_violated_in_a_hundred_thousand_ticks() -> None:
    seen, fastest = set(), 0.0
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        for judge, states in pool.map(ten_thousand, range(10)):
            assert_clean(judge)
            seen |= states
            fastest = max(fastest, judge.worst["v"])
    assert seen == set(GuardState), "the fuzz no longer reaches every state"
    assert fastest > 0.9, "the fuzz no longer drives the arm to its limits"


def test_samples_stay_within_the_limits_as_well() -> None:
    seen, worst = set(), {"v": 0.0, "a": 0.0}
    for seed in (58, 59):
        judge, _, states = fuzz(seed, 6_000, sink="position")
        assert_clean(judge)
        seen |= states
        worst = {name: max(value, judge.worst[name]) for name, value in worst.items()}
    assert seen == set(GuardState), "the fuzz no longer reaches every state"
    assert min(worst.values()) > 0.9, "the fuzz no longer drives the arm to its limits"


def test_torques_stay_within_their_limits_and_their_rates() -> None:
    seen, worst = set(), {"torque": 0.0, "torque rate": 0.0}
    for seed in (58, 59):
        judge, guard, states = fuzz(seed, 5_000, replace(LIMITS, torque_rate=np.full(7, 1000.0)), sink="effort")
        assert_clean(judge)
        assert guard.torques is not None
        assert guard.torques.saturated > 100
        seen |= states
        worst = {name: max(value, judge.worst[name]) for name, value in worst.items()}
    assert seen == set(GuardState), "the fuzz no longer reaches every state"
    assert min(worst.values()) > 0.9, "the fuzz no longer drives the motors to their limits"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 150))
def test_no_limit_is_violated_in_a_million_ticks(seed: int) -> None:
    """50 x 20,000, at every rate and with tight jerk limits as well."""
    rate = (50.0, 100.0, 333.0, 500.0)[seed % 4]
    jerk = LIMITS.acceleration * 5.0 if seed % 3 == 0 else LIMITS.jerk
    judge, _, _ = fuzz(seed, 20_000, replace(LIMITS, jerk=jerk), rate)
    assert_clean(judge)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(200, 220))
def test_torques_stay_within_their_limits_in_four_hundred_thousand_ticks(seed: int) -> None:
    """20 x 20,000, at every rate, with rates of torques and without."""
    rate = (50.0, 100.0, 333.0, 500.0)[seed % 4]
    limits = LIMITS if seed % 3 == 0 else replace(LIMITS, torque_rate=np.full(7, 1000.0))
    judge, _, _ = fuzz(seed, 20_000, limits, rate, sink="effort")
    assert_clean(judge)


class Storm(RuleBasedStateMachine):
    """Whatever hypothesis makes of readings, plans, events and time; it shrinks what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.rig.ask(Event.ACTIVATE)

    @rule(ticks=st.integers(1, 15))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.rig.tick()

    @rule()
    def everything_is_well(self) -> None:
        self.rig.states = self.rig.plans = True
        self.rig.make_reading, self.rig.make_plan = plain, swing_plan
        for _ in range(30):
            self.rig.tick()

    @rule(gap=st.floats(0.0, 2.0))
    def a_gap(self, gap: float) -> None:
        self.rig.tick(gap=gap)

    @rule(back=st.floats(0.001, 5.0))
    def time_is_set_back(self, back: float) -> None:
        self.rig.now -= back
        self.rig.judge.forget()
        self.rig.tick()

    @rule(states=st.booleans(), plans=st.booleans())
    def silence(self, states: bool, plans: bool) -> None:
        self.rig.states, self.rig.plans = states, plans

    @rule(order=st.permutations(range(7)), off=st.sampled_from([0.0, 0.01, 0.3, 4.0, np.nan]), drop=st.integers(0, 7))
    def strange_states(self, order: list[int], off: float, drop: int) -> None:
        def reading(rig: Rig) -> Reading:
            names = [JOINTS[i] for i in order]
            return Reading(names, (rig.arm + off)[order][: 7 - drop], np.zeros(7), rig.now, rig.mono)

        self.rig.make_reading = reading

    @rule(
        shift=st.floats(-1.0, 1.0),
        amplitude=st.floats(-4.0, 4.0),
        horizon=st.integers(1, 40),
        late=st.floats(-0.3, 0.3),
        speed=st.sampled_from([1.0, -1.0, 30.0, np.inf]),
    )
    def strange_plans(self, shift: float, amplitude: float, horizon: int, late: float, speed: float) -> None:
        def plan(t0: float, seq: int, stamp: float) -> Plan:
            good = swing_plan(t0 + late, seq, stamp, amplitude, horizon)
            return replace(good, q=good.q + shift, v=good.v * speed)

        self.rig.make_plan = plan

    @rule(event=st.sampled_from([Event.ARM, Event.RESET, Event.ESTOP, Event.ACTIVATE, Event.DEACTIVATE]))
    def a_person(self, event: Event) -> None:
        self.rig.ask(event)

    @rule(pressed=st.booleans())
    def the_estop(self, pressed: bool) -> None:
        self.rig.guard.inbox.append(EStop(pressed))

    @rule(died=st.booleans())
    def the_planner(self, died: bool) -> None:
        if died:
            self.rig.guard.inbox.append(PlannerDied(self.rig.session))
        self.rig.session += 1

    @invariant()
    def nothing_is_violated(self) -> None:
        assert self.rig.judge.violations == {}, self.rig.judge.examples
        assert self.rig.judge.nonfinite == 0


Storm.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestStorm = Storm.TestCase
