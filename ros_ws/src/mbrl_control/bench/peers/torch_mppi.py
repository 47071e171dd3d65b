"""pytorch-mppi as a peer for ``mbrl bench plan``: its MPPI on the very ensemble and cost that ours plans with.

Each sample goes through all members: ``rollout_samples`` futures, one for each, whose costs it averages, as PDDM does.
"""

import time
from importlib.metadata import version

import torch
from pytorch_mppi import MPPI
from worker import serve

PLANS = {}


def hello(_arrays, threads):
    torch.set_num_threads(threads)
    return {"name": "pytorch-mppi", "version": version("pytorch-mppi")}, {}


def plan(arrays, key, samples, horizon, sigma, kappa, layers):
    """A planner on the network of these weights; the cost is quadratic, ``weights`` of q, v and u."""
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    members, nx, nu = given["w0"].shape[0], given["x"].shape[0], given["bound"].shape[0]
    weights, goal, nj = given["weights"], given["goal"], given["goal"].shape[0]
    mean, scale = given["input_mean"], 1.0 / given["input_scale"]

    def dynamics(state, u):
        x = ((torch.cat([state, u], dim=-1) - mean) * scale).reshape(members, -1, nx + nu)
        for i in range(layers):
            x = torch.baddbmm(given[f"b{i}"], x, given[f"w{i}"])
            if i < layers - 1:
                x = torch.relu(x)
        return state + x.reshape(state.shape)

    def cost(state, u):
        away, speed = state[:, :nj] - goal, state[:, nj:]
        sums = (weights[0] * (away * away).sum(-1), weights[1] * (speed * speed).sum(-1), weights[2] * (u * u).sum(-1))
        return 0.5 * (sums[0] + sums[1] + sums[2]) / horizon

    PLANS[key] = (
        given["x"],
        MPPI(
            dynamics,
            cost,
            nx,
            torch.diag((sigma * given["bound"]) ** 2),
            num_samples=samples,
            horizon=horizon,
            lambda_=1.0 / kappa,
            u_min=-given["bound"],
            u_max=given["bound"],
            U_init=torch.zeros(horizon, nu),
            rollout_samples=members,
        ),
    )
    return {}, {}


@torch.no_grad()
def costs(arrays, key):
    """What it makes of given sequences [N H nu]."""
    x, planner = PLANS[key]
    planner.state = x
    found, _, _ = planner._compute_rollout_costs(torch.from_numpy(arrays["u"]))
    return {}, {"cost": found.numpy()}


@torch.no_grad()
def once(_arrays, key):
    """One plan from nothing."""
    x, planner = PLANS[key]
    planner.U = torch.zeros_like(planner.U)
    begun = time.perf_counter()
    planner.command(x, shift_nominal_trajectory=False)
    return {"seconds": time.perf_counter() - begun}, {}


if __name__ == "__main__":
    serve({"hello": hello, "plan": plan, "costs": costs, "once": once})
