"""The digest is what the guard and its loop are, whatever they are."""

from __future__ import annotations

import numpy as np
from rig import JOINTS, LIMITS, Rig

from mbrl_control.runtime import digest
from mbrl_control.runtime.loop import Loop, WallPacer
from mbrl_control.runtime.safety import Guard, GuardConfig
from mbrl_control.runtime.states import GuardState


def loop() -> Loop:
    made = Loop(WallPacer(), 0.01, lambda _: None)
    for late in (1e-4, 2e-4, 5e-3):
        made.late.add(late)
    made.ticks, made.overruns = 3, 2
    return made


def test_before_anything_came_nothing_is_known() -> None:
    guard = Guard(GuardConfig(), JOINTS, LIMITS, 0.1)
    found = digest.of(guard, loop(), None, 5.0, 1000.0)
    assert (found.t, found.state) == (5.0, GuardState.INACTIVE)
    assert found.state_age == np.inf
    assert np.isnan([found.q, found.v, found.reference]).all()


def test_an_armed_guard_is_told_as_it_is() -> None:
    rig = Rig().armed()
    out = rig.run(0.2)
    assert out.command is not None
    found = digest.of(rig.guard, loop(), out.command.q[0], rig.now, rig.mono + 0.003)
    assert found.state is GuardState.ACTIVE
    assert abs(found.state_age - 0.003) < 1e-9
    np.testing.assert_array_equal(found.q, rig.guard.slot.state.q)
    np.testing.assert_array_equal(found.reference, out.command.q[0])
    assert np.abs(found.reference - found.q).max() < 0.05
    assert (found.ticks, found.missed, found.holds) == (3, 2, 0)
    assert 0.0 < found.late_p50 < found.late_p99 <= found.late_worst == 5e-3


def test_silence_grows_older_and_a_hold_is_counted() -> None:
    rig = Rig().armed()
    rig.states = False
    rig.run(0.5)
    found = digest.of(rig.guard, loop(), None, rig.now, rig.mono)
    assert found.state is GuardState.LATCHED
    assert found.state_age > 0.45
    assert found.holds == 1
