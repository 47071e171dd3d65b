"""Two planners in turn, one beginning where the other ended: one that finds a way, and one that makes it good.

Planning by samples gets over hills that derivatives end at; derivatives come to a valley's floor in few steps, and know
how to hold a plan there. In every call the first planner goes on from the plan in force, whoever made that, and the
second from what is the cheapest then. Their models may be different ones; their steps must not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import ConfigError, param
from mbrl_control.core import Carry, Goal, Info, Knobs, Noise, Observation, Plan, Planner

IN_FORCE = ("mean", "last", "t0", "stamp")
"""What is handed over: controls, the one before them, and their time."""
FIRST, THEN = "first/", "then/"


@dataclass(frozen=True)
class Config:
    """Who goes first."""

    first: str = param("", "planner in whose plan the other one begins, in every call; empty: none")


class Relay:
    """The planner."""

    def __init__(self, first: Planner, then: Planner) -> None:
        if (first.dt, first.horizon) != (then.dt, then.horizon):
            given = (f"{one.horizon} steps of {one.dt:g} s" for one in (first, then))
            raise ConfigError(f"relay.first plans {', the other one '.join(given)}: it takes the same of both")
        self.first, self.then = first, then
        self.dt, self.horizon = then.dt, then.horizon

    def knobs(self) -> Knobs:
        return {**self.first.knobs(), **self.then.knobs()}

    def noise(self, rng: np.random.Generator) -> Noise:
        return {**self.first.noise(rng), **self.then.noise(rng)}

    def init(self, obs: Observation) -> Carry:
        return {**_under(FIRST, self.first.init(obs)), **_under(THEN, self.then.init(obs))}

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        """One iteration of each. The plan is the second one's, unless that found nothing and the first one did."""
        before, after = _of(FIRST, carry), _of(THEN, carry)
        if after["seq"] > 0:
            before = _handed(after, before)
        before, plan, info = self.first.improve(obs, goal, _known(self.first, knobs), before, noise)
        found = not info.status
        if found:
            after = _handed(before, after)
        after, better, told = self.then.improve(obs, goal, _known(self.then, knobs), after, noise)
        carry = {**_under(FIRST, before), **_under(THEN, after)}
        return (carry, plan, info) if told.status and found else (carry, better, told)


def _known(planner: Planner, knobs: Knobs) -> Knobs:
    return {name: knobs[name] for name in planner.knobs()}


def _handed(giver: Carry, taker: Carry) -> dict[str, Any]:
    """What is remembered by one, with the plan in force of the other."""
    return {**taker, **{name: np.asarray(giver[name], dtype=np.asarray(taker[name]).dtype) for name in IN_FORCE}}


def _under(prefix: str, carry: Carry) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in carry.items()}


def _of(prefix: str, carry: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in carry.items() if name.startswith(prefix)}
