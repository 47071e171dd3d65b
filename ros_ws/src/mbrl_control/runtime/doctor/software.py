"""Python and the packages: what is there, in which version, and which command needs what is not."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

from mbrl_control.runtime.doctor import Check, Verdict

PYTHONS = ((3, 11), (3, 14))
"""From this version on, and below that one."""
NEEDED_FOR = {
    "ros": "mbrl launch, mbrl demo: every node",
    "sim": "mbrl demo, mbrl launch sim: the simulated robot, and dynamics that step it",
    "report": "mbrl demo: the plots of its report",
    "train": "learning and exporting, never on a robot",
    "test": "make test",
    "check": "make check",
    "docs": "make docs",
}
"""Extras, and what each is for; one that is not told here is made of others."""
ON_A_ROBOT = ("", "ros")
"""What a robot cannot do without: the plain installation, and ROS."""
STAND_INS = {"onnxruntime-gpu": "onnxruntime"}
LEARNED = {"onnx", "onnxruntime-gpu"}
"""Without these no learned model runs, and all else does."""
ROS = "ros-"
OPERATORS = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b}


@dataclass(frozen=True)
class Software:
    """What is installed."""

    python: tuple[int, ...]
    system: str
    machine: str
    free_threaded: bool = False
    requirements: Sequence[str] = ()
    """What our own package asks for, in the words of its metadata; empty: it was not installed."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of what it asks for; what is not there is not in here."""
    modules: frozenset[str] = frozenset()
    """ROS packages that a distribution's ROS brings as modules."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a package's metadata."""

    name: str
    bounds: tuple[tuple[str, str], ...]
    extra: str

    @property
    def wanted(self) -> str:
        return ", ".join(f"{operator}{bound}" for operator, bound in self.bounds) or "any version"


def gather() -> Software:
    """The facts of this interpreter."""
    try:
        requirements = metadata.requires("mbrl_control") or []
    except metadata.PackageNotFoundError:
        requirements = []
    names = {r.name for r in required(requirements, platform.machine())}
    versions = {}
    for name in names | {STAND_INS[name] for name in names if name in STAND_INS}:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    modules = (name.removeprefix(ROS).replace("-", "_") for name in names if name.startswith(ROS))
    return Software(
        python=sys.version_info[:3],
        system=platform.system(),
        machine=platform.machine(),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        requirements=tuple(requirements),
        versions=versions,
        modules=frozenset(module for module in modules if importlib.util.find_spec(module)),
    )


def required(lines: Sequence[str], machine: str) -> list[Requirement]:
    """The requirements that concern this kind of machine."""
    found = []
    for line in lines:
        spec, _, marker = line.partition(";")
        word = re.match(r"[\w.-]+", spec)
        other = re.search(r"platform_machine *== *['\"]([^'\"]+)", marker)
        if word is None or (other and other[1] != machine):
            continue
        extra = re.search(r"extra *== *['\"]([^'\"]+)", marker)
        bounds = tuple(re.findall(r"([<>=!~]+)\s*([\w.*]+)", spec))
        found.append(Requirement(word[0].lower(), bounds, extra[1] if extra else ""))
    return found


def checks(s: Software) -> list[Check]:
    """Verdicts on Python and on the packages of each extra."""
    found = [python(s), system(s)]
    if not s.requirements:
        here = "mbrl_control runs from its source tree and is not installed: versions are not compared"
        return [*found, Check("packages", Verdict.INFO, here, "python -m pip install -e .")]
    wanted = required(s.requirements, s.machine)
    extras = [extra for extra in ("", *NEEDED_FOR) if any(r.extra == extra for r in wanted)]
    return found + [packages(s, extra, [r for r in wanted if r.extra == extra]) for extra in extras]


def python(s: Software) -> Check:
    low, high = PYTHONS
    version = ".".join(map(str, s.python))
    if not low <= s.python[:2] < high:
        takes = f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
        return Check("python", Verdict.FAIL, f"Python {version}", f"{takes}: python3.12 -m venv .venv")
    if s.free_threaded:
        change = "use an ordinary build: ROS's Python client exists for no other"
        return Check("python", Verdict.FAIL, f"Python {version}, free-threaded", change)
    return Check("python", Verdict.OK, f"Python {version}")


def system(s: Software) -> Check:
    found = f"{s.system} on {s.machine}"
    if s.system != "Linux":
        change = "run it on Linux: the guard needs SCHED_FIFO, mlockall and pidfd"
        return Check("platform", Verdict.FAIL, found, change)
    if s.machine != "x86_64":
        return Check("platform", Verdict.WARN, f"{found}: not tried", "use x86-64, or tell us how it went")
    return Check("platform", Verdict.OK, found)


def packages(s: Software, extra: str, wanted: Sequence[Requirement]) -> Check:
    """One extra: what is missing, what is of another version than was tried, and what that costs."""
    name = f"packages [{extra}]" if extra else "packages"
    missing = [r for r in wanted if version(s, r) is None]
    other = [r for r in wanted if (v := version(s, r)) and not inside(v, r.bounds)]
    install = f"python -m pip install 'mbrl_control[{extra}]'" if extra else "python -m pip install mbrl_control"
    needed = f" (for {NEEDED_FOR[extra]})" if extra else ""
    if extra == "ros" and missing:
        install += ", or source a distribution's ROS 2: source /opt/ros/jazzy/setup.bash"
    if missing:
        verdict = Verdict.FAIL if extra in ON_A_ROBOT else Verdict.INFO
        if not extra and {r.name for r in missing} <= LEARNED:
            verdict, needed = Verdict.WARN, " (for learned models)"
        return Check(name, verdict, f"missing: {', '.join(r.name for r in missing)}{needed}", install)
    if other:
        said = ", ".join(f"{r.name} {version(s, r)} (tried: {r.wanted})" for r in other)
        return Check(name, Verdict.WARN, f"other versions than were tried: {said}{needed}", f"{install} --upgrade")
    return Check(name, Verdict.OK, f"{len(wanted)} there, in versions that were tried{needed}")


def version(s: Software, r: Requirement) -> str | None:
    """The version of what meets a requirement; empty where it has none that could be compared; None: it is missing."""
    for name in (r.name, STAND_INS.get(r.name, "")):
        if name in s.versions:
            return s.versions[name]
    if r.name.startswith(ROS) and "rclpy" in s.modules:
        module = r.name.removeprefix(ROS).replace("-", "_")
        if module in s.modules or module.startswith("rmw_"):  # a distribution chooses its middleware itself
            return ""
    return None


def inside(version: str, bounds: Sequence[tuple[str, str]]) -> bool:
    """Whether a version keeps the bounds; releases are compared, what follows them is not."""
    return all(operator in OPERATORS and OPERATORS[operator](*_aligned(version, bound)) for operator, bound in bounds)


def _aligned(a: str, b: str) -> tuple[list[int], list[int]]:
    """The releases of two versions as numbers, equally long."""
    numbers = [[int(n) for n in re.match(r"[\d.]*", v)[0].split(".") if n] for v in (a, b)]  # type: ignore[index]
    length = max(map(len, numbers))
    one, other = ([*n, *[0] * (length - len(n))] for n in numbers)
    return one, other
