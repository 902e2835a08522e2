"""What a VMM that guest code has taken over would try. Each function makes one attempt and returns if it succeeded.

They run in three places: *outside* of any jail (a control: the attempt is a real one), in a jail whose filter is not on
(*bare*: what the other layers hold alone), and *sealed*. They are written to do no harm where they succeed.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from prong.cell.jail import libc
from prong.cell.jail.sysno import Sys


@dataclass(frozen=True, slots=True)
class Target:
    """What there is to attack, as it was before the jail closed.

    Attributes:
        victim: a sibling in the same jail (a process of the same user outside).
        host_pid: a process outside of the jail, of the same user, by the host's number.
        secret: path of a file of the host, readable for all, outside of the image.
        image: path of the image outside; empty inside.
        unix_path: path of a listening unix socket of the host.
        abstract: name of a listening abstract unix socket of the host.
        port: of a listener on 127.0.0.1.
        stream: a connected socket the jail was given.
        i386_code: address of ``mov eax, 20; int 0x80; ret``, made executable before the filter came on.
    """

    victim: int
    host_pid: int
    secret: str
    image: str
    unix_path: str
    abstract: str
    port: int
    stream: int
    i386_code: int


Attack = Callable[[Target], object]
_attacks: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Registers an attack under its name."""
    _attacks[function.__name__] = function
    return function


NAMES = _attacks.keys()


def find(name: str) -> Attack:
    """The attack called ``name``."""
    return _attacks[name]


def _open(path: str, flags: int, mode: int = 0o600) -> None:
    os.close(os.open(path, flags, mode))


# --- files ---


@attack
def open_host_file(target: Target) -> None:
    _open(target.secret, os.O_RDONLY)


@attack
def open_host_file_by_dotdot(target: Target) -> None:
    _open("../" * 40 + target.secret.lstrip("/"), os.O_RDONLY)


@attack
def open_host_file_by_symlink(target: Target) -> None:
    """``escape`` in the image leads to the absolute path of the secret."""
    _open(target.image + "/escape", os.O_RDONLY)


@attack
def open_proc(target: Target) -> None:
    _open("/proc/1/status", os.O_RDONLY)


@attack
def open_host_device(target: Target) -> None:
    _open("/dev/null", os.O_RDONLY)


@attack
def write_image(target: Target) -> None:
    _open(target.image + "/writable.txt", os.O_WRONLY)


@attack
def append_image(target: Target) -> None:
    _open(target.image + "/writable.txt", os.O_RDWR | os.O_APPEND)


@attack
def create_in_image(target: Target) -> None:
    _open(target.image + "/open/made", os.O_CREAT | os.O_WRONLY | os.O_EXCL)
    os.unlink(target.image + "/open/made")


@attack
def create_unnamed_in_image(target: Target) -> None:
    _open(target.image + "/open", os.O_TMPFILE | os.O_WRONLY)


@attack
def write_image_by_openat2(target: Target) -> None:
    how = ctypes.create_string_buffer(struct.pack("<QQQ", os.O_WRONLY, 0, 0), 24)
    os.close(libc.syscall(437, -100, (target.image + "/writable.txt").encode(), how, 24))


@attack
def truncate_image(target: Target) -> None:
    os.truncate(target.image + "/writable.txt", 0)


@attack
def unlink_image(target: Target) -> None:
    os.unlink(target.image + "/open/doomed")
    _open(target.image + "/open/doomed", os.O_CREAT)


@attack
def open_device_node_of_image(target: Target) -> None:
    _open(target.image + "/null", os.O_RDONLY)


@attack
def open_by_handle(target: Target) -> None:
    handle = ctypes.create_string_buffer(struct.pack("<II", 128, 0), 136)
    mount = ctypes.create_string_buffer(4)
    libc.syscall(Sys.NAME_TO_HANDLE_AT, -100, (target.image or "/").encode(), handle, mount, 0)
    directory = os.open(target.image or "/", os.O_RDONLY)
    os.close(libc.syscall(Sys.OPEN_BY_HANDLE_AT, directory, handle, os.O_RDONLY))


# --- network ---


@attack
def connect_inet(target: Target) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.connect(("127.0.0.1", target.port))


@attack
def connect_unix(target: Target) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect(target.unix_path)


@attack
def connect_abstract(target: Target) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect("\0" + target.abstract)


@attack
def bring_up_interface(target: Target) -> None:
    """SIOCSIFFLAGS on ``lo`` over a socket of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one.fileno(), 0x8914, struct.pack("16sH14x", b"lo", 0x49))


@attack
def netlink(target: Target) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


@attack
def make_socketpair(target: Target) -> None:
    for one in socket.socketpair():
        one.close()


@attack
def reconnect_given_socket(target: Target) -> None:
    """AF_UNSPEC dissolves a connection, so that another could be made."""
    address = ctypes.create_string_buffer(struct.pack("<H14x", 0), 16)
    libc.syscall(Sys.CONNECT, target.stream, address, 16)


@attack
def sendto_with_address(target: Target) -> None:
    address = ctypes.create_string_buffer(struct.pack("<H14x", 1), 16)
    libc.syscall(Sys.SENDTO, target.stream, b"x", 1, 0, address, 16)


@attack
def pidfd_of_peer(target: Target) -> None:
    """SO_PEERPIDFD: a handle on the daemon."""
    value, length = ctypes.create_string_buffer(4), ctypes.create_string_buffer(struct.pack("<I", 4), 4)
    libc.syscall(Sys.GETSOCKOPT, target.stream, 1, 77, value, length)


# --- other processes ---


@attack
def ptrace_sibling(target: Target) -> None:
    libc.syscall(Sys.PTRACE, 0x4206, target.victim, 0, 0)  # PTRACE_SEIZE: does not stop it


@attack
def read_sibling_memory(target: Target) -> None:
    """The first bytes of libc's data are somewhere else in it; any address will do, EFAULT counts as being let in."""
    buffer = ctypes.create_string_buffer(8)
    local = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(buffer), 8), 16)
    remote = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(buffer), 8), 16)
    libc.syscall(Sys.PROCESS_VM_READV, target.victim, local, 1, remote, 1, 0)


@attack
def kill_sibling(target: Target) -> None:
    os.kill(target.victim, 0)


@attack
def kill_everyone(target: Target) -> None:
    """Signal 0 to all it may signal."""
    os.kill(-1, 0)


@attack
def kill_spawner(target: Target) -> None:
    os.kill(os.getppid(), 0)


@attack
def kill_host_process(target: Target) -> None:
    os.kill(target.host_pid, 0)


@attack
def tgkill_sibling(target: Target) -> None:
    libc.syscall(Sys.TGKILL, target.victim, target.victim, 0)


@attack
def queue_signal_to_sibling(target: Target) -> None:
    information = ctypes.create_string_buffer(struct.pack("<iii", 0, 0, -1), 128)
    libc.syscall(Sys.RT_SIGQUEUEINFO, target.victim, 0, information)


@attack
def pidfd_of_sibling(target: Target) -> None:
    os.close(os.pidfd_open(target.victim))


@attack
def steal_descriptor_of_sibling(target: Target) -> None:
    os.close(libc.syscall(Sys.PIDFD_GETFD, os.pidfd_open(target.victim), 0, 0))


@attack
def own_a_pipe_for_sibling(target: Target) -> None:
    """F_SETOWN: the kernel then signals the owner."""
    reading, _ = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETOWN, target.victim)


@attack
def choose_signal_of_pipe(target: Target) -> None:
    reading, _ = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETSIG, 9)


@attack
def signal_by_async_pipe(target: Target) -> None:
    reading, _ = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)


@attack
def limits_of_sibling(target: Target) -> None:
    resource.prlimit(target.victim, resource.RLIMIT_CORE)


@attack
def affinity_of_sibling(target: Target) -> None:
    os.sched_setaffinity(target.victim, os.sched_getaffinity(target.victim))


@attack
def priority_of_sibling(target: Target) -> None:
    os.setpriority(os.PRIO_PROCESS, target.victim, os.getpriority(os.PRIO_PROCESS, target.victim))


@attack
def compare_with_sibling(target: Target) -> None:
    libc.syscall(Sys.KCMP, os.getpid(), target.victim, 1, 0, 0)


# --- namespaces, mounts ---


@attack
def mount_tmpfs(target: Target) -> None:
    libc.syscall(Sys.MOUNT, b"none", b"/", b"tmpfs", 0, None)


@attack
def remount_writable(target: Target) -> None:
    libc.syscall(Sys.MOUNT, None, b"/", None, 0x1020, None)  # MS_REMOUNT | MS_BIND


@attack
def clear_read_only(target: Target) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("<QQQQ", 0, 1, 0, 0), 32)
    libc.syscall(Sys.MOUNT_SETATTR, -100, b"/", 0, attributes, 32)


@attack
def umount_root(target: Target) -> None:
    libc.umount2("/", 2)


@attack
def pivot_again(target: Target) -> None:
    libc.pivot_root("/", "/")


@attack
def clone_mount_tree(target: Target) -> None:
    os.close(libc.open_tree(-100, "/", 1))


@attack
def chroot(target: Target) -> None:
    os.chroot("/")


@attack
def unshare_user(target: Target) -> None:
    libc.unshare(0x1000_0000)


@attack
def unshare_network(target: Target) -> None:
    libc.unshare(0x4000_0000)


@attack
def setns_by_pidfd(target: Target) -> None:
    libc.syscall(Sys.SETNS, os.pidfd_open(target.victim), 0x4000_0000)


def _clone(flags: int) -> None:
    pid = libc.syscall(Sys.CLONE, flags, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0x4000_0000)  # __WALL


@attack
def clone_into_user_namespace(target: Target) -> None:
    _clone(0x1000_0000 | 17)


@attack
def clone_into_pid_namespace(target: Target) -> None:
    _clone(0x2000_0000 | 17)


@attack
def clone_sharing_descriptors(target: Target) -> None:
    """CLONE_FILES: a step towards a thread."""
    _clone(0x400 | 17)


@attack
def clone_as_sibling(target: Target) -> None:
    """CLONE_PARENT: a child that is not one's own, and that nobody waits for."""
    pid = libc.syscall(Sys.CLONE, 0x8000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)


@attack
def clone3_plain(target: Target) -> None:
    arguments = ctypes.create_string_buffer(struct.pack("<8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64)
    pid = libc.syscall(Sys.CLONE3, arguments, 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


# --- programs and memory ---


@attack
def execute_program_of_image(target: Target) -> None:
    os.execv(target.image + "/true", ["true"])


@attack
def execute_memfd(target: Target) -> None:
    with open(target.image + "/true", "rb") as file:
        program = file.read()
    fd = os.memfd_create("program")
    os.write(fd, program)
    os.execve(fd, ["true"], {})


@attack
def make_memfd(target: Target) -> None:
    os.close(os.memfd_create("file"))


@attack
def map_executable(target: Target) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


@attack
def make_executable(target: Target) -> None:
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc.syscall(10, address, 4096, 5)


@attack
def make_executable_with_key(target: Target) -> None:
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc.syscall(Sys.PKEY_MPROTECT, address, 4096, 5, -1)


@attack
def reading_implies_executing(target: Target) -> None:
    libc.syscall(Sys.PERSONALITY, 0x0400000)


@attack
def shared_memory_segment(target: Target) -> None:
    libc.syscall(Sys.SHMGET, 0, 4096, 0o1600)


@attack
def merge_pages_with_siblings(target: Target) -> None:
    mmap.mmap(-1, 4096).madvise(12)


@attack
def allocate_beyond_limit(target: Target) -> None:
    """More than the 4 GiB of address space that the jail of the tests has."""
    mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000).close()  # MAP_NORESERVE


@attack
def import_from_image(target: Target) -> None:
    __import__("wave")


@attack
def call_as_i386(target: Target) -> None:
    ctypes.CFUNCTYPE(ctypes.c_int)(target.i386_code)()


@attack
def call_as_x32(target: Target) -> None:
    libc.syscall(0x4000_0000 | 39)


# --- more kernel ---


@attack
def io_uring(target: Target) -> None:
    os.close(libc.syscall(Sys.IO_URING_SETUP, 4, ctypes.create_string_buffer(120)))


@attack
def bpf(target: Target) -> None:
    os.close(libc.syscall(Sys.BPF, 0, ctypes.create_string_buffer(struct.pack("<IIII", 2, 4, 4, 1), 72), 72))


@attack
def userfaultfd(target: Target) -> None:
    os.close(libc.syscall(Sys.USERFAULTFD, 1))  # UFFD_USER_MODE_ONLY: needs no privilege


@attack
def keyctl(target: Target) -> None:
    libc.syscall(Sys.KEYCTL, 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session


@attack
def add_key(target: Target) -> None:
    libc.syscall(Sys.ADD_KEY, b"user", b"prong-test", b"x", 1, -1)  # the thread keyring: gone with the process


@attack
def perf_event(target: Target) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", 1, 128, 0) + struct.pack("<Q", 0) * 3 + b"\x61", 128)
    os.close(libc.syscall(Sys.PERF_EVENT_OPEN, attributes, 0, -1, -1, 0))


@attack
def push_terminal_input(target: Target) -> None:
    fcntl.ioctl(target.stream, 0x5412, b"x")


@attack
def set_owner_by_ioctl(target: Target) -> None:
    fcntl.ioctl(target.stream, 0x8901, struct.pack("<i", target.victim))  # FIOSETOWN


@attack
def read_kernel_log(target: Target) -> None:
    libc.syscall(Sys.SYSLOG, 10, None, 0)


@attack
def modify_ldt(target: Target) -> None:
    libc.syscall(Sys.MODIFY_LDT, 0, ctypes.create_string_buffer(16), 16)


# --- more privilege ---


@attack
def setuid_root(target: Target) -> None:
    os.setuid(0)


@attack
def all_capabilities(target: Target) -> None:
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0), 8)
    libc.syscall(Sys.CAPSET, header, ctypes.create_string_buffer(b"\xff\xff\xff\xff" * 3 + b"\xff\x01\x00\x00" * 3, 24))


@attack
def raise_limit(target: Target) -> None:
    """The raw call: Python would turn the refusal into another exception."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = ctypes.create_string_buffer(struct.pack("<QQ", hard, hard + 1), 16)
    libc.syscall(Sys.PRLIMIT64, 0, resource.RLIMIT_NOFILE, wanted, None)


@attack
def become_dumpable(target: Target) -> None:
    libc.prctl(4, 1)


@attack
def allow_tracers(target: Target) -> None:
    libc.prctl(0x59616D61, -1)  # PR_SET_PTRACER_ANY


@attack
def set_host_name(target: Target) -> None:
    libc.sethostname("owned")


@attack
def settle_clock(target: Target) -> None:
    libc.syscall(Sys.CLOCK_SETTIME, 0, ctypes.create_string_buffer(struct.pack("<qq", 0, -1), 16))


@attack
def mknod_device(target: Target) -> None:
    libc.syscall(Sys.MKNOD, b"/open/device", 0o020666, 0x0103)


@attack
def fork_bomb(target: Target) -> None:
    """Forks until it is stopped, or 200 times; whoever is stopped that early was stopped by a limit."""
    reading, writing = os.pipe()
    children = []
    try:
        for _ in range(200):
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            children.append(pid)
    finally:
        os.close(writing)
        for pid in children:
            os.waitpid(pid, 0)
