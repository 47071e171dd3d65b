"""A visitor of the page without a browser: reads and decodes all that one would get, and says what one would say."""

from __future__ import annotations

import threading
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import msgspec
import viser
import zstandard
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (2.0, -2.0, 1.0),
    "fov": 0.6,
    "near": 0.1,
    "far": 100.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}


class Visitor:
    """Connected while it lasts; a thread of its own reads."""

    def __init__(self, link: str) -> None:
        base = link.split("/?")[0]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        opener.open(link).read()  # the page, and the cookie on the way
        (cookie,) = next(h for h in opener.handlers if hasattr(h, "cookiejar")).cookiejar
        self._socket = connect(
            f"ws://{urlsplit(base).netloc}",
            origin=base,
            subprotocols=[f"viser-v{viser.__version__}"],
            additional_headers={"Cookie": f"{cookie.name}={cookie.value}"},
            max_size=None,
            compression=None,
        )
        self.messages = 0
        self.bytes = 0
        self.buttons: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        """Sliders and lists, by their words."""
        self.props: dict[str, dict[str, Any]] = {}
        """What is known of them."""
        self.position: dict[str, tuple[float, ...]] = {}
        self._html: dict[str, str] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.say(CAMERA)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
        self._thread.join()

    def say(self, message: dict[str, Any]) -> None:
        self._socket.send(msgspec.msgpack.encode(message))

    def press(self, label: str) -> None:
        self.say({"type": "GuiUpdateMessage", "uuid": self.buttons[label], "updates": {"value": True}})

    def turn(self, label: str, value: Any) -> None:
        """A slider or a list to a value."""
        self.say({"type": "GuiUpdateMessage", "uuid": self.inputs[label], "updates": {"value": value}})

    def reads(self, label: str, prop: str = "value") -> Any:
        """What a slider or a list shows."""
        return self.props[self.inputs[label]][prop]

    def drag(self, *points: tuple[float, float, float]) -> None:
        """The arrows, through these points, and let go."""
        name = {"name": "/goal", "owner": ""}
        self.say({"type": "TransformControlsDragStartMessage", **name})
        for point in points:
            pose = {"wxyz": (1.0, 0.0, 0.0, 0.0), "position": point}
            self.say({"type": "TransformControlsUpdateMessage", **pose, **name})
        self.say({"type": "TransformControlsDragEndMessage", **name})

    @property
    def words(self) -> str:
        """What stands in the panel, with its mark-up."""
        return "\n".join(self._html.copy().values())

    def _read(self) -> None:
        decompress = zstandard.ZstdDecompressor().decompress
        try:
            for frame in self._socket:
                assert isinstance(frame, bytes)
                size = int.from_bytes(frame[8:16], "little")
                self.bytes += len(frame)
                for message in msgspec.msgpack.decode(decompress(frame[16 : 16 + size]))["messages"]:
                    self.messages += 1
                    self._take(message)
        except ConnectionClosed:
            pass

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "GuiButtonMessage":
                self.buttons[message["props"]["label"]] = message["uuid"]
            case "GuiSliderMessage" | "GuiDropdownMessage":
                self.inputs[message["props"]["label"]] = message["uuid"]
                self.props[message["uuid"]] = {**message["props"], "value": message["value"]}
            case "GuiHtmlMessage":
                self._html[message["uuid"]] = message["props"]["content"]
            case "GuiUpdateMessage" if "content" in message["updates"]:
                self._html[message["uuid"]] = message["updates"]["content"]
            case "GuiUpdateMessage" if message["uuid"] in self.props:
                self.props[message["uuid"]].update(message["updates"])
            case "SetPositionMessage":
                self.position[message["name"]] = tuple(message["position"])
