"""What takes the guard's commands on the driver's side: one small class for each kind of sink."""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_control.core import Robot
from mbrl_control.nodes import convert
from mbrl_control.runtime import samples
from mbrl_control.runtime.safety import Outcome
from mbrl_control.wiring import sink_order

DEPTH = 10
"""Reliable, as the driver's controllers listen, and deep enough that observers see every one."""
MESSAGES: dict[str, type] = {
    "joint_trajectory": JointTrajectory,
    "position": Float64MultiArray,
    "velocity": Float64MultiArray,
    "effort": Float64MultiArray,
}
"""What each kind of sink takes."""


class CommandSink(Protocol):
    """Where the outcome of every tick goes."""

    def ready(self, out: Outcome, base_ns: int) -> Callable[[], None]:
        """What the tick led to, made ready to be sent; ``base_ns`` is the ROS clock at control time zero."""
        ...


class TrajectorySink:
    """A joint_trajectory_controller: each command carries the stop that is played if nothing more comes."""

    def __init__(self, publisher: Any, robot: Robot) -> None:
        self._publisher, self._joints = publisher, robot.driver_joints

    def ready(self, out: Outcome, base_ns: int) -> Callable[[], None]:
        if out.command is None:
            return nothing
        return partial(self._publisher.publish, convert.trajectory(out.command, base_ns, self._joints))


class PositionSink:
    """A forward_command_controller of positions: the reference at each tick; the last one is held."""

    def __init__(self, publisher: Any, robot: Robot) -> None:
        self._publisher, self._order = publisher, sink_order(robot)

    def ready(self, out: Outcome, base_ns: int) -> Callable[[], None]:  # noqa: ARG002 - such a message has no stamp
        if out.command is None:
            return nothing
        return partial(self._publisher.publish, _numbers(samples.position(out.command)[self._order]))


class VelocitySink:
    """A forward_command_controller of velocities: it goes on with the last one, so zero is said when all is over."""

    def __init__(self, publisher: Any, robot: Robot, limit: np.ndarray) -> None:
        self._publisher, self._order, self._limit = publisher, sink_order(robot), limit
        self._still = True

    def ready(self, out: Outcome, base_ns: int) -> Callable[[], None]:  # noqa: ARG002 - such a message has no stamp
        if out.command is None and self._still:
            return nothing
        v = np.zeros(len(self._order))
        if out.command is not None:
            v = samples.velocity(out.command, out.t, out.error, self._limit)

        def send() -> None:
            self._publisher.publish(_numbers(v[self._order]))
            self._still = out.command is None

        return send


class EffortSink:
    """Torques at each tick. When they stop coming whoever takes them has to brake, as our simulation does."""

    def __init__(self, publisher: Any, robot: Robot) -> None:
        self._publisher, self._order = publisher, sink_order(robot)

    def ready(self, out: Outcome, base_ns: int) -> Callable[[], None]:  # noqa: ARG002 - such a message has no stamp
        if out.command is None or out.command.effort is None:
            return nothing
        return partial(self._publisher.publish, _numbers(out.command.effort[0][self._order]))


def nothing() -> None:
    """What there is to send where nothing moves."""


def open_sink(make: Callable[[type, str, int], Any], robot: Robot, limit: np.ndarray) -> CommandSink:
    """The sink of a robot; ``make`` makes a publisher of type, topic and depth, ``limit`` bounds velocities."""
    kind = robot.sink.kind
    publisher = make(MESSAGES[kind], robot.sink.topic, DEPTH)
    if kind == "velocity":
        return VelocitySink(publisher, robot, limit)
    return {"position": PositionSink, "effort": EffortSink}.get(kind, TrajectorySink)(publisher, robot)


def _numbers(row: np.ndarray) -> Float64MultiArray:
    return Float64MultiArray(data=array.array("d", row.tobytes()))
