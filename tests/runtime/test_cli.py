"""The command line: it answers at once, teaches, and tells every mistake in one line with exit status 2."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from mbrl_control import cli, nodes, registry
from mbrl_control.config import params
from mbrl_control.models import shipped
from mbrl_control.paths import share
from mbrl_control.runtime.demo import DemoConfig

HEAVY = {"torch", "mujoco", "onnxruntime", "onnx", "casadi", "rclpy", "matplotlib", "rich", "scipy", "viser"}
"""What may not be loaded to print a page of help."""
COMMANDS = list(cli.parsers()[1])
HELP_WORK = 0.3
"""Promise: processor time, user and system together, of a page of help [s]."""


def imported(*argv):
    """The top-level modules that a command line loads."""
    code = (
        "import atexit, sys; atexit.register(lambda: print('\\nLOADED', *{m.split('.')[0] for m in sys.modules}));"
        "from mbrl_control.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=60)
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


@pytest.fixture
def mbrl(capsys, monkeypatch, tmp_path):
    """Runs a command line in this process, in an empty folder; gives status, output and what was complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            status = cli.main([str(word) for word in argv])
        except SystemExit as exit:
            status = exit.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS), ["--version"]])
def test_help_loads_nothing_heavy(argv):
    loaded = imported(*argv)
    assert "mbrl_control" in loaded
    assert not loaded & HEAVY


def test_help_is_little_work(tmp_path):
    """As a person meets it: from a fresh shell, the compiled modules cached. Work, so that other load counts little."""
    unset = ("PYTHONDONTWRITEBYTECODE", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
    environ = {name: value for name, value in os.environ.items() if name not in unset}
    environ["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    work = []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "mbrl_control.cli", "--help"], env=environ, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        work.append(used.ru_utime + used.ru_stime)
    assert min(work) < HELP_WORK, work


def test_launching_loads_nothing_heavy():
    assert not imported("launch", "sim", "--dry-run") & HEAVY


def test_help_teaches_by_examples(mbrl):
    status, out, err = mbrl("--help")
    assert (status, err) == (0, "")
    assert "mbrl launch sim robot:=panda" in out
    for command in COMMANDS:
        status, out, err = mbrl(command, "--help")
        assert (status, err) == (0, "")
        assert "examples:" in out
        assert f"mbrl {command}" in out.split("examples:")[1]


def test_no_command_prints_the_help(mbrl):
    status, out, _ = mbrl()
    assert status == 2
    assert out == mbrl("--help")[1]


def test_version(mbrl):
    assert mbrl("--version")[:2] == (0, "mbrl_control 0.1.0\n")


MISTAKES = [
    (["dmo"], "'dmo': no such command; did you mean 'demo'?"),
    (["exprot", "runs/x", "--out", "models/y"], "'exprot': no such command; did you mean 'export'?"),
    (["zzz"], "'zzz': no such command; known: bench, demo, doctor, eval, export, launch, learn, list, view"),
    (["--verson"], "--verson: mbrl has no such option; did you mean '--version'?"),
    (["list", "plannrs"], "'plannrs': no such kind; did you mean 'planners'?"),
    (["list", "planners", "mpi"], "planner 'mpi': did you mean 'mppi'?, or a module as 'package.mpi'"),
    (["list", "planners", "nope.x"], "planner 'nope.x': no module 'nope' is installed"),
    (["list", "robots", "panda", "more"], "'more': mbrl list takes no further argument"),
    (["list", "--jsn", "x"], "--jsn: mbrl list has no such option; did you mean '--json'?"),
    (["list", "--json", "no/such/folder.json"], "--json no/such/folder.json: no such file or directory"),
    (["list", "--json", "."], "--json .: is a directory; it takes a file that can be written"),
    (["demo", "--plannr", "x"], "--plannr: mbrl demo has no such option; did you mean '--planner'?"),
    (["demo", "--seconds", "soon"], "--seconds = 'soon': it takes a number from 1 to 86400 [s]"),
    (["demo", "--speed", "0"], "--speed = '0': it takes a number from 0.01 to 1"),
    (["demo", "--seed", "-1"], "--seed = '-1': it takes a whole number from 0 to 2147483647"),
    (["demo", "--seed", "1.5"], "--seed = '1.5': it takes a whole number"),
    (["demo", "--json"], "argument --json: expected one argument (see 'mbrl demo --help')"),
    (["launch"], "the following arguments are required: FILE"),
    (["launch", "sym"], "did you mean 'sim'?, or give a path"),
    (["launch", "./sim.launch.yaml"], "./sim.launch.yaml: no such file"),
    (["launch", "sim", "robt:=panda"], "robt: sim.launch.yaml has no such argument; did you mean 'robot'?"),
    (["launch", "sim", "--own", "robot"], "'robot': arguments of a launch file are written name:=value"),
    (["launch", "sim", "--oown"], "--oown: mbrl launch has no such option; did you mean '--own'?"),
]


@pytest.mark.parametrize(("argv", "said"), MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_a_mistake_is_one_line_and_status_2(argv, said, mbrl):
    status, out, err = mbrl(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("mbrl: ")
    assert said in err
    assert err.count("\n") == 1


# --- list -------------------------------------------------------------------------------------------


def test_list_shows_every_plugin_with_its_first_line(mbrl, tmp_path):
    status, out, err = mbrl("list", "--json", tmp_path / "l.json")
    assert (status, err) == (0, "")
    found = json.loads((tmp_path / "l.json").read_text())
    listed = {kind: [entry["name"] for entry in entries] for kind, entries in found.items()}
    assert listed == {kind: registry.names(kind) for kind in registry.KINDS} | {"models": shipped()}
    for kind in registry.KINDS:
        for name in registry.names(kind):
            assert any(line.split()[:1] == [name] for line in out.splitlines())


def test_a_model_that_ships_is_told_of_and_has_passed_its_checks(mbrl):
    status, out, _ = mbrl("list", "models", "panda")
    assert status == 0
    assert "payload 2, stiffness 0.3" in out
    assert out.count("  passed ") == 5
    assert "&& mbrl export runs/panda --trial 49 --out models/panda" in out
    assert mbrl("list", "models", "pnda")[2].startswith("mbrl: model 'pnda': did you mean 'panda'?")


def test_list_of_one_kind(mbrl):
    _, out, _ = mbrl("list", "planners")
    assert out.splitlines()[0] == "planners"
    assert "robots" not in out


def test_list_of_one_plugin_explains_every_parameter(mbrl, tmp_path):
    status, out, _ = mbrl("list", "planners", "mppi", "--json", tmp_path / "l.json")
    assert status == 0
    declared = params(registry.load("planners", "mppi").config)
    [entry] = json.loads((tmp_path / "l.json").read_text())["planners"]
    assert [p["name"] for p in entry["parameters"]] == list(declared)
    for p in declared.values():
        assert f"\n  {p.name} = " in out
        assert p.doc in out
        assert p.accepts() in out


def test_a_plugin_that_cannot_be_loaded_hides_no_other(mbrl, monkeypatch):
    real = registry.load

    def load(kind, name):
        if name == "panda":
            raise registry.RegistryError("robot 'panda': no module 'x' is installed")
        return real(kind, name)

    monkeypatch.setattr(registry, "load", load)
    status, out, _ = mbrl("list", "robots")
    assert status == 0
    assert "not usable: robot 'panda': no module 'x' is installed" in out
    assert "pendulum" in out


# --- demo -------------------------------------------------------------------------------------------


@pytest.fixture
def demo(monkeypatch):
    """Stands in for the demonstration; keeps the options it was given."""
    given = []
    module = types.ModuleType("mbrl_control.nodes.demo")
    module.run = lambda options: given.append(options) or (1, {"goals": 3})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(nodes, "demo", module, raising=False)
    return given


def test_demo_hands_over_what_the_flags_say(mbrl, demo):
    argv = ["--robot", "ur5e", "--seconds=20", "--json", "o.json", "--out", "there", "--seed", "7", "--speed", "0.5"]
    assert mbrl("demo", *argv) == (1, "", "")
    assert demo == [DemoConfig(robot="ur5e", seconds=20.0, out="there", seed=7, speed=0.5)]
    assert json.loads(Path("o.json").read_text()) == {"goals": 3}


def test_a_result_that_cannot_be_written_is_told_before_the_work(mbrl, demo):
    status, _, err = mbrl("demo", "--json", "no/folder/x.json")
    assert (status, demo) == (2, [])
    assert "no such file or directory" in err


def test_a_result_is_not_harmed_by_a_run_that_gives_none(mbrl, demo, monkeypatch, tmp_path):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mbrl_control.nodes.demo"], "run", interrupted)
    (tmp_path / "old.json").write_text("old")
    mbrl("demo", "--json", tmp_path / "old.json")
    mbrl("demo", "--json", tmp_path / "new.json")
    assert (tmp_path / "old.json").read_text() == "old"
    assert not (tmp_path / "new.json").exists()


def test_demo_without_ros_says_what_to_install(mbrl, monkeypatch):
    monkeypatch.delitem(sys.modules, "mbrl_control.nodes.demo", raising=False)
    monkeypatch.delattr(nodes, "demo", raising=False)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    status, _, err = mbrl("demo")
    assert status == 2
    assert err.startswith("mbrl: demo: no module '")
    assert "pip install 'mbrl_control[demo]'" in err


def test_ctrl_c_is_130_without_a_traceback(mbrl, demo, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mbrl_control.nodes.demo"], "run", interrupted)
    assert mbrl("demo") == (130, "", "")


# --- launch -----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A launch file of one node that ends with the status it is given."""
    prefix = tmp_path / "prefix"
    marker = prefix / "share/ament_index/resource_index/packages/pkg"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (prefix / "lib/pkg").mkdir(parents=True)
    (prefix / "lib/pkg/ends").write_text("#!/bin/sh\necho with $1\nexit $1\n")
    (prefix / "lib/pkg/ends").chmod(0o755)
    path = tmp_path / "small.launch.yaml"
    path.write_text(
        "launch:\n- arg: {name: n, default: '0'}\n- node: {pkg: pkg, exec: ends, name: it, args: $(var n)}\n"
    )
    return path


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("status", [0, 3])
def test_launch_runs_a_file_and_ends_as_it_ends(status, mbrl, small, tmp_path):
    ended, out, err = mbrl("launch", small, "--json", tmp_path / "r.json", f"n:={status}")
    assert ended == status
    assert out == f"[it] with {status}\n"
    result = json.loads((tmp_path / "r.json").read_text())
    [end] = result["exits"]
    assert (result["status"], result["arguments"]) == (status, {"n": str(status)})
    assert (end["name"], end["status"], end["respawned"]) == ("it", status, False)
    how = f"ended with status {status}" if status else "finished"
    assert err == f"mbrl launch: it (pid {end['pid']}) {how}\n"


@pytest.mark.usefixtures("at")
def test_dry_run_shows_the_commands(mbrl, small, tmp_path):
    status, out, err = mbrl("launch", small, "--dry-run", "--json", tmp_path / "r.json")
    assert (status, err) == (0, "")
    assert "lib/pkg/ends 0 --ros-args -r __node:=it" in out
    [process] = json.loads((tmp_path / "r.json").read_text())["processes"]
    assert process["command"][1:] == ["0", "--ros-args", "-r", "__node:=it"]


def test_show_args_lists_what_sim_takes(mbrl, tmp_path):
    status, out, _ = mbrl("launch", "sim", "--show-args", "--json", tmp_path / "r.json")
    assert status == 0
    assert "speed:=  share of the velocity limits that may be used, above 0 and up to 1 (default 1.0)" in out
    shown = {a["name"]: a["default"] for a in json.loads((tmp_path / "r.json").read_text())["arguments"]}
    for name in ("robot", "task", "planner", "model", "speed", "autostart", "use_sim_time", "lockstep", "seed"):
        assert name in shown


class ExecError(Exception):
    """What ``os.exec`` would have turned us into."""


@pytest.fixture
def ros2(tmp_path, monkeypatch):
    """A ``ros2`` on the PATH, and an exec that tells instead of doing it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ros2").write_text("#!/bin/sh\n")
    (tmp_path / "bin/ros2").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def become(file, argv, env):
        raise ExecError(argv, env["AMENT_PREFIX_PATH"].split(":"))

    monkeypatch.setattr(os, "execvpe", become)


@pytest.mark.usefixtures("ros2")
def test_launch_hands_over_to_ros2_where_there_is_one(mbrl, small):
    with pytest.raises(ExecError) as became:
        mbrl("launch", "sim", "speed:=0.5")
    assert became.value.args[0] == ["ros2", "launch", str(share() / "launch" / "sim.launch.yaml"), "speed:=0.5"]
    assert sys.prefix in became.value.args[1]
    with pytest.raises(ExecError) as became:
        mbrl("launch", small)
    assert became.value.args[0] == ["ros2", "launch", str(small)]


@pytest.mark.usefixtures("ros2", "at")
def test_launch_keeps_what_ros2_launch_would_not_do(mbrl, small):
    assert mbrl("launch", small, "--own")[0] == 0
    assert mbrl("launch", small, "--dry-run")[0] == 0
    status, _, err = mbrl("launch", "sim", "sped:=0.5")  # ros2 launch would ignore it
    assert status == 2
    assert "did you mean 'speed'?" in err
    status, _, err = mbrl("launch", "sim", "params:=nope.yaml")
    assert status == 2
    assert "params = 'nope.yaml': no such file" in err


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m mbrl_control.cli list | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "robots\n"


def test_the_command_is_installed():
    command = Path(sys.prefix) / "bin/mbrl"
    done = subprocess.run([command, "dmo"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "mbrl: 'dmo': no such command; did you mean 'demo'?\n")
