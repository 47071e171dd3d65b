"""``mbrl bench``: the arithmetic of its rows, whose turn it is, the pipe to peers, and that both do the same work.

No time is asserted. Peers here are scripts of our own in a process of their own; the real ones are in the slow tests.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from shutil import copy

import mujoco
import numpy as np
import pytest

from mbrl_control import cli, machine_code, networks
from mbrl_control.bench import (
    KINDS,
    environment,
    flops,
    gpu,
    ilqr,
    loop,
    measuring,
    plan,
    plots,
    policy,
    session,
    sgemm,
    train,
    work,
)
from mbrl_control.bench.measuring import Times
from mbrl_control.bench.peer import SCRIPTS, Peer, PeerError
from mbrl_control.bench.rows import Row, table
from mbrl_control.bench.session import Bench, BenchConfig
from mbrl_control.core import MbrlError
from mbrl_control.networks import Net

KEYS = {"work", "ours_ms", "peer", "peer_ms", "ratio", "gflops", "sgemm_fraction", "parity"}
TINY = Net(2, work.STATE + work.ACTIONS, (8, 8), work.STATE, "deterministic", "relu")
MPPI = work.Size("mppi", 6, 3, 1, TINY, 2)
CEM = work.Size("cem", 20, 3, 2, Net(2, TINY.inputs, (8, 8), work.STATE), 4)
FRESH = work.Size("cem", 20, 3, 2, CEM.net, 4, fresh=True)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Matrix products and rounds of calls that take no time."""
    monkeypatch.setattr(sgemm, "SIZE", 64)
    monkeypatch.setattr(sgemm.reference, "__defaults__", (64,))
    monkeypatch.setattr(policy, "CALLS", 20)
    monkeypatch.setattr(measuring, "SETTLE", 0.0)


@pytest.fixture
def mbrl(capsys, monkeypatch, tmp_path):
    """Runs a command line in this process, in an empty folder; gives status, output and what was complained of."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = cli.main(["bench", *(str(word) for word in argv)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def script(tmp_path):
    """A peer of a few lines, as a process; ``hello`` is there."""
    copy(SCRIPTS / "worker.py", tmp_path)
    begun = []

    def start(text):
        words = "from worker import serve\nimport os, sys, time\nimport numpy as np\n"
        words += "def hello(a, threads): return {'name': 'fake', 'version': str(threads)}, {}\n" + textwrap.dedent(text)
        words += "\nserve({n: f for n, f in globals().items() if callable(f)})\n"
        (tmp_path / "fake.py").write_text(words)
        begun.append(Peer(Path(sys.executable), "fake", 1, tmp_path))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


# --- Rows ---------------------------------------------------------------------------------------------


def test_a_row_says_medians_ranges_ratio_rate_and_share():
    row = Row("plan", "w", Times((0.02, 0.01, 0.04)), "p 1", Times((0.03, 0.05, 0.06)), 10**9, 100e9, 1e-6)
    facts = row.facts()
    assert facts.keys() >= KEYS
    assert (facts["ours_ms"], facts["ours_range_ms"]) == (20.0, [10.0, 40.0])
    assert (facts["peer_ms"], facts["peer_range_ms"]) == (50.0, [30.0, 60.0])
    assert facts["ratio"] == pytest.approx(2.5)
    assert facts["gflops"] == pytest.approx(50.0)
    assert facts["sgemm_fraction"] == pytest.approx(0.5)
    assert facts["parity"] == 1e-6
    assert "ours_return" not in facts


def test_a_row_without_a_peer_has_nulls_and_one_of_loop_has_returns():
    alone = Row("plan", "w", Times((0.02,)), flops=10**9).facts()
    assert [alone[name] for name in ("peer", "peer_ms", "ratio", "parity", "sgemm_fraction")] == [None] * 5
    played = Row("loop", "w", Times((0.02,)), ours_return=3.0).facts()
    assert (played["ours_return"], played["peer_return"]) == (3.0, None)
    json.dumps([alone, played])


def test_the_table_has_a_line_for_each_row_in_units_that_suit():
    rows = [
        Row("policy", "a", Times((4e-6,)), "p 1", Times((8e-6,)), 100, 1e9, 1e-7),
        Row("loop", "b", Times((0.02,)), "q 2", Times((20.0,)), ours_return=3.0, peer_return=2.5),
    ]
    head, rule, first, second = table([row.facts() for row in rows]).splitlines()
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert "4 us (4 to 4)" in first
    assert " 2 |" in first
    assert "20 s (20 to 20) (return 2.5)" in second
    assert "| 1000 |" in second


# --- Floating-point operations ------------------------------------------------------------------------


def test_operations_against_hand_counts():
    assert flops.row(work.pets().net) == 2 * (27 * 200 + 3 * 200 * 200 + 200 * 40)
    assert work.pets().flops == 266_800 * 400 * 20 * 25 * 5
    assert flops.row(work.pddm(1, 1).net) == 2 * (27 * 500 + 500 * 500 + 500 * 20)
    assert [round(work.pddm(n, h).flops / 1e9, 1) for n, h in ((200, 7), (500, 15), (1000, 30))] == [2.3, 12.3, 49.2]
    assert flops.product(10) == 2000


def test_operations_of_an_epoch_by_counting_products():
    net, rows, count = Net(3, 4, (5, 6), 7), 11, 0
    for layer, (before, after) in enumerate([(4, 5), (5, 6), (6, 14)]):
        count += 2 * before * after  # forward
        count += 2 * before * after  # to the weights
        count += 2 * before * after * (layer > 0)  # to the inputs, but the first
    assert flops.epoch(net, rows) == 3 * rows * count


# --- By turns -----------------------------------------------------------------------------------------


def test_turns_go_a_b_a_b_after_one_round_to_warm_up():
    log, told = [], []

    def turn(name):
        def take():
            log.append(name)
            return float(len(log))

        return take

    a, b = measuring.interleaved([turn("A"), turn("B")], 3, lambda: told.append(len(log)))
    assert "".join(log) == "AB" * 4
    assert a.seconds == (3.0, 5.0, 7.0)
    assert b.seconds == (4.0, 6.0, 8.0)
    assert told == list(range(1, 9))


def test_a_part_tells_how_far_it_is():
    told = []
    bench = Bench(BenchConfig(pairs=1), told=lambda what, parts: told.append((what, parts)))
    bench.interleaved("x", [lambda: 0.0, lambda: 0.0])
    bench.part("y")
    assert told == [("x", 0), ("x", 0.25), ("x", 0.5), ("x", 0.75), ("x", 1.0), ("y", 1)]


def test_cores_are_counted_once(monkeypatch, tmp_path):
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(measuring, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert measuring.physical_cores() == 2


# --- The pipe -----------------------------------------------------------------------------------------


def test_words_and_arrays_go_to_a_process_and_back(script):
    fake = script("""
        def double(a, key):
            print("this goes elsewhere")
            return {"key": key, "seconds": 0.25}, {"x": 2 * a["x"]}
    """)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    said, found = fake.ask("double", {"x": x}, key="k")
    assert fake.name == "fake 1"
    assert said == {"key": "k", "seconds": 0.25}
    assert found["x"].dtype == np.float32
    np.testing.assert_array_equal(found["x"], 2 * x)


def test_a_peer_that_cannot_says_why_and_goes_on(script):
    fake = script("def fail(a): raise ValueError('no\\nsuch')\ndef good(a): return {'seconds': 1.5}, {}")
    with pytest.raises(PeerError, match=r"^peer fake in 'fail': ValueError: no such$"):
        fake.ask("fail")
    assert fake.seconds("good") == 1.5


def test_a_peer_that_dies_is_told_with_its_last_words(script):
    fake = script("def die(a):\n  print('out of cards', flush=True)\n  os._exit(3)")
    with pytest.raises(PeerError, match=r"^peer fake ended in 'die': out of cards$"):
        fake.ask("die")


def test_a_peer_at_rest_uses_no_core_and_ends_with_its_pipe(script):
    fake = script("def used(a): return {'s': time.process_time()}, {}\ndef rest(a): return {}, {}")
    before = fake.ask("used")[0]["s"]
    measuring.time.sleep(0.3)
    assert fake.ask("used")[0]["s"] - before < 0.2
    fake.close()
    assert fake._process.returncode == 0


def test_a_python_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(PeerError, match="nowhere: No such file or directory; 'mbrl bench --peers' makes it anew"):
        Peer(tmp_path / "nowhere", "torch_eager", 1)


# --- The same work ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "threads"), [(MPPI, 1), (CEM, 2), (FRESH, 2)], ids=["mppi", "cem", "fresh"])
def test_what_is_evaluated_is_the_cost_of_each_member_written_out(size, threads):
    """Against loops over members and steps, of arrays that are handed over to peers."""
    model = work.model(size.net)
    given = {name: array.astype(float) for name, array in work.handed_over(size, model).items()}
    u = np.random.default_rng(5).uniform(-0.5, 0.5, (size.horizon, work.ACTIONS))
    total, nj = 0.0, work.JOINTS
    for member in range(size.net.members):
        x = given["x"]
        for row in u:
            h = (np.concatenate([x, row]) - given["input_mean"]) / given["input_scale"]
            for i in range(size.net.layers):
                h = h @ given[f"w{i}"][member] + given[f"b{i}"][member, 0]
                if i < size.net.layers - 1:
                    h = np.maximum(h, 0.0) if size.net.activation == "relu" else h / (1.0 + np.exp(-h))
            x = x + h[: work.STATE]
            terms = (x[:nj] - given["goal"]) @ (x[:nj] - given["goal"]), x[nj:] @ x[nj:], row @ row
            total += 0.5 * float(given["weights"] @ terms)
    expected = total / size.horizon / size.net.members
    assert plan.Ours(size, model, threads).cost(u) == pytest.approx(expected, rel=1e-5)


def test_fresh_noise_is_another_one_for_each_sample_and_common_noise_is_not():
    rng, model = np.random.default_rng(0), work.model(CEM.net)
    fresh, common = (work.planner(size, model).noise(rng)["ensemble"] for size in (FRESH, CEM))
    assert fresh.shape == (20, 4, 3, work.STATE)
    assert common.shape == (4, 1, 3, work.STATE)
    assert len(np.unique(fresh[:, 0, 0, 0])) == 20


@pytest.mark.parametrize("threads", [1, 3])
def test_each_sample_meets_its_own_noise_wherever_it_is_computed(threads):
    """By the engine in one part and in several, of twenty samples in parts that they do not fill, as on NumPy."""
    model, (obs, goal) = work.model(FRESH.net), work.situation(FRESH)
    plain, ours = work.planner(FRESH, model), plan.Ours(FRESH, model, threads).planner
    noise = plain.noise(np.random.default_rng(0))
    mine, _, told = ours.improve(obs, goal, ours.knobs(), ours.init(obs), noise)
    expected, _, said = plain.improve(obs, goal, plain.knobs(), plain.init(obs), noise)
    np.testing.assert_allclose(mine["mean"], expected["mean"], atol=1e-5)
    np.testing.assert_allclose(mine["std"], expected["std"], atol=1e-5)
    assert told.cost == pytest.approx(said.cost, rel=1e-4)


def test_a_plan_makes_all_its_iterations(monkeypatch):
    ours, calls = plan.Ours(FRESH, work.model(FRESH.net), 1), []
    improve = ours.planner.improve
    monkeypatch.setattr(ours.planner, "improve", lambda *given: calls.append(given) or improve(*given))
    ours.plan()
    assert len(calls) == 2
    assert int(calls[1][3]["seq"]) == 1


def test_a_network_in_a_peer_s_process_and_as_a_graph_is_the_same():
    weights, x = policy.made_up()
    ours = policy.Ours(weights)
    expected = networks.forward(np, policy.NET, weights, x)
    np.testing.assert_allclose(ours.act(x), expected, rtol=1e-5, atol=1e-6)
    with Peer(Path(sys.executable), "torch_eager", 1) as eager:
        eager.ask("policy", weights, key=policy.NAME)
        assert policy.parity(ours, eager, x) < 1e-5
        assert policy.asked(eager, x).shape == (20,)


def test_an_epoch_is_of_as_many_rows_as_its_operations(monkeypatch):
    monkeypatch.setattr(train, "ROWS", 64)
    monkeypatch.setattr(train, "BATCHES", (16,))
    bench = Bench(BenchConfig(pairs=1, threads=1))
    bench.measure("train")
    [row] = bench.found.rows
    assert row.flops == flops.epoch(train.SIZE.net, 64)
    assert row.ours.median > 0.0
    data = train.arrays(train.recorded())
    assert [len(array) for array in data.values()] == [64] * 3
    assert bench.parts == train.parts(bench)


@pytest.fixture
def short_loop(monkeypatch):
    """A closed loop that is over at once."""
    for name, value in {"STEPS": 2, "RECORDED": 6, "RANDOM": 1, "SHOWN": 1, "EPOCHS": 1}.items():
        monkeypatch.setattr(loop, name, value)
    monkeypatch.setattr(loop, "LEAN", (loop.Lean(8, 2, 8, 1, 3), loop.Lean(4, 1, 8, 1, 3)))


def test_a_closed_loop_has_a_row_and_a_point_for_each_planner(short_loop, tmp_path):
    bench = Bench(BenchConfig(seeds=2, threads=1))
    bench.measure("loop")
    facts = bench.facts()
    assert len(facts["rows"]) == len(facts["points"]) == 2
    assert all(row.keys() >= KEYS | {"ours_return", "peer_return"} for row in facts["rows"])
    assert all(len(point["returns"]) == 2 for point in facts["points"])
    assert bench.parts == loop.parts(bench)
    assert [path.name for path in plots.draw(facts, tmp_path)] == [plots.PARETO]
    assert (tmp_path / plots.PARETO).stat().st_size > 1000


def test_an_agent_in_another_process_plays_in_our_world(short_loop, script):
    fake = script("""
        asked = []
        def reset(a, key): asked.append("reset"); return {}, {}
        def act(a, key): asked.append(a["x"].tolist()); return {"seconds": 0.5}, {"u": np.array([100.0])}
        def heard(a): return {"asked": asked}, {}
    """)
    know = loop.knowing()
    agent = loop.Contender("fake", loop.replace(know, planner=loop.Asked(fake, know.task)), 1)
    agent.play(0)
    heard = fake.ask("heard")[0]["asked"]
    assert heard[0] == "reset"
    assert len(heard) == 3
    assert heard[2][2] > 0.2  # the cart has been pushed
    assert agent.seconds == [0.5]
    assert len(agent.returns) == 1


def test_the_operations_of_a_lean_plan_are_of_what_it_tries(short_loop):
    bench = Bench(BenchConfig(threads=1))
    first, _ = loop.ours(bench, loop.collected(bench))
    plain = first.parts.planner.planner
    tried, evaluate = [], plain.on.evaluate
    plain.on.evaluate = lambda u, case: tried.append(len(u)) or evaluate(u, case)
    first.parts = loop.replace(first.parts, planner=plain)
    first.play(0)
    assert first.flops * loop.STEPS == flops.rollouts(Net(5, 6, (8,), 4), sum(tried), 5, 3)


# --- Optimal motions -----------------------------------------------------------------------------------

COSTS = {"cost_ours", "cost_peer", "iterations_ours", "iterations_peer"}


@pytest.fixture
def short_motions(monkeypatch):
    """A few knots, in CasADi's virtual machine: no test waits for a compiler."""
    monkeypatch.setattr(machine_code, "compiler", lambda: None)
    monkeypatch.setattr(ilqr, "KNOTS", (2, 3))
    monkeypatch.setattr(ilqr, "STEP", 2)


def by_mujoco(given, u):
    """What controls cost, of nothing but what a peer is told: MuJoCo's Euler step is semi-implicit, too."""
    spec = mujoco.MjSpec()
    spec.option.gravity, spec.option.timestep = given["gravity"], ilqr.DT
    parent, quaternion = spec.worldbody, np.zeros(4)
    for i, rotation in enumerate(given["rotation"]):
        mujoco.mju_mat2Quat(quaternion, rotation.ravel())
        parent = parent.add_body(pos=given["position"][i], quat=quaternion)
        inertia = given["inertia"][i]
        parent.explicitinertial, parent.mass, parent.ipos = True, given["mass"][i], given["com"][i]
        parent.fullinertia = [*np.diag(inertia), inertia[0, 1], inertia[0, 2], inertia[1, 2]]
        parent.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], armature=given["armature"][i])
    parent.add_site(name="tip", pos=given["tip"])
    model = spec.compile()
    data, H = mujoco.MjData(model), len(u)
    data.qpos[:], data.qvel[:] = np.split(given["x"], 2)
    total = 0.0
    for k, control in enumerate(u):
        data.qfrc_applied[:] = control
        mujoco.mj_step(model, data)
        mujoco.mj_kinematics(model, data)
        away = data.site("tip").xpos - given["goal"]
        q, effort = data.qpos - given["posture"], (control - given["holding"]) * given["scale"]
        squares = np.array([away @ away, q @ q, data.qvel @ data.qvel, effort @ effort])
        total += 0.5 * (given["weights"] / H + given["terminal"] * (k == H - 1)) @ squares
    return total


def test_what_a_peer_is_told_of_a_motion_is_what_ours_solves_for(short_motions):
    ours = ilqr.Ours(20)
    given = ilqr.handed_over(ours)
    for u in ilqr.controls(ours):
        assert ours.cost(u) == pytest.approx(by_mujoco(given, u), rel=1e-9)


def test_a_solve_ends_where_nothing_is_gained_within_the_bounds_that_the_peer_does_not_know(short_motions):
    ours = ilqr.Ours(5)
    solved = ours.solve()
    assert 2 < solved.iterations < 50
    assert solved.cost == pytest.approx(ours.cost(solved.carry["mean"]), rel=1e-9)
    assert (abs(solved.carry["mean"]) < ours.robot.channels.bound).all()
    for step in np.random.default_rng(0).standard_normal((4, 5, 7)):
        assert ours.cost(solved.carry["mean"] + 1e-2 * step) > solved.cost


def test_motions_have_rows_of_an_iteration_a_solve_and_a_step(short_motions, mbrl, monkeypatch, tmp_path):
    monkeypatch.setattr(ilqr, "MOST", 4)
    status, out, _ = mbrl("ilqr", "--pairs", "1", "--json", "i.json", "--plots", tmp_path)
    assert status == 0
    rows = json.loads((tmp_path / "i.json").read_text())["rows"]
    assert [(row["knots"], row["per"]) for row in rows] == [
        (2, "iteration"), (2, "solve"), (3, "iteration"), (3, "solve"), (2, "step"),
    ]  # fmt: skip
    for row in rows:
        assert row.keys() >= KEYS | COSTS
        assert row["cost_peer"] is row["iterations_peer"] is row["peer"] is None
    assert rows[1]["ours_ms"] == pytest.approx(rows[0]["ours_ms"] * rows[0]["iterations_ours"])
    assert f"({rows[0]['iterations_ours']} iterations to {rows[0]['cost_ours']:.6g})" in out
    assert rows[0]["runs"].startswith("CasADi")
    assert (tmp_path / plots.ILQR).stat().st_size > 1000


def test_a_motion_is_compared_with_the_peer_s(short_motions, script, monkeypatch, tmp_path):
    fake = script("""
        told = {}
        def problem(a, key, horizon, dt, slides):
            assert len(a["u"]) == horizon and slides == [False] * 7
            told[key] = a
            return {}, {}
        def costs(a, key): return {}, {"cost": np.ones(len(a["u"]))}
        def solve(a, key, most): return {"seconds": 2.0, "iterations": 4, "cost": 7.5}, {}
        def again(a, key):
            assert a["x"].shape == (14,) and (a["u"][:-1] != told[key]["u"][:-1]).any()
            return {"seconds": 1.0, "iterations": 1, "cost": 8.5}, {}
    """)
    monkeypatch.setattr(ilqr, "MOST", 3)
    bench = Bench(BenchConfig(pairs=1), Path(sys.executable))
    monkeypatch.setattr(bench, "peer", lambda name, threads: fake if (name, threads) == (ilqr.SCRIPT, 1) else None)
    bench.measure("ilqr")
    rows = bench.facts()["rows"]
    assert [row["peer_ms"] for row in rows] == [500.0, 2000.0, 500.0, 2000.0, 1000.0]
    assert [(row["iterations_peer"], row["cost_peer"]) for row in rows] == [(4, 7.5)] * 4 + [(1, 8.5)]
    assert all(row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"]) for row in rows)
    assert all(row["parity"] > 0.1 for row in rows), "ours is not 1"
    assert bench.parts == ilqr.parts(bench)
    assert "(4 iterations to 7.5)" in table(rows)
    assert [path.name for path in plots.draw(bench.facts(), tmp_path)] == [plots.ILQR]


# --- The command --------------------------------------------------------------------------------------


def test_a_policy_is_measured_and_told(mbrl, tmp_path):
    status, out, err = mbrl("policy", "--pairs", "2", "--threads", "1", "--json", tmp_path / "p.json")
    assert (status, err) == (0, "")
    assert "others take part with --peers" in out
    assert "policy, batch 1" in out
    found = json.loads((tmp_path / "p.json").read_text())
    [row] = found["rows"]
    assert row.keys() >= KEYS
    assert row["peer"] is None
    assert row["ours_ms"] > 0.0
    assert row["ours_p99_ms"] >= row["ours_ms"]
    assert 0.0 < row["sgemm_fraction"] < 1.0
    assert found["sgemm"][0]["threads"] == 1
    assert set(found["sgemm"][0]["gflops"]) == {"torch", "numpy", "onnxruntime"}
    assert not found["interrupted"]


def test_plans_are_measured_and_drawn(mbrl, monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "CASES", {"tiny": (MPPI, ("torch_mppi",)), "other": (FRESH, ())})
    monkeypatch.setattr(plan, "CURVES", {"N": {4: MPPI, 6: MPPI}})
    status, out, _ = mbrl("plan", "--pairs", "1", "--threads", "1", "--json", "p.json", "--plots", tmp_path)
    assert status == 0
    found = json.loads((tmp_path / "p.json").read_text())
    assert [row["gflop"] for row in found["rows"]] == [MPPI.flops / 1e9, FRESH.flops / 1e9]
    assert [n for n, _ in found["curves"]["N"]] == [4, 6]
    assert f"drawn: {tmp_path / plots.PERFORMANCE}" in out
    assert (tmp_path / plots.PERFORMANCE).stat().st_size > 1000


@pytest.mark.parametrize(("fault", "status"), [(KeyboardInterrupt(), 130), (PeerError("peer x ended"), 2)])
def test_what_is_finished_is_kept(fault, status, mbrl, monkeypatch, tmp_path):
    def measure(bench):
        bench.add(Row("policy", "w", Times((0.1,))))
        raise fault

    monkeypatch.setattr(policy, "measure", measure)
    found, out, err = mbrl("all", "--json", "r.json")
    assert found == status
    assert "w   ours 100 ms" in out
    assert err == ("" if status == 130 else "mbrl: peer x ended\n")
    result = json.loads((tmp_path / "r.json").read_text())
    assert [row["work"] for row in result["rows"]] == ["w"]
    assert (result["interrupted"], result["status"]) == (status == 130, status)


MISTAKES = [
    (["plann"], "'plann': no such benchmark; did you mean 'plan'?"),
    (["policy", "--pairs", "0"], "--pairs = '0': it takes a whole number from 1 to 1000"),
    (["plan", "--provider", "cud"], "--provider = 'cud': it takes one of cpu, cuda"),
    (["all", "--provider", "cuda"], "--provider cuda: 'mbrl bench all' computes on the CPU; it takes 'plan'"),
    (["plan", "--provider", "cuda", "--peers"], "--peers: on a GPU ours alone is measured; it takes --provider cpu"),
    (["policy", "--plots", "nowhere"], "--plots nowhere: no such folder; it takes one that is there"),
    (["policy", "--peers", "--peers-dir", "/proc/x"], "--peers-dir /proc/x: no such file or directory"),
]


@pytest.mark.parametrize(("argv", "said"), MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_a_mistake_is_one_line_before_anything_is_measured(argv, said, mbrl):
    status, out, err = mbrl(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("mbrl: ")
    assert said in err
    assert err.count("\n") == 1


def test_without_a_gpu_it_says_so(mbrl, monkeypatch):
    monkeypatch.setattr("mbrl_control.probes.providers.devices", dict)
    status, out, err = mbrl("plan", "--provider", "cuda")
    assert (status, out) == (2, "")
    assert err.startswith("mbrl: --provider cuda: ")
    assert "it takes cpu, or a machine with an NVIDIA GPU" in err
    assert err.count("\n") == 1
    with pytest.raises(MbrlError):
        gpu.check()


def test_work_of_a_gpu_is_of_the_sizes_that_are_told(monkeypatch):
    """By what is here: the numbers that a GPU computes, and not how fast it does."""
    monkeypatch.setattr(plan, "ON_GPU", {"tiny": MPPI})
    monkeypatch.setattr(gpu, "reference", lambda: sgemm.Reference("here", lambda: 1.0, 64, 1, {}))
    ours = plan.Ours
    monkeypatch.setattr(plan, "Ours", lambda size, weights, threads, _="", **more: ours(size, weights, threads, **more))
    bench = Bench(BenchConfig(pairs=1, provider="cuda"))
    bench.measure("plan")
    [row] = bench.found.rows
    assert row.parity < 1e-5
    assert row.sgemm == flops.product(64)
    assert bench.parts == plan.parts(bench) == 1


@pytest.mark.gpu
def test_plans_on_a_gpu_are_those_of_numpy(monkeypatch):
    gpu.check()
    monkeypatch.setattr(plan, "ON_GPU", {"small": work.Size("cem", 256, 10, 1, work.pets().net, 5)})
    bench = Bench(BenchConfig(pairs=2, provider="cuda"))
    bench.measure("plan")
    [row] = bench.found.rows
    assert row.parity < 1e-2  # TF32
    assert "cuda" in row.more["runs"]


def test_every_kind_is_a_module_with_parts():
    for name in KINDS:
        module = session.kind(name)
        assert module.parts(Bench(BenchConfig(seeds=1))) >= 1
        assert callable(module.measure)


# --- The peers' environment ---------------------------------------------------------------------------


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(environment.PeersError, match="there are other things in it"):
        environment.made(tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_installation_that_fails_is_one_line_with_the_log(tmp_path):
    command = [sys.executable, "-c", "import sys; print('ERROR: no such version', file=sys.stderr); sys.exit(1)"]
    with pytest.raises(environment.PeersError) as told:
        environment.install(tmp_path, command)
    log = tmp_path / environment.LOG
    assert str(told.value) == f"the peers' environment was not made: ERROR: no such version; the whole log: {log}"
    assert "no such version" in log.read_text()


def test_what_is_whole_is_not_made_again(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(environment, "install", lambda _folder, command: made.append(command))
    folder, told = tmp_path / "peers", []
    environment.made(folder, told.append)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").touch()
    assert len(made) == 3
    assert environment.TORCH in made[1]
    assert "--no-deps" in made[2]
    assert environment.made(folder, told.append) == folder / "bin" / "python"
    assert (len(made), len(told)) == (3, 1)
    monkeypatch.setattr(environment, "PINS", ("mbrl==0.3.0",))
    assert not environment.stamp(folder).exists()


# --- With the real peers ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_peers_compute_the_same(monkeypatch, tmp_path):
    """In the environment that ``mbrl bench --peers`` makes, or has made."""
    python = environment.made(environment.default(), print)
    for name, value in {"ROWS": 512, "BATCHES": (64,)}.items():
        monkeypatch.setattr(train, name, value)
    both = ("torch_mppi", "mbrl_lib")
    monkeypatch.setattr(plan, "CASES", {"m": (MPPI, both), "c": (CEM, both[1:]), "f": (FRESH, both[1:])})
    monkeypatch.setattr(plan, "CURVES", {})
    bench = Bench(BenchConfig(pairs=1, threads=1), python)
    try:
        for kind in ("policy", "plan", "train"):
            bench.measure(kind)
    finally:
        bench.close()
    rows = bench.found.rows
    assert [row.peer.rsplit(" ", 1)[0] for row in rows] == [
        "torch eager", "pytorch-mppi", "mbrl-lib", "mbrl-lib", "mbrl-lib", "mbrl-lib",
    ]  # fmt: skip
    assert all(row.parity is not None and row.parity < 1e-4 for row in rows), [row.parity for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_peer_finds_the_same_motions(monkeypatch):
    monkeypatch.setattr(ilqr, "KNOTS", (25, 100))
    bench = Bench(BenchConfig(pairs=1), environment.made(environment.default(), print))
    try:
        bench.measure("ilqr")
    finally:
        bench.close()
    for row in bench.facts()["rows"]:
        assert row["peer"] == "crocoddyl 3.2.1"
        assert row["parity"] < 1e-9
        if row["per"] != "step":
            assert row["cost_ours"] == pytest.approx(row["cost_peer"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_peer_s_agent_swings_a_few_steps(short_loop, monkeypatch):
    python = environment.made(environment.default(), print)
    monkeypatch.setattr(loop, "PUBLISHED", {"samples": 20, "iterations": 2, "horizon": 3, "particles": 5})
    bench = Bench(BenchConfig(seeds=1, threads=1), python)
    try:
        bench.measure("loop")
    finally:
        bench.close()
    assert all(row.peer == "mbrl-lib 0.2.0" and row.ratio > 0.0 for row in bench.found.rows)
    assert {point["by"] for point in bench.found.points} == {"ours", "mbrl-lib 0.2.0"}
