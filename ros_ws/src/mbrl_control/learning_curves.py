"""The picture of a run: score and time of every trial over the steps in the world."""

from __future__ import annotations

from collections.abc import Mapping

from mbrl_control.run_folder import Run

EXPLORE, PLAN, BEST = "#7f8c9b", "#2d6fa3", "#3a9d5d"


def draw(run: Run, names: Mapping[str, str], threshold: float | None) -> None:
    """Writes ``curves.png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    score, took = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    trials = run.trials
    score.plot([t.env_steps for t in trials], [t.score for t in trials], color=PLAN, linewidth=1.0, zorder=1)
    for kind, colour in (("explore", EXPLORE), ("plan", PLAN)):
        these = [t for t in trials if t.kind == kind]
        score.scatter([t.env_steps for t in these], [t.score for t in these], color=colour, label=kind, zorder=2)
    if threshold is not None:
        score.axhline(threshold, color=BEST, linestyle="--", linewidth=1.0, label=f"threshold {threshold:g}")
    score.set_ylabel("score of the trial")
    score.set_title(f"{names['task']} · {names['learner']} · {names['planner']} · seed {run.asked['options']['seed']}")
    score.legend(loc="best", frameon=False)
    score.grid(alpha=0.3)
    x, fits = [t.env_steps for t in trials], [t.fit_s for t in trials]
    rest = [max(t.wall_s - t.fit_s, 0.0) for t in trials]
    width = min((t.steps for t in trials), default=1) * 0.6
    took.bar(x, fits, width, color=BEST, label="fits")
    took.bar(x, rest, width, bottom=fits, color=PLAN, label="planning and the world")
    took.set_ylabel("time [s]")
    took.set_xlabel("steps in the world")
    took.legend(loc="best", frameon=False)
    took.grid(alpha=0.3)
    figure.savefig(run.folder / "curves.png", dpi=110)
