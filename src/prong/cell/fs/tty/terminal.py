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
            self._add(byte, literal=True)
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
        self._echo(byte)
        return number

    def _edits(self, byte: int) -> bool:
        """Canonical mode: handle the bytes that edit or end the line."""
        modes = self.settings
        extended = bool(modes.lflag & m.IEXTEN)
        if byte in (modes.key(m.VERASE), modes.key(m.VKILL)) or (extended and byte == modes.key(m.VWERASE)):
            self._erase(byte)
        elif extended and byte == modes.key(m.VLNEXT):
            self.literal = True
            if modes.lflag & m.ECHO and modes.lflag & m.ECHOCTL:
                self._put(b"^\b")
        elif byte == modes.key(m.VEOF):
            self._end_line()
        elif byte == 10:
            self.pending.append(byte)
            if modes.lflag & (m.ECHO | m.ECHONL):
                self._put(self._processed(b"\n"))
            self._end_line()
        elif byte in (modes.key(m.VEOL), modes.key(m.VEOL2)):
            self.pending.append(byte)
            self._echo(byte)
            self._end_line()
        else:
            return False
        return True

    def _end_line(self) -> None:
        if len(self.lines) < ROOM:
            self.lines.append(bytes(self.pending))
            self.pending.clear()

    def _erase(self, byte: int) -> None:
        """ERASE, WERASE or KILL, shown as the echo modes ask."""
        flags = self.settings.lflag
        if not self.pending:
            return
        kills = byte == self.settings.key(m.VKILL)
        if kills and flags & (m.ECHO | m.ECHOK | m.ECHOKE | m.ECHOE) != m.ECHO | m.ECHOK | m.ECHOKE | m.ECHOE:
            self.pending.clear()
            self._echo(byte)
            if flags & m.ECHO and flags & m.ECHOK:
                self._put(self._processed(b"\n"))
            return
        gone = bytes(self.pending[-self._erased(byte, kills) :])
        del self.pending[-len(gone) :]
        if byte == self.settings.key(m.VERASE) and not flags & m.ECHOE:
            self._echo(byte)
        elif flags & m.ECHO:
            self._put(b"\b \b" * sum(map(self._columns, gone)))

    def _erased(self, byte: int, kills: bool) -> int:
        """How many bytes of the line go."""
        pending, utf8 = self.pending, self.settings.iflag & m.IUTF8
        if kills:
            return len(pending)
        gone = 0
        if byte == self.settings.key(m.VWERASE):
            seen = False
            for at in reversed(pending):
                word = at == 95 or bytes((at,)).isalnum()
                if seen and not word:
                    break
                seen = seen or word
                gone += 1
            return gone
        gone = 1
        while utf8 and gone < min(len(pending), 4) and pending[-gone] & 0xC0 == 0x80:
            gone += 1
        return gone

    def _columns(self, byte: int) -> int:
        """Columns on the screen of an echoed byte."""
        if byte < 32 or byte == 127:
            return 2 if self.settings.lflag & m.ECHOCTL else 0
        return 0 if self.settings.iflag & m.IUTF8 and byte & 0xC0 == 0x80 else 1

    def _add(self, byte: int, *, literal: bool = False) -> None:
        if len(self.pending) < ROOM - 1:
            self.pending.append(byte)
            self._echo(byte, literal=literal)

    def _echo(self, byte: int, *, literal: bool = False) -> None:
        modes = self.settings
        if not modes.lflag & m.ECHO:
            return
        if modes.lflag & m.ECHOCTL and (byte < 32 or byte == 127) and byte != 9 and (byte != 10 or literal):
            self._put(b"^" + bytes((byte ^ 0x40,)))
        else:
            self._put(self._processed(bytes((byte,))))

    def set_modes(self, data: bytes) -> None:
        """tcsetattr(3) with a ``struct termios``.

        What was typed raw counts as a line once lines are asked for; the end of file of a line read raw is a zero byte.
        """
        before = self.settings.lflag
        self.settings.load(data)
        changed = self.settings.lflag ^ before
        if changed & before & m.ICANON:
            self.pending[:0] = b"".join(line if line.endswith(b"\n") else line + b"\0" for line in self.lines)
            self.lines.clear()
        elif changed & m.ICANON and self.pending:
            if not self.pending[-1]:
                self.pending.pop()  # such a zero byte is the end of file again
            self._end_line()
        self.slave_queue.wake()

    def readable(self) -> bool:
        """Whether the slave has something to read, end of file included."""
        return bool(self.lines if self.settings.lflag & m.ICANON else self.pending)

    def take_input(self, size: int) -> bytes:
        """What the slave reads, when :meth:`readable`: one line at most in canonical mode. Empty means end of file."""
        if self.settings.lflag & m.ICANON:
            line = self.lines.popleft()
            if len(line) > size:
                self.lines.appendleft(line[size:])
        else:
            line = bytes(self.pending)
            del self.pending[:size]
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
