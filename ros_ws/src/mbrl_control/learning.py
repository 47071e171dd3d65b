"""What every learner needs: a task in simulation, a planner on whatever model it has, and its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mbrl_control import registry
from mbrl_control.comparison import robot_for
from mbrl_control.config import ConfigError, nearest, param, params
from mbrl_control.core import Dynamics, Planner, Robot, Task
from mbrl_control.engine import engaged
from mbrl_control.evaluate import Episode, Parts, Settings, engine_of, prefix_of, run_episode, world_of

if TYPE_CHECKING:
    from mbrl_control.fit_log import Epoch
    from mbrl_control.model import Model
    from mbrl_control.plan_graph import Build
    from mbrl_control.replay import Recording
    from mbrl_control.run_folder import Run, Trial

EVALUATION = 2**31
"""Seeds of evaluation episodes are counted from here, the same for every run; trials have others."""


@dataclass(frozen=True)
class LearnConfig:
    """What ``mbrl learn`` is asked for."""

    robot: str = param("", "which robot; empty: the first that the task takes")
    learner: str = param("pets", "which learner, as in 'mbrl list learners'")
    planner: str = param("", "which planner; empty: the learner's own choice")
    steps: int = param(0, "steps in the world, the random ones included; 0: five episodes", low=0, high=100_000_000)
    seed: int = param(0, "of everything that is drawn", low=0, high=2**31 - 1)
    iterations: int = param(3, "planner iterations a plan", low=1, high=1000)
    evaluate: int = param(0, "episodes at the end that nothing is learned from", low=0, high=10_000)
    threads: int = param(
        1, "threads that fits and plans may use; with one, a seed gives the same run", low=1, high=1024
    )


class Learner(Protocol):
    """What makes trials of a run."""

    def trial(self) -> tuple[Trial, Recording, Model | None]:
        """One more trial: what came of it, what was recorded, and the model after it."""
        ...

    def parts(self) -> Parts:
        """What acts best by now, for episodes that nothing is learned from."""
        ...

    def exploring(self) -> Parts:
        """What acts at random, while nothing is known yet."""
        ...


@dataclass
class Lab:
    """What a learner works with."""

    robot: Robot
    task: Task
    names: Mapping[str, str]
    """Of robot, task, learner and planner."""
    settings: Settings
    options: LearnConfig
    world: Any
    """A ``mbrl_sim.world.Config``: what the simulated robot really is like."""
    run: Run = field(init=False)
    on_step: Callable[[str], None] = lambda _: None
    """Told after each step in the world what is going on."""
    on_epoch: Callable[[Epoch], None] = lambda _: None
    """Told after each epoch of a fit."""

    def planner(self, dynamics: Callable[[Any], Dynamics]) -> Planner:
        """The planner of this run on a model, which ``dynamics`` makes on an ``xp``."""
        return engaged(engine_of(self.settings), self.planned(dynamics))[0]

    def planned(self, dynamics: Callable[[Any], Dynamics]) -> Build:
        """What makes that planner on an ``xp``."""
        overrides = self.settings.of("planners", dt=self.task.dt)

        def planned(xp: Any) -> Planner:
            return registry.make("planners", self.names["planner"], self.task, dynamics(xp), xp, overrides=overrides)

        return planned

    def conditions(self) -> dict[str, Any]:
        """Under which it is learned, for the card: what the world is like, and what the planner took."""
        prefix, declared = (
            prefix_of(self.names["planner"]),
            params(registry.load("planners", self.names["planner"]).config),
        )
        given = self.settings.of("planners")
        settings = {f"{prefix}{name}": declared[name].parse(value) for name, value in given.items()}
        return {"simulation": asdict(self.world), "planned_with": settings}

    def parts_with(self, planner: Planner, dynamics: Dynamics, name: str) -> Parts:
        names = {**{kind: self.names[kind] for kind in ("robot", "task", "planner")}, "dynamics": name}
        return Parts(self.robot, self.task, dynamics, planner, names, self.world)

    def episode(
        self, parts: Parts, number: int, on_step: Callable[[Callable[[], Episode]], None] | None = None
    ) -> Episode:
        """Trial ``number`` in the world."""
        return self.run_episode(parts, self.seed(number), on_step)

    def seed(self, number: int) -> int:
        """Of the episode of trial ``number``."""
        return int(np.random.SeedSequence([self.options.seed, number]).generate_state(1)[0]) % EVALUATION

    def evaluation(self, parts: Parts, number: int) -> Episode:
        """An episode that nothing is learned from, the same for every run."""
        return self.run_episode(parts, EVALUATION + number)

    def run_episode(
        self, parts: Parts, seed: int, on_step: Callable[[Callable[[], Episode]], None] | None = None
    ) -> Episode:
        return run_episode(parts, seed, iterations=self.options.iterations, on_step=on_step)

    def recorded(self, episode: Episode, number: int) -> Recording:
        from mbrl_control.replay import recorded

        return recorded(episode, self.robot, self.task.dt, source=f"trial {number}")


def open_lab(task: str, options: LearnConfig, settings: Mapping[str, Any]) -> Lab:
    """Robot and task, made, and the planner that the learner would take unless another one is asked for.

    There is no run in it yet.
    """
    learner, published = registry.load("learners", options.learner), registry.load("tasks", task).settings
    robot = options.robot or robot_for(task)
    planner = options.planner or learner.settings["planner"]
    names = {"robot": robot, "task": task, "learner": options.learner, "planner": planner}
    own = {key: value for key, value in learner.settings.items() if "." in key}
    known = {"robots": robot, "tasks": task, "planners": planner, "learners": options.learner, "dynamics": "ensemble"}
    check_settings(settings, {name.rsplit(".", 1)[-1] for name in known.values()} | {"fit", "world", "engine"})
    found = Settings(known, {**own, **published, **settings})
    if engine_of(found).int8:
        raise ConfigError(
            "engine.int8 = true: what is still learned has stood no test; it takes false, and then export"
        )
    machine = registry.make("robots", robot, overrides=found.of("robots"))
    wanted = registry.make("tasks", task, machine, overrides=found.of("tasks"))
    return Lab(machine, wanted, names, found, options, world_of(found))


def check_settings(settings: Mapping[str, Any], prefixes: set[str]) -> None:
    """Refuse a setting of a part that is not there."""
    for key in settings:
        prefix, _, rest = key.partition(".")
        if not rest or prefix not in prefixes:
            raise ConfigError(
                f"{key}: nothing here has such a parameter; it takes PART.NAME, {nearest(prefix, prefixes)}"
            )
