"""The two sides of a pseudo-terminal as open files (ioctl_tty(2))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import O_CLOEXEC, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, File, Stat
from prong.cell.core.saved import saved
from prong.cell.core.table import u32
from prong.cell.fs.files import PathFile
from prong.cell.fs.tty.settings import ICANON, SIZE, VMIN
from prong.cell.ipc.events import FIONREAD, IpcFile, put_int
from prong.cell.process import PID

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.nodes import Node
    from prong.cell.fs.state import FsState
    from prong.cell.fs.tty.devpts import PtsDir
    from prong.cell.fs.tty.terminal import Terminal
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TCXONC, TCFLSH = 0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540A, 0x540B
TIOCEXCL, TIOCNXCL, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ = 0x540C, 0x540D, 0x540E, 0x540F, 0x5410, 0x5411
TIOCGWINSZ, TIOCSWINSZ, TIOCNOTTY, TCSBRKP, TIOCGSID = 0x5413, 0x5414, 0x5422, 0x5425, 0x5429
TIOCGPTN, TIOCSPTLCK, TIOCGPTLCK, TIOCGPTPEER = 0x80045430, 0x40045431, 0x80045439, 0x5441
SIGHUP, SIGWINCH = 1, 28
_ACCEPTED = frozenset((TCSBRK, TCSBRKP, TIOCEXCL, TIOCNXCL))
"""Requests that have nothing to do here: breaks take no time, and nobody else opens the terminal."""


class _Side(IpcFile):
    """What master and slave have in common. ``handle`` is the node they were opened by."""

    kind: ClassVar[str] = "tty"

    def __init__(self, terminal: Terminal, handle: PathFile, flags: int) -> None:
        super().__init__(flags)
        self.terminal = terminal
        self.handle = handle

    def stat(self) -> Stat:
        """The device node's."""
        return self.handle.stat()

    def link_text(self) -> str:
        """The device node's path."""
        return self.handle.link_text()

    def _post(self, number: int) -> None:
        kernel = self.handle.fs.kernel
        if kernel is not None and self.terminal.group:
            kernel.signals.post(number)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """Settings, window size, queues and the controlling terminal."""
        modes, mem = self.terminal.settings, kernel.mem
        if request == TCGETS:
            mem.write(arg, modes.pack())
        elif request in (TCSETS, TCSETSW, TCSETSF):
            data = mem.read(arg, SIZE)
            if request == TCSETSF:
                self.terminal.flush_input()
            self.terminal.set_modes(data)
        elif request == TIOCGWINSZ:
            mem.write(arg, modes.window)
        elif request == TIOCSWINSZ:
            window = mem.read(arg, 8)
            if window != modes.window:
                modes.window = window
                self._post(SIGWINCH)
        elif request not in _ACCEPTED:
            return self._queue_or_session(kernel, request, arg)
        return 0

    def _queue_or_session(self, kernel: Kernel, request: int, arg: int) -> int:
        terminal = self.terminal
        if request == TIOCOUTQ:
            return put_int(kernel, arg, 0)
        if request == TCFLSH:
            if u32(arg) not in (0, 1, 2):
                raise SysErr(errno.EINVAL)
            if u32(arg) != 1:
                terminal.flush_input()
            return 0
        if request == TCXONC:
            if u32(arg) not in (0, 1, 2, 3):
                raise SysErr(errno.EINVAL)
            terminal.stopped = u32(arg) == 0 or (terminal.stopped and u32(arg) != 1)
            terminal.slave_queue.wake()
            return 0
        if request == TIOCSCTTY:
            terminal.group = PID
            return 0
        if request in (TIOCGPGRP, TIOCGSID, TIOCSPGRP, TIOCNOTTY):
            if not terminal.group:
                raise SysErr(errno.ENOTTY)
            if request in (TIOCGPGRP, TIOCGSID):
                return put_int(kernel, arg, terminal.group if request == TIOCGPGRP else PID)
            terminal.group = kernel.mem.u32(arg) & 0x3FFFFFFF if request == TIOCSPGRP else 0
            return 0
        raise SysErr(errno.ENOTTY)


@saved("tty.master")
class PtyMaster(_Side):
    """The emulator's side. Its last close takes /dev/pts/N away and hangs the slave up."""

    def __init__(self, table: PtsDir, handle: PathFile, flags: int) -> None:
        super().__init__(table.allocate(), handle, flags)
        self.table = table
        self.terminal.master_queue.observe(self.queue)

    def reopen(self, flags: int) -> File:
        """Opening /dev/ptmx again, by whatever name, makes another pair."""
        return open_master(self.handle.fs, self.handle.node, flags, self.handle.where, self.table)

    def read(self, size: int) -> bytes:
        """What was printed; SysErr(EIO) once every slave is closed and all was read."""
        terminal = self.terminal
        if terminal.output or not size:
            return terminal.take_output(size)
        if terminal.seen_slave and not terminal.slaves:
            raise SysErr(errno.EIO)
        raise WouldBlock

    def write(self, data: bytes) -> int:
        """Type."""
        data = data[: self.terminal.room()]
        if not data:
            raise WouldBlock
        for number in self.terminal.input(data):
            self._post(number)
        return len(data)

    def poll(self) -> int:
        """Readable with output, writable with room, hung up without a slave."""
        terminal = self.terminal
        events = POLLIN | POLLRDNORM if terminal.output else 0
        events |= POLLOUT | POLLWRNORM if terminal.room() else 0
        return events | (POLLHUP if terminal.seen_slave and not terminal.slaves else 0)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """The master's own: number, lock, opening the other side."""
        terminal = self.terminal
        if request == TIOCGPTN:
            return put_int(kernel, arg, terminal.number)
        if request == TIOCSPTLCK:
            terminal.locked = bool(kernel.mem.u32(arg))
            return 0
        if request == TIOCGPTLCK:
            return put_int(kernel, arg, int(terminal.locked))
        if request == TIOCGPTPEER:
            name = b"%d" % terminal.number
            node = self.table.lookup(name)
            assert node is not None
            slave = open_slave(self.handle.fs, node, u32(arg) & ~O_CLOEXEC, (self.table, name), terminal)
            return kernel.fds.install(slave, cloexec=bool(arg & O_CLOEXEC))
        if request == FIONREAD:
            return put_int(kernel, arg, len(terminal.output))
        return super().ioctl(kernel, task, request, arg)

    def release(self) -> None:
        """Hang up."""
        terminal = self.terminal
        terminal.master_open = False
        self.table.drop(terminal.number)
        terminal.slave_queue.wake()
        self._post(SIGHUP)
        terminal.master_queue.unobserve(self.queue)
        self.handle.release()
        super().release()


@saved("tty.slave")
class PtySlave(_Side):
    """The terminal's side."""

    def __init__(self, terminal: Terminal, handle: PathFile, flags: int) -> None:
        super().__init__(terminal, handle, flags)
        terminal.slaves += 1
        terminal.seen_slave = True
        terminal.slave_queue.observe(self.queue)
        terminal.master_queue.wake()

    def reopen(self, flags: int) -> File:
        """Once more."""
        return open_slave(self.handle.fs, self.handle.node, flags, self.handle.where, self.terminal)

    def read(self, size: int) -> bytes:
        """A line, or in raw mode what is there; nothing after a hang-up. With VMIN 0 it never waits."""
        terminal = self.terminal
        if not size:
            return b""
        if terminal.readable():
            return terminal.take_input(size)
        modes = terminal.settings
        if not terminal.master_open or (not modes.lflag & ICANON and not modes.characters[VMIN]):
            return b""
        raise WouldBlock

    def write(self, data: bytes) -> int:
        """Print; SysErr(EIO) after a hang-up."""
        if not self.terminal.master_open:
            raise SysErr(errno.EIO)
        if not data:
            return 0
        taken = self.terminal.print(data)
        if not taken:
            raise WouldBlock
        return taken

    def poll(self) -> int:
        """Readable with input, writable with room; everything after a hang-up."""
        terminal = self.terminal
        if not terminal.master_open:
            return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLERR | POLLHUP
        events = POLLIN | POLLRDNORM if terminal.readable() else 0
        return events | (POLLOUT | POLLWRNORM if terminal.output_room() > 1 else 0)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD, and what both sides answer."""
        terminal = self.terminal
        if request == FIONREAD:
            raw = 0 if terminal.settings.lflag & ICANON else len(terminal.pending)
            return put_int(kernel, arg, sum(map(len, terminal.lines)) + raw)
        return super().ioctl(kernel, task, request, arg)

    def release(self) -> None:
        """The last one is the master's hang-up."""
        terminal = self.terminal
        terminal.slaves -= 1
        terminal.slave_queue.unobserve(self.queue)
        terminal.master_queue.wake()
        self.handle.release()
        super().release()


Where = tuple["Directory", bytes] | None


def open_master(fs: FsState, node: Node, flags: int, where: Where, table: PtsDir) -> PtyMaster:
    """Open /dev/ptmx: a new pair. SysErr(ENOSPC) if there are too many."""
    handle = PathFile(fs, node, flags, where)
    try:
        return PtyMaster(table, handle, flags)
    except SysErr:
        handle.release()
        raise


def open_slave(fs: FsState, node: Node, flags: int, where: Where, terminal: Terminal) -> PtySlave:
    """Open /dev/pts/N; SysErr(EIO) while it is locked or when its master is gone."""
    if terminal.locked or not terminal.master_open:
        raise SysErr(errno.EIO)
    return PtySlave(terminal, PathFile(fs, node, flags, where), flags)
