"""What the peers' scripts share: they answer one question after another, and wait for the next one without a core.

A message is a line of JSON and the bytes of an npz file, whose length the line has as ``bytes``. A question names what
is to be done (``do``) and its words (``with``); an answer has words, or ``error``. Runs in the peers' environment and
imports nothing of mbrl_control: ``bench/peer.py`` is the other end.
"""

import io
import json
import os
import sys
import traceback

import numpy as np


def write(pipe, words, arrays):
    """One message."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    pipe.write(json.dumps({**words, "bytes": len(data)}).encode() + b"\n" + data)
    pipe.flush()


def read(pipe):
    """One message, or None where the other end has gone."""
    line = pipe.readline()
    if not line:
        return None
    words = json.loads(line)
    data = pipe.read(words.pop("bytes"))
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return words, dict(arrays)


def serve(handlers):
    """Answer until the pipe is closed. What a peer prints goes to standard error, so that it disturbs no message."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while (question := read(sys.stdin.buffer)) is not None:
        words, arrays = question
        try:
            said, found = handlers[words["do"]](arrays, **words["with"])
        except Exception as error:
            traceback.print_exc()
            said, found = {"error": f"{type(error).__name__}: {error}"}, {}
        write(answers, said, found)
