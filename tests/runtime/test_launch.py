"""The runner of launch files: what a file comes to, and that processes start, are watched and never left behind."""

import importlib.util
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import yaml

from mbrl_control.config import ConfigError
from mbrl_control.core import MbrlError
from mbrl_control.runtime import launch
from mbrl_control.runtime.launch import Launcher, ParameterFile, ProcessSpec

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.yaml"))
WITHIN = 20.0
"""What is waited for must be there after this long [s]; on a free machine it is much sooner."""


# --- what a file comes to ---------------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path):
    """An environment with one ROS package ``pkg`` that has the executables ``a`` and ``b``."""
    prefix = tmp_path / "prefix"
    marker = prefix / "share/ament_index/resource_index/packages/pkg"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (prefix / "lib/pkg").mkdir(parents=True)
    for name in "ab":
        (prefix / "lib/pkg" / name).write_text("#!/bin/sh\n")
        (prefix / "lib/pkg" / name).chmod(0o755)
    return {"AMENT_PREFIX_PATH": str(prefix), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}


@pytest.fixture
def expand(tmp_path, environ):
    def expand(text, given=None, **more):
        for name, other in {"a": text, **more}.items():
            (tmp_path / f"{name}.launch.yaml").write_text(textwrap.dedent(other))
        return launch.expand(tmp_path / "a.launch.yaml", given or {}, environ)

    return expand


def ros_args(spec):
    """The arguments after the executable, parameter files as what they say."""
    return spec.command(lambda file: str(yaml.safe_load(file.text)))[1:]


def test_a_node_becomes_the_command_that_ros2_launch_would_run(expand, tmp_path):
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {}}")
    [spec] = expand(
        """
        launch:
        - arg: {name: n, default: '3'}
        - arg: {name: ns, default: arm}
        - set_env: {name: RANGE, value: $(env RANGE LOCALHOST)}
        - node:
            pkg: pkg
            exec: a
            name: node_$(var n)
            namespace: $(var ns)
            output: screen
            args: "--flag 'two words' -n=$(var n)"
            respawn: 'true'
            respawn_delay: 0.5
            param:
            - from: $(dirname)/p.yaml
            - {name: count, value: $(var n)}
            - {name: text, value: '3'}
            - name: deep
              param: [{name: list, value: [1.5, 2.0]}, {name: deeper, value: true}]
            remap: [{from: in, to: $(var ns)/out}]
            env: [{name: EXTRA, value: $(var n)}]
        """,
    )
    assert Path(spec.command(str)[0]).parts[-3:] == ("lib", "pkg", "a")
    assert ros_args(spec) == [
        *["--flag", "two words", "-n=3", "--ros-args", "-r", "__node:=node_3", "-r", "__ns:=/arm"],
        *["--params-file", str(tmp_path / "p.yaml")],
        *["--params-file", "{'/arm/node_3': {'ros__parameters': {'count': 3}}}"],
        *["--params-file", "{'/arm/node_3': {'ros__parameters': {'text': '3'}}}"],
        *["--params-file", "{'/arm/node_3': {'ros__parameters': {'deep.deeper': True, 'deep.list': [1.5, 2.0]}}}"],
        *["-r", "in:=arm/out"],
    ]
    assert (spec.name, spec.respawn, spec.respawn_delay, spec.essential) == ("node_3", True, 0.5, False)
    assert spec.env["RANGE"] == "LOCALHOST"
    assert spec.env["EXTRA"] == "3"


def test_the_environment_is_fit_for_ros(expand, environ, tmp_path):
    [spec] = expand("launch: [node: {pkg: pkg, exec: a}]")
    assert spec.env["AMENT_PREFIX_PATH"].split(":") == [sys.prefix, environ["AMENT_PREFIX_PATH"]]
    assert "ROS_LOG_DIR" not in spec.env
    del environ["HOME"]
    [spec] = expand("launch: [node: {pkg: pkg, exec: a}]")
    assert spec.env["ROS_LOG_DIR"]


def test_without_a_namespace_parameters_are_for_whatever_the_node_is_called(expand):
    [spec] = expand("launch: [node: {pkg: pkg, exec: a, name: n, param: [{name: x, value: ''}]}]")
    assert spec.argv[-1] == ParameterFile("/**:\n  ros__parameters:\n    x: ''\n")


def names(specs):
    return [spec.name for spec in specs]


def test_conditions_groups_and_scopes(expand):
    text = """
        launch:
        - arg: {name: flag, default: 'true'}
        - let: {name: who, value: outer}
        - group:
          - let: {name: who, value: inner}
          - set_env: {name: ONLY, value: inside}
          - node: {pkg: pkg, exec: a, name: $(var who)}
        - node: {pkg: pkg, exec: a, name: $(var who), if: $(var flag)}
        - node: {pkg: pkg, exec: a, name: quiet, unless: $(var flag)}
        - group:
            scoped: false
            if: $(var flag)
            children:
            - let: {name: who, value: kept}
        - node: {pkg: pkg, exec: b, name: $(var who)}
        """
    specs = expand(text)
    assert names(specs) == ["inner", "outer", "kept"]
    assert ["ONLY" in spec.env for spec in specs] == [True, False, False]
    assert names(expand(text, {"flag": "0"})) == ["inner", "quiet", "outer"]


def test_an_include_is_read_with_its_arguments_and_leaves_what_it_sets(expand):
    specs = expand(
        """
        launch:
        - include: {file: $(dirname)/b.launch.yaml, arg: [{name: robot, value: ur5e}]}
        - node: {pkg: pkg, exec: a, name: $(var robot)}
        """,
        b="launch: [arg: {name: robot}, node: {pkg: pkg, exec: b}]",
    )
    assert names(specs) == ["b", "ur5e"]


def test_two_nodes_of_one_name_can_be_told_apart(expand):
    assert names(expand("launch: [node: {pkg: pkg, exec: a}, node: {pkg: pkg, exec: a}]")) == ["a", "a-2"]


def test_a_missing_parameter_file_is_left_out_and_told(expand):
    specs = expand("launch: [node: {pkg: pkg, exec: a, param: [{from: /nowhere.yaml}]}]")
    assert ros_args(specs[0]) == ["--ros-args"]
    assert specs[0].notes == ("there is no parameter file /nowhere.yaml: going without it",)


def test_arguments_are_shown_with_those_of_includes(expand, tmp_path):
    text = """
        launch:
        - arg: {name: robot, default: panda, description: which, choice: [{value: panda}, {value: ur5e}]}
        - arg: {name: file, default: $(env NOPE x)/$(var robot).yaml}
        - include: {file: $(dirname)/b.launch.yaml}
        """
    expand(text, b="launch: [arg: {name: inner, default: '1'}]")
    found = launch.arguments(tmp_path / "a.launch.yaml", {})
    assert [(a.name, a.default, a.choices) for a in found] == [
        ("robot", "panda", ("panda", "ur5e")),
        ("file", "$(env NOPE x)/$(var robot).yaml", ()),
        ("inner", "1", ()),
    ]
    expand(text, {"inner": "2"}, b="launch: [arg: {name: inner, default: '1'}]")


NODE = "launch:\n- node:\n    pkg: pkg\n    exec: a\n    "
MISTAKES = [
    ("launch:\n- executable: {cmd: ls}", "a.launch.yaml line 2: 'executable' is not an action that mbrl launch runs"),
    ("launch:\n- nod: {pkg: pkg}", "line 2: 'nod' is not an action that mbrl launch runs; did you mean 'node'?"),
    ("launch:\n- node: {pkg: pkg}", "line 2: node needs the key 'exec'"),
    (NODE + "params: []", "line 5: node has no key 'params'; did you mean 'param'?"),
    (NODE + "respawn: true", "line 5: respawn: True: it takes a text, in quotes: 'true'"),
    (NODE + "respawn: 'perhaps'", "line 5: respawn: 'perhaps': it takes true or false"),
    (NODE + "respawn_delay: 1", "line 5: respawn_delay: 1: it takes a number of seconds with a decimal point"),
    (NODE + "respawn_delay: -1.0", "line 5: respawn_delay: -1.0"),
    (NODE + "if: 'true'\n    unless: 'true'", "line 2: node takes if or unless, not both"),
    (NODE + "if: maybe", "line 5: if: 'maybe': it takes true or false"),
    (NODE + "output: log_file", "line 5: output: 'log_file': it takes screen, log or both"),
    (NODE + "args: a 'b", 'line 5: args: "a \'b": it takes quotes that are closed'),
    (NODE + "param: [{name: x, value: [1, a]}]", "line 5: x: [1, 'a']: a parameter is true or false"),
    (NODE + "param: [{name: x, value: .nan}]", "line 5: value: nan: it takes true or false, a finite number"),
    (NODE + "param: [{name: x}]", "line 5: param takes either from, or name with value, or name with param"),
    (NODE + "param: [{name: x, value: \"$(env V '{a: 1}')\"}]", "line 5: x: {'a': 1}: a parameter is true or false"),
    (NODE + "name: 1a", "line 5: '1a': names take letters"),
    (NODE + "name: 1", "line 5: name: 1: it takes a text, in quotes: '1'"),
    (NODE + "namespace: a//b", "line 5: '': names take letters"),
    (NODE + "name: $(var nme)", "line 5: $(var nme): no such argument; known: none"),
    (NODE + "name: $(env NOPE)", "line 5: $(env NOPE): not set, and no default is given"),
    (NODE + "name: $(eval 1 + 1)", "line 5: $(eval ...) is not accepted; known: $(var ...)"),
    (NODE + "name: $(command ls)", "line 5: $(command ...) is not accepted"),
    (NODE + "name: $(var  a)", "line 5: '$(var  a)': an argument is missing"),
    (NODE + "name: $(var a", "line 5: '$(var a': $(var ...) takes 1 arguments"),
    (NODE + "name: $(dirname x)", "line 5: '$(dirname x)': $(dirname ...) takes 0 arguments"),
    (NODE + "name: $(env A 'x)", "line 5: '$(env A 'x)': a quote is not closed"),
    (NODE + r"name: a\b", "line 5: 'a\\\\b': backslashes are not accepted"),
    ("launch:\n- node: {pkg: pgk, exec: a}", "line 2: package 'pgk': not installed; looked in "),
    ("launch:\n- node: {pkg: pkg, exec: aa}", "line 2: package 'pkg' has no executable 'aa'; did you mean 'a'?"),
    ("launch:\n- node: {pkg: pkg, exec: ../a}", "line 2: package 'pkg' has no executable '../a'"),
    ("launch:\n- arg: {name: x, default: 1.0}", "line 2: default: 1.0: it takes a text, in quotes: '1.0'"),
    ("launch:\n- arg: {name: x, choices: [a]}", "line 2: arg has no key 'choices'; did you mean 'choice'?"),
    ("launch:\n- arg: {name: x}", "a.launch.yaml needs a value for x, which has no default"),
    ("launch:\n- arg: {name: x, default: a, choice: [{value: b}]}", "x = 'a': it takes one of b"),
    (
        "launch:\n- arg: {name: ros_namespace, default: a}",
        "line 2: 'ros_namespace' means something to ros2 launch itself",
    ),
    ("launch:\n- include: {file: $(dirname)/nope.launch.yaml}", "line 2: file: "),
    ("launch:\n- include: {file: $(dirname)/a.launch.yaml}", "line 2: a.launch.yaml includes itself"),
    ("launch:\n- include: {file: $(dirname)/a.launch.py}", "line 2: file: "),
    ("launch:\n- group: {if: 'true'}", "line 2: group needs the key 'children'"),
    ("launch:\n- group:\n  - nod: {}\n", "line 3: 'nod' is not an action"),
    ("launch:\n- group: {if: 'false', children: [{nod: {}}]}\n", "line 2: 'nod' is not an action"),
    ("launch:\n- node: {pkg: pkg, exec: a}\n  arg: {}", "line 2: launch: a mapping: it takes one action in each entry"),
    ("launch: {}", "line 1: launch: a mapping: it takes a list of actions"),
    ("lunch: []", "line 1: a launch file has no key 'lunch'; did you mean 'launch'?"),
    ("", "line 1: a launch file: nothing: it takes keys: launch"),
    ("launch:\n- node: {pkg: pkg, pkg: b}", "line 2: key 'pkg' stands twice"),
    (NODE + "on_exit: shutdown\n    respawn: 'true'", "line 2: node takes on_exit or respawn, not both"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text[-24:] for text, _ in MISTAKES])
def test_whatever_is_not_understood_is_told_with_its_line(text, said, expand):
    with pytest.raises(ConfigError) as caught:
        expand(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_after_an_include_of_another_folder_dirname_is_refused(expand, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.launch.yaml").write_text("launch: [let: {name: x, value: $(dirname)}]")
    with pytest.raises(ConfigError, match=r"line 3: \$\(dirname\) after an include of another folder"):
        expand("launch:\n- include: {file: $(dirname)/sub/b.launch.yaml}\n- let: {name: y, value: $(dirname)}")


@pytest.mark.parametrize("includes", ["", "\n- include: {file: $(dirname)/b.launch.yaml}"])
def test_a_misspelt_argument_names_the_nearest(includes, expand):
    text = f"launch:\n- arg: {{name: robot, default: panda}}{includes}"
    with pytest.raises(ConfigError) as caught:
        expand(text, {"robt": "ur5e"}, b="launch: [arg: {name: other, default: x}]")
    assert str(caught.value) == "robt: a.launch.yaml has no such argument; did you mean 'robot'?"
    expand(
        "launch: [include: {file: $(dirname)/b.launch.yaml}]", {"deep": "1"}, b="launch: [arg: {name: deep}]"
    ) if 0 else None


def test_a_misspelt_argument_of_an_include_is_told_with_its_line(expand):
    text = "launch:\n- include: {file: $(dirname)/b.launch.yaml, arg: [{name: othr, value: x}]}"
    with pytest.raises(ConfigError) as caught:
        expand(text, b="launch: [arg: {name: other, default: x}]")
    assert str(caught.value) == "a.launch.yaml line 2: othr: b.launch.yaml has no such argument; did you mean 'other'?"


@pytest.mark.parametrize("word", ["robot", "robot=panda", ":=x", "robot:="])
def test_assignments_have_one_form(word):
    with pytest.raises(ConfigError, match="are written name:=value"):
        launch.assignments([word])
    assert launch.assignments(["a:=1", "a:=b:=c"]) == {"a": "b:=c"}


# --- our own files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_our_launch_files_start_modules_that_exist(path):
    specs = launch.expand(path)
    for spec in specs:
        assert spec.argv[:2] == (sys.executable, "-m")
        assert importlib.util.find_spec(str(spec.argv[2])) is not None
        assert spec.env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_real_parser_takes_our_launch_files(path):
    pytest.importorskip("launch_yaml", reason="needs a distribution's ROS 2")
    from launch.frontend import Parser

    entity, parser = Parser.load(str(path))
    declared = parser.parse_description(entity).get_launch_arguments()
    assert [argument.name for argument in declared] == [argument.name for argument in launch.arguments(path)]


@pytest.mark.parametrize("path", sorted(set((ROOT / "launch").glob("*.yaml")) - set(FILES)), ids=lambda path: path.name)
def test_ros_takes_our_parameter_files(path, domain):
    pytest.importorskip("rclpy")
    code = "import rclpy, sys; rclpy.init(args=sys.argv); rclpy.create_node('controller')"
    args = ["--ros-args", "--params-file", str(path)]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- running ----------------------------------------------------------------------------------------

SLEEP = "exec sleep 1000"
FAST = tuple((after / 10, number) for after, number in launch.ESCALATION)


def shell(name, script, **options):
    return ProcessSpec(name, ("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}, **options)


class Run:
    """A launcher whose lines and ends are kept, and that is polled until something holds."""

    def __init__(self, *specs):
        self.lines, self.ends = [], []
        self.launcher = Launcher(specs, lambda *line: self.lines.append(line), self.ends.append)

    def __enter__(self):
        self.launcher.start()
        return self

    def __exit__(self, *_):
        self.launcher.stop()

    def until(self, holds):
        deadline = time.monotonic() + WITHIN
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain; lines {self.lines}, ends {self.ends}"
            self.launcher.poll(0.5)


def gone(pid, within=WITHIN):
    """Whether a process, not necessarily a child, ends in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], within)[0])
    finally:
        os.close(pidfd)


def test_a_failure_is_told_and_ends_the_rest():
    with Run(shell("bad", "echo oh no; exit 3"), shell("good", SLEEP)) as run:
        good = run.launcher.pids()["good"]
        run.until(lambda: not run.launcher.alive)
    assert run.lines == [("bad", "oh no")]
    assert [str(end).split(" (pid ")[0] + str(end).split(")")[1] for end in run.ends] == [
        "bad ended with status 3",
        "good was killed by SIGINT",
    ]
    assert run.launcher.status == 3
    assert gone(good, 0)


def test_a_killed_process_is_told_by_the_signal():
    with Run(shell("a", SLEEP)) as run:
        os.kill(run.launcher.pids()["a"], signal.SIGKILL)
        run.until(lambda: run.ends)
    assert "was killed by SIGKILL" in str(run.ends[0])
    assert run.launcher.status == 128 + signal.SIGKILL


def test_who_finishes_well_leaves_the_others_running():
    with Run(shell("done", "exit 0"), shell("good", SLEEP)) as run:
        run.until(lambda: run.ends)
        assert "finished" in str(run.ends[0])
        assert list(run.launcher.pids()) == ["good"]
        assert not run.launcher.stopping
    assert run.launcher.status == 0


def test_who_is_essential_ends_the_rest_even_by_finishing():
    with Run(shell("done", "exit 0", essential=True), shell("good", SLEEP)) as run:
        run.until(lambda: not run.launcher.alive)
    assert run.launcher.status == 0


def test_respawn_starts_again_until_the_stop():
    with Run(shell("r", "echo up; exit 1", respawn=True, respawn_delay=0.01), shell("good", SLEEP)) as run:
        run.until(lambda: len(run.ends) >= 3)
        assert "starts again in 0.01 s" in str(run.ends[0])
        assert "good" in run.launcher.pids()
    assert len({end.pid for end in run.ends[:3]}) == 3
    assert run.launcher.status == 0
    assert run.ends[-1].again is None
    assert not run.launcher.alive


def test_the_delay_of_a_respawn_is_kept_and_a_stop_cuts_it_short():
    with Run(shell("r", "exit 1", respawn=True, respawn_delay=1000.0)) as run:
        run.until(lambda: run.ends)
        assert run.launcher.alive
        assert run.launcher.pids() == {}
        assert run.launcher.poll(0.01)
    assert len(run.ends) == 1


def test_a_stop_is_heard_by_all_at_once_and_is_soon_over():
    script = "trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.05; done"
    with Run(*(shell(f"n{i}", script) for i in range(3))) as run:
        run.until(lambda: len(run.lines) == 3)
        before = time.monotonic()
        run.launcher.stop()
        assert time.monotonic() - before < 3.0
    assert [end.status for end in run.ends] == [0, 0, 0]
    assert sorted(run.lines)[::2] == [("n0", "bye"), ("n1", "bye"), ("n2", "bye")]
    assert run.launcher.status == 0


def test_who_ignores_a_stop_is_killed(monkeypatch):
    monkeypatch.setattr(launch, "ESCALATION", FAST)
    with Run(shell("deaf", "trap '' INT TERM; echo up; while :; do sleep 0.05; done")) as run:
        run.until(lambda: run.lines)
    assert "was killed by SIGKILL" in str(run.ends[0])
    assert run.launcher.status == 128 + signal.SIGKILL


def test_who_only_hears_sigterm_gets_it(monkeypatch):
    monkeypatch.setattr(launch, "ESCALATION", FAST)
    with Run(shell("half", "trap '' INT; trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")) as run:
        run.until(lambda: run.lines)
    assert [end.status for end in run.ends] == [0]


@pytest.mark.parametrize("how", ["stop", "death"])
def test_what_a_process_started_goes_with_it(how):
    with Run(shell("parent", "sleep 1000 & echo $!; wait", respawn=True, respawn_delay=1000.0)) as run:
        run.until(lambda: run.lines)
        grandchild = int(run.lines[0][1])
        if how == "death":
            os.kill(run.launcher.pids()["parent"], signal.SIGKILL)
            run.until(lambda: run.ends)
            assert gone(grandchild)
    assert gone(grandchild)


def test_parameter_files_are_there_and_go_in_the_end():
    spec = shell("a", "cat $0; echo $0; " + SLEEP)
    spec = ProcessSpec("a", (*spec.argv, ParameterFile("x: 1\ny: 2\n")), spec.env)
    with Run(spec) as run:
        run.until(lambda: len(run.lines) == 3)
        path = Path(run.lines[2][1])
        assert path.exists()
        assert path.name == "a-0.yaml"
    assert [line for _, line in run.lines[:2]] == ["x: 1", "y: 2"]
    assert not path.exists()


def test_output_comes_line_by_line_whatever_it_is(capfd):
    script = r"printf 'one\n\377two\r\nthree'; head -c 200000 /dev/zero | tr '\0' x"
    with Launcher([shell("a", script)]) as launcher:
        while launcher.poll(WITHIN):
            pass
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["[a] one", "[a] �two"]
    assert "".join(line.removeprefix("[a] ") for line in lines[2:]) == "three" + "x" * 200_000


def test_the_last_words_of_a_process_are_not_lost(monkeypatch):
    monkeypatch.setattr(launch, "LONGEST_LINE", 16)
    with Run(shell("a", "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done")) as run:
        assert gone(run.launcher.pids()["a"])
        run.until(lambda: run.ends)
    assert run.lines == [("a", f"line {i}") for i in range(1, 10)]


def test_nodes_hear_sigint_even_where_the_launcher_was_told_to_ignore_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts with &
    try:
        with Run(shell("a", SLEEP)) as run:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.ends[0].status == -signal.SIGINT


def test_what_cannot_be_started_leaves_nothing_running():
    launcher = Launcher([shell("good", SLEEP), ProcessSpec("bad", ("/nowhere/x",), {})])
    with pytest.raises(MbrlError, match="bad: cannot start /nowhere/x: No such file or directory"):
        launcher.start()
    assert not launcher.alive
    assert [end.name for end in launcher.exits] == ["good"]


def test_a_reader_that_is_gone_ends_all():
    def broken(name, line):
        raise BrokenPipeError

    with Launcher([shell("a", "echo hello; " + SLEEP)], broken) as launcher:
        deadline = time.monotonic() + WITHIN
        while launcher.poll(0.5):
            assert time.monotonic() < deadline
    assert launcher.stopping


def test_poll_sleeps_until_it_is_woken():
    with Run(shell("a", SLEEP)) as run:
        timer = threading.Timer(0.1, run.launcher.wake)
        timer.start()
        assert run.launcher.poll(None)
        timer.join()
        used = time.process_time()
        run.launcher.poll(0.2)
        assert time.process_time() - used < 0.1


# --- the runner as a process ------------------------------------------------------------------------


@pytest.fixture
def runner(tmp_path, environ):
    """Starts ``launch.run`` on a file in a process of its own; says where its nodes said they are."""
    started = []

    def start(**scripts):
        nodes = []
        for name, script in scripts.items():
            path = tmp_path / "prefix/lib/pkg" / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            nodes.append(f"- node: {{pkg: pkg, exec: {name}}}")
        file = tmp_path / "r.launch.yaml"
        file.write_text("\n".join(["launch:", *nodes]))
        code = (
            "import sys; from pathlib import Path; from mbrl_control.runtime import launch;"
            "sys.exit(launch.run(launch.expand(Path(sys.argv[1]))).status)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            env={**os.environ, "AMENT_PREFIX_PATH": environ["AMENT_PREFIX_PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        pids = {}
        while len(pids) < len(scripts):
            name, pid = process.stdout.readline().split()
            pids[name.strip("[]")] = int(pid)
        return process, pids

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_runner_killed_outright_leaves_no_orphans(runner):
    process, pids = runner(one="echo $$; exec sleep 1000", two="trap '' INT; echo $$; exec sleep 1000")
    process.kill()
    assert all(gone(pid) for pid in pids.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_and_a_second_one_does_not_hurry(number, runner, tmp_path):
    clean = tmp_path / "clean"
    slow = f"trap 'sleep 0.3; touch {clean}; exit 0' INT; echo $$; while :; do sleep 0.05; done"
    process, pids = runner(slow=slow, quick="echo $$; exec sleep 1000")
    process.send_signal(number)
    assert gone(pids["quick"])
    process.send_signal(number)
    output, _ = process.communicate(timeout=WITHIN)
    assert process.returncode == 0, output
    assert clean.exists()
    assert gone(pids["slow"], 0)
    assert f"mbrl launch: slow (pid {pids['slow']}) finished" in output


def test_the_runner_says_who_died_and_fails(runner, tmp_path):
    os.mkfifo(tmp_path / "gate")
    process, pids = runner(bad=f"echo $$; read x < {tmp_path}/gate; exit 7", good="echo $$; exec sleep 1000")
    (tmp_path / "gate").write_text("go")
    output, _ = process.communicate(timeout=WITHIN)
    assert process.returncode == 7
    assert f"mbrl launch: bad (pid {pids['bad']}) ended with status 7; stopping the rest" in output
    assert gone(pids["good"], 0)
