"""Every planner's iteration can be written as ONNX graphs, and ONNX Runtime finds in them what NumPy finds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mbrl_control import engine, plan_graph
from mbrl_control.core import Observation, State, Status
from mbrl_control.sampling import INFINITE

from .combinations import (
    BY_DERIVATIVES,
    HORIZON,
    Names,
    Parts,
    accepted,
    build,
    builder,
    chosen,
    equal,
    frozen,
    goal_for,
    observe,
)

PARTS = {"threads": 2, "rows": 4}
"""Several parts, the last of which is not full."""
WRITABLE = {"kinematic", "analytic", "symbolic", "ensemble", "onnx"}
"""Models that are written over xp, so that they can be written as graphs."""


def writable(names: Names) -> bool:
    """Our planners have to be; somebody else's may: whoever has ``propose`` says that it is."""
    own = "." not in names.planner or hasattr(build(names).planner, "propose")
    return own and names.dynamics in WRITABLE


def long(names: Names) -> bool:
    """An arm's closed form, unrolled, is a hundred thousand nodes; near obstacles elites change at a touch."""
    return names.task == "clutter" or (names.dynamics in ("analytic", "symbolic") and build(names).robot.nj > 2)


FOUND = [n for n in accepted("tasks", "dynamics", "planners") if n.planner not in BY_DERIVATIVES and writable(n)]
SLOW = [pytest.param(names, id=str(names), marks=pytest.mark.slow) for names in FOUND if long(names)]
COMBINATIONS = pytest.mark.parametrize("names", [*chosen(names for names in FOUND if not long(names)), *SLOW])
LEARNED = Names("panda", "reach", "ensemble", "cem")


def situation(parts: Parts, t: float = 1.0):
    """Arguments of the second call of ``improve``, a while after the first."""
    planner, goal, rng = parts.planner, goal_for(parts), np.random.default_rng(1)
    obs = observe(parts, t)
    carry, plan, _ = planner.improve(obs, goal, planner.knobs(), planner.init(obs), planner.noise(rng))
    later = Observation(t + 0.4 * plan.dt, State(t + 0.39 * plan.dt, plan.q[1], plan.v[1]), obs.blocks, obs.stamps)
    return later, goal, planner.knobs(), carry, planner.noise(rng)


def engaged(names: Names, planner=None, dynamics=None, **config):
    """The planner run by graphs."""
    made, report = engine.engaged(engine.Config(use="onnx", **config), builder(names, planner, **(dynamics or {})))
    assert report.runs.startswith("onnx, cpu")
    return made


def parts_of(names: Names, planner=None, **dynamics) -> Parts:
    made = builder(names, planner, **dynamics)(np)
    return Parts(made.on.task.robot, made.on.task, made.on.dynamics, made)


def resolution(parts: Parts) -> float:
    """What single precision can tell of states apart, in units of what is usual of their changes."""
    model = getattr(parts.dynamics, "model", None)
    return 1e-4 if not hasattr(model, "params") else 1e-4 + 1e-6 / float(np.min(model.params["output_scale"]))


def agrees(found, expected, parts: Parts, tolerance: float = 1e-4) -> None:
    """Two results of ``improve``; how costs are weighted passes on what they differ by."""
    (carry, plan, info), (right, _, told) = found, expected
    assert info.status == told.status == Status.OK
    assert carry.keys() == right.keys()
    for name, value in right.items():
        np.testing.assert_allclose(carry[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
    assert info.cost == pytest.approx(told.cost, rel=1e-4, abs=1e-6)
    assert info.terms == pytest.approx(told.terms, rel=1e-4, abs=1e-5)
    assert info.effective_samples == pytest.approx(told.effective_samples, rel=1e-3)
    for kind in ("predicted", "spread"):
        for name, rows in getattr(told, kind).items():
            np.testing.assert_allclose(getattr(info, kind)[name], rows, rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(info.disagreement, told.disagreement, rtol=1e-3, atol=resolution(parts))
    assert {plan.q.dtype, plan.v.dtype, plan.u.dtype} == {np.dtype(float)}
    assert (plan.t0, plan.state_stamp, plan.seq) == tuple(getattr(expected[1], n) for n in ("t0", "state_stamp", "seq"))


@COMBINATIONS
@pytest.mark.parametrize("config", [{}, PARTS], ids=["whole", "in parts"])
def test_graphs_find_the_plan_that_numpy_finds(names, config):
    parts = build(names)
    arguments = situation(parts)
    expected = parts.planner.improve(*arguments)
    made = engaged(names, **config)
    before = tuple(frozen(x) for x in arguments)
    agrees(made.improve(*before), expected, parts)
    again = made.improve(*before)
    assert equal(again[0], made.improve(*before)[0])  # and nothing of a call is left in the next one


@COMBINATIONS
def test_returns_agree_to_1e_4_and_the_update_to_1e_5_given_the_same_returns(names):
    made, parts = builder(names), build(names)
    planner, (obs, goal, knobs, carry, noise) = parts.planner, situation(parts)
    proposed = planner.propose(obs, knobs, carry, noise)
    live = planner.live(carry, obs.t)
    case = planner.on.case(obs, goal.value, knobs, noise)
    tried = planner.on.evaluate(proposed.controls, case)
    given = plan_graph.Given.of(planner, obs, parts.task.goal_size)

    feed = {"q": obs.joints.q, "v": obs.joints.v, "t": 0.0, "stamp": obs.joints.t - obs.t, "goal": goal.value}
    for kind, arrays in {"seen": obs.blocks, "knob": knobs, "noise": noise, "carry": carry}.items():
        feed |= {f"{kind}/{name}": x for name, x in arrays.items()}
    feed |= {f"carry/{name}": carry[name] - obs.t for name in plan_graph.TIMES}
    feed |= {"controls": proposed.controls} | {f"more/{name}": x for name, x in proposed.more.items()}
    found = run(plan_graph.evaluate(made, given, proposed.controls.shape), feed)
    np.testing.assert_allclose(found["cost"], tried.cost, rtol=1e-4, atol=1e-6)

    cost = np.where(np.arange(len(tried.cost)) < live, tried.cost, INFINITE)
    more = {f"more/{name}": np.shape(x) for name, x in proposed.more.items()}
    found = run(plan_graph.choose(made, given, proposed.controls.shape, more), {**feed, "cost": cost})
    right, _ = planner.choose(obs, case, knobs, carry, proposed, dataclasses.replace(tried, cost=cost))
    assert found["alive"]
    for name in ("mean", "q", "v"):
        np.testing.assert_allclose(found[f"next/{name}"], right[name], rtol=1e-5, atol=1e-5, err_msg=name)


def run(data: bytes, feed):
    """A graph, run by ONNX Runtime and nothing else."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    single = {x.name: plan_graph.single(feed[x.name]) for x in session.get_inputs()}
    return dict(zip([x.name for x in session.get_outputs()], session.run(None, single), strict=True))


@pytest.mark.parametrize("propagation", ["ts_inf", "ts1", "mean"])
@pytest.mark.parametrize("particles", [2, 3, 7])
def test_particles_are_handed_to_the_members_that_they_belong_to(propagation, particles):
    settings = {"propagation": propagation, "particles": particles}
    parts = parts_of(LEARNED, **settings)
    arguments = situation(parts)
    for config in ({}, PARTS):
        made = engaged(LEARNED, dynamics=settings, **config)
        agrees(made.improve(*arguments), parts.planner.improve(*arguments), parts)


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi", "shooting"])
@pytest.mark.parametrize("config", [{}, PARTS], ids=["whole", "in parts"])
def test_a_clock_that_has_run_for_weeks_costs_no_precision(planner, config):
    names = dataclasses.replace(LEARNED, planner=planner, dynamics="kinematic")
    parts, made = build(names), engaged(names, **config)
    arguments = situation(parts, t=3e6)
    agrees(made.improve(*arguments), parts.planner.improve(*arguments), parts)
    assert made.improve(*arguments)[1].t0 == arguments[0].t


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi", "shooting"])
@pytest.mark.parametrize("config", [{}, PARTS], ids=["whole", "in parts"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_leaves_the_old_plan_bit_for_bit(planner, config, value):
    names = dataclasses.replace(LEARNED, planner=planner)
    made, parts = engaged(names, **config), build(names)
    (obs, goal, knobs, _, noise) = situation(parts)
    carry, before, _ = made.improve(obs, goal, knobs, made.init(obs), noise)
    lost = np.full(parts.robot.nj, value)
    joints = [dataclasses.replace(obs.joints, **one) for one in ({"q": lost}, {"v": lost}, {"t": value})]
    broken = [(dataclasses.replace(obs, joints=one), goal, knobs) for one in joints]
    broken += [(dataclasses.replace(obs, t=value), goal, knobs)]
    broken += [(obs, dataclasses.replace(goal, value=goal.value * value), knobs)]
    broken += [(obs, goal, {**knobs, "weights": knobs["weights"] * math.nan})]
    for seen, wanted, turned in broken:
        with np.errstate(invalid="ignore"):
            after, plan, info = made.improve(seen, wanted, turned, carry, noise)
        assert info.status & (Status.NONFINITE | Status.STALE_STATE)
        assert equal(after, carry)
        assert all(np.array_equal(getattr(plan, name), getattr(before, name)) for name in ("q", "v", "u"))
        assert (plan.t0, plan.state_stamp, plan.seq) == (before.t0, before.state_stamp, before.seq)
        assert info.cost == math.inf


def test_samples_that_a_later_iteration_does_not_draw_are_not_rolled_out():
    names = dataclasses.replace(LEARNED, planner="icem")
    settings = {"samples": 32, "decay": 2.0, "elites": 0.07}
    parts, made = parts_of(names, settings), engaged(names, settings, threads=1, rows=4)
    obs, goal, knobs, carry, noise = situation(parts)
    for _ in range(4):
        expected = parts.planner.improve(obs, goal, knobs, carry, noise)
        agrees(made.improve(obs, goal, knobs, carry, noise), expected, parts)
        carry = expected[0]
    runner = next(reversed(made._runners.values()))
    counted = [0] * len(runner._parts)
    for i, part in enumerate(runner._parts):
        runner._parts[i] = lambda i=i, part=part: (counted.__setitem__(i, counted[i] + 1), part())
    made.improve(obs, goal, knobs, carry, noise)
    assert counted[0] == 1
    assert counted[-1] == 0


def test_what_cannot_be_written_says_so_and_runs_on_numpy():
    names = Names("cartpole", "cartpole_balance", "mujoco", "mppi")
    planner, report = engine.engaged(engine.Config(), builder(names))
    assert type(planner).__name__ == "Mppi"
    assert str(report).startswith("numpy (dynamics 'mujoco'")
    with pytest.raises(engine.EngineError, match=r"engine\.use = onnx: dynamics 'mujoco'.*what runs there is"):
        engine.engaged(engine.Config(use="onnx"), builder(names))
    assert engine.engaged(engine.Config(use="numpy"), builder(LEARNED))[1] == engine.Report("numpy")


def test_the_same_bytes_each_time():
    names = dataclasses.replace(LEARNED, planner="mppi")
    parts = build(names)
    given = plan_graph.Given.of(parts.planner, observe(parts), parts.task.goal_size)
    assert plan_graph.plan(builder(names), given, {}) == plan_graph.plan(builder(names), given, {})


def test_horizon_and_samples_are_those_of_the_planner():
    made = engaged(LEARNED)
    assert (made.horizon, made.dt) == (HORIZON, 0.05)
    obs, goal, knobs, carry, noise = situation(build(LEARNED))
    with pytest.raises(ValueError, match="broadcast"):
        made.improve(obs, goal, knobs, carry, {**noise, "cem": noise["cem"][:3]})


def test_a_gpu_that_is_not_there_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(engine.EngineError, match=r"^engine\.provider = cuda: this ONNX Runtime has CPUExec\w+$"):
        engine.engaged(engine.Config(use="onnx", provider="cuda"), builder(LEARNED))


@pytest.mark.skipif(
    bool(onnxruntime.get_available_providers()[:-1]) and Path("/dev/nvidia0").exists(), reason="there is a GPU"
)
def test_a_gpu_that_does_not_start_is_told_in_one_line():
    with pytest.raises(
        engine.EngineError, match=r"^engine\.provider = cuda: .+ what is there is engine\.provider = cpu$"
    ):
        engine.engaged(engine.Config(use="onnx", provider="cuda"), builder(LEARNED))
