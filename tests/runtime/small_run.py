"""A run as ``mbrl learn`` leaves it, of trials at random that last a second: nothing is fitted, nothing planned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from mbrl_control.evaluate import Episode, run_episode
from mbrl_control.exploration import Wander
from mbrl_control.learning import Lab, LearnConfig, open_lab
from mbrl_control.run_folder import Run, Trial

SIGMA = 0.5
"""Of the random controls, as a share of their bound."""


def begun(folder: Path, task: str, robot: str = "", **settings: float) -> Lab:
    """A run without a trial, in a world with such settings."""
    options, given = LearnConfig(robot=robot, steps=1000), {f"world.{name}": value for name, value in settings.items()}
    lab = open_lab(task, options, given)
    lab.run = Run.begin(folder, {"task": task, "options": asdict(options), "settings": given, "command": "mbrl learn"})
    return lab


def one_more(lab: Lab, seconds: float = 1.0) -> Episode:
    """A trial, and that it is finished."""
    wander, number = Wander(lab.robot, lab.task, 1.0, SIGMA), len(lab.run.trials)
    parts = lab.parts_with(wander, wander.dynamics, "none")
    episode = run_episode(parts, lab.seed(number), seconds, iterations=1)
    recording = lab.recorded(episode, number)
    steps = lab.run.env_steps + recording.steps
    ms = float(np.median(episode.plan_time)) * 1e3
    trial = Trial(number, "explore", recording.steps, steps, episode.total, episode.success, ms, ended=episode.ended)
    lab.run.add(trial, recording, None, lab.robot, "mbrl learn")
    return episode


def small_run(folder: Path, task: str, robot: str = "", trials: int = 1) -> list[Episode]:
    """A run of a few trials."""
    lab = begun(folder, task, robot)
    return [one_more(lab) for _ in range(trials)]
