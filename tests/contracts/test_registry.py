"""What every plugin file promises, ours and other people's."""

from __future__ import annotations

import dataclasses
import sys
import textwrap

import numpy as np
import pytest

from mbrl_control import cli, registry
from mbrl_control.config import ConfigError, build, params
from mbrl_control.core import Robot
from mbrl_control.registry import RegistryError

from . import combinations

PLUGINS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
EACH = pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=["-".join(plugin) for plugin in PLUGINS])
PARTS = [plugin for plugin in PLUGINS if plugin[0] != "learners"]
EACH_PART = pytest.mark.parametrize(("kind", "name"), PARTS, ids=["-".join(plugin) for plugin in PARTS])
"""Learners need a run: ``tests/runtime/test_learning.py``."""
RAN = combinations.accepted("tasks", "dynamics", "planners")


@EACH
def test_a_plugin_says_what_it_is(kind, name):
    entry = registry.load(kind, name)
    assert len(entry.doc) > 10
    assert entry.doc.endswith((".", ":")), f"first line of {name}: {entry.doc}"
    assert entry.config.__doc__
    assert entry.make.__doc__


@EACH
def test_its_parameters_are_declared_with_words_units_and_bounds(kind, name):
    config = registry.load(kind, name).config
    assert dataclasses.is_dataclass(config)
    assert getattr(config, "__dataclass_params__").frozen  # noqa: B009 - not declared for the checker
    for p in params(config).values():
        assert len(p.doc) > 10, f"{name}.{p.name} has no words"
        assert not p.doc.endswith(".")
        assert p.parse(p.default) == p.default
        if p.type in (int, float):
            assert p.low is not None, f"{name}.{p.name} has no least value"
            assert p.high is not None, f"{name}.{p.name} has no largest value"
        if p.name in ("dt", "dwell"):
            assert p.unit == "s"
    assert config() == build(config, {})


@EACH_PART
def test_it_is_made_with_its_defaults(kind, name):
    field = kind.removesuffix("s") if kind != "dynamics" else kind
    names = next(n for n in RAN if getattr(n, field) == name)
    robot = registry.make("robots", names.robot)
    task = registry.make("tasks", names.task, robot)
    dynamics = registry.make(
        "dynamics", names.dynamics, robot, np, overrides=combinations.needed(names.dynamics, names.robot)
    )
    planner = registry.make("planners", names.planner, task, dynamics, np)
    assert planner.dt == dynamics.dt
    assert planner.noise(np.random.default_rng(0)).keys() >= set()


@EACH
def test_an_unknown_parameter_is_refused_with_the_nearest_one(kind, name):
    config = registry.load(kind, name).config
    for known in params(config):
        with pytest.raises(ConfigError, match=f"did you mean '{known}'"):
            registry.make(kind, name, overrides={known + "x": 1})
        break
    with pytest.raises(ConfigError, match=rf"{name}\.qqqqqq: no such parameter"):
        registry.make(kind, name, overrides={"qqqqqq": 1})


@pytest.mark.parametrize("name", registry.names("robots"))
def test_a_robot_is_whole(name):
    robot = registry.make("robots", name)
    assert isinstance(robot, Robot)
    assert robot.name == name
    assert robot.home.shape == robot.limits.lower.shape == (robot.nj,)
    assert np.all((robot.home >= robot.limits.lower) & (robot.home <= robot.limits.upper))
    assert robot.channels.coupling.shape == (robot.nj, robot.nu)
    assert np.all(robot.channels.bound > 0.0)
    assert robot.tip(np, np.stack([robot.home] * 4)).shape == (4, 3)
    assert robot.world.is_file()


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("planners", "mpi", "did you mean 'mppi'"),
        ("tasks", "rech", "did you mean 'reach'"),
        ("robots", "pandas", "did you mean 'panda'"),
        ("dynamics", "kinematics", "did you mean 'kinematic'"),
        ("planners", "zzzzzz", "known: .*mppi"),
        ("robots", "", "known: .*panda"),
        ("robots", "nobody.at_home", "no module 'nobody' is installed"),
        ("planners", "json.decoder", "needs a Config dataclass and a function make"),
        ("planner", "mppi", "did you mean 'planners'"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused_with_what_does(kind, name, says):
    with pytest.raises(RegistryError, match=says):
        registry.load(kind, name)


OUTSIDE = '''
"""Reach, but lazily: somebody else's task."""

from dataclasses import dataclass

from mbrl_control.config import param
from mbrl_control.tasks import reach


@dataclass(frozen=True)
class Config:
    """Parameters."""

    slack: float = param(3.0, "Factor on the tolerance", low=1.0, high=10.0)


def make(config, robot):
    """The lazy task."""
    return reach.make(reach.Config(tolerance=reach.Config().tolerance * config.slack), robot)
'''


def test_a_plugin_from_outside_the_tree_is_one_of_ours(tmp_path, monkeypatch):
    package = tmp_path / "outside_of_mbrl"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lazy.py").write_text(textwrap.dedent(OUTSIDE), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        entry = registry.load("tasks", "outside_of_mbrl.lazy")
        assert entry.doc == "Reach, but lazily: somebody else's task."
        with pytest.raises(ConfigError, match="did you mean 'slack'"):
            registry.make("tasks", entry.name, registry.make("robots", "panda"), overrides={"slac": 2.0})
        names = combinations.Names("panda", entry.name, "kinematic", "mppi")
        parts = combinations.build(names)
        assert parts.task.tolerance == pytest.approx(0.06)
        planner, obs = parts.planner, combinations.observe(parts)
        noise = planner.noise(np.random.default_rng(0))
        _, plan, info = planner.improve(obs, combinations.goal_for(parts), planner.knobs(), planner.init(obs), noise)
        assert not info.status
        assert plan.u.shape == (combinations.HORIZON, 7)
    finally:
        for module in [name for name in sys.modules if name.startswith("outside_of_mbrl")]:
            del sys.modules[module]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts modules on the path, and the metadata of a package that declares entry points."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def install(package, entry_points, **modules):
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(textwrap.dedent(entry_points), encoding="utf-8")
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, text in modules.items():
            (tmp_path / package / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        made.append(package)
        registry._declared.cache_clear()

    yield install
    registry._declared.cache_clear()
    for module in [name for name in sys.modules if name.split(".")[0] in made]:
        del sys.modules[module]


def test_what_an_installed_package_declares_is_listed_after_ours(install):
    install("lab_of_mbrl", "[mbrl_control.tasks]\nanything = lab_of_mbrl.lazy\n", lazy=OUTSIDE)
    assert registry.names("tasks") == [*registry.ours("tasks"), "lab_of_mbrl.lazy"]
    assert registry.names("planners") == registry.ours("planners")
    assert registry.load("tasks", "lab_of_mbrl.lazy").doc == "Reach, but lazily: somebody else's task."
    with pytest.raises(RegistryError, match=r"did you mean 'lab_of_mbrl.lazy'\?"):
        registry.load("tasks", "lab_of_lazy")


BROKEN = {
    "syntax": ("def f(:", r"SyntaxError: .*syntax\.py, line 1"),
    "raises": ("\nraise ValueError('too\\nbad')", r"ValueError: too bad \(.*raises\.py, line 2\)"),
    "imports": ("import no_such_module_of_mbrl", "no module 'no_such_module_of_mbrl' is installed"),
    "empty": ("", r"needs a Config dataclass and a function make\(\)"),
    "plain": ("class Config: pass\ndef make(config, robot): pass", r"takes a dataclass whose fields .* param\(\)"),
    "bare": (
        "import dataclasses\n@dataclasses.dataclass\nclass Config:\n    x: float = 1.0\ndef make(config, robot): pass",
        r"takes a dataclass whose fields are declared with param\(\)",
    ),
}


def test_a_broken_plugin_hides_itself_and_never_the_list(install, capsys):
    declared = [f"broken_of_mbrl.{name}" for name in (*BROKEN, "missing")]
    groups = "[mbrl_control.tasks]\n" + "".join(f"{i} = {name}\n" for i, name in enumerate(declared))
    install("broken_of_mbrl", groups, **{name: text for name, (text, _) in BROKEN.items()})
    install("garbled_of_mbrl", "[mbrl_control.tasks]\nno equals sign\n")
    install("sound_of_mbrl", "[mbrl_control.tasks]\nlazy = sound_of_mbrl.lazy\n", lazy=OUTSIDE)
    assert registry.names("tasks") == [*registry.ours("tasks"), *sorted(declared), "sound_of_mbrl.lazy"]
    for name, (_, says) in {**BROKEN, "missing": ("", "no module 'broken_of_mbrl.missing' is installed")}.items():
        with pytest.raises(RegistryError, match=says) as caught:
            registry.load("tasks", f"broken_of_mbrl.{name}")
        assert str(caught.value).startswith(f"task 'broken_of_mbrl.{name}': ")
        assert "\n" not in str(caught.value)
    assert cli.main(["list", "tasks"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert all("not usable: task" in lines[name] for name in declared)
    assert "Reach, but lazily" in lines["sound_of_mbrl.lazy"]
    assert "not usable" not in lines["reach"]
