"""Closed loops without ROS: repeatable, scored by the task, played as the guard plays; and ``mbrl eval``."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_control import cli, comparison, evaluate, mjcf
from mbrl_control.comparison import EvalConfig, Scores, contenders, figures
from mbrl_control.config import ConfigError
from mbrl_control.core import MbrlError, Observation, Plan, State
from mbrl_control.evaluate import Episode, assemble, run_episode
from mbrl_control.runtime.judge import Judge, Sent
from mbrl_sim.world import Config as WorldConfig

SMALL = {"mppi.samples": 16, "cem.samples": 16, "shooting.samples": 16}


@pytest.fixture
def pendulum():
    return assemble("pendulum", "swing_up", "mppi", "analytic", SMALL)


@pytest.fixture
def panda():
    return assemble("panda", "reach", "mppi", "kinematic", SMALL)


def same(a: Episode, b: Episode) -> bool:
    names = ("goal", "t", "q", "v", "u", "score", "distance")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names) and a.met_at == b.met_at


def test_the_same_seed_gives_the_same_episode_and_another_one_another(pendulum):
    once, again, other = (run_episode(pendulum, seed, 1.0) for seed in (3, 3, 4))
    assert same(once, again)
    assert not np.array_equal(once.q, other.q)


def test_start_and_goal_are_the_same_for_all_that_are_compared(panda):
    other = assemble("panda", "reach", "shooting", "kinematic", SMALL)
    one, two = (run_episode(parts, 5, 0.1) for parts in (panda, other))
    assert np.array_equal(one.q[0], two.q[0])
    assert np.array_equal(one.goal, two.goal)
    assert not np.array_equal(one.u, two.u)


def test_an_episode_has_a_row_a_plan_and_one_more_and_the_task_s_scores(pendulum):
    task, episode = pendulum.task, run_episode(pendulum, 0, 1.0, rate=10.0)
    assert np.array_equal(episode.t, np.arange(11) * 10 * evaluate.TICK)
    assert episode.q.shape == episode.v.shape == (11, 1)
    assert episode.u.shape == (10, 1)
    assert episode.score.shape == episode.plan_time.shape == (10,)
    assert (episode.plan_time > 0.0).all()
    assert episode.q_ref is episode.v_ref is None
    seen = [Observation(t, State(t, q, v)) for t, q, v in zip(episode.t, episode.q, episode.v, strict=True)]
    for k, u in enumerate(episode.u):
        assert episode.score[k] == task.score(seen[k], u, seen[k + 1], episode.goal)
        assert episode.distance[k] == task.distance(seen[k], episode.goal)
    assert episode.total == pytest.approx(episode.score.sum())


def test_a_moving_goal_is_scored_where_it_is(panda):
    parts = assemble("panda", "track", "mppi", "kinematic", SMALL)
    episode = run_episode(parts, 0, 0.5)
    there = parts.task.course(episode.goal, episode.t)
    assert np.ptp(there, axis=0).max() > 0.01
    tips = parts.robot.tip(np, episode.q)
    np.testing.assert_allclose(episode.distance, np.linalg.norm(tips - there, axis=-1), atol=1e-12)
    np.testing.assert_allclose(episode.score, -episode.distance[1:], atol=1e-12)


class Fixed:
    """A planner that wants one control for ever, and remembers what it was asked."""

    dt, horizon = 0.05, 8

    def __init__(self, robot, u, lost=()):
        self.robot, self.u, self.asked, self.lost = robot, np.asarray(u, float), [], lost

    def init(self, obs):
        return {}

    def knobs(self):
        return {}

    def noise(self, rng):
        return {}

    def improve(self, obs, goal, knobs, carry, noise):
        self.asked.append((obs, goal))
        reference = obs.blocks.get("reference")
        q = obs.joints.q if reference is None else reference[: self.robot.nj]
        steps = np.arange(self.horizon + 1)[:, None] * self.dt
        moving = self.robot.channels.coupling @ self.u
        lost = len(self.asked) in self.lost
        status = evaluate.Status.NONFINITE if lost else evaluate.Status.OK
        u = np.tile(self.u, (self.horizon, 1)) * (np.nan if lost and not carry else 1.0)
        plan = Plan(obs.t, self.dt, self.robot.channels.mode, q + steps * moving, moving + 0.0 * steps, u, None, 0.0, 0)
        return {}, plan, SimpleNamespace(status=status)


def with_planner(parts, planner):
    return evaluate.Parts(parts.robot, parts.task, parts.dynamics, planner, parts.names)


def test_torques_reach_the_robot_as_planned(pendulum):
    """Under a small constant torque the rod comes to hang where gravity holds it: m g l / 2 sin q = -u."""
    episode = run_episode(with_planner(pendulum, Fixed(pendulum.robot, [0.5])), 0, 0.5)
    assert (episode.u == 0.5).all()
    start = episode.q[0, 0]
    acceleration = pendulum.robot.acceleration(np, episode.q[0], episode.v[0], np.array([0.5]))[0]
    assert episode.q[1, 0] - start == pytest.approx(0.5 * acceleration * 0.05**2, rel=0.05)


def test_gains_bring_back_what_a_push_did_to_a_plan(pendulum):
    """The rod hangs, as planned, and is pushed once: it swings on, or is brought back."""
    followed = assemble("pendulum", "swing_up", "mppi", "analytic", {**SMALL, "feedback.use": "auto"})
    still, tracked = (
        replace(parts, planner=Fixed(parts.robot, [0.0]), feedback=parts.feedback) for parts in (pendulum, followed)
    )

    def push(t, world):
        if t == 0.0:
            world.push(np.array([2.0, 0.0, 0.0]), 0.05)

    swung, held = (run_episode(parts, 0, 1.6, rate=2.5, on_tick=push) for parts in (still, tracked))
    assert np.abs(held.v[1:]).max() < 0.2 * np.abs(swung.v[1:]).max()
    assert (still.feedback.why, tracked.feedback.why) == ("feedback.use = off", "")


def test_reference_velocities_go_through_the_guard_s_filter(panda, monkeypatch):
    """The arm is asked for what the guard would ask of it: within its limits, each command with its own stop."""
    from mbrl_sim import world

    judge, follow = Judge(panda.robot.limits), world.World.follow

    def heard(self, names, points, start=None):
        judge.see(Sent(self.time, self.time + points.t, points.q, points.v, points.a))
        return follow(self, names, points, start)

    monkeypatch.setattr(world.World, "follow", heard)
    u = np.array([3.0, 0.0, -3.0, 0.0, 0.0, 0.0, 1.0])
    planner = Fixed(panda.robot, u)
    episode = run_episode(with_planner(panda, planner), 0, 0.5)
    judge.finish()
    assert judge.commands == 50
    assert not judge.violations
    assert episode.q_ref is not None
    assert episode.v_ref is not None
    limit = panda.robot.limits.velocity
    assert 0.5 * limit[0] < episode.v_ref[-1, 0] <= limit[0]
    assert np.abs(episode.q - episode.q_ref).max() < 0.2
    for (obs, _), q_ref, v_ref in zip(planner.asked[2::3], episode.q_ref, episode.v_ref, strict=False):
        assert np.array_equal(obs.blocks["reference"], np.concatenate([q_ref, v_ref]))


def test_a_plan_is_made_of_as_many_iterations_as_said_and_a_lost_one_is_not_played(pendulum):
    planner = Fixed(pendulum.robot, [0.3], lost={6})
    episode = run_episode(with_planner(pendulum, planner), 0, 0.5, iterations=2)
    assert len(planner.asked) == 20
    assert episode.lost == 1
    assert np.isfinite(episode.q).all()
    assert (episode.u == 0.3).all()


def test_a_goal_is_met_after_its_dwell(panda):
    episode = run_episode(panda, 1, 2.5)
    assert episode.success
    assert episode.met_at is not None
    inside = episode.t[np.flatnonzero(episode.distance > panda.task.tolerance)[-1]]
    assert panda.task.dwell <= episode.met_at - inside <= panda.task.dwell + 2 * 0.05 + 1e-9
    assert figures(episode)["met_at"] == episode.met_at


def test_an_episode_ends_where_a_joint_leaves_its_range():
    parts = assemble("cartpole", "swing_up", "mppi", "analytic", SMALL)
    episode = run_episode(with_planner(parts, Fixed(parts.robot, [10.0])), 0, 5.0)
    assert episode.ended == "a joint left its range"
    assert not episode.success
    assert episode.t[-1] < 2.0
    assert len(episode.t) == len(episode.u) + 1


def test_a_worse_world_can_be_asked_for(panda):
    late = run_episode(replace(panda, world=WorldConfig(latency=0.05, noise_q=1e-3)), 0, 0.5)
    assert not same(late, run_episode(panda, 0, 0.5))


def test_what_is_wrong_is_told_before_long_work(panda, monkeypatch):
    with pytest.raises(ConfigError, match=r"rate = 30 Hz: plans come at whole ticks of 0\.01 s"):
        run_episode(panda, 0, 1.0, rate=30.0)
    with pytest.raises(ConfigError, match=r"mpi\.samples: .* did you mean 'mppi'\?"):
        contenders("reach", EvalConfig(), {"mpi.samples": 3})
    monkeypatch.setattr(mjcf, "mujoco", lambda: (_ for _ in ()).throw(mjcf.MujocoError("MuJoCo is not installed")))
    with pytest.raises(MbrlError, match="not installed"):
        run_episode(panda, 0, 1.0)


def test_a_task_brings_settings_and_a_person_s_win():
    assert assemble("pendulum", "swing_up", "mppi", "analytic").planner.config.sigma == 1.0
    assert assemble("pendulum", "swing_up", "mppi", "analytic", {"mppi.sigma": 0.3}).planner.config.sigma == 0.3
    assert assemble("pendulum", "reach", "mppi", "analytic").planner.config.sigma == 0.05


def test_scores_are_medians_of_the_episodes():
    def episode(total, met_at):
        one = np.array([0.0, 1.0])
        return Episode(
            0, one[:1], one, one[:, None], one[:, None], None, None, one[:1, None], np.array([total]),
            np.array([1.0, total]), np.array([0.002]), met_at, 0, "",
        )  # fmt: skip

    names = {"robot": "r", "task": "t", "dynamics": "d", "planner": "p", "engine": "onnx, cpu, 1 thread"}
    scores = Scores(names, [episode(1.0, None), episode(5.0, 2.0), episode(2.0, 3.0)])
    assert scores.met == 2
    assert scores.spread("score") == (1.0, 2.0, 5.0)
    assert scores.spread("met_at") == (2.0, 2.5, 3.0)
    assert scores.plan_ms() == (2.0, 2.0)
    assert scores.facts()["goals_met"] == 2
    assert scores.row()["goals met"] == "2/3"


# --- mbrl eval --------------------------------------------------------------------------------------


@pytest.fixture
def mbrl(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = cli.main([str(word) for word in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


QUICK = ["--robot", "pendulum", "--model", "analytic", "--seconds", "0.3", "mppi.samples:=8", "--json", "o.json"]


def test_eval_compares_and_its_status_is_whether_goals_were_met(mbrl, tmp_path):
    words = ["eval", "swing_up", "shooting.samples:=8", "--planner", "mppi,shooting", "--episodes", "2", *QUICK]
    status, out, err = mbrl(*words)
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("pendulum · task swing_up · 2 episodes of 0.3 s each")
    assert [line.split()[0] for line in lines[1:3]] == ["mppi", "shooting"]
    assert lines[3] == "0 of 4 goals met"
    found = json.loads((tmp_path / "o.json").read_text())
    assert (found["status"], found["interrupted"]) == (1, False)
    assert found["settings"] == {"mppi.samples": "8", "shooting.samples": "8"}
    assert [[e["seed"] for e in one["episodes"]] for one in found["results"]] == [[0, 1], [0, 1]]
    status, out, _ = mbrl("eval", "swing_up", "swing_up.tolerance:=3", "swing_up.dwell:=0.1", *QUICK)
    assert status == 0
    assert "1 of 1 goals met" in out


def test_eval_takes_the_first_robot_that_the_task_takes():
    assert contenders("reach", EvalConfig(model=("kinematic",)), {})[0].names["robot"] == comparison.FIRST
    assert contenders("swing_up", EvalConfig(model=("analytic",)), {})[0].names["robot"] == "cartpole"


def test_ctrl_c_keeps_what_is_finished(mbrl, monkeypatch, tmp_path):
    real, done = evaluate.run_episode, []

    def interrupted(*args, **more):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(real(*args, **more))
        return done[-1]

    monkeypatch.setattr(evaluate, "run_episode", interrupted)
    status, out, err = mbrl("eval", "swing_up", "--episodes", "5", *QUICK)
    assert (status, err) == (130, "")
    assert "0 of 2 goals met before it was interrupted" in out
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["interrupted"]
    assert len(found["results"][0]["episodes"]) == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["reech"], "task 'reech': did you mean 'reach'?"),
        (["reach", "--planner", "mpi"], "planner 'mpi': did you mean 'mppi'?"),
        (["reach", "--robot", "pandaa"], "robot 'pandaa': did you mean 'panda'?"),
        (["reach", "--model", "analytic"], "dynamics 'analytic' for robot 'panda'"),
        (["reach", "samples=3"], "'samples=3': parameters are written name:=value"),
        (["reach", "mppi.sample:=3"], "mppi.sample: no such parameter; did you mean 'samples'?"),
        (["reach", "mppi.samples:=no", "--model", "kinematic"], "mppi.samples = 'no': it takes a whole number"),
        (["reach", "--planner", ""], "--planner and --model: they take at least one name each"),
        (["swing_up", "--robot", "panda"], "panda"),
        (["reach", "--rate", "7"], "rate = 7 Hz: plans come at whole ticks"),
        ([], "the following arguments are required: TASK"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mbrl, argv, said):
    status, _, err = mbrl("eval", *argv)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


class Staying(Fixed):
    """A planner of the torques that hold an arm where it was first seen."""

    dt, horizon = 0.02, 10

    def improve(self, obs, goal, knobs, carry, noise):
        _, plan, info = super().improve(obs, goal, knobs, carry, noise)
        q, still = self.asked[0][0].joints.q, 0.0 * plan.v
        u = np.tile(self.robot.inverse_dynamics(np, q, still[0], still[0]), (self.horizon, 1))
        return {}, replace(plan, q=still + q, v=still, u=u), info


def test_the_panda_on_torques_pushed_by_20_n_is_back_within_2_cm_with_gains_and_not_without():
    """Half a second after 0.2 s of it."""

    def moved(use):
        settings = {"engine.use": "numpy", "analytic.dt": 0.02, "shooting.dt": 0.02, "feedback.use": use}
        parts = assemble("panda_torque", "reach", "shooting", "analytic", settings)
        tips = []

        def push(t, world):
            if round(t * 100) == 20:
                world.push(np.array([0.0, 20.0, 0.0]), 0.2)
            tips.append(parts.robot.tip(np, world.observe().q))

        planner = Staying(parts.robot, np.zeros(7))
        run_episode(replace(parts, planner=planner), 0, 1.0, rate=5.0, iterations=1, on_tick=push)
        return np.linalg.norm(np.array(tips) - tips[0], axis=-1)

    held, lost = moved("auto"), moved("off")
    assert held.max() > 0.005
    assert held[90] < 0.02
    assert lost.max() > 0.1
