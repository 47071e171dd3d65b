"""From a run to a folder that a robot plans with: checked, exported to ONNX, and told of in a card.

    source = opened(folder)                       the model of a run of ``mbrl learn``, or a model folder
    source = judged_anew(source, 3)               where it was never judged: on new episodes, never learned from
    checks = examined(source.facts)               ``validation.py``: is it good enough to go to a robot?
    written = export(source, checks, forced, out)

The graph is written by the source that predicts on NumPy and is fitted on torch (``networks.py``), by way of
``onnx_graph.py``: x [E B in] as it comes in; mean and, of Gaussian heads, variance [E B n] of the change, in its own
units. ONNX Runtime has to find what NumPy finds in double precision, within 1e-5 of the outputs' scale, on inputs as in
the data and far beyond them. A card that lacks a field is refused: what is not known of a model cannot be looked up
later.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbrl_control import eight_bits, model_folder, networks, plan_file, registry
from mbrl_control.config import params
from mbrl_control.core import MbrlError, Robot
from mbrl_control.model import Model, normaliser_shapes, shapes
from mbrl_control.onnx_check import OPSET, checked
from mbrl_control.onnx_graph import BATCH, Recorder, graph
from mbrl_control.plan_file import Planned
from mbrl_control.run_folder import RUN, Run
from mbrl_control.validation import Check

if TYPE_CHECKING:
    from mbrl_control.evaluate import Episode
    from mbrl_control.learning import Lab, Learner

PARITY = 1e-5
"""Largest error of the graph, relative to the outputs' scale."""
PROBES = 256
"""Inputs that parity is tried on, at each distance."""
DISTANCES = (1.0, 4.0)
"""Deviations of the data within which they are drawn."""
HELD_OUT = 10_000
"""Seeds of new episodes are counted from here, beyond those of evaluations."""
HORIZON = 25
"""Steps foreseen in open loop, where the fit does not say."""
NEEDED = (
    "robot", "registered", "mode", "joints", "channels", "limits", "bound", "dt", "structure", "parts", "inputs",
    "outputs", "net", "normaliser", "data", "fit", "metrics", "calibration", "versions", "opset", "parity",
    "validation", "command",
)  # fmt: skip
"""Fields that a card may not lack."""


class ExportError(MbrlError):
    """A model that cannot be exported."""


@dataclass(frozen=True)
class Source:
    """What is exported, and what is known of it."""

    model: Model
    robot: Robot
    registered: str
    """The robot's name in the registry."""
    command: str
    """What makes ``folder`` again."""
    folder: str
    """Where that command puts it."""
    number: int | None = None
    """Of the trial, of a run."""
    lab: Lab | None = None
    """Where new episodes can be made, of a run."""


def opened(folder: Path, trial: int | None = None, best: bool = False) -> Source:
    """The model of a run, the newest unless another one is asked for; or that of a model folder."""
    if (folder / RUN).is_file():
        return _of_run(Run.resume(folder), trial, best)
    if (folder / model_folder.CARD).is_file():
        if trial is not None or best:
            raise ExportError(f"{folder}: a model folder has one model; --trial and --best are for a run's folder")
        run, name = folder.resolve().parents[1], folder.name
        if (run / RUN).is_file() and name.startswith("trial-"):
            return _of_run(Run.resume(run), int(name.removeprefix("trial-")), False)
        model = model_folder.read(folder)
        name = model.facts.get("registered", model.spec.robot)
        robot = registry.make("robots", name, overrides=model.facts.get("robot_config", {}))
        return Source(model, robot, name, model.facts.get("command", ""), str(folder))
    raise ExportError(
        f"{folder}: neither {RUN} nor {model_folder.CARD} in it; it takes the folder of a run of 'mbrl learn', or a "
        f"model folder"
    )


def _of_run(run: Run, trial: int | None, best: bool) -> Source:
    from mbrl_control.learning import LearnConfig, open_lab

    kept = run.models()
    there = f"it has those of trials {', '.join(map(str, kept))}" if kept else "it has none yet"
    number = trial if trial is not None else kept[-1] if kept else None
    if best and kept:
        number = max(kept, key=lambda number: run.trials[number].score)
    model = run.model(number) if number in kept else None
    if model is None:
        what = f"no model of trial {number}" if number is not None else "no model"
        raise ExportError(f"{run.folder}: {what}; {there}")
    lab = open_lab(run.asked["task"], LearnConfig(**run.asked["options"]), run.asked["settings"])
    lab.run = run
    command, folder = _repeatable(run)
    return Source(model, lab.robot, lab.names["robot"], command, folder, number, lab)


def _repeatable(run: Run) -> tuple[str, str]:
    """The command of a run, with the folder that it went to."""
    words = shlex.split(run.asked["command"])
    for i, word in enumerate(words):
        if word == "--out" and i + 1 < len(words):
            return shlex.join(words), words[i + 1]
        if word.startswith("--out="):
            return shlex.join(words), word.removeprefix("--out=")
    return shlex.join([*words, "--out", str(run.folder)]), str(run.folder)


def judged_anew(
    source: Source, episodes: int, told: Callable[[Episode], None] = lambda _: None, calibrate: int = 0
) -> Source:
    """The model of a run judged on new episodes, of the run's planner with this model and at random.

    A learner fits to every episode that it has, so none of the run's own is left; these have seeds that no trial and
    no evaluation has. The share of those at random is the run's, rounded down. ``told`` is called after each. By
    ``calibrate`` further ones, which judge nothing, intervals that are too narrow are widened. The run's folder gets a
    picture of the errors.
    """
    from mbrl_control.calibration import judged, widened, widening
    from mbrl_control.config import build
    from mbrl_control.dynamics import ensemble
    from mbrl_control.fit_plots import plot_errors
    from mbrl_control.learning import EVALUATION

    lab, model = source.lab, source.model
    assert lab is not None
    settings = build(ensemble.Config, lab.settings.of("dynamics"), "ensemble.")
    dynamics = ensemble.of(model, lab.robot, np, settings)
    planner = lab.planner(lambda xp: ensemble.of(model, lab.robot, xp, settings))
    planned = lab.parts_with(planner, dynamics, "ensemble")
    learner: Learner = registry.make("learners", lab.names["learner"], lab, overrides=lab.settings.of("learners"))
    trials = lab.run.trials
    random = episodes * sum(trial.kind == "explore" for trial in trials) // len(trials)
    seeds, recordings, scores = [EVALUATION + HELD_OUT + k for k in range(episodes + calibrate)], [], []
    for number, seed in enumerate(seeds):
        wanders = number % max(1, episodes) < random
        episode = lab.run_episode(learner.exploring() if wanders else planned, seed)
        told(episode)
        recordings.append(replace(lab.recorded(episode, number), source=f"held out, seed {seed}"))
        scores.append({"kind": "explore" if wanders else "plan", "score": episode.total, "success": episode.success})
    facts = dict(model.facts)
    if calibrate:
        factor = widening(model, recordings[episodes:])
        model = widened(model, factor)
        facts["widened"] = dict(zip(model.spec.output_names, factor, strict=True))
        seeds, recordings, scores = seeds[:episodes], recordings[:episodes], scores[:episodes]
    horizon = facts.get("fit", {}).get("horizon", HORIZON)
    if recordings:
        facts |= judged(model, recordings, horizon)
        plot_errors(lab.run.folder / f"errors-{source.number:03d}.png", model, recordings, horizon)
    facts["data"] = {**facts.get("data", {}), "held_out_sha256": [one.sha256 for one in recordings]}
    facts["held_out"] = {"seeds": seeds, "planner": lab.names["planner"], "episodes": scores}
    return replace(source, model=replace(model, facts=facts))


# --- The graph ----------------------------------------------------------------------------------------


def graph_of(model: Model, metadata: Mapping[str, str]) -> bytes:
    """The members as an ONNX file, normalisation included."""
    net, recorder = model.net, Recorder()
    params = {name: recorder.named(name, model.params[name]) for name in shapes(model.spec, net)}
    x = recorder.input("x", (net.members, BATCH, net.inputs))
    raw = networks.forward(recorder, net, params, (x - params["input_mean"]) / params["input_scale"])
    mean, variance = networks.mean_and_variance(recorder, net, params, raw)
    outputs = {"mean": mean * params["output_scale"] + params["output_mean"]}
    if variance is not None:
        outputs["variance"] = variance * recorder.square(params["output_scale"])
    return graph(recorder, outputs, metadata, "members")


def parity(model: Model, data: bytes) -> float:
    """The largest error of a graph, relative to the outputs' scale; infinite where one of both is not finite."""
    from onnxruntime import InferenceSession

    exact = {name: np.asarray(array, dtype=float) for name, array in model.params.items()}
    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    rng, worst = np.random.default_rng(0), 0.0
    for distance in DISTANCES:
        z = rng.uniform(-distance, distance, (model.net.members, PROBES, model.net.inputs))
        x = (exact["input_mean"] + z * exact["input_scale"]).astype(np.float32)
        usual = (x - exact["input_mean"]) / exact["input_scale"]
        raw = networks.forward(np, model.net, exact, usual)
        mean, variance = networks.mean_and_variance(np, model.net, exact, raw)
        scale = exact["output_scale"]
        expected = [(mean * scale + exact["output_mean"], scale)]
        expected += [] if variance is None else [(variance * scale**2, scale**2)]
        for found, (right, usual) in zip(session.run(None, {"x": x}), expected, strict=True):
            with np.errstate(invalid="ignore"):
                error = np.abs(found - right) / (usual + np.abs(right))
            worst = max(worst, float(np.where(np.isfinite(error), error, np.inf).max()))
    return worst


# --- The folder ---------------------------------------------------------------------------------------


def export(
    source: Source, checks: Sequence[Check], forced: Sequence[str], out: Path, words: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the model folder; what was written, in numbers. ``words`` are further ones of the command line.

    Of what failed all has to be among ``forced``.
    """
    if failed := [check.name for check in checks if not check.passed and check.name not in forced]:
        raise ExportError(refusal(failed))
    model = source.model
    chosen = [] if source.number is None else ["--trial", str(source.number)]
    exporting = shlex.join(["mbrl", "export", source.folder, *chosen, "--out", str(out), *words])
    command = f"{source.command} && {exporting}" if source.command else ""
    card = model_folder.card(model, source.robot, command) | {
        "registered": source.registered,
        "learned": _learned(source),
        "normaliser": {name: model.params[name].tolist() for name in normaliser_shapes(model.net)},
        "opset": OPSET,
        "validation": [asdict(check) for check in checks],
        "forced": list(forced),
    }
    card = eight_bits.kept(model_folder.plain(card), model)
    data = graph_of(model, {model_folder.IDENTITY: json.dumps(model_folder.identity(card))})
    error = parity(model, data)
    if not error <= PARITY:
        raise ExportError(
            f"parity {error:.1e}: ONNX Runtime finds something else than NumPy; it takes at most {PARITY:g} of the "
            f"outputs' scale"
        )
    operators = sorted({node.op_type for node in checked(data).graph.node})
    card |= {"parity": error, "graph": {"operators": operators, "bytes": len(data)}}
    files = {model_folder.GRAPH: data, model_folder.WEIGHTS: model_folder.weights(model)}
    if (planned := _planned(source)) is not None:
        identity = model_folder.identity(card)
        files[model_folder.PLAN], plan = plan_file.written(planned, model, source.robot, identity)
        card["plan"] = model_folder.plain(plan)
    _complete(card)
    replaced = model_folder.put(out, card, files)
    size = sum(len(data) for data in files.values())
    return {"folder": str(out), "replaced": replaced, "parity": error, "bytes": size, "command": card["command"]}


def _planned(source: Source) -> Planned | None:
    """The planner and the task that the model was learned with; None where nobody knows of any."""
    if source.lab is None:
        known = source.model.facts.get("plan")
        return Planned(known["task"], known["planner"], known["settings"]) if known else None
    lab, names = source.lab, source.lab.names
    parts = {"tasks": names["task"], "planners": names["planner"], "dynamics": "ensemble"}
    settings = {}
    for kind, name in parts.items():
        declared = params(registry.load(kind, name).config)
        settings[kind] = {key: declared[key].parse(x) for key, x in lab.settings.of(kind, dt=lab.task.dt).items()}
    return Planned(names["task"], names["planner"], settings)


def refusal(failed: Sequence[str]) -> str:
    """One line that says what failed, and how it is forced."""
    forcing = " ".join(f"--force {name}" for name in failed)
    return f"not exported: it failed {', '.join(failed)}; a model that passes is taken, or {forcing}"


def _learned(source: Source) -> dict[str, Any]:
    """Where the model comes from, of a run."""
    if source.lab is None:
        return source.model.facts.get("learned", {})
    names, options, run = source.lab.names, source.lab.options, source.lab.run
    steps = next(trial.env_steps for trial in run.trials if trial.number == source.number)
    chosen = {kind: names[kind] for kind in ("task", "learner", "planner")}
    return {**chosen, "seed": options.seed, "trial": source.number, "env_steps": steps}


def _complete(card: Mapping[str, Any]) -> None:
    """Refuse a card that lacks something; calibration only where it was forced that nothing was held out."""
    excused = ("calibration",) if "held_out" in card["forced"] else ()
    missing = [name for name in NEEDED if name not in excused and card.get(name) in (None, "", [], {})]
    data = card.get("data") or {}
    missing += [] if data.get("sha256") else ["data.sha256"]
    if missing:
        raise ExportError(f"card without {', '.join(missing)}: it takes a model that 'mbrl learn' or a fit has written")
