"""What is compared, and what its episodes come to: successes, median and spread, and what the plans took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mbrl_control import registry
from mbrl_control.config import ConfigError, nearest, param
from mbrl_control.core import MbrlError, Task
from mbrl_control.evaluate import Episode, Parts, assemble
from mbrl_control.models import Located, located

FIRST = "panda"
"""The robot of the demonstration."""


@dataclass(frozen=True)
class EvalConfig:
    """What ``mbrl eval`` compares."""

    robot: str = param(
        "", "which robot; empty: the model's, else panda, or the first in 'mbrl list robots' that the task takes"
    )
    planner: tuple[str, ...] = param(("mppi",), "planners to compare, separated by commas")
    model: tuple[str, ...] = param(
        ("mujoco",),
        "models to plan with, separated by commas: dynamics, or model folders as models/NAME; mujoco is the truth",
    )
    episodes: int = param(1, "episodes of each, with a seed each", low=1, high=10_000)
    seconds: float = param(
        0.0, "simulated time of an episode; 0: as many steps as the task says", unit="s", low=0.0, high=3600.0
    )
    rate: float = param(
        0.0, "plans in a simulated second; 0: one for each step of the task", unit="Hz", low=0.0, high=100.0
    )
    iterations: int = param(3, "planner iterations a plan, as in lock-step", low=1, high=1000)
    seed: int = param(0, "seed of the first episode; the next one has the next", low=0, high=2**31 - 1)


def contenders(task: str, options: EvalConfig, settings: Mapping[str, Any]) -> list[Parts]:
    """All that is to be compared, made, so that mistakes are told before long work."""
    registry.load("tasks", task)
    models = {word: located(word) for word in options.model}
    robot = options.robot or robot_of(models) or robot_for(task)
    used = (task, robot, *options.planner, *(model.dynamics for model in models.values()))
    prefixes = {name.rsplit(".", 1)[-1] for name in used} | {"world", "engine", "feedback", "relay"}
    prefixes |= {first.rsplit(".", 1)[-1]} if (first := str(settings.get("relay.first", ""))) else set()
    for key in settings:
        prefix, _, rest = key.partition(".")
        if not rest or prefix not in prefixes:
            raise ConfigError(
                f"{key}: nothing here has such a parameter; it takes PART.NAME, {nearest(prefix, prefixes)}"
            )
    found = []
    for word, model in models.items():
        for planner in options.planner:
            parts = assemble(robot, task, planner, model.dynamics, {**model.settings, **settings})
            found.append(replace(parts, names={**parts.names, "model": word}))
    if not found:
        raise ConfigError("--planner and --model: they take at least one name each")
    return found


def robot_of(models: Mapping[str, Located]) -> str:
    """The robot that models were learned of; empty where none of them says."""
    names = {model.robot: word for word, model in models.items() if model.robot}
    if len(names) > 1:
        told = " and ".join(f"'{word}' of {robot}" for robot, word in names.items())
        raise ConfigError(f"--model: {told}; models that are compared are of one robot")
    return next(iter(names), "")


def in_full(options: EvalConfig, task: Task) -> EvalConfig:
    """The options with what they leave to the task."""
    rate = options.rate or 1.0 / task.dt
    return replace(options, rate=rate, seconds=options.seconds or task.steps / rate)


def robot_for(task: str) -> str:
    """The first robot that takes the task, the one of the demonstration before the others."""
    refused = []
    for name in sorted(registry.names("robots"), key=lambda name: (name != FIRST, name)):
        try:
            registry.make("tasks", task, registry.make("robots", name))
        except MbrlError as error:
            refused.append(str(error))
        else:
            return name
    raise ConfigError(f"task '{task}': no robot takes it; {refused[0] if refused else 'there is none'}")


@dataclass
class Scores:
    """The episodes so far, by the names of the parts that made them."""

    names: Mapping[str, str]
    episodes: list[Episode] = field(default_factory=list)

    @property
    def met(self) -> int:
        """Episodes whose goal was met."""
        return sum(episode.success for episode in self.episodes)

    def spread(self, of: str) -> tuple[float, float, float]:
        """Least, median and greatest of a figure of the episodes; NaN where there is none."""
        found = [value for value in (figures(episode)[of] for episode in self.episodes) if value is not None]
        if not found:
            return np.nan, np.nan, np.nan
        return float(np.min(found)), float(np.median(found)), float(np.max(found))

    def plan_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the wall time of a plan [ms]."""
        times = np.concatenate([episode.plan_time for episode in self.episodes]) * 1e3
        return float(np.median(times)), float(np.percentile(times, 99))

    def row(self) -> dict[str, str]:
        """The figures for people."""
        low, middle, high = self.spread("score")
        distance, met_at = self.spread("distance")[1], self.spread("met_at")[1]
        p50, p99 = self.plan_ms()
        return {
            "planner": self.names["planner"],
            "model": self.names.get("model", self.names["dynamics"]),
            "goals met": f"{self.met}/{len(self.episodes)}",
            "after": f"{met_at:.1f} s" if np.isfinite(met_at) else "-",
            "score": f"{middle:.1f} ({low:.1f} to {high:.1f})",
            "distance at the end": f"{distance:.4f}",
            "plan p50/p99": f"{p50:.1f}/{p99:.1f} ms",
            "run by": self.names["engine"].partition(",")[0],
        }

    def facts(self) -> dict[str, Any]:
        """The figures for a program."""
        p50, p99 = self.plan_ms()
        return {
            **self.names,
            "goals_met": self.met,
            "score_median": self.spread("score")[1],
            "plan_ms_p50": p50,
            "plan_ms_p99": p99,
            "episodes": [figures(episode) for episode in self.episodes],
        }


def figures(episode: Episode) -> dict[str, Any]:
    """One episode in numbers."""
    return {
        "seed": episode.seed,
        "score": episode.total,
        "success": episode.success,
        "met_at": episode.met_at,
        "distance": float(episode.distance[-1]),
        "seconds": float(episode.t[-1]),
        "plan_ms_p50": float(np.median(episode.plan_time)) * 1e3,
        "plan_ms_p99": float(np.percentile(episode.plan_time, 99)) * 1e3,
        "lost": episode.lost,
        "ended": episode.ended,
    }
