"""Whether there is a GPU that ONNX Runtime computes on."""

from __future__ import annotations

from mbrl_control.core import MbrlError

CUDA = "CUDAExecutionProvider"


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
