"""Hidden layers in eight bits give what a slow twin of theirs gives, in whole numbers of NumPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from mbrl_control import networks
from mbrl_control.dynamics._written import Written, constants
from mbrl_control.networks import Net, initial
from mbrl_control.onnx_check import OPERATORS, GraphError
from mbrl_control.onnx_graph import LARGEST_WHOLE, Quantized, Recorder, exchanged, graph, quantized

RNG = np.random.default_rng(0)
NET = Net(3, 5, (20, 24, 16), 2)
ROWS, PARTICLES = 7, 4


def rounded(x: np.ndarray) -> tuple[np.float32, np.ndarray]:
    """A tensor as DynamicQuantizeLinear has it: 256 steps from its least to its greatest, zero one of them."""
    low, high = np.float32(min(x.min(), 0.0)), np.float32(max(x.max(), 0.0))
    step = np.float32((high - low) / np.float32(255.0))
    zero = np.clip(np.rint(-low / step), 0, 255)
    return step, (np.clip(np.rint(x / step) + zero, 0, 255) - zero).astype(np.int32)


def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    whole, scale = quantized(weight)
    step, rows = rounded(x)
    return (rows @ whole.astype(np.int32)).astype(np.float32) * (step * scale)


def run(data, feed):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("shape", [(1, 16, 8), (33, 20, 12), (400, 208, 64)])
def test_a_product_in_eight_bits_is_the_twins(shape):
    rows, before, after = shape
    x, weight = RNG.normal(1.0, 2.0, (rows, before)).astype(np.float32), RNG.normal(size=(before, after))
    recorder = Recorder()
    matrix = Quantized(*(recorder.named(n, a) for n, a in zip(("w", "s"), quantized(weight), strict=True)))
    data = graph(recorder, {"y": recorder.matmul(recorder.input("x", x.shape), matrix)}, {})
    expected = product(x, weight)
    np.testing.assert_allclose(run(data, {"x": x}), expected, rtol=1e-5, atol=1e-5)
    exact = x @ weight
    assert 1e-4 < np.abs(expected - exact).max() / np.abs(exact).max() < 0.03


def test_products_are_exact_at_the_ends_of_what_eight_bits_hold():
    """255 times 64, added up 512 times: where processors add up in sixteen bits, larger weights would be cut off."""
    assert 2 * 255 * LARGEST_WHOLE < 2**15
    x = np.ones((3, 512), np.float32)
    weight = np.tile([[1.0, -1.0]], (512, 8))
    recorder = Recorder()
    matrix = Quantized(*(recorder.named(n, a) for n, a in zip(("w", "s"), quantized(weight), strict=True)))
    data = graph(recorder, {"y": recorder.matmul(recorder.input("x", x.shape), matrix)}, {})
    np.testing.assert_allclose(run(data, {"x": x}), x @ weight, rtol=1e-6)


def test_weights_are_whole_numbers_of_each_column():
    weight = np.array([[1.0, 0.0, -0.3], [-2.0, 0.0, 0.1]])
    whole, scale = quantized(weight)
    assert whole.dtype == np.int8
    assert whole.tolist() == [[32, 0, -64], [-64, 0, 21]]
    np.testing.assert_allclose(whole * scale, weight, atol=scale.max() / 2)
    tiny = np.full((2, 3), 1e-45, np.float32)
    assert quantized(tiny)[0].tolist() == [[64] * 3] * 2


# --- The members --------------------------------------------------------------------------------------


def model(net=NET, seed=1):
    rng = np.random.default_rng(seed)
    sizes = {"input": net.inputs, "output": net.outputs}
    norm = {f"{side}_mean": rng.normal(size=n) for side, n in sizes.items()}
    norm |= {f"{side}_scale": rng.uniform(0.5, 2.0, n) for side, n in sizes.items()}
    params = {**initial(net, rng), **norm}
    params |= {name: rng.normal(size=array.shape) for name, array in params.items() if name[0] == "b"}
    return SimpleNamespace(net=net, params=params)


def written(made, int8=True, name="mean"):
    recorder = Recorder(int8)
    members = Written(made, PARTICLES, recorder)
    x = recorder.input("x", (PARTICLES, ROWS, made.net.inputs))
    said = members(x, members.of(np.sort(np.arange(PARTICLES) % made.net.members)))
    return graph(recorder, {"y": said[("mean", "deviation").index(name)]}, {})


def twin(made, x):
    """Each member for the particles that it has, the products between hidden layers rounded."""
    net, found = made.net, []
    member = np.sort(np.arange(PARTICLES) % net.members)
    for m in np.unique(member):
        rows = ((x[member == m] - made.params["input_mean"]) / made.params["input_scale"]).reshape(-1, net.inputs)
        for i in range(net.layers):
            weight = made.params[f"w{i}"][m]
            rows = product(np.float32(rows), weight) if 0 < i < net.layers - 1 else rows @ weight
            rows = rows + made.params[f"b{i}"][m]
            rows = networks.ACTIVATIONS[net.activation](np, rows) if i < net.layers - 1 else rows
        found.append(rows.reshape(-1, ROWS, rows.shape[-1])[..., : net.outputs])
    return np.concatenate(found)


X = RNG.normal(size=(PARTICLES, ROWS, NET.inputs)).astype(np.float32)


@pytest.mark.parametrize("activation", list(networks.ACTIVATIONS))
def test_members_in_eight_bits_are_the_twins(activation):
    made = model(Net(3, 5, (20, 24, 16), 2, activation=activation))
    found, expected = run(written(made), {"x": X}), twin(made, X)
    single = run(written(made, int8=False), {"x": X})
    away = np.abs(single - expected).max()
    assert away > 1e-4
    assert np.abs(found - expected).max() < max(1e-4, 0.2 * away)  # a sum's last digit may move one by a step


def test_the_file_has_standard_operators_and_onnx_runtime_makes_one_of_them(tmp_path):
    data = written(model())
    made = onnx.load_model_from_string(data)
    kinds = [node.op_type for node in made.graph.node]
    assert set(kinds) <= OPERATORS
    assert kinds.count("MatMulInteger") == 2 * NET.members
    assert {t.name: t.data_type for t in made.graph.initializer}["w1/2.int8"] == onnx.TensorProto.INT8
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    fused = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert fused.count("DynamicQuantizeMatMul") == 2 * NET.members
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & set(fused)


@pytest.mark.parametrize("name", ["mean", "deviation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_no_whole_number(name, value):
    broken = X.copy()
    broken[1, 2, 3] = value
    assert not np.isfinite(run(written(model(), name=name), {"x": broken})[1, 2]).any()


def test_other_weights_take_the_place_of_these_each_in_its_own_kind():
    one, other = model(), model(seed=2)
    weights = constants(other, PARTICLES, int8=True)
    data = exchanged(written(one), weights)
    assert data == written(other)
    with pytest.raises(GraphError, match=r"constant 'w1/0\.int8': it takes finite numbers \[32, 32\]"):
        exchanged(data, {"w1/0.int8": np.zeros((3, 3), np.int8)})
    assert not any(".int8" in name for name in constants(one, PARTICLES))
