"""The controller node: the guard on its own thread, and what comes from and goes to ROS around it.

    /joint_states, planner/plan_packed, ~/estop   ->   guard   ->   the arm's command topic (nobody else's)

A lifecycle node: activate leads to READY and no further; ``~/arm`` alone starts motion.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger

from mbrl_control.config import param
from mbrl_control.core import MbrlError, Robot
from mbrl_control.nodes import convert
from mbrl_control.nodes.convert import PlanError
from mbrl_control.nodes.graph import Neighbours
from mbrl_control.nodes.params import declare, declare_robot, refuse_unknown
from mbrl_control.nodes.process import run
from mbrl_control.nodes.qos import LATCHED, NEWEST
from mbrl_control.nodes.sinks import open_sink
from mbrl_control.runtime import digest
from mbrl_control.runtime.claim import claim
from mbrl_control.runtime.estimate import Reading
from mbrl_control.runtime.loop import (
    PRIORITY,
    STATE_TIMEOUT,
    SWITCH,
    ClockPacer,
    Loop,
    RealTime,
    WallPacer,
    enter_real_time,
)
from mbrl_control.runtime.safety import (
    EStop,
    Guard,
    GuardConfig,
    Outcome,
    PlanArrived,
    PlannerDied,
    Request,
)
from mbrl_control.runtime.states import Event, GuardState
from mbrl_control.wiring import guarded

ANSWER_WITHIN = 0.5
"""A service waits at most this long for the tick that answers it [s]."""
DIGEST_RATE = 20.0
"""As often [Hz] as a person can see."""
LOOK_EVERY = 0.25
"""How often it is looked who else is on the arm's topics [s]: 0.5 s after they were discovered are promised."""
RESYNC = 0.005
"""A clock that has moved by more than this against the monotonic one [s] is followed even in motion."""


@dataclass(frozen=True)
class NodeConfig:
    """Parameters of the node around the guard."""

    robot: str = param("panda", "name of the robot, or package.module of one's own")
    autostart: bool = param(True, "configure and activate by itself, to READY and no further")
    real_time: bool = param(True, "ask for SCHED_FIFO and locked memory")
    lockstep: bool = param(False, "wait for the plan that is due; for deterministic simulation, with use_sim_time")


class ControllerNode(LifecycleNode):
    """See the module's docstring."""

    def __init__(self, real_time: RealTime | None = None) -> None:
        super().__init__("controller")
        self.config = declare(self, NodeConfig)
        guard_config = declare(self, GuardConfig)
        self.robot: Robot = declare_robot(self, self.config.robot, connect=guarded)
        refuse_unknown(self)
        self._claim = claim(self.context.get_domain_id(), self.resolve_topic_name(self.robot.sink.topic))
        if self.config.real_time and real_time is None:
            real_time = enter_real_time(PRIORITY)
        self.real_time = real_time or RealTime(False, False, "not asked for")
        timeout = STATE_TIMEOUT[self.real_time.promise_class]
        robot = self.robot
        self.guard = Guard(guard_config, robot.driver_joints, robot.limits, timeout, robot.sink.kind, robot)
        self.sim_time = bool(self.get_parameter("use_sim_time").value)
        if self.config.lockstep and not self.sim_time:
            raise MbrlError("lockstep: true needs use_sim_time: true")
        clock = ClockPacer()
        self.pacer = clock if self.sim_time else WallPacer()
        self.loop = Loop(self.pacer, self.guard.dt, self._tick)
        self.base_ns = 0 if self.sim_time else self._clock_base()
        self._shown = ("", "")
        self._session = 0
        self._plan_until = self._state_at = -1.0
        self._plan_period: float | None = None
        """Time between plans, as the newest one says; None: there was none yet."""
        self._came = threading.Condition()
        self._deactivating = False
        self._asked_for: np.ndarray | None = None
        """Where the arm is asked to be at the last tick; None: nothing was commanded."""
        self._reported = (time.monotonic(), (0, 0))
        """When the last report was made, and states and plans by then."""
        self._make_topics(clock)
        self.get_logger().info(
            f"promise class {self.real_time.promise_class}"
            + (f" ({self.real_time.why})" if self.real_time.why else "")
            + f"; {1.0 / self.guard.dt:.0f} Hz, states may be {self.guard.state_timeout * 1e3:.0f} ms old"
        )
        sys.setswitchinterval(SWITCH)
        self.loop.start()
        if self.config.autostart:
            self.trigger_configure()
            self.trigger_activate()

    def _make_topics(self, clock: ClockPacer) -> None:
        make, hear = super().create_publisher, self.create_subscription  # plain publishers: they outlive deactivation
        self.sink = open_sink(make, self.robot, self.guard.limits.velocity)
        self.neighbours = Neighbours(self, self.robot)
        self.reference_pub = make(JointState, "~/reference", NEWEST)
        self.state_pub = make(String, "~/state", LATCHED)
        self.diagnostics_pub = make(DiagnosticArray, "/diagnostics", 10)
        self.digest_pub = make(Float64MultiArray, "~/digest", NEWEST)
        self.tick_pub = make(Clock, "~/tick", 10) if self.config.lockstep else None
        hear(JointState, self.robot.state_topic, self._on_state, NEWEST)
        hear(Float64MultiArray, "planner/plan_packed", self._on_plan, 1)
        hear(Bool, "~/estop", self._on_estop, LATCHED)
        hear(Bool, "~/estop", self._on_estop, 1)  # a volatile publisher is not heard by the latched one
        if self.sim_time:
            hear(Clock, "/clock", lambda m: clock.set(convert.to_ns(m.clock) / convert.SECOND), NEWEST)
        group = ReentrantCallbackGroup()
        for name, event in (("arm", Event.ARM), ("reset", Event.RESET), ("stop", Event.ESTOP)):
            self.create_service(Trigger, f"~/{name}", self._answerer(event), callback_group=group)
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOK_EVERY, self._look, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)
        self.create_timer(1.0 / DIGEST_RATE, self._tell, clock=steady)
        gc.disable()  # the report collects, once a second and not in the middle of a tick

    # --- lifecycle: INACTIVE -> READY, never further ---

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivating = False
        self._ask(Event.ACTIVATE, "activated")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivating = True
        return super().on_deactivate(state)

    # --- in ---

    def _on_state(self, message: JointState, info: Mapping[str, Any]) -> None:
        stamp = (convert.to_ns(message.header.stamp) - self.base_ns) / convert.SECOND
        received = stamp if self.config.lockstep else time.monotonic()
        who, names = self.neighbours.writer(info), list(message.name)
        self.guard.inbox.append(Reading(names, message.position, message.velocity, stamp, received, who))
        if self.config.lockstep:
            with self._came:
                self._state_at = stamp
                self._came.notify_all()

    def _on_plan(self, message: Float64MultiArray) -> None:
        try:
            packed = convert.unpack_plan(message.data, self.base_ns, self.robot.driver_joints)
        except PlanError as error:
            self.guard.counts[f"plan refused: {error}"] += 1
            return
        if packed.session != self._session and packed.host == convert.this_host():
            self._watch_process(packed.pid, packed.session)
        self._session = packed.session
        self.guard.inbox.append(PlanArrived(packed.plan, packed.session, packed.period))
        with self._came:
            self._plan_until, self._plan_period = packed.plan.t0, packed.period
            self._came.notify_all()

    def _watch_process(self, pid: int, session: int) -> None:
        """Put ``PlannerDied`` into the inbox the moment the process is gone."""

        def watch() -> None:
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                pass
            else:
                select.select([fd], [], [])
                os.close(fd)
            self.guard.inbox.append(PlannerDied(session))
            with self._came:
                self._plan_until = np.inf  # nobody waits for the dead
                self._came.notify_all()

        threading.Thread(target=watch, name="planner-watch", daemon=True).start()

    def _on_estop(self, message: Bool) -> None:
        self.guard.inbox.append(EStop(message.data))

    def _ask(self, event: Event, reason: str) -> tuple[bool, str]:
        """Have the next tick answer; the tick thread is the only one that touches the guard."""
        request = Request(event, reason)
        self.guard.inbox.append(request)
        give_up = time.monotonic() + ANSWER_WITHIN
        while request.answer is None and time.monotonic() < give_up:
            time.sleep(0.001)
        return request.answer or (False, "no tick answered: is the clock running?")

    def _answerer(self, event: Event):  # noqa: ANN202 - rclpy's own callback type
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if event is Event.ARM:
                self._look()
            response.success, response.message = self._ask(event, event.value)
            return response

        return answer

    # --- out, on the tick thread ---

    def _tick(self, now: float) -> None:
        if self.config.lockstep:
            self._tick_in_lockstep(now)
        else:
            self._make_tick(now, time.monotonic())

    def _make_tick(self, now: float, mono: float) -> Outcome:
        if self._deactivating and self.guard.state is not GuardState.INACTIVE:
            self.guard.inbox.append(Request(Event.DEACTIVATE, "asked to stop"))
        out = self.guard.tick(now, mono)
        command = out.command
        send = self.sink.ready(out, self.base_ns)
        if command is not None and self.pacer.now() > out.deadline:  # we were not let run since the tick began
            self.guard.unsent()
            return out
        self._asked_for = None if command is None else command.q[0]
        send()
        if command is not None:
            stamp = self.base_ns + round(command.t[0] * convert.SECOND)
            q, v, state = command.q[0], command.v[0], out.state.shown
            self.reference_pub.publish(convert.reference(self.robot.driver_joints, stamp, q, v, state))
        elif not self.sim_time:
            self.base_ns = self._clock_base()
        self._announce(out)
        return out

    def _tick_in_lockstep(self, now: float) -> None:
        """Tick on the state of ``now``; where a plan is due, let the planner make it; then let the simulation go on.

        Called again and again while the clock stands: whoever missed something hears it once more.
        """
        assert self.tick_pub is not None
        if not self._wait(lambda: self._state_at >= now - 1e-9):
            return
        out = self._make_tick(now, now)
        stamp = round(now * convert.SECOND)
        if out.command is None:  # the planner waits for a reference: there is none
            self.reference_pub.publish(convert.reference((), stamp, np.zeros(0), np.zeros(0), out.state.shown))
        if not self._plan_due(now) or self._wait(lambda: self._plan_until >= now + (self._plan_period or 0.0) - 1e-9):
            self.tick_pub.publish(Clock(clock=convert.to_time(stamp + (out.command is not None))))

    def _plan_due(self, now: float) -> bool:
        """Whether the planner plans at this very time: at the first one that it sees, then at each of its periods."""
        period = self._plan_period
        return period is None or abs(now / period - round(now / period)) < 1e-6

    def _wait(self, condition: Callable[[], bool]) -> bool:
        with self._came:
            return self._came.wait_for(condition, timeout=ANSWER_WITHIN / 2)

    def _clock_base(self) -> int:
        """The ROS clock [ns] at control time zero."""
        return self.get_clock().now().nanoseconds - round(self.pacer.now() * convert.SECOND)

    def _announce(self, out: Outcome) -> None:
        shown = (out.state.shown, out.reason or out.state.value[1])
        if shown[0] != self._shown[0] or (shown != self._shown and out.state is not GuardState.ACTIVE):
            self.state_pub.publish(String(data=f"{shown[0]}: {shown[1]}"))
            self.get_logger().info(f"{shown[0]}: {shown[1]}")
        self._shown = shown

    # --- now and then ---

    def _look(self) -> None:
        """See who else is on the arm's topics; its sink is asked only while nothing moves."""
        self.guard.inbox.append(self.neighbours.look(ask=not self.guard.state.moving))

    def _tell(self) -> None:
        """The digest, if anybody listens; on the executor's thread, so that no tick waits for it."""
        if self.digest_pub.get_subscription_count() == 0:
            return
        now = self.pacer.now()
        mono = now if self.config.lockstep else time.monotonic()
        found = digest.of(self.guard, self.loop, self._asked_for, now + self.base_ns / convert.SECOND, mono)
        self.digest_pub.publish(convert.pack_digest(found, self.robot.joints))

    def _report(self) -> None:
        """Diagnostics at 1 Hz: rates, lateness, overruns, counts, promise class."""
        if not self.sim_time and abs(self._clock_base() - self.base_ns) > RESYNC * convert.SECOND:
            self.base_ns = self._clock_base()
        p50, p99 = self.loop.late.percentile(50, 99)
        took50, took99 = self.loop.took.percentile(50, 99)
        guard, handover = self.guard, self.guard.handover
        latency50, latency99 = handover.latency.percentile(50, 99)
        now, counts = time.monotonic(), (guard.slot.count, guard.counts["plans"])
        since = now - self._reported[0]
        state_rate, plan_rate = ((new - old) / since for new, old in zip(counts, self._reported[1], strict=True))
        self._reported = (now, counts)
        values: dict[str, object] = {
            "state": guard.state.shown,
            "reason": guard.reason,
            "status": str(guard.status),
            "promise_class": self.real_time.promise_class,
            "sink": self.robot.sink.kind,
            "sink_parameters": self.neighbours.sink,
            "in_the_way": "; ".join(filter(None, [guard.surroundings.rivals, *guard.surroundings.obstacles])),
            "rate_hz": 1.0 / guard.dt,
            "state_rate_hz": state_rate,
            "plan_rate_hz": plan_rate,
            "ticks": self.loop.ticks,
            "overruns": self.loop.overruns,
            "late_ms_p50": p50 * 1e3,
            "late_ms_p99": p99 * 1e3,
            "late_ms_max": self.loop.late.worst * 1e3,
            "tick_ms_p50": took50 * 1e3,
            "tick_ms_p99": took99 * 1e3,
            "latency_ms_p50": latency50 * 1e3,
            "latency_ms_p99": latency99 * 1e3,
            "handovers": handover.latency.count,
            "handovers_late": handover.late,
            "handovers_missed": handover.missed,
            "holds": guard.holds,
            "states_received": guard.slot.count,
            **{f"states dropped: {reason}": count for reason, count in guard.slot.drops.items()},
            **guard.counts.copy(),
        }
        if guard.torques is not None:
            values |= {"torque_ticks": guard.torques.ticks, "torque_saturated": guard.torques.share_saturated}
        level = "ok" if guard.state in (GuardState.ACTIVE, GuardState.READY) else "warn"
        if guard.state is GuardState.FAULT or self.loop.failure is not None:
            level = "error"
        message = DiagnosticArray(status=[convert.diagnostic("controller", level, guard.describe(), values)])
        message.header.stamp = self.get_clock().now().to_msg()
        self.diagnostics_pub.publish(message)
        gc.collect(1)

    # --- the end ---

    @property
    def failure(self) -> BaseException | None:
        return self.loop.failure

    def begin_stop(self) -> None:
        self._deactivating = True

    def stopped(self) -> bool:
        return not self.guard.state.moving

    def destroy_node(self) -> None:
        self.loop.stop()
        self._claim.close()
        super().destroy_node()


def main() -> int:
    return run(ControllerNode, "controller")


if __name__ == "__main__":
    sys.exit(main())
