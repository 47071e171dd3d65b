"""A parameter of the robot, given once for all nodes, reaches each of them."""

import os
import subprocess
import sys

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.node import Node  # noqa: E402

from mbrl_control.config import ConfigError  # noqa: E402
from mbrl_control.nodes.params import declare_part, refuse_unknown  # noqa: E402

MODULES = {
    "sim": "mbrl_sim.node",
    "controller": "mbrl_control.nodes.controller",
    "planner": "mbrl_control.nodes.planner",
}


def file_of(folder, parameter):
    path = folder / "robot.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    {parameter}\n")
    return ["--ros-args", "--params-file", str(path)]


@pytest.fixture
def node(tmp_path, request):
    """A node with one parameter from a file."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=19)
    made = Node("any", context=context, cli_args=file_of(tmp_path, request.param))
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("node", ["panda.payload: 1.0"], indirect=True)
def test_a_part_is_declared_under_its_name(node):
    entry, config = declare_part(node, "robots", "mbrl_control.robots.panda")
    refuse_unknown(node)
    robot = entry.make(config)
    assert (robot.config.payload, robot.config.tool_mass) == (1.0, 0.73)
    assert node.describe_parameter("panda.payload").floating_point_range[0].to_value == 3.0


@pytest.mark.parametrize("node", ["panda.payloda: 1.0"], indirect=True)
def test_what_the_part_does_not_declare_is_refused(node):
    declare_part(node, "robots", "panda")
    with pytest.raises(ConfigError, match=r"any\.panda\.payloda: no such parameter; did you mean 'panda\.payload'"):
        refuse_unknown(node)


@pytest.mark.parametrize("name", MODULES)
def test_every_node_reads_it(name, tmp_path):
    env = {**os.environ, "ROS_DOMAIN_ID": "19", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", MODULES[name], *file_of(tmp_path, "panda.payload: 9.0")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2, done.stderr
    assert f"{name}: panda.payload = 9.0: it takes a number from 0 to 3 [kg]" in done.stderr
