"""xp code as an ONNX graph: the source that predicts on NumPy and is fitted on torch writes down what it does.

``Recorder`` is an ``xp``, as ``dynamics/symbolic.py`` has one for CasADi: each function that meets a ``Traced`` adds a
node and gives the ``Traced`` that comes out; what is done to arrays alone is done at once, so that constants are
folded. The graph has what the source has and nothing else: standard operators of one opset, one file, no external data,
and the same bytes each time. It has the functions that networks use; another one is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbrl_control.onnx_check import IR_VERSION, OPSET, GraphError, checked, package

BATCH = "B"
"""Name of the axis that may have any size."""


@dataclass
class Recorder:
    """The array functions that write nodes, and the graph so far."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, operator: str, *inputs: Any) -> Traced:
        """A node; arrays and numbers among its inputs become constants of the graph."""
        names = [x.name if isinstance(x, Traced) else self._constant(x) for x in inputs]
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(package().helper.make_node(operator, names, [name], name=name))
        return Traced(self, name)

    def _constant(self, value: Any) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" or array.ndim == 0 else array
        for name, known in self.constants.items():
            if known.dtype == array.dtype and np.array_equal(known, array) and known.shape == array.shape:
                return name
        self.constants[name := f"c{len(self.constants)}"] = array
        return name

    def matmul(self, a: Any, b: Any) -> Any:
        return self.add("MatMul", a, b)

    def maximum(self, a: Any, b: Any) -> Any:
        return self.add("Max", a, b)

    def zeros_like(self, x: Any) -> Any:
        """A zero, which every operator here broadcasts."""
        return np.zeros((), np.float32) if isinstance(x, Traced) else np.zeros_like(x)

    def clip(self, x: Any, low: float, high: float) -> Any:
        return self.add("Clip", x, low, high)

    def exp(self, x: Any) -> Any:
        return self.add("Exp", x) if isinstance(x, Traced) else np.exp(x)

    def tanh(self, x: Any) -> Any:
        return self.add("Tanh", x) if isinstance(x, Traced) else np.tanh(x)

    def __getattr__(self, name: str) -> Any:
        raise GraphError(f"xp.{name}: not known how to export; 'mbrl export' takes networks of known activations")


@dataclass(frozen=True)
class Traced:
    """A tensor of the graph."""

    xp: Recorder
    name: str
    __array_ufunc__ = None
    """An array on the left leaves the operation to us."""

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

    def __neg__(self) -> Traced:
        return self.xp.add("Neg", self)

    def __getitem__(self, key: Any) -> Traced:
        """``x[..., a:b]``: elements of the last axis."""
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis and isinstance(key[1], slice)):
            raise GraphError(f"x[{key}]: not known how to export; it takes x[..., a:b]")
        start, stop = key[1].start or 0, key[1].stop if key[1].stop is not None else np.iinfo(np.int64).max
        return self.xp.add("Slice", self, *(np.array([i], np.int64) for i in (start, stop, -1)))


def graph(
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, tuple[Traced, Sequence[int | str]]],
    recorder: Recorder,
    metadata: Mapping[str, str],
) -> bytes:
    """What was recorded as a file; shapes by name, ``BATCH`` for an axis of any size."""
    onnx = package()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    takes = [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()]
    gives = [helper.make_tensor_value_info(name, kind, list(shape)) for name, (_, shape) in outputs.items()]
    called = {tensor.name: name for name, (tensor, _) in outputs.items()}
    for node in recorder.nodes:
        for names in (node.input, node.output):
            names[:] = [called.get(name, name) for name in names]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in recorder.constants.items()]
    made = helper.make_model(
        helper.make_graph(recorder.nodes, "members", takes, gives, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mbrl_control",
    )
    helper.set_model_props(made, dict(metadata))
    data = made.SerializeToString(deterministic=True)
    checked(data)
    return data
