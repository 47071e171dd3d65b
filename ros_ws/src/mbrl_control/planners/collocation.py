"""Direct collocation and multiple shooting: the whole trajectory is optimised under constraints, by CasADi and IPOPT.

    minimise J(x, u)   so that   d(x_k, u_k, x_k+1) = 0,   low <= (x, u, rates, torques, clearance) <= high

Controls *and* states are variables, and the dynamics are constraints (Hargraves, Paris, "Direct Trajectory Optimization
Using Nonlinear Programming and Collocation", 1987; Kelly, "An Introduction to Trajectory Optimization", SIAM Review
59(4), 2017; Bock, Plitt, "A Multiple Shooting Algorithm", 1984; IPOPT: Waechter, Biegler, Mathematical Programming
106(1), 2006). ``transcription`` says what d is (``_transcription.py``); J is ``core.costs``.

Controls are held over a step, as plans have them, where the papers let them run linearly. One ``improve`` makes so many
iterations of IPOPT as ``iterations`` says and remembers where it got to: the trajectory, the multipliers of all
constraints and the barrier. The next one goes on from there, moved on by the time that has passed.

An iterate is not a plan: on its way it is no motion of the model. What is given out is

* the iterate, if its defects are below ``feasible`` and it passes no limit by more than that; else its controls, rolled
  out on the model from where the robot is, if those keep to all limits;
* instead of these, if it is cheaper, what the controls of the plan before, moved on in time, lead to (at first: those
  that hold the joints where they are). All of that has status OK;
* else the plan before, as it was. Then the status is STALE_PLAN while IPOPT has iterations left to make, FAULT where it
  has given up, as on a problem that has no solution, and NONFINITE where there are no numbers; the reason says which
  limit is passed, by how much and when. After a FAULT, IPOPT begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import (
    Carry,
    Dynamics,
    Goal,
    Info,
    Knobs,
    Mode,
    Noise,
    Observation,
    Plan,
    Status,
    Task,
    costs,
    flat,
    is_finite,
    rollout,
    unflat,
)
from mbrl_control.optimal import shifted
from mbrl_control.planners._program import Ending, Iterate, Program, Wanted
from mbrl_control.planners._transcription import Constrained, check

ENDED = ("Solve_Succeeded", "Solved_To_Acceptable_Level")
GOING = (*ENDED, "Maximum_Iterations_Exceeded")
"""What IPOPT says where one may go on from what it has found."""
FEW = 3
"""Joints up to which second derivatives of constraints pay: on an arm of seven an iteration takes eight times as long
with them, on a cart with a pole it does not converge without them."""
WORSE = 0.01
"""Where it has ended, but so much dearer than the plan before, it begins anew from that."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``collocation``."""

    horizon: int = param(40, "Steps looked ahead", low=1, high=1000)
    dt: float = param(0.05, "Duration of one step", unit="s", low=1e-4, high=10.0)
    transcription: str = param(
        "shooting",
        "How the dynamics become constraints: the model's own step, or quadrature of its equations of motion",
        choices=("shooting", "trapezoid", "hermite_simpson"),
    )
    iterations: int = param(30, "Iterations of IPOPT in one call", low=1, high=10_000)
    tolerance: float = param(1e-7, "IPOPT ends where its optimality error is below this", low=1e-12, high=1e-2)
    feasible: float = param(
        5e-7,
        "Defects up to this, and limits passed by this, are none [rad, m/s, ...]",
        low=1e-12,
        high=1e-2,
    )
    hessian: str = param(
        "auto",
        "Second derivatives: of costs and constraints, or of costs alone; auto: exact up to 3 joints",
        choices=("auto", "exact", "costs"),
    )
    positions: bool = param(True, "Keep to the joints' ranges")
    velocities: bool = param(True, "Keep to the joints' greatest speeds")
    torques: bool = param(
        False, "Keep to the joints' greatest torques, where reference velocities are commanded (by inverse dynamics)"
    )
    clearance: float = param(0.0, "Keep so far from what the task avoids, at the knots", unit="m", low=0.0, high=10.0)


@dataclass(frozen=True)
class Candidate:
    """A trajectory, and what is wrong with it."""

    knots: Annotated[np.ndarray, "H+1 nx"]
    controls: Annotated[np.ndarray, "H nu"]
    terms: Annotated[np.ndarray, "T"]
    defect: float
    """The largest."""
    excess: float
    """By how much a limit is passed, at most."""
    worst: str
    """Which constraint is violated first, by how much and when; empty: none."""

    @property
    def finite(self) -> bool:
        return is_finite(self.knots, self.controls, self.terms) and math.isfinite(self.defect + self.excess)

    @property
    def cost(self) -> float:
        return float(self.terms.sum())


class Collocation:
    """One call: move the last iterate on, iterate, and give out what is a motion within all limits."""

    def __init__(self, config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> None:
        check(config.dt, task, dynamics, xp)
        self.config, self.task, self.dynamics = config, task, dynamics
        self.dt, self.horizon = config.dt, config.horizon
        keeps = Constrained(config.positions, config.velocities, config.torques, config.clearance)
        curved = config.hessian == "exact" or (config.hessian == "auto" and task.robot.nj <= FEW)
        ending = Ending(config.iterations, config.tolerance, config.feasible, curved)
        self.program = Program(task, dynamics, config.horizon, config.transcription, keeps, ending)
        self._low, self._high = dynamics.bounds()

    def knobs(self) -> Knobs:
        return {"weights": np.asarray([term.weight for term in self.task.terms.values()], dtype=float)}

    def noise(self, rng: np.random.Generator) -> Noise:  # noqa: ARG002 - nothing is drawn
        return {}

    def init(self, obs: Observation) -> Carry:
        """A plan that stays where the joints are, by controls that hold them there as far as is known."""
        robot, H = self.task.robot, self.horizon
        q = np.asarray(obs.joints.q, dtype=float)
        stay = np.tile(np.where(np.isfinite(q), q, robot.home), (H + 1, 1))
        holding = np.tile(self._holding(stay[0]), (H, 1))
        fresh = self.program.begun(np.concatenate([stay, stay * 0.0], axis=-1), holding)
        return {
            "mean": holding,
            "last": holding[0] * 0.0,
            "q": stay,
            "v": stay * 0.0,
            "t0": np.asarray(float(obs.t)),
            "stamp": np.asarray(float(obs.joints.t)),
            "seq": np.asarray(0),
            "began": np.asarray(float(obs.t)),
            **_carried(fresh),
        }

    def _holding(self, q: Annotated[np.ndarray, "nj"]) -> Annotated[np.ndarray, "nu"]:
        robot, torque = self.task.robot, np.zeros(self.task.robot.nj)
        if robot.channels.mode is Mode.TORQUE and robot.inverse_dynamics is not None:
            torque = np.asarray(robot.inverse_dynamics(np, q, 0.0 * q, 0.0 * q))
        return np.clip(np.linalg.pinv(robot.channels.coupling) @ torque, self._low, self._high)

    def improve(
        self,
        obs: Observation,
        goal: Goal,
        knobs: Knobs,
        carry: Carry,
        noise: Noise,  # noqa: ARG002 - nothing is drawn
    ) -> tuple[Carry, Plan, Info]:
        with np.errstate(all="ignore"):
            return self._improve(obs, goal, knobs, carry)

    def _improve(self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry) -> tuple[Carry, Plan, Info]:
        start = np.asarray(flat(np, self.dynamics.init(obs, {})), dtype=float)
        wanted = Wanted(start, np.asarray(goal.value, dtype=float), np.asarray(knobs["weights"], dtype=float))
        given = {
            "the state": (obs.t, obs.joints.t, obs.joints.q, obs.joints.v, start),
            "the goal": (wanted.goal,),
            "a weight": (wanted.weights,),
        }
        lost = [name for name, arrays in given.items() if not is_finite(*arrays)]
        if lost:
            return self._keep(carry, Status.NONFINITE, f"{lost[0]} is not finite")
        before = np.concatenate([carry["last"][None], carry["mean"]])
        moved = shifted(before, (obs.t - float(carry["t0"])) / self.dt)
        kept = self._rolled(moved[1:], wanted)
        try:
            found, said = self.program.solve(self._warm(carry, obs, kept), wanted)
        except RuntimeError as error:
            return self._keep(_anew(carry), Status.FAULT, f"IPOPT: {' '.join(str(error).split())}")
        going = said in GOING and is_finite(found.knots, found.controls, found.row_prices, found.bound_prices)
        on = {**_carried(found), "began": np.asarray(float(obs.t))} if going else _anew({})
        new = self._judged(found.knots, np.clip(found.controls, self._low, self._high), wanted)
        tried = self._rolled(new.controls, wanted) if new.finite and not self._sound(new) else new
        sound = [one for one in (kept, tried) if self._sound(one)]
        if sound:
            best = min(sound, key=lambda one: one.cost)
            if said in ENDED and not new.cost - best.cost <= WORSE * abs(best.cost):
                on = _anew({})
            return self._take({**carry, **on, "last": moved[0]}, obs, best)
        if not kept.finite and not new.finite:
            return self._keep(carry, Status.NONFINITE, "the model or the task gives what is not finite")
        reason = next(one.worst for one in (tried, new, kept) if one.finite)
        if going:
            return self._keep({**carry, **on}, Status.STALE_PLAN, f"not there yet: {reason}")
        return self._keep({**carry, **on}, Status.FAULT, f"no plan within the limits ({_words(said)}): {reason}")

    def _warm(self, carry: Carry, obs: Observation, kept: Candidate) -> Iterate:
        """The last iterate, moved on; at first, and after a failure, the plan before."""
        if not carry["barrier"] > 0.0:
            return self.program.begun(kept.knots if kept.finite else _knots(carry), kept.controls)
        steps = (obs.t - float(carry["began"])) / self.dt
        rows = ("knots", "controls", "row_prices", "bound_prices")
        return Iterate(**{name: shifted(carry[name], steps) for name in rows}, barrier=float(carry["barrier"]))

    def _rolled(self, controls: Annotated[np.ndarray, "H nu"], wanted: Wanted) -> Candidate:
        """Where controls lead from the start, by the model: a motion of the model whatever the transcription."""
        sizes = {"q": self.task.robot.nj, "v": self.task.robot.nj}
        features, _ = rollout(np, self.dynamics, unflat(wanted.start, sizes), controls, {})
        knots = np.concatenate([features["q"], features["v"]], axis=-1)
        return self._candidate(knots, controls, wanted, np.zeros((self.horizon, self.program.nx)))

    def _judged(
        self, knots: Annotated[np.ndarray, "H+1 nx"], controls: Annotated[np.ndarray, "H nu"], wanted: Wanted
    ) -> Candidate:
        """An iterate; that of ``shooting`` by the model as it was given, not by what was made of it."""
        sizes = {"q": self.task.robot.nj, "v": self.task.robot.nj}
        _, after, _ = self.dynamics.step(unflat(knots[:-1], sizes), controls, {})
        missed = np.concatenate([after["q"], after["v"]], axis=-1) - knots[1:]
        if self.config.transcription != "shooting":
            missed = missed * 0.0 + self.program.rows(knots, controls)[0]
        return self._candidate(knots, controls, wanted, missed)

    def _candidate(
        self,
        knots: Annotated[np.ndarray, "H+1 nx"],
        controls: Annotated[np.ndarray, "H nu"],
        wanted: Wanted,
        missed: Annotated[np.ndarray, "H nx"],
    ) -> Candidate:
        program, nj = self.program, self.task.robot.nj
        features = {"q": knots[:, :nj], "v": knots[:, nj:]}
        terms = costs(np, self.task, wanted.weights, features, controls, wanted.goal)
        values = np.concatenate([knots[1:], program.rows(knots, controls)[1]], axis=-1)
        excess, missed = program.kept.excess(values), np.abs(missed)
        defect, passed = float(missed.max()), float(excess.max())
        if passed > self.config.feasible:
            worst = self._first(excess, lambda k, i: program.kept.said(i, float(values[k, i])))
        else:
            worst = self._first(missed, lambda k, i: f"{program.kept.names[i]} is {missed[k, i]:.3g} off the model's")
        return Candidate(knots, controls, terms, defect, passed, worst)

    def _sound(self, one: Candidate) -> bool:
        return one.finite and max(one.defect, one.excess) <= self.config.feasible

    def _first(self, wrong: Annotated[np.ndarray, "H n"], said: Callable[[int, int], str]) -> str:
        """The first knot that something is wrong with, and what most of all there; empty: nothing."""
        late = np.max(wrong, axis=-1) > self.config.feasible
        if not late.any():
            return ""
        k = int(np.argmax(late))
        return f"{said(k, int(np.argmax(wrong[k])))} at knot {k + 1}, {(k + 1) * self.dt:.3g} s ahead"

    def _take(self, carry: Carry, obs: Observation, best: Candidate) -> tuple[Carry, Plan, Info]:
        """The plan becomes ``best``."""
        nj = self.task.robot.nj
        new = {
            **carry,
            "mean": best.controls,
            "q": best.knots[:, :nj],
            "v": best.knots[:, nj:],
            "t0": np.asarray(float(obs.t)),
            "stamp": np.asarray(float(obs.joints.t)),
            "seq": np.asarray(carry["seq"]) + 1,
        }
        terms = {name: float(best.terms[i]) for i, name in enumerate(self.task.terms)}
        predicted = {"q": new["q"], "v": new["v"]}
        return new, self._plan(new), Info(Status.OK, sum(terms.values()), terms, 1.0, predicted)

    def _keep(self, carry: Carry, status: Status, reason: str) -> tuple[Carry, Plan, Info]:
        """The plan in force stays."""
        terms = dict.fromkeys(self.task.terms, math.inf)
        return carry, self._plan(carry), Info(status, math.inf, terms, 1.0, {}, reason=reason)

    def _plan(self, carry: Carry) -> Plan:
        mode, (q, v, u) = self.task.robot.channels.mode, (np.asarray(carry[name]) for name in ("q", "v", "mean"))
        return Plan(float(carry["t0"]), self.dt, mode, q, v, u, None, float(carry["stamp"]), int(carry["seq"]))


def _carried(at: Iterate) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in vars(at).items()}


def _anew(carry: Carry) -> dict[str, np.ndarray]:
    """A carry of which the next call takes the plan, not the iterate."""
    return {**carry, "barrier": np.asarray(0.0)}


def _knots(carry: Carry) -> Annotated[np.ndarray, "H+1 nx"]:
    return np.concatenate([carry["q"], carry["v"]], axis=-1)


def _words(said: str) -> str:
    return said.replace("_", " ").lower()


def make(config: Config, task: Task, dynamics: Dynamics, xp: Any = np) -> Collocation:
    """Collocation for a task with derivatives on a model with equations; refuses others by name."""
    return Collocation(config, task, dynamics, xp)
