"""Dynamics models: closed forms, order of convergence, derivatives, and the same source on three back ends."""

import subprocess
import sys

import array_api_compat.torch as torch_xp
import mujoco
import numpy as np
import pytest
import torch
from arms import ARMS, made

from mbrl_control import casadi_graph, core, registry
from mbrl_control.core import MbrlError, Observation, Plan, State
from mbrl_control.dynamics import analytic, kinematic, symbolic


@pytest.fixture(scope="module", params=ARMS)
def arm(request):
    return made(request.param)


@pytest.fixture(scope="module", params=["pendulum", "cartpole"])
def swinging(request):
    return registry.make("robots", request.param)


def seen(robot, rng, **blocks):
    q = rng.uniform(robot.limits.lower, robot.limits.upper)
    return Observation(0.0, State(0.0, q, rng.normal(size=robot.nj) * 0.1), blocks)


def torch_state(s):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in s.items()}


class TestKinematic:
    @pytest.fixture
    def model(self, arm):
        return kinematic.make(kinematic.Config(dt=0.05), arm)

    def test_it_is_a_dynamics_model_with_the_robots_bounds(self, model, arm):
        assert isinstance(model, core.Dynamics)
        low, high = model.bounds()
        np.testing.assert_array_equal(high, arm.channels.bound)
        np.testing.assert_array_equal(low, -high)

    def test_it_starts_from_the_reference_where_there_is_one(self, model, arm):
        rng = np.random.default_rng(0)
        bare = seen(arm, rng)
        s = model.init(bare, {})
        np.testing.assert_array_equal(s["q"], bare.joints.q)
        np.testing.assert_array_equal(s["v"], bare.joints.v)
        reference = rng.normal(size=2 * arm.nj)
        s = model.init(seen(arm, rng, reference=reference), {})
        np.testing.assert_array_equal(np.concatenate([s["q"], s["v"]]), reference)

    def test_a_slow_change_is_followed_exactly(self, model, arm):
        """Within the limits the velocity arrives, and the position gains the mean velocity times dt."""
        q, v = np.full(arm.nj, 0.3), np.full(arm.nj, 0.1)
        u = v + 0.2
        s, features, aux = model.step({"q": q, "v": v}, u, {})
        np.testing.assert_allclose(s["v"], u, atol=1e-15)
        np.testing.assert_allclose(s["q"], q + 0.05 * 0.2, atol=1e-15)
        np.testing.assert_array_equal(features["q"], s["q"])
        assert aux["disagreement"].shape == (1,)
        assert not aux["disagreement"].any()

    def test_a_jump_is_limited_by_acceleration_and_bound(self, model, arm):
        s = {"q": np.zeros(arm.nj), "v": np.zeros(arm.nj)}
        limit = arm.limits.acceleration * 0.05
        after, _, _ = model.step(s, np.full(arm.nj, 1e6), {})
        np.testing.assert_allclose(after["v"], np.minimum(limit, arm.channels.bound), atol=1e-15)
        for _ in range(20):
            after, _, _ = model.step(after, np.full(arm.nj, -1e6), {})
        np.testing.assert_allclose(after["v"], -arm.channels.bound, atol=1e-15)

    def test_the_plan_read_between_knots_is_the_models_motion(self, model, arm):
        """Half a step of half the length lands where ``Plan.at`` says: both are the same quadratic."""
        u = np.linspace(-0.2, 0.2, 3 * arm.nj).reshape(3, arm.nj)
        start = {"q": np.full(arm.nj, 0.1), "v": np.full(arm.nj, 0.05)}
        features, _ = core.rollout(np, model, start, u, {})
        q, v = model.plan(features, u)
        plan = Plan(0.0, model.dt, core.Mode.VELOCITY_REFERENCE, q, v, u, None, 0.0, 0)
        halfway = plan.at(model.dt / 2)
        mean = (start["v"] + v[1]) / 2
        np.testing.assert_allclose(halfway.v, mean, atol=1e-14)
        np.testing.assert_allclose(halfway.q, start["q"] + (start["v"] + mean) / 2 * model.dt / 2, atol=1e-14)
        np.testing.assert_allclose(plan.at(model.dt / 2).a, (v[1] - v[0]) / model.dt, atol=1e-12)

    def test_leading_axes_are_samples_and_nothing_is_written_to(self, model, arm):
        rng = np.random.default_rng(1)
        u = rng.normal(size=(4, 3, 6, arm.nj)) * 3
        s = model.init(seen(arm, rng), {})
        kept = {name: value.copy() for name, value in s.items()}, u.copy()
        features, aux = core.rollout(np, model, s, u, {})
        assert features["q"].shape == (4, 3, 7, arm.nj)
        assert aux["disagreement"].shape == (4, 3, 6, 1)
        one, _ = core.rollout(np, model, s, u[2, 1], {})
        np.testing.assert_array_equal(features["q"][2, 1], one["q"])
        assert all((kept[0][name] == s[name]).all() for name in s)
        assert (kept[1] == u).all()

    def test_torch_agrees_and_keeps_the_type(self, model, arm):
        other = kinematic.make(kinematic.Config(dt=0.05), arm, torch_xp)
        rng = np.random.default_rng(2)
        obs, u = seen(arm, rng), rng.normal(size=(5, 4, arm.nj)) * 3
        ours, _ = core.rollout(np, model, model.init(obs, {}), u, {})
        theirs, _ = core.rollout(torch_xp, other, other.init(obs, {}), torch.from_numpy(u), {})
        np.testing.assert_allclose(theirs["q"], ours["q"], atol=1e-12)
        single = {name: value.float() for name, value in other.init(obs, {}).items()}
        assert other.step(single, torch.from_numpy(u[:, 0]).float(), {})[0]["q"].dtype == torch.float32

    def test_dt_matters(self, arm):
        q, v, u = np.zeros(arm.nj), np.zeros(arm.nj), np.full(arm.nj, 0.1)
        moved = [kinematic.make(kinematic.Config(dt=dt), arm).step({"q": q, "v": v}, u, {})[0] for dt in (0.05, 0.1)]
        np.testing.assert_allclose(moved[1]["q"], 2 * moved[0]["q"], atol=1e-15)

    def test_a_torque_robot_is_refused_by_name(self):
        with pytest.raises(MbrlError, match=r"robot 'pendulum' with mode torque.*velocity_reference"):
            registry.make("dynamics", "kinematic", registry.make("robots", "pendulum"))


class TestAnalytic:
    def test_it_is_a_dynamics_model(self, swinging):
        model = analytic.make(analytic.Config(), swinging)
        assert isinstance(model, core.Differentiable)
        np.testing.assert_array_equal(model.bounds()[1], swinging.channels.bound)

    def test_the_error_falls_with_the_fourth_power_of_the_step(self, swinging):
        s = {"q": np.linspace(0.4, 0.9, swinging.nj), "v": np.linspace(-0.5, 1.0, swinging.nj)}
        u = np.full(swinging.nu, 0.7)

        def end(substeps):
            after, _, _ = analytic.make(analytic.Config(dt=0.4, substeps=substeps), swinging).step(s, u, {})
            return np.concatenate([after["q"], after["v"]])

        exact = end(100)
        errors = [np.abs(end(n) - exact).max() for n in (2, 4, 8)]
        orders = np.log2(np.divide(errors[:-1], errors[1:]))
        assert (orders > 3.6).all(), orders
        assert (orders < 4.6).all(), orders

    def test_it_moves_as_mujoco_does(self, swinging):
        world = mujoco.MjModel.from_xml_path(str(swinging.world))
        world.opt.timestep, world.opt.integrator = 1e-3, mujoco.mjtIntegrator.mjINT_RK4
        data = mujoco.MjData(world)
        s = {"q": np.linspace(0.4, 0.9, swinging.nj), "v": np.zeros(swinging.nj)}
        model = analytic.make(analytic.Config(dt=0.05, substeps=10), swinging)
        data.qpos[:], data.qvel[:], data.ctrl[:] = s["q"], s["v"], 0.5
        for _ in range(4):
            s, _, _ = model.step(s, np.full(swinging.nu, 0.5), {})
        for _ in range(200):
            mujoco.mj_step(world, data)
        np.testing.assert_allclose(s["q"], data.qpos, rtol=0, atol=1e-5)
        np.testing.assert_allclose(s["v"], data.qvel, rtol=0, atol=5e-5)

    def test_the_free_pendulum_keeps_its_energy(self):
        model = analytic.make(analytic.Config(dt=0.05, substeps=10), registry.make("robots", "pendulum"))
        s = {"q": np.array([0.3]), "v": np.array([0.0])}
        energies = []
        for _ in range(100):
            s, _, _ = model.step(s, np.zeros(1), {})
            energies.append(s["v"][0] ** 2 / 6 + 5.0 * np.cos(s["q"][0]))
        assert np.ptp(energies) < 1e-6
        assert np.ptp(s["q"]) == 0
        assert abs(energies[0] - 5.0 * np.cos(0.3)) < 1e-6

    def test_the_free_cartpole_keeps_energy_and_momentum(self):
        model = analytic.make(analytic.Config(dt=0.05, substeps=10), registry.make("robots", "cartpole"))
        s = {"q": np.array([0.0, 0.5]), "v": np.array([0.3, 0.0])}

        def kept(s):
            (_, th), (dx, dth) = s["q"], s["v"]
            tip = dx + 0.5 * np.cos(th) * dth
            kinetic = 0.5 * dx**2 + 0.05 * (tip**2 + (0.5 * np.sin(th) * dth) ** 2) + 0.5 * (0.1 / 12) * dth**2
            return kinetic + 0.1 * 9.8 * 0.5 * np.cos(th), dx + 0.1 * tip

        start = kept(s)
        for _ in range(60):
            s, _, _ = model.step(s, np.zeros(1), {})
        np.testing.assert_allclose(kept(s), start, rtol=0, atol=1e-6)

    def test_samples_torch_and_symbols_agree(self, swinging):
        casadi = pytest.importorskip("casadi")
        model = analytic.make(analytic.Config(substeps=2), swinging)
        rng = np.random.default_rng(3)
        obs, u = seen(swinging, rng), rng.normal(size=(5, 4, swinging.nu))
        ours, aux = core.rollout(np, model, model.init(obs, {}), u, {})
        assert ours["v"].shape == (5, 5, swinging.nj)
        assert aux["disagreement"].shape == (5, 4, 1)
        one, _ = core.rollout(np, model, model.init(obs, {}), u[3], {})
        np.testing.assert_allclose(one["q"], ours["q"][3], atol=1e-13)
        other = analytic.make(analytic.Config(substeps=2), swinging, torch_xp)
        theirs, _ = core.rollout(torch_xp, other, other.init(obs, {}), torch.from_numpy(u), {})
        np.testing.assert_allclose(theirs["v"], ours["v"], atol=1e-12)
        xp = casadi_graph.namespace()
        built = analytic.make(analytic.Config(substeps=2), swinging, xp)
        w = casadi_graph.symbols("u", 4, swinging.nu)
        graph, _ = core.rollout(xp, built, built.init(obs, {}), w, {})
        f = casadi.Function("f", [casadi_graph.column(w)], [casadi_graph.column(graph["q"])])
        np.testing.assert_allclose(np.asarray(f(u[3].ravel())).ravel(), one["q"].ravel(), atol=1e-12)

    def test_a_robot_without_closed_form_is_refused_by_name(self, arm):
        with pytest.raises(MbrlError, match=f"dynamics 'analytic' for robot '{arm.name}'.*no closed form"):
            registry.make("dynamics", "analytic", arm)


def matrix(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


A, B = matrix(3, 4), matrix(4, 3).T.copy() + 0.1
CALLS = {
    "abs": lambda xp, a, b: xp.abs(a),
    "arange": lambda xp, a, b: a * xp.arange(4) + xp.arange(1, 5),
    "asarray": lambda xp, a, b: a + xp.asarray([1.0, 2.0, 3.0, 4.0]) + xp.asarray(2.5),
    "broadcast_to": lambda xp, a, b: xp.broadcast_to(a[:, :1], (3, 5)),
    "ceil": lambda xp, a, b: xp.ceil(a * 3),
    "clip": lambda xp, a, b: xp.clip(a, -0.5, b),
    "concat": lambda xp, a, b: xp.concat([a, b], axis=-1),
    "cos": lambda xp, a, b: xp.cos(a),
    "exp": lambda xp, a, b: xp.exp(a),
    "expand_dims": lambda xp, a, b: xp.expand_dims(a, axis=1) * xp.expand_dims(b, axis=0),
    "floor": lambda xp, a, b: xp.floor(a * 3),
    "isfinite": lambda xp, a, b: xp.where(xp.isfinite(a), a, xp.zeros_like(a)),
    "log": lambda xp, a, b: xp.log(xp.abs(a)),
    "matmul": lambda xp, a, b: xp.matmul(a, xp.moveaxis(b, 0, 1)),
    "max": lambda xp, a, b: xp.max(a, axis=-1) + xp.max(b, axis=0, keepdims=True)[:, :3],
    "maximum": lambda xp, a, b: xp.maximum(a, b),
    "mean": lambda xp, a, b: xp.mean(a, axis=-1) + xp.mean(b, axis=0, keepdims=True)[:, :3],
    "min": lambda xp, a, b: xp.min(a, axis=-1),
    "minimum": lambda xp, a, b: xp.minimum(a, b),
    "moveaxis": lambda xp, a, b: xp.moveaxis(a, -1, 0) * 2.0,
    "ones_like": lambda xp, a, b: a - xp.ones_like(b),
    "reshape": lambda xp, a, b: xp.reshape(a, (2, 6)),
    "sin": lambda xp, a, b: xp.sin(a),
    "sqrt": lambda xp, a, b: xp.sqrt(xp.abs(a)),
    "square": lambda xp, a, b: xp.square(a),
    "stack": lambda xp, a, b: xp.stack([a, b, a * b], axis=-2),
    "sum": lambda xp, a, b: xp.sum(a, axis=-1) - xp.sum(b, axis=0, keepdims=True)[:, :3],
    "tanh": lambda xp, a, b: xp.tanh(a),
    "where": lambda xp, a, b: xp.where(a > b, a, -b) + xp.where(a * 0.5 <= 0.1, xp.ones_like(a), b),
    "zeros_like": lambda xp, a, b: xp.zeros_like(a) - b,
}


class TestSymbolic:
    def test_every_function_of_the_subset_is_tried(self):
        assert set(CALLS) == set(core.XP_SUBSET)

    @pytest.mark.parametrize("name", CALLS)
    def test_each_function_builds_what_numpy_computes(self, name):
        casadi = pytest.importorskip("casadi")
        a, b = casadi_graph.symbols("a", *A.shape), casadi_graph.symbols("b", *B.shape)
        built = CALLS[name](casadi_graph.namespace(), a, b)
        expected = CALLS[name](np, A, B)
        assert built.shape == expected.shape
        f = casadi.Function("f", [casadi_graph.column(a), casadi_graph.column(b)], [casadi_graph.column(built)])
        numbers = np.asarray(f(A.ravel(), B.ravel())).reshape(expected.shape)
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=1e-14)
        theirs = CALLS[name](torch_xp, torch.from_numpy(A), torch.from_numpy(B))
        np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-14)

    def test_what_is_not_finite_is_seen(self):
        casadi = pytest.importorskip("casadi")
        a = casadi_graph.symbols("a", 4)
        f = casadi.Function("f", [casadi_graph.column(a)], [casadi_graph.column(casadi_graph.namespace().isfinite(a))])
        assert np.asarray(f([1.0, np.inf, -np.inf, np.nan])).ravel().tolist() == [1, 0, 0, 0]

    @pytest.mark.parametrize("norm", core.NORMS)
    def test_the_norms_of_tasks_are_built(self, norm):
        casadi = pytest.importorskip("casadi")
        r = casadi_graph.symbols("r", *A.shape)
        f = casadi.Function(
            "f", [casadi_graph.column(r)], [casadi_graph.column(core.NORMS[norm](casadi_graph.namespace(), r, 0.3))]
        )
        np.testing.assert_allclose(np.asarray(f(A.ravel())).ravel(), core.NORMS[norm](np, A, 0.3), atol=1e-14)

    def test_a_python_if_on_a_symbol_and_a_write_in_place_are_errors(self):
        pytest.importorskip("casadi")
        a = casadi_graph.symbols("a")
        with pytest.raises(MbrlError, match=r"no truth value.*xp\.where"):
            bool(a > 0)
        with pytest.raises(TypeError):
            a += 1.0

    def test_jacobians_are_the_finite_differences(self, swinging):
        model = registry.make("dynamics", "symbolic", swinging)
        assert isinstance(model, core.Differentiable)
        rng = np.random.default_rng(4)
        x, u = rng.normal(size=2 * swinging.nj), rng.normal(size=swinging.nu)

        def step(z):
            s = {"q": z[: swinging.nj], "v": z[swinging.nj : 2 * swinging.nj]}
            after, _, _ = model.step(s, z[2 * swinging.nj :], {})
            return np.concatenate([after["q"], after["v"]])

        z, h = np.concatenate([x, u]), 1e-5
        differences = np.stack([(step(z + h * e) - step(z - h * e)) / (2 * h) for e in np.eye(z.size)], axis=-1)
        jacobian, gain = model.linearize(core.unflat(x, {"q": swinging.nj, "v": swinging.nj}), u)
        assert jacobian.shape == (2 * swinging.nj, 2 * swinging.nj)
        assert gain.shape == (2 * swinging.nj, swinging.nu)
        np.testing.assert_allclose(np.concatenate([jacobian, gain], axis=-1), differences, rtol=0, atol=1e-9)

    def test_leading_axes_are_evaluated_together(self, swinging):
        model = symbolic.make(symbolic.Config(substeps=3), swinging)
        rng = np.random.default_rng(5)
        x, u = rng.normal(size=(2, 6, 2 * swinging.nj)), rng.normal(size=(2, 6, swinging.nu))
        sizes = {"q": swinging.nj, "v": swinging.nj}
        jacobians, gains = model.linearize(core.unflat(x, sizes), u)
        for i in np.ndindex(2, 6):
            one, gain = model.linearize(core.unflat(x[i], sizes), u[i])
            np.testing.assert_allclose(jacobians[i], one, atol=1e-14)
            np.testing.assert_allclose(gains[i], gain, atol=1e-14)

    def test_it_steps_as_the_analytic_model_does(self, swinging):
        rng = np.random.default_rng(6)
        obs, u = seen(swinging, rng), rng.normal(size=(5, 4, swinging.nu))
        models = [
            registry.make("dynamics", name, swinging, overrides={"substeps": 2}) for name in ("analytic", "symbolic")
        ]
        ours, theirs = (core.rollout(np, m, m.init(obs, {}), u, {})[0] for m in models)
        np.testing.assert_allclose(ours["q"], theirs["q"], rtol=1e-13, atol=1e-13)

    def test_without_casadi_the_message_says_what_to_install(self, swinging, monkeypatch):
        monkeypatch.setitem(sys.modules, "casadi", None)
        with pytest.raises(MbrlError, match=r"pip install mbrl_control\[train\]"):
            symbolic.make(symbolic.Config(), swinging)

    def test_the_module_is_imported_without_casadi(self):
        code = "import sys; import mbrl_control.dynamics.symbolic; sys.exit('casadi' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
