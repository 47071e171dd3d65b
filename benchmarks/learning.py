"""Learns tasks with several seeds by ``mbrl learn``; writes the table and the picture of docs/learning.md and README's.

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from upper_bound import put

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE, PICTURE, RUNS = ROOT / "docs" / "learning.md", ROOT / "docs" / "learning.png", ROOT / "runs" / "benchmark"
COMMAND = ".venv/bin/python benchmarks/learning.py"
SEEDS = range(10, 15)
"""Others than those with which settings were chosen."""
COLOURS = ("#2d6fa3", "#c8742c", "#7a4fa3")
"""Of the rows of one task, in their order."""
CUT = 0.1
"""Share of the trials, those with the lowest scores, that a panel need not show."""
BOUND, THRESHOLD = "#3a9d5d", "#7f8c9b"
Result = Mapping[str, Any]
"""What ``mbrl learn --json`` writes of a run."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    task: str
    learner: str
    steps: int
    bound: float | None
    """Score of planning on the true model (docs/tasks.md); None: not known for episodes of this length."""
    evaluate: int = 0
    """Episodes after it that nothing is learned from."""
    seeds: int = len(SEEDS)
    more: tuple[str, ...] = ()
    """Settings, and flags that begin with --."""
    words: str = ""
    """What to call ``more``."""

    @property
    def name(self) -> str:
        return "-".join(
            [self.task, self.learner, *([self.words.replace(",", "").replace(" ", "-")] if self.words else [])]
        )

    def run(self, seed: int) -> Result:
        """The result of one seed; made, resumed, or read."""
        if (known := self.known(seed)) is not None:
            return known
        folder = RUNS / f"{self.name}-{seed}"
        out = folder.with_suffix(".json")
        new = [self.task, *self.more, f"--learner={self.learner}", f"--steps={self.steps}", f"--seed={seed}"]
        new += [f"--evaluate={self.evaluate}"]
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

    def known(self, seed: int) -> Result | None:
        """The result of a run that is finished."""
        out = RUNS / f"{self.name}-{seed}.json"
        result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        return None if result is None or result["interrupted"] else result

    def results(self) -> list[Result]:
        """Of the seeds that are finished."""
        return [known for seed in self.which if (known := self.known(seed)) is not None]

    @property
    def which(self) -> Sequence[int]:
        return SEEDS[: self.seeds]

    def took(self, seed: int) -> float:
        """Wall time of a run's trials, however often it was interrupted [s]."""
        lines = (RUNS / f"{self.name}-{seed}" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line)["wall_s"] for line in lines)

    def row(self, results: Sequence[Result]) -> str:
        learner = f"`{self.learner}`, `{results[0]['planner']}`" + (f", {self.words}" if self.words else "")
        cells = [f"`{self.task}`", learner, f"{self.steps}", f"{len(results)}", *scores(results), reached(results)]
        cells += ["-" if self.bound is None else f"{self.bound:g}"]
        cells += [f"{np.median([self.took(r['seed']) for r in results]):.0f} s"]
        return "| " + " | ".join([*cells, f"{np.median([r['plan_ms_p50'] for r in results]):.0f} ms"]) + " |"

    def brief(self, results: Sequence[Result]) -> str:
        """A row of the README's table."""
        learner = f"`{self.learner}`" + (f", {self.words}" if self.words else "")
        best, evaluated = scores(results)
        bound = "-" if self.bound is None else f"{self.bound:g}"
        return f"| `{self.task}` | {learner} | {self.steps} | {len(results)} | {best} | {evaluated} | {bound} |"


def scores(results: Sequence[Result]) -> tuple[str, str]:
    """Of the best trials, and of the episodes that nothing is learned from: the mean of each seed's."""
    best = [max(result["trial_returns"]) for result in results]
    evaluated = [float(np.mean(result["evaluation_returns"])) for result in results if result["evaluation_returns"]]
    return spread(best), spread(evaluated) if evaluated else "-"


def spread(values: Sequence[float]) -> str:
    """Median, least and greatest."""
    return (
        f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else f"{values[0]:.1f}"
    )


def reached(results: Sequence[Result]) -> str:
    """The steps that the threshold took: in the median, and each seed's."""
    threshold, each = results[0]["threshold"], [result["steps_to_threshold"] for result in results]
    if threshold is None:
        return "-"
    middle = np.median([np.inf if steps is None else steps for steps in each])
    words = f"{middle:.0f}" if np.isfinite(middle) else "not"
    count = sum(steps is not None for steps in each)
    return f"{threshold:g}: {words}; {count} of {len(each)} ({', '.join('-' if s is None else str(s) for s in each)})"


AS_PUBLISHED = (
    "--planner=cem", "--iterations=5", "cem.samples:=100", "pets.retrain_every:=0", "pets.beta:=0",
    "pets.first_epochs:=5", "pets.epochs:=5", "fit.width:=200",
)  # fmt: skip
"""Of PETS' settings, a quarter of the samples, of the particles and of the weights."""
CASES = (
    Case("cartpole_swing_up", "pets", 1000, 180.0),
    Case("cartpole_swing_up", "pddm", 1000, 181.8),
    Case("cartpole_swing_up", "pets", 1000, 180.0, seeds=1, more=AS_PUBLISHED, words="as published, reduced"),
    Case("pendulum", "pets", 600, 102.0),
    Case("inverted_pendulum", "pets", 300, -0.1),
    Case("cartpole_balance", "pets", 400, 200.0),
    Case("reacher", "pets", 1500, -38.9, evaluate=10),
    Case("pusher", "pets", 1800, -37.9, evaluate=10),
    Case("half_cheetah", "pets", 800, None, seeds=2, more=("half_cheetah.steps:=200",), words="episodes of 200"),
)
HEAD = (
    "| task | learner, planner | steps | seeds | best trial | evaluation | steps to threshold: median; seeds (each) "
    "| true model | a run | a plan |\n|---|---|---|---|---|---|---|---|---|---|"
)


BRIEF = (
    "| task | learner | steps in the world | seeds | best trial: median (least to greatest) "
    "| ten other episodes, likewise | planned on the true model |\n|---|---|---|---|---|---|---|"
)


def draw(found: Mapping[Case, Sequence[Result]]) -> None:
    """Scores over steps: a panel for each task, a thin line for each seed, a thick one for their median."""
    tasks = list(dict.fromkeys(case.task for case in found))
    columns = min(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(3.8 * columns, 3.0 * rows + 0.5), layout="constrained")
    figure.suptitle(
        "Score of each trial while it is learned: thin lines are seeds, thick ones their median; the worst are cut off",
        fontsize=10,
    )
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for task, axes in zip(tasks, panels, strict=False):
        panel(axes, task, {case: results for case, results in found.items() if case.task == task})
    for axes in list(panels):
        axes.set_axis_off()
    figure.savefig(PICTURE, dpi=110)


def panel(axes: Any, task: str, found: Mapping[Case, Sequence[Result]]) -> None:
    """One task."""
    for (case, results), colour in zip(found.items(), COLOURS, strict=False):
        steps = sorted({at for result in results for at in result["trial_env_steps"]})
        lines = [np.interp(steps, result["trial_env_steps"], result["trial_returns"]) for result in results]
        for result in results:
            axes.plot(
                result["trial_env_steps"],
                result["trial_returns"],
                color=colour,
                alpha=0.4,
                linewidth=0.8,
                marker=".",
                markersize=4,
            )
        label = case.learner + (f", {case.words}" if case.words else "")
        axes.plot(steps, np.median(lines, axis=0), color=colour, linewidth=2.0, label=label)
    case, results = next(iter(found.items()))
    if case.bound is not None:
        axes.axhline(case.bound, color=BOUND, linestyle="--", linewidth=1.2, label="planned on the true model")
    if results[0]["threshold"] is not None:
        axes.axhline(results[0]["threshold"], color=THRESHOLD, linestyle=":", linewidth=1.2, label="threshold")
    planned = [score for results in found.values() for result in results for score in result["trial_returns"][1:]]
    marks = [value for value in (case.bound, results[0]["threshold"]) if value is not None]
    low, high = min([*marks, float(np.quantile(planned, CUT))]), max(planned + marks)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set_title(task, fontsize=10)
    axes.set_xlabel("steps in the world", fontsize=8)
    axes.set_ylabel("score of the trial", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.6, edgecolor="none", fontsize=7, loc="best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=sorted({case.task for case in CASES}), help="run this task; the table has all"
    )
    parser.add_argument("--learner", help="of that task, this learner alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side")
    given = parser.parse_args()
    with ThreadPoolExecutor(given.workers) as pool:
        for case in CASES:
            if given.only in (None, case.task) and given.learner in (None, case.learner):
                list(pool.map(case.run, case.which))
                tell()
    tell()


def tell() -> None:
    """Writes table and picture of all that is finished."""
    found = {case: results for case in CASES if (results := case.results())}
    put(PAGE, COMMAND, "learning", "\n".join([HEAD, *(case.row(results) for case, results in found.items())]))
    put(README, COMMAND, "learning", "\n".join([BRIEF, *(case.brief(results) for case, results in found.items())]))
    draw(found)


if __name__ == "__main__":
    main()
