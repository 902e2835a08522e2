"""``struct termios`` and ``struct winsize`` as ioctl_tty(2) moves them."""

from __future__ import annotations

import struct

from prong.cell.core.saved import saved

ISTRIP, INLCR, IGNCR, ICRNL, IXON, IUTF8 = 0o40, 0o100, 0o200, 0o400, 0o2000, 0o40000
OPOST, ONLCR, OCRNL = 0o1, 0o4, 0o10
ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH = 0o1, 0o2, 0o10, 0o20, 0o40, 0o100, 0o200
ECHOCTL, ECHOKE, IEXTEN = 0o1000, 0o4000, 0o100000

VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, _, VSTART, VSTOP, VSUSP, VEOL = range(12)
VWERASE, VLNEXT, VEOL2 = 14, 15, 16

_STRUCT = struct.Struct("<4IB19s")
SIZE = _STRUCT.size
"""Bytes of the kernel's ``struct termios``."""
_CHARACTERS = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))


@saved("tty.settings")
class Settings:
    """A terminal's modes, with Linux' defaults for a new one."""

    def __init__(self) -> None:
        self.iflag = ICRNL | IXON
        self.oflag = OPOST | ONLCR
        self.cflag = 0o277  # 38400 baud, 8 bits, receiver on
        self.lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN
        self.line = 0
        self.characters = _CHARACTERS
        self.window = bytes(8)
        """``struct winsize``: rows, columns, and pixels of both."""

    def pack(self) -> bytes:
        """``struct termios``."""
        return _STRUCT.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.characters)

    def load(self, data: bytes) -> None:
        """Take over a ``struct termios``."""
        self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.characters = _STRUCT.unpack(data)

    def key(self, index: int) -> int:
        """The character for a function (V…); -1 if it is switched off (0)."""
        return self.characters[index] or -1

    @property
    def plain_input(self) -> bool:
        """Nothing happens to input on its way: raw mode, without echo."""
        return not (self.lflag & (ISIG | ICANON | ECHO | ECHONL) or self.iflag & (ISTRIP | INLCR | IGNCR | ICRNL | IXON))
