"""socket(2), bind(2), listen(2), accept(2), connect(2) and the calls that ask for names."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

from prong.cell.core.errors import SysErr, Wait, WouldBlock
from prong.cell.core.file import O_CLOEXEC, O_NONBLOCK
from prong.cell.core.table import s32, syscall, u32
from prong.cell.ipc.address import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    format_inet,
    read_sockaddr,
    write_sockaddr,
)
from prong.cell.ipc.calls_pipe import install_pair
from prong.cell.ipc.inet import IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE
from prong.cell.ipc.netlink import NETLINK_ROUTE, NetlinkSocket
from prong.cell.ipc.socket import (
    MSG_DONTWAIT,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    Progress,
    Socket,
)
from prong.cell.ipc.stream import CONNECTED
from prong.cell.ipc.tcp import TcpSocket
from prong.cell.ipc.udp import UdpSocket
from prong.cell.ipc.unix import UnixStream
from prong.cell.ipc.unix_dgram import UnixDgram

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

MAX_FAMILY = 46
MAX_BACKLOG = 4096
PACKET_FAMILIES = (3, 4, 5, 9, 17, 31, 38, 40)
FLAGS = O_NONBLOCK | O_CLOEXEC


def get(kernel: Kernel, fd: int) -> Socket:
    """The socket behind ``fd``. SysErr: EBADF, ENOTSOCK."""
    file = kernel.fds.get(fd)
    if not isinstance(file, Socket):
        raise SysErr(errno.ENOTSOCK)
    return file


def park(
    kernel: Kernel, task: Task, socket: Socket, block: WouldBlock, flags: int, timeout: int | None, progress: Progress
) -> NoReturn:
    """Nothing can be done now: EAGAIN for a non-blocking call or one whose SO_…TIMEO has passed, else wait.

    ``progress`` becomes ``task.scratch``; what it counts is the result if a signal ends the wait.
    """
    if socket.flags & O_NONBLOCK or flags & MSG_DONTWAIT or task.expired:
        raise SysErr(errno.EAGAIN)
    if timeout is not None and progress.deadline is None:
        progress.deadline = kernel.clock.monotonic() + timeout
    task.scratch = progress
    raise Wait(
        block.queues or (socket.queue,),
        deadline=progress.deadline,
        restart=timeout is None,
        partial=progress.count or progress.done,
    )


def resume(task: Task) -> Progress:
    """What this call has done so far."""
    return task.scratch if isinstance(task.scratch, Progress) else Progress()


def make(kernel: Kernel, domain: int, type_: int, protocol: int, flags: int, call: str) -> Socket:
    """A new socket. SysErr: EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT; refusals by design are recorded."""
    net = kernel.net
    if domain == AF_UNIX:
        if protocol not in (0, AF_UNIX):
            raise SysErr(errno.EPROTONOSUPPORT)
        if type_ == SOCK_STREAM:
            return UnixStream(net, flags)
        if type_ in (SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET):
            return UnixDgram(net, SOCK_DGRAM if type_ == SOCK_RAW else type_, flags)
        raise SysErr(errno.ESOCKTNOSUPPORT)
    if domain in (AF_INET, AF_INET6):
        if type_ == SOCK_STREAM and protocol in (0, IPPROTO_TCP):
            return TcpSocket(net, domain, flags)
        if type_ == SOCK_DGRAM and protocol in (0, IPPROTO_UDP, IPPROTO_UDPLITE):
            return UdpSocket(net, domain, flags, protocol or IPPROTO_UDP)
        if type_ == SOCK_RAW:
            raise kernel.refusals.refuse("network", call, "raw socket", error=errno.EPERM)
        if type_ in (SOCK_STREAM, SOCK_DGRAM):
            raise SysErr(errno.EPROTONOSUPPORT)
        raise SysErr(errno.ESOCKTNOSUPPORT)
    if domain == AF_NETLINK and type_ in (SOCK_RAW, SOCK_DGRAM) and protocol == NETLINK_ROUTE:
        return NetlinkSocket(net, type_, flags)
    if domain == AF_NETLINK or domain in PACKET_FAMILIES:
        raise kernel.refusals.refuse("network", call, f"socket family {domain}", error=errno.EAFNOSUPPORT)
    raise SysErr(errno.EAFNOSUPPORT)


def split_type(type_: int) -> tuple[int, int]:
    """socket(2)'s type argument as (type, O_NONBLOCK and O_CLOEXEC bits); SysErr(EINVAL) for other bits."""
    type_ = u32(type_)
    if type_ & ~(0xF | FLAGS) or type_ & 0xF > 10:
        raise SysErr(errno.EINVAL)
    return type_ & 0xF, type_ & FLAGS


@syscall("socket")
def sys_socket(kernel: Kernel, task: Task, domain: int, type_: int, protocol: int) -> int:
    """socket(2)."""
    kind, flags = split_type(type_)
    socket = make(kernel, s32(domain), kind, s32(protocol), flags, "socket")
    return kernel.fds.install(socket, cloexec=bool(flags & O_CLOEXEC))


@syscall("socketpair")
def sys_socketpair(kernel: Kernel, task: Task, domain: int, type_: int, protocol: int, address: int) -> int:
    """socketpair(2), for AF_UNIX."""
    kind, flags = split_type(type_)
    one = make(kernel, s32(domain), kind, s32(protocol), flags, "socketpair")
    two = make(kernel, s32(domain), kind, s32(protocol), flags, "socketpair")
    _join(one, two)
    return install_pair(kernel, address, one, two, bool(flags & O_CLOEXEC))


def _join(one: Socket, two: Socket) -> None:
    if isinstance(one, UnixStream):
        assert isinstance(two, UnixStream)
        one.join(two)
    elif isinstance(one, UnixDgram):
        assert isinstance(two, UnixDgram)
        one.join(two)
    else:
        raise SysErr(errno.EOPNOTSUPP)


@syscall("bind")
def sys_bind(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    """bind(2)."""
    socket = get(kernel, fd)
    socket.bind(kernel, read_sockaddr(kernel.mem, address, s32(size)))
    return 0


@syscall("listen")
def sys_listen(kernel: Kernel, task: Task, fd: int, backlog: int) -> int:
    """listen(2)."""
    get(kernel, fd).listen(min(u32(backlog), MAX_BACKLOG))
    return 0


@syscall("accept4")
def sys_accept4(kernel: Kernel, task: Task, fd: int, address: int, size: int, flags: int) -> int:
    """accept4(2)."""
    flags = u32(flags)
    if flags & ~FLAGS:
        raise SysErr(errno.EINVAL)
    socket = get(kernel, fd)
    if len(kernel.fds.files) >= kernel.fds.limit:
        raise SysErr(errno.EMFILE)
    try:
        child = socket.accept()
    except WouldBlock as block:
        park(kernel, task, socket, block, 0, socket.rcvtimeo, resume(task))
    child.flags |= flags & O_NONBLOCK
    try:
        new = kernel.fds.install(child, cloexec=bool(flags & O_CLOEXEC))
    except SysErr:
        child.release()
        raise
    if address:
        try:
            write_sockaddr(kernel.mem, address, size, accepted_name(child))
        except SysErr:
            kernel.fds.close(new)
            raise
    return new


def accepted_name(child: Socket) -> bytes:
    """The peer's address at accept(2), also when it has gone already."""
    if isinstance(child, TcpSocket) and child.state != CONNECTED and child.remote is not None:
        return format_inet(child.domain, child.remote)
    return child.peername()


@syscall("accept")
def sys_accept(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    """accept(2)."""
    return sys_accept4(kernel, task, fd, address, size, 0)


@syscall("connect")
def sys_connect(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    """connect(2)."""
    socket = get(kernel, fd)
    raw = read_sockaddr(kernel.mem, address, s32(size))
    try:
        socket.connect(kernel, raw, bool(socket.flags & O_NONBLOCK))
    except WouldBlock as block:
        if task.expired and isinstance(socket, TcpSocket):
            raise SysErr(errno.EINPROGRESS) from None
        park(kernel, task, socket, block, 0, socket.sndtimeo, resume(task))
    return 0


@syscall("getsockname")
def sys_getsockname(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    """getsockname(2)."""
    write_sockaddr(kernel.mem, address, size, get(kernel, fd).sockname())
    return 0


@syscall("getpeername")
def sys_getpeername(kernel: Kernel, task: Task, fd: int, address: int, size: int) -> int:
    """getpeername(2)."""
    write_sockaddr(kernel.mem, address, size, get(kernel, fd).peername())
    return 0


@syscall("shutdown")
def sys_shutdown(kernel: Kernel, task: Task, fd: int, how: int) -> int:
    """shutdown(2)."""
    socket = get(kernel, fd)
    if u32(how) > 2:
        raise SysErr(errno.EINVAL)
    socket.shutdown(u32(how) + 1)
    return 0
