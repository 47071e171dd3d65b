"""A learned model on disk: a folder with a card that people read, and the weights. No pickle, no torch.

    card.yaml            robot, joints, units, limits, dt, what is read and predicted, data, metrics, calibration,
                         versions, and the command that makes it again
    model.safetensors    the arrays
    model.onnx           the same as a graph, for robots; of a model that was exported (``export.py``)
    plan.onnx            a whole iteration of the planner it was learned with, for other programs (``plan_file.py``)

It is written aside and put in place whole. It is read only if the sha256 of each file is the one in the card, and every
array has the shape that the card says; what is used are the very bytes that were hashed. ``check_robot`` then compares
joints, channels, mode and limits with the robot: one that may do more than the one the data are of is refused, since
the model knows nothing of what is beyond.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbrl_control.config import read_yaml
from mbrl_control.core import Robot
from mbrl_control.model import COMMANDS_KEPT, Described, Model, ModelError, Part, Spec
from mbrl_control.networks import ACTIVATIONS, HEADS, Net

CARD, WEIGHTS, GRAPH, PLAN = "card.yaml", "model.safetensors", "model.onnx", "plan.onnx"
FORMAT = 1
"""Of the card; another one is refused."""
SLACK = 1e-9
LIMITS = ("lower", "upper", "velocity", "acceleration", "jerk", "torque")
LARGEST = 256 * 2**20
"""A file of more bytes is neither written nor read."""
IDENTITY = "mbrl_control"
"""Under this name a graph says whose it is."""
OWN = (
    "robot", "mode", "joints", "channels", "limits", "bound", "dt", "latency_steps", "structure", "parts", "inputs",
    "outputs", "net", "normaliser",
)  # fmt: skip
"""What graph and card have to agree about: whose model it is, and what its numbers mean."""
PACKAGES = ("mbrl_control", "numpy", "torch", "safetensors", "onnx", "onnxruntime-gpu")
"""Whose versions the card names."""


def write(folder: Path, model: Model, robot: Robot, command: str = "") -> None:
    """A model folder, of the weights alone; ``command`` makes it again."""
    put(folder, card(model, robot, command), {WEIGHTS: weights(model)})


def put(folder: Path, card: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
    """A folder with these files, whose sha256 go into the card; whether it took the place of a model folder."""
    for name, data in files.items():
        if len(data) > LARGEST:
            raise ModelError(f"{folder / name}: {len(data)} bytes; at most {LARGEST} are written")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_place(folder)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"{folder}: {(error.strerror or 'cannot be made').lower()}; it takes a folder") from None
    try:
        for name, data in files.items():
            _write(aside / name, data)
        whole = {**card, "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
        _write(aside / CARD, yaml.safe_dump(whole, sort_keys=False, width=110, allow_unicode=True).encode())
        aside.chmod(0o755)
        replaced = folder.exists()
        if replaced:
            old = aside.with_name(aside.name + ".old")
            folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old)
        else:
            aside.rename(folder)
        return replaced
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def weights(model: Model) -> bytes:
    """The arrays of a model as a file."""
    return _numpy_format().save({name: np.ascontiguousarray(x) for name, x in sorted(model.params.items())})


def check_place(folder: Path) -> None:
    """Refuse to replace what is no model folder, or to go where no folder can be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ModelError(f"{folder}: {there} is not a folder; it takes one")
    if folder.exists() and not (folder / CARD).is_file():
        raise ModelError(f"{folder}: there is a folder without {CARD}; a model takes the place of a model folder only")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _numpy_format() -> Any:
    """The reader and writer of weights, where it is installed."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModelError("learned models: safetensors is not installed; pip install 'mbrl_control[train]'") from None
    return safetensors.numpy


def card(model: Model, robot: Robot, command: str) -> dict[str, Any]:
    """What is known of a model, but for the files that it is in."""
    check_robot(model, robot, known=False)
    spec = model.spec
    own = {
        "format": FORMAT,
        "robot": spec.robot,
        "robot_config": plain(asdict(robot.config)) if robot.config is not None else {},
        "mode": spec.mode,
        "joints": list(spec.joints),
        "channels": list(spec.channels),
        "limits": {name: getattr(robot.limits, name).tolist() for name in LIMITS},
        "bound": robot.channels.bound.tolist(),
        "dt": spec.dt,
        "latency_steps": spec.latency,
        "structure": spec.structure,
        "stops": [list(pair) for pair in spec.stops],
        "parts": [{**asdict(part), "kinds": list(part.kinds), "units": list(part.units)} for part in spec.parts],
        "inputs": list(spec.input_names),
        "outputs": list(spec.output_names),
        "net": {**asdict(model.net), "hidden": list(model.net.hidden)},
    }
    known = {name: plain(value) for name, value in model.facts.items() if name not in own and name != "sha256"}
    return {
        **own,
        **known,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def plain(x: Any) -> Any:
    """The same in what YAML has: numbers, texts, lists, mappings."""
    if isinstance(x, Mapping):
        return {str(name): plain(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    if isinstance(x, np.ndarray | np.generic):
        return x.tolist()
    return x


def read(folder: Path) -> Model:
    """The model of a folder, checked; what else the card says is in its ``facts``."""
    card, data = verify(folder, WEIGHTS)
    tensors = _numpy_format().load(data)
    spec, net = described(folder, card)
    try:
        return Model(spec, net, tensors, facts=card)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None


def described(folder: Path, card: Mapping[str, Any]) -> tuple[Spec, Net]:
    """What a card says that the model reads and predicts, and the shape of its networks."""
    try:
        parts = tuple(Part(p["name"], tuple(p["kinds"]), tuple(p["units"]), p["rate"]) for p in card["parts"])
        spec = Spec(
            card["robot"],
            tuple(card["joints"]),
            tuple(card["channels"]),
            card["mode"],
            float(card["dt"]),
            parts,
            int(card["latency_steps"]),
            card["structure"],
            tuple((float(low), float(high)) for low, high in card.get("stops", ())),
        )
        net = Net(**{**card["net"], "hidden": tuple(card["net"]["hidden"])})
    except (KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__} {error}"
        raise ModelError(f"{folder / CARD}: {why}; it takes a card as a learner writes it") from None
    if net.head not in HEADS or net.activation not in tuple(ACTIVATIONS):
        raise ModelError(
            f"{folder / CARD}: a net with head '{net.head}' and activation '{net.activation}' is unknown; it takes one "
            f"of {', '.join(HEADS)} and one of {', '.join(ACTIVATIONS)}"
        )
    sizes = {"members": net.members, "inputs": net.inputs, "outputs": net.outputs, "hidden": net.hidden}
    for name, size in sizes.items():
        if not all(type(n) is int and n > 0 for n in (size if name == "hidden" else [size])):
            raise ModelError(f"{folder / CARD}: a net with {name} = {size}: it takes whole numbers from 1")
    if not 0 <= spec.latency <= COMMANDS_KEPT:
        raise ModelError(f"{folder / CARD}: latency_steps = {spec.latency}: it takes 0 to {COMMANDS_KEPT}")
    return spec, net


def verify(folder: Path, needed: str) -> tuple[dict[str, Any], bytes]:
    """The card of a folder whose files are those that it was written with, and the bytes of ``needed``, one of them."""
    if not (folder / CARD).is_file():
        raise ModelError(f"{folder}: no {CARD} in it; it takes a model folder, as written by a learner")
    card = read_yaml(folder / CARD)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise ModelError(f"{folder / CARD}: format {found}; this version reads format {FORMAT}")
    files = card.get("sha256")
    if not isinstance(files, dict) or needed not in files:
        export = f"; 'mbrl export {folder} --out models/NAME' makes it" if needed == GRAPH else ""
        raise ModelError(f"{folder / CARD}: no sha256 of {needed}, so it has none that can be trusted{export}")
    read: dict[str, bytes] = {}
    for name, expected in files.items():
        if Path(str(name)).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder}: no file '{name}', which its card names; it takes the folder as it was written")
        read[name] = _bytes(folder / name)
        found = hashlib.sha256(read[name]).hexdigest()
        if found != expected:
            raise ModelError(f"{folder / name}: it changed; sha256 {found[:12]}, its card says {str(expected)[:12]}")
    return card, read[needed]


def _bytes(path: Path) -> bytes:
    """A file of a model folder, read once."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ModelError(f"{path}: {(error.strerror or 'cannot be read').lower()}; it takes a file") from None
    if len(data) > LARGEST:
        raise ModelError(f"{path}: more than {LARGEST} bytes; no more are read")
    return data


def identity(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the graph says of itself."""
    return {name: card.get(name) for name in OWN}


def check_robot(model: Described, robot: Robot, known: bool = True) -> None:
    """Raise ``ModelError`` where a model is not one of this robot; or, if ``known``, not of one with its limits."""
    spec = model.spec
    pairs = {
        "robot": (spec.robot, robot.name),
        "joints": (list(spec.joints), list(robot.joints)),
        "channels": (list(spec.channels), list(robot.channels.names)),
        "mode": (spec.mode, robot.channels.mode.value),
    }
    for name, (learned, here) in pairs.items():
        if learned != here:
            raise ModelError(f"model of {name} {learned}: here {name} is {here}; it takes a model fitted to that")
    limits = model.facts.get("limits")
    if not known or limits is None:
        return
    reach = {name: (limits[name], getattr(robot.limits, name)) for name in ("lower", "upper", "velocity")}
    reach["bound"] = (model.facts["bound"], robot.channels.bound)
    for name, (learned, here) in reach.items():
        sign = -1.0 if name == "lower" else 1.0
        if np.any(sign * np.asarray(here) > sign * np.asarray(learned) + SLACK):
            raise ModelError(
                f"model of a {robot.name} with {name} {learned}: this one's {name} {np.asarray(here).tolist()} is "
                f"beyond that; it takes a robot that keeps within"
            )
