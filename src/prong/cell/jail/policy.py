"""What a VMM may ask of the kernel once it reads guest bytes.

Default deny. Unlisted calls fail with ``EPERM``; calls glibc probes for fail with ``ENOSYS`` so that it falls back;
calls no sane VMM makes kill the process: whoever makes them is not our code any more, and the daemon must see it.

Cells of one spawner share its namespaces and uid, so this list is also what keeps a host from touching its siblings: no
call here takes the number of another process, makes a socket, opens for writing, or makes memory executable.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Iterable

from prong.cell.jail.seccomp import ALLOW, KILL, Action, Check, Policy, Rule, equals, fail, one_of, only_bits
from prong.cell.jail.sysno import Sys

REFUSED = fail(errno.EPERM)
ABSENT = fail(errno.ENOSYS)

_PLAIN = (
    # descriptors the jail was given
    *(Sys.READ, Sys.WRITE, Sys.READV, Sys.WRITEV, Sys.PREAD64, Sys.PWRITE64, Sys.PREADV, Sys.PWRITEV),
    *(Sys.PREADV2, Sys.PWRITEV2, Sys.LSEEK, Sys.CLOSE, Sys.CLOSE_RANGE, Sys.DUP, Sys.DUP2, Sys.DUP3),
    *(Sys.RECVMSG, Sys.SENDMSG, Sys.RECVFROM, Sys.SHUTDOWN, Sys.GETSOCKNAME),
    *(Sys.POLL, Sys.PPOLL, Sys.SELECT, Sys.PSELECT6),
    *(Sys.EPOLL_CREATE1, Sys.EPOLL_CTL, Sys.EPOLL_WAIT, Sys.EPOLL_PWAIT, Sys.EPOLL_PWAIT2),
    *(Sys.PIPE, Sys.PIPE2, Sys.EVENTFD2, Sys.SIGNALFD4),
    *(Sys.TIMERFD_CREATE, Sys.TIMERFD_SETTIME, Sys.TIMERFD_GETTIME),
    # looking at the image
    *(Sys.STAT, Sys.FSTAT, Sys.LSTAT, Sys.NEWFSTATAT, Sys.STATX, Sys.STATFS, Sys.FSTATFS),
    *(Sys.ACCESS, Sys.FACCESSAT, Sys.FACCESSAT2, Sys.READLINK, Sys.READLINKAT, Sys.GETDENTS64, Sys.GETCWD),
    # its own memory
    *(Sys.MUNMAP, Sys.BRK),
    # its own threads of time and signals
    *(Sys.RT_SIGPROCMASK, Sys.RT_SIGACTION, Sys.RT_SIGRETURN, Sys.RT_SIGTIMEDWAIT, Sys.RT_SIGSUSPEND),
    *(Sys.RT_SIGPENDING, Sys.SIGALTSTACK, Sys.PAUSE, Sys.RESTART_SYSCALL),
    *(Sys.SETITIMER, Sys.GETITIMER, Sys.ALARM, Sys.TIMER_CREATE, Sys.TIMER_SETTIME, Sys.TIMER_GETTIME),
    *(Sys.TIMER_GETOVERRUN, Sys.TIMER_DELETE, Sys.CLOCK_GETTIME, Sys.CLOCK_GETRES, Sys.CLOCK_NANOSLEEP),
    *(Sys.NANOSLEEP, Sys.GETTIMEOFDAY, Sys.TIME, Sys.TIMES, Sys.GETRUSAGE),
    *(Sys.FUTEX, Sys.SET_ROBUST_LIST, Sys.SET_TID_ADDRESS, Sys.RSEQ, Sys.SCHED_YIELD, Sys.SCHED_GETAFFINITY),
    *(Sys.GETCPU, Sys.GETRANDOM, Sys.UNAME),
    # who it is
    *(Sys.GETPID, Sys.GETTID, Sys.GETPPID, Sys.GETPGRP, Sys.GETUID, Sys.GETEUID, Sys.GETGID, Sys.GETEGID),
    *(Sys.GETRESUID, Sys.GETRESGID, Sys.GETGROUPS),
    # its end, and that of the forks it made
    *(Sys.WAIT4, Sys.WAITID, Sys.EXIT, Sys.EXIT_GROUP, Sys.FORK),
)

_HOSTILE = (
    # another program
    *(Sys.EXECVE, Sys.EXECVEAT, Sys.VFORK),
    # another process
    *(Sys.PTRACE, Sys.PROCESS_VM_READV, Sys.PROCESS_VM_WRITEV, Sys.PROCESS_MADVISE, Sys.PROCESS_MRELEASE, Sys.KCMP),
    *(Sys.KILL, Sys.TKILL, Sys.RT_SIGQUEUEINFO, Sys.RT_TGSIGQUEUEINFO),
    *(Sys.PIDFD_OPEN, Sys.PIDFD_GETFD, Sys.PIDFD_SEND_SIGNAL),
    # another network
    *(Sys.SOCKET, Sys.SOCKETPAIR, Sys.CONNECT, Sys.BIND, Sys.LISTEN, Sys.ACCEPT, Sys.ACCEPT4),
    # another file system, another namespace
    *(Sys.MOUNT, Sys.UMOUNT2, Sys.PIVOT_ROOT, Sys.CHROOT, Sys.OPEN_TREE, Sys.MOVE_MOUNT, Sys.MOUNT_SETATTR),
    *(Sys.FSOPEN, Sys.FSCONFIG, Sys.FSMOUNT, Sys.FSPICK, Sys.SETNS, Sys.UNSHARE),
    *(Sys.NAME_TO_HANDLE_AT, Sys.OPEN_BY_HANDLE_AT, Sys.MKNOD, Sys.MKNODAT),
    # more kernel to attack
    *(Sys.BPF, Sys.PERF_EVENT_OPEN, Sys.USERFAULTFD, Sys.IO_URING_SETUP, Sys.IO_URING_ENTER, Sys.IO_URING_REGISTER),
    *(Sys.KEYCTL, Sys.ADD_KEY, Sys.REQUEST_KEY, Sys.INIT_MODULE, Sys.FINIT_MODULE, Sys.DELETE_MODULE),
    *(Sys.KEXEC_LOAD, Sys.KEXEC_FILE_LOAD, Sys.MODIFY_LDT, Sys.IOPL, Sys.IOPERM, Sys.PERSONALITY),
    # the administrator's
    *(Sys.REBOOT, Sys.SWAPON, Sys.SWAPOFF, Sys.ACCT, Sys.QUOTACTL, Sys.SYSLOG, Sys.SETTIMEOFDAY, Sys.CLOCK_SETTIME),
    *(Sys.ADJTIMEX, Sys.CLOCK_ADJTIME, Sys.SETHOSTNAME, Sys.SETDOMAINNAME, Sys.VHANGUP),
    # more privilege
    *(Sys.SETUID, Sys.SETGID, Sys.SETREUID, Sys.SETREGID, Sys.SETRESUID, Sys.SETRESGID, Sys.SETFSUID, Sys.SETFSGID),
    *(Sys.SETGROUPS, Sys.CAPSET),
)

_ABSENT = (Sys.CLONE3, Sys.OPENAT2, Sys.FUTEX_WAITV, Sys.MEMBARRIER)

# glibc's fork() and nothing more: no shared memory, no namespace, no pidfd, no ptrace inheritance.
_CLONE_CHILD_CLEARTID = 0x0020_0000
_CLONE_CHILD_SETTID = 0x0100_0000
FORK_FLAGS = _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | int(signal.SIGCHLD)

_O_LARGEFILE = 0x8000  # what the kernel calls it; os.O_LARGEFILE is 0 on x86-64
_READ_ONLY_FLAGS = os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_PATH | _O_LARGEFILE
_STATUS_FLAGS = os.O_NONBLOCK | os.O_ACCMODE | os.O_APPEND | _O_LARGEFILE  # without O_ASYNC
_PROT_READ_WRITE = 0x3

# MADV_*: 0-4 hints and DONTNEED, 8 FREE, 9 REMOVE, 10/11 (DONT|DO)FORK, 14/15 (NO)HUGEPAGE, 16/17 (DONT|DO)DUMP,
# 18/19 (WIPE|KEEP)ONFORK, 20 COLD, 21 PAGEOUT, 22/23 POPULATE_(READ|WRITE), 25 COLLAPSE. Not 12 MERGEABLE: pages the
# kernel merges between siblings tell, by the time a write takes, what the sibling holds.
_ADVICE = (4, 23, 22, 0, 1, 2, 3, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 25)

# Not SO_PEERPIDFD, which would be a handle on the daemon.
_SOCKET_OPTIONS = (
    *(socket.SO_TYPE, socket.SO_ERROR, socket.SO_DOMAIN, socket.SO_PROTOCOL),
    *(socket.SO_SNDBUF, socket.SO_RCVBUF),
)
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_GET_NAME = 1, 15, 16

# FIOCLEX, FIONCLEX, FIONBIO, FIONREAD: what Python itself asks of a descriptor. Nothing of terminals.
FILE_REQUESTS = (0x5451, 0x5450, 0x5421, 0x541B)


def vmm_policy(kvm_requests: Iterable[int], *, extra: Iterable[Rule] = ()) -> Policy:
    """The filter of a VMM.

    Args:
        kvm_requests: the KVM ioctl request numbers it uses, 32-bit, the most frequent (``KVM_RUN``) first.
        extra: rules that come before these, for a VMM that needs one call more. Each is an opening; say why.
    """
    requests = tuple(dict.fromkeys((*kvm_requests, *FILE_REQUESTS)))
    rules = (
        *extra,
        Rule(Sys.IOCTL, ALLOW, (one_of(1, requests),)),
        *_each(_PLAIN, ALLOW),
        *_conditional(),
        *_each(_HOSTILE, KILL),
        *_each(_ABSENT, ABSENT),
    )
    return Policy(rules, default=REFUSED, hot=(Sys.IOCTL,))


def _each(numbers: Iterable[int], action: Action) -> tuple[Rule, ...]:
    return tuple(Rule(int(nr), action) for nr in numbers)


def _allow(nr: int, *when: Check) -> Rule:
    return Rule(int(nr), ALLOW, when)


def _conditional() -> tuple[Rule, ...]:
    return (
        _allow(Sys.OPEN, only_bits(1, _READ_ONLY_FLAGS, 32)),
        _allow(Sys.OPENAT, only_bits(2, _READ_ONLY_FLAGS, 32)),
        # Without an address: a datagram socket could otherwise reach further than the peer it was connected to.
        _allow(Sys.SENDTO, equals(4, 0)),
        _allow(Sys.GETSOCKOPT, one_of(1, (socket.SOL_SOCKET,)), one_of(2, _SOCKET_OPTIONS)),
        _allow(
            Sys.FCNTL,
            one_of(1, (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC)),
        ),
        # Not F_SETOWN and F_SETSIG, which send signals to a process of one's choice.
        _allow(Sys.FCNTL, one_of(1, (fcntl.F_SETFL,)), only_bits(2, _STATUS_FLAGS, 64)),
        _allow(Sys.MMAP, only_bits(2, _PROT_READ_WRITE, 64)),
        _allow(Sys.MPROTECT, only_bits(2, _PROT_READ_WRITE, 64)),
        _allow(Sys.MREMAP),
        _allow(Sys.MADVISE, one_of(2, _ADVICE)),
        _allow(Sys.CLONE, equals(0, FORK_FLAGS)),
        # A clone for a thread is a mistake and fails; one with any namespace flag (or CLONE_PTRACE) is an attack.
        Rule(int(Sys.CLONE), REFUSED, (only_bits(0, _THREAD_FLAGS, 64),)),
        Rule(int(Sys.CLONE), KILL),
        # Reading one's own limits; they were set before, and stay.
        _allow(Sys.PRLIMIT64, equals(0, 0, 32), equals(2, 0)),
        _allow(Sys.GETRLIMIT),
        _allow(Sys.PRCTL, one_of(0, (_PR_SET_NAME, _PR_GET_NAME, _PR_SET_PDEATHSIG))),
    )


# CLONE_VM|FS|FILES|SIGHAND|VFORK|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID|CHILD_SETTID and the exit signal
_THREAD_FLAGS = 0xFF | 0x100 | 0x200 | 0x400 | 0x800 | 0x4000 | 0x10000 | 0x40000 | 0x80000 | 0x100000 | 0x1200000
