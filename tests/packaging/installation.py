"""Installations for tests: virtual environments that see what is installed here, but not this copy of ours.

Nothing is downloaded: pip and colcon build with the setuptools that is here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stack import Stack

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "runs", "site")
OFFLINE = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")


def copy_of_the_tree(folder: Path) -> Path:
    """The repository as a checkout would have it, for builds that leave something behind."""
    return Path(shutil.copytree(ROOT, folder, ignore=LEFT_OUT))


@dataclass(frozen=True)
class Site:
    """A place to install to, and an interpreter that finds what is there first."""

    prefix: Path
    python: Path
    environ: Mapping[str, str]

    @classmethod
    def make(cls, prefix: Path) -> Site:
        """An empty virtual environment on top of the packages that this interpreter sees."""
        venv.create(prefix, symlinks=True)
        [packages] = prefix.glob("lib/python3.*/site-packages")
        seen = [
            entry for entry in sys.path if entry.endswith("-packages")
        ]  # their .pth files are not obeyed: no editable
        (packages / "below.pth").write_text("\n".join(seen), encoding="utf-8")
        return cls(prefix, prefix / "bin" / "python", clean_environ())

    def run(self, *command: object, cwd: Path | None = None, **environ: str) -> str:
        """What a command prints; it has to succeed."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            cwd=cwd or self.prefix,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, (
            f"{' '.join(words)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout

    def pip(self, *words: object) -> None:
        """``pip install`` without a network, whatever is installed below."""
        install = ("install", "--ignore-installed", *OFFLINE)
        self.run(sys.executable, "-m", "pip", "--python", self.python, *install, *words)

    def mbrl(self, *words: object, **environ: str) -> str:
        return self.run(self.prefix / "bin" / "mbrl", *words, **environ)

    def paths(self, **environ: str) -> tuple[Path, Path, Path]:
        """Where the packages mbrl_control and mbrl_sim and the share folder are found."""
        code = "import mbrl_control, mbrl_sim.node, mbrl_control.paths as p; print(mbrl_control.__file__)"
        code += "; print(mbrl_sim.__file__); print(p.share())"
        ours, simulation, share = self.run(self.python, "-c", code, **environ).split()
        return Path(ours).parent, Path(simulation).parent, Path(share)


def clean_environ() -> dict[str, str]:
    """This process's environment without what leads to a copy of ours."""
    environ = dict(os.environ)
    for name, found in (("PYTHONPATH", "mbrl_control/__init__.py"), ("AMENT_PREFIX_PATH", "share/mbrl_control")):
        entries = [entry for entry in environ.get(name, "").split(os.pathsep) if entry]
        kept = [entry for entry in entries if not (Path(entry) / found).exists()]
        environ.pop(name, None)
        if kept:
            environ[name] = os.pathsep.join(kept)
    return environ


def patient(folder: Path) -> str:
    """An argument for the launch: a guard that bears with a machine that is busy with other tests."""
    path = folder / "patient.yaml"
    path.write_text("controller: {ros__parameters: {state_timeout: 0.5}}\n", encoding="utf-8")
    return f"params:={path}"


def launching(domain: int, environ: Mapping[str, str], *command: object, robot: str = "panda") -> Stack:
    """A person beside a launch command that runs as a process of its own."""
    stack = Stack(domain, robot=robot)
    env = {**environ, "ROS_DOMAIN_ID": str(domain)}
    words = tuple(str(word) for word in command)
    stack.specs = {"launch": replace(stack.specs["sim"], name="launch", argv=words, env=env)}
    stack.only = ("launch",)
    return stack
