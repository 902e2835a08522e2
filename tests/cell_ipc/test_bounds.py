"""What a program may do a million times must not fill the host's memory."""

from __future__ import annotations

import struct

from prong.cell.ipc.epoll import Epoll
from tests.cell_ipc.rig import Cell, Script


def test_arming_a_timer_again_and_again_leaves_nothing() -> None:
    cell = Cell()
    fd = Script(cell).new("timerfd_create", 1, 0)
    spec = cell.put(0x100, struct.pack("<qqqq", 0, 0, 1 << 30, 0))
    for _ in range(5000):
        cell.call("timerfd_settime", fd, 0, spec, 0)
    assert len(cell.clock.timers) < 600


def test_watching_and_forgetting_again_and_again_leaves_nothing() -> None:
    cell = Cell()
    s = Script(cell)
    epoll, ready = s.new("epoll_create1", 0), s.new("eventfd2", 1, 0)
    event = cell.put(0x500, struct.pack("<IQ", 1, 7))
    other = s.new("eventfd2", 1, 0)
    cell.call("epoll_ctl", epoll, 1, other, event)
    for _ in range(5000):
        cell.call("epoll_ctl", epoll, 1, ready, event)
        cell.call("epoll_ctl", epoll, 2, ready, 0)
    instance = cell.kernel.fds.get(epoll)
    assert isinstance(instance, Epoll) and len(instance.ready) < 200 and cell.net.watches == 1
    assert s.epoll_wait(epoll) == [(7, 1)]
    assert instance.stale == 0


def test_closed_files_leave_every_set() -> None:
    cell = Cell()
    s = Script(cell)
    sets = [s.new("epoll_create1", 0) for _ in range(10)]
    for _ in range(200):
        fd = s.new("eventfd2", 1, 0)
        for epoll in sets:
            s.epoll_ctl(epoll, 1, fd, 1)
        s.close(fd)
    assert cell.net.watches == 0
    assert all(s.epoll_wait(epoll) == [] for epoll in sets)
