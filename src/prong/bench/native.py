"""Probes against the same program without prong: CPU-bound ratios, a bare fork, bwrap."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from pathlib import Path

from prong.bench.rows import Row, clock, probe, timed
from prong.cell.engine import Engine
from prong.errors import HostUnfit

LOOP = """
import time
t = time.perf_counter()
total = 0
for i in range({n}):
    total += i * i % 7
print(time.perf_counter() - t)
"""

NUMPY = """
import time
import numpy as np
rng = np.random.default_rng(1)
a = rng.random(({n}, {n}))
t = time.perf_counter()
for _ in range(4):
    b = a @ a
    c = np.sort(b, axis=None)
    d = np.sqrt(b).sum() + np.exp(-b).sum()
print(time.perf_counter() - t)
"""


def _bwrap(root: Path, *argv: str) -> list[str]:
    if shutil.which("bwrap") is None:
        raise HostUnfit("bwrap is not installed", hint="apt-get install bubblewrap")
    settings = ("--clearenv", "--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1")
    mounts = ("--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")
    return ["bwrap", *mounts, *settings, "--unshare-all", "--die-with-parent", *argv]


def _ratio(engine: Engine, code: str, rounds: int) -> float:
    """Median of native time / cell time over alternating rounds; the image's own Python runs both."""
    template = engine.template()
    root = engine.images.get(template.descent.image).root
    ratios: list[float] = []
    with template.fork() as cell:
        cell.run(code)
        for _ in range(rounds):
            inside = float(cell.run(code).stdout)
            command = _bwrap(root, "/usr/bin/python3", "-c", code)
            outside = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ratios.append(outside / inside)
    return statistics.median(ratios)


@probe("cell.cpu_ratio", "cell.numpy_ratio")
def ratios(engine: Engine, scale: float) -> list[Row]:
    """CPU-bound Python and numpy inside a cell, as a share of native speed."""
    rounds = max(int(5 * scale), 3)
    note = "native time / cell time, the image's Python both times"
    cpu = _ratio(engine, LOOP.format(n=5_000_000), rounds)
    numpy = _ratio(engine, NUMPY.format(n=700), rounds)
    return [
        Row("cell.cpu_ratio", rounds, note, value=cpu, unit="ratio", bar=0.95, higher_is_better=True),
        Row("cell.numpy_ratio", rounds, note, value=numpy, unit="ratio", bar=0.95, higher_is_better=True),
    ]


_FORKER = """
import os, sys, time
import json, random, re, datetime, collections, itertools, math
try:
    import numpy
except ImportError:
    pass
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(w, 1)
        exec(compile("print(1 + 1)", "<code>", "exec"))
        sys.stdout.flush()
        os._exit(0)
    os.close(w)
    assert os.read(r, 10) == b"2\\n"
    print(time.perf_counter() - start, flush=True, file=sys.stderr)
    os.close(r)
    os.waitpid(pid, 0)
"""


@probe("base.os_fork")
def os_fork(engine: Engine, scale: float) -> list[Row]:
    """A bare ``os.fork`` of a warm Python (the image's, run natively) to its first output: no isolation at all."""
    root = engine.images.get(engine.template().descent.image).root
    command = _bwrap(root, "/usr/bin/python3", "-c", _FORKER, str(int(200 * scale)))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    times = [float(line) for line in done.stderr.split()]
    return [timed("base.os_fork", times, "bare os.fork of a warm Python to its first output, no isolation")]


@probe("base.bwrap")
def bwrap(engine: Engine, scale: float) -> list[Row]:
    """``bwrap python3 -c print``: a namespace sandbox started from nothing."""
    root = engine.images.get(engine.template().descent.image).root
    command = _bwrap(root, "/usr/bin/python3", "-c", "print(1 + 1)")
    times: list[float] = []
    for _ in range(int(20 * scale)):
        start = clock()
        done = subprocess.run(command, check=True, capture_output=True)
        times.append(clock() - start)
        assert done.stdout == b"2\n"
    return [timed("base.bwrap", times, "bwrap python3 -c 'print(1 + 1)', from nothing")]
