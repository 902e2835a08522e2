"""Standard input belongs to the call it was given to."""

from __future__ import annotations

import pytest

from prong.cell.engine import Cell

pytestmark = pytest.mark.kvm


def test_what_a_call_leaves_unread_is_not_for_the_next(cell: Cell) -> None:
    assert cell.run("input()", stdin=b"one\ntwo\nthree\n").text == "'one'"
    assert cell.run("input()", stdin=b"four\n").text == "'four'"
    got = cell.run("input()", stdin=b"")
    assert got.error is not None and got.error.name == "EOFError"
