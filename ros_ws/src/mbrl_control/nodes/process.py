"""How a node of ours lives and dies: one-line errors, a stop that is allowed to finish, no orphans."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Protocol, cast

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mbrl_control.core import MbrlError

STOP_WITHIN = 2.5
"""A node that was asked to stop leaves after this long [s], finished or not."""
PR_SET_PDEATHSIG = 1


class Stoppable(Protocol):
    """What ``run`` asks of a node, besides being one."""

    def begin_stop(self) -> None:
        """Start to come to rest; called once, at the first SIGINT or SIGTERM."""
        ...

    def stopped(self) -> bool:
        """Whether it is at rest and may go."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """What ended a thread of the node's; the process then ends as well, and loudly."""
        ...


def die_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the process that started us is gone, so that no orphan commands an arm."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def avoid_shared_memory() -> None:
    """Let Fast DDS use UDP alone, unless the environment says otherwise; before ROS is initialised.

    Its shared-memory transport keeps locks and segments in memory that processes of every priority share: one that
    is killed leaves them behind. Our messages are small, and a datagram to a dead process is nobody's business.
    """
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")


def run(make: Callable[[], Stoppable], name: str) -> int:
    """Make a node, spin it, and let it finish when it is told to stop. Returns the exit status."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _frame: asked.append(n))
    if os.environ.get("MBRL_DIE_WITH_PARENT") == "1":
        die_with_parent()
    avoid_shared_memory()
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
        stoppable = make()
    except MbrlError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:  # rcl's own complaints about arguments and parameter files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"{name}: cannot start: {first}", file=sys.stderr, flush=True)
        return 2
    node = cast(Node, stoppable)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not asked and stoppable.failure is None:
            executor.spin_once(timeout_sec=0.1)
        if stoppable.failure is not None:
            print(f"{name}: failed: {stoppable.failure!r}", file=sys.stderr, flush=True)
            return 1
        stoppable.begin_stop()
        stop_by = time.monotonic() + STOP_WITHIN
        while not stoppable.stopped() and time.monotonic() < stop_by:
            executor.spin_once(timeout_sec=0.01)
    except ExternalShutdownException:
        pass
    finally:
        executor.shutdown(timeout_sec=0.2)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
