"""What is shown of a run is what was: poses, goals and scores of its trials; and looking at it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from small_run import begun, one_more, small_run

from mbrl_control import cli, mjcf, run_folder
from mbrl_control.film import Player
from mbrl_control.nodes import door
from mbrl_control.replay import ReplayError, find
from mbrl_control.run_films import RECOUNTED, UNKNOWN, FilmError, RunFilms
from mbrl_control.run_folder import RunError
from mbrl_control.shapes import Figure

SHOWN = [
    ("cartpole_swing_up", ""),
    ("pendulum", ""),
    ("reacher", ""),
    ("pusher", ""),
    ("half_cheetah", ""),
    ("reach", "panda"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials of the cart-pole."""
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    small_run(folder, "cartpole_swing_up", trials=3)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("task", "robot"), SHOWN, ids=[task for task, _ in SHOWN])
def test_every_picture_is_the_recorded_moment_as_mujoco_has_it(task: str, robot: str, tmp_path: Path) -> None:
    [episode] = small_run(tmp_path / "run", task, robot)
    films = RunFilms(tmp_path / "run")
    film, figure = films.film(0), Figure(films.robot)
    model = mjcf.compiled(films.robot, mjcf.read(films.robot))
    data = mujoco.MjData(model)
    mjcf.reset(films.robot, model, data)
    at, _ = mjcf.addresses(model, films.robot)
    for row in range(film.steps + 1):
        frame = film.at(film.t[row])
        assert frame.row == row
        np.testing.assert_array_equal(frame.q, episode.q[row])
        data.qpos[at] = episode.q[row]
        for name, seen in episode.blocks.items():
            if not name.endswith("_velocity"):
                np.testing.assert_array_equal(frame.blocks[name], seen[row])
                joints = [model.joint(f"{name}_{axis}").qposadr[0] for axis in "xy"]
                data.qpos[joints] = (seen[row] - model.body(name).pos)[:2]
        mujoco.mj_kinematics(model, data)
        for name, pose in figure.poses(frame.q, frame.blocks).items():
            np.testing.assert_allclose(pose.position, data.body(name).xpos, atol=1e-9)
            np.testing.assert_allclose(pose.wxyz, data.body(name).xquat, atol=1e-9)
    assert film.doubts == []
    assert film.scores is not None
    assert film.distances is not None
    np.testing.assert_allclose(np.diff(film.scores), episode.score[: film.steps], atol=1e-9)
    np.testing.assert_allclose(film.distances, episode.distance[: film.steps + 1], atol=1e-9)
    np.testing.assert_allclose(film.goals, np.tile(episode.goal, (film.steps + 1, 1)))


@pytest.mark.parametrize("task", ["cartpole_swing_up", "pendulum"])
def test_a_goal_that_stands_for_a_point_is_shown_where_the_tip_meets_it(task: str, tmp_path: Path) -> None:
    small_run(tmp_path / "run", task)
    films = RunFilms(tmp_path / "run")
    target = films.film(0).at(0.0).target
    upright = films.robot.tip(np, np.zeros(films.robot.nj))
    np.testing.assert_allclose(target, upright, atol=1e-9)


def test_between_two_rows_everything_is_in_between_and_beyond_the_ends_is_the_end(run: Path) -> None:
    film = RunFilms(run).film(1)
    frame = film.at(0.25 * film.t[3] + 0.75 * film.t[4])
    assert frame.row == 3
    np.testing.assert_allclose(frame.q, 0.25 * film.q[3] + 0.75 * film.q[4])
    assert frame.score == film.scores[3]
    for t, row in ((-1.0, 0), (film.end + 1.0, film.steps)):
        np.testing.assert_array_equal(film.at(t).q, film.q[row])
        assert film.at(t).row == row


def test_the_list_says_which_trial_is_best_and_the_curve_is_that_of_the_run(run: Path) -> None:
    films = RunFilms(run)
    scores = [trial.score for trial in films.trials]
    assert [title.endswith("best") for title in films.titles] == [score == max(scores) for score in scores]
    assert films.best == int(np.argmax(scores))
    steps, learned = films.learned
    assert (steps.tolist(), learned.tolist()) == ([25, 50, 75], scores)
    assert films.threshold == 170.0


def test_a_run_that_goes_on_is_read_and_nothing_in_it_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lab = begun(folder, "cartpole_swing_up")
    one_more(lab)
    before = contents(folder)
    whole = before["trials.jsonl"]
    (folder / "trials.jsonl").write_bytes(whole + whole[:30])  # as it is while a line is written
    (folder / "replay" / "episode-000001.part").write_bytes(b"half an episode")
    before = contents(folder)
    films = RunFilms(folder)
    films.film(0)
    assert not films.refresh()
    assert contents(folder) == before
    (folder / "trials.jsonl").write_bytes(whole)
    one_more(lab)
    assert films.refresh()
    assert films.film(1).number == 1
    assert not films.refresh()
    (folder / "trials.jsonl").write_bytes(whole)
    with pytest.raises(FilmError, match="it had 2 trials and has 1 now"):
        films.refresh()
    assert len(films.titles) == 2


def test_a_start_that_was_seen_through_noise_is_the_same_start(tmp_path: Path) -> None:
    lab = begun(tmp_path / "run", "cartpole_swing_up", noise_q=0.01)
    episode = one_more(lab)
    film = RunFilms(tmp_path / "run").film(0)
    assert film.doubts == []
    assert film.scores[-1] == pytest.approx(episode.total)


def test_an_episode_that_another_version_would_begin_elsewhere_has_no_goal(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small_run(folder, "cartpole_swing_up")
    asked = json.loads((folder / "run.json").read_text())
    asked["options"]["seed"] = 1
    (folder / "run.json").write_text(json.dumps(asked))
    film = RunFilms(folder).film(0)
    assert (film.goals, film.targets, film.scores, film.doubts) == (None, None, None, [UNKNOWN])
    assert "score so far" not in film.curves
    assert film.at(0.5).score is None


def test_a_score_that_another_version_would_count_otherwise_is_doubted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small_run(folder, "cartpole_swing_up")
    line = json.loads((folder / "trials.jsonl").read_text())
    (folder / "trials.jsonl").write_text(json.dumps({**line, "score": line["score"] + 1.0}) + "\n")
    assert RunFilms(folder).film(0).doubts == [RECOUNTED]


def test_of_two_episodes_of_one_trial_the_newer_counts_and_torn_ones_are_passed_by(tmp_path: Path) -> None:
    small_run(tmp_path / "run", "cartpole_swing_up", trials=2)
    folder = tmp_path / "run" / "replay"
    newest = folder / "episode-000001.npz"
    (folder / "episode-000000.npz").rename(folder / "episode-000002.npz")
    (folder / "episode-000003.npz").write_bytes(newest.read_bytes()[:100])
    assert find(folder, "trial 0").source == "trial 0"
    (folder / "episode-000004.npz").write_bytes(newest.read_bytes())
    newest.write_bytes(b"")
    assert find(folder, "trial 1").source == "trial 1"
    with pytest.raises(ReplayError, match="no episode of 'trial 7'"):
        find(folder, "trial 7")


def test_runs_that_cannot_be_shown_say_why(tmp_path: Path) -> None:
    begun(tmp_path / "new", "cartpole_swing_up")
    with pytest.raises(FilmError, match="no trial is finished yet"):
        RunFilms(tmp_path / "new")
    (tmp_path / "new" / "trials.jsonl").write_text('{"score": 1.0}\n')
    with pytest.raises(RunError, match=r"trials.jsonl: not what 'mbrl learn' of this version writes"):
        RunFilms(tmp_path / "new")
    (tmp_path / "new" / "trials.jsonl").unlink()
    (tmp_path / "new" / "run.json").write_text('{"task": "reach"}')
    with pytest.raises(RunError, match=r"run.json: not what 'mbrl learn' of this version writes"):
        RunFilms(tmp_path / "new")
    with pytest.raises(RunError, match="no run of 'mbrl learn'"):
        run_folder.read(tmp_path)


def test_a_player_plays_stops_at_the_end_and_stands_where_it_is_put() -> None:
    player = Player(0.0, 8.0, 0.0)
    player.advance(0.5)
    assert (player.t, player.playing) == (0.5, True)
    player.speed = 2.0
    player.advance(1.0)
    assert player.t == 2.5
    player.toggle()
    player.advance(1.0)
    assert (player.t, player.playing) == (2.5, False)
    player.seek(7.0)
    player.toggle()
    player.advance(1.0)
    assert (player.t, player.playing) == (8.0, False)
    player.toggle()
    assert (player.t, player.playing) == (0.0, True)
    player.seek(99.0)
    assert (player.t, player.playing) == (8.0, False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere",), "nowhere: no run of 'mbrl learn'"),
        (("RUN", "--trial=3"), "--trial = '3': it takes a whole number from 0 to 2"),
        (("RUN", "--trial=-1"), "--trial = '-1': it takes a whole number from 0 to 2"),
        (("RUN", "--trial", "best"), "--trial = 'best': it takes a whole number from 0 to 2"),
        (("RUN", "--port", "99999"), "--port = '99999': it takes a whole number from 0 to 65535"),
        (("RUN", "--port=PORT"), "cannot listen on 127.0.0.1: port PORT is taken"),
        ((), "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], says: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    with door.listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        status = cli.main(["view", *(word.replace("RUN", str(run)).replace("PORT", port) for word in words)])
    complaint = capsys.readouterr().err
    assert status == 2
    assert complaint.count("\n") == 1
    assert says.replace("PORT", port) in complaint


def test_it_takes_neither_ros_nor_torch(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mbrl_control.nodes import door, replay_page;"
        "from mbrl_control.run_films import RunFilms; sock = door.listen('127.0.0.1', 0);"
        f"page = replay_page.ReplayPage(sock, door.gate_of(sock, '127.0.0.1'), RunFilms(Path({str(run)!r})), 0);"
        "page.close(); print('mujoco' in sys.modules, {'rclpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True set()\n", done.stderr


def test_without_its_package_it_says_what_to_install(
    run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("mbrl_control.nodes.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.delattr("mbrl_control.nodes.door", raising=False)
    assert cli.main(["view", str(run)]) == 2
    assert capsys.readouterr().err == (
        "mbrl: the package 'viser' is not installed: pip install 'mbrl_control[viewer]'\n"
    )
