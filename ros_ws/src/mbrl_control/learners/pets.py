"""PETS: a probabilistic ensemble, fitted again and again to all that was seen, and a planner on its particles.

    explore at random; then, until the steps are spent:  fit the ensemble to all data;  plan an episode with it

(Chua, Calandra, McAllister, Levine, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.) What differs by default, and why:

* It is fitted again within a trial, every ``retrain_every`` steps (Pineda et al., mbrl-lib, 2021, does so): a trial
  that goes wrong because of what the model does not know gets better while it goes on. 0: once a trial, as published.
* The random controls of the first episode are coloured noise, which goes somewhere where white noise cancels itself.
* The planner is iCEM and there is one particle a member: a tenth of the work for the same plans.

As published: ``--planner cem pets.retrain_every:=0 pets.beta:=0 pets.epochs:=5 pets.first_epochs:=5 fit.width:=500
ensemble.particles:=20 cem.samples:=400``; one plan then takes seconds on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mbrl_control.config import build, param
from mbrl_control.dynamics import ensemble
from mbrl_control.engine import Engine
from mbrl_control.evaluate import Episode, Parts
from mbrl_control.exploration import Restless, Wander
from mbrl_control.model import COMMANDS_KEPT, STRUCTURES, Model, Spec, spec_for
from mbrl_control.replay import Recording, Replay
from mbrl_control.run_folder import FITS

if TYPE_CHECKING:
    from mbrl_control.fit import FitConfig
    from mbrl_control.learning import Lab
    from mbrl_control.run_folder import Trial

SETTINGS = {"planner": "icem", "ensemble.propagation": "ts_inf", "fit.head": "gaussian"}
"""Planner, and what the parts take, where neither the task nor a person says otherwise."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``pets``."""

    explore: int = param(0, "random steps at first; 0: one episode", low=0, high=1_000_000)
    beta: float = param(1.0, "exponent of the random controls' spectrum; 0: white, larger: slower", low=0.0, high=10)
    sigma: float = param(
        0.5, "standard deviation of the random controls, as a share of each channel's bound", low=1e-3, high=10.0
    )
    noise: float = param(
        0.0, "on the controls that are planned in trials, likewise; evaluations have none", low=0.0, high=10.0
    )
    retrain_every: int = param(50, "steps of a trial between fits; 0: one fit, before it", low=0, high=1_000_000)
    first_epochs: int = param(100, "passes over the data of the first fit", low=1, high=100_000)
    epochs: int = param(20, "passes of a fit that goes on from the last one's weights", low=1, high=100_000)
    held_out: float = param(
        0.0, "share of the episodes that a fit is stopped by, in open loop, not fitted to; 0: none", low=0.0, high=0.5
    )
    latency: int = param(0, "commands before the present one that the networks read", low=0, high=COMMANDS_KEPT)
    structure: str = param("delta", "what the networks predict", choices=STRUCTURES)
    stops: bool = param(False, "networks read how far joints would run beyond their stops, and joints stay within them")


class Pets:
    """The loop."""

    def __init__(self, config: Config, lab: Lab) -> None:
        import torch
        from threadpoolctl import threadpool_limits

        from mbrl_control.fit import FitConfig

        torch.set_num_threads(lab.options.threads)
        threadpool_limits(lab.options.threads)
        self.config, self.lab = config, lab
        self.fit_config: FitConfig = build(FitConfig, lab.settings.beginning("fit."), "fit.")
        self.spec: Spec = spec_for(
            lab.robot,
            lab.task.dt,
            blocks=lab.task.layout.blocks,
            latency=config.latency,
            structure=config.structure,
            stops=config.stops,
        )
        self.model: Model | None = None
        """The newest; of a run that goes on, from its folder."""
        self._dynamics: ensemble.Ensemble | None = None
        self._parts: Parts | None = None

    def trial(self) -> tuple[Trial, Recording, Model | None]:
        from mbrl_control.run_folder import Trial

        lab, number, begun = self.lab, len(self.lab.run.trials), time.perf_counter()
        explored = self.config.explore or lab.task.steps
        self.model = self.model or lab.run.model()
        kind = "explore" if lab.run.env_steps < explored else "plan"
        took: list[float] = []
        if kind == "explore":
            lab.on_step("at random")
            episode = lab.episode(self.exploring(), number, self._told(kind, took))
        else:
            self._fit(lab.run.recordings(), took)
            episode = lab.episode(self.trying(), number, self._told(kind, took))
        recording = lab.recorded(episode, number)
        trial = Trial(
            number=number,
            kind=kind,
            steps=recording.steps,
            env_steps=lab.run.env_steps + recording.steps,
            score=episode.total,
            success=episode.success,
            plan_ms=float(np.median(episode.plan_time)) * 1e3,
            fits=len(took),
            fit_s=sum(took),
            wall_s=time.perf_counter() - begun,
            ended=episode.ended,
        )
        return trial, recording, self.model

    def parts(self) -> Parts:
        """The planner on the newest model."""
        self.model = self.model or self.lab.run.model()
        if self.model is None:
            self._fit(self.lab.run.recordings(), [])
            assert self.model is not None
        if self._parts is None:
            settings = build(ensemble.Config, self.lab.settings.of("dynamics"), "ensemble.")
            model, robot = self.model, self.lab.robot
            self._dynamics = dynamics = ensemble.of(model, robot, np, settings)
            planner = self.lab.planner(
                lambda xp: dynamics if xp is np else ensemble.written(settings, dynamics.model, robot, xp)
            )
            self._parts = self.lab.parts_with(planner, dynamics, "ensemble")
        return self._parts

    def trying(self) -> Parts:
        """The planner on the newest model, disturbed if that is asked for."""
        parts, config = self.parts(), self.config
        if not config.noise:
            return parts
        restless = Restless(parts.planner, self.lab.robot, config.beta, config.noise)
        return replace(parts, planner=restless)

    def exploring(self) -> Parts:
        """What acts at random."""
        wander = Wander(self.lab.robot, self.lab.task, self.config.beta, self.config.sigma)
        return self.lab.parts_with(wander, wander.dynamics, "none")

    def _told(self, kind: str, took: list[float]) -> Callable[[Callable[[], Episode]], None]:
        """What is done after each step of a trial: tell, and fit again when it is time."""
        made = 0

        def after(so_far: Callable[[], Episode]) -> None:
            nonlocal made
            made += 1
            every = self.config.retrain_every
            if kind == "plan" and every and made % every == 0 and made < self.lab.task.steps:
                now = self.lab.recorded(so_far(), len(self.lab.run.trials))
                self._fit([*self.lab.run.recordings(), now], took)
            self.lab.on_step(kind)

        return after

    def _fit(self, recordings: Sequence[Recording], took: list[float]) -> None:
        """Fit to recordings, from the last weights if there are any, and plan with it from now on."""
        from mbrl_control.fit import fit

        epochs = self.config.epochs if self.model else self.config.first_epochs
        config = replace(self.fit_config, epochs=epochs, seed=self._seed(recordings))
        begun = time.perf_counter()
        steps = sum(recording.steps for recording in recordings)
        folder = self.lab.run.folder / FITS / f"{steps:06d}"
        train, validation = self._split(recordings)
        told = self.lab.on_epoch
        fitted = fit(config, self.spec, train, validation, start=self.model, folder=folder, on_epoch=told)
        self.model = replace(fitted, facts={**fitted.facts, **self.lab.conditions()})
        took.append(time.perf_counter() - begun)
        if self._parts is not None and isinstance(self._parts.planner, Engine):
            self._parts.planner.swap(self.model)
        elif self._dynamics is not None:
            self._dynamics.swap(self.model)

    def _split(self, recordings: Sequence[Recording]) -> tuple[Sequence[Recording], Sequence[Recording]]:
        """What is fitted to, and what is held out."""
        if not self.config.held_out:
            return recordings, ()
        data = Replay()
        for recording in recordings:
            data.append(recording)
        split = data.split(self.config.held_out)
        return split.train, split.validation

    def _seed(self, recordings: Sequence[Recording]) -> int:
        """Of a fit: another one for each amount of data, the same whenever that is fitted again."""
        words = [self.lab.options.seed, sum(recording.steps for recording in recordings)]
        return int(np.random.SeedSequence(words).generate_state(1)[0]) % 2**31


def make(config: Config, lab: Lab) -> Pets:
    """PETS in a lab."""
    return Pets(config, lab)
