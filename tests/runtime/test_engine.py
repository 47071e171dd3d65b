"""The engine beyond what every planner promises: retrained weights, devices that are lost, parts on threads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mbrl_control import engine, registry
from mbrl_control.core import Goal, Observation, Robot, State, Status
from mbrl_control.dynamics import ensemble
from mbrl_control.engine import Engine
from mbrl_control.model import Model, ModelError, normaliser_shapes, spec_for
from mbrl_control.networks import Net, initial
from mbrl_control.onnx_check import GraphError
from mbrl_control.runners import Config, DeviceLostError, EngineError, OnCpu, parted
from mbrl_control.sampling import at_home

SAMPLES, HORIZON = 24, 5
SETTINGS = {"samples": SAMPLES, "horizon": HORIZON}


def model_of(robot: Robot, seed: int, members: int = 3) -> Model:
    """Networks that nobody fitted to anything."""
    rng, spec = np.random.default_rng(seed), spec_for(robot, 0.05)
    net = Net(members, len(spec.input_names), (20, 20), len(spec.output_names))
    usual = {name: rng.uniform(0.5, 1.5, shape) for name, shape in normaliser_shapes(net).items()}
    usual["output_scale"] = usual["output_scale"] * 0.01
    return Model(spec, net, {**initial(net, rng), **{name: x.astype(np.float32) for name, x in usual.items()}})


def builder(model: Model, robot: Robot, planner: str = "mppi"):
    task = registry.make("tasks", "reach", robot)

    def build(xp):
        return registry.make("planners", planner, task, ensemble.of(model, robot, xp), xp, overrides=SETTINGS)

    return build


@pytest.fixture(scope="module")
def panda() -> Robot:
    return registry.make("robots", "panda")


def asked(planner) -> tuple[Observation, Goal]:
    home = at_home(planner.on.task.robot, planner.on.task)
    return home, Goal.still([0.4, 0.1, 0.5], HORIZON, 0.02, 0.3)


def improved(planner):
    """The same iteration of whatever plans."""
    obs, goal = asked(planner)
    noise = planner.noise(np.random.default_rng(0))
    return planner.improve(obs, goal, planner.knobs(), planner.init(obs), noise)


PARTS = pytest.mark.parametrize("config", [{}, {"threads": 2, "rows": 5}], ids=["whole", "in parts"])


@PARTS
def test_graphs_take_the_weights_of_a_model_that_was_fitted_again(panda, config):
    old, new = model_of(panda, 0), model_of(panda, 1)
    made = Engine(Config(**config), builder(old, panda), builder(old, panda)(np), math.inf)
    before = improved(made)[1]
    made.swap(new)
    written_anew = Engine(Config(**config), builder(new, panda), builder(new, panda)(np), math.inf)
    after = improved(made)[1]
    assert not np.allclose(before.u, after.u)
    assert np.array_equal(after.u, improved(written_anew)[1].u)
    np.testing.assert_allclose(after.u, improved(builder(new, panda)(np))[1].u, rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_of_this_kind_are_refused(panda):
    made = Engine(Config(), builder(model_of(panda, 0), panda), builder(model_of(panda, 0), panda)(np), math.inf)
    with pytest.raises(ModelError, match="in place of this one it takes another with 3 members"):
        made.swap(model_of(panda, 0, members=2))
    lost = model_of(panda, 1)
    object.__setattr__(lost, "params", {**lost.params, "w1": lost.params["w1"] * np.nan})
    with pytest.raises(GraphError, match=r"constant 'w1(/0)?': it takes finite numbers"):
        made.swap(lost)


def test_only_an_ensemble_has_weights(panda):
    task = registry.make("tasks", "reach", panda)

    def build(xp):
        kinematic = registry.make("dynamics", "kinematic", panda, xp)
        return registry.make("planners", "mppi", task, kinematic, xp, overrides=SETTINGS)

    made = Engine(Config(), build, build(np), math.inf)
    with pytest.raises(EngineError, match="dynamics 'Kinematic' has no weights"):
        made.swap(model_of(panda, 0))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (24, 1)),
        ({"rows": 12}, (12, 2)),
        ({"rows": 10}, (8, 3)),
        ({"rows": 10, "threads": 2}, (6, 4)),
        ({"threads": 2}, (12, 2)),
        ({"rows": 1}, (1, 24)),
    ],
)
def test_samples_are_shared_out_evenly_over_threads(panda, config, expected):
    planner = builder(model_of(panda, 0), panda)(np)
    assert parted(Config(**config), planner, SAMPLES) == expected


def test_more_particles_than_members_make_smaller_parts(panda):
    model, task = model_of(panda, 0), registry.make("tasks", "reach", panda)
    dynamics = ensemble.of(model, panda, np, ensemble.Config(particles=12))
    planner = registry.make("planners", "mppi", task, dynamics, np, overrides=SETTINGS)
    assert parted(Config(rows=48), planner, SAMPLES) == (12, 2)


class Fading:
    """A device that answers so many times."""

    def __init__(self, runner, answers: int) -> None:
        self.runner, self.answers, self.report = runner, answers, dataclasses.replace(runner.report, runs="onnx, cuda")

    def __call__(self, feed):
        self.answers -= 1
        if self.answers < 0:
            raise DeviceLostError("CUDA failure 719: unspecified launch failure")
        return self.runner(feed)


def on_a_gpu(monkeypatch, panda, period: float) -> Engine:
    """An engine on a device that fails in its third iteration; its graphs are run by the CPU."""
    monkeypatch.setattr(
        engine, "OnDevice", lambda config, build, given: Fading(OnCpu(config, build, given, build(np)), 2)
    )
    build = builder(model_of(panda, 0), panda)
    return Engine(Config(provider="cuda"), build, build(np), period)


def test_a_gpu_that_is_lost_is_replaced_by_a_cpu_that_is_quick_enough(monkeypatch, panda):
    made = on_a_gpu(monkeypatch, panda, period=10.0)
    assert made.report.runs == "onnx, cuda"
    plans = [improved(made) for _ in range(4)]
    assert all(info.status == Status.OK for _, _, info in plans)
    assert all(np.array_equal(plan.u, plans[0][1].u) for _, plan, _ in plans)
    assert str(made.report).startswith("onnx, cpu, 1 thread")
    assert "cuda was lost: CUDA failure 719" in str(made.report)


def test_a_gpu_that_is_lost_where_the_cpu_is_too_slow_is_a_fault_and_no_plan(monkeypatch, panda):
    made = on_a_gpu(monkeypatch, panda, period=1e-6)
    carry, plan, _ = improved(made)
    improved(made)
    obs, goal = asked(made)
    noise = made.noise(np.random.default_rng(0))
    for _ in range(2):
        after, kept, info = made.improve(obs, goal, made.knobs(), carry, noise)
        assert info.status == Status.FAULT
        assert info.cost == math.inf
        assert np.array_equal(kept.u, plan.u)
        assert all(np.array_equal(after[name], carry[name]) for name in carry)
    assert "cuda was lost" in str(made.report)


def test_an_observation_with_other_blocks_gets_graphs_of_its_own(panda):
    build = builder(model_of(panda, 0), panda)
    made, planner = Engine(Config(), build, build(np), math.inf), build(np)
    _, goal = asked(planner)
    bare = Observation(0.0, State(0.0, panda.home, np.zeros(7)))
    noise = planner.noise(np.random.default_rng(0))
    _, plan, _ = made.improve(bare, goal, made.knobs(), made.init(bare), noise)
    _, right, _ = planner.improve(bare, goal, planner.knobs(), planner.init(bare), noise)
    np.testing.assert_allclose(plan.u, right.u, rtol=1e-3, atol=1e-3)


def test_what_is_returned_does_not_change_with_the_next_call(panda):
    build = builder(model_of(panda, 0), panda)
    made = Engine(Config(), build, build(np), math.inf)
    obs, goal = asked(made)
    rng, carry = np.random.default_rng(0), made.init(obs)
    carry, plan, info = made.improve(obs, goal, made.knobs(), carry, made.noise(rng))
    kept = {name: np.array(x) for name, x in carry.items()}, plan.u.copy(), info.predicted["q"].copy()
    made.improve(obs, goal, made.knobs(), carry, made.noise(rng))
    assert all(np.array_equal(carry[name], x) for name, x in kept[0].items())
    assert np.array_equal(plan.u, kept[1])
    assert np.array_equal(info.predicted["q"], kept[2])
