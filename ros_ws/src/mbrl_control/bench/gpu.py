"""Plans on a GPU by ONNX Runtime, as far as there is one: how long they take, and the card's own matrix product."""

from __future__ import annotations

import numpy as np

from mbrl_control.bench.measuring import Turn, timed
from mbrl_control.bench.sgemm import Reference, matrices
from mbrl_control.core import MbrlError
from mbrl_control.probes.providers import product

CUDA = "CUDAExecutionProvider"
SIZE = 8192


def check() -> None:
    """One line that says why not."""
    import onnxruntime

    from mbrl_control.probes.providers import devices, tried

    accepted = "it takes cpu, or a machine with an NVIDIA GPU, its driver, CUDA 13 and cuDNN 9"
    if CUDA not in onnxruntime.get_available_providers():
        raise MbrlError(f"--provider cuda: ONNX Runtime {onnxruntime.__version__} here has no CUDA in it; {accepted}")
    if not devices().get("nvidia"):
        raise MbrlError(f"--provider cuda: there is no NVIDIA GPU here; {accepted}")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    found = tried(onnxruntime, CUDA, 1)
    if CUDA not in found["got"] or not found["right"]:
        why = found["error"] or (f"{found['missing']} is missing" if found["missing"] else "it computes on the CPU")
        raise MbrlError(f"--provider cuda: ONNX Runtime does not use the GPU: {why}; {accepted}")


def reference() -> Reference:
    """The card's product of two matrices that are there, in single precision; ONNX Runtime takes TF32 for it."""
    return Reference("onnxruntime, cuda", by_onnxruntime(SIZE), SIZE, 1, {})


def by_onnxruntime(size: int) -> Turn:
    import onnxruntime

    session = onnxruntime.InferenceSession(product(size, size), providers=[CUDA])
    bound, (x, w) = session.io_binding(), matrices(size)
    for name, value in {"X": x, "W": w}.items():
        bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type((size, size), np.float32, "cuda", 0)
    bound.bind_ortvalue_output("Y", made)

    def work() -> None:
        session.run_with_iobinding(bound)
        bound.synchronize_outputs()

    return timed(work)
