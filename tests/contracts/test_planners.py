"""What every planner promises, on every task, robot and model that it accepts."""

from __future__ import annotations

import dataclasses
import math

import array_api_compat.torch as torch_xp
import numpy as np
import pytest

from mbrl_control import core, registry
from mbrl_control.core import BackEndError, Goal, MbrlError, Observation, Plan, State, Status
from mbrl_control.sampling import Case, Sampling

from .combinations import (
    BY_DERIVATIVES,
    HORIZON,
    LEARNED,
    NUMPY_ONLY,
    Names,
    Parts,
    accepted,
    build,
    chosen,
    equal,
    frozen,
    goal_for,
    make,
    observe,
    on_torch,
    refused,
)

KINDS = ("tasks", "dynamics", "planners")
COMBINATIONS = pytest.mark.parametrize("names", chosen(accepted(*KINDS)))
ALL_BACK_ENDS = [names for names in accepted(*KINDS) if names.dynamics not in NUMPY_ONLY]
LOST = Status.NONFINITE | Status.STALE_STATE
NARROWED = 6
"""Calls at one time after which CEM's deviation has come down to its floor."""


@pytest.fixture(autouse=True)
def shapes_are_checked(monkeypatch):
    monkeypatch.setattr(core, "SHAPE_CHECKS", True)


def started(parts: Parts, t: float = 1.0, near_limits: bool = False):
    """Arguments of the second call of ``improve``, a while after the first, and the first call's plan."""
    planner, goal, rng = parts.planner, goal_for(parts), np.random.default_rng(1)
    obs = observe(parts, t, near_limits)
    carry, plan, info = planner.improve(obs, goal, planner.knobs(), planner.init(obs), planner.noise(rng))
    assert info.status == Status.OK
    q, v = (plan.q[1] + plan.q[0]) / 2, plan.v[1]
    later = Observation(t + 0.4 * plan.dt, State(t + 0.3 * plan.dt, q, v), obs.blocks, obs.stamps)
    return (later, goal, planner.knobs(), carry, planner.noise(rng)), plan


def same_plan(a: Plan, b: Plan) -> bool:
    arrays = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("q", "v", "u"))
    return arrays and (a.t0, a.dt, a.state_stamp, a.seq) == (b.t0, b.dt, b.state_stamp, b.seq)


def test_every_planner_task_robot_and_model_is_accepted_somewhere():
    found = accepted(*KINDS)
    for kind, field in (("robots", "robot"), ("tasks", "task"), ("dynamics", "dynamics"), ("planners", "planner")):
        assert {getattr(names, field) for names in found} == set(registry.names(kind))


@pytest.mark.parametrize(("names", "refusal"), refused(*KINDS))
def test_a_refusal_says_what_and_what_would_do(names, refusal):
    assert isinstance(refusal, MbrlError)
    assert names.robot in str(refusal)
    assert len(str(refusal)) > 30
    assert "\n" not in str(refusal)


@COMBINATIONS
def test_improve_is_pure(names):
    parts = build(names)
    arguments, _ = started(parts)
    once = parts.planner.improve(*(frozen(x) for x in arguments))
    twice = make(names).planner.improve(*(frozen(x) for x in arguments))
    assert equal(once[0], twice[0])
    assert same_plan(once[1], twice[1])
    assert once[2].terms == twice[2].terms
    assert equal(once[2].predicted, twice[2].predicted)


@COMBINATIONS
def test_a_plan_has_the_robots_shapes_and_its_own_time(names):
    parts = build(names)
    planner, robot = parts.planner, parts.robot
    arguments, first = started(parts)
    carry, plan, info = planner.improve(*arguments)
    obs = arguments[0]
    assert plan.q.shape == plan.v.shape == (HORIZON + 1, robot.nj)
    assert plan.u.shape == (planner.horizon, robot.nu) == (HORIZON, robot.nu)
    assert core.is_finite(plan.q, plan.v, plan.u)
    assert (plan.t0, plan.dt, plan.mode) == (obs.t, planner.dt, robot.channels.mode)
    assert (plan.state_stamp, plan.seq) == (obs.joints.t, first.seq + 1)
    assert {name: (t.shape, t.dtype) for name, t in carry.items()} == {
        name: (t.shape, t.dtype) for name, t in planner.init(obs).items()
    }
    assert set(info.terms) == set(parts.task.terms)
    assert info.cost == pytest.approx(sum(info.terms.values()))
    assert 1.0 <= info.effective_samples <= 8.0
    assert all(array.shape[0] == HORIZON + 1 for array in info.predicted.values())


@COMBINATIONS
def test_controls_stay_inside_the_bounds(names):
    parts = build(names)
    planner, rng, obs, goal = parts.planner, np.random.default_rng(0), observe(parts), goal_for(parts)
    carry = planner.init(obs)
    low, high = parts.dynamics.bounds()
    for _ in range(3):
        wild = {name: draw * 1e3 for name, draw in planner.noise(rng).items()}
        carry, plan, _ = planner.improve(obs, goal, planner.knobs(), carry, wild)
        assert np.all((plan.u >= low) & (plan.u <= high))


@COMBINATIONS
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_state_that_is_not_finite_gives_a_status_and_the_old_plan(names, value):
    parts = build(names)
    (obs, *rest), before = started(parts)
    lost = np.full(parts.robot.nj, value)
    broken = {
        "q": dataclasses.replace(obs, joints=dataclasses.replace(obs.joints, q=lost)),
        "v": dataclasses.replace(obs, joints=dataclasses.replace(obs.joints, v=lost)),
        "stamp": dataclasses.replace(obs, joints=dataclasses.replace(obs.joints, t=value)),
        "t": dataclasses.replace(obs, t=value),
    }
    for bad, seen in broken.items():
        with np.errstate(invalid="ignore"):
            carry, plan, info = parts.planner.improve(seen, *rest)
        assert info.status & LOST, bad
        assert same_plan(plan, before), bad
        assert equal(carry, rest[2]), bad


class Broken:
    """A model that has blown up."""

    def __init__(self, dynamics):
        self.dynamics = dynamics

    def __getattr__(self, name):
        return getattr(self.dynamics, name)

    def step(self, s, u, noise):
        s, features, aux = self.dynamics.step(s, u, noise)
        return s, {name: value * math.nan for name, value in features.items()}, aux

    def rollout(self, s, u, noise):
        return core.stepwise(np, self, s, u, noise)


@COMBINATIONS
@pytest.mark.parametrize("cause", ["model", "goal", "weights"])
def test_where_no_rollout_is_finite_the_old_plan_stays(names, cause):
    parts = build(names)
    (obs, goal, knobs, carry, noise), before = started(parts)
    planner = parts.planner
    if cause == "model":
        planner = type(planner)(planner.config, parts.task, Broken(parts.dynamics), np)
    elif cause == "goal":
        goal = Goal(goal.value * math.nan, goal.tolerance, goal.dwell)
    else:
        knobs = {**knobs, "weights": knobs["weights"] * math.nan}
    after, plan, info = planner.improve(obs, goal, knobs, carry, noise)
    assert info.status & Status.NONFINITE
    assert same_plan(plan, before)
    assert equal(after, carry)
    assert info.cost == math.inf


@COMBINATIONS
def test_before_anything_was_ever_finite_the_plan_stays_where_the_robot_is(names):
    parts = build(names)
    planner, obs, goal = parts.planner, observe(parts), goal_for(parts)
    noise = planner.noise(np.random.default_rng(0))
    nowhere = Goal(goal.value * math.nan, goal.tolerance, goal.dwell)
    _, plan, info = planner.improve(obs, nowhere, planner.knobs(), planner.init(obs), noise)
    assert info.status & Status.NONFINITE
    assert np.array_equal(plan.q, np.broadcast_to(obs.joints.q, plan.q.shape))
    assert not plan.v.any()
    blind = dataclasses.replace(obs, joints=dataclasses.replace(obs.joints, q=obs.joints.q * math.nan))
    _, plan, info = planner.improve(blind, goal, planner.knobs(), planner.init(blind), noise)
    assert info.status & LOST
    assert core.is_finite(plan.q, plan.v, plan.u)


def settled(parts: Parts, near_limits: bool):
    """Arguments of a call after many at one time: what narrows from call to call is narrow; now, and a while later."""
    planner, goal, rng = parts.planner, goal_for(parts), np.random.default_rng(2)
    obs = observe(parts, near_limits=near_limits)
    carry = planner.init(obs)
    for _ in range(NARROWED):
        carry, _, _ = planner.improve(obs, goal, planner.knobs(), carry, planner.noise(rng))
    for t in (obs.t, obs.t + 0.4 * planner.dt):
        yield dataclasses.replace(obs, t=t), goal, planner.knobs(), carry, planner.noise(rng)


def worth_an_effort(names: Names) -> bool:
    """Whether a knob has something to turn: of made-up motion, where the task does not make doing nothing the best.

    What is charged near obstacles alone is turned in ``tests/maths/test_clutter.py``. Samples about no torque let an
    arm fall, whatever the knobs. Derivatives by MuJoCo's differences, or by tangents of an arm's motion, take minutes.
    """
    if names.task == "clutter" or (names.dynamics == "mujoco" and names.planner in BY_DERIVATIVES):
        return False
    if names.robot == "pusher" and names.dynamics in LEARNED:
        return False
    if names.dynamics == "analytic" and names.planner in BY_DERIVATIVES and build(names).robot.nj > 2:
        return False
    if names.robot == "panda_torque" and names.planner not in BY_DERIVATIVES:
        return False
    return names.dynamics not in LEARNED or names.task in ("reach", "track", "swing_up")


def effortless(parts: Parts, weights: np.ndarray) -> np.ndarray:
    """The weights, effort almost for nothing: where it is dear, of a few samples the best is to do nothing."""
    return weights * np.array([1e-4 if name == "effort" else 1.0 for name in parts.task.terms])


@pytest.mark.parametrize("names", chosen(n for n in accepted(*KINDS) if worth_an_effort(n)))
def test_every_knob_turns_something(names):
    parts = build(names)
    left = [(name, index) for name, knob in parts.planner.knobs().items() for index in np.ndindex(np.shape(knob))]
    for near_limits in (False, True):
        for obs, goal, knobs, carry, noise in (
            started(parts, near_limits=near_limits)[0],
            *settled(parts, near_limits),
        ):
            if names.planner not in BY_DERIVATIVES:
                knobs = {**knobs, "weights": effortless(parts, knobs["weights"])}
            after, plan, info = parts.planner.improve(obs, goal, knobs, carry, noise)
            _, again, _ = parts.planner.improve(obs, goal, knobs, after, noise)
            for name, index in tuple(left):
                turned = {**knobs, name: np.array(knobs[name])}
                turned[name][index] *= 0.5
                after, other, changed = parts.planner.improve(obs, goal, turned, carry, noise)
                if np.array_equal(plan.u, other.u) and info.terms == changed.terms:
                    _, other, _ = parts.planner.improve(obs, goal, turned, after, noise)
                    if np.array_equal(again.u, other.u):
                        continue
                left.remove((name, index))
    assert not left


def draws_of(parts: Parts, noise: core.Noise) -> core.Noise:
    """Those draws of a planner's that are its model's."""
    if not isinstance(parts.dynamics, core.Particles):
        return {}
    own = parts.dynamics.noise(np.random.default_rng(0), HORIZON)
    return {name: noise[name] for name in own if name in noise}


def cost_of(parts: Parts, obs: Observation, goal: Goal, u: np.ndarray, draws: core.Noise) -> float:
    if not parts.planner.noise(np.random.default_rng(0)):  # planned with the mean of a model
        s = parts.dynamics.init(obs, {})
        features, _ = core.rollout(np, parts.dynamics, s, u, {})
        weights = np.asarray([term.weight for term in parts.task.terms.values()])
        return float(core.costs(np, parts.task, weights, features, u, goal.value).sum())
    on = Sampling("any", parts.planner.dt, parts.planner.horizon, parts.task, parts.dynamics, np)
    case = Case(parts.dynamics.init(obs, draws), goal.value, on.weights(), draws)
    return float(on.evaluate(u[None], case).cost[0])


@COMBINATIONS
def test_without_noise_a_later_plan_is_the_old_one_shifted_in_time(names):
    """Controls keep their times: whole steps exactly, fractions by interpolation; the last one lasts.

    Or it costs less: a planner that executes the best it knows may know a better one.
    """
    parts = build(names)
    (obs, goal, knobs, carry, noise), _ = started(parts, t=1.0)
    planner = parts.planner
    carry, before, _ = planner.improve(obs, goal, knobs, carry, noise)
    silent = {name: np.zeros_like(draw) for name, draw in noise.items()}
    held = np.concatenate([np.zeros((1, parts.robot.nu)), before.u])  # nothing was in force before the first
    for steps in (0.0, 0.25, 1.0, 2.0, 10.0, -1.0):
        later = dataclasses.replace(obs, t=before.t0 + steps * before.dt)
        _, after, info = planner.improve(later, goal, knobs, carry, silent)
        assert info.status == Status.OK, steps
        place = np.clip(np.arange(1, HORIZON + 1) + steps, 0.0, HORIZON)
        expected = np.stack([np.interp(place, np.arange(HORIZON + 1), channel) for channel in held.T], axis=-1)
        inside = place >= 1.0
        if not np.allclose(after.u[inside], expected[inside], rtol=0.0, atol=1e-12):
            kept = cost_of(parts, later, goal, expected, draws_of(parts, silent))
            assert steps < 0.0 or info.cost < kept + 1e-12, steps
            continue
        np.testing.assert_allclose(after.u[inside], expected[inside], rtol=0.0, atol=1e-12, err_msg=str(steps))
        if steps == 0.0:
            assert np.array_equal(after.u, before.u)


@pytest.mark.parametrize("names", chosen(on_torch(accepted(*KINDS))))
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_torch_gives_the_same_plan(names):
    arguments, _ = started(build(names))
    carry, plan, info = build(names).planner.improve(*arguments)
    torch_carry, torch_plan, torch_info = build(names, torch_xp).planner.improve(*arguments)
    for name, value in {"q": plan.q, "v": plan.v, "u": plan.u}.items():
        np.testing.assert_allclose(getattr(torch_plan, name).numpy(), value, rtol=1e-6, atol=1e-9)
    assert torch_carry.keys() == carry.keys()
    assert (torch_plan.t0, torch_plan.state_stamp, torch_plan.seq) == (plan.t0, plan.state_stamp, plan.seq)
    assert torch_info.cost == pytest.approx(info.cost, rel=1e-9)


@pytest.mark.parametrize("names", chosen(n for n in ALL_BACK_ENDS if n.planner in BY_DERIVATIVES))
def test_what_takes_derivatives_refuses_torch_by_name(names):
    with pytest.raises(BackEndError, match=f"planner '{names.planner}' for robot '{names.robot}'.*numpy only"):
        make(names, torch_xp)


@COMBINATIONS
def test_a_step_that_is_not_the_models_is_refused_naming_both(names):
    with pytest.raises(MbrlError, match=r"0\.123.*0\.05|0\.05.*0\.123"):
        make(names, planner={"dt": 0.123})
