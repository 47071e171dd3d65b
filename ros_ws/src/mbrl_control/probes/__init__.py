"""Programs that try or measure one thing and say it as JSON: each in a process of its own.

So what is tried changes nothing here (scheduling, locked memory, loaded libraries), and what hangs or crashes is an
answer like any other. ``ask`` starts one, ``answer`` is what each of them does with its arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

LAST_WORDS = 300
"""How much of what a dead one said is passed on [characters]."""


def ask(
    module: str, options: Mapping[str, Any], patience: float, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run ``module`` with ``options``; what it answers, or ``{"failure": why not}``. At most ``patience`` seconds."""
    command = [sys.executable, "-m", module, json.dumps(options)]
    env = dict(os.environ if environ is None else environ)
    try:
        with subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
        ) as process:
            try:
                out, err = process.communicate(timeout=patience)
            finally:  # whatever it started goes with it
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {patience:g} s"}
    except OSError as error:
        return {"failure": f"{sys.executable} cannot be started: {error.strerror}"}
    try:
        return json.loads(out)
    except ValueError:
        return {"failure": _last_words(process.returncode, err.decode("utf-8", errors="replace"))}


def answer(measure: Callable[..., Mapping[str, Any]]) -> int:
    """Call ``measure`` with the options that were given, and print what it returns; whatever else is printed is not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    said = os.dup(1)
    os.dup2(2, 1)  # libraries print where they like
    result = json.dumps(measure(**json.loads(sys.argv[1])), allow_nan=False)
    with os.fdopen(said, "w") as out:
        out.write(result)
    return 0


def _last_words(status: int, said: str) -> str:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    words = lines[-1][-LAST_WORDS:] if lines else "without a word"
    if status < 0:
        return f"died of {signal.Signals(-status).name}: {words}"
    return words
