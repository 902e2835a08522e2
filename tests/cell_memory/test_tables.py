"""Guest page tables: what a hardware walk of the four levels finds is what was set, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prong.cell.memory.layout import ADDR, FRAME_PML4, HELD, NX, PAGE, SUPERVISOR, TASK_SIZE, P, U, W
from prong.cell.memory.phys import OutOfFrames, Physical
from prong.cell.memory.space import entry_bits
from prong.cell.memory.tables import Tables


@pytest.fixture
def tables() -> Iterator[Tables]:
    phys = Physical(2000)
    yield Tables(phys)
    phys.close()


def walk(tables: Tables, address: int) -> int | None:
    """The leaf entry as the CPU finds it (SDM vol. 3, 4.5.4), or None."""
    words, frame = tables.phys.words, FRAME_PML4
    for level in (3, 2, 1, 0):
        entry = words[frame * 512 + (address >> (12 + 9 * level) & 511)]
        if not entry & P:
            return None
        if level and not (entry & U and entry & W):
            return None
        frame = (entry & ADDR) // PAGE
    return entry


pages = st.one_of(st.integers(0x10, 0x10 + 1200), st.integers(0x10, TASK_SIZE // PAGE - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(pages, st.integers(1, 600), st.sampled_from([1, 3, 5, 7])), max_size=5))
def test_walk_finds_what_was_mapped(runs: list[tuple[int, int, int]]) -> None:
    phys = Physical(6000)
    tables = Tables(phys)
    model: dict[int, int] = {}
    runs = [(page, min(count, TASK_SIZE // PAGE - page), prot) for page, count, prot in runs]
    for page, count, prot in runs:
        tables.map_run(page, 100, count, entry_bits(prot))
        model |= {page + i: (100 + i) * PAGE | entry_bits(prot) for i in range(count)}
    for page, entry in model.items():
        assert walk(tables, page * PAGE) == entry == tables.get(page)
    for page in list(model):
        for other in (page - 1, page + 1):
            if other not in model and other * PAGE < TASK_SIZE:
                assert walk(tables, other * PAGE) is None
    taken = dict(e for page, count, _ in runs for e in tables.take(page, count))
    assert taken == model
    assert all(walk(tables, page * PAGE) is None for page in model)
    phys.close()


def test_protect_tells_what_lost_a_right(tables: Tables) -> None:
    tables.map_run(0x100, 50, 4, entry_bits(3))
    assert tables.protect(0x100, 4, entry_bits(3)) == []
    assert tables.protect(0x100, 1, entry_bits(1)) == [50]
    assert tables.protect(0x100, 1, entry_bits(3)) == [], "gaining is no loss"
    assert tables.protect(0x101, 1, entry_bits(5)) == [51], "writing is lost"
    assert tables.protect(0x101, 1, entry_bits(1)) == [51], "executing is lost"
    assert tables.protect(0x102, 2, 0) == [52, 53]
    assert tables.get(0x102) == 52 * PAGE | HELD
    assert tables.protect(0x102, 2, entry_bits(1)) == []


def test_the_supervisor_pages_are_the_only_ones_beyond_the_program(tables: Tables) -> None:
    writable = []
    for n in range(16):
        entry = walk(tables, SUPERVISOR + n * PAGE)
        if entry is not None:
            assert (entry & ADDR) // PAGE == n
            writable += [n] if entry & W else []
            assert n == 4 or entry & NX
    assert writable == [5], "only the exception stack"


def test_no_page_table_is_mapped_for_the_program(tables: Tables) -> None:
    tables.map_run(0x10000, 900, 5, entry_bits(7))
    linked = {FRAME_PML4} | {base // 512 for base in (*tables.leaves.values(), *tables.upper.values())}
    mapped = {
        (entry & ADDR) // PAGE
        for region, base in tables.leaves.items()
        for entry in tables.phys.words[base : base + 512]
        if entry & P
    }
    assert not linked & mapped


def test_no_frames_for_tables() -> None:
    phys = Physical(20)
    tables = Tables(phys)
    phys.alloc(phys.free_frames)
    with pytest.raises(OutOfFrames):
        tables.set(0x123456789, 1)
    phys.close()
