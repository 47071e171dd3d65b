"""``mbrl learn``: learn a task from nothing, in simulation."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mbrl_control.config import add_flags, from_flags
from mbrl_control.errors import MbrlError

if TYPE_CHECKING:
    from rich.console import Console

    from mbrl_control.fit_log import Epoch
    from mbrl_control.learning import Lab, Learner
    from mbrl_control.run_folder import Trial

SUMMARY = "learn a task from nothing, in simulation"
TEACH = """\
A learner collects episodes, fits a model to all of them, and plans with it, until the steps are spent. The folder has
every episode, the models, and curves.png. NAME:=VALUE sets a parameter of a part: of the learner (pets.retrain_every),
the fit (fit.width), the planner (icem.samples), the model (ensemble.propagation), robot or task.

After Ctrl-C or a crash --resume goes on where it was: with one thread, to the same end.

Exit status: 0 if the task's threshold was reached or it has none, 1 if not, 130 after Ctrl-C.

examples:
  mbrl learn cartpole_swing_up
  mbrl learn cartpole_swing_up --learner pddm --steps 2000 --seed 3 --json out.json
  mbrl learn pendulum --planner cem pets.retrain_every:=0 fit.width:=200
  mbrl learn --resume runs/cartpole_swing_up-2026-11-21-101500
"""


def add(parser: argparse.ArgumentParser) -> None:
    from mbrl_control.learning import LearnConfig

    parser.add_argument("task", nargs="?", metavar="TASK", help="which task, as in 'mbrl list tasks'")
    parser.add_argument("arguments", metavar="NAME:=VALUE", nargs="*", help="parameters, as fit.width:=200")
    parser.add_argument("--out", metavar="DIR", default=None, help="the run's folder; default: a new one in runs/")
    parser.add_argument("--resume", metavar="DIR", default=None, help="go on with this run; nothing else is given then")
    add_flags(parser, LearnConfig)


def run(args: argparse.Namespace) -> tuple[int, Mapping[str, Any]]:
    from rich.console import Console

    begun = time.perf_counter()
    lab, learner = _resumed(args) if args.resume else _begun(args)
    console, interrupted = Console(highlight=False), False
    console.print(headline(lab), markup=False, soft_wrap=True)
    scores: list[float] = []
    try:
        learn(console, lab, learner)
        scores = evaluated(console, lab, learner)
    except KeyboardInterrupt:
        interrupted = True
    result = {**facts(lab, scores), "wall_s": time.perf_counter() - begun, "interrupted": interrupted}
    return said(console, lab, result), result


def _begun(args: argparse.Namespace) -> tuple[Lab, Learner]:
    """A new run; mistakes are told before there is a folder."""
    from mbrl_control.learning import LearnConfig, open_lab
    from mbrl_control.run_folder import Run
    from mbrl_control.runtime.launch import assignments

    if args.task is None:
        raise MbrlError("TASK is missing: mbrl learn takes one of 'mbrl list tasks', or --resume DIR")
    options, settings = from_flags(LearnConfig, args), assignments(args.arguments, "parameters")
    lab = open_lab(args.task, options, settings)
    lab.options = replace(options, steps=options.steps or 5 * lab.task.steps)
    learner = _learner(lab)
    asked = {"task": args.task, "options": asdict(lab.options), "settings": settings, "command": _command()}
    folder = Path(args.out) if args.out else Path("runs") / time.strftime(f"{args.task}-%Y-%m-%d-%H%M%S")
    lab.run = Run.begin(folder, asked)
    return lab, learner


def _resumed(args: argparse.Namespace) -> tuple[Lab, Learner]:
    from mbrl_control.learning import LearnConfig, open_lab
    from mbrl_control.run_folder import Run

    if args.task or args.arguments or args.out:
        raise MbrlError("--resume: the run knows what it was asked for; it takes no task, parameters or --out")
    run = Run.resume(Path(args.resume))
    lab = open_lab(run.asked["task"], LearnConfig(**run.asked["options"]), run.asked["settings"])
    lab.run = run
    return lab, _learner(lab)


def _learner(lab: Lab) -> Learner:
    from mbrl_control import registry

    return registry.make("learners", lab.names["learner"], lab, overrides=lab.settings.of("learners"))


def _command() -> str:
    return shlex.join(["mbrl", *sys.argv[1:]])


def learn(console: Console, lab: Lab, learner: Learner) -> None:
    """Trials until the steps are spent."""
    from mbrl_control.learning_curves import draw

    with progress(console, lab):
        while lab.run.env_steps < lab.options.steps:
            trial, recording, model = learner.trial()
            lab.run.add(trial, recording, model, lab.robot, lab.run.asked["command"])
            console.print(line(trial), markup=False, soft_wrap=True)
            draw(lab.run, lab.names, lab.task.threshold)


def evaluated(console: Console, lab: Lab, learner: Learner) -> list[float]:
    """Scores of the evaluation episodes."""
    scores = []
    for number in range(lab.options.evaluate):
        episode = lab.evaluation(learner.parts(), number)
        scores.append(episode.total)
        words = (
            f"evaluation {number + 1} of {lab.options.evaluate}   score {episode.total:8.2f}   {episode.ended}".rstrip()
        )
        console.print(words, markup=False, soft_wrap=True)
    return scores


def headline(lab: Lab) -> str:
    names, options = lab.names, lab.options
    done = f" · {lab.run.env_steps} of them made" if lab.run.trials else ""
    return (
        f"{names['robot']} · task {names['task']} · learner {names['learner']} · planner {names['planner']} · "
        f"{options.steps} steps{done} · seed {options.seed} · {lab.run.folder}"
    )


def line(trial: Trial) -> str:
    """A trial as a line that can be searched."""
    fits = f"   {trial.fits} fits {trial.fit_s:.1f} s" if trial.fits else ""
    planned = f"   plan {trial.plan_ms:.1f} ms" if trial.kind == "plan" else ""
    ended = f"   {trial.ended}" if trial.ended else ""
    return (
        f"trial {trial.number:3d}   {trial.kind:7s}   steps {trial.env_steps:6d}   score {trial.score:8.2f}"
        f"{planned}{fits}   {trial.wall_s:.1f} s{ended}"
    )


@contextmanager
def progress(console: Console, lab: Lab) -> Iterator[None]:
    """A bar on a terminal, moved by the lab's steps in the world; it says what goes on, fits included."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("", total=lab.options.steps, completed=lab.run.env_steps)
        made, trial = lab.run.env_steps, len(lab.run.trials)

        def on_step(kind: str) -> None:
            nonlocal made, trial
            if len(lab.run.trials) > trial:
                made, trial = lab.run.env_steps, len(lab.run.trials)
            made += 1
            bar.update(shown, completed=made, description=f"trial {trial}, {kind}")

        def on_epoch(epoch: Epoch) -> None:
            bar.update(shown, description=f"trial {len(lab.run.trials)}, fit: epoch {epoch.epoch} of {epoch.of}")

        lab.on_step, lab.on_epoch = on_step, on_epoch
        yield


def facts(lab: Lab, scores: list[float]) -> dict[str, Any]:
    """What came of it, for a program."""
    trials, threshold = lab.run.trials, lab.task.threshold
    planned = [trial.plan_ms for trial in trials if trial.kind == "plan"]
    return {
        "task": lab.names["task"],
        "robot": lab.names["robot"],
        "learner": lab.names["learner"],
        "planner": lab.names["planner"],
        "seed": lab.options.seed,
        "env_steps": lab.run.env_steps,
        "trial_returns": [trial.score for trial in trials],
        "trial_env_steps": [trial.env_steps for trial in trials],
        "threshold": threshold,
        "steps_to_threshold": lab.run.to_threshold(threshold) if threshold is not None else None,
        "evaluation_returns": scores,
        "plan_ms_p50": median(planned) if planned else None,
        "folder": str(lab.run.folder),
    }


def said(console: Console, lab: Lab, result: Mapping[str, Any]) -> int:
    """How it went, in one line; the exit status."""
    best, threshold = lab.run.best, result["threshold"]
    words = [f"best score {best.score:.2f} in trial {best.number}"] if best else ["no trial was finished"]
    if threshold is not None:
        at = result["steps_to_threshold"]
        words.append(f"{threshold:g} " + (f"reached after {at} steps" if at is not None else "not reached"))
    if scores := result["evaluation_returns"]:
        words.append(f"evaluation {median(scores):.2f} in the median of {len(scores)}")
    words.append(f"{result['wall_s']:.0f} s")
    if best:
        words.append(f"to look at it: mbrl view {lab.run.folder}")
    if result["interrupted"]:
        words.append(f"interrupted: mbrl learn --resume {lab.run.folder}")
    console.print(" · ".join(words) + f" · {lab.run.folder}/curves.png", markup=False, soft_wrap=True)
    if result["interrupted"]:
        return 130
    return int(threshold is not None and result["steps_to_threshold"] is None)
