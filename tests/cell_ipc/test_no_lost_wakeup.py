"""Many blocking readers and writers on one channel, in any order: every byte arrives, and nobody sleeps for ever."""

from __future__ import annotations

import random

import pytest

from prong.cell.task.task import Task
from tests.cell_ipc.rig import Cell, Script, inet

TOTAL = 400_000


def connect(cell: Cell, kind: str) -> tuple[int, int]:
    s = Script(cell)
    if kind == "pipe":
        r, w = s.pipe(0)
        return r, w
    if kind == "tcp":
        server, client = s.new("socket", 2, 1, 0), s.new("socket", 2, 1, 0)
        s.bind(server, inet("127.0.0.1", 5000)), s.do("listen", server, 1)
        s.connect(client, inet("127.0.0.1", 5000))
        return s.new("accept4", server, 0, 0, 0), client
    return s.pair("socketpair", 1, {"stream": 1, "dgram": 2, "seqpacket": 5}[kind], 0, cell.at(0))


@pytest.mark.parametrize("kind", ["pipe", "stream", "tcp", "dgram", "seqpacket"])
@pytest.mark.parametrize("seed", range(4))
def test_everything_arrives(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    cell = Cell()
    source, sink = connect(cell, kind)
    if kind != "pipe" and seed % 2:
        Script(cell).setsockopt(sink, 1, 7, 3000)
    writers, readers = [cell.spawn() for _ in range(3)], [cell.spawn() for _ in range(3)]
    left = {task.tid: TOTAL // 3 for task in writers}
    goal, got = sum(left.values()), 0
    limit = 2000 if kind in ("dgram", "seqpacket") else 120_000

    def write(task: Task) -> None:
        size = min(rng.choice((1, 100, 4096, 5000, limit)), limit, left[task.tid])
        name, rest = ("write", ()) if kind == "pipe" else ("sendto", (0, 0, 0))
        if size:
            left[task.tid] -= size
            done = cell.start(task, name, sink, cell.at(0x1000), size, *rest)
            assert done is None or done == size

    def read(task: Task) -> None:
        size = rng.choice((1, 100, 4096, 70_000)) if limit > 2000 else 4096
        name, rest = ("read", ()) if kind == "pipe" else ("recvfrom", (0, 0, 0))
        cell.start(task, name, source, cell.at(0x40000), size, *rest)

    steps = 0
    while got < goal:
        steps += 1
        assert steps < 100_000
        moves = [t for t in writers if t.call is None and left[t.tid]] + [t for t in readers if t.call is None]
        if not moves:
            cell.run()
            moves = [t for t in (*writers, *readers) if t.call is None]
            assert moves, "everybody sleeps and bytes are missing"
        task = rng.choice(moves)
        result = cell.results.pop(task.tid, None)
        if task in readers:
            got += result or 0
            if got < goal:
                read(task)
        else:
            assert result is None or result > 0
            write(task)
        if rng.random() < 0.3:
            cell.run()
        if got + sum(cell.results.get(t.tid, 0) for t in readers) >= goal:
            break
    cell.call("close", sink)
    cell.run()
    assert all(t.call is None for t in writers), "a writer was forgotten"
    assert kind == "dgram" or all(t.call is None for t in readers), "a reader was forgotten"
    cell.close_all()
    assert cell.net.held == 0
