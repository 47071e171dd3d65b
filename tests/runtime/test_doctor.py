"""The doctor's verdicts on given facts: pure functions, no machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.nodes import planner as planner_node
from mbrl_control.runtime.doctor import (
    Check,
    DoctorConfig,
    Verdict,
    machine,
    models,
    planning,
    realtime,
    robot,
    ros,
    software,
    summarise,
    urgent,
)

OK, INFO, WARN, FAIL = Verdict
JOINTS = ("a", "b", "c")


# --- the summary -------------------------------------------------------------------------------------


def test_a_failure_is_status_1_and_is_changed_first():
    checks = [Check("x", WARN, "", "do x"), Check("y", OK, ""), Check("z", FAIL, "", "do z"), Check("i", INFO, "", "i")]
    summary = summarise("B", checks)
    assert (summary.status, summary.failures, summary.warnings, summary.first) == (1, 1, 1, "z")
    assert str(summary) == "promise class B · 1 failure, 1 warning · change first: z"
    assert [check.name for check in urgent(checks)] == ["z", "x", "i"]


def test_warnings_alone_are_status_0():
    assert summarise("A", [Check("x", WARN, "", "do x")]).status == 0
    assert str(summarise("A", [])) == "promise class A · no failures, no warnings · nothing to change"


def test_the_defaults_are_those_of_the_planner_node():
    assert DoctorConfig().plan_rate == planner_node.NodeConfig().rate
    assert DoctorConfig().duty == planner_node.NodeConfig().duty


# --- Python and packages -----------------------------------------------------------------------------

SOFTWARE = software.Software(
    python=(3, 12, 1),
    system="Linux",
    machine="x86_64",
    requirements=(
        "numpy>=2.2",
        "onnx>=1.21",
        'onnxruntime-gpu>=1.24; platform_machine == "x86_64"',
        'ros-rclpy<10,>=9.1; extra == "ros"',
        'ros-rmw-fastrtps-cpp<10,>=9.3; extra == "ros"',
        'mujoco<5,>=3.10; extra == "sim"',
    ),
    versions={
        "numpy": "2.4.6", "onnx": "1.23.2", "onnxruntime-gpu": "1.31", "ros-rclpy": "9.1.2",
        "ros-rmw-fastrtps-cpp": "9.3.3", "mujoco": "4",
    },
)  # fmt: skip


def verdicts(checks):
    return {check.name: check.verdict for check in checks}


def without(name):
    return replace(SOFTWARE, versions={k: v for k, v in SOFTWARE.versions.items() if k != name})


def test_everything_there_is_ok():
    assert set(verdicts(software.checks(SOFTWARE)).values()) == {OK}


@pytest.mark.parametrize(
    ("facts", "name", "verdict"),
    [
        (replace(SOFTWARE, python=(3, 10, 9)), "python", FAIL),
        (replace(SOFTWARE, python=(3, 14, 0)), "python", FAIL),
        (replace(SOFTWARE, free_threaded=True), "python", FAIL),
        (replace(SOFTWARE, system="Darwin"), "platform", FAIL),
        (replace(SOFTWARE, machine="aarch64"), "platform", WARN),
        (without("numpy"), "packages", FAIL),
        (without("onnxruntime-gpu"), "packages", WARN),
        (without("onnx"), "packages", WARN),
        (without("ros-rclpy"), "packages [ros]", FAIL),
        (without("mujoco"), "packages [sim]", INFO),
        (replace(SOFTWARE, versions={**SOFTWARE.versions, "mujoco": "3.9.9"}), "packages [sim]", WARN),
        (replace(SOFTWARE, versions={**SOFTWARE.versions, "mujoco": "5.0"}), "packages [sim]", WARN),
        (replace(SOFTWARE, requirements=()), "packages", INFO),
    ],
)
def test_verdicts_on_software(facts, name, verdict):
    assert verdicts(software.checks(facts))[name] is verdict


def test_a_missing_extra_says_what_needs_it_and_how_to_get_it():
    [check] = [c for c in software.checks(without("mujoco")) if c.name == "packages [sim]"]
    assert "mujoco" in check.found
    assert "mbrl demo" in check.found
    assert check.change == "python -m pip install 'mbrl_control[sim]'"


def test_stand_ins_and_a_distributions_ros_count():
    plain = replace(without("onnxruntime-gpu"), versions={**without("onnxruntime-gpu").versions, "onnxruntime": "1.30"})
    assert verdicts(software.checks(plain))["packages"] is OK
    bare = {k: v for k, v in SOFTWARE.versions.items() if not k.startswith("ros-")}
    sourced = replace(SOFTWARE, versions=bare, modules=frozenset({"rclpy"}))
    assert verdicts(software.checks(sourced))["packages [ros]"] is OK


def test_versions_are_compared_as_numbers():
    assert software.inside("1.31.1", (("<", "2"), (">=", "1.24")))
    assert software.inside("1.100", ((">=", "1.24"),))
    assert not software.inside("2.0.0", (("<", "2"),))
    assert not software.inside("1.23.9rc1", ((">=", "1.24"),))
    assert not software.inside("1.0", (("~=", "1.0"),))  # an operator that is not understood is not kept


# --- the machine -------------------------------------------------------------------------------------

MACHINE = machine.Machine(
    cores=4, all_cores=4, load=0.5, governors={"performance": 4}, kernel="6.12", preemption="full",
    clocksource="tsc", synchronised=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({"cores": 1, "all_cores": 4}, "cores", WARN),
        ({"quota": 1.5}, "cores", WARN),
        ({"quota": 2.0}, "cores", OK),
        ({"load": 3.9}, "load", WARN),
        ({"governors": {"powersave": 2, "performance": 2}}, "frequency", WARN),
        ({"governors": {}}, "frequency", INFO),
        ({"preemption": "none", "switchable": True}, "kernel", WARN),
        ({"preemption": "none", "container": True}, "kernel", INFO),
        ({"preemption": ""}, "kernel", INFO),
        ({"preemption": "rt"}, "kernel", OK),
        ({"hypervisor": True}, "host", INFO),
        ({"clocksource": "hpet"}, "clock source", WARN),
        ({"synchronised": False}, "system clock", INFO),
        ({"isolated": "2-3"}, "isolated cores", OK),
    ],
)
def test_verdicts_on_the_machine(change, name, verdict):
    assert verdicts(machine.checks(replace(MACHINE, **change)))[name] is verdict


def put(root, **files):
    for path, text in files.items():
        target = root / path.replace("__", "/").replace("_DOT_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def test_the_tightest_quota_of_the_groups_around_counts(tmp_path):
    put(tmp_path, proc__self__cgroup="0::/a/b\n")
    assert machine.quota(tmp_path) is None
    put(tmp_path, sys__fs__cgroup__a__cpu_DOT_max="150000 100000\n", sys__fs__cgroup__a__b__cpu_DOT_max="max 100000\n")
    assert machine.quota(tmp_path) == 1.5


def test_the_quota_of_old_control_groups(tmp_path):
    put(tmp_path, proc__self__cgroup="4:cpu,cpuacct:/x\n3:memory:/y\n")
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/x").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us").write_text("50000")
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us").write_text("100000")
    assert machine.quota(tmp_path) == 0.5


def test_the_preemption_model_is_found_wherever_it_stands(tmp_path):
    assert machine.preemption(tmp_path, "#1 SMP PREEMPT_RT") == "rt"
    assert machine.preemption(tmp_path, "#1 SMP PREEMPT_DYNAMIC") == ""
    put(tmp_path, proc__sys__kernel__osrelease="6.1")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config-6.1").write_text("CONFIG_PREEMPT_VOLUNTARY=y\n# CONFIG_PREEMPT is not set\n")
    assert machine.preemption(tmp_path, "#1 SMP PREEMPT_DYNAMIC") == "voluntary"
    put(tmp_path, proc__cmdline="quiet preempt=full")
    assert machine.preemption(tmp_path, "#1 SMP PREEMPT_DYNAMIC") == "full"
    put(tmp_path, sys__kernel__debug__sched__preempt="none voluntary full (lazy)")
    assert machine.preemption(tmp_path, "#1 SMP PREEMPT_DYNAMIC") == "lazy"


# --- real time ---------------------------------------------------------------------------------------

GRANTED = realtime.Scheduling(
    fifo=True, locked=True, why="", user="ada", rtprio_limit=98, memlock_limit=None, runtime_us=950_000,
    period_us=1_000_000,
)  # fmt: skip
REFUSED = replace(GRANTED, fifo=False, locked=False, rtprio_limit=0, memlock_limit=2**23)
TICKS = realtime.Ticks(
    rate=100.0, seconds=5.0, loaded=0, ticks=500, missed=0, p50=5e-5, p99=3e-4, p999=8e-4, worst=1e-3, stolen=0.0
)


def test_class_a_takes_both():
    assert GRANTED.promise_class == "A"
    assert replace(GRANTED, locked=False).promise_class == replace(GRANTED, fifo=False).promise_class == "B"
    assert set(verdicts(realtime.checks(GRANTED, [TICKS])).values()) == {OK}


def test_what_is_refused_comes_with_the_lines_that_grant_it():
    found = {check.name: check for check in realtime.checks(REFUSED, [])}
    assert found["SCHED_FIFO"].verdict is found["locked memory"].verdict is WARN
    assert found["SCHED_FIFO"].change.splitlines()[1] == "ada  -  rtprio  98"
    assert found["locked memory"].change.splitlines()[1] == "ada  -  memlock  unlimited"
    inside = {check.name: check for check in realtime.checks(replace(REFUSED, container=True), [])}
    assert "--cap-add sys_nice --ulimit rtprio=98" in inside["SCHED_FIFO"].change
    assert "--ulimit memlock=-1" in inside["locked memory"].change
    group = realtime.fifo(replace(REFUSED, group_runtime_us=0))
    assert "--cpu-rt-runtime" in group.change


@pytest.mark.parametrize(("runtime", "verdict"), [(950_000, OK), (500_000, WARN), (0, FAIL), (-1, INFO), (None, INFO)])
def test_throttling(runtime, verdict):
    assert realtime.throttling(replace(GRANTED, runtime_us=runtime)).verdict is verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, OK),
        ({"p99": 1.1e-3}, WARN),
        ({"p999": 6e-3}, WARN),
        ({"missed": 1}, WARN),
        ({"missed": 6}, FAIL),
        ({"p99": 6e-3}, FAIL),
        ({"ticks": 0}, FAIL),
    ],
)
def test_lateness_is_judged_by_t14(change, verdict):
    assert realtime.lateness(replace(TICKS, **change), GRANTED).verdict is verdict


def test_a_late_tick_is_explained_by_what_is_known():
    late = replace(TICKS, p99=6e-3)
    assert "class A" in realtime.lateness(late, REFUSED).change
    assert "host" in realtime.lateness(replace(late, stolen=0.2), GRANTED).change
    assert "rtprio" in realtime.lateness(late, GRANTED).change


def test_the_stop_is_that_of_the_slowest_joint():
    made = registry.make("robots", "panda")
    check = realtime.stopping(made.joints, made.limits, 100.0)
    slow = replace(made.limits, acceleration=made.limits.acceleration * np.where(np.arange(7) == 4, 0.1, 1.0))
    assert "(panda_joint5)" in realtime.stopping(made.joints, slow, 100.0).found
    assert check.verdict is INFO


# --- ROS ---------------------------------------------------------------------------------------------

ROS = ros.Ros(origin="/site/rclpy", version="9.1.2", wheels="9.1.2", from_wheels=True, shm_bytes=2**30)
TRIP = ros.RoundTrip(rmw="rmw_fastrtps_cpp", discovery=0.1, sent=200, heard=200, p50=5e-4, p99=1e-3, worst=2e-3)


def judged(facts=ROS, trip=TRIP, failure=""):
    return verdicts(ros.checks(facts, trip, failure))


def test_no_ros_is_a_failure_and_nothing_else_is_asked():
    assert judged(ros.Ros(), None) == {"ROS 2": FAIL}


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (ROS, OK),
        (replace(ROS, environ={"ROS_DISTRO": "jazzy"}), WARN),
        (replace(ROS, from_wheels=False, environ={"ROS_DISTRO": "jazzy"}), WARN),
        (replace(ROS, from_wheels=False, wheels="", environ={"ROS_DISTRO": "jazzy"}), OK),
        (replace(ROS, from_wheels=False, wheels="", environ={"ROS_DISTRO": "humble"}), WARN),
    ],
)
def test_one_ros_of_a_kind_that_was_tried(facts, verdict):
    assert judged(facts)["ROS 2"] is verdict


@pytest.mark.parametrize(
    ("trip", "failure", "verdict"),
    [
        (TRIP, "", OK),
        (replace(TRIP, heard=0), "", FAIL),
        (replace(TRIP, heard=190), "", WARN),
        (replace(TRIP, p99=0.02), "", WARN),
        (replace(TRIP, rmw="rmw_zenoh_cpp"), "", WARN),
        (None, "ImportError: another Python", FAIL),
    ],
)
def test_round_trips(trip, failure, verdict):
    assert judged(trip=trip, failure=failure)["round trip"] is verdict


@pytest.mark.parametrize(
    ("environ", "name", "verdict"),
    [
        ({}, "ROS_DOMAIN_ID", OK),
        ({"ROS_DOMAIN_ID": "101"}, "ROS_DOMAIN_ID", OK),
        ({"ROS_DOMAIN_ID": "150"}, "ROS_DOMAIN_ID", WARN),
        ({"ROS_DOMAIN_ID": "233"}, "ROS_DOMAIN_ID", FAIL),
        ({"ROS_DOMAIN_ID": "-1"}, "ROS_DOMAIN_ID", FAIL),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "discovery", OK),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "discovery", INFO),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "discovery", FAIL),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "EVERYWHERE"}, "discovery", WARN),
        ({"ROS_LOCALHOST_ONLY": "1"}, "discovery", WARN),
    ],
)
def test_the_environment(environ, name, verdict):
    assert judged(replace(ROS, environ=environ))[name] is verdict


def test_leftovers_count_where_shared_memory_is_used_or_crowded():
    left = replace(ROS, leftovers=3, leftover_bytes=2**20)
    assert judged(left)["shared memory"] is INFO
    assert judged(replace(left, environ={"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}))["shared memory"] is WARN
    assert judged(replace(left, leftover_bytes=2**29))["shared memory"] is WARN


def test_leftovers_are_files_that_nobody_has_open(tmp_path):
    for name in ("fastdds_1", "fastdds_2", "other"):
        (tmp_path / name).write_bytes(b"x" * 8192)
    with (tmp_path / "fastdds_2").open("rb"):
        assert ros.leftovers(tmp_path)[0] == 1
    assert ros.leftovers(tmp_path)[0] == 2


# --- a running robot ---------------------------------------------------------------------------------

STATES = robot.States(
    topic="/joint_states", publishers=["/driver"], types=["sensor_msgs/msg/JointState"], count=600, rate=200.0,
    longest_gap=0.006, names=JOINTS, writers=1, skew=0.001,
)  # fmt: skip
COMMAND = robot.CommandTopic(
    topic="/jtc/joint_trajectory", kind="joint_trajectory", publishers=["/controller"], subscribers=["/jtc"],
    types=["trajectory_msgs/msg/JointTrajectory"], wanted_type="trajectory_msgs/msg/JointTrajectory",
)  # fmt: skip
LIVE = robot.Live(
    robot="r", domain="0", seconds=3.0, joints=JOINTS, declared_rate=200.0, promise_class="A", states=STATES,
    command=COMMAND, parameters=robot.Parameters("/jtc", {"interpolate_from_desired_state": True}),
)  # fmt: skip


def looked(**states):
    return {check.name: check for check in robot.checks(replace(LIVE, states=replace(STATES, **states)))}


def test_a_healthy_robot_is_ok():
    assert {check.verdict for check in robot.checks(LIVE)} == {OK}
    assert "interpolate_from_desired_state true" in robot.checks(LIVE)[-1].found


@pytest.mark.parametrize(
    ("states", "name", "verdict"),
    [
        ({"count": 0, "rate": 0.0, "publishers": []}, "/joint_states", FAIL),
        ({"count": 0, "rate": 0.0}, "/joint_states", FAIL),
        ({"fault": "joint 'c' stands 0 times", "count": 0}, "joint names", FAIL),
        ({"drops": {"no velocity": 600}, "count": 1}, "joint states used", FAIL),
        ({"drops": {"not finite": 3}}, "joint states used", WARN),
        ({"drops": {"none of our joints": 300}}, "joint states used", INFO),
        ({"rate": 10.0}, "state rate", FAIL),
        ({"rate": 60.0}, "state rate", WARN),
        ({"longest_gap": 0.06}, "state rate", FAIL),
        ({"skew": 0.2}, "stamps", WARN),
        ({"skew": -30.0}, "stamps", FAIL),
        ({"writers": 2}, "publishers of /joint_states", FAIL),
        ({"writers": 0, "publishers": ["/a", "/b"]}, "publishers of /joint_states", FAIL),
        ({"writers": 1, "publishers": ["/a", "/gripper"]}, "publishers of /joint_states", INFO),
    ],
)
def test_verdicts_on_joint_states(states, name, verdict):
    assert looked(**states)[name].verdict is verdict


def test_joint_order_is_said_and_is_no_fault():
    check = looked(names=("c", "a", "b", "finger"))["joint names"]
    assert check.verdict is OK
    assert "order differs" in check.found
    assert "others ignored: finger" in check.found
    assert "from message to message" in looked(changing=True)["joint names"].found


def test_simulated_stamps_are_told_from_a_clock_that_is_off():
    check = robot.stamps(replace(LIVE, clock=True, states=replace(STATES, skew=-1e9)))
    assert check.change == "launch with use_sim_time:=true"


def test_a_longer_gap_is_allowed_in_class_b():
    gap = replace(STATES, longest_gap=0.06)
    assert robot.rate(replace(LIVE, states=gap, promise_class="B")).verdict is OK


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ({}, OK),
        ({"publishers": []}, OK),
        ({"publishers": ["/controller", "/intruder"]}, FAIL),
        ({"publishers": ["/intruder"]}, FAIL),
        ({"publishers": ["/controller", "/controller"]}, FAIL),
        ({"publishers": ["/left/controller"]}, OK),
    ],
)
def test_only_one_guard_commands(command, verdict):
    assert robot.command_publishers(replace(LIVE, command=replace(COMMAND, **command))).verdict is verdict


@pytest.mark.parametrize("change", [{"subscribers": []}, {"types": ["std_msgs/msg/Float64MultiArray"]}])
def test_a_sink_must_listen_to_what_we_send(change):
    assert robot.sink(replace(LIVE, command=replace(COMMAND, **change))).verdict is FAIL


def test_parameters_of_the_sink():
    wrong = robot.Parameters("/jtc", {}, ("its interpolate_from_desired_state is false; set it to true",))
    check = robot.sink_parameters(replace(LIVE, parameters=wrong))
    assert check.verdict is FAIL
    assert "interpolate_from_desired_state: true" in check.change
    assert robot.sink_parameters(replace(LIVE, parameters=robot.Parameters("/jtc", None))).verdict is INFO


# --- learned models ----------------------------------------------------------------------------------

CPU = models.Provider(models.CPU, [models.CPU], True, 0.03, 0.02)
CUDA = models.Provider("CUDAExecutionProvider", ["CUDAExecutionProvider", models.CPU], True, 0.9, 0.001)
GPU = {"nvidia": ["NVIDIA X"]}


def engine(provider, devices):
    checks = models.checks(models.Engine("1.31", [provider, CPU], devices))
    return checks[1]


def test_what_computes_on_its_device_is_ok():
    assert engine(CUDA, GPU).verdict is OK


def test_a_silent_fall_to_the_cpu_is_a_failure_where_there_is_a_device():
    fallen = replace(CUDA, got=[models.CPU], missing="libcudnn.so.9", again=0.02)
    check = engine(fallen, GPU)
    assert check.verdict is FAIL
    assert check.found.startswith("silently on CPU (libcudnn.so.9 is missing)")
    assert "onnxruntime-gpu[cuda,cudnn]" in check.change
    assert engine(fallen, {}).verdict is INFO
    tensorrt = replace(fallen, name="TensorrtExecutionProvider")
    assert engine(tensorrt, GPU).verdict is FAIL
    assert engine(replace(tensorrt, got=["CUDAExecutionProvider", models.CPU]), GPU).verdict is WARN


@pytest.mark.parametrize(
    ("change", "verdict"),
    [({"right": False}, FAIL), ({"again": 0.05}, WARN), ({"got": [], "error": "no kernel image"}, FAIL)],
)
def test_a_device_must_be_right_and_fast(change, verdict):
    assert engine(replace(CUDA, **change), GPU).verdict is verdict


def test_onnxruntime_missing_or_broken():
    assert models.checks(models.Engine())[0].verdict is WARN
    assert models.checks(models.Engine(), "died of SIGSEGV: ...")[0].verdict is FAIL


# --- planning ----------------------------------------------------------------------------------------

WANTED = planning.Wanted("panda", "reach", "kinematic", 20.0, 0.5)
MEASURED = planning.Measured("mppi", iteration=0.01, iterations=50, samples=256, horizon=20, largest=600)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, OK),
        ({"iteration": 0.026, "largest": 200}, WARN),
        ({"refused": "it takes another robot"}, INFO),
        ({"broken": "SyntaxError: ..."}, FAIL),
        ({"samples": None, "horizon": None, "largest": None}, OK),
    ],
)
def test_verdicts_on_planners(change, verdict):
    assert planning.planner(replace(MEASURED, **change), WANTED).verdict is verdict


def test_the_figures_of_a_planner_follow_from_its_iteration():
    found = planning.planner(MEASURED, WANTED).found
    assert found.startswith(
        "100 iterations of 256 x 20 a second; at duty 0.5 a plan of one iteration 50 times a second"
    )
    assert "5.1e+05 samples x horizon a second" in found
    assert "up to 600 samples at 20 Hz" in found
    slow = planning.planner(replace(MEASURED, iteration=0.05, largest=100), WANTED)
    assert slow.change.startswith("mppi.samples: 100 or planner.rate: 10")
