"""The guard's states, as a table: what changes them; every other event changes nothing.

Published names are fewer than the states in here: ``HOLD`` is one that ends by itself (``HOLD``) or one that
waits for ``~/arm`` (``LATCHED``), and ``STOPPING`` ends in READY (``STOPPING``) or in FAULT (``ESTOP``).
"""

from __future__ import annotations

import enum


class GuardState(enum.Enum):
    """Where the guard is. The value is what is published."""

    INACTIVE = ("INACTIVE", "not activated")
    READY = ("READY", "waiting for ~/arm")
    ACTIVE = ("ACTIVE", "following plans")
    HOLD = ("HOLD", "goes on by itself after good plans")
    LATCHED = ("HOLD", "goes on after ~/arm")
    STOPPING = ("STOPPING", "ends in READY")
    ESTOP = ("STOPPING", "ends in FAULT")
    FAULT = ("FAULT", "waiting for ~/reset")

    @property
    def shown(self) -> str:
        return self.value[0]

    @property
    def moving(self) -> bool:
        """Whether the guard publishes commands in this state."""
        return self in MOVING


class Event(enum.Enum):
    """What can happen to the guard."""

    ACTIVATE = "lifecycle activate"
    DEACTIVATE = "lifecycle deactivate, or the process is asked to end"
    ARM = "~/arm, all checks passed"
    RESET = "~/reset, e-stop released"
    ESTOP = "~/estop or ~/stop"
    BROKEN = "something that must not go on: a joint missing, an error of our own"
    PLAN_LOST = "no usable plan: late, refused three times, or its planner is dead"
    PLAN_BACK = "three good plans in a row"
    STATE_LOST = "no usable state: stale, tracking error, time jump, own gap"
    AT_REST = "the stop has come to its end"


S, E = GuardState, Event
MOVING = frozenset({S.ACTIVE, S.HOLD, S.LATCHED, S.STOPPING, S.ESTOP})
_STOPPED = {E.DEACTIVATE: S.STOPPING, E.ESTOP: S.ESTOP, E.BROKEN: S.ESTOP}
CHANGES: dict[GuardState, dict[Event, GuardState]] = {
    S.INACTIVE: {E.ACTIVATE: S.READY, E.ESTOP: S.FAULT, E.BROKEN: S.FAULT},
    S.READY: {E.ARM: S.ACTIVE, E.DEACTIVATE: S.INACTIVE, E.ESTOP: S.FAULT, E.BROKEN: S.FAULT},
    S.ACTIVE: {E.PLAN_LOST: S.HOLD, E.STATE_LOST: S.LATCHED, **_STOPPED},
    S.HOLD: {E.PLAN_BACK: S.ACTIVE, E.STATE_LOST: S.LATCHED, **_STOPPED},
    S.LATCHED: {E.ARM: S.ACTIVE, **_STOPPED},
    S.STOPPING: {E.AT_REST: S.READY, E.ESTOP: S.ESTOP, E.BROKEN: S.ESTOP},
    S.ESTOP: {E.AT_REST: S.FAULT},
    S.FAULT: {E.RESET: S.READY},
}
TABLE = {(state, event): CHANGES[state].get(event, state) for state in GuardState for event in Event}


def after(state: GuardState, event: Event) -> GuardState:
    """Where ``event`` leads from ``state``; an event that means nothing there changes nothing."""
    return TABLE[state, event]
