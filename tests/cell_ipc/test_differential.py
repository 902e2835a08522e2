"""The same raw system calls on this host's kernel and on the cell's handlers must give the same results."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import pytest

from prong.cell.core.file import O_NONBLOCK
from tests.cell_ipc.rig import F_GETPIPE_SZ, F_SETPIPE_SZ, FIONREAD, Machine, Script, both, inet, port_of

STREAM, DGRAM, SEQPACKET = 1, 2, 5
UNIX, INET, INET6 = 1, 2, 10
NOSIGNAL, PEEK, TRUNC, DONTWAIT, WAITALL, OOB = 0x4000, 2, 0x20, 0x40, 0x100, 1
ET, ONESHOT = 1 << 31, 1 << 30
O_DIRECT = 0o40000


def fionread(s: Script, fd: int) -> int:
    s.do("ioctl", fd, FIONREAD, s.m.put(0x300, bytes(4)))
    return s.note("value", struct.unpack("<i", s.m.get(0x300, 4))[0])


def pipe_basics(s: Script) -> None:
    r, w = s.pipe()
    s.poll(r), s.poll(w)
    s.read(r, 10)
    s.write(w, b"hello"), s.write(w, b" world")
    fionread(s, r), fionread(s, w)
    s.poll(r)
    s.read(r, 3), s.read(r, 100), s.read(r, 0)
    s.write(r, b"x"), s.read(w, 1)
    s.write(w, b"tail")
    s.close(w)
    s.poll(r), s.read(r, 2), s.poll(r), s.read(r, 10), s.read(r, 10), s.poll(r)


def pipe_broken(s: Script) -> None:
    r, w = s.pipe()
    s.close(r)
    s.poll(w), s.write(w, b""), s.write(w, b"x"), s.poll(w)


def pipe_capacity(s: Script) -> None:
    r, w = s.pipe()
    for size in (3000, 3000, 1000, 5000, 4096, 10000, 70000, 1):
        s.write(w, b"a" * size)
    s.poll(w), fionread(s, r)
    s.read(r, 1), s.poll(w), s.read(r, 2999), s.poll(w)
    s.write(w, b"b" * 4096), s.write(w, b"c" * 8192)
    for size in (5000, 1 << 18):
        s.read(r, size)
    s.poll(w)


def pipe_sizes(s: Script) -> None:
    r, w = s.pipe()
    s.do("fcntl", r, F_GETPIPE_SZ, 0)
    for size in (1, 4097, 1 << 20, 8192):
        s.do("fcntl", w, F_SETPIPE_SZ, size), s.do("fcntl", r, F_GETPIPE_SZ, 0)
    s.write(w, b"a" * 20000)
    s.do("fcntl", w, F_SETPIPE_SZ, 4096)


def pipe_packets(s: Script) -> None:
    r, w = s.pipe(O_NONBLOCK | O_DIRECT)
    s.write(w, b"one"), s.write(w, b"two two"), s.write(w, b"x" * 5000)
    s.read(r, 2), s.read(r, 100), s.read(r, 9000), s.read(r, 9000), s.read(r, 1)


def eventfd(s: Script) -> None:
    for flags in (O_NONBLOCK, O_NONBLOCK | 1):
        fd = s.new("eventfd2", 3, flags)
        s.poll(fd), s.read(fd, 8), s.read(fd, 8), s.read(fd, 4), s.write(fd, b"1234")
        s.write(fd, struct.pack("<Q", 2**64 - 1))
        s.write(fd, struct.pack("<Q", 2**64 - 2)), s.poll(fd), s.write(fd, struct.pack("<Q", 1))
        s.read(fd, 100), s.poll(fd)
    s.new("eventfd2", 0, 2)


def timerfd(s: Script) -> None:
    s.new("timerfd_create", 4, 0), s.new("timerfd_create", 1, 3)
    fd = s.new("timerfd_create", 1, O_NONBLOCK)
    s.read(fd, 8), s.read(fd, 7), s.poll(fd), s.write(fd, b"x" * 8)
    for spec in ((0, 0, 0, 10**9), (0, -1, 0, 1), (-1, 0, 0, 0), (0, 0, 100, 0), (7, 0, 0, 0)):
        s.do("timerfd_settime", fd, 0, s.m.put(0x300, struct.pack("<qqqq", *spec)), 0)
    s.do("timerfd_gettime", fd, s.m.at(0x340)), s.note("off", s.m.get(0x340, 32))
    s.do("timerfd_settime", fd, 4, s.m.put(0x300, bytes(32)), 0)
    s.do("timerfd_settime", fd, 1, s.m.put(0x300, struct.pack("<qqqq", 0, 0, 0, 1)), 0)
    s.poll(fd), s.read(fd, 8), s.read(fd, 8)
    other = s.new("eventfd2", 0, 0)
    s.do("timerfd_gettime", other, s.m.at(0x340))


def stream_pair(s: Script) -> None:
    a, b = s.socketpair(STREAM)
    s.poll(a), s.recv(a, 10), s.send(a, b"hello"), s.send(a, b"world")
    fionread(s, b)
    s.recv(b, 3, PEEK), s.recv(b, 20), s.poll(b)
    s.do("shutdown", a, 1)
    s.poll(a), s.poll(b), s.recv(b, 1), s.send(a, b"x"), s.send(b, b"back"), s.recv(a, 9)
    s.do("shutdown", b, 0), s.poll(a), s.poll(b)
    s.close(b)
    s.poll(a), s.recv(a, 1), s.send(a, b"x")


def stream_unread(s: Script) -> None:
    a, b = s.socketpair(STREAM)
    s.send(a, b"never read"), s.send(b, b"still there")
    s.close(b)
    s.poll(a), s.recv(a, 5), s.recv(a, 50), s.recv(a, 5), s.recv(a, 5), s.poll(a), s.send(a, b"x")


def packet_pair(s: Script) -> None:
    for kind in (DGRAM, SEQPACKET):
        a, b = s.socketpair(kind)
        s.poll(a), s.send(a, b"one"), s.send(a, b""), s.send(a, b"three")
        fionread(s, b)
        s.recv(b, 2), s.recv(b, 2), s.recv(b, 2, TRUNC), s.recv(b, 2)
        s.do("shutdown", a, 1), s.poll(a), s.poll(b), s.send(a, b"x"), s.send(b, b"y"), s.recv(b, 1)
        s.close(b)
        s.poll(a), s.recv(a, 9), s.recv(a, 9), s.send(a, b"x"), s.send(a, b"x"), s.poll(a)


def unix_names(s: Script) -> None:
    name = b"\x01\x00\0prong-test-" + bytes(str(id(s)), "ascii")
    server = s.new("socket", UNIX, STREAM | O_NONBLOCK, 0)
    s.do("listen", server, 1), s.named("getsockname", server), s.named("getpeername", server)
    s.bind(server, b"\x01"), s.bind(server, b"\x02\0abc"), s.bind(server, b"\x01\0" + b"x" * 109)
    s.bind(server, name), s.bind(server, name), s.do("listen", server, 1)
    s.do("accept4", server, 0, 0, 0), s.poll(server)
    clients = [s.new("socket", UNIX, STREAM | O_NONBLOCK, 0) for _ in range(4)]
    for c in clients:
        s.poll(c), s.connect(c, name), s.poll(c)
    s.poll(server), s.connect(clients[0], name)
    child = s.new("accept4", server, 0, 0, O_NONBLOCK)
    s.connect(clients[2], name), s.connect(clients[3], name)
    s.send(clients[0], b"hi"), s.recv(child, 9), s.getsockopt(child, 1, 30), s.getsockopt(server, 1, 30)
    d = s.new("socket", UNIX, DGRAM | O_NONBLOCK, 0)
    s.connect(d, name), s.send(d, b"x"), s.recv(d, 1), s.sendto(d, b"x", name)
    s.connect(clients[3], name + b"-not")
    auto = s.new("socket", UNIX, DGRAM | O_NONBLOCK, 0)
    s.bind(auto, b"\x01\0"), s.named("getsockname", auto)
    s.close(server)
    s.poll(clients[1]), s.recv(clients[1], 1), s.recv(clients[1], 1), s.send(clients[1], b"x")
    s.do("shutdown", clients[3], 2), s.poll(clients[3])


def unix_dgram(s: Script) -> None:
    one, two = (b"\x01\0\0prong-%d-%d" % (id(s), n) for n in (1, 2))
    a, b = (s.new("socket", UNIX, DGRAM | O_NONBLOCK, 0) for _ in range(2))
    s.bind(a, one), s.bind(b, two)
    for _ in range(13):
        s.sendto(a, b"m", two)
    s.poll(a), s.connect(a, two), s.poll(a), s.recv(b, 5), s.poll(a), s.send(a, b"again"), s.poll(a)
    c = s.new("socket", UNIX, DGRAM | O_NONBLOCK, 0)
    s.connect(b, one), s.sendto(c, b"x", two), s.connect(c, two)
    s.connect(a, struct.pack("<H", 0) + bytes(14)), s.send(a, b"x")
    s.close(b), s.sendto(a, b"x", two)


def tcp_refused(s: Script) -> None:
    c = s.new("socket", INET, STREAM | O_NONBLOCK, 0)
    s.poll(c), s.recv(c, 1), s.send(c, b"x"), s.do("shutdown", c, 2), s.do("accept4", c, 0, 0, 0)
    s.connect(c, inet("127.0.0.1", 1)), s.poll(c), s.getsockopt(c, 1, 4), s.getsockopt(c, 1, 4), s.poll(c)
    d = s.new("socket", INET, STREAM | O_NONBLOCK, 0)
    s.connect(d, inet("127.0.0.1", 1)), s.connect(d, inet("127.0.0.1", 1)), s.poll(d)
    s.connect(d, b"\x02"), s.connect(d, b"\x02\0abc"), s.connect(d, struct.pack("<H14x", 1))
    s.bind(d, b"\x02\0abc"), s.bind(d, struct.pack("<H14x", 1)), s.bind(d, inet("8.8.8.8", 0))


def tcp_pair(s: Script) -> tuple[int, int, int]:
    server = s.new("socket", INET, STREAM | O_NONBLOCK, 0)
    s.bind(server, inet("127.0.0.1", 0)), s.do("listen", server, 5)
    address = s.named("getsockname", server)
    client = s.new("socket", INET, STREAM | O_NONBLOCK, 0)
    s.connect(client, address), s.poll(client), s.poll(server)
    s.connect(client, address), s.connect(client, address)
    child = s.new("accept4", server, 0, 0, O_NONBLOCK)
    return server, client, child


def tcp_talk(s: Script) -> None:
    server, client, child = tcp_pair(s)
    s.named("getpeername", client), s.named("getpeername", child), s.named("getpeername", server)
    s.send(server, b"x"), s.recv(server, 1), s.connect(server, inet("127.0.0.1", 1))
    s.send(client, b"hello"), s.poll(child), fionread(s, child)
    s.recv(child, 2, PEEK), s.recv(child, 3, TRUNC), s.recv(child, 9), s.recv(child, 9)
    s.do("shutdown", client, 1), s.poll(client), s.poll(child), s.recv(child, 4), s.send(client, b"x")
    s.send(child, b"bye"), s.do("shutdown", child, 1), s.poll(child), s.poll(client)
    s.recv(client, 9), s.recv(client, 9), s.poll(client), s.send(child, b"x"), s.do("shutdown", client, 2)
    s.named("getpeername", client), s.send(client, b"")


def tcp_reset(s: Script) -> None:
    _, client, child = tcp_pair(s)
    s.send(client, b"unread"), s.close(child)
    s.poll(client), s.send(client, b"x"), s.recv(client, 1), s.poll(client)
    _, client, child = tcp_pair(s)
    s.send(child, b"last words"), s.close(child), s.poll(client), s.send(client, b"one"), s.poll(client)
    s.send(client, b"two"), s.recv(client, 4), s.recv(client, 40), s.recv(client, 4), s.poll(client)
    _, client, child = tcp_pair(s)
    s.setsockopt(child, 1, 13, struct.pack("<ii", 1, 0)), s.close(child)
    s.poll(client), s.getsockopt(client, 1, 4), s.recv(client, 1)
    server, client, child = tcp_pair(s)
    s.do("shutdown", server, 0), s.poll(server), s.do("accept4", server, 0, 0, 0)
    s.do("shutdown", child, 0), s.poll(child), s.recv(child, 1), s.send(client, b"abc"), s.recv(child, 9)


def tcp_urgent(s: Script) -> None:
    _, client, child = tcp_pair(s)
    s.recv(child, 1, OOB), s.send(client, b"ab"), s.send(client, b"!", NOSIGNAL | OOB)
    s.poll(child), s.recv(child, 9), s.recv(child, 1, OOB), s.poll(child), s.recv(child, 1, OOB)


def tcp_ports(s: Script) -> None:
    one = s.new("socket", INET, STREAM, 0)
    s.bind(one, inet("127.0.0.1", 0))
    address = s.named("getsockname", one)
    port = port_of(address)
    for ip, reuse, reuse_port in (
        ("127.0.0.1", 0, 0), ("0.0.0.0", 0, 0), ("127.0.0.2", 0, 0), ("127.0.0.1", 1, 0), ("127.0.0.1", 0, 1),
    ):  # fmt: skip
        other = s.new("socket", INET, STREAM, 0)
        s.setsockopt(other, 1, 2, reuse), s.setsockopt(other, 1, 15, reuse_port)
        s.bind(other, inet(ip, port)), s.close(other)
    s.setsockopt(one, 1, 2, 1)
    two = s.new("socket", INET, STREAM, 0)
    s.setsockopt(two, 1, 2, 1), s.bind(two, address), s.do("listen", one, 1), s.do("listen", two, 1)
    six = s.new("socket", INET6, STREAM, 0)
    s.setsockopt(six, 1, 2, 1), s.bind(six, struct.pack("<H", 10) + port.to_bytes(2, "big") + bytes(24))
    s.setsockopt(six, 41, 26, 1), s.bind(six, struct.pack("<H", 10) + port.to_bytes(2, "big") + bytes(24))
    s.getsockopt(six, 41, 26)


def udp_talk(s: Script) -> None:
    a, b = (s.new("socket", INET, DGRAM | O_NONBLOCK, 0) for _ in range(2))
    s.poll(a), s.send(a, b"x"), s.do("shutdown", a, 0), s.recv(a, 1)
    s.bind(b, inet("127.0.0.1", 0))
    to = s.named("getsockname", b)
    s.sendto(a, b"one", to), s.sendto(a, b"", to), s.sendto(a, b"three", to), s.poll(b)
    fionread(s, b)
    s.recv(b, 2), s.recv(b, 2), s.recv(b, 2, TRUNC), s.recv(b, 2), s.sendto(a, b"x" * 65508, to)
    s.connect(a, to), s.send(a, b"y"), s.recv(b, 9), s.named("getpeername", a)
    s.close(b), s.send(a, b"lost"), s.poll(a), s.send(a, b"told"), s.send(a, b"lost"), s.recv(a, 1), s.recv(a, 1)
    s.connect(a, struct.pack("<H14x", 0)), s.named("getpeername", a), s.sendto(a, b"x", to), s.recv(a, 1)


def dual_stack(s: Script) -> None:
    server = s.new("socket", INET6, STREAM | O_NONBLOCK, 0)
    s.bind(server, struct.pack("<H", 10) + bytes(26)), s.do("listen", server, 4)
    port = port_of(s.named("getsockname", server))
    client = s.new("socket", INET, STREAM | O_NONBLOCK, 0)
    s.connect(client, inet("127.0.0.1", port)), s.connect(client, inet("127.0.0.1", port))
    child = s.new("accept4", server, 0, 0, O_NONBLOCK)
    s.note("mapped", s.named("getpeername", child)[8:24])
    s.note("local", s.named("getsockname", child)[8:24])
    six = s.new("socket", INET6, STREAM | O_NONBLOCK, 0)
    s.connect(six, struct.pack("<H", 10) + port.to_bytes(2, "big") + bytes(24))
    s.connect(six, inet("127.0.0.1", port) + bytes(12))
    child = s.new("accept4", server, 0, 0, O_NONBLOCK)
    s.note("six", s.named("getpeername", child)[8:24])


def options(s: Script) -> None:
    made = [s.new("socket", d, t, 0) for d, t in ((1, 1), (1, 2), (2, 1), (2, 2), (10, 1), (10, 2))]
    for fd in made:
        for name in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 18, 19, 29, 30, 38, 39, 200):
            s.getsockopt(fd, 1, name, 12)
        for name in (13, 20, 21):
            s.getsockopt(fd, 1, name, 16)
        for level, name in ((0, 1), (0, 2), (0, 10), (6, 1), (6, 4), (6, 5), (6, 6), (41, 16), (41, 26), (17, 1)):
            s.getsockopt(fd, level, name)
        s.setsockopt(fd, 1, 7, 1), s.getsockopt(fd, 1, 7), s.setsockopt(fd, 1, 8, 50000), s.getsockopt(fd, 1, 8)
        s.setsockopt(fd, 1, 9, 7), s.getsockopt(fd, 1, 9), s.setsockopt(fd, 1, 9, b"x"), s.setsockopt(fd, 1, 3, 1)
        s.setsockopt(fd, 1, 20, struct.pack("<qq", 3, 252000)), s.getsockopt(fd, 1, 20, 16)
        s.setsockopt(fd, 1, 20, struct.pack("<qq", 3, 1000000)), s.setsockopt(fd, 1, 20, 4)
        s.setsockopt(fd, 1, 13, struct.pack("<ii", 5, 9)), s.getsockopt(fd, 1, 13, 8)
        s.setsockopt(fd, 6, 1, 5), s.getsockopt(fd, 6, 1), s.setsockopt(fd, 6, 6, 0), s.setsockopt(fd, 6, 5, 40000)
        s.setsockopt(fd, 0, 2, 0), s.setsockopt(fd, 0, 2, 30), s.getsockopt(fd, 0, 2), s.setsockopt(fd, 0, 2, b"\5")
        s.setsockopt(fd, 41, 16, 300), s.setsockopt(fd, 41, 16, 9), s.getsockopt(fd, 41, 16)
        s.setsockopt(fd, 41, 66, 3), s.getsockopt(fd, 41, 66), s.getsockopt(fd, 1, 2, 0), s.getsockopt(fd, 1, 3, 2)


def bad_arguments(s: Script) -> None:
    s.do("socket", 1, 99, 0), s.do("socket", 1, 1 | 1 << 20, 0), s.do("socket", 2, 1, 17), s.do("socket", 2, 5, 0)
    s.do("socket", 99, 1, 0), s.do("socket", 1, 1, 5), s.do("socketpair", 2, 1, 0, s.m.at(0)), s.do("socket", 2, 4, 0)
    r, _ = s.pipe()
    for name, args in (("bind", (0, 0)), ("listen", (1,)), ("accept4", (0, 0, 0)), ("connect", (0, 0)),
                       ("getsockname", (0, 0)), ("shutdown", (1,)), ("sendto", (0, 0, 0, 0, 0)),
                       ("recvfrom", (0, 0, 0, 0, 0)), ("sendmsg", (0, 0)), ("recvmsg", (0, 0))):  # fmt: skip
        s.do(name, r, *args), s.do(name, 999, *args)
    a, b = s.socketpair(STREAM)
    s.do("shutdown", a, 3), s.do("sendmsg", a, 8, 0), s.do("recvmsg", a, 8, 0), s.do("bind", a, 8, 16)
    s.do("bind", a, s.m.at(0), 200), s.do("bind", a, s.m.at(0), -1), s.do("listen", b, 1)
    s.do("epoll_create", 0), s.do("epoll_create1", 1), s.do("poll", 8, 1, 0), s.do("poll", s.m.at(0), 1 << 20, 0)
    s.do("select", -1, 0, 0, 0, 0), s.do("pipe2", 8, 0), s.do("pipe2", s.m.at(0), 1), s.do("eventfd2", 0, 1 << 30)
    s.do("signalfd4", -1, s.m.at(0), 4, 0), s.do("signalfd4", r, s.m.at(0), 8, 0), s.do("signalfd4", -1, 8, 8, 0)


def epoll_level(s: Script) -> None:
    ep = s.new("epoll_create1", 0)
    r, w = s.pipe()
    s.epoll_ctl(ep, 1, r, 1, 11), s.epoll_ctl(ep, 1, r, 1, 11), s.epoll_ctl(ep, 1, w, 4, 22), s.epoll_wait(ep)
    s.poll(ep), s.write(w, b"abc"), s.epoll_wait(ep), s.epoll_wait(ep, 1), s.epoll_wait(ep, 1)
    s.epoll_ctl(ep, 3, w, 0, 33), s.epoll_wait(ep), s.read(r, 9), s.epoll_wait(ep), s.poll(ep)
    s.epoll_ctl(ep, 2, 999, 0), s.epoll_ctl(ep, 2, ep, 0), s.epoll_ctl(ep, 1, ep, 0), s.epoll_ctl(ep, 9, r, 0)
    s.epoll_ctl(r, 1, w, 0), s.epoll_ctl(ep, 2, w, 0), s.epoll_ctl(ep, 2, w, 0), s.epoll_ctl(ep, 3, w, 0)
    s.close(w), s.epoll_wait(ep), s.close(r), s.epoll_wait(ep), s.poll(ep)
    s.do("epoll_wait", ep, s.m.at(0x2000), 0, 0), s.do("epoll_wait", ep, s.m.at(0x2000), -1, 0)


def epoll_edge(s: Script) -> None:
    ep = s.new("epoll_create1", 0)
    a, b = s.socketpair(STREAM)
    s.epoll_ctl(ep, 1, a, 1 | 4 | ET, 1), s.epoll_wait(ep), s.epoll_wait(ep)
    s.send(b, b"x"), s.epoll_wait(ep), s.epoll_wait(ep), s.send(b, b"y"), s.epoll_wait(ep)
    s.recv(a, 1), s.epoll_wait(ep), s.recv(a, 1), s.recv(a, 1), s.epoll_wait(ep)
    s.do("shutdown", b, 1), s.epoll_wait(ep), s.close(b), s.epoll_wait(ep), s.epoll_wait(ep)
    c, d = s.socketpair(STREAM)
    s.epoll_ctl(ep, 1, c, 4 | ET, 2), s.epoll_wait(ep), s.send(d, b"x"), s.epoll_wait(ep), s.send(c, b"x")
    s.recv(d, 1), s.epoll_wait(ep)
    e, f = s.socketpair(STREAM)
    s.epoll_ctl(ep, 1, e, 1 | ONESHOT, 3), s.send(f, b"1"), s.epoll_wait(ep), s.send(f, b"2"), s.epoll_wait(ep)
    s.epoll_ctl(ep, 3, e, 1 | ONESHOT, 4), s.epoll_wait(ep), s.epoll_wait(ep)


def epoll_dup(s: Script) -> None:
    ep = s.new("epoll_create1", 0)
    r, w = s.pipe()
    other = s.new("dup", r)
    s.epoll_ctl(ep, 1, r, 1, 1), s.epoll_ctl(ep, 1, other, 1, 2), s.write(w, b"x"), s.epoll_wait(ep)
    s.close(r), s.epoll_wait(ep), s.epoll_ctl(ep, 2, other, 0), s.epoll_wait(ep), s.close(other), s.epoll_wait(ep)


def epoll_nested(s: Script) -> None:
    sets = [s.new("epoll_create1", 0) for _ in range(7)]
    for inner, outer in itertools.pairwise(sets):
        s.epoll_ctl(outer, 1, inner, 1, 7)
    s.epoll_ctl(sets[0], 1, sets[2], 1), s.epoll_ctl(sets[0], 1, sets[0], 1)
    r, w = s.pipe()
    s.epoll_ctl(sets[0], 1, r, 1, 5), s.epoll_wait(sets[1]), s.poll(sets[1]), s.write(w, b"x")
    s.poll(sets[1]), s.epoll_wait(sets[2]), s.epoll_wait(sets[1]), s.epoll_wait(sets[0]), s.read(r, 9)
    s.epoll_wait(sets[2]), s.epoll_wait(sets[1]), s.epoll_wait(sets[0]), s.close(sets[0]), s.epoll_wait(sets[1])


def selects(s: Script) -> None:
    r, w = s.pipe()
    top = max(r, w) + 1

    def select(reading: int, writing: int) -> int:
        m = s.m
        sets = [m.put(0x300 + 128 * i, bits.to_bytes(128, "little")) for i, bits in enumerate((reading, writing, 0))]
        result = m.call("select", top, *sets, m.put(0x480, bytes(16)))
        seen = [int.from_bytes(m.get(0x300 + 128 * i, 128), "little") for i in range(3)]
        return s.note("select", (result, [bits == w_ for bits, w_ in zip(seen, (reading, writing, 0), strict=True)]))

    select(1 << r, 1 << w), select(1 << r, 0), s.write(w, b"x"), select(1 << r, 1 << w), select(0, 0)
    s.close(w), select(1 << r, 0), select(1 << r | 1 << w, 0)


def rights(s: Script) -> None:
    m = s.m
    a, b = s.socketpair(STREAM)
    r, w = s.pipe()

    def sendmsg(fd: int, data: bytes, control: bytes) -> int:
        iov = m.put(0x300, struct.pack("<QQ", m.put(0x1000, data), len(data)))
        header = struct.pack("<QI4xQQQQi4x", 0, 0, iov, 1, m.put(0x800, control) if control else 0, len(control), 0)
        return s.do("sendmsg", fd, m.put(0x380, header), NOSIGNAL)

    def recvmsg(fd: int, size: int, room: int, flags: int = 0) -> list[int]:
        iov = m.put(0x300, struct.pack("<QQ", m.at(0x1000), size))
        header = struct.pack("<QI4xQQQQi4x", 0, 0, iov, 1, m.put(0x800, bytes(256)), room, 77)
        result = m.call("recvmsg", fd, m.put(0x380, header), flags)
        control, seen = struct.unpack("<Qi", m.get(0x380 + 40, 12))
        s.note("recvmsg", (result, m.get(0x1000, max(result, 0)), control, hex(seen)) if result >= 0 else result)
        if result < 0 or control < 16:
            return []
        length, level, kind = struct.unpack("<QII", m.get(0x800, 16))
        s.note("cmsg", (length, level, kind))
        return list(struct.unpack(f"<{(length - 16) // 4}i", m.get(0x810, length - 16))) if kind == 1 else []

    one = struct.pack("<QIIi4x", 20, 1, 1, w)
    two = struct.pack("<QIIii", 24, 1, 1, r, w)
    sendmsg(a, b"plain", b""), sendmsg(a, b"with", one), sendmsg(a, b"after", b"")
    for fd in recvmsg(b, 100, 64):
        s.write(fd, b"through"), s.read(r, 20)
    recvmsg(b, 100, 64), sendmsg(a, b"two", two), recvmsg(b, 1, 20), recvmsg(b, 9, 64)
    sendmsg(a, b"none", two), recvmsg(b, 9, 0), sendmsg(a, b"peek", one)
    for fd in recvmsg(b, 9, 64, PEEK) + recvmsg(b, 9, 64):
        s.close(fd)
    sendmsg(a, b"bad", struct.pack("<QIIi4x", 20, 1, 1, 999)), sendmsg(a, b"bad", struct.pack("<QIIi4x", 2, 1, 1, 0))
    sendmsg(a, b"bad", struct.pack("<QIIi4x", 20, 1, 9, 0)), sendmsg(a, b"", one), sendmsg(a, b"other", one)
    s.setsockopt(b, 1, 16, 1), recvmsg(b, 9, 128)
    sendmsg(a, b"creds", b""), recvmsg(b, 9, 128), sendmsg(a, b"short", b""), recvmsg(b, 9, 20)
    c, d = s.socketpair(DGRAM)
    sendmsg(c, b"", one)
    for fd in recvmsg(d, 9, 64):
        s.write(fd, b"again")
    s.close(w), s.read(r, 20)


def found_by_random_walks(s: Script) -> None:
    """What random walks once told apart."""
    a, b = s.socketpair(DGRAM)
    s.send(b, b"lost"), s.close(b), s.send(a, b"x"), s.poll(a), s.do("shutdown", a, 1), s.send(a, b"x")
    for count in (1, 2):
        a, b = s.socketpair(SEQPACKET)
        for _ in range(count):
            s.send(a, b"")
        s.close(b), s.poll(a), s.send(a, b"x"), s.send(a, b"x"), s.poll(a)
    _, client, child = tcp_pair(s)
    s.do("shutdown", client, 2), s.send(child, b"x"), s.poll(client), s.poll(child)
    ep = s.new("epoll_create1", 0)
    a, b = s.socketpair(DGRAM)
    s.epoll_ctl(ep, 1, a, 4 | ET, 1), s.epoll_wait(ep), s.do("shutdown", b, 0), s.send(a, b"x"), s.epoll_wait(ep)
    fd = s.new("eventfd2", 0, O_NONBLOCK)
    s.write(fd, b"123456789")


SCENARIOS: list[Callable[[Script], object]] = [
    pipe_basics, pipe_broken, pipe_capacity, pipe_sizes, pipe_packets, eventfd, timerfd, stream_pair, stream_unread,
    packet_pair, unix_names, unix_dgram, tcp_refused, tcp_talk, tcp_reset, tcp_urgent, tcp_ports, udp_talk, dual_stack,
    options, bad_arguments, epoll_level, epoll_edge, epoll_dup, epoll_nested, selects, rights,
    found_by_random_walks,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_same_as_linux(scenario: Callable[[Script], object]) -> None:
    def run(m: Machine) -> object:
        script = Script(m)
        scenario(script)
        return script.log

    assert both(run)
