"""A rehearsal of the stack on a real arm: a driver with names, an order, topics and sinks of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import ReliabilityPolicy
from robot_stack import HARDWARE, ORDER, RobotStack, rehearsal, wiring

GOAL = np.array([0.45, 0.2, 0.45])
DRIVER = f"-p joint_order:=[{','.join(ORDER)}]"
BEST_EFFORT = f"-p qos_overrides.{HARDWARE['state_topic']}.publisher.reliability:=best_effort"


def reaches(stack: RobotStack, goal: np.ndarray) -> None:
    stack.person.goal(*goal)
    tip = stack.person.robot.tip
    stack.until(lambda: np.linalg.norm(tip(np, stack.person.record.q[-1]) - goal) < 0.01, "the goal reached")


def stops_exactly(stack: RobotStack) -> None:
    """Stopped in motion, the last thing that was said is where the reference came to rest."""
    person = stack.person
    person.goal(0.45, -0.25, 0.6)
    stack.until(lambda: np.abs(person.record.v_ref[-1]).max() > 0.4, "the arm moves")
    assert stack.ask("stop").success
    stack.until(lambda: person.state == "FAULT", "fault")
    stack.until(lambda: not person.record.v_ref[-1].any(), "the reference at rest")
    rest = person.record.q_ref[-1]
    stack.until(lambda: np.abs(person.record.q[-1] - rest).max() < 0.01, "the arm where the reference is")
    stack.clean()


def reliability(stack: RobotStack) -> ReliabilityPolicy:
    """How the driver offers its joint states."""
    [info] = stack.person.get_publishers_info_by_topic(HARDWARE["state_topic"])
    return info.qos_profile.reliability


def test_a_joint_trajectory_sink_in_a_namespace(domain: int, tmp_path: Path) -> None:
    params = rehearsal(tmp_path, "joint_trajectory")
    with RobotStack(domain, params, namespace="/left", driver=DRIVER) as stack:
        stack.armed()
        assert reliability(stack) is ReliabilityPolicy.RELIABLE
        reaches(stack, GOAL)
        assert stack.person.record.publishers == 1
        stops_exactly(stack)


def test_a_position_sink_holds_exactly_where_the_reference_came_to_rest(domain: int, tmp_path: Path) -> None:
    driver = f"{DRIVER} {BEST_EFFORT}"
    with RobotStack(domain, rehearsal(tmp_path, "position"), driver=driver) as stack:
        stack.armed()
        assert reliability(stack) is ReliabilityPolicy.BEST_EFFORT
        reaches(stack, GOAL)
        stops_exactly(stack)
        judge = stack.person.judge
        np.testing.assert_array_equal(judge._run[-1], stack.person.record.q_ref[-1])
        fastest = np.abs(stack.person.record.v_ref).max(axis=0) / stack.person.robot.limits.velocity
        assert judge.worst["v"] == pytest.approx(fastest.max(), rel=0.1), "the samples move as the reference does"


def test_a_velocity_sink_that_was_opted_for(domain: int, tmp_path: Path) -> None:
    with RobotStack(domain, rehearsal(tmp_path, "velocity"), driver=DRIVER) as stack:
        stack.armed()
        reaches(stack, GOAL)
        stops_exactly(stack)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sink": "velocity", "command_topic": "arm/commands"}, "nothing stops the arm; it takes joint_trajectory, "),
        ({"sink": "effort", "command_topic": "arm/commands"}, "it takes joint_trajectory, position, or velocity with"),
        ({"joints": ["a", "b"]}, "wiring.joints = [a, b]: it takes another name for each of panda's 7 joints"),
        ({"sink": "position"}, "wiring.sink = 'position': it takes wiring.command_topic as well"),
        ({"sink": "torque"}, "wiring.sink = 'torque': it takes one of nothing, joint_trajectory, position, "),
        ({"state_topic": "no topic"}, "wiring.state_topic = 'no topic': it takes a topic, as arm/state_topic or "),
    ],
)
def test_a_wiring_that_cannot_be_ends_the_launch_with_one_line(
    domain: int, tmp_path: Path, values: dict[str, object], says: str
) -> None:
    params = wiring(tmp_path, **values)
    command = [sys.executable, "-m", "mbrl_control.cli", "launch", "robot", "--own", "viewer:=false"]
    done = subprocess.run([*command, f"params:={params}"], capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    said = [line for line in lines if line.startswith("[controller] ") and "pid" not in line]
    assert done.returncode == 2, lines
    assert len(said) == 1, said
    assert said[0].startswith("[controller] controller: ")
    assert says in said[0]
