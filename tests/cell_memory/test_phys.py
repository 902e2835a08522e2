"""Guest physical memory: the allocator against a model, and free frames are always zero."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prong.cell.memory.layout import FIRST_FREE, PAGE
from prong.cell.memory.phys import OutOfFrames, Physical, runs_of

FRAMES = 64


def memory_file(frames: int) -> int:
    fd = os.memfd_create("template")
    os.pwrite(fd, b"".join(bytes([i % 255 + 1]) * PAGE for i in range(frames)), 0)
    return fd


@pytest.fixture(params=[0, 40], ids=["fresh", "from a file"])
def phys(request: pytest.FixtureRequest) -> Iterator[Physical]:
    """64 frames; with a parameter, the first of them from a template's file, as after loading a snapshot."""
    made = Physical(FRAMES)
    if request.param:
        made.alloc_runs(request.param - FIRST_FREE)
        made.close()
        fd = memory_file(request.param)
        made.attach(fd, request.param)
        os.close(fd)
    yield made
    made.close()


class Allocator(RuleBasedStateMachine):
    """alloc and free in any order, next to a dictionary of who owns what."""

    def __init__(self) -> None:
        super().__init__()
        self.phys = Physical(FRAMES)
        self.owned: dict[int, int] = {}
        self.marks = 0

    @rule(count=st.integers(0, FRAMES))
    def alloc(self, count: int) -> None:
        room = FRAMES - FIRST_FREE - len(self.owned)
        if count > room:
            before = list(self.phys.starts)
            with pytest.raises(OutOfFrames):
                self.phys.alloc(count)
            assert self.phys.starts == before
            return
        frames = self.phys.alloc(count)
        assert len(set(frames)) == count
        assert not set(frames) & self.owned.keys()
        assert all(FIRST_FREE <= f < FRAMES for f in frames)
        for f in frames:
            assert not any(self.phys.view(f)), f"frame {f} was not zero"
            self.marks += 1
            self.owned[f] = self.marks
            self.phys.words[f * 512] = self.marks

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.owned)), unique=True))
        self.phys.free(gone)
        for f in gone:
            del self.owned[f]

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def zap(self, data: st.DataObject) -> None:
        self.phys.zap(data.draw(st.sampled_from(sorted(self.owned))), 1)

    @invariant()
    def agree(self) -> None:
        assert self.phys.used == len(self.owned)
        assert self.phys.free_frames == FRAMES - FIRST_FREE - len(self.owned)
        used = [f for start, n in self.phys.used_runs() for f in range(start, start + n)]
        assert used == [*range(FIRST_FREE), *sorted(self.owned)]
        assert self.phys.starts == sorted(self.phys.lengths)
        ends = [s + self.phys.lengths[s] for s in self.phys.starts]
        assert all(end < start for end, start in zip(ends, self.phys.starts[1:], strict=False)), "neighbours are joined"
        for f, mark in self.owned.items():
            assert self.phys.words[f * 512] == mark

    def teardown(self) -> None:
        self.phys.close()


TestAllocator = Allocator.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_freed_frames_are_zero(phys: Physical) -> None:
    used = [f for start, n in phys.used_runs() for f in range(start, start + n) if f >= FIRST_FREE]
    frames = used + phys.alloc(5)
    for f in frames:
        phys.words[f * 512 + 511] = 7
    phys.free(frames)
    assert phys.used == 0
    assert not any(phys.bytes[FIRST_FREE * PAGE :])


def test_zap_keeps_content(phys: Physical) -> None:
    (frame,) = phys.alloc(1)
    phys.words[frame * 512] = 99
    phys.zap(frame, 1)
    assert phys.words[frame * 512] == 99


def test_the_template_file_is_not_written() -> None:
    fd = memory_file(20)
    phys = Physical(FRAMES)
    phys.alloc(20 - FIRST_FREE)
    phys.close()
    phys.attach(fd, 20)
    phys.words[10 * 512] = 1
    phys.free([11, 12])
    phys.close()
    assert os.pread(fd, 20 * PAGE, 0) == b"".join(bytes([i % 255 + 1]) * PAGE for i in range(20))
    os.close(fd)


def test_many_scattered_frees_of_a_big_template_do_not_exhaust_the_hosts_mappings() -> None:
    """Every hole in a template's file costs the host a mapping, of which a process has 65530 (vm.max_map_count)."""
    frames = 150_000
    phys = Physical(frames + 100)
    phys.alloc_runs(frames - FIRST_FREE)
    phys.close()
    fd = os.memfd_create("template")
    os.ftruncate(fd, frames * PAGE)
    phys.attach(fd, frames)
    os.close(fd)
    for frame in range(FIRST_FREE, frames, 2):
        phys.words[frame * 512] = 5
        phys.free_run(frame, 1)
    assert all(phys.words[f * 512] == 0 for f in range(FIRST_FREE, frames, 2))
    with open("/proc/self/maps", "rb") as maps:
        assert sum(1 for _ in maps) < 60_000
    phys.close()


def test_runs_of() -> None:
    rng = random.Random(4)
    for _ in range(50):
        frames = rng.sample(range(100), rng.randrange(60))
        runs = runs_of(frames)
        assert [f for s, n in runs for f in range(s, s + n)] == sorted(frames)
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs))
