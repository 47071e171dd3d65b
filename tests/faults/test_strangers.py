"""Real processes, real DDS: others on the arm's topics, two guards for one arm, a sink that is not what it seems."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from robot_stack import HARDWARE, JOINTS, SINKS, RobotStack, rehearsal
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_control import registry
from mbrl_control.runtime.safety import GuardConfig

CI_RIVAL = 0.5
"""From the discovery of somebody else's publisher to the end of motion [s]."""
DISCOVERY = 3.0
"""What DDS may take for that where a datagram of it was lost [s]; mostly it is 0.05 s."""
DELIVERY = 0.25
"""What a loaded machine may take to bring word of it to this process [s]."""
COMMANDS = SINKS["joint_trajectory"]["command_topic"]
STATES = HARDWARE["state_topic"]
COMMANDER = """
import sys, rclpy
from trajectory_msgs.msg import JointTrajectory
rclpy.init()
node = rclpy.create_node("stranger")
publisher = node.create_publisher(JointTrajectory, sys.argv[1], 10)
print("here", flush=True)
sys.stdin.read()
node.destroy_node()
rclpy.shutdown()
"""
DRIVER = """
import select, sys, rclpy
from sensor_msgs.msg import JointState
rclpy.init()
node = rclpy.create_node("stranger")
publisher = node.create_publisher(JointState, sys.argv[1], 10)
names = sys.argv[2:]
print("here", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    message = JointState(name=names, position=[0.0] * len(names), velocity=[0.0] * len(names))
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
node.destroy_node()
rclpy.shutdown()
"""
UNSEEN = """
import socket, sys
from mbrl_control.nodes import controller
controller.claim = lambda domain, topic: socket.socket()  # another machine's claims are not seen here
sys.exit(controller.main())
"""


@contextlib.contextmanager
def stranger(stack: RobotStack, code: str, *words: str) -> Iterator[float]:
    """A process of somebody else's; when it was there, on the observer's clock. It ends well afterwards."""
    command = [sys.executable, "-c", code, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = process.stdout
    assert said is not None
    try:
        stack.until(lambda: select.select([said], [], [], 0.0)[0], "the stranger there")
        at = stack.person.now()
        assert said.readline() == "here\n"
        yield at
        process.communicate("", timeout=10.0)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def refused(stack: RobotStack, says: str, service: str = "arm") -> bool:
    answer = stack.ask(service)
    return not answer.success and says in answer.message


@pytest.mark.parametrize(
    ("code", "words", "who", "says"),
    [
        (COMMANDER, (COMMANDS,), "/stranger", f" can command the arm on {COMMANDS} besides this guard (one that was"),
        (DRIVER, (STATES, *JOINTS), "2 nodes", " publish the joint states of this arm"),
    ],
    ids=["commands", "states"],
)
def test_a_stranger_ends_motion_and_no_arming_while_it_is_there(
    domain: int, tmp_path: Path, code: str, words: tuple[str, ...], who: str, says: str
) -> None:
    with RobotStack(domain, rehearsal(tmp_path, "joint_trajectory")) as stack:
        stack.armed()
        person = stack.person
        person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: np.abs(person.record.v_ref[-1]).max() > 0.2, "the arm moves")
        with stranger(stack, code, *words) as at:
            stack.until(lambda: person.said_since(at, says), "stopping")
            assert person.said_since(at, says) - at < DISCOVERY + CI_RIVAL + DELIVERY
            stack.until(lambda: person.state == "FAULT", "fault")
            stack.until(lambda: not person.record.v_ref[-1].any(), "the reference at rest")
            assert stack.ask("reset").success
            stack.until(lambda: person.state == "READY", "ready")
            stack.until(lambda: refused(stack, who + says), "refused for the stranger")  # discovery names it by then
        stack.armed()
        person.judge.finish()
        assert person.judge.violations == {}, person.judge.examples


def test_a_second_guard_does_not_start_and_the_next_one_does_at_once(domain: int, tmp_path: Path) -> None:
    with RobotStack(domain, rehearsal(tmp_path, "joint_trajectory")) as stack:
        stack.specs |= {name: replace(stack.specs["controller"], name=name) for name in ("second", "third")}
        stack.armed()
        stack.start("second")
        stack.until(lambda: not stack.launchers["second"].alive, "the second one gone")
        assert [end.status for end in stack.launchers["second"].exits] == [2]
        [said] = [line for line in stack.lines if line.startswith("second: ")]
        holder = f"is commanded by another guard on this machine (process {stack.pid('controller')}); stop that one"
        assert f"{COMMANDS} in ROS domain {domain} {holder}" in said
        assert stack.person.state == "ACTIVE", "the first one is not disturbed"
        stack.clean()
        at = stack.person.now()
        os.kill(stack.pid("controller"), signal.SIGKILL)
        stack.start("third")
        stack.until(lambda: stack.person.said_since(at, "READY"), "ready again")
        stack.armed()


def test_two_guards_that_cannot_see_each_others_claims_arm_neither(domain: int, tmp_path: Path) -> None:
    stack = RobotStack(domain, rehearsal(tmp_path, "joint_trajectory"))
    guard = stack.specs["controller"]
    flags = ["__node:=second" if word == "__node:=controller" else word for word in guard.argv[3:]]
    stack.specs["second"] = replace(guard, name="second", argv=(sys.executable, "-c", UNSEEN, *flags))
    stack.only = ("controller", "second")
    with stack:
        stack.person.asks["second"] = stack.person.create_client(Trigger, "second/arm")
        for service, rival in (("arm", "/second"), ("second", "/controller")):
            says = f"refused: {rival} can command the arm on {COMMANDS} besides this guard"
            stack.until(lambda s=service, w=says: refused(stack, w, s), f"{service} refused for {rival}")


class Controller(Node):
    """The driver's controller that is the sink, as far as its parameters tell."""

    def __init__(self, stack: RobotStack, topic: str) -> None:
        namespace, _, name = topic.rpartition("/")[0].rpartition("/")
        super().__init__(name, namespace=namespace, context=stack.context)
        self.declare_parameter("joints", list(JOINTS))
        self.declare_parameter("interface_name", "velocity")
        stack.executor.add_node(self)


def test_a_sink_that_is_not_there_or_not_what_it_seems_is_not_armed(domain: int, tmp_path: Path) -> None:
    topic = SINKS["position"]["command_topic"]
    stack = RobotStack(domain, rehearsal(tmp_path, "position"))
    stack.robot = registry.make("robots", "panda")  # whoever watches the sink's topic would be a listener
    stack.only = ("controller",)
    nobody = f"nobody listens on {topic}: is the sink's controller loaded"
    with stack:
        stack.until(lambda: refused(stack, nobody), "nobody there")
        controller = Controller(stack, topic)
        wrong = controller.create_subscription(JointTrajectory, topic, lambda _: None, 1)
        takes = "takes trajectory_msgs/msg/JointTrajectory on"
        stack.until(lambda: refused(stack, f"{takes} {topic}, not std_msgs/msg/Float64MultiArray"), "the wrong type")
        assert refused(stack, nobody)
        controller.destroy_subscription(wrong)
        controller.create_subscription(Float64MultiArray, topic, lambda _: None, 1)
        stack.until(lambda: not refused(stack, nobody), "somebody there")
        stack.until(lambda: refused(stack, "they must be the same"), "the wrong order")
        assert refused(stack, "its interface_name is 'velocity'; wiring.sink is 'position'")
        mended = {"joints": list(reversed(JOINTS)), "interface_name": "position"}
        controller.set_parameters([Parameter(name, value=value) for name, value in mended.items()])
        said = stack.person.record.diagnostics
        stack.until(lambda: said.get("controller", {}).get("sink_parameters") == "as needed", "the sink as needed")
        assert refused(stack, "no fresh joint state"), "there is no driver"
        assert not refused(stack, topic), "and nothing more to say of the sink"
        stack.executor.remove_node(controller)
        controller.destroy_node()


def test_an_inactive_sink_is_found_out_by_the_arm_that_does_not_follow(domain: int, tmp_path: Path) -> None:
    """It listens as an active one does; so does the observer of this test, while the driver takes no commands."""
    deaf = "-p wiring.command_topic:=/elsewhere/joint_trajectory"
    with RobotStack(domain, rehearsal(tmp_path, "joint_trajectory"), driver=deaf) as stack:
        stack.armed()
        person = stack.person
        person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: person.said_since(0.0, "rad from its reference"), "hold")
        when = person.said_since(0.0, "rad from its reference")
        away = np.abs(np.array(person.record.q_ref) - person.record.q[0]).max(axis=1) > GuardConfig().tracking_bound
        assert away.any()
        off = person.record.command_t[int(away.argmax())]
        assert when - off < GuardConfig().tracking_time + DELIVERY
        np.testing.assert_allclose(person.record.q[-1], person.record.q[0], atol=1e-3)
        stack.until(lambda: not person.record.v_ref[-1].any(), "the reference at rest")
        stack.clean()
        assert refused(stack, "rad from where it was left, at most 0.1 to arm")
