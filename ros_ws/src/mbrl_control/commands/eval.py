"""``mbrl eval``: how good planners are with models, in closed-loop episodes in simulation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mbrl_control.config import add_flags, from_flags

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_control.comparison import EvalConfig, Scores
    from mbrl_control.evaluate import Parts

SUMMARY = "how good planners are with models, in simulated episodes"
TEACH = """\
Every planner with every model meets the same starts and goals, on the simulated robot, without ROS and without a
clock: computation takes no simulated time. NAME:=VALUE sets a parameter of a part, as in 'mbrl list planners mppi'.
A model is one of 'mbrl list dynamics', or a folder that 'mbrl export' has written, by its path or its name in models/.
world.payload:=2 and the like make the simulated robot another one than models are told of.
The score is the task's own, summed over an episode. docs/evaluation.md has results.

Exit status: 0 if the goal was met in every episode, 1 if not, 130 after Ctrl-C, which keeps what is finished.

examples:
  mbrl eval reach --model kinematic
  mbrl eval reach --model panda,kinematic world.payload:=2 world.stiffness:=0.3
  mbrl eval swing_up --robot pendulum --seconds 5 mujoco.timestep:=0.01 mppi.samples:=64 --json out.json
  mbrl eval swing_up --robot cartpole --model analytic --planner mppi,cem,shooting --episodes 2
  mbrl eval cartpole_swing_up --model models/cartpole,mujoco --planner icem onnx.particles:=20
"""


def add(parser: argparse.ArgumentParser) -> None:
    from mbrl_control.comparison import EvalConfig

    parser.add_argument("task", metavar="TASK", help="which task, as in 'mbrl list tasks'")
    parser.add_argument("arguments", metavar="NAME:=VALUE", nargs="*", help="parameters, as mppi.samples:=64")
    add_flags(parser, EvalConfig)


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from rich.console import Console

    from mbrl_control.comparison import EvalConfig, Scores, contenders, in_full
    from mbrl_control.runtime.launch import assignments

    options = from_flags(EvalConfig, args)
    settings = assignments(args.arguments, "parameters")
    parts = contenders(args.task, options, settings)
    options = in_full(options, parts[0].task)
    console, results, interrupted = Console(highlight=False), [], False
    console.print(headline(parts[0], options), markup=False, soft_wrap=True)
    try:
        with progress(console, len(parts) * options.episodes * options.seconds) as advance:
            for one in parts:
                scores = Scores(one.names)
                results.append(scores)
                for number in range(options.seed, options.seed + options.episodes):
                    scores.episodes.append(episode(one, number, options, advance))
                if not console.is_terminal:
                    show_line(console, scores)
    except KeyboardInterrupt:
        interrupted = True
    finished = [scores for scores in results if scores.episodes]
    if console.is_terminal:
        show_table(console, finished)
    elif interrupted and finished and len(finished[-1].episodes) < options.episodes:
        show_line(console, finished[-1])
    met, tried = sum(scores.met for scores in finished), sum(len(scores.episodes) for scores in finished)
    words = f"{met} of {tried} goals met" + (" before it was interrupted" if interrupted else "")
    console.print(words, markup=False)
    status = 130 if interrupted else int(met < tried)
    return status, {
        "status": status,
        "interrupted": interrupted,
        "task": args.task,
        "options": {**asdict(options), "robot": parts[0].names["robot"]},
        "settings": settings,
        "results": [scores.facts() for scores in finished],
    }


def episode(parts: Parts, number: int, options: EvalConfig, advance: Any) -> Any:
    """One episode, its simulated time told to ``advance`` as it passes."""
    from mbrl_control.evaluate import run_episode

    begun = advance(0.0)
    done = run_episode(
        parts,
        number,
        options.seconds,
        rate=options.rate,
        iterations=options.iterations,
        on_plan=lambda t: advance(t, begun),
    )
    advance(options.seconds, begun)
    return done


def headline(parts: Parts, options: EvalConfig) -> str:
    many = "s" * (options.episodes > 1)
    return (
        f"{parts.names['robot']} · task {parts.names['task']} · {options.episodes} episode{many} of "
        f"{options.seconds:g} s each · {options.rate:g} plans a second, {options.iterations} iterations each"
    )


@contextmanager
def progress(console: Console, total: float) -> Iterator[Any]:
    """A function that is told simulated time [s] and from where it counts, and says where it stands."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield lambda _t, begun=0.0: begun
        return
    columns = TextColumn("simulated {task.completed:.0f} of {task.total:.0f} s"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("", total=total)

        def advance(t: float, begun: float | None = None) -> float:
            begun = bar.tasks[line].completed if begun is None else begun
            bar.update(line, completed=begun + t)
            return begun

        yield advance


def show_line(console: Console, scores: Scores) -> None:
    """One result as a line that can be searched."""
    row = scores.row()
    rest = "   ".join(f"{name} {value}" for name, value in list(row.items())[2:])
    console.print(f"{row['planner']} on {row['model']}   {rest}", markup=False, soft_wrap=True)


def show_table(console: Console, results: list[Scores]) -> None:
    """All results, for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [scores.row() for scores in results]
    for name in rows[0] if rows else ():
        table.add_column(name)
    for scores, row in zip(results, rows, strict=True):
        style = "green" if scores.met == len(scores.episodes) else "yellow"
        cells = {**{name: escape(value) for name, value in row.items()}}
        table.add_row(*{**cells, "goals met": f"[{style}]{row['goals met']}[/]"}.values())
    console.print(table)
