"""The page of recorded episodes: what it shows is what was, it obeys timeline and list, and strangers stay out."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from small_run import begun, one_more, small_run
from visitor import Visitor

from mbrl_control.learning import Lab
from mbrl_control.nodes import door
from mbrl_control.nodes.replay_page import BEAT, ReplayPage
from mbrl_control.run_films import RunFilms
from mbrl_control.runtime.gate import SHIELD
from mbrl_control.shapes import Figure

HOST = "127.0.0.1"
PATIENCE = 10.0
LOOK_EVERY = 0.4
"""At a real browser [s]."""


class Cinema:
    """A page, and a clock that is turned by hand."""

    def __init__(self, folder: Path, index: int = 0) -> None:
        self.films = RunFilms(folder)
        sock = door.listen(HOST, 0)
        self.gate = door.gate_of(sock, HOST)
        self.link = door.link(HOST, self.gate)
        self.page = ReplayPage(sock, self.gate, self.films, index)
        self.now = time.monotonic()

    def passes(self, seconds: float = BEAT) -> None:
        """So much time, beat by beat."""
        for _ in range(round(seconds / BEAT)):
            self.now += BEAT
            self.page.beat(self.now)

    def until(self, condition: Callable[[], Any]) -> None:
        """While the clock stands still."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up
            self.page.beat(self.now)
            time.sleep(0.01)

    def stands(self, visitor: Visitor, body: str) -> bool:
        """Whether a visitor sees a body where MuJoCo has it at the moment that the page has come to."""
        frame = self.page.film.at(self.page.player.t)
        pose = Figure(self.films.robot).poses(frame.q, frame.blocks)[body]
        return np.allclose(visitor.position.get(f"/arm/{body}", np.nan), pose.position, atol=1e-6)


@pytest.fixture
def cinema(tmp_path: Path) -> Iterator[Cinema]:
    """The second one of two trials of the cart-pole."""
    small_run(tmp_path / "run", "cartpole_swing_up", trials=2)
    made = Cinema(tmp_path / "run", 1)
    yield made
    made.page.close()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A run of one trial, with the puck."""
    lab = begun(tmp_path / "run", "pusher")
    one_more(lab)
    return lab


def test_it_plays_what_was_recorded_to_its_end_while_somebody_looks(cinema: Cinema) -> None:
    page = cinema.page
    cinema.passes(0.4)
    assert page.player.t == 0.0, "nobody has come yet"
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: page._door.pages == 1)
        cinema.passes(0.4)
        assert page.player.t == pytest.approx(0.4)
        cinema.until(lambda: cinema.stands(visitor, "cart"))
        cinema.until(lambda: visitor.reads("time [s]") == pytest.approx(0.4))
        cinema.until(lambda: "10 of 25" in visitor.words)
        assert f"{page.film.scores[10]:.2f}" in visitor.words
        cinema.passes(5.0)
        cinema.until(lambda: "25 of 25" in visitor.words)
        cinema.until(lambda: cinema.stands(visitor, "cart"))
        assert not page.player.playing


def test_it_stands_where_it_is_put_and_goes_on_as_fast_as_it_is_told(cinema: Cinema) -> None:
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: "PAUSE" in visitor.buttons and "speed" in visitor.inputs)
        visitor.turn("time [s]", 0.6)
        cinema.until(lambda: cinema.page.player.t == 0.6)
        cinema.passes(0.2)
        assert cinema.page.player.t == 0.6
        cinema.until(lambda: "15 of 25" in visitor.words)
        cinema.until(lambda: cinema.stands(visitor, "cart"))
        visitor.turn("speed", "0.5")
        cinema.until(lambda: cinema.page.player.speed == 0.5)
        visitor.press("PAUSE")  # it says PLAY by now
        cinema.until(lambda: cinema.page.player.playing)
        cinema.passes(0.4)
        assert cinema.page.player.t == pytest.approx(0.8)


def test_another_trial_is_another_film(cinema: Cinema) -> None:
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: "trial" in visitor.inputs)
        assert visitor.reads("trial") == cinema.films.titles[1]
        assert visitor.reads("trial", "options") == list(cinema.films.titles)
        visitor.turn("trial", cinema.films.titles[0])
        cinema.until(lambda: cinema.page.film.number == 0)
        cinema.passes(0.2)
        cinema.until(lambda: f"{cinema.films.trials[0].score:.2f}" in visitor.words)
        cinema.until(lambda: cinema.stands(visitor, "cart"))


def test_a_trial_that_cannot_be_read_is_told_of_and_the_film_stays(cinema: Cinema) -> None:
    replay = cinema.films.folder / "replay"
    (replay / "episode-000000.npz").write_bytes(b"torn")
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: "trial" in visitor.inputs)
        visitor.turn("trial", cinema.films.titles[0])
        cinema.until(lambda: "no episode of &#x27;trial 0&#x27; that can be read" in visitor.words)
        cinema.until(lambda: visitor.reads("trial") == cinema.films.titles[1])
        assert cinema.page.film.number == 1


def test_what_a_browser_sends_may_be_stale_or_nonsense(cinema: Cinema) -> None:
    page = cinema.page
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: "what" in visitor.inputs)
        for label, value in (("time [s]", float("nan")), ("time [s]", "soon"), ("speed", "-1"), ("what", "nothing")):
            visitor.turn(label, value)
        visitor.turn("trial", "7 · plan · 180.00")
        visitor.turn("trial", "0 · explore · best, as it was then")
        cinema.until(lambda: page.film.number == 0)
        cinema.until(lambda: visitor.reads("trial") == cinema.films.titles[0])
        cinema.passes(0.4)
        assert (page.player.t, page.player.speed) == (pytest.approx(0.4), 1.0)
        visitor.turn("what", "joint positions")
        cinema.passes(0.4)
        cinema.until(lambda: cinema.stands(visitor, "cart"))


def test_a_trial_that_is_finished_meanwhile_is_in_the_list_and_the_puck_is_where_it_was(lab: Lab) -> None:
    cinema = Cinema(lab.run.folder)
    try:
        with Visitor(cinema.link) as visitor:
            cinema.until(lambda: "trial" in visitor.inputs)
            cinema.passes(0.4)
            cinema.until(lambda: cinema.stands(visitor, "object"))
            goal = cinema.page.film.goals[0]
            cinema.until(lambda: np.allclose(visitor.position.get("/target", np.nan), goal, atol=1e-6))
            one_more(lab)
            assert len(visitor.reads("trial", "options")) == 1
            cinema.passes(3.0)
            cinema.until(lambda: len(visitor.reads("trial", "options")) == 2)
            assert cinema.page.film.number == 0
            visitor.turn("trial", cinema.films.titles[1])
            cinema.until(lambda: cinema.page.film.number == 1)
    finally:
        cinema.page.close()


def test_the_eye_goes_along_with_a_runner(tmp_path: Path) -> None:
    small_run(tmp_path / "run", "half_cheetah")
    cinema = Cinema(tmp_path / "run")
    home = Figure(cinema.films.robot).poses(cinema.films.robot.home)["torso"].position
    try:
        with Visitor(cinema.link) as visitor:
            cinema.until(lambda: "trial" in visitor.inputs)
            cinema.passes(2.0)
            q = cinema.page.film.q[-1]
            assert abs(q[0]) > 1e-3, "it has moved"
            seen = home + np.array([0.0, 0.0, q[1]])
            cinema.until(lambda: np.allclose(visitor.position.get("/arm/torso", np.nan), seen, atol=1e-6))
            cinema.until(lambda: np.allclose(visitor.position.get("/floor", np.nan), [-q[0], 0.0, 0.0], atol=1e-6))
    finally:
        cinema.page.close()


def test_there_is_nothing_to_command_with_and_strangers_stay_out(cinema: Cinema) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(door.url(HOST, cinema.gate))
    assert refused.value.code == 403
    assert {name: refused.value.headers[name] for name, _ in SHIELD} == dict(SHIELD)
    refused.value.close()
    with Visitor(cinema.link) as visitor:
        cinema.until(lambda: visitor.buttons)
        cinema.until(lambda: {"trial", "time [s]", "speed", "what"} == set(visitor.inputs))
        assert set(visitor.buttons) == {"PAUSE"}


@pytest.mark.timeout(300)  # software rendering, on two cores
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
def test_a_person_looks_at_a_run(tmp_path: Path) -> None:
    """As it is typed, in a real browser: played, put at its middle with the mouse, and ended with Ctrl-C."""
    small_run(tmp_path / "run", "cartpole_swing_up", trials=2)
    command = [sys.executable, "-m", "mbrl_control.cli", "view", "run", "--trial=0", "--port=0", "--json=shown.json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert re.match(r"run · pets_cartpole · task cartpole_swing_up · 2 trials · best", process.stdout.readline())
        said = process.stdout.readline()
        link = re.fullmatch(r"view (http://127\.0\.0\.1:\d+/\?token=\S+)\n", said)
        assert link, said
        with Browser(tmp_path, 700, 420) as browser:
            browser.open(link[1])
            seen(lambda: "25 of 25" in browser.text(), "played to its end")
            assert "token" not in browser.evaluate("location.href")
            at_the_end = canvas(browser)
            browser.click(*browser.middle(".mantine-Slider-track"))
            seen(lambda: re.search(r"step\s+1[23] of 25", browser.text()), "put at its middle")
            seen(lambda: canvas(browser) != at_the_end, "the cart is elsewhere")
    finally:
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=20.0)
    assert process.returncode == 0, complaint
    assert (said, complaint) == ("", "")
    shown = json.loads((tmp_path / "shown.json").read_text())
    assert (shown["run"], shown["trial"], shown["steps"], shown["trials"]) == ("run", 0, 25, 2)
    assert link[1].startswith(shown["url"])
    assert "token" not in shown["url"]


def seen(condition: Callable[[], Any], what: str) -> None:
    """Looked for now and then: a browser that is asked all the time has none left to draw."""
    give_up = time.monotonic() + 90.0
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(LOOK_EVERY)


def canvas(browser: Browser) -> str:
    """The picture of the robot, as the browser shows it."""
    x, y = browser.middle("canvas")
    clip = {"x": x - 150, "y": y - 150, "width": 300, "height": 300, "scale": 1}
    return browser.call("Page.captureScreenshot", format="png", clip=clip)["data"]
