"""Somebody else's package, made of the recipes as they are written: installed by pip, then listed, launched, tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from shown import write_recipes

from mbrl_control import registry

from .installation import OFFLINE, ROOT, clean_environ, launching, patient

DECLARED = {"robots": ["my_lab.planar"], "tasks": ["my_lab.hover"], "dynamics": [], "planners": ["my_lab.best_of"]}
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The environment with ``my_lab`` installed on top of what is here, and nowhere else."""
    folder = tmp_path_factory.mktemp("lab")
    write_recipes(folder / "source")
    [metadata] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (folder / "source" / "pyproject.toml").write_text(metadata, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", *OFFLINE, "--target", folder / "site", folder / "source"]
    subprocess.run(pip, check=True, capture_output=True, timeout=100)
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    return {**clean_environ(), "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def mbrl(environ, *words, module="mbrl_control.cli", within=100.0):
    """A command line of ours, or of another module, in that environment; gives status and output."""
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=within, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_is_listed_after_ours(lab, tmp_path):
    for kind, declared in DECLARED.items():
        status, said = mbrl(lab, "list", kind, "--json", tmp_path / "list.json")
        assert status == 0, said
        found = json.loads((tmp_path / "list.json").read_text())[kind]
        assert [entry["name"] for entry in found if not entry["name"].startswith("my_lab.")] == registry.names(kind)
        listed = [entry for entry in found if entry["name"].startswith("my_lab.")]
        assert [entry["name"] for entry in listed] == declared
        assert not [entry for entry in listed if "error" in entry]
    status, said = mbrl(lab, "list", "planners", "my_lab.best_of")
    assert (status, "samples = 128" in said) == (0, True), said


def test_a_misspelt_name_finds_it(lab):
    status, said = mbrl(lab, "demo", "--planner", "best_of")
    assert status == 2
    assert "planner 'best_of': did you mean 'my_lab.best_of'?" in said


def test_its_planner_is_launched_and_its_plans_are_good(lab, domain, tmp_path):
    """The guard is armed only after three good plans in a row, and stays ACTIVE only with more of them."""
    command = (sys.executable, "-m", "mbrl_control.cli", "launch", "sim", "--own", "viewer:=false", patient(tmp_path))
    with launching(domain, lab, *command, "planner:=my_lab.best_of", "task:=my_lab.hover") as stack:
        stack.armed()
        stack.person.goal(0.45, 0.2, 0.5)
        stack.until(lambda: abs(stack.person.record.v_ref[-1]).max() > 0.05, "the arm moves")
        stack.clean()


def test_its_robot_is_launched_without_a_parameter_file_of_ours(lab, domain, monkeypatch):
    monkeypatch.syspath_prepend(lab["PYTHONPATH"].split(os.pathsep)[0])
    command = (sys.executable, "-m", "mbrl_control.cli", "launch", "sim", "--own", "viewer:=false")
    with launching(domain, lab, *command, "robot:=my_lab.planar", robot="my_lab.planar") as stack:
        stack.armed()
        stack.clean()
    missing = ROOT / "launch" / "my_lab.planar.yaml"
    assert any(f"there is no parameter file {missing}: going without it" in line for line in stack.lines)


def contracts(lab, keyword, *where):
    status, said = mbrl(lab, "-q", "-p", "no:cacheprovider", *where, "-k", keyword, module="pytest", within=800.0)
    passed = re.search(r"(\d+) passed", said)
    assert status == 0, said[-5000:]
    assert passed
    return int(passed[1])


@pytest.mark.timeout(300)
def test_it_is_under_the_contract_tests(lab):
    """Those of every plugin and of every planner, on one task; ``make test-slow`` runs all of them."""
    where = ("tests/contracts/test_registry.py", "tests/contracts/test_planners.py")
    assert contracts(lab, "my_lab.best_of-reach-panda or planners-my_lab.best_of", *where) >= 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_passes_all_of_the_contract_tests(lab):
    assert contracts(lab, "my_lab", "tests/contracts") > 200
