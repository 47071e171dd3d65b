"""A peer in a process of its own, in its own environment: asked over a pipe, idle while it is not its turn.

What goes over the pipe is said in ``peers/worker.py``, which is the other end.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from mbrl_control.core import MbrlError

SCRIPTS = Path(__file__).parent / "peers"
SECONDS_TO_END = 2.0


class PeerError(MbrlError):
    """A peer that did not answer, or said that it cannot."""


class Peer:
    """A script that answers."""

    def __init__(self, python: Path, script: str, threads: int, folder: Path = SCRIPTS) -> None:
        """Starts ``script`` of ``folder`` with that Python, on so many threads."""
        self.script = script
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the peer
        counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        try:
            self._process = subprocess.Popen(
                [python, folder / f"{script}.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment | dict.fromkeys(counts, str(threads)),
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except OSError as error:
            self._said.close()
            raise PeerError(f"peer {script}: {python}: {error.strerror}; 'mbrl bench --peers' makes it anew") from None
        try:
            hello, _ = self.ask("hello", threads=threads)
        except BaseException:
            self.close()
            raise
        self.name = f"{hello['name']} {hello['version']}"

    def ask(
        self, do: str, arrays: Mapping[str, np.ndarray] | None = None, /, **words: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Have something done; what it says, in words and arrays."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write(self._process.stdin, {"do": do, "with": words}, arrays or {})
            said, found = read(self._process.stdout)
        except (OSError, ValueError):
            raise PeerError(f"peer {self.script} ended in '{do}': {self._last_words()}") from None
        if "error" in said:
            raise PeerError(f"peer {self.script} in '{do}': {' '.join(said['error'].split())}")
        return said, found

    def seconds(self, do: str, **words: Any) -> float:
        """Have work done; how long it took by its own clock, without the pipe [s]."""
        return float(self.ask(do, **words)[0]["seconds"])

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        """It ends when its pipe does; or, where it is at work, by force."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()


def write(pipe: IO[bytes], words: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """One message."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(array) for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]
    data = buffer.getvalue()
    pipe.write(json.dumps({**words, "bytes": len(data)}).encode() + b"\n" + data)
    pipe.flush()


def read(pipe: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One message; ``ValueError`` where there is none."""
    words = json.loads(pipe.readline() or b"nothing")
    data = pipe.read(words.pop("bytes"))
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return words, dict(arrays)
