"""Probes of cells: fork, first output, warm execution, live forks, a thousand at once."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from prong.bench.rows import Row, clock, probe, timed
from prong.cell.engine import Cell, Engine, Template
from prong.errors import ProngError

PRINT = "print(1 + 1)"
POOL = 64


class Unexpected(ProngError):
    """A cell answered wrongly while being measured: the figures would mean nothing."""

    default_code = "benchmark_failed"


def _expect(cell: Cell, code: str, output: str) -> None:
    got = cell.run(code)
    if got.stdout != output:
        raise Unexpected(f"{code!r} printed {got.stdout!r} instead of {output!r}", data={"ended": got.ended})


def _fill(template: Template, size: int) -> None:
    """Wait until the pool is full."""
    template.keep_pool(size)
    while template.parked < size:
        if template.trouble is not None:
            raise template.trouble
        time.sleep(0.01)


def _drain(template: Template) -> None:
    """Empty the pool and keep it empty."""
    template.keep_pool(0)
    while template.parked:
        template.fork().close()
    _settle()


def _settle() -> None:
    """Let background work of earlier probes end."""
    gc.collect()
    time.sleep(0.2)


@probe("cell.fork", "cell.fork_to_output")
def pooled_forks(engine: Engine, scale: float) -> list[Row]:
    """Fork from the pool, run the first code, read its output; the pool refills between rounds."""
    template = engine.template()
    forks: list[float] = []
    outputs: list[float] = []
    for _ in range(max(int(4 * scale), 1)):
        _fill(template, POOL)
        _settle()
        template.keep_pool(0)
        for _ in range(POOL):
            start = clock()
            cell = template.fork()
            forks.append(clock() - start)
            _expect(cell, PRINT, "2\n")
            outputs.append(clock() - start)
            cell.close()
    return [
        timed("cell.fork", forks, "a running cell from the pool", bar=0.6),
        timed("cell.fork_to_output", outputs, "fork from the pool to the output of a first print", bar=3.0),
    ]


@probe("cell.fork_cold", "cell.fork_cold_to_output")
def cold_forks(engine: Engine, scale: float) -> list[Row]:
    """The same with an empty pool: process, VM and page faults on demand."""
    template = engine.template()
    _drain(template)
    forks: list[float] = []
    outputs: list[float] = []
    for _ in range(int(100 * scale)):
        start = clock()
        cell = template.fork()
        forks.append(clock() - start)
        _expect(cell, PRINT, "2\n")
        outputs.append(clock() - start)
        cell.close()
    return [
        timed("cell.fork_cold", forks, "a running cell with the pool empty: new process, new VM"),
        timed("cell.fork_cold_to_output", outputs, "the same, to the output of a first print"),
    ]


@probe("cell.exec_warm")
def warm(engine: Engine, scale: float) -> list[Row]:
    """Run code again and again in one cell."""
    with engine.template().fork() as cell:
        for _ in range(20):
            _expect(cell, PRINT, "2\n")
        times: list[float] = []
        for _ in range(int(1000 * scale)):
            start = clock()
            _expect(cell, PRINT, "2\n")
            times.append(clock() - start)
    return [timed("cell.exec_warm", times, "print in a live cell, request to output", bar=0.3)]


@probe("cell.live_fork", "cell.fork_100")
def live(engine: Engine, scale: float) -> list[Row]:
    """Fork a live cell with state, singly and a hundred at once."""
    with engine.template().fork() as cell:
        _expect(cell, "data = list(range(100_000)); print(len(data))", "100000\n")
        singles: list[float] = []
        for _ in range(int(50 * scale)):
            start = clock()
            (fork,) = cell.fork()
            singles.append(clock() - start)
            fork.close()
        _settle()
        hundreds: list[float] = []
        for _ in range(max(int(3 * scale), 1)):
            start = clock()
            forks = cell.fork(100)
            hundreds.append(clock() - start)
            _expect(forks[-1], "print(data[7])", "7\n")
            for fork in forks:
                fork.close()
            _settle()
    return [
        timed("cell.live_fork", singles, "fork of a live cell until the fork runs", bar=5.0),
        timed("cell.fork_100", hundreds, "100 forks of one live cell", bar=200.0),
    ]


@probe("cell.thousand_fork", "cell.thousand_memory")
def thousand(engine: Engine, scale: float) -> list[Row]:
    """A thousand live cells, each a process of its own, each having run code."""
    template = engine.template()
    _drain(template)
    count = max(int(1000 * min(scale, 1)), 10)
    before = available()
    start = clock()
    cells = template.fork_many(count)
    took = clock() - start
    for cell in cells:
        _expect(cell, PRINT, "2\n")
    used = before - available()
    for cell in cells:
        cell.close()
    return [
        Row("cell.thousand_fork", 1, f"{count} cells forked, pool empty", value=took * 1e3, bar=1500.0),
        Row(
            "cell.thousand_memory",
            count,
            "each after running code, all told: memory the host has less, kernel's included",
            value=used / count / (1 << 20),
            unit="MiB",
            bar=4.0,
        ),
    ]


def available() -> int:
    """MemAvailable in bytes (proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LookupError("MemAvailable")
