"""`mbrl demo` as a newcomer runs it, and as a newcomer mistypes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MBRL = [sys.executable, "-m", "mbrl_control.cli"]
KEYS = {
    "goals_total", "goals_reached", "tracking_rms_rad", "plan_ms_p50", "plan_ms_p99", "tick_late_ms_p99",
    "tick_overruns", "limit_violations", "nonfinite_commands", "holds", "robot", "planner", "model", "seconds",
}  # fmt: skip


def mbrl(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MBRL, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def test_the_demo_reaches_its_goals_and_says_so(domain: int, tmp_path: Path) -> None:
    out = mbrl(
        "demo", "--seconds", "12", "--seed", "4", "--json", str(tmp_path / "d.json"), "--out", str(tmp_path / "runs")
    )
    assert out.returncode == 0, out.stdout + out.stderr
    figures = json.loads((tmp_path / "d.json").read_text())
    assert set(figures) == KEYS
    assert figures["goals_reached"] == figures["goals_total"] == 2
    assert (figures["limit_violations"], figures["nonfinite_commands"]) == (0, 0)
    assert 0.0 < figures["tracking_rms_rad"] < 0.02
    (run,) = (tmp_path / "runs").iterdir()
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "2 of\n2 goals, 0 violations" in page
    details = json.loads((run / "report.json").read_text())
    assert all(0.002 < push["peak_m"] < 0.1 and push["back_after_s"] < 1.0 for push in details["pushes"])
    assert len(details["pushes"]) == 2
    assert "[controller]" in (run / "nodes.log").read_text()


def test_an_interrupted_demo_stops_the_arm_and_still_reports(domain: int, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*MBRL, "demo", "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "ACTIVE" in line:
            break
    demo.send_signal(signal.SIGINT)
    rest, errors = demo.communicate(timeout=20.0)
    assert demo.returncode == 130, errors
    assert "interrupted" in rest
    assert "Traceback" not in errors
    (run,) = tmp_path.iterdir()
    assert (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--robot", "pnada"], "did you mean 'panda'?"),
        (["--planner", "mpi"], "did you mean 'mppi'?"),
        (["--planner", "nobody.at_home"], "no module 'nobody' is installed"),
        (["--seconds", "-3"], "seconds = '-3'"),
        (["--seconds", "nan"], "seconds = 'nan'"),
        (["--sconds", "3"], "--seconds"),
        (["--json", "/nowhere/out.json"], "/nowhere"),
        (["--out", "/proc/runs"], "/proc/runs"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    out = subprocess.run(
        [*MBRL, "demo", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert out.returncode == 2
    assert says in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1, out.stderr


@pytest.mark.parametrize("node", ["mbrl_control.nodes.controller", "mbrl_control.nodes.planner", "mbrl_sim.node"])
@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("robot:=pnada", "did you mean 'panda'?"),
        ("robt:=panda", "did you mean"),
        ("robot:=nobody.at_home", "no module 'nobody'"),
    ],
)
def test_a_node_with_a_wrong_parameter_says_so_and_ends(node: str, parameter: str, says: str, domain: int) -> None:
    command = [sys.executable, "-m", node, "--ros-args", "-p", parameter]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert out.returncode == 2
    assert says in out.stderr
    assert "Traceback" not in out.stderr
