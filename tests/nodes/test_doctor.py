"""The doctor beside a robot that runs: the real simulation, the real guard, and somebody who should not be there."""

from dataclasses import asdict

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from stack import Stack
from trajectory_msgs.msg import JointTrajectory

from mbrl_control.examination import QUICK, Examination, connected
from mbrl_control.probes import ask
from mbrl_control.runtime.doctor import DoctorConfig

TOPIC = "/panda_arm_controller/joint_trajectory"
JOINTS = [f"panda_joint{i}" for i in range(1, 8)]


@pytest.fixture
def looked(domain):
    """What ``mbrl doctor --live`` says of the robot in this domain, by name of the check."""

    def look():
        examination = Examination(DoctorConfig(), QUICK)
        checks = examination.robot(*connected(examination.options))
        assert "failure" not in examination.facts["robot"]
        return {check.name: asdict(check) for check in checks}

    return look


def test_an_empty_domain_says_what_is_missing(looked):
    found = looked()
    assert found["/joint_states"]["verdict"] == found["sink"]["verdict"] == "fail"
    assert "nobody publishes it" in found["/joint_states"]["found"]
    assert "nobody listens" in found["sink"]["found"]


def test_a_running_robot_is_recognised_and_an_intruder_too(domain, looked):
    shuffled = {"sim": "-p shuffle_joint_order:=true"}
    with Stack(domain, only=("sim", "controller"), extra=shuffled) as stack:
        stack.until(lambda: stack.person.state == "READY" and stack.person.record.q, "guard ready")
        found = looked()
        assert "from /sim" in found["/joint_states"]["found"]
        assert found["joint names"]["verdict"] == "ok"
        assert "order" in found["joint names"]["found"]
        assert found["joint states used"]["verdict"] == "ok"
        assert found["stamps"]["verdict"] == "ok"
        assert found["publishers of /joint_states"]["verdict"] == "ok"
        assert found[f"publishers of {TOPIC}"]["found"] == "the guard alone"
        assert f"/sim listens to {TOPIC}" in found["sink"]["found"]
        assert found["sink's parameters"]["verdict"] == "info"

        intruder = rclpy.create_node("intruder", context=stack.context)
        intruder.create_publisher(JointTrajectory, TOPIC, 10)
        found = looked()[f"publishers of {TOPIC}"]
        assert found["verdict"] == "fail"
        assert "a second publisher, /intruder: refuse to arm" in found["found"]
        intruder.destroy_node()


@pytest.mark.parametrize(("interpolate", "verdict"), [(True, "ok"), (False, "fail")])
def test_the_sinks_parameters_are_read(domain, looked, interpolate, verdict):
    import threading

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    sink = rclpy.create_node("panda_arm_controller", context=context)
    sink.declare_parameter("joints", JOINTS[::-1])
    sink.declare_parameter("interpolate_from_desired_state", interpolate)
    sink.declare_parameter("open_loop_control", False)
    sink.create_subscription(JointTrajectory, TOPIC, lambda _: None, 10)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(sink)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    try:
        found = looked()["sink's parameters"]
    finally:
        executor.shutdown()
        spinning.join(5.0)
        sink.destroy_node()
        rclpy.shutdown(context=context)
    assert found["verdict"] == verdict
    assert "interpolate_from_desired_state" in found["found"]


def test_a_round_trip_is_one_between_two_processes(domain):
    found = ask("mbrl_control.nodes.doctor", {"what": "round_trip", "seconds": 0.3}, 60.0)
    assert found["sent"] == 30
    assert 0 < found["heard"] <= 30
    assert 0.0 < found["p50"] <= found["p99"] <= found["worst"]
    assert found["rmw"].startswith("rmw_")
