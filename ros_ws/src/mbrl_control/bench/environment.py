"""The peers' own virtual environment: made once, of exact versions, apart from ours, which never depends on them.

Nothing but torch is resolved: mbrl-lib pins a hydra that does not run on a current Python, and asks for Jupyter, and
crocoddyl 3.2.1 crashes with pinocchio 4.1. torch comes without CUDA where its own index of such wheels can be reached.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mbrl_control.core import MbrlError

TORCH = "torch==2.13.0"
"""And what it needs. Another version is another wheel, by default one with gigabytes of CUDA."""
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
PINS = (
    "numpy==2.4.6",
    "mbrl==0.2.0",
    "hydra-core==1.3.2",
    "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3",
    "PyYAML==6.0.3",
    "packaging==26.3",
    "gymnasium==0.26.3",
    "farama-notifications==0.0.6",
    "cloudpickle==3.1.2",
    "termcolor==3.3.0",
    "tqdm==4.70.1",
    "pytorch-mppi==0.9.1",
    "arm-pytorch-utilities==0.5.0",
    "pytorch-seed==0.2.0",
    "scipy==1.17.1",
    "crocoddyl==3.2.1",
    "libcrocoddyl==3.2.1",
    "pin==4.0.0",
    "libpinocchio==4.0.0",
    "coal==3.0.3",
    "libcoal==3.0.3",
    "eigenpy==3.13.0",
    "cmeel==0.62.0",
    "cmeel-assimp==6.0.5",
    "cmeel-boost==1.90.0",
    "cmeel-console-bridge==1.0.2.3",
    "cmeel-octomap==1.10.0",
    "cmeel-qhull==8.0.2.1",
    "cmeel-tinyxml2==11.0.0",
    "cmeel-urdfdom==6.0.0",
    "cmeel-zlib==1.3.2",
)
"""The peers, and of what they need that which is imported here."""
LOG = "install.log"


class PeersError(MbrlError):
    """An environment of peers that cannot be made."""


def default() -> Path:
    """Where it is unless somebody says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mbrl_control" / "peers"


def python(folder: Path) -> Path:
    return folder / "bin" / "python"


def stamp(folder: Path) -> Path:
    """Is there when the environment is whole, and of these versions."""
    words = "\n".join([*PINS, TORCH, sys.version])
    return folder / f".whole-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def made(folder: Path, told: Callable[[str], None]) -> Path:
    """The Python of the environment, which is made if it is not there; ``told`` hears what takes its time."""
    if stamp(folder).exists() and python(folder).exists():
        return python(folder)
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
            raise PeersError(f"--peers-dir {folder}: there are other things in it; it takes a new folder, or its own")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).write_text("", encoding="utf-8")
    except OSError as error:
        why = (error.strerror or "cannot be written").lower()
        raise PeersError(f"--peers-dir {folder}: {why}; it takes a folder that can be written") from None
    told(f"making the peers' environment in {folder} (once; some minutes)")
    pip = [str(python(folder)), "-m", "pip", "install", "--disable-pip-version-check"]
    install(folder, [sys.executable, "-m", "venv", "--clear", str(folder)])
    install(folder, [*pip, "--extra-index-url", CPU_WHEELS, TORCH, PINS[0]])
    install(folder, [*pip, "--no-deps", *PINS])
    stamp(folder).touch()
    return python(folder)


def install(folder: Path, command: Sequence[str]) -> None:
    """One step, what it says at the end of the log."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    words = f"$ {' '.join(command)}\n{done.stdout}{done.stderr}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(words)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [f"exit {done.returncode}"]
        raise PeersError(f"the peers' environment was not made: {lines[-1].strip()}; the whole log: {folder / LOG}")
