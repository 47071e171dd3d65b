"""A planner's iteration as ONNX graphs, written by the planner's own source.

    propose     the plan in force moved on, the noise filtered            carry, knobs, noise      -> controls, more/*
    evaluate    what a part of the sequences costs: rollout and terms     controls [c H nu], ...   -> cost [c]
    choose      the weighted or elite update                              controls, cost, ...      -> next/*, ...
    plan        all of it in one: what another program runs               everything               -> next/*, ...

An engine on several cores runs the first three, ``evaluate`` for a part of the samples on each; one on a GPU, and
whoever has nothing but ONNX Runtime, runs ``plan``. Sizes are fixed. With ``int8`` networks have their hidden layers
in eight bits. Tensors are called

    q v t stamp                 the joints, the time that is planned for, and that at which the joints were measured
    seen/BLOCK goal knob/NAME   as in ``core.Observation``, ``Goal`` and the planner's ``knobs``
    carry/NAME noise/NAME       what it remembered, and its draws: standard normal
    live                        how many of the sequences count, the first ones
    next/NAME                   what it remembers; ``next/q``, ``next/v`` and ``next/mean`` are the plan
    alive terms effective       whether anything was finite, the plan's cost terms, the effective sample size
    predicted/FEATURE spread/FEATURE disagreement                                along the plan

A graph takes what it needs of these. Floats are float32; times count from the time that is planned for, t = 0, so that
a clock that has run for long costs no precision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.core import Goal, Observation, Planner, State
from mbrl_control.onnx_graph import Recorder, Traced, graph
from mbrl_control.sampling import INFINITE, Case, Outcome, Proposed, Sampler, Tried

Build = Callable[[Any], Planner]
"""Makes a planner, with its model, on an ``xp``."""
TIMES = ("t0", "stamp")
"""What of a carry is a time."""


@dataclass(frozen=True)
class Given:
    """Shapes and kinds of what goes in, of one planner on one kind of observation."""

    seen: Mapping[str, np.ndarray]
    """By the name of the tensor."""
    carry: Mapping[str, np.ndarray]
    knobs: Mapping[str, np.ndarray]
    noise: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, planner: Planner, obs: Observation, goal_size: int) -> Given:
        """As a NumPy planner has them."""
        joints = {"q": obs.joints.q, "v": obs.joints.v, "t": obs.t, "stamp": obs.joints.t}
        blocks = {f"seen/{name}": block for name, block in obs.blocks.items()}
        goal = {"goal": np.zeros((planner.horizon + 1, goal_size))}
        seen, carry, knobs, noise = (
            {name: single(x) for name, x in given.items()}
            for given in (
                {**joints, **blocks, **goal},
                planner.init(obs),
                planner.knobs(),
                planner.noise(np.random.default_rng(0)),
            )
        )
        return cls(seen, carry, knobs, noise)

    def proposal(self) -> tuple[Observation, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arguments of ``Sampler.propose`` of these shapes."""
        seen = self.seen
        blocks = {name.removeprefix("seen/"): x for name, x in seen.items() if name.startswith("seen/")}
        obs = Observation(float(seen["t"]), State(float(seen["stamp"]), seen["q"], seen["v"]), blocks)
        return obs, dict(self.knobs), dict(self.carry), dict(self.noise)


def single(x: Any) -> np.ndarray:
    """An array as graphs have it."""
    array = np.asarray(x)
    return array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)


def fed(obs: Observation, goal: Goal, knobs: Any, carry: Any, noise: Any) -> dict[str, Any]:
    """What a graph takes of the arguments of ``improve``, by its names; times from the time that is planned for."""
    feed: dict[str, Any] = {"q": obs.joints.q, "v": obs.joints.v, "goal": goal.value}
    feed |= {"t": obs.t - obs.t, "stamp": obs.joints.t - obs.t}
    for kind, arrays in {"seen": obs.blocks, "knob": knobs, "noise": noise, "carry": carry}.items():
        feed |= {f"{kind}/{name}": x for name, x in arrays.items()}
    return feed | {f"carry/{name}": carry[name] - obs.t for name in TIMES}


class Writer:
    """One graph on its way: its inputs as the planner takes them."""

    def __init__(self, build: Build, given: Given, int8: bool = False) -> None:
        self.xp, self.given = Recorder(int8), given
        self.planner: Sampler = build(self.xp)  # type: ignore[assignment]
        self.knobs, self.carry, self.noise = (
            {name: self._input(f"{kind}/{name}", x) for name, x in arrays.items()}
            for kind, arrays in (("knob", given.knobs), ("carry", given.carry), ("noise", given.noise))
        )
        seen = {name: self._input(name, x) for name, x in given.seen.items()}
        blocks = {name.removeprefix("seen/"): x for name, x in seen.items() if name.startswith("seen/")}
        self.obs = Observation(seen["t"], State(seen["stamp"], seen["q"], seen["v"]), blocks)  # type: ignore[arg-type]
        self.goal = seen["goal"]

    def _input(self, name: str, x: np.ndarray) -> Traced:
        return self.xp.input(name, x.shape, x.dtype)

    def proposed(self) -> Proposed:
        return self.planner.propose(self.obs, self.knobs, self.carry, self.noise)

    def case(self) -> Case:
        return self.planner.on.case(self.obs, self.goal, self.knobs, self.noise)

    def chosen(self, case: Case, proposed: Proposed, tried: Tried) -> dict[str, Traced]:
        """The outputs of a graph that ends with the plan."""
        carry, found = self.planner.choose(self.obs, case, self.knobs, self.carry, proposed, tried)
        return {**{f"next/{name}": x for name, x in carry.items()}, **told(found)}

    def written(self, name: str, outputs: Mapping[str, Traced], metadata: Mapping[str, Any]) -> bytes:
        return graph(self.xp, outputs, {key: json.dumps(value) for key, value in metadata.items()}, name)


def told(found: Outcome) -> dict[str, Any]:
    """What a graph says of its plan."""
    plan = found.plan
    along = {"predicted": plan.features, "spread": plan.spread}
    known = {} if plan.disagreement is None else {"disagreement": plan.disagreement}
    return {
        "alive": found.alive,
        "effective": found.effective,
        "terms": plan.terms,
        **known,
        **{f"{kind}/{name}": x for kind, rows in along.items() for name, x in rows.items()},
    }


def propose(build: Build, given: Given, int8: bool = False) -> bytes:
    writer = Writer(build, given, int8)
    proposed = writer.proposed()
    more = {f"more/{name}": x for name, x in proposed.more.items()}
    return writer.written("propose", {"controls": proposed.controls, **more}, {})


def evaluate(build: Build, given: Given, controls: tuple[int, ...], int8: bool = False) -> bytes:
    """``controls`` is the shape of a part of the sequences."""
    writer = Writer(build, given, int8)
    tried = writer.planner.on.evaluate(writer.xp.input("controls", controls), writer.case())
    return writer.written("evaluate", {"cost": tried.cost}, {})


def choose(
    build: Build, given: Given, controls: tuple[int, ...], more: Mapping[str, tuple[int, ...]], int8: bool = False
) -> bytes:
    """``controls`` and ``more`` are the shapes of what ``propose`` gives, under the names that they have there."""
    writer = Writer(build, given, int8)
    xp = writer.xp
    also = {name.removeprefix("more/"): xp.input(name, shape) for name, shape in more.items()}
    proposed = Proposed(xp.input("controls", controls), also)
    tried = Tried(proposed.controls, xp.input("cost", controls[:1]))
    return writer.written("choose", writer.chosen(writer.case(), proposed, tried), {})


def plan(build: Build, given: Given, metadata: Mapping[str, Any], int8: bool = False) -> bytes:
    """The whole iteration; ``metadata`` is what the file says of itself.

    Of all sequences only the costs are asked for: one that is rolled out again costs less than to know of every one
    what is predicted of it.
    """
    writer = Writer(build, given, int8)
    xp, case, proposed = writer.xp, writer.case(), writer.proposed()
    cost = writer.planner.on.evaluate(proposed.controls, case).cost
    among = np.arange(cost.shape[0]) < xp.input("live", ())
    tried = Tried(proposed.controls, xp.where(among, cost, xp.ones_like(cost) * INFINITE))
    return writer.written("plan", writer.chosen(case, proposed, tried), metadata)
