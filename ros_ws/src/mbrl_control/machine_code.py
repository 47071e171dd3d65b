"""C, compiled once by the system's compiler and kept: what is too slow in Python and too special for a library.

The result is kept under a name made of the source, the compiler, its flags and the processor, so it is found again by
whoever asks for the same on the same kind of machine, and by nobody else. Without a compiler there is ``None``, and
whoever asked computes it in another way and says so.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from mbrl_control.errors import MbrlError

FLAGS = ("-O1", "-march=native", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
"""What NaN and infinity are stays as it is: no -ffast-math. Thousands of statements in a row gain nothing from -O2, and
take many times as long."""
PATIENCE = 600.0
"""Longest compilation [s]."""
SLOW = 20_000
"""Characters of a source from which it is said aloud that it is being compiled."""


class CompilerError(MbrlError):
    """A compiler that does not compile."""


@functools.cache
def compiler() -> str | None:
    """The C compiler: that of $CC, else the first of cc, gcc and clang; None where there is none."""
    asked = os.environ.get("CC")
    found = (shutil.which(name) for name in ([asked] if asked else ["cc", "gcc", "clang"]))
    return next((path for path in found if path), None)


@functools.cache
def _made_by() -> str:
    """What else a result depends on: the compiler's version, its flags and what the processor can do."""
    version = subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=False).stdout
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    able = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return "\n".join([version, *FLAGS, platform.machine(), able])


def cache() -> Path:
    """Where results are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "mbrl_control" / "compiled"


@functools.cache
def compiled(source: str, what: str) -> ctypes.CDLL | None:
    """The library of a C source; None without a compiler. ``what`` it is, in words, for people who wait for it."""
    if compiler() is None:
        _say(f"no C compiler (cc, gcc, clang or $CC): {what} are evaluated by CasADi's virtual machine, more slowly")
        return None
    name = hashlib.sha256(f"{_made_by()}\n{source}".encode()).hexdigest()[:32]
    path = cache() / f"{name}.so"
    if not path.exists():
        if len(source) > SLOW:
            _say(f"compiling {what}, once for this machine ...")
        _compile(source, path, what)
    return ctypes.CDLL(str(path))


def _compile(source: str, path: Path, what: str) -> None:
    """Write the library so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        text, made = Path(folder) / "source.c", Path(folder) / "made.so"
        text.write_text(source)
        call = [str(compiler()), *FLAGS, "-o", str(made), str(text), "-lm"]
        try:
            done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise CompilerError(f"{compiler()} took longer than {PATIENCE:g} s for {what}") from None
        if done.returncode != 0:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
            raise CompilerError(f"{compiler()} does not compile {what}: {said}")
        made.replace(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def pointers(arrays: Sequence[np.ndarray]) -> Annotated[np.ndarray, "n"]:
    """Where the numbers of contiguous arrays begin, as C takes it: a table, of which only its own place is handed over.

    They are asked by the buffer protocol, which takes a fifth of the time of ``array.ctypes`` for each.
    """
    return np.array([_address(array) for array in arrays], dtype=np.uintp)


def _address(array: np.ndarray) -> int:
    if array.size and array.flags.writeable:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return array.ctypes.data
