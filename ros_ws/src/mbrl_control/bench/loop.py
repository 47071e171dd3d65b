"""``mbrl bench loop``: what a plan is worth and what it takes, in closed loop, ours and mbrl-lib's PETS agent.

The task is PETS' cart-pole, swung up. All learn from the same recorded episodes: random ones, and disturbed ones of a
planner that knows the equations. Each fits its own ensemble to them, ours and mbrl-lib's, and then plans in the same
simulation from the same starts, seed by seed in turn. Computation takes no simulated time, so a return is the worth of
the plans alone, and the time of a plan stands beside it.

mbrl-lib's agent has PETS' published settings: 400 samples, 5 iterations, 25 steps, 20 particles and 5 networks; each of
4 layers of 200, its own default. Ours are lean: iCEM, one particle for each of five networks, fewer samples, smaller
networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from mbrl_control import engine
from mbrl_control.bench import flops
from mbrl_control.bench.measuring import Times, limited
from mbrl_control.bench.peer import Peer
from mbrl_control.bench.plan import described
from mbrl_control.bench.rows import Row
from mbrl_control.bench.session import Bench
from mbrl_control.core import Carry, Goal, Info, Knobs, Mode, Noise, Observation, Plan, Status, Task
from mbrl_control.dynamics import ensemble
from mbrl_control.engine import engaged
from mbrl_control.evaluate import Parts, assemble, run_episode
from mbrl_control.exploration import Restless, Wander
from mbrl_control.fit import FitConfig, fit
from mbrl_control.model import Model, spec_for
from mbrl_control.networks import Net
from mbrl_control.planners.icem import Config, Icem, make
from mbrl_control.replay import Recording, recorded
from mbrl_control.tasks import cartpole_swing_up

ROBOT, TASK, PLANNER = "pets_cartpole", "cartpole_swing_up", "icem"
STEPS = 50
"""Of an episode; the swing takes some 25 of them."""
RECORDED, RANDOM, SHOWN = 100, 3, 4
"""Steps of a recorded episode, and how many there are of random and of disturbed ones."""
DISTURBED = 0.3
"""Noise on the controls of the latter, in bounds."""
FIRST_SEED = 1000
"""Of the episodes that are compared."""
EPOCHS, BATCH = 100, 32
RATE, DECAY = 7.5e-4, 3e-5
"""Of mbrl-lib's fit: learning rate and weight decay of its own cart-pole."""
PUBLISHED = {"samples": 400, "iterations": 5, "horizon": 25, "particles": 20}
PEERS_NET = Net(5, 6, (200,) * 4, 4)
PEER = "mbrl_lib"


@dataclass(frozen=True)
class Lean:
    """A planner of ours."""

    samples: int
    iterations: int
    width: int = 128
    layers: int = 3
    horizon: int = 25

    @property
    def words(self) -> str:
        return f"iCEM {self.samples} samples, {self.iterations} iterations, nets {self.layers}x{self.width}"


LEAN = (Lean(128, 3), Lean(64, 2), Lean(32, 2), Lean(64, 2, 64, 2), Lean(32, 1, 64, 2))


@dataclass
class Contender:
    """Who plays, and how it went."""

    name: str
    parts: Parts
    iterations: int
    flops: int | None = None
    """Of a plan."""
    returns: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of the median plan of each episode."""

    def play(self, number: int) -> None:
        """One episode."""
        planner = self.parts.planner
        episode = run_episode(self.parts, number, STEPS * planner.dt, iterations=self.iterations)
        spent = planner.taken() if isinstance(planner, Asked) else episode.plan_time
        self.returns.append(episode.total)
        self.seconds.append(float(np.median(spent)))

    @property
    def times(self) -> Times:
        return Times(tuple(self.seconds))

    def facts(self, by: str) -> dict[str, Any]:
        """A point of the Pareto plot."""
        return {"name": self.name, "by": by, "plan_ms": self.times.ms, "returns": self.returns}


class Asked:
    """mbrl-lib's agent as a planner: it is asked for each action, and plans anew from its own last plan."""

    horizon = 1

    def __init__(self, peer: Peer, task: Task) -> None:
        self._peer, self.dt, self._spent = peer, task.dt, []

    def taken(self) -> list[float]:
        """How long each plan has taken by its own clock since this was asked last [s]."""
        spent, self._spent = self._spent, []
        return spent

    def init(self, obs: Observation) -> Carry:  # noqa: ARG002 - the protocol's
        self._peer.ask("reset", key=PEER)
        return {}

    def knobs(self) -> Knobs:
        return {}

    def noise(self, rng: np.random.Generator) -> Noise:  # noqa: ARG002 - it draws by itself
        return {}

    def improve(
        self,
        obs: Observation,
        goal: Goal,  # noqa: ARG002 - its reward has it
        knobs: Knobs,  # noqa: ARG002
        carry: Carry,
        noise: Noise,  # noqa: ARG002
    ) -> tuple[Carry, Plan, Info]:
        joints = obs.joints
        said, found = self._peer.ask("act", {"x": np.concatenate([joints.q, joints.v])}, key=PEER)
        self._spent.append(said["seconds"])
        still = np.zeros((2, len(joints.q)))
        plan = Plan(
            obs.t, self.dt, Mode.TORQUE, still + joints.q, still, found["u"][None].astype(float), None, obs.t, 0
        )
        return carry, plan, Info(Status.OK, 0.0, {}, 1.0, {})


def parts(bench: Bench) -> int:
    return RANDOM + SHOWN + bench.options.seeds * (len(LEAN) + (bench.python is not None))


def measure(bench: Bench) -> None:
    """A row for each planner of ours."""
    with limited(bench.threads):
        rate, peer, data = bench.reference().best, bench.peer(PEER), collected(bench)
        found = ours(bench, data)
        if peer is not None:
            found = [theirs(bench, peer, data), *found]
        try:
            for number in range(bench.options.seeds):
                for contender in found:
                    bench.part(f"episode {number + 1} of {bench.options.seeds}, {contender.name}")
                    contender.play(FIRST_SEED + number)
        finally:
            tell(bench, [c for c in found if c.returns], peer, rate)


def tell(bench: Bench, found: Sequence[Contender], peer: Peer | None, rate: float) -> None:
    """Rows and points of what has been played."""
    others = [c for c in found if isinstance(c.parts.planner, Asked)]
    for contender in found:
        bench.found.points.append(contender.facts(peer.name if contender in others and peer is not None else "ours"))
    for contender in (c for c in found if c not in others):
        row = Row(
            "loop",
            f"swing-up in closed loop, {contender.name}",
            contender.times,
            flops=contender.flops,
            sgemm=rate,
            ours_return=median(contender.returns),
        )
        if peer is not None and others:
            row = replace(row, peer=peer.name, theirs=others[0].times, peer_return=median(others[0].returns))
        bench.add(row)


def knowing() -> Parts:
    """A planner that knows the equations, on NumPy: written as a graph they would be long."""
    return assemble(ROBOT, TASK, PLANNER, "analytic", {"engine.use": "numpy"})


# --- Data ---------------------------------------------------------------------------------------------


def collected(bench: Bench) -> list[Recording]:
    """The episodes that all learn from, the same every time."""
    know = knowing()
    wander = Wander(know.robot, know.task, 1.0, 0.5)
    random = replace(know, planner=wander, dynamics=wander.dynamics)
    shown = replace(know, planner=Restless(know.planner, know.robot, 1.0, DISTURBED))
    episodes = []
    for number in range(RANDOM + SHOWN):
        bench.part(f"recording episode {number + 1} of {RANDOM + SHOWN}")
        who = random if number < RANDOM else shown
        episode = run_episode(who, number, RECORDED * know.task.dt, iterations=2)
        episodes.append(recorded(episode, know.robot, know.task.dt, source=f"made for a benchmark, seed {number}"))
    return episodes


def arrays(data: Sequence[Recording]) -> dict[str, np.ndarray]:
    """The same as states, actions and next states."""
    x = [np.concatenate([recording.q, recording.v], axis=-1) for recording in data]
    return {
        "x": np.concatenate([rows[:-1] for rows in x]),
        "u": np.concatenate([recording.u for recording in data]),
        "after": np.concatenate([rows[1:] for rows in x]),
    }


# --- Contenders ---------------------------------------------------------------------------------------


def ours(bench: Bench, data: Sequence[Recording]) -> list[Contender]:
    """Our planners, each on a model of its size."""
    know = knowing()
    spec = spec_for(know.robot, know.task.dt)
    models: dict[tuple[int, int], Model] = {}
    found = []
    for lean in LEAN:
        size = lean.layers, lean.width
        if size not in models:
            bench.told(f"our fit of nets {lean.layers}x{lean.width}", bench.parts)
            config = FitConfig(layers=lean.layers, width=lean.width, epochs=EPOCHS, batch=BATCH)
            models[size] = fit(config, spec, data)
        found.append(contender(lean, know, models[size], bench.threads))
    return found


def contender(lean: Lean, know: Parts, model: Model, threads: int) -> Contender:
    """A planner of ours as it is run on a robot."""

    def build(xp: Any) -> Icem:
        config = Config(samples=lean.samples, horizon=lean.horizon, dt=know.task.dt)
        return make(config, know.task, ensemble.of(model, know.robot, xp), xp)

    planner, _ = engaged(engine.Config(use="onnx", threads=threads), build)
    plain = build(np)
    parts = replace(know, planner=planner, dynamics=plain.on.dynamics, names={**know.names, "dynamics": "ensemble"})
    tried = sum(plain.live({"t0": 0.0, "iteration": i - 1.0}, 0.0) for i in range(lean.iterations))
    work = flops.rollouts(model.net, tried, model.net.members, lean.horizon)
    return Contender(lean.words, parts, lean.iterations, work)


def theirs(bench: Bench, peer: Peer, data: Sequence[Recording]) -> Contender:
    """mbrl-lib's agent, on what its own trainer makes of the data."""
    know = knowing()
    bench.told(f"the fit of {peer.name}", bench.parts)
    fitting = {"batch": BATCH, "learning_rate": RATE, "decay": DECAY, "process": "sines"}
    peer.ask("trainer", arrays(data), key=PEER, net=described(PEERS_NET), **fitting)
    peer.ask("epochs", key=PEER, count=EPOCHS, evaluate=True)
    given = {"bound": know.robot.channels.bound.astype(np.float32), "nx": np.asarray(2 * know.robot.nj)}
    reward = {"length": cartpole_swing_up.LENGTH, "unit": cartpole_swing_up.UNIT, "effort": cartpole_swing_up.EFFORT}
    peer.ask("pets", given, key=PEER, reward=reward, **PUBLISHED)
    return Contender("PETS as published", replace(know, planner=Asked(peer, know.task)), 1)
