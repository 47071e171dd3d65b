"""What every test shares: shapes are checked, and no test hears another one's ROS topics."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")

from mbrl_control import core

core.SHAPE_CHECKS = True

# The same examples every time, however busy the machine is.
settings.register_profile("ours", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

_counted = itertools.count()
TRIES = 3
"""For a test of real time on a machine that stands still meanwhile."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test again, a few times, if it found that the machine was not let run (``stack.StalledError``)."""
    if "domain" not in pyfuncitem.fixturenames:
        return None
    from stack import StalledError

    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for left in reversed(range(TRIES)):
        try:
            pyfuncitem.obj(**arguments)
        except StalledError as stalled:
            if not left:
                raise
            print(f"{stalled}; once more", file=sys.stderr)
        else:
            return True
    return True


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of the test's own, 1 to 100, in ROS_DOMAIN_ID for it and the processes it starts.

    Counted up from a place that depends on the process, so that workers side by side keep apart.
    """
    number = 1 + (os.getpid() * 37 + next(_counted)) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the tree as after set-up: ``.venv`` is this environment, and ``make`` finds it up to date.

    The recipes' files are there too. What is typed there writes its runs, sites and reports there.
    """
    from shown import ROOT, write_recipes

    tree = tmp_path_factory.mktemp("checkout")
    ours = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "runs", "site")
    shutil.copytree(ROOT, tree, ignore=ours, dirs_exist_ok=True)
    (tree / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith((".robot-", ".train-")) and part.name not in ("doctrees", "site"):
            (tree / ".venv" / part.name).symlink_to(part)
    subprocess.run(["make", "--touch", "--silent", "setup", "demo"], cwd=tree, check=True)
    write_recipes(tree)
    return tree
