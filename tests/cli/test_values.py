"""Words of the command line as values: what is read, and what is refused with the field named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prong.cli.values import Pair, format_size, parse_get, parse_put, parse_size, parse_variables
from prong.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("4096", 4096), ("4k", 4096), ("256M", 256 << 20), ("1.5G", 3 << 29), ("2 GiB", 2 << 30),
        ("64KB", 65536), ("1T", 1 << 40), (" 8m ", 8 << 20), ("10B", 10),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "0.5", "1X", "1 2", "12MM", "1e9", "0x10", "٣M\n;", "256M extra"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_size(text, "memory")
    assert caught.value.data["field"] == "memory" and caught.value.hint


@given(st.integers(1, 1 << 50))
def test_a_formatted_size_reads_back_close(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.06


@pytest.mark.parametrize(("size", "text"), [(1, "1"), (1023, "1023"), (1024, "1K"), (268435456, "256M"), (3 << 29, "1.5G")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


def test_variables() -> None:
    assert parse_variables(["A=1", "B=", "C=x=y"]) == {"A": "1", "B": "", "C": "x=y"}


@pytest.mark.parametrize("word", ["A", "=1", "", "A\0=1"])
def test_what_is_no_variable(word: str) -> None:
    with pytest.raises(InvalidInput):
        parse_variables([word])


@pytest.mark.parametrize(
    ("word", "pair"),
    [
        ("a.csv:/root/b.csv", Pair(Path("a.csv"), "/root/b.csv")),
        ("dir/a.csv:/root/", Pair(Path("dir/a.csv"), "/root/a.csv")),
        ("a:b:/c:d", Pair(Path("a:b"), "/c:d")),
    ],
)
def test_put(word: str, pair: Pair) -> None:
    assert parse_put(word) == pair


def test_get(tmp_path: Path) -> None:
    assert parse_get("/root/a.png:b.png") == Pair(Path("b.png"), "/root/a.png")
    assert parse_get("/root/a.png:out/") == Pair(Path("out/a.png"), "/root/a.png")
    assert parse_get(f"/root/a.png:{tmp_path}") == Pair(tmp_path / "a.png", "/root/a.png")


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        (parse_put, "a.csv"),
        (parse_put, "a.csv:b"),
        (parse_put, ":/x"),
        (parse_get, "/x"),
        (parse_get, "x:y"),
        (parse_get, "/x:"),
    ],
)
def test_what_is_no_pair(parse: Callable[[str], Pair], word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(word)
    assert "for example" in caught.value.hint
