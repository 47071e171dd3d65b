"""An independent observer: were the limits kept on what the arm was really asked for?

Reads the commands as they went over the wire, rebuilds what a joint_trajectory_controller makes of them
(a quintic through position, velocity and acceleration), and samples that at 1 kHz and across every splice
of one command to the next. It shares no code with the reference filter, so that it can prove it wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from mbrl_control.core import Limits

STEP = 0.001
RELATIVE = 1e-6
"""Share by which a limit may be passed before it counts: rounding, nothing else."""
BRIDGE = 1e-4
"""Less than this before its first point [s], a command counts as taking over right there."""
SPLICE = (1e-7, 1e-5, 1e-3)
"""Largest step of position, velocity and acceleration across a splice [rad, rad/s, rad/s^2]."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One command on the wire: points at absolute times, and the time at which it came."""

    at: float
    t: np.ndarray
    q: np.ndarray
    v: np.ndarray
    a: np.ndarray


@dataclass
class Judge:
    """Feed it every command in order; read ``violations`` (what and how often) and ``worst`` (share of the limit)."""

    limits: Limits
    violations: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=lambda: {"q": -np.inf, "v": 0.0, "a": 0.0, "j": 0.0})
    nonfinite: int = 0
    commands: int = 0
    examples: list[str] = field(default_factory=list)
    _last: Sent | None = None
    _blind: bool = False
    """Whether commands before the next one were not seen."""
    _from: float = 0.0
    """Up to where everything has been sampled."""
    _lower: np.ndarray | None = None
    _upper: np.ndarray | None = None

    def see(self, sent: Sent) -> None:
        """A command takes over from the one before when it comes, at its own first point at the earliest."""
        self.commands += 1
        if not all(np.isfinite(x).all() for x in (sent.t, sent.q, sent.v, sent.a)):
            self.nonfinite += 1
            return
        if np.any(sent.v[-1] != 0.0):
            self._count("no stop at the end", sent.t[-1])
        if np.any(np.diff(sent.t) <= 0.0):
            self._count("times do not increase", sent.t[0])
            return
        if self._last is None and self._blind:
            self._from = max(sent.at, float(sent.t[0]))
        elif self._last is None:  # nobody knows where the sink holds the arm
            self._lower = np.minimum(self.limits.lower, sent.q[0])
            self._upper = np.maximum(self.limits.upper, sent.q[0])
            if np.any(sent.v[0] != 0.0) or np.any(sent.a[0] != 0.0):
                self._count("starts in motion", sent.t[0])
            self._from = float(sent.t[0])
        elif sent.t[0] - sent.at > BRIDGE:  # it begins later: the sink goes there from where it is
            self._sample(self._last, self._from, sent.at)
            sent, self._from = self._bridge(self._last, sent), sent.at
        else:
            over = max(sent.at, float(sent.t[0]))
            self._sample(self._last, self._from, over)
            self._splice(self._last, sent, over)
            self._from = over
        self._last, self._blind = sent, False

    def skip(self) -> None:
        """Commands were sent that nobody saw: what the sink made of the last one, and of them, is not known."""
        self._last, self._blind = None, self._lower is not None

    def finish(self) -> None:
        """The last command is followed to its end."""
        if self._last is not None:
            self._sample(self._last, self._from, float(self._last.t[-1]))
            self._from = float(self._last.t[-1])

    def forget(self) -> None:
        """The sink was reset, as a simulation is: what was sent before does not count any more."""
        self._last, self._blind = None, False

    @staticmethod
    def _bridge(old: Sent, new: Sent) -> Sent:
        """The command with what the sink makes of the time until its first point."""
        q, v, a, _ = _at(old, np.array([new.at]))
        join = np.concatenate
        return Sent(new.at, join([[new.at], new.t]), join([q, new.q]), join([v, new.v]), join([a, new.a]))

    def _splice(self, old: Sent, new: Sent, t: float) -> None:
        at = np.array([t])
        for name, was, now, allowed in zip("qva", _at(old, at), _at(new, at), SPLICE, strict=False):
            step = np.abs(was[0] - now[0]).max()
            if step > allowed:
                self._count(f"step of {name} across a splice", t, step)

    def _sample(self, sent: Sent, start: float, end: float) -> None:
        if end <= start:
            return
        times = np.append(np.arange(start, end, STEP), end)
        q, v, a, j = _at(sent, times)
        assert self._lower is not None
        assert self._upper is not None
        room = 1e-9 + RELATIVE * (self.limits.upper - self.limits.lower)
        outside = np.maximum(self._lower - q, q - self._upper)
        self.worst["q"] = max(self.worst["q"], float(np.maximum(self.limits.lower - q, q - self.limits.upper).max()))
        self._check("position", outside - room, times)
        # From outside the range only inwards: what has been regained is kept.
        self._lower = np.minimum(self.limits.lower, np.maximum(self._lower, q[-1]))
        self._upper = np.maximum(self.limits.upper, np.minimum(self._upper, q[-1]))
        for name, short, value, limit in (
            ("velocity", "v", v, self.limits.velocity),
            ("acceleration", "a", a, self.limits.acceleration),
            ("jerk", "j", j, self.limits.jerk),
        ):
            share = np.abs(value) / limit
            self.worst[short] = max(self.worst[short], float(share.max()))
            self._check(name, share - 1.0 - RELATIVE, times)

    def _check(self, name: str, excess: np.ndarray, times: np.ndarray) -> None:
        if (excess > 0.0).any():
            row, joint = np.unravel_index(int(excess.argmax()), excess.shape)
            self._count(f"{name} of joint {joint + 1}", float(times[row]), float(excess[row, joint]))

    def _count(self, what: str, t: float, by: float | None = None) -> None:
        self.violations[what] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{what} at {t:.4f} s" + (f" by {by:.3g}" if by is not None else ""))


def _at(sent: Sent, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity, acceleration and jerk of the interpolant at ``times``; each [n nj]."""
    out = np.zeros((4, len(times), sent.q.shape[1]))
    segment = np.clip(np.searchsorted(sent.t, times, side="right") - 1, 0, len(sent.t) - 1)
    for k in range(int(segment[0]), int(segment[-1]) + 1):
        rows = segment == k
        if k == len(sent.t) - 1:
            out[0, rows] = sent.q[-1]
            continue
        h = sent.t[k + 1] - sent.t[k]
        s = (times[rows] - sent.t[k]) / h
        c = _quintic(sent, k, h)
        powers = s[:, None] ** np.arange(6)
        for order in range(4):
            derived = FALLING[order, order:, None] * c[order:]
            out[order, rows] = powers[:, : 6 - order] @ derived / h**order
    return out[0], out[1], out[2], out[3]


FALLING = np.array([[np.prod(np.arange(p - d + 1, p + 1)) if p >= d else 0.0 for p in range(6)] for d in range(4)])
"""d-th derivative of s^p is FALLING[d, p] s^(p - d)."""
CONDITIONS = np.linalg.inv(np.concatenate([FALLING[:3] * np.eye(3, 6), FALLING[:3]]))
"""From position, velocity and acceleration at s = 0 and s = 1 to the coefficients of s^0 .. s^5."""


def _quintic(sent: Sent, k: int, h: float) -> np.ndarray:
    """Coefficients [6 nj], in s = t / h, of the quintic through points k and k + 1."""
    ends = [sent.q[k], sent.v[k] * h, sent.a[k] * h * h, sent.q[k + 1], sent.v[k + 1] * h, sent.a[k + 1] * h * h]
    return CONDITIONS @ np.stack(ends)


@dataclass
class Dwell:
    """A goal counts as reached once the distance has stayed within ``tolerance`` for ``dwell`` seconds."""

    tolerance: float
    dwell: float
    reached_at: float | None = None
    _since: float | None = None

    def see(self, t: float, distance: float) -> bool:
        """The distance at time ``t``; whether the goal has been reached, now or before."""
        if not distance <= self.tolerance:
            self._since = None
        elif self._since is None:
            self._since = t
        elif self.reached_at is None and t - self._since >= self.dwell - 1e-9:
            self.reached_at = t
        return self.reached_at is not None
