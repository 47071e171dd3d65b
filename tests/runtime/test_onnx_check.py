"""What a graph may have is taken, and runs; weights are found in it by their names."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mbrl_control.networks import Net
from mbrl_control.onnx_check import OPERATORS, OPSET, GraphError, checked, tensors, weights_of

ROWS = np.random.default_rng(0).uniform(0.1, 1.0, (2, 3, 4)).astype(np.float32)
AXIS = {"axes": np.array([-1])}
"""For operators over an axis."""
EIGHT_BITS = {"scale": np.float32(0.01), "zero": np.uint8(0)}


def node_of(operator, *names, **attributes):
    return helper.make_node(operator, list(names[:-1]), [names[-1]], **attributes)


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
              "Max": np.maximum, "Min": np.minimum}  # fmt: skip
FUNCTIONS = {"Abs": np.abs, "Ceil": np.ceil, "Cos": np.cos, "Exp": np.exp, "Floor": np.floor, "Log": np.log,
             "Neg": np.negative, "Sin": np.sin, "Sqrt": np.sqrt, "Tanh": np.tanh, "Identity": lambda x: x,
             "Relu": lambda x: np.maximum(x, 0.0), "Sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x))}  # fmt: skip
COMPARISONS = {"Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "Equal": np.equal,
               "GreaterOrEqual": np.greater_equal}  # fmt: skip
TO_BOOL, OF_BOOL = {"IsNaN": np.isnan, "IsInf": np.isinf}, {"And": np.logical_and, "Or": np.logical_or}
REDUCED = {"ReduceMax": np.max, "ReduceMean": np.mean, "ReduceMin": np.min, "ReduceSum": np.sum}
HALF = {"half": np.float32(0.5)}


def recipes():
    """Each operator of the list: nodes from x to y, constants, and what NumPy makes of it."""
    for name, function in ARITHMETIC.items():
        yield name, [node_of(name, "x", "half", "y")], HALF, lambda x, f=function: f(x, np.float32(0.5))
    for name, function in FUNCTIONS.items():
        yield name, [node_of(name, "x", "y")], {}, function
    cast = node_of("Cast", "b", "y", to=TensorProto.FLOAT)
    for name, function in COMPARISONS.items():
        yield name, [node_of(name, "x", "half", "b"), cast], HALF, lambda x, f=function: f(x, np.float32(0.5))
    for name, function in TO_BOOL.items():
        yield name, [node_of(name, "x", "b"), cast], {}, function
    less, more = node_of("Less", "x", "half", "l"), node_of("Greater", "x", "three", "m")
    both = {**HALF, "three": np.float32(0.3)}
    for name, function in OF_BOOL.items():
        made = [less, more, node_of(name, "l", "m", "b"), cast]
        yield name, made, both, lambda x, f=function: f(x < np.float32(0.5), x > np.float32(0.3))
    yield "Not", [less, node_of("Not", "l", "b"), cast], HALF, lambda x: x >= np.float32(0.5)
    yield "Where", [less, node_of("Where", "l", "x", "half", "y")], HALF, lambda x: np.minimum(x, np.float32(0.5))
    yield "Clip", [node_of("Clip", "x", "half", "half", "y")], HALF, lambda x: np.full_like(x, 0.5)
    yield "Cast", [node_of("Cast", "x", "b", to=TensorProto.INT64), cast], {}, np.trunc
    for name, function in REDUCED.items():
        yield name, [node_of(name, "x", "axes", "y")], AXIS, lambda x, f=function: f(x, axis=-1, keepdims=True)
    least = node_of("ArgMin", "x", "b", axis=-1)
    yield "ArgMin", [least, cast], {}, lambda x: np.argmin(x, axis=-1)[..., None]
    top = helper.make_node("TopK", ["x", "count"], ["y", "at"], largest=0)
    yield "TopK", [top], {"count": np.array([2])}, lambda x: np.sort(x, axis=-1)[..., :2]
    yield "Concat", [node_of("Concat", "x", "x", "y", axis=-1)], {}, lambda x: np.concatenate([x, x], axis=-1)
    shape = {"shape": np.array([5, 1, 1, 4])}
    yield "Expand", [node_of("Expand", "x", "shape", "y")], shape, lambda x: np.broadcast_to(x, (5, 2, 3, 4))
    yield "Gather", [node_of("Gather", "x", "at", "y", axis=2)], {"at": np.array([3, 0])}, lambda x: x[..., [3, 0]]
    shape = {"shape": np.array([0, -1, 2])}
    yield "Reshape", [node_of("Reshape", "x", "shape", "y")], shape, lambda x: x.reshape(2, -1, 2)
    ends = {"start": np.array([1]), "stop": np.array([np.iinfo(np.int64).max]), **AXIS}
    yield "Slice", [node_of("Slice", "x", "start", "stop", "axes", "y")], ends, lambda x: x[..., 1:]
    turned = node_of("Transpose", "x", "y", perm=[0, 2, 1])
    yield "Transpose", [turned], {}, lambda x: np.swapaxes(x, 1, 2)
    yield "Unsqueeze", [node_of("Unsqueeze", "x", "axes", "y")], AXIS, lambda x: x[..., None]
    weights = {"w": np.ones((2, 4, 5), np.float32)}
    yield "MatMul", [node_of("MatMul", "x", "w", "y")], weights, lambda x: x @ weights["w"]
    bits = [
        node_of("QuantizeLinear", "x", "scale", "zero", "b"),
        node_of("DequantizeLinear", "b", "scale", "zero", "y"),
    ]
    rounded = lambda x: np.rint(x / np.float32(0.01)) * 0.01  # noqa: E731
    yield "QuantizeLinear", bits, EIGHT_BITS, rounded
    yield "DequantizeLinear", bits, EIGHT_BITS, rounded
    found = helper.make_node("DynamicQuantizeLinear", ["x"], ["b", "by", "from"])
    dynamic = [found, node_of("DequantizeLinear", "b", "by", "from", "y")]
    yield "DynamicQuantizeLinear", dynamic, {}, lambda x: np.rint(x / (x.max() / 255)) * (x.max() / 255)
    ones = {**EIGHT_BITS, "w": np.ones((4, 5), np.int8)}
    product = [bits[0], node_of("MatMulInteger", "b", "w", "i"), node_of("Cast", "i", "y", to=TensorProto.FLOAT)]
    yield "MatMulInteger", product, ones, lambda x: np.rint(x / np.float32(0.01)) @ np.ones((4, 5))


def model(nodes, constants, gives):
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    takes = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "B", 4])
    made = helper.make_graph(nodes, "m", [takes], [gives], kept)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


RECIPES = {name: (nodes, constants, function) for name, nodes, constants, function in recipes()}


def test_the_recipes_are_of_the_whole_list():
    assert RECIPES.keys() == OPERATORS
    for name in OPERATORS:
        assert onnx.defs.get_schema(name, OPSET, "").domain == ""


@pytest.mark.parametrize("name", RECIPES)
def test_each_operator_of_the_list_is_taken_and_runs(name):
    nodes, constants, function = RECIPES[name]
    expected = function(ROWS)
    rows = [f"R{axis}" for axis in range(expected.ndim)]
    data = model(nodes, constants, helper.make_tensor_value_info("y", TensorProto.FLOAT, rows)).SerializeToString()
    made = checked(data)
    assert tensors(made)["x"] == "FLOAT [2, any, 4]"
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    [found] = session.run(["y"], {"x": ROWS})
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def handmade(**constants):
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "B", 3])
    return model([node_of("MatMul", "x", "w0", "h"), node_of("Add", "h", "b0", "y")], constants, gives)


def test_weights_are_found_by_name():
    net, rng = Net(2, 4, (), 3, "deterministic"), np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in net.shapes().items()}
    made = checked(handmade(**arrays, spare=np.zeros(3, np.int64)).SerializeToString())
    found = weights_of(made, net.shapes())
    assert found.keys() == {"w0", "b0"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"w0": None, "b0": None}, "a graph without weights w0, b0: it takes one that has them by name"),
        ({"b0": np.zeros((2, 1, 5), np.float32)}, r"weights 'b0' of float32 \[2, 1, 5\]: it takes .* \[2, 1, 3\]"),
        ({"w0": np.zeros((2, 4, 3), np.int8)}, r"weights 'w0' of int8 \[2, 4, 3\]: it takes floating numbers"),
    ],
)
def test_weights_that_are_missing_or_others_are_named(change, said):
    net = Net(2, 4, (), 3, "deterministic")
    arrays = {name: np.zeros(shape, np.float32) for name, shape in net.shapes().items()} | change
    made = handmade(**{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(GraphError, match=said):
        weights_of(made, net.shapes())
