"""Finding room for mappings: always the highest place, however the mappings came and went, and without a walk past all."""

from __future__ import annotations

import random
from typing import Any

import pytest

from prong.cell.memory.layout import MIN_ADDRESS, MMAP_TOP, PAGE
from prong.cell.memory.vma import Vma, VmaList


def highest(vmas: VmaList, size: int) -> int | None:
    """What ``gap`` promises, in the plainest way."""
    top = MMAP_TOP
    for vma in reversed(vmas.items):
        if vma.start < top:
            if top - vma.end >= size:
                return top - size
            top = min(top, vma.start)
    return top - size if top - size >= MIN_ADDRESS else None


@pytest.mark.parametrize("seed", range(20))
def test_always_the_highest_place(seed: int) -> None:
    rng = random.Random(seed)
    vmas = VmaList()
    vmas.insert(Vma(MMAP_TOP + 8 * PAGE, MMAP_TOP + 16 * PAGE, 3))  # as the stack, above where mappings go
    for step in range(600):
        size = rng.choice([1, 1, 2, 3, 4, 5, 8, 15, 16, 17, 64, 300]) * PAGE
        found = vmas.gap(size)
        assert found == highest(vmas, size), (seed, step)
        if rng.random() < 0.55 and found is not None:
            vmas.insert(Vma(found, found + size, rng.choice([0, 1, 3])))
        elif rng.random() < 0.2:  # at an address of the program's own choice, also where mappings do not go by themselves
            at = MMAP_TOP + rng.randrange(-2000, 40) * PAGE
            if vmas.free(at, at + size):
                vmas.insert(Vma(at, at + size, 3))
        elif vmas.items:
            base = rng.choice(vmas.items).start + rng.randrange(-3, 4) * PAGE
            for vma in vmas.isolate(base, base + size):
                vmas.remove(vma)
        if step % 50 == 0:
            vmas.rejoin(0, MMAP_TOP)


def test_full_and_free_again() -> None:
    vmas = VmaList()
    whole = Vma(MIN_ADDRESS, MMAP_TOP, 0)
    vmas.insert(whole)
    assert vmas.gap(PAGE) is None
    assert vmas.gap(PAGE) is None
    for vma in vmas.isolate(MIN_ADDRESS + 7 * PAGE, MIN_ADDRESS + 9 * PAGE):
        vmas.remove(vma)
    assert vmas.gap(2 * PAGE) == MIN_ADDRESS + 7 * PAGE
    assert vmas.gap(3 * PAGE) is None
    assert vmas.gap(PAGE) == MIN_ADDRESS + 8 * PAGE


def test_a_limit_below_the_top() -> None:
    vmas = VmaList()
    assert vmas.gap(PAGE, high=1 << 31) == (1 << 31) - PAGE
    vmas.insert(Vma((1 << 31) - PAGE, (1 << 31) + PAGE, 3))
    assert vmas.gap(PAGE, high=1 << 31) == (1 << 31) - 2 * PAGE
    assert vmas.gap(PAGE) == MMAP_TOP - PAGE


def test_many_mappings_are_not_walked_each_time() -> None:
    """Counted, not timed: the starts looked at while 2,000 mappings of alternating rights pile up."""
    looked = 0

    class Counting(list[int]):
        def __getitem__(self, at: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(at)

    vmas = VmaList()
    vmas.starts = Counting()
    for i in range(2000):
        at = vmas.gap(4 * PAGE)
        assert at is not None
        vmas.insert(Vma(at, at + 4 * PAGE, i & 1))
    assert len(vmas.items) == 2000
    assert looked < 100_000, "walking past all of them would take two million"
