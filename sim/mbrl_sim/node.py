"""The simulation as a drop-in for the hardware: the same topics, and more ways to misbehave on purpose."""

from __future__ import annotations

import array
import gc
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_control.config import ConfigError, param
from mbrl_control.core import Robot
from mbrl_control.nodes import process
from mbrl_control.nodes.params import declare, declare_robot, refuse_unknown
from mbrl_control.wiring import sink_order
from mbrl_sim import stepper
from mbrl_sim.jtc import Points
from mbrl_sim.stepper import Stepper
from mbrl_sim.world import KINDS, Sample, World

RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
AS_TOLD = QoSOverridingOptions((QoSPolicyKind.RELIABILITY,))
"""For joint states: some drivers publish them reliable, others best effort; ROS's own parameters say which."""


@dataclass(frozen=True)
class Config(stepper.Config):
    """Which robot, and how it is shown."""

    robot: str = param("panda", "robot, as listed by `mbrl list`")
    clock_rate: float = param(200.0, "/clock published, at most as often as states", unit="Hz", low=1.0, high=1000.0)
    block_rate: float = param(
        50.0, "what is around the robot published; in lock-step always with the states", unit="Hz", low=1.0, high=1000.0
    )
    joint_order: tuple[str, ...] = param((), "order in which the joints are published, by the driver's names")
    shuffle_joint_order: bool = param(False, "publish the joints in another random order every time")
    push_duration: float = param(0.2, "how long a message on ~/push acts", unit="s", low=0.001, high=10.0)


class SimNode(Node):
    """One simulated robot."""

    def __init__(self) -> None:
        super().__init__("sim")
        self._time_source.detach_node()  # else we would listen to our own /clock
        config = self.config = declare(self, Config)
        self.robot: Robot = declare_robot(self, config.robot)
        refuse_unknown(self)
        self.sim_time = bool(self.get_parameter("use_sim_time").value)
        for name, paced in (("lockstep", not config.lockstep), ("real_time_factor", config.real_time_factor == 1.0)):
            if not (paced or self.sim_time):
                raise ConfigError(f"{name} = {getattr(config, name)}: it takes use_sim_time: true as well")
        joints = self.robot.driver_joints
        if config.joint_order and sorted(config.joint_order) != sorted(joints):
            raise ConfigError(f"joint_order = {config.joint_order}: it takes these, in any order: {', '.join(joints)}")
        self._order = np.array([joints.index(name) for name in config.joint_order or joints])
        self.world = World(self.robot, config)
        self.stepper = Stepper(self.world, config, self._publish, self._show)
        self._clock_every = max(1, round(1e9 / (config.clock_rate * self.stepper.period)))
        every = max(1, round(1e9 / (config.block_rate * self.stepper.period)))
        self._blocks_every = 1 if config.lockstep else every
        self._published = 0
        self._shuffle = np.random.default_rng(config.seed)
        self._reported = 0
        self._connect()

    def _connect(self) -> None:
        sink, name = self.robot.sink, self.robot.name
        self._states = self.create_publisher(
            JointState, self.robot.state_topic, RELIABLE, qos_overriding_options=AS_TOLD
        )
        self._blocks = {
            block.name: self.create_publisher(
                TwistStamped if block.unit == "m/s" else PoseStamped, block.topic, RELIABLE
            )
            for block in self.robot.blocks
        }
        self._clock = self.create_publisher(Clock, "/clock", BEST_EFFORT)
        self._state = self.create_publisher(String, "~/state", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        forward = {f"{name}_forward_{kind}/commands": kind for kind in KINDS}
        forward.pop(sink.topic, None)  # wired to one of them: heard below, in its own order
        if sink.kind == "joint_trajectory":
            self.create_subscription(JointTrajectory, sink.topic, self._on_trajectory, RELIABLE)
        for topic, kind in forward.items():
            hear = partial(self._on_numbers, kind, np.arange(self.robot.nj))
            self.create_subscription(Float64MultiArray, topic, hear, RELIABLE)
        if sink.kind != "joint_trajectory":
            hear = partial(self._on_numbers, sink.kind, np.argsort(sink_order(self.robot)))
            self.create_subscription(Float64MultiArray, sink.topic, hear, RELIABLE)
        self.create_subscription(WrenchStamped, "~/push", self._on_push, RELIABLE)
        if self.config.lockstep:
            self.create_subscription(Clock, "controller/tick", self._on_tick, RELIABLE)
        self.create_service(SetBool, "~/set_pause", self._on_pause)
        self.create_service(Trigger, "~/reset_world", self._on_reset)
        self.create_service(Trigger, "~/step_simulation", self._on_step)
        self.create_timer(1.0, self._diagnose, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def start(self) -> None:
        """Start stepping; this thread, which shares the interpreter with the other, follows it into SCHED_FIFO."""
        if self.stepper.realtime and not stepper.go_realtime(stepper.PRIORITY - 1):
            self.get_logger().info("SCHED_FIFO is not permitted here: stepping under normal scheduling")
        self.stepper.start()

    def begin_stop(self) -> None:
        """Go on until the arm has braked."""
        self.stepper.begin_stop()

    def stopped(self) -> bool:
        """Whether nothing is stepped any more."""
        return self.stepper.stopped()

    @property
    def failure(self) -> BaseException | None:
        """What ended the stepping thread."""
        return self.stepper.failure

    def destroy_node(self) -> None:
        """End the stepping thread, then the node."""
        self.stepper.join()
        super().destroy_node()

    # --- What goes out --------------------------------------------------------------------------------

    def _publish(self) -> None:
        sample, order = self.world.observe(), self._order
        if self.config.shuffle_joint_order:
            order = self._shuffle.permutation(self.robot.nj)
        message = JointState(name=[self.robot.driver_joints[i] for i in order])
        message.header.stamp = self._stamp(sample.ns)
        message.position = array.array("d", sample.q[order].tobytes())
        message.velocity = array.array("d", sample.v[order].tobytes())
        message.effort = array.array("d", sample.effort[order].tobytes())
        if self._published % self._blocks_every == 0:
            self._publish_blocks(sample, message.header.stamp)
        self._states.publish(message)
        if self._published % self._clock_every == 0:
            self._clock.publish(Clock(clock=_time(self.world.ns)))
        self._published += 1

    def _publish_blocks(self, sample: Sample, stamp: Time) -> None:
        """What is around the robot, as a tracker would say it."""
        for name, publisher in self._blocks.items():
            message: PoseStamped | TwistStamped = publisher.msg_type()
            message.header.stamp, message.header.frame_id = stamp, "world"
            vector = message.twist.linear if isinstance(message, TwistStamped) else message.pose.position
            vector.x, vector.y, vector.z = sample.blocks[name].tolist()
            publisher.publish(message)

    def _show(self, state: str) -> None:
        self._state.publish(String(data=state))

    def _stamp(self, ns: int) -> Time:
        return _time(ns if self.sim_time else self.stepper.pace.system(ns))

    def _diagnose(self) -> None:
        stepper, wrong = self.stepper, self.world.diverged or self.world.dead
        fresh, self._reported = stepper.rejected > self._reported, stepper.rejected
        level = DiagnosticStatus.ERROR if wrong else DiagnosticStatus.WARN if fresh else DiagnosticStatus.OK
        status = DiagnosticStatus(level=level, name=self.get_name(), message=stepper.state, hardware_id=self.robot.name)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in stepper.report().items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._stamp(self.world.ns)
        self._diagnostics.publish(message)

    # --- What comes in --------------------------------------------------------------------------------

    def _on_trajectory(self, message: JointTrajectory) -> None:
        stamp, points = _nanoseconds(message.header.stamp), message.points
        times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in points]
        rows = ([p.positions for p in points], [p.velocities for p in points], [p.accelerations for p in points])
        effort = any(p.effort for p in points)
        self.stepper.put(partial(self._follow, list(message.joint_names), Points(times, *rows), stamp, effort))

    def _follow(self, names: list[str], points: Points, stamp: int, effort: bool) -> str | None:
        if effort:
            return "effort in a trajectory for a position servo"
        if stamp and not self.sim_time:
            stamp += self.world.ns - self.stepper.pace.system(self.world.ns)
        return self.world.follow(names, points, stamp * 1e-9)

    def _on_numbers(self, kind: str, order: np.ndarray, message: Float64MultiArray) -> None:
        """One number a joint; ``order``: where in the message the number of each of our joints stands."""
        values = np.array(message.data)
        self.stepper.put(partial(self.world.command, kind, values[order] if len(values) == len(order) else values))

    def _on_push(self, message: WrenchStamped) -> None:
        force = message.wrench.force
        values = np.array((force.x, force.y, force.z))
        if np.isfinite(values).all():
            self.stepper.apply(partial(self.world.push, values, self.config.push_duration))

    def _on_tick(self, message: Clock) -> None:
        self.stepper.tick(_nanoseconds(message.clock))

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.stepper.pause(request.data)
        response.success, response.message = True, self.stepper.state
        return response

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.stepper.reset()
        response.success, response.message = True, self.stepper.state
        return response

    def _on_step(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        reason = self.stepper.step_once()
        response.success, response.message = reason is None, reason or f"{self.world.time:.3f} s"
        return response


def _time(ns: int) -> Time:
    seconds, rest = divmod(ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def _nanoseconds(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _make() -> SimNode:
    node = SimNode()
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    node.start()
    return node


def main() -> int:
    """Run the node until it is told to stop."""
    return process.run(_make, "sim")


if __name__ == "__main__":
    sys.exit(main())
