"""What every test shares: shapes are checked, and no test hears another one's ROS topics."""

import itertools
import os

import pytest

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")

from mbrl_control import core

core.SHAPE_CHECKS = True

_counted = itertools.count()


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of the test's own, 1 to 100, in ROS_DOMAIN_ID for it and the processes it starts.

    Counted up from a place that depends on the process, so that workers side by side keep apart.
    """
    number = 1 + (os.getpid() * 37 + next(_counted)) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number
