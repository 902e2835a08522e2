"""Comparing what a page shows with what was printed."""

from __future__ import annotations

import pytest

from tests.docs.blocks import same


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [
        ("42", "42\n", True),
        ("42", "43\n", False),
        ("a\nb", "a\n", False),
        ("a", "a\nb\n", False),
        ("took 3.1 ms", "took 1,250.05 ms", True),
        ("took 3.1 ms", "took long", False),
        ("a … c", "a b c", True),
        ("a … c", "a b d", False),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\n…\nz", "a\nz", True),
        ("a\n…\nz", "a\nb", False),
        ("snapshot ksrtrt7jg4a6gfeldaagydlg6e", "snapshot rynsryp6l5dld4az674rybrana", True),
        ("host cell-befa1234", "host cell-0011aabb", True),
        ("host cell-befa1234", "host elsewhere", False),
        ("made 2026-01-01 10:00", "made 2031-12-24 23:59", True),
        ("name   size", "name          size", True),
        ("name size", "name  size", False),
        ("(1.5)", "(1x5)", False),
        ("0.7182818284", "0.1234567", True),
        ("count 7", "count 8", False),
    ],
)
def test_same(expected: str, output: str, equal: bool) -> None:
    assert same(expected, output) is equal
