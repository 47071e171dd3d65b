"""What a model came to, as a picture: one-step errors, and how errors grow in open loop, for each element."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_control.calibration import WINDOWS, one_step, open_loop_rmse
from mbrl_control.core import MbrlError
from mbrl_control.model import Model
from mbrl_control.replay import Recording, ReplayError
from mbrl_control.transitions import steps, windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
"""Pictures side by side."""


def plot_errors(path: Path, model: Model, held_out: Sequence[Recording], horizon: int = 25) -> None:
    """For each element of the state: foreseen against true change of one step, and the error after each step."""
    if not held_out:
        raise ReplayError("no episodes held out: errors are plotted of at least one")
    params = {name: array.astype(float) for name, array in model.params.items()}
    data, seen = steps(model.spec, held_out), windows(model.spec, held_out, horizon, WINDOWS)
    truth, mean, _ = one_step(model, params, data)
    foreseen = mean.mean(axis=0)
    curves = [
        (f"{part.name}[{i}]", part.units[i], curve[:, i])
        for part, curve in zip(model.spec.parts, open_loop_rmse(model, params, seen).values(), strict=True)
        for i in range(part.size)
    ]
    rows = (-(-len(model.spec.output_names) // COLUMNS), -(-len(curves) // COLUMNS))
    figure, axes = _grid(sum(rows))
    units = [unit for part in model.spec.predicted for unit in part.units]
    for i, name in enumerate(model.spec.output_names):
        x, y = (rows[:, i] * params["output_scale"][i] + params["output_mean"][i] for rows in (truth, foreseen))
        axes[i].scatter(x, y, s=4, alpha=0.4, linewidths=0)
        ends = float(x.min()), float(x.max())
        axes[i].plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axes[i].set(title=f"change of {name} in one step", xlabel=f"true [{units[i]}]", ylabel=f"foreseen [{units[i]}]")
    after = rows[0] * COLUMNS
    for i, (name, unit, curve) in enumerate(curves):
        axes[after + i].plot(model.spec.dt * np.arange(1, len(curve) + 1), curve)
        axes[after + i].set(
            title=f"{name} in open loop", xlabel="foreseen [s]", ylabel=f"rms error [{unit}]", ylim=(0, None)
        )
    _finish(figure, axes, path)


def _grid(rows: int) -> tuple[Figure, list[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MbrlError("plots need matplotlib: pip install mbrl_control[report]") from None
    figure = Figure(figsize=(3.2 * COLUMNS, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    return figure, list(axes.reshape(-1))


def _finish(figure: Figure, axes: list[Any], path: Path) -> None:
    """Written, without the places that stayed empty."""
    for one in axes:
        if one.has_data():
            one.spines[["top", "right"]].set_visible(False)
        else:
            one.remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
