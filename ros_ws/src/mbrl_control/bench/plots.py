"""The pictures: what a plan costs over its sizes, and what plans are worth over what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

OURS, PEERS, LINE = "#2d6fa3", "#c8742c", "#7f8c9b"
WORDS = {"N": "samples N", "H": "steps H", "E": "networks E"}
PERFORMANCE, PARETO, ILQR = "performance.png", "pareto.png", "ilqr.png"


def draw(facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws those pictures that the results have something for."""
    drawn = []
    if facts["curves"]:
        curves(facts["curves"], drawn_to := folder / PERFORMANCE)
        drawn.append(drawn_to)
    if facts["points"]:
        pareto(facts["points"], drawn_to := folder / PARETO)
        drawn.append(drawn_to)
    motions = [row for row in facts["rows"] if row["kind"] == "ilqr" and row["per"] in ("iteration", "solve")]
    if motions:
        lengths(motions, drawn_to := folder / ILQR)
        drawn.append(drawn_to)
    return drawn


def curves(found: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """A panel for each size: times, and the line through nothing that fits them best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(found), 3.0), layout="constrained")
    figure.suptitle("Time of a PDDM-shaped plan of ours; the others as in N=500 H=15 E=3", fontsize=10)
    for axes, (letter, pairs) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        slope = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
        axes.plot([0.0, max(x)], [0.0, slope * max(x)], color=LINE, linestyle="--", linewidth=1.0, label="proportional")
        axes.plot(x, y, color=OURS, marker="o", label="measured")
        axes.set_xlabel(WORDS[letter])
        axes.set_ylabel("time of a plan [ms]")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def pareto(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Return over plan time: the median of each planner, and a small point for each of its episodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    labelled: set[str] = set()
    for point in points:
        colour = OURS if point["by"] == "ours" else PEERS
        label = None if point["by"] in labelled else point["by"]
        labelled.add(point["by"])
        ms, returns = point["plan_ms"], point["returns"]
        axes.scatter([ms] * len(returns), returns, color=colour, s=12, alpha=0.5)
        axes.scatter([ms], [median(returns)], color=colour, s=60, label=label)
        axes.annotate(
            point["name"], (ms, median(returns)), xytext=(6, -10), textcoords="offset points", fontsize=7, color=colour
        )
    axes.set_xscale("log")
    axes.set_xlim(right=6.0 * max(point["plan_ms"] for point in points))
    axes.set_xlabel("median time of a plan [ms]")
    axes.set_ylabel("return of an episode")
    axes.set_title("Cart-pole swing-up in closed loop, models of the same data", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


def lengths(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Time of an iteration and of a solve over the knots of a motion, ours and the peer's, with their ranges."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    figure.suptitle("An optimal reach of a seven-joint arm, by iLQR", fontsize=10)
    for axes, per in zip(figure.subplots(1, 2), ("iteration", "solve"), strict=True):
        found = sorted((row for row in rows if row["per"] == per), key=lambda row: row["knots"])
        for who, colour in (("ours", OURS), ("peer", PEERS)):
            shown = [row for row in found if row[f"{who}_ms"] is not None]
            if not shown:
                continue
            middle = [row[f"{who}_ms"] for row in shown]
            ends = zip(*(row[f"{who}_range_ms"] for row in shown), strict=True)
            off = [[abs(end - at) for end, at in zip(each, middle, strict=True)] for each in ends]
            name = "ours" if who == "ours" else shown[0]["peer"]
            knots = [row["knots"] for row in shown]
            axes.errorbar(knots, middle, yerr=off, color=colour, marker="o", capsize=3, label=name)
        axes.set_xlabel("knots T")
        axes.set_ylabel(f"time of {'an iteration' if per == 'iteration' else 'a solve'} [ms]")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
