"""Learns tasks with several seeds by ``mbrl learn``; writes the table and the picture of docs/learning.md.

    .venv/bin/python benchmarks/learning.py --workers 2                     everything; hours
    .venv/bin/python benchmarks/learning.py --only cartpole_swing_up        one task; minutes

Runs lie in runs/benchmark/ and are not made again: what was interrupted goes on. Each run has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from upper_bound import put

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE, RUNS = ROOT / "docs" / "learning.md", ROOT / "docs" / "learning.png", ROOT / "runs" / "benchmark"
COMMAND = ".venv/bin/python benchmarks/learning.py"
SEEDS = range(10, 15)
"""Others than those with which settings were chosen."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    task: str
    learner: str
    steps: int
    bound: float
    """Median score of planning on the true model (docs/tasks.md)."""
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join([self.task, self.learner, *(word.replace(":=", "=") for word in self.more)])

    def run(self, seed: int) -> Mapping[str, Any]:
        """The result of one seed; made, resumed, or read."""
        folder = RUNS / f"{self.name}-{seed}"
        out = folder.with_suffix(".json")
        if out.exists():
            return json.loads(out.read_text(encoding="utf-8"))
        new = [self.task, *self.more, f"--learner={self.learner}", f"--steps={self.steps}", f"--seed={seed}"]
        words = [f"--resume={folder}"] if folder.exists() else [*new, f"--out={folder}"]
        RUNS.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mbrl_control.cli", "learn", *words, f"--json={out}"]
        done = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}")
        result = json.loads(out.read_text(encoding="utf-8"))
        scores = " ".join(f"{score:.0f}" for score in result["trial_returns"])
        print(f"{self.name} seed {seed}: {scores}   {result['wall_s']:.0f} s", flush=True)
        return result

    def row(self, results: list[Mapping[str, Any]]) -> str:
        best = [max(result["trial_returns"]) for result in results]
        reached = [result["steps_to_threshold"] for result in results]
        threshold = results[0]["threshold"]
        cells = [f"`{self.task}`", f"`{self.learner}`, `{results[0]['planner']}`", f"{self.steps}"]
        cells.append(f"{np.median(best):.1f} ({min(best):.1f} to {max(best):.1f})")
        if threshold is None:
            cells.append("-")
        else:
            steps = [np.inf if r is None else r for r in reached]
            words = f"{np.median(steps):.0f}" if np.isfinite(np.median(steps)) else "not"
            count = sum(r is not None for r in reached)
            cells.append(f"{threshold:g}: {words}; {count} of {len(reached)} ({', '.join(map(str, reached))})")
        cells += [f"{self.bound:g}", f"{np.median([r['wall_s'] for r in results]):.0f} s"]
        return "| " + " | ".join([*cells, f"{np.median([r['plan_ms_p50'] for r in results]):.0f} ms"]) + " |"


CASES = (
    Case("cartpole_swing_up", "pets", 1000, 180.0),
    Case("cartpole_swing_up", "pddm", 1000, 181.8),
    Case("inverted_pendulum", "pets", 500, -0.1),
    Case("cartpole_balance", "pets", 1000, 200.0),
    Case("pendulum", "pets", 1000, 102.0),
    Case("reacher", "pets", 3000, -38.9),
    Case("pusher", "pets", 3000, -42.0),
)
HEAD = (
    "| task | learner, planner | steps | best trial: median (least to greatest) "
    "| steps to threshold: median; seeds (each) | true model | a run | a plan |\n|---|---|---|---|---|---|---|---|"
)


def draw(found: Mapping[Case, list[Mapping[str, Any]]]) -> None:
    """Scores over steps, a line for each seed."""
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    for axes, (case, results) in zip(figure.subplots(rows, columns, squeeze=False).flat, found.items(), strict=False):
        for result in results:
            axes.plot(result["trial_env_steps"], result["trial_returns"], color="#2d6fa3", alpha=0.6, linewidth=1.0)
        axes.axhline(case.bound, color="#3a9d5d", linestyle="--", linewidth=1.0, label="true model")
        if results[0]["threshold"] is not None:
            axes.axhline(results[0]["threshold"], color="#7f8c9b", linestyle=":", linewidth=1.0, label="threshold")
        axes.set_title(f"{case.task}, {case.learner}", fontsize=9)
        axes.set_xlabel("steps in the world", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=sorted({case.task for case in CASES}), help="run this task; the table has all"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side")
    given = parser.parse_args()
    found: dict[Case, list[Mapping[str, Any]]] = {}
    with ThreadPoolExecutor(given.workers) as pool:
        for case in CASES:
            there = all((RUNS / f"{case.name}-{seed}.json").exists() for seed in SEEDS)
            if there or given.only in (None, case.task):
                found[case] = list(pool.map(case.run, SEEDS))
                put(PAGE, COMMAND, "learning", "\n".join([HEAD, *(c.row(results) for c, results in found.items())]))
                draw(found)


if __name__ == "__main__":
    main()
