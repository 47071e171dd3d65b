"""Whether plans are as good with hidden layers in eight bits: measured in closed loop before a model is exported.

How much a network's outputs change says little of what a planner makes of them. So the same new episodes are played
twice, by the planner of the run on float32 graphs and on int8 graphs (``engine.Config.int8``), and compared in pairs:

    mean score     at least that of float32, less 2 % of its size or one standard error of the paired difference
    goals met      no fewer
    cut short      no more episodes that ended before their time: a short one can score well

What was found goes into the card, with the sha256 of the weights that it was found of: other weights have to be tried
anew. Without that entry ``engine.int8`` is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_control import model_folder
from mbrl_control.config import build
from mbrl_control.core import MbrlError
from mbrl_control.dynamics import ensemble
from mbrl_control.engine import Engine
from mbrl_control.evaluate import Episode, engine_of
from mbrl_control.model import Model

if TYPE_CHECKING:
    from mbrl_control.learning import Lab

LEAST = 5
"""Fewer episodes show nothing."""
SLACK = 0.02
"""What may be lost of the mean score, as a share of its size."""
APART = 20_000
"""Seeds are counted from here, beyond those of evaluations and of episodes held out."""
GATE = (
    f"mean score of int8 at least that of float32 less the larger of {100 * SLACK:g} % of its size and one standard "
    f"error of the paired difference; no fewer goals met; no more episodes cut short"
)
KINDS = ("float32", "int8")


class EightBitsError(MbrlError):
    """A model that cannot be tried in eight bits."""


def check(model: Model) -> None:
    """Refuse a model that would have nothing in eight bits."""
    if len(model.net.hidden) < 2:
        raise EightBitsError(
            f"--int8: a model of {len(model.net.hidden)} hidden layer has no product between hidden layers, which are "
            f"what is in eight bits; it takes one of 2 or more, as fit.layers:=3"
        )


def compared(
    lab: Lab, model: Model, episodes: int, told: Callable[[int, Episode, Episode], None] = lambda *_: None
) -> dict[str, Any]:
    """What is written into the card of a model, of so many new episodes; ``told`` is called after each pair."""
    from mbrl_control.learning import EVALUATION

    check(model)
    settings = build(ensemble.Config, lab.settings.of("dynamics"), "ensemble.")
    planned = lab.planned(lambda xp: ensemble.of(model, lab.robot, xp, settings))
    config = replace(engine_of(lab.settings), use="onnx", provider="cpu")
    parts = [
        lab.parts_with(Engine(replace(config, int8=int8), planned, planned(np), math.inf), dynamics, "ensemble")
        for int8, dynamics in ((kind == "int8", ensemble.of(model, lab.robot, np, settings)) for kind in KINDS)
    ]
    seeds, played = [EVALUATION + APART + k for k in range(episodes)], []
    for number, seed in enumerate(seeds, start=1):
        pair = [lab.run_episode(one, seed) for one in parts]
        told(number, *pair)
        played.append(pair)
    by_kind = {kind: _told([pair[i] for pair in played], lab) for i, kind in enumerate(KINDS)}
    return {
        **judged(by_kind["float32"], by_kind["int8"]),
        "seeds": seeds,
        **by_kind,
        "weights_sha256": _sha256(model),
    }


def _told(episodes: Sequence[Episode], lab: Lab) -> dict[str, Any]:
    """Of one kind; what an iteration takes is of the quickest plan, which nothing else on the machine made wait."""
    plans = np.concatenate([episode.plan_time for episode in episodes])
    return {
        "scores": [episode.total for episode in episodes],
        "met": sum(episode.success for episode in episodes),
        "cut_short": sum(bool(episode.ended) for episode in episodes),
        "iteration_ms": round(float(plans.min()) / lab.options.iterations * 1e3, 3),
    }


def judged(single: Mapping[str, Any], eight: Mapping[str, Any]) -> dict[str, Any]:
    """Whether eight bits are accepted, and what would have been, of scores on the same seeds."""
    ours, theirs = np.asarray(eight["scores"], dtype=float), np.asarray(single["scores"], dtype=float)
    apart = float(np.std(ours - theirs, ddof=1)) / math.sqrt(len(ours))
    least = float(theirs.mean()) - max(SLACK * abs(float(theirs.mean())), apart)
    goals = eight["met"] >= single["met"] and eight["cut_short"] <= single["cut_short"]
    return {"accepted": bool(ours.mean() >= least) and goals, "gate": GATE, "least_mean": least}


def refusal(found: Mapping[str, Any]) -> str:
    """One line that says what failed, and what to do."""
    kinds = ", ".join(
        f"{kind} has a mean score of {np.mean(found[kind]['scores']):.4g}, {found[kind]['met']} goals met and "
        f"{found[kind]['cut_short']} cut short"
        for kind in KINDS
    )
    return (
        f"not exported: of {len(found['seeds'])} episodes {kinds}; of int8 it takes {found['least_mean']:.4g} or more, "
        f"no fewer met and no more cut short; 'mbrl export' without --int8 exports it for float32"
    )


def kept(card: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """A card without what was found of other weights than these."""
    said = card.get("int8")
    of_these = isinstance(said, Mapping) and said.get("weights_sha256") == _sha256(model)
    return {name: value for name, value in card.items() if name != "int8" or of_these}


def _sha256(model: Model) -> str:
    return hashlib.sha256(model_folder.weights(model)).hexdigest()
