"""Pseudo-terminals: random sessions against the real kernel's, and the edges that depend on who has it open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.cell.fs.tty import settings as m
from prong.cell.fs.tty.devpts import MOST
from prong.cell.fs.tty.files import TCGETS, TCSETS, TIOCGPTN, TIOCGPTPEER, TIOCSCTTY, TIOCSPTLCK
from tests.cell_fs.box import CWD, Box, Out, Parked, make_tree

O_RDWR, O_NONBLOCK = os.O_RDWR, os.O_NONBLOCK
TOGGLES = {
    0: (m.ICRNL, m.INLCR, m.IGNCR, m.ISTRIP, m.IUTF8),
    1: (m.OPOST, m.ONLCR, m.OCRNL),
    3: (m.ICANON, m.ECHO, m.ECHOE, m.ECHOK, m.ECHONL, m.ECHOCTL, m.ECHOKE, m.IEXTEN),
}
TYPED = [b"a", b"b_1", b" ", b"x y", b"\n", b"\r", b"\xc3\xa9", *(bytes((c,)) for c in (127, 127, 0x15, 0x17, 4, 1, 0x16))]
PRINTED = [b"out", b"\n", b"\r", b"two\nlines\n", b""]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_tree(tmp_path)
    return Box(tmp_path)


def pair(box: Box) -> tuple[int, int]:
    """openpty(3): (master, slave), both non-blocking."""
    master = box.open(b"/dev/ptmx", O_RDWR | O_NONBLOCK)
    box.sys("ioctl", master, TIOCSPTLCK, Out(4))
    return master, box.sys("ioctl", master, TIOCGPTPEER, O_RDWR | O_NONBLOCK)


def read(box: Box, fd: int, size: int) -> bytes | str:
    """What a read gives, or why it gives nothing."""
    try:
        return box.read(fd, size)
    except OSError as error:
        return os.strerror(error.errno or 0)
    except Exception as error:  # noqa: BLE001  # Fails and Parked of the box
        return str(error)


@contextlib.contextmanager
def native_pair() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    for fd in (master, slave):
        os.set_blocking(fd, False)
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def native_read(fd: int, expected: bytes | str, size: int) -> bytes | str:
    """Linux carries input over in a kernel thread: give it time to come to what is expected."""
    got: bytes = b""
    deadline = time.monotonic() + 2
    while True:
        try:
            got += os.read(fd, size - len(got))
            if got == expected or len(got) == size or not got:
                return got
        except BlockingIOError:
            if isinstance(expected, str) and not got and expected == "EAGAIN":
                time.sleep(0.003)
                with contextlib.suppress(BlockingIOError):
                    return os.read(fd, size)
                return expected
            if time.monotonic() > deadline:
                return got or "EAGAIN"
        time.sleep(0.001)


def toggle(attributes: bytes, word: int, bit: int) -> bytes:
    values = list(struct.unpack("<4I", attributes[:16]))
    values[word] ^= bit
    return struct.pack("<4I", *values) + attributes[16:]


@pytest.mark.parametrize("seed", range(30))
def test_random_sessions_agree_with_linux(tmp_path: Path, seed: int) -> None:
    make_tree(tmp_path)
    for pause in (0.002, 0.05):  # Linux' own side of it is a kernel thread, which may be late: then once more, slowly
        with native_pair() as native:
            difference = session(Box(tmp_path), native, random.Random(seed), pause)
        if difference is None:
            return
    pytest.fail(str(difference))


def session(box: Box, native: tuple[int, int], rng: random.Random, pause: float) -> str | None:
    """Forty steps on both; says where they differ."""
    master, slave = pair(box)
    native_master, native_slave = native
    log: list[object] = []
    for _ in range(40):
        kind = rng.choice(("type", "type", "type", "print", "screen", "line", "line", "modes"))
        if kind in ("type", "print"):
            data = rng.choice(TYPED if kind == "type" else PRINTED)
            log.append((kind, data))
            ours, theirs = (master, native_master) if kind == "type" else (slave, native_slave)
            assert box.write(ours, data) == os.write(theirs, data) == len(data)
            time.sleep(pause)
        elif kind == "modes":
            word = rng.choice(tuple(TOGGLES))
            bit = rng.choice(TOGGLES[word])
            log.append((kind, word, oct(bit)))
            out = Out(m.SIZE)
            box.sys("ioctl", slave, TCGETS, out)
            if out.data != fcntl.ioctl(native_slave, TCGETS, bytes(m.SIZE)):
                return f"settings differ: {log}"
            changed = toggle(out.data, word, bit)
            box.sys("ioctl", slave, TCSETS, Out(m.SIZE, changed))
            fcntl.ioctl(native_slave, TCSETS, changed)
        else:
            ours, theirs = (master, native_master) if kind == "screen" else (slave, native_slave)
            size = rng.choice((3, 4096))
            expected = read(box, ours, size)
            log.append((kind, size, expected))
            got = native_read(theirs, expected, size)
            if got != expected:
                return f"Linux gives {got!r}: {log}"
    return None


def test_a_pair_lives_as_long_as_its_master(box: Box) -> None:
    master, slave = pair(box)
    name = box.readlink(b"/proc/self/fd/%d" % slave)
    assert name == b"/dev/pts/0" and box.stat(name).rdev == box.fstat(slave).rdev == os.makedev(136, 0)
    again = box.open(name, O_RDWR)
    box.write(slave, b"bye")
    for fd in (slave, again):
        box.sys("close", fd)
    assert (read(box, master, 10), read(box, master, 10)) == (b"bye", "EIO")
    slave = box.open(name, O_RDWR)
    assert read(box, master, 10) == "EAGAIN"
    box.sys("close", master)
    assert read(box, slave, 10) == b"" and box.error("write", slave, b"x", 1) == "EIO"
    assert box.listdir(b"/dev/pts")[-1:] != [(b"0", 2)] and box.error("openat", CWD, name, 0, 0) == "ENOENT"


def test_a_locked_slave_cannot_be_opened(box: Box) -> None:
    master = box.open(b"/dev/ptmx", O_RDWR)
    number = Out(4)
    box.sys("ioctl", master, TIOCGPTN, number)
    assert box.error("openat", CWD, b"/dev/pts/%d" % int.from_bytes(number.data, "little"), O_RDWR, 0) == "EIO"


def test_pairs_are_limited(box: Box) -> None:
    masters = [box.open(b"/dev/ptmx", O_RDWR) for _ in range(MOST)]
    assert box.error("openat", CWD, b"/dev/ptmx", O_RDWR, 0) == "ENOSPC"
    box.sys("close", masters[5])
    box.open(b"/dev/ptmx", O_RDWR)
    assert len(box.listdir(b"/dev/pts")) >= MOST


def test_what_nobody_reads_is_bounded(box: Box) -> None:
    master, slave = pair(box)
    for _ in range(30):
        with contextlib.suppress(Parked, Exception):
            box.write(master, b"q" * 1000)
        with contextlib.suppress(Parked, Exception):
            box.write(slave, b"\n" * 1000)
    terminal = box.kernel.fds.get(slave).terminal  # type: ignore[attr-defined]
    assert len(terminal.output) <= 8192 and len(terminal.pending) + sum(map(len, terminal.lines)) <= 8192


def test_interrupt_character_signals_the_foreground(box: Box) -> None:
    master, slave = pair(box)
    box.kernel.signals.actions[2] = (0x1000, 0, 0, 0)
    box.write(master, b"lost\x03")
    assert not box.kernel.signals.pending_mask & 2
    box.sys("ioctl", slave, TIOCSCTTY, 0)
    box.write(master, b"lost\x03")
    assert box.kernel.signals.pending_mask & 2 and read(box, slave, 10) == "EAGAIN"
