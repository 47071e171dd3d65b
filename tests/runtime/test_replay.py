"""Episodes to learn from: what is refused, what is repaired and said, and what a crash leaves behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.core import Info, Plan, Status
from mbrl_control.evaluate import Episode, Parts, run_episode
from mbrl_control.model import COMMANDS, COMMANDS_KEPT, REFERENCE, spec_for
from mbrl_control.replay import Recording, Replay, ReplayError, recorded
from mbrl_control.transitions import steps, windows

DT = 0.05


def recording(length=6, seed=0, **changed):
    rng = np.random.default_rng(seed)
    made = Recording(
        "cartpole",
        ("slider", "hinge"),
        ("slider",),
        "torque",
        DT,
        DT * np.arange(length + 1),
        rng.standard_normal((length + 1, 2)),
        rng.standard_normal((length + 1, 2)),
        rng.standard_normal((length, 1)),
        source=f"seed {seed}",
    )
    return dataclasses.replace(made, **changed)


def same(a: Recording, b: Recording) -> bool:
    found, expected = a.arrays(), b.arrays()
    return found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in expected)


def test_what_was_appended_is_there_after_reading_again(tmp_path):
    replay = Replay(tmp_path / "data")
    given = [recording(seed=s, blocks={"object": np.full((7, 3), float(s))}) for s in range(3)]
    for one in given:
        replay.append(one)
    again = Replay(tmp_path / "data")
    assert (again.steps, again.said, again.refused) == (18, [], {})
    for found, expected in zip(again.recordings, given, strict=True):
        assert same(found, expected)
        assert found.sha256 == expected.sha256
        assert found.source == expected.source


def test_growing_copies_nothing_that_is_there(tmp_path):
    replay = Replay(tmp_path)
    first = replay.append(recording())
    [path] = tmp_path.iterdir()
    before = path.stat()
    for seed in range(1, 20):
        replay.append(recording(seed=seed))
    assert replay.recordings[0] is first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_torn_file_is_refused_by_name_and_not_overwritten(tmp_path, kept):
    replay = Replay(tmp_path)
    for seed in range(3):
        replay.append(recording(seed=seed))
    path = tmp_path / "episode-000002.npz"
    data = path.read_bytes()
    torn = data[: int(len(data) * kept) if isinstance(kept, float) else kept]
    path.write_bytes(torn)
    again = Replay(tmp_path)
    assert len(again.recordings) == 2
    assert "torn" in again.refused["episode-000002.npz"]
    assert "episode-000002.npz is not read" in again.said[0]
    again.append(recording(seed=9))
    assert path.read_bytes() == torn
    assert [r.source for r in Replay(tmp_path).recordings] == ["seed 0", "seed 1", "seed 9"]


def test_numbers_that_were_changed_on_disk_are_refused(tmp_path):
    Replay(tmp_path).append(recording())
    path = tmp_path / "episode-000000.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["q"][3, 1] += 1e-9
    np.savez(path, **arrays)
    again = Replay(tmp_path)
    assert not again.recordings
    assert "sha256" in again.refused["episode-000000.npz"]


def test_foreign_files_and_unfinished_writes_are_named_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "episode-000007.part").write_bytes(b"half")
    np.savez(tmp_path / "episode-000003.npz", q=np.zeros(3))
    replay = Replay(tmp_path)
    assert set(replay.refused) == {"notes.txt", "episode-000007.part", "episode-000003.npz"}
    assert "unfinished" in replay.refused["episode-000007.part"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(replay.said) == 3


def test_after_kill_what_was_acknowledged_is_there_and_nothing_by_halves(tmp_path):
    """A real process appends as fast as it can, says each number once it is safe, and is killed."""
    program = textwrap.dedent("""
        import sys, numpy as np
        from pathlib import Path
        from mbrl_control.replay import Recording, Replay
        replay, n = Replay(Path(sys.argv[1])), 0
        while True:
            t = 0.05 * np.arange(2001)
            q = np.full((2001, 2), float(n))
            replay.append(Recording("r", ("a", "b"), ("a",), "torque", 0.05, t, q, q, q[1:, :1], source=str(n)))
            n += 1
            print(n, flush=True)
    """)
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(7)]
    os.kill(process.pid, signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    replay = Replay(tmp_path)
    assert len(replay.recordings) in (said[-1], said[-1] + 1)
    assert [float(r.q[5, 1]) for r in replay.recordings] == list(range(len(replay.recordings)))
    assert all(name.endswith(".part") for name in replay.refused)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"q": np.where(np.arange(14).reshape(7, 2) == 9, np.nan, 1.0)}, r"q\[1\] is not finite in 1 rows.*row 4"),
        ({"u": np.full((6, 1), np.inf)}, r"u\[0\] is not finite in 6 rows, first in row 0"),
        ({"t": DT * np.arange(7) + 0.02 * (np.arange(7) > 3)}, r"row 3 lasts 0\.07 s, as 1 of 6"),
        ({"dt": 0.1}, r"row 0 lasts 0\.05 s, as 6 of 6 that are not dt = 0\.1 s"),
        ({"v": np.zeros((6, 2))}, r"v of shape \(6, 2\); it takes \(7, 2\)"),
        ({"blocks": {"object": np.zeros((6, 3))}}, r"block 'object' of shape \(6, 3\); it takes \(7, n\)"),
        ({"mode": "velocity_reference"}, "it takes q_ref and v_ref"),
        ({"t": np.zeros(1), "q": np.zeros((1, 2)), "v": np.zeros((1, 2)), "u": np.zeros((0, 1))}, "no step in it"),
    ],
)  # fmt: skip
def test_an_episode_that_cannot_be_learned_from_is_refused_by_name(tmp_path, changed, said):
    replay = Replay(tmp_path)
    with pytest.raises(ReplayError, match=said):
        replay.append(recording(**changed))
    assert not list(tmp_path.iterdir())
    assert not replay.recordings


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"robot": "pendulum"}, "robot pendulum; this set has cartpole"),
        ({"joints": ("slider", "elbow")}, r"joints \('slider', 'elbow'\); this set has \('slider', 'hinge'\)"),
        ({"dt": 0.1, "t": 0.1 * np.arange(7)}, r"dt = 0\.1 s; this set has dt = 0\.05 s"),
        ({"blocks": {"object": np.zeros((7, 3))}}, r"holds \['block\.object'.*this set has \['q'"),
    ],
)
def test_an_episode_of_another_kind_is_refused(changed, said):
    replay = Replay()
    replay.append(recording())
    with pytest.raises(ReplayError, match=said):
        replay.append(recording(**changed))


def test_joints_in_another_order_are_reordered_by_name_and_it_is_said():
    replay, one = Replay(), recording(seed=1)
    replay.append(recording())
    turned = dataclasses.replace(one, joints=("hinge", "slider"), q=one.q[:, ::-1], v=one.v[:, ::-1])
    assert same(replay.append(turned), one)
    assert "joints came as ['hinge', 'slider'], reordered by name" in replay.said[0]


def test_nothing_is_split_into_an_error_and_one_episode_by_time():
    with pytest.raises(ReplayError, match="no episodes"):
        Replay().split()
    replay = Replay()
    one = replay.append(recording(20))
    split = replay.split(0.25)
    assert [r.steps for r in split.train + split.validation] == [15, 5]
    np.testing.assert_array_equal(split.validation[0].q, one.q[15:])
    np.testing.assert_array_equal(split.train[0].u, one.u[:15])
    assert "its last 5 steps are held out" in split.said[0]
    short = Replay()
    short.append(recording(1))
    with pytest.raises(ReplayError, match="takes at least 2"):
        short.split()
    with pytest.raises(ReplayError, match=r"fraction = 0\.9"):
        replay.split(0.9)


def test_an_episode_keeps_its_side_as_the_set_grows():
    replay, sides = Replay(), {}
    for seed in range(40):
        replay.append(recording(3, seed=seed))
        if seed == 0:
            continue
        split = replay.split(0.2, seed=5)
        assert split.train
        assert split.validation
        now = {r.source: side for side in ("train", "validation") for r in getattr(split, side)}
        assert len(now) == seed + 1
        if seed >= 5:  # the first five are complete
            assert sides.items() <= now.items()
            sides = now
    assert sum(side == "validation" for side in sides.values()) == 8
    assert [r.source for r in replay.split(0.2, seed=6).validation] != [r.source for r in split.validation]


def test_an_episode_of_a_simulation_becomes_a_recording():
    robot = registry.make("robots", "cartpole")
    one = recording(5)
    t = np.append(one.t[:-1], one.t[-2] + 0.01)  # it ended a tick after the last plan

    def episode(t):
        zeros = np.zeros(5)
        return Episode(
            seed=3, goal=np.zeros(1), t=t, q=one.q, v=one.v, q_ref=None, v_ref=None, u=one.u, score=zeros,
            distance=np.zeros(6), plan_time=zeros, met_at=None, lost=0, ended="",
        )  # fmt: skip

    whole = recorded(episode(one.t), robot, DT)
    assert same(whole, one)
    assert whole.source == "simulation, seed 3"
    cut = recorded(episode(t), robot, DT)
    assert cut.steps == 4
    np.testing.assert_array_equal(cut.q, one.q[:5])
    assert Replay().append(cut).steps == 4
    with pytest.raises(ReplayError, match=r"steps of 0\.05 s: dt is 0\.1 s"):
        recorded(episode(one.t), robot, 0.1)


def test_steps_and_windows_are_rows_of_the_recordings():
    robot = registry.make("robots", "panda")
    rng = np.random.default_rng(0)
    rows = {name: rng.standard_normal((6, 7)) for name in ("q", "v", "q_ref", "v_ref")}
    u = rng.standard_normal((5, 7))
    one = Recording(
        "panda", robot.joints, robot.channels.names, "velocity_reference", DT, DT * np.arange(6), u=u, **rows
    )
    spec = spec_for(robot, DT, latency=2)
    data = steps(spec, [one, one])
    np.testing.assert_array_equal(data.before["q"], np.concatenate([one.q[:-1]] * 2))
    np.testing.assert_array_equal(data.after["v"], np.concatenate([one.v[1:]] * 2))
    np.testing.assert_array_equal(data.before[REFERENCE][3], np.concatenate([rows["q_ref"][3], rows["v_ref"][3]]))
    np.testing.assert_array_equal(data.before[COMMANDS][3], np.concatenate([u[1], u[2]]))
    np.testing.assert_array_equal(data.before[COMMANDS][1], np.concatenate([np.zeros(7), u[0]]))
    seen = windows(spec, [one, one], 3, 100)
    assert seen.drive.shape == (6, 3, 7)
    np.testing.assert_array_equal(seen.states["q"][4], one.q[1:5])
    np.testing.assert_array_equal(seen.drive[4], rows["v_ref"][2:5])  # what a servo follows, not what was asked for
    np.testing.assert_array_equal(data.drive, np.concatenate([rows["v_ref"][1:]] * 2))
    assert windows(spec, [one], 99, 100).horizon == 5
    with pytest.raises(ReplayError, match=r"dt = 0\.05 s; the model takes dt = 0\.1 s"):
        steps(spec_for(robot, 0.1), [one])


class Witness:
    """A planner that writes down what it sees, and commands its number of calls."""

    dt, horizon = DT, 3

    def __init__(self, robot):
        self.robot, self.seen = robot, []

    def init(self, obs):
        return {}

    def knobs(self):
        return {}

    def noise(self, rng):
        return {}

    def improve(self, obs, goal, knobs, carry, noise):
        self.seen.append(obs)
        q, u = np.tile(obs.joints.q, (4, 1)), np.full((3, 1), 0.1 * len(self.seen))
        plan = Plan(obs.t, DT, self.robot.channels.mode, q, q * 0.0, u, None, obs.joints.t, len(self.seen))
        return {}, plan, Info(Status.OK, 0.0, {}, 1.0, {})


def test_observations_of_a_simulated_episode_hold_the_last_commands_newest_last():
    robot = registry.make("robots", "pendulum")
    task = registry.make("tasks", "swing_up", robot)
    witness = Witness(robot)
    parts = Parts(robot, task, registry.make("dynamics", "analytic", robot), witness, {"task": "swing_up"})
    episode = run_episode(parts, 0, 12 * DT, rate=1.0 / DT, iterations=1)
    assert len(witness.seen) == 12
    for k, obs in enumerate(witness.seen):
        last = np.concatenate([np.zeros(COMMANDS_KEPT), episode.u[:k, 0]])[-COMMANDS_KEPT:]
        np.testing.assert_array_equal(obs.blocks[COMMANDS], last)
    one = recorded(episode, robot, DT)
    assert one.blocks == {}
    spec = spec_for(robot, DT, latency=2)
    np.testing.assert_array_equal(steps(spec, [one]).before[COMMANDS][5], witness.seen[5].blocks[COMMANDS][-2:])
