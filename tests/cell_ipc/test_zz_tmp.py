"""Random walks over pipes, sockets and epoll on both machines: whatever is done, both must say the same."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prong.cell.core.file import O_NONBLOCK
from tests.cell_ipc.rig import Machine, Script, both, inet, port_of

KINDS = ("pipe", "stream", "dgram", "seqpacket", "tcp", "eventfd")
ACTIONS = ("write", "read", "peek", "poll", "wait", "close", "shut_rd", "shut_wr", "dup", "watch", "change", "forget")
ET, ONESHOT = 1 << 31, 1 << 30
EVENTS = (1, 4, 5, 1 | ET, 4 | ET, 5 | ET, 0x2001, 0x2005 | ET, 1 | ONESHOT, 5 | ONESHOT, 0)
SIZES = (0, 1, 7, 8, 100, 4095, 4096, 5000, 9000)

steps = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7), st.sampled_from(SIZES), st.sampled_from(EVENTS)),
    max_size=80,
)


def make(s: Script, kind: str) -> tuple[int, ...]:
    """The descriptors of one connection of ``kind``."""
    if kind == "pipe":
        return s.pipe()
    if kind == "eventfd":
        return (s.new("eventfd2", 0, O_NONBLOCK),)
    if kind == "tcp":
        server = s.new("socket", 2, 1, 0)
        s.bind(server, inet("127.0.0.1", 0)), s.do("listen", server, 1)
        address = inet("127.0.0.1", port_of(s.named("getsockname", server)))
        client = s.new("socket", 2, 1, 0)
        s.connect(client, address)
        child = s.new("accept4", server, 0, 0, O_NONBLOCK)
        s.do("ioctl", client, 0x5421, s.m.put(0, b"\1\0\0\0"))
        s.close(server)
        return client, child
    return s.socketpair({"stream": 1, "dgram": 2, "seqpacket": 5}[kind])


def walk(m: Machine, kinds: list[str], actions: list[tuple[str, int, int, int]]) -> list[object]:
    """Do the actions; descriptors are told apart by their place in the list, so numbers do not matter."""
    s = Script(m)
    epoll = s.new("epoll_create1", 0)
    fds = [fd for kind in kinds for fd in make(s, kind)]
    owner = [kind for kind in kinds for _ in range(1 if kind == "eventfd" else 2)]
    sent = [0] * len(fds)
    for action, which, size, events in actions:
        index = which % len(fds)
        fd, kind = fds[index], owner[index]
        if action == "write" and fd >= 0:
            # Stay far from full sockets: how much they take is not the same by design.
            if kind == "pipe" or sent[index] + size < 20000:
                sent[index] += size
                s.write(fd, bytes([65 + index]) * size) if kind in ("pipe", "eventfd") else s.send(
                    fd, bytes([65 + index]) * size
                )
        elif action == "read":
            s.read(fd, size) if kind in ("pipe", "eventfd") else s.recv(fd, size)
        elif action == "peek":
            s.recv(fd, size, 2)
        elif action == "poll":
            s.poll(fd)
        elif action == "wait":
            s.epoll_wait(epoll, 32)
        elif action == "close":
            s.close(fd)
            fds[index] = -1
        elif action in ("shut_rd", "shut_wr"):
            s.do("shutdown", fd, int(action == "shut_wr"))
        elif action == "dup" and len(fds) < 10:
            fds.append(s.new("dup", fd))
            owner.append(kind)
            sent.append(20000)
        elif action in ("watch", "change", "forget"):
            s.epoll_ctl(epoll, {"watch": 1, "forget": 2, "change": 3}[action], fd, events, index)
    for fd in fds:
        s.poll(fd)
    s.epoll_wait(epoll, 32)
    return s.log


@settings(max_examples=6000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), steps)
def test_random_walk(kinds: list[str], actions: list[tuple[str, int, int, int]]) -> None:
    both(lambda m: walk(m, kinds, actions))
