"""The machine: cores, load, frequency, kernel, clock. Read from /proc and /sys; nothing is changed.

What helps a periodic process and why: Linux Foundation, "HOWTO build a simple RT application" and "RT preemption
models" (wiki.linuxfoundation.org/realtime); cgroup limits: Documentation/admin-guide/cgroup-v2.rst, "cpu.max", and
scheduler/sched-bwc.rst in the kernel's tree.
"""

from __future__ import annotations

import ctypes
import gzip
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mbrl_control.runtime.doctor import Check, Verdict

BUSY = 0.7
"""Load a core above which figures are those of a busy machine."""
FAST_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
"""Clocks that are read without a system call."""
TIME_ERROR = 5
"""What adjtimex(2) returns where nothing keeps the clock."""
PREEMPT_OPTIONS = {"PREEMPT_NONE": "none", "PREEMPT_VOLUNTARY": "voluntary", "PREEMPT_LAZY": "lazy", "PREEMPT": "full"}
FULL = "add preempt=full to GRUB_CMDLINE_LINUX in /etc/default/grub; sudo update-grub; reboot"
REAL_TIME_KERNEL = "Debian: sudo apt install linux-image-rt-amd64; Ubuntu: sudo pro enable realtime-kernel; reboot"


@dataclass(frozen=True)
class Machine:
    """What the kernel says of itself."""

    cores: int
    """Cores that this process may run on..."""
    all_cores: int
    """... of so many."""
    quota: float | None = None
    """Cores' worth of time that the control group may use; None: no limit."""
    load: float = 0.0
    """Processes that ran or wanted to, on average over the last minute."""
    governors: Mapping[str, int] = field(default_factory=dict)
    """Frequency governors, and on how many cores; empty: the frequency is not ours to set."""
    kernel: str = ""
    preemption: str = ""
    """rt, full, lazy, voluntary or none; empty: it does not say."""
    switchable: bool = False
    """Whether the preemption model can be chosen at boot (PREEMPT_DYNAMIC)."""
    isolated: str = ""
    """Cores that nothing is put on unasked, as "2-3"."""
    hypervisor: bool = False
    container: bool = False
    clocksource: str = ""
    synchronised: bool | None = None
    """Whether something keeps the system clock right; None: the kernel does not say."""


def gather(root: Path = Path("/")) -> Machine:
    """The facts of this machine; ``root`` is where /proc and /sys are looked for."""
    version = _text(root / "proc/sys/kernel/version")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        all_cores=os.cpu_count() or 1,
        quota=quota(root),
        load=float((_text(root / "proc/loadavg") or "0").split()[0]),
        governors=Counter(map(_text, sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")))),
        kernel=_text(root / "proc/sys/kernel/osrelease"),
        preemption=preemption(root, version),
        switchable="PREEMPT_DYNAMIC" in version,
        isolated=_text(root / "sys/devices/system/cpu/isolated"),
        hypervisor=re.search(r"^flags\s*:.*\bhypervisor\b", _text(root / "proc/cpuinfo"), re.MULTILINE) is not None,
        container=(root / ".dockerenv").exists() or (root / "run/.containerenv").exists(),
        clocksource=_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        synchronised=_synchronised(),
    )


def quota(root: Path) -> float | None:
    """The tightest limit on processor time among our control group and those around it [cores]."""
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        unified = not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" if unified else root / "sys/fs/cgroup" / controllers
        if not unified and not top.is_dir():
            top = root / "sys/fs/cgroup/cpu"
        for folder in _upwards(top, path):
            if unified:
                words = _text(folder / "cpu.max").split()
            else:
                words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
                limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def preemption(root: Path, version: str) -> str:
    """The preemption model that is in force, from whichever source tells."""
    if _text(root / "sys/kernel/realtime") == "1" or "PREEMPT_RT" in version:
        return "rt"
    chosen = re.search(r"\((\w+)\)", _text(root / "sys/kernel/debug/sched/preempt"))
    chosen = chosen or re.search(r"\bpreempt=(\w+)", _text(root / "proc/cmdline"))
    if chosen:
        return chosen[1]
    release = _text(root / "proc/sys/kernel/osrelease")
    options = _kernel_config(root, release)
    for option, model in PREEMPT_OPTIONS.items():
        if re.search(rf"^CONFIG_{option}=y$", options, re.MULTILINE):
            return model
    return "full" if re.search(r"\bPREEMPT\b", version) and "DYNAMIC" not in version else ""


def checks(m: Machine) -> list[Check]:
    """Verdicts on the machine."""
    return [cores(m), load(m), governor(m), kernel(m), isolation(m), virtual(m), clocksource(m), clock(m)]


def cores(m: Machine) -> Check:
    usable = m.cores if m.quota is None else min(float(m.cores), m.quota)
    found = f"{m.cores} of {m.all_cores} may be used"
    if m.quota is not None:
        found += f", and no more than {m.quota:g} cores' worth of time (control group)"
    if usable >= 2.0:
        return Check("cores", Verdict.OK, found)
    if m.quota is not None and m.quota < 2.0:
        change = "lift the limit to two cores or more: docker run --cpus 2, or systemd's CPUQuota=200%"
    elif m.cores < m.all_cores:
        change = "let it use more of the cores: docker run --cpuset-cpus 0-1, or taskset -c 0-1 COMMAND"
    else:
        change = "use a machine of two cores or more: guard and planner share this one"
    return Check("cores", Verdict.WARN, found, change)


def load(m: Machine) -> Check:
    found = f"{m.load:.2f} in the last minute, {m.load / m.all_cores:.2f} a core"
    if m.load <= BUSY * m.all_cores:
        return Check("load", Verdict.OK, found)
    change = "the figures here are those of a busy machine: see 'top -o %CPU', end what is not needed, measure again"
    return Check("load", Verdict.WARN, found, change)


def governor(m: Machine) -> Check:
    if not m.governors:
        return Check("frequency", Verdict.INFO, "not ours to set (a virtual machine's host decides, or the firmware)")
    found = ", ".join(f"{name} on {count}" for name, count in m.governors.items())
    if set(m.governors) == {"performance"}:
        return Check("frequency", Verdict.OK, found)
    return Check("frequency", Verdict.WARN, found, "sudo cpupower frequency-set -g performance")


def kernel(m: Machine) -> Check:
    """Below full preemption a system call of anybody's can hold up even SCHED_FIFO."""
    name = {"rt": "PREEMPT_RT", "": "preemption not told"}.get(m.preemption, f"preemption {m.preemption}")
    found = f"Linux {m.kernel}, {name}"
    if m.preemption in ("rt", "full", "lazy"):
        return Check("kernel", Verdict.OK, found)
    if m.container:
        return Check("kernel", Verdict.INFO, f"{found}; it is the host's")
    if not m.preemption:
        return Check("kernel", Verdict.INFO, found)
    return Check("kernel", Verdict.WARN, found, FULL if m.switchable else REAL_TIME_KERNEL)


def isolation(m: Machine) -> Check:
    if m.isolated:
        return Check("isolated cores", Verdict.OK, f"{m.isolated}: start the guard there, taskset -c {m.isolated}")
    return Check(
        "isolated cores", Verdict.INFO, "none; for 500 Hz: isolcpus=N nohz_full=N on the kernel's command line"
    )


def virtual(m: Machine) -> Check:
    where = " and ".join(["in a container"] * m.container + ["on a virtual machine"] * m.hypervisor)
    if not m.hypervisor:
        return Check("host", Verdict.OK, where or "on the metal")
    return Check("host", Verdict.INFO, f"{where}: its host can stop it at any time, and nothing in here can prevent it")


def clocksource(m: Machine) -> Check:
    if m.clocksource in FAST_CLOCKS:
        return Check("clock source", Verdict.OK, m.clocksource)
    if not m.clocksource:
        return Check("clock source", Verdict.INFO, "the kernel does not say")
    change = "see why the kernel gave up the fast one: sudo dmesg | grep -i -e tsc -e clocksource"
    return Check("clock source", Verdict.WARN, f"{m.clocksource}: each look at the time is a system call", change)


def clock(m: Machine) -> Check:
    if m.synchronised is None:
        return Check("system clock", Verdict.INFO, "the kernel does not say whether something keeps it right")
    if m.synchronised:
        return Check("system clock", Verdict.OK, "kept right (NTP or PTP)")
    found = "nothing keeps it right; it matters where driver and guard are on two machines"
    return Check(
        "system clock", Verdict.INFO, found, "with the driver on another machine: sudo timedatectl set-ntp true"
    )


def _text(path: Path) -> str:
    """A file's words; nothing where there is none, or none for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """The folder of a control group and those around it; inside a container only the top may be there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:count])


def _kernel_config(root: Path, release: str) -> str:
    for path in (root / f"boot/config-{release}", root / f"lib/modules/{release}/config"):
        if options := _text(path):
            return options
    try:
        return gzip.decompress((root / "proc/config.gz").read_bytes()).decode("utf-8", errors="replace")
    except (OSError, EOFError):
        return ""


def _synchronised() -> bool | None:
    """adjtimex(2) with nothing to set answers whether the clock is kept."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    return None if state < 0 else state != TIME_ERROR
