"""One plan a period: of a size that fits, with as many iterations as fit, made for when the guard can follow it.

    obs as of now + planning.lead    ->    planning.plan(obs, goal)    ->    sent, and planning.sent(what passed)

The lead is what passes from looking at the state until the guard follows what was planned from it: measured up to the
sending of the plan, and ``handover`` from there on. A plan for later would be older than it need be when it begins, one
for earlier would have begun without the arm. In lock-step nothing passes, and the lead is one period.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mbrl_control.core import Carry, Goal, Info, Observation, Plan, Planner, Status
from mbrl_control.runtime.loop import Timings
from mbrl_control.runtime.sizing import Sizing

LATELY, BEFORE_THAT = 200, 20
"""The lead is that of so many plans, once there have been a few."""
NEARLY_ALL = 99.0
"""Percent of the plans that are to be with the guard in time."""
IN_LOCKSTEP = 3
"""Iterations where the number must not depend on time and nobody gives one."""
USELESS = {Status.NONFINITE: "not finite", Status.FAULT: "the planner has failed"}
"""What a planner may say of its plan so that nobody is sent it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much time there is."""

    period: float
    """Between plans [s]."""
    duty: float
    """Share of the period that planning may take."""
    handover: float
    """From sending a plan to the first command that follows it [s]."""
    iterations: int = 0
    """Of a plan; 0: as many as fit."""
    enough: float = 1.0
    """Share of the period within which further iterations have to end: they make a plan better, and older."""
    lockstep: bool = False

    @property
    def budget(self) -> float:
        """What planning may take [s]."""
        return self.duty * self.period


class Planning:
    """Calls a planner, and keeps what it remembers, what it takes and what it said."""

    def __init__(
        self, pace: Pace, sizing: Sizing, rng: np.random.Generator, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.pace, self.sizing = pace, sizing
        self.took = Timings()
        self.iterations = 0
        """Of the newest plan."""
        self.info: Info | None = None
        self.why = ""
        """Why the newest plan is none; empty: it is one."""
        self.lead = pace.period
        """How far ahead the next plan begins [s]."""
        self._rng, self._clock = rng, clock
        self._passed: deque[float] = deque(maxlen=LATELY)
        self._carry: Carry | None = None
        self._of: Planner | None = None
        """Whose carry it is."""

    def plan(self, obs: Observation, goal: Callable[[Planner], Goal]) -> Plan | None:
        """Iterate until the next iteration would not end in time; None where the planner says that it is none.

        ``goal`` gives the goal over the horizon of the planner that is used.
        """
        started, planner = self._clock(), self.sizing.planner
        wanted, carry, knobs = goal(planner), self._carry_for(planner, obs), self.sizing.knobs
        done = 0
        while True:
            carry, plan, info = planner.improve(obs, wanted, knobs, carry, planner.noise(self._rng))
            done += 1
            spent = self._clock() - started
            if not self._goes_on(done, spent):
                break
        self._carry, self._of, self.info, self.iterations = carry, planner, info, done
        self.took.add(spent)
        self.sizing.see(spent / done)
        if info.status & Status.NONFINITE:
            self._carry = None
        self.why = "; ".join(words for flag, words in USELESS.items() if info.status & flag)
        return None if self.why else plan

    def _goes_on(self, done: int, spent: float) -> bool:
        """Whether there is another iteration after ``done`` of them."""
        pace = self.pace
        if pace.lockstep:
            return done < (pace.iterations or IN_LOCKSTEP)
        return done != pace.iterations and spent + spent / done <= min(pace.duty, pace.enough) * pace.period

    def _carry_for(self, planner: Planner, obs: Observation) -> Carry:
        if self._carry is None:
            return planner.init(obs)
        return self._carry if planner is self._of else taken_over(self._carry, planner.init(obs))

    def sent(self, passed: float) -> None:
        """A plan is out; ``passed`` since the state was looked at, on the control clock [s]."""
        self._passed.append(passed)
        if not self.pace.lockstep and len(self._passed) >= BEFORE_THAT:
            late = float(np.percentile(self._passed, NEARLY_ALL)) + self.pace.handover
            self.lead = min(late, self.pace.period)

    def figures(self) -> dict[str, object]:
        """What people are told of it once a second."""
        p50, p99 = self.took.percentile(50, 99)
        sizing, fit = self.sizing, self.sizing.took
        values: dict[str, object] = {
            "plans": self.took.count,
            "plan_ms_p50": p50 * 1e3,
            "plan_ms_p99": p99 * 1e3,
            "lead_ms": self.lead * 1e3,
            "iterations": self.iterations,
            "sizes": sizing.describe(),
            "steps_down": sizing.steps_down,
        }
        values |= sizing.sizes.given
        values |= {f"{name}_asked": size for name, size in sizing.asked.given.items()}
        if fit:
            values |= {"fit_ms": fit.upper * 1e3, "fit_ms_there": self.pace.budget * 1e3}
        return values


def taken_over(old: Carry, new: Carry) -> dict[str, np.ndarray]:
    """What a planner of another size starts with: its own first carry, and of the old one whatever overlaps.

    A plan of more steps goes on as it began and then as a new one; one of fewer loses its end.
    """
    found: dict[str, np.ndarray] = {}
    for name, tensor in new.items():
        mine, theirs = np.array(tensor), np.asarray(old.get(name))
        if theirs.dtype != object and theirs.ndim == mine.ndim:
            common = tuple(slice(min(sizes)) for sizes in zip(mine.shape, theirs.shape, strict=True))
            mine[common] = theirs[common]
        found[name] = mine
    return found
