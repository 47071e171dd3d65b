"""Measures the table of docs/tasks.md: planners on the true model at published tasks.

    .venv/bin/python benchmarks/published.py --workers 2        most of an hour

It is written between its markers, again after each row.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from upper_bound import PAGE, SEEDS, Job, put, run

from mbrl_control import registry

COMMAND = ".venv/bin/python benchmarks/published.py"
SAMPLES = 128
PLANNERS = ("icem", "mppi", "cem", "shooting")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    robot: str
    task: str
    dynamics: str
    steps: int
    seeds: int
    known: str
    """Returns that were published: of mbbl's planners on the true model, shooting first, or of POPLIN's table 1."""
    settings: tuple[tuple[str, float], ...] = ()
    """Of the task, to be told."""
    physics: tuple[tuple[str, float], ...] = ()
    """Of the simulation that is planned with."""

    def jobs(self) -> list[Job]:
        """In the order of planners, then seeds."""
        dt = registry.make("tasks", self.task, registry.make("robots", self.robot)).dt
        length, more = self.steps * dt, self.settings + self.physics
        return [
            Job(self.robot, self.task, self.dynamics, planner, SAMPLES, length, seed, more)
            for planner, seed in product(PLANNERS, SEEDS[: self.seeds])
        ]

    def row(self, totals: list[float]) -> str:
        """Of what its jobs came to."""
        words = ", ".join(f"`{key}:={value:g}`" for key, value in self.settings) or "-"
        cells = [f"`{self.task}`", words, f"`{self.dynamics}`", f"{self.steps}"]
        for of_planner in np.reshape(totals, (len(PLANNERS), self.seeds)):
            spread = f" ({of_planner.min():.1f} to {of_planner.max():.1f})" if self.seeds > 1 else ""
            cells.append(f"{np.median(of_planner):.1f}{spread}")
        return "| " + " | ".join([*cells, self.known]) + " |"


CASES = (
    Case("pets_cartpole", "cartpole_swing_up", "analytic", 200, 5, "some 180 is the most; solved from 170"),
    Case("pendulum", "pendulum", "analytic", 200, 5, "none: there the sign is the other one"),
    Case("pendulum", "pendulum", "analytic", 200, 5, "171.5 ± 31.8, 170.5 ± 35.2", (("pendulum.angle", 3.14159),)),
    Case("inverted_pendulum", "inverted_pendulum", "analytic", 100, 5, "-0.0, -0.2"),
    Case("cartpole", "cartpole_balance", "analytic", 200, 5, "200.0, 199.9"),
    Case("reacher", "reacher", "mujoco", 150, 3, "-47.7 ± 43.6 (PETS, learned)"),
    Case("pusher", "pusher", "mujoco", 150, 1, "-52.7 ± 23.5 (PETS, learned)"),
    Case(
        "half_cheetah",
        "half_cheetah",
        "mujoco",
        60,
        1,
        "4204.5 ± 789.0 in 1000 steps (PETS, learned)",
        physics=(("mujoco.timestep", 0.005),),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="episodes side by side")
    workers, begun = parser.parse_args().workers, time.perf_counter()
    lines = ["| task | settings | model | steps | " + " | ".join(f"`{p}`" for p in PLANNERS) + " | published |"]
    lines += ["|---" * (5 + len(PLANNERS)) + "|"]
    with ProcessPoolExecutor(workers) as pool:
        for case in CASES:
            lines.append(case.row([episode.total for episode in pool.map(run, case.jobs())]))
            print(lines[-1], flush=True)
            put(PAGE.with_name("tasks.md"), COMMAND, "published", "\n".join(lines))
    print(f"{time.perf_counter() - begun:.0f} s on {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
