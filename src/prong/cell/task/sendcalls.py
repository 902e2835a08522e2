"""The system calls that send signals: kill and its relatives, and pidfds. The only process to send to is this one."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_NONBLOCK, O_RDWR, File, Stat
from prong.cell.core.saved import saved
from prong.cell.core.table import s32, syscall, u32
from prong.cell.process import PID
from prong.cell.task.siginfo import SI_TKILL, SI_USER, SIGMAX, SignalInfo

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PIDFD_NONBLOCK = O_NONBLOCK


def _signal(sig: int) -> int:
    sig = s32(sig)
    if not 0 <= sig <= SIGMAX:
        raise SysErr(errno.EINVAL)
    return sig


def _post(kernel: Kernel, target: Task | None, info: SignalInfo) -> int:
    """Send; signal 0 only asks whether the target exists. SysErr(EAGAIN) when too many are queued already."""
    if info.signo and not kernel.signals.post(info.signo, target, info):
        raise SysErr(errno.EAGAIN)
    return 0


def _own(kernel: Kernel, sig: int, code: int = SI_USER) -> SignalInfo:
    return SignalInfo(sig, code, pid=PID, uid=kernel.process.credentials.uids[0])


@syscall("kill")
def sys_kill(kernel: Kernel, task: Task, pid: int, sig: int) -> int:
    """kill(2): by process id, a thread's id, 0 or the group. As on Linux, -1 does not mean the caller itself."""
    sig, pid = _signal(sig), s32(pid)
    if pid in (0, PID, -PID) or pid in kernel.sched.tasks:
        return _post(kernel, None, _own(kernel, sig))
    raise SysErr(errno.ESRCH)


@syscall("tkill")
def sys_tkill(kernel: Kernel, task: Task, tid: int, sig: int) -> int:
    """tkill(2)."""
    if s32(tid) <= 0:
        raise SysErr(errno.EINVAL)
    return _post(kernel, _thread(kernel, tid), _own(kernel, _signal(sig), SI_TKILL))


@syscall("tgkill")
def sys_tgkill(kernel: Kernel, task: Task, tgid: int, tid: int, sig: int) -> int:
    """tgkill(2)."""
    if s32(tid) <= 0 or s32(tgid) <= 0:
        raise SysErr(errno.EINVAL)
    if s32(tgid) != PID:
        raise SysErr(errno.ESRCH)
    return _post(kernel, _thread(kernel, tid), _own(kernel, _signal(sig), SI_TKILL))


def _thread(kernel: Kernel, tid: int) -> Task:
    target = kernel.sched.tasks.get(s32(tid))
    if target is None:
        raise SysErr(errno.ESRCH)
    return target


def _read_siginfo(kernel: Kernel, sig: int, address: int) -> SignalInfo:
    """The siginfo a program makes up for sigqueue(3); its number is replaced by ``sig``."""
    data = kernel.mem.read(address, 128)
    _, _, code, pid, uid, value = struct.unpack_from("<iii4xiIQ", data)
    return SignalInfo(sig, code, pid=pid, uid=uid, value=value)


@syscall("rt_sigqueueinfo")
def sys_rt_sigqueueinfo(kernel: Kernel, task: Task, pid: int, sig: int, info: int) -> int:
    """rt_sigqueueinfo(2)."""
    record = _read_siginfo(kernel, s32(sig), info)
    record.signo = _signal(sig)
    if s32(pid) != PID and s32(pid) not in kernel.sched.tasks:
        raise SysErr(errno.ESRCH)
    return _post(kernel, None, record)


@syscall("rt_tgsigqueueinfo")
def sys_rt_tgsigqueueinfo(kernel: Kernel, task: Task, tgid: int, tid: int, sig: int, info: int) -> int:
    """rt_tgsigqueueinfo(2)."""
    if s32(tid) <= 0 or s32(tgid) <= 0:
        raise SysErr(errno.EINVAL)
    record = _read_siginfo(kernel, _signal(sig), info)
    if s32(tgid) != PID:
        raise SysErr(errno.ESRCH)
    return _post(kernel, _thread(kernel, tid), record)


@saved("pidfd")
class PidFd(File):
    """A pidfd (pidfd_open(2)) of the process itself: it never becomes readable while anyone could look."""

    kind = "pidfd"

    def poll(self) -> int:
        """Readable once the process has ended, so never."""
        return 0

    def stat(self) -> Stat:
        """As of an anonymous inode."""
        return Stat(ino=1, mode=0o600)


@syscall("pidfd_open")
def sys_pidfd_open(kernel: Kernel, task: Task, pid: int, flags: int) -> int:
    """pidfd_open(2)."""
    if u32(flags) & ~PIDFD_NONBLOCK or s32(pid) <= 0:
        raise SysErr(errno.EINVAL)
    if s32(pid) != PID:
        raise SysErr(errno.EINVAL if s32(pid) in kernel.sched.tasks else errno.ESRCH)
    return kernel.fds.install(PidFd(O_RDWR | (flags & PIDFD_NONBLOCK)), cloexec=True)


@syscall("pidfd_send_signal")
def sys_pidfd_send_signal(kernel: Kernel, task: Task, fd: int, sig: int, info: int, flags: int) -> int:
    """pidfd_send_signal(2); also takes a descriptor of /proc/PID."""
    if u32(flags):
        raise SysErr(errno.EINVAL)
    file = kernel.fds.get(fd)
    if not isinstance(file, PidFd) and file.link_text() not in (f"/proc/{PID}", "/proc/self"):
        raise SysErr(errno.EBADF)
    sig = s32(sig)
    if not info:
        return _post(kernel, None, _own(kernel, _signal(sig)))
    record = _read_siginfo(kernel, _signal(sig), info)
    if struct.unpack("<i", kernel.mem.read(info, 4))[0] != sig:
        raise SysErr(errno.EINVAL)
    return _post(kernel, None, record)


@syscall("pidfd_getfd")
def sys_pidfd_getfd(kernel: Kernel, task: Task, pidfd: int, target: int, flags: int) -> int:
    """pidfd_getfd(2): a duplicate of one of our own descriptors."""
    if u32(flags):
        raise SysErr(errno.EINVAL)
    if not isinstance(kernel.fds.get(pidfd), PidFd) or u32(target) in kernel.fds.hidden:
        raise SysErr(errno.EBADF)
    return kernel.fds.install(kernel.fds.get(target), cloexec=True)
