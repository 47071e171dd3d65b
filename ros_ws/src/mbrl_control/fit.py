"""Fitting an ensemble: all members in one pass, data resident on the device. The only module of the model on torch.

Each member sees its own bootstrap of the steps (PETS), in an order of its own; Adam, with the weight decay of PETS'
code, which grows from the first layer to the last. Members are judged after each epoch by how far off they are in open
loop over ``horizon`` steps of episodes held out (MBMF's measure: one-step errors say little of where planning ends),
and each keeps the weights of its best epoch. When none has got better for ``patience`` epochs, the fit is over.

With a folder, the fit is written down after each epoch (``fit.jsonl``, TensorBoard) and can be resumed after any end:
the checkpoint holds weights, optimiser and the state of the generator, and is written aside and put in place. On one
thread a fit that was resumed ends in the same weights, bit for bit, as one that was not interrupted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import array_api_compat.torch as xp
import numpy as np
import torch

from mbrl_control import networks
from mbrl_control.calibration import judged, missed, open_loop, scales
from mbrl_control.checkpoint import CHECKPOINT, Progress, load, save
from mbrl_control.config import ConfigError, param
from mbrl_control.fit_log import Epoch, FitLog
from mbrl_control.model import Model, Spec, changes, inputs, normaliser
from mbrl_control.networks import Net
from mbrl_control.replay import Recording
from mbrl_control.transitions import Windows, steps, windows

DECAY = (1e-4, 2.5e-4, 5e-4)
"""Weight decay in PETS' code: of the first layer, of those between, and of the last."""
WINDOWS = 64
"""Stretches of held-out data that the fit stops by."""
BETTER = 0.99
"""An error below this share of the best one counts as progress."""
QUICK: Mapping[str, networks.Activation] = {
    **networks.ACTIVATIONS,
    "silu": lambda _xp, x: torch.nn.functional.silu(x),
}
"""The same activations where torch differentiates them in one piece: a step of the fit takes half as long."""


@dataclass(frozen=True)
class FitConfig:
    """How an ensemble is fitted."""

    members: int = param(5, "networks in the ensemble", low=1, high=100)
    layers: int = param(3, "hidden layers of each", low=1, high=20)
    width: int = param(128, "units of each hidden layer", low=1, high=10_000)
    activation: str = param("silu", "of the hidden layers", choices=tuple(networks.ACTIVATIONS))
    head: str = param("gaussian", "mean and variance (PETS), or the mean alone (PDDM)", choices=networks.HEADS)
    beta: float = param(
        0.0,
        "of a gaussian head, weight of steps by their variance to this power: 0 none, 1 nearly mse",
        low=0.0,
        high=1.0,
    )
    epochs: int = param(50, "passes over the data at most", low=1, high=100_000)
    batch: int = param(32, "steps in a batch of each member", low=1, high=1_000_000)
    learning_rate: float = param(1e-3, "of Adam", low=1e-8, high=1.0)
    decay: float = param(1.0, "weight decay, as a multiple of PETS' values", low=0.0, high=1e6)
    bootstrap: bool = param(True, "each member sees its own sample of the data, drawn with replacement")
    input_noise: float = param(0.0, "noise on the inputs, in standard deviations of the data", low=0.0, high=10.0)
    horizon: int = param(25, "steps foreseen in open loop, to judge the members by", low=1, high=1000)
    patience: int = param(20, "epochs without progress before it stops; 0: never", low=0, high=100_000)
    seed: int = param(0, "of weights, bootstrap and order", low=0, high=2**31 - 1)
    device: str = param("cpu", "what torch computes on, as cpu or cuda")
    save_every: float = param(5.0, "time between checkpoints; 0: after each epoch", unit="s", low=0.0, high=3600.0)
    tensorboard: bool = param(False, "write TensorBoard events as well; needs the extra 'tensorboard'")


def fit(
    config: FitConfig,
    spec: Spec,
    train: Sequence[Recording],
    validation: Sequence[Recording] = (),
    *,
    start: Model | None = None,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Model:
    """A model fitted to recordings, with what is known of it in ``facts``.

    Nothing held out: it makes all epochs, keeps the last weights, and is not calibrated. ``start`` gives the weights
    to begin with; what normalises is worked out anew. ``folder`` takes log and checkpoint, and resumes from the latter.
    """
    begun = time.perf_counter()
    run = _Fit(config, spec, train, validation, start)
    mark = _mark(config, spec, train, validation, start)
    progress = load(folder / CHECKPOINT, mark) if folder is not None else None
    if progress is not None:
        run.restore(progress)
    log = FitLog(folder, run.epoch, config.tensorboard)
    saved = time.monotonic()
    try:
        while not run.finished:
            told = run.one_epoch()
            log.write(told)
            if on_epoch is not None:
                on_epoch(told)
            if folder is not None and time.monotonic() - saved >= config.save_every:
                log.flush()
                save(folder / CHECKPOINT, mark, run.progress())
                saved = time.monotonic()
    finally:
        log.close()
    model = run.model()
    facts = {
        "data": {
            "episodes": len(train),
            "steps": sum(r.steps for r in train),
            "sha256": [r.sha256 for r in train],
            "held_out_sha256": [r.sha256 for r in validation],
            "sources": sorted({r.source for r in train}),
        },
        "fit": {**asdict(config), "epochs_made": run.epoch, "warm_start": start is not None},
        **judged(model, validation, config.horizon),
        "wall_s": round(time.perf_counter() - begun, 3),
    }
    if folder is not None:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return Model(model.spec, model.net, model.params, facts)


def _mark(
    config: FitConfig, spec: Spec, train: Sequence[Recording], validation: Sequence[Recording], start: Model | None
) -> str:
    """What a checkpoint must be of, to be resumed: everything that the outcome depends on."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("device", "save_every", "tensorboard")}
    words = [asdict(spec), settings, [r.sha256 for r in train], [r.sha256 for r in validation]]
    digest = hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode())
    for name, array in sorted(start.params.items()) if start is not None else ():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"device = '{name}': {why}; it takes one that torch has, as cpu or cuda") from None
    return device


class _Fit:
    """A fit in progress."""

    def __init__(
        self,
        config: FitConfig,
        spec: Spec,
        train: Sequence[Recording],
        validation: Sequence[Recording],
        start: Model | None,
    ) -> None:
        self.config, self.spec, self.device = config, spec, _device(config.device)
        data = steps(spec, train)
        x, y = inputs(spec, np, data.before, data.drive), changes(spec, np, data.before, data.after)
        norm = normaliser(x, y)
        self.net = Net(
            config.members, x.shape[1], (config.width,) * config.layers, y.shape[1], config.head, config.activation
        )
        weights_rng, bootstrap_rng, order_rng = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(3)
        )
        weights = networks.initial(self.net, weights_rng) if start is None else self._weights_of(start)
        count, shape = len(x), (config.members, len(x))
        drawn = (
            bootstrap_rng.integers(count, size=shape) if config.bootstrap else np.arange(count) + np.zeros(shape, int)
        )
        self._rng, self._drawn = order_rng, drawn
        self._x = self._put((x - norm["input_mean"]) / norm["input_scale"])
        self._y = self._put((y - norm["output_mean"]) / norm["output_scale"])
        self._norm = {name: self._put(array) for name, array in norm.items()}
        self._params = {name: self._put(array).clone().requires_grad_() for name, array in weights.items()}
        self._adam = torch.optim.Adam(self._groups(), lr=config.learning_rate, fused=True)
        self._scales = {name: self._put(array) for name, array in scales(spec, data).items()}
        self._held_out = windows(spec, validation, config.horizon, WINDOWS) if validation else None
        self._seen = {n: self._put(a) for n, a in self._held_out.states.items()} if self._held_out else {}
        self._u = self._put(self._held_out.drive) if isinstance(self._held_out, Windows) else None
        self._best = {name: array.detach().clone() for name, array in self._params.items()}
        self._error = np.full(config.members, np.inf)
        self._progressed = self.epoch = 0

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.asarray(np.ascontiguousarray(array, dtype=np.float32), device=self.device)

    def _weights_of(self, start: Model) -> dict[str, np.ndarray]:
        if start.net != self.net or start.spec != self.spec:
            raise ConfigError(
                f"start: a model of {start.spec.robot} with {start.net}; this fit takes one of {self.spec.robot} with "
                f"{self.net}, and the same joints, parts, dt and structure"
            )
        return {name: start.params[name] for name in self.net.shapes()}

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters with the weight decay of their layer; biases and bounds have none."""
        last = self.net.layers - 1
        of_layer = {f"w{i}": DECAY[0] if i == 0 else DECAY[-1] if i == last else DECAY[1] for i in range(last + 1)}
        groups: dict[float, list[torch.Tensor]] = {}
        for name, p in self._params.items():
            groups.setdefault(of_layer.get(name, 0.0) * self.config.decay, []).append(p)
        return [{"params": together, "weight_decay": decay} for decay, together in groups.items()]

    @property
    def finished(self) -> bool:
        waited = self.epoch - self._progressed
        return self.epoch >= self.config.epochs or bool(self.config.patience and waited >= self.config.patience)

    def one_epoch(self) -> Epoch:
        """One pass over the data by all members, and what they are then worth."""
        begun, config = time.perf_counter(), self.config
        order = self._rng.random(self._drawn.shape).argsort(axis=1)
        rows = torch.asarray(np.take_along_axis(self._drawn, order, axis=1), device=self.device)
        total = torch.zeros(config.members, device=self.device)
        for first in range(0, rows.shape[1], config.batch):
            chosen = rows[:, first : first + config.batch]
            x, y = self._x[chosen], self._y[chosen]
            if config.input_noise:
                x = x + self._put(self._rng.standard_normal(tuple(x.shape))) * config.input_noise
            raw = networks.forward(xp, self.net, self._params, x, QUICK)
            losses = networks.loss(xp, self.net, self._params, raw, y, config.beta, torch.Tensor.detach)
            self._adam.zero_grad()
            losses.sum().backward()
            self._adam.step()
            total += losses.detach() * (chosen.shape[1] / rows.shape[1])
        self.epoch += 1
        error = self._judge()
        return Epoch(
            self.epoch,
            config.epochs,
            float(total.mean()),
            float(np.mean(error)) if error is not None else None,
            float(np.mean(self._error)) if error is not None else None,
            time.perf_counter() - begun,
        )

    @torch.no_grad()
    def _judge(self) -> Annotated[np.ndarray, "E"] | None:
        """Each member's normalised open-loop error, whose best weights are kept; None where nothing is held out."""
        if self._u is None:
            self._best = {name: array.detach().clone() for name, array in self._params.items()}
            self._progressed = self.epoch
            return None
        foreseen = open_loop(xp, self.spec, self.net, self._params | self._norm, self._seen, self._u, QUICK)
        errors = missed(self.spec, xp, foreseen, self._seen)
        squares = torch.cat([(error / self._scales[name]) ** 2 for name, error in errors.items()], dim=-1)
        found = squares.mean(dim=(1, 2, 3)).sqrt().cpu().numpy().astype(float)
        found = np.where(np.isfinite(found), found, np.inf)
        better = found < self._error
        if (found < BETTER * self._error).any():
            self._progressed = self.epoch
        self._error = np.where(better, found, self._error)
        chosen = torch.asarray(better, device=self.device)[:, None, None]
        self._best = {name: torch.where(chosen, self._params[name], kept) for name, kept in self._best.items()}
        return found

    def model(self) -> Model:
        """The best weights, and what normalises."""
        params = {name: array.detach().cpu().numpy() for name, array in (self._best | self._norm).items()}
        return Model(self.spec, self.net, params)

    def progress(self) -> Progress:
        """All that it takes to go on."""
        moments = {
            f"{moment}.{name}": self._adam.state[p][moment]
            for name, p in self._params.items()
            for moment in ("step", "exp_avg", "exp_avg_sq")
        }
        weights = {f"weights.{name}": p.detach() for name, p in self._params.items()}
        best = {f"best.{name}": array for name, array in self._best.items()}
        state = {
            "epoch": self.epoch,
            "progressed": self._progressed,
            "error": self._error.tolist(),
            "rng": self._rng.bit_generator.state,
        }
        return Progress(moments | weights | best, state)

    def restore(self, progress: Progress) -> None:
        """Go on from there."""
        tensors: Mapping[str, torch.Tensor] = progress.tensors
        with torch.no_grad():
            for name, p in self._params.items():
                p.copy_(tensors[f"weights.{name}"])
                moments = {m: tensors[f"{m}.{name}"].to(self.device) for m in ("step", "exp_avg", "exp_avg_sq")}
                self._adam.state[p] = moments
        self._best = {name: tensors[f"best.{name}"].to(self.device) for name in self._best}
        self.epoch, self._progressed = progress.state["epoch"], progress.state["progressed"]
        self._error = np.asarray(progress.state["error"], dtype=float)
        self._rng.bit_generator.state = progress.state["rng"]
