"""What a VMM needs, tried under the filter. Each function raises if something it relies on does not work."""

from __future__ import annotations

import array
import ctypes
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from prong.cell.jail.sysno import Sys
from prong.kvm import abi, probe
from prong.kvm.device import Kvm

Need = Callable[[int], object]
_needs: dict[str, Need] = {}


def need(function: Need) -> Need:
    """Registers a need under its name; it is called with a socket, ``run_a_guest`` with a descriptor of /dev/kvm."""
    _needs[function.__name__] = function
    return function


NAMES = _needs.keys()


def find(name: str) -> Need:
    """The need called ``name``."""
    return _needs[name]


@need
def read_the_image(_: int) -> None:
    assert Path("/hello.txt").read_text() == "of the image"
    assert Path("/open/link").read_text() == "of the image"
    assert os.readlink("/open/link") == "../hello.txt"
    assert "hello.txt" in os.listdir("/")
    assert {entry.name for entry in os.scandir("/open")} >= {"link", "doomed"}
    assert os.access("/hello.txt", os.R_OK)
    assert os.statvfs("/").f_namemax == 255
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open("hello.txt", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    assert os.fstat(fd).st_size == os.stat("hello.txt", dir_fd=directory).st_size == 12
    buffer = bytearray(3)
    assert os.preadv(fd, [buffer], 3) == 3
    assert buffer == os.pread(fd, 3, 3) == b"the"
    with mmap.mmap(fd, 12, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == b"of the image"


@need
def use_memory(_: int) -> None:
    memory = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[0] = 1
    memory.madvise(23)  # MADV_POPULATE_WRITE
    memory.madvise(mmap.MADV_DONTNEED)
    memory.resize(2 << 20)
    assert memory[0] == 0
    libc = ctypes.CDLL(None, use_errno=True)
    anchor = ctypes.c_char.from_buffer(memory)
    assert libc.mprotect(ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(4096), 1) == 0
    del anchor
    memory.close()
    assert len(bytearray(64 << 20)) == 64 << 20


@need
def use_descriptors(_: int) -> None:
    reading, writing = os.pipe()
    assert os.writev(os.dup(writing), [b"a", b"b"]) == 2
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK)
    os.set_blocking(reading, False)
    os.set_inheritable(reading, True)
    with select.epoll() as epoll:
        epoll.register(reading, select.EPOLLIN)
        assert epoll.poll(1) == [(reading, select.EPOLLIN)]
    assert select.select([reading], [], [], 0)[0] == [reading]
    assert os.read(reading, 9) == b"ab"
    counter = os.eventfd(3)
    assert os.eventfd_read(counter) == 3
    os.close(os.dup2(counter, 50))


@need
def use_time_and_signals(_: int) -> None:
    hits: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: hits.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    deadline = time.monotonic() + 10
    while not hits and time.monotonic() < deadline:
        time.sleep(0.001)
    assert hits == [signal.SIGALRM]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    taken = signal.sigtimedwait([signal.SIGALRM], 10)
    assert taken is not None
    assert taken.si_signo == signal.SIGALRM
    assert len(os.urandom(8)) == 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime >= 0
    assert resource.prlimit(0, resource.RLIMIT_CORE) == (0, 0)


@need
def fork_live(_: int) -> None:
    """A plain fork works, and the child is as sealed as its parent."""
    polite = os.fork()
    if polite == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(polite, 0)[1]) == 7
    hostile = os.fork()
    if hostile == 0:
        ctypes.CDLL(None).syscall(ctypes.c_long(Sys.SOCKET), 1, 1, 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(hostile, 0)[1]) == -signal.SIGSYS


@need
def receive_a_descriptor(stream: int) -> None:
    with socket.socket(fileno=os.dup(stream)) as one:
        _, ancillary, _, _ = one.recvmsg(1, socket.CMSG_SPACE(4))
        (fd,) = array.array("i", ancillary[0][2])
        assert stat.S_ISFIFO(os.fstat(fd).st_mode)
        one.settimeout(1.0)
        one.sendall(b"!")


@need
def hold_nothing_else(_: int) -> None:
    """Of all descriptors, only those that were given, /dev/null and the pipes made since; the driver leaked others."""
    kinds = {}
    for fd in range(1024):
        try:
            kinds[fd] = os.fstat(fd)
        except OSError:
            continue
    assert set(kinds) >= {0, 1, 2}
    for fd, status in kinds.items():
        if stat.S_ISCHR(status.st_mode):
            assert status.st_rdev == os.makedev(1, 3)
        else:
            assert stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode), (fd, oct(status.st_mode))


@need
def be_nobody_in_particular(_: int) -> None:
    assert os.uname().nodename == "cell"
    assert os.getcwd() == "/"
    assert os.getuid() == os.geteuid() != 0
    assert os.getppid() == 1
    assert set(os.environ) <= {"LC_CTYPE", "TZ"}  # Python itself sets the one (PEP 538), the jail the other


@need
def keep_time_in_utc(_: int) -> None:
    """The image's /etc/localtime is nine hours ahead."""
    with open("/etc/localtime", "rb") as file:
        assert file.read(4) == b"TZif"
    assert time.mktime((1970, 1, 1, 0, 0, 0, 3, 1, 0)) == 0
    assert time.strftime("%H %z", time.localtime(0)) == "00 +0000"


@need
def run_a_guest(kvm: int) -> None:
    """Creates a VM and a vCPU over an inherited /dev/kvm and runs instructions."""
    verdict = probe._run_guest(Kvm(kvm))
    assert verdict.usable, verdict.reason


REQUESTS = (abi.KVM_RUN, *abi.ALL)
