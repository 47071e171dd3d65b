"""The simplest thing to plan for: q' = u, a goal for q, and what both cost by the sums themselves."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np

from mbrl_control import registry
from mbrl_control.core import Goal, Layout, Observation, State, Term

DT = 0.1
ROBOT = dataclasses.replace(registry.make("robots", "pendulum"), home=np.zeros(1))


class Integrator:
    """q' = u, between bounds."""

    dt = DT
    nowhere_above = np.inf
    """The model blows up under controls larger than this."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def init(self, obs, noise):
        return {"q": obs.joints.q, "v": obs.joints.v}

    def step(self, s, u, noise):
        s = {"q": s["q"] + DT * u + np.where(u > self.nowhere_above, np.nan, 0.0), "v": u + 0.0 * s["q"]}
        return s, s, {}

    def features(self, s):
        return s

    def bounds(self):
        return np.array([self.low]), np.array([self.high])

    def plan(self, features, u):
        return features["q"], features["v"]


TASK = SimpleNamespace(
    robot=ROBOT,
    layout=Layout(),
    terms={"q": Term("quadratic", 2.0), "u": Term("quadratic", 0.05)},
    residuals=lambda xp, features, u, goal: {"q": features["q"] - goal, "u": u},
)
START = Observation(0.0, State(0.0, np.array([1.0]), np.array([0.0])))


def still(p, value=0.0):
    return Goal.still([value], p.horizon, 0.02, 0.3)


def cost_of(controls, q, goal):
    """What TASK charges, by the sums themselves."""
    total = 0.0
    for u in controls:
        q = q + DT * u
        total += (2.0 * (q - goal) ** 2 / 2 + 0.05 * u**2 / 2) / len(controls)
    return total
