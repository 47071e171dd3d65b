"""What joint_trajectory_controller does with a trajectory, without ROS: time is an argument, in seconds.

Semantics of ros2_controllers (read at master 94e74de, kilted alike), ``interpolate_from_desired_state: true``:

* joints are mapped by name, all of them must be there, and a message replaces what was played before it;
* with start 0 it starts when it is accepted, otherwise at its stamp, in the past too, as long as its end is not;
* until the first point it is interpolated from the *desired* state at the time of acceptance;
* between points linear, cubic or quintic, by whether positions, velocities, accelerations are given;
* after the last point that point is held, with the accelerations given for it;
* it is refused when its last velocity is not zero, its times do not increase, a size is wrong or it is over.

Stricter than upstream where upstream would do something nobody wants: non-finite numbers, a joint named twice,
a negative first time, velocities for some of the points only, and accelerations without velocities (upstream
commands position 0) are refused.

A segment of length T is a polynomial in s = (t - t_i) / T; its coefficients for position, velocity and
acceleration stand side by side, so that a sample is one product [1, s, ... s^5] C_i.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

Array = np.ndarray
LAST_VELOCITY = float(np.finfo(np.float32).eps)
"""A last velocity up to this [rad/s] counts as zero, as it does upstream."""
MAX_POINTS = 10_000
ORDER = np.arange(6)


class Points(NamedTuple):
    """The points of a message, in the order of its joint names."""

    t: Annotated[Any, "n"]
    """Times from start [s]."""
    q: Annotated[Any, "n nj"]
    v: Annotated[Any, "n nj"] | None = None
    a: Annotated[Any, "n nj"] | None = None


class Rejected(Exception):  # noqa: N818 - says what happened to the message
    """Why a trajectory is not followed; never leaves this file."""


class TrajectoryController:
    """Follows the last trajectory that was accepted; holds until there is one."""

    def __init__(self, joints: Sequence[str], q: Annotated[Array, "nj"]) -> None:
        self.joints = tuple(joints)
        self.hold(q)

    def hold(self, q: Annotated[Array, "nj"]) -> None:
        """Forget the trajectory and stay at ``q``."""
        rest = np.zeros(len(self.joints))
        self._starts, self._scales = [0.0], [0.0]
        self._coefficients = _still(np.asarray(q, float), rest, rest)[None]
        self.end = 0.0

    def sample(self, t: float) -> tuple[Array, Array, Array]:
        """Desired position, velocity and acceleration [nj] at time ``t``."""
        i = max(bisect_right(self._starts, t) - 1, 0)
        s = max((t - self._starts[i]) * self._scales[i], 0.0)
        s2 = s * s
        row = np.array((1.0, s, s2, s2 * s, s2 * s2, s2 * s2 * s)).dot(self._coefficients[i])
        n = len(self.joints)
        return row[:n], row[n : 2 * n], row[2 * n :]

    def accept(self, names: Sequence[str], points: Points, start: float | None, now: float) -> str | None:
        """Follow a trajectory from now on, or say why not; ``start`` None or 0 means on arrival."""
        try:
            t, q, v, a = _checked(self.joints, names, points)
            begin = start or now
            if begin + t[-1] < now:
                raise Rejected(f"it ended {now - begin - t[-1]:.3f} s ago")
        except Rejected as reason:
            return str(reason)
        self._follow(begin + t, q, v, a, now)
        return None

    def _follow(self, t: Array, q: Array, v: Array | None, a: Array | None, now: float) -> None:
        if t[0] > now:
            before = self.sample(now)
            t = np.concatenate(([now], t))
            q = np.concatenate((before[0][None], q))
            v = None if v is None else np.concatenate((before[1][None], v))
            a = None if a is None else np.concatenate((before[2][None], a))
        lengths = np.diff(t)
        rest = np.zeros_like(q[-1])
        last = _still(q[-1], rest if v is None else v[-1], rest if a is None else a[-1])
        self._coefficients = np.concatenate((_segments(lengths, q, v, a), last[None]))
        self._starts, self._scales = t.tolist(), [*(1.0 / lengths).tolist(), 0.0]
        self.end = self._starts[-1]


def _still(q: Array, v: Array, a: Array) -> Annotated[Array, "6 3nj"]:
    rows = np.zeros((6, 3 * q.size))
    rows[0] = np.concatenate((q, v, a))
    return rows


def _segments(lengths: Array, q: Array, v: Array | None, a: Array | None) -> Annotated[Array, "n-1 6 3nj"]:
    """Coefficients in s of each segment, of the degree that the fields given determine."""
    T = lengths[:, None]
    c = np.zeros((len(lengths), 6, q.shape[1]))
    step = np.diff(q, axis=0)
    c[:, 0] = q[:-1]
    if v is None:
        c[:, 1] = step
    elif a is None:
        m0, m1 = v[:-1] * T, v[1:] * T
        c[:, 1] = m0
        c[:, 2] = 3.0 * step - 2.0 * m0 - m1
        c[:, 3] = -2.0 * step + m0 + m1
    else:
        m0, m1, n0, n1 = v[:-1] * T, v[1:] * T, a[:-1] * T**2, a[1:] * T**2
        c[:, 1] = m0
        c[:, 2] = 0.5 * n0
        c[:, 3] = 10.0 * step - 6.0 * m0 - 4.0 * m1 - 1.5 * n0 + 0.5 * n1
        c[:, 4] = -15.0 * step + 8.0 * m0 + 7.0 * m1 + 1.5 * n0 - n1
        c[:, 5] = 6.0 * step - 3.0 * m0 - 3.0 * m1 - 0.5 * n0 + 0.5 * n1
    velocity, acceleration = np.zeros_like(c), np.zeros_like(c)
    velocity[:, :5] = c[:, 1:] * ORDER[1:, None] / T[:, None]
    acceleration[:, :4] = velocity[:, 1:5] * ORDER[1:5, None] / T[:, None]
    return np.concatenate((c, velocity, acceleration), axis=2)


def _checked(
    joints: tuple[str, ...], names: Sequence[str], points: Points
) -> tuple[Array, Array, Array | None, Array | None]:
    """The points in the order of ``joints``, or ``Rejected``."""
    index = _order(joints, tuple(names))
    t = np.asarray(points.t, float)
    if not 0 < t.size <= MAX_POINTS:
        raise Rejected(f"{t.size} points; it takes 1 to {MAX_POINTS}")
    if not (np.isfinite(t).all() and t[0] >= 0.0 and (np.diff(t) > 0.0).all()):
        raise Rejected("the times from start do not increase from 0 on")
    size = (t.size, len(joints))
    q = _field("positions", points.q, size)
    v = _field("velocities", points.v, size)
    a = _field("accelerations", points.a, size)
    if q is None:
        raise Rejected("no positions")
    if v is None and a is not None:
        raise Rejected("accelerations without velocities")
    if v is not None and np.abs(v[-1]).max() > LAST_VELOCITY:
        worst = int(np.abs(v[-1]).argmax())
        raise Rejected(f"the last velocity of {names[worst]} is {v[-1, worst]:g}, not zero")
    return t, q[:, index], None if v is None else v[:, index], None if a is None else a[:, index]


def _order(joints: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    place = {name: i for i, name in enumerate(names)}
    missing = [joint for joint in joints if joint not in place]
    if missing:
        raise Rejected(f"joint {missing[0]} is missing")
    if len(names) != len(joints):
        extra = [name for name in names if name not in joints] or ["one that is named twice"]
        raise Rejected(f"joint {extra[0]} is not one of this controller's")
    return [place[joint] for joint in joints]


def _field(what: str, rows: Any, size: tuple[int, int]) -> Array | None:
    """Rows [n nj] of one field; None where no point has any."""
    if rows is None or not any(map(len, rows)):
        return None
    if len(rows) != size[0]:
        raise Rejected(f"{len(rows)} rows of {what} for {size[0]} points")
    for i, row in enumerate(rows):
        if len(row) != size[1]:
            raise Rejected(f"{len(row)} {what} at point {i} for {size[1]} joints")
    values = np.array(rows, float)
    if not np.isfinite(values).all():
        raise Rejected(f"{what} that are not finite")
    return values
