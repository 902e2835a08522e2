"""Time in jailed cells over their whole life: live forks, snapshots and what comes back from them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from prong.cell.engine import Cell, Engine
from prong.cell.engine.engine import DEFAULT_IMAGE, TemplateSpec
from prong.errors import NotFound

pytestmark = pytest.mark.kvm
NAME = "vdso-test"
MS = 10**6

PRELUDE = """
import ctypes, time
libc = ctypes.CDLL(None)
pair = ctypes.c_long * 2
def asked(clock):
    out = pair(); libc.syscall(228, clock, ctypes.byref(out)); return out[0] * 10**9 + out[1]
def apart(clock):
    return max(max(a - b, b - c) for a, b, c in ((told(clock), asked(clock), told(clock)) for _ in range(100)))
told = time.clock_gettime_ns
def apart_most():
    return max(apart(time.CLOCK_MONOTONIC), apart(time.CLOCK_REALTIME))
"""


@pytest.fixture(scope="module")
def cell(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Cell]:
    """A fork of a template of our own, made now: its program surely has the vDSO."""
    try:
        engine.images.get(DEFAULT_IMAGE)
    except NotFound:
        request.getfixturevalue("template")  # builds the image
    engine.create_template(TemplateSpec(NAME, warm="import ctypes, time", memory=128 << 20), replace=True)
    with engine.template(NAME).fork() as cell:
        value(cell, PRELUDE + "0")
        yield cell
    engine._live.pop(NAME).close()
    engine.templates.rm(NAME)
    with pytest.raises(NotFound):
        engine.templates.get(NAME)


def value(cell: Cell, code: str) -> str:
    """The text of the last expression."""
    done = cell.run(code)
    assert done.error is None, done.error
    return done.text or ""


def calls(cell: Cell, code: str) -> int:
    before = cell.stats()["syscalls"]
    value(cell, code)
    return cell.stats()["syscalls"] - before


def check(cell: Cell) -> None:
    """The page is in use and right."""
    assert int(value(cell, "apart_most()")) < MS
    assert calls(cell, "for _ in range(1000): time.monotonic(); time.time()") < 100


def test_a_fork_of_a_template_asks_nobody(cell: Cell) -> None:
    assert "[vvar]" in value(cell, "open('/proc/self/maps').read()")
    check(cell)
    mine = time.time()
    assert abs(float(value(cell, "time.time()")) - mine) < 60


def test_live_forks_go_on_from_where_they_were(cell: Cell) -> None:
    value(cell, "last = time.monotonic_ns()")
    for _ in range(3):
        child = cell.fork()[0]
        with child:
            assert 0 < int(value(child, "time.monotonic_ns() - last")) < 60_000 * MS
            check(child)
            grandchild = child.fork()[0]
            with grandchild:
                assert 0 < int(value(grandchild, "time.monotonic_ns() - last")) < 60_000 * MS
    check(cell)


def test_snapshots_stop_monotonic_time_and_not_real_time(cell: Cell, engine: Engine) -> None:
    value(cell, "mono, real = time.monotonic_ns(), time.time_ns()")
    snapshot = engine.snapshot(cell)
    try:
        check(cell)
        written = time.monotonic()
        time.sleep(1.5)
        with engine.restore(snapshot) as back:
            asleep = (time.monotonic() - written) * 1000 * MS
            mono, real = map(int, value(back, "f'{time.monotonic_ns() - mono} {time.time_ns() - real}'").strip("'").split())
            assert mono > 0 and real - mono >= asleep - 100 * MS
            check(back)
            value(back, "mono = time.monotonic_ns()")
            with back.fork()[0] as child:
                assert int(value(child, "time.monotonic_ns() - mono")) > 0
    finally:
        engine.snapshots.rm(snapshot.id)


def test_setting_the_time(cell: Cell) -> None:
    with cell.fork()[0] as child:
        value(child, "mono = time.monotonic(); time.clock_settime(time.CLOCK_REALTIME, 10**9)")
        assert 10**9 <= float(value(child, "time.time()")) < 10**9 + 60
        assert 0 < float(value(child, "time.monotonic() - mono")) < 60
        check(child)
        with child.fork()[0] as grandchild:
            assert 10**9 <= float(value(grandchild, "time.time()")) < 10**9 + 60
    assert abs(float(value(cell, "time.time()")) - time.time()) < 60
