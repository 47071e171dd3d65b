"""What a machine can promise: verdicts on facts, and what to change.

Each file here judges one side of it. Its ``checks`` are pure functions of facts; what has to be tried or measured for
those facts is done by the programs in ``probes/`` and, where it takes ROS, ``nodes/doctor.py``, each in a process of
its own. ``mbrl doctor`` (``commands/doctor.py``) puts them together.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from mbrl_control.config import param
from mbrl_control.runtime.safety import GuardConfig


class Verdict(enum.StrEnum):
    """How good it is."""

    OK = "ok"
    INFO = "info"
    """Neither good nor bad, but worth knowing."""
    WARN = "warn"
    """It works, and less is promised."""
    FAIL = "fail"
    """Something that was asked for cannot work like this."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    change: str = ""
    """What to change, in exact words or commands; several lines where a file takes several."""


@dataclass(frozen=True)
class DoctorConfig:
    """What ``mbrl doctor`` measures, and how long."""

    robot: str = param("panda", "which robot, as in 'mbrl list robots'")
    task: str = param("reach", "what the planners are measured at, as in 'mbrl list tasks'")
    model: str = param("kinematic", "what they plan with, as in 'mbrl list dynamics'")
    seconds: float = param(5.0, "how long the guard's tick is measured", unit="s", low=0.1, high=3600.0)
    rate: float = param(GuardConfig.rate, "ticks a second of the guard", unit="Hz", low=50.0, high=500.0)
    plan_rate: float = param(20.0, "plans a second that the planner is to make", unit="Hz", low=0.5, high=100.0)
    duty: float = param(0.5, "share of the period that planning may take", low=0.05, high=1.0)
    namespace: str = param("/", "for --live: in which the nodes of the robot lie, as /left")
    params: str = param("", "for --live: parameter file of the launch; empty: launch/<robot>.yaml")


@dataclass(frozen=True, slots=True)
class Summary:
    """All of it in one line."""

    promise_class: str
    failures: int
    warnings: int
    first: str
    """What to change first; empty: nothing."""

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        counts = f"{_counted(self.failures, 'failure')}, {_counted(self.warnings, 'warning')}"
        line = f"promise class {self.promise_class} · {counts}"
        return f"{line} · change first: {self.first}" if self.first else f"{line} · nothing to change"


def summarise(promise_class: str, checks: Sequence[Check]) -> Summary:
    """The worst first; among equals, the one that stands first."""
    failures = [check for check in checks if check.verdict is Verdict.FAIL]
    warnings = [check for check in checks if check.verdict is Verdict.WARN]
    worst = next((check for check in [*failures, *warnings] if check.change), None)
    return Summary(promise_class, len(failures), len(warnings), worst.name if worst else "")


def urgent(checks: Sequence[Check]) -> list[Check]:
    """Checks with something to change, the failures first."""
    rank = {Verdict.FAIL: 0, Verdict.WARN: 1, Verdict.INFO: 2, Verdict.OK: 3}
    return sorted((check for check in checks if check.change), key=lambda check: rank[check.verdict])


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
