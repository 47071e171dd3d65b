"""Who may come in to the view: every way in that is refused, and the few that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_control.runtime.gate import Gate, loopback, new_token

TOKEN = "right-token"
GATE = Gate(TOKEN, 8090)
HOST, ORIGIN = "127.0.0.1:8090", "http://127.0.0.1:8090"
COOKIE = f"{GATE.cookie_name}={TOKEN}"


def judge(
    target: str = "/",
    host: str | None = HOST,
    origin: str | None = None,
    cookie: str | None = None,
    websocket: bool = False,
    gate: Gate = GATE,
) -> str:
    hosts, origins, cookies = ([value] if value is not None else [] for value in (host, origin, cookie))
    return gate.judge(target, hosts, origins, cookies, websocket).kind


def test_the_link_hands_the_token_over_to_a_cookie() -> None:
    verdict = GATE.judge(f"/?token={TOKEN}", [HOST], [], [], False)
    assert verdict.kind == "redirect"
    name, _, rest = verdict.cookie.partition("=")
    assert name == GATE.cookie_name
    assert rest.split("; ")[0] == TOKEN
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rest.split("; "))
    assert judge("/", cookie=COOKIE) == "enter"
    assert judge("/", origin=ORIGIN, cookie=COOKIE, websocket=True) == "enter"


def test_a_program_may_bring_the_token_along_with_its_websocket() -> None:
    assert judge(f"/?token={TOKEN}", origin=ORIGIN, websocket=True) == "enter"


@pytest.mark.parametrize(
    "host", [HOST, "localhost:8090", "LOCALHOST:8090", "[::1]:8090", "127.0.0.1", "localhost:9000"]
)
def test_every_name_of_this_machine_is_ours_and_any_port_since_ports_are_forwarded(host: str) -> None:
    assert judge(host=host, cookie=COOKIE) == "enter"
    assert judge(host=host, origin=f"http://{host}", cookie=COOKIE, websocket=True) == "enter"


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8090", "127.0.0.1.evil.example", "localhost.evil.example", "8.8.8.8",
        "192.168.1.2:8090", "evil.example@127.0.0.1", "127.0.0.1/evil", "127.0.0.1:8090 x", "127.0.0.1:123456", "[::2]",
    ],
)  # fmt: skip
def test_a_name_that_a_stranger_can_point_here_is_refused_whatever_else_is_right(host: str | None) -> None:
    assert judge(f"/?token={TOKEN}", host=host, cookie=COOKIE) == "refuse"
    assert judge("/", host=host, origin=f"http://{host}", cookie=COOKIE, websocket=True) == "refuse"


def test_two_hosts_or_two_origins_are_refused() -> None:
    assert GATE.judge("/", [HOST, HOST], [], [COOKIE], False).kind == "refuse"
    assert GATE.judge("/", [HOST], [ORIGIN, "http://evil.example"], [COOKIE], True).kind == "refuse"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "https://127.0.0.1:8090", "http://127.0.0.1:3000", "http://localhost:8090",
        "http://127.0.0.1:8090.evil.example", "", "file://",
    ],
)  # fmt: skip
def test_a_page_of_somebody_else_is_refused_although_the_browser_sends_our_cookie(origin: str) -> None:
    assert judge(origin=origin, cookie=COOKIE, websocket=True) == "refuse"
    assert judge(f"/?token={TOKEN}", origin=origin, cookie=COOKIE) == "refuse"


def test_a_websocket_without_an_origin_comes_from_no_browser_page() -> None:
    assert judge(f"/?token={TOKEN}", cookie=COOKIE, websocket=True) == "refuse"


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize(
    ("target", "cookie"),
    [
        ("/", None),
        ("/", f"mbrl_view_8091={TOKEN}"),
        ("/", f"{GATE.cookie_name}=wrong"),
        ("/", f"{GATE.cookie_name}="),
        ("/?token=", None),
        ("/?token=wrong", None),
        (f"/?token={TOKEN}x", None),
        (f"/{TOKEN}", None),
        (f"/?tokens={TOKEN}", None),
        ("/?token=\udcff", "\udcff"),
    ],
)
def test_without_the_token_there_is_nothing(target: str, cookie: str | None, websocket: bool) -> None:
    assert judge(target, origin=ORIGIN, cookie=cookie, websocket=websocket) == "refuse"


def test_cookies_of_other_programs_on_this_host_are_in_nobodys_way() -> None:
    assert judge(cookie=f'other={{"a": "b"}}; broken; =; {COOKIE}; x=y=z') == "enter"


def test_beyond_loopback_addresses_and_own_names_count_and_other_names_still_do_not() -> None:
    gate = Gate(TOKEN, 8090, ("lab-pc",))
    cookie = f"{gate.cookie_name}={TOKEN}"
    assert judge(host="192.168.1.2:8090", cookie=cookie, gate=gate) == "enter"
    assert judge(host="Lab-PC:8090", cookie=cookie, gate=gate) == "enter"
    assert judge(host="evil.example:8090", cookie=cookie, gate=gate) == "refuse"


def test_what_loopback_is() -> None:
    assert all(loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(loopback(host) for host in ("0.0.0.0", "192.168.1.2", "::", "lab-pc", ""))


def test_tokens_are_long_and_new_each_time() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert all(len(new_token()) >= 22 for _ in range(10))


anything = st.text(max_size=40)


@given(anything, st.lists(anything, max_size=2), st.lists(anything, max_size=2), st.lists(anything, max_size=2))
def test_garbage_is_refused_and_never_an_error(target: str, hosts: list, origins: list, cookies: list) -> None:
    for websocket in (False, True):
        assert GATE.judge(target, hosts, origins, cookies, websocket).kind == "refuse"
        assert GATE.judge(target, [HOST], origins, cookies, websocket).kind == "refuse"
