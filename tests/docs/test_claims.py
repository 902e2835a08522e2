"""What pages say about the source is so: names of tests and files, the table of layers, anchors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY, pages
from tests.test_layers import LAYERS

_TEST = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`")
_SOURCE = re.compile(r"`(?:src/)?((?:prong|cell|kvm|guest|store|image|cli|doctor|bench|conformance)/[\w/]+\.py)`")
_LINK = re.compile(r"\]\(([^)\s:#]*)#([^)\s]+)\)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_tests_and_files_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = []
    for path, name in _TEST.findall(text):
        file = REPOSITORY / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
            missing.append(f"{path}::{name}" if name else path)
    for path in _SOURCE.findall(text):
        if not (REPOSITORY / "src" / "prong" / path.removeprefix("prong/")).exists():
            missing.append(path)
    assert missing == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_anchors_exist(page: Path) -> None:
    broken = []
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        if file.exists() and anchor not in _anchors(file):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_layers_is_the_tested_one() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, flags=re.MULTILINE)
    told = {int(number): set(re.findall(r"`(\w+)`", names)) for number, names in rows}
    assert told == {number: set(row) for number, row in enumerate(LAYERS, 1)}
