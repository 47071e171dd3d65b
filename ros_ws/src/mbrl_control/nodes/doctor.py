"""What takes ROS to find out: whether two processes hear each other, and what a running robot says.

A program like those of ``probes/``: run by ``probes.ask``, it answers with JSON and changes nothing. It publishes only
in a domain of its own; of a robot it listens to the joint states, reads the graph, and reads parameters of the sink.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import JointState

from mbrl_control import registry
from mbrl_control.config import build
from mbrl_control.core import Robot
from mbrl_control.nodes import convert
from mbrl_control.nodes.graph import SinkParameters
from mbrl_control.nodes.process import avoid_shared_memory
from mbrl_control.nodes.qos import NEWEST
from mbrl_control.nodes.sinks import MESSAGES
from mbrl_control.probes import answer
from mbrl_control.runtime.doctor.robot import CommandTopic, Live, Parameters, States
from mbrl_control.runtime.estimate import JointError, Reading, StateSlot
from mbrl_control.wiring import PREFIX, Wiring, guarded

PING, PONG = "doctor/ping", "doctor/pong"
RELIABLE = QoSProfile(depth=10)
ALL = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Hears every writer, and keeps what comes while we are not let run."""
RATE = 100.0
JOINTS = 7
FIRST = 10
"""Messages that are not timed: the first ones allocate."""
FIND_WITHIN = 5.0
"""Two processes that do not hear each other after this long [s] never will."""
KNOWN_AFTER = 3.5
"""The graph is believed after this long [s], where it shows somebody: Fast DDS repeats what was lost after 3 s."""


def measure(what: str, **options: Any) -> Mapping[str, Any]:
    """Do one thing of those below."""
    avoid_shared_memory()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        return {"round_trip": round_trip, "echo": echo, "listen": listen}[what](**options)
    finally:
        rclpy.try_shutdown()


def round_trip(seconds: float) -> Mapping[str, Any]:
    """Joint states at the rate of the guard to another process and back; facts of ``runtime.doctor.ros.RoundTrip``."""
    node = Node("doctor_ping")
    sent: dict[int, float] = {}
    back: dict[int, float] = {}
    publisher = node.create_publisher(JointState, PING, RELIABLE)

    def take(message: JointState) -> None:
        back.setdefault(message.header.stamp.nanosec, time.perf_counter())

    node.create_subscription(JointState, PONG, take, NEWEST)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    other = subprocess.Popen(
        [sys.executable, "-m", "mbrl_control.nodes.doctor", '{"what": "echo"}'], stderr=subprocess.PIPE, text=True
    )
    assert other.stderr is not None
    other.stderr.readline()
    ready = time.perf_counter()
    message = JointState(name=[f"joint{i}" for i in range(JOINTS)])
    message.position = message.velocity = message.effort = [0.0] * JOINTS
    count, number, found = FIRST + round(seconds * RATE), 0, 0.0
    due = ready
    while number < count and (back or due - ready < FIND_WITHIN):
        executor.spin_once(timeout_sec=max(due - time.perf_counter(), 0.0))
        if time.perf_counter() < due:
            continue
        if back:
            number += 1
            found = found or min(back.values()) - ready
        message.header.stamp.nanosec = number
        sent[number] = time.perf_counter()
        publisher.publish(message)
        due += 1.0 / RATE
    end = time.perf_counter() + 0.2
    while len(back) < len(sent) and time.perf_counter() < end:
        executor.spin_once(timeout_sec=0.05)
    other.kill()
    other.wait()
    timed = [n for n in sent if n > FIRST]
    took = [back[n] - sent[n] for n in timed if n in back]
    p50, p99, worst = np.percentile(took, [50, 99, 100]).tolist() if took else (0.0, 0.0, 0.0)
    figures = {"sent": len(timed), "heard": len(took), "p50": p50, "p99": p99, "worst": worst}
    return {"rmw": get_rmw_implementation_identifier(), "discovery": found, **figures}


def echo() -> Mapping[str, Any]:
    """Send back whatever comes, until killed."""
    node = Node("doctor_echo")
    publisher = node.create_publisher(JointState, PONG, RELIABLE)
    node.create_subscription(JointState, PING, publisher.publish, NEWEST)
    print("ready", file=sys.stderr, flush=True)
    rclpy.spin(node)
    return {}


def listen(
    robot: str,
    overrides: Mapping[str, Any],
    wiring: Mapping[str, Any],
    namespace: str,
    seconds: float,
    promise_class: str,
) -> Mapping[str, Any]:
    """Facts of ``runtime.doctor.robot.Live`` about the robot that runs in this domain."""
    connected = guarded(registry.make("robots", robot, overrides=overrides), build(Wiring, wiring, f"{PREFIX}."))
    listener = Listener(connected, namespace)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    start = time.monotonic()
    while not listener.enough(time.monotonic() - start, seconds):
        executor.spin_once(timeout_sec=0.05)
    live = Live(
        robot=robot,
        domain=str(listener.context.get_domain_id()),
        seconds=time.monotonic() - start,
        joints=connected.driver_joints,
        declared_rate=connected.state_rate,
        promise_class=promise_class,
        states=listener.states(),
        command=listener.command(),
        parameters=listener.parameters(),
        clock=listener.count_publishers("/clock") > 0,
    )
    return asdict(live)


class Listener(Node):
    """Listens to joint states as the guard does, and looks who else is there."""

    def __init__(self, robot: Robot, namespace: str) -> None:
        super().__init__("doctor", namespace=namespace)
        self.robot = robot
        self.slot = StateSlot(robot.driver_joints)
        self.skews: list[float] = []
        self.arrivals: list[float] = []
        """When usable states were sent [s]."""
        self.orders: set[tuple[str, ...]] = set()
        self.names: tuple[str, ...] = ()
        self.fault = ""
        self._first: float | None = None
        self._state_topic = self.resolve_topic_name(robot.state_topic)
        self._command_topic = self.resolve_topic_name(robot.sink.topic)
        self._sink = SinkParameters(self, self._command_topic.rpartition("/")[0], robot)
        self.create_subscription(JointState, robot.state_topic, self._on_state, ALL)
        self.create_timer(0.1, self._sink.ask)

    def enough(self, elapsed: float, seconds: float) -> bool:
        """Whether it was listened long enough: ``seconds`` from the first message, and for all that is to be expected.

        Discovery takes its time on a busy machine: silence is believed only after ``FIND_WITHIN``.
        """
        if elapsed >= FIND_WITHIN + seconds:
            return True
        listening = _nodes(self.get_subscriptions_info_by_topic(self._command_topic))
        asked = self._command_topic.rpartition("/")[0] in listening  # the sink is a node that can be asked
        talking = self.count_publishers(self._command_topic)
        if self._first is None or not listening or not talking or (asked and self._sink.found is None):
            return elapsed >= FIND_WITHIN
        return time.monotonic() - self._first >= seconds and elapsed >= KNOWN_AFTER

    def _on_state(self, message: JointState, info: Mapping[str, Any]) -> None:
        self._first = self._first or time.monotonic()
        stamp = convert.to_ns(message.header.stamp) / convert.SECOND
        at = (info["source_timestamp"] or info["received_timestamp"]) / convert.SECOND
        gid = info.get("publisher_gid")
        self.names = tuple(message.name)
        reading = Reading(self.names, message.position, message.velocity, stamp, at, gid and bytes(gid["data"]))
        try:
            used = self.slot.put(reading)
        except JointError as error:
            self.fault = str(error)
            return
        if used:
            self.orders.add(self.names)
            self.arrivals.append(at)
            self.skews.append(stamp - self.get_clock().now().nanoseconds / convert.SECOND)

    def states(self) -> States:
        infos = self.get_publishers_info_by_topic(self._state_topic)
        gaps = np.diff(self.arrivals)
        last = self.arrivals[-1] if self.arrivals else 0.0
        return States(
            topic=self._state_topic,
            publishers=_nodes(infos),
            types=_types(infos),
            count=self.slot.count,
            rate=1.0 / float(np.mean(gaps)) if len(gaps) and np.mean(gaps) > 0.0 else 0.0,
            longest_gap=float(np.max(gaps)) if len(gaps) else 0.0,
            names=self.names,
            changing=len(self.orders) > 1,
            drops=dict(self.slot.drops),
            fault=self.fault,
            writers=self.slot.writers(last),
            skew=median(self.skews) if self.skews else 0.0,
        )

    def command(self) -> CommandTopic:
        publishers = self.get_publishers_info_by_topic(self._command_topic)
        subscribers = self.get_subscriptions_info_by_topic(self._command_topic)
        kind = self.robot.sink.kind
        package, group, *_ = MESSAGES[kind].__module__.split(".")
        return CommandTopic(
            topic=self._command_topic,
            kind=kind,
            publishers=_nodes(publishers),
            subscribers=_nodes(subscribers),
            types=_types([*publishers, *subscribers]),
            wanted_type=f"{package}/{group}/{MESSAGES[kind].__name__}",
        )

    def parameters(self) -> Parameters:
        found = self._sink.found
        return Parameters(self._command_topic.rpartition("/")[0], found, self._sink.wrong)


def _nodes(infos: list[Any]) -> list[str]:
    return sorted(f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos)


def _types(infos: list[Any]) -> list[str]:
    return sorted({info.topic_type for info in infos})


if __name__ == "__main__":
    sys.exit(answer(measure))
