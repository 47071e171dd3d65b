"""Time in the simulation: paced by the clock, or by a guard's ticks; threads, but no ROS."""

import threading
import time
from types import SimpleNamespace

import pytest

from mbrl_control.config import ConfigError
from mbrl_sim.pace import SLIP, Pace
from mbrl_sim.stepper import Config, Stepper

MS = 1_000_000


class Counter:
    """A world that does nothing but count."""

    step_ns = MS
    robot = SimpleNamespace(state_rate=250.0)

    def __init__(self):
        self.ns, self.diverged, self.at_rest, self.dead = 0, "", True, {}

    def step(self, n):
        self.ns += n * MS

    def reset(self):
        self.ns, self.diverged = 0, ""


class Rig:
    def __init__(self, **config):
        self.world, self.published, self.said = Counter(), [], []
        self.changed = threading.Condition()
        self.stepper = Stepper(self.world, Config(realtime=False, **config), self.publish, self.said.append)
        self.stepper.start()

    def publish(self):
        with self.changed:
            self.published.append(self.world.ns // MS)
            self.changed.notify()

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, 5.0)


@pytest.fixture
def rig():
    made = []
    yield lambda **config: made.append(Rig(**config)) or made[-1]
    for one in made:
        one.stepper.join()


def test_paced_by_the_clock(rig):
    paced, start = rig(state_rate=100.0, real_time_factor=2.0), time.monotonic()
    paced.wait(lambda: len(paced.published) > 20)
    assert paced.published[:3] == [0, 10, 20]
    assert time.monotonic() - start > 0.095


def test_the_system_stamp_is_when_a_state_was_due():
    pace = Pace(1.0)
    assert pace.system(5 * MS) - pace.system(0) == pytest.approx(5 * MS, abs=MS)
    assert pace.system(0) == pytest.approx(time.time_ns(), abs=100 * MS)


def test_what_is_a_little_late_is_caught_up_and_what_is_very_late_is_given_up():
    pace = Pace(1.0)
    pace._monotonic -= SLIP // 2
    assert pace.wait(0) >= SLIP // 2
    assert pace.slips == 0
    pace._monotonic -= SLIP
    assert pace.wait(0) >= SLIP
    assert (pace.slips, pace.wait(0) < SLIP // 2) == (1, True)


def test_lockstep_shows_the_first_state_again_and_advances_by_ticks_only(rig):
    locked = rig(lockstep=True)
    locked.wait(lambda: len(locked.published) >= 3)
    assert set(locked.published) == {0}
    for k in range(5):
        locked.stepper.tick(k * 10 * MS)
        locked.wait(lambda k=k: locked.published[-1] == 10 * (k + 1))
    locked.stepper.tick(20 * MS)  # an old one
    locked.stepper.tick(900 * MS)  # one from before a reset
    assert locked.published[-1] == 50


def test_lockstep_waits_for_the_command_that_a_tick_tells_of(rig):
    locked, done = rig(lockstep=True), []
    for now in (0, 10 * MS, 20 * MS):
        locked.stepper.tick(now + 1)
        time.sleep(0.01)
        assert locked.world.ns == now
        locked.stepper.put(lambda: done.append(locked.world.ns))
        locked.wait(lambda now=now: locked.published[-1] * MS == now + 10 * MS)
    assert done == [0, 10 * MS, 20 * MS]
    assert (locked.stepper.accepted, locked.stepper.unanswered) == (3, 0)
    locked.stepper.tick(30 * MS + 1)  # and does not wait for ever
    locked.wait(lambda: locked.published[-1] == 40)
    assert locked.stepper.unanswered == 1


def test_a_reset_while_a_tick_is_awaited_starts_again(rig):
    locked = rig(lockstep=True)
    locked.stepper.tick(0)
    locked.wait(lambda: locked.published[-1] == 10)
    locked.stepper.reset()
    locked.wait(lambda: locked.published[-1] == 0)
    locked.stepper.tick(10 * MS)  # meant for the world before
    locked.stepper.tick(0)
    locked.wait(lambda: locked.published[-1] == 10)


def test_states_come_as_often_as_from_the_robots_driver(rig):
    paced = rig(real_time_factor=0.0)
    paced.wait(lambda: len(paced.published) > 3)
    assert paced.published[:3] == [0, 4, 8]


def test_says_what_it_does(rig):
    paced = rig(state_rate=200.0)
    paced.stepper.pause(True)
    count = len(paced.published)
    assert paced.stepper.step_once() is None
    assert len(paced.published) == count + 1
    paced.stepper.pause(False)
    assert paced.stepper.step_once() == "only while paused"
    paced.world.diverged = "gone"
    paced.stepper.put(lambda: None)
    paced.stepper.pause(True)
    assert paced.stepper.step_once() == "gone"
    paced.stepper.reset()
    assert paced.said == ["RUNNING", "PAUSED", "RUNNING", "DIVERGED gone", "PAUSED"]


@pytest.mark.parametrize("at_rest", [True, False])
def test_goes_on_until_the_arm_rests(rig, at_rest):
    paced = rig(real_time_factor=0.0)
    paced.world.at_rest = at_rest
    paced.stepper.begin_stop(0.2)
    asked = time.monotonic()
    paced.stepper._thread.join(2.0)
    assert paced.stepper.stopped()
    assert (time.monotonic() - asked > 0.15) == (not at_rest)


def test_counts_what_is_rejected(rig):
    paced = rig(real_time_factor=0.0)
    paced.stepper.put(lambda: "no good")
    paced.wait(lambda: paced.stepper.rejected == 1)
    report = paced.stepper.report()
    assert (report["commands_rejected"], report["last_rejection"], report["commands_accepted"]) == (1, "no good", 0)
    assert float(str(report["real_time_factor"])) > 1.0


def test_what_ends_the_thread_is_kept(rig, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    paced = rig(real_time_factor=0.0)
    paced.stepper.put(lambda: 1 / 0)
    paced.stepper._thread.join(2.0)
    assert paced.stepper.stopped()
    assert isinstance(paced.stepper.failure, ZeroDivisionError)


def test_periods_are_whole_steps():
    for config in (Config(state_rate=300.0), Config(lockstep=True, lockstep_period=0.0105)):
        with pytest.raises(ConfigError, match="whole steps of the physics, 1 ms each"):
            Stepper(Counter(), config, lambda: None, lambda _: None)
