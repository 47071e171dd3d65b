"""What is believed of the robot: joint states mapped by name, with what was dropped and why."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_control.core import MbrlError, State

MAX_JOINTS = 1024
"""A message with more names than this is refused before anything loops over it."""
RECENT = 1.0
"""Rates and writers are those of the last so many seconds."""


class JointError(MbrlError):
    """A joint that the robot has and the messages have not, or have twice."""


class JointMap:
    """Joint order is not a contract: messages are mapped by name, and mapped again whenever the names change."""

    def __init__(self, joints: Sequence[str]) -> None:
        self.joints = tuple(joints)
        self._names: tuple[str, ...] = ()
        self._index = np.arange(0)

    def index(self, names: Sequence[str]) -> np.ndarray:
        """Where each of our joints stands in ``names``; joints that are not ours are ignored."""
        names = tuple(names)
        if names != self._names:
            wrong = [joint for joint in self.joints if names.count(joint) != 1]
            if wrong:
                times = names.count(wrong[0])
                raise JointError(f"joint '{wrong[0]}' stands {times} times in the joint states; it takes exactly 1")
            self._index = np.array([names.index(joint) for joint in self.joints])
            self._names = names
        return self._index


@dataclass(frozen=True, slots=True)
class Reading:
    """One joint-state message, as it came."""

    names: Sequence[str]
    q: Sequence[float] | np.ndarray
    v: Sequence[float] | np.ndarray
    stamp: float
    """Control-clock time that the message says."""
    received: float
    """Monotonic time at which it came."""
    writer: Hashable = None
    """Whoever published it; None: the middleware does not say."""


class StateSlot:
    """The newest good state; whatever cannot be one is dropped and counted."""

    def __init__(self, joints: Sequence[str]) -> None:
        self.map = JointMap(joints)
        self.state: State | None = None
        self.received = -np.inf
        self.drops: Counter[str] = Counter()
        self.count = 0
        self.bad_in_a_row = 0
        self._arrivals: deque[float] = deque(maxlen=256)
        self._heard: dict[Hashable, float] = {}

    def put(self, reading: Reading) -> bool:
        """Take a message or drop it; raises ``JointError`` where a joint of ours is missing or doubled."""
        reason = self._fault(reading)
        if reason != "too many joints":
            if not set(self.map.joints).intersection(reading.names):
                reason = "none of our joints"  # a gripper's driver on the same topic, say
            elif reading.writer is not None:
                self._heard[reading.writer] = reading.received
        if reason is None:
            index = self.map.index(reading.names)
            q = np.asarray(reading.q, dtype=float)[index]
            v = np.asarray(reading.v, dtype=float)[index]
            if not (np.isfinite(q).all() and np.isfinite(v).all()):
                reason = "not finite"
            else:
                self.state = State(reading.stamp, q, v)
                self.received = reading.received
                self._arrivals.append(reading.received)
                self.count += 1
                self.bad_in_a_row = 0
                return True
        self.drops[reason] += 1
        self.bad_in_a_row += reason not in ("repeated", "out of order", "none of our joints")
        return False

    def _fault(self, reading: Reading) -> str | None:
        n = len(reading.names)
        if n > MAX_JOINTS:
            return "too many joints"
        if len(reading.q) != n:
            return "wrong size"
        if len(reading.v) != n:
            return "no velocity" if len(reading.v) == 0 else "wrong size"
        if self.state is not None and reading.stamp <= self.state.t:
            return "repeated" if reading.stamp == self.state.t else "out of order"
        return None

    def rate(self, mono: float) -> float:
        """Good states a second [Hz], of late; the mere number of them where there are too few to tell."""
        recent = [t for t in self._arrivals if t > mono - RECENT]
        if len(recent) < 3 or recent[-1] <= recent[0]:
            return float(len(recent))
        return (len(recent) - 1) / (recent[-1] - recent[0])

    def writers(self, mono: float) -> int:
        """How many publish our joints, of late; 0 where the middleware does not say."""
        if len(self._heard) > 1:
            self._heard = {writer: t for writer, t in self._heard.items() if t > mono - RECENT}
        return len(self._heard)

    def forget(self) -> None:
        """After the clock went backwards: stamps start anew."""
        self.state = None
        self._arrivals.clear()
        self._heard.clear()
        self.received = -np.inf
        self.bad_in_a_row = 0
