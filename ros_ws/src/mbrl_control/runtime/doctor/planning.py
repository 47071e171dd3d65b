"""Planners: how fast one iteration is here, and what fits into the period of the planner node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbrl_control.runtime.doctor import Check, Verdict


@dataclass(frozen=True)
class Measured:
    """One planner on one robot, task and model."""

    name: str
    iteration: float = 0.0
    """Median duration of one iteration [s]."""
    iterations: int = 0
    """How many were made."""
    samples: int | None = None
    horizon: int | None = None
    """Its default sizes, where it has them."""
    largest: int | None = None
    """Most samples of which one iteration still fits; None: not looked for."""
    refused: str = ""
    """Why it does not take this robot, task or model."""
    broken: str = ""
    """What went wrong otherwise."""


@dataclass(frozen=True)
class Wanted:
    """What the planner node is to do."""

    robot: str
    task: str
    model: str
    rate: float
    duty: float

    @property
    def budget(self) -> float:
        """Time for one plan [s]."""
        return self.duty / self.rate


def checks(found: Sequence[Measured], wanted: Wanted) -> list[Check]:
    """Verdicts on every planner."""
    if not found:
        return [Check("planners", Verdict.FAIL, "none is registered", "python -m pip install mbrl_control, whole")]
    return [planner(m, wanted) for m in found]


def planner(m: Measured, w: Wanted) -> Check:
    if m.broken:
        return Check(
            m.name, Verdict.FAIL, f"broken: {m.broken}", f"mend it, or uninstall it: mbrl list planners {m.name}"
        )
    if m.refused:
        return Check(m.name, Verdict.INFO, f"not on {w.robot}, {w.task}, {w.model}: {m.refused}")
    sampled = m.samples is not None and m.horizon is not None
    size = f" of {m.samples} x {m.horizon}" if sampled else ""
    found = f"{1.0 / m.iteration:.0f} iterations{size} a second; at duty {w.duty:g} a plan of one iteration "
    found += f"{w.duty / m.iteration:.0f} times a second"
    if m.samples is not None and m.horizon is not None:
        found += f"; {m.samples * m.horizon / m.iteration:.2g} samples x horizon a second"
    if m.largest is not None:
        found += f"; up to {m.largest} samples at {w.rate:g} Hz" if m.largest else f"; no size fits {w.rate:g} Hz"
    if m.iteration <= w.budget:
        return Check(m.name, Verdict.OK, found)
    slower = f"planner.rate: {max(w.duty / m.iteration, 0.5):.2g}"
    if m.largest:
        slower = f"{m.name.rsplit('.', 1)[-1]}.samples: {m.largest} or {slower}"
    return Check(m.name, Verdict.WARN, found, f"{slower} (planner parameters in launch/{w.robot}.yaml)")
