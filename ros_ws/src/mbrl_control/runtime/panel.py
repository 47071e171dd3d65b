"""The words beside the picture: what a page says of guard, planner and goal, as HTML. No ROS, no clock.

Everything that came over a topic is escaped: whoever can publish a diagnostic must not be able to write a script
into a page that can arm a robot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import numpy as np

from mbrl_control.runtime.digest import Digest
from mbrl_control.runtime.states import GuardState

SILENT = 0.5
"""A guard whose digest has not come for so long [s] is not shown as alive."""
STALE = 3.0
"""Diagnostics, which come once a second, count for so long [s]."""
NO_GUARD = "NO GUARD"
COLOURS = {
    NO_GUARD: "#495057",
    GuardState.INACTIVE.shown: "#495057",
    GuardState.READY.shown: "#1864ab",
    GuardState.ACTIVE.shown: "#2b8a3e",
    GuardState.HOLD.shown: "#b35c00",
    GuardState.STOPPING.shown: "#b35c00",
    GuardState.FAULT.shown: "#c92a2a",
}
STYLE = """\
<style>
.mbrl {font-size: 0.86em; line-height: 1.45; margin: 0 0.75em 0.6em}
.mbrl .state {color: #fff; border-radius: 4px; padding: 0.35em 0.6em; margin-bottom: 0.3em}
.mbrl .state b {font-size: 1.35em; letter-spacing: 0.04em}
.mbrl table {width: 100%; border-collapse: collapse}
.mbrl td {padding: 0.05em 0; vertical-align: top}
.mbrl td + td {text-align: right; font-variant-numeric: tabular-nums}
.mbrl .bad {color: #c92a2a}
</style>
"""


@dataclass
class Seen:
    """What is known when the page is written."""

    digest: Digest | None = None
    digest_age: float = math.inf
    """Since the digest came [s]."""
    guard: str = ""
    """What the guard said last, as ``HOLD: no joint state for 0.051 s``."""
    figures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Diagnostics that are not stale, by node."""
    distance: float = math.nan
    """Of the tip to the goal in force [m]."""
    goal: np.ndarray | None = None
    goal_from: str = ""
    goal_refusal: str = ""
    answer: str = ""
    """The answer to the last button, or that there was none."""
    answer_good: bool = True


def state_of(seen: Seen) -> tuple[str, str]:
    """The guard's state, as published, and the reason for it."""
    digest = seen.digest
    if digest is None:
        return NO_GUARD, "the guard has not been heard yet"
    if seen.digest_age > SILENT:
        return NO_GUARD, f"the guard has been silent for {seen.digest_age:.1f} s"
    said, _, reason = seen.guard.partition(": ")
    return digest.state.shown, reason if said == digest.state.shown else digest.state.value[1]


def state(seen: Seen) -> str:
    """The guard's state in words and colour, and the answer to the last button."""
    name, reason = state_of(seen)
    parts = [
        f'<div class="state" style="background:{COLOURS[name]}"><b>{name}</b><br/>{escape(reason)}</div>',
        f'<div class="{"" if seen.answer_good else "bad"}">{escape(seen.answer)}</div>' if seen.answer else "",
    ]
    return STYLE + _box("".join(parts))


def goal(seen: Seen) -> str:
    """Which goal is in force, who gave it, how far the tip is, and why a wish came to nothing."""
    if seen.goal is None:
        lines = ["no goal was given yet; drag the arrows to give one"]
    else:
        x, y, z = seen.goal.tolist()
        lines = [f"{x:.3f} {y:.3f} {z:.3f} m, from {escape(seen.goal_from)}"]
    if math.isfinite(seen.distance):
        lines.append(f"the tip is {seen.distance * 1e3:.1f} mm away")
    if seen.goal_refusal:
        lines.append(f'<span class="bad">refused: {escape(seen.goal_refusal)}</span>')
    return _box("<br/>".join(lines))


def figures(seen: Seen) -> str:
    """Rates, ages and timings of guard and planner, as a table."""
    guard, planner = seen.figures.get("controller", {}), seen.figures.get("planner", {})
    digest = seen.digest if seen.digest_age <= SILENT else None
    age = f", {digest.state_age * 1e3:.0f} ms old" if digest and math.isfinite(digest.state_age) else ""
    rows = {
        "joint states": f"{_number(guard, 'state_rate_hz', '.0f')} Hz{age}",
        "plans": f"{_number(guard, 'plan_rate_hz', '.1f')} Hz",
        "plan p50 / p99": f"{_number(planner, 'plan_ms_p50', '.1f')} / {_number(planner, 'plan_ms_p99', '.1f')} ms",
        "planned with": escape(planner.get("sizes", "–")),
        "run by": escape(planner.get("run_by", "–").partition(" (")[0]),
        "members differ (rare)": _doubt(planner),
        "plan made for": f"{_number(planner, 'lead_ms', '.0f')} ms ahead",
        "state to command p50 / p99": "–",
        "plans that did not take over": "–",
        "tick late p50 / p99": "–",
        "tick late, worst": "–",
        "ticks missed": "–",
        "holds": "–",
        "promise class": escape(guard.get("promise_class", "–")),
    }
    if digest:
        rows["state to command p50 / p99"] = f"{digest.latency_p50 * 1e3:.0f} / {digest.latency_p99 * 1e3:.0f} ms"
        rows["plans that did not take over"] = f"{digest.not_handed_over}"
        rows["tick late p50 / p99"] = f"{digest.late_p50 * 1e3:.2f} / {digest.late_p99 * 1e3:.2f} ms"
        rows["tick late, worst"] = f"{digest.late_worst * 1e3:.1f} ms"
        rows["ticks missed"] = f"{digest.missed} of {digest.ticks + digest.missed}"
        rows["holds"] = f"{digest.holds}"
    cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
    return _box(f"<table>{cells}</table>")


def _box(inside: str) -> str:
    return f'<div class="mbrl">{inside}</div>'


def _doubt(planner: Mapping[str, str]) -> str:
    """How far a model's members differ along the plan, red where that is rare even on data it was not fitted to."""
    text = f"{_number(planner, 'disagreement', '.2f')} ({_number(planner, 'disagreement_rare', '.2f')})"
    unsure = _value(planner, "disagreement") > _value(planner, "disagreement_rare")
    return f'<span class="bad">{text}</span>' if unsure else text


def _value(values: Mapping[str, str], key: str) -> float:
    """A figure that came as text; NaN where it did not come or is none."""
    try:
        return float(values.get(key, "nan"))
    except ValueError:
        return math.nan


def _number(values: Mapping[str, str], key: str, form: str) -> str:
    """A figure as text; a dash where it did not come or is none."""
    value = _value(values, key)
    return format(value, form) if math.isfinite(value) else "–"
