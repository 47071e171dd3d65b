"""What a graph has to be before anybody runs it, whoever wrote it.

A file may be torn, of another make, or made to do harm: to read other files, to take all memory, to bring the process
down. ``checked`` gives the graph of a file, or one line that says what is wrong and what would be taken; ONNX Runtime
has seen nothing of it by then. Everything is a list of what is allowed, from what is cheap to look at to what is not:

    bytes       at most ``LARGEST``; a message as the onnx package knows it, without fields that it does not know
    operators   of the standard, of one opset, on our list: no control flow, nobody else's
    fields      on our list: no functions, graphs within graphs, data in other files, sparse constants or training
    constants   as long as they say that they are, and finite
    checker     the onnx package's own, with inferred shapes
    sizes       every tensor on the way, inferred for ``ROWS`` rows, of a size that is known and not too large

What can divide by zero in whole numbers, or shapes whose product overflows, ends a process without a word: that is
refused before the checker infers shapes of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbrl_control.core import MbrlError
from mbrl_control.model_folder import LARGEST

OPSET, IR_VERSION = 18, 8
"""Old enough for every ONNX Runtime since 2023."""
OPERATORS = frozenset(
    name
    for names in (
        "Abs Add Ceil Div Exp Floor Log MatMul Max Min Mul Neg Pow Sqrt Sub",
        "Clip Cos Identity Relu Sigmoid Sin Tanh",
        "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Where",
        "ArgMin ReduceMax ReduceMean ReduceMin ReduceSum TopK",
        "Cast Concat Expand Gather Reshape Slice Transpose Unsqueeze",
        "DequantizeLinear DynamicQuantizeLinear MatMulInteger QuantizeLinear",
    )
    for name in names.split()
)
"""The only ones that a graph may have: arithmetic, functions, choice, over an axis, shape, eight bits."""
FIELDS: Mapping[str, frozenset[str]] = {
    message: frozenset(names.split())
    for message, names in {
        "ModelProto": "ir_version opset_import producer_name producer_version domain model_version doc_string graph "
        "metadata_props",
        "OperatorSetIdProto": "domain version",
        "StringStringEntryProto": "key value",
        "GraphProto": "name doc_string node initializer input output value_info metadata_props",
        "NodeProto": "name doc_string op_type domain input output attribute metadata_props",
        "AttributeProto": "name doc_string type f i s floats ints strings",
        "TensorProto": "name doc_string data_type dims data_location raw_data float_data double_data int32_data "
        "int64_data metadata_props",
        "ValueInfoProto": "name doc_string type metadata_props",
        "TypeProto": "tensor_type denotation",
        "Tensor": "elem_type shape",
        "TensorShapeProto": "dim",
        "Dimension": "dim_value dim_param denotation",
    }.items()
}
"""What each message of a file may have."""
TYPES = {
    "FLOAT": (4, "float_data"),
    "DOUBLE": (8, "double_data"),
    "INT32": (4, "int32_data"),
    "INT64": (8, "int64_data"),
    "INT8": (1, "int32_data"),
    "UINT8": (1, "int32_data"),
    "BOOL": (1, "int32_data"),
}
"""Of tensors: bytes of an element, and the field that has elements where they are not raw."""
FLOATING = ("FLOAT", "DOUBLE")
NODES, PARTS = 2**16, 2**20
"""The most operators, and the most messages of any kind, of a file."""
DIMENSION, RANK, ELEMENTS = 2**24, 8, 2**28
"""The largest axis, the most axes, and the most elements of one tensor."""
ROWS = 1024
"""Sizes are inferred for so many along each axis of any size, as a planner's samples are."""
SHAPED = ("Reshape", "Expand")
"""Operators whose second input is a shape."""


class GraphError(MbrlError):
    """A graph that cannot be written, or that we would not run."""


def package() -> Any:
    """The onnx package."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise GraphError("onnx is not installed, without which no graph is written or run: pip install onnx") from None
    return onnx


def checked(data: bytes) -> Any:
    """The graph of a file, if it is one that we would run."""
    onnx = package()
    if len(data) > LARGEST:
        raise GraphError(f"a graph of {len(data)} bytes: at most {LARGEST} are taken")
    try:
        made = _read(onnx, data)
        _operators(made)
        _fields(made)
        constants = {tensor.name: _constant(onnx, tensor) for tensor in made.graph.initializer}
        if len(constants) < len(made.graph.initializer):
            raise GraphError("a graph with two constants of one name: it takes one of each")
        inputs = {value.name: _declared(onnx, value, ROWS) for value in made.graph.input}
        for value in (*made.graph.output, *made.graph.value_info):
            _declared(onnx, value, 1)  # where they leave something open, it is inferred
        _shapes(made, constants)
        onnx.checker.check_model(made, full_check=True)
        _sizes(onnx, made, inputs)
    except GraphError:
        raise
    except Exception as error:  # protobuf's, the checker's and shape inference's own have no common base
        why = " ".join(str(error).split())[:200]
        raise GraphError(f"no ONNX graph ({why}): it takes one as 'mbrl export' writes it") from None
    return made


def _read(onnx: Any, data: bytes) -> Any:
    made = onnx.load_model_from_string(data)
    size = made.ByteSize()
    made.DiscardUnknownFields()
    if not made.HasField("graph") or made.ByteSize() != size:
        raise GraphError("no ONNX graph (none in it, or fields that nobody knows): it takes one of 'mbrl export'")
    if made.ir_version != IR_VERSION:
        raise GraphError(f"a graph of IR version {made.ir_version}: it takes {IR_VERSION}")
    opsets = [(entry.domain, entry.version) for entry in made.opset_import]
    if opsets != [("", OPSET)]:
        said = ", ".join(f"{domain or 'the standard'} {version}" for domain, version in opsets[:8]) or "none"
        raise GraphError(f"a graph of opsets {said}: it takes the standard {OPSET} alone")
    return made


def _operators(made: Any) -> None:
    """Of the list, and not too many."""
    nodes = made.graph.node
    if not 0 < len(nodes) <= NODES:
        raise GraphError(f"a graph of {len(nodes)} operators: it takes 1 to {NODES}")
    if foreign := sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain}):
        raise GraphError(f"a graph with operators {_some(foreign)}: it takes standard ones alone")
    if unknown := sorted({str(node.op_type) for node in nodes} - OPERATORS):
        raise GraphError(f"a graph with operators {_some(unknown)}: it takes {', '.join(sorted(OPERATORS))}")
    named = [node.name for node in nodes if node.name]
    if len(set(named)) < len(named):
        raise GraphError("a graph with two operators of one name: it takes one of each")


def _some(names: Sequence[str]) -> str:
    """The first ones, in characters that can be shown on one line."""
    return ", ".join(ascii(name[:40])[1:-1] for name in names[:8])


def _fields(made: Any) -> None:
    """Every message has fields of the list alone; texts are texts, and numbers of attributes finite."""
    waiting, count = [made], 0
    while waiting:
        message = waiting.pop()
        kind = message.DESCRIPTOR.name
        for field, value in message.ListFields():
            if field.name not in FIELDS[kind]:
                raise GraphError(
                    f"a graph with '{field.name}' in a {kind}: it takes one file of plain operators and their "
                    f"constants, without other files, functions, inner graphs or training"
                )
            if field.message_type is not None:
                inner = [value] if hasattr(value, "ListFields") else value
                count += len(inner)
                if count > PARTS:
                    raise GraphError(f"a graph of more than {PARTS} parts: no more are taken")
                waiting += inner
            elif field.type == field.TYPE_STRING:
                if not all(isinstance(text, str) for text in ([value] if isinstance(value, str | bytes) else value)):
                    raise GraphError(f"a graph with '{field.name}' in a {kind} that is no text: it takes UTF-8")
            elif kind == "AttributeProto" and field.name in ("f", "floats") and not np.isfinite(value).all():
                raise GraphError(f"a graph with {_named(message.name)} not finite: it takes finite numbers")


def _named(name: str) -> str:
    return f"'{_some([name])}'"


def _constant(onnx: Any, tensor: Any) -> np.ndarray:
    """A constant of the graph, as long as it says and finite."""
    name = f"constant {_named(tensor.name)}"
    if tensor.data_location != onnx.TensorProto.DEFAULT:
        raise GraphError(f"{name} in another file: it takes one file")
    kind, shape = _kind(onnx, name, tensor.data_type), tuple(tensor.dims)
    count = _count(name, shape)
    size, field = TYPES[kind]
    raw = tensor.HasField("raw_data")
    found = len(tensor.raw_data) / size if raw else len(getattr(tensor, field))
    if found != count:
        raise GraphError(f"{name} with {found:g} elements: it takes {count}, since it is {list(shape)}")
    array = onnx.numpy_helper.to_array(tensor)
    if kind in FLOATING and not np.isfinite(array).all():
        raise GraphError(f"{name} not finite: it takes finite weights")
    return array


def _kind(onnx: Any, name: str, code: int) -> str:
    kind = next((kind for kind in TYPES if getattr(onnx.TensorProto, kind) == code), "")
    if not kind:
        raise GraphError(f"{name} of element type {code}: it takes {', '.join(TYPES)}")
    return kind


def _count(name: str, shape: Sequence[int]) -> int:
    """The elements of a shape, which is one that we take."""
    if len(shape) > RANK or not all(0 <= size <= DIMENSION for size in shape) or math.prod(shape) > ELEMENTS:
        shown = f"{list(shape[:RANK])}{' and more' * (len(shape) > RANK)}"
        raise GraphError(f"{name} of shape {shown}: it takes {RANK} axes of {DIMENSION}, {ELEMENTS} elements in all")
    return math.prod(shape)


def _declared(onnx: Any, value: Any, rows: int) -> tuple[int, ...]:
    """The shape that a tensor says it has, where axes of any size have so many rows."""
    name, tensor = f"tensor {_named(value.name)}", value.type.tensor_type
    if not tensor.HasField("shape"):
        raise GraphError(f"{name} without a shape: it takes tensors that have one")
    _kind(onnx, name, tensor.elem_type)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else rows for dim in tensor.shape.dim)
    _count(name, shape)
    return shape


def _shapes(made: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Shapes that operators are given are constants, whose product is no more than a tensor may have."""
    for node in made.graph.node:
        if node.op_type not in SHAPED:
            continue
        name = f"{node.op_type} {_named(node.name)}"
        given = constants.get(node.input[1] if len(node.input) > 1 else "")
        if given is None or given.dtype != np.int64 or given.ndim != 1:
            raise GraphError(f"{name} to a shape that is computed: it takes a constant one")
        sizes = [int(size) for size in given[: RANK + 1]]
        if min(sizes, default=0) < -1:
            raise GraphError(f"{name} to {sizes}: it takes sizes from -1")
        _count(name, [abs(size) for size in sizes])
        _count(name, [abs(size) or 1 for size in sizes])  # a zero may stand for whatever was there


def _sizes(onnx: Any, made: Any, inputs: Mapping[str, tuple[int, ...]]) -> None:
    """Every tensor on the way has a size that is known, and that we take; outputs have the one that they say."""
    concrete = onnx.ModelProto()
    concrete.CopyFrom(made)
    del concrete.graph.value_info[:]
    for value in concrete.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name], strict=True):
            dim.dim_value = size
    for value in concrete.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(concrete, check_type=True, strict_mode=True).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.output, *inferred.value_info)}
    for node in made.graph.node:
        for output in filter(None, node.output):
            name = f"{node.op_type} {_named(output)}"
            tensor = types.get(output)
            if tensor is None or not tensor.HasField("shape"):
                raise GraphError(f"{name} of a size that nothing says: it takes sizes that are known beforehand")
            if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                raise GraphError(f"{name} of a size that nothing says: it takes sizes that are known beforehand")
            _count(name, [dim.dim_value for dim in tensor.shape.dim])
            if _kind(onnx, name, tensor.elem_type) not in FLOATING and node.op_type == "Div":
                raise GraphError(f"{name} of whole numbers, where zero ends the process: it takes floating ones")
    rows = {dim.dim_param for value in made.graph.input for dim in value.type.tensor_type.shape.dim} - {""}
    for value in made.graph.output:
        found, said = types[value.name].shape.dim, value.type.tensor_type.shape.dim
        sizes = [dim.dim_value for dim in found]
        kept = [d.dim_value if d.HasField("dim_value") else ROWS if d.dim_param in rows else None for d in said]
        if len(sizes) != len(kept) or any(size not in (None, there) for size, there in zip(kept, sizes, strict=True)):
            expected = f"it takes {[size or 'any' for size in kept]}, as it says itself"
            raise GraphError(f"output {_named(value.name)} of shape {sizes} for {ROWS} rows: {expected}")


def tensors(made: Any) -> dict[str, str]:
    """What a graph takes and gives, in words: element type and shape, as ``{"x": "FLOAT [5, any, 35]"}``."""
    kinds, found = package().TensorProto.DataType, {}
    for value in (*made.graph.input, *made.graph.output):
        tensor = value.type.tensor_type
        shape = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else "any" for dim in tensor.shape.dim)
        found[value.name] = f"{kinds.Name(tensor.elem_type)} [{shape}]"
    return found


def weights_of(made: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The constants of a graph that has them under these names, as ``Net.shapes()`` has the weights of networks."""
    there = {tensor.name: tensor for tensor in made.graph.initializer}
    if missing := [name for name in shapes if name not in there]:
        raise GraphError(
            f"a graph without weights {', '.join(missing)}: it takes one that has them by name, as 'mbrl export' writes"
        )
    found = {name: package().numpy_helper.to_array(there[name]) for name in shapes}
    for name, shape in shapes.items():
        if found[name].shape != shape or found[name].dtype.kind != "f":
            said = f"{found[name].dtype} {list(found[name].shape)}"
            raise GraphError(f"weights '{name}' of {said}: it takes floating numbers {list(shape)}")
    return found
