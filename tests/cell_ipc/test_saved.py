"""A cell saved in the middle of blocked calls goes on from its bytes as if nothing had happened."""

from __future__ import annotations

import struct

from prong.cell.core.fdtable import FdTable
from prong.cell.core.saved import saved
from prong.cell.ipc.net import Loopback
from prong.cell.state.codec import decode, encode
from prong.cell.task.signals import Signals
from prong.cell.task.task import Scheduler, Task
from tests.cell_ipc.rig import Cell, ManualClock, Script, inet

MS = 1_000_000


@saved("test_ipc_state")
class State:
    """The part of a kernel this package lives in."""

    def __init__(self, fds: FdTable, net: Loopback, sched: Scheduler, signals: Signals) -> None:
        self.fds = fds
        self.net = net
        self.sched = sched
        self.signals = signals


def reborn(cell: Cell) -> Cell:
    """A new cell that goes on from the old one's bytes; program memory is copied."""
    kernel = cell.kernel
    state = decode(encode(State(kernel.fds, cell.net, cell.sched, kernel.signals)), None, State)
    new = Cell()
    new.mem.data[:] = cell.mem.data
    clock = state.sched.clock
    assert isinstance(clock, ManualClock)
    new.kernel.fds, new.kernel.net, new.kernel.sched = state.fds, state.net, state.sched
    new.kernel.signals, new.kernel.clock = state.signals, clock
    new.net, new.sched, new.clock = state.net, state.sched, clock
    new.main = state.sched.tasks[cell.main.tid]
    return new


def twin(cell: Cell, task: Task) -> Task:
    return cell.sched.tasks[task.tid]


def test_blocked_calls_go_on_after_a_snapshot() -> None:
    old = Cell()
    s = Script(old)
    r, w = s.pipe(0)
    a, b = s.pair("socketpair", 1, 1, 0, old.at(0))
    epoll, timer = s.new("epoll_create1", 0), s.new("timerfd_create", 1, 0)
    s.epoll_ctl(epoll, 1, timer, 1, 5)
    old.call("timerfd_settime", timer, 0, old.put(0x100, struct.pack("<qqqq", 0, 0, 0, 30 * MS)), 0)
    server = s.new("socket", 2, 1, 0)
    s.bind(server, inet("127.0.0.1", 6000)), s.do("listen", server, 0)
    reader, writer, poller, acceptor = (old.spawn() for _ in range(4))
    old.put(0x10000, bytes(range(250)) * 2000)
    assert old.start(reader, "read", r, old.at(0x100), 10) is None
    assert old.start(writer, "sendto", a, old.at(0x10000), 500_000, 0, 0, 0) is None
    assert old.start(poller, "epoll_wait", epoll, old.at(0x200), 4, 0xFFFFFFFF) is None
    assert old.start(acceptor, "accept4", server, 0, 0, 0) is None

    new = reborn(reborn(old))
    again = Script(new)
    assert new.call("write", w, new.put(0x300, b"hello"), 5) == 5
    new.clock.advance(31 * MS)
    client = again.new("socket", 2, 1, 0)
    assert again.connect(client, inet("127.0.0.1", 6000)) == 0
    new.run()
    assert new.result(twin(new, reader)) == 5 and new.get(0x100, 5) == b"hello"
    assert new.result(twin(new, poller)) == 1
    assert (new.result(twin(new, acceptor)) or -1) > 0
    seen = b""
    while len(seen) < 500_000:
        got = new.call("recvfrom", b, new.at(0xA0000), 100_000, 0, 0, 0)
        seen += new.get(0xA0000, got)
        new.run()
    assert seen == bytes(range(250)) * 2000 and new.result(twin(new, writer)) == 500_000
    assert old.result(reader) is None, "the original is a cell of its own"
    new.close_all()
    assert new.net.held == 0 and new.net.watches == 0
