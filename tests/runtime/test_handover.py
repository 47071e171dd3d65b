"""From plan to plan on the guard's ticks: how old the state behind a command is, what came late, what never came."""

from __future__ import annotations

import pytest
from rig import Rig, swing_plan

from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.handover import Handover
from mbrl_control.runtime.safety import PlanArrived
from mbrl_control.runtime.states import GuardState

DT, PERIOD = 0.01, 0.05


def test_a_plan_counts_once_when_it_is_first_followed() -> None:
    seen = Handover(DT)
    for i in range(25):
        seen.begin(followed=True)
        seq = i // 5
        seen.see(0.03 + i * DT, swing_plan(0.03 + seq * PERIOD, seq, seq * PERIOD - 0.02), 7, PERIOD)
    assert (seen.latency.count, seen.late, seen.missed) == (4, 0, 0)
    assert seen.latency.percentile(50) == [pytest.approx(0.05, rel=0.02)]


@pytest.mark.parametrize(("behind", "late"), [(0.0, 0), (0.009, 0), (0.016, 1), (0.1, 1)])
def test_a_plan_is_late_a_tick_behind_its_start(behind: float, late: int) -> None:
    seen = Handover(DT)
    seen.begin(followed=True)
    seen.see(0.95, swing_plan(0.5, 0, 0.5), 7, PERIOD)
    assert seen.late == 0, "the first one takes over from none"
    seen.see(1.0, swing_plan(1.0 - behind, 1, 0.9), 7, PERIOD)
    assert seen.late == late


@pytest.mark.parametrize(("ticks", "missed"), [(5, 0), (10, 0), (11, 0), (12, 1), (16, 1), (17, 2)])
def test_a_plan_that_goes_on_for_two_periods_had_no_successor(ticks: int, missed: int) -> None:
    seen = Handover(DT)
    for i in range(ticks):
        seen.begin(followed=True)
        seen.see(i * DT, swing_plan(0.0, 1, 0.0), 7, PERIOD)
    assert seen.missed == missed


def test_while_nothing_is_followed_nothing_is_missed() -> None:
    seen = Handover(DT)
    seen.begin(followed=True)
    seen.see(0.0, swing_plan(0.0, 1, 0.0), 7, PERIOD)
    seen.begin(followed=False)
    seen.begin(followed=True)
    seen.see(3.0, swing_plan(2.9, 2, 2.9), 7, PERIOD)
    assert (seen.latency.count, seen.missed) == (0, 0)


def test_what_was_not_sent_has_not_taken_over() -> None:
    seen = Handover(DT)
    plan = swing_plan(0.0, 1, 0.0)
    seen.see(0.02, swing_plan(0.0, 0, 0.0), 7, PERIOD)
    seen.begin(followed=True)
    seen.see(0.03, plan, 7, PERIOD)
    seen.undo()
    seen.begin(followed=True)
    seen.see(0.04, plan, 7, PERIOD)
    assert seen.latency.worst == pytest.approx(0.04)


def test_the_guard_measures_from_the_state_to_the_command() -> None:
    """Planned from a state 5 ms old, sent 20 ms later: followed from the first tick that was not committed then."""
    rig = Rig().armed()
    rig.run(1.0)
    rig.plans = False
    before = rig.guard.handover.latency.count
    stamp, sent = rig.now - 0.025, rig.now
    rig.guard.inbox.append(PlanArrived(swing_plan(sent, rig.seq + 100, stamp), rig.session, PERIOD))
    rig.tick()
    handover = rig.guard.handover
    assert handover.latency.count == before + 1
    first = rig.outcomes[-1].reference
    assert first is not None
    worst = first.index * rig.guard.dt - stamp
    assert worst == pytest.approx(0.025 + rig.guard.dt + rig.guard.lead * rig.guard.dt)


def test_a_planner_that_pauses_is_a_hand_over_missed_and_a_dead_one_is_a_hold() -> None:
    rig = Rig().armed()
    rig.run(2.0)
    handover = rig.guard.handover
    assert handover.latency.count >= 40
    assert (handover.late, handover.missed) == (0, 0)
    assert handover.latency.percentile(99)[0] < 0.06, "the rig's plans begin 50 ms after their state"
    rig.plans = False
    rig.run(0.1)
    rig.plans = True
    rig.run(0.2)
    assert rig.state is GuardState.ACTIVE
    assert handover.missed == 1
    rig.plans = False
    rig.run(2.0)
    assert rig.state is GuardState.HOLD
    assert handover.missed <= 4, "what is not followed is not counted"


def test_the_age_of_states_that_stand_still_shows() -> None:
    """States that come late make commands that come late: the latency is that of the state, not of the planner."""
    rig = Rig()
    rig.make_reading = lambda r: Reading(r.names, r.arm, r.arm * 0.0, r.now, r.mono)
    rig.make_plan = lambda t0, seq, stamp: swing_plan(t0, seq, stamp - 0.03)
    rig.armed().run(1.0)
    assert rig.guard.handover.latency.percentile(50)[0] == pytest.approx(0.08, rel=0.03)


@pytest.mark.parametrize("spent", [0.001, 0.004, 0.013, 0.02])
@pytest.mark.parametrize(("short", "late"), [(0.0, 0.0), (0.025, 1.0)])
def test_a_lead_of_what_passes_and_the_guards_own_is_in_time(spent: float, short: float, late: float) -> None:
    """Plans that take so long, looked at between two ticks; begun earlier, each would begin without the arm."""
    rig = Rig().armed()
    rig.plans = False
    handover, dt, seq = rig.guard.handover, rig.guard.dt, 100
    before, were_late, on_the_way = handover.latency.count, handover.late, []
    lead = spent + rig.guard.lead * dt + dt - short
    for step in range(200):
        looked = rig.now + 0.0031
        if step % 5 == 0:
            seq += 1
            on_the_way.append((looked + spent, swing_plan(looked + lead, seq, looked)))
        while on_the_way and on_the_way[0][0] <= rig.now + dt:
            rig.guard.inbox.append(PlanArrived(on_the_way.pop(0)[1], rig.session, PERIOD))
        rig.tick()
    made = handover.latency.count - before
    assert made >= 38
    assert handover.late - were_late >= late * (made - 1)
    assert handover.late - were_late <= late * made
    assert handover.missed == 0
    assert rig.guard.holds == 0
    assert handover.latency.percentile(50)[0] <= spent + (rig.guard.lead + 2) * dt
    rig.clean()
