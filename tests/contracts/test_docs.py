"""The documentation is true: generated parts are fresh, links lead somewhere, commands exist, recipes run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shown import FENCE, PAGES, ROOT, Command, commands, recipes, write_recipes

import mbrl_control
import mbrl_sim
from mbrl_control import cli, registry
from mbrl_control.commands import launch as launch_command
from mbrl_control.config import from_flags, params
from mbrl_control.core import Goal, Observation, State
from mbrl_control.models import card
from mbrl_control.runtime import launch
from mbrl_control.runtime.demo import DemoConfig

EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
CITED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_generated_parts_are_up_to_date():
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@EACH
def test_every_link_inside_leads_somewhere(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@EACH
def test_every_test_that_is_named_exists(page):
    for name, function in CITED.findall(page.read_text(encoding="utf-8")):
        path = ROOT / name
        assert path.is_file(), f"{page.name}: {name}"
        found = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
        assert not function or function in found, f"{page.name}: {name}::{function}"


def examples() -> list[Command]:
    """Every example that a help page ends with."""
    top, known = cli.parsers()
    lines = [line for parser in (top, *known.values()) for line in (parser.epilog or "").splitlines()]
    return [Command("--help", line.split("   ")[0].strip()) for line in lines if line.startswith("  mbrl ")]


SHOWN = {command.line: command for command in (*commands(*PAGES), *examples()) if command.words[0] == "mbrl"}


def test_every_sub_command_is_shown_and_has_examples():
    _, known = cli.parsers()
    assert {command.words[1] for command in examples()} == set(known)
    assert {command.words[1] for command in commands(*PAGES) if command.words[0] == "mbrl"} >= set(known)


@pytest.mark.parametrize("line", sorted(SHOWN))
def test_every_command_that_is_shown_is_understood(line):
    """What is more than that is seen where they are run: ``tests/nodes/test_shown_commands.py``."""
    words = SHOWN[line].words[1:]
    top, known = cli.parsers()
    cli.check_options(words, top, known)
    args, rest = top.parse_known_args(words)
    assert args.command in known or {"--help", "--version"} & set(words)
    if args.command == "launch":
        launch.assignments([*args.arguments, *rest])
        if "/" not in args.file:
            path, _ = launch_command.launch_file(args.file)
            launch.expand(path, launch.assignments([*args.arguments, *rest]))
        return
    if "arguments" in args:  # as the command line takes them, also after options
        launch.assignments([*args.arguments, *rest])
        rest = []
    assert not rest
    if args.command == "list" and args.kind == "models" and args.name:
        card(args.name)
    elif args.command == "list" and args.name and "." not in args.name:
        registry.load(args.kind, args.name)
    if args.command == "demo":
        from_flags(DemoConfig, args)


def test_every_argument_of_every_command_is_on_the_commands_page_and_nothing_else():
    top, known = cli.parsers()
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (mbrl[ \w]*)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(sections) == {"mbrl", *(f"mbrl {name}" for name in known)}
    for name, parser in {"mbrl": top, **{f"mbrl {name}": parser for name, parser in known.items()}}.items():
        rows = re.findall(r"^\| (`.*?) \| \S", sections[name], re.MULTILINE)
        shown = {word.split()[0] for row in rows for word in re.findall(r"`([^`]+)`", row)}
        assert {word for word in shown if word.startswith("-")} == set(parser.options())


@functools.cache
def declared() -> dict[str, set[str]]:
    """Parameters of every Config in the tree, by class; one that another one extends is told there, but for plugins."""
    classes: set[type] = set()
    for package in (mbrl_control, mbrl_sim):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            module = importlib.import_module(found.name)
            classes |= {
                value
                for value in vars(module).values()
                if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__ == found.name
            }
    configs = {c for c in classes if any("live" in field.metadata for field in dataclasses.fields(c))}
    plugins = {registry.load(kind, name).config for kind in registry.KINDS for name in registry.ours(kind)}
    extended = {base for c in configs for base in c.__mro__[1:]} - plugins
    return {f"{c.__module__}.{c.__qualname__}": set(params(c)) for c in configs - extended}


def documented() -> dict[str, set[str]]:
    """Parameters in the tables of docs/parameters.md, by class."""
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    found = {}
    for part in text.split("\nDeclared by `")[1:]:
        rows = re.findall(r"^\| `(?:--)?([\w-]+)` \|", part, re.MULTILINE)
        assert len(rows) == len(set(rows))
        found[part.split("`")[0]] = {row.replace("-", "_") for row in rows}
    return found


def test_every_parameter_is_documented_and_nothing_else():
    assert len(declared()) > 10
    assert documented() == declared()


# --- The recipes of docs/extending.md -----------------------------------------------------------------


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with every file that docs/extending.md shows, importable."""
    write_recipes(tmp_path)
    packages = {name.split("/")[0] for name in recipes()}
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[module]


def test_there_is_a_recipe_for_each_kind():
    assert {Path(name).stem for name in recipes()} == {"best_of", "hover", "planar", "planar_torque"}


def planning(robot: str = "panda", task: str = "reach", planner: str = "mppi", model: str = "kinematic") -> list[float]:
    """Costs of ten rounds of planning from home towards one goal."""
    made = registry.make("robots", robot)
    wanted = registry.make("tasks", task, made)
    symbolic = model == "symbolic"
    dynamics = registry.make("dynamics", model, made, overrides={"compile": False} if symbolic else {})
    overrides = {"horizon": 10, **({"compile": False} if symbolic else {"samples": 32})}
    plans = registry.make("planners", planner, wanted, dynamics, overrides=overrides)
    rng = np.random.default_rng(0)
    point = wanted.sample_goal(rng)
    wanted.check_goal(point)
    goal = Goal.still(point, plans.horizon, wanted.tolerance, wanted.dwell)
    obs = Observation(0.0, State(0.0, made.home, np.zeros(made.nj)))
    carry, costs = plans.init(obs), []
    for _ in range(10):
        carry, plan, info = plans.improve(obs, goal, plans.knobs(), carry, plans.noise(rng))
        assert not info.status
        assert plan.q.shape == (plans.horizon + 1, made.nj)
        costs.append(info.cost)
    return costs


@pytest.mark.parametrize(
    "parts",
    [{"planner": "my_lab.best_of"}, {"task": "my_lab.hover"}, {"robot": "my_lab.planar"}],
    ids=lambda parts: next(iter(parts)),
)
def test_a_recipe_plans_as_it_is_written(lab, parts):
    costs = planning(**parts)
    assert costs[-1] < costs[0]


def test_the_planner_of_the_recipe_reports_what_is_not_finite(lab):
    robot = registry.make("robots", "panda")
    task = registry.make("tasks", "reach", robot)
    planner = registry.make(
        "planners", "my_lab.best_of", task, registry.make("dynamics", "kinematic", robot), overrides={"horizon": 5}
    )
    obs = Observation(0.0, State(0.0, robot.home * np.nan, np.zeros(7)))
    goal = Goal.still(task.sample_goal(np.random.default_rng(0)), 5, 0.1, 0.1)
    noise = planner.noise(np.random.default_rng(0))
    _, plan, info = planner.improve(obs, goal, planner.knobs(), planner.init(obs), noise)
    assert info.status
    assert np.isfinite(plan.q).all()


def test_the_task_of_the_recipe_has_a_residual_for_each_term(lab):
    task = registry.make("tasks", "my_lab.hover", registry.make("robots", "panda"))
    features = {"q": np.tile(task.robot.home, (3, 1)), "v": np.zeros((3, 7))}
    residuals = task.residuals(np, features, np.zeros((3, 7)), np.zeros((3, 3)))
    assert set(residuals) == set(task.terms)
    assert {r.shape[0] for r in residuals.values()} == {3}


def test_the_robot_of_the_recipe_is_the_one_in_its_world(lab):
    import mujoco

    from mbrl_sim.world import World

    robot = registry.make("robots", "my_lab.planar")
    world = World(robot)
    world.step(200)
    np.testing.assert_allclose(world.observe().q, robot.home, atol=1e-6)
    model = mujoco.MjModel.from_xml_path(str(robot.world))
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(10):
        data.qpos[:], data.qvel[:], data.qacc[:] = q, v, a = rng.uniform(-2.0, 2.0, (3, 2))
        mujoco.mj_inverse(model, data)
        np.testing.assert_allclose(robot.tip(np, q), data.site("tip").xpos, atol=1e-9)
        np.testing.assert_allclose(robot.inverse_dynamics(np, q, v, a), data.qfrc_inverse, atol=1e-9)


def test_the_robot_that_reads_its_mjcf_is_the_one_that_types_it_and_plans_with_derivatives(lab):
    typed, read = (registry.make("robots", f"my_lab.{name}") for name in ("planar", "planar_torque"))
    q, v, a = np.random.default_rng(0).uniform(-2.0, 2.0, (3, 10, 2))
    np.testing.assert_allclose(read.tip(np, q), typed.tip(np, q), atol=1e-9)
    torque = read.inverse_dynamics(np, q, v, a)
    np.testing.assert_allclose(torque, typed.inverse_dynamics(np, q, v, a), atol=1e-9)
    np.testing.assert_allclose(read.acceleration(np, q, v, torque), a, atol=1e-9)
    pytest.importorskip("casadi")
    costs = planning("my_lab.planar_torque", planner="ilqr", model="symbolic")
    assert costs[-1] < costs[0]
