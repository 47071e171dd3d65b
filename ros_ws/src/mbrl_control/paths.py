"""Where our own files lie: in the source tree where there is one, else where this very copy was installed to.

What another installation holds (of an earlier version, of another prefix) is never taken: code and launch files
belong together. So a source tree wins over the copies that an editable install leaves in ``share/``.
"""

from __future__ import annotations

from pathlib import Path

from mbrl_control.errors import MbrlError

PACKAGE = "mbrl_control"
SOURCE = Path(__file__).resolve().parents[3]


def in_source_tree() -> bool:
    """Whether this copy runs from its repository, as after ``pip install -e`` or ``colcon build --symlink-install``."""
    return (SOURCE / "package.xml").is_file() and (SOURCE / "launch").is_dir()


def prefix() -> Path | None:
    """The prefix this copy was installed to: a venv, ``/usr/local``, ``~/.local``, colcon's, pip's ``--target``."""
    if in_source_tree():
        return None
    found = (folder for folder in Path(__file__).absolute().parents if (_shared(folder) / "package.xml").is_file())
    return next(found, None)


def share() -> Path:
    """The folder that holds launch/, sim/worlds/ and models/."""
    if in_source_tree():
        return SOURCE
    installed = prefix()
    if installed is None:
        raise MbrlError(f"no share/{PACKAGE} beside {Path(__file__).parent}; install {PACKAGE} again, whole")
    return _shared(installed)


def executables() -> Path:
    """The folder of what ``ros2 run mbrl_control`` starts."""
    if in_source_tree():
        return SOURCE / "ros_ws" / "libexec"
    return share().parents[1] / "lib" / PACKAGE


def _shared(prefix: Path) -> Path:
    return prefix / "share" / PACKAGE
