"""The page that shows the recorded episodes of a run: the robot as it moved, a timeline, and what the scores say.

``door.py`` says who may come in, ``stage.py`` draws, ``film.py`` knows what was. Everything is done by the one thread
that calls ``beat``; what a person does in the browser waits for it. Nothing here can command anything.
"""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import viser
from viser import uplot

from mbrl_control.core import MbrlError
from mbrl_control.film import Film, Films, Frame, Player
from mbrl_control.nodes.door import Doorkeeper, silence
from mbrl_control.nodes.stage import Stage
from mbrl_control.runtime.gate import Gate
from mbrl_control.runtime.panel import STYLE
from mbrl_control.shapes import Figure

BEAT = 0.04
"""Between two pictures [s]."""
LONGEST = 0.25
"""However long a picture took, the film goes on by no more [s]."""
LOOK_EVERY = 2.0
"""For trials that are finished by now [s]."""
PLOT_EVERY = 5
"""Pictures for each new place of the line in the plot."""
SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "5")
PLOTTED = 400
"""Rows of an episode that a plot shows at most."""
PLOT_HEIGHT = 150
"""[pixels]"""
LEGENDS = """\
<style>
.u-legend tr.u-series:last-child {display: none}
</style>
"""
"""The last one is the line, which needs no words."""
SHADES = ("#1971c2", "#e8590c", "#2f9e44", "#9c36b5", "#c2255c", "#5f3dc4", "#0c8599", "#f08c00", "#495057")
NOW = "#c92a2a"


class ReplayPage:
    """What the browser shows, and what it is asked for."""

    def __init__(self, sock: socket.socket, gate: Gate, films: Films, index: int) -> None:
        """``index`` is the place in the list of the film that is shown first."""
        self.films, self.film, self.index = films, films.film(index), index
        self.player = _player(self.film)
        self._wishes: deque[Callable[[], None]] = deque(maxlen=256)
        self._fault = ""
        figure = Figure(films.robot)
        self._door = Doorkeeper(gate, sock)
        self._server = self._door.serve(f"mbrl_control · {films.heading[0]}")
        self._stage = Stage(self._server, films.robot, figure, figure.outlook())
        self._furnish()
        self._beats = 0
        self._looked = self._seen = time.monotonic()
        self._shown: tuple[float, bool] | None = None
        self._begin()

    def beat(self, now: float) -> None:
        """Do what was asked for, and show the moment of the film that it is ``now`` [s, on any clock]."""
        passed, self._seen = now - self._seen, now
        while self._wishes:
            self._wishes.popleft()()
        if not self._door.pages:
            return
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            self._refresh()
        self.player.advance(min(passed, LONGEST))
        self._show()

    def close(self) -> None:
        with silence():
            self._server.stop()

    # --- what there is ---

    def _furnish(self) -> None:
        gui, films = self._server.gui, self.films
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.main_panel.dock_right()
        gui.add_html(_head(films.heading))
        self._trial = gui.add_dropdown("trial", films.titles, initial_value=films.titles[self.index])
        self._play = gui.add_button("PAUSE", hint="play, or pause")
        self._time = gui.add_slider("time [s]", 0.0, 1.0, 0.01, 0.0, hint="pull it to any moment; it stays there")
        self._speed = gui.add_dropdown("speed", SPEEDS, initial_value="1")
        self._words = gui.add_html("")
        with gui.add_folder("score of each trial"):
            self._curve = _plot(gui, "steps in the world")
        with gui.add_folder("over time"):
            self._what = gui.add_dropdown("what", tuple(self.film.curves))
            self._plot = _plot(gui, "time [s]")
        self._trial.on_update(self._asked(self._open))
        self._time.on_update(self._asked(self._seek))
        self._speed.on_update(self._asked(self._hurry))
        self._what.on_update(self._asked(lambda _: self._forget()))
        self._play.on_click(self._asked(lambda _: self.player.toggle()))

    def _asked(self, do: Callable[[Any], None]) -> Callable[[Any], Any]:
        """A person's wish, kept until the next beat; what the page changes by itself is none."""

        async def heard(event: viser.GuiEvent[Any]) -> None:
            if event.client_id is not None:
                value = event.target.value
                self._wishes.append(lambda: do(value))

        return heard

    # --- what is asked for; a browser may send anything ---

    def _seek(self, t: Any) -> None:
        if isinstance(t, int | float) and math.isfinite(t):
            self.player.seek(float(t))

    def _hurry(self, speed: Any) -> None:
        if speed in SPEEDS:
            self.player.speed = float(speed)

    def _open(self, title: Any) -> None:
        """A trial of the list, from its beginning; one that cannot be shown is told of.

        The list may have grown since the browser saw it, and another one be the best: the number counts.
        """
        titles = self.films.titles
        numbers = [known.split()[0] for known in titles]
        number = str(title).partition(" ")[0]
        if number in numbers:
            index = numbers.index(number)
            try:
                self.film, self.index, self._fault = self.films.film(index), index, ""
                self.player = _player(self.film, self.player.speed)
                self._begin()
            except MbrlError as error:
                self._complain(error)
        self._trial.value = titles[self.index]

    def _refresh(self) -> None:
        try:
            more = self.films.refresh()
        except MbrlError as error:
            self._complain(error)
            return
        if more:
            titles, self._fault = self.films.titles, ""
            with self._server.atomic():
                self._trial.options = titles
                self._trial.value = titles[self.index]
            self._draw_curve()

    def _complain(self, error: MbrlError) -> None:
        self._fault = str(error)
        self._forget()

    def _forget(self) -> None:
        self._shown = None

    # --- what is shown ---

    def _begin(self) -> None:
        """A film from its first picture."""
        film, time_slider = self.film, self._time
        time_slider.min, time_slider.max = film.begin, film.end
        curves = tuple(film.curves)
        if tuple(self._what.options) != curves:
            self._what.options = curves
        self._stage.show_path(film.tip)
        self._draw_curve()
        self._forget()
        self._show()

    def _show(self) -> None:
        player, film = self.player, self.film
        if self._shown == (player.t, player.playing):
            return
        moved = self._shown is None or self._shown[0] != player.t
        self._shown = player.t, player.playing
        self._beats += 1
        frame = film.at(player.t)
        self._stage.show(frame.q, frame.blocks)
        self._stage.show_target(frame.target)
        self._time.value = round(player.t, 2)
        label = "PAUSE" if player.playing else "PLAY"
        if self._play.label != label:
            self._play.label = label
        self._words.content = words(film, frame, [self._fault] * bool(self._fault))
        if moved and (not player.playing or self._beats % PLOT_EVERY == 1):
            self._draw_plot(player.t)

    def _draw_plot(self, t: float) -> None:
        """A curve over time, and a line where the film is."""
        if self._what.value not in self.film.curves:
            return
        names, rows = self.film.curves[self._what.value]
        every = math.ceil(len(rows) / PLOTTED)
        x, rows = self.film.t[::every], rows[::every]
        _draw(self._plot, x, list(zip(names, rows.T, strict=True)), t)

    def _draw_curve(self) -> None:
        """The score over the steps in the world, and a line where the trial is that is shown."""
        (x, scores), threshold = self.films.learned, self.films.threshold
        curves = [("score", scores)]
        if threshold is not None:
            curves.append((f"threshold {threshold:g}", np.full(len(x), threshold)))
        _draw(self._curve, x, curves, x[self.index], points=True)


def _player(film: Film, speed: float = 1.0) -> Player:
    return Player(film.begin, film.end, film.begin, speed=speed)


def words(film: Film, frame: Frame, faults: Sequence[str] = ()) -> str:
    """What stands beside the picture."""
    rows = {
        "time": f"{frame.t:.2f} of {film.end:.2f} s",
        "step": f"{frame.row} of {film.steps}",
        "score so far": _figure(frame.score, ".2f"),
        "goal": "–" if frame.goal is None else " ".join(f"{part:.3f}" for part in frame.goal),
        "distance to it": _figure(frame.distance, ".3f"),
        **film.facts,
    }
    table = "".join(f"<tr><td>{name}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    bad = "".join(f'<div class="bad">{escape(line)}</div>' for line in (*film.doubts, *faults))
    return f'<div class="mbrl"><table>{table}</table>{bad}</div>'


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _head(lines: Sequence[str]) -> str:
    first, *rest = map(escape, lines)
    return STYLE + LEGENDS + f'<div class="mbrl"><b>{first}</b><br/>{"<br/>".join(rest)}</div>'


def _plot(gui: viser.GuiApi, along: str) -> viser.GuiUplotHandle:
    """An empty plot, to be drawn into."""
    x = np.array([0.0, 1.0])
    axes = (uplot.Axis(label=along, labelSize=18, size=34), uplot.Axis(size=56))
    return gui.add_uplot((x, x, x), _series(["-"]), axes=axes, height=PLOT_HEIGHT, legend={"show": True, "live": False})


def _draw(
    plot: viser.GuiUplotHandle, x: np.ndarray, curves: Sequence[tuple[str, np.ndarray]], at: float, points: bool = False
) -> None:
    """Curves over ``x``, and a line upright at ``at``.

    The line is a curve too, that lies on the plot's lower edge elsewhere: all have the same places along ``x``, and at
    that of the line three of them.
    """
    low, high = _range([y for _, y in curves])
    place = int(np.searchsorted(x, at, side="right"))
    with_line = np.insert(x, place, [at] * 3)
    drawn = [np.insert(y, place, [float(np.interp(at, x, y))] * 3) for _, y in curves]
    line = np.full(len(with_line), low)
    line[place + 1] = high
    series = _series([name for name, _ in curves], points)
    if tuple(plot.series) != series:
        plot.series = series
    plot.scales = {"x": {"time": False, "range": _range([x], 0.02)}, "y": {"range": (low, high)}}
    plot.data = (with_line, *drawn, line)


def _range(curves: Sequence[np.ndarray], air: float = 0.05) -> tuple[float, float]:
    """What the plot reaches from and to, with a share of air."""
    finite = np.concatenate([y[np.isfinite(y)] for y in curves])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    more = air * (high - low) or 1.0
    return low - more, high + more


def _series(names: Sequence[str], points: bool = False) -> tuple[uplot.Series, ...]:
    """How the curves look; the last one is the line."""
    curves = [
        uplot.Series(label=name, stroke=SHADES[i % len(SHADES)], width=1.5, points={"show": points and i == 0})
        for i, name in enumerate(names)
    ]
    return uplot.Series(label="at"), *curves, uplot.Series(label="now", stroke=NOW, width=1.0, points={"show": False})
