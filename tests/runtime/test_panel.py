"""The words on the page: true, readable, and never somebody else's script."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from mbrl_control.runtime import panel
from mbrl_control.runtime.digest import Digest
from mbrl_control.runtime.panel import NO_GUARD, SILENT, Seen
from mbrl_control.runtime.states import GuardState

DIGEST = Digest(
    1.0, GuardState.ACTIVE, 0.0042, 999, 1, 2, 4e-5, 7e-4, 1.8e-3, 0.062, 0.075, 4, *(np.zeros(7) for _ in range(3))
)
SEEN = Seen(
    digest=DIGEST,
    digest_age=0.02,
    guard="ACTIVE: armed",
    figures={
        "controller": {"state_rate_hz": "199.8", "plan_rate_hz": "20.01", "promise_class": "A"},
        "planner": {
            "plan_ms_p50": "21.6",
            "plan_ms_p99": "30.2",
            "lead_ms": "48.2",
            "sizes": "degraded: 32 of 64 samples x 10 steps",
        },
    },
    distance=0.1102,
    goal=np.array([0.45, 0.25, 0.5]),
    goal_from="this page",
)


def words(html: str) -> str:
    """What is read of it."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize("state", list(GuardState))
def test_every_state_has_its_word_its_reason_and_a_colour(state: GuardState) -> None:
    seen = replace(SEEN, digest=replace(DIGEST, state=state), guard=f"{state.shown}: because of rain")
    assert panel.state_of(seen) == (state.shown, "because of rain")
    assert state.shown in words(panel.state(seen))
    assert panel.COLOURS[state.shown] in panel.state(seen)


def test_a_reason_of_another_state_is_not_shown_as_this_ones() -> None:
    seen = replace(SEEN, guard="ACTIVE: armed", digest=replace(DIGEST, state=GuardState.FAULT))
    assert panel.state_of(seen) == ("FAULT", "waiting for ~/reset")


def test_a_guard_that_is_silent_is_never_shown_as_active() -> None:
    assert panel.state_of(replace(SEEN, digest_age=SILENT - 0.01))[0] == "ACTIVE"
    for seen in (replace(SEEN, digest_age=SILENT + 0.01), Seen(guard="ACTIVE: armed")):
        assert panel.state_of(seen)[0] == NO_GUARD
        assert "ACTIVE" not in words(panel.state(seen))
        assert "ms old" not in words(panel.figures(seen))
        assert "0.70" not in words(panel.figures(seen))


def test_figures_are_those_that_came() -> None:
    text = " ".join(words(panel.figures(SEEN)).split())
    for shown in ("degraded: 32 of 64 samples x 10 steps", "48 ms ahead", "62 / 75 ms", "did not take over 4"):
        assert shown in text
    for shown in ("200 Hz, 4 ms old", "20.0 Hz", "21.6 / 30.2 ms", "0.04 / 0.70 ms", "1.8 ms", "1 of 1000", "holds 2"):
        assert shown in text


@pytest.mark.parametrize("value", [None, "nan", "inf", "many", ""])
def test_a_figure_that_is_none_is_a_dash(value: str | None) -> None:
    planner = {} if value is None else {"plan_ms_p50": value, "plan_ms_p99": value}
    assert "– / – ms" in words(panel.figures(replace(SEEN, figures={"planner": planner})))


def test_the_goal_says_where_it_is_who_gave_it_and_why_a_wish_came_to_nothing() -> None:
    text = words(panel.goal(replace(SEEN, goal_refusal="too far")))
    for shown in ("0.450 0.250 0.500 m, from this page", "110.2 mm away", "refused: too far"):
        assert shown in text
    assert "no goal was given yet" in words(panel.goal(Seen()))


EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "html",
    [
        panel.state(replace(SEEN, guard=f"ACTIVE: {EVIL}")),
        panel.state(replace(SEEN, answer=EVIL)),
        panel.goal(replace(SEEN, goal_refusal=EVIL, goal_from=EVIL)),
        panel.figures(
            replace(
                SEEN,
                figures={
                    "controller": {"promise_class": EVIL, "state_rate_hz": EVIL, "plan_rate_hz": EVIL},
                    "planner": {"plan_ms_p50": EVIL, "plan_ms_p99": EVIL, "lead_ms": EVIL, "sizes": EVIL},
                },
            )
        ),
    ],
)
def test_what_came_over_a_topic_is_text_and_not_a_script(html: str) -> None:
    assert "<img" not in html
