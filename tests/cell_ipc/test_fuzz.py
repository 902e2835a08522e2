"""Random numbers, pointers, lengths and flags to every call of the package: only SysErr and Wait may come out.

Replay one run with its seed: ``fuzz(seed, calls)``.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable

import pytest

from prong.cell.abi.numbers import NR
from prong.cell.core.file import O_NONBLOCK, File
from prong.cell.core.saved import BY_CLASS
from prong.cell.core.table import TABLE
from prong.cell.fs.nodes import Node
from prong.cell.ipc.epoll import Epoll
from prong.cell.ipc.net import MAX_HELD, MAX_PIPE_PAGES, MAX_WATCHES
from prong.cell.ipc.signalfd import SignalFd
from prong.cell.ipc.socket import Socket
from prong.cell.ipc.timerfd import TimerFd
from prong.cell.task.signals import Signals
from prong.cell.task.task import TaskState
from tests.cell_ipc.rig import OWN, Cell, ManualClock, Script, inet

NAMES = sorted(
    [name for _, _, name in TABLE.values() if TABLE[NR[name]][0].__module__.startswith("prong.cell.ipc")]
    + ["read", "write", "close", "dup", "ioctl"]
)
SOCKADDRS = (
    inet("127.0.0.1", 40000), inet("127.0.0.1", 40000), inet("0.0.0.0", 40001), b"\x01\0\0abc", b"\x01\0/tmp/socket",
    inet("127.0.0.1", 0), inet("10.0.0.1", 53),
    b"\x01\0", struct.pack("<H", 10) + b"\x9c\x40" + bytes(20) + b"\0\0\0\1" + bytes(4), bytes(16), b"\x10\0" + bytes(10),
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 16, 17, 20, 26, 41, 64, 128, 0x40, 0x4000, 0x800, 0x80000, 4096, 65536,
           1 << 31, 2**32 - 1, 2**63, 2**64 - 1, 0x541B, 0x5411, 0x8905, 0x8912, 0x8913, 0x8933, 0x8910)  # fmt: skip


SHAPES = {
    "accept": "kob", "accept4": "kobx", "bind": "kAs", "connect": "kAs", "close": "f", "dup": "f", "listen": "ks",
    "epoll_create": "s", "epoll_create1": "0", "epoll_ctl": "qsfE", "epoll_wait": "qosz", "epoll_pwait": "qosz08",
    "epoll_pwait2": "qosTo8", "eventfd": "s", "eventfd2": "sx", "getpeername": "kob", "getsockname": "kob",
    "getsockopt": "kLsob", "ioctl": "fio", "pipe": "o", "pipe2": "ox", "poll": "Psz", "ppoll": "PsTo8",
    "pselect6": "soooT0", "read": "fon", "recvfrom": "konmob", "recvmmsg": "kMsmT", "recvmsg": "kMm",
    "select": "soooT", "sendmmsg": "kMsm", "sendmsg": "kMm", "sendto": "konmAs", "setsockopt": "kLsEs",
    "shutdown": "ks", "signalfd": "go8", "signalfd4": "go8x", "socket": "dt0", "socketpair": "dt0o",
    "timerfd_create": "sx", "timerfd_gettime": "wo", "timerfd_settime": "wsTo", "write": "fon",
}  # fmt: skip
"""What a sensible caller passes, a letter an argument; see ``argument``."""
CLASSES: dict[str, type] = {"f": File, "k": Socket, "q": Epoll, "w": TimerFd}
HEADER = struct.Struct("<QI4xQQQQi4xI4x")


def header(rng: random.Random, cell: Cell) -> bytes:
    """A struct mmsghdr, with a control buffer half of the time."""
    control = struct.pack("<QIIii", rng.choice((16, 20, 24, 28, 3, 2**63)), 1, rng.choice((1, 1, 1, 2, 3)),
                          rng.choice(cell.kernel.fds.visible() or [0]), rng.randrange(40))  # fmt: skip
    control_at = cell.put(rng.randrange(0xA000, 0xA100, 16), control)
    iov = cell.put(rng.randrange(0xA100, 0xA200, 16), struct.pack("<QQ", cell.at(0xB000), rng.choice((0, 1, 50, 9000))))
    name = cell.put(0xA200, rng.choice(SOCKADDRS))
    return HEADER.pack(rng.choice((0, 0, name)), rng.choice((0, 2, 7, 16, 28, 200)), iov, rng.choice((0, 1, 1, 1, 2000)),
                       rng.choice((0, control_at)), rng.choice((16, 20, 24, 30, 10**6)), 0, 0)  # fmt: skip


def struct_for(rng: random.Random, cell: Cell, letter: str) -> bytes:
    """Bytes that look like what a pointer argument of this kind points at."""
    if letter == "A":
        return rng.choice(SOCKADDRS[:5] if rng.random() < 0.7 else SOCKADDRS)
    if letter == "M":
        return b"".join(header(rng, cell) for _ in range(2))
    if letter == "P":
        return b"".join(struct.pack("<iHH", rng.randrange(-1, 40), rng.randrange(1 << 16), 0) for _ in range(6))
    if letter == "T":
        return struct.pack("<qqqq", *(rng.choice((0, 0, 1, 5, 999_999_999, 10**9, -1, 2**62)) for _ in range(4)))
    if letter == "E":
        events = rng.choice((0, 1, 4, 5, 1 << 31 | 5, 1 << 30 | 1, 1 << 28 | 1, 2**32 - 1))
        return struct.pack("<IQQQ", events, rng.getrandbits(64), rng.choice((0, 5)), 1)
    if letter == "b":
        return struct.pack("<i", rng.choice((0, 1, 2, 8, 16, 128, 128, -1)))
    netlink = struct.pack("<IHHII", rng.choice((0, 16, 20)), rng.choice((18, 22, 26, 16)), 0x301, 1, 0) + bytes(9)
    return rng.choice((netlink, rng.randbytes(64), bytes(64), struct.pack("<Q", 1)))


def sensible(rng: random.Random, cell: Cell, letter: str) -> int:
    """A value of the kind ``letter`` stands for; capital letters and o, b are pointers."""
    if letter in CLASSES or letter == "g":
        if letter == "g" and rng.random() < 0.5:
            return 0xFFFFFFFF
        wanted = CLASSES.get(letter, SignalFd)
        fds = [fd for fd, file in cell.kernel.fds.files.items() if isinstance(file, wanted)]
        return rng.choice(fds) if fds else 0
    simple: dict[str, Callable[[], int]] = {
        "s": lambda: rng.choice((0, 1, 2, 3, 4, 7, 16, 24, 28, 64)),
        "n": lambda: rng.choice((0, 1, 8, 100, 128, 5000, 70000, 300_000)),
        "z": lambda: rng.choice((0, 0, 1, 100, 2**32 - 1)),
        "x": lambda: rng.choice((0, 0o4000, 0o4000, 1, 0o2004000)),
        "m": lambda: rng.choice((0, 0x40, 0x40, 0x4040, 2, 0x22, 0x100, 1, 0x2000, 0x10000)),
        "d": lambda: rng.choice((1, 1, 1, 2, 2, 10, 16)),
        "t": lambda: rng.choice((1, 1, 1, 2, 2, 5, 3)) | rng.choice((0, 0o4000)),
        "i": lambda: rng.choice((0x541B, 0x5411, 0x8905, 0x8912, 0x8913, 0x8933, 0x8910, 0x5421, 0x40085400)),
        "L": lambda: rng.choice((0, 1, 1, 1, 6, 41, 17, 270)),
        "0": lambda: 0,
        "8": lambda: 8,
    }
    if letter in simple:
        return simple[letter]()
    if rng.random() < 0.15:
        return 0
    return cell.put(rng.randrange(0, 0x9000, 16), struct_for(rng, cell, letter))


def argument(rng: random.Random, cell: Cell) -> int:
    """A descriptor, an address, or a number."""
    kind = rng.randrange(10)
    if kind < 4:
        return rng.randrange(48)
    if kind < 7:
        return sensible(rng, cell, rng.choice("AMPTEbo"))
    return rng.choice(NUMBERS) if kind < 9 else rng.getrandbits(64)


def populate(rng: random.Random, cell: Cell) -> None:
    """Some listeners and connections, which chance alone would hardly make; some calls fail when names are in use."""
    s = Script(cell)
    for domain, name in ((2, inet("127.0.0.1", 40000)), (1, b"\x01\0\0abc"), (1, b"\x01\0/tmp/socket")):
        server = cell.call("socket", domain, 1 | rng.choice((0, O_NONBLOCK)), 0)
        s.bind(server, name), s.do("listen", server, rng.choice((0, 2, 5)))
        for _ in range(2):
            client = cell.call("socket", domain, 1 | O_NONBLOCK, 0)
            s.connect(client, name)
            if client >= 0 and rng.random() < 0.5:
                cell.kernel.fds.get(client).flags &= ~O_NONBLOCK


def fuzz(seed: int, calls: int) -> Cell:
    """Make ``calls`` random calls with up to eight threads."""
    rng = random.Random(seed)
    cell = Cell()
    cell.kernel.fds.limit = 60
    tasks = [cell.main] + [cell.spawn() for _ in range(7)]
    for n in range(calls):
        if n % 300 == 0 and cell.main.call is None:
            populate(rng, cell)
        task = rng.choice(tasks)
        if task.call is not None:
            if task.state is TaskState.BLOCKED:
                cell.interrupt(task)
            continue
        name = rng.choice(NAMES)
        arity = (OWN.get(NR[name]) or TABLE[NR[name]])[1]
        shape = SHAPES[name]
        assert len(shape) == arity
        wild = 0.03 if rng.random() < 0.8 else 0.7
        args = [argument(rng, cell) if rng.random() < wild else sensible(rng, cell, c) for c in shape]
        if name not in ("socket", "socketpair", "close") and rng.random() < 0.3 + 0.5 * (arity < 3):
            continue
        cell.start(task, name, *args)
        kernel = cell.kernel
        kernel.signals.flush((1 << 64) - 1)
        assert 0 <= cell.net.held <= MAX_HELD and 0 <= cell.net.pipe_pages <= MAX_PIPE_PAGES
        assert 0 <= cell.net.watches <= MAX_WATCHES and cell.net.inflight >= 0
        if len(kernel.fds.files) > 55:
            for fd in rng.sample(kernel.fds.visible(), 20):
                kernel.fds.close(fd)
        if n % 16 == 0:
            cell.clock.advance(rng.choice((0, 1000, 10**7, 10**12)))
            while cell.sched.ready:
                cell.run()
    return cell


@pytest.mark.parametrize("seed", range(8))
def test_only_errors_and_waits_come_out(seed: int) -> None:
    cell = fuzz(seed, 5000)
    for task in cell.sched.tasks.values():
        if task.state is TaskState.BLOCKED:
            cell.interrupt(task)
    # Files that are in flight to themselves stay, as long as the cell does; all memory of the others is given back.
    cell.close_all()
    if not cell.net.inflight:
        assert (cell.net.held, cell.net.pipe_pages, cell.net.watches) == (0, 0, 0)
    assert not cell.net.draining and not cell.net.dropping


def test_every_object_of_the_state_can_be_saved() -> None:
    """Walk everything reachable from a used kernel: plain values and registered classes only."""
    cell = fuzz(99, 4000)
    cell.kernel.fds.limit = 100
    assert cell.call("socket", 16, 3, 0) > 0
    plain = (type(None), int, float, str, bytes, bytearray, Node, ManualClock, Signals)
    seen: set[int] = set()
    todo: list[object] = [cell.net, cell.kernel.fds, *cell.sched.tasks.values()]
    kinds: set[str] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, plain):
            continue
        seen.add(id(thing))
        if isinstance(thing, list | tuple | set | frozenset | deque):
            todo.extend(thing)
        elif isinstance(thing, dict):
            todo.extend(thing)
            todo.extend(thing.values())
        else:
            assert type(thing) in BY_CLASS, f"{type(thing)} is not registered"
            kinds.add(BY_CLASS[type(thing)][0])
            slots = [s for c in type(thing).__mro__ for s in c.__dict__.get("__slots__", ()) if s != "__weakref__"]
            todo.extend(getattr(thing, s) for s in slots)
            todo.extend(getattr(thing, "__dict__", {}).values())
    assert {"tcp", "udp", "unix_stream", "unix_dgram", "epoll", "pipe_end", "netlink"} <= kinds
