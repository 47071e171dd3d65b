"""xp code as an ONNX graph: the source that runs on NumPy and is fitted on torch writes down what it does.

``Recorder`` is an ``xp``, as ``dynamics/symbolic.py`` has one for CasADi: each function that meets a ``Traced`` adds a
node and gives the ``Traced`` that comes out; what is done to arrays alone is done at once, by NumPy, so that constants
are folded. The graph has what the source has and nothing else: standard operators of one opset, one file, no external
data, and the same bytes each time. Floats are float32. What no output needs is left out.

A matrix may be ``Quantized``: what is multiplied by it is rounded to eight bits on the way, with one step for the whole
tensor, and the product is of whole numbers. ONNX Runtime makes one operator of these when it opens the graph.

A ``Traced`` knows its shape, so that ``x.shape`` may be read as of any array; an axis may have a name in place of a
size, and then has any. Python cannot branch on its values.

    recorder = Recorder()
    x = recorder.input("x", (BATCH, 3))
    data = graph(recorder, {"y": xp_code(recorder, x)}, metadata={})
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.onnx_check import IR_VERSION, OPSET, GraphError, checked, package

BATCH = "B"
"""Name of the axis that may have any size."""
KINDS = {"f": np.dtype(np.float32), "i": np.dtype(np.int64), "b": np.dtype(np.bool_)}
"""What tensors hold, by the kind of the arrays that they are made of."""
ELEMENTWISE = {
    "abs": "Abs", "ceil": "Ceil", "cos": "Cos", "exp": "Exp", "floor": "Floor", "log": "Log", "maximum": "Max",
    "minimum": "Min", "relu": "Relu", "sigmoid": "Sigmoid", "sin": "Sin", "sqrt": "Sqrt", "tanh": "Tanh",
}  # fmt: skip
"""Functions that are one operator of the same arguments."""
LOGICAL = ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or")
GREATEST = float(np.finfo(np.float32).max)

EIGHT_BITS = np.dtype(np.int8)
LARGEST_WHOLE = 64
"""Weights in eight bits are whole numbers from minus this to this: two products with 255 then fit in the sixteen bits
in which processors without VNNI add them up, so that every processor finds the same."""

Shape = tuple[Any, ...]
"""Sizes, and names of axes that may have any."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A tensor of the graph."""

    xp: Recorder
    name: str
    shape: Shape
    dtype: np.dtype
    device: str = "cpu"
    __array_ufunc__ = None
    """An array on the left leaves the operation to us."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __add__(self, other: Any) -> Traced:
        return self.xp.add("Add", self, other)

    def __radd__(self, other: Any) -> Traced:
        return self.xp.add("Add", other, self)

    def __sub__(self, other: Any) -> Traced:
        return self.xp.add("Sub", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return self.xp.add("Sub", other, self)

    def __mul__(self, other: Any) -> Traced:
        return self.xp.add("Mul", self, other)

    def __rmul__(self, other: Any) -> Traced:
        return self.xp.add("Mul", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return self.xp.add("Div", self, other)

    def __rtruediv__(self, other: Any) -> Traced:
        return self.xp.add("Div", other, self)

    def __pow__(self, other: Any) -> Traced:
        return self.xp.add("Pow", self, other)

    def __neg__(self) -> Traced:
        return self.xp.add("Neg", self)

    def __lt__(self, other: Any) -> Traced:
        return self.xp.add("Less", self, other)

    def __le__(self, other: Any) -> Traced:
        return self.xp.add("LessOrEqual", self, other)

    def __gt__(self, other: Any) -> Traced:
        return self.xp.add("Greater", self, other)

    def __ge__(self, other: Any) -> Traced:
        return self.xp.add("GreaterOrEqual", self, other)

    def __eq__(self, other: object) -> Traced:  # type: ignore[override] - elementwise, as an array's
        return self.xp.add("Equal", self, other)

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> Traced:
        return self.xp.add("And", self, other)

    def __or__(self, other: Any) -> Traced:
        return self.xp.add("Or", self, other)

    def __bool__(self) -> bool:
        raise GraphError(
            f"'{self.name}' has no truth value while it is traced; instead of a Python if it takes xp.where"
        )

    def __getitem__(self, key: Any) -> Traced:
        """Whole numbers, slices by whole steps, ``...`` and None, as NumPy's."""
        x, axis = self, 0
        keys = key if isinstance(key, tuple) else (key,)
        given = sum(k is not None and k is not Ellipsis for k in keys)
        rest = self.ndim - given
        keys = keys if any(k is Ellipsis for k in keys) else (*keys, Ellipsis)
        for k in keys:
            if k is Ellipsis:
                axis += rest
            elif k is None:
                x, axis = self.xp.expand_dims(x, axis), axis + 1
            elif isinstance(k, slice):
                x, axis = x._sliced(k, axis), axis + 1
            elif isinstance(k, int | np.integer):
                x = self.xp.take(x, np.asarray(k % x.shape[axis]), axis)
            else:
                raise GraphError(f"x[{key}]: not known how to export; it takes whole numbers, slices, None and '...'")
        return x

    def _sliced(self, key: slice, axis: int) -> Traced:
        size = self.shape[axis]
        if key == slice(None):
            return self
        if isinstance(size, str) or key.step not in (None, 1):
            raise GraphError(f"x[{key}] on an axis of size {size}: not known how to export; it takes steps of one")
        start, stop, _ = key.indices(size)
        if (start, stop) == (0, size):
            return self
        shape = (*self.shape[:axis], max(0, stop - start), *self.shape[axis + 1 :])
        return self.xp.node("Slice", [self, _indices(start), _indices(stop), _indices(axis)], shape, self.dtype)


@dataclass(frozen=True)
class Quantized:
    """A matrix in eight bits: in a product it is ``whole`` times ``scale``."""

    whole: Traced
    """Whole numbers [in out]."""
    scale: Traced
    """What one is, in each column [out]."""


def quantized(array: Annotated[np.ndarray, "... in out"]) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers nearest to a matrix, and what one is in each column: its largest element is 64."""
    array = np.asarray(array, dtype=float)  # where the smallest numbers of single precision can be divided
    largest = np.abs(array).max(axis=-2)
    scale = np.where(largest > 0.0, largest, 1.0) / LARGEST_WHOLE
    return np.rint(array / scale[..., None, :]).astype(EIGHT_BITS), scale.astype(np.float32)


def _folded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of arrays alone the function is NumPy's."""
    name = function.__name__

    @functools.wraps(function)
    def either(recorder: Recorder, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Traced) for x in _flat(args)):
            return function(recorder, *args, **kwargs)
        kwargs.pop("device", None)
        return getattr(np, name)(*args, **kwargs)

    return either


class Recorder:
    """The array functions that write nodes, and the graph so far."""

    __name__ = "onnx"
    """As a module of array functions has one."""

    def __init__(self, int8: bool = False) -> None:
        """``int8``: networks have their hidden layers in eight bits."""
        self.int8 = int8
        self.nodes: list[Any] = []
        self.inputs: dict[str, Traced] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def input(self, name: str, shape: Sequence[Any], dtype: Any = np.float32) -> Traced:
        """What the graph takes."""
        self.inputs[name] = Traced(self, name, tuple(shape), np.dtype(dtype))
        return self.inputs[name]

    def named(self, name: str, array: np.ndarray) -> Traced:
        """A constant that can be found by its name, and exchanged."""
        array = _typed(array)
        if name in self.constants and not np.array_equal(self.constants[name], array):
            raise GraphError(f"constant '{name}': there is another one of that name")
        self.constants[name] = array
        return Traced(self, name, array.shape, array.dtype)

    def traced(self, x: Any) -> Traced:
        """The same as a tensor, if it is none."""
        if isinstance(x, Traced):
            return x
        array = _typed(x)
        return Traced(self, self._constant(array), array.shape, array.dtype)

    def node(
        self, operator: str, inputs: Sequence[Any], shape: Shape, dtype: Any, outputs: int = 1, **attributes: Any
    ) -> Traced:
        """A node, and its last output."""
        names = [x.name if isinstance(x, Traced) else self._constant(x) for x in inputs]
        name = f"{operator.lower()}_{len(self.nodes)}"
        made = [f"{name}_{i}" for i in range(outputs - 1)] + [name]
        self.nodes.append(package().helper.make_node(operator, names, made, name=name, **attributes))
        return Traced(self, name, tuple(shape), np.dtype(dtype))

    def add(self, operator: str, *inputs: Any) -> Traced:
        """A node that works element by element."""
        whole = all(x.dtype.kind == "i" for x in inputs if isinstance(x, Traced))
        given = [x if isinstance(x, Traced) else _typed(x) for x in inputs]
        if operator not in ("Where", "And", "Or"):
            given = [x if isinstance(x, Traced) else x.astype(KINDS["i" if whole else "f"], copy=False) for x in given]
        shape = broadcast(*(x.shape for x in given))
        bare = [x if isinstance(x, Traced) else _collapsed(x) for x in given]
        found = broadcast(*(x.shape for x in bare))
        made = self.node(operator, bare, found, bool if operator in LOGICAL else given[-1].dtype)
        return made if found == shape else self.broadcast_to(made, shape)

    def _constant(self, array: np.ndarray) -> str:
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._known)}"
            self.constants[self._known[key]] = array
        return self._known[key]

    # --- The functions of core.XP_SUBSET and core.XP_SELECTION -------------------------------------------

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Any:  # noqa: ARG002 - there is one device
        if not isinstance(x, Traced):
            return np.asarray(x, dtype=dtype)
        kind = x.dtype if dtype is None else KINDS[np.dtype(dtype).kind]
        if kind == x.dtype:
            return x
        return self.node("Cast", [x], x.shape, kind, to=package().helper.np_dtype_to_tensor_dtype(kind))

    def arange(self, *args: float, dtype: Any = None) -> np.ndarray:
        return np.arange(*args, dtype=dtype)

    def zeros_like(self, x: Any) -> np.ndarray:
        return self._filled(0, x)

    def ones_like(self, x: Any) -> np.ndarray:
        return self._filled(1, x)

    @staticmethod
    def _filled(value: int, x: Any) -> np.ndarray:
        """One number all over; along an axis with a name it is there once, to be broadcast."""
        shape = [1 if isinstance(size, str) else size for size in x.shape]
        return np.broadcast_to(np.asarray(value, x.dtype), shape)

    @_folded
    def square(self, x: Any) -> Any:
        return self.add("Mul", x, x)

    @_folded
    def where(self, condition: Any, a: Any, b: Any) -> Any:
        if isinstance(condition, np.ndarray | np.generic) and np.ndim(condition) == 0:
            return a if condition else b
        traced = next((x for x in (a, b) if isinstance(x, Traced)), None)
        kind = traced.dtype if traced is not None else _typed(a).dtype
        a, b = (x if isinstance(x, Traced) else _typed(x).astype(kind) for x in (a, b))
        return self.add("Where", condition, a, b)

    @_folded
    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return self.add("Min", self.add("Max", x, low), high)

    @_folded
    def isfinite(self, x: Any) -> Any:
        return self.add("Abs", x) <= GREATEST

    @_folded
    def matmul(self, a: Any, b: Any) -> Any:
        if isinstance(b, Quantized):
            return self._in_eight_bits(a, b)
        a, b = (x if isinstance(x, Traced) else np.asarray(x, np.float32) for x in (a, b))
        shape = (*broadcast(a.shape[:-2], b.shape[:-2]), *a.shape[-2:-1], *b.shape[1:][-1:])
        return self.node("MatMul", [a, b], shape, np.float32)

    def _in_eight_bits(self, x: Traced, matrix: Quantized) -> Traced:
        """x ~ step (whole - zero), and the product is of whole numbers."""
        zero = self.node("DynamicQuantizeLinear", [x], (), np.uint8, outputs=3)
        whole, step = Traced(self, f"{zero.name}_0", x.shape, zero.dtype), Traced(self, f"{zero.name}_1", (), x.dtype)
        shape = (*x.shape[:-1], matrix.whole.shape[-1])
        product = self.node("MatMulInteger", [whole, matrix.whole, zero], shape, np.int32)
        return self.asarray(product, dtype=x.dtype) * (step * matrix.scale)

    @_folded
    def broadcast_to(self, x: Any, shape: Shape) -> Any:
        if tuple(shape) == x.shape:
            return x
        return self.node("Expand", [x, np.array(_sizes(shape), np.int64)], tuple(shape), x.dtype)

    @_folded
    def reshape(self, x: Any, shape: Shape) -> Any:
        shape = tuple(shape)
        if -1 in shape:
            left = int(np.prod(_sizes(x.shape))) // max(1, -int(np.prod(shape)))
            shape = tuple(left if size == -1 else size for size in shape)
        return x if shape == x.shape else self.node("Reshape", [x, np.array(shape, np.int64)], shape, x.dtype)

    @_folded
    def expand_dims(self, x: Any, axis: int) -> Any:
        axis %= x.ndim + 1
        return self.node("Unsqueeze", [x, _indices(axis)], (*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)

    @_folded
    def moveaxis(self, x: Any, source: int, destination: int) -> Any:
        order = list(range(x.ndim))
        order.insert(destination % x.ndim, order.pop(source % x.ndim))
        return self.node("Transpose", [x], tuple(x.shape[i] for i in order), x.dtype, perm=order)

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        if not any(isinstance(x, Traced) for x in arrays):
            return np.concatenate(arrays, axis=axis)
        arrays = [x if isinstance(x, Traced) else _typed(x) for x in arrays]
        arrays = [x for x in arrays if x.shape[axis] != 0] or arrays[:1]
        first = next(x for x in arrays if isinstance(x, Traced))
        if len(arrays) == 1:
            return arrays[0]
        axis %= first.ndim
        size = sum(x.shape[axis] for x in arrays)
        return self.node(
            "Concat", arrays, (*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype, axis=axis
        )

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        return self.concat([self.expand_dims(x, axis) for x in arrays], axis)

    @_folded
    def take(self, x: Any, indices: Any, axis: int = 0) -> Any:
        x = x if isinstance(x, Traced) else _typed(x)
        axis %= x.ndim
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.node("Gather", [x, indices], shape, x.dtype, axis=axis)

    @_folded
    def sum(self, x: Any, axis: int) -> Any:
        return self._reduced("ReduceSum", x, axis)

    @_folded
    def mean(self, x: Any, axis: int) -> Any:
        return self._reduced("ReduceMean", x, axis)

    @_folded
    def max(self, x: Any, axis: int) -> Any:
        return self._reduced("ReduceMax", x, axis)

    @_folded
    def min(self, x: Any, axis: int) -> Any:
        return self._reduced("ReduceMin", x, axis)

    def _reduced(self, operator: str, x: Traced, axis: int) -> Traced:
        axis %= x.ndim
        return self.node(operator, [x, _indices(axis)], x.shape[:axis] + x.shape[axis + 1 :], x.dtype, keepdims=0)

    @_folded
    def argmin(self, x: Any, axis: int) -> Any:
        axis %= x.ndim
        return self.node("ArgMin", [x], x.shape[:axis] + x.shape[axis + 1 :], np.int64, axis=axis, keepdims=0)

    def argsort(self, x: Any, axis: int, stable: bool = True) -> Any:
        """Of equal elements the first comes first, as TopK has it."""
        if not isinstance(x, Traced):
            return np.argsort(x, axis=axis, stable=stable)
        size = np.array([x.shape[axis]], np.int64)
        return self.node("TopK", [x, size], x.shape, np.int64, outputs=2, axis=axis, largest=0)

    @_folded
    def sort(self, x: Any, axis: int) -> Any:
        order = self.argsort(x, axis)
        values = f"{order.name}_0"
        return Traced(self, values, x.shape, x.dtype)

    def __getattr__(self, name: str) -> Any:
        if name not in ELEMENTWISE:
            raise GraphError(f"xp.{name}: not known how to export; it takes the functions of core.XP_SUBSET")

        def function(*args: Any) -> Any:
            if any(isinstance(x, Traced) for x in args):
                return self.add(ELEMENTWISE[name], *args)
            return getattr(np, name)(*args)

        return function


def broadcast(*shapes: Shape) -> Shape:
    """The shape of what is made element by element; an axis with a name keeps it."""
    found: list[Any] = []
    for i in range(1, max((len(shape) for shape in shapes), default=0) + 1):
        sizes = {shape[-i] for shape in shapes if len(shape) >= i} - {1}
        if len(sizes) > 1:
            raise GraphError(f"shapes {', '.join(map(str, shapes))}: they cannot be broadcast")
        found.append(sizes.pop() if sizes else 1)
    return tuple(reversed(found))


def _typed(x: Any) -> np.ndarray:
    """An array of what tensors hold; a Python number counts as a float."""
    array = np.asarray(x)
    if array.dtype == EIGHT_BITS:
        return array
    kind = "f" if isinstance(x, int) and not isinstance(x, bool) else array.dtype.kind
    if kind not in KINDS:
        raise GraphError(f"a constant of {array.dtype}: it takes floats, whole numbers or booleans")
    return array.astype(KINDS[kind], copy=False)


def _collapsed(x: np.ndarray) -> np.ndarray:
    """The same but for axes along which it only repeats itself: whoever takes it broadcasts."""
    repeats = (stride == 0 and size > 0 for stride, size in zip(x.strides, x.shape, strict=True))
    return x[tuple(slice(0, 1 if same else None) for same in repeats)]


def _sizes(shape: Shape) -> tuple[int, ...]:
    """A shape without names."""
    if named := [axis for axis in shape if isinstance(axis, str)]:
        raise GraphError(f"shape {shape}: axis '{named[0]}' has any size, and here it takes one")
    return tuple(int(size) for size in shape)


def _indices(i: int) -> np.ndarray:
    return np.array([i], np.int64)


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    for x in args:
        yield from _flat(x) if isinstance(x, list | tuple) else (x,)


def graph(recorder: Recorder, outputs: Mapping[str, Traced], metadata: Mapping[str, str], name: str = "graph") -> bytes:
    """What was recorded as a file, as far as the outputs need it."""
    onnx = package()
    helper = onnx.helper
    nodes, given = list(recorder.nodes), {name: recorder.traced(x) for name, x in outputs.items()}
    nodes += [helper.make_node("Identity", [tensor.name], [made], name=made) for made, tensor in given.items()]
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [
        onnx.numpy_helper.from_array(array, name) for name, array in recorder.constants.items() if name in needed
    ]
    made = helper.make_model(
        helper.make_graph(
            kept[::-1],
            name,
            [_info(helper, name, x) for name, x in recorder.inputs.items() if name in needed],
            [_info(helper, name, x) for name, x in given.items()],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mbrl_control",
    )
    helper.set_model_props(made, dict(metadata))
    data = made.SerializeToString(deterministic=True)
    checked(data)
    return data


def exchanged(data: bytes, constants: Mapping[str, np.ndarray]) -> bytes:
    """A graph with other values of its named constants, as far as it has them; their shapes stay."""
    onnx = package()
    made = onnx.load_model_from_string(data)
    for tensor in made.graph.initializer:
        if tensor.name in constants:
            array = constants[tensor.name].astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            if array.shape != tuple(tensor.dims) or not np.isfinite(array).all():
                raise GraphError(f"constant '{tensor.name}': it takes finite numbers {list(tensor.dims)}")
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return made.SerializeToString(deterministic=True)


def _info(helper: Any, name: str, x: Traced) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))
