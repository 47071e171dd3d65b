"""``mbrl view``: the recorded episodes of a learner's run, in the browser."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbrl_control.errors import MbrlError

if TYPE_CHECKING:
    from mbrl_control.run_films import RunFilms

HOST = "127.0.0.1"
SUMMARY = "the recorded episodes of a learner's run, in the browser"
TEACH = """\
Prints a link to a page that shows the robot as it moved in a trial of 'mbrl learn', with a timeline, the goal and the
score so far, and the scores of all trials, any of which can be chosen there. A run that still goes on can be viewed:
trials are there as soon as they are finished. Nothing is commanded, and nothing is written. Ctrl-C ends it.

Exit status: 0 after Ctrl-C, which is how it ends.

examples:
  mbrl view runs/cartpole_swing_up-2026-11-21-101500
  mbrl view runs/cartpole_swing_up-2026-11-21-101500 --trial 0 --port 9000 --json shown.json
"""


class ViewError(MbrlError):
    """A view of a run that is not asked for in a way that can be done."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run's folder, as 'mbrl learn' says it")
    parser.add_argument("--trial", metavar="N", default=None, help="which trial; default: the one with the best score")
    parser.add_argument(
        "--port", metavar="PORT", default=None, help="where to listen, 0: anywhere; default: 8090 or the next free one"
    )


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    door, replay_page = _pages()
    from mbrl_control.run_films import RunFilms

    films = RunFilms(Path(args.folder))
    index = films.best if args.trial is None else _number(args.trial, "--trial", 0, len(films.trials) - 1)
    sock = _listen(door, args.port)
    gate = door.gate_of(sock, HOST)
    page = replay_page.ReplayPage(sock, gate, films, index)
    print(headline(films))
    print(f"view {door.link(HOST, gate)}", flush=True)
    try:
        while True:
            page.beat(time.monotonic())
            time.sleep(replay_page.BEAT)
    except KeyboardInterrupt:
        page.close()
    return 0, {
        "run": str(films.folder),
        "task": films.names["task"],
        "robot": films.names["robot"],
        "trial": page.film.number,
        "steps": page.film.steps,
        "score": films.trials[page.index].score,
        "trials": len(films.trials),
        "url": door.url(HOST, gate),
    }


def _pages() -> tuple[Any, Any]:
    """What serves pages; a line that says what to install where its package is missing."""
    try:
        from mbrl_control.nodes import door, replay_page
    except ModuleNotFoundError as error:
        raise ViewError(f"the package '{error.name}' is not installed: pip install 'mbrl_control[viewer]'") from None
    return door, replay_page


def _listen(door: Any, port: str | None) -> Any:
    """The port that was asked for, and no other one; where none was, the next free one."""
    if port is None:
        return door.listen(HOST, door.PORT)
    return door.listen(HOST, _number(port, "--port", 0, 65535), tries=1)


def _number(text: str, flag: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise ViewError(f"{flag} = '{text}': it takes a whole number from {low} to {high}")
    return number


def headline(films: RunFilms) -> str:
    best, names, many = films.trials[films.best], films.names, "s" * (len(films.trials) > 1)
    return (
        f"{films.folder} · {names['robot']} · task {names['task']} · {len(films.trials)} trial{many} · "
        f"best score {best.score:.2f} in trial {best.number}"
    )
