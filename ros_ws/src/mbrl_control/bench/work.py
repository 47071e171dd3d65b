"""The work that planners are compared at: a robot, a task and a model of the published sizes, made up from a seed.

PETS' arm has a state of 20 numbers and 7 actions; here these are ten joints with their speeds, and seven channels of
torques. The network reads just these 27 numbers and predicts the 20. The cost is quadratic. It is no robot that could
be built: what a plan takes is in the sizes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_control import networks
from mbrl_control.bench import flops
from mbrl_control.core import (
    Array,
    Channels,
    Features,
    Goal,
    Limits,
    Mode,
    Observation,
    Planner,
    Robot,
    Sink,
    State,
    Term,
)
from mbrl_control.dynamics import ensemble
from mbrl_control.dynamics.ensemble import WHITE, Ensemble
from mbrl_control.model import Model, spec_for
from mbrl_control.networks import Net
from mbrl_control.planners import cem, mppi
from mbrl_control.tasks._published import Published

JOINTS, ACTIONS, DT = 10, 7, 0.05
STATE = 2 * JOINTS
BOUND = 1.0
WEIGHTS = {"away": 1.0, "speed": 0.1, "effort": 0.01}
"""Of positions away from the goal, of speeds and of actions."""
VARIANCE = -6.0
"""About which the log variances of the made-up networks lie."""


@dataclass(frozen=True)
class Size:
    """A planner and its work."""

    planner: str
    """``cem`` or ``mppi``."""
    samples: int
    horizon: int
    iterations: int
    net: Net
    particles: int
    fresh: bool = False
    """Each sample meets noise of its own, as in PETS; else all meet the same."""

    @property
    def flops(self) -> int:
        return flops.rollouts(self.net, self.samples, self.particles, self.horizon, self.iterations)

    @property
    def words(self) -> str:
        """N, H, and the rest of the sizes."""
        net = self.net
        found = f"N={self.samples} H={self.horizon} E={net.members} {len(net.hidden)}x{net.hidden[0]} {net.activation}"
        found += f" P={self.particles}" * (self.particles != net.members)
        return found + f" {self.iterations} iterations" * (self.iterations > 1)


def pets(samples: int = 400, horizon: int = 25, members: int = 5, *, fresh: bool = True) -> Size:
    """PETS' plan, every setting as published."""
    net = Net(members, STATE + ACTIONS, (200,) * 4, STATE)
    return Size("cem", samples, horizon, 5, net, 4 * members, fresh)


def pddm(samples: int, horizon: int, members: int = 3) -> Size:
    """A plan of the shape of PDDM's: every sample through all members, none of them has noise."""
    net = Net(members, STATE + ACTIONS, (500,) * 2, STATE, "deterministic", "relu")
    return Size("mppi", samples, horizon, 1, net, members)


def robot() -> Robot:
    """Ten joints and seven torques, without a body."""
    joints = tuple(f"joint{i}" for i in range(JOINTS))
    channels = Channels(Mode.TORQUE, joints[:ACTIONS], np.eye(JOINTS, ACTIONS), np.full(ACTIONS, BOUND))
    ones = np.ones(JOINTS)
    return Robot(
        name="made_up",
        joints=joints,
        channels=channels,
        limits=Limits(-3.0 * ones, 3.0 * ones, ones, ones, ones, ones),
        home=np.zeros(JOINTS),
        world=Path(),
        tip_body="",
        tip=lambda _xp, q: q[..., :3],
        inverse_dynamics=None,
        acceleration=None,
        sink=Sink("effort", "effort"),
        state_topic="joint_states",
        state_rate=100.0,
        servo=None,
    )


class Quadratic(Published):
    """Joints at their goal, at rest, without effort."""

    dt: float = DT
    steps: int = 100
    threshold: float | None = None

    def __init__(self, robot: Robot) -> None:
        terms = {name: Term("quadratic", weight) for name, weight in WEIGHTS.items()}
        super().__init__(robot, robot.name, terms, ("ten angles", [-3.0] * JOINTS, [3.0] * JOINTS), (0.1, 1.0))

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:  # noqa: ARG002
        return {"away": features["q"] - goal, "speed": features["v"], "effort": u}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -self.distance(after, goal)

    def reset(self, rng: np.random.Generator) -> State:
        return State(0.0, rng.uniform(-1.0, 1.0, JOINTS), np.zeros(JOINTS))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, JOINTS)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm(obs.joints.q - goal))


def model(net: Net, seed: int = 0) -> Model:
    """Weights of a fresh ensemble, moderate noise, and a normaliser that does something."""
    rng = np.random.default_rng(seed)
    params = networks.initial(net, rng)
    last = f"b{net.layers - 1}"
    params[last] = (0.05 * rng.standard_normal(params[last].shape)).astype(np.float32)
    if net.gaussian:
        params[last][..., net.outputs :] += np.float32(VARIANCE)
    params["input_mean"] = (0.1 * rng.standard_normal(net.inputs)).astype(np.float32)
    params["input_scale"] = rng.uniform(0.5, 2.0, net.inputs).astype(np.float32)
    params["output_mean"] = np.zeros(net.outputs, np.float32)
    params["output_scale"] = np.ones(net.outputs, np.float32)
    return Model(spec_for(robot(), DT), net, params)


class Fresh(Ensemble):
    """An ensemble whose noise is another one for each sample: [N P H n]."""

    each = (WHITE,)
    """Draws whose first axis is that of samples."""
    samples = threads = 1

    def noise(self, rng: np.random.Generator, horizon: int) -> dict[str, Array]:
        """Drawn by as many threads as plan, each with a generator of its own."""
        drawn = np.empty((self.samples, self.particles, horizon, self.model.net.outputs), np.float32)
        shares = zip(rng.spawn(self.threads), np.array_split(drawn, self.threads), strict=True)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda share: share[0].standard_normal(dtype=np.float32, out=share[1]), shares))
        return {WHITE: drawn}

    def rollout(self, s: Any, u: Array, noise: Mapping[str, Array]) -> tuple[Features, Mapping[str, Array]]:
        """Of a sequence that is no sample, with the noise of the first."""
        return super().rollout(s, u, {n: self.xp.moveaxis(x[: u.shape[-3]], 0, 1) for n, x in noise.items()})


def planner(size: Size, weights: Model, xp: Any = np, threads: int = 1) -> Planner:
    """Our planner on our model."""
    machine = robot()
    settings = ensemble.Config(propagation="ts_inf" if size.net.gaussian else "mean", particles=size.particles)
    dynamics = ensemble.of(weights, machine, xp, settings)
    if size.fresh:
        dynamics = Fresh(settings, weights, machine, xp, dynamics._members, dynamics._mean_and_jacobian)
        dynamics.samples, dynamics.threads = size.samples, threads
    task = Quadratic(machine)
    if size.planner == "cem":
        published = cem.Config(
            samples=size.samples, horizon=size.horizon, dt=DT, sigma=0.5, reopen=1.0, floor=1e-6, fill="middle",
            compare=False,
        )  # fmt: skip
        return cem.make(published, task, dynamics, xp)
    return mppi.make(mppi.Config(samples=size.samples, horizon=size.horizon, dt=DT, sigma=SIGMA), task, dynamics, xp)


SIGMA, KAPPA = 0.5, 300.0
"""Of MPPI: the noise in bounds, and the inverse temperature."""


def situation(size: Size) -> tuple[Observation, Goal]:
    """Where it is planned from, and to."""
    rng = np.random.default_rng(1)
    q, v, goal = (0.3 * rng.standard_normal(JOINTS) for _ in range(3))
    return Observation(0.0, State(0.0, q, v)), Goal.still(goal, size.horizon, 0.1, 1.0)


def handed_over(size: Size, weights: Model) -> dict[str, np.ndarray]:
    """The same for a peer: weights, normaliser, state, goal, cost."""
    obs, goal = situation(size)
    known = {
        "x": np.concatenate([obs.joints.q, obs.joints.v]),
        "goal": goal.value[0],
        "weights": np.array(list(WEIGHTS.values())),
        "bound": np.full(ACTIONS, BOUND),
    }
    return {name: np.asarray(array, np.float32) for name, array in {**weights.params, **known}.items()}
