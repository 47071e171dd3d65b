"""A thread that ticks: absolute deadlines, lateness kept, nothing in the tick that could block.

``Pacer`` is the clock that a loop follows: the machine's monotonic one, or /clock of a simulation.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

MCL_CURRENT_AND_FUTURE = 3
PRIORITY = 40
"""Of the guard under SCHED_FIFO: below the 50 that ros2_control takes."""
SWITCH = 0.0005
"""How long another thread of the guard's process may keep the interpreter from the tick [s]."""
STATE_TIMEOUT = {"A": 0.05, "B": 0.1}
"""How old joint states may get, by promise class [s]."""
FINEST, COARSEST, STEP = 1e-6, 100.0, 1.02
"""Range [s] and ratio of the bins of a histogram of durations: percentiles are good to 2 %."""


class Timings:
    """A histogram of durations [s]: adding one and asking for percentiles cost the same after a second and a week."""

    def __init__(self) -> None:
        self._edges = FINEST * STEP ** np.arange(math.ceil(math.log(COARSEST / FINEST, STEP)))
        self._counts = np.zeros(len(self._edges) + 1, dtype=np.int64)
        self.count = 0
        self.worst = 0.0

    def add(self, duration: float) -> None:
        bin = math.ceil(math.log(max(duration, FINEST) / FINEST, STEP) - 1e-9)
        self._counts[min(bin, len(self._counts) - 1)] += 1
        self.count += 1
        self.worst = max(self.worst, duration)

    def percentile(self, *percents: float) -> list[float]:
        """The percentiles so far, at most 2 % too high; zeros while there is nothing."""
        reached = np.cumsum(self._counts)
        bins = np.searchsorted(reached, [max(1, math.ceil(self.count * p / 100.0)) for p in percents])
        edges = np.append(self._edges, np.inf)
        return [min(float(edges[min(bin, len(edges) - 1)]), self.worst) for bin in bins]


class Pacer(Protocol):
    """A clock that a loop can follow."""

    def now(self) -> float:
        """Control-clock time [s]."""
        ...

    def wait(self, t: float, give_up: float) -> float | None:
        """Wait until control time ``t``, at most ``give_up`` seconds; the lateness [s], or None if it did not come."""
        ...


class WallPacer:
    """Control time is the machine's monotonic clock, from when this was made."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self.start = clock()

    def now(self) -> float:
        return self._clock() - self.start

    def wait(self, t: float, give_up: float) -> float | None:
        remaining = t - self.now()
        if remaining > give_up:
            self._sleep(give_up)
            return None
        if remaining > 0.0:
            self._sleep(remaining)
        return self.now() - t


class ClockPacer:
    """Control time is a simulation's /clock, which may run slow, pause, or be set back.

    Lateness is the wall time between the arrival of the clock message that is due and the tick.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._now = 0.0
        self._arrived = clock()

    def set(self, t: float) -> None:
        """A /clock message; called by the thread that receives."""
        with self._changed:
            self._now, self._arrived = t, self._clock()
            self._changed.notify_all()

    def now(self) -> float:
        return self._now

    def wait(self, t: float, give_up: float) -> float | None:
        before = self._now
        with self._changed:
            came = self._changed.wait_for(lambda: self._now >= t - 1e-9 or self._now < before, give_up)
            return self._clock() - self._arrived if came else None


@dataclass(frozen=True, slots=True)
class RealTime:
    """What this machine granted the process."""

    fifo: bool
    locked: bool
    why: str

    @property
    def promise_class(self) -> str:
        """A: scheduled before everything ordinary. B: best effort."""
        return "A" if self.fifo and self.locked else "B"


def enter_real_time(priority: int) -> RealTime:
    """Ask for SCHED_FIFO for the whole process and for its memory to stay; take what is granted.

    The whole process, not one thread: a receiving thread that holds the interpreter's lock and is not
    scheduled would hold up the tick. Call it before ROS starts its threads: they inherit it (and would not
    with SCHED_RESET_ON_FORK, which resets threads as well).
    """
    why = []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        why.append(f"SCHED_FIFO {priority}: {error.strerror}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT_AND_FUTURE) != 0:
        why.append(f"mlockall: {os.strerror(ctypes.get_errno())}")
    return RealTime(
        fifo=not any(w.startswith("SCHED") for w in why),
        locked=not any(w.startswith("mlock") for w in why),
        why="; ".join(why),
    )


class Loop:
    """Calls ``tick(now)`` at every multiple of ``period`` of the control clock, from its own thread.

    A tick that comes late is made once; the ones that were missed are counted, not made up for. While the
    clock stands still ``tick`` is called every ``idle`` seconds of wall time with the unchanged time, so that
    watchdogs go on watching.
    """

    def __init__(self, pacer: Pacer, period: float, tick: Callable[[float], None], idle: float = 0.05) -> None:
        self.pacer, self.period, self.idle = pacer, period, idle
        self.late, self.took = Timings(), Timings()
        self.ticks = 0
        self.overruns = 0
        """Ticks that were missed altogether."""
        self.failure: BaseException | None = None
        self._tick = tick
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)

    def start(self) -> None:
        # What lives now lives on: the collector need not walk it again in the middle of a tick.
        gc.collect()
        gc.freeze()
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        self._end.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            due = self._index(self.pacer.now()) + 1
            while not self._end.is_set():
                due = self.once(due)
        except BaseException as error:  # a loop that dies silently would look like a loop that waits
            self.failure = error
            raise

    def once(self, due: int) -> int:
        """Wait for tick ``due``, make it, and return the index of the next one."""
        late = self.pacer.wait(due * self.period, self.idle)
        now = self.pacer.now()
        index = self._index(now)
        if late is not None and index >= due:
            self.late.add(late)
            self.ticks += 1
            self.overruns += index - due
        start = time.perf_counter()
        self._tick(now)
        self.took.add(time.perf_counter() - start)
        return index + 1

    def _index(self, now: float) -> int:
        return math.floor(now / self.period + 1e-6)
