"""Mappings, faults and checked access: rights, limits, memory pressure, and what hostile calls cost the host."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.cell.core.errors import SysErr
from prong.cell.memory.layout import ADDR, FIRST_FREE, PAGE, STACK_TOP, SUPERVISOR, TASK_SIZE, P
from prong.cell.memory.space import BadAccess
from prong.cell.memory.vma import MAX_MAPPINGS
from tests.cell_memory.rig import GuestCalls

PRIVATE_ANON, SHARED_ANON, FIXED, NORESERVE = 0x22, 0x21, 0x10, 0x4000
AT = 0x7000_0000_0000


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[GuestCalls]:
    made = GuestCalls(tmp_path)
    yield made
    made.close()


def frames_in_tables(guest: GuestCalls) -> list[int]:
    tables = guest.kernel.space.tables
    words = tables.phys.words
    return [
        (e & ADDR) // PAGE
        for base in tables.leaves.values()
        for e in words[base : base + 512]
        if e and (e & ADDR) // PAGE >= FIRST_FREE
    ]


@pytest.mark.parametrize("address", [0, 0x7FFF, SUPERVISOR, SUPERVISOR + 0x4000, 1 << 47, (1 << 64) - 8, TASK_SIZE - 4])
def test_bad_pointers(guest: GuestCalls, address: int) -> None:
    for action in (
        lambda: guest.kernel.mem.read(address, 8),
        lambda: guest.kernel.mem.write(address, bytes(8)),
        lambda: guest.kernel.mem.cstr(address),
        lambda: guest.kernel.mem.read(address, 1 << 40),
    ):
        with pytest.raises(SysErr) as caught:
            action()
        assert caught.value.errno == errno.EFAULT


def test_protection_is_checked_for_handlers_too(guest: GuestCalls) -> None:
    mem = guest.kernel.mem
    assert guest.call("mmap", AT, 3 * PAGE, 3, PRIVATE_ANON | FIXED, -1, 0) == AT
    mem.write(AT, b"x" * 3 * PAGE)
    assert guest.call("mprotect", AT + PAGE, PAGE, 1) == 0
    with pytest.raises(SysErr):
        mem.write(AT, b"y" * 2 * PAGE)
    assert mem.read(AT, 3 * PAGE) == b"x" * 3 * PAGE, "nothing is half-written"
    assert guest.call("mprotect", AT + PAGE, PAGE, 0) == 0
    with pytest.raises(SysErr):
        mem.read(AT + PAGE - 1, 2)
    assert guest.call("mprotect", AT + PAGE, PAGE, 3) == 0
    assert mem.read(AT + PAGE, PAGE) == b"x" * PAGE, "held while nobody may look"


def test_string_that_ends_at_a_hole(guest: GuestCalls) -> None:
    guest.call("mmap", AT, PAGE, 3, PRIVATE_ANON | FIXED, -1, 0)
    guest.kernel.mem.write(AT + PAGE - 4, b"abc\0")
    assert guest.kernel.mem.cstr(AT + PAGE - 4) == b"abc"
    guest.kernel.mem.write(AT + PAGE - 4, b"abcd")
    with pytest.raises(SysErr) as caught:
        guest.kernel.mem.cstr(AT + PAGE - 4)
    assert caught.value.errno == errno.EFAULT


def test_a_fault_tells_the_right_signal(guest: GuestCalls) -> None:
    space = guest.kernel.space
    guest.call("mmap", AT, PAGE, 1, PRIVATE_ANON | FIXED, -1, 0)
    fd = guest.memfd(b"x")
    guest.call("mmap", AT + PAGE, 2 * PAGE, 1, 0x02 | FIXED, fd, 0)
    for address, write, signal, code in ((AT, True, 11, 2), (AT - 1, False, 11, 1), (AT + 2 * PAGE, False, 7, 2)):
        with pytest.raises(BadAccess) as caught:
            space.fault(address, write=write)
        assert (caught.value.signal, caught.value.code) == (signal, code)


def test_everything_unmapped_gives_everything_back(guest: GuestCalls) -> None:
    rng = random.Random(7)
    space = guest.kernel.space
    for _ in range(300):
        at = AT + rng.randrange(0, 1024) * PAGE
        size = rng.randrange(1, 60) * PAGE
        match rng.randrange(5):
            case 0 | 1:
                guest.call("mmap", at, size, rng.choice([0, 1, 3]), rng.choice([PRIVATE_ANON, SHARED_ANON]) | FIXED, -1, 0)
            case 2:
                guest.poke(at, b"z" * min(size, 3 * PAGE))
            case 3:
                guest.call("mprotect", at, size, rng.choice([0, 1, 3]))
            case 4:
                guest.call("mremap", at, size, rng.randrange(1, 60) * PAGE, 3, AT + rng.randrange(0, 1024) * PAGE)
        mapped = frames_in_tables(guest)
        assert len(mapped) == len(set(mapped)), "a frame is mapped once"
    guest.call("munmap", AT, 2000 * PAGE)
    assert frames_in_tables(guest) == []
    assert space.vmas.items == [] and space.vmas.total == 0
    assert space.phys.used == len(space.tables.leaves) + len(space.tables.upper), "only page tables are left"


def test_shared_file_memory_is_the_file(guest: GuestCalls) -> None:
    fd = guest.memfd(b"a" * 3 * PAGE)
    file = guest.kernel.fds.get(fd)
    assert guest.call("mmap", AT, 3 * PAGE, 3, 0x01 | FIXED, fd, 0) == AT
    assert guest.call("mmap", AT + 16 * PAGE, 3 * PAGE, 3, 0x01 | FIXED, fd, 0) == AT + 16 * PAGE
    guest.kernel.mem.write(AT + PAGE, b"b" * 10)
    assert guest.pread(fd, 12, PAGE) == b"b" * 10 + b"aa"
    assert guest.kernel.mem.read(AT + 17 * PAGE, 10) == b"b" * 10
    file.pwrite(b"c", 0)
    assert guest.kernel.mem.read(AT, 1) == b"c"
    guest.call("munmap", AT, 32 * PAGE)
    assert guest.pread(fd, 2, PAGE) == b"bb"
    assert file.refs == 1


def test_file_mappings_that_grow_stay_one(guest: GuestCalls) -> None:
    fd = guest.memfd(b"a" * 8 * PAGE)
    refs = guest.kernel.fds.get(fd).refs
    assert guest.call("mmap", AT, 2 * PAGE, 3, 0x01 | FIXED, fd, 0) == AT
    assert guest.call("mremap", AT, 2 * PAGE, 4 * PAGE, 0, 0) == AT
    assert guest.call("mremap", AT, 4 * PAGE, 8 * PAGE, 0, 0) == AT
    assert len(guest.kernel.space.vmas.items) == 1
    assert guest.kernel.fds.get(fd).refs == refs + 1
    guest.call("munmap", AT + 2 * PAGE, PAGE)
    assert guest.kernel.fds.get(fd).refs == refs + 2
    guest.call("munmap", AT, 8 * PAGE)
    assert guest.kernel.fds.get(fd).refs == refs


def test_the_number_of_mappings_is_bounded(guest: GuestCalls) -> None:
    """mprotect of every other page makes a mapping each time; the host keeps them in its own memory."""
    space = guest.kernel.space
    size = 2 * (MAX_MAPPINGS + 50) * PAGE
    start = guest.call("mmap", 0, size, 0, PRIVATE_ANON | NORESERVE, -1, 0)
    results = [guest.call("mprotect", start + page * 2 * PAGE, PAGE, 1) for page in range(MAX_MAPPINGS // 2 + 50)]
    assert results[-1] == -errno.ENOMEM
    assert len(space.vmas.items) <= MAX_MAPPINGS + 2
    assert guest.call("munmap", start, size) == 0, "taking away always works"


def test_hostile_sizes_are_answered_at_once(guest: GuestCalls) -> None:
    """One call holds the host: none may take long, however large the numbers or however many the mappings."""
    started = time.monotonic()
    start = guest.call("mmap", 0, 1 << 45, 0, PRIVATE_ANON | NORESERVE, -1, 0)
    vector = guest.call("mmap", 0, 8 << 20, 3, PRIVATE_ANON, -1, 0)
    assert guest.call("mincore", start, (8 << 20) * PAGE, vector) == 0
    assert guest.call("mincore", start, 1 << 45, vector) == -errno.EFAULT
    for page in range(0, 40_000, 2):
        assert guest.call("mprotect", start + page * PAGE, PAGE, 1) == 0
    assert guest.call("mprotect", start, 1 << 45, 1) == 0
    for page in range(0, 40_000, 2):
        assert guest.call("mprotect", start + page * PAGE, PAGE, 0) == 0
    assert guest.call("munmap", start, 1 << 45) == 0
    assert time.monotonic() - started < 30


def test_mincore_tells_what_is_there(guest: GuestCalls) -> None:
    start = guest.call("mmap", 0, 1 << 30, 3, PRIVATE_ANON | NORESERVE, -1, 0)
    touched = [0, 3, 511, 512, 70_000, (1 << 18) - 1]
    for page in touched:
        guest.kernel.space.vmas.find(start).step = 1  # type: ignore[union-attr]
        guest.kernel.mem.write(start + page * PAGE, b"x")
    vector = guest.call("mmap", 0, 1 << 18, 3, PRIVATE_ANON, -1, 0)
    assert guest.call("mincore", start, 1 << 30, vector) == 0
    told = guest.kernel.mem.read(vector, 1 << 18)
    assert [i for i, b in enumerate(told) if b] == touched


def test_memory_pressure_is_an_error_not_a_loss(guest: GuestCalls) -> None:
    """With no frame left, calls fail with ENOMEM or the program is told; nothing leaks and nothing is counted twice."""
    space = guest.kernel.space
    start = guest.call("mmap", 0, 12 << 20, 3, PRIVATE_ANON, -1, 0)
    other = guest.call("mmap", 0, 12 << 20, 3, PRIVATE_ANON, -1, 0)
    trouble = 0
    for base in (start, other):
        for page in range((12 << 20) // PAGE):
            try:
                space.fault(base + page * PAGE, write=True)
            except SysErr as e:
                assert e.errno == errno.ENOMEM
                trouble += 1
    assert trouble
    for i in range(50):  # each would need new page tables too
        at = 0x1000_0000_0000 + (i << 31)
        got = guest.call("mmap", at, PAGE, 3, PRIVATE_ANON | FIXED, -1, 0)
        assert got in (at, -errno.ENOMEM)
        with pytest.raises(SysErr):
            guest.kernel.mem.write(at, b"x")
    guest.call("munmap", 0x10000, (TASK_SIZE - 0x10000 - PAGE) // PAGE * PAGE)
    assert frames_in_tables(guest) == []
    assert space.phys.used == len(space.tables.leaves) + len(space.tables.upper)


def test_reservations_cost_nothing(guest: GuestCalls) -> None:
    used = guest.kernel.space.phys.used
    start = guest.call("mmap", 0, 1 << 44, 0, PRIVATE_ANON | NORESERVE, -1, 0)
    assert start > 0
    assert guest.kernel.space.phys.used == used
    assert guest.call("mprotect", start + (1 << 43), PAGE, 3) == 0
    assert guest.call("munmap", start, 1 << 44) == 0


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((0, 0, 3, PRIVATE_ANON, -1, 0), errno.EINVAL),
        ((0, PAGE, 3, 0x20, -1, 0), errno.EINVAL),
        ((0, PAGE, 3, PRIVATE_ANON, -1, 5), errno.EINVAL),
        ((0, PAGE, 3, 2, -1, 0), errno.EBADF),
        ((AT + 1, PAGE, 3, PRIVATE_ANON | FIXED, -1, 0), errno.EINVAL),
        ((TASK_SIZE, PAGE, 3, PRIVATE_ANON | FIXED, -1, 0), errno.ENOMEM),
        ((STACK_TOP, 1 << 40, 3, PRIVATE_ANON | FIXED, -1, 0), errno.ENOMEM),
        ((0, (1 << 64) - 1, 3, PRIVATE_ANON, -1, 0), errno.ENOMEM),
        ((0, 1 << 46, 3, PRIVATE_ANON, -1, 0), errno.ENOMEM),
    ],
)
def test_mmap_refuses(guest: GuestCalls, args: tuple[int, ...], error: int) -> None:
    assert guest.call("mmap", *args) == -error


def test_brk(guest: GuestCalls) -> None:
    space = guest.kernel.space
    space.brk_start = space.brk_end = 0x5000_0000
    assert guest.call("brk", 0) == 0x5000_0000
    assert guest.call("brk", 0x5000_0000 + 10_000) == 0x5000_0000 + 10_000
    guest.kernel.mem.write(0x5000_0000 + 9_999, b"x")
    assert guest.call("brk", 0x5000_0001) == 0x5000_0001
    assert guest.call("brk", 0x5000_0000 + 10_000) == 0x5000_0000 + 10_000
    assert guest.kernel.mem.read(0x5000_0000 + 9_999, 1) == b"\0"
    assert guest.call("brk", 1 << 46) == 0x5000_0000 + 10_000


def test_populate_and_page_tables_agree(guest: GuestCalls) -> None:
    start = guest.call("mmap", 0, 100 * PAGE, 3, PRIVATE_ANON | 0x8000, -1, 0)
    assert all(guest.kernel.space.tables.get(start // PAGE + i) & P for i in range(100))
