"""What people are shown of the guard: its newest figures, some 20 times a second, put together beside its tick.

A viewer that listened to the joint states itself would cost the guard's machine as much as the guard; this is one
small message for whoever looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mbrl_control.runtime.loop import Loop
from mbrl_control.runtime.safety import Guard
from mbrl_control.runtime.states import GuardState


@dataclass(frozen=True, slots=True)
class Digest:
    """The guard at one moment."""

    t: float
    """On the ROS clock [s]."""
    state: GuardState
    state_age: float
    """Since the newest joint state was received [s]; infinite before the first one."""
    ticks: int
    missed: int
    """Ticks that were not made at all."""
    holds: int
    late_p50: float
    """Lateness of the tick [s]: median, 99th percentile and worst since the start."""
    late_p99: float
    late_worst: float
    latency_p50: float
    """From the state that a plan was made from to the first command that follows it [s]: median, 99th percentile."""
    latency_p99: float
    not_handed_over: int
    """Plans that did not take over from the one before when they should have."""
    q: Annotated[np.ndarray, "nj"]
    """Measured joint positions; NaN before the first joint state."""
    v: Annotated[np.ndarray, "nj"]
    reference: Annotated[np.ndarray, "nj"]
    """Where the arm is asked to be; NaN while nothing is commanded."""


def of(guard: Guard, loop: Loop, reference: np.ndarray | None, now: float, mono: float) -> Digest:
    """The guard's figures at time ``now`` of the ROS clock and ``mono`` of the monotonic one; from any thread."""
    p50, p99 = loop.late.percentile(50, 99)
    latency50, latency99 = guard.handover.latency.percentile(50, 99)
    unknown = np.full(len(guard.slot.map.joints), np.nan)
    state = guard.slot.state
    return Digest(
        t=now,
        state=guard.state,
        state_age=mono - guard.slot.received,
        ticks=loop.ticks,
        missed=loop.overruns,
        holds=guard.holds,
        late_p50=p50,
        late_p99=p99,
        late_worst=loop.late.worst,
        latency_p50=latency50,
        latency_p99=latency99,
        not_handed_over=guard.handover.missed,
        q=unknown if state is None else state.q,
        v=unknown if state is None else state.v,
        reference=unknown if reference is None else reference,
    )
