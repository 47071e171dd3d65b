"""What the demonstration starts, asks for and when: goals in a row, pushes, whether they came off. No ROS, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from mbrl_control.config import param
from mbrl_control.runtime.judge import Dwell
from mbrl_control.runtime.processes import ParameterFile, ProcessSpec
from mbrl_control.wiring import unwired

SLOT = 5.5
"""About this long is a goal given for at full speed [s]."""
APART = 0.15
"""Goals in a row are at least this far apart [m]."""
TOLERANCE, DWELL = 0.02, 0.3
"""A goal counts as reached within so many metres for so many seconds."""
SETTLED = 0.5
"""The last part of a goal's time, in which the tip should be still [s]."""
PUSH_AT = 0.75
"""Part of a goal's time after which its push comes: the arm is there by then."""


@dataclass(frozen=True)
class DemoConfig:
    """What ``mbrl demo`` shows."""

    robot: str = param("panda", "which robot, as in 'mbrl list robots'")
    task: str = param("reach", "what it does, as in 'mbrl list tasks'")
    planner: str = param("mppi", "how it plans, as in 'mbrl list planners'")
    model: str = param(
        "",
        "what it plans with: a name in 'mbrl list dynamics', or a model folder; empty: the robot's in models/ with a "
        "loaded arm, kinematic with an ideal one",
    )
    arm: str = param(
        "",
        "the simulated arm: as its file says, or with the payload and the soft servo that the robot's model in models/ "
        "was learned on; empty: loaded where there is such a model",
        choices=("", "ideal", "loaded"),
    )
    seconds: float = param(45.0, "how long it runs once the robot is armed", unit="s", low=1.0, high=86400.0)
    speed: float = param(1.0, "share of the joints' velocity limits that is used", low=0.01, high=1.0)
    seed: int = param(0, "seed of goals, pushes, planner and simulation", low=0, high=2**31 - 1)
    viewer: bool = param(True, "serve the view in the browser and print its link")
    out: str = param("runs", "folder in which the run gets a folder of its own")


@dataclass
class Schedule:
    """Goals of equal time, two of them with a push on the tip, all counted from the moment the guard was armed."""

    seconds: float
    goals: list[np.ndarray]
    push_times: list[float]
    directions: list[np.ndarray]
    reached: list[Dwell] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """When each goal was given, so far."""
    pushes: list[float] = field(default_factory=list)
    """When pushes were given, so far."""
    distance: list[tuple[float, float]] = field(default_factory=list)
    """Times and distances of the tip to the goal in force."""
    armed_at: float | None = None

    def elapsed(self, now: float) -> float:
        return 0.0 if self.armed_at is None else now - self.armed_at

    def over(self, now: float) -> bool:
        return self.elapsed(now) >= self.seconds

    def goal(self, now: float) -> np.ndarray:
        """The goal in force; the first call in its time begins it."""
        if self._index(now) == len(self.starts):
            self.starts.append(now)
        return self.goals[len(self.starts) - 1]

    def see(self, t: float, distance: float) -> None:
        """The tip's distance to the goal in force at time ``t`` of the joint state."""
        self.distance.append((t, distance))
        if t >= self.starts[-1]:
            self.reached[len(self.starts) - 1].see(t, distance)

    def push(self, now: float) -> np.ndarray | None:
        """Direction of the push that is due, once."""
        done = len(self.pushes)
        if done == len(self.push_times) or self.elapsed(now) < self.push_times[done]:
            return None
        self.pushes.append(now)
        return self.directions[done]

    @property
    def count(self) -> int:
        """Goals reached so far."""
        return sum(goal.reached_at is not None for goal in self.reached)

    def misses(self) -> list[float]:
        """How far off the tip was at the end of each goal's time, the median over ``SETTLED`` [m]."""
        found, times = [], np.array([t for t, _ in self.distance])
        for i, start in enumerate(self.starts):
            end = self.starts[i + 1] if i + 1 < len(self.starts) else start + self.seconds / len(self.goals)
            late = [self.distance[k][1] for k in np.flatnonzero((end - SETTLED <= times) & (times < end))]
            if late:
                found.append(float(np.median(late)))
        return found

    def _index(self, now: float) -> int:
        return min(int(self.elapsed(now) * len(self.goals) / self.seconds), len(self.goals) - 1)


def schedule(config: DemoConfig, sample_goal: Callable[[np.random.Generator], np.ndarray]) -> Schedule:
    """As many goals as fit, drawn from the seed; a slower arm gets more time for each."""
    rng = np.random.default_rng(config.seed)
    slot = SLOT / min(1.0, 1.5 * config.speed)
    total = max(1, int(config.seconds // slot))
    goals: list[np.ndarray] = []
    while len(goals) < total:
        goal = sample_goal(rng)
        if not goals or np.linalg.norm(goal - goals[-1]) >= APART:
            goals.append(goal)
    pushed = sorted({total // 3, (2 * total) // 3})
    times = [(i + PUSH_AT) * config.seconds / total for i in pushed]
    drawn = rng.normal(size=(len(pushed), 3))
    directions = list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    return Schedule(config.seconds, goals, times, directions, [Dwell(TOLERANCE, DWELL) for _ in goals])


def in_simulation(spec: ProcessSpec) -> ProcessSpec:
    """The process without what its parameter files say of the wiring: that is a real arm's, and this is none."""
    words, notes = list(spec.argv), list(spec.notes)
    for i, (flag, path) in enumerate(pairwise(spec.argv), start=1):
        if flag == "--params-file" and isinstance(path, str):
            text = Path(path).read_text(encoding="utf-8")
            kept = unwired(text, path)
            if kept != text:
                words[i] = ParameterFile(kept)
                notes.append(f"the wiring in {path} is a real arm's: going without it")
    return replace(spec, argv=tuple(words), notes=tuple(notes))
