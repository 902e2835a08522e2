"""The system calls about the system as a whole and small settings: uname, prctl, arch_prctl, getrandom and such."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.task.sigframe import USER_TOP

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

RELEASE = b"6.1.0-prong"
VERSION = b"#1 SMP PREEMPT_DYNAMIC prong"

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_GET_TIMING, PR_SET_NAME, PR_GET_NAME = 7, 8, 13, 15, 16
PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_SECUREBITS, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 21, 23, 27, 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 36, 37, 38, 39
PR_GET_TID_ADDRESS, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE = 40, 41, 42
PR_SET_VMA = 0x53564D41
CAP_LAST = 40

ARCH_SET_GS, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
ARCH_GET_CPUID, ARCH_SET_CPUID = 0x1011, 0x1012

GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE = 1, 2, 4
RANDOM_STEP, RANDOM_MOST = 256 << 10, (32 << 20) - 1
NAME_MAX = 64
"""Longest host or domain name in bytes (__NEW_UTS_LEN)."""


@syscall("uname")
def sys_uname(kernel: Kernel, task: Task, address: int) -> int:
    """uname(2)."""
    process = kernel.process
    fields = (b"Linux", process.hostname, RELEASE, VERSION, b"x86_64", process.domainname)
    kernel.mem.write(address, b"".join(f[:NAME_MAX].ljust(NAME_MAX + 1, b"\0") for f in fields))
    return 0


def _name(kernel: Kernel, address: int, length: int) -> bytes:
    if s32(length) < 0 or s32(length) > NAME_MAX:
        raise SysErr(errno.EINVAL)
    return kernel.mem.read(address, s32(length)) if s32(length) else b""


@syscall("sethostname")
def sys_sethostname(kernel: Kernel, task: Task, address: int, length: int) -> int:
    """sethostname(2)."""
    kernel.process.hostname = _name(kernel, address, length)
    return 0


@syscall("setdomainname")
def sys_setdomainname(kernel: Kernel, task: Task, address: int, length: int) -> int:
    """setdomainname(2)."""
    kernel.process.domainname = _name(kernel, address, length)
    return 0


@syscall("arch_prctl")
def sys_arch_prctl(kernel: Kernel, task: Task, code: int, address: int) -> int:
    """arch_prctl(2): the FS and GS bases of the calling thread."""
    code = u32(code)
    if code in (ARCH_SET_FS, ARCH_SET_GS):
        if address >= USER_TOP:
            raise SysErr(errno.EPERM)
        if code == ARCH_SET_FS:
            task.fs_base = address
        else:
            task.gs_base = address
        return 0
    if code in (ARCH_GET_FS, ARCH_GET_GS):
        kernel.mem.put_u64(address, task.fs_base if code == ARCH_GET_FS else task.gs_base)
        return 0
    if code == ARCH_GET_CPUID:
        return 1
    raise SysErr(errno.ENODEV if code == ARCH_SET_CPUID else errno.EINVAL)


@syscall("prctl")
def sys_prctl(kernel: Kernel, task: Task, option: int, arg2: int, arg3: int, arg4: int, arg5: int) -> int:
    """prctl(2): what programs use of it; EINVAL for the rest, as an older kernel would say."""
    option, process = u32(option), kernel.process
    if option == PR_SET_NAME:
        task.name = _comm(kernel, arg2)
    elif option == PR_GET_NAME:
        kernel.mem.write(arg2, (task.name or os.path.basename(process.exe))[:15].ljust(16, b"\0"))
    elif option == PR_GET_DUMPABLE:
        return process.dumpable
    elif option == PR_GET_NO_NEW_PRIVS:
        return process.no_new_privs
    elif option in _CONSTANT:
        return _CONSTANT[option]
    elif option == PR_SET_DUMPABLE and arg2 in (0, 1):
        process.dumpable = arg2
    elif option == PR_SET_PDEATHSIG and arg2 <= 64:
        process.parent_death_signal = arg2
    elif option == PR_GET_PDEATHSIG:
        kernel.mem.put_u32(arg2, process.parent_death_signal)
    elif option == PR_SET_NO_NEW_PRIVS and arg2 == 1 and not (arg3 or arg4 or arg5):
        process.no_new_privs = 1
    elif option == PR_CAPBSET_READ and arg2 <= CAP_LAST:
        return 1
    elif option == PR_GET_CHILD_SUBREAPER:
        kernel.mem.put_u32(arg2, 0)
    elif option == PR_GET_TID_ADDRESS:
        kernel.mem.put_u64(arg2, task.clear_tid)
    elif option not in _ACCEPTED:
        raise SysErr(errno.EINVAL)
    return 0


_CONSTANT = {
    PR_GET_TIMERSLACK: 50_000,
    PR_GET_KEEPCAPS: 0,
    PR_GET_TIMING: 0,
    PR_GET_SECCOMP: 0,
    PR_GET_SECUREBITS: 0,
    PR_GET_THP_DISABLE: 0,
}
"""Options that always read the same."""

_ACCEPTED = frozenset((PR_SET_VMA, PR_SET_TIMERSLACK, PR_SET_KEEPCAPS, PR_SET_THP_DISABLE, PR_SET_CHILD_SUBREAPER))
"""Options that change nothing a program could notice here."""


def _comm(kernel: Kernel, address: int) -> bytes:
    """A thread name: up to 15 bytes, cut there, as strncpy_from_user does it near the end of a mapping too."""
    name = bytearray()
    while len(name) < 15:
        byte = kernel.mem.read(address + len(name), 1)
        if byte == b"\0":
            break
        name += byte
    return bytes(name)


@syscall("getrandom")
def sys_getrandom(kernel: Kernel, task: Task, address: int, size: int, flags: int) -> int:
    """getrandom(2), from the host's generator; at most 32 MiB - 1 bytes a call."""
    flags = u32(flags)
    both = GRND_RANDOM | GRND_INSECURE
    if flags & ~(GRND_NONBLOCK | both) or flags & both == both:
        raise SysErr(errno.EINVAL)
    size = min(size, RANDOM_MOST)
    done = 0
    while done < size:
        step = min(size - done, RANDOM_STEP)
        try:
            kernel.mem.write(address + done, os.urandom(step))
        except SysErr:
            if done:
                break
            raise
        done += step
    return done


@syscall("personality")
def sys_personality(kernel: Kernel, task: Task, value: int) -> int:
    """personality(2): remembered; only PER_LINUX (with any flags) is possible."""
    before = kernel.process.personality
    value = u32(value)
    if value != 0xFFFFFFFF:
        if value & 0xFF:
            raise SysErr(errno.EINVAL)
        kernel.process.personality = value
    return before


@syscall("getcpu")
def sys_getcpu(kernel: Kernel, task: Task, cpu: int, node: int) -> int:
    """getcpu(2): there is one."""
    for address in (cpu, node):
        if address:
            kernel.mem.put_u32(address, 0)
    return 0


@syscall("rseq")
def sys_rseq(kernel: Kernel, task: Task) -> int:
    """rseq(2): not offered; the C library does without."""
    raise SysErr(errno.ENOSYS)


@syscall("membarrier")
def sys_membarrier(kernel: Kernel, task: Task, command: int, flags: int) -> int:
    """membarrier(2): on one CPU every exit is a barrier already."""
    known = 0x1F
    command = u32(command)
    if u32(flags) or (command and (command & ~known or command & (command - 1))):
        raise SysErr(errno.EINVAL)
    return known if command == 0 else 0
