"""System calls on the address space: mmap, munmap, mprotect, mremap, brk, madvise and relatives."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_ACCMODE, O_WRONLY
from prong.cell.core.table import s32, syscall
from prong.cell.memory.layout import PAGE, PAGE_MASK, TASK_SIZE, P, pages
from prong.cell.memory.vma import PROT_EXEC, PROT_READ, PROT_WRITE
from prong.cell.process import RLIM_INFINITY

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

RLIMIT_AS = 9
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE = 1, 2, 3
MAP_FIXED, MAP_ANONYMOUS, MAP_32BIT, MAP_GROWSDOWN = 0x10, 0x20, 0x40, 0x100
MAP_NORESERVE, MAP_POPULATE, MAP_HUGETLB, MAP_FIXED_NOREPLACE = 0x4000, 0x8000, 0x40000, 0x100000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTNEED_LOCKED = 4, 8, 9, 24
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
MINCORE_STEP = 1 << 20
MADV_KNOWN = {0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25}


@syscall("mmap")
def sys_mmap(k: Kernel, t: Task, addr: int, size: int, prot: int, flags: int, fd: int, offset: int) -> int:
    """mmap(2)."""
    if size == 0 or offset & PAGE_MASK:
        raise SysErr(errno.EINVAL)
    kind = flags & 3
    if kind == 0 or flags & MAP_HUGETLB:
        raise SysErr(errno.EINVAL if kind == 0 else errno.ENOMEM)
    shared = kind != MAP_PRIVATE
    file = None
    if not flags & MAP_ANONYMOUS:
        file = k.fds.get(fd)
        if file.flags & O_ACCMODE == O_WRONLY or not file.readable:
            raise SysErr(errno.EACCES)
        if shared and prot & PROT_WRITE and not file.writable:
            raise SysErr(errno.EACCES)
        file.fill(0, memoryview(bytearray()))  # ENODEV where it cannot be mapped
    at = addr if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) else None
    if flags & MAP_FIXED_NOREPLACE and k.space.vmas.overlapping(addr, addr + pages(size) * PAGE):
        raise SysErr(errno.EEXIST)
    _address_limit(k)
    start = k.space.map(
        size,
        prot & 7,
        at=at,
        hint=0 if at is not None else addr,
        file=file,
        offset=offset,
        shared=shared,
        reserve=not flags & MAP_NORESERVE,
        low=0x80000000 if flags & MAP_32BIT else None,
    )
    if flags & MAP_POPULATE and prot & 7:
        with contextlib.suppress(SysErr):  # mmap(2): "will not fail" when populating does
            _populate(k, start, size)
    return start


def _address_limit(k: Kernel) -> None:
    """Have RLIMIT_AS, as it is now, bound the next mapping."""
    soft = k.process.rlimits[RLIMIT_AS][0] if RLIMIT_AS in k.process.rlimits else RLIM_INFINITY
    k.space.as_limit = None if soft == RLIM_INFINITY else soft


def _populate(k: Kernel, start: int, size: int) -> None:
    """Bring every page of a range in, as far as memory goes. SysErr(EFAULT) for a page that a file does not have."""
    if pages(size) > k.space.phys.free_frames:
        return
    for page in range(start // PAGE, start // PAGE + pages(size)):
        if not k.space.tables.get(page) & P:
            k.mem.read(page * PAGE, 1)


def _populate_advised(k: Kernel, addr: int, size: int, need: int) -> None:
    """madvise(MADV_POPULATE_READ, MADV_POPULATE_WRITE): ENOMEM over holes, EINVAL where a right is missing."""
    end = addr + pages(size) * PAGE
    at = addr
    for vma in k.space.vmas.overlapping(addr, end):
        if vma.start > at:
            raise SysErr(errno.ENOMEM)
        if not vma.prot & need:
            raise SysErr(errno.EINVAL)
        stop = min(vma.end, end)
        _populate(k, at, stop - at)
        at = stop
    if at < end:
        raise SysErr(errno.ENOMEM)


@syscall("munmap")
def sys_munmap(k: Kernel, t: Task, addr: int, size: int) -> int:
    """munmap(2)."""
    _check_range(addr, size)
    if size == 0:
        raise SysErr(errno.EINVAL)
    k.space.unmap(addr, size)
    return 0


def _check_range(addr: int, size: int, error: int = errno.EINVAL) -> None:
    if addr & PAGE_MASK:
        raise SysErr(errno.EINVAL)
    if size > TASK_SIZE or addr + size > TASK_SIZE:
        raise SysErr(error)


@syscall("mprotect")
def sys_mprotect(k: Kernel, t: Task, addr: int, size: int, prot: int) -> int:
    """mprotect(2)."""
    _check_range(addr, size, errno.ENOMEM)
    if prot & ~0x03000007:
        raise SysErr(errno.EINVAL)
    k.space.protect(addr, size, prot & 7)
    return 0


@syscall("mremap")
def sys_mremap(k: Kernel, t: Task, old: int, old_size: int, new_size: int, flags: int, new: int) -> int:
    """mremap(2); MREMAP_DONTUNMAP is not offered."""
    if flags & ~3 or (flags & MREMAP_FIXED and not flags & MREMAP_MAYMOVE):
        raise SysErr(errno.EINVAL)
    if old & PAGE_MASK or new_size == 0 or new_size > TASK_SIZE or old_size > TASK_SIZE:
        raise SysErr(errno.EINVAL)
    _address_limit(k)
    to = new if flags & MREMAP_FIXED else None
    if to is not None:
        _check_range(to, new_size)
    return k.space.remap(old, old_size, new_size, may_move=bool(flags & MREMAP_MAYMOVE), to=to)


@syscall("brk")
def sys_brk(k: Kernel, t: Task, end: int) -> int:
    """brk(2): the raw call returns the present end on failure."""
    _address_limit(k)
    return k.space.set_brk(end)


@syscall("madvise")
def sys_madvise(k: Kernel, t: Task, addr: int, size: int, advice: int) -> int:
    """madvise(2): DONTNEED and POPULATE act, the other advice is accepted and has no effect here."""
    advice = s32(advice)
    if advice not in MADV_KNOWN or addr & PAGE_MASK:
        raise SysErr(errno.EINVAL)
    _check_range(addr, size, errno.ENOMEM)
    if size == 0:
        return 0
    if advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        k.space.discard(addr, size)
    elif advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        _populate_advised(k, addr, size, PROT_WRITE if advice == MADV_POPULATE_WRITE else PROT_READ | PROT_WRITE | PROT_EXEC)
    elif advice == MADV_REMOVE:
        raise SysErr(errno.EOPNOTSUPP)
    elif not k.space.vmas.covers(addr, addr + pages(size) * PAGE):
        raise SysErr(errno.ENOMEM)
    elif advice == MADV_FREE and any(
        vma.file is not None or vma.shared for vma in k.space.vmas.overlapping(addr, addr + pages(size) * PAGE)
    ):
        raise SysErr(errno.EINVAL)
    return 0


@syscall("mincore")
def sys_mincore(k: Kernel, t: Task, addr: int, size: int, vec: int) -> int:
    """mincore(2): 1 for each populated page."""
    if addr & PAGE_MASK:
        raise SysErr(errno.EINVAL)
    _check_range(addr, size, errno.ENOMEM)
    if not k.space.vmas.covers(addr, addr + pages(size) * PAGE):
        raise SysErr(errno.ENOMEM)
    first = addr // PAGE
    words = k.space.phys.words
    for done in range(0, pages(size), MINCORE_STEP):
        told = bytearray(min(pages(size) - done, MINCORE_STEP))
        for page, at, n in k.space.tables.spans(first + done, len(told)):
            start = page - first - done
            told[start : start + n] = bytes(entry & P for entry in words[at : at + n])
        k.mem.write(vec + done, told)
    return 0


@syscall("msync")
def sys_msync(k: Kernel, t: Task, addr: int, size: int, flags: int) -> int:
    """msync(2): shared pages are the file already."""
    _check_range(addr, size, errno.ENOMEM)
    if flags & ~7 or flags & 5 == 5:
        raise SysErr(errno.EINVAL)
    if not k.space.vmas.covers(addr, addr + pages(size) * PAGE):
        raise SysErr(errno.ENOMEM)
    return 0


def _locked(k: Kernel, t: Task, addr: int, size: int) -> int:
    """mlock(2) and relatives: nothing is ever swapped by the cell, so holding is free; holes are ENOMEM."""
    end = (addr + size + PAGE_MASK) & ~PAGE_MASK
    start = addr & ~PAGE_MASK
    if end > TASK_SIZE or (size and not k.space.vmas.covers(start, end)):
        raise SysErr(errno.ENOMEM)
    return 0


@syscall("mlock")
def sys_mlock(k: Kernel, t: Task, addr: int, size: int) -> int:
    """mlock(2)."""
    return _locked(k, t, addr, size)


@syscall("mlock2")
def sys_mlock2(k: Kernel, t: Task, addr: int, size: int, flags: int) -> int:
    """mlock2(2)."""
    return _locked(k, t, addr, size)


@syscall("munlock")
def sys_munlock(k: Kernel, t: Task, addr: int, size: int) -> int:
    """munlock(2)."""
    return _locked(k, t, addr, size)


@syscall("mlockall")
def sys_mlockall(k: Kernel, t: Task, flags: int) -> int:
    """mlockall(2)."""
    if flags == 0 or flags & ~7:
        raise SysErr(errno.EINVAL)
    return 0


@syscall("munlockall")
def sys_munlockall(k: Kernel, t: Task) -> int:
    """munlockall(2)."""
    return 0
