"""``mbrl doctor``: what this machine can promise, with what to change."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mbrl_control.config import add_flags, from_flags

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_control.runtime.doctor import Check

SUMMARY = "what this machine can promise, with what to change"
TEACH = """\
Looks at Python and packages, cores and kernel, scheduling, ROS 2, ONNX Runtime's providers and the planners; measures
how late the guard's tick is, a round trip between two processes, and how fast each planner plans. It changes nothing.
Every line is ok, info, warn (less is promised) or fail (something cannot work like this).

Exit status: 0 where nothing fails, 1 where something does.

examples:
  mbrl doctor                             everything, in about 20 s
  mbrl doctor --quick                     a first look, in about 3 s
  mbrl doctor --seconds 60 --load         the tick for a minute, and again with every core busy
  mbrl doctor --robot panda --live        a robot that is running: its joint states, its sink, who else commands
  mbrl doctor --model analytic --json doctor.json
"""
STYLES = {"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red"}
"""Of a verdict."""


def add(parser: argparse.ArgumentParser) -> None:
    from mbrl_control.runtime.doctor import DoctorConfig

    add_flags(parser, DoctorConfig)
    parser.add_argument("--quick", action="store_true", help="measure less, in about 3 s")
    parser.add_argument("--load", action="store_true", help="measure the tick again with every core busy")
    parser.add_argument("--live", action="store_true", help="look at the robot that runs in this ROS domain as well")


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from rich.console import Console

    from mbrl_control.examination import QUICK, Examination, thorough
    from mbrl_control.runtime.doctor import DoctorConfig, summarise

    options = from_flags(DoctorConfig, args)
    console, found = Console(highlight=False), []
    with ThreadPoolExecutor() as side:
        effort = QUICK if args.quick else thorough(options)
        examination = Examination(options, effort, args.load, side if args.quick else None)
        for title, doing, look in examination.steps(args.live):
            with console.status(f"{doing} ...") if console.is_terminal else nullcontext():
                checks = look()
            found += [(title, check) for check in checks]
            show(console, title, checks)
    every = [check for _, check in found]
    summary = summarise(examination.promise_class, every)
    show_changes(console, every)
    console.print(f"\n[bold]{summary}[/]", soft_wrap=True)
    return summary.status, {
        "status": summary.status,
        "promise_class": summary.promise_class,
        "summary": str(summary),
        "checks": [{"section": title, **asdict(check)} for title, check in found],
        "options": {**asdict(options), "quick": args.quick, "load": args.load, "live": args.live},
        "facts": examination.facts,
    }


def show(console: Console, title: str, checks: Sequence[Check]) -> None:
    """A section: a table on a terminal, lines that can be searched elsewhere."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"\n[bold]{escape(title)}[/]")
    if not console.is_terminal:
        for check in checks:
            console.print(f"{check.verdict:5} {check.name}: {check.found}", markup=False, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    for check in checks:
        verdict = f"[{STYLES[check.verdict]}]{check.verdict}[/]"
        table.add_row(verdict, escape(check.name), escape(check.found))
    console.print(table)


def show_changes(console: Console, checks: Sequence[Check]) -> None:
    """What to change, the worst first; lines are not broken, so that they can be copied."""
    from rich.markup import escape

    from mbrl_control.runtime.doctor import urgent

    changes = urgent(checks)
    if changes:
        console.print("\n[bold]What to change[/]")
    for number, check in enumerate(changes, start=1):
        first, *more = check.change.splitlines()
        style = STYLES[check.verdict]
        console.print(f"{number}. [{style}]{check.verdict}[/] {escape(check.name)}: {escape(first)}", soft_wrap=True)
        for line in more:
            console.print(f"     {line}", markup=False, soft_wrap=True)
