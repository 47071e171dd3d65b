"""A fit that is killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_control import registry
from mbrl_control.checkpoint import CHECKPOINT, CheckpointError
from mbrl_control.fit import FitConfig, fit
from mbrl_control.fit_log import LOG
from mbrl_control.model import Model, spec_for
from mbrl_control.replay import Recording

DT = 0.05
CONFIG = FitConfig(
    members=2, layers=1, width=8, epochs=30, batch=16, horizon=5, patience=0, input_noise=0.01, save_every=0.0
)


@pytest.fixture(autouse=True)
def one_thread():
    """On more threads sums have no order, and weights are not the same bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data():
    robot, rng, found = registry.make("robots", "pendulum"), np.random.default_rng(0), []
    for number in range(3):
        q, v, u = (rng.standard_normal((21 - (name == "u"), 1)) for name in "qvu")
        found.append(
            Recording("pendulum", robot.joints, robot.channels.names, "torque", DT, DT * np.arange(21), q, v, u,
                      source=str(number))
        )  # fmt: skip
    return spec_for(robot, DT), found[:2], found[2:]


def run(folder, config=CONFIG, on_epoch=None, **more) -> Model:
    spec, train, held_out = data()
    return fit(config, spec, train, held_out, folder=folder, on_epoch=on_epoch, **more)


def test_after_kill_9_it_ends_in_the_same_weights_bit_for_bit(tmp_path):
    """A real process, killed in the middle of an epoch that it has begun after its eighth."""
    program = textwrap.dedent(f"""
        import sys, time, torch
        torch.set_num_threads(1)
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import test_fit_resume as here
        def said(epoch):
            print(epoch.epoch, flush=True)
            if epoch.epoch == 9:
                time.sleep(100.0)
        here.run(Path(sys.argv[1]), on_epoch=said)
    """)
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and int(line) < 9:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert int(line) == 9
    assert (tmp_path / CHECKPOINT).is_file()
    made = []
    resumed = run(tmp_path, on_epoch=made.append)
    assert [epoch.epoch for epoch in made] == list(range(9, 31))
    whole = run(None)
    for name, array in whole.params.items():
        assert np.array_equal(resumed.params[name], array), name
    assert resumed.facts["metrics"] == whole.facts["metrics"]
    lines = [json.loads(line)["epoch"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == list(range(1, 31))
    assert not (tmp_path / CHECKPOINT).exists()


class StoppedError(Exception):
    pass


def interrupted(folder):
    def stop(epoch):
        if epoch.epoch == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(folder, on_epoch=stop)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        run(tmp_path, dataclasses.replace(CONFIG, learning_rate=0.01))
    spec, train, held_out = data()
    with pytest.raises(CheckpointError, match="other data or settings"):
        fit(CONFIG, spec, train[:1], held_out, folder=tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        run(tmp_path, start=run(None))
    assert run(tmp_path).facts["fit"]["epochs_made"] == 30


def test_a_torn_checkpoint_is_refused_by_name(tmp_path):
    interrupted(tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"fit\.checkpoint\.safetensors: no checkpoint .*remove it"):
        run(tmp_path)


def test_a_torn_line_at_the_end_of_the_log_is_made_again(tmp_path):
    interrupted(tmp_path)
    with (tmp_path / LOG).open("a") as log:
        log.write('{"epoch": 6, "lo')
    run(tmp_path)
    lines = [json.loads(line)["epoch"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == list(range(1, 31))
