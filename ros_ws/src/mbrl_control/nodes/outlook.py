"""What a planner plans from: joint states, the guard's reference and what is around, looked at when a plan is due.

A callback for every message of a topic that comes 200 times a second costs half a core and holds the interpreter's
lock while others compute. Only the newest of each counts here, and only once a period: the middleware keeps it until
somebody asks.
"""

from __future__ import annotations

import time
from typing import Any, Generic, TypeVar

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import JointState

from mbrl_control.core import Block, Robot, State
from mbrl_control.nodes import convert
from mbrl_control.nodes.qos import NEWEST
from mbrl_control.runtime.commanded import Reference
from mbrl_control.runtime.estimate import JointError, Reading, StateSlot
from mbrl_control.runtime.sight import Sight, SightError

FRAMES = ("", "world")
REFERENCE_AGE = 0.2
"""A reference older than this [s] counts as none: plans then begin in the measured joints."""
STATE_AGE = 0.2
"""Older joint states than this [s] are not planned from."""
M = TypeVar("M")


class Unwatched(CallbackGroup):
    """Of subscriptions that no executor waits for."""

    def can_execute(self, entity: Any) -> bool:  # noqa: ARG002 - whatever it is
        return False


class Newest(Generic[M]):
    """A subscription that is asked."""

    def __init__(self, node: Node, kind: type[M], topic: str, group: Unwatched) -> None:
        self._heard = node.create_subscription(kind, topic, lambda _: None, NEWEST, callback_group=group)

    def take(self) -> M | None:
        """The newest message, once; None where none has come since it was last asked."""
        with self._heard.handle:
            taken = self._heard.handle.take_message(self._heard.msg_type, self._heard.raw)
        return taken[0] if taken else None


class Outlook:
    """The newest of everything. One thread looks; it is the one that plans."""

    def __init__(self, node: Node, robot: Robot) -> None:
        self.slot = StateSlot(robot.driver_joints)
        self.sight = Sight(robot.blocks)
        self._reference: Reference | None = None
        self._node, self._group = node, Unwatched()
        self._states = Newest(node, JointState, robot.state_topic, self._group)
        self._references = Newest(node, JointState, "controller/reference", self._group)
        kinds = {block: TwistStamped if block.unit == "m/s" else PoseStamped for block in robot.blocks}
        self._sights = {block: Newest(node, kind, block.topic, self._group) for block, kind in kinds.items()}

    def look(self, base_ns: int) -> None:
        """Take what has come; stamps are control time from ``base_ns`` of the ROS clock on."""

        def t(message: Any) -> float:
            return (convert.to_ns(message.header.stamp) - base_ns) / convert.SECOND

        try:
            if (said := self._states.take()) is not None:
                self.slot.put(Reading(list(said.name), said.position, said.velocity, t(said), time.monotonic()))
            if (said := self._references.take()) is not None:
                active = said.header.frame_id == "ACTIVE"
                self._reference = Reference(t(said), np.array(said.position), np.array(said.velocity), active)
            for block, heard in self._sights.items():
                if (said := heard.take()) is not None:
                    self.sight.put(block.name, t(said), _numbers(block, said))
        except (JointError, SightError) as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=5.0)

    @property
    def since(self) -> float:
        """The time of the oldest of it [s]; minus infinity if anything is missing."""
        state, reference = self.slot.state, self._reference
        return min(state.t, reference.t, self.sight.since) if state and reference else -np.inf

    def state(self, now: float) -> State | None:
        """The joints, if they are new enough to plan from."""
        state = self.slot.state
        return state if state is not None and now - state.t <= STATE_AGE else None

    def reference(self, now: float) -> Reference | None:
        """The guard's reference; None where it has none, or has not said so lately."""
        known = self._reference
        return known if known is not None and len(known.q) and abs(now - known.t) < REFERENCE_AGE else None

    def lacking(self, now: float) -> str:
        """What stands against planning now; empty: nothing."""
        if self.slot.state is None:
            return "no joint state yet"
        return "joint state too old" if self.state(now) is None else self.sight.lacking(now)


def _numbers(block: Block, message: PoseStamped | TwistStamped) -> np.ndarray:
    if message.header.frame_id not in FRAMES:
        raise SightError(f"block '{block.name}' in frame '{message.header.frame_id}'; it takes 'world' or ''")
    vector = message.twist.linear if isinstance(message, TwistStamped) else message.pose.position
    return np.array([vector.x, vector.y, vector.z])
