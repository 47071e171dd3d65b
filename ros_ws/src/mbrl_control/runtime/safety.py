"""The guard: takes plans and states, gives commands, and is the last word on what an arm is asked for.

No ROS, no thread, no clock: time is an argument, and everything that comes from outside is an entry in the
inbox that ``tick`` empties. One tick is: read what came, watch, decide (``states.py``), move the reference
on (``reference.py``), and send the next ticks of it together with the stop that follows if nothing more
comes. The grid of ticks is fixed in control time; the reference is committed ``lead`` seconds ahead, so a
late tick changes nothing that was sent.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Command, Limits, Mode, Plan, Robot, Status
from mbrl_control.runtime.estimate import JointError, Reading, StateSlot
from mbrl_control.runtime.handover import Handover
from mbrl_control.runtime.inbox import Entry, EStop, PlanArrived, PlannerDied, Request, Surroundings, unfit
from mbrl_control.runtime.reference import Tick, brake, follow, seed
from mbrl_control.runtime.states import Event, GuardState, after
from mbrl_control.runtime.torque import Deviation, Torques

LIMIT_SHARE = 0.995
"""Share of the declared velocity, acceleration and jerk limits that the reference uses."""
START_AFTER = 0.1
"""The first commanded point lies this far ahead [s]: the sink glides from where it holds to where we begin."""
RESUME_AFTER = 3
"""Good plans in a row that end a HOLD; bad ones in a row that start one."""
LATE_PERIODS = 3
"""Plan periods for which a plan is used beyond its start (but never more than half of its horizon)."""
MAX_SKEW = 1.0
"""Difference of stamps to our clock that refuses to arm [s]: other clock, or use_sim_time mismatch."""
STILL = 0.05
"""Joint speed below which an arm may be armed [rad/s]."""
OUTSIDE = 0.1
"""A joint this far outside its range cannot be armed: move it back by other means [rad]."""
NEAR = 0.1
"""Largest distance of the arm to where the sink was left holding it, to arm again [rad]."""
LEAST_RATE = 20.0
"""Joint states that come more seldom than this [Hz], or than the state timeout allows, cannot be armed on."""
PERIODS = (0.01, 2.0)
"""Time between plans that a planner may say [s]."""
MISSES = 1
"""Ticks in a row that may be missed where the sink takes samples: it gets a step of so many more, no larger one."""
LEFT = 0.03
"""So long [s] torques may stay what they are; no less than ``MISSES`` ticks."""


@dataclass(frozen=True)
class GuardConfig:
    """Parameters of the guard."""

    rate: float = param(100.0, "ticks a second", unit="Hz", low=50.0, high=500.0)
    lead: float = param(0.03, "how far ahead the reference is committed", unit="s", low=0.0, high=0.05)
    state_timeout: float = param(
        0.0,
        "age of the joint states that stops the arm; 0: by promise class, A 0.05 s, B 0.1 s",
        unit="s",
        low=0.0,
        high=1.0,
    )
    tracking_bound: float = param(0.25, "largest distance of a joint to its reference", unit="rad", low=0.01, high=3.2)
    tracking_time: float = param(0.2, "how long that may last before the arm is stopped", unit="s", low=0.0, high=2.0)
    plan_jump: float = param(
        0.5, "largest distance of a plan to the reference where it starts", unit="rad", low=0.01, high=3.2
    )
    margin: float = param(0.01, "distance kept from the ends of the joints' ranges", unit="rad", low=0.0, high=0.5)
    speed: float = param(1.0, "share of the joints' velocity limits that is used", low=0.01, high=1.0)
    feedback: str = param(
        "auto",
        "gains that come with a plan: used where torques are sent (auto), or never (off)",
        choices=("auto", "off"),
    )
    bandwidth: float = param(
        15.0,
        "how stiffly an arm that is sent torques is held to its reference while it brakes and holds",
        unit="1/s",
        low=1.0,
        high=50.0,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tick led to."""

    command: Command | None
    state: GuardState
    reason: str
    status: Status
    reference: Tick | None
    """The last committed tick of the reference."""
    t: float
    """Time of this tick on the grid [s]."""
    error: np.ndarray | None
    """Reference minus measured position at the time of the newest state; None where nothing may be made of it."""
    deadline: float
    """Until when [s] the command takes over where the one before it goes on; sent later, it would be a step."""


class Guard:
    """See the module's docstring. Call ``tick`` from one thread only; put entries into ``inbox`` from any."""

    def __init__(
        self,
        config: GuardConfig,
        joints: Sequence[str],
        limits: Limits,
        state_timeout: float,
        sink: str = "joint_trajectory",
        robot: Robot | None = None,
    ) -> None:
        """``robot`` is needed, and looked at, where torques are sent: by an ``effort`` sink."""
        self.config, self.sink = config, sink
        self.dt = round(1e9 / config.rate) / 1e9  # whole nanoseconds: stamps on the wire are exact
        self.limits = _inner(limits.at_speed(config.speed), config.margin)
        self.state_timeout = config.state_timeout or state_timeout
        self.torques: Torques | None = None
        if robot is not None and sink == "effort":
            self.torques = Torques(robot, self.limits, self.dt, config.bandwidth, config.feedback == "auto")
        self.lead = 1 if self.torques else max(2, round(config.lead / self.dt))
        self._misses = max(MISSES, round(LEFT / self.dt) - 1) if self.torques else MISSES
        self._motors = self.torques.motors if self.torques else np.ones(len(joints), dtype=bool)
        """Which joints can be held to something."""
        self.inbox: deque[Entry] = deque()
        self.slot = StateSlot(joints)
        self.state = GuardState.INACTIVE
        self.reason = "starting"
        self.status = Status.OK
        self.counts: Counter[str] = Counter()
        self.holds = 0
        self.handover = Handover(self.dt)
        self.estop_pressed = False
        self.surroundings = Surroundings()
        self._queue: deque[Tick] = deque()
        self._sent: Tick | None = None
        """The tick whose sample a sink that takes samples has."""
        self._braked = False
        """Whether the last command only brakes."""
        self._told: tuple[tuple[Tick, ...], Tick | None, bool, int] = ((), None, False, 0)
        """What stood before the last tick moved on: the queue and the two above, and how much of it is past now."""
        self._held: np.ndarray | None = None
        """Where the sink holds the arm since our last command; None: nobody knows, probably where it is."""
        self._past: deque[Tick] = deque(maxlen=math.ceil(1.0 / self.dt))
        self._plan: Plan | None = None
        self._next_plan: Plan | None = None
        self._session = 0
        self._period = PERIODS[0]
        """Time between plans, as the newest one says."""
        self._good = self._bad = 0
        self._index = 0
        self._now = -math.inf
        self._off_since: float | None = None
        self._off: Deviation | None = None

    # --- one tick ---

    def tick(self, now: float, mono: float) -> Outcome:
        """What to send at control time ``now`` and monotonic time ``mono``."""
        self.status = Status.OK
        index = math.floor(now / self.dt + 1e-6)
        self._read_inbox(now, mono)
        self._keep_time(now, index)
        self._watch(now, mono)
        deadline = self._move(index)
        command = self._command(now) if self.state.moving and self._queue else None
        if all(tick.resting for tick in self._queue):  # said in this very command: it ends exactly at rest
            self._happen(Event.AT_REST, "")
        if not self.state.moving:
            self._forget_reference()
        last = self._queue[-1] if self._queue else None
        error = self._off.q if self._off is not None and self.state is GuardState.ACTIVE else None
        return Outcome(command, self.state, self.reason, self.status, last, index * self.dt, error, deadline)

    def unsent(self) -> None:
        """The last command was not sent, its deadline had passed: the one before goes on, and ends in its stop."""
        self.counts["commands too late to be sent"] += 1
        told, sent, braked, gone = self._told
        if self.torques:
            self.torques.undo()
        if not self._queue:  # it would have been the last one
            assert sent is not None
            if self.torques:
                return
            last = told[-1] if self.sink == "joint_trajectory" else sent
            rests = last.stop.knots(last.motion, self.dt)[1].q if last is not sent else []
            self._held = rests[-1] if len(rests) else last.motion.q
            return
        self._queue, self._sent, self._braked = deque(told), sent, braked
        self.handover.undo()
        for _ in range(gone):
            self._past.pop()

    def _read_inbox(self, now: float, mono: float) -> None:
        while self.inbox:
            entry = self.inbox.popleft()
            match entry:
                case Reading():
                    self._take_state(entry)
                case PlanArrived():
                    self._take_plan(entry, now)
                case PlannerDied():
                    if entry.session == self._session:
                        self._session = 0
                        self._lose_plan("planner process is gone")
                case EStop():
                    self.estop_pressed = entry.pressed
                    if entry.pressed:
                        self._happen(Event.ESTOP, "e-stop pressed")
                case Surroundings():
                    self.surroundings = entry
                    self._meet(entry.rivals)
                case Request():
                    entry.answer = self._answer(entry, now, mono)

    def _take_state(self, reading: Reading) -> None:
        try:
            self.slot.put(reading)
        except JointError as error:
            self._happen(Event.BROKEN, str(error))
        if self.slot.bad_in_a_row >= RESUME_AFTER:
            self.status |= Status.NONFINITE
            self._happen(Event.STATE_LOST, "three unusable joint states in a row: " + self._worst_drop())

    def _meet(self, rivals: str) -> None:
        """Somebody else commands the arm or speaks for it: not while plans are followed, and no arming."""
        if rivals and self.state in (GuardState.ACTIVE, GuardState.HOLD):
            self._happen(Event.BROKEN, rivals)

    def _worst_drop(self) -> str:
        return ", ".join(f"{reason} {count}" for reason, count in self.slot.drops.most_common(3))

    def _take_plan(self, arrived: PlanArrived, now: float) -> None:
        newest = self._next_plan
        if newest is not None and (arrived.session, arrived.plan.seq) == (self._session, newest.seq):
            return  # sent again, for whoever missed it
        fault = self._plan_fault(arrived, now)
        if fault is not None:
            self.counts[f"plan refused: {fault}"] += 1
            self._good = 0
            self._bad += 1
            if self._bad >= RESUME_AFTER:
                self.status |= Status.NONFINITE
                self._lose_plan(f"{self._bad} plans refused in a row: {fault}")
            return
        self.counts["plans"] += 1
        self._session, self._period = arrived.session, arrived.period
        if self._next_plan is not None and self._next_plan.t0 <= now + self.lead * self.dt:
            self._plan = self._next_plan
        self._next_plan = arrived.plan
        self._bad = 0
        self._good += 1
        if self._good >= RESUME_AFTER:
            self._happen(Event.PLAN_BACK, "")

    def _plan_fault(self, arrived: PlanArrived, now: float) -> str | None:
        plan, newest = arrived.plan, self._next_plan
        wrong = unfit(plan, len(self.slot.map.joints), self.torques.nu if self.torques else None)
        if wrong is not None:
            return wrong
        alive = self._session != 0 and newest is not None and self._fresh(newest, now)
        if arrived.session != self._session and alive:
            return "a second planner"
        if newest is not None and arrived.session == self._session and plan.seq <= newest.seq:
            return "out of order"
        if not PERIODS[0] <= arrived.period <= PERIODS[1]:
            return f"one in {arrived.period:g} s"
        if plan.t0 - now > 1.0 or now - plan.t0 > _usable_for(plan, arrived.period):
            return "not of this time"
        if now - plan.state_stamp > LATE_PERIODS * arrived.period + self.state_timeout:
            return "planned from an old state"
        slack = self.config.plan_jump
        if (plan.q < self.limits.lower - slack).any() or (plan.q > self.limits.upper + slack).any():
            return "outside the joints' ranges"
        if self._queue:
            away = np.abs(plan.at(self._queue[-1].index * self.dt).q - self._queue[-1].motion.q)
            if away[self._motors].max() > slack:
                return "far from the reference"
        return None

    def _fresh(self, plan: Plan, now: float) -> bool:
        return now - plan.t0 <= _usable_for(plan, self._period)

    def _lose_plan(self, reason: str) -> None:
        self._good = 0
        self.status |= Status.STALE_PLAN
        self._happen(Event.PLAN_LOST, reason)
        self._plan = self._next_plan = None

    def _keep_time(self, now: float, index: int) -> None:
        """Notice clocks that are set back and our own gaps."""
        if now < self._now - 1e-6:
            self.slot.forget()
            self._forget_reference()
            self._held = None
            if self.torques:
                self.torques.forget()
            self._lose_plan("time was set back")
            self._happen(Event.STATE_LOST, "time was set back")
        elif self._queue and self._left_alone(now, index):
            self.status |= Status.OVERRUN
            self._happen(Event.STATE_LOST, f"the guard itself was not run for {now - self._now:.3f} s")
        self._now, self._index = now, index

    def _left_alone(self, now: float, index: int) -> bool:
        """Whether nothing was sent for too long; the reference is then where the arm went without us.

        Where torques stopped coming the arm was braked by the other side, much as the reference goes on to be.
        """
        if self.sink == "joint_trajectory":  # longer than what was committed: the arm has begun its stop by itself
            return now > self._queue[-1].index * self.dt + 1e-9
        if self._sent is None or index - self._sent.index <= 1 + self._misses:
            return False
        if not self.torques:
            self._seed(index, self._sent.motion.q)
        return True

    def _watch(self, now: float, mono: float) -> None:
        silent = mono - self.slot.received
        if silent > self.state_timeout:
            self.status |= Status.STALE_STATE
            since = f"for {silent:.3f} s" if math.isfinite(silent) else "yet"
            self._happen(Event.STATE_LOST, f"no joint state {since}")
        elif self.slot.state is not None and abs(self.slot.state.t - now) > MAX_SKEW:
            self._happen(Event.STATE_LOST, f"stamps differ from our clock by {self.slot.state.t - now:+.1f} s")
        if self.slot.writers(mono) > 1:
            self._meet(self._doubled(mono))
        if self._next_plan is not None and not self._fresh(self._next_plan, now):
            self._lose_plan(f"last plan started {now - self._next_plan.t0:.3f} s ago")
        elif self._next_plan is None:
            self.status |= Status.STALE_PLAN
        self._watch_tracking()

    def _doubled(self, mono: float) -> str:
        return f"{self.slot.writers(mono)} nodes publish the joint states of this arm"

    def _watch_tracking(self) -> None:
        """The arm must be where the reference was at the time of the state."""
        state = self.slot.state
        if state is None or not self.state.moving or not (self._past or (self._queue and self.torques)):
            self._off_since = self._off = None
            return
        q, v = self._reference_at(state.t)
        self._off = Deviation(q - state.q, v - state.v)
        error = np.abs(self._off.q) * self._motors
        astray, held = error.max() > self.config.tracking_bound, self._queue and self._queue[-1].resting
        weak = self.torques and self.torques.cut and held and self.state is not GuardState.ACTIVE
        if not (astray or weak):
            self._off_since = None
        elif self._off_since is None:
            self._off_since = state.t
        elif state.t - self._off_since > self.config.tracking_time:
            worst = int(error.argmax())
            name = self.slot.map.joints[worst]
            if astray:
                self._happen(Event.STATE_LOST, f"{name} is {error[worst]:.3f} rad from its reference")
            if self.torques and held:  # something stronger has it: it is held where that has brought it
                self._seed(self._index, np.clip(state.q, self.limits.lower, self.limits.upper))
        if self.torques and self.state is GuardState.ACTIVE and (lost := self.torques.runs_away(state)) is not None:
            self.status |= Status.BARRIER
            name, at, speed = self.slot.map.joints[lost], state.q[lost], state.v[lost]
            self._happen(Event.STATE_LOST, f"{name} runs away: at {at:.2f} rad with {speed:+.2f} rad/s")

    def _reference_at(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Where and how fast the reference is, or was, at time ``t``; as far back as is remembered."""
        ticks = [*self._past, *self._queue]
        place = min(max(t / self.dt - ticks[-1].index + len(ticks) - 1, 0.0), len(ticks) - 1.0)
        before = min(int(place), len(ticks) - 2) if len(ticks) > 1 else 0
        one, other = ticks[before].motion, ticks[min(before + 1, len(ticks) - 1)].motion
        share = place - before
        return one.q + share * (other.q - one.q), one.v + share * (other.v - one.v)

    # --- the reference ---

    def _move(self, index: int) -> float:
        """Drop what lies behind, and commit the reference up to ``index + lead``; the command's deadline [s]."""
        told, sent, braked, left = tuple(self._queue), self._sent, self._braked, False
        self.handover.begin(followed=self.state is GuardState.ACTIVE)
        while self._queue and self._queue[0].index < index:
            if len(self._queue) == 1:
                left, alone = True, brake(self._queue[0], self.dt)  # what the arm did without us
                self._queue.append(replace(alone, index=max(alone.index, index)) if alone.resting else alone)
            self._past.append(self._queue.popleft())
        if not self._queue:
            return math.inf
        braking = self._braked = self.state is not GuardState.ACTIVE
        self._told = told, sent, braked, sum(tick.index < index for tick in told)
        if braking:
            while len(self._queue) > 2:
                self._queue.pop()
        kept = self._queue[-1]
        while self._queue[-1].index < index + self.lead:
            last = self._queue[-1]
            plan = self._plan_for((last.index + 1) * self.dt)
            if braking or plan is None:
                self._queue.append(brake(last, self.dt))
                continue
            t = (last.index + 1) * self.dt
            self.handover.see(t, plan, self._session, self._period)
            self._queue.append(follow(last, plan.at(t), self.limits, self.dt))
        if any(tick.limited for tick in self._queue):
            self.status |= Status.LIMITED
        if sent is None or left:  # nothing was sent before, or the stop that goes on is being played already
            return math.inf
        if self.sink != "joint_trajectory":
            return (sent.index + 2 + self._misses) * self.dt
        return math.inf if braking and braked else kept.index * self.dt + 1e-9

    def _plan_for(self, t: float) -> Plan | None:
        """The newest plan that has begun by ``t``, else the one before it."""
        if self._next_plan is not None and self._next_plan.t0 <= t + 1e-9:
            return self._next_plan
        return self._plan

    def _seed(self, index: int, q: np.ndarray) -> None:
        """The reference anew, at rest."""
        self._queue, self._past = deque([seed(index, q)]), deque(maxlen=self._past.maxlen)
        self._off_since = self._off = None

    def _forget_reference(self) -> None:
        if self._queue:  # under velocities and torques the arm is where it is
            self._held = None if self.sink in ("velocity", "effort") else self._queue[-1].motion.q
        self._queue.clear()
        self._past.clear()
        self._off_since = self._off = self._sent = None

    def _command(self, now: float) -> Command | None:
        """The committed ticks and, after them, the stop; torques have none."""
        if self.torques:
            return self._efforts(self.torques, now)
        self._sent, last = self._queue[0], self._queue[-1]
        ticks, tail = last.stop.knots(last.motion, self.dt)
        head = list(self._queue)
        t = np.concatenate([[tick.index for tick in head], last.index + ticks]) * self.dt
        q = np.concatenate([[tick.motion.q for tick in head], tail.q])
        v = np.concatenate([[tick.motion.v for tick in head], tail.v])
        a = np.concatenate([[tick.motion.a for tick in head], tail.a])
        return Command(t, q, v, a, None, Mode.VELOCITY_REFERENCE)

    def _efforts(self, torques: Torques, now: float) -> Command | None:
        """The torques of this tick; without states and at rest none, so that the other side brakes."""
        tick, state = self._queue[0], self.slot.state
        known = state is not None and Status.STALE_STATE not in self.status
        self._sent = None
        if not known and tick.resting:
            return None
        plan = self._plan_for(now) if self.state is GuardState.ACTIVE else None
        at = tick.motion.q if state is None else state.q
        effort = None
        if plan is not None and state is not None:
            wanted, cut = torques.around(plan, now, state)
            effort = torques.sent(now, wanted, at, cut)
        if effort is None:
            effort = torques.sent(now, torques.holding(tick.motion, self._off if known else None), at)
        if effort is None:
            self.status |= Status.NONFINITE
            self._happen(Event.BROKEN, "torques that are not finite")
            return None
        self._sent = tick
        if torques.cut:
            self.status |= Status.LIMITED
        m = tick.motion
        return Command(np.array([tick.index * self.dt]), m.q[None], m.v[None], m.a[None], effort[None], Mode.TORQUE)

    # --- people ---

    def _answer(self, request: Request, now: float, mono: float) -> tuple[bool, str]:
        """Do what a person asks for, or say why not."""
        if request.event is Event.ARM:
            return self._arm(now, mono)
        if request.event is Event.RESET:
            if self.state is not GuardState.FAULT:
                return False, f"nothing to reset: {self.describe()}"
            if self.estop_pressed:
                return False, "the e-stop is still pressed"
        before = self.state
        self._happen(request.event, request.reason)
        return True, f"{before.shown} -> {self.state.shown}"

    def _arm(self, now: float, mono: float) -> tuple[bool, str]:
        if self.state in (GuardState.ACTIVE, GuardState.HOLD):
            return True, f"already armed: {self.describe()}"
        if self.state not in (GuardState.READY, GuardState.LATCHED):
            return False, f"cannot arm in {self.describe()}"
        refusals = self._refusals(now, mono)
        if refusals:
            return False, "refused: " + "; ".join(refusals)
        state = self.slot.state
        assert state is not None
        if self.torques:  # braked or held, it may have been moved by what is stronger
            self._seed(math.floor(now / self.dt + 1e-6), state.q)
        elif not self._queue:
            start = state.q if self._held is None else self._held
            self._queue.append(seed(math.ceil((now + START_AFTER) / self.dt), start))
        self._happen(Event.ARM, "armed")
        return True, "ACTIVE"

    def _refusals(self, now: float, mono: float) -> list[str]:
        """Everything that stands against arming, in words."""
        state = self.slot.state
        found = [*filter(None, [self.surroundings.rivals]), *self.surroundings.obstacles]
        if self.estop_pressed:
            found.append("the e-stop is pressed")
        if self.slot.writers(mono) > 1:
            found.append(self._doubled(mono))
        if state is None or mono - self.slot.received > self.state_timeout:
            drops = self._worst_drop()
            found.append("no fresh joint state" + (f" (dropped: {drops})" if drops else ""))
        else:
            rate, least = self.slot.rate(mono), max(LEAST_RATE, 1.0 / self.state_timeout)
            if rate < least - 1e-6:
                found.append(f"joint states come {rate:.1f} times a second; at least {least:g} to arm")
            speed = np.abs(state.v)[self._motors].max()
            if speed > STILL:
                found.append(f"the arm moves at {speed:.2f} rad/s; at most {STILL} to arm")
            outside = np.maximum(self.limits.lower - state.q, state.q - self.limits.upper)
            if outside.max() > OUTSIDE:
                name = self.slot.map.joints[int(outside.argmax())]
                found.append(f"{name} lies {outside.max():.2f} rad outside its range; at most {OUTSIDE} to arm")
            held = self._queue[-1].motion.q if self._queue else self._held
            if held is not None and not self.torques and np.abs(state.q - held).max() > NEAR:
                away = np.abs(state.q - held)
                name = self.slot.map.joints[int(away.argmax())]
                found.append(
                    f"{name} is {away.max():.2f} rad from where it was left, at most {NEAR} to arm:"
                    " free it, or re-activate the sink and restart this node"
                )
            if abs(state.t - now) > MAX_SKEW:
                found.append(
                    f"stamps differ from our clock by {state.t - now:+.1f} s (clock skew, or use_sim_time differs)"
                )
        if self._good < RESUME_AFTER:
            refused = [text for text in self.counts if text.startswith("plan refused")]
            last = f" ({refused[-1]})" if refused else ""
            found.append(f"{self._good} of {RESUME_AFTER} good plans from the planner{last}")
        if self._queue and not self._queue[-1].resting:
            found.append("the arm is still stopping")
        return found

    def describe(self) -> str:
        """State and reason in words."""
        return f"{self.state.shown}: {self.reason or self.state.value[1]}"

    def _happen(self, event: Event, reason: str) -> None:
        new = after(self.state, event)
        if new is not self.state:
            self.holds += new in (GuardState.HOLD, GuardState.LATCHED) and self.state is GuardState.ACTIVE
            self.counts[f"-> {new.shown}"] += 1
            keep = new is GuardState.FAULT and self.state is GuardState.ESTOP  # the reason of the stop, not its end
            self.reason = self.reason if keep else reason
            self.state = new


def _inner(limits: Limits, margin: float) -> Limits:
    """The limits that the reference keeps to: a little inside the declared ones."""
    return replace(
        limits,
        lower=limits.lower + margin,
        upper=limits.upper - margin,
        velocity=limits.velocity * LIMIT_SHARE,
        acceleration=limits.acceleration * LIMIT_SHARE,
        jerk=limits.jerk * LIMIT_SHARE,
    )


def _usable_for(plan: Plan, period: float) -> float:
    """How long after its start a plan may be followed [s]."""
    return min(LATE_PERIODS * period, 0.5 * plan.horizon * plan.dt)
