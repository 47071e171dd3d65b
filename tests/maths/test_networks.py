"""The batched ensemble layer and its losses, against loops over members and rows, and finite differences."""

from __future__ import annotations

import math

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch

from mbrl_control import networks
from mbrl_control.fit import QUICK
from mbrl_control.networks import HEADS, Net

ROWS = 6
EACH = pytest.mark.parametrize("head", HEADS)


def ensemble(head="gaussian", activation="silu", seed=0):
    net = Net(3, 4, (5, 7), 2, head, activation)
    rng = np.random.default_rng(seed)
    params = {name: rng.standard_normal(shape) for name, shape in net.shapes().items()}
    x, y = rng.standard_normal((3, ROWS, 4)), rng.standard_normal((3, ROWS, 2))
    return net, params, x, y


def by_hand(net, params, e, row):
    """One member on one row, number by number."""
    act = {"silu": lambda z: z / (1.0 + math.exp(-z)), "relu": lambda z: max(z, 0.0), "tanh": math.tanh}
    for layer in range(3):
        w, b = params[f"w{layer}"][e], params[f"b{layer}"][e, 0]
        out = [b[j] + sum(row[i] * w[i, j] for i in range(len(row))) for j in range(w.shape[1])]
        row = [act[net.activation](z) for z in out] if layer < 2 else out
    return row


@pytest.mark.parametrize("activation", sorted(networks.ACTIVATIONS))
@EACH
def test_all_members_at_once_are_each_member_by_itself(head, activation):
    net, params, x, _ = ensemble(head, activation)
    found = networks.forward(np, net, params, x)
    for e in range(3):
        for r in range(ROWS):
            np.testing.assert_allclose(found[e, r], by_hand(net, params, e, x[e, r]), rtol=1e-12)


def softplus(z):
    return math.log1p(math.exp(-abs(z))) + max(z, 0.0)


def test_the_variance_is_that_of_pets_two_soft_bounds():
    net, params, _, _ = ensemble()
    raw = np.random.default_rng(1).uniform(-30.0, 30.0, (3, ROWS, 2))
    found = networks.variance(np, params, raw)
    for e, r, j in np.ndindex(raw.shape):
        high, low = params["max_log_variance"][e, 0, j], params["min_log_variance"][e, 0, j]
        bounded = high - softplus(high - raw[e, r, j])
        bounded = low + softplus(bounded - low)
        assert math.log(found[e, r, j]) == pytest.approx(bounded, abs=1e-9)
    assert net.gaussian


def loss_of(net, params, x, y):
    return networks.loss(np, net, params, networks.forward(np, net, params, x), y)


def test_the_loss_is_the_gaussians_likelihood_and_the_share_of_the_bounds():
    net, params, x, y = ensemble()
    found = loss_of(net, params, x, y)
    for e in range(3):
        total = 0.0
        for r in range(ROWS):
            out = by_hand(net, params, e, x[e, r])
            for j in range(2):
                var = float(networks.variance(np, params, np.full((3, 1, 2), out[2 + j]))[e, 0, j])
                density = math.exp(-0.5 * (y[e, r, j] - out[j]) ** 2 / var) / math.sqrt(2.0 * math.pi * var)
                total += -2.0 * math.log(density) - math.log(2.0 * math.pi)
        apart = (params["max_log_variance"] - params["min_log_variance"])[e].sum()
        assert found[e] == pytest.approx(total / (2 * ROWS) + 0.01 * apart, rel=1e-10)


def test_the_deterministic_loss_is_the_mean_square():
    net, params, x, y = ensemble("deterministic")
    out = np.array([[by_hand(net, params, e, x[e, r]) for r in range(ROWS)] for e in range(3)])
    np.testing.assert_allclose(loss_of(net, params, x, y), np.mean((out - y) ** 2, axis=(1, 2)), rtol=1e-12)


@EACH
@pytest.mark.parametrize("activations", [networks.ACTIVATIONS, QUICK], ids=["ours", "torch's"])
def test_gradients_are_those_of_finite_differences(head, activations):
    """Of every weight, the learned bounds among them; and no member's loss knows another's weights."""
    net, params, x, y = ensemble(head)
    leaves = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    raw = networks.forward(torch_xp, net, leaves, torch.tensor(x), activations)
    losses = networks.loss(torch_xp, net, leaves, raw, torch.tensor(y))
    np.testing.assert_allclose(losses.detach().numpy(), loss_of(net, params, x, y), rtol=1e-12)
    losses.sum().backward()
    rng, h = np.random.default_rng(2), 1e-6
    for name, p in params.items():
        for _ in range(4):
            at = tuple(int(rng.integers(n)) for n in p.shape)
            ends = []
            for sign in (1.0, -1.0):
                moved = {**params, name: p.copy()}
                moved[name][at] += sign * h
                ends.append(loss_of(net, moved, x, y))
            slope = (ends[0] - ends[1]) / (2.0 * h)
            assert float(leaves[name].grad[at]) == pytest.approx(slope[at[0]], rel=1e-4, abs=1e-8), (name, at)
            assert not np.delete(slope, at[0]).any(), name


@pytest.mark.parametrize("activation", sorted(networks.ACTIVATIONS))
def test_nothing_overflows(activation):
    x = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = networks.ACTIVATIONS[activation](np, x)
    assert np.isfinite(found).all()


def test_initial_weights_are_pets():
    net = Net(5, 50, (200,), 3)
    params = networks.initial(net, np.random.default_rng(0))
    for name, inputs in (("w0", 50), ("w1", 200)):
        scale = 1.0 / (2.0 * math.sqrt(inputs))
        assert np.abs(params[name]).max() <= 2.0 * scale * (1.0 + 1e-6)
        assert params[name].std() == pytest.approx(0.880 * scale, rel=0.05)  # of a normal cut at 2 deviations
    assert not params["b0"].any()
    assert np.all(params["max_log_variance"] == np.float32(0.5))
    assert np.all(params["min_log_variance"] == np.float32(-10.0))
    assert all(p.dtype == np.float32 for p in params.values())


def test_with_a_beta_of_1_the_mean_is_fitted_as_by_its_square_error():
    """The gradient of var (y - mu)^2 / var + ..., with the first var held, is that of (y - mu)^2; at 0 it is not."""
    net, params, x, y = ensemble("gaussian")
    for beta, same in ((1.0, True), (0.0, False)):
        raw = networks.forward(torch_xp, net, {n: torch.tensor(p) for n, p in params.items()}, torch.tensor(x))
        raw.requires_grad_()
        leaves = {name: torch.tensor(p) for name, p in params.items()}
        networks.loss(torch_xp, net, leaves, raw, torch.tensor(y), beta, torch.Tensor.detach).sum().backward()
        mean = raw.detach().numpy()[..., : net.outputs]
        by_square_error = 2.0 * (mean - y) / (ROWS * net.outputs)
        assert raw.grad is not None
        found = raw.grad.numpy()[..., : net.outputs]
        assert np.allclose(found, by_square_error, rtol=1e-9) == same
