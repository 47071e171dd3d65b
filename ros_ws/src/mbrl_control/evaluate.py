"""Closed loops in simulation, without ROS: how good a planner is with a model, in numbers that can be repeated.

The world is the simulation node's (``mbrl_sim.world``): the arm behind its servo, or a robot that takes torques. Every
``1 / rate`` seconds of simulated time the planner sees the joints and calls ``improve`` a given number of times, and
its plan is played from that very moment on: *computation takes no simulated time*, so what comes out is the worth of
the plans, whatever machine made them. How long they took is told beside it. Between plans the loop ticks as the guard
does, every 10 ms: a plan in reference velocities goes through the guard's own reference filter to the trajectory
controller, with the stop that follows; torques are applied as the plan says, with its gains on what has come of it so
far. Plans without are given some (``feedback.py``) where ``feedback.use`` asks for it; it is off unless given.

Start and goal come from the seed alone, so that all that are compared meet the same ones. The same seed gives the same
episode, bit for bit. Learners collect with ``run_episode``; ``mbrl eval`` and ``benchmarks/upper_bound.py`` compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from mbrl_control import engine, feedback, mjcf, registry, relay
from mbrl_control.config import ConfigError, build, params
from mbrl_control.core import (
    Avoids,
    Dynamics,
    Goal,
    Mode,
    Observation,
    Places,
    Plan,
    Planner,
    Robot,
    State,
    Status,
    Task,
    checked_shapes,
)
from mbrl_control.model import COMMANDS, COMMANDS_KEPT, REFERENCE
from mbrl_control.runtime.judge import Dwell
from mbrl_control.runtime.reference import Tick, follow, seed

TICK = 0.01
"""Time between two ticks of the loop, as the guard's by default [s]."""


@dataclass(frozen=True)
class Parts:
    """What is evaluated: a planner on a model of a robot that has a task."""

    robot: Robot
    task: Task
    dynamics: Dynamics
    planner: Planner
    names: Mapping[str, str]
    """Of robot, task, dynamics and planner, and of what runs it."""
    world: Any = None
    """What the simulated robot really is like: a ``mbrl_sim.world.Config``; None: perfect."""
    feedback: feedback.Feedback | None = None
    """What gives gains to plans that have none; None: they are played as they are."""


@dataclass(frozen=True, slots=True)
@checked_shapes
class Episode:
    """What happened, at the times of the plans; row ``k`` of ``u`` and ``score`` leads from row ``k`` to ``k + 1``."""

    seed: int
    goal: Annotated[np.ndarray, "ng"]
    """As it was drawn; where it moves, ``task.course`` says where it was."""
    t: Annotated[np.ndarray, "T+1"]
    q: Annotated[np.ndarray, "T+1 nj"]
    v: Annotated[np.ndarray, "T+1 nj"]
    q_ref: Annotated[np.ndarray, "T+1 nj"] | None
    """The servo's reference; None for a robot that takes torques."""
    v_ref: Annotated[np.ndarray, "T+1 nj"] | None
    u: Annotated[np.ndarray, "T nu"]
    """Controls in force when the step began."""
    score: Annotated[np.ndarray, "T"]
    """What the task publishes of each step; never what was optimised."""
    distance: Annotated[np.ndarray, "T+1"]
    plan_time: Annotated[np.ndarray, "T"]
    """Wall time that each plan took [s]."""
    met_at: float | None
    """When the goal had been met for as long as the task asks [s]."""
    lost: int
    """Plans that were not finite: the one before was played on."""
    ended: str
    """Why it ended before its time, in words."""
    blocks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What was seen of the bodies around the robot, by name, each [T+1 n]."""

    @property
    def total(self) -> float:
        """The sum of the scores; where ``ended`` says something, of those steps that were made."""
        return float(self.score.sum())

    @property
    def success(self) -> bool:
        """Whether the goal was met, and nothing ended the episode before its time."""
        return self.met_at is not None and not self.ended


class Settings:
    """Parameters of parts as ``{"mppi.samples": 64}``, for whoever makes the parts.

    Where parts of different kinds have one name, each takes the settings that it declares.
    """

    def __init__(self, names: Mapping[str, str], given: Mapping[str, Any]) -> None:
        """``names`` of the parts by kind, as ``{"robots": "panda"}``."""
        self._names, self._given = names, given
        self._declared = {kind: params(registry.load(kind, name).config).keys() for kind, name in names.items()}

    def of(self, kind: str, **more: Any) -> dict[str, Any]:
        """Those of a part; ``more`` where they are not given and it has such parameters."""
        prefix, mine = prefix_of(self._names[kind]), self._declared[kind]
        found = self.beginning(prefix)
        same = [other for other in self._names if other != kind and prefix_of(self._names[other]) == prefix]
        others = set().union(*(self._declared[other] for other in same))
        kept = {key: value for key, value in found.items() if key in mine or key not in others}
        return {**{key: value for key, value in more.items() if key in mine}, **kept}

    def beginning(self, prefix: str) -> dict[str, Any]:
        """Those whose names begin so, without it."""
        return {key.removeprefix(prefix): value for key, value in self._given.items() if key.startswith(prefix)}


def assemble(robot: str, task: str, planner: str, dynamics: str, settings: Mapping[str, Any] | None = None) -> Parts:
    """The parts by name, their ``settings`` over those that the files of task and robot give.

    Model and planner step as the task does unless ``dt`` is set. A model that was learned steps as it was learned to,
    whatever the robot's file says of models.
    """
    names = {"robots": robot, "tasks": task, "dynamics": dynamics, "planners": planner}
    asked = settings or {}
    arms = {} if f"{prefix_of(dynamics)}model" in asked else registry.load("robots", robot).settings
    given = {**arms, **registry.load("tasks", task).settings, **asked}
    found = Settings(names, given)
    own = found.of
    machine = registry.make("robots", robot, overrides=own("robots"))
    wanted = registry.make("tasks", task, machine, overrides=own("tasks"))

    def modelled(xp: Any) -> Dynamics:
        return registry.make("dynamics", dynamics, machine, xp, overrides=own("dynamics", dt=wanted.dt))

    def engaged(name: str, **more: Any) -> tuple[Planner, engine.Report]:
        mine = Settings({**names, "planners": name}, given).of("planners", dt=wanted.dt, **more)
        return engine.engaged(
            engine_of(found),
            lambda xp: registry.make("planners", name, wanted, model if xp is np else modelled(xp), xp, overrides=mine),
        )

    model = modelled(np)
    made, report = engaged(planner)
    first = build(relay.Config, found.beginning("relay."), "relay.").first
    if first:
        made = relay.Relay(engaged(first, horizon=made.horizon)[0], made)
    whose = f"{planner} after {first}" if first else planner
    told = {"robot": robot, "task": task, "dynamics": dynamics, "planner": whose, "engine": report.runs}
    return Parts(machine, wanted, model, made, told, world_of(found), feedback_of(found, machine, model))


def feedback_of(settings: Settings, robot: Robot, dynamics: Dynamics) -> feedback.Feedback:
    """What follows plans of torques, of the settings ``feedback.*``; nothing where they do not ask for it."""
    asked = {"use": "off", **settings.beginning("feedback.")}
    return feedback.Feedback(build(feedback.Config, asked, "feedback."), robot, dynamics)


def engine_of(settings: Settings) -> engine.Config:
    """What runs a planner, of the settings ``engine.*``."""
    return build(engine.Config, settings.beginning("engine."), "engine.")


def world_of(settings: Settings) -> Any:
    """What the simulated robot really is like, of the settings ``world.*``: a ``mbrl_sim.world.Config``."""
    mjcf.mujoco()  # says what to install where it is missing
    from mbrl_sim.world import Config

    return build(Config, settings.beginning("world."), "world.")


def prefix_of(name: str) -> str:
    """What the settings of a part begin with."""
    return name.rsplit(".", 1)[-1] + "."


def run_episode(
    parts: Parts,
    number: int,
    seconds: float | None = None,
    *,
    rate: float | None = None,
    iterations: int = 3,
    on_plan: Callable[[float], None] | None = None,
    on_step: Callable[[Callable[[], Episode]], None] | None = None,
    on_tick: Callable[[float, Any], None] | None = None,
) -> Episode:
    """One episode with seed ``number``.

    Its length and the plans in a second are the task's own unless they are given. ``on_plan`` is told the simulated
    time [s] before each plan; ``on_step`` is called after each step, with a function that gives the episode so far.
    ``on_tick`` is given the time and the simulated robot (``mbrl_sim.world.World``) before each tick, to push it, say.
    """
    rate = 1.0 / parts.task.dt if rate is None else rate
    seconds = parts.task.steps / rate if seconds is None else seconds
    ticks = round(1.0 / (rate * TICK))
    if ticks < 1 or abs(ticks * TICK * rate - 1.0) > 1e-6:
        raise ConfigError(f"rate = {rate:g} Hz: plans come at whole ticks of {TICK:g} s, as at 10, 20, 25 or 50 Hz")
    start, goal, placed = drawn(parts.task, number)
    if start.v.any():
        raise ConfigError(f"task '{parts.names['task']}' starts in motion: the simulation takes a start at rest")
    plan_rng = np.random.default_rng(np.random.SeedSequence(number).spawn(2)[1])
    loop = _Loop(parts, start.q, placed, goal, on_tick)
    mind = _Mind(parts, plan_rng, iterations)

    def so_far() -> Episode:
        return loop.episode(number, np.array(mind.took), mind.lost)

    for _ in range(max(1, round(seconds * rate))):
        if on_plan is not None:
            on_plan(loop.t)
        plan = mind.plan(loop.obs, loop.ahead(parts.planner))
        loop.play(plan, ticks)
        if on_step is not None:
            on_step(so_far)
        if loop.ended:
            break
    return so_far()


def drawn(task: Task, number: int) -> tuple[State, np.ndarray, Mapping[str, np.ndarray]]:
    """What the seed of an episode stands for: its start, its goal, and where the things around the robot are."""
    rng = np.random.default_rng(np.random.SeedSequence(number).spawn(2)[0])
    start, goal = task.reset(rng), task.sample_goal(rng)
    return start, goal, task.place(rng) if isinstance(task, Places) else {}


class _Mind:
    """The planner and what it remembers."""

    def __init__(self, parts: Parts, rng: np.random.Generator, iterations: int) -> None:
        self._planner, self._feedback, self._rng, self._iterations = parts.planner, parts.feedback, rng, iterations
        self._carry: Any = None
        self._last: Plan | None = None
        self.took: list[float] = []
        self.lost = 0

    def plan(self, obs: Observation, goal: Goal) -> Plan:
        """A new plan; one that is not finite is dropped and the last one goes on, as in the planner node."""
        planner, begun = self._planner, time.perf_counter()
        carry = planner.init(obs) if self._carry is None else self._carry
        for _ in range(self._iterations - 1):
            carry, _, _ = planner.improve(obs, goal, planner.knobs(), carry, planner.noise(self._rng))
        carry, plan, info = planner.improve(obs, goal, planner.knobs(), carry, planner.noise(self._rng))
        self._carry = carry
        if info.status & Status.NONFINITE:
            self.lost, self._carry = self.lost + 1, None
            plan = self._last or plan
        plan = replace(plan, **{name: np.asarray(getattr(plan, name)) for name in ("q", "v", "u")})
        self._last = plan if self._feedback is None else self._feedback.along(plan, obs)
        self.took.append(time.perf_counter() - begun)
        return self._last


class _Loop:
    """The world, what stands between plans and it, and what is written down."""

    def __init__(
        self,
        parts: Parts,
        start: np.ndarray,
        placed: Mapping[str, np.ndarray],
        goal: np.ndarray,
        on_tick: Callable[[float, Any], None] | None,
    ) -> None:
        mjcf.mujoco()  # says what to install where it is missing
        from mbrl_sim.world import World

        self.robot, self.task, self.goal, self._on_tick = parts.robot, parts.task, goal, on_tick
        self._world = World(parts.robot, parts.world)
        self._world.reset(start, placed)
        self._steps = round(TICK * 1e9) // self._world.step_ns
        if self._steps * self._world.step_ns != round(TICK * 1e9):
            raise ConfigError(f"{parts.robot.world.name}: ticks of {TICK:g} s take a whole number of its time steps")
        self._reference = seed(0, start) if parts.robot.channels.mode is Mode.VELOCITY_REFERENCE else None
        self._dwell = Dwell(parts.task.tolerance, parts.task.dwell)
        self._ticks = 0
        self.ended = ""
        self._u: list[np.ndarray] = []
        self.obs = self._observe()
        self._seen, self._score = [self.obs], []
        self._distance_now = self._look()
        self._distance = [self._distance_now]

    @property
    def t(self) -> float:
        return self._ticks * TICK

    def ahead(self, planner: Planner) -> Goal:
        """The goal over the horizon."""
        return Goal.ahead(self.task, self.goal, self.t + planner.dt * np.arange(planner.horizon + 1))

    def play(self, plan: Plan, ticks: int) -> None:
        """Play a plan for so many ticks, and score the step."""
        u = np.array(plan.at(self.t).u)
        self._u.append(u)
        before = self.obs
        for _ in range(ticks):
            self._command(plan)
            if self._on_tick is not None:
                self._on_tick(self.t, self._world)
            self._world.step(self._steps)
            self._ticks += 1
            self.obs = self._observe()
            self._distance_now = self._look()
            self.ended = self._end()
            if self.ended:
                break
        self._score.append(self.task.score(before, u, self.obs, self._wanted()))
        self._seen.append(self.obs)
        self._distance.append(self._distance_now)

    def episode(self, number: int, plan_time: np.ndarray, lost: int) -> Episode:
        q, v = (np.stack([getattr(obs.joints, name) for obs in self._seen]) for name in ("q", "v"))
        q_ref = v_ref = None
        if self._reference is not None:
            q_ref, v_ref = np.split(np.stack([obs.blocks[REFERENCE] for obs in self._seen]), 2, axis=-1)
        return Episode(
            seed=number,
            goal=self.goal,
            t=np.array([obs.t for obs in self._seen]),
            q=q,
            v=v,
            q_ref=q_ref,
            v_ref=v_ref,
            u=np.stack(self._u),
            score=np.array(self._score),
            distance=np.array(self._distance),
            plan_time=plan_time,
            met_at=self._dwell.reached_at,
            lost=lost,
            ended=self.ended,
            blocks={
                name: np.stack([obs.blocks[name] for obs in self._seen])
                for name in self.obs.blocks
                if name not in (REFERENCE, COMMANDS)
            },
        )

    def _command(self, plan: Plan) -> None:
        """What goes to the robot at this tick."""
        if self._reference is None:
            joints, bound = self.obs.joints, self.robot.channels.bound
            u = np.clip(plan.at(self.t, joints.q, joints.v).u, -bound, bound)
            refused = self._world.command("effort", self.robot.channels.coupling @ u)
        else:
            now = self._reference
            self._reference = follow(now, plan.at(self.t + TICK), self.robot.limits, TICK)
            refused = self._world.follow(self.robot.driver_joints, _points(now, self._reference), self.t)
        if refused:
            raise RuntimeError(f"the simulated {self.robot.name} refused a command: {refused}")

    def _observe(self) -> Observation:
        sample = self._world.observe()
        joints = State(sample.ns * 1e-9, sample.q, sample.v)
        last = [np.zeros(self.robot.nu)] * COMMANDS_KEPT + self._u
        blocks = {**sample.blocks, COMMANDS: np.concatenate(last[-COMMANDS_KEPT:])}
        stamps = {**dict.fromkeys(sample.blocks, joints.t), COMMANDS: self.t}
        if self._reference is None:
            return Observation(self.t, joints, blocks, stamps)
        motion = self._reference.motion
        reference = np.concatenate([motion.q, motion.v])
        return Observation(self.t, joints, {**blocks, REFERENCE: reference}, {**stamps, REFERENCE: self.t})

    def _wanted(self) -> np.ndarray:
        """Where the goal is now."""
        return self.task.course(self.goal, np.array([self.t]))[0]

    def _look(self) -> float:
        distance = self.task.distance(self.obs, self._wanted())
        self._dwell.see(self.t, distance)
        return distance

    def _end(self) -> str:
        if self._world.diverged:
            return self._world.diverged
        if not self.task.terminal(self.obs):
            return ""
        q = self.obs.joints.q
        touched = isinstance(self.task, Avoids) and bool((self.task.clearance(np, {"q": q}) < 0.0).any())
        return "the arm touched something" if touched else "a joint left its range"


def _points(now: Tick, then: Tick) -> Any:
    """The guard's command without its lead: the reference from one tick to the next and, after it, the stop."""
    from mbrl_sim.jtc import Points

    ticks, tail = then.stop.knots(then.motion, TICK)
    t = np.concatenate([[0.0, TICK], TICK * (1.0 + ticks)])
    rows = (
        np.concatenate([[getattr(tick.motion, name) for tick in (now, then)], getattr(tail, name)])
        for name in ("q", "v", "a")
    )
    return Points(t, *rows)
