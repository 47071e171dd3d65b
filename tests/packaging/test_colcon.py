"""Built and tested by colcon, as in a ROS 2 workspace."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .installation import ROOT, Site, copy_of_the_tree


class Workspace:
    """A copy of the repository in an environment of its own, and what colcon makes of it."""

    def __init__(self, folder: Path) -> None:
        self.tree = copy_of_the_tree(folder / "mbrl_control")
        self.site = Site.make(folder / "venv")

    def colcon(self, *words: str, cwd: Path | None = None) -> str:
        return self.site.run(
            self.site.python, "-m", "colcon", *words, cwd=cwd or self.tree, COLCON_HOME=str(self.site.prefix)
        )

    def sourced(self, install: Path) -> Site:
        """What a shell sees after ``. install/setup.sh``."""
        shown = self.site.run("sh", "-c", '. "$0" && env -0', install / "setup.sh", cwd=self.tree)
        environ = dict(line.split("=", 1) for line in shown.split("\0") if line)
        prefix = install / "mbrl_control"
        assert environ["AMENT_PREFIX_PATH"].split(os.pathsep)[0] == str(prefix)
        return Site(prefix, self.site.python, environ)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("colcon"))


@pytest.mark.parametrize(("how", "below"), [("copied", "ros_ws"), ("linked", "")], ids=["copied", "linked"])
def test_colcon_builds_what_works_once_it_is_sourced(how, below, workspace):
    base = ("--base-paths", "..") if below else ()
    link = ("--symlink-install",) if how == "linked" else ()
    workspace.colcon("build", *base, *link, cwd=workspace.tree / below)
    built = workspace.sourced(workspace.tree / below / "install")
    ours, simulation, share = built.paths()
    home = workspace.tree if how == "linked" else built.prefix
    assert share == (home if how == "linked" else home / "share/mbrl_control")
    assert ours.resolve().is_relative_to(home)
    assert simulation.resolve().is_relative_to(home)
    found = {path.name for path in (built.prefix / "lib/mbrl_control").iterdir() if os.access(path, os.X_OK)}
    assert found == {"mbrl", *(path.name for path in (ROOT / "ros_ws/libexec").iterdir())}
    assert "mppi" in built.run(built.prefix / "lib/mbrl_control/mbrl", "list", "planners")
    shown = built.run(built.prefix / "lib/mbrl_control/mbrl", "launch", "sim", "--dry-run")
    assert f"{share}/launch/panda.yaml" in shown
    launch = built.prefix / "share/mbrl_control/launch/sim.launch.yaml"
    assert launch.is_symlink() == (how == "linked")
    assert launch.read_bytes() == (ROOT / "launch/sim.launch.yaml").read_bytes()


def test_colcon_test_runs_our_tests_on_what_was_built(workspace):
    """A few of them; without arguments it is the default suite, as ``make test`` runs it."""
    workspace.colcon("build")
    probe = workspace.tree / "tests/runtime/test_of_colcon.py"
    probe.write_text(
        "import mbrl_control, pytest\n"
        f"def test_installed(): assert mbrl_control.__file__.startswith({str(workspace.tree / 'install')!r})\n"
        "@pytest.mark.slow\ndef test_slow(): raise AssertionError('not one of the default tests')\n"
    )
    few = (str(probe), "tests/runtime/test_states.py")
    workspace.colcon("test", "--return-code-on-test-failure", "--pytest-args", *few)
    results = ElementTree.parse(workspace.tree / "build/mbrl_control/pytest.xml").getroot()
    names = {case.get("name") for case in results.iter("testcase")}
    assert "test_installed" in names
    assert "test_slow" not in names
    assert len(names) > 10
