"""The thread that steps a world, in time with the clock or in lock-step with a guard. No ROS.

Another thread fills the inbox; this one empties it, steps the physics from one published state to the next
and calls ``publish``. In lock-step it waits at every state, of time T, until the guard has ticked: with T
itself, or with T + 1 ns when a command went out before the tick; then it waits for a command too, because
topics arrive in any order. One command a tick, and all that came are taken before a step: that is exact.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mbrl_control.config import ConfigError, param
from mbrl_sim.pace import Pace
from mbrl_sim.world import Config as WorldConfig
from mbrl_sim.world import World

PRIORITY = 45
"""Of this thread under SCHED_FIFO."""
FIRST_WAIT, WAIT, STOPPING_WAIT, COMMAND_WAIT = 0.05, 1.0, 0.02, 1.0
"""Lock-step: a state is shown again after these [s] without a tick; last, how long a tick's command may take."""
STOP_WITHIN = 2.0
IDLE = 0.05


@dataclass(frozen=True)
class Config(WorldConfig):
    """The world's parameters, and how time passes in it."""

    state_rate: float = param(
        0.0, "joint states published; 0: as the robot's driver does", unit="Hz", low=0.0, high=1000.0
    )
    real_time_factor: float = param(1.0, "speed against the clock; 0: as fast as possible", low=0.0, high=100.0)
    realtime: bool = param(True, "step under SCHED_FIFO, as a driver would, where that is permitted")
    lockstep: bool = param(False, "advance only after the guard's tick")
    lockstep_period: float = param(0.01, "simulation time between ticks in lock-step", unit="s", low=0.001, high=0.1)


class Stepper:
    """Steps ``world``; what it may touch of it is guarded by one lock."""

    def __init__(self, world: World, config: Config, publish: Callable[[], None], show: Callable[[str], None]) -> None:
        self.world, self.config = world, config
        self._publish, self._show = publish, show
        rate = config.state_rate or world.robot.state_rate
        name, given = ("lockstep_period", config.lockstep_period) if config.lockstep else ("state_rate", rate)
        period = given if config.lockstep else 1.0 / given
        self.steps = round(period * 1e9 / world.step_ns)
        self.period = self.steps * world.step_ns
        if self.steps < 1 or abs(self.period - period * 1e9) > 1.0:
            accepted = f"whole steps of the physics, {world.step_ns * 1e-6:g} ms each"
            raise ConfigError(f"{name} = {given:g}: it takes {accepted}")
        self.pace = Pace(config.real_time_factor)
        self.state = ""
        self.accepted = self.rejected = self.late = self.unanswered = 0
        self.last_rejection = ""
        self.realtime = config.realtime and not config.lockstep and config.real_time_factor > 0.0
        """Whether this asks for SCHED_FIFO; once it runs, whether it has it."""
        self._lock = threading.Condition()
        self._inbox: deque[Callable[[], str | None]] = deque(maxlen=64)
        self._tick = -1
        self._paused, self._stop_by = False, 0.0
        self._reported = (0, time.monotonic_ns())
        self.failure: BaseException | None = None
        """What ended the thread, if it was not asked to end."""
        self._thread = threading.Thread(target=self._run, name="stepping", daemon=True)

    # --- From other threads ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin_stop(self, within: float = STOP_WITHIN) -> None:
        """Go on until the arm has braked: whoever commands it may have been interrupted with us."""
        with self._lock:
            self._stop_by = time.monotonic() + within
            self._lock.notify()

    def stopped(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """End the thread now."""
        self.begin_stop(0.0)
        if self._thread.ident is not None:
            self._thread.join(timeout=2.0)

    def put(self, command: Callable[[], str | None]) -> None:
        """Have ``command`` called before the next step; it gives the reason when it is rejected."""
        with self._lock:
            self._inbox.append(command)
            self._lock.notify()

    def apply(self, change: Callable[[], None]) -> None:
        """Change the world now, from another thread."""
        with self._lock:
            change()

    def tick(self, ns: int) -> None:
        """The guard is done with the state of this time."""
        with self._lock:
            self._tick = ns
            self._lock.notify()

    def pause(self, paused: bool) -> None:
        """Stop or go on."""
        with self._lock:
            self._paused = paused
            self._tell()
            self._lock.notify()

    def reset(self) -> None:
        """Back to time 0 and home; a world that had diverged lives again."""
        with self._lock:
            self._inbox.clear()
            self._tick = -1
            self.world.reset()
            self.pace.start(0)
            self._reported = (0, time.monotonic_ns())
            self._tell()
            self._publish()
            self._lock.notify()

    def step_once(self) -> str | None:
        """One published state further, while paused; why not, or None."""
        with self._lock:
            if not self._paused:
                return "only while paused"
            self._advance()
            self._tell()
            if not self.world.diverged:
                self._publish()
            return self.world.diverged or None

    def report(self) -> dict[str, object]:
        """Figures for people; rates since the last report."""
        (ns, then), self._reported = self._reported, (self.world.ns, time.monotonic_ns())
        return {
            "sim_time": f"{self.world.ns * 1e-9:.3f}",
            "real_time_factor": f"{(self.world.ns - ns) / (self._reported[1] - then):.3f}",
            "commands_accepted": self.accepted,
            "commands_rejected": self.rejected,
            "last_rejection": self.last_rejection,
            "sinks_in_error": ", ".join(self.world.dead),
            "late_steps": self.late,
            "slips": self.pace.slips,
            "ticks_without_command": self.unanswered,
            "realtime": self.realtime,
        }

    # --- This thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._step_on()
        except BaseException as error:  # a thread that dies silently would look like a robot that stands still
            self.failure = error
            raise

    def _step_on(self) -> None:
        self.realtime = self.realtime and go_realtime(PRIORITY)
        turn = self._turn_in_lockstep if self.config.lockstep else self._turn
        with self._lock:
            self.pace.start(self.world.ns)
            self._tell()
            self._publish()
        while not self._may_go():
            if self._idle():
                with self._lock:
                    self._lock.wait(IDLE)
                    self.pace.start(self.world.ns)
            else:
                turn()

    def _turn(self) -> None:
        with self._lock:
            self._advance()
        late = self.pace.wait(self.world.ns)
        self.late += late > self.period
        with self._lock:
            if late < 2 * self.period and not self._idle():  # too late is skipped, not bunched, as in ros2_control
                self._publish()

    def _turn_in_lockstep(self) -> None:
        with self._lock:
            if self._answered(self.world.ns):
                self._advance()
            if not self._idle():
                self._publish()

    def _answered(self, now: int) -> bool:
        """Wait for the guard's tick, and for the command that it tells of; False: show the state once more."""
        stop_by = self._stop_by
        patience = STOPPING_WAIT if stop_by else FIRST_WAIT if self._tick < 0 else WAIT
        self._lock.wait_for(lambda: self._ticked(now) or self._interrupted(now, stop_by), patience)
        if self._tick > now and self._ticked(now):
            came = self._lock.wait_for(lambda: self._inbox or self._interrupted(now, stop_by), COMMAND_WAIT)
            self.unanswered += not came
        answered = self._ticked(now) or self._stop_by > 0.0
        return answered and not self._paused and self.world.ns == now

    def _interrupted(self, now: int, stop_by: float) -> bool:
        return self.world.ns != now or self._paused or self._stop_by != stop_by

    def _ticked(self, now: int) -> bool:
        return now <= self._tick < now + self.period

    def _advance(self) -> None:
        """Take what came in, and step to the next state."""
        while self._inbox:
            reason = self._inbox.popleft()()
            self.accepted += reason is None
            if reason is not None:
                self.rejected, self.last_rejection = self.rejected + 1, reason
        self.world.step(self.steps)
        if self.world.diverged:
            self._tell()

    def _idle(self) -> bool:
        return self._paused or bool(self.world.diverged)

    def _tell(self) -> None:
        """Say RUNNING, PAUSED or DIVERGED when it has changed."""
        diverged = self.world.diverged
        state = f"DIVERGED {diverged}" if diverged else "PAUSED" if self._paused else "RUNNING"
        if state != self.state:
            self.state = state
            self._show(state)

    def _may_go(self) -> bool:
        at_rest = self._idle() or self.world.at_rest
        return self._stop_by > 0.0 and (at_rest or time.monotonic() >= self._stop_by)


def go_realtime(priority: int) -> bool:
    """Put the calling thread, and what it starts from now on, under SCHED_FIFO; whether that is permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True
