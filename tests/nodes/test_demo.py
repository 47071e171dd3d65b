"""`mbrl demo` as a newcomer runs it, and as a newcomer mistypes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shown import NEWCOMER, ended, typed

from mbrl_control.nodes.demo import as_launched, ros
from mbrl_control.paths import share
from mbrl_control.runtime.demo import in_simulation
from mbrl_control.runtime.launch import expand

MBRL = [sys.executable, "-m", "mbrl_control.cli"]
KEYS = {
    "goals_total", "goals_reached", "tracking_rms_rad", "plan_ms_p50", "plan_ms_p99", "latency_ms_p50",
    "latency_ms_p99", "handovers_missed", "steps_down", "tick_late_ms_p99",
    "tick_overruns", "limit_violations", "nonfinite_commands", "commands_unseen", "holds", "robot", "planner", "model",
    "arm", "miss_m", "miss_worst_m", "seconds",
}  # fmt: skip


def test_the_demo_reaches_its_goals_and_says_so(domain: int, checkout: Path) -> None:
    demo = typed(NEWCOMER, checkout)
    said = ended(demo, 60.0)
    assert demo.returncode == 0, said
    figures = json.loads((checkout / "out.json").read_text())
    assert set(figures) == KEYS
    assert figures["goals_reached"] == figures["goals_total"] == 2
    assert (figures["limit_violations"], figures["nonfinite_commands"]) == (0, 0)
    assert 0.0 < figures["tracking_rms_rad"] < 0.1, "the servo is soft"
    assert (figures["arm"], figures["model"]) == ("loaded", "panda")
    assert figures["miss_worst_m"] < 0.01
    run = (checkout / said.rpartition("· report ")[2].strip()).parent
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "2 of\n2 goals, 0 violations" in page
    details = json.loads((run / "report.json").read_text())
    assert all(0.002 < push["peak_m"] < 0.1 and push["back_after_s"] < 1.0 for push in details["pushes"])
    assert len(details["pushes"]) == 2
    log = (run / "nodes.log").read_text()
    assert "[controller]" in log
    (token,) = re.findall(r"^view http://127\.0\.0\.1:\d+/\?token=(\S+)$", said, re.MULTILINE)
    assert "[viewer] view http://127.0.0.1:" in log
    assert token not in log, "other people may read it"


def test_the_nominal_model_misses_with_the_same_arm(domain: int, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = [
        "--model",
        "kinematic",
        "--seconds",
        "6",
        "--viewer",
        "false",
        "--json",
        str(out),
        "--out",
        str(tmp_path),
    ]
    demo = subprocess.run([*MBRL, "demo", *options], capture_output=True, text=True, timeout=60, check=False)
    figures = json.loads(out.read_text())
    assert demo.returncode == 1, demo.stdout + demo.stderr
    assert figures["arm"] == "loaded"
    assert figures["miss_m"] > 0.02
    assert (figures["goals_reached"], figures["limit_violations"]) == (0, 0)


def test_an_interrupted_demo_stops_the_arm_and_still_reports(domain: int, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*MBRL, "demo", "--viewer", "false", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
        (["--model", "kinematc"], "did you mean 'kinematic'?"),
        (["--arm", "loaded", "--robot", "ur5e"], "models/ has no model of ur5e"),
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


def test_the_demo_knows_the_tool_that_the_launch_mounts(domain: int, tmp_path: Path) -> None:
    file = tmp_path / "longer.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"ur5e.tool_offset": 0.31}}}))
    specs = expand(share() / "launch" / "sim.launch.yaml", {"robot": "ur5e", "params": str(file)})
    with ros():
        assert as_launched("ur5e", specs).config.tool_offset == 0.31


def test_a_real_arms_wiring_stays_out_of_the_demo(domain: int, tmp_path: Path) -> None:
    """All else that its file says is kept, word for word."""
    file = tmp_path / "cell.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    panda.payload: 1.5\n    wiring.sink: velocity\n"
        "/**/controller:\n  ros__parameters:\n    tracking_bound: 3e-1\n    wiring: {command_topic: /real/arm}\n"
        "left: {planner: {ros__parameters: {wiring: {state_topic: /real/states}, rate: 10.0}}}\n"
    )
    specs = expand(share() / "launch" / "sim.launch.yaml", {"params": str(file)})
    with ros():
        robot = as_launched("panda", specs)
    assert (robot.config.payload, robot.sink.kind, robot.state_topic) == (1.5, "joint_trajectory", "joint_states")
    for spec in map(in_simulation, specs):
        read = spec.command(lambda file: file.text)
        assert str(file) not in read
        text = next(word for word in read if "tracking_bound" in word)
        assert "3e-1" in text, "not read as a number and written as something else"
        found = yaml.safe_load(text)
        assert found["/**"] == {"ros__parameters": {"panda.payload": 1.5}}
        assert set(found["/**/controller"]["ros__parameters"]) == {"tracking_bound"}
        assert found["left"] == {"planner": {"ros__parameters": {"rate": 10.0}}}
        assert any("the wiring in " in note for note in spec.notes)


def test_what_says_nothing_of_wiring_is_handed_on_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "cell.yaml"
    file.write_text("/**: {ros__parameters: {panda.payload: 1.5}}")
    specs = expand(share() / "launch" / "sim.launch.yaml", {"params": str(file)})
    assert [in_simulation(spec) for spec in specs] == specs
