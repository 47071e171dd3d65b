"""The guard's promises, one by one, on a fake clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig import HOME, JOINTS, LIMITS, Rig, plain, swing_plan

from mbrl_control.core import Mode, Plan, Status
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.safety import NEAR, EStop, PlanArrived, PlannerDied
from mbrl_control.runtime.states import Event, GuardState

S, E = GuardState, Event


def test_activation_reaches_ready_and_sends_nothing() -> None:
    rig = Rig()
    rig.ask(E.ACTIVATE)
    rig.run(1.0)
    assert rig.state is S.READY
    assert all(out.command is None for out in rig.outcomes)


def test_the_plan_is_followed_within_the_limits() -> None:
    rig = Rig().armed()
    rig.run(3.0)
    reference = rig.outcomes[-1].reference
    assert reference is not None
    t = reference.index * rig.guard.dt
    wanted = swing_plan(t, 0, t).q[0]
    np.testing.assert_allclose(reference.motion.q, wanted, atol=2e-4)
    rig.clean()


def test_every_command_carries_its_own_stop() -> None:
    rig = Rig().armed()
    rig.run(1.0)
    commands = [out.command for out in rig.outcomes if out.command is not None]
    assert len(commands) > 100
    for command, out in zip(commands[-80:], rig.outcomes[-80:], strict=True):
        np.testing.assert_array_equal(command.v[-1], 0.0)
        np.testing.assert_array_equal(command.a[-1], 0.0)
        assert out.reference is not None
        nominal = out.reference.index * rig.guard.dt - command.t[0]
        assert nominal <= 0.05 + 1e-9
        fastest = (np.abs(command.v[0]) / LIMITS.acceleration).max()
        assert command.t[-1] - command.t[0] <= nominal + 2.0 * fastest + 0.1


# --- States that cannot be used -----------------------------------------------------------------------


def test_silent_states_stop_the_arm_and_only_arm_goes_on() -> None:
    rig = Rig().armed()
    rig.states = False
    quiet = rig.now
    rig.run(1.0, until=S.LATCHED)
    assert rig.now - quiet <= rig.guard.state_timeout + 1.5 * rig.guard.dt
    assert "no joint state" in rig.guard.reason
    assert Status.STALE_STATE in rig.outcomes[-1].status
    rig.run(1.0)
    rig.states = True
    rig.run(2.0)
    assert rig.state is S.LATCHED
    assert rig.ask(E.ARM) == (True, "ACTIVE")
    rig.run(0.5)
    assert rig.state is S.ACTIVE
    rig.clean()


def test_frozen_stamps_are_silence() -> None:
    rig = Rig().armed()
    frozen = rig.now
    rig.make_reading = lambda r: replace(plain(r), stamp=frozen)
    rig.run(1.0, until=S.LATCHED)
    assert rig.now - frozen <= rig.guard.state_timeout + 1.5 * rig.guard.dt


def test_joint_order_changes_nothing() -> None:
    """Shuffled on every message, bit for bit the same commands."""
    rng = np.random.default_rng(3)
    rigs = [Rig(), Rig()]

    def shuffled(rig: Rig) -> Reading:
        rig.names = [JOINTS[i] for i in rng.permutation(7)] + ["finger_joint1"]
        order = [JOINTS.index(name) for name in rig.names[:7]]
        return Reading(list(rig.names), np.append(rig.arm[order], 0.04), np.zeros(8), rig.now, rig.mono)

    rigs[1].make_reading = shuffled
    for rig in rigs:
        rig.armed().run(2.0)
    for a, b in zip(rigs[0].outcomes, rigs[1].outcomes, strict=True):
        assert (a.command is None) == (b.command is None)
        if a.command is not None and b.command is not None:
            np.testing.assert_array_equal(a.command.q, b.command.q)
            np.testing.assert_array_equal(a.command.t, b.command.t)


BAD = {
    "wrong size": lambda r: replace(plain(r), q=r.arm[:5]),
    "not finite": lambda r: replace(plain(r), q=r.arm * np.nan),
    "no velocity": lambda r: replace(plain(r), v=[]),
    "out of order": lambda r: replace(plain(r), stamp=r.now - 10.0),
    "none of our joints": lambda r: replace(plain(r), names=[f"finger{i}" for i in range(7)]),
    "too many joints": lambda r: replace(plain(r), names=["x"] * 100_000),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_state_is_dropped_and_counted(reason: str) -> None:
    rig = Rig().armed()
    rig.make_reading = BAD[reason]
    rig.tick()
    rig.make_reading = plain
    rig.run(0.5)
    assert rig.guard.slot.drops == {reason: 1}
    assert rig.state is S.ACTIVE
    rig.clean()


@pytest.mark.parametrize("reason", ["wrong size", "not finite", "no velocity"])
def test_three_unusable_states_in_a_row_stop_the_arm(reason: str) -> None:
    rig = Rig().armed()
    rig.make_reading = BAD[reason]
    rig.run(3 * rig.guard.dt, until=S.LATCHED)
    assert reason in rig.guard.reason


@pytest.mark.parametrize("names", [[*JOINTS[:6], "other"], [*JOINTS[:6], JOINTS[0]]])
def test_a_joint_missing_or_doubled_is_a_fault_that_names_it(names: list[str]) -> None:
    rig = Rig().armed()
    rig.make_reading = lambda r: replace(plain(r), names=names)
    rig.run(1.0, until=S.FAULT)
    assert "joint7" in rig.guard.reason or "joint1" in rig.guard.reason
    rig.clean()


def test_an_arm_that_does_not_follow_is_stopped() -> None:
    rig = Rig().armed()
    jammed = rig.arm.copy() + np.eye(7)[2] * 0.4
    since = rig.now
    rig.make_reading = lambda r: replace(plain(r), q=jammed)
    rig.run(1.0, until=S.LATCHED)
    assert rig.now - since <= rig.guard.config.tracking_time + 3 * rig.guard.dt
    assert "joint3" in rig.guard.reason


# --- Plans that cannot be used ------------------------------------------------------------------------


def test_a_late_plan_is_used_on_then_hold_then_resume() -> None:
    rig = Rig().armed()
    rig.plans = False
    last = rig.guard._next_plan
    assert last is not None
    rig.run(1.0, until=S.HOLD)
    limit = min(3 * 0.05, 0.5 * last.horizon * last.dt)
    assert rig.now - last.t0 == pytest.approx(limit, abs=1.5 * rig.guard.dt)
    rig.run(0.5)
    assert rig.state is S.HOLD
    assert rig.outcomes[-1].reference is not None
    assert rig.outcomes[-1].reference.resting
    seq = rig.seq
    rig.plans = True
    rig.run(1.0, until=S.ACTIVE)
    assert rig.seq - seq == 3
    rig.run(1.0)
    assert rig.guard.holds == 1
    rig.clean()


def test_half_of_a_short_horizon_is_the_limit() -> None:
    rig = Rig()
    rig.make_plan = lambda t0, seq, stamp: swing_plan(t0, seq, stamp, horizon=4)
    rig.armed()
    rig.plans = False
    last = rig.guard._next_plan
    assert last is not None
    rig.run(1.0, until=S.HOLD)
    assert rig.now - last.t0 == pytest.approx(0.1, abs=1.5 * rig.guard.dt)


def test_a_dead_planner_is_a_hold_at_the_next_tick() -> None:
    rig = Rig().armed()
    rig.plans = False
    rig.guard.inbox.append(PlannerDied(rig.session))
    rig.tick()
    assert rig.state is S.HOLD
    assert "gone" in rig.guard.reason
    rig.session, rig.seq, rig.plans = 8, 0, True
    rig.run(1.0, until=S.ACTIVE)
    rig.clean()


def test_the_death_of_an_earlier_planner_means_nothing() -> None:
    rig = Rig().armed()
    rig.guard.inbox.append(PlannerDied(rig.session - 1))
    rig.run(0.3)
    assert rig.state is S.ACTIVE


def bad_plans() -> dict[str, object]:
    def changed(**changes: object):
        return lambda t0, seq, stamp: replace(swing_plan(t0, seq, stamp), **changes)

    good = swing_plan(0.0, 0, 0.0)
    return {
        "not finite": changed(q=good.q * np.nan),
        "mode torque": changed(mode=Mode.TORQUE),
        "wrong shape": lambda t0, seq, stamp: replace(swing_plan(t0, seq, stamp), q=good.q[:, :6], v=good.v[:, :6]),
        "not of this time": lambda t0, seq, stamp: swing_plan(t0 + 100.0, seq, stamp),
        "planned from an old state": lambda t0, seq, stamp: swing_plan(t0, seq, stamp - 1.0),
        "outside the joints' ranges": changed(q=good.q + 10.0),
        "far from the reference": changed(q=good.q + np.eye(7)[6] * 0.9),
        "out of order": lambda t0, seq, stamp: swing_plan(t0, 1, stamp),
    }


@pytest.mark.parametrize("reason", bad_plans())
def test_a_bad_plan_is_refused_whole_and_three_stop_the_arm(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbrl_control.core.SHAPE_CHECKS", False)
    rig = Rig().armed()
    good, rig.make_plan = rig.make_plan, bad_plans()[reason]  # type: ignore[assignment]
    rig.run(0.05)
    assert rig.guard.counts[f"plan refused: {reason}"] == 1
    rig.make_plan = good
    rig.run(0.3)
    assert rig.state is S.ACTIVE
    rig.make_plan = bad_plans()[reason]  # type: ignore[assignment]
    rig.run(0.25, until=S.HOLD)
    rig.run(0.5)
    rig.clean()


def test_a_second_planner_is_not_listened_to() -> None:
    rig = Rig().armed()
    foreign = swing_plan(rig.now + 0.05, 10_000, rig.now)
    rig.guard.inbox.append(PlanArrived(replace(foreign, q=foreign.q + 0.2), 99, 0.05))
    rig.run(0.2)
    assert rig.guard.counts["plan refused: a second planner"] == 1
    assert rig.state is S.ACTIVE
    rig.clean()


# --- Emergencies --------------------------------------------------------------------------------------


def test_estop_stops_and_stays_a_fault_until_reset_and_arm() -> None:
    rig = Rig().armed()
    rig.run(0.3)
    rig.guard.inbox.append(EStop(True))
    before = rig.outcomes[-1].reference
    rig.tick()
    assert rig.state is S.ESTOP
    assert rig.outcomes[-1].command is not None
    rig.run(1.0, until=S.FAULT)
    assert before is not None
    moved = np.abs(rig.arm - before.motion.q).max()
    assert moved < 0.1
    assert rig.ask(E.ARM)[0] is False
    assert rig.ask(E.RESET) == (False, "the e-stop is still pressed")
    rig.guard.inbox.append(EStop(False))
    rig.run(0.5)
    assert rig.state is S.FAULT
    assert rig.ask(E.RESET)[0]
    rig.run(0.5)
    assert rig.state is S.READY
    assert rig.ask(E.ARM)[0]
    rig.run(0.5)
    rig.clean()


def test_deactivation_in_motion_brakes_first() -> None:
    rig = Rig().armed()
    rig.run(0.2)
    rig.ask(E.DEACTIVATE)
    assert rig.state is S.STOPPING
    rig.run(1.0, until=S.READY)
    rig.clean()


# --- Time ---------------------------------------------------------------------------------------------


def test_a_gap_of_our_own_is_a_hold_without_a_jump() -> None:
    rig = Rig().armed()
    rig.run(0.25)
    rig.tick(gap=0.3)
    assert rig.state is S.LATCHED
    assert "not run" in rig.guard.reason
    rig.run(0.5)
    rig.clean()


def test_a_tick_that_is_late_within_the_lead_changes_nothing() -> None:
    on_time, late = Rig().armed(), Rig().armed()
    for _ in range(40):
        late.tick(gap=0.02)
    on_time.run(late.now - on_time.now)
    assert late.state is S.ACTIVE
    late.clean()


def test_time_set_back_sends_nothing_more_until_armed_again() -> None:
    rig = Rig().armed()
    rig.now = 0.0
    rig._step = 0
    rig.seq = 0
    rig.judge.forget()
    out = rig.tick()
    assert out.state is S.LATCHED
    assert out.command is None
    rig.run(1.0)
    assert rig.state is S.LATCHED
    assert rig.ask(E.ARM)[0]


def test_a_forward_jump_of_an_hour_is_over_at_once() -> None:
    rig = Rig().armed()
    rig.tick(gap=3600.0)
    assert rig.state is S.LATCHED


def test_a_standing_clock_moves_nothing() -> None:
    rig = Rig().armed()
    first = rig.outcomes[-1].command
    for _ in range(5):
        rig.mono += 0.01
        out = rig.guard.tick(rig.now, rig.mono)
    assert first is not None
    assert out.command is not None
    np.testing.assert_array_equal(out.command.q, first.q)


# --- Arming -------------------------------------------------------------------------------------------


def refusal(rig: Rig) -> str:
    done, why = rig.ask(E.ARM)
    assert not done
    return why


def test_arming_is_refused_in_words() -> None:
    rig = Rig()
    assert "cannot arm in INACTIVE" in refusal(rig)
    rig.ask(E.ACTIVATE)
    rig.plans = False
    rig.run(0.2)
    assert "0 of 3 good plans" in refusal(rig)
    rig.plans = True
    rig.run(0.3)
    rig.make_reading = lambda r: replace(plain(r), v=np.full(7, 0.2))
    rig.tick()
    assert "moves at 0.20 rad/s" in refusal(rig)
    rig.make_reading = lambda r: replace(plain(r), stamp=r.now + 5.0)
    rig.tick()
    assert "clock skew" in refusal(rig)
    rig.states = False
    rig.run(0.3)
    assert "no fresh joint state" in refusal(rig)


@pytest.mark.parametrize(
    ("ticks", "timeout", "says"),
    [
        (8, 0.5, "joint states come 12.5 times a second; at least 20 to arm"),
        (6, 0.5, "joint states come 16.7 times a second; at least 20 to arm"),
        (5, 0.5, None),
        (4, 0.02, "joint states come 25.0 times a second; at least 50 to arm"),
        (2, 0.02, None),
    ],
)
def test_states_too_seldom_to_arm_on(ticks: int, timeout: float, says: str | None) -> None:
    rig = Rig(state_timeout=timeout)
    rig.ask(E.ACTIVATE)
    for k in range(120 // ticks * ticks + 1):
        rig.states = k % ticks == 0
        rig.tick()
    rig.states = False
    done, why = rig.ask(E.ARM)
    assert (done, why if says is None else why.removeprefix("refused: ")) == (says is None, says or "ACTIVE")


def test_states_too_seldom_in_motion_stop_the_arm() -> None:
    """One in 0.12 s: in between they are older than the timeout of either promise class."""
    rig = Rig().armed()
    for k in range(36):
        rig.states = k % 12 == 0
        rig.tick()
    assert rig.state is S.LATCHED
    assert "no joint state for 0.1" in rig.guard.reason
    assert "refused: no fresh joint state" in refusal(rig)
    rig.clean()


def test_arming_outside_the_range_is_refused_beyond_a_little() -> None:
    rig = Rig(start=np.where(np.arange(7) == 3, LIMITS.upper + 0.2, HOME))
    rig.make_plan = lambda t0, seq, stamp: swing_plan(t0, seq, stamp)
    rig.ask(E.ACTIVATE)
    rig.run(0.3)
    assert "joint4 lies 0.2" in refusal(rig)


def test_from_a_little_outside_the_range_motion_is_inwards_only() -> None:
    start = HOME.copy()
    start[3] = LIMITS.upper[3] + 0.05

    def outwards(t0: float, seq: int, stamp: float) -> Plan:
        q = np.tile(start, (21, 1))
        q[:, 3] += np.linspace(0.0, 0.3, 21)
        return Plan(t0, 0.05, Mode.VELOCITY_REFERENCE, q, np.gradient(q, 0.05, axis=0), q[1:] * 0, None, stamp, seq)

    rig = Rig(start=start)
    rig.make_plan = outwards
    rig.armed().run(1.0)
    assert rig.arm[3] <= start[3] + 1e-9
    rig.make_plan = lambda t0, seq, stamp: replace(
        swing_plan(t0, seq, stamp), q=np.tile(start - np.eye(7)[3] * 0.3, (21, 1))
    )
    rig.run(2.0)
    assert rig.arm[3] < LIMITS.upper[3]
    rig.clean()


def test_arming_after_a_stop_moves_nothing() -> None:
    rig = Rig().armed()
    rig.run(0.3)
    rig.guard.inbox.append(EStop(True))
    rig.run(1.0, until=S.FAULT)
    held = rig.arm.copy()
    rig.guard.inbox.append(EStop(False))
    rig.make_reading = lambda r: replace(plain(r), q=r.arm + 0.01)  # the arm sags a little below its reference
    rig.ask(E.RESET)
    still = replace(swing_plan(0.0, 0, 0.0), q=np.tile(held, (21, 1)), v=np.zeros((21, 7)))
    rig.make_plan = lambda t0, seq, stamp: replace(still, t0=t0, seq=seq, state_stamp=stamp)
    rig.run(0.5)
    assert rig.ask(E.ARM)[0]
    rig.run(0.5)
    np.testing.assert_allclose(rig.arm, held, atol=1e-6)
    rig.clean()


def test_an_arm_moved_away_since_the_stop_is_not_armed() -> None:
    rig = Rig().armed()
    rig.guard.inbox.append(EStop(True))
    rig.run(1.0, until=S.FAULT)
    rig.guard.inbox.append(EStop(False))
    rig.ask(E.RESET)
    rig.make_reading = lambda r: replace(plain(r), q=r.arm + np.eye(7)[1] * (NEAR + 0.05))
    rig.run(0.3)
    assert "joint2 is 0.15 rad from where it was left" in refusal(rig)


@pytest.mark.parametrize("speed", [0.1, 0.5])
def test_speed_scales_the_velocities(speed: float) -> None:
    rig = Rig(speed=speed)
    rig.make_plan = lambda t0, seq, stamp: swing_plan(t0, seq, stamp, amplitude=2.0)
    rig.guard.config = replace(rig.guard.config, plan_jump=3.0, tracking_bound=3.0)
    rig.armed().run(3.0)
    rig.judge.finish()
    assert rig.judge.violations == {}, rig.judge.examples
    assert rig.judge.worst["v"] > 0.9


@pytest.mark.parametrize("rate", [50.0, 333.0, 500.0])
def test_other_rates(rate: float) -> None:
    rig = Rig(rate=rate).armed()
    rig.run(2.0)
    rig.clean()
    assert rig.state is S.ACTIVE


@pytest.mark.parametrize("after", [0.035, 0.08])
def test_a_command_that_is_ready_too_late_is_not_sent(after: float) -> None:
    """Not let run between the tick and the sending: the arm has begun its stop, and must not be pulled out of it."""
    rig = Rig().armed()
    rig.sends_after = after
    rig.tick()
    rig.sends_after = 0.0
    rig.tick(gap=after)
    assert rig.state is S.LATCHED
    assert rig.guard.reason == f"the guard itself was not run for {after + 0.01:.3f} s"
    rig.run(1.0)
    assert rig.ask(E.ARM)[0]
    rig.run(0.5)
    rig.clean()


def test_a_command_that_is_late_and_in_time_is_sent() -> None:
    rig = Rig().armed()
    rig.sends_after = 0.015
    rig.run(0.5)
    assert rig.state is S.ACTIVE
    rig.clean()


def test_a_stop_that_is_ready_too_late_is_made_at_the_next_tick() -> None:
    """The first command of a stop differs from the one before after two ticks already."""
    rig = Rig().armed()
    rig.sends_after = 0.015
    rig.guard.inbox.append(EStop(True))
    unsent = rig.tick()
    assert unsent.state is S.ESTOP
    assert unsent.deadline < rig.now + rig.sends_after
    rig.sends_after = 0.0
    rig.run(2.0, until=S.FAULT)
    rig.clean()
