"""Model folders that are torn, of something else, or made to do harm: one line each, before ONNX Runtime sees them.

Whoever can write the graph can write the card too, so the card's sha256 is always made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from mbrl_control import cli, model_folder, onnx_check, registry
from mbrl_control.core import MbrlError
from mbrl_control.dynamics.onnx import Session, examined, read
from mbrl_control.export import graph_of
from mbrl_control.model import Model, spec_for
from mbrl_control.model_folder import CARD, GRAPH, WEIGHTS
from mbrl_control.networks import Net, initial
from mbrl_control.onnx_check import GraphError, checked
from mbrl_control.paths import share

PANDA = share() / "models" / "panda"
ACCEPTED = r"it takes |at most |no more |its card says |no ONNX graph \(|'mbrl export'"
"""How a refusal says what would do."""


@pytest.fixture
def folder(tmp_path):
    """A copy of the model that ships, graph and card alone."""
    (tmp_path / "panda").mkdir()
    shutil.copy(PANDA / GRAPH, tmp_path / "panda")
    planted(tmp_path / "panda")
    return tmp_path / "panda"


def planted(folder, data=None, **changes):
    """Another graph in a folder, and a card that says so; ``changes`` of the card besides."""
    there = folder / CARD if (folder / CARD).exists() else PANDA / CARD
    if data is not None:
        (folder / GRAPH).write_bytes(data)
    card = yaml.load(there.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) | changes
    card["sha256"] = {GRAPH: hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()} | changes.get("sha256", {})
    (folder / CARD).write_text(yaml.dump(card, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))


def harmed(folder, harm):
    """The graph of a folder, changed."""
    made = onnx.load_model_from_string((folder / GRAPH).read_bytes())
    harm(made)
    planted(folder, made.SerializeToString())


@pytest.fixture
def sessions(monkeypatch):
    """What ONNX Runtime was asked to open."""
    asked = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **_: asked.append(args))
    return asked


def load(folder, robot="panda"):
    return registry.make("dynamics", "onnx", registry.make("robots", robot), overrides={"model": str(folder)})


def refused(folder, said, sessions):
    """One line that names the file and says what would do; nothing was opened."""
    with pytest.raises(MbrlError, match=said) as found:
        load(folder)
    line = str(found.value)
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 1000
    assert str(folder) in line
    assert re.search(ACCEPTED, line), line
    assert not sessions


# --- Graphs -------------------------------------------------------------------------------------------


def node(operator, inputs=("x",), **attributes):
    """Adds an operator whose output nobody reads."""

    def add(made):
        made.graph.node.append(helper.make_node(operator, list(inputs), ["spare"], name="spare", **attributes))

    return add


def constant(name, array):
    return lambda made: made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def one(made):
    """A constant, of one number."""
    constant("one", np.ones(1, np.float32))(made)


def several(*harms):
    def all_of(made):
        for harm in harms:
            harm(made)

    return all_of


def weights(made):
    """Those of the first layer."""
    return next(tensor for tensor in made.graph.initializer if list(tensor.dims) == [5, 35, 64])


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def pointed(made):
    """Elsewhere, without saying where."""
    weights(made).ClearField("raw_data")
    weights(made).data_location = TensorProto.EXTERNAL


def elsewhere():
    return external(helper.make_tensor("w", TensorProto.FLOAT, [4], np.zeros(4, np.float32).tobytes(), raw=True))


def inner():
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [out])


def sparse():
    values, at = (
        helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
    )
    return helper.make_sparse_tensor(values, at, [2**40])


def domain(name):
    return lambda made: made.opset_import.append(helper.make_opsetid(name, 1))


def function(made):
    made.functions.append(
        helper.make_function("", "Add", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], made.opset_import)
    )


def training(made):
    made.training_info.add().algorithm.CopyFrom(inner())


def size_of(where, axis, size):
    """An axis of an input or output."""
    return lambda made: setattr(getattr(made.graph, where)[0].type.tensor_type.shape.dim[axis], "dim_value", size)


def long_constant(made):
    weights(made).dims[0] = 2**40


def negative_constant(made):
    weights(made).dims[:] = [-5, -35, 64]


def short_constant(made):
    weights(made).raw_data = weights(made).raw_data[:-4]


def typed_constant(made):
    tensor = weights(made)
    tensor.ClearField("raw_data")
    tensor.float_data[:] = [1.0]


def weight(value):
    def spoil(made):
        tensor = weights(made)
        array = numpy_helper.to_array(tensor).copy()
        array[-1, -1, -1] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return spoil


def typed_weight(made):
    made.graph.initializer.append(helper.make_tensor("spare", TensorProto.FLOAT, [2], [1.0, float("inf")]))


def typed(kind):
    """A constant of a type that is not ours."""
    return lambda made: made.graph.initializer.append(
        helper.make_tensor("spare", kind, [1], [b"x" if kind == 8 else 1])
    )


def doubled(made):
    made.graph.initializer.append(weights(made))


def chain(operator, count, grow):
    """The same operator again and again, on what the one before gave."""

    def add(made):
        for k in range(count):
            inputs = [f"k{k - 1}" if k else "x"] * grow
            attributes = {"axis": 1} if operator == "Concat" else {}
            made.graph.node.append(helper.make_node(operator, inputs, [f"k{k}"], **attributes))

    return add


def outer(made):
    """Two tensors that may be, and a third of all their pairs."""
    one(made)
    for name, shape in {"a": [2**20, 1], "b": [1, 2**20]}.items():
        constant(name, np.array(shape, np.int64))(made)
        made.graph.node.append(helper.make_node("Expand", ["one", name], [f"{name}_wide"]))
    made.graph.node.append(helper.make_node("Add", ["a_wide", "b_wide"], ["spare"]))


def shaped(operator, sizes):
    return several(one, constant("sizes", np.array(sizes, np.int64)), node(operator, ("one", "sizes")))


def widened(made):
    """No more than a tensor may have, in each of a planner's rows."""
    constant("sizes", np.array([2**15, 1, 1, 1]))(made)
    node("Expand", ("x", "sizes"))(made)


def whole_numbers(made):
    node("Cast", to=TensorProto.INT64)(made)
    constant("zero", np.array(0, np.int64))(made)
    made.graph.node.append(helper.make_node("Div", ["spare", "zero"], ["bang"]))


def computed_shape(made):
    one(made)
    made.graph.node.append(helper.make_node("Cast", ["one"], ["sizes"], to=TensorProto.INT64))
    node("Expand", ("x", "sizes"))(made)


def computed_count(made):
    one(made)
    made.graph.node.append(helper.make_node("Cast", ["one"], ["count"], to=TensorProto.INT64))
    made.graph.node.append(helper.make_node("TopK", ["x", "count"], ["spare", "at"]))


def no_text(name, number):
    """A text of an operator that is no UTF-8, on its way past the setter."""

    def spoil(made):
        made.graph.node[0].ClearField(name)
        made.graph.node[0].MergeFromString(bytes([number << 3 | 2, 2, 0xFF, 0xFE]))

    return spoil


def unsaid(made):
    made.graph.output[0].type.tensor_type.ClearField("shape")


def identity(value):
    def say(made):
        made.metadata_props[0].value = value

    return say


def of_other_rows(made):
    """A mean of all rows, that says it has one for each."""
    constant("all", np.array([1], np.int64))(made)
    next(node for node in made.graph.node if node.output[0] == "mean").output[0] = "each"
    made.graph.node.append(helper.make_node("ReduceMean", ["each", "all"], ["mean"]))


GRAPHS = {
    "external data": (lambda made: external(weights(made)), "'external_data' in a TensorProto"),
    "external, no place": (pointed, r"constant '\w+' in another file"),
    "external in Constant": (node("Constant", (), value=elsewhere()), "operators Constant: it takes Abs"),
    "external in attribute": (node("Neg", value=elsewhere()), "'t' in a AttributeProto"),
    "sparse constant": (lambda made: made.graph.sparse_initializer.append(sparse()), "'sparse_initializer'"),
    "sparse attribute": (node("Neg", value=sparse()), "'sparse_tensor' in a AttributeProto"),
    "custom domain": (several(domain("evil"), node("Neg", domain="evil")), "opsets the standard 18, evil 1: it takes"),
    "custom, undeclared": (node("Neg", domain="evil\n"), r"operators evil\\n.Neg: it takes standard ones"),
    "com.microsoft": (several(domain("com.microsoft"), node("Gelu", domain="com.microsoft")), "com.microsoft 1"),
    "If": (node("If", then_branch=inner(), else_branch=inner()), "operators If: it takes"),
    "Loop": (node("Loop", ("", "", "x"), body=inner()), "operators Loop: it takes"),
    "Scan": (node("Scan", body=inner(), num_scan_inputs=1), "operators Scan: it takes"),
    "inner graph": (node("Neg", body=inner()), "'g' in a AttributeProto"),
    "inner graphs": (node("Neg", bodies=[inner()]), "'graphs' in a AttributeProto"),
    "function": (function, "'functions' in a ModelProto"),
    "training": (training, "'training_info' in a ModelProto"),
    "unknown field": (lambda made: made.MergeFromString(b"\xba\x3e\x01x"), "fields that nobody knows"),
    "opset 17": (lambda made: setattr(made.opset_import[0], "version", 17), "opsets the standard 17: it takes"),
    "opset 99": (lambda made: setattr(made.opset_import[0], "version", 99), "opsets the standard 99: it takes"),
    "two opsets": (
        lambda made: made.opset_import.append(helper.make_opsetid("", 17)),
        "standard 18, the standard 17",
    ),
    "no opset": (lambda made: made.ClearField("opset_import"), "opsets none: it takes"),
    "IR of tomorrow": (lambda made: setattr(made, "ir_version", 99), "IR version 99: it takes 8"),
    "IR of yesterday": (lambda made: setattr(made, "ir_version", 3), "IR version 3: it takes 8"),
    "no graph": (lambda made: made.ClearField("graph"), "no ONNX graph"),
    "no operators": (lambda made: made.graph.ClearField("node"), "0 operators: it takes 1"),
    "no such attribute": (node("Neg", alpha=1), "Unrecognized attribute"),
    "not finite attribute": (node("Neg", alpha=float("nan")), "'alpha' not finite"),
    "operator of no text": (no_text("op_type", 4), r"operators b.*xff"),
    "name of no text": (no_text("name", 3), "'name' in a NodeProto that is no text: it takes UTF-8"),
    "input of no text": (no_text("input", 1), "'input' in a NodeProto that is no text: it takes UTF-8"),
    "nobody's input": (node("Neg", ("nobody",)), "no ONNX graph .*nobody"),
    "huge input": (size_of("input", 0, 2**40), "tensor 'x' of shape .* it takes 8 axes"),
    "huge output": (size_of("output", 2, 2**40), "tensor 'mean' of shape"),
    "negative input": (size_of("input", 0, -1), "tensor 'x' of shape"),
    "huge constant": (long_constant, r"constant '\w+' of shape"),
    "negative constant": (negative_constant, r"constant '\w+' of shape"),
    "short constant": (
        short_constant,
        r"constant '\w+' with 11199 elements: it takes 11200, since it is \[5, ",
    ),
    "short typed constant": (typed_constant, r"constant '\w+' with 1 elements: it takes 11200"),
    "constant of text": (typed(TensorProto.STRING), "'string_data' in a TensorProto"),
    "constant of a strange type": (typed(TensorProto.BFLOAT16), "constant 'spare' of element type 16: it takes FLOAT"),
    "two of one name": (doubled, "two constants of one name"),
    "two operators of one name": (several(node("Neg"), node("Neg")), "two operators of one name"),
    "NaN weight": (weight(np.nan), r"constant '\w+' not finite: it takes finite weights"),
    "infinite weight": (weight(-np.inf), r"constant '\w+' not finite"),
    "infinite typed weight": (typed_weight, "constant 'spare' not finite"),
    "Expand bomb": (shaped("Expand", [2**20, 2**20]), "Expand 'spare' of shape"),
    "Expand of each row": (widened, "Expand 'spare' of shape"),
    "Expand by one axis": (shaped("Expand", [2**40]), "Expand 'spare' of shape"),
    "Reshape that overflows": (shaped("Reshape", [-1, 6700417, 16711935, 164737]), "Reshape 'spare' of shape"),
    "Reshape behind a zero": (shaped("Reshape", [0, 2**23, 2**23]), "Reshape 'spare' of shape"),
    "many axes": (shaped("Reshape", [1] * 9), "Reshape 'spare' of shape"),
    "Reshape below -1": (shaped("Reshape", [-2]), "it takes sizes from -1"),
    "Reshape to nothing": (shaped("Reshape", [-1, 0]), "no ONNX graph"),
    "shape computed": (computed_shape, "Expand 'spare' to a shape that is computed: it takes a constant"),
    "count computed": (computed_count, "TopK 'spare' of a size that nothing says"),
    "doubled and doubled": (chain("Concat", 30, 2), "Concat 'k.*' of shape"),
    "outer": (outer, r"Add 'spare' of shape \[1048576, 1048576\]"),
    "division of whole numbers": (whole_numbers, "Div 'bang' of whole numbers"),
    "cast to text": (node("Cast", to=TensorProto.STRING), "of element type 8: it takes"),
    "many operators": (chain("Neg", 2**16, 1), "operators: it takes 1 to 65536"),
    "output without a shape": (unsaid, "tensor 'mean' without a shape"),
    "fewer rows": (of_other_rows, r"output 'mean' of shape \[5, 1, 7\] for 1024 rows: it takes \[5, 1024, 7\]"),
    "no variance": (lambda made: made.graph.output.pop(), r"tensors x FLOAT \[5, any, 35\], mean .*; its card says"),
    "another input": (
        lambda made: made.graph.input.append(helper.make_tensor_value_info("z\n", TensorProto.FLOAT, [1])),
        r"tensors x .*, z\\n FLOAT \[1\], mean",
    ),
    "rows fixed": (size_of("input", 1, 2), r"tensors x FLOAT \[5, 2, 35\]"),
    "identity missing": (lambda made: made.ClearField("metadata_props"), r"card\.yaml: robot, .* not as in model"),
    "identity no JSON": (identity("{"), "robot, mode, joints"),
    "identity a list": (identity("[]"), "robot, mode, joints"),
    "identity without end": (identity("[" * 100_000), "robot, mode, joints"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_hostile_graph_is_refused(folder, sessions, name):
    harm, said = GRAPHS[name]
    harmed(folder, harm)
    refused(folder, said, sessions)


def test_the_graph_that_ships_is_taken(folder, sessions):
    load(folder)
    assert [onnx.load_model_from_string(data) for data, _ in sessions] == [onnx.load(PANDA / GRAPH)]


# --- Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"hello, world\n" * 100, b"\xff" * 1000, pickle.dumps({"w0": [1.0] * 100}), b"\x3a\x00" * 1000]
)
def test_what_is_no_graph_is_refused(folder, sessions, data):
    planted(folder, data)
    refused(folder, r"model\.onnx: no ONNX graph|model\.onnx: a graph of", sessions)


def in_place_of_it(folder, kind):
    (folder / GRAPH).unlink()
    if kind == "folder":
        (folder / GRAPH).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / GRAPH)
    elif kind == "link to nothing":
        (folder / GRAPH).symlink_to("nothing")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "nothing"])
def test_what_is_no_file_is_refused(folder, sessions, kind):
    in_place_of_it(folder, kind)
    refused(folder, r"no file 'model\.onnx', which its card names; it takes", sessions)


def test_a_file_that_is_too_large_is_refused(folder, sessions, monkeypatch):
    size = (folder / GRAPH).stat().st_size
    monkeypatch.setattr(model_folder, "LARGEST", size)
    load(folder)
    sessions.clear()
    monkeypatch.setattr(model_folder, "LARGEST", size - 1)
    refused(folder, rf"more than {size - 1} bytes; no more are read", sessions)
    with pytest.raises(MbrlError, match=rf"{size} bytes; at most {size - 1} are written"):
        model_folder.put(folder, {}, {GRAPH: bytes(size)})
    monkeypatch.setattr(onnx_check, "LARGEST", 10)
    with pytest.raises(GraphError, match="a graph of 11 bytes: at most 10 are taken"):
        checked(bytes(11))


def test_what_is_run_is_what_was_hashed(folder, monkeypatch, sessions):
    """Another graph that is put there right after the first one was read is not the one that is run."""
    honest = (folder / GRAPH).read_bytes()
    made = onnx.load_model_from_string(honest)
    weight(1e6)(made)

    def swapped(data):
        (folder / GRAPH).write_bytes(made.SerializeToString())
        return hashlib.new("sha256", data)

    monkeypatch.setattr(model_folder.hashlib, "sha256", swapped)
    load(folder)
    assert [data for data, _ in sessions] == [honest]
    assert (folder / GRAPH).read_bytes() != honest


def test_without_the_onnx_package_nothing_is_run(folder, sessions, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MbrlError, match=r"model\.onnx: onnx is not installed, .*: pip install onnx$"):
        load(folder)
    assert not sessions


# --- Cards --------------------------------------------------------------------------------------------


def consistent(folder, **changes):
    """The card and what the graph says of itself, changed alike."""
    planted(folder, **changes)
    card = yaml.safe_load((folder / CARD).read_text())
    harmed(folder, identity(json.dumps(model_folder.identity(card))))


NET = {
    "members": 5, "inputs": 35, "hidden": [64, 64], "outputs": 14 // 2, "head": "gaussian", "activation": "silu",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"robot": "cartpole"}, "model of robot cartpole: here robot is panda; it takes"),
        ({"joints": [f"joint{i}" for i in range(7)]}, "model of joints"),
        ({"mode": "torque"}, r"card\.yaml: a net with 35 inputs and 7 outputs: it takes 21"),
        ({"mode": "position_reference"}, r"card\.yaml: a net with 35 inputs"),
        ({"dt": 0.5}, None),
        ({"net": {**NET, "inputs": 36}}, r"card\.yaml: a net with 36 inputs and 7 outputs: it takes 35 and 7"),
        ({"net": {**NET, "members": 4}}, r"tensors x FLOAT \[5, any, 35\].*; its card says x FLOAT \[4, any, 35\]"),
        ({"net": {**NET, "members": 10**12}}, "tensors x FLOAT"),
        ({"net": {**NET, "members": 5.0}}, r"a net with members = 5\.0: it takes whole numbers from 1"),
        ({"net": {**NET, "hidden": ["64", 64]}}, "a net with hidden"),
        ({"net": {**NET, "activation": []}}, "is unknown; it takes"),
        ({"net": {**NET, "head": "deterministic"}}, "tensors x FLOAT .*, mean .*, variance"),
        ({"latency_steps": 10**12}, "latency_steps = 1000000000000: it takes 0 to 8"),
        ({"normaliser": {}}, "no normaliser 'input_mean' of 35 numbers"),
        ({"normaliser": {"input_mean": [float("nan")] * 35}}, "no normaliser 'input_mean' of 35 numbers, all finite"),
        ({"normaliser": {"input_mean": [1e60] * 35}}, "no normaliser 'input_mean' of 35 numbers, all finite"),
        ({"normaliser": {"input_mean": [0.0] * 35, "input_scale": [0.0] * 35}}, "'input_scale' not above 0"),
    ],
)
def test_a_card_that_fits_neither_graph_nor_robot_is_refused(folder, sessions, changes, said):
    consistent(folder, **changes)
    if said is None:  # what card and graph agree on, and the robot has no word in
        load(folder)
        return
    refused(folder, said, sessions)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"../panda/card.yaml": "0"}, "no file '../panda/card.yaml', which its card names; it takes"),
        ({"/etc/passwd": "0"}, "no file '/etc/passwd', which its card names; it takes"),
        ({WEIGHTS: "0"}, r"no file 'model\.safetensors', which its card names; it takes"),
        ({GRAPH: 5}, r"model\.onnx: it changed; sha256 \w{12}, its card says 5"),
    ],
)
def test_a_card_of_other_files_is_refused(folder, sessions, files, said):
    planted(folder, sha256=files)
    refused(folder, said, sessions)


def test_a_card_of_something_else_than_the_graph_is_refused(folder, sessions):
    planted(folder, dt=0.5, bound=[0.1] * 7)
    refused(folder, r"card\.yaml: bound, dt not as in model\.onnx|beyond that; it takes", sessions)


# --- Any byte -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model folder, read: most of its bytes are structure, not weights."""
    robot = registry.make("robots", "pendulum")
    spec, rng = spec_for(robot, 0.05), np.random.default_rng(0)
    net = Net(2, len(spec.input_names), (3,), len(spec.output_names))
    norm = {f"{side}_mean": np.zeros(n, np.float32) for side, n in (("input", net.inputs), ("output", net.outputs))}
    norm |= {name.replace("mean", "scale"): array + 1.0 for name, array in norm.items()}
    model = Model(spec, net, initial(net, rng) | {name: array.astype(np.float32) for name, array in norm.items()})
    card = model_folder.plain(model_folder.card(model, robot, "made up"))
    card["normaliser"] = {name: array.tolist() for name, array in norm.items()}
    data = graph_of(model, {model_folder.IDENTITY: json.dumps(model_folder.identity(card))})
    folder = tmp_path_factory.mktemp("small") / "m"
    model_folder.put(folder, card, {GRAPH: data})
    return read(folder)


def survives(model, data):
    """Whether a graph is taken; then it is one that ONNX Runtime takes, and that has finite constants."""
    try:
        made = examined(replace(model, graph=data))
    except MbrlError as error:
        if "\n" in str(error):
            raise
        return False
    assert all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in made.graph.initializer)
    mean, deviation = Session(replace(model, graph=data), 1)(np.zeros((3, model.net.inputs)))
    assert mean.shape == deviation.shape == (2, 3, model.net.outputs)
    return True


def test_a_graph_that_is_cut_short_is_refused_at_any_length(small):
    assert survives(small, small.graph)
    cuts = {*range(64), *range(64, len(small.graph), 11), *range(len(small.graph) - 64, len(small.graph))}
    assert not [length for length in sorted(cuts) if survives(small, small.graph[:length])]


def test_bytes_that_flipped_do_no_harm(small):
    rng, taken = np.random.default_rng(0), []
    for _ in range(600):
        data = bytearray(small.graph)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        taken.append(survives(small, bytes(data)))
    assert 0 < sum(taken) < len(taken) / 2


def test_bytes_that_came_or_went_do_no_harm(small):
    rng = np.random.default_rng(1)
    for _ in range(200):
        at, count = rng.integers(len(small.graph)), rng.integers(1, 40)
        with_more = small.graph[:at] + rng.bytes(count) + small.graph[at:]
        for data in (with_more, small.graph[:at] + small.graph[at + count :]):
            survives(small, data)


def test_what_fails_while_it_runs_is_one_line(small):
    """An index that nobody can foresee: computed, and beyond what it points into."""
    made = onnx.load_model_from_string(small.graph)
    mean = next(node for node in made.graph.node if node.output[0] == "mean")
    mean.output[0] = "means"
    constant("far", np.array([1e6, 1e6], np.float32))(made)
    made.graph.node.append(helper.make_node("Cast", ["far"], ["at"], to=TensorProto.INT64))
    made.graph.node.append(helper.make_node("Gather", ["means", "at"], ["mean"], axis=2))
    session = Session(replace(small, graph=made.SerializeToString()), 1)
    with pytest.raises(MbrlError, match=r"model\.onnx: ONNX Runtime does not run it on \[2, 3, 4\] \(.*\)") as found:
        session(np.zeros((3, small.net.inputs)))
    assert "\n" not in str(found.value)


def test_a_graph_that_gives_other_rows_is_told_when_it_does(small):
    """Rows that are right for as many as were looked at, and for no others."""
    made = onnx.load_model_from_string(small.graph)
    mean = next(node for node in made.graph.node if node.output[0] == "mean")
    mean.output[0] = "means"
    for name, value in {"all": [1], "two": [2, onnx_check.ROWS, small.net.outputs]}.items():
        constant(name, np.array(value, np.int64))(made)
    made.graph.node.append(helper.make_node("ReduceMean", ["means", "all"], ["one"]))
    made.graph.node.append(helper.make_node("Expand", ["one", "two"], ["mean"]))
    session = Session(replace(small, graph=made.SerializeToString()), 1)
    session(np.zeros((onnx_check.ROWS, small.net.inputs)))
    with pytest.raises(MbrlError, match=r"gives \[2, 1024, 2\] for \[2, 3, 4\]; it takes \[2, 3, 2\]"):
        session(np.zeros((3, small.net.inputs)))


# --- The command --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: planted(folder, b"hello"), "model.onnx: no ONNX graph"),
        (lambda folder: harmed(folder, GRAPHS["external data"][0]), "model.onnx: a graph with 'external_data'"),
        (lambda folder: harmed(folder, GRAPHS["Loop"][0]), "model.onnx: a graph with operators Loop"),
        (lambda folder: harmed(folder, GRAPHS["NaN weight"][0]), "not finite: it takes finite weights"),
        (
            lambda folder: harmed(folder, GRAPHS["input of no text"][0]),
            "a graph with 'input' in a NodeProto",
        ),
        (lambda folder: harmed(folder, GRAPHS["nobody's input"][0]), "model.onnx: no ONNX graph"),
        (lambda folder: consistent(folder, net={**NET, "inputs": 36}), "card.yaml: a net with 36 inputs"),
        (lambda folder: consistent(folder, joints=["a"] * 7), "model of joints ['a'"),
    ],
)
def test_mbrl_eval_says_it_in_one_line(folder, capfd, harm, said):
    """What C++ would print on its own is seen too."""
    harm(folder)
    assert cli.main(["eval", "reach", "--model", str(folder)]) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert (out + err).count("\n") == 1
