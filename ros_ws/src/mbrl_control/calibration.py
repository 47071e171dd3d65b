"""How good a model is on data that it was not fitted to, and how well it knows that.

    one step    root mean square error of the ensemble's mean, and R^2 of the change, for each output; the deviation
                that it is compared with is the held-out changes' or, where little moves there, that of those fitted to
    open loop   the same after k steps, each member along its own predictions, for each element of the state; and
                the error of who says that nothing will move, to compare with
    coverage    how often the truth lies in the central 90 % of the members' mixture, 1/E sum_e N(mu_e, var_e)
    quantiles   of disagreement and one-vs-rest (``dynamics/ensemble.py``): what is usual, for a gate at run time

``open_loop`` and ``raw`` are over ``xp``: the fit stops by them, on torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from mbrl_control.core import Array
from mbrl_control.model import COMMANDS, REFERENCE, Model, Spec, advanced, changes, inputs, wrapped
from mbrl_control.networks import ACTIVATIONS, Activation, Net, forward, mean_and_variance
from mbrl_control.replay import Recording
from mbrl_control.transitions import Steps, Windows, steps, windows

INTERVAL = 0.9
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
WIDEST, HALVINGS = 100.0, 20
"""An interval is made this many times wider at most, found by halving so often."""
WINDOWS = 200
"""Stretches of held-out data that the open loop is judged by."""


def raw(
    xp: Any,
    spec: Spec,
    net: Net,
    params: Mapping[str, Array],
    state: Mapping[str, Array],
    drive: Array,
    activations: Mapping[str, Activation] = ACTIVATIONS,
) -> Annotated[Array, "E B out"]:
    """What the networks give, normalised; states are [B n], or [E B n] with one for each member."""
    x = (inputs(spec, xp, state, drive) - params["input_mean"]) / params["input_scale"]
    return forward(xp, net, params, x if x.ndim == 3 else x[None], activations)


def open_loop(
    xp: Any,
    spec: Spec,
    net: Net,
    params: Mapping[str, Array],
    states: Mapping[str, Array],
    drive: Array,
    activations: Mapping[str, Activation] = ACTIVATIONS,
) -> dict[str, Annotated[Array, "E W H n"]]:
    """What each member foresees of windows [W H+1 n] from their first rows; references and commands are given."""
    parts = [part.name for part in spec.parts]
    given = [name for name in (REFERENCE, COMMANDS) if name in states]
    lead = (net.members, drive.shape[0])
    state = {name: xp.broadcast_to(states[name][:, 0], (*lead, states[name].shape[-1])) for name in parts}
    rows = []
    for k in range(drive.shape[1]):
        beside = {name: xp.broadcast_to(states[name][:, k], (*lead, states[name].shape[-1])) for name in given}
        driving = xp.broadcast_to(drive[:, k], (*lead, drive.shape[-1]))
        mean = raw(xp, spec, net, params, {**state, **beside}, driving, activations)[..., : net.outputs]
        state = advanced(spec, xp, state, mean * params["output_scale"] + params["output_mean"])
        rows.append(state)
    return {name: xp.stack([row[name] for row in rows], axis=-2) for name in parts}


def missed(
    spec: Spec, xp: Any, foreseen: Mapping[str, Array], states: Mapping[str, Array]
) -> dict[str, Annotated[Array, "... W H n"]]:
    """Foreseen minus true, angles modulo a turn."""
    return {p.name: wrapped(xp, p, foreseen[p.name] - states[p.name][:, 1:]) for p in spec.parts}


def scales(spec: Spec, data: Steps) -> dict[str, Annotated[np.ndarray, "n"]]:
    """How much each element of the state varies in the data: what errors are divided by."""
    return {part.name: np.maximum(data.before[part.name].std(axis=0), 1e-6) for part in spec.parts}


def judged(model: Model, held_out: Sequence[Recording], horizon: int) -> dict[str, Any]:
    """``metrics`` and ``calibration`` of a model on recordings that it was not fitted to; of none, that it is so."""
    if not held_out:
        return {"metrics": {"held_out_steps": 0}, "calibration": {}}
    data, seen = steps(model.spec, held_out), windows(model.spec, held_out, horizon, WINDOWS)
    params = {name: array.astype(float) for name, array in model.params.items()}
    truth, mean, variance = one_step(model, params, data)
    names = model.spec.output_names
    error = (mean.mean(axis=0) - truth) * params["output_scale"]
    usual = np.maximum(truth.std(axis=0), 1.0) * params["output_scale"]
    rmse = np.sqrt(np.mean(np.square(error), axis=0))
    metrics: dict[str, Any] = {
        "held_out_episodes": len(held_out),
        "held_out_steps": len(data.drive),
        "usual_change": dict(zip(names, usual, strict=True)),
        "one_step_rmse": dict(zip(names, rmse, strict=True)),
        "one_step_r2": dict(zip(names, 1.0 - np.square(rmse / usual), strict=True)),
        "open_loop": {"steps": seen.horizon, "rmse_at_end": {}, "unmoved_at_end": {}},
    }
    still = {name: np.broadcast_to(rows[:, :1], rows[:, 1:].shape) for name, rows in seen.states.items()}
    curves = {"rmse_at_end": open_loop_rmse(model, params, seen), "unmoved_at_end": _rmse(model.spec, still, seen)}
    for kind, found in curves.items():
        for part, curve in found.items():
            metrics["open_loop"][kind] |= {f"{part}[{i}]": curve[-1, i] for i in range(curve.shape[1])}
    calibration: dict[str, Any] = {"quantiles": quantiles(mean)}
    if variance is not None:
        inside = np.abs(mixture(truth, mean, variance) - 0.5) <= INTERVAL / 2.0
        calibration["coverage_90"] = dict(zip(names, inside.mean(axis=0), strict=True))
    return {"metrics": metrics, "calibration": calibration}


def one_step(
    model: Model, params: Mapping[str, np.ndarray], data: Steps
) -> tuple[Annotated[np.ndarray, "B n"], Annotated[np.ndarray, "E B n"], Annotated[np.ndarray, "E B n"] | None]:
    """True changes, and mean and variance of what each member foresees, all normalised."""
    truth = (changes(model.spec, np, data.before, data.after) - params["output_mean"]) / params["output_scale"]
    said = raw(np, model.spec, model.net, params, data.before, data.drive)
    return truth, *mean_and_variance(np, model.net, params, said)


def open_loop_rmse(
    model: Model, params: Mapping[str, np.ndarray], seen: Windows
) -> dict[str, Annotated[np.ndarray, "H n"]]:
    """Root mean square error of the mean over members after each step."""
    foreseen = open_loop(np, model.spec, model.net, params, seen.states, seen.drive)
    return _rmse(model.spec, {name: rows.mean(axis=0) for name, rows in foreseen.items()}, seen)


def _rmse(
    spec: Spec, foreseen: Mapping[str, Annotated[np.ndarray, "W H n"]], seen: Windows
) -> dict[str, Annotated[np.ndarray, "H n"]]:
    """Root mean square error over windows, after each step."""
    errors = missed(spec, np, foreseen, seen.states)
    return {name: np.sqrt(np.mean(np.square(error), axis=0)) for name, error in errors.items()}


def widening(model: Model, recordings: Sequence[Recording]) -> Annotated[np.ndarray, "n"]:
    """What each output's deviation is to be times as large, for its 90 % interval to hold 90 % of these; 1: it does."""
    params = {name: array.astype(float) for name, array in model.params.items()}
    truth, mean, variance = one_step(model, params, steps(model.spec, recordings))
    assert variance is not None

    def holds(factor: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n"]:
        inside = np.abs(mixture(truth, mean, variance * np.square(factor)) - 0.5) <= INTERVAL / 2.0
        return inside.mean(axis=0) >= INTERVAL

    low = np.ones(truth.shape[-1])
    high = np.where(holds(low), 1.0, WIDEST)
    for _ in range(HALVINGS):
        middle = np.sqrt(low * high)
        enough = holds(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def widened(model: Model, factor: Annotated[np.ndarray, "n"]) -> Model:
    """The same model, deviations ``factor`` times as large: raw log variance and both bounds are shifted."""
    params, shift = dict(model.params), 2.0 * np.log(factor)
    last, n = f"b{model.net.layers - 1}", model.net.outputs
    params[last] = np.concatenate([params[last][..., :n], params[last][..., n:] + shift], axis=-1).astype(np.float32)
    for name in ("max_log_variance", "min_log_variance"):
        params[name] = (params[name] + shift).astype(np.float32)
    return Model(model.spec, model.net, params, model.facts)


def mixture(
    truth: Annotated[np.ndarray, "B n"], mean: Annotated[np.ndarray, "E B n"], variance: Annotated[np.ndarray, "E B n"]
) -> Annotated[np.ndarray, "B n"]:
    """Distribution function of the members' mixture at the truth."""
    erf = np.vectorize(math.erf, otypes=[float])
    return np.mean(0.5 + 0.5 * erf((truth - mean) / np.sqrt(2.0 * variance)), axis=0)


def quantiles(mean: Annotated[np.ndarray, "E B n"]) -> dict[str, dict[str, float]]:
    """Of what the members' normalised means differ by, as ``dynamics/ensemble.py`` measures it."""
    away = mean - mean.mean(axis=0)
    count = len(mean)
    odd = np.sqrt(np.mean(np.square(away), axis=-1)).max(axis=0) * (count / max(count - 1, 1))
    found = {"disagreement": np.sqrt(np.mean(np.square(away), axis=(0, 2))), "one_vs_rest": odd}
    return {name: {f"{q:g}": float(np.quantile(x, q)) for q in QUANTILES} for name, x in found.items()}
