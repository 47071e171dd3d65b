"""No limit is ever violated, whatever plans, states, gaps and events come: fake clock, independent judge."""

from __future__ import annotations

import numpy as np
import pytest

from mbrl_control.core import Limits, Mode, Plan
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.judge import Judge, Sent
from mbrl_control.runtime.safety import EStop, Guard, GuardConfig, PlanArrived, PlannerDied, Request
from mbrl_control.runtime.states import Event, GuardState

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
LIMITS = Limits(
    lower=np.array([-2.9, -1.76, -2.9, -3.07, -2.9, -0.02, -2.9]),
    upper=np.array([2.9, 1.76, 2.9, -0.07, 2.9, 3.75, 2.9]),
    velocity=np.array([2.175] * 4 + [2.61] * 3),
    acceleration=np.array([15, 7.5, 10, 12.5, 15, 20, 20.0]),
    jerk=np.array([7500, 3750, 5000, 6250, 7500, 10000, 10000.0]),
    torque=np.array([87.0] * 4 + [12.0] * 3),
)


def random_plan(rng: np.random.Generator, now: float, near: np.ndarray, seq: int, bad: float) -> Plan:
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
    mode = Mode.TORQUE if kind == 6 else Mode.VELOCITY_REFERENCE
    stamp = now - (1.0 if rng.random() < 0.1 * bad else 0.02)
    return Plan(t0, dt, mode, q, v, np.zeros((horizon, q.shape[1])), None, stamp, seq)


def fuzz(seed: int, ticks: int, limits: Limits = LIMITS, rate: float = 100.0) -> tuple[Judge, Guard, set[GuardState]]:
    rng = np.random.default_rng(seed)
    config = GuardConfig(rate=rate, speed=float(rng.choice([1.0, 0.2])), state_timeout=0.1)
    guard = Guard(config, JOINTS, limits, 0.1)
    judge = Judge(limits.at_speed(config.speed))
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
            guard.inbox.append(PlanArrived(random_plan(rng, now, near, seq, storm), session))
        if rng.random() < storm * 0.02:
            guard.inbox.append(PlannerDied(session))
            session += 1
        if rng.random() < 0.002 + storm * 0.02:
            event = Event(rng.choice([e.value for e in (Event.ACTIVATE, Event.RESET, Event.ESTOP, Event.DEACTIVATE)]))
            guard.inbox.append(Request(event))
            guard.inbox.append(EStop(bool(rng.random() < 0.2)))
        if rng.random() < 0.1:
            guard.inbox.extend([Request(Event.ACTIVATE), Request(Event.ARM)])
        if rng.random() < 0.02:
            guard.inbox.extend([EStop(False), Request(Event.RESET)])
        out = guard.tick(now, mono)
        seen.add(out.state)
        if out.reference is not None:
            near = arm = out.reference.motion.q
        if out.command is not None:
            judge.see(Sent(now, out.command.t, out.command.q, out.command.v, out.command.a))
        if back:
            judge.forget()
    judge.finish()
    return judge, guard, seen


def assert_clean(judge: Judge, seen: set[GuardState]) -> None:
    assert judge.violations == {}, judge.examples
    assert judge.nonfinite == 0
    assert seen == set(GuardState), "the fuzz no longer reaches every state"
    assert judge.worst["v"] > 0.9, "the fuzz no longer drives the arm to its limits"


@pytest.mark.parametrize("seed", range(5))
def test_no_limit_is_violated(seed: int) -> None:
    judge, _, seen = fuzz(seed, 20_000)
    assert_clean(judge, seen)
