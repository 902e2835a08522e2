"""The time page's arithmetic, against a made-up host whose clocks and counter the tests move."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from prong.cell.cpu import timepage
from prong.cell.cpu.timepage import TimePage
from prong.cell.memory.layout import FIRST_FREE, PAGE
from prong.cell.memory.phys import Physical
from prong.cell.memory.space import Space
from prong.cell.program.vdso import map_vdso
from prong.cell.task import clock as clock_module
from prong.cell.task.clock import Clock
from prong.kvm.device import Kvm, Vcpu

SECOND = 10**9
MS = 10**6
KHZ = 2_500_000
EPOCH = 1_700_000_000 * SECOND


class Host:
    """Clocks and a counter that tick at slightly different rates; reading them takes time."""

    def __init__(self, ppm: float = 0.0) -> None:
        self.now = 50 * SECOND
        self.real = EPOCH
        self.counts = 123_456_789_000
        self.per_ns = KHZ / 1e6 * (1 + ppm / 1e6)
        self.delays: Callable[[], int] = lambda: 1000
        self.counter_khz = KHZ

    def advance(self, ns: int) -> None:
        self.now += ns
        self.real += ns
        self.counts += int(ns * self.per_ns)

    def monotonic_ns(self) -> int:
        self.advance(20)
        return self.now

    def time_ns(self) -> int:
        self.advance(20)
        return self.real

    def get_msr(self, _index: int) -> int:
        self.advance(self.delays())
        counts = self.counts
        self.advance(self.delays())
        return counts


class Cell:
    """A space with a vDSO, a clock, and a time page over a made-up host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.space = Space(Physical(FIRST_FREE + 64))
        map_vdso(self.space)
        self.clock = Clock()
        self.power_on()

    def power_on(self) -> None:
        self.page = TimePage(self.space, self.clock, cast(Vcpu, self.host), cast(Kvm, self.host))
        self.page.refresh()

    def in_use(self) -> bool:
        """The page says it is valid, and the VMM thinks so."""
        assert self.page.valid == bool(self.fields()[1])
        return self.page.valid

    def fields(self) -> tuple[int, ...]:
        assert self.space.vvar_frame is not None
        return struct.unpack_from("<IIQQQQ", self.space.phys.bytes, self.space.vvar_frame * PAGE)

    def read(self, real: bool = False) -> int:
        """What a program gets from clock_gettime: see the machine code."""
        _seq, valid, counter, rate, monotonic_base, real_base = self.fields()
        if not valid:
            return self.clock.realtime() if real else self.clock.monotonic()
        counted = max(self.host.counts - counter, 0)
        return (counted * rate >> 32) + (real_base if real else monotonic_base)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    clocks = SimpleNamespace(monotonic_ns=host.monotonic_ns, time_ns=host.time_ns)
    monkeypatch.setattr(timepage, "time", clocks)
    monkeypatch.setattr(clock_module, "time", clocks)
    return host


def error(cell: Cell) -> int:
    """How far the page is from the clock, in ns."""
    return abs(cell.read() - cell.clock.monotonic())


def test_it_agrees_with_the_clock(host: Host) -> None:
    cell = Cell(host)
    assert cell.in_use()
    for _ in range(50):
        host.advance(100 * MS)
        assert error(cell) < 5000
        assert abs(cell.read(real=True) - cell.clock.realtime()) < 10_000
        cell.page.refresh()


@pytest.mark.parametrize("ppm", [-400.0, -20.0, 20.0, 400.0])
def test_it_learns_the_counters_rate(host: Host, ppm: float) -> None:
    host.per_ns *= 1 + ppm / 1e6
    cell = Cell(host)
    for _ in range(4):
        host.advance(SECOND)
        cell.page.refresh()
    host.advance(SECOND)
    assert error(cell) < 10_000


def test_an_anchor_is_renewed_once_a_second(host: Host) -> None:
    cell = Cell(host)
    first = cell.fields()
    host.advance(SECOND // 2)
    cell.page.refresh()
    assert cell.fields() == first
    host.advance(SECOND // 2)
    cell.page.refresh()
    assert cell.fields()[0] == first[0] + 2 and cell.fields()[2] > first[2]


def test_setting_the_time_is_seen_at_once(host: Host) -> None:
    cell = Cell(host)
    host.advance(100 * MS)
    cell.clock.set_realtime(5 * SECOND)
    assert abs(cell.read(real=True) - 5 * SECOND) < MS
    assert error(cell) < 5000
    cell.clock.set_realtime(1 << 62)
    assert not cell.in_use()
    assert abs(cell.read(real=True) - (1 << 62)) < MS
    cell.clock.set_realtime(0)
    assert cell.in_use() and cell.read(real=True) < MS


def test_a_step_of_the_hosts_real_time_is_seen_within_a_second(host: Host) -> None:
    cell = Cell(host)
    host.real += 3600 * SECOND
    host.advance(SECOND)
    cell.page.refresh()
    assert abs(cell.read(real=True) - cell.clock.realtime()) < MS


def test_suspended_means_system_calls_until_the_next_refresh(host: Host) -> None:
    cell = Cell(host)
    cell.page.suspend()
    assert cell.fields()[1:] == (0, 0, 0, 0, 0)
    cell.page.suspend()
    cell.page.refresh()
    assert cell.fields()[1] == 1


def test_a_lead_is_worked_off_or_left_to_the_clock(host: Host) -> None:
    cell = Cell(host)
    host.counts += int(400 * 1000 * host.per_ns)  # 0.4 ms
    host.advance(SECOND)
    ahead = cell.read()
    cell.page.refresh()
    assert cell.in_use() and cell.read() >= ahead and error(cell) > 300_000
    for _ in range(3):
        host.advance(SECOND)
        cell.page.refresh()
    host.advance(SECOND)
    assert error(cell) < 50_000
    host.counts += int(400 * 1000 * host.per_ns)
    told = cell.read()
    cell.page.suspend()
    assert cell.clock.monotonic() >= told


def test_a_host_that_slept(host: Host) -> None:
    """Its clock stood, the counter went on: one second by system calls, and all is well."""
    cell = Cell(host)
    host.counts += int(3600 * SECOND * host.per_ns)
    host.advance(SECOND)
    told = cell.read()
    cell.page.refresh()
    assert not cell.in_use() and cell.read() >= told
    host.advance(SECOND)
    cell.page.refresh()
    assert cell.in_use() and error(cell) < 5000 and cell.read() >= told


def test_a_counter_that_starts_again(host: Host) -> None:
    cell = Cell(host)
    told = cell.read()
    host.counts = 0
    assert cell.read() >= told - SECOND
    host.advance(SECOND)
    cell.page.refresh()
    assert not cell.in_use() and cell.read() >= told
    host.advance(SECOND)
    cell.page.refresh()
    assert cell.in_use() and error(cell) < 5000


def test_whatever_the_program_writes_into_its_page(host: Host) -> None:
    """It can make the page its own (mprotect) and write it: that is its own loss, and lasts until the next anchor."""
    cell = Cell(host)
    frame = cell.space.vvar_frame
    assert frame is not None
    for filling in (b"\xff", b"\x01", b"\0"):
        cell.space.phys.view(frame)[:] = filling * PAGE
        cell.page.anchor()
        assert error(cell) < 5000
        cell.space.phys.view(frame)[:] = filling * PAGE
        cell.page.suspend()
        assert cell.fields()[1] == 0 and not cell.fields()[0] % 2


def test_no_counter_no_page(host: Host) -> None:
    host.counter_khz = 0
    cell = Cell(host)
    host.advance(SECOND)
    cell.page.refresh()
    cell.page.suspend()
    cell.page.refresh()
    assert cell.fields() == (0, 0, 0, 0, 0, 0) and not cell.in_use()


def test_a_program_from_before_there_was_a_vdso(host: Host) -> None:
    cell = Cell(host)
    cell.space.vvar_frame = None
    cell.power_on()
    cell.page.suspend()
    cell.clock.set_realtime(0)
    assert not cell.page.valid


@pytest.mark.parametrize("seed", range(20))
def test_monotonic_time_never_goes_back(host: Host, seed: int) -> None:
    """Whatever happens: noise, slewing, forks and snapshots, setting the time, a host that sleeps."""
    dice = random.Random(seed)
    host.delays = lambda: int(dice.expovariate(1 / 3000))
    cell = Cell(host)
    last = 0
    for _ in range(2000):
        what = dice.random()
        host.advance(int(dice.expovariate(1 / (300 * MS))))
        now = cell.read()
        assert now >= last, (seed, last - now)
        last = now
        if what < 0.02:
            host.per_ns = KHZ / 1e6 * (1 + dice.uniform(-300, 300) / 1e6)
        elif what < 0.03:
            cell.clock.set_realtime(dice.randrange(1 << 61))
        elif what < 0.035:
            host.counts += int(dice.randrange(10 * SECOND) * host.per_ns)
        elif what < 0.06:
            cell.page.suspend()
            if dice.random() < 0.5:
                cell.power_on()
        elif what < 0.08:
            cell.page.suspend()
            cell.clock.freeze()
            host.advance(dice.randrange(100 * SECOND))
            cell.clock.thaw()
            cell.power_on()
        else:
            cell.page.refresh()
    assert last > 0


def test_every_change_changes_the_sequence(host: Host) -> None:
    cell = Cell(host)
    seen = [cell.fields()[0]]
    for step in (cell.page.anchor, cell.power_on, cell.page.suspend, cell.power_on, cell.page.anchor):
        step()
        seen.append(cell.fields()[0])
    assert len(set(seen)) == len(seen) and not any(n % 2 for n in seen)
