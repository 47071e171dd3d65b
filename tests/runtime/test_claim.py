"""One guard for one arm, and the next one as soon as the first is gone, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mbrl_control.runtime.claim import ClaimError, claim

HOLD = """
import signal
from mbrl_control.runtime.claim import claim
kept = claim({0}, {1!r})
print(flush=True)
signal.pause()
"""


def test_a_claim_is_told_with_its_holder_and_ends_with_a_kill() -> None:
    topic, domain = f"/arm{os.getpid()}/joint_trajectory", 7
    holder = subprocess.Popen([sys.executable, "-c", HOLD.format(domain, topic)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        for _ in range(20):  # respawned again and again
            with pytest.raises(ClaimError, match=rf"{topic} in ROS domain 7 .* \(process {holder.pid}\); stop that"):
                claim(domain, topic)
        claim(domain + 1, topic).close()
        claim(domain, f"{topic}2").close()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    claim(domain, topic).close()
    claim(domain, topic).close()
