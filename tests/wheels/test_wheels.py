"""Compiled wheels in cells: runtimes, thread pools, allocators and compilers of others, on a kernel layer of our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from prong.cell.engine import Engine, Template
from prong.cell.engine.engine import TemplateSpec
from prong.cell.limits import MIB
from prong.image.spec import load_spec
from tests.cell_support import PATHS
from tests.wheels.programs import PROGRAMS, Program

pytestmark = [pytest.mark.kvm, pytest.mark.slow, pytest.mark.timeout(900)]

WARM = """\
import os
os.environ["POLARS_MAX_THREADS"] = "4"
import cv2, duckdb, numba, numpy as np, polars as pl, pyarrow as pa, pyarrow.parquet as pq
pl.DataFrame({"k": [i % 7 for i in range(50_000)], "v": range(50_000)}).group_by("k").agg(pl.col("v").sum())
con = duckdb.connect()
con.execute("set threads = 4")
con.execute("create table t as select range as i from range(300000)")
con.execute("select sum(i) from t").fetchall()
pa.set_cpu_count(4)
pq.write_table(pa.table({"a": list(range(100_000))}), "/tmp/w.parquet")
pq.read_table("/tmp/w.parquet")
cv2.setNumThreads(4)
cv2.medianBlur(np.zeros((300, 300), np.uint8), 5)
@numba.njit
def square(x):
    return x * x
square(3)
"""

AFTER = """\
ramp = np.arange(90_000).astype(np.uint8).reshape(300, 300)
print(
    pl.DataFrame({"k": [i % 11 for i in range(100_000)], "v": range(100_000)})
    .group_by("k").agg(pl.col("v").sum()).sort("k")["v"].to_list()[:2],
    pq.read_table("/tmp/w.parquet")["a"].to_numpy().sum(),
    con.execute("select sum(i), count(*) from t").fetchall(),
    int(cv2.medianBlur(ramp, 5).astype(int).sum()),
    square(12), square(1.5),
    len(os.listdir("/proc/self/task")) > 12,
)
"""
AFTER_EXPECTED = "[454504545, 454513636] 4999950000 [(44999850000, 300000)] 11466906 144 2.25 True\n"

Make = Callable[[str, int], Template]


@pytest.fixture(scope="module")
def make() -> Iterator[Make]:
    """Make a template from the wheels' image (built first if need be): warm-up source, bytes of memory."""
    names: list[str] = []
    with Engine(PATHS) as engine:
        image = engine.images.build(load_spec("wheels"))

        def make(warm: str, memory: int) -> Template:
            names.append(f"test-wheels-{os.getpid()}-{len(names)}")
            engine.create_template(TemplateSpec(names[-1], image.digest, warm, memory))
            return engine.template(names[-1])

        yield make
    for name in names:
        engine.templates.rm(name)


@pytest.fixture(scope="module")
def bare(make: Make) -> Template:
    """Nothing imported."""
    return make("", 512 * MIB)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_prints_what_it_prints_on_linux(bare: Template, program: Program) -> None:
    with bare.fork() as cell:
        done = cell.run(program.source, mode="script", timeout=300)
    assert done.stdout == program.expected, done.stderr
    assert done.error is None
    assert done.ended is None


def test_thread_pools_live_on_in_forks(make: Make, engine: Engine) -> None:
    """The warm-up leaves pools of waiting threads and compiled code behind; forks, theirs, and snapshots go on with them."""
    template = make(WARM, 1024 * MIB)
    with template.fork() as cell:
        assert cell.run(AFTER, timeout=120).stdout == AFTER_EXPECTED
        cell.run("mine = pl.Series(range(10))")
        (child,) = cell.fork()
        with child:
            assert child.run(AFTER, timeout=120).stdout == AFTER_EXPECTED
            assert child.run("int(mine.sum())").text == "45"
        snapshot = engine.snapshot(cell)
    try:
        with engine.restore(snapshot) as restored:
            assert restored.run(AFTER, timeout=120).stdout == AFTER_EXPECTED
    finally:
        engine.snapshots.rm(snapshot.id)
