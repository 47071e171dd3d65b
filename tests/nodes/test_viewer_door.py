"""The door of the view, knocked at for real: HTTP and WebSocket requests to the running server."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import viser
from visitor import Visitor
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mbrl_control import registry
from mbrl_control.nodes import door, page
from mbrl_control.runtime.gate import SHIELD, Gate

TOKEN = "the-token-of-this-test"
VERSION = f"viser-v{viser.__version__}"
PATIENCE = 10.0


class Wishes:
    """What came through."""

    def __init__(self) -> None:
        self.pressed: list[str] = []
        self.dragged: list[tuple[str, list[float]]] = []

    def press(self, button: str) -> None:
        self.pressed.append(button)

    def drag(self, phase: str, point: np.ndarray) -> None:
        self.dragged.append((phase, point.tolist()))


class House:
    """A page without a stack behind it."""

    def __init__(self) -> None:
        self.wishes = Wishes()
        sock = door.listen("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.gate = Gate(TOKEN, self.port)
        self.cookie = f"{self.gate.cookie_name}={TOKEN}"
        self.origin = f"http://127.0.0.1:{self.port}"
        self.link = f"{self.origin}/?token={TOKEN}"
        self.page = page.Page(sock, self.gate, registry.make("robots", "panda"), None, self.wishes)

    def get(self, path: str = "/", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        self.body = answer.read()
        connection.close()
        return answer

    def knock(self, path: str = "/", **headers: str) -> int:
        """The status that a WebSocket handshake gets; 101 where it is let in."""
        head = {"Host": f"127.0.0.1:{self.port}", "Origin": self.origin, "Sec-WebSocket-Protocol": VERSION, **headers}
        lines = [f"GET {path} HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", *(f"{k}: {v}" for k, v in head.items() if v), "", ""]
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            sock.sendall("\r\n".join(lines).encode())
            return int(sock.recv(4096).split()[1])


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    made = House()
    yield made
    made.page.close()


def until(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_link_leads_to_the_page_and_leaves_no_token_in_the_address(house: House) -> None:
    answer = house.get(f"/?token={TOKEN}")
    assert (answer.status, answer.getheader("Location")) == (303, "/")
    cookie = answer.getheader("Set-Cookie")
    assert cookie.startswith(house.cookie)
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    answer = house.get("/", Cookie=cookie.split(";")[0])
    assert answer.status == 200
    assert b"<html" in house.body


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/", {"Cookie": "COOKIE", "Host": "evil.example"}),
        ("/", {"Cookie": "COOKIE", "Host": "evil.example:8090"}),
        ("/", {"Cookie": "COOKIE", "Origin": "http://evil.example"}),
        ("/?token=wrong", {}),
        (f"/?token={TOKEN}", {"Host": "127.0.0.1.evil.example"}),
        ("/index.html", {}),
        ("/../../../etc/passwd", {}),
    ],
)
def test_pages_are_for_those_who_have_the_token_and_ask_this_machine(house: House, path: str, headers: dict) -> None:
    headers = {name: value.replace("COOKIE", house.cookie) for name, value in headers.items()}
    answer = house.get(path, **headers)
    assert answer.status == 403
    assert b"refused" in house.body
    assert b"<html" not in house.body
    assert answer.getheader("Set-Cookie") is None


def test_nobody_may_put_the_page_into_a_frame_or_keep_it(house: House) -> None:
    for answer in (house.get("/"), house.get("/", Cookie=house.cookie), house.get(f"/?token={TOKEN}")):
        assert {name: answer.getheader(name) for name, _ in SHIELD} == dict(SHIELD)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # the right Host and Origin alone
        {"Cookie": "COOKIE", "Origin": "http://evil.example"},
        {"Cookie": "COOKIE", "Origin": "null"},
        {"Cookie": "COOKIE", "Origin": ""},  # none
        {"Cookie": "COOKIE", "Origin": "http://127.0.0.1:1"},
        {"Cookie": "COOKIE", "Host": "evil.example", "Origin": "http://evil.example"},  # DNS rebinding
        {"Cookie": "COOKIEx"},
    ],
)
def test_a_websocket_of_somebody_elses_page_is_refused_at_the_handshake(house: House, headers: dict) -> None:
    assert house.knock(**{name: value.replace("COOKIE", house.cookie) for name, value in headers.items()}) == 403
    assert not house.page.watched


def test_the_right_websocket_is_let_in(house: House) -> None:
    assert house.knock(Cookie=house.cookie) == 101
    assert house.knock(f"/?token={TOKEN}") == 101


def test_a_script_in_a_hostile_page_gets_nothing_out_of_a_websocket(house: House) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://localhost:{house.port}", origin="http://evil.example", subprotocols=[VERSION])
    assert refused.value.response.status_code == 403


def test_a_visitor_with_the_link_sees_and_asks(house: House) -> None:
    with Visitor(house.link) as visitor:
        until(lambda: {"STOP", "ARM", "RESET"} <= set(visitor.buttons))
        assert house.page.watched
        house.page.show_text(state="the guard's words", goal="", figures="")
        house.page.show_target(np.array([0.4, 0.1, 0.5]))
        until(lambda: "the guard's words" in visitor.words)
        until(lambda: np.allclose(visitor.position.get("/target", (0, 0, 0)), (0.4, 0.1, 0.5)))
        for button in ("STOP", "ARM", "RESET"):
            visitor.press(button)
            until(lambda button=button: house.wishes.pressed[-1:] == [button.lower()])
        assert house.wishes.dragged == [], "what the page shows is nobody's wish"
        visitor.drag((0.4, 0.0, 0.5), (0.4, 0.0, 0.6))
        until(lambda: house.wishes.dragged and house.wishes.dragged[-1][0] == "end")
        assert [phase for phase, _ in house.wishes.dragged] == ["start", "update", "update", "end"]
        assert house.wishes.dragged[-1][1] == pytest.approx([0.4, 0.0, 0.6])
    until(lambda: not house.page.watched)


def test_only_so_many_pages_at_a_time(house: House) -> None:
    visitors = [Visitor(house.link) for _ in range(door.MOST_PAGES)]
    try:
        assert house.knock(Cookie=house.cookie) == 503
    finally:
        for visitor in visitors:
            visitor.close()
    until(lambda: not house.page.watched)
    assert house.knock(Cookie=house.cookie) == 101


def test_a_page_is_never_shared_with_the_world(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tunnels: list[Any] = []
    monkeypatch.setattr(viser._viser, "ViserTunnel", lambda *args: tunnels.append(args))
    with Visitor(house.link) as visitor:
        until(lambda: "STOP" in visitor.buttons)
        asked = len(house.wishes.pressed)
        visitor.say({"type": "ShareUrlRequest"})
        visitor.press("ARM")
        until(lambda: len(house.wishes.pressed) > asked)
    assert tunnels == []


def test_a_huge_message_ends_the_connection_and_nothing_else(house: House) -> None:
    with Visitor(house.link) as visitor:
        until(lambda: "STOP" in visitor.buttons)
        visitor.say({"type": "GuiUpdateMessage", "uuid": "x", "updates": {"value": "x" * 2 * door.LARGEST_MESSAGE}})
        until(lambda: not visitor._thread.is_alive())
    assert house.get("/", Cookie=house.cookie).status == 200


def test_a_taken_port_is_the_next_one_and_any_when_asked() -> None:
    first = door.listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with first, door.listen("127.0.0.1", port) as second:
        assert port < second.getsockname()[1] <= port + door.PORTS_TRIED


def test_all_ports_taken_is_one_clear_error() -> None:
    with door.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(door.ViewError, match=f"cannot listen on 127.0.0.1: port {port} is taken"):
            door.listen("127.0.0.1", port, tries=1)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_one_clear_error(host: str) -> None:
    with pytest.raises(door.ViewError, match=f"cannot listen on {host} port 8090"):
        door.listen(host, 8090)


def test_a_viser_that_starts_otherwise_is_no_view_and_not_an_open_one() -> None:
    class Otherwise:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    server = Otherwise()
    with door.listen("127.0.0.1", 0) as sock:
        keeper = door.Doorkeeper(Gate(TOKEN, 1), sock)
        with pytest.raises(door.ViewError, match="no view"):
            keeper.start(lambda: server)
    assert server.stopped
