"""The simulated driver, on an arm of two joints whose statics can be written down."""

import dataclasses

import mujoco
import numpy as np
import pytest
from arms import TOOLS, made

from mbrl_control.core import Channels, Limits, Mode, Robot, Servo, Sink
from mbrl_control.mjcf import WorldError, addresses
from mbrl_sim.jtc import Points
from mbrl_sim.world import Config, World

ARM = """
<mujoco>
  <option timestep="0.001"/>
  <worldbody>
    <body name="upper">
      <joint name="shoulder" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0.5 0 0" size="0.04" mass="2" contype="0" conaffinity="0"/>
      <body name="fore" pos="0.5 0 0">
        <joint name="elbow" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" mass="1" contype="0" conaffinity="0"/>
        <body name="hand" pos="0.4 0 0">
          <geom type="sphere" size="0.02" mass="0.01" contype="0" conaffinity="0"/>
        </body>
      </body>
    </body>
    <body name="ball" pos="2 0 1"><freejoint/><geom type="sphere" size="0.05" mass="0.1"/></body>
  </worldbody>
  <actuator>
    <motor name="elbow" joint="elbow"/>
    <motor name="shoulder" joint="shoulder" gear="10"/>
  </actuator>
</mujoco>
"""
JOINTS = ("shoulder", "elbow")
HOME = np.array([0.3, 0.4])
STIFFNESS = np.array([800.0, 400.0])


def tip(xp, q):
    s1, c1, s12, c12 = xp.sin(q[0]), xp.cos(q[0]), xp.sin(q[0] + q[1]), xp.cos(q[0] + q[1])
    return xp.stack([0.5 * c1 + 0.4 * c12, 0.0 * c1, -0.5 * s1 - 0.4 * s12])


def jacobian(q):
    """Of the tip's x and z [2 2]."""
    s1, c1, s12, c12 = np.sin(q[0]), np.cos(q[0]), np.sin(q[0] + q[1]), np.cos(q[0] + q[1])
    return np.array([[-0.5 * s1 - 0.4 * s12, -0.4 * s12], [-0.5 * c1 - 0.4 * c12, -0.4 * c12]])


@pytest.fixture
def robot(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(ARM)
    full = np.full(2, 3.0)
    return Robot(
        name="arm",
        joints=JOINTS,
        channels=Channels(Mode.VELOCITY_REFERENCE, JOINTS, np.eye(2), full),
        limits=Limits(-full, full, full, 20.0 * full, 1000.0 * full, np.array([100.0, 50.0])),
        home=HOME,
        world=path,
        tip_body="hand",
        tip=tip,
        inverse_dynamics=lambda xp, q, v, a: a,
        acceleration=None,
        sink=Sink("arm_controller/joint_trajectory", "joint_trajectory"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=Servo(STIFFNESS, np.array([80.0, 30.0])),
    )


@pytest.fixture
def bare(robot):
    """The same arm without a servo."""
    return dataclasses.replace(robot, servo=None, sink=Sink("arm/effort", "effort"))


def ramp(world, to, seconds):
    points = Points([seconds], [np.asarray(to)], [np.zeros(2)], [np.zeros(2)])
    return world.follow(JOINTS, points)


def history(world, steps):
    rows = []
    for k in range(steps):
        if k == 20:
            ramp(world, [0.6, 0.1], 0.2)
        if k == 100:
            world.push(np.array([0.0, 0.0, 20.0]), 0.05)
        if k == 200:
            world.command("velocity", np.array([0.5, -0.5]))
        world.step()
        sample = world.observe()
        rows.append(np.r_[sample.ns, sample.q, sample.v, sample.effort])
    return np.array(rows)


def test_same_seed_and_commands_give_bit_equal_states(robot):
    config = Config(seed=3, noise_q=1e-3, noise_v=1e-2, latency=0.007, lag=0.02, payload=0.5)
    first = history(World(robot, config), 400)
    np.testing.assert_array_equal(first, history(World(robot, config), 400))
    other = history(World(robot, dataclasses.replace(config, seed=4)), 400)
    assert np.abs(first - other)[:, 1:].max() > 1e-4


def test_a_reset_gives_the_same_world_again(robot):
    world = World(robot, Config(latency=0.003))
    first = history(world, 300)
    world.reset()
    assert world.ns == 0
    np.testing.assert_array_equal(world.observe().q, HOME)
    np.testing.assert_array_equal(first, history(world, 300))


def test_time_is_counted_in_whole_nanoseconds(robot):
    world = World(robot)
    world.step(1234)
    assert (world.ns, world.observe().ns) == (1_234_000_000, 1_234_000_000)


def test_the_servo_holds_against_gravity(robot):
    world = World(robot)
    world.step(2000)
    np.testing.assert_allclose(world.observe().q, HOME, atol=1e-9)
    # 2 kg at 0.25 m, 1 kg at 0.2 m and 10 g at 0.4 m of the forearm, by hand
    s, e = HOME[0], HOME.sum()
    fore = -9.81 * (1.0 * 0.2 + 0.01 * 0.4) * np.cos(e)
    upper = -9.81 * (2.0 * 0.25 + 1.01 * 0.5) * np.cos(s) + fore
    np.testing.assert_allclose(world.observe().effort, [upper, fore], rtol=1e-6)
    assert world.at_rest


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_payload_sags_by_its_torque_over_the_stiffness(robot, share):
    world = World(robot, Config(payload=1.0, stiffness=share))
    world.step(3000)
    q = world.observe().q
    # the servo's bias is the nominal model's where the arm now is: only the payload is left for the spring
    expected = jacobian(q).T @ np.array([0.0, -9.81]) / (share * STIFFNESS)
    np.testing.assert_allclose(q - HOME, expected, rtol=1e-3)


def assert_static_torques(model, expected):
    """In random poses at rest, gravity pulls at the joints as a robot says."""
    data, (q_at, v_at) = mujoco.MjData(model), addresses(model, expected)
    poses = np.random.default_rng(0).uniform(expected.limits.lower, expected.limits.upper, (20, expected.nj))
    for q in poses:
        data.qpos[q_at] = q
        mujoco.mj_forward(model, data)
        torque = expected.inverse_dynamics(np, q, np.zeros_like(q), np.zeros_like(q))
        np.testing.assert_allclose(data.qfrc_bias[v_at], torque, rtol=0, atol=1e-6)


TOOL = {"tool_mass": 1.4, "tool_offset": 0.2}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("config", [{"payload": 1.0}, TOOL, {"payload": 1.0, **TOOL}, {"tool_mass": 0.0}])
def test_tool_and_payload_of_the_robot_are_known_to_its_servo(name, config):
    robot = made(name, **config)
    world = World(robot)
    assert world.model is world.nominal
    assert_static_torques(world.model, robot)
    world.step(500)
    np.testing.assert_allclose(world.observe().q, robot.home, atol=1e-9)
    held = robot.inverse_dynamics(np, robot.home, np.zeros(robot.nj), np.zeros(robot.nj))
    np.testing.assert_allclose(world.observe().effort, held, atol=1e-6)


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("known", [0.0, 0.7])
def test_the_unknown_payload_hangs_at_the_tip_of_the_tool(name, known):
    world = World(made(name, payload=known, **TOOL), Config(payload=1.0))
    assert_static_torques(world.nominal, made(name, payload=known, **TOOL))
    assert_static_torques(world.model, made(name, payload=known + 1.0, **TOOL))


def test_a_trajectory_is_followed(robot):
    world = World(robot)
    assert ramp(world, [-0.2, 0.9], 1.0) is None
    world.step(500)
    np.testing.assert_allclose(world.observe().q, (HOME + np.array([-0.2, 0.9])) / 2, atol=0.03)
    world.step(1500)
    np.testing.assert_allclose(world.observe().q, [-0.2, 0.9], atol=1e-4)


def test_a_push_moves_the_arm_and_it_returns(robot):
    world, force = World(robot), np.array([0.0, 0.0, 20.0])
    world.push(force, 2.0)
    world.step(1999)
    q = world.observe().q
    np.testing.assert_allclose(STIFFNESS * (q - HOME), jacobian(q).T @ force[[0, 2]], rtol=1e-2)
    world.step(2000)
    np.testing.assert_allclose(world.observe().q, HOME, atol=1e-4)


def test_positions_hold_when_they_stop_coming(robot):
    world, target = World(robot), np.array([0.4, 0.3])
    assert world.command("position", target) is None
    world.step(3000)
    np.testing.assert_allclose(world.observe().q, target, atol=1e-6)


@pytest.mark.parametrize("kind", ["velocity", "effort"])
def test_velocities_and_efforts_that_stop_coming_brake(robot, kind):
    world = World(robot, Config(sink_timeout=0.05))
    for _ in range(100):  # a command every 5 ms, as a controller would
        values = np.array([1.0, -1.0]) if kind == "velocity" else world.data.qfrc_bias[:2] + np.array([8.0, -2.0])
        assert world.command(kind, values) is None
        world.step(5)
    world.step(40)
    at_timeout = world.observe()
    assert np.abs(at_timeout.v).max() > 0.5
    world.step(1000)
    stopped = world.observe()
    assert np.abs(stopped.v).max() < 0.01
    assert np.abs(stopped.q - at_timeout.q).max() < 0.15
    world.step(1000)
    np.testing.assert_allclose(world.observe().q, stopped.q, atol=0.01)


def test_velocities_are_integrated_into_the_reference(robot):
    world = World(robot)
    for _ in range(200):
        world.command("velocity", np.array([0.5, -0.25]))
        world.step(5)
    np.testing.assert_allclose(world.observe().q - HOME, [0.5, -0.25], atol=2e-3)
    np.testing.assert_allclose(world.observe().v, [0.5, -0.25], atol=2e-3)


def test_a_trajectory_takes_over_from_where_velocities_led(robot):
    world = World(robot)
    for _ in range(40):
        world.command("velocity", np.array([0.5, 0.5]))
        world.step(5)
    before = world.observe().q
    assert ramp(world, [0.2, 0.2], 2.0) is None
    world.step(10)
    assert np.abs(world.observe().q - before).max() < 0.01
    world.step(3000)
    np.testing.assert_allclose(world.observe().q, [0.2, 0.2], atol=1e-4)


def test_without_a_servo_it_is_damped_and_carried_until_efforts_come_and_after(bare):
    world = World(bare, Config(sink_timeout=0.05))
    world.step(500)
    np.testing.assert_allclose(world.observe().q, HOME, atol=1e-6)
    assert world.command("effort", np.zeros(2)) is None
    world.step(45)
    falling = world.observe()
    assert falling.v[0] > 0.3
    np.testing.assert_array_equal(falling.effort, 0.0)
    world.step(500)
    assert np.abs(world.observe().v).max() < 0.01
    for kind in ("position", "velocity"):
        assert "no position servo" in str(world.command(kind, HOME))
    assert "no position servo" in str(ramp(world, HOME, 1.0))


def test_a_brake_holds_what_nobody_was_told_of_without_sinking(bare):
    world = World(bare, Config(payload=3.0, sink_timeout=0.05))
    world.step(200)
    sagged = world.observe()
    assert np.abs(sagged.q - HOME).max() < 0.01
    world.step(2000)
    np.testing.assert_allclose(world.observe().q, sagged.q, atol=1e-4)
    for _ in range(40):
        world.command("effort", world.data.qfrc_bias[:2] + np.array([20.0, 0.0]))
        world.step(5)
    assert np.abs(world.observe().v).max() > 0.5
    world.step(50 + 500)
    held = world.observe()
    world.step(2000)
    np.testing.assert_allclose(world.observe().q, held.q, atol=1e-4)


def test_a_brake_yields_to_what_is_stronger_and_holds_again(bare):
    world = World(bare)
    world.step(100)
    world.push(np.array([0.0, 0.0, 300.0]), 0.1)
    world.step(100)
    pushed = world.observe()
    assert np.abs(pushed.q - HOME).max() > 0.05
    world.step(1000)
    stopped = world.observe().q
    assert np.abs(stopped - HOME).max() > 0.05, "a brake does not come back"
    world.step(1000)
    np.testing.assert_allclose(world.observe().q, stopped, atol=1e-4)


def test_torques_stay_inside_their_limits(robot):
    world = World(robot)
    world.command("effort", np.array([1e4, -1e4]))
    world.step()
    np.testing.assert_array_equal(world.observe().effort, [100.0, -50.0])
    np.testing.assert_array_equal(world.data.ctrl, [-50.0, 10.0])


def test_latency_delays_the_whole_state(robot):
    now, late = World(robot), World(robot, Config(latency=0.025))
    for world in (now, late):
        ramp(world, [0.6, 0.1], 0.2)
    sent = [now.observe()]
    for _ in range(100):
        now.step()
        late.step()
        sent.append(now.observe())
        expected, got = sent[max(len(sent) - 26, 0)], late.observe()
        assert got.ns == expected.ns
        np.testing.assert_array_equal(got.q, expected.q)
        np.testing.assert_array_equal(got.v, expected.v)


@pytest.mark.parametrize(("own", "extra"), [(0.0, 0.04), (0.03, 0.01)])
def test_lag_trails_a_ramp_by_speed_times_time_constant(robot, own, extra):
    robot = dataclasses.replace(robot, servo=dataclasses.replace(robot.servo, lag=own))
    world, speed = World(robot, Config(lag=extra)), np.array([0.5, -0.5])
    for _ in range(300):
        world.command("velocity", speed)
        world.step(5)
    np.testing.assert_allclose(HOME + speed * world.time - world.observe().q, speed * 0.04, atol=2e-3)


def test_noise_has_the_deviation_asked_for_and_spares_the_world(robot):
    noisy, clean = World(robot, Config(noise_q=1e-3, noise_v=0.02)), World(robot)
    samples = [noisy.observe() for _ in range(4000)]
    noisy.step(100)
    clean.step(100)
    assert np.std([s.q for s in samples]) == pytest.approx(np.hypot(1e-3, np.std(HOME)), rel=0.05)
    np.testing.assert_allclose(np.std([s.q - HOME for s in samples], axis=0), 1e-3, rtol=0.1)
    np.testing.assert_allclose(np.std([s.v for s in samples], axis=0), 0.02, rtol=0.1)
    np.testing.assert_array_equal(noisy.data.qpos, clean.data.qpos)


def test_wrong_size_kills_a_sink_until_reset_and_nan_is_dropped(robot):
    world = World(robot)
    assert "not finite" in str(world.command("position", np.array([0.1, np.nan])))
    assert world.command("position", np.array([0.1, 0.1])) is None
    assert "3 numbers for 2 joints" in str(world.command("position", np.zeros(3)))
    assert "in error" in str(world.command("position", np.zeros(2)))
    assert set(world.dead) == {"position"}
    world.step(1000)
    np.testing.assert_allclose(world.observe().q, 0.1, atol=1e-4)
    assert world.command("velocity", np.zeros(2)) is None
    world.reset()
    assert world.command("position", np.zeros(2)) is None


@pytest.mark.parametrize("gain", [1e8, 1e14])
def test_divergence_is_flagged_and_nothing_moves_until_reset(robot, gain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limits = dataclasses.replace(robot.limits, torque=np.full(2, 1e15))
    mad = dataclasses.replace(robot, servo=Servo(np.full(2, gain), np.full(2, gain)), limits=limits)
    world = World(mad)
    ramp(world, [1.0, 1.0], 0.01)
    world.step(1000)
    assert "is not finite or beyond 1e10" in world.diverged
    assert 0 < world.ns < 1_000_000_000
    stuck = world.ns
    world.step(10)
    assert world.ns == stuck
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()
    world.reset()
    assert not world.diverged
    world.step(10)
    assert world.ns == 10_000_000


@pytest.mark.parametrize("part", ["qpos", "qvel", "qfrc_applied"])
def test_divergence_is_seen_in_positions_velocities_and_accelerations(robot, part):
    world = World(robot)
    getattr(world.data, part)[0] = np.nan
    world.step(5)
    assert world.diverged
    assert world.ns == 1_000_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('joint name="elbow"', 'joint name="elbo"', "elbo"),
        ('<motor name="elbow"', '<motor name="other"', "no motor 'elbow'"),
        ('body name="hand"', 'body name="fist"', "no body 'hand'"),
        ("</mujoco>", "", "arm.xml"),
    ],
)
def test_a_world_that_does_not_fit_is_one_line(robot, old, new, message):
    robot.world.write_text(ARM.replace(old, new))
    with pytest.raises(WorldError) as error:
        World(robot)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_joint_that_no_channel_moves_needs_no_motor(bare):
    bare.world.write_text(ARM.replace('<motor name="elbow" joint="elbow"/>', ""))
    coupling = np.array([[1.0], [0.0]])
    channels = Channels(Mode.TORQUE, ("shoulder",), coupling, np.array([100.0]))
    world = World(dataclasses.replace(bare, channels=channels, home=np.array([np.pi / 2, 0.0])))
    world.command("effort", np.array([5.0, 5.0]))
    world.step()
    np.testing.assert_array_equal(world.observe().effort, [5.0, 0.0])


def test_the_keyframe_home_places_what_is_not_the_robot(robot):
    key = '<keyframe><key name="home" qpos="0 0 1.5 0 2 1 0 0 0"/></keyframe></mujoco>'
    robot.world.write_text(ARM.replace("</mujoco>", key))
    world = World(robot)
    np.testing.assert_array_equal(world.data.body("ball").xpos, [1.5, 0.0, 2.0])
    np.testing.assert_array_equal(world.observe().q, HOME)


def test_mujoco_steps_are_the_ones_of_mj_step(robot):
    """Stepping in two halves changes nothing but when the torque is chosen."""
    world, torque = World(robot), np.array([3.0, -1.0])
    data = mujoco.MjData(world.model)
    data.qpos[:] = world.data.qpos
    for _ in range(50):
        world.command("effort", torque)
        world.step()
        data.ctrl[:] = [torque[1], torque[0] / 10.0]
        mujoco.mj_step(world.model, data)
    np.testing.assert_array_equal(world.data.qpos, data.qpos)
