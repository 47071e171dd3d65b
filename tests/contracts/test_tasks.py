"""What every task promises, on every robot that it accepts."""

from __future__ import annotations

import array_api_compat.torch as torch_xp
import casadi
import numpy as np
import onnxruntime
import pytest
import torch

from mbrl_control import casadi_graph, core
from mbrl_control.core import NORMS, GoalError, Observation, State
from mbrl_control.onnx_graph import Recorder, graph

from .combinations import accepted, as_without_obstacles, build, observe

ROWS = 5
SINGLE = 1e-5
"""What graphs, which compute in single precision, agree to."""


def as_parameter(names):
    """A task that reads none of what its robot sees is the same there as on any other robot: slow."""
    try:
        parts = build(names)
        alike = (parts.robot.blocks and not parts.task.layout.blocks) or as_without_obstacles(names)
    except Exception:  # it is in here to fail its tests
        alike = False
    return pytest.param(names, id=str(names), marks=pytest.mark.slow if alike else ())


COMBINATIONS = pytest.mark.parametrize("names", [as_parameter(names) for names in accepted("tasks")])


@pytest.fixture(autouse=True)
def shapes_are_checked(monkeypatch):
    monkeypatch.setattr(core, "SHAPE_CHECKS", True)


def inputs(parts):
    """Features, controls and goals of a few states, some of them near the ends of the joints."""
    rng = np.random.default_rng(0)
    robot, task = parts.robot, parts.task
    share = np.linspace(0.1, 0.99, ROWS)[:, None]
    features = {
        "q": robot.limits.lower + (robot.limits.upper - robot.limits.lower) * share,
        "v": rng.uniform(-1.0, 1.0, (ROWS, robot.nj)) * robot.limits.velocity,
    }
    features |= {block.name: rng.uniform(-1.0, 1.0, (ROWS, block.size)) for block in task.layout.blocks}
    u = rng.uniform(-1.0, 1.0, (ROWS, robot.nu)) * robot.channels.bound
    goal = np.stack([task.sample_goal(rng) for _ in range(ROWS)])
    if task.goal_size == 3:  # close to the tip, where terms that act near a goal are awake
        goal[1:] = robot.tip(np, features["q"][1:]) + rng.uniform(-0.1, 0.1, (ROWS - 1, 3))
    return features, u, goal


def by_onnx(task, features, u, goal):
    recorder = Recorder()
    given = {**features, "u": u, "goal": goal}
    inputs = {name: recorder.input(name, x.shape) for name, x in given.items()}
    seen = {name: inputs[name] for name in features}
    residuals = task.residuals(recorder, seen, inputs["u"], inputs["goal"])
    data = graph(recorder, {f"r/{name}": r for name, r in residuals.items()}, {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {x.name: given[x.name].astype(np.float32) for x in session.get_inputs()}
    names = [x.name.removeprefix("r/") for x in session.get_outputs()]
    return dict(zip(names, session.run(None, feed), strict=True))


def by_casadi(task, features, u, goal):
    xp = casadi_graph.namespace()
    rows = []
    symbols = {name: casadi_graph.symbols(name, x.shape[-1]) for name, x in features.items()}
    control, wanted = casadi_graph.symbols("u", u.shape[-1]), casadi_graph.symbols("goal", goal.shape[-1])
    residuals = task.residuals(xp, symbols, control, wanted)
    arguments = [casadi_graph.column(x) for x in (*symbols.values(), control, wanted)]
    function = casadi.Function("r", arguments, [casadi_graph.column(r) for r in residuals.values()])
    for row in range(ROWS):
        values = function(*(x[row] for x in features.values()), u[row], goal[row])
        rows.append([np.asarray(value).ravel() for value in (values if isinstance(values, tuple) else (values,))])
    return {name: np.stack(column) for name, column in zip(residuals, zip(*rows, strict=True), strict=True)}


def by_torch(task, features, u, goal):
    tensors = {name: torch.asarray(x) for name, x in features.items()}
    found = task.residuals(torch_xp, tensors, torch.asarray(u), torch.asarray(goal))
    return {name: r.numpy() for name, r in found.items()}


@COMBINATIONS
@pytest.mark.parametrize("back_end", [by_torch, by_onnx, by_casadi], ids=lambda f: f.__name__[3:])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_residuals_are_the_same_on_every_back_end(names, back_end):
    parts = build(names)
    if back_end is by_casadi and parts.task.sampling_only:
        pytest.skip(f"{names.task} declares itself sampling-only")
    features, u, goal = inputs(parts)
    expected = parts.task.residuals(np, features, u, goal)
    found = back_end(parts.task, features, u, goal)
    assert set(found) == set(expected)
    largest = max(float(np.abs(x).max()) for x in (*features.values(), u, goal))
    scale = max(1.0, largest) if back_end is by_onnx else 1.0
    for name, value in expected.items():
        close = SINGLE if back_end is by_onnx else 1e-6
        np.testing.assert_allclose(found[name], value, rtol=close, atol=close * scale, err_msg=name)


@COMBINATIONS
def test_every_term_has_a_residual_and_a_norm(names):
    parts = build(names)
    features, u, goal = inputs(parts)
    residuals = parts.task.residuals(np, features, u, goal)
    assert set(residuals) == set(parts.task.terms)
    for name, term in parts.task.terms.items():
        assert residuals[name].shape[:-1] == (ROWS,)
        assert np.isfinite(NORMS[term.norm](np, residuals[name], term.p)).all()
        assert term.weight >= 0.0
        assert term.p > 0.0


@COMBINATIONS
def test_residuals_carry_any_leading_axes_and_read_only_one_step(names):
    parts = build(names)
    features, u, goal = inputs(parts)
    flat = parts.task.residuals(np, features, u, goal)
    deep = parts.task.residuals(np, {n: x[None] for n, x in features.items()}, u[None], goal[None])
    each = [parts.task.residuals(np, {n: x[k] for n, x in features.items()}, u[k], goal[k]) for k in range(ROWS)]
    for name, value in flat.items():
        assert np.array_equal(deep[name][0], value)
        np.testing.assert_allclose(np.stack([row[name] for row in each]), value, rtol=0.0, atol=1e-12)


@COMBINATIONS
def test_residuals_keep_single_precision(names):
    parts = build(names)
    features, u, goal = inputs(parts)
    single = {n: torch.asarray(x, dtype=torch.float32) for n, x in features.items()}
    found = parts.task.residuals(
        torch_xp, single, torch.asarray(u, dtype=torch.float32), torch.asarray(goal, dtype=torch.float32)
    )
    assert {r.dtype for r in found.values()} == {torch.float32}


@COMBINATIONS
def test_episodes_start_inside_the_limits_and_can_be_repeated(names):
    parts = build(names)
    for seed in range(20):
        state = parts.task.reset(np.random.default_rng(seed))
        again = parts.task.reset(np.random.default_rng(seed))
        assert np.array_equal(state.q, again.q)
        assert np.all((state.q >= parts.robot.limits.lower) & (state.q <= parts.robot.limits.upper))
        assert not parts.task.terminal(Observation(state.t, state))


@COMBINATIONS
def test_its_own_goals_are_accepted_and_wrong_ones_refused(names):
    task = build(names).task
    for seed in range(6):
        goal = task.sample_goal(np.random.default_rng(seed))
        assert goal.shape == (task.goal_size,)
        assert np.array_equal(goal, task.sample_goal(np.random.default_rng(seed)))
        task.check_goal(goal)
    nowhere = np.full(task.goal_size, np.nan)
    for wrong in (
        nowhere,
        np.full(task.goal_size, np.inf),
        np.append(goal, 0.0),
        goal[:-1],
        goal[None],
        goal + 1e6,
        "there",
    ):
        with pytest.raises(GoalError, match=r"goal .*: .*takes"):
            task.check_goal(wrong)


@COMBINATIONS
def test_distance_success_score_and_terminal_agree(names):
    parts = build(names)
    task = parts.task
    obs = observe(parts)
    goal = task.sample_goal(np.random.default_rng(3))
    assert task.distance(obs, goal) >= 0.0
    assert task.success(obs, goal) == (task.distance(obs, goal) <= task.tolerance)
    assert np.isfinite(task.score(obs, np.zeros(parts.robot.nu), obs, goal))
    assert not task.terminal(obs)
    lost = State(obs.t, obs.joints.q * np.nan, obs.joints.v)
    assert task.terminal(Observation(obs.t, lost))
    beyond = State(obs.t, parts.robot.limits.upper + 1.0, obs.joints.v)
    assert task.terminal(Observation(obs.t, beyond))
