"""Measures what gains along a plan are worth, and writes the table of docs/trajectory_optimisation.md.

    .venv/bin/python benchmarks/feedback.py               all of it; a few minutes

MPPI swings a robot up and holds it there. From then on its tip is pushed, every second with the same force to a side
that the seed draws, and plans come as often as in the table: as they are, and with gains along them
(``mbrl_control.feedback``). All episodes of a row meet the same starts and the same pushes.

The Panda on torques is to stay where it is: its plan, five times a second, are the torques that hold it there. After
half a second its tip is pushed by 20 N for 0.2 s.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from upper_bound import put

from mbrl_control.core import Carry, Info, Knobs, Mode, Noise, Observation, Plan, Robot, Status
from mbrl_control.evaluate import assemble, run_episode

PAGE = Path(__file__).resolve().parents[1] / "docs" / "trajectory_optimisation.md"
COMMAND = ".venv/bin/python benchmarks/feedback.py"
SEEDS, SECONDS = range(5), 10.0
UP = 4.0
"""Pushes begin, and the tip is looked at, from then on [s]."""
APART, LASTING = 1.0, 0.1
"""Of pushes [s]."""
CASES = (("pendulum", 3.0), ("cartpole", 0.2))
"""Robots, and how they are pushed [N]."""
RATES = (20.0, 5.0, 2.0)
SETTINGS = {"mppi.samples": 256, "engine.use": "numpy"}


@dataclass(frozen=True)
class Job:
    """One episode."""

    robot: str
    force: float
    rate: float
    use: str
    seed: int

    def run(self) -> float:
        """How far the tip was from its goal while it was pushed, the root of the mean of squares [m]."""
        parts = assemble(self.robot, "swing_up", "mppi", "analytic", {**SETTINGS, "feedback.use": self.use})
        episode = run_episode(parts, self.seed, SECONDS, rate=self.rate, on_tick=self.pushing())
        pushed = episode.distance[episode.t >= UP]
        return float(np.sqrt(np.mean(np.square(pushed)))) if len(pushed) and not episode.ended else np.nan

    def pushing(self) -> Callable[[float, Any], None]:
        """Pushes along the base's x, left or right."""
        sides = np.random.default_rng(self.seed).choice([-1.0, 1.0], round(SECONDS / APART))

        def push(t: float, world: Any) -> None:
            number, since = divmod(round(t * 100), round(APART * 100))
            if t >= UP - 1e-9 and since == 0:
                world.push(np.array([self.force * sides[number], 0.0, 0.0]), LASTING)

        return push


def run(job: Job) -> float:
    """For the pool."""
    return job.run()


def rows() -> Iterator[str]:
    """The table, again after each row."""
    lines = [
        "| robot, push | plans a second | tip off, plans replayed | tip off, plans with gains |",
        "|---|---|---|---|",
    ]
    with ProcessPoolExecutor() as pool:
        for (robot, force), rate in product(CASES, RATES):
            first = Job(robot, force, rate, "off", 0)
            cells = [f"{robot}, {force:g} N for {LASTING:g} s", f"{rate:g}"]
            for use in ("off", "auto"):
                found = np.array(list(pool.map(run, [replace(first, use=use, seed=seed) for seed in SEEDS]))) * 1e3
                cells.append(told(found))
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
            yield "\n".join(lines)


class Hold:
    """A planner that wants the joints to stay where they are at first."""

    dt, horizon = 0.02, 25

    def __init__(self, robot: Robot) -> None:
        self.robot = robot

    def init(self, obs: Observation) -> Carry:
        return {"q": np.array(obs.joints.q)}

    def knobs(self) -> Knobs:
        return {}

    def noise(self, *_: Any) -> Noise:
        return {}

    def improve(self, obs: Observation, *given: Any) -> tuple[Carry, Plan, Info]:
        carry: Carry = given[2]
        robot, still = self.robot, np.zeros((self.horizon + 1, self.robot.nj))
        assert robot.inverse_dynamics is not None
        u = np.tile(robot.inverse_dynamics(np, carry["q"], still[0], still[0]), (self.horizon, 1))
        plan = Plan(obs.t, self.dt, Mode.TORQUE, still + carry["q"], still, u, None, obs.joints.t, 0)
        return carry, plan, Info(Status.OK, 0.0, {}, 1.0, {})


def held(use: str, seed: int) -> tuple[float, float]:
    """How far the tip of an arm gets from where it was held when it is pushed, and how far it is 0.5 s after [m]."""
    settings = {"symbolic.dt": Hold.dt, "ilqr.dt": Hold.dt, "feedback.use": use}
    parts = assemble("panda_torque", "reach", "ilqr", "symbolic", settings)
    away, side, tips = 0.5, np.random.default_rng(seed).normal(size=3), []

    def push(t: float, world: Any) -> None:
        if round(t * 100) == round(away * 100):
            world.push(20.0 * side / np.linalg.norm(side), 0.2)
        tips.append(parts.robot.tip(np, world.observe().q))

    run_episode(replace(parts, planner=Hold(parts.robot)), seed, 1.4, rate=5.0, iterations=1, on_tick=push)
    far = np.linalg.norm(np.array(tips) - tips[0], axis=-1)
    return float(far.max()), float(far[120]) if len(far) > 120 else np.nan


def arm_rows() -> Iterator[str]:
    """The table of the arm."""
    lines = ["| panda_torque, held, 20 N for 0.2 s | tip off at most | 0.5 s after the push |", "|---|---|---|"]
    for use, words in (("off", "torques replayed"), ("auto", "with gains")):
        found = np.array([held(use, seed) for seed in SEEDS]) * 1e3
        lines.append(f"| {words} | {told(found[:, 0])} | {told(found[:, 1])} |")
        print(lines[-1], flush=True)
        yield "\n".join(lines)


def told(found: np.ndarray) -> str:
    """Distances [mm], their median and range, and how many have none."""
    there = found[np.isfinite(found)]
    lost = f"; {len(found) - len(there)} of {len(found)} left their range" if len(there) < len(found) else ""
    return f"{np.median(there):.0f} mm ({np.min(there):.0f} to {np.max(there):.0f}){lost}" if len(there) else lost[2:]


TABLES = {"feedback": rows, "arm": arm_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, help="one table")
    chosen = parser.parse_args().only
    for name in [chosen] if chosen else TABLES:
        for table in TABLES[name]():
            put(PAGE, COMMAND, name, table)


if __name__ == "__main__":
    main()
