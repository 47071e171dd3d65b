"""Sizes on a ladder: which one is taken, and when another one is. No clock but the test's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_planner import Clock, Slow, goal, obs

from mbrl_control.runtime.sizing import (
    FITTING,
    MARGIN,
    MISSES,
    PATIENCE,
    RECENT,
    STRETCH,
    Load,
    Sizes,
    Sizing,
    Timed,
    ladder,
    timed,
)

BUDGET = 0.025
ASKED, LEAST = Sizes(256, 20), Sizes(16, 8)


def sized(clock: Clock, asked: Sizes = ASKED, base: float = 0.001) -> tuple[Sizing, list]:
    """A planner that takes ``base`` and 0.1 ms for each sample of full length."""
    said: list[tuple[str, str]] = []
    sizing = Sizing(
        ladder(asked, LEAST),
        lambda sizes: Slow(clock, sizes, base),
        BUDGET,
        lambda planner: timed(planner, obs(), goal(planner), np.random.default_rng(0), clock),
        lambda level, text: said.append((level, text)),
    )
    return sizing, said


# --- The ladder -----------------------------------------------------------------------------------------


def test_fewer_samples_first_then_a_shorter_horizon() -> None:
    rungs = [(s.samples, s.horizon) for s in ladder(Sizes(100, 20), LEAST)]
    assert rungs == [(100, 20), (50, 20), (25, 20), (16, 20), (16, 15), (16, 11), (16, 8)]


@pytest.mark.parametrize(
    ("asked", "rungs"),
    [
        (Sizes(), [(None, None)]),
        (Sizes(horizon=12), [(None, 12), (None, 9), (None, 8)]),
        (Sizes(samples=32), [(32, None), (16, None)]),
        (Sizes(8, 4), [(8, 4)]),
    ],
)
def test_what_a_planner_does_not_have_is_not_changed(asked: Sizes, rungs: list) -> None:
    assert [(s.samples, s.horizon) for s in ladder(asked, LEAST)] == rungs


@given(st.integers(1, 10**5), st.integers(1, 1000), st.integers(1, 10**4), st.integers(1, 100))
def test_a_ladder_goes_down_to_the_least_and_no_further(samples: int, horizon: int, few: int, short: int) -> None:
    rungs = ladder(Sizes(samples, horizon), Sizes(few, short))
    assert rungs[0] == Sizes(samples, horizon)
    assert rungs[-1] == Sizes(min(samples, few), min(horizon, short))
    assert all(one.work > other.work for one, other in pairwise(rungs))


# --- At the start ---------------------------------------------------------------------------------------


def test_what_fits_is_taken_as_asked() -> None:
    sizing, said = sized(Clock(), Sizes(100, 20))
    assert (sizing.at, sizing.fits, sizing.health) == (0, True, ("ok", ""))
    assert said == [("info", "100 samples x 20 steps, as asked: 11.0 ms an iteration, 25.0 ms are there")]


def test_the_largest_size_that_fits_with_margin_is_taken_and_said() -> None:
    sizing, said = sized(Clock())  # 256 samples take 26.6 ms, 128 take 13.8 ms
    assert sizing.sizes == Sizes(128, 20)
    assert sizing.took is not None
    assert sizing.took.upper == pytest.approx(0.0138)
    assert not sizing.degraded
    assert said == [
        (
            "info",
            "128 of 256 samples x 20 steps: 13.8 ms an iteration; what was asked for takes 26.6 ms, 25.0 ms are there",
        )
    ]
    almost, _ = sized(Clock(), Sizes(200, 20))  # 21 ms are less than there is, but more than the margin leaves
    assert almost.sizes.samples == 100


def test_where_nothing_fits_the_least_is_taken_and_the_error_says_what_would_help() -> None:
    sizing, said = sized(Clock(), base=0.1)
    assert sizing.sizes == LEAST
    assert sizing.health[0] == "error"
    (level, text), *_ = said
    assert level == "error"
    assert text.startswith("even 16 samples x 8 steps take 100.6 ms an iteration, 25.0 ms are there")
    assert "a lower rate" in text
    for _ in range(RECENT):
        sizing.see(0.02)
    assert sizing.health == ("ok", ""), "by now it is quick enough"
    for _ in range(MISSES):
        sizing.see(0.1)
    assert sizing.health[0] == "error"


def made(takes: float) -> list[Sizes]:
    """The sizes in which a planner is made, of which 256 samples take so long."""
    clock, sizes = Clock(), []

    def build(one: Sizes) -> Slow:
        sizes.append(one)
        return Slow(clock, one, 0.0, takes / 256)

    def trial(planner: Slow) -> Timed:
        return timed(planner, obs(), goal(planner), np.random.default_rng(0), clock)

    Sizing(ladder(ASKED, LEAST), build, BUDGET, trial, lambda *_: None)
    return sizes


@pytest.mark.parametrize(
    ("takes", "samples"),
    [
        (0.01, [256, 128, 64]),
        (0.022, [256, 128, 64, 32]),
        (0.15, [256, 32, 16, 16]),  # 128 take 75 ms at least, 64 take 37
        (1.0, [256, 16]),  # and 16 are more than there is time for, with any horizon but the least
        (9.0, [256, 16]),
    ],
)
def test_what_cannot_fit_is_not_made_and_two_sizes_are_made_ready_for_load(takes: float, samples: list[int]) -> None:
    assert [sizes.samples for sizes in made(takes)] == samples


def test_outliers_while_everything_starts_do_not_count() -> None:
    clock = Clock()
    clock.pauses = {3: 0.05, 8: 0.05}
    assert sized(clock, Sizes(100, 20))[0].at == 0


def test_a_planner_that_is_very_slow_is_not_timed_for_long() -> None:
    clock = Clock()
    sized(clock, Sizes(64, 8), base=2.0)
    assert clock.now < 3 * 4 * 2.1, "three rungs, two calls to warm up, one that counts, and one to be sure"


def test_without_a_trial_it_is_as_asked_and_stays_so() -> None:
    sizing = Sizing(ladder(Sizes(256, 20), LEAST), lambda s: Slow(Clock(), s), BUDGET, None, lambda *_: None)
    for _ in range(10 * STRETCH):
        sizing.see(1.0)
    assert sizing.sizes == Sizes(256, 20)
    assert sizing.health == ("ok", "")


# --- Under load -----------------------------------------------------------------------------------------


def test_load_is_answered_with_fewer_samples_and_its_end_with_as_many_as_before() -> None:
    clock = Clock()
    sizing, said = sized(clock, Sizes(100, 20))
    said.clear()

    def plans(count: int, slower: float) -> None:
        for _ in range(count):
            sizing.see(slower * sizing.planner.takes)  # type: ignore[attr-defined]

    plans(2 * STRETCH, 1.0)
    assert said == []
    plans(MISSES - 1, 3.0)
    assert sizing.at == 0
    plans(1, 3.0)
    assert (sizing.sizes, sizing.degraded, sizing.steps_down) == (Sizes(50, 20), True, 1)
    assert said == [("warn", "degraded: 50 of 100 samples x 20 steps: iterations took 33.0 ms, 25.0 ms are there")]
    assert sizing.health[0] == "warn"
    plans(10 * STRETCH, 3.0)
    assert sizing.at == 1, "18 ms fit, 33 would not"
    plans(round(FITTING * STRETCH) - 1, 1.0)
    assert sizing.at == 1
    plans(1, 1.0)
    assert sizing.at == 0
    assert said[1:] == [("info", "recovered: 100 samples x 20 steps")]
    assert sizing.health == ("ok", "")


def test_what_is_turned_is_turned_for_every_size() -> None:
    sizing, _ = sized(Clock())
    assert sizing.knobs["of"] == 128
    planner = sizing.planner
    sizing.turn(lambda sizes: {"of": np.asarray(-sizes.given["samples"])})
    assert (sizing.knobs["of"], sizing.planner) == (-128, planner)
    for _ in range(MISSES):
        sizing.see(1.0)
    assert sizing.knobs["of"] == -64


RATIOS = [1.9, 1.8, 1.5, 1.2]


def changes(load: Load, durations: list[float]) -> list[tuple[int, int]]:
    """After how many plans it stepped, and where to."""
    found, at = [], load.at
    for i, duration in enumerate(durations):
        assert 0 <= load.see(duration) <= len(RATIOS)
        if load.at != at:
            assert abs(load.at - at) == 1
            found.append((i, at := load.at))
    return found


@given(
    st.lists(st.tuples(st.integers(1, 200), st.floats(0.0, 0.2)), min_size=1, max_size=30),
    st.integers(0, len(RATIOS)),
)
@settings(max_examples=200)
def test_it_never_steps_faster_than_it_says(spells: list[tuple[int, float]], start: int) -> None:
    durations = [duration for count, duration in spells for _ in range(count)]
    steps = [(-1, start), *changes(Load(RATIOS, start, BUDGET), durations)]
    for (before, was), (now, then) in pairwise(steps):
        assert now - before >= (MISSES if then > was else STRETCH)


@given(st.lists(st.floats(0.0, 0.2), max_size=600), st.integers(0, len(RATIOS)))
@settings(max_examples=100)
def test_whatever_came_before_it_is_at_the_top_when_the_load_is_gone(history: list[float], start: int) -> None:
    load = Load(RATIOS, start, BUDGET)
    changes(load, history)
    quiet = MARGIN * BUDGET / np.prod(RATIOS)
    changes(load, [quiet] * (PATIENCE + len(RATIOS)) * STRETCH)
    assert load.at == 0


@given(st.floats(0.2, 3.0))
@settings(max_examples=50)
def test_a_constant_load_ends_in_one_place(slower: float) -> None:
    """Where each rung takes what it takes, times the same factor, it settles where that fits."""
    takes = 0.01 * slower / np.cumprod([1.0, *RATIOS])
    load = Load(RATIOS, 0, BUDGET)
    ats = []
    for _ in range(8 * STRETCH):
        ats.append(load.see(takes[load.at]))
    assert len(set(ats[2 * STRETCH :])) == 1
    at = ats[-1]
    assert takes[at] <= BUDGET or at == len(RATIOS)
    assert at == 0 or takes[at - 1] > MARGIN * BUDGET


def test_a_rung_that_does_not_hold_is_tried_less_and_less_often() -> None:
    """Timed wrongly, a rung that seems to fit does not: it is left again at once, and tried later each time."""
    load, ups = Load([1.1], 1, BUDGET), []
    for i in range(40 * STRETCH):
        before = load.at
        if load.see(0.015 if before else 0.03) < before:
            ups.append(i)
    gaps = np.diff(ups)
    assert len(ups) >= 4
    assert (gaps[1:] > 1.5 * gaps[:-1]).all()
    assert gaps[0] >= 2 * STRETCH


def test_a_rung_costs_at_most_in_proportion_to_its_size() -> None:
    """A start so busy that the largest size seemed four times as slow as the next: it is tried all the same."""
    seemed = {64: Timed(0.04, 0.2), 32: Timed(0.01, 0.01), 16: Timed(0.009, 0.009)}
    sizing = Sizing(
        ladder(Sizes(64), Sizes(16)),
        lambda sizes: Slow(Clock(), sizes),
        BUDGET,
        lambda planner: seemed[planner.sizes.samples],  # type: ignore[attr-defined]
        lambda *_: None,
    )
    assert sizing.sizes.samples == 32
    for _ in range(STRETCH):
        sizing.see(0.009)
    assert sizing.sizes.samples == 64
