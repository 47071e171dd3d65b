"""Films of a learner's run: its trials, as far as they are finished.

The run is only read, also while ``mbrl learn`` writes it. A recording has joints, controls and what was seen around the
robot. Where the goal was is not in it: it comes from the trial's seed once more, with the start; where that is not the
recorded start, the task is not what it was, and neither goal nor scores of steps are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from mbrl_control import evaluate, replay, run_folder
from mbrl_control.core import Aims, MbrlError, Observation, State, Task
from mbrl_control.film import Film
from mbrl_control.learning import LearnConfig, open_lab
from mbrl_control.replay import Recording
from mbrl_control.run_folder import REPLAY, RUN, RunError, Trial

SAME = 1e-6
"""Two starts are the same one within this [rad or m]; two scores within this share."""
SIGMAS = 6.0
"""Of a world's noise, within which a start may be seen."""
UNKNOWN = "with this version such a trial begins elsewhere: its goal and the scores of its steps are not known"
RECOUNTED = (
    "with this version the steps come to another score than was written down: what is said of goal and steps is open"
)


class FilmError(MbrlError):
    """A trial that cannot be shown."""


class RunFilms:
    """The finished trials of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        asked, self.trials, _ = run_folder.read(folder)
        try:
            task, options, settings = asked["task"], LearnConfig(**asked["options"]), asked["settings"]
        except (KeyError, TypeError):
            raise RunError(f"{folder / RUN}: not what 'mbrl learn' of this version writes") from None
        if not self.trials:
            raise FilmError(f"{folder}: no trial is finished yet; it takes a run with at least one")
        self._lab = open_lab(task, options, settings)
        self.names, self.robot, self.threshold = self._lab.names, self._lab.robot, self._lab.task.threshold
        made = " · ".join((self.names["robot"], self.names["learner"], self.names["planner"], f"seed {options.seed}"))
        self.heading: Sequence[str] = (self.names["task"], made, str(folder))

    @property
    def titles(self) -> tuple[str, ...]:
        best = self.trials[self.best]
        return tuple(
            f"{trial.number} · {trial.kind} · {trial.score:.2f}{' · best' * (trial is best)}" for trial in self.trials
        )

    @property
    def learned(self) -> tuple[np.ndarray, np.ndarray]:
        columns = np.array([(trial.env_steps, trial.score) for trial in self.trials], dtype=float)
        return columns[:, 0], columns[:, 1]

    @property
    def best(self) -> int:
        """The place of the trial with the highest score."""
        best = run_folder.best(self.trials)
        return next(i for i, trial in enumerate(self.trials) if trial is best)

    def refresh(self) -> bool:
        known, (_, found, _) = len(self.trials), run_folder.read(self.folder)
        if len(found) < known:
            raise FilmError(f"{self.folder}: it had {known} trials and has {len(found)} now; look at it anew")
        self.trials = found
        return len(found) > known

    def film(self, index: int) -> Film:
        trial, robot, task = self.trials[index], self.robot, self._lab.task
        recording = replay.find(self.folder / REPLAY, f"trial {trial.number}")
        if (recording.robot, recording.joints) != (robot.name, robot.joints):
            raise FilmError(
                f"trial {trial.number}: recorded with robot '{recording.robot}', joints {list(recording.joints)}; "
                f"'{robot.name}' has {list(robot.joints)}"
            )
        start, goal, _ = evaluate.drawn(task, self._lab.seed(trial.number))
        near = SAME + SIGMAS * self._lab.world.noise_q
        same = np.allclose(start.q, recording.q[0], rtol=0.0, atol=near)
        return filmed(trial, recording, task, goal if same else None)


def filmed(trial: Trial, recording: Recording, task: Task, goal: Annotated[np.ndarray, "ng"] | None) -> Film:
    """A trial, with what the task says of each of its steps; ``goal`` as it was drawn, None where it is not known."""
    goals = scores = distances = None
    doubts = [] if goal is not None else [UNKNOWN]
    if goal is not None:
        goals = np.array(task.course(goal, recording.t))
        scores, distances = judged(recording, task, goals)
        off = abs(scores[-1] - trial.score) > SAME * max(1.0, abs(trial.score))
        if off and not trial.ended:  # a last step that was cut short is not in the recording
            doubts.append(RECOUNTED)
    facts = {"score of the trial": f"{trial.score:.2f}", "goal met": "yes" if trial.success else "no"}
    return Film(
        number=trial.number,
        t=recording.t,
        q=recording.q,
        blocks=recording.blocks,
        tip=np.asarray(task.robot.tip(np, recording.q), dtype=float),
        curves=_curves(recording, scores, distances),
        facts=facts | ({"ended": trial.ended} if trial.ended else {}),
        doubts=doubts,
        goals=goals,
        targets=None if goals is None else targets(task, goals),
        scores=scores,
        distances=distances,
    )


def judged(
    recording: Recording, task: Task, goals: Annotated[np.ndarray, "T+1 ng"]
) -> tuple[Annotated[np.ndarray, "T+1"], Annotated[np.ndarray, "T+1"]]:
    """Score of the steps up to each row, and distance to the goal in it."""
    seen = [_seen(recording, row) for row in range(recording.steps + 1)]
    each = [
        task.score(before, u, after, goal)
        for before, u, after, goal in zip(seen[:-1], recording.u, seen[1:], goals[1:], strict=True)
    ]
    distances = [task.distance(obs, goal) for obs, goal in zip(seen, goals, strict=True)]
    return np.concatenate([[0.0], np.cumsum(each)]), np.array(distances)


def targets(task: Task, goals: Annotated[np.ndarray, "n ng"]) -> Annotated[np.ndarray, "n 3"] | None:
    """Goals as points in the world; None where they are none."""
    if isinstance(task, Aims):
        return np.asarray(task.target(np, goals), dtype=float)
    return goals if task.goal_size == 3 else None


def _seen(recording: Recording, row: int) -> Observation:
    t = float(recording.t[row])
    blocks = {name: rows[row] for name, rows in recording.blocks.items()}
    return Observation(t, State(t, recording.q[row], recording.v[row]), blocks, dict.fromkeys(blocks, t))


def _curves(
    recording: Recording, scores: np.ndarray | None, distances: np.ndarray | None
) -> dict[str, tuple[tuple[str, ...], Annotated[np.ndarray, "T+1 n"]]]:
    """What is plotted. A control is that of the step that begins in its row; the last row has that of the last step."""
    found = {
        "commands": (recording.channels, np.concatenate([recording.u, recording.u[-1:]])),
        "joint positions": (recording.joints, recording.q),
        "joint velocities": (recording.joints, recording.v),
    }
    for name, rows in recording.blocks.items():
        n = rows.shape[1]
        found[name] = (tuple("xyz") if n == 3 else tuple(map(str, range(n))), rows)
    if scores is not None and distances is not None:
        found["score so far"] = (("score",), scores[:, None])
        found["distance to the goal"] = (("distance",), distances[:, None])
    return found
