"""Every planner x task x robot x model that the parts accept, at tiny sizes, found through the registry.

A part may refuse a combination with an ``MbrlError`` that says why. A file put into ``planners/``, ``tasks/``,
``robots/`` or ``dynamics/`` is in here, and so under test, without a line being written.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.config import params
from mbrl_control.core import Avoids, Goal, MbrlError, Observation, State

from .tiny_models import folder_for

TINY = {"samples": 8, "horizon": 4, "compile": False}
HORIZON = TINY["horizon"]
COARSE = {"timestep": 0.01, "compile": False}
"""Of models that compute in finer steps than they make: contracts hold at any, ``tests/maths`` looks at the finest."""


@dataclass(frozen=True)
class Names:
    """One combination, by name."""

    robot: str
    task: str = ""
    dynamics: str = ""
    planner: str = ""

    def __str__(self) -> str:
        return "-".join(name for name in (self.planner, self.task, self.robot, self.dynamics) if name)


@dataclass(frozen=True)
class Parts:
    """One combination, made."""

    robot: Any
    task: Any = None
    dynamics: Any = None
    planner: Any = None


@functools.cache
def build(names: Names, xp: Any = np) -> Parts:
    """The parts on one back end, the planner small; made once, since all of them are pure."""
    return make(names, xp)


def make(names: Names, xp: Any = np, planner: Mapping[str, Any] | None = None) -> Parts:
    """As ``build``, but made anew, and with other parameters of the planner."""
    robot = _robot(names.robot)
    task = _task(names.task, names.robot) if names.task else None
    dynamics = None
    if names.dynamics:
        overrides = {**_declared("dynamics", names.dynamics, COARSE), **needed(names.dynamics, names.robot)}
        dynamics = registry.make("dynamics", names.dynamics, robot, xp, overrides=overrides)
    if not names.planner:
        return Parts(robot, task, dynamics)
    overrides = _declared("planners", names.planner, {**TINY, **(planner or {})})
    return Parts(
        robot, task, dynamics, registry.make("planners", names.planner, task, dynamics, xp, overrides=overrides)
    )


def builder(names: Names, planner: Mapping[str, Any] | None = None, **dynamics: Any) -> Callable[[Any], Any]:
    """What makes the planner of a combination on any back end, its model in single precision where it is written."""

    def made(xp: Any) -> Any:
        robot = _robot(names.robot)
        single = {"precision": "float32"} if names.dynamics == "ensemble" and xp is not np else {}
        overrides = {**_declared("dynamics", names.dynamics, COARSE), **needed(names.dynamics, names.robot), **single}
        model = registry.make("dynamics", names.dynamics, robot, xp, overrides={**overrides, **dynamics})
        overrides = _declared("planners", names.planner, {**TINY, **(planner or {})})
        return registry.make("planners", names.planner, _task(names.task, names.robot), model, xp, overrides=overrides)

    return made


@functools.cache
def _robot(name: str) -> Any:
    return registry.make("robots", name)


@functools.cache
def _task(name: str, robot: str) -> Any:
    return registry.make("tasks", name, _robot(robot))


LEARNED = ("ensemble", "onnx")
SINGLE = frozenset({"onnx"})
"""Models that compute in single precision: how many samples there are beside one may tell in its last digits."""


def needed(dynamics: str, robot: str) -> dict[str, Any]:
    """What a model cannot be made without: one that is learned takes a model folder."""
    more = {"precision": "float64"} if dynamics == "ensemble" else {}
    return {"model": _folder(robot), **more} if dynamics in LEARNED else {}


@functools.cache
def _folder(robot: str) -> str:
    return str(folder_for(_robot(robot)))


def _declared(kind: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the part has."""
    declared = params(registry.load(kind, name).config)
    return {key: value for key, value in values.items() if key in declared}


@functools.cache
def all_combinations(*kinds: str) -> list[tuple[Names, MbrlError | None]]:
    """Every combination of robots with the given kinds, and the error of those that are refused."""
    found = [Names(robot) for robot in registry.names("robots")]
    for kind in kinds:
        field = kind.removesuffix("s") if kind != "dynamics" else kind
        found = [Names(**{**vars(names), field: name}) for names in found for name in registry.names(kind)]
    return [(names, _refusal(names)) for names in found]


def accepted(*kinds: str) -> list[Names]:
    """The combinations that the parts accept; one that breaks in any other way is in here too, to fail its tests."""
    return [names for names, refusal in all_combinations(*kinds) if refusal is None]


def chosen(found: Iterable[Names]) -> list[Any]:
    """Combinations as parameters of a test: those in which every two parts meet once by default, the others slow."""
    found = list(found)
    candidates = [names for names in found if not as_without_obstacles(names)]
    left = {pair for names in candidates for pair in _pairs(names)}
    quick: set[Names] = set()
    while left:
        best = max(candidates, key=lambda names: len(_pairs(names) & left))
        quick.add(best)
        left -= _pairs(best)
    return [pytest.param(n, id=str(n), marks=() if n in quick else pytest.mark.slow) for n in found]


def as_without_obstacles(names: Names) -> bool:
    """A robot among obstacles is the same as without, but for a task that sees them; on torques it is two that are."""
    if names.robot == "panda_torque_clutter":
        return True
    try:
        return bool(_robot(names.robot).obstacles) and not (names.task and isinstance(build(names).task, Avoids))
    except Exception:  # it is in here to fail its tests
        return False


def _pairs(names: Names) -> set[tuple[tuple[str, str], ...]]:
    """Every two of its parts."""
    return set(itertools.combinations(vars(names).items(), 2))


def refused(*kinds: str) -> list[Any]:
    """Combinations that are refused, each way of saying so once, as parameters of a test."""
    once = {str(error): (names, error) for names, error in all_combinations(*kinds) if error is not None}
    return [pytest.param(*pair, id=str(pair[0])) for pair in once.values()]


def _refusal(names: Names) -> MbrlError | None:
    try:
        build(names)
    except MbrlError as error:
        return error
    except Exception:
        return None
    return None


NUMPY_ONLY = frozenset({"mujoco", "onnx"})
"""Models that may refuse other back ends, by a ``BackEndError``; all others run on torch."""


BY_DERIVATIVES = frozenset({"collocation", "ddp", "ilqr", "lqr"})
"""Planners that run on NumPy alone, and say so by a ``BackEndError``."""


def on_torch(found: Iterable[Names]) -> list[Names]:
    """Those that have to run on torch as well."""
    return [names for names in found if names.dynamics not in NUMPY_ONLY and names.planner not in BY_DERIVATIVES]


def observe(parts: Parts, t: float = 1.0, near_limits: bool = False, seed: int = 0) -> Observation:
    """A moving robot near home, or at the upper end of its joints, with whatever else its task reads."""
    rng = np.random.default_rng(seed)
    limits, robot = parts.robot.limits, parts.robot
    q = np.clip(robot.home + rng.uniform(-0.1, 0.1, robot.nj), limits.lower, limits.upper)
    if near_limits:
        q = limits.upper - 0.02 * (limits.upper - limits.lower)
    v = rng.uniform(-0.1, 0.1, robot.nj) * limits.velocity
    seen = {b.name: b.size for b in (*robot.blocks, *(parts.task.layout.blocks if parts.task else ()))}
    blocks = {name: rng.uniform(-1.0, 1.0, size) for name, size in seen.items()}
    return Observation(t, State(t - 0.01, q, v), blocks, dict.fromkeys(blocks, t - 0.01))


def goal_for(parts: Parts, seed: int = 0) -> Goal:
    return Goal.still(_drawn(parts.task, seed), parts.planner.horizon, parts.task.tolerance, parts.task.dwell)


@functools.cache
def _drawn(task: Any, seed: int) -> np.ndarray:
    return frozen(task.sample_goal(np.random.default_rng(seed)))


def frozen(x: Any) -> Any:
    """A deep copy whose arrays cannot be written to."""
    if isinstance(x, np.ndarray):
        copy = x.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(x, Mapping):
        return {name: frozen(value) for name, value in x.items()}
    if isinstance(x, Observation):
        joints = State(x.joints.t, frozen(x.joints.q), frozen(x.joints.v))
        return Observation(x.t, joints, frozen(x.blocks), dict(x.stamps))
    if isinstance(x, Goal):
        return Goal(frozen(x.value), x.tolerance, x.dwell)
    return x


def equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two mappings of arrays are the same, bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(np.asarray(a[n]), np.asarray(b[n])) for n in a)
