"""What sinks that take one number a joint are sent, tick by tick, and a judge of it. No ROS.

Such a sink has no stop to play: it goes on with the last numbers it got. A position sink is sent the reference at
each tick, and holds. A velocity sink is sent the velocity that leads to the reference of the next tick, and a small
part that works off where the arm deviates:

    v = (q_ref[k + 1] - q_ref[k]) / dt + clip(GAIN (q_ref(t) - q(t)), -SHARE v_max, SHARE v_max),   |v| <= v_max,

q(t) being the newest measured position and t its time, so that the age of states adds no error of its own. Without
the second part whatever the arm misses would stay missed. The deviation e follows e' = -GAIN e(t - T), T the delay
round the loop: it dies out without overshoot while GAIN T < 1/e, which is T < 0.18 s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from mbrl_control.core import Command, Limits

GAIN = 2.0
"""How a deviation is worked off under velocities [1/s]..."""
SHARE = 0.1
"""... and the share of the joints' velocity limits that this may take."""
ORDERS = ("position", "velocity", "acceleration", "jerk")
ROOM = 1e-6
"""Share by which a limit may be passed before it counts: rounding, nothing else."""


def position(command: Command) -> Annotated[np.ndarray, "nj"]:
    """The reference at the tick at which ``command`` is sent."""
    return command.q[0]


def velocity(
    command: Command, t: float, error: np.ndarray | None, limit: Annotated[np.ndarray, "nj"]
) -> Annotated[np.ndarray, "nj"]:
    """The velocity from tick ``t`` to the next; ``error`` is reference minus measured position, None where unknown."""
    v = np.zeros_like(command.q[0])
    if len(command.t) > 1 and command.t[0] <= t + 1e-9:
        v = (command.q[1] - command.q[0]) / (command.t[1] - command.t[0])
    if error is not None:
        v = v + np.clip(GAIN * error, -SHARE * limit, SHARE * limit)
    return np.clip(v, -limit, limit)


@dataclass
class SampleJudge:
    """Judges what came one sample a tick; shares no code with the reference filter.

    Positions are judged by their divided differences: a motion within the limits of velocity, acceleration and jerk
    has them within those limits as well (each is a derivative somewhere between the samples), so nothing that is
    right is found wrong. Where ticks are missing the sink has held meanwhile: there only the step itself is judged,
    as a velocity over the time it took. Of velocities the limit of velocity is judged, no more.
    """

    limits: Limits
    dt: float
    kind: str = "position"
    violations: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=lambda: {"q": -np.inf, "v": 0.0, "a": 0.0, "j": 0.0})
    nonfinite: int = 0
    commands: int = 0
    examples: list[str] = field(default_factory=list)
    _run: list[np.ndarray] = field(default_factory=list)
    """The newest samples of ticks in a row, at most four."""
    _tick: int = 0
    _lower: np.ndarray | None = None
    _upper: np.ndarray | None = None

    def see(self, tick: int, sample: Annotated[np.ndarray, "nj"]) -> None:
        """The sample of a tick; later ticks come later."""
        self.commands += 1
        if not np.isfinite(sample).all():
            self.nonfinite += 1
        elif self.kind == "velocity":
            self._rate(1, np.abs(sample) / self.limits.velocity, tick)
        elif not self._run or tick > self._tick:
            self._place(tick, sample)
        elif np.any(sample != self._run[-1]):
            self._note(f"another sample of tick {tick}")

    def _place(self, tick: int, q: np.ndarray) -> None:
        if self._lower is None or self._upper is None:  # where the arm was found
            self._lower, self._upper = np.minimum(self.limits.lower, q), np.maximum(self.limits.upper, q)
        outside = np.maximum(self._lower - q, q - self._upper)
        self.worst["q"] = max(self.worst["q"], float(np.maximum(self.limits.lower - q, q - self.limits.upper).max()))
        self._check(0, outside - ROOM, tick)
        # From outside the range only inwards: what has been regained is kept.
        self._lower = np.minimum(self.limits.lower, np.maximum(self._lower, q))
        self._upper = np.maximum(self.limits.upper, np.minimum(self._upper, q))
        missing = tick - self._tick - 1
        if self._run and missing > 0:
            self._rate(1, np.abs(q - self._run[-1]) / (self.limits.velocity * self.dt * (missing + 1)), tick)
            self._run = []
        self._run = [*self._run[-3:], q]
        self._tick = tick
        bounds = (self.limits.velocity, self.limits.acceleration, self.limits.jerk)
        for order, bound in enumerate(bounds[: len(self._run) - 1], start=1):
            difference = np.diff(self._run[-1 - order :], order, axis=0)[0]
            self._rate(order, np.abs(difference) / (bound * self.dt**order), tick)

    def skip(self) -> None:
        """Samples were sent that nobody saw: they count as ticks without one."""

    def finish(self) -> None:
        """Nothing follows the last sample: it is held."""

    def forget(self) -> None:
        """The sink was reset, as a simulation is: what was sent before does not count any more."""
        self._run, self._lower, self._upper = [], None, None

    def _rate(self, order: int, share: np.ndarray, tick: int) -> None:
        name = ORDERS[order][0]
        self.worst[name] = max(self.worst[name], float(share.max()))
        self._check(order, share - 1.0 - ROOM, tick)

    def _check(self, order: int, excess: np.ndarray, tick: int) -> None:
        if (excess > 0.0).any():
            joint = int(excess.argmax())
            self._note(f"{ORDERS[order]} of joint {joint + 1}", f" at tick {tick} by {float(excess[joint]):.3g}")

    def _note(self, what: str, more: str = "") -> None:
        self.violations[what] += 1
        if len(self.examples) < 20:
            self.examples.append(what + more)
