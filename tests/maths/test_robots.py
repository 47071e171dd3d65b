"""Robots: what the Python says of them is what the MJCF simulates, and what was published."""

import mujoco
import numpy as np
import pytest
from arms import ARMS, CHAINS, TOOLS, made, module_of

from mbrl_control import mjcf, registry, rigid_body
from mbrl_control.config import ConfigError, build, params
from mbrl_control.core import Goal, Mode, Observation, State
from mbrl_control.rigid_body import Body
from mbrl_control.runtime.demo import SLOT, DemoConfig, schedule
from mbrl_sim.world import World


@pytest.fixture(params=registry.ours("robots"))
def named(request):
    return request.param


@pytest.fixture(params=ARMS)
def arm(request):
    return made(request.param)


def model_of(robot):
    return mujoco.MjModel.from_xml_path(str(robot.world))


def unconstrained(model):
    """Contacts and joint stops are no part of inverse dynamics."""
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    return model


def without_friction(model):
    """Nor is friction."""
    model.dof_damping[:] = 0.0
    return unconstrained(model)


def random_states(robot, count, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.uniform(robot.limits.lower, robot.limits.upper, size=(count, robot.nj))
    v = rng.uniform(-1, 1, size=q.shape) * robot.limits.velocity
    a = rng.uniform(-1, 1, size=q.shape) * robot.limits.acceleration
    return q, v, a


def assert_same_as_mujoco(model, robot):
    data = mujoco.MjData(model)
    at_q, at_v = mjcf.addresses(model, robot)
    q, v, a = random_states(robot, 50)
    tips = robot.tip(np, q)
    for i in range(len(q)):
        data.qpos[at_q], data.qvel[at_v], data.qacc[at_v] = q[i], v[i], a[i]
        mujoco.mj_inverse(model, data)
        np.testing.assert_allclose(tips[i], data.site("tip").xpos, rtol=0, atol=1e-9)
        if robot.inverse_dynamics is not None:
            torques = robot.inverse_dynamics(np, q[i], v[i], a[i])
            np.testing.assert_allclose(torques, data.qfrc_inverse[at_v], rtol=0, atol=1e-9)


def mounted(robot):
    """The world with the tool and payload of the robot's Config."""
    spec = mujoco.MjSpec.from_file(str(robot.world))
    robot.mount(spec)
    return spec.compile()


def test_tip_and_inverse_dynamics_agree_with_the_world(named):
    robot = made(named)
    assert_same_as_mujoco(without_friction(model_of(robot)), robot)


def test_only_a_robot_without_a_servo_may_have_no_inverse_dynamics(named):
    robot = made(named)
    assert robot.inverse_dynamics is not None or robot.servo is None


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    "config",
    [{"payload": 1.3}, {"tool_mass": 1.9, "tool_offset": 0.2}, {"tool_mass": 0.0}, {"tool_offset": 0.0, "payload": 3}],
)
def test_tool_and_payload_are_part_of_the_known_model(name, config):
    robot = made(name, **config)
    assert_same_as_mujoco(unconstrained(mounted(robot)), robot)
    bare, q = made(name), random_states(robot, 1)[0]
    z = np.zeros_like(q)
    difference = robot.inverse_dynamics(np, q, z, z) - bare.inverse_dynamics(np, q, z, z)
    assert abs(difference).max() > 0.1, "the override changed nothing"


@pytest.mark.parametrize("name", CHAINS)
def test_every_parameter_of_the_chain_stands_in_the_world(name):
    robot, chain = made(name), CHAINS[name]
    model = model_of(robot)
    for joint, link in zip(robot.joints, chain.links, strict=True):
        j = model.joint(joint)
        kind = {"hinge": mujoco.mjtJoint.mjJNT_HINGE, "slide": mujoco.mjtJoint.mjJNT_SLIDE}[link.joint]
        body = model.body(int(j.bodyid[0]))
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, body.quat)
        assert j.type[0] == kind
        np.testing.assert_allclose(j.axis, [0, 0, 1], atol=1e-15)
        np.testing.assert_allclose(j.pos, 0, atol=0)
        np.testing.assert_allclose(body.pos, link.position, atol=1e-15)
        np.testing.assert_allclose(rotation, np.ravel(link.rotation), atol=1e-15)
        assert (float(j.armature[0]), float(j.frictionloss[0])) == (link.armature, 0.0)
        assert float(np.ravel(j.damping)[0]) == link.damping
        found = as_one(model, int(j.bodyid[0]))
        assert found.mass == pytest.approx(link.body.mass, rel=1e-14, abs=1e-15)
        np.testing.assert_allclose(found.com, link.body.com, atol=1e-15)
        np.testing.assert_allclose(found.inertia, link.body.inertia, atol=1e-12)
    np.testing.assert_allclose(model.opt.gravity, chain.gravity, atol=0)
    assert model.opt.timestep in (0.001, 0.002)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


def as_one(model, number):
    """A body of the world, and those fixed to it, in its own frame."""
    body = model.body(number)
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, body.iquat)
    axes = axes.reshape(3, 3)
    own = Body(float(body.mass[0]), tuple(body.ipos), rows(axes @ np.diag(body.inertia) @ axes.T))
    parts = [own]
    for child in range(number + 1, model.nbody):
        if model.body_parentid[child] == number and model.body_jntnum[child] == 0:
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, model.body(child).quat)
            parts.append(
                rigid_body.moved(as_one(model, child), rows(rotation.reshape(3, 3)), tuple(model.body(child).pos))
            )
    return rigid_body.merge(*parts)


def rows(matrix):
    return tuple(tuple(map(float, row)) for row in matrix)


def test_limits_and_motors_of_the_world_are_the_robots(named):
    robot = made(named)
    model = model_of(robot)
    around = {block.source for block in robot.blocks}
    own = [i for i in range(model.njnt) if model.body(int(model.jnt_bodyid[i])).name not in around]
    assert [model.joint(i).name for i in own] == list(robot.joints)
    ranges = np.array([model.joint(name).range for name in robot.joints])
    assert model.jnt_limited.all()
    np.testing.assert_allclose(ranges, np.stack([robot.limits.lower, robot.limits.upper], axis=-1), atol=1e-15)
    driven = {model.actuator(i).name: model.actuator(i) for i in range(model.nu)}
    for name, torque in zip(robot.joints, robot.limits.torque, strict=True):
        assert (name in driven) == (torque > 0)
        if torque > 0:
            motor = driven[name]
            assert model.joint(int(motor.trnid[0])).name == name
            np.testing.assert_allclose(motor.ctrlrange, [-torque, torque])
            assert (motor.gainprm[0], motor.gear[0], motor.biastype[0]) == (1.0, 1.0, 0)


def test_a_robot_is_whole(named):
    robot = made(named)
    limits = robot.limits
    assert robot.name == named
    assert (limits.lower < robot.home).all()
    assert (robot.home < limits.upper).all()
    for positive in (limits.velocity, limits.acceleration, limits.jerk, robot.channels.bound):
        assert np.isfinite(positive).all()
        assert (positive > 0).all()
    assert robot.channels.coupling.shape == (robot.nj, robot.nu)
    model = model_of(robot)
    assert model.body(int(model.site("tip").bodyid[0])).name == robot.tip_body
    np.testing.assert_allclose(model.key("home").qpos[mjcf.addresses(model, robot)[0]], robot.home, atol=1e-15)
    assert set(robot.sliding) == {j for j in robot.joints if model.joint(j).type[0] == mujoco.mjtJoint.mjJNT_SLIDE}


def test_the_mass_matrix_is_symmetric_and_positive(named):
    """Physically feasible parameters: kinetic energy is positive in every pose."""
    robot = made(named)
    if robot.inverse_dynamics is None:
        pytest.skip("no closed form")
    unit, zero = np.eye(robot.nj), np.zeros((robot.nj, robot.nj))
    for q in random_states(robot, 20)[0]:
        pose = np.broadcast_to(q, unit.shape)
        M = robot.inverse_dynamics(np, pose, zero, unit) - robot.inverse_dynamics(np, pose, zero, zero)
        np.testing.assert_allclose(M, M.T, atol=1e-12)
        assert np.linalg.eigvalsh(M).min() > 0


CLOSED = [name for name in registry.ours("robots") if made(name).acceleration is not None]


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_accelerations_are_mujocos(name):
    robot = made(name)
    model = unconstrained(model_of(robot))
    q, v, _ = random_states(robot, 30, seed=5)
    torque = np.random.default_rng(6).normal(size=q.shape)
    a = robot.acceleration(np, q, v, torque)
    friction = v * model.dof_damping if robot.friction is None else robot.friction(np, v)
    data = mujoco.MjData(without_friction(model))
    for i in range(len(q)):
        data.qpos[:], data.qvel[:], data.qfrc_applied[:] = q[i], v[i], torque[i] - friction[i]
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(a[i], data.qacc, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(robot.inverse_dynamics(np, q, v, a), torque - friction, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", [{}, {"payload": 1.3, "friction": 2.5}, {"friction": 0.0}])
def test_the_friction_of_the_panda_is_at_speed_what_the_world_takes(config):
    """And half of what both identified curves are apart, one way as the other."""
    robot, share = made("panda_torque", **config), config.get("friction", 1.0)
    model = mounted(robot)
    dry = model.dof_frictionloss[mjcf.addresses(model, robot)[1]]
    np.testing.assert_allclose(robot.friction(np, robot.limits.velocity), dry, rtol=1e-4)
    np.testing.assert_allclose(robot.friction(np, -robot.limits.velocity), -dry, rtol=1e-4)
    np.testing.assert_allclose(dry[[0, 3, 6]], np.array([0.273075, 0.6397, 0.282445]) * share, rtol=1e-12)
    slow = 1e-4 * np.ones(7)
    np.testing.assert_allclose(robot.friction(np, slow)[0], share * 0.54615 * 5.1181 / 4 * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("config", [{}, {"payload": 2.0, "tool_offset": 0.2}])
def test_the_panda_on_torques_moves_as_the_world_does(config):
    """The model in fine steps, friction at speed included, where the simulated arm goes under the same torques."""
    robot = made("panda_torque", **config)
    world = World(robot)
    rng = np.random.default_rng(0)
    q, v = robot.home, np.array([0.9, -0.7, 0.8, -0.9, 0.8, 0.7, -1.0])
    world.data.qvel[:] = v
    model = registry.make("dynamics", "analytic", robot, overrides={"dt": 0.01, "substeps": 5})
    s = {"q": q, "v": v}
    for _ in range(15):
        at = robot.inverse_dynamics(np, s["q"], s["v"], np.zeros(7)) + robot.friction(np, s["v"])
        torque = at + rng.uniform(-1.0, 1.0, 7) * [4.0, 4.0, 4.0, 4.0, 0.5, 0.5, 0.5]
        assert (abs(torque) < robot.limits.torque).all()
        s, _, _ = model.step(s, torque, {})
        world.command("effort", torque)
        world.step(10)
    assert abs(s["q"] - robot.home).max() > 0.1
    np.testing.assert_allclose(world.data.qpos, s["q"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(world.data.qvel, s["v"], rtol=0, atol=1e-2)


def test_the_panda_stretched_out_is_as_long_as_its_drawing():
    """At q = 0 the published dimensions add up: 88 mm out, and 333 + 316 + 384 - 107 - 103.4 mm high."""
    robot = made("panda")
    np.testing.assert_allclose(robot.tip(np, np.zeros(7)), [0.088, 0.0, 0.8226], atol=1e-12)
    assert robot.channels.mode is Mode.VELOCITY_REFERENCE


def test_the_ur5e_is_what_its_table_of_denavit_and_hartenberg_says():
    """Tool flange by the published rows (a, d, alpha), in UR's base frame, which is base_link's turned by pi."""
    robot, rng = made("ur5e", tool_offset=0.0), np.random.default_rng(0)
    table = [
        (0.0, 0.1625, np.pi / 2), (-0.425, 0.0, 0.0), (-0.3922, 0.0, 0.0),
        (0.0, 0.1333, np.pi / 2), (0.0, 0.0997, -np.pi / 2), (0.0, 0.0996, 0.0),
    ]  # fmt: skip
    for q in rng.uniform(robot.limits.lower, robot.limits.upper, (10, 6)):
        T = np.diag([-1.0, -1.0, 1.0, 1.0])
        for theta, (a, d, alpha) in zip(q, table, strict=True):
            (c, s), (ca, sa) = (np.cos(theta), np.sin(theta)), (np.cos(alpha), np.sin(alpha))
            T = T @ [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0.0, sa, ca, d], [0.0, 0.0, 0.0, 1.0]]
        np.testing.assert_allclose(robot.tip(np, q), T[:3, 3], atol=1e-12)


@pytest.mark.parametrize(("carried", "share"), [(0.0, 0.8), (1.5, 1.0)])
def test_the_ur5es_torques_suffice_for_the_acceleration_that_we_declare(carried, share):
    """All joints at once, each in the worse direction, held against gravity in any pose."""
    robot = made("ur5e", payload=carried)
    q = random_states(robot, 5000)[0]
    z = np.zeros_like(q)
    gravity = robot.inverse_dynamics(np, q, z, z)
    needed = np.abs(gravity)
    for joint, acceleration in enumerate(robot.limits.acceleration):
        a = np.broadcast_to(acceleration * np.eye(6)[joint], q.shape)
        needed = needed + np.abs(robot.inverse_dynamics(np, q, z, a) - gravity)
    assert (needed.max(axis=0) <= share * robot.limits.torque).all()
    assert (needed.max(axis=0) > 0.9 * share * robot.limits.torque).any(), "the docstring says less than is true"


@pytest.mark.parametrize("name", TOOLS)
def test_the_tool_looks_down_at_home(name):
    robot = made(name)
    position, rotation = rigid_body.pose(np, CHAINS[name], robot.home)
    np.testing.assert_allclose(rotation[:, 2], [0.0, 0.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(position, robot.tip(np, robot.home), atol=1e-12)


def contacts(arm, model, q):
    data = mujoco.MjData(model)
    data.qpos[mjcf.addresses(model, arm)[0]] = q
    mujoco.mj_forward(model, data)
    owner = [model.body(int(i)).name for i in model.geom_bodyid]
    return {frozenset((owner[c.geom1], owner[c.geom2])) for c in data.contact[: data.ncon]}


def test_an_arm_touches_the_floor_and_itself_but_not_its_neighbours(arm):
    model = model_of(arm)
    assert contacts(arm, model, arm.home) == set()
    names = [model.body(i).name for i in range(model.nbody)]
    near = {frozenset((names[i], names[model.body_parentid[i]])) for i in range(2, model.nbody)}
    found = set().union(*(contacts(arm, model, q) for q in random_states(arm, 300, seed=7)[0]))
    assert not found & near
    assert frozenset(("world", arm.tip_body)) in found
    assert any("world" not in pair for pair in found), "wrist and base never meet"


SOME = pytest.param(range(1), 3, 0.5 * SLOT, id="some")
MANY = pytest.param(range(24), 8, SLOT, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


@pytest.mark.parametrize(("seeds", "count", "seconds"), [SOME, MANY])
def test_goals_in_a_row_lead_no_arm_into_itself_or_the_floor(arm, seeds, count, seconds):
    """The demonstration's goals, by the exact model of the reference; what the servo adds is small."""
    task = registry.make("tasks", "reach", arm)
    planner = registry.make("planners", "mppi", task, registry.make("dynamics", "kinematic", arm))
    model = model_of(arm)
    for seed in seeds:
        goals = schedule(DemoConfig(seconds=count * SLOT, seed=seed), task.sample_goal).goals
        rng, q, v, t = np.random.default_rng(seed), arm.home, np.zeros(arm.nj), 0.0
        carry = planner.init(Observation(t, State(t, q, v)))
        for point in goals:
            goal = Goal.still(point, planner.horizon, task.tolerance, task.dwell)
            for _ in range(round(seconds / planner.dt)):
                obs = Observation(t, State(t, q, v), {"reference": np.concatenate([q, v])}, {"reference": t})
                for _ in range(2):
                    carry, plan, _ = planner.improve(obs, goal, planner.knobs(), carry, planner.noise(rng))
                q, v, t = plan.q[1], plan.v[1], t + planner.dt
                assert contacts(arm, model, q) == set(), f"seed {seed} at {t:.2f} s"
            assert np.linalg.norm(arm.tip(np, q) - point) <= task.tolerance, f"seed {seed} at {t:.2f} s"


class Servoed:
    """The world under the robot's servo: torque = K (q_ref - q) + D (v_ref - v) + gravity, at 1 kHz."""

    def __init__(self, robot):
        self.robot, self.model = robot, model_of(robot)
        self.data = mujoco.MjData(self.model)
        self.at_q, self.at_v = mjcf.addresses(self.model, robot)
        self.data.qpos[self.at_q] = robot.home
        self.hand = self.model.body(robot.tip_body).id

    def step(self, q_ref, v_ref, push=None):
        d, servo, limit = self.data, self.robot.servo, self.robot.limits.torque
        q, v = d.qpos[self.at_q], d.qvel[self.at_v]
        bias = self.robot.inverse_dynamics(np, q, v, np.zeros(self.robot.nj))
        torque = servo.stiffness * (q_ref - q) + servo.damping * (v_ref - v) + bias
        d.ctrl[:] = np.clip(torque, -limit, limit)
        d.xfrc_applied[self.hand] = 0.0
        if push is not None:
            lever = self.robot.tip(np, q) - d.xipos[self.hand]
            d.xfrc_applied[self.hand] = np.concatenate([push, np.cross(lever, push)])
        mujoco.mj_step(self.model, d)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_push_moves_the_arm_and_it_comes_back(arm, axis):
    world, home, still = Servoed(arm), arm.tip(np, arm.home), np.zeros(arm.nj)
    mujoco.mj_forward(world.model, world.data)
    offs = []
    for k in range(600):
        world.step(arm.home, still, 18.0 * np.eye(3)[axis] if k < 200 else None)
        offs.append(np.linalg.norm(arm.tip(np, world.data.qpos[world.at_q]) - home))
    assert 0.005 < max(offs) < 0.02, "18 N for 0.2 s move the tip visibly, not far [m]"
    assert max(offs[400:]) < 0.001, "0.2 s later it is back"


def test_the_servo_tracks_a_moving_reference(arm):
    """Every joint by 0.7 rad towards the middle of its range and half the way back, in 1.5 s."""
    world, centre = Servoed(arm), (arm.limits.lower + arm.limits.upper) / 2.0
    mujoco.mj_forward(world.model, world.data)
    A, w = np.where(centre < arm.home, -0.35, 0.35), np.pi
    errors = []
    for k in range(1500):
        t = k * 1e-3
        world.step(arm.home + A * (1 - np.cos(w * t)), A * w * np.sin(w * t))
        errors.append(world.data.qpos[world.at_q] - arm.home - A * (1 - np.cos(w * (t + 1e-3))))
    assert np.sqrt(np.mean(np.square(errors))) < 0.008
    assert np.abs(errors).max() < 0.02


@pytest.mark.parametrize("name", TOOLS)
def test_a_config_out_of_bounds_is_refused_by_name(name):
    config = module_of(name).Config
    with pytest.raises(ConfigError, match=rf"payload = -1.*from 0 to {params(config)['payload'].high:g} \[kg\]"):
        build(config, {"payload": -1})
    with pytest.raises(ConfigError, match="tool_mas: no such parameter; did you mean 'tool_mass'"):
        build(config, {"tool_mas": 1})
