"""Real processes, real DDS: what happens when one of them is killed, stopped, or was never meant to be heard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from stack import Stack

CI_PLANNER_DEAD = 0.05
"""Promise T2: from the planner's death to the HOLD [s], on a loaded machine."""
CI_STATE_SILENT = 0.15
"""Promise T1: from the last state to the stop."""
CI_ESTOP = 0.06
"""Promise T5: from the e-stop to the stop."""
DELIVERY = 0.25
"""What a loaded machine may take to bring word of it to this process [s]."""


def kill(stack: Stack, name: str) -> float:
    """kill -9; returns when, on the observer's clock."""
    at = stack.person.now()
    os.kill(stack.pid(name), signal.SIGKILL)
    return at


def test_planner_killed_is_a_hold_that_ends_with_its_respawn(domain: int) -> None:
    with Stack(domain) as stack:
        stack.armed()
        stack.person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: np.abs(stack.person.record.v_ref[-1]).max() > 0.2, "the arm moves")
        at = kill(stack, "planner")
        stack.until(lambda: stack.person.said_since(at, "HOLD: planner process is gone"), "hold")
        assert stack.person.said_since(at, "HOLD") - at < CI_PLANNER_DEAD + DELIVERY
        stack.until(lambda: stack.person.state == "ACTIVE", "active again, by itself")
        goal = np.array([0.45, 0.25, 0.45])
        tip = stack.person.robot.tip
        stack.until(lambda: np.linalg.norm(tip(np, stack.person.record.q[-1]) - goal) < 0.02, "the goal reached")
        stack.clean()


def test_simulation_killed_stops_the_guard_and_its_return_starts_nothing(domain: int) -> None:
    with Stack(domain, state_timeout=0.0) as stack:
        stack.armed()
        stack.person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: np.abs(stack.person.record.v_ref[-1]).max() > 0.2, "the arm moves")
        at = kill(stack, "sim")
        stack.until(lambda: stack.person.said_since(at, "HOLD: no joint state"), "hold")
        assert stack.person.said_since(at, "HOLD: no joint state") - at < CI_STATE_SILENT + DELIVERY
        stack.until(lambda: not stack.person.record.v_ref[-1].any(), "the reference at rest")
        stack.clean()
        stack.start("sim")
        heard = len(stack.person.record.q)
        stack.until(lambda: len(stack.person.record.q) > heard + 200, "states again")
        assert stack.person.state == "HOLD", "a simulation that comes back must not start motion"


def test_guard_killed_leaves_the_arm_on_its_stop_tail(domain: int) -> None:
    with Stack(domain) as stack:
        stack.armed()
        person = stack.person
        person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: np.abs(person.record.v_ref[-1]).max() > 0.5, "the arm moves fast")
        kill(stack, "controller")
        stack.until(lambda: not stack.launchers["controller"].alive, "the guard gone")
        last = person.judge._last
        assert last is not None
        stack.until(lambda: person.record.state_t[-1] > last.t[-1] + 0.3, "the tail is over")
        end = last.t[-1] - last.t[0]
        slowest = (np.abs(last.v[0]) / person.robot.limits.acceleration).max()
        assert end < 0.05 + 2.0 * slowest + 0.1, "braking starts within 0.05 s and takes its time, no longer"
        np.testing.assert_allclose(person.record.q[-1], last.q[-1], atol=0.02)
        still = np.abs(person.record.q[-1] - person.record.q[-10]).max()
        assert still < 1e-3
        stack.clean()
        stack.start("controller")
        stack.until(lambda: person.state == "READY", "ready again")
        stack.during(1.0, lambda: person.state == "READY", "a restarted guard must not go further than READY")


def test_estop_over_the_topic_and_back_through_reset_and_arm(domain: int) -> None:
    from std_msgs.msg import Bool

    with Stack(domain) as stack:
        stack.armed()
        person = stack.person
        person.goal(0.45, 0.25, 0.45)
        stack.until(lambda: np.abs(person.record.v_ref[-1]).max() > 0.2, "the arm moves")
        at = person.now()
        person.estop_pub.publish(Bool(data=True))
        stack.until(lambda: person.state in ("STOPPING", "FAULT"), "stopping")
        assert person.record.guard[-1][0] - at < CI_ESTOP + DELIVERY
        stack.until(lambda: person.state == "FAULT", "fault")
        assert not stack.ask("arm").success
        refused = stack.ask("reset")
        assert (refused.success, refused.message) == (False, "the e-stop is still pressed")
        person.estop_pub.publish(Bool(data=False))
        stack.until(lambda: stack.ask("reset").success, "reset")
        stack.until(lambda: person.state == "READY", "ready")
        stack.armed()
        assert stack.ask("stop").success
        stack.until(lambda: person.state == "FAULT", "fault by service")
        assert stack.ask("reset").success
        volatile = person.create_publisher(Bool, "controller/estop", 1)
        stack.until(lambda: volatile.get_subscription_count() == 1, "heard by the guard's volatile subscription")
        volatile.publish(Bool(data=True))
        stack.until(lambda: person.state == "FAULT", "fault by a volatile publisher")
        stack.clean()


def test_domains_do_not_hear_each_other(domain: int) -> None:
    other = domain % 100 + 1
    with Stack(domain, only=("sim",)) as here, Stack(other, only=("controller",)) as there:
        here.until(lambda: len(here.person.record.q) > 100, "states here")
        there.until(lambda: there.person.record.diagnostics.get("controller"), "the guard there")
        seen = len(here.person.record.q)

        def later() -> bool:
            there.spin()
            return len(here.person.record.q) > seen + 200

        here.until(later, "more states here")
        assert there.person.record.q == []
        assert there.person.figure("controller", "states_received") == 0
        assert here.person.record.guard == []


def test_an_interrupted_launch_stops_the_arm_first_and_leaves_nothing(domain: int) -> None:
    command = [sys.executable, "-m", "mbrl_control.cli", "launch", "sim", "--own"]
    launch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with Stack(domain, only=("planner",)) as stack:  # only to have a person; a second planner is refused by itself
            stack.launchers.pop("planner").stop()
            stack.armed()
            person = stack.person
            person.goal(0.45, 0.25, 0.45)
            stack.until(lambda: np.abs(person.record.v_ref[-1]).max() > 0.5, "the arm moves fast")
            children = subprocess.run(
                ["pgrep", "-P", str(launch.pid)], capture_output=True, text=True, check=True
            ).stdout.split()
            assert len(children) == len(stack.specs) + 1, "and the viewer"
            started = time.monotonic()
            launch.send_signal(signal.SIGINT)
            stack.until(lambda: launch.poll() is not None, "launch over", patience=5.0)
            assert time.monotonic() - started < 3.0
            assert not person.record.v_ref[-1].any() or not person.judge._last.v[-1].any()  # type: ignore[union-attr]
            for child in children:
                assert not Path(f"/proc/{child}").exists(), f"orphan {child}"
            stack.clean()
    finally:
        launch.kill()
        launch.wait()
