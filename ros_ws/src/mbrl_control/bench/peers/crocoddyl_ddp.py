"""crocoddyl as a peer for ``mbrl bench ilqr``: its SolverDDP on the very arm and cost that ours solves for.

The arm is a pinocchio model of the numbers of our chain. A step is semi-implicit Euler, derivatives are crocoddyl's own
analytic ones, Hessians of costs Gauss and Newton's. Its problems take two threads if they are not told how many.

Our cost of a knot sees the state that it leads to, crocoddyl's the state that it starts from. So its first knot has no
cost of the state, and its last state, which has none of controls, has that of our last knot as well: the sums are the
same function of the controls. It counts running costs in seconds, so their weights are divided by the step.
"""

import time
from importlib.metadata import version

import crocoddyl
import numpy as np
import pinocchio
from worker import serve

CASES, THREADS = {}, [1]


def hello(_arrays, threads):
    THREADS[0] = threads
    return {"name": "crocoddyl", "version": version("crocoddyl")}, {}


def arm(given, slides):
    """The chain as a pinocchio model, each joint about or along its z axis."""
    model, parent = pinocchio.Model(), 0
    model.gravity.linear = given["gravity"]
    for i, slide in enumerate(slides):
        joint = pinocchio.JointModelPZ() if slide else pinocchio.JointModelRZ()
        place = pinocchio.SE3(given["rotation"][i], given["position"][i])
        parent = model.addJoint(parent, joint, place, f"joint{i}")
        body = pinocchio.Inertia(given["mass"][i], given["com"][i], given["inertia"][i])
        model.appendBodyToJoint(parent, body, pinocchio.SE3.Identity())
    model.armature = given["armature"]
    tip = pinocchio.SE3(np.eye(3), given["tip"])
    model.addFrame(pinocchio.Frame("tip", parent, 0, tip, pinocchio.FrameType.OP_FRAME))
    return model


def problem(arrays, key, horizon, dt, slides):
    """A reach of the arm; ``weights`` of the tip, the posture, speeds and efforts, ``terminal`` those at the end."""
    model = arm(arrays, slides)
    state = crocoddyl.StateMultibody(model)
    actuation = crocoddyl.ActuationModelFull(state)
    nj, tip = model.nv, model.getFrameId("tip")
    ones, rest = np.ones(nj), np.concatenate([arrays["posture"], np.zeros(nj)])

    def knot(of_state, of_effort, step):
        """A knot of so much of each cost."""
        costs = crocoddyl.CostModelSum(state, nj)
        if any(of_state):
            away = crocoddyl.ResidualModelFrameTranslation(state, tip, arrays["goal"], nj)
            costs.addCost("tip", crocoddyl.CostModelResidual(state, away), float(of_state[0]))
            share = crocoddyl.ActivationModelWeightedQuad(np.concatenate([of_state[1] * ones, of_state[2] * ones]))
            held = crocoddyl.ResidualModelState(state, rest, nj)
            costs.addCost("state", crocoddyl.CostModelResidual(state, share, held), 1.0)
        if of_effort:
            share = crocoddyl.ActivationModelWeightedQuad(of_effort * arrays["scale"] ** 2)
            effort = crocoddyl.ResidualModelControl(state, arrays["holding"])
            costs.addCost("effort", crocoddyl.CostModelResidual(state, share, effort), 1.0)
        motion = crocoddyl.DifferentialActionModelFreeFwdDynamics(state, actuation, costs)
        return crocoddyl.IntegratedActionModelEuler(motion, step)

    weights, terminal = arrays["weights"], arrays["terminal"]
    running, effort = weights[:3] / (horizon * dt), weights[3] / (horizon * dt)
    first, between = knot(0.0 * running, effort, dt), knot(running, effort, dt)
    last = knot(weights[:3] / horizon + terminal[:3], 0.0, 0.0)
    shooting = crocoddyl.ShootingProblem(arrays["x"], [first] + [between] * (horizon - 1), last)
    shooting.nthreads = THREADS[0]
    CASES[key] = (shooting, list(arrays["u"]), crocoddyl.SolverDDP(shooting))
    return {}, {}


def costs(arrays, key):
    """What it makes of given controls [N H nu]."""
    shooting, _, _ = CASES[key]
    return {}, {"cost": np.array([shooting.calc(shooting.rollout(list(u)), list(u)) for u in arrays["u"]])}


def solve(_arrays, key, most):
    """From the first guess to its own end."""
    shooting, guess, solver = CASES[key]
    begun = time.perf_counter()
    solver.solve(shooting.rollout(guess), guess, most, True)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "iterations": solver.iter + 1, "cost": solver.cost}, {"u": np.array(solver.us)}


def again(arrays, key):
    """One iteration from a state and controls that were good a step before."""
    shooting, _, solver = CASES[key]
    begun = time.perf_counter()
    shooting.x0 = arrays["x"]
    us = list(arrays["u"])
    solver.solve(shooting.rollout(us), us, 1, True)
    return {"seconds": time.perf_counter() - begun, "iterations": 1, "cost": solver.cost}, {}


if __name__ == "__main__":
    serve({"hello": hello, "problem": problem, "costs": costs, "solve": solve, "again": again})
