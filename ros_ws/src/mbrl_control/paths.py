"""Where our own files lie: the source tree when there is one, else the installed share folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mbrl_control.core import MbrlError

PACKAGE = "mbrl_control"
SOURCE = Path(__file__).resolve().parents[3]


def share() -> Path:
    """The folder that holds launch/, sim/worlds/ and models/."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates = [SOURCE, *(p / "share" / PACKAGE for p in [*prefixes, Path(sys.prefix)])]
    for folder in candidates:
        if (folder / "package.xml").exists() and (folder / "launch").exists():
            return folder
    raise MbrlError(f"no installation of {PACKAGE} found; looked in " + ", ".join(map(str, candidates)))
