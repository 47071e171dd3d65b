"""The planner node: any registered planner, at its own rate, in its own process. It may be late and it may die.

    /joint_states, controller/reference, ~/goal_pose   ->   planner   ->   ~/plan_packed (guard), ~/plan (people)
    the robot's blocks, as puck/pose                   ->

Each plan is made for the moment from which the guard can follow it, and begins in the reference as it will be by then
(``runtime/planning.py``). How many samples and steps it has is what fits the period (``runtime/sizing.py``).
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_control import engine, feedback, registry, relay
from mbrl_control.config import param
from mbrl_control.core import (
    Dynamics,
    Goal,
    GoalError,
    Info,
    MbrlError,
    Mode,
    Observation,
    Plan,
    Planner,
    Rests,
    Robot,
    State,
    Task,
)
from mbrl_control.dynamics.ensemble import Ensemble
from mbrl_control.model import COMMANDS, COMMANDS_KEPT, REFERENCE
from mbrl_control.models import located
from mbrl_control.nodes import convert
from mbrl_control.nodes.outlook import FRAMES, Outlook
from mbrl_control.nodes.params import declare, declare_part, on_change, prefix_of, refuse_unknown
from mbrl_control.nodes.process import run
from mbrl_control.nodes.qos import NEWEST
from mbrl_control.runtime.commanded import Commanded
from mbrl_control.runtime.foreseen import foreseen
from mbrl_control.runtime.loop import ClockPacer, Loop, WallPacer
from mbrl_control.runtime.planning import Pace, Planning
from mbrl_control.runtime.safety import GuardConfig
from mbrl_control.runtime.sizing import Sizes, Sizing, Timed, ladder, timed
from mbrl_control.sampling import at_home
from mbrl_control.wiring import PREFIX, Wiring, wired

LOCKSTEP_WAIT, LOOK_AGAIN = 2.0, 0.0005
"""In lock-step what belongs to a period is waited for so long [s], and looked for so often."""
FIRST = "first"
"""Among the parts: the planner that goes first."""
RARE = "0.99"
"""Quantile of disagreement on data held out that a plan's is compared with."""
HANDOVER = GuardConfig().lead + 1.0 / GuardConfig().rate


@dataclass(frozen=True)
class NodeConfig:
    """Parameters of the planner node; those of the parts stand under their names, as ``mppi.samples``."""

    robot: str = param("panda", "name of the robot, or package.module of one's own")
    task: str = param("reach", "name of the task")
    planner: str = param("mppi", "name of the planner")
    model: str = param("kinematic", "what is planned through: a name in 'mbrl list dynamics', or a model folder")
    rate: float = param(20.0, "plans a second", unit="Hz", low=0.5, high=100.0)
    duty: float = param(0.5, "share of the period that planning may take", low=0.05, high=1.0)
    enough: float = param(
        0.25,
        "share of the period within which all iterations but the first end: more make a plan better, and older",
        low=0.0,
        high=1.0,
    )
    iterations: int = param(0, "planner iterations a plan; 0: as many as fit (3 in lock-step)", low=0, high=1000)
    goal: tuple[float, ...] = param((), "goal until another one comes, in the task's units; empty: stay where it is")
    speed: float = param(1.0, "share of the joints' velocity limits that is used", low=0.01, high=1.0)
    sizing: str = param(
        "auto",
        "samples and horizon as they fit, measured at the start and changed under load, or as given (so in lock-step)",
        choices=("auto", "fixed"),
    )
    least_samples: int = param(16, "sizing goes no further down than to so many samples", low=1, high=100_000)
    least_horizon: int = param(8, "sizing goes no further down than to so many steps", low=1, high=1000)
    handover: float = param(
        HANDOVER,
        "from sending a plan to the first command that follows it: the guard's lead and a tick of it",
        unit="s",
        low=0.0,
        high=0.2,
    )
    nice: int = param(2, "lowers the priority of this process, so that it never delays the guard", low=0, high=19)
    seed: int = param(0, "seed of the sampling", low=0, high=2**31 - 1)
    lockstep: bool = param(False, "plan when the guard has made its tick; for deterministic simulation")


class PlannerNode(Node):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__("planner")
        self.config = config = declare(self, NodeConfig)
        model = located(config.model)
        parts = {"robots": config.robot, "tasks": config.task, "dynamics": model.dynamics, "planners": config.planner}
        arms = {} if model.settings else registry.load("robots", config.robot).settings
        settings = {**arms, **registry.load("tasks", config.task).settings, **model.settings}
        declared = {kind: declare_part(self, kind, name, settings) for kind, name in parts.items()}
        first = declare(self, relay.Config, "relay").first
        if first:
            declared[FIRST] = declare_part(self, "planners", first, settings)
        self._entries = {kind: entry for kind, (entry, _) in declared.items()}
        self._configs = {kind: part for kind, (_, part) in declared.items()}
        wiring = declare(self, Wiring, PREFIX)
        self._engine = declare(self, engine.Config, "engine")
        followed = declare(self, feedback.Config, "feedback")
        refuse_unknown(self)
        self.robot: Robot = wired(self._make("robots"), wiring).at_speed(config.speed)
        self.dynamics: Dynamics = self._make("dynamics", self.robot)
        gains = feedback.Feedback(followed, self.robot, self.dynamics)
        self.task: Task = self._make("tasks", self.robot)
        sim_time = bool(self.get_parameter("use_sim_time").value)
        if config.lockstep and not sim_time:
            raise MbrlError("lockstep: true needs use_sim_time: true")
        os.nice(config.nice)
        self.period = 1.0 / config.rate
        clock = ClockPacer()
        self.sim_time = sim_time
        self.pacer = clock if sim_time else WallPacer()
        self.session = convert.new_session()
        self.goal: np.ndarray | None = None
        if not (config.goal or self.task.goal_size == 3 or isinstance(self.task, Rests)):
            size = self.task.goal_size
            raise MbrlError(f"task '{config.task}' has goals of {size} numbers: the parameter goal is needed")
        if config.goal:
            self.goal = np.array(config.goal)
            self.task.check_goal(self.goal)
        self.commanded = Commanded(self.robot.nu)
        self.skipped: dict[str, int] = {}
        self._index = -1
        self.planning = self._make_planning()
        seen, steps = at_home(self.robot, self.task), self.planning.sizing.planner.horizon
        budget = math.inf if config.lockstep else feedback.SHARE * self.period
        self.feedback = gains.tried(seen, steps, budget, time.perf_counter)
        self._make_topics(clock)
        live = {prefix_of(self._entries[kind]): self._entries[kind].config for kind in self._live}
        on_change(self, live, self._turn)
        self.loop = Loop(self.pacer, self.period, self._plan)
        self.loop.start()

    def _make_topics(self, clock: ClockPacer) -> None:
        self.packed_pub = self.create_publisher(Float64MultiArray, "~/plan_packed", 1)
        self.plan_pub = self.create_publisher(JointTrajectory, "~/plan", NEWEST)
        self.diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.outlook = Outlook(self, self.robot)
        hear = self.create_subscription
        hear(PoseStamped, "~/goal_pose", self._on_goal, 1)
        if self.sim_time:
            hear(Clock, "/clock", lambda m: clock.set(convert.to_ns(m.clock) / convert.SECOND), NEWEST)
        self.create_timer(1.0, self._report, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def _base_ns(self) -> int:
        """The ROS clock [ns] at control time zero."""
        if self.sim_time:
            return 0
        return self.get_clock().now().nanoseconds - round(self.pacer.now() * convert.SECOND)

    def _make(self, kind: str, *parts: Any) -> Any:
        return self._entries[kind].make(self._configs[kind], *parts)

    # --- the planner, and how large it is ---

    def _build(self, sizes: Sizes) -> Planner:
        """The planner of a size, run as graphs where it can be; after another one, where one goes first."""
        planner, self._run_by = self._engaged(sizes, "planners")
        return relay.Relay(self._engaged(sizes, FIRST)[0], planner) if FIRST in self._entries else planner

    def _engaged(self, sizes: Sizes, which: str) -> tuple[Planner, engine.Report]:
        budget = self.config.duty * self.period
        return engine.engaged(self._engine, lambda xp: self._plain(sizes, which, xp), budget)

    def _plain(self, sizes: Sizes, which: str = "planners", xp: Any = np) -> Planner:
        """A planner of a size on arrays of ``xp``."""
        config = self._configs[which]
        config = replace(config, **{name: size for name, size in sizes.given.items() if hasattr(config, name)})
        dynamics = self.dynamics if xp is np else self._make("dynamics", self.robot, xp)
        return self._entries[which].make(config, self.task, dynamics, xp)

    def _knobs(self, sizes: Sizes) -> dict[str, Any]:
        """What planners of a size would be turned to."""
        whose = [kind for kind in (FIRST, "planners") if kind in self._entries]
        return {name: knob for kind in whose for name, knob in self._plain(sizes, kind).knobs().items()}

    @property
    def _live(self) -> list[str]:
        """The parts whose live parameters can be set."""
        return [kind for kind in ("tasks", FIRST, "planners") if kind in self._entries]

    @property
    def run_by(self) -> engine.Report:
        """What runs the planner: not the same as at the start, if a GPU was lost."""
        planner = self.planning.sizing.planner
        planner = planner.then if isinstance(planner, relay.Relay) else planner
        return planner.report if isinstance(planner, engine.Engine) else self._run_by

    def _make_planning(self) -> Planning:
        """Make the planner in every size that may be needed, and see which one fits."""
        config, given = self.config, self._configs["planners"]
        asked = Sizes(*(getattr(given, name, None) for name in ("samples", "horizon")))
        measured = config.sizing == "auto" and not config.lockstep
        sizes = ladder(asked, Sizes(config.least_samples, config.least_horizon)) if measured else [asked]
        pace = Pace(self.period, config.duty, config.handover, config.iterations, config.enough, config.lockstep)
        sizing = Sizing(sizes, self._build, pace.budget, self._try if measured else None, self._say)
        return Planning(pace, sizing, np.random.default_rng(config.seed))

    def _try(self, planner: Planner) -> Timed:
        """How long iterations take, of a robot at home."""
        obs = at_home(self.robot, self.task)
        goal = self.goal if self.goal is not None else self._rest(obs)
        return timed(planner, obs, self._ahead(goal, obs, planner), np.random.default_rng(0), time.perf_counter)

    def _say(self, level: str, text: str) -> None:
        if level == "info":  # rclpy wants one place for each severity
            self.get_logger().info(text)
        elif level == "warn":
            self.get_logger().warning(text)
        else:
            self.get_logger().error(text)

    def _turn(self, changes: dict[str, dict[str, Any]]) -> None:
        """Live parameters: what a planner made with them would be turned to."""
        for kind in self._live:
            self._configs[kind] = replace(self._configs[kind], **changes.get(prefix_of(self._entries[kind]), {}))
        self.task = self._make("tasks", self.robot)
        self.planning.sizing.turn(self._knobs)

    # --- in: the goal when it comes; all else is looked at when a plan is due ---

    def _on_goal(self, message: PoseStamped) -> None:
        p = message.pose.position
        goal = np.array([p.x, p.y, p.z])[: self.task.goal_size]
        try:
            if message.header.frame_id not in FRAMES:
                raise GoalError(f"goal in frame '{message.header.frame_id}'; it takes 'world' or ''")
            self.task.check_goal(goal)
        except MbrlError as error:
            self.get_logger().warning(f"goal refused: {error}")
            return
        self.goal = goal

    # --- planning, on its own thread ---

    def _plan(self, now: float) -> None:
        index = math.floor(now / self.period + 1e-6)
        if index == self._index:  # the clock stands still
            if self.config.lockstep and self.commanded.last is not None:
                self._send(self.commanded.last)  # the guard may have come after the plan it waits for
            return
        if self.config.lockstep and not self._all_here(index * self.period):
            return
        self._index = index
        self.outlook.look(self._base_ns())
        plan, reason = None, self.outlook.lacking(now)
        if not reason:
            obs = self._observe(now)
            wanted = self._wanted(obs)
            plan = self.planning.plan(obs, lambda planner: self._ahead(wanted, obs, planner))
            plan = plan and self.feedback.along(plan, obs)
            reason = self.planning.why
        if plan is None:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return
        self.commanded.sent(plan)
        self._send(plan)
        self.planning.sent(self.pacer.now() - now)

    def _send(self, plan: Plan) -> None:
        base, joints = self._base_ns(), self.robot.driver_joints
        self.packed_pub.publish(convert.pack_plan(plan, base, joints, self.session, self.period))
        self.plan_pub.publish(convert.plan_trajectory(plan, base, joints))

    def _all_here(self, due: float) -> bool:
        """Lock-step: wait for what the simulation and the guard publish at this very time."""
        give_up = time.monotonic() + LOCKSTEP_WAIT
        while self.outlook.since < due - 1e-9:
            if time.monotonic() > give_up:
                return False
            time.sleep(LOOK_AGAIN)
            self.outlook.look(self._base_ns())
        return True

    def _observe(self, now: float) -> Observation:
        """What is to be planned from: where the plan begins, as it will be then."""
        t0, state, reference = now + self.planning.lead, self.outlook.state(now), self.outlook.reference(now)
        assert state is not None
        if self.robot.channels.mode is Mode.TORQUE:
            if reference is not None and reference.active:
                there = foreseen(self.dynamics, self._seen, self.commanded, state, t0)
                state = State(state.t, there.q, there.v)  # of then, and stamped as what it was foreseen from
            return self._seen(state, t0)
        q, v = self.commanded.carried(reference, t0) if reference else (state.q, np.zeros_like(state.q))
        return self._seen(state, t0, {REFERENCE: np.concatenate([q, v])})

    def _seen(self, state: State, t: float | None = None, own: Mapping[str, np.ndarray] | None = None) -> Observation:
        """The joints, what is around them, and what we know ourselves at time ``t``, by default that of the joints."""
        at = state.t if t is None else t
        mine = {**(own or {}), COMMANDS: self.commanded.before(at, self.dynamics.dt, COMMANDS_KEPT)}
        blocks, stamps = self.outlook.sight.now()
        return Observation(at, state, {**blocks, **mine}, {**stamps, **dict.fromkeys(mine, at)})

    def _ahead(self, goal: np.ndarray, obs: Observation, planner: Planner) -> Goal:
        """The goal over the horizon of a planner."""
        knots = self._base_ns() / convert.SECOND + obs.t + planner.dt * np.arange(planner.horizon + 1)
        return Goal.ahead(self.task, goal, knots)

    def _wanted(self, obs: Observation) -> np.ndarray:
        """The goal; before the first one that which asks for nothing."""
        if self.goal is None:
            self.goal = self._rest(obs)
        return self.goal

    def _rest(self, obs: Observation) -> np.ndarray:
        """What asks for nothing, by default the place where the tip is."""
        return self.task.rest(obs) if isinstance(self.task, Rests) else np.asarray(self.robot.tip(np, obs.joints.q))

    # --- now and then ---

    def _report(self) -> None:
        info, sizing, failed = self.planning.info, self.planning.sizing, self.loop.failure
        values: dict[str, object] = {
            "robot": self.robot.name,
            "task": self.config.task,
            "planner": self.config.planner,
            "model": self.config.model,
            "run_by": str(self.run_by),
            "gains": self.feedback.why or "along the plan",
            **self.planning.figures(),
            "late_ms_p99": self.loop.late.percentile(99)[0] * 1e3,
            "overruns": self.loop.overruns,
            **{f"not planned: {reason}": count for reason, count in self.skipped.copy().items()},
        }
        if info is not None:
            values |= {"cost": info.cost, "effective_samples": info.effective_samples, **self._doubt(info)}
            values |= {f"cost {name}": value for name, value in info.terms.items()}
        level, text = sizing.health
        if failed:
            level, text = "error", f"failed: {failed}"
        text = text or f"{self.config.planner} on {self.config.model}"
        status = convert.diagnostic("planner", level, text, values)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self.diagnostics_pub.publish(message)

    def _doubt(self, info: Info) -> dict[str, float]:
        """How far the members of a model differ along the plan at worst, and what was rare on data held out."""
        if info.disagreement is None or not isinstance(self.dynamics, Ensemble):
            return {}
        found = {"disagreement": float(np.max(info.disagreement))}
        usual = self.dynamics.quantiles.get("disagreement", {}).get(RARE)
        return found if usual is None else found | {"disagreement_rare": float(usual)}

    # --- the end ---

    @property
    def failure(self) -> BaseException | None:
        return self.loop.failure

    def begin_stop(self) -> None:
        self.loop.stop()

    def stopped(self) -> bool:
        return True


def main() -> int:
    return run(PlannerNode, "planner")


if __name__ == "__main__":
    sys.exit(main())
