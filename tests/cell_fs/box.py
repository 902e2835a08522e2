"""A cell's kernel with fakes around the file layer, and the same system calls on the real kernel, to compare."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import prong.cell.fs.calls  # noqa: F401  registers the handlers
from prong.cell.abi.numbers import NR
from prong.cell.core.cpu import FakeCpu
from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.fdtable import FdTable
from prong.cell.core.memory import FlatMemory, ListFrames
from prong.cell.core.table import TABLE
from prong.cell.fs.image import ImageSource
from prong.cell.fs.state import FsState
from prong.cell.ipc.net import Loopback
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.cell.process import Process
from prong.cell.refusals import RefusalLog
from prong.cell.task.clock import Clock
from prong.cell.task.signals import Signals
from prong.cell.task.task import Scheduler, Task

MASK = 0xFFFFFFFFFFFFFFFF
MIB = 1 << 20
BASE = 0x10000
CWD = -100


class Out:
    """An argument that is a buffer of ``size`` bytes the call fills; ``data`` after the call."""

    def __init__(self, size: int, data: bytes = b"") -> None:
        self.size = size
        self.data = data.ljust(size, b"\0")


Arg = int | bytes | Out


class Parked(Exception):
    """The call would wait; ``wait`` tells for what."""

    def __init__(self, wait: Wait) -> None:
        super().__init__("parked")
        self.wait = wait


class Fails(Exception):
    """The call failed with ``errno``."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.errno = number


class Calls:
    """What both sides offer on top of a bare system call."""

    def sys(self, name: str, *args: Arg) -> int:
        """Make one system call; raises Fails."""
        raise NotImplementedError

    def open(self, path: bytes, flags: int = 0, mode: int = 0o666) -> int:
        return self.sys("openat", self.top, path, flags, mode)

    top = CWD

    def read(self, fd: int, size: int) -> bytes:
        out = Out(size)
        got = self.sys("read", fd, out, size)
        return out.data[:got]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        out = Out(size)
        got = self.sys("pread64", fd, out, size, offset)
        return out.data[:got]

    def write(self, fd: int, data: bytes) -> int:
        return self.sys("write", fd, data, len(data))

    def readlink(self, path: bytes) -> bytes:
        out = Out(4096)
        got = self.sys("readlinkat", self.top, path, out, 4096)
        return out.data[:got]

    def stat(self, path: bytes, *, follow: bool = True) -> SimpleNamespace:
        out = Out(144)
        self.sys("newfstatat", self.top, path, out, 0 if follow else 0x100)
        return unpack_stat(out.data)

    def fstat(self, fd: int) -> SimpleNamespace:
        out = Out(144)
        self.sys("fstat", fd, out)
        return unpack_stat(out.data)

    def listdir(self, path: bytes) -> list[tuple[bytes, int]]:
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted((name, kind) for name, _ino, kind, _off in self.dirents(fd))
        finally:
            self.sys("close", fd)

    def dirents(self, fd: int, size: int = 4096) -> list[tuple[bytes, int, int, int]]:
        found: list[tuple[bytes, int, int, int]] = []
        while True:
            out = Out(size)
            got = self.sys("getdents64", fd, out, size)
            if not got:
                return found
            at = 0
            while at < got:
                ino, off, length, kind = struct.unpack_from("<QqHB", out.data, at)
                found.append((out.data[at + 19 : at + length].split(b"\0")[0], ino, kind, off))
                at += length

    def slurp(self, path: bytes) -> bytes:
        fd = self.open(path)
        try:
            parts = []
            while part := self.read(fd, 65536):
                parts.append(part)
            return b"".join(parts)
        finally:
            self.sys("close", fd)

    def put(self, path: bytes, data: bytes, mode: int = 0o666) -> None:
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            while data:
                data = data[self.write(fd, data) :]
        finally:
            self.sys("close", fd)

    def error(self, name: str, *args: Arg) -> str:
        """The name of the errno of a call that must fail."""
        try:
            result = self.sys(name, *args)
        except Fails as e:
            return errno.errorcode[e.errno]
        raise AssertionError(f"{name}{args} did not fail but returned {result}")


STAT_FIELDS = "dev ino nlink mode uid gid rdev size blksize blocks atime atime_ns mtime mtime_ns ctime ctime_ns"


def unpack_stat(data: bytes) -> SimpleNamespace:
    """struct stat by field name."""
    values = struct.unpack("<QQQIII4xQqqqqqqqqq24x", data)
    return SimpleNamespace(**dict(zip(STAT_FIELDS.split(" "), values, strict=True)))


class Box(Calls):
    """The cell's side."""

    def __init__(self, root: Path | bytes, *, overlay: int = 64 * MIB, frames: int = 4096, memory: int = 8 * MIB) -> None:
        self.mem = FlatMemory(memory, BASE)
        clock = Clock()
        sched = Scheduler(clock)
        image = ImageSource(os.fsencode(root))
        self.fs = FsState.create(image, overlay_limit=overlay)
        space = SimpleNamespace(
            regions=lambda: iter([(0x400000, 0x401000, "r-xp", 0, "00:00", 0, "/bin/prog")]), resident=lambda: 5 * MIB
        )
        self.kernel = Kernel(
            mem=self.mem,
            space=cast(Any, space),
            frames=ListFrames(frames),
            fds=FdTable(),
            fs=self.fs,
            net=Loopback(),
            sched=sched,
            clock=clock,
            signals=Signals(sched),
            process=Process([b"prog", b"x"], [b"A=b"], b"/bin/prog"),
            limits=Limits(),
            refusals=RefusalLog(),
            cpu=FakeCpu(),
        )
        self.fs.attach(self.kernel)
        self.task: Task = sched.create()
        sched.current = self.task

    def sys(self, name: str, *args: Arg) -> int:
        at = BASE
        raw = []
        outs: list[tuple[Out, int]] = []
        for arg in args:
            if isinstance(arg, int):
                raw.append(arg & MASK)
                continue
            data = arg + b"\0" if isinstance(arg, bytes) else arg.data
            self.mem.write(at, data)
            raw.append(at)
            if isinstance(arg, Out):
                outs.append((arg, at))
            at += (len(data) + 63) & ~63
        result = self.raw(name, *raw)
        for out, where in outs:
            out.data = self.mem.read(where, out.size)
        return result

    def raw(self, name: str, *args: int) -> int:
        """With raw integers."""
        handler, arity, _ = TABLE[NR[name]]
        padded = (*args, 0, 0, 0, 0, 0, 0)[:arity]
        try:
            return handler(self.kernel, self.task, *padded)
        except SysErr as e:
            raise Fails(e.errno) from None
        except Wait as w:
            raise Parked(w) from None

    def again(self) -> None:
        """The call ended: what the run loop does with ``scratch``."""
        self.task.scratch = None


class Native(Calls):
    """The real kernel, below one directory."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, root: Path) -> None:
        self.top = os.open(root, os.O_PATH | os.O_DIRECTORY)
        self.fds: set[int] = set()

    def sys(self, name: str, *args: Arg) -> int:
        raw: list[Any] = []
        outs: list[tuple[Out, Any]] = []
        for arg in args:
            if isinstance(arg, Out):
                buffer = ctypes.create_string_buffer(arg.data, arg.size)
                outs.append((arg, buffer))
                raw.append(buffer)
            elif isinstance(arg, bytes):
                raw.append(ctypes.create_string_buffer(arg))
            else:
                raw.append(ctypes.c_long(arg if arg < 1 << 63 else arg - (1 << 64)))
        result = int(self._libc.syscall(ctypes.c_long(NR[name]), *raw))
        if result < 0:
            raise Fails(ctypes.get_errno())
        for out, buffer in outs:
            out.data = buffer.raw
        if name in ("openat", "dup", "memfd_create"):
            self.fds.add(result)
        if name == "close":
            self.fds.discard(cast(int, args[0]))
        return result

    def end(self) -> None:
        """Close what is open."""
        for fd in (*self.fds, self.top):
            os.close(fd)


Native._libc.syscall.restype = ctypes.c_long


def make_tree(root: Path) -> None:
    """A small image: files, directories, links of all kinds."""
    (root / "etc").mkdir()
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/big").write_bytes(bytes(range(256)) * 800)
    (root / "usr/lib/small").write_bytes(b"hello")
    (root / "usr/lib/tool").write_bytes(b"#!/bin/sh\n")
    (root / "usr/lib/tool").chmod(0o755)
    (root / "lib").symlink_to("usr/lib")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere/at/all")
    (root / "d/e/f").mkdir(parents=True)
    (root / "d/a").write_bytes(b"A" * 10)
    (root / "d/b").symlink_to("a")
    (root / "d/e/up").symlink_to("..")
    os.link(root / "d/a", root / "d/hard")
    (root / "d/empty").mkdir()


@contextlib.contextmanager
def both(tmp: Path) -> Iterator[tuple[Box, Native]]:
    """The two sides over equal trees."""
    for name in ("image", "native"):
        (tmp / name).mkdir()
        make_tree(tmp / name)
    native = Native(tmp / "native")
    box = Box(tmp / "image")
    try:
        yield box, native
    finally:
        native.end()
        box.fs.image.close()
