"""What planners that try many control sequences share; each of them adds how it draws and how it chooses.

    proposed = planner.propose(obs, knobs, carry, noise)            the plan in force, moved on, and what is drawn
    tried = on.evaluate(proposed.controls, case)                    rolled out and scored; not finite is never cheap
    carry, found = planner.choose(obs, case, knobs, carry, proposed, tried)     the new plan, or the one in force

Those three are an iteration (``Sampling.improve``). They are apart because the middle one is nearly all of the work,
and sequences are scored one by one: whoever runs them may share them out. ``choose`` therefore takes no more than their
costs, and rolls the sequence that it wants out once more where what was predicted of it is not at hand.

The carry of such a planner is its plan: ``mean`` [H nu] are the controls, ``last`` [nu] the one in force before
them, ``q`` and ``v`` [H+1 nj] where they lead, ``t0``, ``stamp`` and ``seq`` its times and number. A planner may
remember more beside it. All of it is pure, in the functions of ``core.XP_SUBSET`` and ``core.XP_SELECTION``.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import numpy as np

from mbrl_control.config import ConfigError
from mbrl_control.core import (
    Array,
    Carry,
    Dynamics,
    Features,
    Goal,
    Info,
    Knobs,
    Latent,
    MbrlError,
    Mode,
    Noise,
    Observation,
    Particles,
    Plan,
    Robot,
    State,
    Status,
    Task,
    costs,
    rollout,
)
from mbrl_control.model import COMMANDS, COMMANDS_KEPT, REFERENCE

INFINITE = 1e30
"""A cost from here on counts as infinite (a true infinity would turn 0 * inf into NaN)."""


@dataclass(frozen=True, slots=True)
class Case:
    """What sequences are scored by."""

    start: Latent
    goal: Annotated[Array, "H+1 ng"]
    weights: Annotated[Array, "T"]
    draws: Noise
    """The model's; common to all sequences, so that they differ by their controls alone."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """What is to be tried."""

    controls: Annotated[Array, "N H nu"]
    """The plan in force comes first."""
    more: Mapping[str, Array]
    """What ``choose`` needs of it; ``last`` among it."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Control sequences, rolled out and scored. With no leading axis: one of them."""

    controls: Annotated[Array, "... H nu"]
    cost: Annotated[Array, "..."]
    terms: Annotated[Array, "... T"] | None = None
    """None: of these the costs alone are at hand, and nothing of what follows."""
    features: Features = field(default_factory=dict)
    """Each [... H+1 n]; of particles their mean."""
    spread: Features = field(default_factory=dict)
    """Standard deviation over particles, each [... H+1 n]; empty where there are none."""
    disagreement: Annotated[Array, "... H"] | None = None
    """Of the members of an ensemble, in units of what is usual; 0 of a model that has none, None if it does not say."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one iteration found, still in arrays."""

    alive: Annotated[Array, ""]
    """Whether the state was finite, any rollout from it, and the plan."""
    effective: Annotated[Array, ""]
    """Kish's effective sample size of the update."""
    plan: Tried
    """The plan, or what was to be it."""


class PredictionError(MbrlError):
    """A model that does not predict what a task reads."""


class Sampler(Protocol):
    """A planner that samples, as an iteration sees it: arrays in and arrays out, which is what can be exported."""

    @property
    def on(self) -> Sampling: ...

    def propose(self, obs: Observation, knobs: Knobs, carry: Carry, noise: Noise) -> Proposed: ...

    def live(self, carry: Carry, t: float) -> int:
        """How many of what it proposes are tried this time, the first ones."""
        ...

    def choose(
        self, obs: Observation, case: Case, knobs: Knobs, carry: Carry, proposed: Proposed, tried: Tried
    ) -> tuple[Carry, Outcome]: ...


class Sampling:
    """A task on a model over a horizon, on one back end."""

    def __init__(self, name: str, dt: float, horizon: int, task: Task, dynamics: Dynamics, xp: Any) -> None:
        """``name`` is the planner's, for the error where its ``dt`` is not the model's."""
        if abs(dt - dynamics.dt) > 1e-9:
            raise ConfigError(
                f"{name}.dt = {dt:g} s, but the dynamics step by dt = {dynamics.dt:g} s: they take the same value"
            )
        check_predicts(dynamics, task)
        self.name = name
        self.dt, self.horizon, self.task, self.dynamics, self.xp = dt, horizon, task, dynamics, xp
        low, high = dynamics.bounds()
        self.nu = len(low)
        self.low, self.high, self.half = xp.asarray(low), xp.asarray(high), xp.asarray((high - low) / 2.0)
        """Bounds of the channels, and half the distance between them."""
        self.slots = xp.asarray(np.arange(horizon + 1.0))

    def weights(self) -> Annotated[np.ndarray, "T"]:
        """The weights of the task's terms, as a knob."""
        return np.asarray([term.weight for term in self.task.terms.values()], dtype=float)

    def init(self, obs: Observation) -> dict[str, Array]:
        """Controls of zero; and, in case not one rollout ever is finite, a plan that stays where the joints are."""
        xp = self.xp
        q, home = xp.asarray(obs.joints.q), xp.asarray(self.task.robot.home)
        stay = xp.broadcast_to(xp.where(xp.isfinite(q), q, home), (self.horizon + 1, self.task.robot.nj))
        zeros = self.slots * 0.0
        return {
            "mean": zeros[1:, None] * self.half,
            "last": self.half * 0.0,
            "t0": zeros[0] + obs.t,
            "stamp": zeros[0] + obs.joints.t,
            "seq": xp.asarray(0),
            "q": stay,
            "v": stay * 0.0,
        }

    def improve(
        self, planner: Sampler, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        """``Planner.improve`` by one iteration on arrays of ``xp``."""
        xp = self.xp
        live = planner.live(carry, obs.t)
        knobs = {name: xp.asarray(knob) for name, knob in knobs.items()}
        carry = {name: xp.asarray(tensor) for name, tensor in carry.items()}
        noise = {name: xp.asarray(draw) for name, draw in noise.items()}
        proposed = planner.propose(obs, knobs, carry, noise)
        case = self.case(obs, xp.asarray(np.array(goal.value)), knobs, noise)
        tried = self.evaluate(proposed.controls[:live], case)
        carry, found = planner.choose(obs, case, knobs, carry, proposed, tried)
        return carry, self.plan(carry), self.info(found)

    def case(self, obs: Observation, goal: Annotated[Array, "H+1 ng"], knobs: Knobs, noise: Noise) -> Case:
        """What sequences are scored by at an observation."""
        draws = self.draws(noise)
        return Case(self.dynamics.init(obs, draws), goal, knobs["weights"], draws)

    def plan(self, carry: Carry) -> Plan:
        """The plan that a carry stands for."""
        mode = self.task.robot.channels.mode
        t0, stamp, seq = float(carry["t0"]), float(carry["stamp"]), int(carry["seq"])
        return Plan(t0, self.dt, mode, carry["q"], carry["v"], carry["mean"], None, stamp, seq)

    def info(self, found: Outcome) -> Info:
        """The outcome in words and numbers; where nothing was finite, the costs are infinite."""
        plan, alive = found.plan, bool(found.alive)
        assert plan.terms is not None
        terms = {name: float(plan.terms[i]) if alive else math.inf for i, name in enumerate(self.task.terms)}
        if not alive:
            return Info(Status.NONFINITE, sum(terms.values()), terms, float(found.effective), {})
        return Info(
            Status.OK,
            sum(terms.values()),
            terms,
            float(found.effective),
            plan.features,
            plan.spread,
            plan.disagreement,
        )

    def noise(self, rng: np.random.Generator, **own: Array) -> Noise:
        """The planner's own draws, by its name, and those that its model takes."""
        model = self.dynamics
        return {**own, **model.noise(rng, self.horizon)} if isinstance(model, Particles) else own

    def draws(self, noise: Noise) -> Noise:
        """Of what ``noise`` gives, that which the model takes."""
        return {name: draw for name, draw in noise.items() if name != self.name}

    def passed(self, carry: Carry, t: Annotated[Array, ""]) -> Annotated[Array, ""]:
        """Steps, and fractions of one, from the start of the plan in force to time ``t`` [s]."""
        return (t - carry["t0"]) / self.dt

    def shift(self, carry: Carry, t: Annotated[Array, ""]) -> tuple[Annotated[Array, "nu"], Annotated[Array, "H nu"]]:
        """The control in force at time ``t`` [s], and those that follow; the last one lasts."""
        before = self.xp.concat([carry["last"][None], carry["mean"]], axis=0)
        shifted = self.moved(before, self.passed(carry, t))
        return shifted[0], shifted[1:]

    def new(self, carry: Carry, t: Annotated[Array, ""]) -> Annotated[Array, "H 1"]:
        """Share of each slot at time ``t`` [s] that has come in behind the end of the plan in force."""
        end = self.slots[1:] + self.passed(carry, t) - float(self.horizon)
        return self.xp.clip(end, 0.0, 1.0)[:, None]

    def moved(self, rows: Annotated[Array, "H+1 n"], steps: Annotated[Array, ""]) -> Annotated[Array, "H+1 n"]:
        """Rows that stand ``steps`` later; fractions interpolate, and beyond the ends the last and first row last.

        W_ij = relu(1 - |clip(i + steps, 0, H) - j|) is applied to the rows.
        """
        xp = self.xp
        place = xp.clip(self.slots + steps, 0.0, float(self.horizon))
        gap = 1.0 - xp.abs(xp.expand_dims(place, axis=-1) - self.slots)
        return xp.matmul(xp.maximum(gap, 0.0), rows)

    def evaluate(self, controls: Annotated[Array, "N H nu"], case: Case) -> Tried:
        """Roll out and score; a cost that is not finite is infinite, never small.

        Of particles the cost is the mean of theirs: they meet the same controls and may come to different ends, and
        the cost of where they are on average would be that of an end that none of them has. One that is not finite
        makes the mean infinite.
        """
        xp, model = self.xp, self.dynamics
        start = model.scatter(case.start) if isinstance(model, Particles) else case.start
        features, aux = rollout(xp, model, start, controls, case.draws)
        spread: Features = {}
        if isinstance(model, Particles):
            lead = next(iter(features.values())).shape[:1]
            each = xp.broadcast_to(controls, (*lead, *controls.shape))
            terms = xp.mean(costs(xp, self.task, case.weights, features, each, case.goal), axis=0)
            features, spread = _gathered(xp, features)
        else:
            terms = costs(xp, self.task, case.weights, features, controls, case.goal)
        total = xp.sum(terms, axis=-1)
        cost = xp.where(xp.isfinite(total), total, xp.ones_like(total) * INFINITE)
        known = aux.get("disagreement")
        return Tried(controls, cost, terms, features, spread, None if known is None else known[..., 0])

    def scored(self, plan: Annotated[Array, "H nu"], case: Case) -> Tried:
        """One sequence, rolled out and scored."""
        return _taken(self.evaluate(plan[None], case), lambda rows: rows[0])

    def safer(self, plan: Annotated[Array, "H nu"], tried: Tried, case: Case) -> Tried:
        """``plan``, unless it costs more than the first of what was tried: that is the plan in force."""
        if tried.terms is not None:
            return self.cheaper(self.scored(plan, case), self.first(tried))
        both = self.evaluate(self.xp.stack([plan, tried.controls[0]], axis=0), case)
        return self.cheaper(_taken(both, lambda rows: rows[0]), _taken(both, lambda rows: rows[1]))

    @staticmethod
    def first(tried: Tried) -> Tried:
        """The first of several sequences."""
        return _taken(tried, lambda rows: rows[0])

    def cheapest(self, tried: Tried, case: Case) -> Tried:
        """The cheapest of several sequences; of equals the first."""
        xp = self.xp
        best = xp.expand_dims(xp.argmin(tried.cost, axis=-1), axis=0)
        if tried.terms is None:
            return self.scored(xp.take(tried.controls, best, axis=0)[0], case)
        return _taken(tried, lambda rows: xp.take(rows, best, axis=0)[0])

    def cheaper(self, new: Tried, old: Tried) -> Tried:
        """One of two sequences: the new one, if it costs no more than the old."""
        better = new.cost <= old.cost
        return _taken(new, lambda mine, theirs: self.xp.where(better, mine, theirs), old)

    def settle(
        self,
        obs: Observation,
        carry: Carry,
        chosen: Tried,
        last: Annotated[Array, "nu"],
        effective: Annotated[Array, ""],
        **more: Array,
    ) -> tuple[Carry, Outcome]:
        """The plan becomes ``chosen``, one sequence, and what is remembered beside it ``more``.

        Where that is not finite the carry stays, bit for bit, and the outcome is not alive.
        """
        xp = self.xp
        q, v = self.dynamics.plan(chosen.features, chosen.controls)
        new: Carry = {
            "mean": chosen.controls,
            "last": last,
            "t0": carry["t0"] * 0.0 + obs.t,
            "stamp": carry["stamp"] * 0.0 + obs.joints.t,
            "seq": carry["seq"] + 1,
            "q": q,
            "v": v,
            **more,
        }
        alive = self._sound(obs, q, v) & (chosen.cost < INFINITE)
        kept = {name: xp.where(alive, tensor, carry[name]) for name, tensor in new.items()}
        return kept, Outcome(alive, effective, chosen)

    def bounded(self, controls: Annotated[Array, "... nu"]) -> Annotated[Array, "... nu"]:
        """Controls clipped to the bounds of their channels."""
        return self.xp.minimum(self.xp.maximum(controls, self.low), self.high)

    def average(self, weights: Annotated[Array, "N"], rows: Annotated[Array, "N H nu"]) -> Annotated[Array, "H nu"]:
        """The weighted sum of rows."""
        flat = self.xp.reshape(rows, (rows.shape[0], self.horizon * self.nu))
        return self.xp.reshape(self.xp.matmul(weights[None], flat), (self.horizon, self.nu))

    def _sound(self, obs: Observation, q: Annotated[Array, "H+1 nj"], v: Annotated[Array, "H+1 nj"]) -> Array:
        """Whether times, joints and plan are finite: true or false, even where model and task do not read them."""
        xp = self.xp
        times = [self.slots[0] + obs.t, self.slots[0] + obs.joints.t]
        parts = [xp.stack(times, axis=0), xp.asarray(obs.joints.q), xp.asarray(obs.joints.v), q, v]
        flat = xp.concat([xp.reshape(part, (-1,)) for part in parts], axis=0)
        return xp.sum(xp.where(xp.isfinite(flat), xp.zeros_like(flat), xp.ones_like(flat)), axis=-1) < 0.5


def at_home(robot: Robot, task: Task) -> Observation:
    """What is seen of a robot at rest at home, before anything was commanded."""
    blocks = {block.name: np.zeros(block.size) for block in (*robot.blocks, *task.layout.blocks)}
    blocks[COMMANDS] = np.zeros(COMMANDS_KEPT * robot.nu)
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        blocks[REFERENCE] = np.concatenate([robot.home, np.zeros(robot.nj)])
    return Observation(0.0, State(0.0, robot.home, np.zeros(robot.nj)), blocks, dict.fromkeys(blocks, 0.0))


def check_predicts(dynamics: Dynamics, task: Task) -> None:
    """Refuse, by name, a model that does not predict every block that the task reads; seen at a state at home."""
    if not task.layout.blocks:
        return
    predicted = dynamics.features(dynamics.init(at_home(task.robot, task), {}))
    missing = [f"'{block.name}'" for block in task.layout.blocks if block.name not in predicted]
    if missing:
        model, wanted = (type(part).__module__.rsplit(".", 1)[-1] for part in (dynamics, task))
        raise PredictionError(
            f"dynamics '{model}' does not predict {', '.join(missing)}, which task '{wanted}' reads; it takes a model "
            f"that does, as 'mujoco' or one learned of this task on robot '{task.robot.name}'"
        )


def _taken(tried: Tried, chosen: Callable[..., Array], *others: Tried) -> Tried:
    """``chosen`` of each of its arrays, beside those of others."""

    def of(get: Callable[[Tried], Any]) -> Any:
        mine, *theirs = (get(one) for one in (tried, *others))
        if mine is None:
            return None
        if isinstance(mine, Mapping):
            return {name: chosen(rows, *(other[name] for other in theirs)) for name, rows in mine.items()}
        return chosen(mine, *theirs)

    return Tried(*(of(operator.attrgetter(field.name)) for field in dataclasses.fields(Tried)))


def _gathered(xp: Any, features: Features) -> tuple[Features, Features]:
    """Mean and standard deviation over particles, the first axis."""
    means = {name: xp.mean(rows, axis=0) for name, rows in features.items()}
    away = {name: xp.mean(xp.square(rows - means[name]), axis=0) for name, rows in features.items()}
    return means, {name: xp.sqrt(variance) for name, variance in away.items()}


def kish(xp: Any, weights: Annotated[Array, "N"]) -> Annotated[Array, ""]:
    """Kish's effective sample size: (sum w)^2 / sum w^2, for weights that sum to one or are all zero."""
    return xp.sum(weights, axis=-1) / xp.maximum(xp.sum(xp.square(weights), axis=-1), 1.0 / INFINITE)
