"""A model folder is whole, of this robot, and unchanged, or it is refused in one line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml

from mbrl_control import model_folder, registry
from mbrl_control.config import ConfigError, read_yaml
from mbrl_control.core import MbrlError
from mbrl_control.model import Model, ModelError, spec_for
from mbrl_control.model_folder import CARD, WEIGHTS
from mbrl_control.networks import Net, initial

FACTS = {
    "metrics": {"one_step_rmse": {"v[0]": np.float64(0.25)}},
    "calibration": {"quantiles": {"disagreement": {"0.5": 1.0}}},
}


def robot():
    return registry.make("robots", "cartpole")


def model():
    spec = spec_for(robot(), 0.05, latency=1, structure="acceleration")
    net = Net(2, len(spec.input_names), (4, 4), len(spec.output_names))
    rng = np.random.default_rng(0)
    norm = {
        "input_mean": net.inputs,
        "input_scale": net.inputs,
        "output_mean": net.outputs,
        "output_scale": net.outputs,
    }
    params = initial(net, rng) | {name: rng.uniform(1.0, 2.0, n).astype(np.float32) for name, n in norm.items()}
    return Model(spec, net, params, FACTS)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "models" / "mine"
    model_folder.write(path, model(), robot(), "mbrl fit ...")
    return path


def test_what_was_written_is_read_again(folder):
    found, expected = model_folder.read(folder), model()
    assert (found.spec, found.net) == (expected.spec, expected.net)
    assert found.params.keys() == expected.params.keys()
    for name, array in expected.params.items():
        np.testing.assert_array_equal(found.params[name], array)
        assert found.params[name].dtype == np.float32
    assert found.facts["metrics"] == {"one_step_rmse": {"v[0]": 0.25}}
    assert registry.make("dynamics", "ensemble", robot(), overrides={"model": str(folder)}).quantiles == {
        "disagreement": {"0.5": 1.0}
    }


def test_the_card_has_what_a_person_asks_for(folder):
    card = read_yaml(folder / CARD)
    assert card["joints"] == ["slider", "hinge"]
    assert card["parts"][0] == {"name": "q", "kinds": ["linear", "angle"], "units": ["m", "rad"], "rate": "v"}
    assert (card["dt"], card["latency_steps"], card["structure"]) == (0.05, 1, "acceleration")
    assert card["limits"]["velocity"] == robot().limits.velocity.tolist()
    assert card["inputs"][-1] == "u slider"
    assert card["robot_config"]["force"] == 10.0
    assert card["command"] == "mbrl fit ..."
    assert set(card["sha256"]) == {WEIGHTS}
    assert card["versions"]["numpy"] == np.__version__


def test_a_model_folder_is_replaced_whole_and_nothing_else_is(folder):
    other = model()
    other = Model(other.spec, other.net, {**other.params, "b0": other.params["b0"] + 1.0})
    model_folder.write(folder, other, robot())
    np.testing.assert_array_equal(model_folder.read(folder).params["b0"], other.params["b0"])
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]
    mine = folder.parent / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("words")
    with pytest.raises(ModelError, match=r"thesis: there is a folder without card\.yaml"):
        model_folder.write(mine, other, robot())
    assert (mine / "chapter.txt").read_text() == "words"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["mine", "thesis"]


def change_card(folder, **values):
    card = yaml.safe_load((folder / CARD).read_text())
    (folder / CARD).write_text(yaml.safe_dump({**card, **values}))


def test_files_that_changed_are_refused(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors: it changed; sha256 \w{12}, its card says \w{12}"):
        model_folder.read(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"no file 'model\.safetensors', which its card names"):
        model_folder.read(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": 2}, "format 2; this version reads format 1"),
        ({"sha256": {}}, r"no sha256 of model\.safetensors"),
        ({"sha256": {"../x": "0", WEIGHTS: "0"}}, r"no file '\.\./x'"),
        ({"joints": ["slider"]}, r"model of joints \['slider'\]: here joints is \['slider', 'hinge'\]"),
        ({"latency_steps": 0}, "a net with 7 inputs and 2 outputs: it takes 6 and 2"),
        ({"parts": None}, "TypeError"),
        ({"net": {"members": 3}}, "KeyError"),
        (
            {"net": {**dataclasses.asdict(model().net), "hidden": [4, 5]}},
            r"weights 'w1' of shape \(2, 4, 4\): this model takes \(2, 4, 5\)",
        ),
        ({"net": {**dataclasses.asdict(model().net), "hidden": [4, 4], "head": "oracle"}}, "head 'oracle'"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(folder, values, said):
    change_card(folder, **values)
    with pytest.raises(ModelError, match=said) as refused:
        registry.make("dynamics", "ensemble", robot(), overrides={"model": str(folder)})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["pendulum", "panda"])
def test_a_model_of_another_robot_is_refused(folder, name):
    with pytest.raises(ModelError, match=f"model of robot cartpole: here robot is {name}"):
        registry.make("dynamics", "ensemble", registry.make("robots", name), overrides={"model": str(folder)})


def test_a_robot_that_may_do_more_than_the_one_it_was_fitted_to_is_refused(folder):
    weak = robot()
    weak = dataclasses.replace(weak, channels=dataclasses.replace(weak.channels, bound=weak.channels.bound / 2))
    fitted = model_folder.read(folder)
    model_folder.check_robot(fitted, weak)
    strong = dataclasses.replace(weak, channels=dataclasses.replace(weak.channels, bound=weak.channels.bound * 4))
    with pytest.raises(ModelError, match=r"with bound \[10\.0\]: this one's bound \[20\.0\] is beyond that"):
        model_folder.check_robot(fitted, strong)
    limits = robot().limits
    wide = dataclasses.replace(robot(), limits=dataclasses.replace(limits, lower=limits.lower - 1.0))
    with pytest.raises(ModelError, match="with lower"):
        model_folder.check_robot(fitted, wide)


def test_weights_that_are_not_finite_or_not_of_this_shape_are_no_model():
    good = model()
    with pytest.raises(ModelError, match="weights 'b0': not finite"):
        Model(good.spec, good.net, {**good.params, "b0": good.params["b0"] * np.nan})
    with pytest.raises(ModelError, match=r"weights 'b0' of shape None: this model takes \(2, 1, 4\)"):
        Model(good.spec, good.net, {name: a for name, a in good.params.items() if name != "b0"})
    with pytest.raises(ModelError, match="weights 'b00': no such weights in this model; did you mean 'b0'"):
        Model(good.spec, good.net, {**good.params, "b00": good.params["b0"]})


def test_a_path_that_is_no_model_folder_says_what_is_wanted(tmp_path):
    for path, error in (("", ConfigError), (str(tmp_path / "none"), ModelError)):
        with pytest.raises(error, match=r"card\.yaml") as refused:
            registry.make("dynamics", "ensemble", robot(), overrides={"model": path})
        assert isinstance(refused.value, MbrlError)
