"""How far a fit has got, on disk: one file of named tensors, written aside and put in place. No pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from mbrl_control.core import MbrlError

CHECKPOINT = "fit.checkpoint.safetensors"


class CheckpointError(MbrlError):
    """A checkpoint that cannot be gone on from."""


@dataclass(frozen=True)
class Progress:
    """All that it takes to go on with a fit."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    """What is no tensor, as JSON has it."""


def save(path: Path, mark: str, progress: Progress) -> None:
    """Put a checkpoint in place of the one before; ``mark`` says which fit it is of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in progress.tensors.items()}
    data = to_bytes(tensors, metadata={"mark": mark, "state": json.dumps(progress.state)})
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load(path: Path, mark: str) -> Progress | None:
    """The checkpoint of this very fit; None where there is none."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        state = json.loads(said["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no checkpoint ({type(error).__name__}); remove it to begin anew") from None
    if said.get("mark") != mark:
        raise CheckpointError(
            f"{path}: of a fit with other data or settings; go on with those, or remove it to begin anew"
        )
    return Progress(tensors, state)
