"""A recorded episode as a film: what was at each moment of it, and a player that goes through it.

Numbers only: no ROS, no browser, no clock. ``run_films.py`` makes films of a learner's run, ``nodes/replay_page.py``
shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from mbrl_control.core import Robot

ROUNDING = 1e-6
"""A moment so little before a row [s] is that row: clocks that have run for a day are not exact to the last digit."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of an episode; what is between two recorded rows is in between."""

    t: float
    row: int
    """The last recorded one."""
    q: Annotated[np.ndarray, "nj"]
    blocks: Mapping[str, Annotated[np.ndarray, "n"]]
    goal: Annotated[np.ndarray, "ng"] | None
    target: Annotated[np.ndarray, "3"] | None
    """The goal as a point in the world, where it is one."""
    score: float | None
    """Of the steps made so far."""
    distance: float | None


@dataclass(frozen=True, eq=False)
class Film:
    """One episode. Without a goal there are no scores of its steps, and no distances."""

    number: int
    """Of its trial."""
    t: Annotated[np.ndarray, "T+1"]
    q: Annotated[np.ndarray, "T+1 nj"]
    blocks: Mapping[str, Annotated[np.ndarray, "T+1 n"]]
    tip: Annotated[np.ndarray, "T+1 3"]
    curves: Mapping[str, tuple[Sequence[str], Annotated[np.ndarray, "T+1 n"]]]
    """What can be plotted over time, by name: what its columns are, and the numbers."""
    facts: Mapping[str, str]
    """What is to be said of the whole of it."""
    doubts: Sequence[str] = ()
    """What is not as it was when it was recorded."""
    goals: Annotated[np.ndarray, "T+1 ng"] | None = None
    targets: Annotated[np.ndarray, "T+1 3"] | None = None
    """The goals as points in the world, where they are such."""
    scores: Annotated[np.ndarray, "T+1"] | None = None
    """Of the steps up to each row."""
    distances: Annotated[np.ndarray, "T+1"] | None = None

    @property
    def steps(self) -> int:
        return len(self.t) - 1

    @property
    def begin(self) -> float:
        return float(self.t[0])

    @property
    def end(self) -> float:
        return float(self.t[-1])

    def at(self, t: float) -> Frame:
        """The moment ``t`` [s], or the nearest that there is."""
        t = min(max(t, self.begin), self.end)
        row = int(np.searchsorted(self.t, t + ROUNDING, side="right")) - 1
        then = min(row + 1, self.steps)
        part = max(0.0, t - self.t[row]) / (self.t[then] - self.t[row]) if then > row else 0.0

        def between(rows: Annotated[np.ndarray, "T+1 ..."]) -> Annotated[np.ndarray, "..."]:
            return rows[row] + part * (rows[then] - rows[row])

        return Frame(
            t=t,
            row=row,
            q=between(self.q),
            blocks={name: between(rows) for name, rows in self.blocks.items()},
            goal=None if self.goals is None else between(self.goals),
            target=None if self.targets is None else between(self.targets),
            score=None if self.scores is None else float(self.scores[row]),
            distance=None if self.distances is None else float(between(self.distances)),
        )


class Films(Protocol):
    """Films that belong together: the trials of a run, in their order."""

    robot: Robot
    heading: Sequence[str]
    """What they are, in lines."""
    threshold: float | None
    """A score that was to be reached."""

    @property
    def titles(self) -> Sequence[str]:
        """One for each; its first word is a number of its own, that stays."""
        ...

    @property
    def learned(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps in the world up to the end of each, and its score."""
        ...

    def film(self, index: int) -> Film:
        """The film at a place of the list; an ``MbrlError`` where it cannot be read."""
        ...

    def refresh(self) -> bool:
        """Whether there are more by now."""
        ...


@dataclass
class Player:
    """Where a film stands, and how fast it goes."""

    begin: float
    end: float
    t: float
    playing: bool = True
    speed: float = 1.0

    def advance(self, elapsed: float) -> None:
        """So much time [s] has passed; at the end it stops."""
        if self.playing:
            self.t = min(self.t + self.speed * elapsed, self.end)
            self.playing = self.t < self.end

    def toggle(self) -> None:
        """Play or pause; from the end it begins again."""
        self.playing = not self.playing
        if self.playing and self.t >= self.end:
            self.t = self.begin

    def seek(self, t: float) -> None:
        """Stand still at a moment."""
        self.t, self.playing = min(max(t, self.begin), self.end), False
