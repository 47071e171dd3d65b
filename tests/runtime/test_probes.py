"""The programs behind the doctor: they answer, whatever happens to them, and they measure what they say."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mbrl_control import registry
from mbrl_control.commands import doctor
from mbrl_control.core import MbrlError
from mbrl_control.probes import ask, planners, providers

PR_CAPBSET_DROP, CAP_IPC_LOCK, CAP_SYS_NICE = 24, 14, 23
VERDICTS = {"ok", "info", "warn", "fail"}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Writes modules that this process and those it starts can import."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def write(name, text):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    return write


# --- asking ------------------------------------------------------------------------------------------


def test_what_is_printed_besides_is_not_the_answer(lab):
    lab(
        "chatty",
        """
        import os, sys
        from mbrl_control.probes import answer
        def measure(x):
            print("hello"); os.write(1, b"from a library")
            return {"twice": 2 * x}
        sys.exit(answer(measure))
    """,
    )
    assert ask("chatty", {"x": 21}, 20.0) == {"twice": 42}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ImportError('another Python')", "ImportError: another Python"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("pass", "without a word"),
    ],
)
def test_a_program_that_ends_badly_is_an_answer(lab, body, said):
    lab("bad", body)
    assert said in ask("bad", {}, 20.0)["failure"]


def alive(pid: str) -> bool:
    """Whether a process runs; one that is dead, and that nobody has looked at yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_that_hangs_is_an_answer_and_is_gone_with_all_it_started(lab, tmp_path):
    lab(
        "hangs",
        """
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        open(os.environ["PIDS"], "w").write(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    """,
    )
    pids = tmp_path / "pids"
    environ = {**os.environ, "PIDS": str(pids)}
    assert ask("hangs", {}, 3.0, environ) == {"failure": "no answer within 3 s"}
    deadline = time.monotonic() + 5.0
    while living := [pid for pid in pids.read_text().split() if alive(pid)]:
        assert time.monotonic() < deadline, f"{living} go on"
        time.sleep(0.01)


# --- ticks -------------------------------------------------------------------------------------------


def without_privileges():
    """In the child: no right to SCHED_FIFO or locked memory, root or not."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_SYS_NICE, CAP_IPC_LOCK):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))


def test_what_is_refused_is_found_by_trying():
    options = json.dumps({"rate": 100.0, "seconds": 0.1, "loads": [False]})
    command = [sys.executable, "-m", "mbrl_control.probes.ticks", options]
    done = subprocess.run(command, preexec_fn=without_privileges, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)["scheduling"]
    assert (found["fifo"], found["locked"]) == (False, False)
    assert found["why"].startswith("SCHED_FIFO 40: ")
    assert (found["rtprio_limit"], found["memlock_limit"]) == (0, 65536)


def test_ticks_are_made_and_counted_with_and_without_load():
    before = os.sched_getscheduler(0)
    found = ask("mbrl_control.probes.ticks", {"rate": 100.0, "seconds": 0.3, "loads": [False, True]}, 60.0)
    assert [run["loaded"] for run in found["ticks"]] == [0, len(os.sched_getaffinity(0))]
    for run in found["ticks"]:
        assert run["ticks"] + run["missed"] > 20
        assert 0.0 <= run["p50"] <= run["p99"] <= run["p999"] <= run["worst"]
    assert os.sched_getscheduler(0) == before  # tried in another process, not in this one


# --- providers ---------------------------------------------------------------------------------------


def test_the_model_written_by_hand_is_onnx():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(providers.product(3, 300))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [3, 300]


class Session:
    """A session that computes as it is told, and has the providers that it is told."""

    def __init__(self, got, off=0.0):
        self._got, self._off = got, off

    def get_providers(self):
        return self._got

    def run(self, _, fed):
        return [fed["X"] @ fed["W"] + self._off]


class Runtime:
    """onnxruntime as far as it is used: what it lists and what a session gets are two things."""

    class SessionOptions:
        intra_op_num_threads = 0

    def __init__(self, make):
        self.InferenceSession = make


def test_the_providers_of_the_session_count_and_what_it_computes():
    def fallen(model, options, providers):
        os.write(2, b"Failed to load library x.so with error: libcudnn.so.9: cannot open shared object file\n")
        return Session(["CPUExecutionProvider"])

    found = providers.tried(Runtime(fallen), "CUDAExecutionProvider", 1)
    assert (found["got"], found["right"]) == (["CPUExecutionProvider"], True)
    assert found["missing"] == "libcudnn.so.9"
    wrong = providers.tried(Runtime(lambda *_, providers: Session(providers, off=100.0)), "CUDAExecutionProvider", 1)
    assert not wrong["right"]

    def refused(*_, providers):
        raise RuntimeError("no kernel image")

    assert providers.tried(Runtime(refused), "CUDAExecutionProvider", 1)["got"] == []


def test_every_provider_here_that_is_listed_is_tried():
    onnxruntime = pytest.importorskip("onnxruntime")
    found = ask("mbrl_control.probes.providers", {"runs": 1}, 100.0)
    assert [one["name"] for one in found["listed"]] == onnxruntime.get_available_providers()
    cpu = found["listed"][-1]
    assert (cpu["name"], cpu["got"], cpu["right"]) == ("CPUExecutionProvider", ["CPUExecutionProvider"], True)


# --- planners ----------------------------------------------------------------------------------------

PARTS = {"robot": "panda", "task": "reach", "model": "kinematic"}
HOW = {"seconds": 0.0, "budget": 0.025, "search": False}


class Sized:
    """Stands for ``Parts``: an iteration takes as long as it has samples, in milliseconds."""

    def __init__(self, least=0):
        self.least = least

    def make(self, overrides):
        if overrides["samples"] < self.least:
            raise MbrlError("too few")
        return overrides["samples"]

    def duration(self, samples, _):
        return samples * 1e-3, 1


@pytest.mark.parametrize("start", [1, 8, 100, 256, 5000])
def test_the_largest_size_is_found_from_any_start(start):
    found = planners.most(Sized(), start, 100_000, 0.3)
    assert 300 / (1 + planners.SURE) - 1 <= found <= 300


def test_the_largest_size_keeps_its_bounds():
    assert 50 / (1 + planners.SURE) - 1 <= planners.most(Sized(), 8, 50, 0.3) <= 50
    assert planners.most(Sized(least=400), 256, 100_000, 0.3) == 0


def test_a_broken_planner_is_told_and_the_others_are_measured(lab):
    lab("brokenlab.planner", "raise ValueError('not today')")
    lab("brokenlab.__init__", "")
    names = ["mppi", "brokenlab.planner", "brokenlab.missing"]
    found = ask("mbrl_control.probes.planners", {"planners": names, "parts": PARTS, **HOW}, 100.0)["planners"]
    assert found[0]["iteration"] > 0.0
    for one in found[1:]:
        assert one.get("refused") or one.get("broken")
    assert "not today" in str(found[1])


# --- the command -------------------------------------------------------------------------------------


def test_a_planner_that_takes_its_process_with_it_is_one_line(lab, monkeypatch, capsys, tmp_path):
    from mbrl_control import cli

    lab("brokenlab.deadly", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    lab("brokenlab.__init__", "")
    ours = registry.names("planners")
    monkeypatch.setattr(registry, "names", lambda kind: [*ours, "brokenlab.deadly"])
    out = tmp_path / "doctor.json"
    status = cli.main(["doctor", "--quick", "--json", str(out)])
    result = json.loads(out.read_text())
    planned = {c["name"]: c for c in result["checks"] if c["section"].startswith("Planning")}
    assert set(planned) == {*ours, "brokenlab.deadly"}
    assert planned["brokenlab.deadly"]["verdict"] == "fail"
    assert "SIGSEGV" in planned["brokenlab.deadly"]["found"]
    assert all("broken" not in planned[name]["found"] for name in ours)
    assert (status, result["status"]) == (1, 1)
    assert {c["verdict"] for c in result["checks"]} <= VERDICTS
    assert set(result["facts"]) == {"software", "machine", "real_time", "ros", "models", "planning"}
    assert result["promise_class"] in ("A", "B")
    shown = capsys.readouterr().out
    assert result["summary"] in shown
    assert all(c["found"] in shown for c in result["checks"])


ABSENT = """
    import sys
    GONE = {"rclpy", "mujoco", "onnxruntime"}
    class Without:
        def __init__(self, finder):
            self.finder = finder
        def __getattr__(self, name):
            return getattr(self.finder, name)
        def find_spec(self, name, *rest):
            return None if name.split(".")[0] in GONE else self.finder.find_spec(name, *rest)
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def test_it_works_where_ros_mujoco_and_onnxruntime_are_not_installed(lab, tmp_path):
    lab("sitecustomize", ABSENT)
    out = tmp_path / "doctor.json"
    command = [sys.executable, "-m", "mbrl_control.cli", "doctor", "--quick", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {check["name"]: check for check in json.loads(out.read_text())["checks"]}
    assert found["ROS 2"]["verdict"] == "fail"
    assert "not found" in found["ROS 2"]["found"]
    assert found["ONNX Runtime"]["verdict"] == "warn"
    assert "not installed" in found["ONNX Runtime"]["found"]
    assert found["mppi"]["verdict"] in ("ok", "warn")


def test_mistakes_are_told_before_anything_is_measured(capsys):
    from mbrl_control import cli

    assert cli.main(["doctor", "--robot", "pnda"]) == 2
    assert "did you mean 'panda'?" in capsys.readouterr().err
    assert cli.main(["doctor", "--live", "--params", "nope.yaml"]) == 2
    assert "nope.yaml: no such file" in capsys.readouterr().err


def test_a_terminal_gets_a_table():
    from rich.console import Console

    from mbrl_control.runtime.doctor import Check, Verdict

    console = Console(force_terminal=True, width=60, record=True, file=io.StringIO())
    long = "a text that is wider than the terminal and so goes on below itself " * 2
    doctor.show(console, "Title [x]", [Check("name", Verdict.WARN, long, "do [this]")])
    doctor.show_changes(console, [Check("name", Verdict.WARN, long, "first [line]\nsecond [line]")])
    text = console.export_text()
    assert "Title [x]" in text
    assert "1. warn name: first [line]\n     second [line]" in text
    assert max(map(len, text.splitlines())) <= 60
