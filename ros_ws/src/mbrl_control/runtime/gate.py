"""Who may come in: what a request to the browser view must bring along. No network, no clock.

The view listens on this machine only, but every page that a browser shows can reach this machine too. So a request
must be addressed to us by a name that no stranger can have made point here (``Host``; DNS rebinding), it must come
from a page of ours (``Origin``; a WebSocket is not bound by the browser's same-origin policy, RFC 6455 section 10.2),
and it must know the token, which the node prints. The link hands the token over once, in its query; a cookie keeps it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

TOKEN_BYTES = 16
AUTHORITY = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::\d{1,5})?")
SHIELD = (
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
)
"""Headers of every answer: nobody puts our page into a frame of theirs and has a person click through it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request."""

    kind: Literal["enter", "redirect", "refuse"]
    why: str = ""
    cookie: str = ""
    """Goes with a redirect: keeps the token out of the address bar and the history."""


ENTER = Verdict("enter")


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Gate:
    """Judges requests by their head alone."""

    token: str
    port: int
    names: tuple[str, ...] = ()
    """Names of this machine, where the view was asked to listen on more than loopback; addresses then count too."""

    def judge(
        self, target: str, hosts: Sequence[str], origins: Sequence[str], cookies: Sequence[str], websocket: bool
    ) -> Verdict:
        """``target`` is the path with its query; the others are every value of the headers of that name."""
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return Verdict("refuse", f"Host '{', '.join(hosts)[:100]}' is not this machine")
        if origins and list(origins) != [f"http://{hosts[0]}"]:
            return Verdict("refuse", f"Origin '{', '.join(origins)[:100]}' is not this page")
        if websocket and not origins:
            return Verdict("refuse", "a WebSocket without an Origin")
        given = parse_qs(target.partition("?")[2]).get("token", [])
        if any(self._right(token) for token in given):
            cookie = f"{self.cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            return ENTER if websocket else Verdict("redirect", cookie=cookie)
        if any(self._right(token) for token in self._kept(cookies)):
            return ENTER
        return Verdict("refuse", "a wrong token" if given else "no token; open the link that the viewer printed")

    @property
    def cookie_name(self) -> str:
        """With the port: cookies belong to a host, and this host may show several views."""
        return f"mbrl_view_{self.port}"

    def _ours(self, host: str) -> bool:
        """Addresses cannot be rebound, names can. Any port: people forward ours to another one, as ssh -L does."""
        match = AUTHORITY.fullmatch(host)
        if match is None:
            return False
        name = match["address"] or match["name"].lower()
        if loopback(name) or name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self.names)

    def _kept(self, cookies: Sequence[str]) -> list[str]:
        """Our cookie's values; what other programs on this host keep beside it may look like anything."""
        pairs = (pair.strip().partition("=") for header in cookies for pair in header.split(";"))
        return [value for name, _, value in pairs if name == self.cookie_name]

    def _right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode("utf-8", "surrogatepass"), self.token.encode())
