"""How long a typical state takes; printed, not asserted (``pytest -s``)."""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from prong.cell.core.waiting import WaitQueue
from prong.cell.state.codec import decode, encode
from prong.cell.state.flatten import Flattener
from prong.cell.state.snapshot import write_memory
from tests.state.graphs import Box, Point, Slim, Wide, same


def best(action: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of CPU time of the quickest of some tries."""
    results = []
    for _ in range(times):
        start = time.process_time_ns()
        action()
        results.append(time.process_time_ns() - start)
    return min(results) / 1e6


def typical() -> Box:
    """About ten thousand nodes: files with queues, mappings, page tables, a few keys that are values."""
    box = Box()
    files = [Box(WaitQueue(), {b"name": i, b"data": bytearray(64)}) for i in range(1200)]
    for file in files:
        file.peer, file.b = files[0], (1, 2)
    box.a = [files, [Wide(i, Slim(i, None)) for i in range(700)], {Point(i): i for i in range(100)}]
    box.items = {page: page * 3 | 7 for page in range(20_000)}
    return box


def test_codec_time() -> None:
    box = typical()
    nodes = Flattener(box)
    nodes.flatten()
    count = nodes.count
    data = encode(box)
    print(f"\n{count} nodes, {len(data)} bytes: encode {best(lambda: encode(box)):.1f} ms,", end=" ")
    print(f"decode {best(lambda: decode(data, None, Box)):.1f} ms")
    assert count > 8000 and same(box, decode(data, None, Box))


def test_memory_time(tmp_path: Path) -> None:
    """256 MiB of guest memory, 16 MiB of it in use, in runs of a few pages."""
    random_ = random.Random(1)
    with mmap.mmap(-1, 256 << 20) as memory, memoryview(memory) as view:
        for _ in range(512):
            at = random_.randrange((256 << 20) - 32768) // 4096 * 4096
            view[at : at + 32768] = random_.randbytes(32768)
        fd = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
        took = best(lambda: write_memory(fd, view), times=2)
        written = write_memory(fd, view)
        os.close(fd)
        assert (tmp_path / "memory").stat().st_size == 256 << 20
    print(f"\n{written} pages of {256 << 8}: write {took:.1f} ms")
