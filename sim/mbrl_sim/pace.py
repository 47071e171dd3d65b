"""Simulation time against the machine's clocks: absolute deadlines, and stamps as a driver would give them. No ROS."""

from __future__ import annotations

import time

SLIP = 1_000_000_000
"""This far behind [ns], the lost time is given up instead of caught up."""


class Pace:
    """Simulation time ``ns`` is due at a fixed moment of the monotonic clock, until the pace slips."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.slips = 0
        self.start(0)

    def start(self, ns: int) -> None:
        """Simulation time ``ns`` is now."""
        self._ns, self._monotonic = ns, time.monotonic_ns()

    def wait(self, ns: int) -> int:
        """Sleep until ``ns`` is due; how late it has become [ns]. A factor of 0 only lets other threads run."""
        if self.factor == 0.0:
            time.sleep(2e-5)
            return 0
        late = time.monotonic_ns() - self._due(ns)
        if late < 0:
            time.sleep(-late * 1e-9)
            late = time.monotonic_ns() - self._due(ns)
        if late > SLIP:
            self.slips += 1
            self.start(ns)
        return late

    def system(self, ns: int) -> int:
        """The system clock's time [ns] at which ``ns`` was due: a stamp that does not show our own lateness."""
        return time.time_ns() - (time.monotonic_ns() - self._due(ns))

    def _due(self, ns: int) -> int:
        return self._monotonic + round((ns - self._ns) / self.factor)
