"""Where an arm that is commanded by torques will be when a plan begins: its model, under the plans that were sent.

The joints were measured a while ago, and a plan begins a while from now. In between the plan in force goes on, and it
is followed with its gains. A model has one control for a whole step; here the control changes with the plans' knots, so
that it is stepped from each change to the next, and of a step of which less is needed the joints within it are those
of a cubic through its ends. What gains add is taken at the beginning of each of these, as they were made for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mbrl_control.core import Dynamics, Observation, State
from mbrl_control.runtime.commanded import SLACK, Commanded


def foreseen(
    dynamics: Dynamics, observed: Callable[[State], Observation], commanded: Commanded, state: State, t: float
) -> State:
    """The joints at time ``t``, from ``state`` on; ``observed`` gives what the model begins with at a state."""
    least, most = dynamics.bounds()
    while state.t < t - SLACK:
        until = min(t, commanded.next_change(state.t), state.t + dynamics.dt)
        u = np.clip(commanded.around(state), least, most)
        _, after, _ = dynamics.step(dynamics.init(observed(state), {}), u, {})
        state = _within(state, np.asarray(after["q"]), np.asarray(after["v"]), until, dynamics.dt)
    return state


def _within(state: State, q: np.ndarray, v: np.ndarray, t: float, dt: float) -> State:
    """The joints at time ``t`` of a step that leads from ``state`` to (q, v) in ``dt``."""
    x = min((t - state.t) / dt, 1.0)
    m0, m1, rise = state.v * dt, v * dt, q - state.q
    c2, c3 = 3.0 * rise - 2.0 * m0 - m1, m0 + m1 - 2.0 * rise
    here = state.q + x * (m0 + x * (c2 + x * c3))
    return State(t, here, (m0 + x * (2.0 * c2 + 3.0 * x * c3)) / dt)
