"""Between ROS messages and the core's types. Nothing in here decides anything.

A plan travels as one ``Float64MultiArray`` (``pack_plan``), so that it arrives whole or not at all:

    magic version seq | t0: s ns | state stamp: s ns | period dt mode | joints session host pid | H nj nu gains
    | q v u K

Stamps are whole seconds and nanoseconds of the ROS clock, hashes are 48 bits: each fits a double exactly. What
people are shown of the guard travels in the same way (``pack_digest``).
"""

from __future__ import annotations

import array
import hashlib
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mbrl_control.core import Command, MbrlError, Mode, Plan
from mbrl_control.runtime.digest import Digest
from mbrl_control.runtime.states import GuardState

MAGIC = 77_069_766.0
VERSION = 2.0
HEADER = ("magic", "version", "seq", "t0_s", "t0_ns", "state_s", "state_ns", "period", "dt", "mode", "joints",
          "session", "host", "pid", "H", "nj", "nu", "gains")  # fmt: skip
MODES = tuple(Mode)
MAX_KNOBS = 1_000_000
"""Most numbers that a plan message may have."""
SECOND = 1_000_000_000


class PlanError(MbrlError):
    """A message that is not a plan of ours for this robot."""


def to_ns(stamp: Time) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def to_time(ns: int) -> Time:
    return Time(sec=ns // SECOND, nanosec=ns % SECOND)


def hash48(text: str) -> int:
    """48 bits of SHA-256: exact in a double."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@cache
def this_host() -> int:
    """Identifies the boot and the process namespace, so that a pid means the same process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return hash48((boot.read_text() if boot.exists() else "") + str(Path("/proc/self/ns/pid").readlink()))


def new_session() -> int:
    """A number for one life of one planner."""
    return secrets.randbits(47) + 1


@dataclass(frozen=True, slots=True)
class PackedPlan:
    """A plan as it came: times in nanoseconds of the ROS clock."""

    plan: Plan
    """With ``t0`` and ``state_stamp`` in seconds since ``base_ns``."""
    period: float
    """Time until the next one is sent [s]."""
    session: int
    host: int
    pid: int


def pack_plan(plan: Plan, base_ns: int, joints: Sequence[str], session: int, period: float) -> Float64MultiArray:
    """The message for a plan whose times are seconds since ``base_ns`` of the ROS clock, one every ``period``."""
    nj, nu = plan.q.shape[1], plan.u.shape[1]
    t0, state = (base_ns + round(t * SECOND) for t in (plan.t0, plan.state_stamp))
    header = [
        MAGIC, VERSION, plan.seq, t0 // SECOND, t0 % SECOND, state // SECOND, state % SECOND, period,
        plan.dt, MODES.index(plan.mode), hash48(",".join(joints)), session, this_host(), os.getpid(),
        plan.horizon, nj, nu, plan.K is not None,
    ]  # fmt: skip
    parts = [np.asarray(header, dtype=float), plan.q.ravel(), plan.v.ravel(), plan.u.ravel()]
    if plan.K is not None:
        parts.append(plan.K.ravel())
    data = np.concatenate(parts)
    message = Float64MultiArray()
    message.layout.dim = [
        MultiArrayDimension(label=label, size=size, stride=size)
        for label, size in (("header", len(HEADER)), ("q", plan.q.size), ("v", plan.v.size), ("u", plan.u.size))
    ]
    message.data = array.array("d", data.tobytes())
    return message


def unpack_plan(data: Sequence[float], base_ns: int, joints: Sequence[str]) -> PackedPlan:
    """The plan in a message, its times as seconds since ``base_ns``; ``PlanError`` if it is none for these joints."""
    values = np.asarray(data, dtype=float)
    if not len(HEADER) <= len(values) <= MAX_KNOBS:
        raise PlanError(f"{len(values)} numbers; a plan has {len(HEADER)} to {MAX_KNOBS}")
    head: dict[str, float] = dict(zip(HEADER, values.tolist(), strict=False))
    if not np.isfinite(values[: len(HEADER)]).all():
        raise PlanError("header not finite")
    if head["magic"] != MAGIC or head["version"] != VERSION:
        raise PlanError(f"magic {head['magic']:g} version {head['version']:g}; it takes {MAGIC:g} and {VERSION:g}")
    if head["joints"] != hash48(",".join(joints)):
        raise PlanError("made for other joints than " + ", ".join(joints))
    horizon, nj, nu = (int(head[name]) for name in ("H", "nj", "nu"))
    sizes_fit = 0 < horizon <= MAX_KNOBS and 0 < nu <= MAX_KNOBS and 0 < nj == len(joints)
    if not (sizes_fit and 0 <= head["mode"] < len(MODES)):
        raise PlanError(f"H {horizon}, nj {nj}, nu {nu}, mode {head['mode']:g}")
    shapes = [(horizon + 1, nj), (horizon + 1, nj), (horizon, nu)] + [(horizon, nu, 2 * nj)] * bool(head["gains"])
    ends = len(HEADER) + np.cumsum([math.prod(shape) for shape in shapes])
    if len(values) != ends[-1]:
        raise PlanError(f"{len(values)} numbers; H {horizon}, nj {nj}, nu {nu} take {ends[-1]}")
    blocks = np.split(values[len(HEADER) :], ends[:-1] - len(HEADER))
    q, v, u, *gains = (block.reshape(shape) for block, shape in zip(blocks, shapes, strict=True))
    t0, state = (
        (int(head[f"{name}_s"]) * SECOND + int(head[f"{name}_ns"]) - base_ns) / SECOND for name in ("t0", "state")
    )
    mode = MODES[int(head["mode"])]
    plan = Plan(t0, float(head["dt"]), mode, q, v, u, gains[0] if gains else None, state, int(head["seq"]))
    return PackedPlan(plan, float(head["period"]), int(head["session"]), int(head["host"]), int(head["pid"]))


DIGEST_MAGIC = 77_069_768.0
DIGEST_VERSION = 2.0
DIGEST_HEADER = ("magic", "version", "t", "state", "state_age", "ticks", "missed", "holds", "late_p50", "late_p99",
                 "late_worst", "latency_p50", "latency_p99", "not_handed_over", "joints")  # fmt: skip
GUARD_STATES = tuple(GuardState)


class DigestError(MbrlError):
    """A message that is no digest of ours for this robot."""


def pack_digest(digest: Digest, joints: Sequence[str]) -> Float64MultiArray:
    """The message for a digest: header, q, v, reference."""
    d = digest
    header = [
        DIGEST_MAGIC, DIGEST_VERSION, d.t, GUARD_STATES.index(d.state), d.state_age, d.ticks, d.missed, d.holds,
        d.late_p50, d.late_p99, d.late_worst, d.latency_p50, d.latency_p99, d.not_handed_over, hash48(",".join(joints)),
    ]  # fmt: skip
    message = Float64MultiArray()
    blocks = {"header": np.array(header, dtype=float), "q": d.q, "v": d.v, "reference": d.reference}
    message.layout.dim = [
        MultiArrayDimension(label=label, size=block.size, stride=block.size) for label, block in blocks.items()
    ]
    message.data = _doubles(np.concatenate(list(blocks.values())))
    return message


def unpack_digest(data: Sequence[float], joints: Sequence[str]) -> Digest:
    """The digest in a message; ``DigestError`` if it is none for these joints."""
    values, nj = np.asarray(data, dtype=float), len(joints)
    if len(values) != len(DIGEST_HEADER) + 3 * nj:
        raise DigestError(f"{len(values)} numbers; a digest of {nj} joints has {len(DIGEST_HEADER) + 3 * nj}")
    head: dict[str, float] = dict(zip(DIGEST_HEADER, values.tolist(), strict=False))
    age = head.pop("state_age")
    if not np.isfinite(list(head.values())).all() or np.isnan(age):
        raise DigestError("header not finite")
    if head["magic"] != DIGEST_MAGIC or head["version"] != DIGEST_VERSION:
        raise DigestError(
            f"magic {head['magic']:g} version {head['version']:g}; it takes {DIGEST_MAGIC:g} and {DIGEST_VERSION:g}"
        )
    if head["joints"] != hash48(",".join(joints)):
        raise DigestError("made for other joints than " + ", ".join(joints))
    if head["state"] not in range(len(GUARD_STATES)):
        raise DigestError(f"state {head['state']:g}; it takes 0 to {len(GUARD_STATES) - 1}")
    q, v, reference = values[len(DIGEST_HEADER) :].reshape(3, nj)
    return Digest(
        t=head["t"],
        state=GUARD_STATES[int(head["state"])],
        state_age=age,
        ticks=int(head["ticks"]),
        missed=int(head["missed"]),
        holds=int(head["holds"]),
        late_p50=head["late_p50"],
        late_p99=head["late_p99"],
        late_worst=head["late_worst"],
        latency_p50=head["latency_p50"],
        latency_p99=head["latency_p99"],
        not_handed_over=int(head["not_handed_over"]),
        q=q,
        v=v,
        reference=reference,
    )


def _doubles(row: np.ndarray) -> array.array[float]:
    return array.array("d", row.astype(float, copy=False).tobytes())


def trajectory(command: Command, base_ns: int, joints: Sequence[str]) -> JointTrajectory:
    """A command as a joint_trajectory_controller takes it; stamped, so that jitter on the way changes nothing."""
    message = JointTrajectory(joint_names=list(joints))
    first = round(command.t[0] * SECOND)
    message.header.stamp = to_time(base_ns + first)
    points = []
    for t, q, v, a in zip(command.t, command.q, command.v, command.a, strict=True):
        after = round(t * SECOND) - first
        points.append(
            JointTrajectoryPoint(
                positions=_doubles(q),
                velocities=_doubles(v),
                accelerations=_doubles(a),
                time_from_start=Duration(sec=after // SECOND, nanosec=after % SECOND),
            )
        )
    message.points = points
    return message


def plan_trajectory(plan: Plan, base_ns: int, joints: Sequence[str]) -> JointTrajectory:
    """A plan for people and their tools; positions and velocities at its knots."""
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp = to_time(base_ns + round(plan.t0 * SECOND))
    points = []
    for k, (q, v) in enumerate(zip(plan.q, plan.v, strict=True)):
        after = round(k * plan.dt * SECOND)
        time = Duration(sec=after // SECOND, nanosec=after % SECOND)
        points.append(JointTrajectoryPoint(positions=_doubles(q), velocities=_doubles(v), time_from_start=time))
    message.points = points
    return message


def reference(names: Sequence[str], stamp_ns: int, q: np.ndarray, v: np.ndarray, state: str) -> JointState:
    """Where the guard's reference is; the frame says the guard's state, so that both arrive together."""
    message = JointState(name=list(names), position=_doubles(q), velocity=_doubles(v))
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), state
    return message


LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def diagnostic(name: str, level: str, message: str, values: dict[str, object]) -> DiagnosticStatus:
    """One status for /diagnostics, its values as text."""
    texts = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    pairs = [KeyValue(key=key, value=text) for key, text in texts.items()]
    return DiagnosticStatus(level=LEVELS[level], name=name, message=message, values=pairs)
