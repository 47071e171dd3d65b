"""Another driver is another wiring of the same robot; what cannot be connected is told in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.core import Sink
from mbrl_control.wiring import Wiring, WiringError, guarded, mismatches, sink_order, wired

ROBOT = registry.make("robots", "panda")
JOINTS = tuple(f"left_{name}" for name in ROBOT.joints)
POSITION = Wiring(joints=JOINTS, sink="position", command_topic="fcc/commands", command_joints=JOINTS[::-1])


def test_nothing_said_is_nothing_changed() -> None:
    same = wired(ROBOT, Wiring())
    assert (same.driver_joints, same.sink, same.state_topic) == (ROBOT.joints, ROBOT.sink, ROBOT.state_topic)


def test_the_driver_has_names_of_its_own_and_the_model_keeps_its_own() -> None:
    robot = wired(ROBOT, replace(POSITION, state_topic="/left/joint_states"))
    assert robot.driver_joints == JOINTS
    assert robot.joints == ROBOT.joints
    assert robot.state_topic == "/left/joint_states"
    assert robot.sink == Sink("fcc/commands", "position", JOINTS[::-1])
    assert wired(robot, Wiring()) == robot
    assert robot.at_speed(0.5).driver_joints == JOINTS


def test_numbers_go_out_in_the_order_of_the_sink() -> None:
    robot = wired(ROBOT, POSITION)
    np.testing.assert_array_equal(np.arange(7)[sink_order(robot)], np.arange(7)[::-1])
    assert sink_order(ROBOT) == list(range(7))


@pytest.mark.parametrize(
    ("wiring", "says"),
    [
        (Wiring(joints=JOINTS[:6]), "another name for each of panda's 7 joints"),
        (Wiring(joints=(*JOINTS[:6], JOINTS[0])), "another name for each of panda's 7 joints"),
        (Wiring(sink="position"), "it takes wiring.command_topic as well"),
        (replace(POSITION, command_joints=JOINTS[:6]), "it takes these, in any order"),
        (replace(POSITION, command_joints=ROBOT.joints), "it takes these, in any order"),
        (Wiring(command_topic="a b"), "it takes a topic"),
        (Wiring(state_topic="a//b"), "it takes a topic"),
    ],
)
def test_what_cannot_be_connected_is_told(wiring: Wiring, says: str) -> None:
    with pytest.raises(WiringError, match=says):
        wired(ROBOT, wiring)


@pytest.mark.parametrize("kind", ["velocity", "effort"])
def test_the_guard_refuses_a_sink_that_nothing_stops(kind: str) -> None:
    wiring = Wiring(sink=kind, command_topic="fcc/commands")
    accepted = "it takes joint_trajectory, position, or velocity with wiring.allow_unguarded_sink: true"
    with pytest.raises(WiringError, match=accepted):
        guarded(ROBOT, wiring)
    assert wired(ROBOT, wiring).sink.kind == kind, "simulation and planner do not mind"


def test_velocities_may_be_opted_for_efforts_not() -> None:
    wiring = Wiring(sink="velocity", command_topic="fcc/commands", allow_unguarded_sink=True)
    assert guarded(ROBOT, wiring).sink.kind == "velocity"
    with pytest.raises(WiringError, match="no torques"):
        guarded(ROBOT, replace(wiring, sink="effort"))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"joints": ROBOT.joints[::-1], "interpolate_from_desired_state": True}, []),
        ({"joints": ROBOT.joints, "interpolate_from_desired_state": False, "open_loop_control": True}, []),
        ({"joints": ROBOT.joints, "interpolate_from_desired_state": None, "open_loop_control": None}, []),
        (
            {"joints": ROBOT.joints, "interpolate_from_desired_state": False},
            ["interpolate_from_desired_state is false"],
        ),
        ({"joints": ROBOT.joints[:6], "interpolate_from_desired_state": True}, ["its joints are"]),
        ({}, ["its joints are"]),
    ],
)
def test_a_trajectory_controller_has_our_joints_and_starts_from_what_it_wanted(found: dict, says: list[str]) -> None:
    wrong = mismatches(ROBOT, found)
    assert len(wrong) == len(says)
    assert all(text in one for text, one in zip(says, wrong, strict=True))


def test_a_forward_controller_has_our_joints_in_our_order() -> None:
    robot = wired(ROBOT, POSITION)
    assert mismatches(robot, {"joints": JOINTS[::-1], "interface_name": "position"}) == []
    assert mismatches(robot, {"joints": JOINTS[::-1], "interface_name": None}) == []
    [order] = mismatches(robot, {"joints": JOINTS, "interface_name": "position"})
    assert "they must be the same" in order
    [interface] = mismatches(robot, {"joints": JOINTS[::-1], "interface_name": "velocity"})
    assert "its interface_name is 'velocity'" in interface


def test_torques_go_to_a_simulation_that_says_so_and_nowhere_else() -> None:
    pendulum = registry.make("robots", "pendulum")
    with pytest.raises(
        WiringError, match=r"nothing stops robot .pendulum.; it takes wiring\.allow_unguarded_sink: true"
    ):
        guarded(pendulum, Wiring())
    assert guarded(pendulum, Wiring(allow_unguarded_sink=True)).sink.kind == "effort"
    position = Wiring(sink="position", command_topic="fcc/commands", allow_unguarded_sink=True)
    with pytest.raises(WiringError, match="robot 'pendulum' is commanded by torques; it takes effort"):
        guarded(pendulum, position)
