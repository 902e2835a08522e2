"""The vDSO's machine code, run by this processor in this process, over data pages made up by the tests."""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prong.cell.program import vdso, vdsocode
from prong.cell.task.clockids import BOOTTIME, MONOTONIC, MONOTONIC_COARSE, MONOTONIC_RAW, REALTIME, REALTIME_COARSE, TAI

PAGE = 4096
SECOND = 10**9
NEVER = (1 << 64) - 1
STEADY = (MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME)
REAL = (REALTIME, REALTIME_COARSE, TAI)
pair = ctypes.c_int64 * 2


class Loaded:
    """The image after a data page, executable."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 2 * PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.memory[PAGE:] = vdso.image()
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) + PAGE
        self.symbols = vdsocode.code()[1]

    def data(self, *, valid: int = 1, counter: int = NEVER, mult: int = 0, monotonic: int = 0, real: int = 0) -> None:
        """Fill the data page; a counter base of NEVER makes time stand still."""
        struct.pack_into("<IIQQQQ", self.memory, 0, 2, valid, counter, mult, monotonic, real)

    def call(self, name: str, *arguments: object) -> int:
        address = self.base + vdsocode.CODE_AT + self.symbols[f"__vdso_{name}"]
        kind = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_void_p] * len(arguments))
        return int(kind(address)(*arguments))

    def ns(self, clock: int) -> int:
        """clock_gettime, in nanoseconds."""
        out = pair()
        result = self.call("clock_gettime", clock, ctypes.addressof(out))
        assert ctypes.c_int(result).value == 0
        assert 0 <= out[1] < SECOND
        return int(out[0]) * SECOND + int(out[1])


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    yield Loaded()


def as_int(value: int) -> int:
    return ctypes.c_int(value & 0xFFFFFFFF).value


@given(monotonic=st.integers(0, 1 << 62), real=st.integers(0, 1 << 62))
def test_what_the_page_says(loaded: Loaded, monotonic: int, real: int) -> None:
    loaded.data(monotonic=monotonic, real=real)
    assert [loaded.ns(c) for c in STEADY] == [monotonic] * 4
    assert [loaded.ns(c) for c in REAL] == [real] * 3
    out = pair()
    assert as_int(loaded.call("gettimeofday", ctypes.addressof(out), None)) == 0
    assert tuple(out) == (real // SECOND, real % SECOND // 1000)
    assert loaded.call("time", ctypes.addressof(out)) == real // SECOND == out[0]
    assert loaded.call("time", None) == real // SECOND


def test_time_goes_on_at_the_given_rate(loaded: Loaded) -> None:
    loaded.data(counter=0, mult=1 << 32)
    counter = loaded.ns(MONOTONIC)
    assert counter > 0
    loaded.data(counter=0, mult=3 << 31, monotonic=5)
    assert loaded.ns(MONOTONIC) >= counter * 3 // 2 + 5
    loaded.data(counter=0, mult=1)
    assert loaded.ns(MONOTONIC) >= counter >> 32
    loaded.data(counter=counter, mult=1 << 32, monotonic=7 * SECOND)
    samples = [loaded.ns(MONOTONIC) for _ in range(2000)]
    assert samples == sorted(samples) and samples[0] > 7 * SECOND


def test_products_beyond_64_bits(loaded: Loaded) -> None:
    """The counter times the rate has 128 bits on the way."""
    loaded.data(counter=0, mult=1 << 32)
    low = loaded.ns(MONOTONIC)
    loaded.data(counter=0, mult=1 << 40)
    assert loaded.ns(MONOTONIC) >= low << 8


@pytest.mark.parametrize("valid", [0, 2])
def test_a_page_that_is_not_valid_means_system_calls(loaded: Loaded, valid: int) -> None:
    loaded.data(valid=valid, monotonic=1, real=1)
    before = time.monotonic_ns()
    assert before <= loaded.ns(MONOTONIC) <= time.monotonic_ns()
    out = pair()
    assert as_int(loaded.call("gettimeofday", ctypes.addressof(out), None)) == 0
    assert abs(out[0] - time.time()) < 60
    assert abs(loaded.call("time", None) - time.time()) < 60


def test_what_only_the_system_call_answers(loaded: Loaded) -> None:
    loaded.data(monotonic=1, real=1)
    before = time.thread_time_ns()
    assert before <= loaded.ns(time.CLOCK_THREAD_CPUTIME_ID) <= time.thread_time_ns()
    out = pair()
    for clock in (10, 12, 31, 32, 33, 0x7FFFFFFF, 0x80000000):
        assert as_int(loaded.call("clock_gettime", clock, ctypes.addressof(out))) == -errno.EINVAL
        assert as_int(loaded.call("clock_getres", clock, ctypes.addressof(out))) == -errno.EINVAL
    assert as_int(loaded.call("clock_gettime", MONOTONIC, None)) == -errno.EFAULT
    zone = pair(7, 7)
    assert as_int(loaded.call("gettimeofday", ctypes.addressof(out), ctypes.addressof(zone))) == 0
    assert abs(out[0] - time.time()) < 60 and zone[0] != 7
    assert as_int(loaded.call("gettimeofday", None, None)) == 0


def test_resolution(loaded: Loaded) -> None:
    out = pair()
    for clock in (*STEADY, *REAL):
        assert as_int(loaded.call("clock_getres", clock, None)) == 0
        assert as_int(loaded.call("clock_getres", clock, ctypes.addressof(out))) == 0
        assert tuple(out) == (0, 4_000_000 if clock in (MONOTONIC_COARSE, REALTIME_COARSE) else 1)


def test_getcpu(loaded: Loaded) -> None:
    out = pair(-1, -1)
    at = ctypes.addressof(out)
    assert as_int(loaded.call("getcpu", at, None, None)) == 0
    assert as_int(loaded.call("getcpu", None, at + 8, None)) == 0
    assert tuple(out) == (-1 << 32, -1 << 32)  # 32 bits each, and no more
