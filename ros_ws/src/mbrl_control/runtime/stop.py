"""Jerk-limited stops on the tick grid, in closed form.

A stop takes a joint from (v, a) to rest in three phases of constant jerk, j1 | 0 | j3, whose durations
T1, T2, T3 are whole ticks, so that a stop can be taken over at any tick and sent as a few exact knots.

The time-optimal durations follow from the limits: with the motion normalised so that it must be braked,

    a_peak = min(A, sqrt(J v + a^2 / 2)),   T1 = (a + a_peak) / J,   T3 = a_peak / J,
    T2 = (v + (a^2 - 2 A^2) / (2 J)) / A    where a_peak = A, else 0.

Rounded up to ticks, they leave two unknown jerks for two conditions (rest: v = 0, a = 0), solved exactly by

    a1 = -(v + a T1 / 2) / (T1 / 2 + T2 + T3 / 2),   j1 = (a1 - a) / T1,   j3 = -a1 / T3.

After phase 1 the velocity keeps its sign, so positions are extreme at the end or inside phase 1 only.
``stop_from`` returns whether all of that stays inside the limits; nothing in here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbrl_control.core import Limits

SLACK = 0.98
"""Share of the acceleration and jerk limits that the durations are computed with: room for the rounding."""
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Motion:
    """Position, velocity and acceleration of every joint at one tick; arrays [... nj]."""

    q: np.ndarray
    v: np.ndarray
    a: np.ndarray

    def after(self, jerk: np.ndarray, time: np.ndarray | float) -> Motion:
        """Where constant jerk leads in ``time``."""
        half = 0.5 * time
        third = time / 3.0
        return Motion(
            self.q + time * (self.v + half * (self.a + third * jerk)),
            self.v + time * (self.a + half * jerk),
            self.a + time * jerk,
        )


@dataclass(frozen=True, slots=True)
class Stop:
    """How each joint comes to rest: whole ticks of each phase [3 ... nj] and the two jerks [... nj]."""

    ticks: np.ndarray
    j1: np.ndarray
    j3: np.ndarray

    def first_jerk(self) -> np.ndarray:
        """The jerk of the stop's next tick."""
        n1, n2, n3 = self.ticks
        return np.where(n1 > 0, self.j1, np.where((n2 == 0) & (n3 > 0), self.j3, 0.0))

    def rest(self) -> Stop:
        """The stop that remains after its next tick has been played."""
        n1, n2, n3 = self.ticks
        d1 = n1 > 0
        d2 = ~d1 & (n2 > 0)
        d3 = ~d1 & ~d2 & (n3 > 0)
        return Stop(self.ticks - np.stack([d1, d2, d3]), self.j1, self.j3)

    def over(self) -> bool:
        """Whether every joint has come to rest."""
        return not self.ticks.any()

    def where(self, mask: np.ndarray, other: Stop) -> Stop:
        """This stop for the joints in ``mask``, the other for the rest."""
        return Stop(
            np.where(mask, self.ticks, other.ticks),
            np.where(mask, self.j1, other.j1),
            np.where(mask, self.j3, other.j3),
        )

    def knots(self, start: Motion, dt: float) -> tuple[np.ndarray, Motion]:
        """Ticks after ``start`` [m] at which some joint changes its jerk, and the motion there [m nj]; ends at rest.

        Between knots every joint's jerk is constant, so a quintic through (q, v, a) is the stop itself.
        """
        ends = np.cumsum(self.ticks, axis=0)
        at = np.unique(ends)
        at = at[at > 0]
        left = at[:, None].astype(float)
        m = Motion(start.q[None], start.v[None], start.a[None])
        for ticks, jerk in zip(self.ticks, (self.j1, 0.0, self.j3), strict=True):
            spent = np.minimum(left, ticks)
            m = m.after(np.asarray(jerk), spent * dt)
            left = left - spent
        moving = at[:, None] < ends[-1]
        return at, Motion(m.q, np.where(moving, m.v, 0.0), np.where(moving, m.a, 0.0))


def at_rest(shape: tuple[int, ...]) -> Stop:
    """The stop of something that does not move."""
    return Stop(np.zeros((3, *shape), dtype=np.int64), np.zeros(shape), np.zeros(shape))


def extrema(
    m: Motion, jerk: np.ndarray, time: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least and largest velocity and position while ``jerk`` acts for ``time``, exactly."""
    end = m.after(jerk, time)
    safe_jerk = np.where(np.abs(jerk) > TINY, jerk, np.inf)
    turn = np.clip(-m.a / safe_jerk, 0.0, time)  # where the velocity is extreme
    v_turn = m.v + turn * (m.a + 0.5 * turn * jerk)
    v_low = np.minimum(np.minimum(m.v, end.v), v_turn)
    v_high = np.maximum(np.maximum(m.v, end.v), v_turn)
    q_low, q_high = np.minimum(m.q, end.q), np.maximum(m.q, end.q)
    root = np.sqrt(np.maximum(m.a * m.a - 2.0 * jerk * m.v, 0.0))
    grow = m.a + np.copysign(root, m.a)  # Citardauq: both zeros of the velocity without cancellation
    zeros = (-2.0 * m.v / np.where(np.abs(grow) > TINY, grow, np.inf), -grow / safe_jerk)
    for zero in zeros:
        at = np.clip(zero, 0.0, time)
        q_at = m.q + at * (m.v + at * (0.5 * m.a + at * jerk / 6.0))
        q_low, q_high = np.minimum(q_low, q_at), np.maximum(q_high, q_at)
    return v_low, v_high, q_low, q_high


def stop_from(m: Motion, limits: Limits, dt: float) -> tuple[Stop, np.ndarray]:
    """The stop from a motion [... nj], and for each joint whether it stays inside every limit."""
    accel, jerk = limits.acceleration * SLACK, limits.jerk * SLACK
    sign = np.where(m.v + m.a * np.abs(m.a) / (2.0 * jerk) < 0.0, -1.0, 1.0)
    v, a = sign * m.v, sign * m.a
    peak = np.minimum(accel, np.sqrt(np.maximum(jerk * v + 0.5 * a * a, 0.0)))
    plateau = np.where(peak < accel, 0.0, (v + (a * a - 2.0 * accel * accel) / (2.0 * jerk)) / accel)
    moving = (np.abs(m.v) > TINY) | (np.abs(m.a) > TINY)
    n1 = np.maximum(np.ceil((a + peak) / (jerk * dt) - 1e-9), 1.0)
    n2 = np.maximum(np.ceil(plateau / dt - 1e-9), 0.0)
    n3 = np.maximum(np.ceil(peak / (jerk * dt) - 1e-9), 1.0)
    t1, t2, t3 = n1 * dt, n2 * dt, n3 * dt
    a1 = np.where(moving, -(m.v + 0.5 * m.a * t1) / (0.5 * t1 + t2 + 0.5 * t3), 0.0)
    j1 = np.where(moving, (a1 - m.a) / t1, 0.0)
    j3 = np.where(moving, -a1 / t3, 0.0)
    ticks = np.stack([n1, n2, n3]).astype(np.int64) * moving
    v_low, v_high, q_low, q_high = extrema(m, j1, t1)
    second = m.after(j1, t1).after(np.zeros_like(j1), t2)
    end = second.after(j3, t3)
    q_end = np.where(moving, end.q, m.q)
    inside = (
        (np.abs(a1) <= limits.acceleration)
        & (np.abs(m.a) <= limits.acceleration)
        & (np.abs(j1) <= limits.jerk)
        & (np.abs(j3) <= limits.jerk)
        & (np.maximum(v_high, -v_low) <= limits.velocity)
        & (np.minimum(q_low, q_end) >= limits.lower)
        & (np.maximum(q_high, q_end) <= limits.upper)
    )
    return Stop(ticks, j1, j3), inside
