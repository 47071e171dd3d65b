"""The picture of processes and topics is that of the running stack, and the architecture page names every topic."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import dataclass
from types import ModuleType

import pytest
from rclpy.node import Node
from shown import ROOT
from stack import PATIENCE, Stack

NODES = ("sim", "controller", "planner", "viewer")
FRAMEWORK = {"/rosout", "/parameter_events"}
Edge = tuple[str, str, str]


@pytest.fixture
def diagram(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("diagram")


@dataclass(frozen=True)
class Graph:
    """Names of topics and services by node, as the running stack has them."""

    sent: dict[str, set[str]]
    heard: dict[str, set[str]]
    offered: dict[str, set[str]]
    asked: dict[str, set[str]]

    @classmethod
    def seen_by(cls, reader: Node) -> Graph:
        known = set(reader.get_node_names())
        ask = (
            reader.get_publisher_names_and_types_by_node,
            reader.get_subscriber_names_and_types_by_node,
            reader.get_service_names_and_types_by_node,
            reader.get_client_names_and_types_by_node,
        )
        return cls(*({n: {name for name, _ in f(n, "/")} if n in known else set() for n in NODES} for f in ask))

    def edges(self) -> set[Edge]:
        """What goes from one of our processes to another one."""
        pairs = [(a, b) for a in NODES for b in NODES if a != b]
        topics = {(a, b, name) for a, b in pairs for name in self.sent[a] & self.heard[b]}
        return topics | {(a, b, name) for a, b in pairs for name in self.asked[a] & self.offered[b]}

    def lacks(self, drawn: ModuleType) -> list[str]:
        """What is drawn and not there. A person's end is no process, and what is watched waits for a page."""
        found = []
        for arrow in drawn.ARROWS:
            for name, here, there in (
                *((name, self.sent, self.heard) for name in map(full, arrow.topics)),
                *((name, self.asked, self.offered) for name in map(full, arrow.services)),
            ):
                gone = arrow.source != drawn.PERSON and name not in here[arrow.source]
                waits = name in set(map(full, drawn.WATCHED))
                lost = arrow.target != drawn.PERSON and name not in there[arrow.target] and not waits
                found += [f"{arrow.source} -> {arrow.target}: {name}"] * (gone or lost)
        return found


def full(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


def test_the_picture_is_the_graph_and_the_pages_name_its_topics(domain: int, diagram: ModuleType) -> None:
    with Stack(domain, viewer="true", extra={"viewer": "-p port:=0"}) as stack:
        give_up = time.monotonic() + PATIENCE
        while (missing := Graph.seen_by(stack.person).lacks(diagram)) and time.monotonic() < give_up:
            stack.spin()
        assert missing == []
        graph = Graph.seen_by(stack.person)
    drawn = {
        (arrow.source, arrow.target, full(name)) for arrow in diagram.ARROWS for name in arrow.topics + arrow.services
    }
    assert {edge for edge in graph.edges() - drawn if edge[2] not in diagram.UNDRAWN} == set()

    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("architecture.md", "simulation.md")]
    rows = [row for page in pages for row in re.findall(r"^\| ([^|]*`[^|]*) \|", page, re.MULTILINE)]
    named = {full(name.replace("<robot>", "panda")) for row in rows for name in re.findall(r"`([^`]+)`", row)}
    topics = set().union(*graph.sent.values(), *graph.heard.values()) - FRAMEWORK
    assert {name for name in topics if not name.endswith("/transition_event")} - named == set()
