"""What is seen of the bodies around a robot: what is missing, too old or no number stands against planning."""

import numpy as np
import pytest

from mbrl_control.core import Block
from mbrl_control.runtime.sight import Sight, SightError

PLACE = Block("puck", 3, "m", "linear", "puck", 0.2)
SPEED = Block("puck_velocity", 3, "m/s", "linear", "puck", 0.5)
HERE, STILL = np.array([0.5, 0.0, 0.03]), np.zeros(3)


def test_the_topics_of_a_block_are_its_bodys():
    assert (PLACE.topic, SPEED.topic) == ("puck/pose", "puck/twist")


def test_each_block_is_wanted_and_may_be_as_old_as_it_says():
    sight = Sight((PLACE, SPEED))
    assert sight.lacking(10.0) == "no puck yet"
    assert sight.since == -np.inf
    sight.put("puck", 10.0, HERE)
    assert sight.lacking(10.0) == "no puck_velocity yet"
    sight.put("puck_velocity", 9.9, STILL)
    assert sight.lacking(10.19) == ""
    assert sight.since == 9.9
    assert sight.lacking(10.21) == "puck too old"
    sight.put("puck", 10.4, HERE)
    assert sight.lacking(10.41) == "puck_velocity too old"


def test_what_is_stamped_ahead_of_our_clock_does_not_stay_new_for_ever():
    sight = Sight((PLACE,))
    sight.put("puck", 3600.0, HERE)
    assert sight.lacking(10.0) == "puck too old"


def test_what_is_not_finite_is_refused_and_the_last_good_one_stays():
    sight = Sight((PLACE,))
    sight.put("puck", 1.0, HERE)
    with pytest.raises(SightError, match=r"block 'puck' is \[nan, 0.0, 0.0\]; it takes 3 finite numbers \[m\]"):
        sight.put("puck", 2.0, np.array([np.nan, 0.0, 0.0]))
    blocks, stamps = sight.now()
    assert stamps == {"puck": 1.0}
    np.testing.assert_array_equal(blocks["puck"], HERE)


def test_a_robot_with_nothing_around_it_lacks_nothing():
    assert Sight(()).lacking(10.0) == ""
    assert Sight(()).since == np.inf
