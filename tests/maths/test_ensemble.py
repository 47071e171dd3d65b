"""The learned model and its particles, with members made by hand; and how planners average over them."""

from __future__ import annotations

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch

from mbrl_control import core, registry
from mbrl_control.core import Block, Mode, Observation, State
from mbrl_control.dynamics import ensemble
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.model import (
    COMMANDS,
    GIVE,
    REFERENCE,
    Model,
    ModelError,
    advanced,
    changes,
    inputs,
    spec_for,
)
from mbrl_control.networks import Net, initial
from mbrl_control.sampling import INFINITE, Case, Sampling

from .learned import DT, constant, pendulum

HORIZON, SAMPLES, MEMBERS = 4, 3, 2
DRIFTS = np.array([[0.01, 0.1], [-0.02, 0.3]])
"""What each of two members adds to (q, v) in a step."""


def start(q=0.5, v=0.0):
    return Observation(0.0, State(0.0, np.array([q]), np.array([v])))


def made(model, robot=None, xp=np, **settings):
    config = ensemble.Config(**{"precision": "float64", **settings})
    return ensemble.of(model, robot or pendulum(), xp, config)


def drifting(**settings):
    return made(constant(spec_for(pendulum(), DT), DRIFTS), **settings)


def rolled(dynamics, u, draws, obs=None):
    return core.rollout(np, dynamics, dynamics.scatter(dynamics.init(obs or start(), draws)), u, draws)


U = np.zeros((SAMPLES, HORIZON, 1))
STEPS = np.arange(HORIZON + 1)


def test_each_particle_keeps_its_member_under_ts_inf():
    dynamics = drifting(particles=5)
    features, _ = rolled(dynamics, U, dynamics.noise(np.random.default_rng(0), HORIZON))
    assert features["q"].shape == (5, SAMPLES, HORIZON + 1, 1)
    for p, member in enumerate([0, 0, 0, 1, 1]):
        expected = 0.5 + DRIFTS[member, 0] * STEPS
        np.testing.assert_allclose(features["q"][p, :, :, 0], np.broadcast_to(expected, (SAMPLES, 5)), atol=1e-7)


def test_members_are_dealt_anew_in_each_step_under_ts1():
    """By a permutation: in every step each member has as many particles, whoever they are."""
    dynamics = drifting(particles=6, propagation="ts1")
    draws = dynamics.noise(np.random.default_rng(0), HORIZON)
    features, _ = rolled(dynamics, U, draws)
    moved = np.diff(features["v"][..., 0], axis=-1)
    owner = np.argmin(np.abs(moved[..., None] - DRIFTS[:, 1]), axis=-1)
    np.testing.assert_allclose(moved, DRIFTS[owner, 1], atol=1e-7)
    assert np.all(owner == owner[:, :1])
    assert np.all((owner == 0).sum(axis=0) == 3)
    order = np.argsort(draws[ensemble.DEAL][:, 0, :, 0], axis=0)
    ranks = np.argsort(order, axis=0)
    assert np.array_equal(owner[:, 0], ranks // 3)
    assert len(np.unique(owner[:, 0], axis=1).T) > 1


def test_without_draws_ts1_leaves_members_where_they_are():
    silent = {name: draw * 0.0 for name, draw in drifting(propagation="ts1").noise(np.random.default_rng(0), 4).items()}
    kept, _ = rolled(drifting(propagation="ts1"), U, silent)
    expected, _ = rolled(drifting(), U, {})
    np.testing.assert_array_equal(kept["v"], expected["v"])


def test_without_particles_it_is_the_mean_of_the_members():
    dynamics = drifting()
    features, _ = core.rollout(np, dynamics, dynamics.init(start(), {}), U, {})
    for name, drift in zip(("q", "v"), DRIFTS.mean(axis=0), strict=True):
        first = getattr(start().joints, name)[0]
        expected = np.broadcast_to(first + drift * STEPS, (SAMPLES, HORIZON + 1))
        np.testing.assert_allclose(features[name][..., 0], expected, atol=1e-7)


def test_noise_has_the_members_deviation_and_is_common_to_all_samples():
    model = constant(spec_for(pendulum(), DT), np.zeros((1, 2)), deviation=0.2)
    dynamics = made(model, particles=4000)
    draws = dynamics.noise(np.random.default_rng(0), HORIZON)
    assert draws[ensemble.WHITE].shape == (4000, 1, HORIZON, 2)
    features, _ = rolled(dynamics, U, draws)
    moved = np.diff(features["q"][..., 0], axis=-1)
    assert moved[:, 0].std() == pytest.approx(0.2, rel=0.03)
    assert np.array_equal(moved[:, 0], moved[:, 1])
    calm = made(model, propagation="mean")
    assert calm.noise(np.random.default_rng(0), HORIZON) == {}


@pytest.mark.parametrize("propagation", ["ts_inf", "ts1", "mean"])
@pytest.mark.parametrize("scattered", [False, True])
def test_a_rollout_is_one_step_after_another(propagation, scattered):
    dynamics = random_model("panda", propagation=propagation)
    rng = np.random.default_rng(3)
    u = rng.uniform(-1.0, 1.0, (SAMPLES, HORIZON, dynamics.robot.nu))
    draws = dynamics.noise(rng, HORIZON) if scattered else {}
    s = dynamics.init(arm_at_rest(dynamics.robot), draws)
    s = dynamics.scatter(s) if scattered else s
    once, by_steps = dynamics.rollout(s, u, draws), core.stepwise(np, dynamics, s, u, draws)
    for found, expected in zip(once, by_steps, strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12)


def test_disagreement_is_the_deviation_of_the_members_means_and_the_odd_one_is_told():
    said = np.array([[0.0, 0.0], [0.0, 0.0], [0.3, 0.4]])
    dynamics = made(constant(spec_for(pendulum(), DT), said))
    found = dynamics.measure(dynamics.init(start(), {}), np.zeros((SAMPLES, 1)))
    spread = np.sqrt(np.mean(said.var(axis=0)))
    odd = np.sqrt(np.mean(np.square(said[2])))  # the others agree on zero
    np.testing.assert_allclose(found["disagreement"], np.full((SAMPLES, 1), spread), rtol=1e-6)
    np.testing.assert_allclose(found["one_vs_rest"], np.full((SAMPLES, 1), odd), rtol=1e-6)
    _, aux = core.rollout(np, dynamics, dynamics.init(start(), {}), U, {})
    np.testing.assert_allclose(aux["disagreement"], spread, rtol=1e-6)
    _, apart = rolled(dynamics, U, {})
    np.testing.assert_allclose(apart["disagreement"][:, 0], spread, rtol=1e-6)
    np.testing.assert_allclose(apart["one_vs_rest"][2, :, 0], odd, rtol=1e-6)
    assert np.all(np.diff(apart["disagreement"][..., 0], axis=-1) > 0.0)  # particles go apart


def test_the_cost_is_the_mean_over_particles_and_not_that_of_the_mean():
    robot = pendulum()
    task = registry.make("tasks", "swing_up", robot)
    dynamics = made(constant(spec_for(robot, DT), np.array([[0.4, 0.0], [-0.4, 0.0]])))
    on = Sampling("any", DT, HORIZON, task, dynamics, np)
    goal = np.zeros((HORIZON + 1, 1))
    tried = on.evaluate(U, Case(dynamics.init(start(0.0), {}), goal, on.weights(), {}))
    features, _ = rolled(dynamics, U, {}, start(0.0))
    each = [
        core.costs(np, task, on.weights(), {name: rows[p] for name, rows in features.items()}, U, goal) for p in (0, 1)
    ]
    np.testing.assert_allclose(tried.terms, np.mean(each, axis=0))
    np.testing.assert_allclose(tried.cost, np.mean(each, axis=0).sum(axis=-1))
    np.testing.assert_allclose(tried.features["q"], 0.0, atol=1e-7)  # on average it stays upright...
    np.testing.assert_allclose(tried.spread["q"][0, :, 0], 0.4 * STEPS, atol=1e-6)
    assert tried.cost[0] > 0.5  # ... and yet it falls


def test_one_particle_that_is_not_finite_makes_its_sample_infinite():
    dynamics = drifting()
    on = Sampling("any", DT, HORIZON, registry.make("tasks", "swing_up", pendulum()), dynamics, np)
    u = np.zeros((SAMPLES, HORIZON, 1))
    u[1] = np.nan
    tried = on.evaluate(u, Case(dynamics.init(start(), {}), np.zeros((HORIZON + 1, 1)), on.weights(), {}))
    assert tried.cost[1] == INFINITE

    class OneLost:
        dt, particles = DT, 2

        def __getattr__(self, name):
            return getattr(dynamics, name)

        def rollout(self, s, u, noise):
            features, aux = dynamics.rollout(s, u, noise)
            lost = np.where(np.arange(2)[:, None, None, None] * np.arange(SAMPLES)[:, None, None] == 2, np.nan, 1.0)
            return {name: rows * lost for name, rows in features.items()}, aux

    on.dynamics = OneLost()
    tried = on.evaluate(U, Case(dynamics.init(start(), {}), np.zeros((HORIZON + 1, 1)), on.weights(), {}))
    assert tried.cost[2] == INFINITE
    assert np.all(tried.cost[:2] < INFINITE)


def random_model(name="panda", xp=np, *, latency=0, structure="delta", blocks=(), **settings):
    robot = registry.make("robots", name)
    spec = spec_for(robot, DT, latency=latency, structure=structure, blocks=blocks)
    net = Net(3, len(spec.input_names), (8,), len(spec.output_names))
    rng = np.random.default_rng(5)
    params = initial(net, rng)
    norm = {
        "input_mean": net.inputs,
        "input_scale": net.inputs,
        "output_mean": net.outputs,
        "output_scale": net.outputs,
    }
    params |= {key: rng.uniform(0.05, 0.2, n).astype(np.float32) for key, n in norm.items()}
    return made(Model(spec, net, params), robot, xp, **settings)


def arm_at_rest(robot, **blocks):
    reference = np.concatenate([robot.home + 0.1, np.full(robot.nj, 0.2)])
    return Observation(1.0, State(1.0, robot.home, np.zeros(robot.nj)), {REFERENCE: reference, **blocks})


def test_the_reference_moves_as_the_exact_model_says_and_is_what_plans_are_made_of():
    dynamics = random_model()
    robot, obs = dynamics.robot, arm_at_rest(dynamics.robot)
    u = np.random.default_rng(1).uniform(-2.0, 2.0, (SAMPLES, HORIZON, robot.nu))
    exact = Kinematic(DT, robot, np)
    expected, _ = core.rollout(np, exact, exact.init(obs, {}), u, {})
    for s in (dynamics.init(obs, {}), dynamics.scatter(dynamics.init(obs, {}))):
        features, _ = core.rollout(np, dynamics, s, u, {})
        q, v = dynamics.plan(features, u)
        np.testing.assert_allclose(q, np.broadcast_to(expected["q"], q.shape), rtol=1e-12)
        np.testing.assert_allclose(v, np.broadcast_to(expected["v"], v.shape), rtol=1e-12)
        assert np.abs(features["q"] - q).max() > 0.01


def test_what_the_network_reads_and_predicts_is_as_the_page_says():
    robot = registry.make("robots", "cartpole")
    spec = spec_for(robot, DT, latency=2)
    state = {"q": np.array([0.3, 7.0]), "v": np.array([1.0, 2.0]), COMMANDS: np.array([5.0, 6.0])}
    found = inputs(spec, np, state, np.array([8.0]))
    np.testing.assert_allclose(found, [0.3, np.sin(7.0), np.cos(7.0), 1.0, 2.0, 5.0, 6.0, 8.0])
    assert len(spec.input_names) == 8
    assert spec.parts[0].kinds == ("linear", "angle")
    assert spec.parts[0].units == ("m", "rad")
    after = {"q": np.array([0.4, 7.1 - 2 * np.pi]), "v": np.array([1.5, 1.0])}
    np.testing.assert_allclose(changes(spec, np, state, after), [0.1, 0.1, 0.5, -1.0])
    arm = spec_for(registry.make("robots", "panda"), DT)
    assert len(arm.input_names) == 7 + 7 + 7 + 7 + 7


def test_the_last_commands_are_remembered_newest_last():
    dynamics = random_model("cartpole", latency=2)
    obs = Observation(0.0, State(0.0, dynamics.robot.home, np.zeros(2)), {COMMANDS: np.array([9.0, 1.0, 2.0])})
    s = dynamics.init(obs, {})
    np.testing.assert_array_equal(s[COMMANDS], [1.0, 2.0])
    s, _, _ = dynamics.step(s, np.array([3.0]), {})
    np.testing.assert_array_equal(s[COMMANDS], [2.0, 3.0])
    with pytest.raises(ModelError, match="block 'commands' of the observation, none: this model takes 2 numbers"):
        dynamics.init(start(), {})


def test_a_pushed_object_is_a_part_of_the_state():
    block = Block("object", 3, "m", "linear", "camera", 0.1)
    dynamics = random_model("panda", blocks=(block,))
    obs = arm_at_rest(dynamics.robot, object=np.array([0.1, 0.2, 0.3]))
    features, _ = rolled(dynamics, np.zeros((SAMPLES, HORIZON, 7)), {}, obs)
    assert features["object"].shape == (3, SAMPLES, HORIZON + 1, 3)
    np.testing.assert_array_equal(features["object"][0, 0, 0], [0.1, 0.2, 0.3])
    with pytest.raises(ModelError, match="'pose' of kind quaternion"):
        spec_for(dynamics.robot, DT, blocks=(Block("pose", 4, "", "quaternion", "camera", 0.1),))


def test_positions_follow_from_accelerations():
    dynamics = random_model("pendulum", structure="acceleration")
    assert dynamics.spec.output_names == ("v[0]",)
    features, _ = rolled(dynamics, U, dynamics.noise(np.random.default_rng(0), HORIZON))
    v = features["v"]
    np.testing.assert_allclose(np.diff(features["q"], axis=-2), DT * (v[..., 1:, :] + v[..., :-1, :]) / 2, atol=1e-12)


def test_joints_measured_before_the_reference_are_moved_on():
    """By steps and a share of one, along the reference as it came; and by two whole steps at most."""
    dynamics = random_model()
    robot = dynamics.robot
    now = arm_at_rest(robot)
    speed = now.blocks[REFERENCE][robot.nj :]

    def at(age):
        return dynamics.init(Observation(now.t, State(now.t - age, now.joints.q, now.joints.v), now.blocks), {})

    np.testing.assert_array_equal(at(0.0)["q"], now.joints.q)
    earlier = {REFERENCE: np.concatenate([now.blocks[REFERENCE][: robot.nj] - speed * DT, speed])}
    s = dynamics.init(Observation(now.t, now.joints, earlier), {})
    later, _, _ = dynamics.step(s, speed, {})
    np.testing.assert_allclose(at(DT)["q"], later["q"], rtol=1e-12)
    half = {REFERENCE: np.concatenate([now.blocks[REFERENCE][: robot.nj] - speed * DT / 2, speed])}
    stepped, _, _ = dynamics.step(dynamics.init(Observation(now.t, now.joints, half), {}), speed, {})
    np.testing.assert_allclose(at(DT / 2)["q"], now.joints.q + 0.5 * (stepped["q"] - now.joints.q), rtol=1e-12)

    longer = {REFERENCE: np.concatenate([now.blocks[REFERENCE][: robot.nj] - speed * 2 * DT, speed])}
    s = dynamics.init(Observation(now.t, now.joints, longer), {})
    for _ in range(2):
        s, _, _ = dynamics.step(s, speed, {})
    np.testing.assert_allclose(at(2 * DT)["q"], s["q"], rtol=1e-9)
    np.testing.assert_allclose(at(0.5)["q"], at(2 * DT)["q"], rtol=1e-12)
    np.testing.assert_array_equal(at(DT)[REFERENCE], now.blocks[REFERENCE])


@pytest.mark.parametrize("name", ["panda", "cartpole"])
@pytest.mark.parametrize("propagation", ["ts_inf", "ts1"])
def test_torch_and_numpy_agree(name, propagation):
    dynamics = random_model(name, propagation=propagation)
    twin = random_model(name, torch_xp, propagation=propagation)
    obs, rng = arm_at_rest(dynamics.robot), np.random.default_rng(0)
    u, draws = rng.uniform(-1.0, 1.0, (SAMPLES, HORIZON, dynamics.robot.nu)), dynamics.noise(rng, HORIZON)
    expected, _ = core.rollout(np, dynamics, dynamics.scatter(dynamics.init(obs, {})), u, draws)
    tensors = {key: torch.asarray(draw) for key, draw in draws.items()}
    s = twin.scatter(twin.init(obs, {}))
    found, _ = core.rollout(torch_xp, twin, s, torch.asarray(u), tensors)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key].numpy(), value, rtol=1e-9, atol=1e-11)


def test_single_precision_is_close_to_double():
    quick, exact = random_model(precision="float32"), random_model()
    u = np.random.default_rng(1).uniform(-1.0, 1.0, (SAMPLES, HORIZON, 7))
    found, expected = (rolled(d, u, {}, arm_at_rest(d.robot))[0]["q"] for d in (quick, exact))
    assert found.dtype == np.float64
    assert 0.0 < np.abs(found - expected).max() < 1e-5


def test_weights_are_swapped_under_a_planner_and_another_kind_is_refused():
    robot = pendulum()
    dynamics, spec = drifting(), spec_for(robot, DT)
    task = registry.make("tasks", "swing_up", robot)
    planner = registry.make("planners", "mppi", task, dynamics, np, overrides={"samples": 8, "horizon": HORIZON})
    goal = core.Goal.still([0.0], HORIZON, 0.1, 1.0)
    noise = planner.noise(np.random.default_rng(0))
    _, _, info = planner.improve(start(), goal, planner.knobs(), planner.init(start()), noise)
    assert info.spread["q"][-1, 0] == pytest.approx(0.5 * np.ptp(DRIFTS[:, 0]) * HORIZON, rel=1e-5)
    dynamics.swap(constant(spec, DRIFTS * 3.0))
    _, _, after = planner.improve(start(), goal, planner.knobs(), planner.init(start()), noise)
    np.testing.assert_allclose(after.spread["q"], 3.0 * info.spread["q"], rtol=1e-5)
    with pytest.raises(ModelError, match="same joints, parts, dt and structure"):
        dynamics.swap(constant(spec_for(robot, 0.1), DRIFTS))
    with pytest.raises(ModelError, match=r"model of robot pendulum: here robot is cartpole"):
        made(constant(spec, DRIFTS), registry.make("robots", "cartpole"))


def test_a_robot_is_known_by_how_its_joints_move():
    """The MJCF says which joints slide; ``Robot.sliding`` has to say the same."""
    from mbrl_control import mjcf

    for name in registry.names("robots"):
        robot = registry.make("robots", name)
        model = mjcf.compiled(robot, mjcf.read(robot))
        slides = [joint for joint in robot.joints if model.joint(joint).type[0] == mjcf.mujoco().mjtJoint.mjJNT_SLIDE]
        assert tuple(slides) == robot.sliding, name
        assert robot.channels.mode in Mode


def test_known_stops_are_read_and_kept_to():
    robot = registry.make("robots", "pusher")
    spec = spec_for(robot, DT, structure="acceleration", stops=True)
    q, v = robot.limits.upper - 0.1, np.full(7, 4.0)
    read = dict(zip(spec.input_names, inputs(spec, np, {"q": q, "v": v}, np.zeros(7)), strict=True))
    assert read["elbow_flex beyond its upper stop"] == pytest.approx(DT * 4.0 - 0.1)
    assert read["elbow_flex beyond its lower stop"] == 0.0
    after = advanced(spec, np, {"q": q, "v": v}, np.zeros(7))
    np.testing.assert_allclose(after["q"], robot.limits.upper + GIVE)
    np.testing.assert_allclose(advanced(spec, np, {"q": q - 0.2, "v": v}, np.zeros(7))["q"], q)
    free = spec_for(robot, DT, structure="acceleration")
    assert free.stops == ()
    np.testing.assert_allclose(advanced(free, np, {"q": q, "v": v}, np.zeros(7))["q"], q + DT * 4.0)


def test_a_block_is_known_as_the_rate_of_another():
    pusher = registry.make("robots", "pusher")
    rates = {part.name: part.rate for part in spec_for(pusher, 0.05, blocks=pusher.blocks).parts}
    assert rates == {"q": "v", "v": "", "object": "object_velocity", "object_velocity": ""}
