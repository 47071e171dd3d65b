"""The reference filter: the only place where the motion that an arm is asked for comes into being.

Once a tick the reference moves on by one constant-jerk step per joint. A step towards the target is taken
only if a jerk-limited stop from its end stays inside every limit (``stop.py``); where it would not, the
step is shortened towards the stored stop, and where nothing else is left the stored stop is played. The
stop after a stop's tick is the rest of that stop, so a reference that starts inside the limits never
leaves them, whatever is asked of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbrl_control.core import Limits, Setpoint
from mbrl_control.runtime.stop import Motion, Stop, at_rest, extrema, stop_from

FOLLOW = 20.0
"""Bandwidth with which a deviation from the target is worked off [1/s]."""
SHARES = np.linspace(1.0, 0.0, 9)[1:-1, None]
"""Shares of the wanted jerk, against the stop's, that are tried when the whole is not acceptable."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The reference at one tick of the grid, with the stop that is known to be safe from here."""

    index: int
    motion: Motion
    stop: Stop
    limited: bool = False
    """Some joint was held back by a limit."""

    @property
    def resting(self) -> bool:
        return self.stop.over()


def seed(index: int, q: np.ndarray) -> Tick:
    """The reference at rest in ``q``."""
    zero = np.zeros_like(q)
    return Tick(index, Motion(q.copy(), zero, zero), at_rest(q.shape))


def brake(tick: Tick, dt: float) -> Tick:
    """One tick of the stored stop."""
    if tick.stop.over():
        return dataclasses.replace(tick, index=tick.index + 1, limited=False)
    motion, rest = tick.motion.after(tick.stop.first_jerk(), dt), tick.stop.rest()
    moving = rest.ticks.any(axis=0)
    settled = Motion(motion.q, np.where(moving, motion.v, 0.0), np.where(moving, motion.a, 0.0))
    return Tick(tick.index + 1, settled, rest)


def follow(tick: Tick, target: Setpoint, limits: Limits, dt: float) -> Tick:
    """One tick towards ``target`` (the setpoint at its end), as far as the limits allow."""
    limits = reaching(limits, tick.motion.q)
    wanted = _jerk_towards(tick.motion, target, limits, dt)
    motion, stop, inside = _try(tick.motion, wanted, limits, dt)
    if inside.all():
        return Tick(tick.index + 1, motion, stop)
    fallback = brake(tick, dt)
    stop_jerk = tick.stop.first_jerk()
    tried, stops, good = _try(tick.motion, stop_jerk + SHARES * (wanted - stop_jerk), limits, dt)
    for row in range(len(SHARES)):
        take = good[row] & ~inside
        motion = _merge(take, _row(tried, row), motion)
        stop = Stop(stops.ticks[:, row], stops.j1[row], stops.j3[row]).where(take, stop)
        inside = inside | take
    return Tick(
        tick.index + 1, _merge(inside, motion, fallback.motion), stop.where(inside, fallback.stop), limited=True
    )


def reaching(limits: Limits, q: np.ndarray) -> Limits:
    """The limits, widened to a position that lies outside of them already: from there only inwards."""
    if (q >= limits.lower).all() and (q <= limits.upper).all():
        return limits
    return dataclasses.replace(limits, lower=np.minimum(limits.lower, q), upper=np.maximum(limits.upper, q))


def _jerk_towards(m: Motion, target: Setpoint, limits: Limits, dt: float) -> np.ndarray:
    """The jerk that works off the deviation without overshoot, within the limits of one tick."""
    coast = m.after(np.zeros_like(m.a), dt)
    error = target.q - coast.q
    braking = np.sqrt(limits.acceleration * np.abs(error))  # half the acceleration is kept for the braking
    closing = np.copysign(np.minimum(0.5 * FOLLOW * np.abs(error), braking), error)
    speed = np.clip(target.v + closing, -limits.velocity, limits.velocity)
    accel = np.clip(target.a + 2.0 * FOLLOW * (speed - coast.v), -limits.acceleration, limits.acceleration)
    return np.clip((accel - m.a) / dt, -limits.jerk, limits.jerk)


def _try(m: Motion, jerk: np.ndarray, limits: Limits, dt: float) -> tuple[Motion, Stop, np.ndarray]:
    """Where the jerk leads in one tick, the stop from there, and whether both stay inside the limits."""
    end = m.after(jerk, dt)
    stop, inside = stop_from(end, limits, dt)
    v_low, v_high, q_low, q_high = extrema(m, jerk, dt)
    inside &= (np.abs(jerk) <= limits.jerk) & (np.maximum(v_high, -v_low) <= limits.velocity)
    inside &= (q_low >= limits.lower) & (q_high <= limits.upper)
    return end, stop, inside


def _merge(take: np.ndarray, one: Motion, other: Motion) -> Motion:
    return Motion(np.where(take, one.q, other.q), np.where(take, one.v, other.v), np.where(take, one.a, other.a))


def _row(m: Motion, row: int) -> Motion:
    return Motion(m.q[row], m.v[row], m.a[row])
