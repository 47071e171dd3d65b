"""What ``mbrl doctor`` looks at: gathers facts, has measured what takes measuring, and asks for verdicts.

It stands here and not in ``runtime/doctor`` because it puts together plugins, ROS and ONNX Runtime; any of these may
be missing or broken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mbrl_control import registry
from mbrl_control.config import ConfigError, build, read_yaml
from mbrl_control.core import Robot
from mbrl_control.paths import share
from mbrl_control.probes import ask
from mbrl_control.runtime.doctor import Check, DoctorConfig, Verdict, machine, models, planning, realtime, robot, ros
from mbrl_control.runtime.doctor import software as packages
from mbrl_control.runtime.launch import ros_environ
from mbrl_control.wiring import PREFIX, Wiring, guarded

START = 20.0
"""What a program of ours may take to start and stop on a busy machine [s]."""
PLANNER_PATIENCE = 60.0
Asked = Callable[[], dict[str, Any]]
"""Waits for the answer of a program."""


@dataclass(frozen=True)
class Effort:
    """How long each thing is measured [s]."""

    tick: float
    trip: float
    runs: int
    """Of a model on each provider."""
    planner: float
    search: bool
    """Whether the largest sizes are looked for."""
    listen: float


QUICK = Effort(tick=0.5, trip=0.3, runs=2, planner=0.1, search=False, listen=1.0)


def thorough(options: DoctorConfig) -> Effort:
    """What is measured where there is time."""
    return Effort(tick=options.seconds, trip=2.0, runs=5, planner=0.5, search=True, listen=3.0)


@dataclass
class Examination:
    """One examination; ``facts`` collects what was found."""

    options: DoctorConfig
    effort: Effort
    load: bool = False
    side: ThreadPoolExecutor | None = None
    """Where to ask things whose timing does not matter much, while others are measured."""
    promise_class: str = "B"
    facts: dict[str, Any] = field(default_factory=dict)

    def steps(self, live: bool) -> Iterator[tuple[str, str, Callable[[], list[Check]]]]:
        """Titles, what is done meanwhile in words, and how; mistakes in the options are told first."""
        o = self.options
        for kind, name in (("tasks", o.task), ("dynamics", o.model)):
            registry.load(kind, name)
        made: Robot = registry.make("robots", o.robot)
        connection = connected(o) if live else ({}, {})
        trip, tried = self._started(self._ask_ros), self._started(self._ask_models)
        yield "Python and packages", "looking at packages", self.software
        yield "Machine", "looking at the machine", self.machine
        yield "Real time", f"measuring ticks for {self.effort.tick:g} s", lambda: self.real_time(made)
        yield "ROS 2", "sending messages between two processes", lambda: self.ros(trip)
        if live:
            yield f"Robot {o.robot}", "listening to the robot", lambda: self.robot(*connection)
        yield "Learned models", "trying ONNX Runtime's providers", lambda: self.models(tried)
        yield f"Planning: {o.robot}, {o.task}, {o.model}", "measuring the planners", self.planning

    def software(self) -> list[Check]:
        facts = packages.gather()
        self.facts["software"] = {**asdict(facts), "modules": sorted(facts.modules)}
        return packages.checks(facts)

    def machine(self) -> list[Check]:
        facts = machine.gather()
        self.facts["machine"] = asdict(facts)
        return machine.checks(facts)

    def real_time(self, made: Robot) -> list[Check]:
        loads, seconds = [False, True] if self.load else [False], self.effort.tick
        options = {"rate": self.options.rate, "seconds": seconds, "loads": loads}
        found = self.facts["real_time"] = ask("mbrl_control.probes.ticks", options, START + 2.0 * seconds)
        stop = realtime.stopping(made.joints, made.limits, self.options.rate)
        if "failure" in found:
            change = "see the words above: a process of ours could not even start"
            return [Check("tick", Verdict.FAIL, f"not measured: {found['failure']}", change), stop]
        scheduling = realtime.Scheduling(**found["scheduling"])
        self.promise_class = scheduling.promise_class
        return [*realtime.checks(scheduling, [realtime.Ticks(**ticks) for ticks in found["ticks"]]), stop]

    def ros(self, asked: Asked) -> list[Check]:
        facts, found = ros.gather(), asked()
        self.facts["ros"] = {**asdict(facts), "round_trip": found}
        failure = found.get("failure", "")
        return ros.checks(facts, ros.RoundTrip(**found) if found and not failure else None, failure)

    def robot(self, overrides: Mapping[str, Any], wiring: Mapping[str, Any]) -> list[Check]:
        options = {"what": "listen", "robot": self.options.robot, "overrides": overrides, "wiring": wiring}
        options |= {"namespace": self.options.namespace, "seconds": self.effort.listen}
        options |= {"promise_class": self.promise_class}
        if find_spec("rclpy") is None:
            found = {"failure": "there is no ROS 2"}
        else:
            found = ask("mbrl_control.nodes.doctor", options, START + self.effort.listen, ros_environ(os.environ))
        self.facts["robot"] = found
        if "failure" in found:
            return [Check("robot", Verdict.FAIL, f"not looked at: {found['failure']}", "mend ROS 2 first")]
        return robot.checks(robot.live(found))

    def models(self, asked: Asked) -> list[Check]:
        found = self.facts["models"] = asked()
        if "failure" in found:
            return models.checks(models.Engine(), found["failure"])
        listed = [models.Provider(**provider) for provider in found["listed"]]
        return models.checks(models.Engine(found["version"], listed, found["devices"]))

    def planning(self) -> list[Check]:
        o, effort = self.options, self.effort
        wanted = planning.Wanted(o.robot, o.task, o.model, o.plan_rate, o.duty)
        options: dict[str, Any] = {"parts": {"robot": o.robot, "task": o.task, "model": o.model}}
        options |= {"budget": wanted.budget, "seconds": effort.planner, "search": effort.search}

        def measure(names: list[str]) -> list[dict[str, Any]]:
            asked = {"planners": names, **options}
            said = ask("mbrl_control.probes.planners", asked, START + PLANNER_PATIENCE * len(names))
            if "failure" not in said:
                return said["planners"]
            if len(names) == 1:
                return [{"name": names[0], "broken": said["failure"]}]
            return [one for name in names for one in measure([name])]  # one of them took the process with it

        names = registry.names("planners")
        found = self.facts["planning"] = measure(names) if names else []
        return planning.checks([planning.Measured(**one) for one in found], wanted)

    def _ask_ros(self) -> dict[str, Any]:
        """A round trip in a domain of its own, as our nodes would make it; nothing where there is no ROS."""
        if find_spec("rclpy") is None:
            return {}
        own = {"ROS_DOMAIN_ID": str(1 + os.urandom(1)[0] % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        options = {"what": "round_trip", "seconds": self.effort.trip}
        return ask("mbrl_control.nodes.doctor", options, START + self.effort.trip, {**ros_environ(os.environ), **own})

    def _ask_models(self) -> dict[str, Any]:
        return ask("mbrl_control.probes.providers", {"runs": self.effort.runs}, 3.0 * START)

    def _started(self, asking: Asked) -> Asked:
        """``asking``, begun at once where there is somebody to do it."""
        if self.side is None:
            return asking
        answer: Future[dict[str, Any]] = self.side.submit(asking)
        return answer.result


def connected(options: DoctorConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The robot's parameters and its wiring, as the parameter file of the launch gives them to the guard."""
    short = options.robot.rsplit(".", 1)[-1]
    path = Path(options.params) if options.params else share() / "launch" / f"{short}.yaml"
    rules = read_yaml(path) if options.params or path.is_file() else {}
    node = f"/{options.namespace.strip('/')}/controller".replace("//", "/")
    values: dict[str, Any] = {}
    try:
        for rule in ("/**", "/**/controller", node.lstrip("/"), node):
            values |= _flat((rules or {}).get(rule, {}).get("ros__parameters", {}))
    except AttributeError:
        raise ConfigError(f"{path}: it takes names of nodes, and under each ros__parameters") from None
    own, wiring = (
        {k.removeprefix(p): v for k, v in values.items() if k.startswith(p)} for p in (f"{short}.", f"{PREFIX}.")
    )
    guarded(registry.make("robots", options.robot, overrides=own), build(Wiring, wiring, f"{PREFIX}."))
    return own, wiring


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Parameters by their full names, as ``wiring.joints``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
