"""``mbrl learn`` on a small task: a run goes on where it was killed, and says what is wrong in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.config import ConfigError
from mbrl_control.core import Goal, Observation, State
from mbrl_control.exploration import ROOM, Restless, Wander
from mbrl_control.learning import LearnConfig, open_lab
from mbrl_control.model import REFERENCE
from mbrl_control.run_folder import Run, RunError, Trial

SIGMA = 0.5
SMALL = (
    "icem.samples:=8", "icem.horizon:=4", "fit.width:=8", "fit.layers:=1", "fit.members:=2", "fit.batch:=64",
    "pets.first_epochs:=2", "pets.epochs:=1",
)  # fmt: skip
STEPS = 200


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mbrl_control.cli", "learn", *words]


def learnt(folder: Path, *words: str) -> dict:
    out = folder.with_suffix(".json")
    asked = command(
        "inverted_pendulum", f"--steps={STEPS}", f"--out={folder}", f"--json={out}", "--iterations=1", *words
    )
    done = subprocess.run([*asked, *SMALL], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(out.read_text())


def same(one: dict, other: dict) -> bool:
    return one["trial_returns"] == other["trial_returns"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A run that nobody disturbed."""
    return learnt(tmp_path_factory.mktemp("learn") / "whole", "--evaluate=1")


def test_a_run_has_what_its_page_promises(whole: dict) -> None:
    keys = {"task", "learner", "planner", "seed", "env_steps", "trial_returns", "steps_to_threshold", "threshold"}
    assert keys | {"wall_s", "plan_ms_p50", "evaluation_returns"} <= whole.keys()
    folder = Path(whole["folder"])
    run = Run.resume(folder)
    assert run.env_steps == whole["env_steps"] >= STEPS
    assert [trial.kind for trial in run.trials] == ["explore"] + ["plan"] * (len(run.trials) - 1)
    assert [recording.steps for recording in run.recordings()] == [trial.steps for trial in run.trials]
    assert run.model() is not None
    assert (folder / "curves.png").stat().st_size > 5000
    assert len(whole["evaluation_returns"]) == 1


def test_what_is_killed_goes_on_to_the_same_end(whole: dict, tmp_path: Path) -> None:
    """Killed in the second trial, with the first one on disk."""
    folder = tmp_path / "killed"
    asked = command("inverted_pendulum", f"--steps={STEPS}", f"--out={folder}", "--iterations=1", *SMALL)
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60.0
    while not (folder / "trials.jsonl").exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Run.resume(folder).env_steps < STEPS
    out = tmp_path / "out.json"
    done = subprocess.run(
        command(f"--resume={folder}", f"--json={out}"), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    assert same(json.loads(out.read_text()), whole)


def test_another_seed_is_another_run(whole: dict, tmp_path: Path) -> None:
    assert not same(learnt(tmp_path / "other", "--seed=1"), whole)


def test_pddm_learns_too(tmp_path: Path) -> None:
    small = ("mppi.samples:=8", "mppi.horizon:=4", "pddm.first_epochs:=2", "pddm.epochs:=1")
    out = tmp_path / "out.json"
    asked = command(
        "inverted_pendulum", "--learner=pddm", f"--steps={STEPS}", f"--out={tmp_path / 'r'}", f"--json={out}"
    )
    done = subprocess.run([*asked, *small, "fit.width:=8"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(out.read_text())["planner"] == "mppi"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "TASK is missing: mbrl learn takes one of 'mbrl list tasks', or --resume DIR"),
        (("pendulam",), "task 'pendulam': did you mean 'pendulum'?"),
        (("pendulum", "--learner=pots"), "learner 'pots'"),
        (("pendulum", "fit.widht:=8"), "fit.widht"),
        (("pendulum", "mppi.samples:=8"), "mppi.samples: nothing here has such a parameter"),
        (("--resume=nowhere",), "nowhere: no run of 'mbrl learn'"),
        (("pendulum", "--resume=nowhere"), "--resume: the run knows what it was asked for"),
        (("pendulum", "--out=/dev/null/x"), "/dev/null/x: "),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is left of what was not begun"


def test_a_line_torn_by_a_crash_is_dropped_and_a_folder_is_not_taken_twice(whole: dict, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", whole["folder"], str(folder)], check=True)
    trials = folder / "trials.jsonl"
    lines = trials.read_text().splitlines(keepends=True)
    trials.write_text("".join(lines[:-1]) + lines[-1][:20])
    assert len(Run.resume(folder).trials) == len(lines) - 1
    assert trials.read_text() == "".join(lines[:-1])
    with pytest.raises(RunError, match="there already"):
        Run.begin(folder, {})


@pytest.mark.parametrize("robot_task", [("pendulum", "pendulum"), ("panda", "reach")])
def test_random_controls_are_bounded_and_go_on_between_plans(robot_task: tuple[str, str]) -> None:
    robot = registry.make("robots", robot_task[0])
    task = registry.make("tasks", robot_task[1], robot)
    wander, rng = Wander(robot, task, 1.0, SIGMA), np.random.default_rng(0)
    joints = State(0.0, robot.home, np.zeros(robot.nj))
    carry, played = None, []
    for k in range(200):
        obs = Observation(k * task.dt, joints)
        goal = Goal.still(task.sample_goal(rng), wander.horizon, task.tolerance, task.dwell)
        carry, plan, _ = wander.improve(obs, goal, {}, carry or wander.init(obs), wander.noise(rng))
        played.append(plan.u[0])
        assert plan.q.shape == plan.v.shape == (len(plan.u) + 1, robot.nj)
    u = np.array(played) / robot.channels.bound
    assert np.abs(u).max() <= 1.0
    assert 0.5 * SIGMA < u.std() < 1.5 * SIGMA
    steps = np.diff(u, axis=0)
    assert np.mean(np.square(steps)) < np.mean(np.square(u)), "smoother than white noise, where it is twice as much"


def test_a_reference_that_wanders_stays_away_from_the_ends_of_the_joints() -> None:
    robot = registry.make("robots", "panda")
    task = registry.make("tasks", "reach", robot)
    wander, rng = Wander(robot, task, 1.0, SIGMA), np.random.default_rng(0)
    centre, half = (robot.limits.upper + robot.limits.lower) / 2.0, (robot.limits.upper - robot.limits.lower) / 2.0
    obs, farthest = Observation(0.0, State(0.0, robot.home, np.zeros(robot.nj))), 0.0
    for _ in range(20):
        _, plan, _ = wander.improve(obs, Goal.still(np.zeros(3), 1, 0.02, 0.3), {}, wander.init(obs), wander.noise(rng))
        farthest = max(farthest, float((np.abs(plan.q - centre) / half).max()))
        t, turned = obs.t + len(plan.u) * task.dt, {REFERENCE: np.concatenate([plan.q[-1], plan.v[-1]])}
        obs = Observation(t, State(t, plan.q[-1], plan.v[-1]), turned, {REFERENCE: t})
    assert ROOM < farthest < 1.0


def test_a_disturbed_plan_is_the_planners_and_smooth_noise_that_goes_on_between_plans() -> None:
    """About a planner that plans nothing, so that what is played is the noise; and the same one for one time."""
    robot = registry.make("robots", "pendulum")
    task = registry.make("tasks", "pendulum", robot)
    planner = Wander(robot, task, 1.0, sigma=1e-9)
    restless, rng = Restless(planner, robot, 1.0, 0.2), np.random.default_rng(0)
    joints, carry, played = State(0.0, robot.home, np.zeros(1)), None, []
    goal = Goal.still(task.sample_goal(rng), restless.horizon, task.tolerance, task.dwell)
    for k in range(200):
        obs = Observation(k * task.dt, joints)
        for _ in range(2):
            carry, plan, _ = restless.improve(obs, goal, {}, carry or restless.init(obs), restless.noise(rng))
            played.append(plan.u[0, 0] / robot.channels.bound[0])
    first, again = np.array(played[::2]), np.array(played[1::2])
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert 0.1 < first.std() < 0.3
    assert np.mean(np.square(np.diff(first))) < np.mean(np.square(first))
    arm = registry.make("robots", "panda")
    with pytest.raises(ConfigError, match=r"noise = 0\.2 on plans for robot 'panda': it takes 0"):
        Restless(planner, arm, 1.0, 0.2)


def test_what_it_is_learned_under_is_told_to_the_card() -> None:
    settings = {"world.payload": "2", "mppi.samples": "8"}
    lab = open_lab("reach", LearnConfig(robot="panda", planner="mppi"), settings)
    told = lab.conditions()
    assert (told["simulation"]["payload"], told["simulation"]["stiffness"]) == (2.0, 1.0)
    assert told["planned_with"] == {"mppi.samples": 8}
    with pytest.raises(ConfigError, match=r"world\.payload = '-1': it takes a number of at least 0 \[kg\]"):
        open_lab("reach", LearnConfig(robot="panda"), {"world.payload": "-1"})


def test_a_trial_that_ended_early_counts_neither_as_the_best_nor_as_good_enough(tmp_path: Path) -> None:
    """Scores are losses: three steps cost less than a hundred."""
    trials = [Trial(n, "plan", k, at, -float(k), False, 1.0, ended=end) for n, k, at, end in
              ((0, 3, 3, "a joint left its range"), (1, 100, 103, ""), (2, 90, 193, ""))]  # fmt: skip
    run = Run(tmp_path, {}, trials=trials)
    assert run.to_threshold(-95.0) == 193
    assert run.best is trials[2]
    assert Run(tmp_path, {}, trials=trials[:1]).best is trials[0]
