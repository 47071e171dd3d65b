"""ONNX Runtime's providers, each asked to multiply two matrices: who computes, is it right, how long does it take.

The model is written here byte by byte (ONNX is Protocol Buffers, onnx.proto3 of the onnx project), since the onnx
package belongs to learning and not to a robot.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mbrl_control.probes import answer

ROWS, WIDTH = 256, 1024
"""The product is [ROWS WIDTH] x [WIDTH WIDTH]: half a thousand million operations, worth a device's while."""
TOLERANCE = 1e-2
"""Largest error, relative to the largest result: devices may round to TF32 unasked."""
IR_VERSION, OPSET, FLOAT = 8, 17, 1
FALL_BACK = {"TensorrtExecutionProvider": ("CUDAExecutionProvider",)}
"""What is asked for beside a provider, as a program that wants it would; the CPU comes by itself."""


def measure(runs: int) -> dict[str, Any]:
    """Facts on the providers that are listed; no version where ONNX Runtime is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        return {"version": "", "listed": [], "devices": {}}
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN from Python packages, where they are installed
    listed = onnxruntime.get_available_providers()
    return {
        "version": onnxruntime.__version__,
        "listed": [tried(onnxruntime, name, runs) for name in listed],
        "devices": devices(),
    }


def tried(onnxruntime: Any, name: str, runs: int) -> dict[str, Any]:
    """One provider: what the session got in the end, and how it computed."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((rows, WIDTH)).astype(np.float32) for rows in (ROWS, WIDTH))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    wanted = [name, *FALL_BACK.get(name, ())]
    session, error, spent = None, "", [0.0]
    with heard() as said:
        try:
            session = onnxruntime.InferenceSession(product(ROWS, WIDTH), options, providers=wanted)
            spent, y = [], np.zeros(0)
            for _ in range(1 + runs):
                start = time.perf_counter()
                y = np.asarray(session.run(None, {"X": x, "W": w})[0])
                spent.append(time.perf_counter() - start)
            expected = x @ w
            right = bool(np.abs(y - expected).max() <= TOLERANCE * np.abs(expected).max())
        except Exception as failed:  # onnxruntime has no base class of its own errors
            session, right, error = None, False, " ".join(str(failed).split())[:200]
    words = Path(said).read_text(encoding="utf-8", errors="replace")
    Path(said).unlink()
    missing = re.search(r"error: (\S+\.so[\w.]*): cannot open", words)
    return {
        "name": name,
        "got": session.get_providers() if session else [],
        "right": right,
        "first": spent[0],
        "again": median(spent[1:] or spent),
        "missing": missing[1] if missing else "",
        "error": error,
    }


@contextmanager
def heard() -> Iterator[str]:
    """What libraries say on standard error meanwhile, in a file of this name."""
    handle, name = tempfile.mkstemp(prefix="mbrl-doctor-")
    usual = os.dup(2)
    os.dup2(handle, 2)
    os.close(handle)
    try:
        yield name
    finally:
        os.dup2(usual, 2)
        os.close(usual)


def devices() -> dict[str, list[str]]:
    """Accelerators that the kernel's drivers show, by maker."""
    nvidia = [
        re.sub(r"^Model:\s*", "", line)
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("Model:")
    ]
    nvidia = nvidia or [f"NVIDIA device {path.name}" for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    if not nvidia and Path("/dev/dxg").exists():  # Windows' subsystem for Linux
        nvidia = ["a device of Windows'"]
    amd = ["AMD device"] if Path("/dev/kfd").exists() else []
    return {maker: found for maker, found in (("nvidia", nvidia), ("amd", amd)) if found}


def product(rows: int, width: int) -> bytes:
    """A model of one node, Y = X W."""
    node = field(1, b"X") + field(1, b"W") + field(2, b"Y") + field(4, b"MatMul")
    graph = field(1, node) + field(2, b"product")
    graph += field(11, tensor("X", (rows, width))) + field(11, tensor("W", (width, width)))
    graph += field(12, tensor("Y", (rows, width)))
    return field(1, IR_VERSION) + field(7, graph) + field(8, field(2, OPSET))


def tensor(name: str, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto: a named array of floats."""
    dimensions = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name.encode()) + field(2, field(1, field(1, FLOAT) + field(2, dimensions)))


def field(number: int, value: int | bytes) -> bytes:
    """One field of a message: a whole number, or bytes with their length before them."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the highest bit set."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


if __name__ == "__main__":
    sys.exit(answer(measure))
