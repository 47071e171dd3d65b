"""How it is measured: by turns, A B A B, so that what else the machine does meets all alike; medians and ranges."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SETTLE = 0.05
"""Pause before each turn [s]: threads of the one before have stopped looking for work by then."""
SHORT = 0.5
"""What takes less [s] is done twice in a turn, and the second time counts: the caches are its own by then, as those of
a planner are that plans again and again."""
TOPOLOGY = Path("/sys/devices/system/cpu")

Turn = Callable[[], float]
"""Does the work once and says how long that took [s]."""


@dataclass(frozen=True)
class Times:
    """How long each turn took [s]."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def range_ms(self) -> list[float]:
        return [1e3 * min(self.seconds), 1e3 * max(self.seconds)]

    @property
    def ms(self) -> float:
        return 1e3 * self.median


def interleaved(turns: Sequence[Turn], pairs: int, told: Callable[[], None] = lambda: None) -> list[Times]:
    """Each turn to warm up, then ``pairs`` rounds of all in their order; ``told`` is called after each turn."""
    spent: list[list[float]] = [[] for _ in turns]
    for number in range(pairs + 1):
        for turn, mine in zip(turns, spent, strict=True):
            time.sleep(SETTLE)
            took = turn()
            if took < SHORT:
                took = turn()
            if number:
                mine.append(took)
            told()
    return [Times(tuple(mine)) for mine in spent]


def timed(work: Callable[[], object]) -> Turn:
    """A turn of our own."""

    def turn() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return turn


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """NumPy and torch on so many threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def physical_cores() -> int:
    """Cores that this process may use, siblings counted once."""
    allowed, cores = os.sched_getaffinity(0), set()
    for cpu in allowed:
        try:
            siblings = (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
        except OSError:
            siblings = str(cpu)
        cores.add(siblings)
    return len(cores)
