"""The site: it builds without a warning, has every page, and loads nothing from afar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shown import ROOT, ended, typed

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|object|embed)[^>]*?(?:src|data)=["']([^"']+)"""
    r"""|<link[^>]*?href=["']([^"']+)|url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)|\bimport\(["']([^"']+)"""
)
PAGE = {"README", "CONTRIBUTING", "CHANGELOG", *(f"docs/{page.stem}" for page in (ROOT / "docs").glob("*.md"))}


@pytest.fixture(scope="module")
def site(checkout: Path) -> Path:
    process = typed("make docs", checkout)
    said = ended(process, 100.0)
    assert process.returncode == 0, said
    return checkout / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    for page in PAGE:
        assert (site / f"{page}.html").is_file(), page
    shown = (site / "README.html").read_text(encoding="utf-8")
    navigation = set(re.findall(r'<li class="toctree-l1[^"]*"><a class="reference internal" href="([^"#]+)"', shown))
    assert navigation >= {f"{page}.html" for page in PAGE - {"README"}}


def test_nothing_is_loaded_from_afar(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert len(files) > 20
    for path in files:
        for found in LOADED.findall(path.read_text(encoding="utf-8")):
            address = next(filter(None, found))
            assert not re.match(r"(?:https?:)?//", address), f"{path.relative_to(site)} loads {address}"


def test_pictures_are_shown_where_they_are_said_to_be(site: Path) -> None:
    for page in ("README", "docs/architecture"):
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        pictures = re.findall(r'<img[^>]*src="([^"]+)"', text)
        assert any(picture.endswith("processes.svg") for picture in pictures), page
        for picture in pictures:
            assert (site / page).parent.joinpath(picture).resolve().is_file(), picture
