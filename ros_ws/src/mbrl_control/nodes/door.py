"""The door of a page in the browser: where it listens, and who may come in.

viser serves page and WebSocket from one port and takes no hook for who may come in, so ``Doorkeeper`` puts the gate
(``runtime/gate.py``) into the one call by which viser starts listening. No ROS in here.
"""

from __future__ import annotations

import contextlib
import errno
import http
import io
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import viser
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from mbrl_control.core import MbrlError
from mbrl_control.runtime.gate import SHIELD, Gate, loopback, new_token

PORT = 8090
"""Where nobody says otherwise."""
PORTS_TRIED = 20
"""Where the wanted port is taken, the next free one of so many is used."""
LARGEST_MESSAGE = 65536
"""From a browser [bytes]."""
MOST_PAGES = 8
"""Pages that may be open at a time."""


class ViewError(MbrlError):
    """A view that cannot be served as asked."""


def listen(host: str, port: int, tries: int = PORTS_TRIED) -> socket.socket:
    """A socket bound to ``port``, or to the next free one of so many; 0 takes any."""
    wanted = [0] if port == 0 else range(port, min(port + tries, 65536))
    for number in wanted:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(address)
                sock.listen()
            except OSError:
                sock.close()
                raise
            return sock
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ViewError(f"cannot listen on {host} port {number}: {error.strerror or error}") from None
    taken = f"the ports {wanted[0]} to {wanted[-1]} are all taken" if len(wanted) > 1 else f"port {port} is taken"
    raise ViewError(f"cannot listen on {host}: {taken}")


def gate_of(sock: socket.socket, host: str) -> Gate:
    """The gate of a page that listens there, with a token of its own.

    Where ``host`` is more than loopback, this machine's names and addresses count too.
    """
    names = () if loopback(host) else (socket.gethostname().lower(), socket.getfqdn().lower())
    return Gate(new_token(), sock.getsockname()[1], names)


def link(host: str, gate: Gate) -> str:
    """What lets a person in."""
    return f"{url(host, gate)}/?token={gate.token}"


def url(host: str, gate: Gate) -> str:
    """The page, without the token."""
    return f"http://{f'[{host}]' if ':' in host else host}:{gate.port}"


class _Server(viser.ViserServer):
    """viser's server without its public sharing: a page that can arm a robot is not for the world."""

    def request_share_url(self, verbose: bool = True) -> str | None:  # noqa: ARG002 - viser's own signature
        return None


class Doorkeeper:
    """Applies a gate to the requests of viser's server, and counts the pages that are open."""

    def __init__(self, gate: Gate, sock: socket.socket) -> None:
        self.gate, self.pages = gate, 0
        self._sock = sock
        self._log = logging.getLogger(f"{__name__}.websockets")
        self._log.setLevel(logging.CRITICAL)  # strangers who knock and go are no news

    def serve(self, label: str) -> viser.ViserServer:
        """The server behind this door."""
        host, port = self._sock.getsockname()[:2]
        with silence():
            return self.start(lambda: _Server(host, port, label=label, verbose=False))

    def start(self, make: Callable[[], viser.ViserServer]) -> viser.ViserServer:
        """Make the server with its requests judged here from the first one on."""
        plain, started = websockets.asyncio.server.serve, []

        def serve(handler: Any, _host: str, _port: int, **options: Any) -> Any:
            started.append(True)
            options["process_request"] = self._judged(options["process_request"])
            options |= {"sock": self._sock, "max_size": LARGEST_MESSAGE, "logger": self._log}
            return plain(self._counted(handler), **options)

        websockets.asyncio.server.serve = serve
        try:
            server = make()
        finally:
            websockets.asyncio.server.serve = plain
        if not started:
            server.stop()
            raise ViewError(f"viser {viser.__version__} does not start its server as version 1.1 does: no view")
        return server

    def _judged(self, answer: Callable[[ServerConnection, Request], Response | None]) -> Callable[..., Response | None]:
        def judge(connection: ServerConnection, request: Request) -> Response | None:
            headers, websocket = request.headers, "Upgrade" in request.headers
            hosts, origins, cookies = (headers.get_all(name) for name in ("Host", "Origin", "Cookie"))
            verdict = self.gate.judge(request.path, hosts, origins, cookies, websocket)
            if verdict.kind == "redirect":
                response = connection.respond(http.HTTPStatus.SEE_OTHER, "")
                response.headers["Location"], response.headers["Set-Cookie"] = "/", verdict.cookie
            elif verdict.kind == "refuse":
                response = connection.respond(http.HTTPStatus.FORBIDDEN, f"refused: {verdict.why}\n")
            elif websocket and self.pages >= MOST_PAGES:
                response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open\n")
            else:
                response = answer(connection, request)
            if response is not None:
                for name, value in SHIELD:
                    response.headers[name] = value
            return response

        return judge

    def _counted(self, handler: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
        async def handle(connection: ServerConnection) -> None:
            self.pages += 1
            try:
                await handler(connection)
            finally:
                self.pages -= 1

        return handle


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """viser greets and says goodbye on the standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
