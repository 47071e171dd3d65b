"""ONNX Runtime: which of the providers that it lists really compute.

``get_available_providers()`` lists what a build was compiled with. A session that cannot have what it asked for is
made all the same, on the CPU, and only its own ``get_providers()`` and the time it takes say so
(onnxruntime issue 23372).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mbrl_control.runtime.doctor import Check, Verdict

CPU = "CPUExecutionProvider"
NEEDS = {
    "CUDAExecutionProvider": "nvidia",
    "TensorrtExecutionProvider": "nvidia",
    "NvTensorRTRTXExecutionProvider": "nvidia",
    "ROCMExecutionProvider": "amd",
    "MIGraphXExecutionProvider": "amd",
}
"""Providers that compute on a device, and whose."""
INSTALL = {
    "CUDAExecutionProvider": "python -m pip install 'onnxruntime-gpu[cuda,cudnn]', which brings CUDA and cuDNN",
    "TensorrtExecutionProvider": "python -m pip install tensorrt, or do not ask for TensorRT: CUDA serves as well",
}


@dataclass(frozen=True)
class Provider:
    """One provider that ONNX Runtime listed, asked to compute."""

    name: str
    got: Sequence[str] = ()
    """The providers that the session had in the end, the first one first; empty: no session could be made."""
    right: bool = False
    """Whether its result was that of NumPy."""
    first: float = 0.0
    again: float = 0.0
    """The first run, and the median of later ones [s]."""
    missing: str = ""
    """A library that could not be loaded."""
    error: str = ""


@dataclass(frozen=True)
class Engine:
    """ONNX Runtime as it was found."""

    version: str = ""
    """Empty: it is not installed."""
    listed: Sequence[Provider] = ()
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Devices by maker, as {"nvidia": ["NVIDIA H100"]}."""


def checks(e: Engine, failure: str = "") -> list[Check]:
    """Verdicts; ``failure`` says what went wrong in the attempt."""
    if failure:
        change = "python -m pip install --force-reinstall --no-deps onnxruntime-gpu"
        return [Check("ONNX Runtime", Verdict.FAIL, f"not usable: {failure}", change)]
    if not e.version:
        change = "python -m pip install onnxruntime-gpu"
        return [Check("ONNX Runtime", Verdict.WARN, "not installed: no learned model can run", change)]
    devices = ", ".join(device for of in e.devices.values() for device in of) or "no accelerator found"
    cpu = next((p.again for p in e.listed if p.name == CPU and p.right), None)
    head = Check("ONNX Runtime", Verdict.OK, f"{e.version}; {devices}")
    return [head, *(provider(p, e, cpu) for p in e.listed)]


def provider(p: Provider, e: Engine, cpu: float | None) -> Check:
    """One provider; ``cpu`` is what the CPU takes for the same [s]."""
    name = p.name.removesuffix("ExecutionProvider")
    figures = f"first run {p.first * 1e3:.1f} ms, then {p.again * 1e3:.2f} ms"
    install = INSTALL.get(p.name, f"see what onnxruntime's documentation says of {p.name}")
    if p.got and p.got[0] == p.name:
        if not p.right:
            return Check(name, Verdict.FAIL, "computes something else than NumPy", f"do not use it; {install}")
        if p.name != CPU and cpu is not None and p.again > cpu:
            found = f"{figures}; no faster than the CPU ({cpu * 1e3:.2f} ms): is it the device that computes?"
            return Check(
                name, Verdict.WARN, found, "see what the device does meanwhile (nvidia-smi dmon), or use the CPU"
            )
        return Check(name, Verdict.OK, figures)
    maker = NEEDS.get(p.name, "")
    if maker and not e.devices.get(maker):
        return Check(name, Verdict.INFO, f"listed, and there is no device of {maker.upper()}'s here: the CPU computes")
    why = f" ({p.missing} is missing)" if p.missing else f" ({p.error})" if p.error else ""
    if not p.got:
        return Check(name, Verdict.FAIL, f"listed, and no session can be made{why}", install)
    if p.got[0] != CPU:
        return Check(name, Verdict.WARN, f"listed, and {p.got[0]} computes instead{why}", install)
    if not maker:
        return Check(name, Verdict.INFO, f"listed, and the CPU computes instead{why}")
    return Check(name, Verdict.FAIL, f"silently on CPU{why}: {figures}", install)
