"""``mbrl bench ilqr``: an optimal motion of a seven-joint arm, by our iLQR and by crocoddyl's DDP solver.

The arm is the Panda on torques without friction. It reaches for a point, charged for the tip's distance, its posture,
speeds and efforts, all squares, with derivatives of second order by Gauss and Newton on both sides; a step is
semi-implicit Euler. Both begin from the torques that hold the arm at its start, and go on until nothing is gained.
Before anything is timed both evaluate the same controls, and what they come to must agree: that is ``parity``.

Ours is asked by its public ``improve``, once for each iteration, and what Python takes around it counts. It keeps to
the bounds of torques, the peer knows none: where the motion does not touch them the problems are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from mbrl_control import machine_code, registry
from mbrl_control.bench.measuring import Times, limited
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.plan import difference
from mbrl_control.bench.rows import Row
from mbrl_control.bench.session import Bench
from mbrl_control.core import (
    Array,
    Carry,
    Features,
    Goal,
    Observation,
    Planner,
    Robot,
    State,
    Term,
    costs,
    rollout,
)
from mbrl_control.robots import panda_torque
from mbrl_control.tasks._published import Published

KNOTS = (25, 50, 100, 200)
STEP = 50
"""Knots of a plan that is made again and again."""
DT = 0.01
MOST = 200
"""Iterations of a solve."""
GAIN = 1e-9
"""Relative gain of an iteration of ours below which it is at its end."""
SAME = 4
"""Of the controls that both evaluate."""
SCRIPT = "crocoddyl_ddp"
WEIGHTS = {"tip": (100.0, 2.0), "posture": (0.1, 0.0), "speed": (1.0, 1.0), "effort": (30.0, 0.0)}
"""Of each term, and further at the end, as ``core.Term`` has them."""
AWAY = np.array([0.15, -0.2, 0.15])
"""From the tip at the start to where it shall go [m]."""


class Reach(Published):
    """The tip at a point, near a posture, at rest, with no more effort than holding takes."""

    dt: float = DT
    steps: int = 100
    threshold: float | None = None

    def __init__(self, robot: Robot) -> None:
        terms = {name: Term("quadratic", weight, terminal=end) for name, (weight, end) in WEIGHTS.items()}
        super().__init__(robot, robot.name, terms, ("a point [m]", [-1.0] * 3, [1.0] * 3), (0.01, 1.0))
        assert robot.inverse_dynamics is not None  # an arm's
        still = np.zeros(robot.nj)
        self.holding = np.asarray(robot.inverse_dynamics(np, robot.home, still, still))

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        q, v = features["q"], features["v"]
        given = (self.robot.home, self.holding, 1.0 / self.robot.limits.torque)
        home, holding, scale = (xp.asarray(each, dtype=u.dtype, device=u.device) for each in given)
        return {"tip": self.robot.tip(xp, q) - goal, "posture": q - home, "speed": v, "effort": (u - holding) * scale}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -self.distance(after, goal)

    def reset(self, rng: np.random.Generator) -> State:  # noqa: ARG002 - always there
        return State(0.0, self.robot.home, np.zeros(self.robot.nj))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        return self.robot.tip(np, self.robot.home) + AWAY

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm(self.robot.tip(np, obs.joints.q) - goal))


@dataclass(frozen=True)
class Solved:
    """How a solve went."""

    iterations: int
    cost: float
    carry: Carry


class Ours:
    """Our planner, and where it starts."""

    def __init__(self, horizon: int) -> None:
        self.robot = registry.make("robots", "panda_torque", overrides={"friction": 0.0})
        self.task, self.horizon = Reach(self.robot), horizon
        step = {"dt": DT, "integrator": "euler"}
        self._dynamics = registry.make("dynamics", "symbolic", self.robot, np, overrides=step)
        size = {"dt": DT, "horizon": horizon}
        self.planner: Planner = registry.make("planners", "ilqr", self.task, self._dynamics, np, overrides=size)
        rng = np.random.default_rng(0)
        self.obs = Observation(0.0, self.task.reset(rng))
        self.goal = Goal.still(self.task.sample_goal(rng), horizon, self.task.tolerance, self.task.dwell)
        self._knobs, self._first = self.planner.knobs(), self.planner.init(self.obs)

    @property
    def guess(self) -> Annotated[np.ndarray, "H nu"]:
        """Torques that both begin with."""
        return np.asarray(self._first["mean"])

    def solve(self) -> Solved:
        """From the first guess until nothing is gained."""
        carry, before = self._first, np.inf
        for iterations in range(1, MOST + 1):
            carry, _, info = self.planner.improve(self.obs, self.goal, self._knobs, carry, {})
            if before - info.cost <= GAIN * abs(info.cost):
                return Solved(iterations, info.cost, carry)
            before = info.cost
        return Solved(MOST, before, carry)

    def again(self, obs: Observation, carry: Carry) -> float:
        """One iteration from a plan that is in force; what it then costs."""
        return self.planner.improve(obs, self.goal, self._knobs, carry, {})[2].cost

    def cost(self, u: Annotated[np.ndarray, "H nu"]) -> float:
        """Of controls, by the model's steps and the task's terms."""
        features, _ = rollout(np, self._dynamics, self._dynamics.init(self.obs, {}), u, {})
        return float(costs(np, self.task, self._knobs["weights"], features, u, self.goal.value).sum())


class Solves:
    """Turns of solves, and what came of the last one."""

    def __init__(self, solve: Callable[[], tuple[float, int, float]]) -> None:
        """``solve`` gives seconds, iterations and cost."""
        self._solve = solve
        self.iterations, self.cost = 0, np.nan

    def __call__(self) -> float:
        seconds, self.iterations, self.cost = self._solve()
        return seconds


def parts(bench: Bench) -> int:  # noqa: ARG001 - they are always the same
    return len(KNOTS) + 1


def measure(bench: Bench) -> None:
    """For each length of a motion a row of an iteration and one of a solve; then one of a plan made again."""
    peer = bench.peer(SCRIPT, threads=1)
    with limited(1):
        for horizon in KNOTS:
            compare(bench, horizon, peer)
        warm(bench, STEP, peer)


def compare(bench: Bench, horizon: int, peer: Peer | None) -> None:
    name = f"T={horizon}"
    bench.told(f"motions of {horizon} knots: derivatives are compiled", bench.parts)
    ours = Ours(horizon)
    solves, same = [Solves(lambda: mine(ours))], None
    if peer is not None:
        hand_over(peer, name, ours)
        same = parity(ours, peer, name)
        solves.append(Solves(lambda: theirs(peer, name)))
    times = bench.interleaved(f"motions of {horizon} knots", solves)
    each = [Times(tuple(s / who.iterations for s in t.seconds)) for t, who in zip(times, solves, strict=True)]
    for per, spent in (("iteration", each), ("solve", times)):
        more = {"knots": horizon, "per": per, **told(solves)}
        bench.add(row(f"iLQR, reach with seven joints, {name}: {per}", spent, peer, same, more))


def warm(bench: Bench, horizon: int, peer: Peer | None) -> None:
    """One iteration a step later, the arm not quite where the plan has it."""
    name = f"again T={horizon}"
    ours = Ours(horizon)
    carry = ours.solve().carry
    q, v, u = (np.asarray(carry[part]) for part in ("q", "v", "mean"))
    obs = Observation(DT, State(DT, q[1] + 1e-3, v[1] + 1e-2))
    given = {"x": np.concatenate([obs.joints.q, obs.joints.v]), "u": np.concatenate([u[1:], u[-1:]])}

    def step() -> tuple[float, int, float]:
        begun = time.perf_counter()
        cost = ours.again(obs, carry)
        return time.perf_counter() - begun, 1, cost

    steps, same = [Solves(step)], None
    if peer is not None:
        hand_over(peer, name, ours)
        same = parity(ours, peer, name)
        steps.append(Solves(lambda: answered(peer, "again", name, given)))
    times = bench.interleaved(f"an MPC step of {horizon} knots", steps)
    words = f"iLQR, reach with seven joints, T={horizon}: an MPC step from the last plan, one iteration"
    bench.add(row(words, times, peer, same, {"knots": horizon, "per": "step", **told(steps)}))


def row(words: str, times: Sequence[Times], peer: Peer | None, same: float | None, more: Mapping[str, Any]) -> Row:
    """Of ours alone, or with the peer's."""
    found = Row("ilqr", words, times[0], more={"runs": runs(), **more})
    return found if peer is None else replace(found, peer=peer.name, theirs=times[1], parity=same)


def told(solves: Sequence[Solves]) -> dict[str, Any]:
    """Costs and iterations side by side; None without a peer."""
    ours, peer = solves[0], solves[1] if len(solves) > 1 else None
    return {
        "cost_ours": ours.cost,
        "cost_peer": None if peer is None else peer.cost,
        "iterations_ours": ours.iterations,
        "iterations_peer": None if peer is None else peer.iterations,
    }


def runs() -> str:
    return "machine code" if machine_code.compiler() else "CasADi's virtual machine: there is no C compiler"


def mine(ours: Ours) -> tuple[float, int, float]:
    begun = time.perf_counter()
    solved = ours.solve()
    return time.perf_counter() - begun, solved.iterations, solved.cost


def theirs(peer: Peer, name: str) -> tuple[float, int, float]:
    return answered(peer, "solve", name, {}, most=MOST)


def answered(peer: Peer, do: str, name: str, given: Mapping[str, np.ndarray], **words: int) -> tuple[float, int, float]:
    said = peer.ask(do, given, key=name, **words)[0]
    return said["seconds"], said["iterations"], said["cost"]


def hand_over(peer: Peer, name: str, ours: Ours) -> None:
    """The peer's problem."""
    slides = [link.joint == "slide" for link in panda_torque.chain(ours.robot.config).links]
    peer.ask("problem", handed_over(ours), key=name, horizon=ours.horizon, dt=DT, slides=slides)


def parity(ours: Ours, peer: Peer, name: str) -> float:
    """Of what both make of the same controls."""
    u = controls(ours)
    said = peer.ask("costs", {"u": u}, key=name)[1]["cost"]
    return difference(said, [ours.cost(each) for each in u])


def controls(ours: Ours) -> Annotated[np.ndarray, "n H nu"]:
    """Controls that both evaluate: the first guess, and some next to it."""
    moved = np.random.default_rng(3).uniform(-0.5, 0.5, (SAME, ours.horizon, ours.robot.nu))
    moved[0] = 0.0
    return ours.guess + moved


def handed_over(ours: Ours) -> dict[str, np.ndarray]:
    """The arm, the cost and where it starts, for a peer."""
    robot, arm = ours.robot, panda_torque.chain(ours.robot.config)
    links = arm.links
    return {
        "rotation": np.array([link.rotation for link in links]),
        "position": np.array([link.position for link in links]),
        "mass": np.array([link.body.mass for link in links]),
        "com": np.array([link.body.com for link in links]),
        "inertia": np.array([link.body.inertia for link in links]),
        "armature": np.array([link.armature for link in links]),
        "tip": np.array(arm.tip),
        "gravity": np.array(arm.gravity),
        "x": np.concatenate([ours.obs.joints.q, ours.obs.joints.v]),
        "posture": robot.home,
        "holding": ours.task.holding,
        "scale": 1.0 / robot.limits.torque,
        "goal": ours.goal.value[0],
        "weights": np.array([weight for weight, _ in WEIGHTS.values()]),
        "terminal": np.array([weight * end for weight, end in WEIGHTS.values()]),
        "u": ours.guess,
    }
