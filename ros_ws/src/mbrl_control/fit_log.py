"""What a fit says while it runs: ``fit.jsonl``, TensorBoard, and a bar on a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbrl_control.core import MbrlError

if TYPE_CHECKING:
    from rich.console import Console

LOG = "fit.jsonl"


class LogError(MbrlError):
    """A log that cannot be written."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the data."""

    epoch: int
    """Counted from 1."""
    of: int
    loss: float
    """Mean over members and rows."""
    open_loop: float | None
    """Open-loop error on what is held out, in standard deviations of the state; mean over members."""
    best: float | None
    """The same of the best epoch of each member."""
    wall_s: float


class FitLog:
    """The log of a fit in a folder; without one it keeps silent."""

    def __init__(self, folder: Path | None, resumed_at: int, tensorboard: bool) -> None:
        """``resumed_at`` epochs are kept of the log that is there; those after them are made again."""
        self._file: Any = None
        self._board: Any = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        kept = [line for line in _lines(path) if line["epoch"] <= resumed_at] if resumed_at else []
        aside = path.with_suffix(".part")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        aside.replace(path)
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            self._board = _board(folder, resumed_at)

    def write(self, epoch: Epoch) -> None:
        if self._file is not None:
            self._file.write(json.dumps(asdict(epoch)) + "\n")
            self._file.flush()
        if self._board is not None:
            for name in ("loss", "open_loop", "best"):
                if (value := getattr(epoch, name)) is not None:
                    self._board.add_scalar(f"fit/{name}", value, epoch.epoch)

    def flush(self) -> None:
        """What was written is on disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a torn one, which a crash may leave at the end, is no line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict) and isinstance(found.get("epoch"), int):
            yield found


def _board(folder: Path, resumed_at: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise LogError(
            "tensorboard = true: it is not installed; pip install 'mbrl_control[tensorboard]', or tensorboard = false"
        ) from None
    return SummaryWriter(log_dir=str(folder / "tensorboard"), purge_step=resumed_at + 1)


@contextmanager
def bar(console: Console, words: str = "fit") -> Iterator[Callable[[Epoch], None]]:
    """A function for ``on_epoch``: on a terminal a bar that moves, elsewhere nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield lambda _epoch: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        line = shown.add_task(words, total=None, said="")

        def advance(epoch: Epoch) -> None:
            held_out = "" if epoch.best is None else f", open loop {epoch.best:.4f}"
            said = f"epoch {epoch.epoch} of {epoch.of}, loss {epoch.loss:.3f}{held_out}"
            shown.update(line, total=epoch.of, completed=epoch.epoch, said=said)

        yield advance
