"""Every command that the documentation shows is typed as it stands there, and does what it says.

They are typed in a copy of the tree (``checkout``) in which set-up has been done and the recipes' files lie. What
README.md, CONTRIBUTING.md and the recipes show is run by default; real-time commands of other pages by
``make test-slow``. ``make`` targets that would install, or test and so never end, are asked what they would run.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from shown import NEWCOMER, ROOT, Command, commands, ended, typed
from stack import OUTSIDE, StalledError

FIRST = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "extending.md"]
OTHER = [page for page in sorted((ROOT / "docs").glob("*.md")) if page not in FIRST]
SHOWN = commands(*FIRST, *OTHER)
FIRST_NAMES = {page.name for page in FIRST}
UP = re.compile(r"\[controller\].*READY")
"""What a launch says when it is there."""
WITHIN = 60.0


def of_kind(*kinds: str) -> list[object]:
    """The commands of these kinds; those that take real time are slow on the pages that are not read first.

    So is the whole demo, of which ``test_demo.py`` types a shorter one.
    """
    found = [command for command in SHOWN if command.kind in kinds and command.line != NEWCOMER]
    late = {"demo", "launch", "node"}
    slow = [
        command.kind in late and (command.page not in FIRST_NAMES or command.line == "make demo") for command in found
    ]
    return [
        pytest.param(command, id=f"{command.page}: {command.line}", marks=[pytest.mark.slow] * later)
        for command, later in zip(found, slow, strict=True)
    ]


@pytest.mark.parametrize("command", of_kind("run"))
def test_a_command_that_answers_at_once(command: Command, checkout: Path) -> None:
    process = typed(command.line, checkout)
    output = ended(process, WITHIN)
    assert process.returncode == 0, output
    assert output.strip()


@pytest.mark.timeout(360)
@pytest.mark.parametrize("command", of_kind("demo"))
def test_a_demo(command: Command, checkout: Path, domain: int) -> None:
    process = typed(command.line, checkout)
    output = ended(process, 300.0)
    found = re.search(r"· report (\S+)", output)
    assert found, output
    report = checkout / found[1]
    if process.returncode and OUTSIDE in (log := report.with_name("nodes.log").read_text()):
        raise StalledError(f"the machine stood still:\n{log}")
    assert process.returncode == 0, output
    assert report.is_file()


@pytest.mark.parametrize("command", of_kind("launch"))
def test_a_launch_comes_up_and_goes_with_ctrl_c(command: Command, checkout: Path, domain: int) -> None:
    process = typed(command.line, checkout)
    said, give_up = "", time.monotonic() + WITHIN
    assert process.stdout is not None
    while process.poll() is None and not UP.search(said) and time.monotonic() < give_up:
        if select.select([process.stdout], [], [], 0.1)[0]:
            said += os.read(process.stdout.fileno(), 65536).decode()
    up = process.poll() is None and UP.search(said)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    said += ended(process, WITHIN)
    assert up, f"not up within {WITHIN:.0f} s: {said}"
    assert process.returncode == 0, said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", of_kind("node"))
def test_a_node_comes_up_and_goes_with_ctrl_c(command: Command, checkout: Path, domain: int) -> None:
    process = typed(command.line, checkout)
    name = command.words[2].split(".")[0].removeprefix("mbrl_")
    context, give_up = Context(), time.monotonic() + WITHIN
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    try:
        reader = rclpy.create_node("reader", context=context)
        while process.poll() is None and not (up := name in reader.get_node_names()) and time.monotonic() < give_up:
            time.sleep(0.05)
        reader.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    said = ended(process, WITHIN)
    assert up, f"no node {name} within {WITHIN:.0f} s: {said}"
    assert process.returncode == 0, said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", of_kind("dry"))
def test_a_make_target_exists_and_needs_no_set_up_here(command: Command, checkout: Path) -> None:
    process = typed(command.line.replace("make ", "make --dry-run ", 1), checkout)
    output = ended(process, WITHIN)
    assert process.returncode == 0, output
    if command.words[1] == "test":
        arguments = next((word.partition("=")[2] for word in command.words if word.startswith("ARGS=")), "")
        assert output.strip() == f".venv/bin/python -m pytest {arguments}".strip()


def test_the_readme_shows_the_main_commands() -> None:
    first = {tuple(command.words[:2]) for command in commands(ROOT / "README.md")}
    assert NEWCOMER in {command.line for command in SHOWN}
    assert first >= {("make", "demo"), ("make", "test"), ("mbrl", "demo"), ("mbrl", "launch"), ("mbrl", "list")}


def test_contributing_shows_the_recipes_commands() -> None:
    recipes = {command.line for command in commands(ROOT / "docs" / "extending.md") if "my_lab" in command.line}
    assert len(recipes) >= 4
    assert recipes <= {command.line for command in commands(ROOT / "CONTRIBUTING.md")}
