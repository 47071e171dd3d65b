"""A fit learns what there is to learn, knows how well, and is the same again for the same seed."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from mbrl_control import calibration, fit_plots, networks
from mbrl_control.config import ConfigError
from mbrl_control.core import MbrlError
from mbrl_control.dynamics import ensemble
from mbrl_control.fit import FitConfig, fit
from mbrl_control.fit_log import LOG
from mbrl_control.model import Model, spec_for
from mbrl_control.replay import ReplayError
from mbrl_control.transitions import steps, windows

from .learned import DT, constant, pendulum, record, swinging

SMALL = FitConfig(members=2, layers=1, width=16, epochs=4, batch=64, horizon=5)


@pytest.fixture(scope="module")
def swings():
    return swinging(pendulum(), 12, seed=0)


def spec():
    return spec_for(pendulum(), DT)


def equal(a: Model, b: Model) -> bool:
    return all(np.array_equal(a.params[name], b.params[name]) for name in a.params)


@pytest.mark.parametrize("structure", ["delta", "acceleration"])
def test_it_learns_a_pendulum_from_600_random_steps(swings, structure):
    """25 steps (1.25 s) ahead in open loop, on episodes that it has not seen: within 0.02 rad and 0.05 rad/s."""
    config = FitConfig(members=2, layers=2, width=32, epochs=40, learning_rate=3e-3)
    held_out = swinging(pendulum(), 4, seed=1)
    model = fit(config, spec_for(pendulum(), DT, structure=structure), swings, held_out)
    metrics = model.facts["metrics"]
    assert model.facts["data"]["steps"] == 600
    assert metrics["open_loop"]["steps"] == 25
    assert metrics["open_loop"]["rmse_at_end"]["q[0]"] < 0.02
    assert metrics["open_loop"]["rmse_at_end"]["v[0]"] < 0.05
    assert min(metrics["one_step_r2"].values()) > 0.999


def linear(count, seed, noise):
    """x' = A x + B u + noise: joints of no pendulum, with a deviation that is known."""
    robot, rng, found = pendulum(), np.random.default_rng(seed), []
    for _ in range(count):
        u = rng.uniform(-2.0, 2.0, (50, 1))
        x = np.zeros((51, 2))
        for k in range(50):
            x[k + 1] = [0.9 * x[k, 0] + DT * x[k, 1], 0.8 * x[k, 1] + 0.5 * u[k, 0]]
            x[k + 1] += noise * rng.standard_normal(2)
        found.append(record(robot, x[:, :1], x[:, 1:], u))
    return found


def test_the_90_percent_interval_covers_a_noisy_linear_system_and_the_deviation_is_the_noises():
    noise = np.array([0.02, 0.2])
    model = fit(
        FitConfig(members=5, layers=1, width=32, epochs=25, batch=64),
        spec(),
        linear(40, 0, noise),
        linear(10, 1, noise),
    )
    for share in model.facts["calibration"]["coverage_90"].values():
        assert 0.85 <= share <= 0.95
    held_out = steps(spec(), linear(4, 2, noise))
    raw = calibration.raw(np, spec(), model.net, model.params, held_out.before, held_out.drive)
    _, variance = networks.mean_and_variance(np, model.net, model.params, raw)
    assert variance is not None
    deviation = np.sqrt(variance.mean(axis=(0, 1))) * model.params["output_scale"]
    np.testing.assert_allclose(deviation, noise, rtol=0.2)


def test_the_mixture_is_the_mean_of_the_members_distribution_functions():
    mean, variance = np.array([[[0.0]], [[2.0]]]), np.array([[[1.0]], [[4.0]]])
    found = calibration.mixture(np.array([[1.0]]), mean, variance)
    each = [0.5 * (1.0 + math.erf((1.0 - m) / (s * math.sqrt(2.0)))) for m, s in ((0.0, 1.0), (2.0, 2.0))]
    assert found[0, 0] == pytest.approx(np.mean(each))


def test_quantiles_are_of_what_the_model_measures_at_run_time(swings):
    model = fit(SMALL, spec(), swings[:8], swings[8:])
    data = steps(spec(), swings[8:])
    dynamics = ensemble.of(model, pendulum(), config=ensemble.Config(precision="float64"))
    measured = dynamics.measure(data.before, data.drive)
    for name, quantiles in dynamics.quantiles.items():
        for q, value in quantiles.items():
            assert value == pytest.approx(float(np.quantile(measured[name], float(q))), rel=1e-4), (name, q)


def test_open_loop_is_the_models_own_rollout(swings):
    """Each member along its own predictions, as particles without noise go."""
    model = fit(SMALL, spec(), swings[:3])
    seen = windows(spec(), swings[8:], 6, 7)
    params = {name: array.astype(float) for name, array in model.params.items()}
    found = calibration.open_loop(np, spec(), model.net, params, seen.states, seen.drive)
    dynamics = ensemble.of(model, pendulum(), config=ensemble.Config(precision="float64", propagation="mean"))
    for w in range(len(seen.drive)):
        start = {name: rows[w, 0] for name, rows in seen.states.items()}
        features, _ = dynamics.rollout(dynamics.scatter(start), seen.drive[w : w + 1], {})
        for name, rows in features.items():
            np.testing.assert_allclose(found[name][:, w], rows[:, 0, 1:], rtol=1e-9, atol=1e-12)


def test_open_loop_error_counts_angles_modulo_a_turn():
    model = constant(spec(), np.zeros((2, 2)))
    q = np.full((7, 1), 3.0) + np.where(np.arange(7)[:, None] > 2, -2 * np.pi, 0.0)
    seen = windows(spec(), [record(pendulum(), q, np.zeros((7, 1)), np.zeros((6, 1)))], 6, 1)
    error = calibration.open_loop_rmse(model, dict(model.params), seen)
    assert error["q"].max() < 1e-6


def test_the_same_seed_gives_the_same_weights_and_another_one_others(swings):
    once, twice = (fit(SMALL, spec(), swings[:4], swings[4:6]) for _ in range(2))
    assert equal(once, twice)
    other = fit(dataclasses.replace(SMALL, seed=1), spec(), swings[:4], swings[4:6])
    assert not np.array_equal(once.params["w0"], other.params["w0"])
    assert not np.array_equal(once.params["w0"][0], once.params["w0"][1])


def test_members_differ_by_bootstrap_and_start_alone(swings):
    """Without a bootstrap and with one order... they still see the data in orders of their own."""
    model = fit(dataclasses.replace(SMALL, bootstrap=False), spec(), swings[:4])
    assert not np.array_equal(model.params["w1"][0], model.params["w1"][1])


def test_each_member_keeps_the_weights_of_its_best_epoch(swings):
    """A rate that ruins what was learned: what is kept is better than where it ends."""
    wild = dataclasses.replace(SMALL, epochs=12, learning_rate=1.0, patience=0)
    told = []
    model = fit(wild, spec(), swings[:6], swings[6:8], on_epoch=told.append)
    least = min(epoch.open_loop for epoch in told)
    assert told[-1].best <= least + 1e-9
    assert told[-1].best < told[-1].open_loop
    seen = windows(spec(), swings[6:8], 5, 64)
    data = steps(spec(), swings[:6])
    params = {name: array.astype(float) for name, array in model.params.items()}
    foreseen = calibration.open_loop(np, spec(), model.net, params, seen.states, seen.drive)
    errors = calibration.missed(spec(), np, foreseen, seen.states)
    scale = calibration.scales(spec(), data)
    squares = np.concatenate([(error / scale[name]) ** 2 for name, error in errors.items()], axis=-1)
    assert np.sqrt(squares.mean(axis=(1, 2, 3))).mean() == pytest.approx(told[-1].best, rel=0.02)


def test_it_stops_when_nothing_gets_better(swings):
    model = fit(dataclasses.replace(SMALL, epochs=500, learning_rate=1e-8, patience=3), spec(), swings[:2], swings[2:4])
    assert model.facts["fit"]["epochs_made"] < 10


def test_a_warm_start_goes_on_from_the_weights_it_is_given(swings):
    first = fit(SMALL, spec(), swings[:4])
    still = dataclasses.replace(SMALL, epochs=1, learning_rate=1e-8, decay=0.0)
    again = fit(still, spec(), swings[:5], start=first)
    for name in first.net.shapes():
        np.testing.assert_allclose(again.params[name], first.params[name], atol=1e-6)
    assert not np.array_equal(again.params["input_mean"], first.params["input_mean"])
    assert again.facts["fit"]["warm_start"]
    with pytest.raises(ConfigError, match=r"hidden=\(16,\).*hidden=\(8,\)"):
        fit(dataclasses.replace(still, width=8), spec(), swings[:5], start=first)


def test_the_model_that_a_fit_starts_from_stays_as_it_was(swings):
    """It may be planned with meanwhile."""
    first = fit(SMALL, spec(), swings[:5])
    before = {name: array.copy() for name, array in first.params.items()}
    fit(SMALL, spec(), swings[5:], start=first)
    assert all(np.array_equal(array, before[name]) for name, array in first.params.items())


def test_weight_decay_and_input_noise_have_an_effect(swings):
    base = fit(dataclasses.replace(SMALL, learning_rate=0.05), spec(), swings[:4])
    decayed = fit(dataclasses.replace(SMALL, learning_rate=0.05, decay=1e4), spec(), swings[:4])
    assert np.square(decayed.params["w0"]).sum() < 0.5 * np.square(base.params["w0"]).sum()
    noisy = fit(dataclasses.replace(SMALL, learning_rate=0.05, input_noise=0.5), spec(), swings[:4])
    assert not equal(base, noisy)


def test_with_nothing_held_out_it_says_so(swings):
    model = fit(SMALL, spec(), swings[:2])
    assert model.facts["metrics"] == {"held_out_steps": 0}
    assert model.facts["calibration"] == {}
    assert ensemble.of(model, pendulum()).quantiles == {}
    assert model.facts["fit"]["epochs_made"] == SMALL.epochs


def test_a_deterministic_ensemble_has_no_interval(swings):
    model = fit(dataclasses.replace(SMALL, head="deterministic", activation="relu"), spec(), swings[:4], swings[4:6])
    assert set(model.facts["calibration"]) == {"quantiles"}
    assert ensemble.of(model, pendulum()).noise(np.random.default_rng(0), 5) == {}


def test_what_never_changes_is_predicted_to_stay(swings):
    """A part without motion keeps still for 25 steps, particles and noise and all."""
    still = [dataclasses.replace(r, blocks={"post": np.full((r.steps + 1, 2), 0.7)}) for r in swings[:4]]
    from mbrl_control.core import Block

    post = spec_for(pendulum(), DT, blocks=(Block("post", 2, "m", "linear", "camera", 0.1),))
    dynamics = ensemble.of(fit(SMALL, post, still), pendulum())
    start = {"q": np.zeros(1), "v": np.zeros(1), "post": np.full(2, 0.7)}
    draws = dynamics.noise(np.random.default_rng(0), 25)
    features, _ = dynamics.rollout(dynamics.scatter(start), np.zeros((1, 25, 1)), draws)
    np.testing.assert_allclose(features["post"], 0.7, atol=1e-4)


def test_nothing_to_learn_from_and_devices_that_are_not_there_are_refused(swings):
    with pytest.raises(ReplayError, match="no episodes to learn from"):
        fit(SMALL, spec(), [])
    with pytest.raises(ConfigError, match=r"device = 'abacus'.*as cpu or cuda"):
        fit(dataclasses.replace(SMALL, device="abacus"), spec(), swings[:2])


def test_the_log_has_a_line_for_each_epoch_and_tensorboard_is_told_of_by_name(swings, tmp_path, monkeypatch):
    fit(SMALL, spec(), swings[:2], swings[2:4], folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert all(line["best"] <= line["open_loop"] for line in lines)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MbrlError, match="tensorboard = true: it is not installed"):
        fit(dataclasses.replace(SMALL, tensorboard=True), spec(), swings[:2], folder=tmp_path)


def test_errors_are_plotted(swings, tmp_path):
    model = fit(SMALL, spec(), swings[:4], swings[4:6])
    fit_plots.plot_errors(tmp_path / "errors.svg", model, swings[4:6], 10)
    assert (tmp_path / "errors.svg").read_text().count('id="axes_') == 4
    with pytest.raises(ReplayError, match="no episodes held out"):
        fit_plots.plot_errors(tmp_path / "none.svg", model, [])


def test_tensorboard_has_the_same_numbers(swings, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = []
    fit(dataclasses.replace(SMALL, tensorboard=True), spec(), swings[:2], folder=tmp_path, on_epoch=told.append)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("fit/loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("fit/loss")] == pytest.approx([epoch.loss for epoch in told])


@pytest.mark.gpu
def test_cuda_comes_to_what_the_processor_comes_to(swings):
    """Not bit for bit: sums are in another order there."""
    found, expected = (
        fit(dataclasses.replace(SMALL, device=device), spec(), swings[:6], swings[6:8]) for device in ("cuda", "cpu")
    )
    for name, error in expected.facts["metrics"]["one_step_rmse"].items():
        assert found.facts["metrics"]["one_step_rmse"][name] == pytest.approx(error, rel=0.05)
