"""A model is exported for eight bits only if its plans are as good with them, in closed loop."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from learned import obedient
from small_run import one_more

from mbrl_control import cli, eight_bits, learning, model_folder
from mbrl_control.config import ConfigError, read_yaml
from mbrl_control.dynamics import _written
from mbrl_control.learning import LearnConfig, open_lab
from mbrl_control.model_folder import CARD
from mbrl_control.run_folder import Run, Trial

SMALL = {"mppi.samples": 8, "mppi.horizon": 5}
SECONDS = 0.5
FACTS = {"data": {"sha256": ["a"]}, "fit": {"head": "deterministic", "seed": 0}, "metrics": {"held_out_steps": 0}}
EXPORT = ("--episodes", "0", *(word for name in ("held_out", "one_step", "open_loop") for word in ("--force", name)))


def begun(folder):
    """A run of a small planner, without a trial."""
    options = LearnConfig(planner="mppi", steps=1000, iterations=1)
    lab = open_lab("reach", options, SMALL)
    asked = {"task": "reach", "options": asdict(options), "settings": SMALL, "command": "mbrl learn reach"}
    lab.run = Run.begin(folder, asked)
    return lab


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run whose model knows what its arm does, and one whose networks have a single hidden layer."""
    home = tmp_path_factory.mktemp("home")
    for name, hidden in (("arm", 2), ("flat", 1)):
        lab = begun(home / "runs" / name)
        episode = one_more(lab, 0.2)
        made = obedient(lab.robot, lab.task.dt, hidden, members=1, facts=FACTS)
        trial = Trial(1, "plan", 4, 8, episode.total, False, 1.0)
        lab.run.add(trial, lab.recorded(episode, 1), made, lab.robot, "mbrl learn")
    return home


@pytest.fixture
def mbrl(home, monkeypatch, capsys):
    """A command line in that folder, its episodes short: status, what was told, what was complained of."""
    monkeypatch.chdir(home)
    short = learning.run_episode
    monkeypatch.setattr(learning, "run_episode", lambda *args, **kwargs: short(*args, **{**kwargs, "seconds": SECONDS}))

    def run(*words):
        try:
            status = cli.main(list(words))
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_model_that_is_as_good_in_eight_bits_is_exported_and_the_card_says_so(home, mbrl):
    status, said, complained = mbrl("export", "runs/arm", "--out", "models/arm", "--int8", "5", *EXPORT)
    assert status == 0, complained
    assert said.count("eight bits ") == 5
    assert "eight bits 5 of 5   score float32 " in said
    card = read_yaml(home / "models" / "arm" / CARD)
    found = card["int8"]
    assert found["accepted"] is True
    assert " --int8 5" in card["command"]
    assert found["gate"] == eight_bits.GATE
    took = [f"{kind} {found[kind]['iteration_ms']:.2f} ms" for kind in ("float32", "int8")]
    assert f"an iteration takes {', '.join(took)}\n" in said
    for kind in ("float32", "int8"):
        assert len(found[kind]["scores"]) == len(set(found["seeds"])) == 5
        assert found[kind]["iteration_ms"] > 0.0
    assert found["int8"]["scores"] != found["float32"]["scores"]
    assert found["weights_sha256"] == card["sha256"][model_folder.WEIGHTS]
    words = ("--model", "models/arm", "--planner", "mppi", "--seconds", "0.2", "mppi.samples:=8", "mppi.horizon:=5")
    status, _, complained = mbrl("eval", "reach", *words, "engine.int8:=true", "--json", "e.json")
    assert status in (0, 1), complained
    assert "int8" in json.dumps(json.loads((home / "e.json").read_text()))

    # the same weights in another folder keep what was found, others do not
    assert mbrl("export", "models/arm", "--out", "models/again", *EXPORT[2:])[0] == 0
    assert read_yaml(home / "models" / "again" / CARD)["int8"] == found
    again = model_folder.read(home / "models" / "again")
    other = replace(again, params={**again.params, "b0": again.params["b0"] + np.float32(1e-3)})
    assert eight_bits.kept(again.facts, again)["int8"] == found
    assert "int8" not in eight_bits.kept(again.facts, other)
    assert "int8" not in eight_bits.kept({"int8": "yes"}, again)


def test_a_model_that_is_worse_in_eight_bits_is_refused_in_one_line(home, mbrl, monkeypatch):
    right = _written.quantized
    monkeypatch.setattr(_written, "quantized", lambda array: (0 * right(array)[0], right(array)[1]))
    status, _, complained = mbrl(
        "export", "runs/arm", "--out", "models/worse", "--int8", "5", "--json", "w.json", *EXPORT
    )
    found = json.loads((home / "w.json").read_text())["int8"]
    means = [f"{np.mean(found[kind]['scores']):.4g}" for kind in ("float32", "int8")]
    assert status == 1
    assert complained.count("\n") == 1
    assert f"float32 has a mean score of {means[0]}, " in complained
    assert f"int8 has a mean score of {means[1]}, " in complained
    assert f"it takes {found['least_mean']:.4g} or more" in complained
    assert "without --int8" in complained
    assert not (home / "models" / "worse").exists()


def of(scores, met=0, cut_short=0):
    return {"scores": scores, "met": met, "cut_short": cut_short}


@pytest.mark.parametrize(
    ("single", "eight", "accepted"),
    [
        (of([100.0] * 5), of([98.1] * 5), True),
        (of([100.0] * 5), of([97.9] * 5), False),
        (of([-100.0] * 5), of([-101.9] * 5), True),
        (of([-100.0] * 5), of([-102.1] * 5), False),
        (of([100.0] * 5), of([100.0, 80.0, 100.0, 110.0, 95.0]), True),  # 3 less, with a standard error of 4.9
        (of([100.0] * 5), of([90.0, 80.0, 100.0, 110.0, 70.0]), False),  # 10 less, with one of 7.1
        (of([1.0] * 5, met=5), of([2.0] * 5, met=4), False),
        (of([-9.0] * 5), of([-1.0] * 5, cut_short=1), False),
        (of([1.0] * 5), of([np.nan] * 5), False),
    ],
)
def test_the_gate(single, eight, accepted):
    assert eight_bits.judged(single, eight)["accepted"] is accepted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/arm", "--int8", "4"], "--int8 4: it takes a whole number of episodes from 5 to 1000"),
        (["runs/arm", "--int8", "0"], "--int8 0: it takes a whole number of episodes from 5 to 1000"),
        (["models/own", "--int8", "5"], "--int8 5: it takes a run, whose task and planner episodes can be played with"),
        (["runs/flat", "--int8", "5"], "a model of 1 hidden layer has no product between hidden layers"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(home, mbrl, words, said):
    lab = open_lab("reach", LearnConfig(), {})
    model_folder.write(home / "models" / "own", obedient(lab.robot), lab.robot, "made up")
    status, _, complained = mbrl("export", *words, "--out", "models/m")
    assert status == 2
    assert said in complained
    assert complained.count("\n") == 1


def test_nothing_is_learned_in_eight_bits():
    with pytest.raises(ConfigError, match=r"engine\.int8 = true: what is still learned has stood no test; it takes"):
        open_lab("reach", LearnConfig(), {"engine.int8": True})


def test_seeds_are_those_of_no_other_episodes():
    from mbrl_control.commands.export import MOST
    from mbrl_control.export import HELD_OUT

    assert eight_bits.APART >= HELD_OUT + 2 * MOST
    assert eight_bits.LEAST >= 5
