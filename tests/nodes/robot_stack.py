"""The stack of robot.launch.yaml for a test, in front of a driver that is the simulation under another name."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from stack import Stack

from mbrl_control import config
from mbrl_control.paths import share
from mbrl_control.runtime.launch import expand
from mbrl_control.runtime.processes import ProcessSpec
from mbrl_control.wiring import PREFIX, Wiring, wired

JOINTS = tuple(f"left_arm_j{i}" for i in range(1, 8))
"""What the driver of these tests calls the Panda's joints."""
ORDER = tuple(JOINTS[i] for i in (5, 2, 0, 6, 4, 1, 3))
"""The order in which it publishes them."""
HARDWARE: dict[str, Any] = {"joints": list(JOINTS), "state_topic": "/hardware/left/joint_states"}
SINKS: dict[str, dict[str, Any]] = {
    "joint_trajectory": {"command_topic": "/hardware/left/arm_controller/joint_trajectory"},
    "position": {
        "sink": "position",
        "command_topic": "/hardware/left/position_controller/commands",
        "command_joints": list(reversed(JOINTS)),
    },
    "velocity": {
        "sink": "velocity",
        "command_topic": "/hardware/left/velocity_controller/commands",
        "command_joints": [*JOINTS[3:], *JOINTS[:3]],
        "allow_unguarded_sink": True,
    },
}


def wiring(folder: Path, **values: Any) -> Path:
    """A parameter file that says how the arm is connected."""
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": {PREFIX: values}}}), encoding="utf-8")
    return path


def rehearsal(folder: Path, sink: str, **more: Any) -> Path:
    """The same for the driver of these tests, with one kind of sink."""
    return wiring(folder, **{**HARDWARE, **SINKS[sink], **more})


class RobotStack(Stack):
    """Guard and planner as robot.launch.yaml starts them, and the driver, each by its name."""

    def __init__(
        self,
        domain: int,
        params: Path,
        namespace: str | None = None,
        driver: str = "",
        speed: str | None = "1.0",
        **arguments: str,
    ) -> None:
        """``driver``: more of its flags; ``speed``: None is the launch file's own."""
        given = {"robot": "panda", "viewer": "false", "params": str(params), **arguments}
        if speed is not None:
            given["speed"] = speed
        super().__init__(domain, robot=given["robot"])
        [rule] = yaml.safe_load(params.read_text(encoding="utf-8")).values()
        self.robot = wired(self.robot, config.build(Wiring, rule["ros__parameters"][PREFIX]))
        environ = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        if namespace is not None:
            given["namespace"] = self.namespace = namespace
        specs = expand(share() / "launch" / "robot.launch.yaml", given, environ=environ)
        self.specs = {spec.name: replace(spec, essential=False) for spec in specs}
        flags = ("-r", "__node:=driver", "--params-file", str(params), "-p", f"robot:={given['robot']}")
        argv = (sys.executable, "-m", "mbrl_sim.node", "--ros-args", *flags, *driver.split())
        self.specs["driver"] = ProcessSpec("driver", argv, self.specs["controller"].env)
        guard = self.specs["controller"]
        self.specs["controller"] = replace(guard, argv=(*guard.argv, "-p", "state_timeout:=0.5"))
        self.only = ("driver", "controller", "planner")
