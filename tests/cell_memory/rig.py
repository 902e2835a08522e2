"""An address space of a cell without a CPU, and the same calls on this process's own kernel."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

from prong.cell.abi.numbers import NR
from prong.cell.core.errors import SysErr
from prong.cell.core.table import TABLE
from prong.cell.host.build import fresh_kernel
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.kernel import Kernel
from prong.cell.limits import MIB, Limits
from prong.cell.memory.layout import PAGE
from prong.cell.task.task import Task

MASK = 0xFFFFFFFFFFFFFFFF
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def make_kernel(root: Path, memory: int = 16 * MIB) -> Kernel:
    """A fresh kernel over an empty image directory, with no program and no CPU."""
    identity = Identity.fresh(0).pack()
    spec = BootSpec(b"/x", (b"x",), (), b"/", (), False, {"memory": memory}, identity)
    return fresh_kernel(spec, Limits(memory=memory), os.fsencode(root))


class GuestCalls:
    """System calls answered by the handlers; results as the ABI gives them (``-errno``)."""

    def __init__(self, root: Path, memory: int = 16 * MIB) -> None:
        self.kernel = make_kernel(root, memory)
        self.task = Task(1000, self.kernel.sched)

    def call(self, name: str, *args: int) -> int:
        handler, arity, _ = TABLE[NR[name]]
        padded = [a & MASK for a in (*args, *([0] * (6 - len(args))))]
        try:
            return int(handler(self.kernel, self.task, *padded[:arity]))
        except SysErr as e:
            return -e.errno

    def memfd(self, content: bytes) -> int:
        self.kernel.space.map(PAGE, 3, at=0x20000)
        self.kernel.mem.write(0x20000, b"x\0")
        fd = self.call("memfd_create", 0x20000, 0)
        assert fd >= 0
        assert self.call("ftruncate", fd, len(content)) == 0
        self.kernel.fds.get(fd).pwrite(content, 0)
        self.kernel.space.unmap(0x20000, PAGE)
        return fd

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self.kernel.fds.get(fd).pread(size, offset)

    def peek(self, address: int, size: int) -> bytes | None:
        try:
            return self.kernel.mem.read(address, size)
        except SysErr as e:
            assert e.errno == errno.EFAULT
            return None

    def poke(self, address: int, data: bytes) -> bool:
        try:
            self.kernel.mem.write(address, data)
        except SysErr as e:
            assert e.errno == errno.EFAULT
            return False
        return True

    def close(self) -> None:
        space: Any = self.kernel.space
        space.phys.close()


class NativeCalls:
    """The same calls on the kernel of this machine, in this process: only for addresses no allocator uses."""

    def call(self, name: str, *args: int) -> int:
        got = _libc.syscall(ctypes.c_long(NR[name]), *[ctypes.c_ulong(a & MASK) for a in args])
        return -ctypes.get_errno() if got == -1 else int(got)

    def memfd(self, content: bytes) -> int:
        fd = os.memfd_create("x")
        os.ftruncate(fd, len(content))
        os.pwrite(fd, content, 0)
        return fd

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def _vm(self, call: str, buffer: Any, address: int, size: int) -> bool:
        """process_vm_readv/writev(2) on this process: keeps to the protection, and fails instead of a signal."""
        near, far = _Iovec(ctypes.addressof(buffer), size), _Iovec(address, size)
        return self.call(call, os.getpid(), ctypes.addressof(near), 1, ctypes.addressof(far), 1, 0) == size

    def peek(self, address: int, size: int) -> bytes | None:
        buffer = ctypes.create_string_buffer(size)
        return buffer.raw if self._vm("process_vm_readv", buffer, address, size) else None

    def poke(self, address: int, data: bytes) -> bool:
        buffer = ctypes.create_string_buffer(data, len(data))
        return self._vm("process_vm_writev", buffer, address, len(data))

    def close(self) -> None:
        """Nothing of its own."""
