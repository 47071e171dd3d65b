"""mbrl-lib as a peer: its CEM and MPPI on its ModelEnv, its ModelTrainer, its PETS agent in a closed loop.

What is built here is what ``mbrl.algorithms.pets`` builds of its configuration, by the same classes: GaussianMLP in a
OneDTransitionRewardModel with its input normaliser in double precision, ModelEnv, TrajectoryOptimizerAgent. Made by
hand, since its pinned hydra does not run on a current Python; so the agent needs no ``_recursive_: False`` either.
"""

import time
import types
from importlib.metadata import version

import numpy as np
import torch
from mbrl.models import GaussianMLP, ModelEnv, ModelTrainer, OneDTransitionRewardModel
from mbrl.planning import TrajectoryOptimizerAgent
from mbrl.types import TransitionBatch
from mbrl.util.replay_buffer import BootstrapIterator
from omegaconf import OmegaConf
from worker import serve

ACTIVATIONS = {"silu": "torch.nn.SiLU", "relu": "torch.nn.ReLU"}
AGENTS, TRAINERS = {}, {}


def hello(_arrays, threads):
    torch.set_num_threads(threads)
    return {"name": "mbrl-lib", "version": version("mbrl")}, {}


# --- Models -------------------------------------------------------------------------------------------


def network(net, sizes, propagation="fixed_model", process=None, learned_bounds=False):
    """A fresh ensemble; ``net`` has members, hidden, width, gaussian and activation, ``sizes`` inputs and outputs."""
    model = GaussianMLP(
        *sizes,
        "cpu",
        num_layers=net["hidden"],
        ensemble_size=net["members"],
        hid_size=net["width"],
        deterministic=not net["gaussian"],
        propagation_method=propagation,
        learn_logvar_bounds=learned_bounds,
        activation_fn_cfg={"_target_": ACTIVATIONS[net["activation"]]},
    )
    return OneDTransitionRewardModel(
        model, normalize=True, normalize_double_precision=True, learned_rewards=False, obs_process_fn=process
    )


def take(model, arrays):
    """The weights that are handed over, and what normalises inputs."""
    inner = model.model
    layers = [layer[0] for layer in inner.hidden_layers] + [inner.mean_and_logvar]
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(torch.from_numpy(arrays[f"w{i}"]))
            layer.bias.copy_(torch.from_numpy(arrays[f"b{i}"]))
        if not inner.deterministic:
            inner.max_logvar.copy_(torch.from_numpy(arrays["max_log_variance"][0]))
            inner.min_logvar.copy_(torch.from_numpy(arrays["min_log_variance"][0]))
    mean, scale = (torch.from_numpy(arrays[f"input_{name}"]).double()[None] for name in ("mean", "scale"))
    model.input_normalizer.mean, model.input_normalizer.std = mean, scale


# --- Rewards ------------------------------------------------------------------------------------------


def quadratic(weights, goal, horizon):
    """Minus what ours calls the cost of a step, of x = [q v]."""
    weights, goal = torch.from_numpy(weights), torch.from_numpy(goal)
    nj = goal.shape[0]

    def reward(u, x):
        away, speed = x[:, :nj] - goal, x[:, nj:]
        sums = (weights[0] * (away * away).sum(-1), weights[1] * (speed * speed).sum(-1), weights[2] * (u * u).sum(-1))
        return -(0.5 / horizon) * (sums[0] + sums[1] + sums[2])[:, None]

    return reward


def swing_up(length, unit, effort):
    """PETS' reward of its cart-pole, of x = [position angle and their speeds], the angle 0 upright."""

    def reward(u, x):
        across, below = x[:, 0] + length * torch.sin(x[:, 1]), length * (torch.cos(x[:, 1]) - 1.0)
        near = torch.exp(-(across**2 + below**2) / length**2)
        return (near - effort * ((u / unit) ** 2).sum(-1))[:, None]

    return reward


def sines(x):
    """The angle as sine and cosine, as PETS' cart-pole does: [position sin cos speeds]."""
    if isinstance(x, torch.Tensor):
        return torch.cat([x[..., :1], torch.sin(x[..., 1:2]), torch.cos(x[..., 1:2]), x[..., 2:]], dim=-1)
    return np.concatenate([x[..., :1], np.sin(x[..., 1:2]), np.cos(x[..., 1:2]), x[..., 2:]], axis=-1)


# --- Planning -----------------------------------------------------------------------------------------


def environment(model, reward, nx, bound):
    spaces = types.SimpleNamespace(
        observation_space=types.SimpleNamespace(shape=(nx,)),
        action_space=types.SimpleNamespace(low=-bound, high=bound, shape=bound.shape),
    )
    generator = torch.Generator()
    generator.manual_seed(0)
    return ModelEnv(spaces, model, lambda u, _x: torch.zeros(len(u), 1, dtype=torch.bool), reward, generator)


def agent(env, optimiser, horizon, particles, bound):
    """A planner as PETS configures it."""
    made = TrajectoryOptimizerAgent(
        OmegaConf.create({**optimiser, "device": "cpu", "lower_bound": None, "upper_bound": None}),
        -bound,
        bound,
        planning_horizon=horizon,
    )
    made.set_trajectory_eval_fn(lambda x, u: env.evaluate_action_sequences(u, x, particles))
    return made


def optimiser(kind, samples, iterations, sigma=0.0, kappa=0.0):
    if kind == "cem":
        return {
            "_target_": "mbrl.planning.CEMOptimizer",
            "num_iterations": iterations,
            "elite_ratio": 0.1,
            "population_size": samples,
            "alpha": 0.1,
        }
    return {
        "_target_": "mbrl.planning.MPPIOptimizer",
        "num_iterations": iterations,
        "population_size": samples,
        "gamma": kappa,
        "sigma": sigma,
        "beta": 0.6,
    }


def plan(arrays, key, net, kind, samples, iterations, horizon, particles, sigma, kappa):
    """A planner on the network of these weights."""
    nx, nu = arrays["x"].shape[0], arrays["bound"].shape[0]
    model = network(net, (nx + nu, nx))
    take(model, arrays)
    env = environment(model, quadratic(arrays["weights"], arrays["goal"], horizon), nx, arrays["bound"])
    made = agent(env, optimiser(kind, samples, iterations, sigma, kappa), horizon, particles, arrays["bound"])
    AGENTS[key] = arrays["x"], env, made, particles
    return {}, {}


def costs(arrays, key):
    """What it makes of given sequences [N H nu]: nothing drawn, and particle p is of member p mod E."""
    x, env, _, particles = AGENTS[key]
    inner = env.dynamics_model.model
    whose = np.arange(len(arrays["u"]) * particles) % particles % inner.num_members
    order = torch.from_numpy(np.argsort(whose, kind="stable"))
    inner.sample_propagation_indices = lambda _size, _rng: order
    env.step = lambda u, state, **_: ModelEnv.step(env, u, state, sample=False)
    try:
        found = env.evaluate_action_sequences(torch.from_numpy(arrays["u"]), x, particles)
    finally:
        del inner.sample_propagation_indices, env.step
    return {}, {"cost": -found.numpy()}


def once(_arrays, key):
    """One plan from nothing."""
    x, _, made, _ = AGENTS[key]
    made.reset()
    begun = time.perf_counter()
    made.plan(x)
    return {"seconds": time.perf_counter() - begun}, {}


# --- Training -----------------------------------------------------------------------------------------


def batch_of(arrays):
    rows = len(arrays["x"])
    none = np.zeros(rows, dtype=bool)
    return TransitionBatch(arrays["x"], arrays["u"], arrays["after"], np.zeros(rows), none, none)


def trainer(arrays, key, net, batch, learning_rate, decay, process="", seed=0):
    """An ensemble and what fits it to x, u and after [n]; the weights are handed over, or its own."""
    torch.manual_seed(seed)
    data = batch_of(arrays)
    nx, nu = arrays["x"].shape[1], arrays["u"].shape[1]
    model = network(net, (nx + nu + bool(process), nx), process=sines if process else None, learned_bounds=True)
    model.update_normalizer(data)
    if "w0" in arrays:
        take(model, arrays)
    rows = BootstrapIterator(
        data,
        batch,
        net["members"],
        shuffle_each_epoch=True,
        permute_indices=False,
        rng=np.random.default_rng(seed),
    )
    TRAINERS[key] = model, ModelTrainer(model, optim_lr=learning_rate, weight_decay=decay), rows
    return {}, {}


def loss(arrays, key):
    """The loss of one batch by the weights as they are, one term for each member summed."""
    model, _, _ = TRAINERS[key]
    with torch.no_grad():
        found, _ = model.loss(batch_of(arrays))
    return {"loss": float(found)}, {}


def epochs(_arrays, key, count, evaluate):
    """So many passes over the data."""
    _, fit, rows = TRAINERS[key]
    begun = time.perf_counter()
    fit.train(rows, num_epochs=count, evaluate=evaluate, silent=True)
    return {"seconds": time.perf_counter() - begun}, {}


# --- Closed loop --------------------------------------------------------------------------------------


def pets(arrays, key, reward, samples, iterations, horizon, particles):
    """The agent on what ``trainer`` has made."""
    model, _, _ = TRAINERS[key]
    env = environment(model, swing_up(**reward), int(arrays["nx"]), arrays["bound"])
    made = agent(env, optimiser("cem", samples, iterations), horizon, particles, arrays["bound"])
    AGENTS[key] = None, env, made, particles
    return {}, {}


def reset(_arrays, key):
    """A new episode."""
    AGENTS[key][2].reset()
    return {}, {}


def act(arrays, key):
    """The action at a state."""
    _, _, made, _ = AGENTS[key]
    begun = time.perf_counter()
    u = made.act(arrays["x"])
    return {"seconds": time.perf_counter() - begun}, {"u": u}


if __name__ == "__main__":
    questions = (hello, plan, costs, once, trainer, loss, epochs, pets, reset, act)
    serve({question.__name__: question for question in questions})
