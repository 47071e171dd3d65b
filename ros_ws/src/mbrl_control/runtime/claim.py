"""One guard for each arm: the first one on a machine claims the command topic, a second one is told who has it.

The claim is an address in Linux's abstract socket namespace. It is as wide as DDS on the loopback interface is (one
network namespace, every user), leaves nothing behind on the disk, and the kernel takes it back the moment its
process is gone, however that ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct

from mbrl_control.core import MbrlError


class ClaimError(MbrlError):
    """The arm has a guard already."""


def claim(domain: int, topic: str) -> socket.socket:
    """Claim a command topic (its full name) in a ROS domain; it is ours until the socket is closed."""
    address = f"\0mbrl_control.{domain}.{hashlib.sha256(topic.encode()).hexdigest()[:32]}"
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.bind(address)
    except OSError:
        ours.close()
        raise ClaimError(
            f"{topic} in ROS domain {domain} is commanded by another guard on this machine{_holder(address)}; "
            "stop that one first"
        ) from None
    ours.listen(socket.SOMAXCONN)  # nobody accepts: to connect is enough to learn who we are
    return ours


def _holder(address: str) -> str:
    """The process that holds an address, in words, where it can be told."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(0.2)
        asking.connect(address)
        found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f" (process {struct.unpack('3i', found)[0]})"
    return ""
