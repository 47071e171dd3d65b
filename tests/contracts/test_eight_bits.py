"""Plans with hidden layers in eight bits are plans, and nobody gets them of a model that has not stood its test."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from learned import obedient

from mbrl_control import engine, registry
from mbrl_control.core import Goal, Status
from mbrl_control.dynamics import ensemble
from mbrl_control.model_folder import WEIGHTS
from mbrl_control.sampling import at_home

ACCEPTED = {"int8": {"accepted": True, "weights_sha256": "a"}, "sha256": {WEIGHTS: "a"}}
ARM = registry.make("robots", "panda")
REACH = registry.make("tasks", "reach", ARM)


def builder(model, planner="mppi", **settings):
    def made(xp):
        dynamics = ensemble.of(model, ARM, xp)
        overrides = {"samples": 16, "horizon": 5, **settings}
        return registry.make("planners", planner, REACH, dynamics, xp, overrides=overrides)

    return made


def situation(planner):
    obs, rng = at_home(ARM, REACH), np.random.default_rng(1)
    goal = Goal.ahead(REACH, REACH.sample_goal(rng), planner.dt * np.arange(planner.horizon + 1))
    return obs, goal, planner.knobs(), planner.init(obs), planner.noise(rng)


def engaged(model, planner="mppi", **config):
    return engine.engaged(engine.Config(int8=True, **config), builder(model, planner))


@pytest.mark.parametrize(
    ("planner", "config"),
    [("cem", {}), ("icem", {"threads": 2, "rows": 4}), ("mppi", {}), ("mppi", {"rows": 4}), ("shooting", {})],
)
def test_plans_in_eight_bits_are_close_to_those_in_single_precision(planner, config):
    model = obedient(ARM, facts=ACCEPTED)
    made, report = engaged(model, planner, **config)
    assert report.runs.endswith(", int8")
    arguments = situation(made)
    single, _ = engine.engaged(engine.Config(use="onnx", **config), builder(model, planner))
    carry, plan, info = made.improve(*arguments)
    _, right, told = single.improve(*arguments)
    assert info.status == Status.OK
    assert info.cost != told.cost  # it is another graph
    assert info.cost == pytest.approx(told.cost, rel=0.05)
    np.testing.assert_allclose(plan.u, right.u, atol=0.25 * ARM.channels.bound.max())
    again = made.improve(*arguments)[0]
    assert all(np.array_equal(carry[name], again[name]) for name in carry)


@pytest.mark.parametrize("where", ["q", "v"])
def test_what_is_not_finite_is_no_plan(where):
    made, _ = engaged(obedient(ARM, facts=ACCEPTED))
    obs, *rest = situation(made)
    for value in (math.nan, math.inf):
        joints = dataclasses.replace(obs.joints, **{where: np.full(ARM.nj, value)})
        with np.errstate(invalid="ignore"):
            _, plan, info = made.improve(dataclasses.replace(obs, joints=joints), *rest)
        assert info.status & Status.NONFINITE
        assert np.isfinite(plan.u).all()


def test_a_model_that_was_fitted_again_takes_the_place_of_the_weights_in_eight_bits():
    first = obedient(ARM, facts=ACCEPTED)
    params = {**first.params, "w1": np.asarray(first.params["w1"] * np.float32(0.9))}
    other = dataclasses.replace(first, params=params)
    made, _ = engaged(first)
    arguments = situation(made)
    before = made.improve(*arguments)[2].cost
    made.swap(other)
    after = made.improve(*arguments)[2].cost
    assert after == engaged(other)[0].improve(*arguments)[2].cost != before
    with pytest.raises(engine.EngineError, match="card does not say that plans in eight bits stood the test"):
        made.swap(dataclasses.replace(first, facts={}))
    assert made.improve(*arguments)[2].cost == after


@pytest.mark.parametrize(
    ("facts", "config", "said"),
    [
        ({}, {}, "card does not say that plans in eight bits stood the test; it takes a model of 'mbrl export RUN"),
        ({**ACCEPTED, "int8": {"accepted": False, "weights_sha256": "a"}}, {}, "card does not say"),
        ({**ACCEPTED, "int8": {"accepted": "no", "weights_sha256": "a"}}, {}, "card does not say"),
        ({**ACCEPTED, "int8": "yes"}, {}, "card does not say"),
        ({**ACCEPTED, "sha256": {WEIGHTS: "b"}}, {}, "card does not say"),
        ({"int8": ACCEPTED["int8"]}, {}, "card does not say"),
        (ACCEPTED, {"use": "numpy"}, "engine.int8 = true with engine.use = numpy: it takes graphs on the CPU"),
        (ACCEPTED, {"provider": "cuda"}, "engine.int8 = true with engine.provider = cuda: it takes graphs on the CPU"),
    ],
)
def test_eight_bits_are_refused_where_nobody_knows_what_they_are_worth(facts, config, said):
    with pytest.raises(engine.EngineError, match=said) as refused:
        engaged(obedient(ARM, facts=facts), **config)
    assert "\n" not in str(refused.value)


def test_eight_bits_are_refused_of_a_model_without_layers():
    def made(xp):
        model = registry.make("dynamics", "kinematic", ARM, xp, overrides={"dt": 0.05})
        return registry.make("planners", "mppi", REACH, model, xp, overrides={"samples": 8, "horizon": 4})

    with pytest.raises(engine.EngineError, match="int8 = true with 'Kinematic', which has no layers: it takes a model"):
        engine.engaged(engine.Config(int8=True), made)
