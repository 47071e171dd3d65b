"""Measures the tables of docs/evaluation.md and writes them between its markers.

    .venv/bin/python benchmarks/upper_bound.py            everything; about ten minutes
    .venv/bin/python benchmarks/upper_bound.py --only accuracy

Closed-loop episodes with planners on models (``mbrl_control.evaluate``), and how far the model ``mujoco`` is off where
it is computed more coarsely. Episodes run side by side, one on a core, with one thread each.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from mbrl_control import registry
from mbrl_control.comparison import Scores
from mbrl_control.core import Observation, rollout
from mbrl_control.evaluate import Episode, assemble, run_episode

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evaluation.md"
COMMAND = ".venv/bin/python benchmarks/upper_bound.py"
SEEDS = range(5)
ITERATIONS = 3
COARSE = {"mujoco.timestep": 0.01, "mujoco.coriolis": 0.05, "mujoco.threads": 1}
"""Of the physics that is planned with; the world has the MJCF's step, 1 ms."""
FREE = 0.02
"""Rollouts that come nearer than this to the end of a joint's range hit a stop there, and are not compared [rad]."""
PLANNERS = ("mppi", "cem", "shooting")
CASES = (
    ("cartpole", "swing_up", "analytic", 128, 6.0),
    ("pendulum", "swing_up", "analytic", 128, 6.0),
    ("panda", "reach", "kinematic", 48, 2.5),
    ("panda", "track", "kinematic", 48, 2.5),
    ("ur5e", "reach", "kinematic", 48, 2.5),
)
"""Robot, task, the model that somebody wrote down, samples of an iteration, and the length of an episode [s]."""


@dataclass(frozen=True)
class Job:
    """One episode to run."""

    robot: str
    task: str
    dynamics: str
    planner: str
    samples: int
    seconds: float
    seed: int
    more: tuple[tuple[str, float], ...] = ()
    """Further settings."""

    def run(self) -> Episode:
        settings = {f"{self.planner}.samples": self.samples, **COARSE, **dict(self.more)}
        parts = assemble(self.robot, self.task, self.planner, self.dynamics, settings)
        return run_episode(parts, self.seed, self.seconds, iterations=ITERATIONS)


def run(job: Job) -> Episode:
    """For the pool."""
    return job.run()


def episodes() -> Iterator[str]:
    """The table of planners on models, again after each combination, so that an end by Ctrl-C loses little."""
    lines = ["| robot, task | model | planner | goals met | after | score, median (all) | tip at the end | plan |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    with ProcessPoolExecutor() as pool:
        for (robot, task, exact, samples, seconds), kind, planner in product(CASES, ("exact", "mujoco"), PLANNERS):
            dynamics = exact if kind == "exact" else kind
            jobs = [Job(robot, task, dynamics, planner, samples, seconds, seed) for seed in SEEDS]
            names = {"robot": robot, "task": task, "dynamics": dynamics, "planner": planner}
            lines.append(line(Scores(names, list(pool.map(run, jobs)))))
            print(lines[-1], flush=True)
            yield "\n".join(lines)


def line(scores: Scores) -> str:
    """A row of that table."""
    row, names = scores.row(), scores.names
    low, middle, high = scores.spread("score")
    far = scores.spread("distance")[1] * 1e3
    cells = [f"{names['robot']}, {names['task']}", f"`{names['dynamics']}`", f"`{names['planner']}`"]
    cells += [row["goals met"], row["after"], f"{middle:.1f} ({low:.1f} to {high:.1f})"]
    return "| " + " | ".join([*cells, f"{far:.1f} mm", f"{scores.plan_ms()[0]:.0f} ms"]) + " |"


def accuracy() -> Iterator[str]:
    """The table of coarser computation: joints against the finest over 1 s of random motion, and what it takes."""
    lines = ["| robot | physics step | Coriolis held | joints off, median and worst | tip off, worst | time |"]
    lines += ["|---|---|---|---|---|---|"]
    for robot in ("panda", "ur5e"):
        made = registry.make("robots", robot)
        task = registry.make("tasks", "reach", made)
        rng = np.random.default_rng(0)
        count, horizon = 64, 20
        bound = made.channels.bound
        u = np.repeat(rng.uniform(-bound, bound, (count, horizon // 5, made.nu)), 5, axis=1)
        obs = Observation(0.0, task.reset(rng))
        exact = None
        for step, held in ((0.0, 0.0), (0.0, 0.01), (0.0, 0.05), (0.005, 0.01), (0.01, 0.01), (0.01, 0.05)):
            settings = {"timestep": step, "coriolis": held, "threads": 1}
            model = registry.make("dynamics", "mujoco", made, np, overrides=settings)
            took = []
            for _ in range(3):
                begun = time.perf_counter()
                features, _ = rollout(np, model, model.init(obs, {}), u, {})
                took.append(time.perf_counter() - begun)
            q = features["q"]
            exact = q if exact is None else exact
            room = np.minimum(exact - made.limits.lower, made.limits.upper - exact)
            free = room.min(axis=(1, 2)) > FREE
            off = np.abs(q - exact)[free].max(axis=(1, 2)) * 1e3
            tip = np.linalg.norm(made.tip(np, q) - made.tip(np, exact), axis=-1)[free].max() * 1e3
            finest = step == held == 0.0
            words = "-" if finest else f"{np.median(off):.1f} and {off.max():.1f} mrad"
            cells = [robot, f"{1e3 * step or 1:g} ms", f"{1e3 * held:g} ms" if held else "not held", words]
            cells += ["-" if finest else f"{tip:.1f} mm", f"{min(took) * 1e3:.0f} ms"]
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    yield "\n".join(lines)


TABLES = {"episodes": episodes, "accuracy": accuracy}


def put(page: Path, command: str, name: str, table: str) -> None:
    """Write a table between its markers."""
    begin, end = f"<!-- {name}, by {command}: do not edit -->", f"<!-- end of {name} -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{page}: it takes one line '{begin}' and one line '{end}'")
    before, rest = text.split(begin)
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, help="one table")
    chosen = parser.parse_args().only
    begun = time.perf_counter()
    for name in [chosen] if chosen else TABLES:
        for table in TABLES[name]():
            put(PAGE, COMMAND, name, table)
    print(f"{time.perf_counter() - begun:.0f} s on {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
