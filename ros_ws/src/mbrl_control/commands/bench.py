"""``mbrl bench``: how fast it is, and how fast others are at the same work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbrl_control.bench import KINDS
from mbrl_control.config import add_flags, from_flags
from mbrl_control.errors import MbrlError

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_control.bench.rows import Row
    from mbrl_control.bench.session import Bench, BenchConfig

SUMMARY = "how fast it is, and how fast others are at the same work"
TEACH = """\
  policy  one action of a small network as ONNX, against eager torch
  plan    one plan of PETS' and of PDDM's sizes, against mbrl-lib and pytorch-mppi; what it costs over N, H and E
  ilqr    an optimal motion of a seven-joint arm over 25 to 200 knots, against crocoddyl
  train   one epoch of an ensemble, against mbrl-lib
  loop    closed-loop return and plan time, against mbrl-lib's PETS on the same task and data
  all     each of them

Without --peers ours alone is measured. With it others take part, in an environment of their own that is made at the
first time (pip, about a gigabyte); each is a process that rests while it is not its turn. Turns go A B A B; a row has
medians and ranges, the rate, its share of the machine's own matrix product in the same run, and how far the results of
the same inputs differ. docs/performance.md has a table. A machine with nothing else to do gives numbers worth keeping.

Exit status: 0 when all was measured, 2 where something failed, 130 after Ctrl-C; what was finished is kept.

examples:
  mbrl bench policy
  mbrl bench plan --peers --json plan.json
  mbrl bench ilqr --peers --plots .
  mbrl bench train --peers --pairs 3 --threads 1
  mbrl bench loop --peers --seeds 2 --plots .
  mbrl bench plan --provider cuda
  mbrl bench all --peers --json performance.json --plots .
"""


def add(parser: argparse.ArgumentParser) -> None:
    from mbrl_control.bench.session import BenchConfig

    parser.add_argument("benchmark", metavar="WHAT", choices=(*KINDS, "all"), help=f"one of {', '.join(KINDS)}, or all")
    parser.add_argument("--peers", action="store_true", help="measure others as well, in an environment made for them")
    parser.add_argument("--plots", metavar="DIR", default=None, help="also draw performance.png and the like there")
    add_flags(parser, BenchConfig)


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from rich.console import Console

    from mbrl_control.bench.session import Bench, BenchConfig

    options, console = from_flags(BenchConfig, args), Console(highlight=False)
    kinds = KINDS if args.benchmark == "all" else (args.benchmark,)
    check(args, options)
    bench = Bench(options, peers(args, options, console))
    status, failed = 0, ""
    try:
        measure(console, bench, kinds)
    except KeyboardInterrupt:
        status = 130
    except MbrlError as error:
        status, failed = 2, str(error)
    finally:
        bench.close()
    facts = bench.facts()
    if args.plots:
        from mbrl_control.bench.plots import draw

        for path in draw(facts, Path(args.plots)):
            console.print(f"drawn: {path}", markup=False, soft_wrap=True)
    if failed:
        print(f"mbrl: {failed}", file=sys.stderr)
    return status, {
        **facts,
        "benchmark": args.benchmark,
        "status": status,
        "interrupted": status == 130,
        "error": failed,
    }


def check(args: argparse.Namespace, options: BenchConfig) -> None:
    """Mistakes are told before anything is measured."""
    casadi = ("casadi",) * (args.benchmark in ("ilqr", "all"))
    for package in ("torch", "threadpoolctl", "onnx", "onnxruntime", *casadi) + ("matplotlib",) * bool(args.plots):
        installed(package)
    if args.plots and not Path(args.plots).is_dir():
        raise MbrlError(f"--plots {args.plots}: no such folder; it takes one that is there")
    if options.provider == "cuda":
        from mbrl_control.bench.gpu import check as check_gpu

        if args.benchmark != "plan":
            raise MbrlError(f"--provider cuda: 'mbrl bench {args.benchmark}' computes on the CPU; it takes 'plan'")
        if args.peers:
            raise MbrlError("--peers: on a GPU ours alone is measured; it takes --provider cpu")
        check_gpu()


def installed(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MbrlError(f"the package '{package}' is not installed: pip install 'mbrl_control[train,report]'")


def peers(args: argparse.Namespace, options: BenchConfig, console: Console) -> Path | None:
    """The Python of the peers' environment, if they are to take part."""
    from mbrl_control.bench import environment

    if not args.peers:
        return None
    folder = Path(options.peers_dir) if options.peers_dir else environment.default()
    return environment.made(folder.absolute(), lambda words: console.print(words, markup=False, soft_wrap=True))


def measure(console: Console, bench: Bench, kinds: Sequence[str]) -> None:
    """One kind after another, each row told when it is there."""
    from mbrl_control.bench.session import kind

    console.print(headline(bench), markup=False, soft_wrap=True)
    bench.on_row = lambda row: console.print(line(row), markup=False, soft_wrap=True)
    with progress(console, bench, sum(kind(name).parts(bench) for name in kinds)):
        for name in kinds:
            bench.measure(name)


def headline(bench: Bench) -> str:
    from mbrl_control.bench.session import cpu

    many = "s" * (bench.threads > 1)
    against = "" if bench.python else " · ours alone, others take part with --peers"
    return f"{cpu()} · {bench.threads} thread{many} · {bench.options.pairs} rounds{against}"


def line(row: Row) -> str:
    """A row as a line that can be searched."""
    from mbrl_control.bench.rows import COLUMNS, cells

    work, *rest = zip(COLUMNS, cells(row.facts()), strict=True)
    return f"{work[1]}   " + "   ".join(f"{name} {cell}" for name, cell in rest if cell != "-")


@contextmanager
def progress(console: Console, bench: Bench, total: float) -> Iterator[None]:
    """A bar on a terminal; it says what is measured."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    if not console.is_terminal:
        yield
        return
    columns = TextColumn("part {task.completed:.0f} of {task.total:.0f}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        shown = bar.add_task("", total=total)
        bench.told = lambda what, parts: bar.update(shown, completed=parts, description=what)
        yield
