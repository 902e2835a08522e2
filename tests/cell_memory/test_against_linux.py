"""mmap and its family: the handlers and this machine's kernel do the same calls and must agree on everything visible."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from prong.cell.memory.layout import PAGE
from tests.cell_memory.rig import GuestCalls, NativeCalls

ARENA = 0x100000000000
"""Where both sides play: the kernel places nothing here by itself."""
SIZE = 24
FILE = bytes((i // PAGE * 16 + i) & 0xFF for i in range(5 * PAGE + 123))
SHARED, PRIVATE, FIXED, ANON, NOREPLACE = 1, 2, 0x10, 0x20, 0x100000
MAYMOVE, TO = 1, 2
PLACES = [FIXED, NOREPLACE, FIXED | NOREPLACE]

page = st.integers(0, SIZE - 1)
count = st.integers(0, 9)
prot = st.sampled_from([0, 1, 3, 3, 3, 5, 7])
Op = tuple[str | int, ...]

ops = st.one_of(
    st.tuples(st.just("anon"), page, count, prot, st.sampled_from([PRIVATE, PRIVATE, SHARED]), st.sampled_from(PLACES)),
    st.tuples(st.just("file"), page, count, prot, st.sampled_from([PRIVATE, SHARED]), st.integers(0, 7)),
    st.tuples(st.just("munmap"), page, count),
    st.tuples(st.just("mprotect"), page, count, prot),
    st.tuples(st.just("grow"), page, st.integers(1, 6), st.integers(0, 8)),
    st.tuples(st.just("move"), page, st.integers(1, 6), st.integers(0, 8), page),
    st.tuples(st.just("madvise"), page, count, st.sampled_from([0, 3, 4, 4, 14, 22, 23, 99])),
    st.tuples(st.just("poke"), page, st.integers(1, 3 * PAGE), st.integers(0, 255)),
    st.tuples(st.just("mincore"), page, count),
    st.tuples(st.just("msync"), page, count, st.sampled_from([0, 1, 4, 5])),
)


class Side:
    """One side of the comparison."""

    def __init__(self, calls: GuestCalls | NativeCalls) -> None:
        self.calls = calls
        self.fd = calls.memfd(FILE)

    def do(self, op: Op) -> object:
        kind, *raw = op
        a = [int(x) for x in raw]
        at, size = ARENA + a[0] * PAGE, a[1] * PAGE if len(a) > 1 else 0
        call = self.calls.call
        if kind == "anon":
            return call("mmap", at, size, a[2], a[3] | a[4] | ANON, -1, 0)
        if kind == "file":
            return call("mmap", at, size, a[2], a[3] | FIXED, self.fd, a[4] * PAGE)
        if kind == "munmap":
            return call("munmap", at, size)
        if kind == "mprotect":
            return call("mprotect", at, size, a[2])
        if kind == "grow":
            return call("mremap", at, size, a[2] * PAGE, 0, 0)
        if kind == "move":
            return call("mremap", at, size, a[2] * PAGE, MAYMOVE | TO, ARENA + a[3] * PAGE)
        if kind == "madvise":
            return call("madvise", at, size, a[2])
        if kind == "msync":
            return call("msync", at, size, a[2])
        if kind == "poke":
            return self.calls.poke(at + 1000, bytes((a[2] + i) & 0xFF for i in range(a[1])))
        return self.calls.call("mincore", at, min(size, PAGE), 1)  # a bad vector: EFAULT unless ENOMEM comes first

    def picture(self) -> list[bytes | None]:
        return [self.calls.peek(ARENA + i * PAGE, PAGE) for i in range(SIZE + 9)]

    def rights(self) -> list[bool]:
        """Where each page can be written, without changing it."""
        out = []
        for i in range(SIZE + 9):
            old = self.calls.peek(ARENA + i * PAGE, 1)
            out.append(old is not None and self.calls.poke(ARENA + i * PAGE, old))
        return out

    def end(self) -> None:
        self.calls.call("munmap", ARENA, (SIZE + 16) * PAGE)
        if isinstance(self.calls, NativeCalls):
            os.close(self.fd)
        self.calls.close()


@settings(max_examples=int(os.environ.get("PRONG_MEMORY_EXAMPLES", "150")), deadline=None)
@given(st.lists(ops, min_size=1, max_size=14))
def test_same_results_and_same_memory(script: list[Op]) -> None:
    with tempfile.TemporaryDirectory() as root:
        guest, native = Side(GuestCalls(Path(root))), Side(NativeCalls())
        try:
            for i, op in enumerate(script):
                # A failed call over several mappings may be done in part, differently: only success is compared further.
                ours, theirs = guest.do(op), native.do(op)
                assert ours == theirs, f"step {i} {op}: {ours} here, {theirs} on Linux"
                if isinstance(ours, int) and ours < 0 and op[0] in ("mprotect", "madvise", "move"):
                    return
                assert guest.picture() == native.picture(), f"after step {i} {op}"
            assert guest.rights() == native.rights()
            assert guest.calls.pread(guest.fd, len(FILE), 0) == native.calls.pread(native.fd, len(FILE), 0)
        finally:
            guest.end()
            native.end()
