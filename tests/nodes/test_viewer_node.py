"""The viewer as a process beside the stack: it shows what is, asks as anybody may, and is missed by nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import numpy as np
from geometry_msgs.msg import PoseStamped
from stack import Stack
from visitor import Visitor

ANY_PORT = {"viewer": "-p port:=0"}


def link(stack: Stack) -> str:
    """The newest link that a viewer printed."""
    found: list[str] = []

    def printed() -> bool:
        found[:] = re.findall(r"viewer: view (http://127\.0\.0\.1:\d+/\?token=\S+)", "\n".join(stack.lines))
        return bool(found)

    stack.until(printed, "the link")
    return found[-1]


def goals_of(stack: Stack) -> list[tuple[float, float, float]]:
    """Every goal that is said from now on."""
    heard: list[tuple[float, float, float]] = []

    def hear(message: PoseStamped) -> None:
        p = message.pose.position
        heard.append((p.x, p.y, p.z))

    stack.person.create_subscription(PoseStamped, "planner/goal_pose", hear, 10)
    return heard


def test_it_shows_the_stack_leaves_the_goal_to_who_gives_it_and_its_death_changes_nothing(domain: int) -> None:
    with Stack(domain, extra=ANY_PORT, viewer="true") as stack:
        watch, heard = stack.person, goals_of(stack)

        def digests_wanted() -> int:
            return watch.count_subscribers("controller/digest")

        address = link(stack)
        stack.armed()
        assert digests_wanted() == 0, "no page is open"
        with Visitor(address) as visitor:
            stack.until(lambda: digests_wanted() == 1, "the digest is listened to")
            stack.until(lambda: ">ACTIVE</b>" in visitor.words, "the guard's state on the page")
            stack.until(lambda: "200 Hz" in visitor.words, "the rates on the page")
            assert heard == [], "the viewer by itself gives no goal"

            goal = (0.45, 0.25, 0.45)
            watch.goal(*goal)
            stack.until(lambda: "0.450 0.250 0.450 m, from another program" in visitor.words, "the goal on the page")
            stack.until(lambda: np.allclose(visitor.position.get("/target", 0.0), goal, atol=1e-3), "the ball is there")
            visitor.drag((0.4, -0.2, 0.5), (0.4, -0.3, 0.5))
            stack.until(lambda: "another program gives the goals" in visitor.words, "a person is told why not")
            stack.until(lambda: np.allclose(visitor.position.get("/goal", 0.0), goal), "the arrows go back")
            tip = watch.robot.tip
            stack.until(lambda: np.linalg.norm(tip(np, watch.record.q[-1]) - goal) < 0.02, "the arm goes there")
            hand = watch.robot.tip_body
            stack.until(lambda: f"/arm/{hand}" in visitor.position, "the arm moves on the page")
            assert set(heard) == {goal}
        stack.until(lambda: digests_wanted() == 0, "nobody looks any more")

        os.kill(stack.pid("viewer"), signal.SIGKILL)
        stack.until(lambda: link(stack) != address, "a new viewer")
        assert watch.state == "ACTIVE"
        stack.clean()


def test_alone_it_says_that_nobody_answers_and_keeps_the_goal_for_whoever_comes(domain: int) -> None:
    with Stack(domain, only=("viewer",), extra=ANY_PORT, viewer="true") as stack:
        heard = goals_of(stack)
        with Visitor(link(stack)) as visitor:
            stack.until(lambda: "NO GUARD" in visitor.words and "STOP" in visitor.buttons, "no guard")
            visitor.press("STOP")
            stack.until(lambda: "STOP: no answer from the guard; use the e-stop" in visitor.words, "no answer")

            visitor.drag((3.0, 0.0, 0.5))
            stack.until(lambda: "refused: goal [3.0, 0.0, 0.5]" in visitor.words, "out of reach")
            visitor.drag((float("nan"), 0.0, 0.5))
            assert heard == []
            visitor.drag((0.4, 0.0, 0.5), (0.4, 0.1, 0.5))
            stack.until(lambda: heard and heard[-1] == (0.4, 0.1, 0.5), "the last place is said")
            said = len(heard)
        stack.until(lambda: len(heard) > said + 2, "said again, also after the page was closed")
        assert set(heard[said:]) == {(0.4, 0.1, 0.5)}


def viewer(*parameters: str, without: str = "") -> subprocess.Popen[str]:
    """The node by itself, as if a package were not installed."""
    hide = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    run = "from mbrl_control.nodes.viewer import main; raise SystemExit(main())"
    flags = [flag for parameter in parameters for flag in ("-p", parameter)]
    command = [sys.executable, "-c", hide + run, "--ros-args", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def first_lines(process: subprocess.Popen[str], count: int) -> str:
    assert process.stdout
    lines = "".join(process.stdout.readline() for _ in range(count))
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20.0)[0]
    assert process.returncode == 0, lines + rest
    assert "Traceback" not in rest
    return lines + rest


def test_without_its_package_it_says_so_in_one_line_and_is_in_nobodys_way(domain: int) -> None:
    said = first_lines(viewer(without="viser"), 1)
    assert "no view in the browser: the package 'viser' is not installed" in said
    assert len(said.splitlines()) == 1


def test_without_mujoco_it_draws_the_tip_alone_and_says_so(domain: int) -> None:
    said = first_lines(viewer("port:=0", without="mujoco"), 2)
    assert "panda is drawn as its tip alone: MuJoCo is not installed" in said
    assert "view http://127.0.0.1:" in said


def test_another_address_than_loopback_is_warned_of(domain: int) -> None:
    said = first_lines(viewer("port:=0", "host:=0.0.0.0"), 2)
    assert "whoever sees its link can arm the robot" in said


def test_an_impossible_address_is_one_line_and_status_2(domain: int) -> None:
    process = viewer("host:=203.0.113.7")
    said = process.communicate(timeout=30.0)[0]
    assert process.returncode == 2
    assert "viewer: cannot listen on 203.0.113.7 port 8090" in said
    assert len(said.splitlines()) == 1


def test_the_token_is_printed_and_never_logged(domain: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    said = first_lines(viewer("port:=0"), 1)
    (token,) = re.findall(r"token=(\S+)", said)
    logs = list(tmp_path.rglob("*"))
    assert all(token not in log.read_text(errors="replace") for log in logs if log.is_file())
