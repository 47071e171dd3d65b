"""``mbrl export``: from a run to a model folder that a robot plans with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_control.export import Source
    from mbrl_control.validation import Check

SUMMARY = "make a model folder of a run, for planning with ONNX Runtime"
TEACH = """\
Takes the model of a run of 'mbrl learn', judges it on new episodes in simulation that it was not fitted to, and writes
model.onnx, model.safetensors and card.yaml, if it passes its checks and ONNX Runtime finds what NumPy finds. A model
that fails is refused; --force CHECK exports it all the same, and the card says so. A model folder in the place of the
new one is replaced, anything else is left alone.

With --int8 it also plays new episodes with the hidden layers in eight bits and with those in single precision. Only if
the ones are as good as the others the model is exported, and its card says that 'engine.int8:=true' may be asked for.

Exit status: 0 if it was exported, 1 if it was refused, 2 for a mistake.

examples:
  mbrl export runs/cartpole --out models/cartpole
  mbrl export runs/cartpole --best --episodes 10 --out models/cartpole --json export.json
  mbrl export runs/cartpole --calibrate 2 --out models/cartpole
  mbrl export runs/cartpole --int8 10 --out models/cartpole
  mbrl export runs/cartpole --trial 3 --force coverage --out models/cartpole
  mbrl export models/mine --out models/mine
  mbrl eval cartpole_swing_up --model models/cartpole
"""
EPISODES, MOST = 3, 1000


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN", help="folder of a run of 'mbrl learn', or a model folder")
    parser.add_argument("--out", metavar="DIR", required=True, help="the model folder, as models/NAME")
    parser.add_argument(
        "--trial", metavar="NUMBER", type=int, default=None, help="the model of this trial, not the newest"
    )
    parser.add_argument("--best", action="store_true", help="the model of the trial with the best score")
    parser.add_argument(
        "--episodes",
        metavar="NUMBER",
        type=int,
        default=EPISODES,
        help=f"new episodes to judge the model of a run by (default {EPISODES})",
    )
    parser.add_argument(
        "--calibrate",
        metavar="NUMBER",
        type=int,
        default=0,
        help="further new episodes, by which intervals that are too narrow are widened (default 0)",
    )
    parser.add_argument(
        "--int8",
        metavar="EPISODES",
        type=int,
        default=None,
        help="further new episodes, by which hidden layers in eight bits are compared with those in single precision",
    )
    parser.add_argument(
        "--force", metavar="CHECK", action="append", default=[], help="export even if this check fails; more than once"
    )


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from rich.console import Console

    from mbrl_control import eight_bits, model_folder
    from mbrl_control.core import MbrlError
    from mbrl_control.export import export, judged_anew, opened, refusal
    from mbrl_control.onnx_check import package
    from mbrl_control.validation import examined, forced

    if args.trial is not None and args.best:
        raise MbrlError("--trial and --best: it takes one of them")
    for name in ("episodes", "calibrate"):
        if not 0 <= (number := getattr(args, name)) <= MOST:
            raise MbrlError(f"--{name} = {number}: it takes a whole number from 0 to {MOST}")
    if args.int8 is not None and not eight_bits.LEAST <= args.int8 <= MOST:
        raise MbrlError(f"--int8 {args.int8}: it takes a whole number of episodes from {eight_bits.LEAST} to {MOST}")
    forced(args.force, [])
    out, console = Path(args.out), Console(highlight=False)
    package()
    model_folder.check_place(out)
    source = opened(Path(args.source), args.trial, args.best)
    console.print(headline(source), markup=False, soft_wrap=True)
    can_widen = source.lab is not None and source.model.net.gaussian
    if args.calibrate and not can_widen:
        raise MbrlError(f"--calibrate {args.calibrate}: it takes a run whose members have a variance")
    if args.int8 is not None:
        if source.lab is None:
            raise MbrlError(f"--int8 {args.int8}: it takes a run, whose task and planner episodes can be played with")
        eight_bits.check(source.model)
    if (lab := source.lab) is not None:
        count = args.episodes + args.calibrate
        source = judged_anew(source, args.episodes, told(console, count), args.calibrate)
        if args.episodes:
            words = f"errors of each output: {lab.run.folder}/errors-{source.number:03d}.png"
            console.print(words, markup=False, soft_wrap=True)
    checks = examined(source.model.facts)
    show(console, checks)
    chosen = forced(args.force, checks)
    failed = [check.name for check in checks if not check.passed and check.name not in chosen]
    result = {"source": args.source, "checks": [asdict(check) for check in checks], "forced": chosen, "failed": failed}
    if failed:
        print(f"mbrl: {args.source}: {refusal(failed)}", file=sys.stderr)
        return 1, {**result, "folder": None}
    if args.int8 is not None and source.lab is not None:
        found = eight_bits.compared(source.lab, source.model, args.int8, told_of_eight_bits(console, args.int8))
        result["int8"] = found
        took = ", ".join(f"{kind} {found[kind]['iteration_ms']:.2f} ms" for kind in eight_bits.KINDS)
        console.print(f"an iteration takes {took}", markup=False, soft_wrap=True)
        if not found["accepted"]:
            print(f"mbrl: {args.source}: {eight_bits.refusal(found)}", file=sys.stderr)
            return 1, {**result, "folder": None}
        source = replace(source, model=replace(source.model, facts={**source.model.facts, "int8": found}))
    written = export(source, checks, chosen, out, said(args))
    replaced = ", in place of the model folder that was there" if written["replaced"] else ""
    forcing = f" · forced: {', '.join(chosen)}" if chosen else ""
    console.print(
        f"{out}{replaced} · {written['bytes'] / 1e6:.2f} MB · parity {written['parity']:.0e}{forcing}",
        markup=False,
        soft_wrap=True,
    )
    return 0, {**result, **written}


def said(args: argparse.Namespace) -> Sequence[str]:
    """The words of this command line that say how the model was judged, for the card."""
    words = ["--episodes", str(args.episodes)] if args.episodes != EPISODES else []
    words += ["--calibrate", str(args.calibrate)] if args.calibrate else []
    words += ["--int8", str(args.int8)] if args.int8 is not None else []
    return [*words, *(word for name in args.force for word in ("--force", name))]


def told(console: Console, episodes: int) -> Any:
    """A function that says a line of each new episode."""
    made = 0

    def tell(episode: Any) -> None:
        nonlocal made
        made += 1
        ended = f"   {episode.ended}" if episode.ended else ""
        words = f"held out {made} of {episodes}   steps {len(episode.u):5d}   score {episode.total:8.2f}{ended}"
        console.print(words, markup=False, soft_wrap=True)

    return tell


def told_of_eight_bits(console: Console, episodes: int) -> Any:
    """A function that says a line of each episode, played both ways."""

    def tell(number: int, single: Any, eight: Any) -> None:
        scores = f"score float32 {single.total:8.2f}   int8 {eight.total:8.2f}"
        console.print(f"eight bits {number} of {episodes}   {scores}", markup=False, soft_wrap=True)

    return tell


def headline(source: Source) -> str:
    net = source.model.net
    trial = f" · trial {source.number}" if source.number is not None else ""
    return (
        f"{source.model.spec.robot}{trial} · {net.members} {net.head} members of {len(net.hidden)} layers of "
        f"{', '.join(map(str, sorted(set(net.hidden))))} · {net.inputs} inputs, {net.outputs} outputs"
    )


def show(console: Console, checks: Sequence[Check]) -> None:
    """A line for each check, which can be searched."""
    for check in checks:
        value = "-" if check.value is None else f"{check.value:.4g}"
        verdict = "passed" if check.passed else "FAILED"
        words = f"{verdict}   {check.name:10s}   {value:>8s}   {check.accepts:22s}   {check.note}"
        console.print(words.rstrip(), markup=False, soft_wrap=True, style="" if check.passed else "red")
