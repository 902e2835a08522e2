"""Two machines with one interface: the real kernel of this host, and the cell's handlers over flat memory.

A scenario is a function of a machine; it makes raw system calls on a small piece of memory and returns what it saw.
Run on both, the results must be equal. ``Cell`` also is a tiny cooperative scheduler for blocking calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol, cast

import prong.cell.ipc.calls  # noqa: F401  registers the handlers
from prong.cell.abi.numbers import NR
from prong.cell.core.errors import SysErr, Wait, WouldBlock
from prong.cell.core.fdtable import FdTable
from prong.cell.core.file import O_NONBLOCK
from prong.cell.core.memory import FlatMemory, ListFrames
from prong.cell.core.saved import saved
from prong.cell.core.table import TABLE, s32
from prong.cell.fs.image import ImageSource
from prong.cell.fs.state import FsState
from prong.cell.ipc.net import Loopback
from prong.cell.ipc.pipe import PipeEnd
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.cell.process import Process
from prong.cell.refusals import RefusalLog
from prong.cell.task.clock import Clock
from prong.cell.task.signals import Signals
from prong.cell.task.task import Scheduler, Task, TaskState

MASK = 0xFFFFFFFFFFFFFFFF
MEMORY = 1 << 20
F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032
FIONREAD, FIONBIO = 0x541B, 0x5421


@saved("test_ipc_clock", skip=("_ids",))
class ManualClock(Clock):
    """A clock that moves only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000_000_000

    def monotonic(self) -> int:
        return self.now

    def realtime(self) -> int:
        return self.now + 1_700_000_000_000_000_000 + self.real_offset

    def advance(self, ns: int) -> None:
        self.now += ns
        self.run_due()


class EmptyImage(ImageSource):
    """An image that is one empty directory."""

    def lstat(self, path: bytes) -> os.stat_result | None:
        return os.stat_result((0o40755, 2, 1, 2, 0, 0, 0, 0, 0, 0)) if path in (b"", b"/") else None

    def scan(self, path: bytes) -> list[tuple[bytes, int, int]]:
        return []


class Machine(Protocol):
    """What scenarios use: offsets into 1 MiB of memory, and system calls that return a result or -errno."""

    def call(self, name: str, *args: int) -> int: ...

    def put(self, offset: int, data: bytes) -> int:
        """Store; returns the address of ``offset``."""
        ...

    def get(self, offset: int, size: int) -> bytes: ...

    def at(self, offset: int) -> int: ...


class Native:
    """This host's kernel. ``close_all`` closes what a scenario opened."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(MEMORY)
        self.base = ctypes.addressof(self.buffer)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.before = {int(n) for n in os.listdir("/proc/self/fd")}

    def call(self, name: str, *args: int) -> int:
        result = int(self.libc.syscall(ctypes.c_long(NR[name]), *[ctypes.c_ulong(a & MASK) for a in args]))
        return -ctypes.get_errno() if result == -1 else result

    def at(self, offset: int) -> int:
        return self.base + offset

    def put(self, offset: int, data: bytes) -> int:
        ctypes.memmove(self.base + offset, data, len(data))
        return self.base + offset

    def get(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(self.base + offset, size)

    def close_all(self) -> None:
        for fd in {int(n) for n in os.listdir("/proc/self/fd")} - self.before:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone already
                os.close(fd)


class Cell:
    """The cell's kernel layer without a CPU.

    ``call`` makes a call of the first task that must not block (EAGAIN's stand-in for a wait is an AssertionError);
    ``start`` makes a call of any task and returns None if it blocks; ``run`` lets woken tasks go on, collecting
    ``results``.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.mem = FlatMemory(size=MEMORY, base=0x10000)
        self.sched = Scheduler(self.clock)
        self.refusals = RefusalLog()
        self.net = Loopback()
        fields = {"cpu": SimpleNamespace()} if "cpu" in Kernel.__dataclass_fields__ else {}
        self.kernel = Kernel(
            mem=self.mem,
            space=cast(Any, None),
            frames=ListFrames(64),
            fds=FdTable(),
            fs=FsState.create(EmptyImage(), overlay_limit=4 << 20),
            net=self.net,
            sched=self.sched,
            clock=self.clock,
            signals=Signals(self.sched),
            process=Process([b"prog"], [], b"/bin/prog"),
            limits=Limits(),
            refusals=self.refusals,
            **cast(Any, fields),
        )
        self.kernel.fs.attach(self.kernel)
        self.main = self.spawn()
        self.results: dict[int, int] = {}

    def spawn(self) -> Task:
        """A further task, at rest until ``start``."""
        return self.sched.create()

    # -- memory -----------------------------------------------------------------------------------------------------

    def at(self, offset: int) -> int:
        return self.mem.base + offset

    def put(self, offset: int, data: bytes) -> int:
        self.mem.write(self.at(offset), data)
        return self.at(offset)

    def get(self, offset: int, size: int) -> bytes:
        return self.mem.read(self.at(offset), size)

    # -- calls ------------------------------------------------------------------------------------------------------

    def call(self, name: str, *args: int) -> int:
        result = self.start(self.main, name, *args)
        assert result is not None, f"{name} blocks"
        return result

    def start(self, task: Task, name: str, *args: int) -> int | None:
        """Make a call of ``task``; its result or -errno, None when it is parked."""
        assert task.call is None, "a task makes one call at a time"
        task.call = (NR[name], *[a & MASK for a in args])
        self.results.pop(task.tid, None)
        self._attempt(task)
        return self.results.get(task.tid)

    def _attempt(self, task: Task) -> None:
        assert task.call is not None
        self.sched.current = task
        handler, arity = OWN.get(task.call[0]) or TABLE[task.call[0]][:2]
        args = (*task.call[1:], 0, 0, 0, 0, 0, 0)[:arity]
        try:
            result = handler(self.kernel, task, *args)
        except SysErr as exc:
            result = -exc.errno
        except Wait as wait:
            task.block(wait.queues, wait.deadline, wait.restart, wait.partial)
            if self.kernel.signals.deliverable(task):
                self.interrupt(task)
            return
        self._finish(task, result)

    def _finish(self, task: Task, result: int) -> None:
        task.call = task.scratch = None
        task.expired = False
        self.results[task.tid] = result

    def interrupt(self, task: Task) -> None:
        """A signal with a handler ends a blocked call, as delivery does."""
        assert task.state is TaskState.BLOCKED
        task.unpark()
        task.state = TaskState.READY
        self._finish(task, task.partial or -errno.EINTR)

    def run(self) -> None:
        """Let every woken task run its handler again until all are parked or done."""
        for _ in range(10_000):
            if not self.sched.ready:
                return
            task = self.sched.ready.popleft()
            if task.call is not None and task.state is TaskState.READY:
                self._attempt(task)
        raise AssertionError("tasks wake each other for ever")

    def result(self, task: Task) -> int | None:
        """What ``task``'s last call returned, None while it is parked."""
        return self.results.get(task.tid)

    def close_all(self) -> None:
        for fd in self.kernel.fds.visible():
            self.kernel.fds.close(fd)


# -- the calls of the file-system room, as small as scenarios need them ---------------------------------------------


def _read(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    file = kernel.fds.get(fd)
    if not file.readable:
        raise SysErr(errno.EBADF)
    try:
        data = file.read(size)
    except WouldBlock as block:
        if file.flags & O_NONBLOCK:
            raise SysErr(errno.EAGAIN) from None
        raise Wait(block.queues or (file.waitq,)) from None
    kernel.mem.write(address, data)
    return len(data)


def _write(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    file = kernel.fds.get(fd)
    if not file.writable:
        raise SysErr(errno.EBADF)
    done = task.scratch or 0
    while True:
        try:
            done += file.write(kernel.mem.read(address + done, size - done))
        except WouldBlock as block:
            if file.flags & O_NONBLOCK:
                if done:
                    return int(done)
                raise SysErr(errno.EAGAIN) from None
            task.scratch = done
            raise Wait(block.queues or (file.waitq,), partial=done) from None
        if done >= size:
            return int(done)


def _close(kernel: Kernel, task: Task, fd: int) -> int:
    kernel.fds.close(fd)
    return 0


def _dup(kernel: Kernel, task: Task, fd: int) -> int:
    return kernel.fds.install(kernel.fds.get(fd))


def _fcntl(kernel: Kernel, task: Task, fd: int, command: int, arg: int) -> int:
    file = kernel.fds.get(fd)
    if isinstance(file, PipeEnd):
        return file.set_pipe_size(arg) if command == F_SETPIPE_SZ else file.pipe_size()
    raise SysErr(errno.EBADF)


def _ioctl(kernel: Kernel, task: Task, fd: int, request: int, arg: int) -> int:
    file = kernel.fds.get(fd)
    if request == FIONBIO:
        file.flags = file.flags & ~O_NONBLOCK | (O_NONBLOCK if kernel.mem.u32(arg) else 0)
        return 0
    return file.ioctl(kernel, task, request, arg)


OWN: dict[int, tuple[Callable[..., int], int]] = {
    NR["read"]: (_read, 3),
    NR["write"]: (_write, 3),
    NR["close"]: (_close, 1),
    NR["dup"]: (_dup, 1),
    NR["fcntl"]: (_fcntl, 3),
    NR["ioctl"]: (_ioctl, 3),
}


@contextlib.contextmanager
def machine(kind: type[Native] | type[Cell]) -> Iterator[Native | Cell]:
    """A fresh machine; everything it opened is closed at the end."""
    made = kind()
    try:
        yield made
    finally:
        made.close_all()


def both(scenario: Callable[[Machine], object]) -> object:
    """Run a scenario on both machines, insist on equal outcomes, return the outcome."""
    with machine(Native) as native:
        expected = scenario(native)
    with machine(Cell) as cell:
        seen = scenario(cell)
    if isinstance(seen, list) and isinstance(expected, list):
        differing = [(mine, real) for mine, real in itertools.zip_longest(seen, expected) if mine != real]
        assert not differing, f"(cell, Linux) differ: {differing}"
    assert seen == expected
    return expected


class Script:
    """Shorthand for scenarios: every method makes one call and appends what it saw to ``log``."""

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.log: list[object] = []
        self.steps = itertools.count()

    def note(self, what: str, result: object) -> int:
        """Remember one outcome; errors by name."""
        if isinstance(result, int) and result < 0:
            result = errno.errorcode.get(-result, result)
        self.log.append((next(self.steps), what, result))
        return len(self.log)

    def do(self, name: str, *args: int) -> int:
        """A call whose result is comparable."""
        result = self.m.call(name, *args)
        self.note(name, result)
        return result

    def new(self, name: str, *args: int) -> int:
        """A call that makes a descriptor; only its success is compared."""
        result = self.m.call(name, *args)
        self.note(name, min(result, 0))
        return result

    def pair(self, name: str, *args: int) -> tuple[int, int]:
        """pipe2 or socketpair with the array at offset 0."""
        result = self.m.call(name, *args)
        self.note(name, result)
        one, two = struct.unpack("<ii", self.m.get(0, 8))
        return one, two

    def pipe(self, flags: int = O_NONBLOCK) -> tuple[int, int]:
        return self.pair("pipe2", self.m.at(0), flags)

    def socketpair(self, kind: int, domain: int = 1) -> tuple[int, int]:
        return self.pair("socketpair", domain, kind | O_NONBLOCK, 0, self.m.at(0))

    def write(self, fd: int, data: bytes) -> int:
        return self.do("write", fd, self.m.put(0x1000, data), len(data))

    def read(self, fd: int, size: int) -> bytes:
        result = self.m.call("read", fd, self.m.at(0x1000), size)
        data = self.m.get(0x1000, result) if result > 0 else b""
        self.note("read", (result, data) if result >= 0 else result)
        return data

    def send(self, fd: int, data: bytes, flags: int = 0x4000) -> int:
        return self.do("sendto", fd, self.m.put(0x1000, data), len(data), flags, 0, 0)

    def sendto(self, fd: int, data: bytes, to: bytes, flags: int = 0x4000) -> int:
        return self.do("sendto", fd, self.m.put(0x1000, data), len(data), flags, self.m.put(0x800, to), len(to))

    def recv(self, fd: int, size: int, flags: int = 0) -> bytes:
        result = self.m.call("recvfrom", fd, self.m.at(0x1000), size, flags, 0, 0)
        data = self.m.get(0x1000, min(result, size)) if result > 0 else b""
        self.note("recv", (result, data) if result >= 0 else result)
        return data

    def close(self, fd: int) -> int:
        return self.do("close", fd)

    def poll(self, fd: int, events: int = 0x3FFF) -> int:
        address = self.m.put(0x400, struct.pack("<iHH", fd, events, 0))
        result = self.m.call("poll", address, 1, 0)
        got = struct.unpack("<iHH", self.m.get(0x400, 8))[2]
        self.note("poll", (result, hex(got)))
        return int(got)

    def named(self, name: str, fd: int) -> bytes:
        """getsockname or getpeername; only family and length are comparable."""
        self.m.put(0x700, struct.pack("<i", 128))
        result = self.m.call(name, fd, self.m.at(0x600), self.m.at(0x700))
        size = s32(struct.unpack("<I", self.m.get(0x700, 4))[0])
        self.note(name, (result, size) if result == 0 else result)
        return self.m.get(0x600, size) if result == 0 else b""

    def bind(self, fd: int, raw: bytes) -> int:
        return self.do("bind", fd, self.m.put(0x600, raw), len(raw))

    def connect(self, fd: int, raw: bytes) -> int:
        return self.do("connect", fd, self.m.put(0x600, raw), len(raw))

    def setsockopt(self, fd: int, level: int, name: int, value: bytes | int) -> int:
        raw = struct.pack("<i", value) if isinstance(value, int) else value
        return self.do("setsockopt", fd, level, name, self.m.put(0x600, raw), len(raw))

    def getsockopt(self, fd: int, level: int, name: int, room: int = 4) -> bytes:
        self.m.put(0x700, struct.pack("<i", room))
        result = self.m.call("getsockopt", fd, level, name, self.m.at(0x600), self.m.at(0x700))
        size = struct.unpack("<i", self.m.get(0x700, 4))[0]
        value = self.m.get(0x600, max(size, 0)) if result == 0 else b""
        self.note(f"getsockopt {level} {name}", value if result == 0 else result)
        return value

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int = 0) -> int:
        return self.do("epoll_ctl", epfd, op, fd, self.m.put(0x500, struct.pack("<IQ", events, data)))

    def epoll_wait(self, epfd: int, room: int = 16) -> list[tuple[int, int]]:
        result = self.m.call("epoll_wait", epfd, self.m.at(0x2000), room, 0)
        raw = self.m.get(0x2000, 12 * max(result, 0))
        got = [(data, hex(events)) for events, data in struct.iter_unpack("<IQ", raw)]
        self.note("epoll_wait", sorted(got) if result >= 0 else result)
        return [(int(d), int(e, 16)) for d, e in got]


def inet(ip: str, port: int) -> bytes:
    """A sockaddr_in."""
    return struct.pack("<H", 2) + port.to_bytes(2, "big") + bytes(int(x) for x in ip.split(".")) + bytes(8)


def port_of(raw: bytes) -> int:
    """The port in a sockaddr_in or sockaddr_in6."""
    return int.from_bytes(raw[2:4], "big")
