"""An arm's equations of motion read from its MJCF: MuJoCo's, and those that a robot's file declares."""

import mujoco
import numpy as np
import pytest
from arms import CHAINS, made

from mbrl_control import forward_dynamics, mjcf, rigid_body
from mbrl_control.mjcf import WorldError
from mbrl_control.mjcf_chain import chain

WORLDS = ("panda", "ur5e", "pendulum", "cartpole", "reacher", "panda_push")
ODD = """
<mujoco model="odd">
  <compiler angle="radian"/>
  <option gravity="1.5 -0.7 -9"/>
  <default><joint armature="0.03" damping="0.4" frictionloss="0.2"/></default>
  <worldbody>
    <body name="table" pos="0.3 -0.2 0.7" euler="0.3 -0.8 0.4">
      <geom size="0.2" pos="0.1 0 0"/>
      <body name="turret" pos="0.05 0.1 0.2" euler="1.1 0.2 -0.5">
        <inertial mass="1.7" pos="0.05 0.1 -0.02" fullinertia="0.05 0.07 0.06 0.01 -0.004 0.006"/>
        <joint name="pan" axis="0.3 -0.8 0.5" pos="0.07 -0.04 0.11" ref="0.6"/>
        <joint name="lift" axis="1 1 -0.2" pos="-0.1 0.02 0.03" armature="0.2"/>
        <joint name="out" type="slide" axis="-0.4 0.1 0.9" pos="0.3 0.2 0.1" ref="-0.25" damping="3"/>
        <body name="plate" pos="0.2 0.1 0" euler="0.4 0.5 0.6">
          <geom type="box" size="0.05 0.1 0.02" pos="0.02 0.03 0.04"/>
          <body name="rail" pos="0 0.15 0.1" euler="0.2 0 1.3">
            <joint name="along" type="slide" axis="0 1 0" ref="0.1"/>
            <geom type="capsule" fromto="0 0 0 0.1 0.3 0.05" size="0.03"/>
            <body name="hand" pos="0.1 0.3 0.05" euler="-0.7 0.9 0">
              <joint name="wrist" axis="0 0 -1" pos="0.02 0 0"/>
              <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02"/>
              <body name="finger" pos="0.2 0 0.03" euler="0 0.5 0">
                <geom type="capsule" fromto="0 0 0 0.1 0 0" size="0.01"/>
                <site name="tip" pos="0.1 0.01 0" euler="0.1 0.2 0.3"/>
              </body>
              <body name="weightless" pos="0 0.1 0"/>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="puck"><freejoint/><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""
JOINTS = ("pan", "lift", "out", "along", "wrist")


def compiled(text):
    return mujoco.MjModel.from_xml_string(text)


def addresses(model, joints):
    numbers = [model.joint(joint).id for joint in joints]
    return model.jnt_qposadr[numbers], model.jnt_dofadr[numbers]


def assert_same_as_mujoco(model, joints, found, spread=1.0, tip="tip"):
    """Tip, torques and accelerations with the joints' viscous friction and no other, in 20 states."""
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    model.dof_frictionloss[:] = 0.0
    data, (at_q, at_v) = mujoco.MjData(model), addresses(model, joints)
    data.qvel[:] = 0.0
    q, v, a = np.random.default_rng(3).normal(size=(3, 20, len(joints))) * spread
    tips, axes = rigid_body.pose(np, found, q)
    torques = rigid_body.inverse_dynamics(np, found, q, v, a) + rigid_body.friction(np, found, v)
    free = forward_dynamics.acceleration(np, found, q, v, a - rigid_body.friction(np, found, v))
    for i in range(len(q)):
        data.qpos[at_q], data.qvel[at_v], data.qacc[at_v] = q[i], v[i], a[i]
        mujoco.mj_inverse(model, data)
        np.testing.assert_allclose(tips[i], data.site(tip).xpos, rtol=0, atol=1e-9)
        np.testing.assert_allclose(axes[i], data.site(tip).xmat.reshape(3, 3), rtol=0, atol=1e-9)
        np.testing.assert_allclose(torques[i], data.qfrc_inverse[at_v], rtol=0, atol=1e-9)
        data.qfrc_applied[at_v] = a[i]
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(free[i], data.qacc[at_v], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", WORLDS)
def test_the_chain_of_a_world_is_mujocos_and_the_declared_one(name):
    robot = made(name)
    model = mjcf.model(robot.world)
    found = chain(model, robot.joints, "tip")
    assert_same_as_mujoco(model, robot.joints, found)
    declared = CHAINS["panda" if name == "panda_push" else name]
    assert len(found.links) == len(declared.links)
    assert found.gravity == declared.gravity
    q, v, a = np.random.default_rng(0).normal(size=(3, 50, robot.nj))
    for ours, theirs in zip(rigid_body.pose(np, found, q), rigid_body.pose(np, declared, q), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    for what in (rigid_body.inverse_dynamics, forward_dynamics.acceleration):
        np.testing.assert_allclose(what(np, found, q, v, a), what(np, declared, q, v, a), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(rigid_body.friction(np, found, v), rigid_body.friction(np, declared, v), atol=0)


@pytest.mark.parametrize("name", ["panda", "pendulum", "cartpole"])
def test_zeros_and_ones_of_a_drawing_are_exact(name):
    """They cost nothing where they are (``rigid_body``): the arm that is read is as fast as the declared one."""
    robot = made(name)
    found = chain(mjcf.model(robot.world), robot.joints, "tip")
    for link, declared in zip(found.links, CHAINS[name].links, strict=True):
        assert link.rotation == declared.rotation
        assert link.position == declared.position


def test_a_chain_is_printed_as_it_is_typed():
    found = chain(compiled(ODD), JOINTS, "tip")
    assert eval(repr(found), vars(rigid_body)) == found


def test_odd_axes_anchors_references_slides_and_fixed_bodies():
    model = compiled(ODD)
    found = chain(model, JOINTS, "tip")
    assert [link.joint for link in found.links] == ["hinge", "hinge", "slide", "slide", "hinge"]
    assert [link.body.mass > 0.0 for link in found.links] == [False, False, True, True, True]
    assert [link.armature for link in found.links] == [0.03, 0.2, 0.03, 0.03, 0.03]
    assert [link.damping for link in found.links] == [0.4, 0.4, 3.0, 0.4, 0.4]
    moved = model.body_mass[[model.body(x).id for x in ("turret", "plate", "rail", "hand", "finger")]].sum()
    assert sum(link.body.mass for link in found.links) == pytest.approx(moved, rel=1e-12)
    assert_same_as_mujoco(model, JOINTS, found)


def test_a_world_without_gravity():
    model = compiled(ODD.replace('<option gravity="1.5 -0.7 -9"/>', '<option><flag gravity="disable"/></option>'))
    found = chain(model, JOINTS, "tip")
    assert found.gravity == (0.0, 0.0, 0.0)
    assert_same_as_mujoco(model, JOINTS, found)


BALL = ODD.replace('<joint name="wrist" axis="0 0 -1" pos="0.02 0 0"/>', '<joint name="wrist" type="ball"/>')
FREE = """<mujoco model="loose"><worldbody>
<body><freejoint name="all"/><geom size="1"/><site name="tip"/></body>
</worldbody></mujoco>"""
FINGER = ODD.replace('<geom type="capsule" fromto="0 0 0 0.1 0 0" size="0.01"/>', '<geom size="0.01"/>').replace(
    '<body name="weightless" pos="0 0.1 0"/>', '<body name="thumb"><joint name="grip"/><geom size="0.1"/></body>'
)
CABLE = '<tendon><fixed name="cable" stiffness="5"><joint joint="pan" coef="1"/></fixed></tendon>'
TENDON = ODD.replace("</mujoco>", CABLE + "</mujoco>")
EQUAL = ODD.replace("</mujoco>", "<equality>{}</equality></mujoco>")


@pytest.mark.parametrize(
    ("text", "joints", "tip", "said"),
    [
        (ODD, JOINTS, "top", "MJCF 'odd': no site 'top'; it has tip"),
        (ODD, ("pan", "elbow"), "tip", "no joint 'elbow'; it has pan, lift, out, along, wrist"),
        (ODD, JOINTS[:-1], "tip", "joints pan, lift, out, along: those that move site 'tip' are, .* along, wrist"),
        (ODD, JOINTS[::-1], "tip", "joints wrist, .* from the base outwards, pan, lift, out, along, wrist"),
        (ODD, (), "tip", "joints none: those that move site 'tip' are"),
        (BALL, JOINTS, "tip", "joint 'wrist' is a ball: a chain takes hinge or slide"),
        (FREE, ("all",), "tip", "MJCF 'loose': joint 'all' is free: a chain takes hinge or slide"),
        (FINGER, JOINTS, "tip", "body 'thumb' moves on the arm by joint 'grip', beside the chain"),
        (FINGER, (*JOINTS, "grip"), "tip", "joint 'grip' does not move site 'tip'"),
        (ODD.replace('ref="0.6"', 'stiffness="3"'), JOINTS, "tip", "joint 'pan' has stiffness 3: a chain takes 0"),
        (ODD.replace('damping="3"', 'damping="3 2"'), JOINTS, "tip", "'out' has dampingpoly 2.*: a chain takes 0"),
        (ODD.replace("<option ", '<option density="1.2" '), JOINTS, "tip", "density 1.2 of what is around the arm"),
        (ODD.replace('"finger"', '"finger" gravcomp="1"'), JOINTS, "tip", "body 'finger' has gravcomp 1"),
        (TENDON, JOINTS, "tip", "tendon 'cable' has stiffness 5: a chain takes 0"),
        (EQUAL.format('<joint joint1="pan" joint2="lift"/>'), JOINTS, "tip", "equality constraint holds joint 'pan'"),
        (EQUAL.format('<connect body1="puck" body2="hand" anchor="0 0 0"/>'), JOINTS, "tip", "holds body 'hand'"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused_by_name(text, joints, tip, said):
    with pytest.raises(WorldError, match=said) as error:
        chain(compiled(text), joints, tip)
    assert "\n" not in str(error.value)


def test_a_site_that_stands_still_is_refused():
    text = '<mujoco><worldbody><site name="tip"/></worldbody></mujoco>'
    with pytest.raises(WorldError, match="site 'tip' stands still"):
        chain(compiled(text), (), "tip")


def test_constraints_of_others_are_none_of_its(tmp_path):
    off = '<connect body1="puck" body2="hand" anchor="0 0 0" active="false"/>'
    text = EQUAL.format('<weld body1="puck" body2="table"/>' + off)
    assert chain(compiled(text), JOINTS, "tip") == chain(compiled(ODD), JOINTS, "tip")
    path = tmp_path / "odd.xml"
    path.write_text(ODD)
    assert chain(mjcf.model(path), JOINTS, "tip") == chain(compiled(ODD), JOINTS, "tip")
    path.write_text(ODD.replace("</worldbody>", ""))
    with pytest.raises(WorldError, match=r"odd\.xml"):
        mjcf.model(path)
    with pytest.raises(WorldError, match=r"none\.xml"):
        mjcf.model(tmp_path / "none.xml")
