"""The tick loop, on clocks that the test turns."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mbrl_control.runtime.loop import ClockPacer, Loop, Timings, WallPacer


class FakeTime:
    """A clock that only sleeping moves, with lateness on demand."""

    def __init__(self) -> None:
        self.now, self.oversleep = 100.0, 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.oversleep


def loop_on(time: FakeTime, work: float = 0.0) -> tuple[Loop, list[float]]:
    ticks: list[float] = []

    def tick(now: float) -> None:
        ticks.append(now)
        time.now += work

    return Loop(WallPacer(time.clock, time.sleep), 0.01, tick), ticks


def test_ticks_fall_on_the_grid_whatever_the_work_takes() -> None:
    loop, ticks = loop_on(FakeTime(), work=0.004)
    due = 1
    for _ in range(5):
        due = loop.once(due)
    assert ticks == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
    assert loop.overruns == 0
    assert loop.late.worst == pytest.approx(0.0, abs=1e-9)


def test_a_missed_tick_is_counted_and_not_made_up_for() -> None:
    time = FakeTime()
    loop, ticks = loop_on(time)
    due = loop.once(1)
    time.now += 0.035  # ticks 2, 3 and 4 pass by
    due = loop.once(due)
    due = loop.once(due)
    assert ticks == pytest.approx([0.01, 0.045, 0.05])
    assert loop.overruns == 2
    assert loop.ticks == 3


def test_lateness_is_measured_against_the_deadline() -> None:
    time = FakeTime()
    time.oversleep = 0.002
    loop, _ = loop_on(time)
    loop.once(1)
    assert loop.late.percentile(50)[0] == pytest.approx(0.002)


def test_a_standing_clock_still_calls_the_watchdogs() -> None:
    pacer = ClockPacer()
    calls: list[float] = []
    loop = Loop(pacer, 0.01, calls.append, idle=0.01)
    assert loop.once(1) == 1
    assert calls == [0.0]
    assert loop.ticks == 0


def test_a_simulated_clock_is_followed_forwards_and_backwards() -> None:
    pacer, came, calls = ClockPacer(), threading.Event(), []

    def tick(now: float) -> None:
        calls.append(now)
        came.set()

    loop = Loop(pacer, 0.01, tick, idle=30.0)
    loop.start()
    for t in (0.01, 0.02, 5.0, 1.0, 1.01):
        came.clear()
        pacer.set(t)
        assert came.wait(10.0), f"no tick at {t}"
    loop._end.set()
    pacer.set(9.0)
    loop.stop(10.0)
    assert calls[:4] == [0.01, 0.02, 5.0, 1.0]
    assert loop.overruns == 497 + 798  # missed by the two jumps forward


def test_a_tick_that_raises_is_kept_for_the_node_to_see() -> None:
    def tick(_: float) -> None:
        raise ZeroDivisionError

    loop = Loop(WallPacer(), 0.001, tick)
    with pytest.raises(ZeroDivisionError):
        loop._run()
    assert isinstance(loop.failure, ZeroDivisionError)


def test_percentiles_are_those_of_the_sorted_durations() -> None:
    timings = Timings()
    assert timings.percentile(50, 99) == [0.0, 0.0]
    durations = np.random.default_rng(0).lognormal(-6.0, 1.5, 10_000)
    for duration in durations:
        timings.add(float(duration))
    exact = np.sort(durations)[[99, 4999, 9899, 9989]]
    found = np.array(timings.percentile(1, 50, 99, 99.9))
    assert ((found >= exact * 0.999) & (found <= exact * 1.021)).all()
    assert timings.worst == durations.max()
    assert timings.percentile(100)[0] == pytest.approx(durations.max(), rel=0.021)
    for odd in (0.0, -1.0, 1e6):
        timings.add(odd)
    assert timings.worst == timings.percentile(100)[0] == 1e6
