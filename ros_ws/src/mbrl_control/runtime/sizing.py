"""How large planning may be to fit its period: sizes on a ladder, measured at the start, stepped under load.

    256 x 20 > 128 x 20 > ... > 16 x 20 > 16 x 15 > 16 x 11      fewer samples first, then a shorter horizon

At the start the planners of rungs are made and timed from the largest down, without those that cannot fit; the largest
that fits is taken, and the two below it are made ready. Later each plan says how long an iteration took: where that is
too long again and again the next smaller rung is taken, and where the next larger one would have fitted for a while,
that one. Steps are said aloud. No clock of its own: what is timed, and by what, is handed in; the steps depend on the
durations alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mbrl_control.core import Goal, Knobs, Observation, Planner

HALF, SHORTER = 0.5, 0.75
"""From rung to rung: of the samples; of the horizon, once there is the least number of samples."""
BELOW = 2
"""Rungs below the one that fits, for load."""
MARGIN = 0.8
"""Share of the time there is that a rung may take to be taken: others want the processor too."""
WARM, TIMED, ENOUGH = 2, 10, 0.25
"""Calls before those that count; most of those that count; and they end after so many seconds."""
UPPER = 75.0
"""Percentile of what was timed that has to fit; at the start of a stack much else wants the processor."""
RECENT, MISSES = 20, 8
"""So many of the most recent plans too slow: a step down."""
STRETCH, FITTING = 100, 0.9
"""So many plans, nearly all of which would have fitted the next larger rung: a step up."""
PATIENCE = 16
"""A step up that does not last makes the next one wait twice as long, up to so many times ``STRETCH``."""
WORDS = {"samples": "samples", "horizon": "steps"}
ONE_SIZE = "its one size"
HELP = "a lower rate, a larger duty or a smaller model would help"


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a planner may be made larger or smaller in; None: it has no such parameter."""

    samples: int | None = None
    horizon: int | None = None

    @property
    def given(self) -> dict[str, int]:
        """Those that the planner has, by the names of its parameters."""
        both = {"samples": self.samples, "horizon": self.horizon}
        return {name: size for name, size in both.items() if size is not None}

    @property
    def work(self) -> int:
        """What the time grows with, at most."""
        return math.prod(self.given.values())

    def __str__(self) -> str:
        return " x ".join(f"{size} {WORDS[name]}" for name, size in self.given.items()) or ONE_SIZE


Build = Callable[[Sizes], Planner]
"""Makes the planner of a size."""


def ladder(asked: Sizes, least: Sizes) -> list[Sizes]:
    """From what is asked for downwards, never below the least of each size."""
    rungs = [asked]
    while (samples := _smaller(rungs[-1].samples, HALF, least.samples)) is not None:
        rungs.append(Sizes(samples, asked.horizon))
    while (horizon := _smaller(rungs[-1].horizon, SHORTER, least.horizon)) is not None:
        rungs.append(Sizes(rungs[-1].samples, horizon))
    return rungs


def _smaller(size: int | None, share: float, least: int | None) -> int | None:
    """The next smaller size; None where there is none."""
    if size is None or least is None or size <= least:
        return None
    return max(least, int(size * share))


@dataclass(frozen=True, slots=True)
class Timed:
    """How long one iteration takes [s]."""

    usual: float
    upper: float


def timed(
    planner: Planner, obs: Observation, goal: Goal, rng: np.random.Generator, clock: Callable[[], float]
) -> Timed:
    """Real iterations, one after another, as they are made later; the first ones do not count."""
    carry, knobs, took = planner.init(obs), planner.knobs(), []
    started = clock()
    for call in range(WARM + TIMED):
        before = clock()
        carry, _, _ = planner.improve(obs, goal, knobs, carry, planner.noise(rng))
        if call >= WARM:
            took.append(clock() - before)
            if clock() - started > ENOUGH:
                break
    return Timed(float(np.median(took)), float(np.percentile(took, UPPER)))


@dataclass(frozen=True, slots=True)
class Rung:
    """One size, its planner, what is turned of it, and how long its iterations take; None: nobody wanted to know."""

    sizes: Sizes
    planner: Planner
    knobs: Knobs
    took: Timed | None


class Sizing:
    """The rungs of a planner, and which of them is used."""

    def __init__(
        self,
        sizes: Sequence[Sizes],
        build: Build,
        budget: float,
        trial: Callable[[Planner], Timed] | None,
        say: Callable[[str, str], None],
    ) -> None:
        """``budget`` [s] is what an iteration may take. Without a ``trial`` the first of ``sizes`` is used as it is.

        ``say`` gets what a person should know, with its level: ``info``, ``warn`` or ``error``.
        """
        self.budget, self._say = budget, say
        self._rungs: list[Rung] = []
        for one in sizes if trial else sizes[:1]:
            if self._hopeless(one) and one is not sizes[-1]:
                continue
            planner = build(one)
            self._rungs.append(Rung(one, planner, planner.knobs(), trial(planner) if trial else None))
            if len(self._rungs) > self._first_that_fits() + BELOW:
                break
        self.fitted = self._first_that_fits()
        """The rung that was taken at the start."""
        self.fits = not trial or self._fits(self._rungs[self.fitted])
        """Whether that one is small enough."""
        self._load = Load(self._ratios(), self.fitted, budget)
        self.steps_down = 0
        self._why = ""
        if trial:
            self._say("info" if self.fits else "error", self._chosen())

    @property
    def at(self) -> int:
        """Which rung is used, counted from the largest."""
        return self._load.at

    @property
    def asked(self) -> Sizes:
        return self._rungs[0].sizes

    @property
    def sizes(self) -> Sizes:
        return self._rungs[self.at].sizes

    @property
    def planner(self) -> Planner:
        """The one that is used now."""
        return self._rungs[self.at].planner

    @property
    def knobs(self) -> Knobs:
        return self._rungs[self.at].knobs

    @property
    def took(self) -> Timed | None:
        """How long its iterations took at the start."""
        return self._rungs[self.at].took

    @property
    def degraded(self) -> bool:
        """Whether load has made it smaller than what fitted at the start."""
        return self.at > self.fitted

    def turn(self, knobs: Callable[[Sizes], Knobs]) -> None:
        """Parameters were changed while running: what is turned of a planner of each size."""
        self._rungs = [replace(rung, knobs=knobs(rung.sizes)) for rung in self._rungs]

    def see(self, iteration: float) -> None:
        """A plan was made; its iterations took so long each [s]."""
        before = self.at
        if self.took is None or self._load.see(iteration) == before:
            return
        self.steps_down += self.at > before
        if self.at > before:
            self._why = f"iterations took {iteration * 1e3:.1f} ms, {self.budget * 1e3:.1f} ms are there"
            self._say("warn", f"{self.describe()}: {self._why}")
        else:
            self._say("info", f"recovered: {self.describe()}")

    @property
    def health(self) -> tuple[str, str]:
        """A level (``ok``, ``warn`` or ``error``), and what is wrong."""
        if self._load.overwhelmed or not (self.fits or self._load.judged):
            return "error", f"even {self.sizes} take longer than the {self.budget * 1e3:.1f} ms there are: {HELP}"
        return ("warn", f"{self.describe()}, since {self._why}") if self.degraded else ("ok", "")

    def describe(self) -> str:
        """In words, what is planned with."""
        now, asked = self.sizes.given, self.asked.given
        parts = [
            f"{now[name]} {WORDS[name]}" if now[name] == size else f"{now[name]} of {size} {WORDS[name]}"
            for name, size in asked.items()
        ]
        return ("degraded: " if self.degraded else "") + (" x ".join(parts) or ONE_SIZE)

    def _first_that_fits(self) -> int:
        return next((i for i, rung in enumerate(self._rungs) if self._fits(rung)), len(self._rungs) - 1)

    def _hopeless(self, sizes: Sizes) -> bool:
        """Whether it cannot fit: what takes its time in proportion to its size at most takes no less than that."""
        first = self._rungs[0] if self._rungs else None
        return bool(first and first.took and first.took.usual * sizes.work / first.sizes.work > self.budget)

    def _fits(self, rung: Rung) -> bool:
        return rung.took is None or rung.took.upper <= MARGIN * self.budget

    def _chosen(self) -> str:
        """What was measured and taken, in one line."""
        first, taken = self._rungs[0], self._rungs[self.fitted]
        assert first.took
        assert taken.took
        there = f"{self.budget * 1e3:.1f} ms are there"
        if not self.fits:
            return f"even {taken.sizes} take {taken.took.upper * 1e3:.1f} ms an iteration, {there}: {HELP}"
        if taken is first:
            return f"{taken.sizes}, as asked: {taken.took.upper * 1e3:.1f} ms an iteration, {there}"
        return (
            f"{self.describe()}: {taken.took.upper * 1e3:.1f} ms an iteration; "
            f"what was asked for takes {first.took.upper * 1e3:.1f} ms, {there}"
        )

    def _ratios(self) -> list[float]:
        """What each rung takes in units of the next smaller one: as timed, but in proportion to its size at most."""
        return [
            min(max(one.took.usual / other.took.usual, 1.0), one.sizes.work / other.sizes.work)
            for one, other in pairwise(self._rungs)
            if one.took and other.took
        ]


class Load:
    """Steps on a ladder by the durations of iterations, with hysteresis: quickly down, slowly up."""

    def __init__(self, ratios: Sequence[float], at: int, budget: float) -> None:
        """``ratios``: what each rung takes in units of the next smaller one; one fewer than there are rungs."""
        self.at = at
        self._ratios, self._budget = list(ratios), budget
        self._slow: deque[bool] = deque(maxlen=RECENT)
        self._room: deque[bool] = deque(maxlen=STRETCH)
        """Of the most recent plans: whether the next larger rung would have fitted."""
        self._since = 0
        """Plans since the last step."""
        self._wait, self._climbed = STRETCH, False

    def see(self, iteration: float) -> int:
        """An iteration took so long [s]; the rung for the next plan."""
        larger = iteration * self._ratios[self.at - 1] if self.at else iteration
        self._slow.append(iteration > self._budget)
        self._room.append(larger <= MARGIN * self._budget)
        self._since += 1
        if sum(self._slow) >= MISSES:
            if self.at < len(self._ratios):
                self._step(1)
        elif self._since >= self._wait:
            if self._climbed:  # and it has lasted
                self._wait, self._climbed = STRETCH, False
            if self.at and sum(self._room) >= FITTING * STRETCH:
                self._step(-1)
        return self.at

    @property
    def judged(self) -> bool:
        """Whether enough plans were seen to say more than what was timed at the start."""
        return len(self._room) >= RECENT

    @property
    def overwhelmed(self) -> bool:
        """Whether not even the smallest size is quick enough."""
        return self.at == len(self._ratios) and sum(self._slow) >= MISSES

    def _step(self, down: int) -> None:
        if self._climbed and down > 0:
            self._wait = min(2 * self._wait, PATIENCE * STRETCH)
        self.at += down
        self._climbed = down < 0
        self._since = 0
        self._slow.clear()
        self._room.clear()
