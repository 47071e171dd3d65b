"""An independent judge of torques: were the limits kept on what the motors were really asked for?

Reads the torques tick by tick, as they went over the wire; shares no code with what makes them. Two torques are judged
by their difference over the ticks between them, as long as the other side has not taken over meanwhile.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from mbrl_control.core import Limits

ROOM = 1e-6
"""Share by which a limit may be passed before it counts: rounding, nothing else."""
TAKEN_OVER = 0.1
"""After so long without torques [s] whoever takes them brakes by himself: nobody knows with which."""


@dataclass
class TorqueJudge:
    """Feed it the torques of every tick in order; as ``SampleJudge`` otherwise."""

    limits: Limits
    dt: float
    violations: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=lambda: {"torque": 0.0, "torque rate": 0.0})
    nonfinite: int = 0
    commands: int = 0
    examples: list[str] = field(default_factory=list)
    _last: tuple[int, np.ndarray] | None = None

    def see(self, tick: int, sample: Annotated[np.ndarray, "nj"]) -> None:
        """The torques of a tick; later ticks come later."""
        self.commands += 1
        if not np.isfinite(sample).all():
            self.nonfinite += 1
            return
        self._check("torque", np.abs(sample), self.limits.torque, tick)
        if self._last is not None and self.limits.torque_rate is not None:
            passed = max(tick - self._last[0], 1) * self.dt
            if passed <= TAKEN_OVER:
                step = np.abs(sample - self._last[1])
                self._check("torque rate", step, self.limits.torque_rate * passed, tick)
        self._last = tick, sample

    def skip(self) -> None:
        """Torques were sent that nobody saw: they count as ticks without one."""

    def finish(self) -> None:
        """Nothing follows the last torques."""

    def forget(self) -> None:
        """The sink was reset, as a simulation is: what was sent before does not count any more."""
        self._last = None

    def _check(self, what: str, size: np.ndarray, limit: np.ndarray, tick: int) -> None:
        motors = limit > 0.0
        self.worst[what] = max(self.worst[what], float((size[motors] / limit[motors]).max()))
        excess = size - limit * (1.0 + ROOM)
        if (excess > 0.0).any():
            joint = int(excess.argmax())
            name = f"{what} of joint {joint + 1}"
            self.violations[name] += 1
            if len(self.examples) < 20:
                self.examples.append(f"{name} at tick {tick} by {float(excess[joint]):.3g}")
