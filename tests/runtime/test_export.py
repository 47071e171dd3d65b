"""What is exported is what was fitted, is good enough or forced by name, and can be made again from its card."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import array_api_compat.torch as torch_xp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from learned import constant, record

from mbrl_control import calibration, cli, core, model_folder, networks, plan_file, registry, validation
from mbrl_control.config import read_yaml
from mbrl_control.core import MbrlError, Observation, State
from mbrl_control.dynamics.onnx import Session, read
from mbrl_control.export import PARITY, ExportError, Source, export, graph_of, parity
from mbrl_control.model import REFERENCE, Model, ModelError, spec_for
from mbrl_control.model_folder import CARD, GRAPH, PLAN, WEIGHTS
from mbrl_control.models import card, located
from mbrl_control.networks import Net, initial
from mbrl_control.onnx_check import OPERATORS, OPSET, GraphError, checked
from mbrl_control.transitions import steps
from mbrl_control.validation import CHECKS, examined, forced

GOOD = {
    "data": {"sha256": ["a"], "held_out_sha256": ["b"]},
    "fit": {"seed": 0, "head": "gaussian"},
    "metrics": {
        "held_out_steps": 50,
        "usual_change": {"q[0]": 0.1, "v[0]": 0.2},
        "one_step_r2": {"q[0]": 0.99, "v[0]": 0.95},
        "open_loop": {"steps": 25, "rmse_at_end": {"q[0]": 0.1}, "unmoved_at_end": {"q[0]": 0.5}},
    },
    "calibration": {"quantiles": {"disagreement": {"0.5": 1.0}}, "coverage_90": {"q[0]": 0.9, "v[0]": 0.91}},
}


def random_model(robot, facts=GOOD, head="gaussian", activation="silu", structure="delta", hidden=(16, 16), **more):
    spec = spec_for(robot, 0.05, structure=structure, **more)
    net = Net(3, len(spec.input_names), hidden, len(spec.output_names), head, activation)
    rng = np.random.default_rng(1)
    sizes = {"input": net.inputs, "output": net.outputs}
    norm = {f"{side}_mean": rng.normal(0.0, 0.5, n).astype(np.float32) for side, n in sizes.items()}
    norm |= {f"{side}_scale": rng.uniform(0.01, 2.0, n).astype(np.float32) for side, n in sizes.items()}
    return Model(spec, net, initial(net, rng) | norm, facts)


def exported(folder, robot, model=None, command="made up", force=()):
    model = model or random_model(robot)
    checks = examined(model.facts)
    return export(Source(model, robot, robot.name, command, "runs/x"), checks, forced(force, checks), folder)


@pytest.fixture
def pendulum():
    return registry.make("robots", "pendulum")


@pytest.fixture
def folder(tmp_path, pendulum):
    exported(tmp_path / "models" / "mine", pendulum)
    return tmp_path / "models" / "mine"


# --- The graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", list(networks.ACTIVATIONS))
@pytest.mark.parametrize("head", networks.HEADS)
@pytest.mark.parametrize("structure", ["delta", "acceleration"])
def test_a_graph_finds_what_the_source_finds_on_numpy_and_on_torch(pendulum, structure, head, activation):
    model = random_model(pendulum, head=head, activation=activation, structure=structure, latency=1)
    data = graph_of(model, {})
    assert parity(model, data) <= PARITY
    made = onnx.load_model_from_string(data)
    assert {node.op_type for node in made.graph.node} <= OPERATORS
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", OPSET)]
    rng = np.random.default_rng(0)
    x = model.params["input_mean"] + model.params["input_scale"] * rng.standard_normal((3, 7, model.net.inputs))
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x.astype(np.float32)})
    params = {name: torch.asarray(array) for name, array in model.params.items()}
    usual = (torch.asarray(x, dtype=torch.float32) - params["input_mean"]) / params["input_scale"]
    raw = networks.forward(torch_xp, model.net, params, usual)
    mean, variance = networks.mean_and_variance(torch_xp, model.net, params, raw)
    scale = model.params["output_scale"]
    told = mean.numpy() * scale + model.params["output_mean"]
    assert np.max(np.abs(found[0] - told) / (scale + np.abs(told))) <= PARITY
    assert (variance is None) == (len(found) == 1)
    if variance is not None:
        np.testing.assert_allclose(found[1] / scale**2, variance.numpy(), rtol=PARITY, atol=PARITY)


def test_the_same_model_is_the_same_file(pendulum):
    model = random_model(pendulum)
    assert graph_of(model, {"a": "b"}) == graph_of(model, {"a": "b"})


def test_large_networks_stay_within_parity():
    arm = registry.make("robots", "panda")
    model = random_model(arm, hidden=(500, 500, 500))
    assert parity(model, graph_of(model, {})) <= PARITY


def test_parity_sees_a_weight_that_changed(pendulum):
    model = random_model(pendulum)
    other = {**model.params, "w1": model.params["w1"] * np.float32(1.001)}
    assert parity(model, graph_of(Model(model.spec, model.net, other), {})) > PARITY


def edited(data, change):
    made = onnx.load_model_from_string(data)
    change(made)
    return made.SerializeToString()


def external(made):
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.graph.node[0].ClearField("output"), "no ONNX graph"),
        (
            lambda made: setattr(made.opset_import[0], "version", 17),
            "standard 17: it takes the standard 18",
        ),
        (lambda made: setattr(made.graph.node[0], "op_type", "Conv"), "operators Conv: it takes Abs, Add"),
        (external, "'external_data' in a TensorProto: it takes one file"),
    ],
)
def test_a_graph_that_we_would_not_run_is_refused(pendulum, change, said):
    data = graph_of(random_model(pendulum), {})
    with pytest.raises(GraphError, match=said) as refused:
        checked(edited(data, change))
    assert "\n" not in str(refused.value)


# --- As dynamics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"propagation": "ts1"}, {"particles": 7}, {"particles": 7, "propagation": "ts1"}, {"propagation": "mean"}],
)
@pytest.mark.parametrize("name", ["panda", "cartpole"])
def test_it_rolls_out_as_the_ensemble_does(tmp_path, name, settings):
    robot = registry.make("robots", name)
    exported(tmp_path / "m", robot)
    ours, theirs = (
        registry.make("dynamics", kind, robot, overrides={"model": str(tmp_path / "m"), **settings})
        for kind in ("onnx", "ensemble")
    )
    rng, nj = np.random.default_rng(0), robot.nj
    reference = {REFERENCE: np.concatenate([robot.home + 0.1, np.full(nj, 0.2)])}
    obs = Observation(0.03, State(0.0, robot.home, np.zeros(nj)), reference if name == "panda" else {})
    u, draws = rng.uniform(-1.0, 1.0, (4, 6, robot.nu)), theirs.noise(rng, 6)
    for scattered in (True, False):
        starts = [model.init(obs, {}) for model in (ours, theirs)]
        starts = [model.scatter(s) if scattered else s for model, s in zip((ours, theirs), starts, strict=True)]
        noise = draws if scattered else {}
        (found, by), (expected, knows) = (
            core.rollout(np, model, s, u, noise) for model, s in zip((ours, theirs), starts, strict=True)
        )
        for one, other in ((found, expected), (by, knows)):
            assert one.keys() == other.keys()
            for key, value in other.items():
                np.testing.assert_allclose(one[key], value, rtol=1e-3, atol=1e-4, err_msg=key)
    assert ours.quantiles == theirs.quantiles == {"disagreement": {"0.5": 1.0}}


def test_particles_are_handed_to_their_own_members(folder):
    """Members that say their own number: whatever the order of the particles, each hears its own."""
    model = read(folder)
    session = Session(model, 1)
    x = np.random.default_rng(0).standard_normal((5, 2, model.net.inputs))
    every, _ = session(x.reshape(-1, model.net.inputs))
    member = np.array([2, 0, 2, 1, 2])
    mine, _ = session(x, session.of(member))
    for p, m in enumerate(member):
        np.testing.assert_allclose(mine[p], every[m].reshape(5, 2, -1)[p], rtol=1e-4, atol=1e-5)


NO_TRAINING = """
import sys
for name in ("torch", "safetensors", "array_api_compat"):
    sys.modules[name] = None
import numpy as np
from mbrl_control import engine, registry
from mbrl_control.core import Goal, Observation, State
robot = registry.make("robots", "pendulum")
task = registry.make("tasks", "swing_up", robot)
def build(xp):
    model = registry.make("dynamics", "onnx", robot, xp, overrides={"model": sys.argv[1]})
    return registry.make("planners", "mppi", task, model, xp)
planner, _ = engine.engaged(engine.Config(use=sys.argv[2]), build)
obs = Observation(0.0, State(0.0, robot.home, np.zeros(1)))
goal = Goal.still([0.0], planner.horizon, 0.1, 1.0)
_, plan, info = planner.improve(obs, goal, planner.knobs(), planner.init(obs), planner.noise(np.random.default_rng(0)))
print(info.status, sorted(info.spread))
"""


@pytest.mark.parametrize("use", ["onnx", "numpy"])
def test_a_robot_plans_with_it_without_torch_and_without_safetensors(folder, use):
    words = [sys.executable, "-c", NO_TRAINING, str(folder), use]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "OK ['q', 'v']\n"), done.stderr


# --- Folders that are not whole -----------------------------------------------------------------------


def load(folder, robot="pendulum", **robot_settings):
    made = registry.make("robots", robot, overrides=robot_settings)
    return registry.make("dynamics", "onnx", made, overrides={"model": str(folder)})


def flip(folder):
    data = bytearray((folder / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / GRAPH).write_bytes(data)


def torn(folder):
    """A graph that is cut short, and a card that says so."""
    data = (folder / GRAPH).read_bytes()[:100]
    (folder / GRAPH).write_bytes(data)
    card = yaml.safe_load((folder / CARD).read_text())
    card["sha256"][GRAPH] = hashlib.sha256(data).hexdigest()
    (folder / CARD).write_text(yaml.safe_dump(card))


def carded(folder, **values):
    card = yaml.safe_load((folder / CARD).read_text())
    (folder / CARD).write_text(yaml.safe_dump({**card, **values}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip, r"model\.onnx: it changed; sha256 \w{12}, its card says \w{12}"),
        (torn, r"model\.onnx: no ONNX graph"),
        (lambda folder: (folder / GRAPH).unlink(), r"no file 'model\.onnx', which its card names"),
        (lambda folder: (folder / CARD).unlink(), r"no card\.yaml in it"),
        (lambda folder: (folder / CARD).write_text("format: ["), r"card\.yaml"),
        (lambda folder: carded(folder, sha256={WEIGHTS: "0"}), "no sha256 of model.onnx.*'mbrl export"),
        (lambda folder: carded(folder, dt=0.1), r"card\.yaml: dt not as in model\.onnx"),
        (lambda folder: carded(folder, normaliser={}), "no normaliser 'input_mean' of 4 numbers"),
        (lambda folder: carded(folder, joints=["arm"]), r"model of joints \['arm'\]: here joints is \['hinge'\]"),
        (lambda folder: carded(folder, bound=[1.0]), r"bound \[2\.0\] is beyond that"),
    ],
)
def test_a_folder_that_is_not_what_was_exported_is_refused_in_one_line(folder, harm, said):
    load(folder)
    harm(folder)
    with pytest.raises(MbrlError, match=said) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_a_model_of_another_robot_is_refused(folder):
    with pytest.raises(ModelError, match="model of robot pendulum: here robot is cartpole"):
        load(folder, "cartpole")


def test_a_word_names_dynamics_or_a_folder(folder, monkeypatch):
    settings = {"onnx.model": str(folder)}
    assert located("kinematic") == ("kinematic", {}, "")
    assert located("my_lab.model") == ("my_lab.model", {}, "")
    assert located(str(folder)) == ("onnx", settings, "pendulum")
    folder.with_name("v1.2").symlink_to(folder)
    monkeypatch.chdir(folder.parents[1])
    assert located("v1.2") == located("mine")
    assert located("models/mine") == located("mine") == ("onnx", settings, "pendulum")
    (folder / GRAPH).unlink()
    for word, said in (
        ("mine", r"model 'mine': no model\.onnx in it; 'mbrl export mine --out models/NAME'"),
        ("kinematik", "did you mean 'kinematic'"),
        ("models", r"model 'models': no card\.yaml in that folder"),
        ("", "it takes one of 'mbrl list dynamics', or a model folder"),
    ):
        with pytest.raises(ModelError, match=said):
            located(word)
    with pytest.raises(ModelError, match="did you mean 'kinematic'"):
        card("kinematik")


# --- Validation ---------------------------------------------------------------------------------------


def spoilt(*path, value):
    facts = json.loads(json.dumps(GOOD))
    inner = facts
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return facts


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        (GOOD, []),
        (spoilt("data", "held_out_sha256", value=["b", "a"]), ["held_out"]),
        (spoilt("metrics", "one_step_r2", "v[0]", value=0.79), ["one_step"]),
        (spoilt("metrics", "one_step_r2", "v[0]", value=float("nan")), ["finite", "one_step"]),
        (spoilt("metrics", "open_loop", "rmse_at_end", value={"q[0]": 0.41}), ["open_loop"]),
        (spoilt("metrics", "open_loop", "unmoved_at_end", value={}), ["open_loop"]),
        (spoilt("calibration", "coverage_90", "q[0]", value=0.84), ["coverage"]),
        (spoilt("calibration", "coverage_90", value={}), ["coverage"]),
        ({"metrics": {"held_out_steps": 0}, "calibration": {}}, ["held_out", "one_step", "open_loop", "coverage"]),
        ({}, ["held_out", "finite", "one_step", "open_loop", "coverage"]),
    ],
)
def test_each_check_fails_where_it_should(facts, failed):
    checks = examined(facts)
    assert [check.name for check in checks] == list(CHECKS)
    assert [check.name for check in checks if not check.passed] == failed


def test_what_need_not_be_measured_passes():
    silent = spoilt("fit", "head", value="deterministic") | {"calibration": {"quantiles": {"disagreement": {"0.5": 1}}}}
    assert all(check.passed for check in examined(silent))
    still = spoilt("metrics", "usual_change", "v[0]", value=1e-12)
    still["metrics"]["one_step_r2"]["v[0]"] = -1e9
    assert all(check.passed for check in examined(still))
    wide = {check.name: check for check in examined(spoilt("calibration", "coverage_90", value={"q[0]": 1.0}))}
    assert "wider than it has to be" in wide["coverage"].note
    assert wide["coverage"].passed


def test_a_model_that_fails_is_refused_unless_forced_by_name_and_the_card_says_so(tmp_path, pendulum):
    poor = random_model(pendulum, spoilt("calibration", "coverage_90", "q[0]", value=0.5))
    with pytest.raises(ExportError, match=r"not exported: it failed coverage; .* or --force coverage"):
        exported(tmp_path / "m", pendulum, poor)
    assert not (tmp_path / "m").exists()
    with pytest.raises(ExportError, match="it failed coverage"):
        exported(tmp_path / "m", pendulum, poor, force=["one_step"])
    exported(tmp_path / "m", pendulum, poor, force=["coverage", "one_step"])
    card = read_yaml(tmp_path / "m" / CARD)
    assert card["forced"] == ["coverage"]
    assert [(c["name"], c["passed"]) for c in card["validation"]] == [(n, n != "coverage") for n in CHECKS]
    with pytest.raises(validation.ValidationError, match=r"--force coverag: no such check; did you mean 'coverage'"):
        forced(["coverag"], [])


def test_an_interval_that_is_too_narrow_is_widened_to_hold_nine_tenths(pendulum):
    """Members that foresee nothing of noise with deviation 0.3 and say 0.1: threefold is right; the means stay."""
    rng = np.random.default_rng(0)

    def noisy():
        v = 0.3 * rng.standard_normal((401, 1)).cumsum(axis=0)
        return record(pendulum, np.zeros((401, 1)), v, np.zeros((400, 1)))

    model = constant(spec_for(pendulum, 0.05), np.zeros((2, 2)), deviation=0.1)
    factor = calibration.widening(model, [noisy()])
    assert factor[0] == 1.0
    assert factor[1] == pytest.approx(3.0, rel=0.1)
    wide = calibration.widened(model, factor)
    data = steps(wide.spec, [noisy()])
    _, before, narrow = calibration.one_step(model, dict(model.params), data)
    _, mean, variance = calibration.one_step(wide, dict(wide.params), data)
    np.testing.assert_array_equal(mean, before)
    np.testing.assert_allclose(variance, narrow * factor**2, rtol=1e-5)
    assert calibration.judged(wide, [noisy()], 5)["calibration"]["coverage_90"]["v[0]"] == pytest.approx(0.9, abs=0.04)


# --- The card -----------------------------------------------------------------------------------------


def test_the_card_is_complete(folder, pendulum):
    card = read_yaml(folder / CARD)
    assert card["registered"] == card["robot"] == "pendulum"
    assert set(card["sha256"]) == {GRAPH, WEIGHTS}
    assert card["parts"][0]["units"] == ["rad"]
    assert (card["opset"], card["graph"]["operators"]) == (OPSET, sorted(card["graph"]["operators"]))
    assert card["parity"] <= PARITY
    assert card["command"] == "made up && mbrl export runs/x --out " + shlex.quote(str(folder))
    assert {"numpy", "onnx", "mbrl_control"} <= card["versions"].keys()
    np.testing.assert_array_equal(
        np.float32(card["normaliser"]["output_scale"]), random_model(pendulum).params["output_scale"]
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": ""}, "card without command"),
        ({"facts": {**GOOD, "fit": {}}}, "card without fit"),
        ({"facts": {**GOOD, "data": {"sha256": [], "held_out_sha256": ["b"]}}}, r"card without data\.sha256"),
    ],
)
def test_a_card_that_lacks_something_is_refused(tmp_path, pendulum, change, said):
    model = random_model(pendulum, change.get("facts", GOOD))
    with pytest.raises(ExportError, match=said):
        exported(tmp_path / "m", pendulum, model, change.get("command", "made up"))
    assert not (tmp_path / "m").exists()


def test_an_exported_folder_is_exported_again_with_the_same_numbers(folder, pendulum, tmp_path):
    assert cli.main(["export", str(folder), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / GRAPH).read_bytes() == (folder / GRAPH).read_bytes()
    assert model_folder.read(tmp_path / "again").params.keys() == random_model(pendulum).params.keys()


# --- The command --------------------------------------------------------------------------------------

SMALL = (
    "icem.samples:=8", "icem.horizon:=4", "fit.width:=8", "fit.layers:=1", "fit.members:=2", "fit.batch:=64",
    "pets.first_epochs:=3", "pets.epochs:=1", "pets.retrain_every:=0",
)  # fmt: skip
FORCE = [word for name in ("one_step", "open_loop", "coverage") for word in ("--force", name)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A small run, made in its own folder, as a person would; the folder that it was made in."""
    home = tmp_path_factory.mktemp("learnt")
    words = ["learn", "inverted_pendulum", "--steps", "120", "--iterations", "1", "--out", "runs/small", *SMALL]
    done = mbrl(home, *words)
    assert done.returncode in (0, 1), done.stderr
    return home


def mbrl(home, *words):
    """A command line in a folder, in this process: its status and what it complained of."""
    said = io.StringIO()
    with contextlib.chdir(home), contextlib.redirect_stderr(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mbrl", *words])
        return SimpleNamespace(returncode=cli.main(list(words)), stderr=said.getvalue())


def test_a_run_is_exported_evaluated_and_made_again_by_the_command_in_its_card(learnt):
    refused = mbrl(learnt, "export", "runs/small", "--out", "models/small", "--json", "o.json")
    failed = json.loads((learnt / "o.json").read_text())["failed"]
    assert refused.returncode == bool(failed)
    if failed:
        assert refused.stderr.count("\n") == 1
        assert all(f"--force {name}" in refused.stderr for name in failed)
    done = mbrl(learnt, "export", "runs/small", "--out", "models/small", "--json", "o.json", *FORCE)
    assert done.returncode == 0, done.stderr
    told = json.loads((learnt / "o.json").read_text())
    assert told["forced"] == failed
    folder = learnt / "models" / "small"
    card = read_yaml(folder / CARD)
    assert card["learned"]["task"] == "inverted_pendulum"
    assert card["metrics"]["held_out_episodes"] == len(card["held_out"]["seeds"]) == 3
    assert not set(card["data"]["held_out_sha256"]) & set(card["data"]["sha256"])

    scores = []
    for model, more in (("small", ()), ("ensemble", ["ensemble.model:=models/small", "--robot", card["robot"]])):
        words = ["eval", "inverted_pendulum", "--model", model, *more, "--planner", "icem", "--seconds", "0.4"]
        done = mbrl(learnt, *words, "icem.samples:=8", "icem.horizon:=4", "--iterations", "1", "--json", "e.json")
        assert done.returncode in (0, 1), done.stderr
        scores.append(json.loads((learnt / "e.json").read_text())["results"][0]["episodes"][0]["score"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)

    before = {name: (folder / name).read_bytes() for name in (GRAPH, WEIGHTS, PLAN)}
    newest = card["learned"]["trial"]
    assert (
        mbrl(learnt, "export", f"runs/small/models/trial-{newest:03d}", "--out", "models/same", *FORCE).returncode == 0
    )
    assert (learnt / "models" / "same" / GRAPH).read_bytes() == before[GRAPH]
    again = learnt / "again"
    again.mkdir()
    learning, exporting = card["command"].split(" && ")
    for command in (learning, exporting):
        done = mbrl(again, *shlex.split(command)[1:])
        assert done.returncode in (0, 1), done.stderr
    assert {name: (again / "models" / "small" / name).read_bytes() for name in before} == before


def test_the_plan_of_a_model_folder_says_what_it_is_and_is_written_again_from_the_folder(learnt):
    folder = learnt / "models" / "planned"
    assert mbrl(learnt, "export", "runs/small", "--out", "models/planned", *FORCE).returncode == 0
    told = read_yaml(folder / CARD)["plan"]
    assert (told["task"], told["planner"]) == ("inverted_pendulum", "icem")
    assert told["parity"]["returns"] <= plan_file.RETURNS
    assert told["parity"]["update"] <= plan_file.UPDATE
    session = onnxruntime.InferenceSession(folder / PLAN, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata[model_folder.IDENTITY])["robot"] == read_yaml(folder / CARD)["robot"]
    assert json.loads(metadata["plan"])["knobs"] == told["knobs"]
    assert {x.name: list(x.shape) for x in session.get_inputs()} == told["inputs"]
    assert {x.name: list(x.shape) for x in session.get_outputs()} == told["outputs"]
    assert mbrl(learnt, "export", "models/planned", "--out", "models/twice", *FORCE).returncode == 0
    assert (learnt / "models" / "twice" / PLAN).read_bytes() == (folder / PLAN).read_bytes()


@pytest.mark.parametrize(("limit", "said"), [("RETURNS", "the plan's returns"), ("UPDATE", "the plan's update")])
def test_a_plan_that_finds_something_else_than_numpy_is_not_written(learnt, monkeypatch, limit, said):
    monkeypatch.setattr(plan_file, limit, 0.0)
    refused = mbrl(learnt, "export", "runs/small", "--out", "models/wrong", *FORCE)
    assert refused.returncode == 2
    assert f"parity of {said}" in refused.stderr
    assert not (learnt / "models" / "wrong").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/none", "--out", "m"], "runs/none: neither run.json nor card.yaml in it; it takes the folder of a run"),
        (["runs/small", "--out", "runs"], "runs: there is a folder without card.yaml"),
        (["runs/small", "--out", "m", "--trial", "9"], "no model of trial 9; it has those of trials"),
        (["runs/small", "--out", "m", "--trial", "1", "--best"], "--trial and --best: it takes one of them"),
        (["runs/small", "--out", "m", "--force", "coverag"], "--force coverag: no such check; did you mean 'coverage'"),
        (["runs/small", "--out", "m", "--episodes", "-1"], "--episodes = -1: it takes a whole number from 0"),
        (["models", "--out", "m", "--calibrate", "2"], "models: neither"),
        (["runs/small"], "the following arguments are required: --out"),
        (["runs/small", "--out", "run.txt/m"], "run.txt is not a folder; it takes one"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(learnt, monkeypatch, capsys, words, said):
    monkeypatch.chdir(learnt)
    (learnt / "run.txt").touch()
    try:
        status = cli.main(["export", *words])
    except SystemExit as ended:
        status = ended.code
    found = capsys.readouterr().err
    assert status == 2
    assert said in found
    assert found.count("\n") == 1
