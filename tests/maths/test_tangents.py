"""Derivatives of every function that xp code may use, on NumPy and written as a graph, against differences."""

import numpy as np
import pytest

from mbrl_control import core, registry
from mbrl_control.dynamics._slopes import mean_and_jacobian, written
from mbrl_control.dynamics.ensemble import Weights
from mbrl_control.model import Model, spec_for
from mbrl_control.networks import ACTIVATIONS, HEADS, Net, initial
from mbrl_control.onnx_graph import Recorder, graph
from mbrl_control.tangents import Dual, TangentError, Tangents, seeded

onnxruntime = pytest.importorskip("onnxruntime")

MATRIX, ORDER = np.random.default_rng(9).normal(size=(4, 3)), np.array([2, 0, 0, 3])
PLACES = np.arange(4.0)
CASES = {
    "abs": lambda xp, x: xp.abs(x),
    "arange": lambda xp, x: x * xp.arange(4.0),
    "asarray": lambda xp, x: xp.asarray(x) + xp.asarray(PLACES, dtype=x.dtype, device=x.device),
    "broadcast_to": lambda xp, x: xp.square(xp.broadcast_to(x, (2, 3, 4))),
    "ceil": lambda xp, x: x * xp.ceil(x),
    "clip": lambda xp, x: xp.clip(x, -0.3, 0.4) + xp.clip(PLACES * 0.2 - 0.5, x - 0.2, x + 0.2),
    "concat": lambda xp, x: xp.concat([x, xp.sin(x), PLACES + xp.zeros_like(x)], axis=-1),
    "cos": lambda xp, x: xp.cos(x),
    "exp": lambda xp, x: xp.exp(x),
    "expand_dims": lambda xp, x: xp.expand_dims(x, 0) * xp.expand_dims(x, -2),
    "floor": lambda xp, x: x - xp.floor(x * 2.0),
    "isfinite": lambda xp, x: xp.where(xp.isfinite(x), xp.square(x), x),
    "log": lambda xp, x: xp.log(xp.square(x) + 1.0),
    "matmul": lambda xp, x: xp.matmul(x, MATRIX) + xp.matmul(x, xp.matmul(xp.moveaxis(x, -1, -2), x * x))[:, :3],
    "max": lambda xp, x: xp.max(x, axis=-1) * x[..., 0],
    "maximum": lambda xp, x: xp.maximum(x, 0.1) + xp.maximum(x[..., ::1], xp.sin(x[..., :1])),
    "mean": lambda xp, x: xp.mean(xp.square(x), axis=-1),
    "min": lambda xp, x: xp.min(x * x, axis=0),
    "minimum": lambda xp, x: xp.minimum(0.1, x) * xp.minimum(x, PLACES - 1.0),
    "moveaxis": lambda xp, x: xp.moveaxis(xp.square(x), 0, 1),
    "ones_like": lambda xp, x: x * x + xp.ones_like(x),
    "reshape": lambda xp, x: xp.reshape(x * x, (2, 6)),
    "sin": lambda xp, x: xp.sin(x),
    "sqrt": lambda xp, x: xp.sqrt(xp.square(x) + 0.1),
    "square": lambda xp, x: xp.square(x),
    "stack": lambda xp, x: xp.stack([x[..., 1], x[..., 0] * x[..., 2], PLACES[:3]], axis=-1),
    "sum": lambda xp, x: xp.sum(xp.sin(x), axis=0),
    "tanh": lambda xp, x: xp.tanh(x),
    "where": lambda xp, x: xp.where(x > 0.1, x * x, xp.where(PLACES > 1.0, 2.0, -x)),
    "zeros_like": lambda xp, x: xp.zeros_like(x) + x,
    "take": lambda xp, x: xp.take(xp.square(x), ORDER, axis=-1),
    "operators": lambda xp, x: (1.0 - x) / (2.0 + x * x) - x / 3.0 + (-x) ** 3 + PLACES * x - PLACES / (x + 9.0),
    "parts": lambda xp, x: x[..., None, 1:] * x[1, :3] + x[..., -1][..., None, None],
}
RUN = "operators", "parts"
"""Cases that are of no function's name."""


def near(seed=0):
    """Arguments that stand at no kink."""
    return np.random.default_rng(seed).normal(size=(3, 4))


def differences(f, x, eps=1e-6):
    """The last axis alone varies, of all rows at once."""
    columns = [(f(x + away) - f(x - away)) / (2.0 * eps) for away in eps * np.eye(x.shape[-1])]
    return np.stack(columns)


def test_there_is_a_case_for_each_function():
    assert set(CASES) - set(RUN) == {*core.XP_SUBSET, "take"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_limit_of_differences(name, seed):
    f, x = CASES[name], near(seed)
    found = f(Tangents(np), seeded(np, x=x)["x"])
    np.testing.assert_allclose(found.value, f(np, x), rtol=1e-14)
    slope = np.broadcast_to(found.slope, (4, *found.shape))
    np.testing.assert_allclose(slope, differences(lambda x: f(np, x), x), atol=1e-8)


@pytest.mark.parametrize("name", [name for name in CASES if name != "arange"])
def test_a_graph_of_it_gives_the_same(name):
    f, x = CASES[name], near().astype(np.float32)
    recorder = Recorder()
    found = f(Tangents(recorder), seeded(recorder, x=recorder.input("x", x.shape))["x"])
    session = onnxruntime.InferenceSession(
        graph(recorder, {"value": found.value, "slope": found.slope}, {}), providers=["CPUExecutionProvider"]
    )
    value, slope = session.run(["value", "slope"], {"x": x})
    expected = f(Tangents(np), seeded(np, x=near())["x"])
    np.testing.assert_allclose(value, expected.value, rtol=1e-5, atol=1e-5)
    slope = np.broadcast_to(slope, (4, *value.shape))
    np.testing.assert_allclose(slope, expected.slope + 0.0 * value, rtol=1e-4, atol=1e-4)


def test_at_a_bound_one_comes_off_it_and_at_a_tie_each_counts_half():
    xp, x = Tangents(np), seeded(np, x=np.array([0.5, -0.5, 0.0]))["x"]
    assert np.diag(xp.clip(x, -0.5, 0.5).slope).tolist() == [1.0, 1.0, 1.0]
    assert np.diag(xp.maximum(x, np.array([0.5, 0.0, 0.0])).slope).tolist() == [0.5, 0.0, 0.5]
    assert np.diag(xp.abs(x).slope).tolist() == [1.0, -1.0, 0.0]
    assert xp.max(xp.concat([x, x], axis=-1), axis=-1).slope.tolist() == [1.0, 0.0, 0.0]


def test_what_has_no_derivative_is_refused():
    xp, x = Tangents(np), seeded(np, x=np.ones(3))["x"]
    with pytest.raises(TangentError, match=r"xp\.argsort: no derivative"):
        xp.argsort(x)
    with pytest.raises(TangentError, match=r"xp\.where"):
        bool(x)
    with pytest.raises(TangentError, match=r"exp\(y"):
        x**x
    with pytest.raises(TangentError, match="constant matrix"):
        xp.matmul(np.eye(3), x)
    assert not isinstance(xp.sin(np.ones(2)), Dual)


def drawn(head, activation, hidden=(8, 6)):
    robot = registry.make("robots", "pendulum")
    spec, rng = spec_for(robot, 0.05), np.random.default_rng(0)
    net = Net(3, len(spec.input_names), hidden, len(spec.output_names), head, activation)
    params = {name: 3.0 * array for name, array in initial(net, rng).items()}
    params |= {"input_mean": rng.normal(size=net.inputs), "input_scale": rng.uniform(0.5, 2.0, net.inputs)}
    params |= {"output_mean": rng.normal(size=net.outputs), "output_scale": rng.uniform(0.5, 2.0, net.outputs)}
    return Model(spec, net, {name: np.asarray(array, np.float32) for name, array in params.items()})


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (8, 6)])
def test_the_jacobian_of_a_network_is_that_of_differences_and_that_of_its_graph(head, activation, hidden):
    model = drawn(head, activation, hidden)
    x = np.random.default_rng(1).normal(size=(5, model.net.inputs))
    params = {name: np.asarray(array, dtype=float) for name, array in model.params.items()}
    mean, jacobian = mean_and_jacobian(np, model.net, params, x)
    plain = Weights(model, "float64", np)
    np.testing.assert_allclose(mean, plain(x)[0].mean(axis=0), atol=1e-12)
    expected = differences(lambda x: mean_and_jacobian(np, model.net, params, x)[0], x)
    np.testing.assert_allclose(jacobian, np.moveaxis(expected, (0, 2), (2, 0)), atol=1e-7)
    session = onnxruntime.InferenceSession(written(model), providers=["CPUExecutionProvider"])
    found = session.run(["mean", "jacobian"], {"x": x.astype(np.float32)})
    np.testing.assert_allclose(found[0], mean, atol=1e-4)
    np.testing.assert_allclose(found[1], jacobian, atol=1e-4)
