"""Runs a planner as ONNX graphs: the same ``improve``, in one native call that lets go of the interpreter.

``engaged`` makes a planner as it is asked to: on NumPy, or written as graphs by its own source (``plan_graph.py``) and
run by ONNX Runtime. Where not every part can be written (MuJoCo as a model, a planner that is no ``Sampler``) it stays
on NumPy, and ``report`` says why.

How graphs are run is in ``runners.py``. A GPU that is lost is replaced by a CPU session that was prepared, if that is
quick enough for the ``period``; else plans have status FAULT, nobody sends them, and the guard holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mbrl_control.core import (
    BackEndError,
    Carry,
    Goal,
    Info,
    Knobs,
    Noise,
    Observation,
    Plan,
    Planner,
    Status,
)
from mbrl_control.dynamics._written import constants
from mbrl_control.dynamics.ensemble import Ensemble
from mbrl_control.model import Described
from mbrl_control.model_folder import WEIGHTS
from mbrl_control.onnx_check import GraphError
from mbrl_control.plan_graph import TIMES, Build, Given, fed, single
from mbrl_control.runners import Config, DeviceLostError, EngineError, OnCpu, OnDevice, Report, Runner
from mbrl_control.sampling import Outcome, Tried, at_home


def engaged(config: Config, build: Build, period: float = math.inf) -> tuple[Planner, Report]:
    """The planner that ``build`` makes, run as asked. ``period`` [s] is what an iteration may take at most."""
    planner = build(np)
    if config.int8:
        _check_int8(config, planner)
    if config.use == "numpy":
        return planner, Report("numpy")
    try:
        engine = Engine(config, build, planner, period)
    except (GraphError, BackEndError) as error:
        asked = {"use = onnx": config.use == "onnx", f"provider = {config.provider}": config.provider != "cpu"}
        if wanted := [words for words, is_so in {**asked, "int8 = true": config.int8}.items() if is_so]:
            raise EngineError(f"engine.{wanted[0]}: {error}") from None
        return planner, Report("numpy", str(error))
    return engine, engine.report


def _check_int8(config: Config, planner: Any) -> None:
    """Refuse eight bits where they cannot be run, or where nobody knows what plans are worth with them."""
    if config.use == "numpy" or config.provider != "cpu":
        given = "engine.use = numpy" if config.use == "numpy" else f"engine.provider = {config.provider}"
        raise EngineError(f"engine.int8 = true with {given}: it takes graphs on the CPU, engine.use = onnx")
    dynamics = planner.on.dynamics if hasattr(planner, "on") else None
    if not isinstance(dynamics, Ensemble):
        name = type(dynamics or planner).__name__
        raise EngineError(f"engine.int8 = true with '{name}', which has no layers: it takes a model that was learned")
    _check_stood(dynamics.model)


def _check_stood(model: Described) -> None:
    """Refuse a model whose card does not say that these very weights stood the test in eight bits."""
    said, files = (found if isinstance(found := model.facts.get(name), Mapping) else {} for name in ("int8", "sha256"))
    if said.get("accepted") is not True or said.get("weights_sha256", "") != files.get(WEIGHTS):
        raise EngineError(
            "engine.int8 = true: the model's card does not say that plans in eight bits stood the test; it takes a "
            "model of 'mbrl export RUN --out DIR --int8 EPISODES'"
        )


class Engine:
    """A planner whose iterations are run by ONNX Runtime."""

    def __init__(self, config: Config, build: Build, planner: Any, period: float) -> None:
        """``planner`` is what ``build`` makes on NumPy. It is made ready for observations as in ``at_home``."""
        if not (hasattr(planner, "propose") and hasattr(planner, "choose")):
            raise GraphError("the planner has no propose and choose, which are what can be written as graphs")
        self.planner, self.period, self._config = planner, period, config
        self.config = planner.config
        self.dt, self.horizon = planner.dt, planner.horizon
        self.lost = ""
        """Why the CPU has taken over; empty: it has not."""
        self._build, self._sampler = build, planner
        self._runners: dict[frozenset[str], Runner] = {}
        self._spares: dict[frozenset[str], Runner] = {}
        task = self._sampler.on.task
        self._runner(at_home(task.robot, task))

    @property
    def on(self) -> Any:
        """What it plans on, as a NumPy planner has it."""
        return self._sampler.on

    @property
    def report(self) -> Report:
        """Of what was made last."""
        runner = list(self._runners.values())[-1]
        return replace(runner.report, why=self.lost or runner.report.why)

    def knobs(self) -> Knobs:
        return self.planner.knobs()

    def noise(self, rng: np.random.Generator) -> Noise:
        return self.planner.noise(rng)

    def init(self, obs: Observation) -> Carry:
        """As graphs have it, but for times, which keep their digits."""
        carry = self.planner.init(obs)
        return {name: np.asarray(x) if name in TIMES else single(x) for name, x in carry.items()}

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        """One iteration. Where nothing was finite the carry stays, bit for bit."""
        feed = fed(obs, goal, knobs, carry, noise) | {"live": self._sampler.live(carry, obs.t)}
        try:
            found = self._runner(obs)(feed)
        except DeviceLostError as error:
            if self._onto_the_cpu(str(error)):
                return self.improve(obs, goal, knobs, carry, noise)
            terms = dict.fromkeys(self.on.task.terms, math.inf)
            return carry, self._plan(carry), Info(Status.FAULT, math.inf, terms, 0.0, {})
        if found["alive"]:
            carry = {name: np.array(found[f"next/{name}"]) for name in carry}
            carry |= {"t0": np.asarray(obs.t), "stamp": np.asarray(obs.joints.t)}
        return carry, self._plan(carry), self.on.info(_outcome(found))

    def _plan(self, carry: Carry) -> Plan:
        """The plan that a carry stands for, in double precision as all plans are."""
        return self.on.plan({**carry, **{name: np.asarray(carry[name], dtype=float) for name in ("mean", "q", "v")}})

    def swap(self, model: Described) -> None:
        """Another model of the same kind, as after retraining: the graphs stay, and take its weights."""
        dynamics = self.on.dynamics
        if not isinstance(dynamics, Ensemble):
            raise EngineError(f"dynamics '{type(dynamics).__name__}' has no weights; what takes others is an ensemble")
        if self._config.int8:
            _check_stood(model)
        dynamics.swap(model)
        weights = constants(model, dynamics.particles, self._config.int8)
        for runner in {id(one): one for one in (*self._runners.values(), *self._spares.values())}.values():
            runner.swap(weights)

    def _runner(self, obs: Observation) -> Runner:
        """What runs the graphs for observations with these blocks; written, opened and tried the first time."""
        kind = frozenset(obs.blocks)
        if kind not in self._runners:
            given = Given.of(self.planner, obs, self.on.task.goal_size)
            if self._config.provider != "cpu":
                self._spares[kind] = OnCpu(self._config, self._build, given, self._sampler)
            if self._config.provider == "cpu" or self.lost:
                self._runners[kind] = self._spares.get(kind) or OnCpu(self._config, self._build, given, self._sampler)
            else:
                self._runners[kind] = OnDevice(self._config, self._build, given)
        return self._runners[kind]

    def _onto_the_cpu(self, why: str) -> bool:
        """Whether it is quick enough, and has taken over."""
        self.lost = f"{self._config.provider} was lost: {why}"
        if max(spare.report.iteration_ms for spare in self._spares.values()) * 1e-3 > self.period:
            return False
        self._runners = dict(self._spares)
        return True


def _outcome(found: Mapping[str, np.ndarray]) -> Outcome:
    """What graphs say of their plan."""
    along = {
        kind: {name.removeprefix(kind): np.array(x) for name, x in found.items() if name.startswith(kind)}
        for kind in ("predicted/", "spread/")
    }
    terms, known = np.array(found["terms"]), found.get("disagreement")
    disagreement = None if known is None else np.array(known)
    plan = Tried(found["next/mean"], terms.sum(), terms, along["predicted/"], along["spread/"], disagreement)
    return Outcome(found["alive"], found["effective"], plan)
