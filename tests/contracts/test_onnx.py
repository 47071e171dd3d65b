"""Every planner's iteration traces to ONNX, and ONNX Runtime then finds the same plan."""

from __future__ import annotations

import array_api_compat.torch as torch_xp
import numpy as np
import onnxruntime
import pytest
import torch
from onnxscript import opset18 as op

from mbrl_control.core import Observation, State

from .combinations import Names, accepted, build, goal_for, observe, on_torch


def traceable(names: Names) -> bool:
    """Our planners have to trace; somebody else's may: whoever has ``iterate`` says that it does."""
    return "." not in names.planner or hasattr(build(names).planner, "iterate")


def sorted_by_topk(x, stable, dim=-1, descending=False):
    """The stable sort that the array API asks for, which torch's exporter does not know; TopK keeps ties in order."""
    size = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)


TRANSLATIONS = {torch.ops.aten.sort.stable: sorted_by_topk}
FIRST = {"robot": "panda", "task": "reach", "planner": "mppi"}


def quick(names: Names) -> bool:
    """Tracing takes seconds: every planner once, and every task and robot once; all others are slow tests.

    Runge-Kutta's four evaluations a step, unrolled, take longer to trace than the whole of the default suite may.
    """
    told = sum(getattr(names, part) == name for part, name in FIRST.items())
    return names.dynamics == "kinematic" and (told >= 2 or "." in str(names))


ONCE = [names for names in on_torch(accepted("tasks", "dynamics", "planners")) if traceable(names)]
FIRST = {names.planner: names for names in reversed(ONCE) if quick(names)}
TRACED = [
    pytest.param(names, marks=() if FIRST.get(names.planner) == names else pytest.mark.slow, id=str(names))
    for names in ONCE
]
"""Every planner once by default: exporting is slow."""


class Iteration(torch.nn.Module):
    """One iteration as a function of tensors."""

    def __init__(self, planner):
        super().__init__()
        self.planner = planner

    def forward(self, knobs, carry, noise, blocks, t, stamp, q, v, goal):
        obs = Observation(t, State(stamp, q, v), blocks)
        carry, found = self.planner.iterate(obs, goal, knobs, carry, noise)
        return tuple(carry.values()), found.alive, found.terms, found.effective


@pytest.mark.parametrize("names", TRACED)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_one_iteration_exports_to_onnx_and_agrees(names):
    parts = build(names)
    planner, rng, goal, obs = parts.planner, np.random.default_rng(0), goal_for(parts), observe(parts)
    carry, plan, _ = planner.improve(obs, goal, planner.knobs(), planner.init(obs), planner.noise(rng))
    t = obs.t + 0.3 * planner.dt
    knobs, noise = planner.knobs(), planner.noise(rng)
    inputs = (knobs, carry, noise, dict(obs.blocks), t, t - 0.01, plan.q[1], plan.v[1], goal.value)
    tensors = torch.utils._pytree.tree_map(lambda x: torch.asarray(np.array(x)), inputs)

    program = torch.onnx.export(
        Iteration(build(names, torch_xp).planner).eval(),
        tensors,
        dynamo=True,
        verbose=False,
        custom_translation_table=TRANSLATIONS,
    )
    graph = program.model_proto.graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    leaves = [x.numpy() for x in torch.utils._pytree.tree_leaves(tensors)]
    feed = {i.name: x for i, x in zip(graph.input, leaves, strict=True)}
    known = {i.name for i in session.get_inputs()}
    *found, alive, terms, effective = session.run(None, {name: x for name, x in feed.items() if name in known})

    later = Observation(t, State(t - 0.01, plan.q[1], plan.v[1]), obs.blocks)
    expected, _, info = planner.improve(later, goal, knobs, carry, noise)
    assert bool(alive)
    for (name, value), by_onnx in zip(expected.items(), found, strict=True):
        np.testing.assert_allclose(by_onnx, value, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(terms, list(info.terms.values()), rtol=1e-5, atol=1e-6)
    assert effective == pytest.approx(info.effective_samples, rel=1e-4)
