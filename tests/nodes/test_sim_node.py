"""The simulation as a process of its own, met on its topics as a controller meets it."""

import array
import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import WrenchStamped  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from mbrl_control import registry  # noqa: E402

JOINTS = [f"panda_joint{i}" for i in range(1, 8)]
HOME = np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4])
DOMAINS = itertools.count(20)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PERIOD = 10_000_000
"""Between ticks in lock-step [ns]."""


def ns(stamp):
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def time_message(at):
    message = Clock().clock
    message.sec, message.nanosec = divmod(at, 1_000_000_000)
    return message


def trajectory(t, q, v=None, a=None, stamp=0):
    message = JointTrajectory(joint_names=JOINTS)
    message.header.stamp = time_message(stamp)
    for k, at in enumerate(t):
        point = JointTrajectoryPoint()
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(at * 1e9), 1_000_000_000)
        for name, rows in (("positions", q), ("velocities", v), ("accelerations", a)):
            if rows is not None:
                setattr(point, name, array.array("d", np.asarray(rows[k], float).tobytes()))
        message.points.append(point)
    return message


def rest(*rows):
    return [np.zeros(7) for _ in rows[0]] if rows else np.zeros(7)


class Bench:
    """One simulation and one node that talks to it, in a domain of their own."""

    def __init__(self, domain):
        self.env = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("bench", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.states, self.clocks, self.words, self.reports = [], [], [], []
        hear = self.node.create_subscription
        hear(JointState, "joint_states", lambda m: self.states.append((time.monotonic(), m)), qos_profile_sensor_data)
        hear(Clock, "/clock", lambda m: self.clocks.append(ns(m.clock)), qos_profile_sensor_data)
        hear(String, "sim/state", lambda m: self.words.append(m.data), LATCHED)
        hear(DiagnosticArray, "/diagnostics", lambda m: self.reports.append(m.status[0]), 10)
        self.process = None

    def start(self, *parameters):
        flags = [part for p in parameters for part in ("-p", p)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mbrl_sim.node", "--ros-args", *flags],
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.until(lambda: self.states)
        return self

    def until(self, condition, within=10.0):
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            self.executor.spin_once(timeout_sec=0.02)

    def publisher(self, kind, topic):
        publisher = self.node.create_publisher(kind, topic, 10)
        self.until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def call(self, kind, service, **fields):
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def report(self):
        """The next diagnostics, as a dictionary."""
        self.reports.clear()
        self.until(lambda: self.reports)
        return {pair.key: pair.value for pair in self.reports[-1].values}

    @property
    def q(self):
        message = self.states[-1][1]
        return np.array([message.position[message.name.index(joint)] for joint in JOINTS])

    @property
    def v(self):
        return np.array(self.states[-1][1].velocity)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.process.stderr.close()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    made = Bench(next(DOMAINS))
    yield made
    made.close()


def test_publishes_states_like_a_driver(bench):
    bench.start()
    bench.states.clear()
    bench.until(lambda: len(bench.states) >= 301)
    stamps = np.array([ns(m.header.stamp) for _, m in bench.states])
    received = np.array([t for t, _ in bench.states])
    assert 300 / (received[-1] - received[0]) == pytest.approx(200.0, rel=0.25)  # what is too late is skipped
    assert np.median(np.abs(np.diff(stamps) - 5e6)) < 1e5
    assert abs(stamps[-1] * 1e-9 - time.time()) < 1.0
    message = bench.states[-1][1]
    assert list(message.name) == JOINTS
    np.testing.assert_allclose(message.position, HOME, atol=1e-6)
    assert len(message.velocity) == len(message.effort) == 7
    assert abs(message.effort[3]) > 5.0
    bench.until(lambda: bench.words)
    assert bench.words == ["RUNNING"]
    assert len(bench.clocks) > 100
    assert float(bench.report()["real_time_factor"]) == pytest.approx(1.0, abs=0.1)


def test_it_carries_the_payload_of_its_robot(bench):
    bench.start("panda.payload:=1.0", "panda.tool_offset:=0.2")
    robot = registry.make("robots", "panda", overrides={"payload": 1.0, "tool_offset": 0.2})
    bench.until(lambda: any(bench.states[-1][1].effort))
    message = bench.states[-1][1]
    held = robot.inverse_dynamics(np, HOME, np.zeros(7), np.zeros(7))
    np.testing.assert_allclose(message.position, HOME, atol=1e-6)
    np.testing.assert_allclose(message.effort, held, atol=1e-2)


def test_follows_refuses_and_brakes(bench):
    bench.start()
    publisher = bench.publisher(JointTrajectory, "panda_arm_controller/joint_trajectory")
    target = HOME + 0.1
    publisher.publish(trajectory([0.3], [target], rest([0])))
    bench.until(lambda: np.abs(bench.q - target).max() < 2e-3 and np.abs(bench.v).max() < 1e-2)
    # a stamp of the system clock starts it then, not on arrival
    now = time.time_ns()
    publisher.publish(trajectory([0.5, 0.8], [target, HOME], rest([0, 0]), stamp=now))
    bench.until(lambda: time.time_ns() > now + 400_000_000)
    np.testing.assert_allclose(bench.q, target, atol=5e-3)
    bench.until(lambda: np.abs(bench.q - HOME).max() < 2e-3)
    publisher.publish(trajectory([0.3], [target], [np.ones(7)]))
    bench.until(lambda: "is 1, not zero" in bench.report()["last_rejection"])
    np.testing.assert_allclose(bench.q, HOME, atol=5e-3)

    velocities = bench.publisher(Float64MultiArray, "panda_forward_velocity/commands")
    for _ in range(60):
        velocities.publish(Float64MultiArray(data=[0.5] + [0.0] * 6))
        count = len(bench.states)
        bench.until(lambda count=count: len(bench.states) > count)
    assert bench.v[0] > 0.3
    bench.until(lambda: np.abs(bench.v).max() < 1e-2)  # nobody says anything any more

    bench.publisher(Float64MultiArray, "panda_forward_position/commands").publish(Float64MultiArray(data=[0.0] * 6))
    bench.until(lambda: bench.report()["sinks_in_error"] == "position")
    assert bench.reports[-1].level == bench.reports[-1].ERROR

    # what moves when we are interrupted is stopped before we go
    publisher.publish(trajectory([0.8], [bench.q + 0.4], rest([0])))
    bench.until(lambda: np.abs(bench.v).max() > 0.3)
    asked = time.monotonic()
    bench.process.send_signal(signal.SIGINT)
    bench.until(lambda: bench.process.poll() is not None, within=3.0)
    assert time.monotonic() - asked < 3.0
    assert bench.process.returncode == 0
    assert "Traceback" not in bench.process.stderr.read()
    bench.until(lambda: np.abs(bench.v).max() < 0.02, within=1.0)


def test_shuffled_names_pushes_and_divergence(bench):
    bench.start("shuffle_joint_order:=true", "push_duration:=0.1")
    bench.until(lambda: len(bench.states) > 20)
    assert len({tuple(m.name) for _, m in bench.states}) > 10
    for _, message in bench.states:
        np.testing.assert_allclose([message.position[message.name.index(j)] for j in JOINTS], HOME, atol=1e-6)
    pusher, wrench = bench.publisher(WrenchStamped, "sim/push"), WrenchStamped()
    wrench.wrench.force.y = 60.0
    pusher.publish(wrench)
    bench.until(lambda: np.abs(bench.q - HOME).max() > 0.01)
    bench.until(lambda: np.abs(bench.q - HOME).max() < 1e-3)
    wrench.wrench.force.y = 1e13
    pusher.publish(wrench)
    bench.until(lambda: bench.words and bench.words[-1].startswith("DIVERGED"))
    bench.report()  # what was on its way is here by now
    bench.states.clear()
    assert not bench.call(Trigger, "sim/step_simulation").success
    bench.report()
    assert not bench.states
    assert bench.call(Trigger, "sim/reset_world").success
    bench.until(lambda: bench.words[-1] == "RUNNING" and len(bench.states) > 10)
    np.testing.assert_allclose(bench.q, HOME, atol=1e-6)


def test_pauses_steps_and_resets(bench):
    bench.start("use_sim_time:=true", "real_time_factor:=0.0", "realtime:=false")
    assert bench.call(Trigger, "sim/step_simulation").message == "only while paused"
    bench.until(lambda: bench.clocks and bench.clocks[-1] > 3_000_000_000)  # much faster than the clock
    assert bench.call(SetBool, "sim/set_pause", data=True).message == "PAUSED"
    at = float(bench.report()["sim_time"])
    assert float(bench.report()["sim_time"]) == at
    assert bench.words[-1] == "PAUSED"
    bench.states.clear()
    assert bench.call(Trigger, "sim/step_simulation").success
    bench.until(lambda: bench.states and bench.clocks[-1] == round(at * 1e9) + 5_000_000)
    assert [ns(m.header.stamp) for _, m in bench.states] == [bench.clocks[-1]]
    assert bench.call(Trigger, "sim/reset_world").success
    bench.until(lambda: bench.clocks[-1] == 0)
    assert bench.call(SetBool, "sim/set_pause", data=False).message == "RUNNING"
    bench.until(lambda: bench.clocks[-1] > 0)
    bench.process.send_signal(signal.SIGTERM)
    bench.until(lambda: bench.process.poll() is not None, within=3.0)
    assert bench.process.returncode == 0


def run_in_lockstep(bench, ticks, commands, tick_first):
    """Answer every state as the guard does; what was seen, exactly."""
    rows, target = [], HOME
    for k in range(ticks):
        at = k * PERIOD
        bench.until(lambda at=at: any(ns(m.header.stamp) == at for _, m in bench.states))
        message = next(m for _, m in bench.states if ns(m.header.stamp) == at)
        rows.append(np.r_[message.position, message.velocity, message.effort])
        commanded = k % 3 == 1
        tick = Clock(clock=time_message(at + commanded))
        if commanded:
            target = target + 0.05 * np.sin(k + np.arange(7))
            command = trajectory([0.02, 0.3], [target, HOME], rest([0, 0]), rest([0, 0]), stamp=at)
        if commanded and not tick_first:
            commands.publish(command)
        bench.ticks.publish(tick)
        if commanded and tick_first:
            bench.executor.spin_once(timeout_sec=0.01)
            assert ns(bench.states[-1][1].header.stamp) == at  # it waits for what the tick tells of
            commands.publish(command)
    return np.array(rows)


def test_lockstep_waits_for_every_tick_and_repeats_itself_exactly(bench):
    bench.start("use_sim_time:=true", "lockstep:=true")
    commands = bench.publisher(JointTrajectory, "panda_arm_controller/joint_trajectory")
    bench.ticks = bench.publisher(Clock, "controller/tick")
    bench.until(lambda: len(bench.states) > 4)
    assert {ns(m.header.stamp) for _, m in bench.states} == {0}  # shown again and again until somebody answers
    first = run_in_lockstep(bench, 60, commands, tick_first=False)
    assert set(bench.clocks) <= {k * PERIOD for k in range(61)}
    assert np.abs(first[-1, :7] - HOME).max() > 0.01
    assert bench.call(Trigger, "sim/reset_world").success
    bench.states.clear()
    second = run_in_lockstep(bench, 60, commands, tick_first=True)
    np.testing.assert_array_equal(first, second)
    assert bench.report()["ticks_without_command"] == "0"
    bench.until(lambda: bench.clocks[-1] == 60 * PERIOD)
    # nobody answers any more: it stays where it is, and can still be stopped
    bench.report()
    assert bench.clocks[-1] == 60 * PERIOD
    bench.process.send_signal(signal.SIGINT)
    bench.until(lambda: bench.process.poll() is not None, within=3.0)
    assert bench.process.returncode == 0


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("robot:=pnda", "sim: robot 'pnda': did you mean 'panda'?"),
        ("noise_q:=-1.0", "sim: noise_q = -1.0: it takes a number of at least 0"),
        ("lockstep:=true", "sim: lockstep = True: it takes use_sim_time: true as well"),
        ("state_rate:=300.0", "sim: state_rate = 300: it takes whole steps of the physics, 1 ms each"),
        ("payloda:=1.0", "did you mean 'payload'?"),
        ("panda.payload:=9.0", "sim: panda.payload = 9.0: it takes a number from 0 to 3 [kg]"),
        ("panda.payloda:=1.0", "sim.panda.payloda: no such parameter; did you mean 'panda.payload'?"),
    ],
)
def test_a_wrong_parameter_is_one_line_and_status_2(parameter, line, monkeypatch):
    env = {**os.environ, "ROS_DOMAIN_ID": str(next(DOMAINS)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", "mbrl_sim.node", "--ros-args", "-p", parameter]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
