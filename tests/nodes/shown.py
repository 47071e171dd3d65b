"""The commands that the documentation shows, as a reader would type them, and what there is to be done with each."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OUTER = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "ARGS")
"""What a make hands on to the makes in it."""
SHELL = {"sh", "bash", "console", "shell"}
OURS = ("mbrl", "make")
ASSIGNED = re.compile(r"[A-Z_]+=")
PLACE = re.compile(r"\b[A-Z]{3,}\b(?!=)|\.\.\.|<")
"""Something to be filled in."""
ONLY_TOLD = {"--help", "-h", "--dry-run", "--show-args", "--version"}
"""With one of these a command answers at once."""
NOT_RUN = {
    "git": "needs a server",
    "pip": "installs into the environment of the tests",
    "python3": "makes environments",
    "source": "changes the shell that it is typed in",
    ".": "changes the shell that it is typed in",
    "cd": "changes the shell that it is typed in",
    "export": "changes the shell that it is typed in",
    "sudo": "needs an administrator",
    "apt": "needs an administrator",
    "docker": "needs images from a server",
    "colcon": "needs colcon, which is no part of the lock files",
    "ros2": "needs an installed ROS 2",
    "rosdep": "needs an installed ROS 2",
    "ulimit": "tells something of the shell",
}
"""Programs that are shown and not run here, and why not."""
NEWCOMER = 'make demo ARGS="--seconds 12 --seed 4 --json out.json"'
"""A command of the README that is typed by ``tests/nodes/test_demo.py``, which looks closer at what comes of it."""


@dataclass(frozen=True)
class Command:
    """One line of a page."""

    page: str
    line: str

    @property
    def assigned(self) -> list[str]:
        """Variables that are put before the program."""
        return list(itertools.takewhile(ASSIGNED.match, shlex.split(self.line)))

    @property
    def words(self) -> list[str]:
        """The program, without its folder, and what it is given."""
        program, *rest = shlex.split(self.line)[len(self.assigned) :]
        return [program.removeprefix(".venv/bin/"), *rest]

    @property
    def kind(self) -> str:
        """run, demo (real time, and a verdict), launch or node (until Ctrl-C), dry (make -n),
        site (``tests/contracts/test_site.py``), or none: only parsed (``NOT_RUN`` and the lines below say why).
        """
        program, *rest = self.words
        told = bool(ONLY_TOLD & set(rest))
        target = next((word for word in rest if not word.startswith("-") and "=" not in word), "")
        if program in NOT_RUN or rest[:2] in (["-m", "pip"], ["-m", "venv"]):
            return "none"
        if program == "mbrl" and target == "doctor" and not told and "--quick" not in rest:
            return "none"  # measures for up to minutes, or looks at a robot that is running
        if program == "mbrl" and target == "export":
            return "none"  # of a run that somebody has learned; tests/runtime/test_export.py does that
        if program == "mbrl" and target == "view" and not told:
            return "none"  # shows a run that is there, until Ctrl-C: ``test_replay_page.py``
        if program == "make":
            return {"demo": "demo", "docs": "site"}.get(target, "dry")
        if program == "mbrl" and target in ("demo", "launch") and not told:
            return target
        if program == "python" and rest[0] == "-m" and rest[1].endswith(".node"):
            return "node"
        return "run"


def fenced(page: Path) -> list[Command]:
    """The lines of a page's shell blocks, without comments; a line that ends in a backslash goes on."""
    blocks = [text for language, _, text in FENCE.findall(page.read_text(encoding="utf-8")) if language in SHELL]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    bare = [re.split(r"(?:^|\s+)#", line, maxsplit=1)[0].strip().removeprefix("$ ") for line in lines]
    return [Command(page.name, " ".join(line.split())) for line in bare if line]


def in_prose(page: Path) -> list[Command]:
    """Commands of ours in a sentence, with arguments: ``mbrl demo`` alone is a name."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    ours = [span for span in spans if len(span.split()) > 2 and span.removeprefix(".venv/bin/").split()[0] in OURS]
    return [Command(page.name, span) for span in ours if not PLACE.search(span)]


def commands(*pages: Path) -> list[Command]:
    """Every command of the pages, each once."""
    found: dict[tuple[str, ...], Command] = {}
    for page in pages:
        for command in (*fenced(page), *in_prose(page)):
            found.setdefault((*command.assigned, *command.words), command)
    return list(found.values())


def recipes() -> dict[str, str]:
    """The files that docs/extending.md shows, by name."""
    blocks = FENCE.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    return {name: text for _, name, text in blocks if name}


def write_recipes(folder: Path) -> None:
    """Every file that docs/extending.md shows, in packages that can be imported from ``folder``."""
    for name, text in recipes().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")


def typed(line: str, tree: Path) -> subprocess.Popen[bytes]:
    """The line in a shell, in a copy of the tree, its environment's commands on the path; nothing of an outer make."""
    environ = {name: value for name, value in os.environ.items() if name not in OUTER}
    environ |= {"PATH": f"{tree / '.venv' / 'bin'}:{environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        ["bash", "-c", line],
        cwd=tree,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes], within: float) -> str:
    """What it said from now until it ended by itself; it is gone afterwards."""
    try:
        return process.communicate(timeout=within)[0].decode()
    finally:
        process.kill()
