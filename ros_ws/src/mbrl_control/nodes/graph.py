"""Who else is on the arm's topics, as the ROS graph shows it, and whether the sink is what we take it for.

Looked at a few times a second on the executor's thread. Discovery has two sides to mind. What starts is in the graph
after some 0.01 to 0.3 s, but after up to 3 s where a datagram of discovery was lost: Fast DDS says it again that late,
and no reader can ask for it earlier. What ends well is gone from it at once, but a process that is killed stays in it
until its lease runs out (20 s in Fast DDS). So a count of publishers may be too high for a while after a crash; that
refuses to arm in words, and ends motion only while plans are followed, where nobody has crashed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from mbrl_control.core import Robot
from mbrl_control.nodes.sinks import MESSAGES
from mbrl_control.runtime.safety import Surroundings
from mbrl_control.wiring import NEEDED, mismatches

LEASE = 20
"""How long a process that was killed may still be seen [s]."""
ASK_AGAIN = 2.0
"""The sink's parameters are read again after this long, while nothing moves [s]."""
NAMELESS = "_NODE_NAME_UNKNOWN_"
"""How rmw calls a node whose name it has not heard yet."""
VALUES = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}


class Neighbours:
    """Looks for others on the command topic and among the joint states, and reads the sink's parameters."""

    def __init__(self, node: Node, robot: Robot) -> None:
        self._node, self._robot = node, robot
        self._commands = node.resolve_topic_name(robot.sink.topic)
        self._states = node.resolve_topic_name(robot.state_topic)
        self._type = _type_name(MESSAGES[robot.sink.kind])
        self._sink = SinkParameters(node, self._commands.rpartition("/")[0], robot)
        self._states_signed = False

    def writer(self, info: Mapping[str, Any]) -> bytes | None:
        """Who sent the joint states that came with ``info``; None where the middleware does not say (before Kilted)."""
        gid = info.get("publisher_gid")
        self._states_signed = gid is not None
        return None if gid is None else bytes(gid["data"])

    @property
    def sink(self) -> str:
        """What is known of the sink's parameters, in words."""
        return self._sink.known

    def look(self, ask: bool) -> Surroundings:
        """What there is to see now; ``ask``: the sink may be asked for its parameters as well."""
        if ask:
            self._sink.ask()
        return Surroundings(self._rivals(), (*self._listeners(), *self._sink.wrong))

    def _rivals(self) -> str:
        node, found = self._node, []
        if node.count_publishers(self._commands) > 1:
            names = [_name(info) for info in node.get_publishers_info_by_topic(self._commands)]
            own = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
            if own in names:
                names.remove(own)
            found.append(f"{_and(names)} can command the arm on {self._commands} besides this guard")
        if not self._states_signed and node.count_publishers(self._states) > 1:
            names = [_name(info) for info in node.get_publishers_info_by_topic(self._states)]
            found.append(f"{_and(names)} all publish joint states on {self._states}")
        return f"{'; '.join(found)} (one that was killed is seen for {LEASE} s more)" if found else ""

    def _listeners(self) -> list[str]:
        infos = self._node.get_subscriptions_info_by_topic(self._commands)
        other = [info for info in infos if info.topic_type != self._type]
        found = [f"{_name(info)} takes {info.topic_type} on {self._commands}, not {self._type}" for info in other]
        if len(other) == len(infos):
            found.append(f"nobody listens on {self._commands}: is the sink's controller loaded, under this name?")
        return found


class SinkParameters:
    """Parameters of the driver's controller that is the sink, where it can be asked for them."""

    def __init__(self, node: Node, controller: str, robot: Robot) -> None:
        self._node, self._controller, self._robot = node, controller, robot
        self._client: Client | None = None
        if controller:
            self._client = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._found: dict[str, Any] = {}
        self._waiting: dict[str, Future] = {}
        self._asked = float("-inf")
        self.wrong: tuple[str, ...] = ()
        """What stands against commanding it, in words."""

    @property
    def known(self) -> str:
        """In words."""
        if not self._complete:
            return "not known"
        return "; ".join(self.wrong) or "as needed"

    @property
    def found(self) -> dict[str, Any] | None:
        """The parameters by name; None while they are not known."""
        return dict(self._found) if self._complete else None

    @property
    def _complete(self) -> bool:
        return len(self._found) == len(NEEDED[self._robot.sink.kind])

    def ask(self) -> None:
        """Ask again where it is time to; the answers come to the executor later."""
        client, now = self._client, time.monotonic()
        if client is None or now - self._asked < ASK_AGAIN:
            return
        if not client.service_is_ready():
            self._found, self.wrong = {}, ()
            return
        self._asked = now
        for name, unanswered in self._waiting.items():
            if not unanswered.done():
                client.remove_pending_request(unanswered)
                self._found.pop(name, None)
        for name in NEEDED[self._robot.sink.kind]:  # one by one: rclcpp answers nothing where one is not declared
            self._waiting[name] = client.call_async(GetParameters.Request(names=[name]))
            self._waiting[name].add_done_callback(partial(self._take, name))

    def _take(self, name: str, answer: Future) -> None:
        result = None if answer.cancelled() or answer.exception() else answer.result()
        if result is None:
            return
        value = result.values[0] if result.values else None
        field = VALUES.get(value.type) if value is not None else None
        self._found[name] = None if field is None else getattr(value, field)
        if self._complete:
            self.wrong = tuple(f"{self._controller}: {text}" for text in mismatches(self._robot, self._found))


def _name(info: Any) -> str:
    if info.node_name == NAMELESS:  # names come by a topic of their own, somewhat later
        return "somebody"
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _and(names: list[str]) -> str:
    return " and ".join(sorted(names)) or "somebody"


def _type_name(message: type) -> str:
    package, kind, *_ = message.__module__.split(".")
    return f"{package}/{kind}/{message.__name__}"
