"""Starts processes, watches them, and leaves none behind.

``ProcessSpec`` says what to start, ``Launcher`` starts, watches and stops, ``run`` does so until all is over or
Ctrl-C. Nothing here knows launch files.

One thing is on purpose not as in ``ros2 launch``: a process that fails takes the others with it, unless it
respawns, so that an arm is not left to half a control stack. (``on_exit: shutdown`` makes ``ros2 launch`` do the
same.) A stop is SIGINT first, SIGTERM and SIGKILL for whoever does not follow (``ESCALATION``); each process heads
a group of its own, and what is left of the group goes when its head is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mbrl_control.core import MbrlError

ESCALATION = ((0.0, signal.SIGINT), (3.0, signal.SIGTERM), (4.0, signal.SIGKILL))
"""How long after a stop was asked for [s] the children get which signal."""
LONGEST_LINE = 65536
PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class ParameterFile:
    """A ROS parameter file that is written when its process starts; stands in the arguments for its path."""

    text: str


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start."""

    name: str
    """The node's name, made unique."""
    argv: tuple[str | ParameterFile, ...]
    env: Mapping[str, str]
    respawn: bool = False
    respawn_delay: float = 0.0
    essential: bool = False
    """Its end ends the whole, even when it finished well (``on_exit: shutdown``)."""
    notes: tuple[str, ...] = ()
    """What is odd about it, to be told when it starts."""

    def command(self, write: Callable[[ParameterFile], str]) -> list[str]:
        """The arguments as texts; ``write`` gives the path of a parameter file."""
        return [arg if isinstance(arg, str) else write(arg) for arg in self.argv]

    def with_env(self, more: Mapping[str, str]) -> ProcessSpec:
        """The same with these variables set besides."""
        return replace(self, env={**self.env, **more})


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one process."""

    name: str
    pid: int
    status: int
    """The exit status, or minus the signal that killed it."""
    again: float | None
    """It is started again after this long [s]; None: it is not."""

    def __str__(self) -> str:
        if self.status < 0:
            known = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {known.get(-self.status, f'signal {-self.status}')}"
        else:
            how = f"ended with status {self.status}" if self.status else "finished"
        again = "" if self.again is None else f"; starts again in {self.again:g} s"
        return f"{self.name} (pid {self.pid}) {how}{again}"


@dataclass(eq=False)
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    pidfd: int
    output: int
    partial: bytearray = field(default_factory=bytearray)


def _print_line(name: str, line: str) -> None:
    print(f"[{name}] {line}", flush=True)


class Launcher:
    """Starts processes, passes on what they print, tells when one ends, and leaves none behind.

    ``with Launcher(specs) as launcher: while launcher.poll(): ...`` starts on entry and stops on exit. ``poll``
    blocks until something happens; whoever waits for signals or other threads calls ``wake`` to return from it.

    Each child is the head of a process group of its own, so that the terminal's Ctrl-C reaches the launcher alone.
    The kernel terminates it when the *thread* that started it is gone: start and poll from one that lives.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        on_line: Callable[[str, str], None] = _print_line,
        on_exit: Callable[[Exit], None] = lambda _: None,
    ) -> None:
        self.specs = tuple(specs)
        self.exits: list[Exit] = []
        """Every end so far, in order."""
        self.status = 0
        """0, or the status of the process whose failure ended the whole."""
        self._on_line, self._on_exit = on_line, on_exit
        self._children: dict[str, _Child] = {}
        self._due: dict[str, float] = {}
        self._stop: list[tuple[float, signal.Signals]] | None = None
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: os.eventfd_read(self._wake))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._commands: dict[str, list[str]] = {}

    def __enter__(self) -> Launcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether anything runs, or will be started again."""
        return bool(self._children or self._due)

    @property
    def stopping(self) -> bool:
        return self._stop is not None

    def pids(self) -> dict[str, int]:
        """The processes that run now, by node name."""
        return {name: child.process.pid for name, child in self._children.items()}

    def start(self) -> None:
        """Start everything; if something cannot be started, nothing is left running."""
        for note in dict.fromkeys(note for spec in self.specs for note in spec.notes):
            self._on_line("launch", note)
        try:
            for spec in self.specs:
                self._start(spec)
        except MbrlError:
            self.stop()
            raise

    def poll(self, timeout: float | None = None) -> bool:
        """Wait until something happens, at most ``timeout`` [s], and deal with it. False: nothing runs any more."""
        if not self.alive:
            return False
        times = [*self._due.values(), *(at for at, _ in (self._stop or [])[:1])]
        waits = [] if timeout is None else [timeout]
        waits += [max(0.0, at - time.monotonic()) for at in times]
        for key, _ in self._selector.select(min(waits, default=None)):
            key.data()
        self._start_due()
        self._signal_due()
        return self.alive

    def wake(self) -> None:
        """Make ``poll`` return; may be called from a signal handler or another thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def begin_stop(self) -> None:
        """Ask everything to stop, and return at once: ``poll`` does the rest. Once is enough."""
        if self._stop is None:
            now = time.monotonic()
            self._stop = [(now + after, number) for after, number in ESCALATION]
            self._due.clear()
            self._signal_due()

    def stop(self) -> int:
        """Stop everything and wait for it; a Ctrl-C meanwhile changes nothing. Returns the exit status."""
        with _deaf_to_sigint():
            self.begin_stop()
            while self.poll():
                pass
            if self._wake >= 0:
                self._selector.close()
                os.close(self._wake)
                self._wake = -1
            if self._folder:
                self._folder.cleanup()
        return self.status

    def _start(self, spec: ProcessSpec) -> None:
        if spec.name not in self._commands:
            self._commands[spec.name] = spec.command(partial(self._write, spec.name))
        command = self._commands[spec.name]
        output, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                env={"PYTHONUNBUFFERED": "1", **spec.env, "MBRL_DIE_WITH_PARENT": "1"},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                process_group=0,
                preexec_fn=partial(_in_child, os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(output)
            why = getattr(error, "strerror", None) or error
            raise MbrlError(f"{spec.name}: cannot start {command[0]}: {why}") from None
        finally:
            os.close(theirs)
        os.set_blocking(output, False)
        child = _Child(spec, process, os.pidfd_open(process.pid), output)
        self._selector.register(child.output, selectors.EVENT_READ, partial(self._read, child))
        self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._ended, child))
        self._children[spec.name] = child

    def _write(self, name: str, parameters: ParameterFile) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="mbrl-launch-")
        folder = Path(self._folder.name)
        path = folder / f"{name}-{len(list(folder.iterdir()))}.yaml"
        path.write_text(parameters.text, encoding="utf-8")
        return str(path)

    def _read(self, child: _Child) -> None:
        if self._children.get(child.spec.name) is not child:
            return  # its end came in the same moment and has been dealt with
        try:
            data = os.read(child.output, LONGEST_LINE)
        except BlockingIOError:
            return
        if data:
            self._lines(child, data)
        else:
            self._close(child)

    def _close(self, child: _Child) -> None:
        self._selector.unregister(child.output)
        os.close(child.output)
        child.output = -1

    def _lines(self, child: _Child, data: bytes, last: bool = False) -> None:
        child.partial += data
        *lines, rest = bytes(child.partial).split(b"\n")
        if rest and (last or len(rest) >= LONGEST_LINE):
            lines, rest = [*lines, rest], b""
        child.partial = bytearray(rest)
        for line in lines:
            try:
                self._on_line(child.spec.name, line.decode("utf-8", errors="replace").rstrip("\r"))
            except BrokenPipeError:  # nobody reads us any more
                self._on_line = lambda _name, _line: None
                self.begin_stop()

    def _ended(self, child: _Child) -> None:
        """The head of a group is gone: what is left of its group goes too, then tell."""
        spec, pid = child.spec, child.process.pid
        _signal_group(pid, signal.SIGKILL)  # while the dead head still holds the group's number
        status = child.process.wait()
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        rest = bytearray()
        if child.output >= 0:
            with contextlib.suppress(BlockingIOError):
                while (data := os.read(child.output, LONGEST_LINE)) and len(rest) < 16 * LONGEST_LINE:
                    rest += data
            self._close(child)
        del self._children[spec.name]
        again = spec.respawn_delay if spec.respawn and self._stop is None else None
        end = Exit(spec.name, pid, status, again)
        self.exits.append(end)
        failed = status != 0 if self._stop is None else status == -signal.SIGKILL
        if again is not None:
            self._due[spec.name] = time.monotonic() + again
        else:
            if failed:
                self.status = self.status or (status if status > 0 else 128 - status)
            if failed or spec.essential:
                self.begin_stop()
        self._lines(child, bytes(rest), last=True)
        self._on_exit(end)

    def _start_due(self) -> None:
        now = time.monotonic()
        for spec in self.specs:
            if spec.name in self._due and self._due[spec.name] <= now:
                del self._due[spec.name]
                try:
                    self._start(spec)
                except MbrlError as error:
                    self._on_line(spec.name, str(error))
                    self.status = self.status or 1
                    self.begin_stop()

    def _signal_due(self) -> None:
        while self._stop and self._stop[0][0] <= time.monotonic():
            _, number = self._stop.pop(0)
            for child in self._children.values():
                _signal_group(child.process.pid, number)


def _signal_group(head: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(head, number)


def _in_child(parent: int) -> None:
    """Between fork and exec: go when the launcher goes, even if it was killed, and hear SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def _deaf_to_sigint() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(specs: Sequence[ProcessSpec], on_line: Callable[[str, str], None] = _print_line) -> Launcher:
    """Run until all have finished, one has failed, or SIGINT, SIGTERM or SIGHUP comes; then stop the rest."""
    asked: list[int] = []
    told: list[Exit] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        launcher.wake()

    def tell(end: Exit) -> None:
        cause = launcher.stopping and launcher.alive and not asked and not told
        print(f"mbrl launch: {end}{'; stopping the rest' if cause else ''}", file=sys.stderr, flush=True)
        if launcher.stopping:
            told.append(end)

    launcher = Launcher(specs, on_line, tell)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with launcher:
            while launcher.poll():
                if asked:
                    launcher.begin_stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return launcher
