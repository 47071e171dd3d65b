"""The real stack for a test: processes of sim.launch.yaml in a ROS domain of their own, and a person who watches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mbrl_control import registry
from mbrl_control.core import Robot
from mbrl_control.nodes.observer import Observer
from mbrl_control.nodes.qos import LATCHED
from mbrl_control.paths import share
from mbrl_control.runtime.launch import expand
from mbrl_control.runtime.processes import Launcher

PATIENCE = 20.0
STALL = 0.15
"""Nothing here computes for this long [s]: who finds that it did was not let run."""
OUTSIDE = "HOLD: the guard itself was not run"
"""What the guard says when the machine gave it no time."""


class StalledError(AssertionError):
    """The machine stood still in a test of real time: it says nothing about the stack, and is tried again."""


class Person(Observer):
    """Watches, judges, arms, gives goals, presses the e-stop."""

    def __init__(self, context: Context, robot: Robot, since_ns: int | None, namespace: str | None = None) -> None:
        super().__init__(robot, robot.limits, "person", context=context, since_ns=since_ns, namespace=namespace)
        self.estop_pub = self.create_publisher(Bool, "controller/estop", LATCHED)
        self.goal_pub = self.create_publisher(PoseStamped, "planner/goal_pose", 1)
        self.asks = {name: self.create_client(Trigger, f"controller/{name}") for name in ("arm", "reset", "stop")}

        self.create_timer(0.1, self._say_goal)
        self._goal: PoseStamped | None = None

    def goal(self, x: float, y: float, z: float) -> None:
        """Say it again and again: whoever comes late must hear it too."""
        self._goal = PoseStamped()
        p = self._goal.pose.position
        p.x, p.y, p.z = x, y, z

    def _say_goal(self) -> None:
        if self._goal is not None:
            self.goal_pub.publish(self._goal)

    def said_since(self, t: float, text: str) -> float | None:
        """When the guard said a text for the first time after ``t``."""
        return next((when for when, words in self.record.guard if when >= t and text in words), None)

    @property
    def state(self) -> str:
        return self.guard_state.split(":")[0]


class Stack:
    """Start it with ``with``; everything it started is gone afterwards."""

    namespace: str | None = None

    def __init__(
        self,
        domain: int,
        only: tuple[str, ...] = (),
        extra: dict[str, str] | None = None,
        since_ns: int | None = None,
        state_timeout: float = 0.5,
        **arguments: str,
    ) -> None:
        arguments = {"robot": "panda", "viewer": "false", **arguments}
        self.robot: Robot = registry.make("robots", arguments["robot"])
        specs = expand(
            share() / "launch" / "sim.launch.yaml",
            arguments,
            environ={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        )
        self.specs = {spec.name: replace(spec, essential=False) for spec in specs}
        # Patient with a busy machine, but for tests of that patience; 0 is the guard's own.
        patience = {"controller": f"-p state_timeout:={state_timeout}"}
        for name, flags in (*patience.items(), *(extra or {}).items()):
            self.specs[name] = replace(self.specs[name], argv=(*self.specs[name].argv, *flags.split()))
        self.since_ns = since_ns
        self.domain, self.only = domain, only or tuple(self.specs)
        self.lines: list[str] = []
        self.stalls: list[float] = []
        """How long nobody let us run, each time [s]."""
        self._spun = time.monotonic()
        self.launchers: dict[str, Launcher] = {}

    def __enter__(self) -> Stack:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain, signal_handler_options=SignalHandlerOptions.NO)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.person = Person(self.context, self.robot, self.since_ns, self.namespace)
        self.executor.add_node(self.person)
        for name in self.only:
            self.start(name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        for launcher in self.launchers.values():
            launcher.begin_stop()
        for launcher in self.launchers.values():
            launcher.stop()
        self.executor.shutdown(timeout_sec=0.5)
        self.person.destroy_node()
        rclpy.shutdown(context=self.context)
        stalls = [f"{stall:.2f} s" for stall in self.stalls]
        stalls += [words for _, words in self.person.record.guard if words.startswith(OUTSIDE)]
        if stalls and isinstance(error, AssertionError):
            raise StalledError(f"the machine stood still: {', '.join(stalls)}") from error

    def start(self, name: str) -> None:
        launcher = Launcher([self.specs[name]], on_line=lambda who, text: self.lines.append(f"{who}: {text}"))
        launcher.start()
        self.launchers[name] = launcher

    def pid(self, name: str) -> int:
        return self.launchers[name].pids()[name]

    def spin(self) -> None:
        for launcher in self.launchers.values():
            launcher.poll(0.0)
        self.executor.spin_once(timeout_sec=0.01)
        now = time.monotonic()
        if now - self._spun > STALL:
            self.stalls.append(now - self._spun)
        self._spun = now

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
        """Spin until it is so; fails with what the nodes said."""
        self._spun = time.monotonic()
        give_up = self._spun + patience
        while not condition():
            assert time.monotonic() < give_up, (
                f"{what}: not within {patience} s; {self.person.guard_state}\n" + "\n".join(self.lines[-20:])
            )
            self.spin()

    def during(self, seconds: float, holds: Callable[[], bool], what: str) -> None:
        """Spin for a while in which something must stay so."""
        self._spun = time.monotonic()
        end = self._spun + seconds
        while time.monotonic() < end:
            self.spin()
            assert holds(), f"{what}; {self.person.guard_state}"

    def ask(self, service: str) -> Trigger.Response:
        client = self.person.asks[service]
        self.until(client.service_is_ready, f"{service} offered")
        answer = client.call_async(Trigger.Request())
        self.until(answer.done, f"{service} answered")
        result = answer.result()
        assert result is not None
        return result

    def armed(self) -> Stack:
        """Armed, as soon as nothing speaks against it."""
        give_up = time.monotonic() + PATIENCE
        self.until(lambda: self.person.state in ("READY", "HOLD") and self.person.record.q, "guard ready")
        while not (answer := self.ask("arm")).success:
            assert time.monotonic() < give_up, answer.message
            self.spin()
        self.until(lambda: self.person.state == "ACTIVE", "active")
        return self

    def clean(self) -> None:
        """Nothing was violated on the command topic so far."""
        self.person.judge.finish()
        assert self.person.violations() == {}, self.person.judge.examples
        assert self.person.judge.nonfinite == 0
        assert self.person.judge.commands > 0
