"""What is written down as a graph is what NumPy computes, function by function."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from mbrl_control.core import XP_SELECTION, XP_SUBSET
from mbrl_control.onnx_check import GraphError
from mbrl_control.onnx_graph import BATCH, Recorder, broadcast, graph

RNG = np.random.default_rng(0)
A = RNG.uniform(0.1, 0.9, (2, 3, 4)).astype(np.float32)
B = RNG.uniform(-0.9, 0.9, (3, 4)).astype(np.float32)
TIES = np.array([2.0, 1.0, 2.0, 1.0, 3.0], np.float32)
FLAT = {name: lambda xp, a, b, name=name: getattr(xp, name)(a) for name in ("abs", "ceil", "cos", "exp", "floor")}
FLAT |= {name: lambda xp, a, b, name=name: getattr(xp, name)(a) for name in ("log", "sin", "sqrt", "square", "tanh")}
FUNCTIONS = {
    **FLAT,
    "arange": lambda xp, a, b: a + xp.arange(4),
    "argmin": lambda xp, a, b: xp.take(b, xp.argmin(a[0], axis=0), axis=1),
    "argsort": lambda xp, a, b: xp.argsort(a, axis=1, stable=True),
    "asarray": lambda xp, a, b: xp.asarray(a > 0.5, dtype=np.float64) + xp.asarray(np.ones(4)),
    "broadcast_to": lambda xp, a, b: xp.broadcast_to(b, (2, 3, 4)),
    "clip": lambda xp, a, b: xp.clip(a, -0.2, 0.5) + xp.clip(b, np.full(4, -0.1), np.full(4, 0.3)),
    "concat": lambda xp, a, b: xp.concat([b, np.zeros((1, 4)), a[0]], axis=0),
    "expand_dims": lambda xp, a, b: xp.expand_dims(a, axis=-1) * xp.expand_dims(b, axis=0)[..., None],
    "isfinite": lambda xp, a, b: xp.where(xp.isfinite(a / (a - a[0])), a, -a),
    "matmul": lambda xp, a, b: xp.matmul(a, np.ones((4, 5))) + xp.matmul(b, np.ones(4))[:, None],
    "max": lambda xp, a, b: xp.max(a, axis=-1),
    "maximum": lambda xp, a, b: xp.maximum(a, b) + xp.maximum(0.3, a),
    "mean": lambda xp, a, b: xp.mean(a, axis=1),
    "min": lambda xp, a, b: xp.min(a, axis=0),
    "minimum": lambda xp, a, b: xp.minimum(b, a),
    "moveaxis": lambda xp, a, b: xp.moveaxis(a, 0, -1) * 2.0 + xp.moveaxis(xp.moveaxis(a, 1, 0), 1, 2),
    "ones_like": lambda xp, a, b: xp.ones_like(a) + b,
    "reshape": lambda xp, a, b: xp.reshape(a, (-1, 4)) + xp.reshape(xp.reshape(a, (24,)), (6, 4)),
    "sort": lambda xp, a, b: xp.sort(a, axis=-1),
    "stack": lambda xp, a, b: xp.stack([b, b * 2.0, np.ones((3, 4))], axis=-1),
    "sum": lambda xp, a, b: xp.sum(a, axis=0),
    "take": lambda xp, a, b: xp.take(a, np.array([2, 0, 2]), axis=1),
    "where": lambda xp, a, b: xp.where(a > b, a, 0.5) + xp.where((a < b) | (b <= 0.0), a * 0.0, b),
    "zeros_like": lambda xp, a, b: xp.concat([xp.zeros_like(a), xp.where(a > 0.5, xp.zeros_like(a), a)], axis=0),
}  # fmt: skip
OPERATIONS = {
    "arithmetic": lambda xp, a, b: (1.0 - a) * b / 2.0 + 3.0 / a - (-b) + np.ones(4) * a - 1,
    "powers": lambda xp, a, b: a ** np.arange(4) + a**2.0,
    "whole numbers": lambda xp, a, b: xp.argsort(a, axis=-1, stable=True) + 1,
    "comparison": lambda xp, a, b: xp.where((a >= b) & (a[0] < 0.8), 1.0, a),
    "indices": lambda xp, a, b: a[1, ..., -1] + a[..., 1:, 2][0] if xp is None else a[1, 1:, -1] + a[:, 1:][0, :, 2],
    "new axes": lambda xp, a, b: a[None, 0][..., None] * b[:, None, :, None],
    "negative": lambda xp, a, b: a[:-1, -2:, ::1],
    "numbers on the left": lambda xp, a, b: np.float32(2.0) * a + np.ones((3, 4)) - a,
}  # fmt: skip


def run(function, *arrays, shapes=None):
    """The function as a graph, run by ONNX Runtime."""
    recorder = Recorder()
    names = "abcd"[: len(arrays)]
    inputs = [recorder.input(n, s) for n, s in zip(names, shapes or [x.shape for x in arrays], strict=True)]
    data = graph(recorder, {"y": function(recorder, *inputs)}, {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    known = {x.name for x in session.get_inputs()}
    return session.run(None, {n: x for n, x in zip(names, arrays, strict=True) if n in known})[0]


def test_every_function_is_here():
    assert {*XP_SUBSET, *XP_SELECTION} == set(FUNCTIONS)


@pytest.mark.parametrize("name", [*FUNCTIONS, *OPERATIONS])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_function_gives_what_numpy_gives(name):
    function = {**FUNCTIONS, **OPERATIONS}[name]
    expected = function(np, A, B)
    found = run(function, A, B)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_equal_elements_keep_their_order():
    assert run(lambda xp, x: xp.argsort(x, axis=-1, stable=True), TIES).tolist() == [1, 3, 0, 2, 4]
    assert run(lambda xp, x: xp.argmin(x, axis=-1), TIES) == 1


def test_what_is_not_finite_stays_so():
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    for function in ("abs", "exp", "sqrt", "sin", "tanh"):
        with np.errstate(invalid="ignore"):
            expected = getattr(np, function)(x)
        np.testing.assert_array_equal(np.isnan(run(lambda xp, x, f=function: getattr(xp, f)(x), x)), np.isnan(expected))
    for clipped in (run(lambda xp, x: xp.clip(x, -2.0, 2.0), x), run(lambda xp, x: xp.maximum(x, np.zeros(4)), x)):
        assert np.isnan(clipped[0])
    assert run(lambda xp, x: xp.where(xp.isfinite(x), 1.0, 0.0), x).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_what_is_done_to_arrays_alone_leaves_no_node():
    recorder = Recorder()
    x = recorder.input("x", (4,))
    made = x + recorder.exp(recorder.concat([np.zeros(2), recorder.arange(2)], axis=0)) * recorder.ones_like(x)
    assert [node.op_type for node in recorder.nodes] == ["Add"]
    assert made.shape == (4,)


def test_what_only_repeats_itself_is_one_number_in_the_file():
    recorder = Recorder()
    x = recorder.input("x", (1000, 1000))
    graph(recorder, {"y": recorder.maximum(x, recorder.zeros_like(x))}, {})
    assert max(array.size for array in recorder.constants.values()) == 1


def test_what_no_output_needs_is_left_out():
    recorder = Recorder()
    x, y = recorder.input("x", (3,)), recorder.input("y", (3,))
    recorder.named("unused", np.ones(1000))
    assert y.shape == recorder.exp(y).shape
    data = graph(recorder, {"z": x * 2.0}, {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["x"]
    assert len(data) < 400


def test_an_axis_with_a_name_has_any_size():
    def doubled(xp, a):
        return xp.matmul(a, np.eye(4)) * 2.0 + xp.sum(a, axis=-1)[..., None]

    for count in (1, 5):
        x = np.ones((2, count, 4), np.float32)
        np.testing.assert_allclose(run(doubled, x, shapes=[(2, BATCH, 4)]), x * 2.0 + 4.0)
    with pytest.raises(GraphError, match=r"axis 'B' has any size, and here it takes one"):
        run(lambda xp, a: xp.broadcast_to(a, (2, BATCH, 4)), np.ones((1, 3, 4), np.float32), shapes=[(1, BATCH, 4)])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda xp, a: xp.linalg(a), r"xp\.linalg: not known how to export; it takes the functions of core\.XP_SUBSET"),
        (lambda xp, a: a[::2], r"x\[slice.*takes steps of one"),
        (lambda xp, a: a[np.array([0, 1])], r"it takes whole numbers, slices, None and '\.\.\.'"),
        (lambda xp, a: a if a[0] > 0.0 else -a, "instead of a Python if it takes xp.where"),
        (lambda xp, a: a + np.array(["text"]), "a constant of <U4: it takes floats, whole numbers or booleans"),
        (lambda xp, a: xp.maximum(a, np.ones(5)), r"shapes \(4,\), \(5,\): they cannot be broadcast"),
    ],
)
def test_what_cannot_be_written_is_named(function, said):
    recorder = Recorder()
    with pytest.raises(GraphError, match=said):
        function(recorder, recorder.input("a", (4,)))


def test_shapes_are_broadcast_as_numpy_does():
    for shapes in [((2, 1, 4), (3, 1)), ((), (5,)), ((1,), (1, 1)), ((4,), (2, 3, 4))]:
        assert broadcast(*shapes) == np.broadcast_shapes(*shapes)


def test_a_named_constant_is_one_array():
    recorder = Recorder()
    recorder.named("w", np.ones(3))
    recorder.named("w", np.ones(3))
    with pytest.raises(GraphError, match="constant 'w': there is another one of that name"):
        recorder.named("w", np.zeros(3))
