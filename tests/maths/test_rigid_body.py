"""Serial chains: kinematics and dynamics, inverse and forward, against MuJoCo, on every back end."""

from typing import Any

import array_api_compat.torch as torch_xp
import mujoco
import numpy as np
import onnxruntime
import pytest
import torch
from arms import CHAINS

from mbrl_control import casadi_graph, forward_dynamics, rigid_body
from mbrl_control.onnx_graph import Recorder, graph
from mbrl_control.rigid_body import Body, Chain, ChainError, Link, about_x, about_z, symmetric


def matrix(array) -> Any:
    """An array as the tuples that a body takes."""
    return tuple(map(tuple, array))


def random_rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix(q * np.sign(np.linalg.det(q)))


def random_chain(seed, joints="hshsh"):
    """Hinges and slides in random places, with no zero or one anywhere to be skipped."""
    rng = np.random.default_rng(seed)
    links = []
    for kind in joints:
        spread = rng.normal(size=(3, 3)) * 0.3
        inertia = np.trace(spread @ spread.T) * np.eye(3) - spread @ spread.T
        body = Body(rng.uniform(0.5, 2.0), tuple(rng.normal(size=3)), matrix(inertia))
        rotation = random_rotation(rng)
        joint = "hinge" if kind == "h" else "slide"
        links.append(Link(joint, body, tuple(rng.normal(size=3)), rotation, rng.uniform(0.0, 0.5)))
    tip_rotation = random_rotation(rng)
    return Chain(tuple(links), tuple(rng.normal(size=3)), tip_rotation, gravity=tuple(rng.normal(size=3) * 5))


def quaternion(rotation):
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.array(rotation).ravel())
    return quat


def to_mujoco(chain):
    """The chain as a MuJoCo model, built from nothing but its data."""
    spec = mujoco.MjSpec()
    spec.option.gravity = chain.gravity
    parent = spec.worldbody
    for link in chain.links:
        inertia = np.array(link.body.inertia)
        full = [inertia[0, 0], inertia[1, 1], inertia[2, 2], inertia[0, 1], inertia[0, 2], inertia[1, 2]]
        parent = parent.add_body(pos=link.position, quat=quaternion(link.rotation))
        parent.explicitinertial, parent.mass, parent.ipos, parent.fullinertia = (
            True,
            link.body.mass,
            link.body.com,
            full,
        )
        kind = mujoco.mjtJoint.mjJNT_HINGE if link.joint == "hinge" else mujoco.mjtJoint.mjJNT_SLIDE
        parent.add_joint(type=kind, axis=[0, 0, 1], armature=link.armature)
    parent.add_site(name="tip", pos=chain.tip, quat=quaternion(chain.tip_rotation))
    return spec.compile()


def mujoco_says(model, q, v, a):
    """Position and rotation of the tip, and the torques, sample by sample."""
    data = mujoco.MjData(model)
    rows = []
    for i in range(len(q)):
        data.qpos[:], data.qvel[:], data.qacc[:] = q[i], v[i], a[i]
        mujoco.mj_inverse(model, data)
        tip = data.site("tip")
        rows.append((tip.xpos.copy(), tip.xmat.reshape(3, 3).copy(), data.qfrc_inverse.copy()))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_a_random_chain_moves_and_resists_as_mujoco_says(seed):
    chain = random_chain(seed, ["hshsh", "hhh", "ss", "shhs"][seed])
    q, v, a = np.random.default_rng(seed).normal(size=(3, 20, len(chain.links)))
    position, rotation, torque = mujoco_says(to_mujoco(chain), q, v, a)
    np.testing.assert_allclose(rigid_body.tip(np, chain, q), position, rtol=0, atol=1e-9)
    ours = rigid_body.pose(np, chain, q)
    np.testing.assert_allclose(ours[0], position, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours[1], rotation, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rigid_body.inverse_dynamics(np, chain, q, v, a), torque, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_chain_accelerates_as_mujoco_says(seed):
    chain = random_chain(seed, ["hshsh", "hhh", "ss", "shhs"][seed])
    q, v, torque = np.random.default_rng(seed).normal(size=(3, 20, len(chain.links)))
    model = to_mujoco(chain)
    data, inertia = mujoco.MjData(model), np.zeros((model.nv, model.nv))
    a, M = forward_dynamics.acceleration(np, chain, q, v, torque), forward_dynamics.mass_matrix(np, chain, q)
    for i in range(len(q)):
        data.qpos[:], data.qvel[:], data.qfrc_applied[:] = q[i], v[i], torque[i]
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, inertia)
        np.testing.assert_allclose(M[i], inertia, rtol=0, atol=1e-9)
        np.testing.assert_allclose(a[i], data.qacc, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("name", CHAINS)
def test_forward_dynamics_undo_inverse_dynamics(name):
    """On NumPy in any shape, on torch, as CasADi's expressions and as a graph, and in the type of the joints."""
    casadi = pytest.importorskip("casadi")
    chain = CHAINS[name]
    nj = len(chain.links)
    q, v, a = np.random.default_rng(2).normal(size=(3, 4, 5, nj))
    torque = rigid_body.inverse_dynamics(np, chain, q, v, a)
    np.testing.assert_allclose(forward_dynamics.acceleration(np, chain, q, v, torque), a, rtol=0, atol=1e-9)
    zero = np.zeros_like(v)
    gravity = rigid_body.bias(np, chain, q, zero)
    pushed = np.einsum("...ij,...j->...i", forward_dynamics.mass_matrix(np, chain, q), a)
    np.testing.assert_allclose(pushed + gravity, rigid_body.inverse_dynamics(np, chain, q, zero, a), atol=1e-9)

    tensors = [torch.from_numpy(x) for x in (q, v, torque)]
    np.testing.assert_allclose(forward_dynamics.acceleration(torch_xp, chain, *tensors), a, rtol=0, atol=1e-9)
    singles = [x.astype(np.float32) for x in (q, v, torque)]
    single = forward_dynamics.acceleration(np, chain, *singles)
    assert single.dtype == forward_dynamics.mass_matrix(np, chain, singles[0]).dtype == np.float32
    assert forward_dynamics.acceleration(torch_xp, chain, *map(torch.from_numpy, singles)).dtype == torch.float32

    names = [casadi_graph.symbols(x, nj) for x in "qvt"]
    expression = casadi_graph.column(forward_dynamics.acceleration(casadi_graph.namespace(), chain, *names))
    f = casadi.Function("f", [casadi_graph.column(x) for x in names], [expression])
    found = np.asarray(f(q[0, 0], v[0, 0], torque[0, 0])).ravel()
    np.testing.assert_allclose(found, a[0, 0], rtol=0, atol=1e-9)

    recorder = Recorder()
    inputs = [recorder.input(x, q.shape) for x in "qvt"]
    data = graph(recorder, {"a": forward_dynamics.acceleration(recorder, chain, *inputs)}, {})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    needed = {x.name for x in session.get_inputs()}
    feed = {x: value for x, value in zip("qvt", singles, strict=True) if x in needed}
    scale = abs(a) + abs(torque).max()
    assert (abs(session.run(None, feed)[0] - single) < 1e-4 * scale).all()


@pytest.mark.parametrize("name", CHAINS)
def test_leading_axes_are_samples(name):
    chain = CHAINS[name]
    q, v, a = np.random.default_rng(1).normal(size=(3, 4, 5, len(chain.links)))
    kept = q.copy(), v.copy(), a.copy()
    tips, torques = rigid_body.tip(np, chain, q), rigid_body.inverse_dynamics(np, chain, q, v, a)
    assert tips.shape == (4, 5, 3)
    assert torques.shape == q.shape
    for i in np.ndindex(4, 5):
        np.testing.assert_allclose(tips[i], rigid_body.tip(np, chain, q[i]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            torques[i], rigid_body.inverse_dynamics(np, chain, q[i], v[i], a[i]), rtol=0, atol=1e-12
        )
    assert all((x == y).all() for x, y in zip(kept, (q, v, a), strict=True)), "an argument was written to"


@pytest.mark.parametrize("name", CHAINS)
def test_torch_agrees_and_keeps_the_type(name):
    chain = CHAINS[name]
    q, v, a = np.random.default_rng(2).normal(size=(3, 6, len(chain.links)))
    tensors = [torch.from_numpy(x) for x in (q, v, a)]
    np.testing.assert_allclose(rigid_body.tip(torch_xp, chain, tensors[0]), rigid_body.tip(np, chain, q), atol=1e-12)
    np.testing.assert_allclose(
        rigid_body.inverse_dynamics(torch_xp, chain, *tensors),
        rigid_body.inverse_dynamics(np, chain, q, v, a),
        atol=1e-11,
    )
    assert rigid_body.tip(torch_xp, chain, tensors[0].float()).dtype == torch.float32
    assert rigid_body.tip(np, chain, q.astype(np.float32)).dtype == np.float32
    single = [x.astype(np.float32) for x in (q, v, a)]
    assert rigid_body.inverse_dynamics(np, chain, *single).dtype == np.float32


@pytest.mark.parametrize("name", CHAINS)
def test_casadi_builds_the_same_functions(name):
    casadi = pytest.importorskip("casadi")
    chain, xp = CHAINS[name], casadi_graph.namespace()
    nj = len(chain.links)
    q, v, a = (casadi_graph.symbols(x, nj) for x in "qva")
    outputs = [rigid_body.tip(xp, chain, q), rigid_body.inverse_dynamics(xp, chain, q, v, a)]
    f = casadi.Function("f", [casadi_graph.column(x) for x in (q, v, a)], [casadi_graph.column(x) for x in outputs])
    numbers = np.random.default_rng(3).normal(size=(3, nj))
    tip, torque = (np.asarray(x).ravel() for x in f(*numbers))
    np.testing.assert_allclose(tip, rigid_body.tip(np, chain, numbers[0]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(torque, rigid_body.inverse_dynamics(np, chain, *numbers), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CHAINS)
def test_the_tip_is_differentiable_by_torch(name):
    chain = CHAINS[name]
    q = torch.from_numpy(np.random.default_rng(5).normal(size=(1, len(chain.links)))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rigid_body.tip(torch_xp, chain, x), (q,))


def test_merged_bodies_are_one_rigid_body():
    """Mass, first and second moments of eight points are those of the merged body."""
    rng = np.random.default_rng(4)
    points, masses = rng.normal(size=(8, 3)), rng.uniform(0.1, 1.0, 8)
    whole = rigid_body.merge(*(Body(float(m), tuple(p)) for m, p in zip(masses, points, strict=True)))
    centre = masses @ points / masses.sum()
    d = points - centre
    inertia = sum(m * (x @ x * np.eye(3) - np.outer(x, x)) for m, x in zip(masses, d, strict=True))
    np.testing.assert_allclose(whole.com, centre, atol=1e-12)
    np.testing.assert_allclose(whole.inertia, inertia, atol=1e-12)
    halves = rigid_body.merge(
        rigid_body.merge(*(Body(float(m), tuple(p)) for m, p in zip(masses[:3], points[:3], strict=True))),
        rigid_body.merge(*(Body(float(m), tuple(p)) for m, p in zip(masses[3:], points[3:], strict=True))),
    )
    np.testing.assert_allclose(halves.inertia, whole.inertia, atol=1e-12)


def test_a_moved_body_turns_with_its_frame():
    body = Body(2.0, (0.1, 0.2, 0.3), symmetric(1.0, 2.0, 3.0, 0.1, 0.2, 0.3))
    away = rigid_body.moved(body, about_z(0.7), (1.0, -2.0, 0.5))
    R = np.array(about_z(0.7))
    back = rigid_body.moved(away, matrix(R.T), tuple(R.T @ np.array([-1.0, 2.0, -0.5])))
    np.testing.assert_allclose(back.com, body.com, atol=1e-12)
    np.testing.assert_allclose(back.inertia, body.inertia, atol=1e-12)
    np.testing.assert_allclose(np.array(away.inertia), R @ np.array(body.inertia) @ R.T, atol=1e-12)


def test_right_angles_are_exact():
    assert about_x(np.pi / 2) == ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    np.testing.assert_allclose(about_z(np.pi / 3)[0][:2], (0.5, -np.sqrt(0.75)), atol=1e-15)


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ChainError, match="joint 'ball': it takes hinge or slide"):
        Link("ball", Body(1.0))  # type: ignore[arg-type]
    with pytest.raises(ChainError, match="not orthonormal"):
        Link("hinge", Body(1.0), rotation=((1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 1.0)))
    with pytest.raises(ChainError, match="more than 0"):
        rigid_body.merge(Body(0.0), Body(0.0))
