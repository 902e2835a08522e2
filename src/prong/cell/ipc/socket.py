"""What all sockets share: options, errors, shutdown halves, and the interface the system calls use (socket(7))."""

from __future__ import annotations

import errno
import stat as _stat
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_NONBLOCK, O_RDWR
from prong.cell.core.saved import saved
from prong.cell.ipc import interfaces
from prong.cell.ipc.events import FIONREAD, SOCK_DEV, IpcFile, put_int

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.ipc.channel import Credentials
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET = 1, 2, 3, 5
MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_CTRUNC, MSG_TRUNC, MSG_DONTWAIT, MSG_EOR = 1, 2, 4, 8, 0x20, 0x40, 0x80
MSG_WAITALL, MSG_CONFIRM, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_MORE = 0x100, 0x800, 0x2000, 0x4000, 0x8000
MSG_WAITFORONE, MSG_CMSG_CLOEXEC = 0x10000, 0x40000000
SHUT_RD, SHUT_WR, SHUT_BOTH = 1, 2, 3
"""Bits of ``Socket.shut``: shutdown(2)'s argument plus one."""
SIOCOUTQ, SIOCATMARK = 0x5411, 0x8905
MAX_BUFFER = 256 << 10
"""Most bytes held for one socket in one direction, whatever SO_SNDBUF and SO_RCVBUF say."""
DEFAULT_BUFFER = 212992

Ancillary = tuple[int, int, bytes]
"""A control message: level, type, data (cmsg(3))."""


class Received:
    """What one receive took: ``size`` is the message's whole length, ``data`` what was asked for of it.

    ``name`` is the sender as raw sockaddr. ``files`` are SCM_RIGHTS still in flight; whoever gets this must land them.
    """

    __slots__ = ("ancillary", "creds", "data", "files", "flags", "name", "size")

    def __init__(self, data: bytes, size: int | None = None, name: bytes = b"") -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.name = name
        self.flags = 0
        self.files: list[File] = []
        self.creds: Credentials | None = None
        self.ancillary: list[Ancillary] = []


class Outgoing:
    """What is sent beside the bytes. ``target`` is what :meth:`Socket.resolve` made of the address, None without one.

    ``files`` are in flight already. ``options`` are IPV6_TCLASS-like control messages.
    """

    __slots__ = ("creds", "files", "flags", "options", "target")

    def __init__(self, flags: int = 0, target: object = None) -> None:
        self.flags = flags
        self.target = target
        self.files: list[File] = []
        self.creds: Credentials | None = None
        self.options: list[Ancillary] = []


@saved("ipc_progress")
class Progress:
    """What a blocked send or receive remembers: bytes ``done``, messages ``count``, ``deadline`` (cell ns or None).

    ``until``: when recvmmsg(2) has enough, whatever came.
    """

    __slots__ = ("count", "deadline", "done", "until")

    def __init__(self) -> None:
        self.done = 0
        self.count = 0
        self.deadline: int | None = None
        self.until: int | None = None


class Socket(IpcFile):
    """An endpoint. Families override what they can do; the rest answers EOPNOTSUPP.

    ``error`` is what SO_ERROR will tell, ``shut`` the halves that are shut. ``options`` remembers (level, name) → raw
    value for options that only need remembering. Timeouts in nanoseconds, None for ever.
    """

    kind = "socket"
    mode = _stat.S_IFSOCK | 0o777
    dev = SOCK_DEV
    stream: ClassVar[bool] = False

    def __init__(self, net: Loopback, domain: int, type_: int, protocol: int, flags: int = 0) -> None:
        super().__init__(O_RDWR | flags & O_NONBLOCK, net.new_ino())
        self.net = net
        self.domain = domain
        self.type = type_
        self.protocol = protocol
        self.error = 0
        self.shut = 0
        self.listening = False
        self.reuse_addr = False
        self.reuse_port = False
        self.v6only = False
        self.passcred = False
        self.rcvbuf = DEFAULT_BUFFER
        self.sndbuf = DEFAULT_BUFFER
        self.rcvlowat = 1
        self.rcvtimeo: int | None = None
        self.sndtimeo: int | None = None
        self.linger = (0, 0)
        self.options: dict[tuple[int, int], bytes] = {}
        self.peer_creds: Credentials = (0, -1, -1)

    # -- what families implement ------------------------------------------------------------------------------------

    def bind(self, kernel: Kernel, raw: bytes) -> None:
        """bind(2) to a raw sockaddr."""
        raise SysErr(errno.EOPNOTSUPP)

    def listen(self, backlog: int) -> None:
        """listen(2); the backlog is already cut to 4096."""
        raise SysErr(errno.EOPNOTSUPP)

    def accept(self) -> Socket:
        """A connected socket from the queue; WouldBlock when there is none."""
        raise SysErr(errno.EOPNOTSUPP)

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2); WouldBlock while it takes time and the call may wait. Called again it goes on."""
        raise SysErr(errno.EOPNOTSUPP)

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """Check a destination address and make it a ``target`` for :meth:`send`."""
        raise SysErr(errno.EOPNOTSUPP)

    def send(self, data: bytes, message: Outgoing) -> int:
        """Send what fits (streams) or all; returns the bytes taken. WouldBlock, or SysErr(EPIPE) for a broken pipe."""
        raise SysErr(errno.EOPNOTSUPP)

    def recv(self, size: int, flags: int) -> Received:
        """Receive up to ``size`` bytes or one message. WouldBlock when there is nothing."""
        raise SysErr(errno.EOPNOTSUPP)

    def shutdown(self, how: int) -> None:
        """shutdown(2) with SHUT_RD, SHUT_WR bits."""
        raise SysErr(errno.EOPNOTSUPP)

    def sockname(self) -> bytes:
        """getsockname(2)'s raw sockaddr."""
        raise SysErr(errno.EOPNOTSUPP)

    def peername(self) -> bytes:
        """getpeername(2)'s raw sockaddr; SysErr(ENOTCONN)."""
        raise SysErr(errno.EOPNOTSUPP)

    def pending_in(self) -> int:
        """FIONREAD."""
        raise SysErr(errno.EINVAL)

    def pending_out(self) -> int:
        """SIOCOUTQ: bytes sent and not yet read by the peer."""
        return 0

    def send_limit(self) -> int:
        """Most bytes a single send step may carry; a longer message is EMSGSIZE, a longer stream comes in steps."""
        return MAX_BUFFER

    # -- shared -----------------------------------------------------------------------------------------------------

    def take_error(self) -> int:
        """SO_ERROR: the pending error, which is then gone."""
        error, self.error = self.error, 0
        return error

    def raise_error(self) -> None:
        """Raise the pending error if there is one."""
        if self.error:
            raise SysErr(self.take_error())

    def nonblocking(self, flags: int) -> bool:
        """Whether a call with MSG_* ``flags`` must not wait; a shut datagram socket then says EAGAIN, not end."""
        return bool(self.flags & O_NONBLOCK or flags & MSG_DONTWAIT)

    def flag(self, level: int, name: int) -> bool:
        """Whether a remembered integer option is set and not zero."""
        return any(self.options.get((level, name), b""))

    def read(self, size: int) -> bytes:
        """read(2): recv without flags; descriptors that came along are closed."""
        if not size:
            return b""
        got = self.recv(size, 0)
        if got.files:
            self.net.land_files(got.files)
        return got.data

    def write(self, data: bytes) -> int:
        """write(2): send without flags; the caller sends SIGPIPE for EPIPE."""
        return self.send(data, Outgoing())

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD, SIOCOUTQ, SIOCATMARK, and the SIOCGIF… questions about ``lo`` (netdevice(7))."""
        if request == FIONREAD:
            return put_int(kernel, arg, self.pending_in())
        if request == SIOCOUTQ:
            return put_int(kernel, arg, self.pending_out())
        if request == SIOCATMARK:
            return put_int(kernel, arg, int(self.at_mark()))
        return interfaces.ioctl(kernel.mem, request, arg)

    def at_mark(self) -> bool:
        """SIOCATMARK: the next byte to read is where urgent data was; SysErr(ENOTTY) without such a thing."""
        raise SysErr(errno.ENOTTY)

    def link_text(self) -> str:
        """``socket:[N]``."""
        return f"socket:[{self.ino}]"
