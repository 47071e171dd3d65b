"""The planner node: any registered planner, at its own rate, in its own process. It may be late and it may die.

    /joint_states, controller/reference, ~/goal_pose   ->   planner   ->   ~/plan_packed (guard), ~/plan (people)
    the robot's blocks, as puck/pose                   ->

Each plan is made for the start of the next period: there it begins in the reference as it will be by then, so
that the time planning takes costs nothing. Planning stops early enough to leave ``duty`` of the period free.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_control import registry
from mbrl_control.config import param
from mbrl_control.core import (
    Block,
    Dynamics,
    Goal,
    GoalError,
    Info,
    MbrlError,
    Observation,
    Plan,
    Planner,
    Rests,
    Robot,
    Status,
    Task,
)
from mbrl_control.model import COMMANDS, COMMANDS_KEPT, REFERENCE
from mbrl_control.models import located
from mbrl_control.nodes import convert
from mbrl_control.nodes.params import declare, declare_part, on_change, prefix_of, refuse_unknown
from mbrl_control.nodes.process import run
from mbrl_control.nodes.qos import NEWEST
from mbrl_control.runtime.commanded import Commanded
from mbrl_control.runtime.estimate import JointError, Reading, StateSlot
from mbrl_control.runtime.loop import ClockPacer, Loop, Timings, WallPacer
from mbrl_control.runtime.sight import Sight, SightError
from mbrl_control.wiring import PREFIX, Wiring, wired

FRAMES = ("", "world")
REFERENCE_AGE = 0.2
"""A reference older than this [s] counts as none: plans then begin in the measured joints."""
STATE_AGE = 0.2
"""Older joint states than this [s] are not planned from."""
LOCKSTEP_WAIT = 2.0


@dataclass(frozen=True)
class NodeConfig:
    """Parameters of the planner node; those of the parts stand under their names, as ``mppi.samples``."""

    robot: str = param("panda", "name of the robot, or package.module of one's own")
    task: str = param("reach", "name of the task")
    planner: str = param("mppi", "name of the planner")
    model: str = param("kinematic", "what is planned through: a name in 'mbrl list dynamics', or a model folder")
    rate: float = param(20.0, "plans a second", unit="Hz", low=0.5, high=100.0)
    duty: float = param(0.5, "share of the period that planning may take", low=0.05, high=1.0)
    iterations: int = param(0, "planner iterations a plan; 0: as many as fit (3 in lock-step)", low=0, high=1000)
    goal: tuple[float, ...] = param((), "goal until another one comes, in the task's units; empty: stay where it is")
    speed: float = param(1.0, "share of the joints' velocity limits that is used", low=0.01, high=1.0)
    nice: int = param(2, "lowers the priority of this process, so that it never delays the guard", low=0, high=19)
    seed: int = param(0, "seed of the sampling", low=0, high=2**31 - 1)
    lockstep: bool = param(False, "plan when the guard has made its tick; for deterministic simulation")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the guard's reference is."""

    t: float
    q: np.ndarray
    v: np.ndarray
    active: bool
    """Whether the guard follows plans at that time."""


class PlannerNode(Node):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__("planner")
        self.config = config = declare(self, NodeConfig)
        model = located(config.model)
        parts = {"robots": config.robot, "tasks": config.task, "dynamics": model.dynamics, "planners": config.planner}
        settings = {**registry.load("tasks", config.task).settings, **model.settings}
        declared = {kind: declare_part(self, kind, name, settings) for kind, name in parts.items()}
        self._entries = {kind: entry for kind, (entry, _) in declared.items()}
        self._configs = {kind: part for kind, (_, part) in declared.items()}
        wiring = declare(self, Wiring, PREFIX)
        refuse_unknown(self)
        self.robot: Robot = wired(self._make("robots"), wiring).at_speed(config.speed)
        self.dynamics: Dynamics = self._make("dynamics", self.robot)
        self.task: Task = self._make("tasks", self.robot)
        self.planner: Planner = self._make("planners", self.task, self.dynamics)
        sim_time = bool(self.get_parameter("use_sim_time").value)
        if config.lockstep and not sim_time:
            raise MbrlError("lockstep: true needs use_sim_time: true")
        os.nice(config.nice)
        self.period = 1.0 / config.rate
        clock = ClockPacer()
        self.sim_time = sim_time
        self.pacer = clock if sim_time else WallPacer()
        self.slot = StateSlot(self.robot.driver_joints)
        self.sight = Sight(self.robot.blocks)
        self.session = convert.new_session()
        self.rng = np.random.default_rng(config.seed)
        self.reference: Reference | None = None
        self.goal: np.ndarray | None = None
        if not (config.goal or self.task.goal_size == 3 or isinstance(self.task, Rests)):
            size = self.task.goal_size
            raise MbrlError(f"task '{config.task}' has goals of {size} numbers: the parameter goal is needed")
        if config.goal:
            self.goal = np.array(config.goal)
            self.task.check_goal(self.goal)
        self.last: Plan | None = None
        self.commanded = Commanded(self.robot.nu)
        self.info: Info | None = None
        self.carry: Any = None
        self.skipped: dict[str, int] = {}
        self.plan_time = Timings()
        self.iterations = 0
        self._came = threading.Condition()
        self._reference_at = -1.0
        self._index = -1
        self._make_topics(clock)
        live = {prefix_of(self._entries[kind]): self._entries[kind].config for kind in ("tasks", "planners")}
        on_change(self, live, self._turn)
        self.loop = Loop(self.pacer, self.period, self._plan)
        self.loop.start()

    def _make_topics(self, clock: ClockPacer) -> None:
        self.packed_pub = self.create_publisher(Float64MultiArray, "~/plan_packed", 1)
        self.plan_pub = self.create_publisher(JointTrajectory, "~/plan", NEWEST)
        self.diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        hear = self.create_subscription
        hear(JointState, self.robot.state_topic, self._on_state, NEWEST)
        hear(JointState, "controller/reference", self._on_reference, NEWEST)
        for block in self.robot.blocks:
            kind = TwistStamped if block.unit == "m/s" else PoseStamped
            hear(kind, block.topic, partial(self._on_block, block), NEWEST)
        hear(PoseStamped, "~/goal_pose", self._on_goal, 1)
        if self.sim_time:
            hear(Clock, "/clock", lambda m: clock.set(convert.to_ns(m.clock) / convert.SECOND), NEWEST)
        self.create_timer(1.0, self._report, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def _base_ns(self) -> int:
        """The ROS clock [ns] at control time zero."""
        if self.sim_time:
            return 0
        return self.get_clock().now().nanoseconds - round(self.pacer.now() * convert.SECOND)

    # --- in ---

    def _on_state(self, message: JointState) -> None:
        stamp = (convert.to_ns(message.header.stamp) - self._base_ns()) / convert.SECOND
        try:
            with self._came:
                self.slot.put(Reading(list(message.name), message.position, message.velocity, stamp, time.monotonic()))
                self._came.notify_all()
        except JointError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _on_reference(self, message: JointState) -> None:
        t = (convert.to_ns(message.header.stamp) - self._base_ns()) / convert.SECOND
        with self._came:
            q, v = np.array(message.position), np.array(message.velocity)
            self.reference = Reference(t, q, v, message.header.frame_id == "ACTIVE") if len(q) else None
            self._reference_at = t
            self._came.notify_all()

    def _on_block(self, block: Block, message: PoseStamped | TwistStamped) -> None:
        t = (convert.to_ns(message.header.stamp) - self._base_ns()) / convert.SECOND
        vector = message.twist.linear if isinstance(message, TwistStamped) else message.pose.position
        frame = message.header.frame_id
        try:
            if frame not in FRAMES:
                raise SightError(f"block '{block.name}' in frame '{frame}'; it takes 'world' or ''")
            with self._came:
                self.sight.put(block.name, t, np.array([vector.x, vector.y, vector.z]))
                self._came.notify_all()
        except SightError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

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

    def _make(self, kind: str, *parts: Any) -> Any:
        return self._entries[kind].make(self._configs[kind], *parts)

    def _turn(self, changes: dict[str, dict[str, Any]]) -> None:
        """Live parameters: task and planner are made anew, and the planner keeps its memory."""
        for kind in ("tasks", "planners"):
            self._configs[kind] = replace(self._configs[kind], **changes.get(prefix_of(self._entries[kind]), {}))
        self.task = self._make("tasks", self.robot)
        self.planner = self._make("planners", self.task, self.dynamics)

    # --- planning, on its own thread ---

    def _plan(self, now: float) -> None:
        index = math.floor(now / self.period + 1e-6)
        if index == self._index:  # the clock stands still
            if self.config.lockstep and self.last is not None:
                self._send(self.last)  # the guard may have come after the plan it waits for
            return
        if self.config.lockstep and not self._all_here(index * self.period):
            return
        self._index = index
        started = time.perf_counter()
        obs, reason = self._observe(now)
        if obs is None:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return
        planner, carry = self.planner, self.carry
        knots = self._base_ns() / convert.SECOND + obs.t + planner.dt * np.arange(planner.horizon + 1)
        goal = Goal.ahead(self.task, self._wanted(obs), knots)
        if carry is None:
            carry = planner.init(obs)
        knobs, done = planner.knobs(), 0
        while True:
            carry, plan, info = planner.improve(obs, goal, knobs, carry, planner.noise(self.rng))
            done += 1
            spent = time.perf_counter() - started
            late = spent + spent / done > self.config.duty * self.period and not self.config.lockstep
            if done >= self._most() or late:
                break
        self.carry, self.info = carry, info
        self.plan_time.add(time.perf_counter() - started)
        self.iterations = done
        if info.status & Status.NONFINITE:
            self.skipped["not finite"] = self.skipped.get("not finite", 0) + 1
            self.carry = None
            return
        self.last = plan
        self.commanded.sent(plan)
        self._send(plan)

    def _send(self, plan: Plan) -> None:
        base, joints = self._base_ns(), self.robot.driver_joints
        self.packed_pub.publish(convert.pack_plan(plan, base, joints, self.session, self.period))
        self.plan_pub.publish(convert.plan_trajectory(plan, base, joints))

    def _most(self) -> int:
        if self.config.iterations:
            return self.config.iterations
        return 3 if self.config.lockstep else 1000

    def _all_here(self, due: float) -> bool:
        """Lock-step: wait for what the simulation and the guard publish at this very time."""

        def here() -> bool:
            state = self.slot.state
            return state is not None and min(state.t, self._reference_at, self.sight.since) >= due - 1e-9

        with self._came:
            return self._came.wait_for(here, timeout=LOCKSTEP_WAIT)

    def _observe(self, now: float) -> tuple[Observation | None, str]:
        """What is to be planned from: the reference as it will be one period from now."""
        state = self.slot.state
        if state is None:
            return None, "no joint state yet"
        if now - state.t > STATE_AGE:
            return None, "joint state too old"
        if lacking := self.sight.lacking(now):
            return None, lacking
        t0 = now + self.period
        q, v = state.q, np.zeros_like(state.q)
        reference, last = self.reference, self.last
        if reference is not None and abs(now - reference.t) < REFERENCE_AGE:
            q, v = reference.q, reference.v
            if not reference.active:
                v = np.zeros_like(v)
            elif last is not None and last.t0 <= t0 < last.end:
                then, there = last.at(reference.t), last.at(t0)
                q, v = q + there.q - then.q, v + there.v - then.v
        commands = self.commanded.before(t0, self.dynamics.dt, COMMANDS_KEPT)
        own = {REFERENCE: np.concatenate([q, v]), COMMANDS: commands}
        blocks, stamps = self.sight.now()
        return Observation(t0, state, {**blocks, **own}, {**stamps, **dict.fromkeys(own, t0)}), ""

    def _wanted(self, obs: Observation) -> np.ndarray:
        """The goal; before the first one that which asks for nothing, by default the place where the tip is."""
        if self.goal is None:
            task = self.task
            self.goal = task.rest(obs) if isinstance(task, Rests) else np.asarray(self.robot.tip(np, obs.joints.q))
        return self.goal

    # --- now and then ---

    def _report(self) -> None:
        p50, p99 = self.plan_time.percentile(50, 99)
        info = self.info
        values: dict[str, object] = {
            "robot": self.robot.name,
            "task": self.config.task,
            "planner": self.config.planner,
            "model": self.config.model,
            "plans": self.plan_time.count,
            "plan_ms_p50": p50 * 1e3,
            "plan_ms_p99": p99 * 1e3,
            "iterations": self.iterations,
            "late_ms_p99": self.loop.late.percentile(99)[0] * 1e3,
            "overruns": self.loop.overruns,
            **{f"not planned: {reason}": count for reason, count in self.skipped.copy().items()},
        }
        if info is not None:
            values |= {"cost": info.cost, "effective_samples": info.effective_samples}
            values |= {f"cost {name}": value for name, value in info.terms.items()}
        failed = self.loop.failure
        text = f"failed: {failed}" if failed else f"{self.config.planner} on {self.config.model}"
        status = convert.diagnostic("planner", "error" if failed else "ok", text, values)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self.diagnostics_pub.publish(message)

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
