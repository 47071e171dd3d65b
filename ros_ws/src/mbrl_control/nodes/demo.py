"""The demonstration: the whole stack as separate processes, goals in a row, pushes, and an independent verdict.

It plays the person: it arms the guard (again, if it had to hold), gives goals and pushes. Whether goals were
reached and promises kept is judged from the topics alone (``observer.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rich.console import Console
from rich.live import Live
from rich.table import Table
from std_srvs.srv import Trigger

from mbrl_control import registry, report
from mbrl_control.config import ConfigError
from mbrl_control.core import MbrlError, Robot, Task
from mbrl_control.models import card, located, shipped
from mbrl_control.nodes.observer import Observer
from mbrl_control.nodes.params import declare_part
from mbrl_control.nodes.process import avoid_shared_memory
from mbrl_control.paths import share
from mbrl_control.runtime.demo import DemoConfig, in_simulation, schedule
from mbrl_control.runtime.launch import expand
from mbrl_control.runtime.processes import Exit, Launcher, ProcessSpec

PUSH_FORCE = 18.0
"""Force of a push on the tip [N]; the simulation lets it act for 0.2 s."""
READY_WITHIN = 30.0
"""The stack must be armed after this long [s]."""
GOAL_EVERY = 0.1
"""The goal in force is said again this often [s]: a planner that came back must hear it too."""
LINES_EVERY = 2.0
"""Where there is no terminal, a line is printed this often [s]."""


class Driver(Observer):
    """An observer that also gives goals, pushes and arms."""

    def __init__(self, robot: Robot, task: Task, options: DemoConfig) -> None:
        super().__init__(robot, robot.limits.at_speed(options.speed), "demo")
        self.task = task
        self.schedule = schedule(options, task.sample_goal)
        self.message = "starting"
        """What stands against arming."""
        self._goal_pub = self.create_publisher(PoseStamped, "planner/goal_pose", 1)
        self._push_pub = self.create_publisher(WrenchStamped, "sim/push", 1)
        self._arm = self.create_client(Trigger, "controller/arm")
        self._answer: Future | None = None
        self._asked = self._goal_sent = 0.0

    def step(self) -> None:
        """Do what is due; called often."""
        self._keep_armed()
        if self.schedule.armed_at is None or not self.record.q:
            return
        now = self.now()
        goal = self.schedule.goal(now)
        if now - self._goal_sent > GOAL_EVERY:
            self._goal_sent = now
            self._send_goal(goal)
        direction = self.schedule.push(now)
        if direction is not None:
            self._push(direction)
        tip, t = np.asarray(self.robot.tip(np, self.record.q[-1])), self.record.state_t[-1]
        there = self.task.course(goal, np.array([self.since + t]))[0]
        self.schedule.see(t, float(np.linalg.norm(tip - there)))

    def _keep_armed(self) -> None:
        if self.guard_state.startswith("ACTIVE") and self.schedule.armed_at is None:
            self.schedule.armed_at, self.message = self.now(), ""
        if self._answer is not None and self._answer.done():
            result = self._answer.result()
            self.message = "" if result is None or result.success else result.message
            self._answer = None
        waiting = self.guard_state.startswith(("READY", "HOLD")) and self.record.q
        if waiting and self._answer is None and self.now() - self._asked > 0.25 and self._arm.service_is_ready():
            self._asked = self.now()
            self._answer = self._arm.call_async(Trigger.Request())

    def _send_goal(self, goal: np.ndarray) -> None:
        message = PoseStamped()
        message.header.frame_id = "world"
        p = message.pose.position
        p.x, p.y, p.z = (float(x) for x in goal)
        self._goal_pub.publish(message)

    def _push(self, direction: np.ndarray) -> None:
        message = WrenchStamped()
        f = message.wrench.force
        f.x, f.y, f.z = (float(x) for x in PUSH_FORCE * direction)
        self._push_pub.publish(message)


def run(options: DemoConfig) -> tuple[int, dict[str, Any]]:
    """The status (0: every goal reached, nothing violated; 1: not so; 130: interrupted) and the figures."""
    console = Console()
    for kind, name in {"robots": options.robot, "tasks": options.task, "planners": options.planner}.items():
        registry.load(kind, name)
    options, arm = simulated(options)
    located(options.model)
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + int.from_bytes(os.urandom(2), "big") % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    names = ("robot", "task", "planner", "model", "speed", "seed", "viewer")
    words = {name: str(getattr(options, name)) for name in names}
    specs = expand(share() / "launch" / "sim.launch.yaml", {**words, **{name: f"{x:g}" for name, x in arm.items()}})
    with ros():
        robot = as_launched(options.robot, specs)
        specs = [in_simulation(spec) for spec in specs]
        task: Task = registry.make("tasks", options.task, robot)
        if task.goal_size != 3:
            raise MbrlError(f"task '{options.task}': the demonstration takes tasks whose goal is a position, as reach")
        folder = make_folder(Path(options.out))
        console.print(
            f"[bold]{robot.name}[/] · task {options.task} · planner {options.planner} (model {options.model}) · "
            f"{options.seconds:g} s · ROS domain {os.environ['ROS_DOMAIN_ID']}"
        )
        if arm:
            console.print(
                f"the simulated arm carries {arm['payload']:g} kg that no model was told of, on a servo of "
                f"{100 * arm['stiffness']:.0f} % stiffness",
                highlight=False,
                soft_wrap=True,
            )
        with (folder / "nodes.log").open("w") as log, interrupts() as interrupted:
            driver = Driver(robot, task, options)
            died: list[Exit] = []
            launcher = Launcher(specs, on_line=lambda name, line: hear(console, log, name, line), on_exit=died.append)
            for told in dict.fromkeys(note for spec in specs for note in spec.notes):
                console.print(told, highlight=False, markup=False, soft_wrap=True)
            with launcher:
                failed = drive(driver, launcher, console, interrupted, died)
                launcher.begin_stop()
                executor = SingleThreadedExecutor()
                executor.add_node(driver)
                while launcher.poll(0.0):
                    executor.spin_once(timeout_sec=0.02)
            driver.judge.finish()
            figures = summary(driver, options)
            path = report.write(folder, driver.record, driver.schedule, driver.judge, figures, robot)
            driver.destroy_node()
    return verdict(console, driver, figures, path, failed, bool(interrupted)), figures


def simulated(options: DemoConfig) -> tuple[DemoConfig, dict[str, float]]:
    """The options with arm and model chosen, and what the arm is like; nothing of an ideal one."""
    own = options.robot if options.robot in shipped() else ""
    if options.arm == "loaded" and not own:
        raise ConfigError(f"--arm loaded: models/ has no model of {options.robot}; it takes ideal")
    arm = options.arm or ("loaded" if own else "ideal")
    if arm == "ideal":
        return replace(options, model=options.model or "kinematic", arm=arm), {}
    learned_on = card(own)["simulation"]
    told = {name: float(learned_on[name]) for name in ("payload", "stiffness")}
    return replace(options, model=options.model or own, arm=arm), told


def as_launched(name: str, specs: Sequence[ProcessSpec]) -> Robot:
    """The robot with the parameters that the launch file's processes get: goals and figures are those of its tool."""
    words = next(spec.argv for spec in specs if spec.name == "controller")
    pairs = [pair for pair in pairwise(words) if pair[0] == "--params-file" and isinstance(pair[1], str)]
    node = Node("demo", cli_args=["--ros-args", *(str(word) for pair in pairs for word in pair)])
    try:
        entry, config = declare_part(node, "robots", name)
        return entry.make(config)
    finally:
        node.destroy_node()


def drive(driver: Driver, launcher: Launcher, console: Console, interrupted: list[int], died: list[Exit]) -> str:
    """Until the time is over; returns what went wrong, or nothing."""
    executor = SingleThreadedExecutor()
    executor.add_node(driver)
    started, printed = time.monotonic(), 0.0
    live = Live(console=console, refresh_per_second=5) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while not driver.schedule.over(driver.now()) and not interrupted:
            if not launcher.poll(0.0) or launcher.stopping:
                return "; ".join(str(exit) for exit in died) or "a node ended"
            if driver.schedule.armed_at is None and time.monotonic() - started > READY_WITHIN:
                return f"not armed within {READY_WITHIN:.0f} s: {driver.message or driver.guard_state}"
            executor.spin_once(timeout_sec=0.02)
            driver.step()
            if live:
                live.update(table(driver))
            elif time.monotonic() - printed > LINES_EVERY:
                printed = time.monotonic()
                console.print(line(driver), highlight=False, markup=False, soft_wrap=True)
    executor.remove_node(driver)
    return ""


def row(driver: Driver) -> dict[str, str]:
    """What the live table shows."""
    plan, figure = driver.schedule, driver.figure
    error = f"{plan.distance[-1][1] * 1e3:6.1f} mm" if plan.distance else "-"

    def number(node: str, key: str, form: str) -> str:
        value = figure(node, key)
        return "-" if np.isnan(value) else format(value, form)

    return {
        "time": f"{plan.elapsed(driver.now()):5.1f} s",
        "goal": f"{len(plan.starts)}/{len(plan.goals)} ({plan.count} reached)",
        "error": error,
        "plan p50/p99": f"{number('planner', 'plan_ms_p50', '.0f')}/{number('planner', 'plan_ms_p99', '.0f')} ms",
        "latency p50/p99": (
            f"{number('controller', 'latency_ms_p50', '.0f')}/{number('controller', 'latency_ms_p99', '.0f')} ms"
        ),
        "tick late p99": f"{number('controller', 'late_ms_p99', '.2f')} ms",
        "guard": driver.guard_state + (f" ({driver.message})" if driver.message else ""),
    }


def table(driver: Driver) -> Table:
    view = Table(expand=False)
    values = row(driver)
    for name in values:
        view.add_column(name)
    view.add_row(*values.values())
    return view


def line(driver: Driver) -> str:
    return "   ".join(f"{name} {value}" for name, value in row(driver).items())


def summary(driver: Driver, options: DemoConfig) -> dict[str, Any]:
    """The figures of the demonstration, as ``--json`` writes them."""

    def known(value: float) -> float | None:
        return value if np.isfinite(value) else None

    def count(node: str, key: str) -> int | None:
        value = driver.figure(node, key)
        return int(value) if np.isfinite(value) else None

    misses = driver.schedule.misses()
    return {
        "goals_total": len(driver.schedule.goals),
        "goals_reached": driver.schedule.count,
        "tracking_rms_rad": known(driver.tracking_rms()),
        "plan_ms_p50": known(driver.figure("planner", "plan_ms_p50")),
        "plan_ms_p99": known(driver.figure("planner", "plan_ms_p99")),
        "latency_ms_p50": known(driver.figure("controller", "latency_ms_p50")),
        "latency_ms_p99": known(driver.figure("controller", "latency_ms_p99")),
        "handovers_missed": count("controller", "handovers_missed"),
        "steps_down": count("planner", "steps_down"),
        "tick_late_ms_p99": known(driver.figure("controller", "late_ms_p99")),
        "tick_overruns": count("controller", "overruns"),
        "limit_violations": sum(driver.violations().values()),
        "nonfinite_commands": driver.judge.nonfinite,
        "commands_unseen": driver.record.unseen,
        "holds": count("controller", "holds"),
        "robot": options.robot,
        "planner": options.planner,
        "model": options.model,
        "arm": options.arm,
        "miss_m": known(float(np.median(misses))) if misses else None,
        "miss_worst_m": known(max(misses)) if misses else None,
        "seconds": options.seconds,
    }


def verdict(
    console: Console, driver: Driver, figures: Mapping[str, Any], path: Path, failed: str, interrupted: bool
) -> int:
    """Say how it went; the exit status."""
    for what, count in driver.violations().items():
        console.print(f"[red]violated[/] {what}: {count} times", highlight=False)
    if figures["commands_unseen"]:
        console.print(
            f"[yellow]not judged[/] {figures['commands_unseen']} commands that did not reach the observer: "
            "the machine is too busy",
            highlight=False,
        )
    rms, miss = figures["tracking_rms_rad"] or 0.0, (figures["miss_m"] or 0.0) * 1e3
    console.print(
        f"{figures['goals_reached']} of {figures['goals_total']} goals · tip {miss:.1f} mm off · rms {rms:.4f} rad · "
        f"{figures['limit_violations']} limit violations · report {path}",
        highlight=False,
        soft_wrap=True,
    )
    if failed:
        console.print(
            f"[red]failed[/] {failed} (what the nodes said: {path.parent / 'nodes.log'})",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    if interrupted:
        console.print("interrupted: the arm was stopped first")
        return 130
    kept = figures["limit_violations"] == 0 and figures["nonfinite_commands"] == 0 and driver.judge.commands > 0
    return 0 if kept and figures["goals_reached"] == figures["goals_total"] else 1


def make_folder(out: Path) -> Path:
    """A new folder for the run, named after the time."""
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(1, 100))):
        folder = out / (stamp + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(
                f"--out {out}: {(error.strerror or 'cannot be made').lower()}; it takes a folder"
            ) from None
        return folder
    raise ConfigError(f"--out {out}: a hundred runs in one second")


def hear(console: Console, log: IO[str], name: str, text: str) -> None:
    """A line of a node: into the log; the link of the view to the person, and not what opens it into the log."""
    if name == "viewer" and text.startswith("view "):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        text = text.partition("?")[0]
    note(log, name, text)


def note(log: IO[str], name: str, text: str) -> None:
    log.write(f"{time.strftime('%H:%M:%S')} [{name}] {text}\n")
    log.flush()


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM become entries of a list while this lasts."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda n, _: asked.append(n)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def ros() -> Iterator[None]:
    """ROS in this process, its signal handlers left alone."""
    avoid_shared_memory()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()
