"""The guard's loop as the guard would run it, with nothing in its tick: how it is scheduled, and how late it is.

Everything that the controller node asks for is asked for here: SCHED_FIFO, locked memory, no garbage collection, short
turns for other threads. What ROS and the guard itself cost comes on top; ``mbrl demo`` shows that.
"""

from __future__ import annotations

import gc
import getpass
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mbrl_control.probes import answer
from mbrl_control.runtime.loop import PRIORITY, SWITCH, Loop, WallPacer, enter_real_time

BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
STARTING = 0.5
"""What busy processes are given to come up [s]."""


def measure(rate: float, seconds: float, loads: list[bool]) -> dict[str, Any]:
    """Facts on scheduling, and on the ticks of one run without load or with it for each entry of ``loads``."""
    granted = enter_real_time(PRIORITY)
    sys.setswitchinterval(SWITCH)
    gc.disable()
    scheduling = {"fifo": granted.fifo, "locked": granted.locked, "why": granted.why, **limits()}
    return {"scheduling": scheduling, "ticks": [ticks(rate, seconds, loaded) for loaded in loads]}


def ticks(rate: float, seconds: float, loaded: bool) -> dict[str, Any]:
    """One run of the loop."""
    with busy(seconds if loaded else 0.0) as processes:
        loop = Loop(WallPacer(), round(1e9 / rate) / 1e9, lambda _: None)
        before = processor_times()
        loop.start()
        time.sleep(seconds)
        loop.stop()
        spent = [after - then for after, then in zip(processor_times(), before, strict=True)]
    p50, p99, p999 = loop.late.percentile(50, 99, 99.9)
    return {
        "rate": rate,
        "seconds": seconds,
        "loaded": processes,
        "ticks": loop.ticks,
        "missed": loop.overruns,
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "worst": loop.late.worst,
        "stolen": spent[7] / max(sum(spent[:8]), 1),
    }


@contextmanager
def busy(seconds: float) -> Iterator[int]:
    """As many processes as cores that do nothing but compute, under ordinary scheduling; they end by themselves."""
    if not seconds:
        yield 0
        return
    usual = os.sched_param(0)
    count = len(os.sched_getaffinity(0))
    command = [sys.executable, "-S", "-c", BUSY, str(seconds + STARTING + 1.0)]
    started = [
        subprocess.Popen(command, preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_OTHER, usual))
        for _ in range(count)
    ]
    try:
        time.sleep(STARTING)
        yield count
    finally:
        for process in started:
            process.kill()
            process.wait()


def processor_times() -> list[int]:
    """user nice system idle iowait irq softirq steal, of all cores since the start [clock ticks]."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return [int(word) for word in words[1:9]]


def limits() -> dict[str, Any]:
    """What this user may ask for."""
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return {
        "user": _user(),
        "rtprio_limit": resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
        "memlock_limit": None if memlock == resource.RLIM_INFINITY else memlock,
        "runtime_us": _number("/proc/sys/kernel/sched_rt_runtime_us"),
        "period_us": _number("/proc/sys/kernel/sched_rt_period_us") or 1_000_000,
        "group_runtime_us": _number("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"),
        "container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as containers have
        return str(os.getuid())


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(answer(measure))
