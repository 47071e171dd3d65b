"""Scheduling: what a process may ask for, what it was granted when it tried, how late its ticks were, how a stop ends.

The limits on lateness are the project's own T14, as measured from outside the tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbrl_control.core import Limits
from mbrl_control.runtime.doctor import Check, Verdict
from mbrl_control.runtime.loop import PRIORITY, STATE_TIMEOUT
from mbrl_control.runtime.safety import GuardConfig
from mbrl_control.runtime.stop import Motion, stop_from

RTPRIO = 98
"""The limit to ask for: above every priority that we or ros2_control use."""
GOOD_P99, GOOD_P999 = 1e-3, 5e-3
"""Lateness under SCHED_FIFO [s]..."""
TOLERABLE_P99, TOLERABLE_MISSED = 5e-3, 0.01
"""... and what is still worked with [s]; the share of ticks that may be missed."""
STOLEN = 0.01
"""Share of the time that a host takes for others before it is worth a word."""
LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Scheduling:
    """What the system lets this user ask for, and what a process of ours was given."""

    fifo: bool
    locked: bool
    why: str
    """What was refused, in the system's words."""
    user: str
    rtprio_limit: int
    memlock_limit: int | None
    """Bytes; None: no limit."""
    runtime_us: int | None
    """Time that real-time processes may use of each period; -1: all of it; None: the kernel does not say."""
    period_us: int
    group_runtime_us: int | None = None
    """The same for the control group, where the kernel counts it (CONFIG_RT_GROUP_SCHED)."""
    container: bool = False

    @property
    def promise_class(self) -> str:
        return "A" if self.fifo and self.locked else "B"


@dataclass(frozen=True)
class Ticks:
    """How the guard's loop did, with nothing in its tick."""

    rate: float
    seconds: float
    loaded: int
    """Processes that kept the cores busy meanwhile."""
    ticks: int
    missed: int
    p50: float
    p99: float
    p999: float
    worst: float
    """Lateness [s]."""
    stolen: float
    """Share of the time that the host gave to others."""

    @property
    def share_missed(self) -> float:
        return self.missed / max(self.ticks + self.missed, 1)


def checks(s: Scheduling, measured: list[Ticks]) -> list[Check]:
    """Verdicts on scheduling and on what was measured."""
    return [promise(s), fifo(s), memory(s), throttling(s), *(lateness(t, s) for t in measured)]


def promise(s: Scheduling) -> Check:
    found = f"class {s.promise_class}: joint states may be {STATE_TIMEOUT[s.promise_class] * 1e3:.0f} ms old"
    return Check("promise", Verdict.OK if s.promise_class == "A" else Verdict.INFO, found)


def fifo(s: Scheduling) -> Check:
    limit = f"rtprio limit {s.rtprio_limit}"
    if s.fifo and s.rtprio_limit < PRIORITY:
        limit += ": by privilege"
    if s.fifo:
        return Check("SCHED_FIFO", Verdict.OK, f"priority {PRIORITY} granted to {s.user} ({limit})")
    found = f"priority {PRIORITY} refused to {s.user} ({limit})"
    if s.group_runtime_us == 0:
        change = "this control group has no real-time share: docker run --cpu-rt-runtime=950000 --cap-add sys_nice"
        return Check("SCHED_FIFO", Verdict.WARN, found, f"{change} --ulimit rtprio={RTPRIO}")
    docker = f"docker run --cap-add sys_nice --ulimit rtprio={RTPRIO}"
    return Check("SCHED_FIFO", Verdict.WARN, found, _grant(s, "rtprio", str(RTPRIO), docker))


def memory(s: Scheduling) -> Check:
    limit = "no limit" if s.memlock_limit is None else f"limit {s.memlock_limit / 2**20:.3g} MiB"
    if s.locked:
        return Check("locked memory", Verdict.OK, f"mlockall granted to {s.user} ({limit})")
    found = f"mlockall refused to {s.user} ({limit})"
    return Check(
        "locked memory", Verdict.WARN, found, _grant(s, "memlock", "unlimited", "docker run --ulimit memlock=-1")
    )


def throttling(s: Scheduling) -> Check:
    name = "real-time throttling"
    if s.runtime_us is None:
        return Check(name, Verdict.INFO, "the kernel does not say")
    change = "sudo sysctl kernel.sched_rt_runtime_us=950000"
    if s.runtime_us < 0:
        found = "off: a real-time process that runs wild takes its core for good"
        return Check(name, Verdict.INFO, found, change)
    share = s.runtime_us / s.period_us
    found = f"real-time processes may use {share:.0%} of each {s.period_us / 1e6:g} s"
    if share == 0.0:
        return Check(name, Verdict.FAIL, found, change)
    return Check(name, Verdict.OK, found) if share >= LEAST_SHARE else Check(name, Verdict.WARN, found, change)


def lateness(t: Ticks, s: Scheduling) -> Check:
    name = "tick under load" if t.loaded else "tick"
    figures = "/".join(f"{value * 1e3:.2f}" for value in (t.p50, t.p99, t.p999, t.worst))
    found = f"{t.rate:g} Hz for {t.seconds:g} s: late p50/p99/p99.9/max {figures} ms, {t.missed} of "
    found += f"{t.ticks + t.missed} missed"
    if t.loaded:
        found += f", {t.loaded} busy processes beside it"
    if t.stolen > STOLEN:
        found += f", {t.stolen:.0%} of the time taken by the host"
    if t.ticks == 0 or t.p99 > TOLERABLE_P99 or t.share_missed >= TOLERABLE_MISSED:
        verdict = Verdict.FAIL
    elif t.p99 > GOOD_P99 or t.p999 > GOOD_P999 or t.missed:
        verdict = Verdict.WARN
    else:
        return Check(name, Verdict.OK, found)
    return Check(name, verdict, found, _sooner(t, s))


def stopping(joints: Sequence[str], limits: Limits, rate: float) -> Check:
    """What becomes of the fastest motion if the guard is killed right after a command."""
    dt, still = 1.0 / rate, np.zeros(len(joints))
    start = Motion(still, limits.velocity, still)
    stop, _ = stop_from(start, limits, dt)
    after, motion = stop.knots(start, dt)
    slowest = int(np.argmax(stop.ticks.sum(axis=0)))
    found = f"a killed guard's arm begins it within {GuardConfig.lead + dt:.3g} s; from full speed it takes "
    found += f"{after[-1] * dt:.2f} s and {motion.q[-1, slowest]:.2f} rad or m ({joints[slowest]})"
    return Check("stop", Verdict.INFO, found)


def _sooner(t: Ticks, s: Scheduling) -> str:
    """What most likely makes the ticks late."""
    if s.promise_class == "B":
        return "get promise class A first (see SCHED_FIFO and locked memory), then measure again"
    if t.stolen > STOLEN:
        return "the host runs others on these cores: have it dedicate them, or use a machine of your own"
    return "see what runs at a higher priority: ps -eLo rtprio,pid,psr,comm --sort=-rtprio | head; then kernel and load"


def _grant(s: Scheduling, limit: str, value: str, docker: str) -> str:
    """The line that grants it, for where we are."""
    if s.container:
        return f"{docker} ...   (or in compose: ulimits, cap_add)"
    line = f"{s.user}  -  {limit}  {value}"
    unit = {"rtprio": f"LimitRTPRIO={value}", "memlock": "LimitMEMLOCK=infinity"}[limit]
    return f"in /etc/security/limits.conf, then log in again (a systemd unit: {unit}):\n{line}"
