"""An observer of the topics that belongs to nobody: it records what was sent and measured, and judges it.

Trajectories carry their times. Samples carry none: which tick one was sent at is told from the moment it was
published, and from the stamps of ``controller/reference``, which lie on the grid of ticks; a tick sends at most one
period late. Where the reference is, is then taken from that topic as well. How often the guard ticks it says in its
diagnostics; what came before they were heard is judged then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from mbrl_control.core import Limits, MbrlError, Robot
from mbrl_control.nodes import convert
from mbrl_control.nodes.qos import LATCHED, NEWEST
from mbrl_control.runtime.estimate import JointMap
from mbrl_control.runtime.judge import Judge, Sent
from mbrl_control.runtime.samples import SampleJudge
from mbrl_control.runtime.torque_judge import TorqueJudge
from mbrl_control.wiring import sink_order

EVERY = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""What a best-effort writer sends, not only the newest of it."""


@dataclass
class Record:
    """What an observer saw, in seconds since it was made."""

    state_t: list[float] = field(default_factory=list)
    q: list[np.ndarray] = field(default_factory=list)
    command_t: list[float] = field(default_factory=list)
    q_ref: list[np.ndarray] = field(default_factory=list)
    v_ref: list[np.ndarray] = field(default_factory=list)
    guard: list[tuple[float, str]] = field(default_factory=list)
    """When the guard said which state it is in, and why."""
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    publishers: int = 0
    """Most publishers ever seen on the command topic."""
    unseen: int = 0
    """Commands that were sent and did not come, as their numbers tell: they could not be judged."""


class Observer(Node):
    """Listens to joint states, commands, the guard's state and the diagnostics."""

    def __init__(
        self,
        robot: Robot,
        limits: Limits,
        name: str = "observer",
        context: Context | None = None,
        since_ns: int | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__(name, context=context, namespace=namespace)
        self.robot = robot
        self.record = Record()
        self._period: int | None = None
        """Between the guard's ticks [ns]."""
        self._simulated = since_ns is not None
        """Whether stamps are a simulation's time, counted from ``since_ns``."""
        self._base = self.get_clock().now().nanoseconds if since_ns is None else since_ns
        self._map, self._command_map = JointMap(robot.driver_joints), JointMap(robot.driver_joints)
        self._topic = self.resolve_topic_name(robot.sink.topic)
        self._numbers: dict[bytes, int] = {}
        """The number of the last command of each publisher."""
        self.create_subscription(JointState, robot.state_topic, self._on_state, NEWEST)
        self.judge = self._hear_commands(limits)
        self.create_subscription(String, "controller/state", self._on_guard, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_timer(0.5, self._count_publishers)

    def _hear_commands(self, limits: Limits) -> Judge | SampleJudge | TorqueJudge:
        """Listen to the sink's topic; the judge of what is heard."""
        sink = self.robot.sink
        if sink.kind == "joint_trajectory":
            self.create_subscription(JointTrajectory, sink.topic, self._on_command, 100)
            return Judge(limits)
        if self._simulated:
            raise MbrlError(f"a {sink.kind} sink cannot be judged in simulated time: its messages carry none")
        self._order = np.argsort(sink_order(self.robot))
        self._grid: int | None = None
        """Where ticks lie within their period [ns]."""
        self._unjudged: list[tuple[int, np.ndarray]] = []
        """Samples since before the grid was known, with the times at which they were published [ns]."""
        self.create_subscription(Float64MultiArray, sink.topic, self._on_sample, 100)
        self.create_subscription(JointState, "controller/reference", self._on_reference, EVERY)
        return TorqueJudge(limits, 0.0) if sink.kind == "effort" else SampleJudge(limits, 0.0, sink.kind)

    def now(self) -> float:
        return (self.get_clock().now().nanoseconds - self._base) / convert.SECOND

    @property
    def since(self) -> float:
        """When it was made, on the clock of the stamps [s]."""
        return self._base / convert.SECOND

    @property
    def guard_state(self) -> str:
        return self.record.guard[-1][1] if self.record.guard else "no guard yet"

    def figure(self, node: str, key: str) -> float:
        """A number from a node's diagnostics; NaN where it has not said it."""
        return float(self.record.diagnostics.get(node, {}).get(key, "nan"))

    def _on_state(self, message: JointState) -> None:
        t = (convert.to_ns(message.header.stamp) - self._base) / convert.SECOND
        self.record.state_t.append(t)
        self.record.q.append(np.asarray(message.position)[self._map.index(list(message.name))])

    def _count(self, info: Mapping[str, Any]) -> None:
        """Commands lost on the way, because this process was not let run, are no fault of the guard's.

        Not every middleware numbers them.
        """
        gid, number = info.get("publisher_gid"), info.get("publication_sequence_number")
        if gid is None or number is None:
            return
        writer = bytes(gid["data"])
        lost = number - self._numbers.get(writer, number - 1) - 1
        self._numbers[writer] = number
        if lost > 0:
            self.record.unseen += lost
            self.judge.skip()

    def _on_command(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        self._count(info)
        order = self._command_map.index(list(message.joint_names))
        start = convert.to_ns(message.header.stamp) - self._base
        after = [p.time_from_start.sec * convert.SECOND + p.time_from_start.nanosec for p in message.points]
        # When it was sent, however late it is heard; in simulated time nobody knows, and its own first point must do.
        at = (start if self._simulated else info["source_timestamp"] - self._base) / convert.SECOND
        t = (start + np.array(after, dtype=np.int64)) / convert.SECOND
        rows = [[getattr(p, name) for p in message.points] for name in ("positions", "velocities", "accelerations")]
        q, v, a = (np.array(row, dtype=float)[:, order] for row in rows)
        assert isinstance(self.judge, Judge)
        self.judge.see(Sent(at, t, q, v, a))
        self.record.command_t.append(float(t[0]))
        self.record.q_ref.append(q[0])
        self.record.v_ref.append(v[0])

    def _on_sample(self, message: Float64MultiArray, info: Mapping[str, Any]) -> None:
        self._count(info)
        values = np.array(message.data)
        if values.shape != self._order.shape:
            self.judge.violations[f"{values.size} numbers for {self.robot.nj} joints"] += 1
            return
        self._unjudged.append((info["source_timestamp"], values[self._order]))
        self._judge_samples()

    def _judge_samples(self) -> None:
        """Judge the samples that have come, if it is known by now of which ticks they are."""
        assert not isinstance(self.judge, Judge)
        if self._grid is None or self._period is None:
            return
        for at, sample in self._unjudged:
            self.judge.see((at - self._grid) // self._period, sample)
        self._unjudged.clear()

    def _on_reference(self, message: JointState) -> None:
        stamp, order = convert.to_ns(message.header.stamp), self._command_map.index(list(message.name))
        if self._period is not None:
            self._grid = stamp % self._period
        self.record.command_t.append((stamp - self._base) / convert.SECOND)
        self.record.q_ref.append(np.asarray(message.position)[order])
        self.record.v_ref.append(np.asarray(message.velocity)[order])

    def _on_guard(self, message: String) -> None:
        self.record.guard.append((self.now(), message.data))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.record.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}
        rate = self.figure("controller", "rate_hz")
        if rate > 0.0 and not isinstance(self.judge, Judge):
            self._period = round(convert.SECOND / rate)
            self.judge.dt = self._period / convert.SECOND

    def _count_publishers(self) -> None:
        self.record.publishers = max(self.record.publishers, self.count_publishers(self._topic))

    def violations(self) -> dict[str, int]:
        """Everything that should not have happened, and how often."""
        found = dict(self.judge.violations)
        if self.record.q:
            q, limits = np.array(self.record.q), self.robot.limits
            outside = (((q < limits.lower) | (q > limits.upper)) & (limits.torque > 0.0)).any(axis=1)
            if outside.any():
                found["measured position outside the joints' ranges"] = int(outside.sum())
        if self.record.publishers > 1:
            found["publishers on the command topic besides the guard"] = self.record.publishers - 1
        return found

    def tracking_rms(self) -> float:
        """Root mean square of measured minus commanded joint position, while commands were sent [rad]."""
        t, q = np.array(self.record.state_t), np.array(self.record.q)
        sent, ref = np.array(self.record.command_t), np.array(self.record.q_ref)
        if len(sent) < 2 or not len(t):
            return float("nan")
        during = (t >= sent[0]) & (t <= sent[-1])
        error = [q[during, j] - np.interp(t[during], sent, ref[:, j]) for j in range(ref.shape[1])]
        return float(np.sqrt(np.mean(np.square(error))))
