"""What docs/robot.md and launch/ show for a real arm is what the guard takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from robot_stack import RobotStack
from shown import FENCE, ROOT

from mbrl_control import registry
from mbrl_control.config import build
from mbrl_control.nodes.sinks import MESSAGES
from mbrl_control.runtime.launch import expand
from mbrl_control.runtime.processes import ParameterFile
from mbrl_control.runtime.safety import LEAST_RATE, LIMIT_SHARE, Guard, GuardConfig
from mbrl_control.wiring import Wiring, mismatches, wired

PAGE = ROOT / "docs" / "robot.md"
BLOCKS = {name: text for language, name, text in FENCE.findall(PAGE.read_text(encoding="utf-8")) if language == "yaml"}
TYPES = {
    "joint_trajectory": "joint_trajectory_controller/JointTrajectoryController",
    "position": "forward_command_controller/ForwardCommandController",
    "velocity": "forward_command_controller/ForwardCommandController",
}
"""What ros2_control calls the controller that is a sink."""
ARMS = ("panda", "ur5e")
SLOW = 0.2
"""The share of the velocity limits that a real arm gets unless somebody says otherwise."""


def test_the_page_has_wiring_to_try() -> None:
    assert set(BLOCKS) == {"cell.yaml"}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_wiring_of_the_page_arms_a_slow_arm(name: str, domain: int, tmp_path: Path) -> None:
    """As it stands there, at the speed of the launch file, and with the figures that the page speaks of."""
    file = tmp_path / name
    file.write_text(BLOCKS[name], encoding="utf-8")
    shown = yaml.safe_load(BLOCKS[name])["/**"]["ros__parameters"]["wiring"]
    with RobotStack(domain, file, speed=None) as stack:
        person = stack.armed().person
        assert list(stack.robot.driver_joints) == shown["joints"]
        drivers = person.get_publishers_info_by_topic(shown["state_topic"])
        guards = person.get_publishers_info_by_topic(shown["command_topic"])
        assert [info.node_name for info in (*drivers, *guards)] == ["driver", "controller"]
        said = person.record.diagnostics
        figures = {"state_rate_hz", "sink_parameters", "in_the_way"}
        stack.until(lambda: figures <= set(said.get("controller", ())), "the figures")
        person.goal(0.45, -0.4, 0.6)
        moved = lambda: np.abs(person.record.q_ref[-1] - person.record.q[0]).max()  # noqa: E731
        stack.until(lambda: moved() > 0.3, "well under way")
        fastest = np.abs(person.record.v_ref).max(axis=0) / person.robot.limits.velocity
        assert fastest.max() <= SLOW
        stack.clean()


def test_the_launch_of_a_real_arm_is_slow_unless_it_is_told_otherwise() -> None:
    robot = registry.make("robots", "panda")
    for given, speed in (({}, SLOW), ({"speed": "0.7"}, 0.7)):
        specs = expand(ROOT / "launch" / "robot.launch.yaml", given)
        texts = {spec.name: [word.text for word in spec.argv if isinstance(word, ParameterFile)] for spec in specs}
        rules = {name: [*map(yaml.safe_load, found)] for name, found in texts.items()}
        values = {
            name: {key: value for rule in found for key, value in rule[f"/{name}"]["ros__parameters"].items()}
            for name, found in rules.items()
        }
        assert values["planner"]["speed"] == values["controller"]["speed"] == speed
        config = build(GuardConfig, {"speed": values["controller"]["speed"]})
        guard = Guard(config, robot.joints, robot.limits, 0.1)
        np.testing.assert_allclose(guard.limits.velocity, LIMIT_SHARE * speed * robot.limits.velocity)


def sections(robot: str) -> dict[str, dict[str, Any]]:
    """The parameters of each node in the arm's controllers file."""
    text = (ROOT / "launch" / "controllers" / f"{robot}_controllers.yaml").read_text(encoding="utf-8")
    return {name: rule["ros__parameters"] for name, rule in yaml.safe_load(text).items()}


def test_every_arm_has_a_file_of_controllers() -> None:
    files = (ROOT / "launch" / "controllers").iterdir()
    assert sorted(file.name for file in files) == [f"{robot}_controllers.yaml" for robot in ARMS]


@pytest.mark.parametrize("name", ARMS)
def test_the_controllers_of_an_arm_are_what_the_guard_checks_for(name: str) -> None:
    robot, found = registry.make("robots", name), sections(name)
    manager = found.pop("controller_manager", {})
    assert robot.sink.topic.removesuffix("/joint_trajectory") in found, "the sink of the robot's file"
    for controller, has in found.items():
        kind = has.get("interface_name", "joint_trajectory")
        topic = f"{controller}/{'commands' if 'interface_name' in has else 'joint_trajectory'}"
        connected = wired(robot, Wiring(sink=kind, command_topic=topic))
        assert kind in MESSAGES
        assert mismatches(connected, has) == []
        assert set(has["joints"]) == set(robot.joints)
        if kind == "joint_trajectory":
            assert has["interpolate_from_desired_state"] is True
            assert has["allow_nonzero_velocity_at_trajectory_end"] is False
        if manager:
            assert manager[controller]["type"] == TYPES[kind]
    if manager:
        assert manager["joint_state_broadcaster"]["type"] == "joint_state_broadcaster/JointStateBroadcaster"
        assert set(manager) == {"update_rate", "joint_state_broadcaster", *found}, "loaded and described"
        assert manager["update_rate"] >= max(robot.state_rate, LEAST_RATE)
