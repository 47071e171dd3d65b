"""The runner of launch files: what a file comes to, and that whatever is not understood is told with its line."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from mbrl_control.config import ConfigError
from mbrl_control.runtime import launch
from mbrl_control.runtime.processes import ParameterFile

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.yaml"))


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


def test_a_missing_parameter_file_that_was_asked_for_is_refused(expand):
    text = """
    launch:
    - arg: {name: robot, default: panda}
    - arg: {name: params, default: $(dirname)/$(var robot).yaml}
    - node: {pkg: pkg, exec: a, param: [{from: $(var params)}]}
    """
    assert expand(text, {"robot": "my_lab.planar"})[0].notes  # a robot of one's own has no file of ours
    with pytest.raises(ConfigError, match=r"a.launch.yaml line 5: params = 'nowhere.yaml': no such file"):
        expand(text, {"params": "nowhere.yaml"})


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
