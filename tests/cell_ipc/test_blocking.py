"""Blocking calls: who waits, who is woken, what a timeout, a signal or a closed end does to them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from prong.cell.core.file import O_NONBLOCK, File
from prong.cell.core.saved import saved
from prong.cell.ipc.fifo import open_fifo
from prong.cell.ipc.pipe import Pipe, PipeEnd
from prong.cell.task.task import Task
from tests.cell_ipc.rig import OWN, Cell, Script, inet

MS = 1_000_000
SIGUSR1, SIGPIPE = 10, 13


@pytest.fixture
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close_all()
    assert made.net.held == 0, "socket memory is given back"
    assert made.net.pipe_pages == 0 and made.net.watches == 0 and made.net.inflight == 0


def socketpair(cell: Cell, kind: int = 1) -> tuple[int, int]:
    return Script(cell).pair("socketpair", 1, kind, 0, cell.at(0))


def test_a_reader_sleeps_until_a_byte_comes(cell: Cell) -> None:
    r, w = Script(cell).pipe(0)
    reader = cell.spawn()
    assert cell.start(reader, "read", r, cell.at(0x100), 10) is None
    cell.run()
    assert cell.result(reader) is None
    assert cell.call("write", w, cell.put(0x200, b"now"), 3) == 3
    cell.run()
    assert cell.result(reader) == 3 and cell.get(0x100, 3) == b"now"


def test_a_reader_is_woken_by_the_end(cell: Cell) -> None:
    r, w = Script(cell).pipe(0)
    reader = cell.spawn()
    assert cell.start(reader, "read", r, cell.at(0x100), 10) is None
    cell.call("close", w)
    cell.run()
    assert cell.result(reader) == 0


def test_a_large_write_goes_on_as_it_is_read(cell: Cell) -> None:
    r, w = Script(cell).pipe(0)
    data = bytes(range(256)) * 1000
    writer = cell.spawn()
    assert cell.start(writer, "write", w, cell.put(0x1000, data), len(data)) is None
    seen = b""
    while cell.result(writer) is None or len(seen) < len(data):
        got = cell.call("read", r, cell.at(0x80000), 50_000)
        seen += cell.get(0x80000, got)
        cell.run()
    assert cell.result(writer) == len(data) and seen == data


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_large_send_goes_on_as_it_is_received(cell: Cell, kind: str) -> None:
    a, b = socketpair(cell) if kind == "unix" else tcp_pair(cell)
    data = bytes(range(251)) * 2500
    writer, reader = cell.spawn(), cell.spawn()
    assert cell.start(writer, "sendto", a, cell.put(0x1000, data), len(data), 0, 0, 0) is None
    assert cell.start(reader, "recvfrom", b, cell.at(0x20000), len(data) // 4, 0x100, 0, 0) is not None
    cell.run()
    seen = cell.get(0x20000, cell.results[reader.tid])
    assert len(seen) == min(len(data) // 4, cell.results[reader.tid])
    while len(seen) < len(data):
        got = cell.call("recvfrom", b, cell.at(0xE0000), 60_000, 0, 0, 0)
        seen += cell.get(0xE0000, got)
        cell.run()
    assert cell.result(writer) == len(data)


def tcp_pair(cell: Cell) -> tuple[int, int]:
    s = Script(cell)
    server, client = s.new("socket", 2, 1, 0), s.new("socket", 2, 1, 0)
    s.bind(server, inet("127.0.0.1", 0)), s.do("listen", server, 1)
    address = s.named("getsockname", server)
    assert s.connect(client, address) == 0
    child = s.new("accept4", server, 0, 0, 0)
    s.close(server)
    return client, child


def test_waitall_collects(cell: Cell) -> None:
    a, b = socketpair(cell)
    reader = cell.spawn()
    assert cell.start(reader, "recvfrom", b, cell.at(0x100), 6, 0x100, 0, 0) is None
    for piece in (b"ab", b"cd", b"ef"):
        assert cell.result(reader) is None
        cell.call("sendto", a, cell.put(0x200, piece), 2, 0, 0, 0)
        cell.run()
    assert cell.result(reader) == 6 and cell.get(0x100, 6) == b"abcdef"


def test_a_signal_ends_waitall_with_what_came(cell: Cell) -> None:
    a, b = socketpair(cell)
    reader = cell.spawn()
    assert cell.start(reader, "recvfrom", b, cell.at(0x100), 6, 0x100, 0, 0) is None
    cell.call("sendto", a, cell.put(0x200, b"abc"), 3, 0, 0, 0)
    cell.run()
    cell.interrupt(reader)
    assert cell.result(reader) == 3


def test_receive_timeout(cell: Cell) -> None:
    _, b = socketpair(cell)
    Script(cell).setsockopt(b, 1, 20, struct.pack("<qq", 0, 50_000))
    reader = cell.spawn()
    assert cell.start(reader, "recvfrom", b, cell.at(0x100), 6, 0, 0, 0) is None
    assert reader.restart is False
    cell.clock.advance(49 * MS)
    cell.run()
    assert cell.result(reader) is None
    cell.clock.advance(2 * MS)
    cell.run()
    assert cell.result(reader) == -errno.EAGAIN


def test_accept_and_connect_meet(cell: Cell) -> None:
    s = Script(cell)
    server = s.new("socket", 2, 1, 0)
    s.bind(server, inet("127.0.0.1", 0)), s.do("listen", server, 0)
    address = s.named("getsockname", server)
    acceptor = cell.spawn()
    assert cell.start(acceptor, "accept4", server, 0, 0, 0) is None
    client = s.new("socket", 2, 1, 0)
    assert s.connect(client, address) == 0
    cell.run()
    assert (cell.result(acceptor) or -1) > 0


def test_a_full_backlog_makes_clients_wait(cell: Cell) -> None:
    s = Script(cell)
    server = s.new("socket", 2, 1, 0)
    s.bind(server, inet("127.0.0.1", 0)), s.do("listen", server, 0)
    address = s.named("getsockname", server)
    first, second, third = (s.new("socket", 2, 1, 0) for _ in range(3))
    assert s.connect(first, address) == 0
    waiters = [cell.spawn(), cell.spawn()]
    for task, fd in zip(waiters, (second, third), strict=True):
        assert cell.start(task, "connect", fd, cell.put(0x600, address), len(address)) is None
    s.new("accept4", server, 0, 0, 0)
    cell.run()
    assert [cell.result(t) for t in waiters] == [0, None]
    s.close(server)
    cell.run()
    assert cell.result(waiters[1]) == -errno.ECONNREFUSED


def test_unix_listener_with_a_full_queue(cell: Cell) -> None:
    s = Script(cell)
    server, name = s.new("socket", 1, 1, 0), b"\x01\0\0srv"
    s.bind(server, name), s.do("listen", server, 0)
    assert s.connect(s.new("socket", 1, 1, 0), name) == 0
    client, task = s.new("socket", 1, 1, 0), cell.spawn()
    assert cell.start(task, "connect", client, cell.put(0x600, name), len(name)) is None
    s.new("accept4", server, 0, 0, 0)
    cell.run()
    assert cell.result(task) == 0


@pytest.mark.parametrize("call", ["poll", "select", "epoll_wait", "ppoll", "pselect6"])
def test_waiting_for_many(cell: Cell, call: str) -> None:
    s = Script(cell)
    r, w = s.pipe()
    ep = s.new("epoll_create1", 0)
    s.epoll_ctl(ep, 1, r, 1, 9)
    poll = cell.put(0x300, struct.pack("<ihH", r, 1, 0))
    bits = cell.put(0x340, (1 << r).to_bytes(128, "little"))
    spec = cell.put(0x3D0, struct.pack("<qq", 0, 20 * MS))
    args = {
        "poll": (poll, 1, 20),
        "ppoll": (poll, 1, spec, 0, 8),
        "select": (r + 1, bits, 0, 0, cell.put(0x3E0, struct.pack("<qq", 0, 20_000))),
        "pselect6": (r + 1, bits, 0, 0, spec, 0),
        "epoll_wait": (ep, cell.at(0x500), 4, 20),
    }[call]
    task = cell.spawn()
    assert cell.start(task, call, *args) is None
    assert task.restart is False
    cell.clock.advance(19 * MS)
    cell.run()
    assert cell.result(task) is None
    cell.clock.advance(MS)
    cell.run()
    assert cell.result(task) == 0
    cell.put(0x340, (1 << r).to_bytes(128, "little"))
    cell.put(0x3D0, struct.pack("<qq", 0, 20 * MS)), cell.put(0x3E0, struct.pack("<qq", 0, 20_000))
    assert cell.start(task, call, *args) is None
    cell.clock.advance(5 * MS)
    s.write(w, b"x")
    cell.run()
    assert cell.result(task) == 1
    if call == "ppoll":
        assert struct.unpack("<qq", cell.get(0x3D0, 16)) == (0, 15 * MS)
    if call == "select":
        assert struct.unpack("<qq", cell.get(0x3E0, 16)) == (0, 15_000)


def masks(task: Task) -> tuple[int, int | None]:
    return task.sigmask, task.saved_sigmask


def test_ppoll_swaps_the_mask_and_restores_it(cell: Cell) -> None:
    task = cell.spawn()
    task.sigmask = 0xF0
    mask, spec = cell.put(0x100, struct.pack("<Q", 0x200)), cell.put(0x120, struct.pack("<qq", 0, MS))
    assert cell.start(task, "ppoll", 0, 0, spec, mask, 8) is None
    assert masks(task) == (0x200, 0xF0)
    cell.clock.advance(MS)
    cell.run()
    assert cell.result(task) == 0 and masks(task) == (0xF0, None)
    assert cell.start(task, "ppoll", 4, 1, 0, mask, 8) == -errno.EFAULT
    assert masks(task) == (0xF0, None)


def test_two_readers_one_byte(cell: Cell) -> None:
    r, w = Script(cell).pipe(0)
    readers = [cell.spawn(), cell.spawn()]
    for i, task in enumerate(readers):
        assert cell.start(task, "read", r, cell.at(0x100 + i), 1) is None
    cell.call("write", w, cell.put(0x200, b"x"), 1)
    cell.run()
    assert sorted(str(cell.result(t)) for t in readers) == ["1", "None"]
    cell.call("write", w, cell.at(0x200), 1)
    cell.run()
    assert [cell.result(t) for t in readers] == [1, 1]


def test_eventfd_writer_waits_for_room(cell: Cell) -> None:
    fd = Script(cell).new("eventfd2", 0, 0)
    most = cell.put(0x100, struct.pack("<Q", 2**64 - 2))
    assert cell.call("write", fd, most, 8) == 8
    writer = cell.spawn()
    assert cell.start(writer, "write", fd, cell.put(0x110, struct.pack("<Q", 5)), 8) is None
    assert cell.call("read", fd, cell.at(0x120), 8) == 8
    cell.run()
    assert cell.result(writer) == 8


def test_timerfd_counts_and_wakes(cell: Cell) -> None:
    s = Script(cell)
    fd = s.new("timerfd_create", 1, 0)
    spec = cell.put(0x100, struct.pack("<qqqq", 0, 10 * MS, 0, 30 * MS))
    assert cell.call("timerfd_settime", fd, 0, spec, 0) == 0
    reader = cell.spawn()
    assert cell.start(reader, "read", fd, cell.at(0x200), 8) is None
    cell.clock.advance(55 * MS)
    cell.run()
    assert cell.result(reader) == 8 and struct.unpack("<Q", cell.get(0x200, 8))[0] == 3
    assert cell.call("timerfd_gettime", fd, cell.at(0x300)) == 0
    assert struct.unpack("<qqqq", cell.get(0x300, 32)) == (0, 10 * MS, 0, 5 * MS)
    off = cell.put(0x100, bytes(32))
    assert cell.call("timerfd_settime", fd, 0, off, cell.at(0x300)) == 0
    assert struct.unpack("<qqqq", cell.get(0x300, 32)) == (0, 10 * MS, 0, 5 * MS)
    cell.clock.advance(100 * MS)
    assert s.poll(fd) == 0


def test_timerfd_follows_the_real_clock(cell: Cell) -> None:
    s = Script(cell)
    fd = s.new("timerfd_create", 0, O_NONBLOCK)
    due = cell.clock.realtime() + 100 * MS
    cell.call("timerfd_settime", fd, 1, cell.put(0x100, struct.pack("<qqqq", 0, 0, due // 10**9, due % 10**9)), 0)
    cell.clock.real_offset -= 50 * MS
    cell.clock.advance(120 * MS)
    assert s.poll(fd) == 0
    cell.clock.advance(40 * MS)
    assert s.poll(fd) == 1


def test_a_timer_of_one_nanosecond_does_not_hang(cell: Cell) -> None:
    s = Script(cell)
    fd = s.new("timerfd_create", 1, O_NONBLOCK)
    cell.call("timerfd_settime", fd, 0, cell.put(0x100, struct.pack("<qqqq", 0, 1, 0, 1)), 0)
    cell.clock.advance(10 * MS)
    assert s.read(fd, 8) == struct.pack("<Q", 10 * MS)


def test_signalfd_reads_signals(cell: Cell) -> None:
    s = Script(cell)
    bit = 1 << (SIGUSR1 - 1)
    cell.main.sigmask = bit
    fd = s.new("signalfd4", 0xFFFFFFFF, cell.put(0x100, struct.pack("<Q", bit)), 8, 0)
    assert s.poll(fd) == 0
    reader = cell.spawn()
    reader.sigmask = bit
    assert cell.start(reader, "read", fd, cell.at(0x200), 1000) is None
    assert cell.kernel.signals.post(SIGUSR1)
    cell.run()
    assert cell.result(reader) == 128
    assert struct.unpack("<I", cell.get(0x200, 4))[0] == SIGUSR1
    assert s.poll(fd) == 0


def test_sigpipe_unless_asked_not_to(cell: Cell) -> None:
    a, b = socketpair(cell)
    cell.call("close", b)
    cell.main.sigmask = 1 << (SIGPIPE - 1)
    assert cell.call("sendto", a, cell.put(0, b"x"), 1, 0x4000, 0, 0) == -errno.EPIPE
    assert not cell.main.pending_mask
    assert cell.call("sendto", a, cell.put(0, b"x"), 1, 0, 0, 0) == -errno.EPIPE
    assert cell.main.pending_mask == cell.main.sigmask


def test_many_messages(cell: Cell) -> None:
    a, b = socketpair(cell, 2)

    def vector(offset: int, data: list[bytes]) -> int:
        at = 0x4000 + offset
        for i, d in enumerate(data):
            iov = cell.put(at + 0x800 + 16 * i, struct.pack("<QQ", cell.put(at + 0x1000 + 64 * i, d), len(d)))
            cell.put(at + 64 * i, struct.pack("<QI4xQQQQi4xI4x", 0, 0, iov, 1, 0, 0, 0, 0))
        return cell.at(at)

    assert cell.call("sendmmsg", a, vector(0, [b"one", b"three", b""]), 3, 0) == 3
    assert [struct.unpack("<I", cell.get(0x4000 + 64 * i + 56, 4))[0] for i in range(3)] == [3, 5, 0]
    into = vector(0x4000, [bytes(8)] * 4)
    assert cell.call("recvmmsg", b, into, 4, 0x10000, 0) == 3
    assert [struct.unpack("<I", cell.get(0x8000 + 64 * i + 56, 4))[0] for i in range(3)] == [3, 5, 0]
    task = cell.spawn()
    assert cell.start(task, "recvmmsg", b, into, 2, 0, 0) is None
    cell.call("sendmmsg", a, vector(0, [b"a"]), 1, 0)
    cell.run()
    assert cell.result(task) is None
    cell.interrupt(task)
    assert cell.result(task) == 1


def test_descriptors_in_flight_are_counted_and_freed(cell: Cell) -> None:
    s = Script(cell)
    r, w = s.pipe(0)
    a, b = socketpair(cell)
    control = struct.pack("<QIIi4x", 20, 1, 1, w)
    iov = cell.put(0x300, struct.pack("<QQ", cell.put(0x310, b"x"), 1))
    header = cell.put(0x380, struct.pack("<QI4xQQQQi4x", 0, 0, iov, 1, cell.put(0x400, control), len(control), 0))
    assert cell.call("sendmsg", a, header, 0) == 1
    assert cell.net.inflight == 1
    cell.call("close", w)
    reader = cell.spawn()
    assert cell.start(reader, "read", r, cell.at(0x100), 1) is None
    cell.call("close", b)
    cell.run()
    assert cell.net.inflight == 0 and cell.result(reader) == 0


def test_sockets_nested_in_flight_are_released_without_recursion(cell: Cell) -> None:
    s = Script(cell)
    inner = s.new("eventfd2", 0, 0)
    for _ in range(400):
        a, b = socketpair(cell)
        control = struct.pack("<QIIi4x", 20, 1, 1, inner)
        iov = cell.put(0x300, struct.pack("<QQ", cell.put(0x310, b"x"), 1))
        header = cell.put(0x380, struct.pack("<QI4xQQQQi4x", 0, 0, iov, 1, cell.put(0x400, control), len(control), 0))
        assert cell.call("sendmsg", a, header, 0) == 1
        cell.call("close", inner), cell.call("close", a)
        inner = b
    assert cell.net.inflight == 400
    cell.call("close", inner)
    assert cell.net.inflight == 0


@saved("test_fifo_node")
class Node(File):
    """Stands in for a FIFO's inode."""


def fifo(cell: Cell, pipe: Pipe, task: Task, flags: int) -> int | None:
    """open(2) of a FIFO as a call that may block."""
    number = 100_000 + flags
    OWN[number] = (lambda kernel, caller: kernel.fds.install(open_fifo(caller, pipe, flags, Node())), 0)
    task.call = (number,)
    cell.results.pop(task.tid, None)
    cell._attempt(task)
    return cell.result(task)


def test_fifo_ends_wait_for_each_other(cell: Cell) -> None:
    pipe = Pipe(cell.net)
    reader, writer = cell.spawn(), cell.spawn()
    assert fifo(cell, pipe, writer, 1 | O_NONBLOCK) == -errno.ENXIO
    assert fifo(cell, pipe, reader, 0) is None
    w = fifo(cell, pipe, writer, 1)
    assert w is not None
    # The writer may write and go before the reader runs again; nothing is lost.
    assert cell.call("write", w, cell.put(0, b"quick"), 5) == 5
    cell.call("close", w)
    cell.run()
    r = cell.result(reader)
    assert r is not None and cell.call("read", r, cell.at(0x100), 9) == 5
    assert cell.call("read", r, cell.at(0x100), 9) == 0
    assert Script(cell).poll(r) == 0x10
    cell.call("close", r)
    assert fifo(cell, pipe, writer, 1) is None
    cell.interrupt(writer)
    r = fifo(cell, pipe, reader, 0 | O_NONBLOCK)
    assert r is not None and Script(cell).poll(r) == 0
    both = fifo(cell, pipe, writer, 2)
    assert both is not None and isinstance(cell.kernel.fds.get(both), PipeEnd)
