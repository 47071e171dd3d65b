"""On a machine with a GPU: every graph finds there what the CPU finds."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from mbrl_control import engine
from mbrl_control.core import Status

from .combinations import build, builder, chosen
from .test_onnx import FOUND, situation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="ONNX Runtime without CUDA"
    ),
]


@pytest.mark.parametrize("names", chosen(FOUND))
def test_a_graph_finds_on_the_gpu_what_it_finds_on_the_cpu(names):
    arguments = situation(build(names))
    on_gpu, report = engine.engaged(engine.Config(use="onnx", provider="cuda"), builder(names))
    assert report.runs.startswith("onnx, cuda")
    assert report.iteration_ms > 0.0
    on_cpu, _ = engine.engaged(engine.Config(use="onnx"), builder(names))
    found, expected = on_gpu.improve(*arguments), on_cpu.improve(*arguments)
    assert found[2].status == expected[2].status == Status.OK
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert found[2].cost == pytest.approx(expected[2].cost, rel=1e-3, abs=1e-5)
    again = on_gpu.improve(*arguments)
    assert np.array_equal(again[1].u, found[1].u)  # nothing of a call is left in the next one
