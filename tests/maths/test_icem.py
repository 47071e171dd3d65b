"""iCEM against a slow twin written from the paper, its noise against the formula of its spectrum."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_control import core, registry
from mbrl_control.config import params
from mbrl_control.core import Goal, Layout, Observation, State, Term
from mbrl_control.planners import icem

DT, BOUND = 0.1, 5.0
ROBOT = dataclasses.replace(registry.make("robots", "pendulum"), home=np.zeros(1))


class DoubleIntegrator:
    """q' = v, v' = u, exactly, under controls that are held."""

    dt = DT

    def init(self, obs, noise):
        return {"q": obs.joints.q, "v": obs.joints.v}

    def step(self, s, u, noise):
        s = {"q": s["q"] + DT * s["v"] + 0.5 * DT**2 * u, "v": s["v"] + DT * u}
        return s, s, {}

    def features(self, s):
        return s

    def bounds(self):
        return np.array([-BOUND]), np.array([BOUND])

    def plan(self, features, u):
        return features["q"], features["v"]


TASK = SimpleNamespace(
    robot=ROBOT,
    layout=Layout(),
    terms={"q": Term("quadratic", 2.0, p=3.0), "v": Term("quadratic", 0.5, terminal=0.2), "u": Term("quadratic", 0.05)},
    residuals=lambda xp, features, u, goal: {"q": features["q"] - goal, "v": features["v"], "u": u},
)
START = Observation(0.0, State(0.0, np.array([0.5]), np.array([-0.25])))


def planner(**overrides):
    return icem.make(icem.Config(**{"dt": DT, "horizon": 12, "samples": 40, **overrides}), TASK, DoubleIntegrator())


def cost_of(u):
    """Cost of one sequence, step by step."""
    q, v, found = 0.5, -0.25, 0.0
    for k, a in enumerate(u[:, 0]):
        q, v = q + DT * v + 0.5 * DT**2 * a, v + DT * a
        found += (3.0 * q * q + 0.25 * v * v + 0.025 * a * a) / len(u) + (0.05 * v * v if k == len(u) - 1 else 0.0)
    return found


class Twin:
    """The paper's loops, one sample at a time; time passes in whole steps."""

    def __init__(self, p):
        self.p, self.c = p, p.config
        self.K = min(max(2, round(self.c.elites * self.c.samples)), self.c.samples // 2)
        self.keep = int(np.ceil(self.c.keep * self.K))
        self.mean, self.std = np.zeros((self.c.horizon, 1)), np.full((self.c.horizon, 1), self.c.sigma * BOUND)
        self.elites, self.best = [], np.zeros((self.c.horizon, 1))

    def plan(self, white, iteration, passed):
        c, H = self.c, self.c.horizon
        for _ in range(passed):
            self.mean = np.vstack([self.mean[1:], self.mean[-1:]])
            self.best = np.vstack([self.best[1:], self.best[-1:]])
        if passed:
            self.std = np.full((H, 1), c.sigma * BOUND)

        def sampled(w):
            waves = np.zeros((H, 1))
            for t in range(H):
                waves[t] = sum(self.p._colour[t, j] * w[j] for j in range(H))
            return np.clip(self.mean + self.std * waves, -BOUND, BOUND)

        count = max(2 * self.K, int(c.samples / c.decay**iteration))
        kept = [
            np.vstack([elite[passed:], sampled(white[c.samples + i])[H - passed :]])
            for i, elite in enumerate(self.elites)
        ]
        rivals = kept + [sampled(w) for w in white[:count]]
        everything = [self.best, self.mean.copy(), *rivals]
        self.best = min(everything, key=cost_of)
        chosen = sorted(rivals, key=cost_of)[: self.K]
        self.mean = c.alpha * self.mean + (1 - c.alpha) * np.mean(chosen, axis=0)
        self.std = c.alpha * self.std + (1 - c.alpha) * np.std(chosen, axis=0)
        self.elites = chosen[: self.keep]
        return self.best


@pytest.mark.parametrize("overrides", [{}, {"decay": 3.0, "alpha": 0.4}, {"keep": 0.0}, {"beta": 0.0, "horizon": 7}])
def test_it_is_the_papers_loop(overrides):
    p, rng = planner(**overrides), np.random.default_rng(3)
    twin, carry, goal = Twin(p), p.init(START), Goal.still([0.0], p.horizon, 0.02, 0.3)
    for at, passed, iteration in [(0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 1, 0), (1, 0, 1), (3, 2, 0), (3, 0, 1)]:
        noise = p.noise(rng)
        carry, plan, info = p.improve(dataclasses.replace(START, t=at * DT), goal, p.knobs(), carry, noise)
        expected = twin.plan(noise["icem"], iteration, passed)
        np.testing.assert_allclose(plan.u, expected, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(carry["centre"], twin.mean, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(carry["std"], twin.std, rtol=0.0, atol=1e-9)
        assert info.cost == pytest.approx(cost_of(expected), rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 2, 7, 30])
@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0, 3.5])
def test_the_noise_has_the_spectrum_of_the_formula(horizon, beta):
    """E |rfft(y)|^2 falls as f^-beta, exactly, from the covariance M M^T; the variance is one at every step."""
    covariance = (colour := icem.coloured(horizon, beta)) @ colour.T
    np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=1e-12)
    for lag in range(horizon):  # nowhere along the horizon is special
        np.testing.assert_allclose(np.roll(covariance, (lag, lag), (0, 1)), covariance, rtol=0.0, atol=1e-12)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(horizon // 2 + 1), np.arange(horizon)) / horizon)
    power = np.einsum("ft,ts,fs->f", waves, covariance, waves.conj()).real
    f = np.maximum(np.fft.rfftfreq(horizon), 1.0 / horizon)
    np.testing.assert_allclose(power / power[-1], (f / f[-1]) ** -beta, rtol=1e-9)


def test_white_noise_stays_white():
    colour = icem.coloured(12, 0.0)
    np.testing.assert_allclose(colour @ colour.T, np.eye(12), rtol=0.0, atol=1e-12)


def test_samples_get_fewer_from_iteration_to_iteration_and_more_again_when_time_passes(monkeypatch):
    p, rng, counts = planner(decay=1.25, elites=0.1, keep=0.5), np.random.default_rng(0), []
    evaluate = p.on.evaluate

    def counted(controls, case):
        counts.append(len(controls))
        return evaluate(controls, case)

    monkeypatch.setattr(p.on, "evaluate", counted)
    carry, goal = p.init(START), Goal.still([0.0], p.horizon, 0.02, 0.3)
    for t in (0.0, 0.0, 0.0, 0.05, 0.05):
        carry, *_ = p.improve(dataclasses.replace(START, t=t), goal, p.knobs(), carry, p.noise(rng))
    besides = 2 + p.kept
    assert counts == [n + besides for n in (40, 32, 25, 40, 32)]


def test_iterations_at_one_time_may_go_on_for_ever():
    p = planner(samples=40, decay=100.0)
    carries = [{**p.init(START), "iteration": np.asarray(before)} for before in (-1.0, 0.0, 9_999.0)]
    drawn = [p.live(carry, START.t) - p.besides for carry in carries]
    assert drawn == [40, 2 * p.count, 2 * p.count]


def test_a_plan_never_costs_more_than_its_warm_start():
    p, rng, goal = planner(samples=6), np.random.default_rng(0), Goal.still([0.0], 12, 0.02, 0.3)
    carry, plan, info = p.improve(START, goal, p.knobs(), p.init(START), p.noise(rng))
    for _ in range(20):
        before = info.cost
        carry, plan, info = p.improve(START, goal, p.knobs(), carry, p.noise(rng))
        assert info.cost <= before + 1e-12
    assert info.cost == pytest.approx(cost_of(plan.u), rel=1e-9)


def test_it_gets_near_the_optimum_of_a_linear_quadratic_problem():
    p, rng, goal = planner(samples=128), np.random.default_rng(0), Goal.still([0.0], 12, 0.02, 0.3)
    H = p.horizon
    columns = [np.eye(H)[:, [i]] for i in range(H)]

    def roots(u):
        """The cost as a sum of squares."""
        features, _ = core.stepwise(np, DoubleIntegrator(), {"q": START.joints.q, "v": START.joints.v}, u, {})
        q, v = features["q"][1:, 0], features["v"][1:, 0]
        return np.concatenate(
            [q * np.sqrt(3 / H), v * np.sqrt(0.25 / H), v[-1:] * np.sqrt(0.05), u[:, 0] * np.sqrt(0.025 / H)]
        )

    free = roots(np.zeros((H, 1)))
    best, *_ = np.linalg.lstsq(np.stack([roots(c) - free for c in columns], axis=-1), -free, rcond=None)
    assert np.abs(best).max() < BOUND
    carry = p.init(START)
    for _ in range(30):
        carry, _, info = p.improve(START, goal, p.knobs(), carry, p.noise(rng))
    assert cost_of(best[:, None]) <= info.cost < 1.03 * cost_of(best[:, None]), "the deviation has closed by then"
    assert cost_of(np.zeros((H, 1))) > 1.5 * info.cost


@pytest.mark.parametrize("name", sorted(params(icem.Config).keys() - {"dt"}))
def test_every_parameter_turns_something(name):
    other = {"samples": 30, "decay": 2.0, "elites": 0.1, "keep": 0.9, "horizon": 9, "beta": 0.5, "sigma": 0.2}
    other |= {"reopen": 0.2, "alpha": 0.6, "mean": False}

    def played(**overrides):
        p, rng = planner(**overrides), np.random.default_rng(1)
        carry, goal, plans = p.init(START), Goal.still([0.0], p.horizon, 0.02, 0.3), []
        for t in np.repeat([0.0, 0.03], 8):
            carry, plan, _ = p.improve(dataclasses.replace(START, t=t), goal, p.knobs(), carry, p.noise(rng))
            plans.append(plan.u[:9])
        return np.stack(plans)

    assert not np.array_equal(played(), played(**{name: other[name]}))
