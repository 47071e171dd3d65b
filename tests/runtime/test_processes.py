"""The runner of processes: they start, are watched and never left behind."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mbrl_control.core import MbrlError
from mbrl_control.runtime import processes
from mbrl_control.runtime.processes import Launcher, ParameterFile, ProcessSpec

WITHIN = 20.0
"""What is waited for must be there after this long [s]; on a free machine it is much sooner."""
SLEEP = "exec sleep 1000"
FAST = tuple((after / 10, number) for after, number in processes.ESCALATION)


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
    monkeypatch.setattr(processes, "ESCALATION", FAST)
    with Run(shell("deaf", "trap '' INT TERM; echo up; while :; do sleep 0.05; done")) as run:
        run.until(lambda: run.lines)
    assert "was killed by SIGKILL" in str(run.ends[0])
    assert run.launcher.status == 128 + signal.SIGKILL


def test_who_only_hears_sigterm_gets_it(monkeypatch):
    monkeypatch.setattr(processes, "ESCALATION", FAST)
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
    monkeypatch.setattr(processes, "LONGEST_LINE", 16)
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


@pytest.fixture
def runner(tmp_path):
    """Starts ``run`` on a file in a process of its own; says where its nodes said they are."""
    started = []
    prefix = tmp_path / "prefix"
    marker = prefix / "share/ament_index/resource_index/packages/pkg"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (prefix / "lib/pkg").mkdir(parents=True)

    def start(**scripts):
        nodes = []
        for name, script in scripts.items():
            path = prefix / "lib/pkg" / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            nodes.append(f"- node: {{pkg: pkg, exec: {name}}}")
        file = tmp_path / "r.launch.yaml"
        file.write_text("\n".join(["launch:", *nodes]))
        code = (
            "import sys; from pathlib import Path; from mbrl_control.runtime import launch, processes;"
            "sys.exit(processes.run(launch.expand(Path(sys.argv[1]))).status)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            env={**os.environ, "AMENT_PREFIX_PATH": str(prefix)},
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
