"""A learner's run on disk: a folder that grows with every trial.

    runs/NAME/run.json          what was asked for: task, robot, learner, planner, seed, settings, versions
             replay/            every episode (``replay.py``)
             trials.jsonl       one line for each trial, written when it is over
             fits/000400/       what the fit to so many steps said of its epochs (``fit_log.py``)
             models/trial-003/  the model after that trial; the newest two and that of the best trial are kept
             curves.png

A trial is on disk before its line is: what is killed goes on with the trial that was not finished, from the model, data
and seeds that it had, and comes to what it would have come to. A trial's seed is made of the run's and its number.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mbrl_control import model_folder
from mbrl_control.core import MbrlError, Robot
from mbrl_control.model import Model
from mbrl_control.replay import Recording, Replay

RUN, TRIALS, REPLAY, MODELS, FITS = "run.json", "trials.jsonl", "replay", "models", "fits"


class RunError(MbrlError):
    """A run's folder that is not one, or another run's."""


@dataclass(frozen=True)
class Trial:
    """One episode of learning, in numbers."""

    number: int
    kind: str
    """``explore`` or ``plan``."""
    steps: int
    env_steps: int
    """Steps in the world up to its end."""
    score: float
    """The task's own, summed over the episode."""
    success: bool
    plan_ms: float
    """Median time of a plan [ms]."""
    fits: int = 0
    fit_s: float = 0.0
    wall_s: float = 0.0
    ended: str = ""


@dataclass
class Run:
    """The folder of a run."""

    folder: Path
    asked: Mapping[str, Any]
    replay: Replay = field(default_factory=Replay)
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path, asked: Mapping[str, Any]) -> Run:
        """A new run in a folder that is not there yet."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"{folder}: there already; a run takes a new folder, or goes on with --resume") from None
        except OSError as error:
            raise RunError(f"{folder}: {(error.strerror or 'cannot be made').lower()}; it takes a folder") from None
        _write(folder / RUN, json.dumps(asked, indent=1) + "\n")
        return cls(folder, asked, Replay(folder / REPLAY))

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """A run as its folder has it."""
        asked, trials, torn = read(folder)
        run = cls(folder, asked, Replay(folder / REPLAY), trials)
        if torn:
            path = folder / TRIALS
            _write(path, "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[: len(trials)]))
        return run

    @property
    def env_steps(self) -> int:
        return self.trials[-1].env_steps if self.trials else 0

    @property
    def best(self) -> Trial | None:
        return best(self.trials)

    def recordings(self) -> list[Recording]:
        """Episodes of the trials that are finished, in their order."""
        known = {f"trial {trial.number}" for trial in self.trials}
        return [recording for recording in self.replay.recordings if recording.source in known]

    def models(self) -> list[int]:
        """The trials whose models are kept."""
        return [trial.number for trial in self.trials if self._model_folder(trial.number).exists()]

    def model(self, number: int | None = None) -> Model | None:
        """The model after a trial, the newest unless it is given; None before there is one."""
        folder = self._model_folder(len(self.trials) - 1 if number is None else number)
        return model_folder.read(folder) if folder.exists() else None

    def add(self, trial: Trial, recording: Recording, model: Model | None, robot: Robot, command: str) -> None:
        """Keep a trial: episode and model first, its line last."""
        if recording.sha256 not in {known.sha256 for known in self.replay.recordings}:
            self.replay.append(recording)
        if model is not None:
            model_folder.write(self._model_folder(trial.number), model, robot, command)
        with (self.folder / TRIALS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.trials.append(trial)
        best = self.best
        kept = {trial.number, trial.number - 1, best.number if best else trial.number}
        for number in range(trial.number):
            if number not in kept:
                shutil.rmtree(self._model_folder(number), ignore_errors=True)

    def to_threshold(self, threshold: float) -> int | None:
        """Steps in the world until a trial first came to a score; None: none did.

        One that ended before its time does not count: where scores are losses, the shortest one would be the best.
        """
        whole = (trial for trial in self.trials if not trial.ended)
        return next((trial.env_steps for trial in whole if trial.score >= threshold), None)

    def _model_folder(self, number: int) -> Path:
        return self.folder / MODELS / f"trial-{number:03d}"


def read(folder: Path) -> tuple[Mapping[str, Any], list[Trial], bool]:
    """What a run was asked for, its finished trials, and whether a line after them is torn. Nothing is changed."""
    try:
        asked = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunError(f"{folder}: no run of 'mbrl learn' ({RUN} is missing or torn)") from None
    path = folder / TRIALS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # what was being written when it was killed is not
        trials = [Trial(**json.loads(line)) for line in whole]
    except (OSError, ValueError, TypeError):
        raise RunError(f"{path}: not what 'mbrl learn' of this version writes, a trial in each line") from None
    return asked, trials, len(whole) < len(lines)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score; one that ended before its time only where there is no other."""
    return max(trials, key=lambda trial: (not trial.ended, trial.score), default=None)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
