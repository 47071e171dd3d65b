"""The viewer node: a page in the browser that shows the stack and passes on what a person asks for.

    controller/digest, controller/state, planner/plan, planner/goal_pose, /diagnostics   ->   page
    page   ->   controller/arm, stop, reset (services), planner/goal_pose

It has no authority of its own: it asks as anybody may, and nothing waits for it. While no page is open it does not
even listen to digest and plan, so the guard makes no digest.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Future
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_control.config import param
from mbrl_control.core import Robot, Task, is_finite
from mbrl_control.mjcf import MujocoError
from mbrl_control.nodes import convert
from mbrl_control.nodes.params import declare, declare_part, declare_robot, refuse_unknown
from mbrl_control.nodes.process import run
from mbrl_control.nodes.qos import LATCHED, NEWEST
from mbrl_control.runtime import panel
from mbrl_control.runtime.digest import Digest
from mbrl_control.runtime.gate import loopback
from mbrl_control.runtime.goal_desk import GoalDesk
from mbrl_control.shapes import Figure

if TYPE_CHECKING:
    from mbrl_control.nodes.page import Button, Page, Phase

FRAMES = ("", "world")
BEAT = 0.1
"""Goals are passed on and words brought up to date this often [s]."""
FIGURES_EVERY = 5
"""Beats between two readings of the table of figures, which nobody could read faster."""
ANSWER_WITHIN = 1.5
"""A button that the guard has not answered after so long [s] was pressed in vain."""
MOVED = 1e-4
"""A joint that moved less [rad or m] is not worth a message to the browser."""


@dataclass(frozen=True)
class NodeConfig:
    """Parameters of the viewer."""

    robot: str = param("panda", "name of the robot, or package.module of one's own")
    task: str = param("reach", "name of the task, which knows what goals there are")
    host: str = param("127.0.0.1", "address to listen on; another one than loopback is at your own risk, and warned of")
    port: int = param(8090, "port to listen on, or the next free one; 0: any", low=0, high=65535)
    nice: int = param(10, "lowers the priority of this process, so that it never delays the guard", low=0, high=19)


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button that waits for its answer."""

    button: str
    at: float
    answer: Future


class ViewerNode(Node):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self.config = declare(self, NodeConfig)
        self.robot: Robot = declare_robot(self, self.config.robot)
        task, task_config = declare_part(self, "tasks", self.config.task)
        refuse_unknown(self)
        os.nice(self.config.nice)
        self.task: Task = task.make(task_config, self.robot)
        self.desk = GoalDesk(self.task.check_goal)
        self.seen = panel.Seen()
        self.failure: BaseException | None = None
        self._digest_at = -math.inf
        self._figures: dict[str, tuple[float, dict[str, str]]] = {}
        self._shown_q: np.ndarray | None = None
        self._shown_goal: np.ndarray | None = None
        self._hands: deque[tuple[Phase, np.ndarray]] = deque(maxlen=64)
        self._pressed: deque[Pressed] = deque(maxlen=16)
        self._watching: list[Subscription[Any]] = []
        self._beats = 0
        self._make_topics()
        self.page = self._make_page()
        if self.page:
            self.create_timer(BEAT, self._beat, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def _make_topics(self) -> None:
        self._asks = {name: self.create_client(Trigger, f"controller/{name}") for name in ("arm", "stop", "reset")}
        self._goal_pub = self.create_publisher(PoseStamped, "planner/goal_pose", 1)
        self.create_subscription(PoseStamped, "planner/goal_pose", self._on_goal, 1)
        self.create_subscription(String, "controller/state", self._on_state, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _make_page(self) -> Page | None:
        """The page, its link said once; None, and why, where its package is not installed."""
        try:
            from mbrl_control.nodes import door, page
        except ModuleNotFoundError as error:
            self.get_logger().warning(
                f"no view in the browser: the package '{error.name}' is not installed; "
                "pip install 'mbrl_control[viewer]', or launch with viewer:=false"
            )
            return None
        assert get_args(page.Button) == tuple(self._asks)
        host, port = self.config.host, self.config.port
        sock = door.listen(host, port)
        gate = door.gate_of(sock, host)
        if port not in (0, gate.port):
            self.get_logger().warning(f"port {port} is taken; the view is at port {gate.port}")
        if not loopback(host):
            self.get_logger().warning(
                f"the view listens on {host}: it is not encrypted, and whoever sees its link can arm the robot"
            )
        made = page.Page(sock, gate, self.robot, self._figure(), self, draggable=self.task.goal_size == 3)
        # Not with the logger, which would publish the token on /rosout and write it into a file.
        print(f"view {door.link(host, gate)}", flush=True)
        return made

    def _figure(self) -> Figure | None:
        try:
            figure = Figure(self.robot)
        except MujocoError as error:
            self.get_logger().warning(f"{self.robot.name} is drawn as its tip alone: {error}")
            return None
        if figure.left_out:
            self.get_logger().warning(f"{figure.left_out} geoms of {self.robot.name} are no primitives: not drawn")
        return figure

    # --- in, from the stack ---

    def _on_digest(self, message: Float64MultiArray) -> None:
        try:
            digest = convert.unpack_digest(message.data, self.robot.joints)
        except convert.DigestError as error:
            self.get_logger().warning(f"digest refused: {error}", throttle_duration_sec=5.0)
            return
        self.seen.digest, self._digest_at = digest, time.monotonic()
        self._show_arm(digest)
        self._show_target(digest)

    def _show_arm(self, digest: Digest) -> None:
        assert self.page
        shown, q = self._shown_q, digest.q
        if is_finite(q) and (shown is None or np.abs(q - shown).max() > MOVED):
            self._shown_q = q
            self.page.show_arm(q)

    def _show_target(self, digest: Digest) -> None:
        """Where the goal is by now, which may move, and how far the tip is from it."""
        assert self.page
        goal = self.desk.in_force
        tip = np.asarray(self.robot.tip(np, digest.q))
        target = tip if goal is None else self.task.course(goal, np.array([digest.t]))[0]
        if target.shape != (3,) or not is_finite(target):
            return
        self.page.show_target(target)
        self.seen.distance = math.nan if goal is None else float(np.linalg.norm(tip - target))

    def _on_plan(self, message: JointTrajectory) -> None:
        assert self.page
        rows = [point.positions for point in message.points]
        names = list(message.joint_names)
        if not rows or sorted(names) != sorted(self.robot.driver_joints) or any(len(row) != len(names) for row in rows):
            return
        q = np.array(rows)[:, [names.index(joint) for joint in self.robot.driver_joints]]
        if is_finite(q):
            self.page.show_path(q)

    def _on_goal(self, message: PoseStamped) -> None:
        p = message.pose.position
        goal = np.array([p.x, p.y, p.z])
        if message.header.frame_id in FRAMES and self.task.goal_size == len(goal):  # else the planner refuses it too
            self.desk.hear(goal, time.monotonic())

    def _on_state(self, message: String) -> None:
        self.seen.guard = message.data

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in ("controller", "planner"):
                self._figures[status.name] = time.monotonic(), {pair.key: pair.value for pair in status.values}

    # --- in, from a person; on the page's thread ---

    def press(self, button: Button) -> None:
        """Ask the guard, at once; the answer is shown when it comes."""
        self._pressed.append(
            Pressed(button.upper(), time.monotonic(), self._asks[button].call_async(Trigger.Request()))
        )

    def drag(self, phase: Phase, point: np.ndarray) -> None:
        self._hands.append((phase, point))

    # --- now and then ---

    def _beat(self) -> None:
        assert self.page
        now = time.monotonic()
        self._watch()
        self._take_hands(now)
        goal = self.desk.due(now)
        if goal is not None:
            self._say(goal)
        self._hear_answers(now)
        if self.page.watched:
            self._beats += 1
            self._show(now)

    def _watch(self) -> None:
        """Listen to what only a page needs, while there is one."""
        assert self.page
        if self.page.watched and not self._watching:
            hear = self.create_subscription
            self._watching = [
                hear(Float64MultiArray, "controller/digest", self._on_digest, NEWEST),
                hear(JointTrajectory, "planner/plan", self._on_plan, NEWEST),
            ]
        elif not self.page.watched and self._watching:
            for subscription in self._watching:
                self.destroy_subscription(subscription)
            self._watching.clear()
            self.seen.digest, self._digest_at = None, -math.inf

    def _take_hands(self, now: float) -> None:
        while self._hands:
            phase, point = self._hands.popleft()
            if is_finite(point):
                self.desk.drag(point, now)
            if phase == "end":
                self.desk.release()
                self._shown_goal = None  # the arrows go back to the goal in force, wherever they were left

    def _say(self, goal: np.ndarray) -> None:
        message = PoseStamped()
        message.header.frame_id = "world"
        p = message.pose.position
        p.x, p.y, p.z = goal.tolist()
        self._goal_pub.publish(message)

    def _hear_answers(self, now: float) -> None:
        for pressed in tuple(self._pressed):
            late = now - pressed.at > ANSWER_WITHIN
            if not pressed.answer.done() and not late:
                continue
            self._pressed.remove(pressed)
            result = pressed.answer.result() if pressed.answer.done() else None
            good, words = (result.success, result.message) if result else (False, "")
            if result is None:
                self._asks[pressed.button.lower()].remove_pending_request(pressed.answer)
                words = "no answer from the guard" + "; use the e-stop" * (pressed.button == "STOP")
            self.seen.answer, self.seen.answer_good = f"{pressed.button}: {words}", good

    def _show(self, now: float) -> None:
        assert self.page
        seen, desk = self.seen, self.desk
        seen.digest_age = now - self._digest_at
        seen.figures = {name: values for name, (at, values) in self._figures.items() if now - at < panel.STALE}
        seen.goal, seen.goal_refusal = desk.in_force, desk.refusal
        seen.goal_from = "this page" if desk.ours else "another program"
        goal = self._arrows()
        if goal is not None and goal is not self._shown_goal and not desk.held:
            self._shown_goal = goal
            self.page.show_goal(goal)
        texts = {"state": panel.state(seen), "goal": panel.goal(seen)}
        if self._beats % FIGURES_EVERY == 1:
            texts["figures"] = panel.figures(seen)
        self.page.show_text(**texts)

    def _arrows(self) -> np.ndarray | None:
        """Where the arrows belong: at the goal in force; before there is one, where the tip was first seen."""
        if self.desk.in_force is not None or self._shown_goal is not None:
            return self.desk.in_force
        return None if self._shown_q is None else np.asarray(self.robot.tip(np, self._shown_q))

    # --- the end ---

    def begin_stop(self) -> None:
        if self.page:
            self.page.close()

    def stopped(self) -> bool:
        return True


def main() -> int:
    return run(ViewerNode, "viewer")


if __name__ == "__main__":
    sys.exit(main())
