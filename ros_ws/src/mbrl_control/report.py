"""A run as one HTML page: what was asked, what came of it, and the plots that people look at first."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_control.core import MbrlError, Robot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mbrl_control.nodes.observer import Record
    from mbrl_control.runtime.demo import Schedule
    from mbrl_control.runtime.judge import Judge
    from mbrl_control.runtime.samples import SampleJudge
    from mbrl_control.runtime.torque_judge import TorqueJudge

COLOURS = {"ACTIVE": "#3a9d5d", "HOLD": "#e0a526", "STOPPING": "#d9742b", "FAULT": "#c03a3a", "READY": "#7f8c9b"}
PUSHED, BACK, STAYS = 0.5, 0.005, 0.1
"""A push shows within so many seconds; it is over when the tip is this close to its path [m] for this long [s]."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
h1{font-size:1.5rem;margin-bottom:.2rem} h2{font-size:1.1rem;margin-top:2rem} p.sub{color:#5c6b7a;margin-top:0}
table{border-collapse:collapse} td,th{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid #e3e8ee}
.ok{color:#2f7d4a;font-weight:600} .bad{color:#b03030;font-weight:600} svg{max-width:100%;height:auto}
"""


def write(
    folder: Path,
    record: Record,
    plan: Schedule,
    judge: Judge | SampleJudge | TorqueJudge,
    figures: Mapping[str, Any],
    robot: Robot,
) -> Path:
    """``report.html``, ``report.json`` and ``record.npz`` in the run's folder; returns the page's path."""
    np.savez_compressed(
        folder / "record.npz",
        state_t=np.array(record.state_t),
        q=np.array(record.q),
        command_t=np.array(record.command_t),
        q_ref=np.array(record.q_ref),
        v_ref=np.array(record.v_ref),
        distance=np.array(plan.distance),
        goals=np.array(plan.goals),
    )
    details = {
        "figures": dict(figures),
        "goals": [
            {"goal": goal.tolist(), "from_s": start, "reached_s": dwell.reached_at}
            for goal, start, dwell in zip(plan.goals, plan.starts, plan.reached, strict=False)
        ],
        "pushes": pushes(record, plan, robot),
        "violations": dict(judge.violations),
        "examples": judge.examples,
        "share_of_limits_used": judge.worst,
        "guard": record.guard,
        "diagnostics": record.diagnostics,
    }
    (folder / "report.json").write_text(json.dumps(details, indent=1) + "\n")
    page = folder / "report.html"
    page.write_text(_page(record, plan, judge, figures, details, robot), encoding="utf-8")
    return page


def pushes(record: Record, plan: Schedule, robot: Robot) -> list[dict[str, float | None]]:
    """For each push: how far the tip left where it was, under its reference [m]; when it was back within 5 mm [s]."""
    t, offset = offsets(record, robot)
    found = []
    for start in plan.pushes:
        before, window = (t >= start - STAYS) & (t < start), (t >= start) & (t < start + 3.0)
        if not (before.any() and window.any()):
            continue
        after, far = t[window] - start, np.linalg.norm(offset[window] - offset[before].mean(axis=0), axis=-1)
        peak = int(far[after < PUSHED].argmax())
        stays = [
            i for i in range(peak, far.size) if (far[(after >= after[i]) & (after < after[i] + STAYS)] < BACK).all()
        ]
        back = float(after[stays[0]]) if stays else None
        found.append({"at_s": start, "peak_m": float(far[peak]), "back_after_s": back})
    return found


def offsets(record: Record, robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """The tip from where the commands wanted it [m], [T 3] over time."""
    t, q = np.array(record.state_t), np.array(record.q)
    sent, ref = np.array(record.command_t), np.array(record.q_ref)
    if len(sent) < 2 or not len(t):
        return np.zeros(0), np.zeros((0, 3))
    during = (t >= sent[0]) & (t <= sent[-1])
    wanted = np.stack([np.interp(t[during], sent, ref[:, j]) for j in range(ref.shape[1])], axis=-1)
    return t[during], robot.tip(np, q[during]) - robot.tip(np, wanted)


def _page(
    record: Record,
    plan: Schedule,
    judge: Judge | SampleJudge | TorqueJudge,
    figures: Mapping[str, Any],
    details: Mapping[str, Any],
    robot: Robot,
) -> str:
    good = figures["goals_reached"] == figures["goals_total"] and not figures["limit_violations"]
    rows = "".join(
        f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(_text(v))}</td></tr>" for k, v in figures.items()
    )
    pushed = "".join(
        f"<li>at {p['at_s'] - (plan.armed_at or 0.0):.1f} s: {p['peak_m'] * 1e3:.1f} mm off where it was, "
        + ("not back within 5 mm" if p["back_after_s"] is None else f"back within 5 mm after {p['back_after_s']:.2f} s")
        + "</li>"
        for p in details["pushes"]
    )
    bad = "".join(f"<li>{html.escape(e)}</li>" for e in judge.examples) or "<li>none</li>"
    used = ", ".join(f"{name} {share:.0%}" for name, share in judge.worst.items() if name != "q")
    plots = "".join(
        f"<h2>{title}</h2>{_svg(figure)}"
        for title, figure in (
            ("Distance of the tip to its goal", _plot_distance(record, plan)),
            ("Distance of the tip to where the commands wanted it", _plot_deviation(record, plan, robot)),
            ("Commanded joint velocities, as a share of each limit", _plot_velocities(record, robot)),
        )
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>mbrl demo: {html.escape(robot.name)}</title>
<style>{STYLE}</style>
<h1>{html.escape(robot.name)}: <span class="{"ok" if good else "bad"}">{figures["goals_reached"]} of
{figures["goals_total"]} goals, {figures["limit_violations"]} violations</span></h1>
<p class="sub">judged from the topics by an observer that shares no code with the guard; limits used: {used}</p>
{plots}
<h2>Pushes on the tip</h2><ul>{pushed or "<li>none</li>"}</ul>
<h2>Violations</h2><ul>{bad}</ul>
<h2>Figures</h2><table>{rows}</table>
<p class="sub">report.json has the details, record.npz the samples, nodes.log what the nodes said.</p></html>
"""


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _axes(width: float = 9.0, height: float = 2.8) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MbrlError("plots need matplotlib: pip install mbrl_control[report]") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time since armed [s]")
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _mark(axes: Any, record: Record, plan: Schedule) -> None:
    """Goals, pushes and the guard's states along the time axis."""
    zero = plan.armed_at or 0.0
    for start in plan.starts:
        axes.axvline(start - zero, color="#b8c4d0", linewidth=0.8)
    for push in plan.pushes:
        axes.axvspan(push - zero, push - zero + 0.2, color="#c03a3a", alpha=0.3, linewidth=0)
    ends = [t for t, _ in record.guard[1:]] + record.state_t[-1:]
    for (start, text), end in zip(record.guard, ends, strict=False):
        colour = COLOURS.get(text.split(":")[0], "#cccccc")
        left, right = max(start - zero, 0.0), max(end - zero, 0.0)
        axes.axvspan(left, right, ymin=0.0, ymax=0.03, color=colour, linewidth=0)


def _plot_distance(record: Record, plan: Schedule) -> Figure:
    figure, axes = _axes()
    zero = plan.armed_at or 0.0
    if plan.distance:
        t, distance = np.array(plan.distance).T
        axes.semilogy(t - zero, np.maximum(distance, 1e-4) * 1e3, color="#2b6cb0", linewidth=1.2)
    axes.axhline(20.0, color="#3a9d5d", linewidth=0.8, linestyle="--")
    axes.set_ylabel("distance [mm]")
    _mark(axes, record, plan)
    return figure


def _plot_deviation(record: Record, plan: Schedule, robot: Robot) -> Figure:
    figure, axes = _axes(height=2.2)
    t, offset = offsets(record, robot)
    away = np.linalg.norm(offset, axis=-1)
    axes.plot(t - (plan.armed_at or 0.0), away * 1e3, color="#2b6cb0", linewidth=1.0)
    axes.set_ylabel("deviation [mm]")
    _mark(axes, record, plan)
    return figure


def _plot_velocities(record: Record, robot: Robot) -> Figure:
    figure, axes = _axes(height=2.6)
    t, v = np.array(record.command_t), np.array(record.v_ref)
    for j in range(robot.nj if len(t) else 0):
        axes.plot(t - t[0], v[:, j] / robot.limits.velocity[j], linewidth=0.8, label=robot.joints[j])
    axes.axhline(1.0, color="#c03a3a", linewidth=0.8, linestyle="--")
    axes.axhline(-1.0, color="#c03a3a", linewidth=0.8, linestyle="--")
    axes.set_ylabel("velocity / limit")
    if len(t):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
    return figure
