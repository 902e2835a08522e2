"""One pseudo-terminal: the buffers between its two sides, and the line discipline (n_tty of Linux)."""

from __future__ import annotations

from collections import deque

from prong.cell.core.saved import saved
from prong.cell.fs.tty import settings as m
from prong.cell.fs.tty.settings import Settings
from prong.cell.ipc.events import EventQueue

ROOM = 4096
"""Bytes that wait in either direction at most."""
SIGINT, SIGQUIT, SIGTSTP = 2, 3, 20
_SIGNALS = {m.VINTR: SIGINT, m.VQUIT: SIGQUIT, m.VSUSP: SIGTSTP}


@saved("tty.terminal")
class Terminal:
    """What both sides share.

    Attributes:
        number: N of /dev/pts/N. locked: the slave cannot be opened yet (unlockpt(3)). group: the foreground process group
            if this is the process's controlling terminal, else 0.
        master_open, slaves: who is there; ``seen_slave``: a slave has been there.
        output: bytes for the master. lines: finished lines for the slave, an empty one being end of file. pending: input
            of a line not yet finished, or all input in raw mode.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.settings = Settings()
        self.locked = True
        self.group = 0
        self.master_open = True
        self.slaves = 0
        self.seen_slave = False
        self.stopped = False
        self.literal = False
        self.output = bytearray()
        self.lines: deque[bytes] = deque()
        self.pending = bytearray()
        self.master_queue = EventQueue()
        self.slave_queue = EventQueue()

    # -- towards the slave ------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes of input that can be taken; a line being edited always takes one more, so that it can be ended."""
        waiting = sum(map(len, self.lines)) + len(self.pending)
        return max(ROOM - waiting, int(bool(self.settings.lflag & m.ICANON) and not self.lines))

    def input(self, data: bytes) -> list[int]:
        """Type ``data``; returns the signals that were typed."""
        if self.settings.plain_input:
            self.pending += data
            signals: list[int] = []
        else:
            signals = [number for byte in data if (number := self._type(byte))]
        self.slave_queue.wake()
        self.master_queue.wake()
        return signals

    def _type(self, byte: int) -> int:
        """One byte of input; returns the number of the signal it means, or 0."""
        modes = self.settings
        if modes.iflag & m.ISTRIP:
            byte &= 0x7F
        if self.literal:
            self.literal = False
            self._add(byte)
            return 0
        if byte == 13:
            if modes.iflag & m.IGNCR:
                return 0
            if modes.iflag & m.ICRNL:
                byte = 10
        elif byte == 10 and modes.iflag & m.INLCR:
            byte = 13
        if modes.iflag & m.IXON and byte in (modes.key(m.VSTART), modes.key(m.VSTOP)):
            self.stopped = byte != modes.key(m.VSTART)
            self.slave_queue.wake()
            return 0
        if modes.lflag & m.ISIG:
            for key, number in _SIGNALS.items():
                if byte == modes.key(key):
                    return self._signalled(byte, number)
        if modes.lflag & m.ICANON and self._edits(byte):
            return 0
        self._add(byte)
        return 0

    def _signalled(self, byte: int, number: int) -> int:
        if not self.settings.lflag & m.NOFLSH:
            self.flush_input()
            self.output.clear()
        self._echo(byte)
        return number

    def _edits(self, byte: int) -> bool:
        """Canonical mode: handle the bytes that edit or end the line."""
        modes = self.settings
        if byte in (modes.key(m.VERASE), modes.key(m.VWERASE), modes.key(m.VKILL)):
            self._erase(byte)
        elif byte == modes.key(m.VLNEXT) and modes.lflag & m.IEXTEN:
            self.literal = True
        elif byte == modes.key(m.VEOF):
            self._end_line()
        elif byte in (10, modes.key(m.VEOL), modes.key(m.VEOL2)):
            self.pending.append(byte)
            if byte != 10 or modes.lflag & (m.ECHO | m.ECHONL):
                self._echo(byte, newline=byte == 10)
            self._end_line()
        else:
            return False
        return True

    def _end_line(self) -> None:
        if len(self.lines) < ROOM:
            self.lines.append(bytes(self.pending))
            self.pending.clear()

    def _erase(self, byte: int) -> None:
        modes = self.settings
        if byte == modes.key(m.VKILL):
            gone = len(self.pending)
        elif byte == modes.key(m.VWERASE):
            gone = len(self.pending) - len(self.pending.rstrip().rpartition(b" ")[0] or b"")
            gone -= int(b" " in self.pending.rstrip())
        else:
            gone = 1
            while modes.iflag & m.IUTF8 and gone < min(len(self.pending), 4) and self.pending[-gone] & 0xC0 == 0x80:
                gone += 1
        gone = min(gone, len(self.pending))
        if not gone:
            return
        columns = sum(1 for b in self.pending[-gone:] if b & 0xC0 != 0x80 or not modes.iflag & m.IUTF8)
        del self.pending[-gone:]
        if modes.lflag & m.ECHO:
            self._put(b"\b \b" * columns if modes.lflag & m.ECHOE else bytes((byte,)))

    def _add(self, byte: int) -> None:
        if len(self.pending) < ROOM - 1:
            self.pending.append(byte)
            self._echo(byte)

    def _echo(self, byte: int, *, newline: bool = False) -> None:
        modes = self.settings
        if not modes.lflag & m.ECHO and not newline:
            return
        if modes.lflag & m.ECHOCTL and (byte < 32 or byte == 127) and byte not in (9, 10):
            self._put(b"^" + bytes((byte ^ 0x40,)))
        else:
            self._put(self._processed(bytes((byte,))))

    def readable(self) -> bool:
        """Whether the slave has something to read, end of file included."""
        return bool(self.lines) or (not self.settings.lflag & m.ICANON and bool(self.pending))

    def take_input(self, size: int) -> bytes:
        """What the slave reads, when :meth:`readable`: one line at most in canonical mode. Empty means end of file."""
        if self.settings.lflag & m.ICANON:
            line = self.lines.popleft()
            if len(line) > size:
                self.lines.appendleft(line[size:])
        else:
            line = b"".join(self.lines) + bytes(self.pending)
            self.lines.clear()
            self.pending[:] = line[size:]
        self.master_queue.wake()
        return line[:size]

    def flush_input(self) -> None:
        """Forget all input."""
        self.lines.clear()
        self.pending.clear()
        self.master_queue.wake()

    # -- towards the master -----------------------------------------------------------------------------------------------

    def output_room(self) -> int:
        """Bytes the slave may write now."""
        return 0 if self.stopped else ROOM - len(self.output)

    def print(self, data: bytes) -> int:
        """The slave writes; returns how many of its bytes were taken (at least one if there is room)."""
        taken = 0
        room = self.output_room()
        for byte in data:
            part = self._processed(bytes((byte,))) if byte in (10, 13) else bytes((byte,))
            if len(part) > room:
                break
            room -= len(part)
            self.output += part
            taken += 1
        self.master_queue.wake()
        return taken

    def _processed(self, data: bytes) -> bytes:
        flags = self.settings.oflag
        if not flags & m.OPOST:
            return data
        if data == b"\n" and flags & m.ONLCR:
            return b"\r\n"
        return b"\n" if data == b"\r" and flags & m.OCRNL else data

    def _put(self, data: bytes) -> None:
        """Echo; dropped when the master does not read."""
        if len(self.output) + len(data) <= 2 * ROOM:
            self.output += data

    def take_output(self, size: int) -> bytes:
        """What the master reads."""
        data = bytes(self.output[:size])
        del self.output[:size]
        self.slave_queue.wake()
        return data
