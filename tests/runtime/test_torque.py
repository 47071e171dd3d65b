"""An arm that is sent torques: the guard and the simulated physics together, on a fake clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig import Rig, swing_plan
from torque_rig import PERIOD, TorqueRig, swing, swung

from mbrl_control import registry
from mbrl_control.core import Mode, Plan, Status
from mbrl_control.runtime.safety import EStop, PlannerDied
from mbrl_control.runtime.states import Event, GuardState
from mbrl_control.runtime.torque import TorqueError

S = GuardState
PANDA = registry.make("robots", "panda_torque")


def still(robot, q):
    """Plans that ask for staying at ``q``, with the torques for that."""
    zero = np.zeros(robot.nj)
    u = np.tile(robot.inverse_dynamics(np, q, zero, zero), (20, 1))

    def make(t0: float, seq: int, stamp: float) -> Plan:
        return Plan(t0, 0.05, Mode.TORQUE, np.tile(q, (21, 1)), np.zeros((21, robot.nj)), u, None, stamp, seq)

    return make


@pytest.mark.parametrize("rate", [100.0, 200.0, 500.0])
def test_a_plan_is_followed_with_its_gains(rate: float) -> None:
    rig = TorqueRig(rate=rate).swinging()
    assert rig.state is S.ACTIVE
    assert rig.speed > 0.4
    plan = rig.guard._next_plan
    assert plan is not None
    np.testing.assert_allclose(rig.q, plan.at(rig.now).q, atol=0.015)
    assert rig.guard.torques is not None
    assert rig.guard.torques.share_saturated < 0.02
    rig.clean()


def test_a_planner_killed_in_motion_is_a_hold_and_the_arm_is_braked_whatever_it_carries() -> None:
    rig = TorqueRig(payload=2.0).swinging()
    assert rig.speed > 0.4
    rig.plans = False
    rig.guard.inbox.append(PlannerDied(7))
    rig.tick()
    assert rig.state is S.HOLD
    rig.run(0.5)
    assert rig.speed < 0.1
    rig.run(1.0)
    held = rig.q
    reference = rig.outcomes[-1].reference
    assert reference is not None
    assert np.abs(held - reference.motion.q).max() < 0.06, "2 kg that nobody was told of"
    rig.run(1.0)
    np.testing.assert_allclose(rig.q, held, atol=0.003)
    assert rig.state is S.HOLD
    rig.clean()


def test_a_late_planner_leaves_its_gains_in_force_then_comes_a_hold() -> None:
    rig = TorqueRig().swinging()
    rig.plans = False
    last = rig.guard._next_plan
    assert last is not None
    assert last.K is not None
    while rig.now - last.t0 <= 3 * PERIOD:
        out = rig.tick()
        assert out is not None
        assert out.state is S.ACTIVE
        state, command = rig.guard.slot.state, out.command
        assert command is not None
        assert command.effort is not None
        assert state is not None
        there, k = last.at(state.t), int((rig.now - rig.guard.dt - last.t0) / last.dt + 1e-9)
        u = last.u[k] + last.K[k] @ np.concatenate([state.q - there.q, state.v - there.v])
        np.testing.assert_allclose(command.effort[0], u, atol=1e-9)
    rig.run(0.05, until=S.HOLD)
    assert "last plan started" in rig.guard.reason
    rig.plans = True
    rig.clean()


def pushed(force: list[float], feedback: str) -> tuple[float, float]:
    """How far the tip is from its way at most, and 0.5 s after a push of 0.2 s in the middle of it [m]."""
    rig = TorqueRig(rate=200.0, feedback=feedback, tracking_bound=3.0).armed()
    since = rig.now + 0.1
    rig.make_plan = lambda t0, seq, stamp: swing(rig.robot, t0, seq, stamp, since, 0.6)
    rig.run(1.0)
    before = len(rig.seen)
    rig.world.push(np.array(force), 0.2)
    rig.run(0.7)
    rig.clean()
    away = [rig.robot.tip(np, q) - rig.robot.tip(np, swung(rig.robot, t, since, 0.6)) for t, q, _ in rig.seen[before:]]
    far = np.linalg.norm(away, axis=1)
    return float(far.max()), float(far[-1])


@pytest.mark.parametrize("force", [[20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, -20.0]])
def test_a_push_in_motion_is_worked_off_with_gains_and_not_without(force: list[float]) -> None:
    most, after = pushed(force, "auto")
    assert most > 0.02
    assert after < 0.02
    assert pushed(force, "off")[1] > 0.05


def test_without_a_plan_in_force_the_arm_is_held() -> None:
    rig = TorqueRig(payload=1.0)
    rig.make_plan = lambda t0, seq, stamp: still(PANDA, PANDA.home)(t0 + 0.5, seq, stamp)
    rig.armed().run(0.4)
    assert rig.state is S.ACTIVE
    np.testing.assert_allclose(rig.q, PANDA.home, atol=0.04)
    rig.clean()


def test_a_guard_that_is_killed_leaves_an_arm_that_is_braked() -> None:
    rig = TorqueRig(payload=2.0).swinging()
    assert rig.speed > 0.4
    rig.alive = False
    rig.run(0.6)
    assert rig.speed < 0.01
    held = rig.q
    rig.run(1.0)
    np.testing.assert_allclose(rig.q, held, atol=1e-4)


def test_without_states_the_arm_is_braked_by_what_is_known_then_left_to_the_other_side() -> None:
    rig = TorqueRig().swinging()
    rig.states = False
    rig.run(0.1, until=S.LATCHED)
    assert rig.outcomes[-1].command is not None
    assert rig.outcomes[-1].status & Status.STALE_STATE
    rig.run(0.6)
    assert rig.outcomes[-1].command is None, "blind, nothing is held"
    assert rig.speed < 0.01
    held = rig.q
    rig.states = True
    rig.run(0.5)
    np.testing.assert_allclose(rig.q, held, atol=0.05)
    rig.make_plan = still(PANDA, rig.q)
    rig.run(0.3)
    assert rig.ask(Event.ARM)[0]
    rig.run(0.5)
    assert rig.state is S.ACTIVE
    rig.clean()


def test_a_state_from_well_before_a_plan_says_nothing_of_it() -> None:
    rig = TorqueRig(rate=200.0).swinging()
    torques, state = rig.guard.torques, rig.guard.slot.state
    assert torques is not None
    assert state is not None
    plan = swing(rig.robot, rig.now, 1, rig.now, rig.now - 1.0, 0.6)
    for age, used in ((0.0, True), (0.008, True), (0.03, False), (0.3, False)):
        wanted, _ = torques.around(plan, rig.now, replace(state, t=rig.now - age, q=state.q + 0.05))
        assert np.allclose(wanted, plan.u[0]) is not used


def test_ticks_that_are_missed_leave_the_torques_and_too_many_are_a_hold() -> None:
    rig = TorqueRig(rate=200.0).swinging()

    def missed(ticks: int) -> None:
        rig.alive = False
        for _ in range(ticks):
            rig.tick()
        rig.alive = True
        rig.tick()

    missed(4)
    assert rig.state is S.ACTIVE
    rig.run(0.1)
    missed(7)
    assert rig.state is S.LATCHED
    assert "the guard itself was not run for 0.040 s" in rig.guard.reason
    assert rig.outcomes[-1].command is not None
    rig.plans = False
    rig.run(1.0)
    assert rig.speed < 0.02
    rig.clean()


def test_a_stop_ends_in_torques_that_hold_and_then_in_a_brake() -> None:
    rig = TorqueRig(payload=1.0).swinging()
    rig.guard.inbox.append(EStop(True))
    rig.run(1.0, until=S.FAULT)
    assert rig.outcomes[-1].command is not None
    out = rig.tick()
    assert out is not None
    assert out.command is None
    rig.run(0.3)
    held = rig.q
    assert rig.speed < 0.02
    rig.run(1.0)
    np.testing.assert_allclose(rig.q, held, atol=0.002)
    rig.clean()


def test_an_arm_moved_by_what_is_stronger_is_held_where_it_is_and_armed_there() -> None:
    rig = TorqueRig().armed()
    rig.run(0.3)
    rig.plans = False
    rig.guard.inbox.append(PlannerDied(7))
    rig.world.push(np.array([0.0, 250.0, 0.0]), 0.6)
    rig.run(0.6, until=S.LATCHED)
    assert "from its reference" in rig.guard.reason
    rig.run(2.0)
    there = rig.q
    assert np.abs(there - PANDA.home).max() > 0.5
    assert rig.speed < 0.01
    rig.plans, rig.make_plan = True, still(PANDA, there)
    rig.run(0.2)
    done, why = rig.ask(Event.ARM)
    assert done, why
    rig.run(0.5)
    assert rig.state is S.ACTIVE
    np.testing.assert_allclose(rig.q, there, atol=0.05)
    rig.clean()


def test_a_pendulum_too_weak_to_be_held_falls_and_is_armed_again() -> None:
    robot = registry.make("robots", "pendulum")
    rig = TorqueRig(robot)
    rig.make_plan = lambda t0, seq, stamp: still(robot, rig.q)(t0, seq, stamp)
    rig.armed().run(0.3)
    rig.plans = False
    rig.world.data.qpos[rig.world._q_at] = 1.8
    rig.run(7.0)
    assert rig.state is S.LATCHED
    assert rig.speed < 0.01
    assert abs(np.sin(rig.q[0])) < 0.5, "where its motor holds it"
    rig.plans = True
    rig.run(0.3)
    done, why = rig.ask(Event.ARM)
    assert done, why
    rig.clean()


def test_back_from_far_away_it_goes_slowly() -> None:
    rig = TorqueRig(tracking_bound=3.0).armed()
    rig.run(0.2)
    rig.plans = False
    rig.guard.inbox.append(PlannerDied(7))
    rig.tick()
    rig.world.data.qpos[rig.world._q_at] += np.array([1.0, 0.3, 0.5, 0.5, 0.0, 0.0, 0.0])
    rig.run(0.5)
    since = len(rig.seen)
    rig.run(2.5)
    speeds = np.abs([v for _, _, v in rig.seen[since:]])
    assert (speeds < 0.3 * PANDA.limits.velocity).all()
    np.testing.assert_allclose(rig.q, PANDA.home, atol=0.1)
    rig.clean()


@pytest.mark.parametrize(("joint", "torque"), [(0, 15.0), (0, 60.0), (3, 40.0), (4, -8.0), (5, 3.0), (5, -11.0)])
def test_a_plan_that_throws_the_arm_at_the_end_of_its_range_is_stopped_before(joint: int, torque: float) -> None:
    rig = TorqueRig(tracking_bound=3.0).armed()
    limits = PANDA.limits
    zero = np.zeros(7)
    u = np.tile(PANDA.inverse_dynamics(np, PANDA.home, zero, zero), (20, 1)) + np.eye(7)[joint] * torque

    def throw(t0: float, seq: int, stamp: float) -> Plan:
        q = np.tile(rig.q, (21, 1))
        return Plan(t0, 0.05, Mode.TORQUE, q, np.zeros((21, 7)), u, None, stamp, seq)

    rig.make_plan = throw
    rig.run(3.0, until=S.LATCHED)
    assert rig.outcomes[-1].status & Status.BARRIER
    assert "runs away" in rig.guard.reason
    rig.plans = False
    rig.run(1.5)
    q = np.array([q for _, q, _ in rig.seen])
    assert (q < limits.upper).all()
    assert (q > limits.lower).all()
    assert rig.speed < 0.25 * limits.velocity.max()
    rig.clean()


def test_less_than_was_wanted_is_told_and_counted() -> None:
    rig = TorqueRig().armed()
    rig.run(0.2)
    strong = still(PANDA, PANDA.home)
    rig.make_plan = lambda t0, seq, stamp: replace(strong(t0, seq, stamp), u=np.full((20, 7), 1e6))
    rig.run(0.1)
    assert any(out.status & Status.LIMITED for out in rig.outcomes[-5:])
    assert rig.guard.torques is not None
    assert rig.guard.torques.saturated >= 3
    rig.clean()


def test_torques_that_are_not_finite_are_not_sent() -> None:
    robot = replace(PANDA, inverse_dynamics=lambda xp, q, v, a: q * np.nan)
    rig = TorqueRig(robot)
    rig.make_plan = still(PANDA, PANDA.home)
    rig.armed().run(0.3)
    rig.plans = False
    rig.run(0.5)
    assert rig.judge.nonfinite == 0
    assert rig.outcomes[-1].command is None
    assert rig.state in (S.ESTOP, S.FAULT)
    assert "not finite" in rig.guard.reason


def wrong_plans():
    good = still(PANDA, PANDA.home)
    gains = np.zeros((20, 7, 14))

    def changed(**changes):
        return lambda t0, seq, stamp: replace(good(t0, seq, stamp), **changes)

    return {
        "mode velocity_reference": changed(mode=Mode.VELOCITY_REFERENCE),
        "wrong shape": changed(u=np.zeros((20, 3))),
        "wrong shape ": changed(K=gains[:, :, :7]),
        "not finite": changed(K=gains * np.nan),
        "not finite ": changed(u=np.full((20, 7), np.inf)),
    }


@pytest.mark.parametrize("reason", wrong_plans())
def test_a_plan_that_is_none_of_torques_is_refused(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbrl_control.core.SHAPE_CHECKS", False)
    rig = TorqueRig().armed()
    rig.make_plan = wrong_plans()[reason]
    rig.run(0.1)
    assert rig.guard.counts[f"plan refused: {reason.strip()}"] > 0
    rig.run(0.4, until=S.HOLD)
    rig.clean()


def test_gains_are_ignored_where_positions_are_sent() -> None:
    rigs = [Rig(), Rig()]
    rigs[1].make_plan = lambda t0, seq, stamp: replace(swing_plan(t0, seq, stamp), K=np.full((20, 7, 14), -50.0))
    for rig in rigs:
        rig.armed().run(1.0)
    for one, other in zip(rigs[0].outcomes, rigs[1].outcomes, strict=True):
        if one.command is not None and other.command is not None:
            np.testing.assert_array_equal(one.command.q, other.command.q)


def test_a_joint_without_a_motor_stands_against_nothing() -> None:
    """The pole swings; the cart is braked, held and armed all the same."""
    rig = TorqueRig("cartpole")
    zero = np.zeros((21, 2))

    def nothing(t0: float, seq: int, stamp: float) -> Plan:
        return Plan(t0, 0.05, Mode.TORQUE, zero + rig.q, zero, np.zeros((20, 1)), None, stamp, seq)

    rig.make_plan = nothing
    rig.world.data.qpos[rig.world._q_at[1]] = 2.0
    rig.armed()
    assert abs(rig.seen[-1][2][1]) > 1.0
    rig.make_plan = lambda t0, seq, stamp: replace(nothing(t0, seq, stamp), u=np.full((20, 1), 2.0))
    rig.run(0.8)
    assert rig.state is S.ACTIVE
    assert rig.seen[-1][2][0] > 0.3
    rig.plans = False
    rig.run(0.2, until=S.HOLD)
    rig.run(1.5)
    assert abs(rig.seen[-1][2][0]) < 0.1
    assert abs(rig.seen[-1][2][1]) > 0.5
    rig.clean()


def test_a_robot_that_cannot_be_held_is_refused_by_name() -> None:
    with pytest.raises(TorqueError, match="robot 'cheetah' with mode torque and no inverse_dynamics"):
        TorqueRig(replace(PANDA, name="cheetah", inverse_dynamics=None))
