"""PDDM: a deterministic ensemble, fitted to all that was seen, and filtered MPPI on it.

The loop is that of ``pets.py``; what is different are the parts: networks of 2 x 250 ReLU units that predict the mean
alone, fitted to all data in batches of 512 with noise on their inputs, rolled out without noise; and the planner
(Nagabandi, Konolige, Levine, Kumar, "Deep Dynamics Models for Learning Dexterous Manipulation", CoRL 2019, and its
code). It is fitted once a trial there, too; from the last weights here, where it starts anew there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mbrl_control.config import param
from mbrl_control.learners import pets

if TYPE_CHECKING:
    from mbrl_control.learning import Lab

SETTINGS = {
    "planner": "mppi",
    "ensemble.propagation": "mean",
    "fit.head": "deterministic",
    "fit.members": 3,
    "fit.layers": 2,
    "fit.width": 250,
    "fit.activation": "relu",
    "fit.batch": 512,
    "fit.bootstrap": False,
    "fit.decay": 0.0,
    "fit.input_noise": 0.001,
}
"""Planner, and what the parts take, where neither the task nor a person says otherwise."""


@dataclass(frozen=True)
class Config(pets.Config):
    """Parameters of ``pddm``."""

    retrain_every: int = param(0, "steps of a trial between fits; 0: one fit, before it", low=0, high=1_000_000)
    first_epochs: int = param(100, "passes over the data of the first fit", low=1, high=100_000)
    epochs: int = param(40, "passes of a fit that goes on from the last one's weights", low=1, high=100_000)


def make(config: Config, lab: Lab) -> pets.Pets:
    """PDDM in a lab."""
    return pets.Pets(config, lab)
