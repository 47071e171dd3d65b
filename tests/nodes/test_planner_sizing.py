"""A planner whose samples cost what somebody says, in the real stack: fitted at the start, smaller under load, back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from stack import Stack

WEARY = '''
"""Stays where the reference is; an iteration takes as long as its samples are said to take."""

import time
from dataclasses import dataclass

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Info, Plan, Status


@dataclass(frozen=True)
class Config:
    samples: int = param(64, "what it would try", low=1, high=1000)
    horizon: int = param(8, "steps", low=1, high=100)
    a_sample: float = param(1.8e-3, "what each takes", unit="s", low=0.0, high=1.0, live=True)


class Weary:
    dt = 0.05

    def __init__(self, config, task):
        self.config, self.horizon, self.mode = config, config.horizon, task.robot.channels.mode

    def init(self, obs):
        return {"seq": np.array(0)}

    def knobs(self):
        return {"a_sample": np.asarray(self.config.a_sample)}

    def noise(self, rng):
        return {}

    def improve(self, obs, goal, knobs, carry, noise):
        time.sleep(float(knobs["a_sample"]) * self.config.samples)
        q = obs.blocks["reference"][:7] * np.ones((self.horizon + 1, 1))
        seq = int(carry["seq"]) + 1
        plan = Plan(obs.t, self.dt, self.mode, q, 0.0 * q, 0.0 * q[1:], None, obs.joints.t, seq)
        return {"seq": np.array(seq)}, plan, Info(Status.OK, 0.0, {}, 1.0, {})


def make(config, task, dynamics, xp=np):
    return Weary(config, task)
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the planner, for processes that are started now."""
    package = tmp_path / "tired_lab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "weary.py").write_text(WEARY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "tired_lab.weary"


def figure(stack: Stack, key: str, node: str = "planner") -> float:
    return stack.person.figure(node, key)


def heard(stack: Stack, text: str) -> bool:
    return any(text in line for line in stack.lines)


def test_it_is_fitted_at_the_start_and_steps_down_and_up_again(domain: int, lab: str) -> None:
    """50 ms are there: 64 samples take 115, 32 take 58, 16 take 29."""
    extra = {"planner": "-p rate:=10.0 -p least_samples:=8 -p nice:=0"}
    with Stack(domain, extra=extra, planner=lab) as stack:
        stack.until(lambda: heard(stack, "16 of 64 samples x 8 steps:"), "said at the start")
        stack.armed()
        stack.until(lambda: figure(stack, "handovers", "controller") > 30.0, "plans that take over")
        stack.until(lambda: figure(stack, "samples") == 16.0, "in the diagnostics")
        assert figure(stack, "samples_asked") == 64.0
        assert 28.0 < figure(stack, "fit_ms") < 40.0
        assert figure(stack, "plan_ms_p50") > 28.0
        assert 65.0 < figure(stack, "lead_ms") <= 100.0
        assert 65.0 < figure(stack, "latency_ms_p50", "controller") <= figure(stack, "latency_ms_p99", "controller")

        turn = AsyncParameterClient(stack.person, "planner")

        def takes(a_sample: float) -> None:
            answer = turn.set_parameters([Parameter("weary.a_sample", value=a_sample)])
            stack.until(answer.done, "the parameter set")
            result = answer.result()
            assert result is not None
            assert result.results[0].successful

        takes(3.6e-3)
        stack.until(
            lambda: heard(stack, "degraded: 8 of 64 samples x 8 steps: iterations took"), "announced in the log"
        )
        stack.until(lambda: figure(stack, "samples") == 8.0, "and in the diagnostics")
        assert figure(stack, "steps_down") >= 1.0
        takes(1e-4)
        stack.until(lambda: heard(stack, "recovered: 16 of 64 samples x 8 steps"), "as large as before", 30.0)
        assert stack.person.state == "ACTIVE"
        stack.clean()


def test_as_given_where_that_is_wanted(domain: int, lab: str) -> None:
    """As in lock-step; nothing is measured, and nothing said of sizes."""
    with Stack(domain, only=("planner",), extra={"planner": "-p sizing:=fixed"}, planner=lab) as stack:
        stack.until(lambda: figure(stack, "samples") > 0.0, "diagnostics")
        assert stack.person.record.diagnostics["planner"]["sizes"] == "64 samples x 8 steps"
        assert not heard(stack, "samples")
