"""Installed by pip: everything arrives, and an installed copy works without the source tree."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from .installation import ROOT, Site, copy_of_the_tree, launching, patient

EXECUTABLES = sorted(path.name for path in (ROOT / "ros_ws" / "libexec").iterdir())


def sources(top: Path) -> set[str]:
    """The files in a folder, as a wheel names them."""
    found = (path for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(top).as_posix() for path in found}


def contents(wheel: Path) -> dict[str, bytes]:
    """Everything in a wheel that is not about the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_and_nothing_else(wheel, tree):
    code = {f"mbrl_control/{name}" for name in sources(tree / "ros_ws/src/mbrl_control")}
    code |= {f"mbrl_sim/{name}" for name in sources(tree / "sim/mbrl_sim")}
    data = {"share/mbrl_control/package.xml", "share/ament_index/resource_index/packages/mbrl_control"}
    data |= {f"lib/mbrl_control/{name}" for name in sources(tree / "ros_ws/libexec")}
    for folder in ("launch", "sim/worlds", "models"):
        data |= {f"share/mbrl_control/{folder}/{name}" for name in sources(tree / folder)}
    found = {re.sub(r"^[^/]+\.data/data/", "", name) for name in contents(wheel)}
    assert found == code | data


def test_the_executables_of_ros2_run_arrive_executable(wheel):
    with zipfile.ZipFile(wheel) as archive:
        modes = {
            Path(i.filename).name: i.external_attr >> 16
            for i in archive.infolist()
            if "/lib/mbrl_control/" in i.filename
        }
    assert sorted(modes) == EXECUTABLES
    assert all(mode & 0o111 == 0o111 for mode in modes.values())


def test_the_wheel_made_from_the_sdist_is_the_wheel_made_from_the_tree(installed, wheel, sdist):
    """``pip install`` of the sdist has built it; what it installed is compared file by file."""
    [packages] = installed.prefix.glob("lib/python3.*/site-packages")
    for name, content in contents(wheel).items():
        inner = name.partition(".data/data/")[2]
        path = installed.prefix / inner if inner else packages / name
        assert path.read_bytes() == content, name


def test_what_the_parts_of_the_package_say_of_it_agrees(installed, wheel):
    xml = (ROOT / "package.xml").read_text(encoding="utf-8")
    version = re.search(r"<version>(.*)</version>", xml)
    assert version
    assert f"\nVersion: {version[1]}\n" in about(wheel)
    assert installed.mbrl("--version") == f"mbrl_control {version[1]}\n"


def test_an_installed_copy_finds_its_own_files(installed):
    [packages] = installed.prefix.glob("lib/python3.*/site-packages")
    share = installed.prefix / "share" / "mbrl_control"
    assert installed.paths() == (packages / "mbrl_control", packages / "mbrl_sim", share)


def test_an_installed_copy_lists_what_the_source_tree_has(installed, tree, tmp_path):
    installed.mbrl("list", "--json", tmp_path / "list.json")
    found = json.loads((tmp_path / "list.json").read_text())
    assert [entry["name"] for entry in found.pop("models")] == [path.name for path in (tree / "models").glob("*/")]
    for kind, entries in found.items():
        ours = [entry for entry in entries if "." not in entry["name"]]
        files = {path.stem for path in (tree / "ros_ws/src/mbrl_control" / kind).glob("[!_]*.py")}
        assert {entry["name"] for entry in ours} == files
        assert not [entry for entry in ours if "error" in entry]


def test_an_installed_copy_launches_itself(installed, tmp_path):
    installed.mbrl("launch", "sim", "--dry-run", "--json", tmp_path / "dry.json")
    found = json.loads((tmp_path / "dry.json").read_text())
    assert found["file"] == str(installed.prefix / "share/mbrl_control/launch/sim.launch.yaml")
    for process in found["processes"]:
        assert process["command"][0] == str(installed.python)
        assert process["env"]["AMENT_PREFIX_PATH"].split(os.pathsep)[0] == str(installed.prefix)
        assert str(ROOT) not in " ".join(process["command"])


def test_an_installed_copy_runs_until_the_guard_can_be_armed(installed, domain, tmp_path):
    command = (installed.prefix / "bin/mbrl", "launch", "sim", "--own", "viewer:=false", patient(tmp_path))
    with launching(domain, installed.environ, *command) as stack:
        stack.armed()
        stack.clean()
    assert not stack.launchers["launch"].alive


@pytest.mark.parametrize("name", EXECUTABLES)
def test_what_ros2_run_finds_is_the_installed_copy(name, installed):
    wrapper = installed.prefix / "lib/mbrl_control" / name
    module = re.search(r" -m ([\w.]+)", wrapper.read_text(encoding="utf-8"))
    assert module
    code = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
    assert installed.run(installed.python, "-c", code, module[1]).startswith(str(installed.prefix))


def test_a_wrapper_takes_the_interpreter_it_was_installed_for(installed, tmp_path):
    """Not the one on the PATH, which may know nothing of us."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "python3").chmod(0o755)
    copy = tmp_path / "lib/mbrl_control/controller"
    copy.parent.mkdir(parents=True)
    shutil.copy(installed.prefix / "lib/mbrl_control/controller", copy)
    path = f"{tmp_path}:{os.environ['PATH']}"
    arguments = ("--ros-args", "-p", "robot:=nope")
    with pytest.raises(AssertionError, match="robot 'nope': known: "):
        installed.run(installed.prefix / "lib/mbrl_control/controller", *arguments, PATH=path)
    with pytest.raises(AssertionError, match="controller --ros-args -p robot:=nope: 7"):  # no bin/python3 beside it
        installed.run(copy, *arguments, PATH=path)


@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs a distribution's ROS 2")
def test_the_real_ros2_launch_and_ros2_run_take_an_installed_copy(installed, domain, tmp_path):
    prefixes = os.pathsep.join([str(installed.prefix), installed.environ.get("AMENT_PREFIX_PATH", "")])
    environ = {**installed.environ, "AMENT_PREFIX_PATH": prefixes}
    found = installed.run("ros2", "pkg", "executables", "mbrl_control", **environ).split("\n")
    assert [line.split()[1] for line in found if line] == EXECUTABLES
    command = ("ros2", "launch", "mbrl_control", "sim.launch.yaml", "viewer:=false", patient(tmp_path))
    with launching(domain, environ, *command) as stack:
        stack.armed()
        stack.clean()


def test_another_prefix_works_as_well(wheel, tmp_path):
    """``--user`` and a distribution's ``/usr/local`` have the same layout."""
    site = Site.make(tmp_path / "venv")
    place = tmp_path / "place"
    site.pip("--prefix", place, wheel)
    [package] = place.glob("**/mbrl_control/__init__.py")
    path = {"PYTHONPATH": os.pathsep.join([str(package.parents[1]), site.environ.get("PYTHONPATH", "")])}
    assert site.paths(**path) == (package.parent, package.parents[1] / "mbrl_sim", place / "share" / "mbrl_control")
    shown = site.run(site.python, "-m", "mbrl_control.cli", "launch", "sim", "--dry-run", **path)
    assert str(place / "share/mbrl_control/launch/panda.yaml") in shown
    assert f"AMENT_PREFIX_PATH={place}" in shown


# --- Editable ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    """An environment with an editable install, and the tree it was made from."""
    folder = tmp_path_factory.mktemp("editable")
    tree = copy_of_the_tree(folder / "tree")
    site = Site.make(folder / "venv")
    site.pip("--editable", tree)
    return site, tree


def test_an_editable_install_takes_everything_from_the_source_tree(editable):
    site, tree = editable
    assert site.paths() == (tree / "ros_ws/src/mbrl_control", tree / "sim/mbrl_sim", tree)
    assert (site.prefix / "lib/mbrl_control/controller").is_file(), "ros2 run finds it"
    assert (site.prefix / "share/ament_index/resource_index/packages/mbrl_control").is_file(), "ros2 pkg finds it"


def test_an_edited_launch_file_counts_at_once_whatever_lies_in_share(editable, tmp_path):
    """An editable install copies the launch files; the copies go stale, and nobody may read them."""
    site, tree = editable
    text = yaml.safe_load((tree / "launch/sim.launch.yaml").read_text())
    text["launch"].insert(0, {"arg": {"name": "fresh", "default": "new", "description": "added after the install"}})
    (tree / "launch/sim.launch.yaml").write_text(yaml.safe_dump(text))
    (tree / "launch/planar.yaml").write_text("/**: {ros__parameters: {}}\n")
    stale = site.prefix / "share/mbrl_control"
    assert "fresh" not in (stale / "launch/sim.launch.yaml").read_text()
    assert "fresh:=  added after the install (default new)" in site.mbrl("launch", "sim", "--show-args")
    prefixes = os.pathsep.join([str(site.prefix), site.environ.get("AMENT_PREFIX_PATH", "")])
    site.mbrl("launch", "sim", "robot:=planar", "--dry-run", "--json", tmp_path / "r.json", AMENT_PREFIX_PATH=prefixes)
    said = (tmp_path / "r.json").read_text()
    assert str(tree / "launch/planar.yaml") in said
    assert str(stale) not in said


def test_ros2_launch_is_handed_the_file_of_the_source_tree(editable, tmp_path):
    site, tree = editable
    (tmp_path / "ros2").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "ros2").chmod(0o755)
    said = site.mbrl("launch", "sim", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert said == f"launch {tree}/launch/sim.launch.yaml\n"


# --- package.xml ------------------------------------------------------------------------------------

ROSDEP = {"numpy": "python3-numpy", "yaml": "python3-yaml", "rich": "python3-rich", "matplotlib": "python3-matplotlib"}
"""The keys of what rosdep can install."""
PIP_ONLY = {
    "threadpoolctl",
    "safetensors",
    "mujoco",
    "viser",
    "websockets",
    "casadi",
    "torch",
    "array_api_compat",
    "onnx",
    "onnxruntime",
}
"""What it cannot, or what only training and the tests import."""
BESIDES = {"lifecycle_msgs", "ros2launch"}
"""What rclpy's lifecycle nodes and ``ros2 launch`` need, imported by none of us."""


def imported(tree: Path) -> set[str]:
    """The top-level modules of others that our packages import anywhere.

    Scripts that run in the environment of a benchmark's peers are none of these.
    """
    found = set()
    for path in [*(tree / "ros_ws/src").rglob("*.py"), *(tree / "sim").rglob("*.py")]:
        if path.parent == tree / "ros_ws/src/mbrl_control/bench/peers":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"mbrl_control", "mbrl_sim"}


def test_package_xml_names_what_is_imported_and_nothing_else(wheel, tree):
    xml = ElementTree.parse(tree / "package.xml").getroot()
    named = {element.text for element in xml.findall("exec_depend")}
    others = imported(tree)
    ros = others - ROSDEP.keys() - PIP_ONLY
    assert named == ros | BESIDES | {ROSDEP[name] for name in others & ROSDEP.keys()}
    wheels = {re.split(r"[><=]", line)[0].removeprefix("ros-").replace("-", "_") for line in wanted(wheel, "ros")}
    assert wheels - {"rmw_fastrtps_cpp"} == ros | BESIDES - {"ros2launch"}, "setup.py's extra 'ros' names the same"


def about(wheel: Path) -> str:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        [found] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA")]
    return found


def wanted(wheel: Path, extra: str) -> list[str]:
    """What an extra of setup.py takes."""
    return re.findall(rf'^Requires-Dist: ([^;]*); extra == "{extra}"', about(wheel), re.MULTILINE)
