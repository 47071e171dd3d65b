"""ROS 2: which one it is, whether two processes hear each other, and what the environment does to them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from mbrl_control.runtime.doctor import Check, Verdict

DISTRIBUTIONS = ("jazzy", "kilted")
"""What we support."""
WHEELS = {"7": "Jazzy", "9": "Kilted"}
"""By the first number of rclpy's version."""
TRIED_RMW = "rmw_fastrtps_cpp"
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
LAST_DOMAIN, LAST_SAFE_DOMAIN = 232, 101
"""Above the second the ports of DDS lie in the range from which Linux gives ports to anybody."""
SLOW = 5e-3
"""A round trip that takes longer than this for one in a hundred [s] is worth a word."""
CROWDED = 0.1
"""Share of /dev/shm that may be taken by what dead processes left."""


@dataclass(frozen=True)
class RoundTrip:
    """A joint state there and back between two processes."""

    rmw: str
    discovery: float
    """How long they took to find each other [s]."""
    sent: int
    heard: int
    p50: float
    p99: float
    worst: float
    """There and back [s]."""


@dataclass(frozen=True)
class Ros:
    """What there is of ROS."""

    origin: str = ""
    """Where rclpy lies; empty: there is none."""
    version: str = ""
    wheels: str = ""
    """Version of the wheel of rclpy, where there is one."""
    from_wheels: bool = False
    """Whether that is the one that is imported."""
    environ: Mapping[str, str] = field(default_factory=dict)
    cli: str = ""
    """Path of the ros2 command."""
    leftovers: int = 0
    leftover_bytes: int = 0
    """Fast DDS's files in shared memory that no process has open."""
    shm_bytes: int = 0
    """How much shared memory there is."""


def gather(shm: Path = Path("/dev/shm")) -> Ros:  # noqa: S108 - it is looked into, nothing is put there
    """The facts, without importing ROS."""
    spec = importlib.util.find_spec("rclpy")
    origin = str(Path(spec.origin).parent) if spec and spec.origin else ""
    wheels, files = "", ()
    try:
        wheel = metadata.distribution("ros-rclpy")
        wheels, files = wheel.version, (str(Path(str(wheel.locate_file("rclpy")))),)
    except metadata.PackageNotFoundError:
        pass
    try:
        version = metadata.version("rclpy") if origin else ""
    except metadata.PackageNotFoundError:
        version = ""
    left, size = leftovers(shm)
    try:
        stat = os.statvfs(shm)
        total = stat.f_frsize * stat.f_blocks
    except OSError:
        total = 0
    return Ros(
        origin=origin,
        version=version,
        wheels=wheels,
        from_wheels=origin in files,
        environ={name: value for name, value in os.environ.items() if re.match("ROS_|RMW_|FASTDDS_|AMENT_", name)},
        cli=shutil.which("ros2") or "",
        leftovers=left,
        leftover_bytes=size,
        shm_bytes=total,
    )


def leftovers(shm: Path) -> tuple[int, int]:
    """Our own files of Fast DDS that no process has open: how many, and bytes that they take."""
    found = [p for pattern in ("fastdds_*", "sem.fastdds_*", "fastrtps_*") for p in shm.glob(pattern)]
    held = set(_held(shm)) if found else set()
    sizes = []
    for path in found:
        try:
            stat = path.stat()
        except OSError:
            continue
        if stat.st_uid == os.getuid() and str(path) not in held:
            sizes.append(stat.st_blocks * 512)
    return len(sizes), sum(sizes)


def _held(shm: Path) -> Iterator[str]:
    """The files in shared memory that processes have open or mapped, as far as we may look."""
    prefix = f"{shm}/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for line in (process / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
                if prefix in line:
                    yield prefix + line.split(prefix, 1)[1].removesuffix(" (deleted)")
            for link in (process / "fd").iterdir():
                target = str(link.readlink())
                if target.startswith(prefix):
                    yield target
        except OSError:
            continue


def checks(r: Ros, trip: RoundTrip | None, failure: str = "") -> list[Check]:
    """Verdicts; ``trip`` is None where it was not made, ``failure`` says what went wrong in the attempt."""
    if not r.origin:
        change = (
            "python -m pip install 'mbrl_control[ros]', or source a distribution's: source /opt/ros/jazzy/setup.bash"
        )
        return [Check("ROS 2", Verdict.FAIL, "not found: no node can run", change)]
    found = [which(r), between(trip, failure), command(r), domain(r), discovery(r), shared_memory(r)]
    return [check for check in found if check is not None]


def which(r: Ros) -> Check:
    distro = r.environ.get("ROS_DISTRO", "")
    if r.from_wheels:
        said = f"{WHEELS.get(r.wheels.split('.')[0], 'ROS 2')} from Python packages, rclpy {r.wheels}"
        if not distro:
            return Check("ROS 2", Verdict.OK, said)
        change = "use one of them: a shell in which /opt/ros was not sourced, or a venv without the ros-* packages"
        return Check("ROS 2", Verdict.WARN, f"{said}, and {distro} was sourced as well", change)
    said = f"{distro or 'a distribution'}'s own, rclpy {r.version or 'of unknown version'} in {r.origin}"
    if r.wheels:
        change = "use one of them: python -m pip uninstall ros-rclpy, or a shell in which /opt/ros was not sourced"
        return Check("ROS 2", Verdict.WARN, f"{said}, and the Python packages ({r.wheels}) as well", change)
    if distro and distro not in DISTRIBUTIONS:
        return Check("ROS 2", Verdict.WARN, f"{said}: not tried", f"use {' or '.join(DISTRIBUTIONS)}")
    return Check("ROS 2", Verdict.OK, said)


def between(trip: RoundTrip | None, failure: str) -> Check | None:
    """Whether a message gets from one process to another and back."""
    name = "round trip"
    if failure:
        change = "see the words above; with a distribution's ROS use its own Python: /usr/bin/python3 -m venv"
        return Check(name, Verdict.FAIL, f"not made: {failure}", f"{change} --system-site-packages")
    if trip is None:
        return None
    if not trip.heard:
        change = "let the loopback carry multicast: sudo ip link set lo multicast on; a firewall: sudo nft list ruleset"
        return Check(name, Verdict.FAIL, f"{trip.rmw}: two processes on this machine do not hear each other", change)
    figures = "/".join(f"{value * 1e3:.2f}" for value in (trip.p50, trip.p99, trip.worst))
    found = f"{trip.rmw}, two processes: p50/p99/max {figures} ms there and back, {trip.heard} of {trip.sent} came"
    found += f", found each other in {trip.discovery:.2f} s"
    if trip.heard < trip.sent:
        return Check(name, Verdict.WARN, found, "end what keeps the cores busy, and measure again: messages were lost")
    if trip.p99 > SLOW:
        return Check(name, Verdict.WARN, found, "end what keeps the cores busy, and measure again: see load and tick")
    if trip.rmw != TRIED_RMW:
        return Check(
            name, Verdict.WARN, f"{found}; this middleware was not tried", f"export RMW_IMPLEMENTATION={TRIED_RMW}"
        )
    return Check(name, Verdict.OK, found)


def command(r: Ros) -> Check:
    if r.cli:
        return Check("ros2 command", Verdict.OK, f"{r.cli}: 'mbrl launch' hands over to it")
    return Check("ros2 command", Verdict.INFO, "not on the PATH: 'mbrl launch' runs the launch files itself")


def domain(r: Ros) -> Check:
    name, value = "ROS_DOMAIN_ID", r.environ.get("ROS_DOMAIN_ID", "")
    if not value:
        return Check(name, Verdict.OK, "not set: 0")
    change = f"export ROS_DOMAIN_ID=42 (0 to {LAST_SAFE_DOMAIN})"
    if not value.isdigit() or int(value) > LAST_DOMAIN:
        return Check(name, Verdict.FAIL, f"'{value}' is no domain", change)
    if int(value) > LAST_SAFE_DOMAIN:
        return Check(name, Verdict.WARN, f"{value}: its ports may be taken by others", change)
    return Check(name, Verdict.OK, value)


def discovery(r: Ros) -> Check:
    name, value = "discovery", r.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    here = "this machine only: export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
    if r.environ.get("ROS_LOCALHOST_ONLY", "") == "1":
        change = f"unset ROS_LOCALHOST_ONLY; for {here}"
        return Check(
            name, Verdict.WARN, "ROS_LOCALHOST_ONLY=1 is deprecated, and wins over the discovery range", change
        )
    if not value:
        return Check(name, Verdict.INFO, "our launch files keep to this machine; other ROS programs reach the subnet")
    if value not in RANGES:
        return Check(name, Verdict.WARN, f"'{value}' is none of {', '.join(RANGES)}: ROS will not take it", here)
    if value == "OFF":
        return Check(name, Verdict.FAIL, "OFF: processes do not find each other", here)
    if value == "LOCALHOST":
        return Check(name, Verdict.OK, "LOCALHOST: this machine only")
    found = f"{value}: whoever is in domain {r.environ.get('ROS_DOMAIN_ID') or 0} of this network may publish commands"
    return Check(name, Verdict.INFO, found, f"where the driver is on this machine too, {here}")


def shared_memory(r: Ros) -> Check:
    name, transports = "shared memory", r.environ.get("FASTDDS_BUILTIN_TRANSPORTS", "")
    used = transports not in ("", "UDPv4", "UDPv6")
    ours = "our nodes use it" if used else "our nodes use UDP instead"
    if not r.leftovers:
        return Check(name, Verdict.OK, f"nothing left behind in /dev/shm; {ours}")
    found = f"{r.leftovers} files of killed ROS processes in /dev/shm, {r.leftover_bytes / 2**20:.1f} MiB; {ours}"
    clean = "rm /dev/shm/fastdds_* /dev/shm/sem.fastdds_*"
    crowded = r.leftover_bytes > CROWDED * r.shm_bytes
    verdict = Verdict.WARN if crowded or used else Verdict.INFO
    return Check(name, verdict, found, f"while no ROS program runs: {clean}")
