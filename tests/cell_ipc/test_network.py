"""The edges of the cell's network: what it tells of its interface, what it refuses, what it never holds."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from prong.cell.ipc.net import MAX_HELD, MAX_PIPE_PAGES
from prong.cell.ipc.socket import MAX_BUFFER
from tests.cell_ipc.rig import Cell, Machine, Script, both, inet

ROUTE = 0
RTM_GETLINK, RTM_GETADDR, DONE, DUMP = 18, 22, 3, 0x301


@pytest.fixture
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close_all()
    assert made.net.held == 0 and made.net.inflight == 0 and made.net.pipe_pages == 0


def attributes(raw: bytes) -> dict[int, bytes]:
    """A list of struct rtattr."""
    found, at = {}, 0
    while at + 4 <= len(raw):
        size, kind = struct.unpack_from("<HH", raw, at)
        found[kind & 0x3FFF] = raw[at + 4 : at + size]
        at += max(size, 4) + 3 & ~3
    return found


def dump(m: Machine, request: int, fixed: int) -> list[object]:
    """Ask NETLINK_ROUTE as glibc does; what it says of interface 1."""
    fd = m.call("socket", 16, 3, ROUTE)
    name = m.put(0x100, struct.pack("<HHII", 16, 0, 0, 0))
    assert m.call("bind", fd, name, 12) == 0
    m.put(0x180, struct.pack("<i", 12))
    assert m.call("getsockname", fd, m.at(0x140), m.at(0x180)) == 0
    port = struct.unpack("<HHII", m.get(0x140, 12))[2]
    assert port
    ask = struct.pack("<IHHIIB3x", 20, request, DUMP, 42, 0, 0)
    assert m.call("sendto", fd, m.put(0x200, ask), 20, 0, name, 12) == 20
    seen: list[object] = []
    while True:
        m.put(0x180, struct.pack("<i", 12))
        size = m.call("recvfrom", fd, m.at(0x1000), 65536, 0, m.at(0x140), m.at(0x180))
        assert size > 0 and struct.unpack("<HHII", m.get(0x140, 12)) == (16, 0, 0, 0)
        raw, at = m.get(0x1000, size), 0
        while at < size:
            length, kind, flags, seq, to = struct.unpack_from("<IHHII", raw, at)
            assert (seq, to) == (42, port) and flags & 2
            if kind == DONE:
                return seen
            body = raw[at + 16 : at + length]
            if struct.unpack_from("<i", body, 4)[0] == 1:
                found = attributes(body[fixed:])
                # A link's flags and an address's lifetime depend on the host; who it is does not.
                head = body[:2] if request == RTM_GETADDR else body[:4]
                seen.append((kind, head, [found.get(k) for k in ((1, 2, 3) if request == RTM_GETADDR else (1, 3, 4))]))
            at += length + 3 & ~3


def test_netlink_tells_of_the_loopback_as_linux_does() -> None:
    both(lambda m: dump(m, RTM_GETLINK, 16))
    both(lambda m: sorted(map(str, dump(m, RTM_GETADDR, 8))))


def test_interface_ioctls() -> None:
    def ask(m: Machine) -> object:
        s = Script(m)
        fd = s.new("socket", 2, 2, 0)
        for request in (0x8913, 0x8915, 0x891B, 0x891D, 0x8921, 0x8927, 0x8933, 0x8942, 0x5410):
            for name in (b"lo", b"no-such"):
                arg = m.put(0x100, name.ljust(40, b"\0"))
                result = s.do("ioctl", fd, request, arg)
                s.note("ifreq", m.get(0x110, 16) if result == 0 and request != 0x8913 else None)
        s.do("ioctl", fd, 0x8910, m.put(0x100, bytes(16) + struct.pack("<i", 1) + bytes(20)))
        s.note("name", m.get(0x100, 16))
        s.do("ioctl", fd, 0x8910, m.put(0x100, bytes(16) + struct.pack("<i", 9999) + bytes(20)))
        return s.log

    both(ask)


def test_the_outside_is_refused_and_remembered(cell: Cell) -> None:
    s = Script(cell)
    tcp, udp = s.new("socket", 2, 1, 0), s.new("socket", 2, 2, 0)
    assert s.connect(tcp, inet("93.184.216.34", 80)) == -errno.ENETUNREACH
    assert s.sendto(udp, b"x", inet("8.8.8.8", 53)) == -errno.ENETUNREACH
    assert s.connect(udp, inet("8.8.8.8", 53)) == -errno.ENETUNREACH
    assert s.do("socket", 17, 3, 0) == -errno.EAFNOSUPPORT
    assert s.do("socket", 2, 3, 1) == -errno.EPERM
    assert s.do("socket", 16, 3, 9) == -errno.EAFNOSUPPORT
    assert cell.refusals.total == 6
    assert {r.kind for r in cell.refusals.counts} == {"network"}
    assert any("93.184.216.34 port 80" in r.detail for r in cell.refusals.counts)
    assert s.connect(tcp, inet("127.0.0.1", 80)) == -errno.ECONNREFUSED
    assert cell.refusals.total == 6


def test_a_name_server_that_is_not_there_fails_at_once(cell: Cell) -> None:
    """What glibc's resolver does when nobody listens on 127.0.0.1:53."""
    s = Script(cell)
    fd = s.new("socket", 2, 2 | 0o4000, 0)
    assert s.connect(fd, inet("127.0.0.1", 53)) == 0
    assert s.send(fd, b"query") == 5
    assert s.poll(fd, 1) == 8
    assert cell.call("recvfrom", fd, cell.at(0), 9, 0, 0, 0) == -errno.ECONNREFUSED


def test_unix_sockets_on_paths(cell: Cell) -> None:
    s = Script(cell)
    name = b"\x01\0/tmp/door\0"
    server = s.new("socket", 1, 1, 0)
    assert s.bind(server, name) == 0 and s.do("listen", server, 1) == 0
    assert s.named("getsockname", server) == name
    other = s.new("socket", 1, 1, 0)
    assert s.bind(other, name) == -errno.EADDRINUSE
    assert s.connect(other, b"\x01\0/tmp/nowhere\0") == -errno.ENOENT
    assert s.connect(s.new("socket", 1, 2, 0), name) == -errno.EPROTOTYPE
    assert s.connect(other, name) == 0 and s.named("getpeername", other) == name
    s.close(server)
    assert s.connect(s.new("socket", 1, 1, 0), name) == -errno.ECONNREFUSED


def test_one_socket_holds_little(cell: Cell) -> None:
    s = Script(cell)
    for kind in (1, 2, 5):
        a, _ = s.socketpair(kind)
        s.setsockopt(a, 1, 7, 1 << 30)
        before = cell.net.held
        while cell.call("sendto", a, cell.at(0), 1000, 0x40, 0, 0) > 0:
            pass
        assert 0 < cell.net.held - before <= MAX_BUFFER


def test_all_sockets_together_hold_a_bounded_amount(cell: Cell) -> None:
    s = Script(cell)
    last = 0
    for _ in range(400):
        a, _ = s.socketpair(1)
        while (last := cell.call("sendto", a, cell.at(0), 250_000, 0x40, 0, 0)) > 0:
            pass
        if last == -errno.ENOBUFS:
            break
    assert last == -errno.ENOBUFS and cell.net.held <= MAX_HELD


def test_connections_nobody_accepts_are_counted(cell: Cell) -> None:
    s = Script(cell)
    server = s.new("socket", 2, 1, 0)
    s.bind(server, inet("127.0.0.1", 4000)), s.do("listen", server, 1 << 30)
    made = 0
    for _ in range(5000):
        client = cell.call("socket", 2, 1 | 0o4000, 0)
        cell.call("connect", client, cell.put(0, inet("127.0.0.1", 4000)), 16)
        if cell.call("getpeername", client, cell.at(0x40), cell.put(0x80, b"\x10\0\0\0")) < 0:
            break
        made += 1
        cell.call("close", client)
    assert made == 4097


def test_pipes_shrink_when_there_are_many(cell: Cell) -> None:
    cell.kernel.fds.limit = 4000
    s = Script(cell)
    ends = [s.pipe() for _ in range(MAX_PIPE_PAGES // 16 + 2)]
    assert cell.call("fcntl", ends[0][0], 1032, 0) == 65536
    assert cell.call("fcntl", ends[-1][0], 1032, 0) == 8192
    assert cell.call("fcntl", ends[-1][0], 1031, 1 << 20) == -errno.EPERM
    cell.call("close", ends[0][0]), cell.call("close", ends[0][1])
    r, _ = s.pipe()
    assert cell.call("fcntl", r, 1032, 0) == 65536
