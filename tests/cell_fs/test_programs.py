"""Long random programs of file calls on the cell's tree and on the real kernel's: the same results, errno for errno.

Seeded, so a failure can be replayed: the assertion names the seed and the step.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cell_fs.box import Box, Calls, Fails, Native, Out, make_tree

NAMES = [b"d", b"d/a", b"d/b", b"d/e", b"d/e/f", b"d/e/up", b"d/e/x", b"d/empty", b"d/hard", b"x", b"y", b"y/z", b"x/y/z",
         b"usr/lib/small", b"usr/lib/big", b"lib", b"lib/small", b"loop", b"dangling", b"d/.", b"d/..", b"d/e/..", b"x/",
         b"d/", b"d/a/", b"d/b/", b"lib/", b"lib/new", b"usr/lib", b"d/e/up/a", b"d/e/up/", b"nowhere/at",
         b"n" * 256]  # fmt: skip
OPEN = [0, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND | os.O_CREAT,
        os.O_CREAT | os.O_EXCL | os.O_RDWR, os.O_DIRECTORY, os.O_RDWR | os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW,
        os.O_TMPFILE | os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_DIRECTORY]  # fmt: skip
AT_EMPTY_PATH = 0x1000


class Program:
    """One random program."""

    def __init__(self, seed: int, box: Box, native: Native) -> None:
        self.rng = random.Random(seed)
        self.sides: tuple[Calls, Calls] = (box, native)
        self.fds: list[tuple[int, int]] = []
        self.done = {"ok": 0, "failed": 0}

    def both(self, name: str, *args: Any) -> tuple[int, int] | None:
        """One call on both sides; the two results if it succeeded."""
        told: list[tuple[Any, ...]] = []
        for i, side in enumerate(self.sides):
            mine = [side.top if a == "top" else a[i] if isinstance(a, tuple) else a for a in args]
            mine = [Out(a.size) if isinstance(a, Out) else a for a in mine]
            try:
                result = side.sys(name, *mine)
                told.append(("ok", result, *(a.data[:result] for a in mine if isinstance(a, Out))))
            except Fails as e:
                told.append(("failed", errno.errorcode[e.errno]))
        ours, theirs = told
        assert ours == theirs or (ours[0] == theirs[0] == "ok" and name == "openat"), (
            f"{name} {[a if not isinstance(a, bytes) else a[:40] for a in args]}: cell {str(ours)[:200]}, "
            f"Linux {str(theirs)[:200]}"
        )
        self.done[ours[0]] += 1
        return (ours[1], theirs[1]) if ours[0] == "ok" else None

    def step(self) -> None:
        """One call of some kind."""
        kinds: list[Callable[[], None]] = [self.by_name] * 5 + [self.open] * 2 + [self.by_fd] * 4 + [self.look] * 2
        self.rng.choice(kinds)()

    def path(self) -> bytes:
        return self.rng.choice(NAMES)

    def open(self) -> None:
        if len(self.fds) > 6 or (self.fds and self.rng.random() < 0.2):
            fd = self.fds.pop(self.rng.randrange(len(self.fds)))
            self.both("close", fd)
            return
        fd2 = self.both("openat", "top", self.path(), self.rng.choice(OPEN), 0o640)
        if fd2 is not None:
            self.fds.append(fd2)

    def by_name(self) -> None:
        rng, path = self.rng, self.path
        choices: list[Callable[[], object]] = [
            lambda: self.both("mkdirat", "top", path(), 0o755),
            lambda: self.both("unlinkat", "top", path(), 0),
            lambda: self.both("unlinkat", "top", path(), 0x200),
            lambda: self.both("renameat2", "top", path(), "top", path(), rng.choice([0, 0, 0, 1, 2])),
            lambda: self.both("renameat2", "top", path(), "top", path(), 0),
            lambda: self.both("linkat", "top", path(), "top", path(), rng.choice([0, 0x400])),
            lambda: self.both("symlinkat", rng.choice([b"a", b"x", b"d/e", b"../d", b"y/z/", b"."]), "top", path()),
            lambda: self.both("readlinkat", "top", path(), Out(300), 300),
            lambda: self.both("faccessat", "top", path(), rng.randrange(8)),
            lambda: self.both("fchmodat", "top", path(), rng.choice([0o600, 0o4755, 0o777, 0o111])),
            lambda: self.both("fchownat", "top", path(), 5, 6, rng.choice([0, 0x100])),
            lambda: self.both("mknodat", "top", path(), rng.choice([0o100600, 0o140644]), 0),
        ]  # fmt: skip
        rng.choice(choices)()

    def by_fd(self) -> None:
        rng = self.rng
        if not self.fds:
            return
        fd = rng.choice(self.fds)
        info = self.sides[0].fstat(fd[0])
        is_dir = info.mode & 0o170000 == 0o040000
        size = rng.choice([0, 1, 100, 4096, 65536, 70000, 200000])
        at = rng.choice([0, 1, 4095, 65535, 65536, 100000, 300000])
        choices: list[Callable[[], object]] = [
            lambda: self.both("read", fd, Out(size), size),
            lambda: self.both("pread64", fd, Out(size), size, at),
            lambda: self.both("write", fd, bytes([rng.randrange(1, 255)]) * size, size),
            lambda: self.both("pwrite64", fd, bytes([rng.randrange(1, 255)]) * size, size, at),
            lambda: self.both("ftruncate", fd, at),
            lambda: self.both("fallocate", fd, rng.choice([0, 1]), at, size),
            lambda: self.both("fallocate", fd, 3, at, size),
            lambda: self.both("fchmod", fd, 0o644),
            lambda: self.both("fsync", fd),
            lambda: self.both("linkat", fd, b"", "top", self.path(), AT_EMPTY_PATH),
            lambda: self.both("copy_file_range", fd, 0, rng.choice(self.fds), 0, size, 0),
            lambda: self.below(fd),
            lambda: self.both("fcntl", fd, 3),
            lambda: self.both("fcntl", fd, 4, rng.choice([0, os.O_APPEND, os.O_NONBLOCK])),
        ]
        if not is_dir:
            choices.append(lambda: self.both("lseek", fd, rng.choice([-100, 0, 5, 70000]), rng.randrange(3)))
            choices.append(lambda: self.send(fd, size))
        rng.choice(choices)()

    def send(self, source: tuple[int, int], size: int) -> None:
        """sendfile between different files (onto itself, what comes out is chance)."""
        target = self.rng.choice(self.fds)
        if self.sides[0].fstat(source[0]).ino != self.sides[0].fstat(target[0]).ino:
            self.both("sendfile", target, source, 0, size)

    def below(self, fd: tuple[int, int]) -> None:
        """Open relative to a descriptor."""
        opened = self.both("openat", fd, b"a", os.O_PATH)
        if opened is not None:
            self.both("close", opened)

    def rebuild(self) -> None:
        """Put back what the random walk tends to lose, so that it does not end in an empty directory."""
        for name in (b"d", b"d/e", b"y", b"x"):
            self.both("mkdirat", "top", name, 0o755)
        self.both("symlinkat", b"a", "top", b"d/b")
        self.both("symlinkat", b"..", "top", b"d/e/up")
        for name in (b"d/a", b"y/z", b"d/e/x"):
            fd = self.both("openat", "top", name, os.O_CREAT | os.O_WRONLY, 0o644)
            if fd is not None:
                self.both("write", fd, b"content", 7)
                self.both("close", fd)

    def look(self) -> None:
        """Compare what stat and getdents tell of one path."""
        path = self.path()
        told: list[Any] = []
        for side in self.sides:
            try:
                info = side.stat(path, follow=self.rng.random() < 2)
                size = info.size if info.mode & 0o170000 != 0o040000 else 0
                told.append([oct(info.mode), info.nlink, info.uid, info.gid, size])
                if info.mode & 0o170000 == 0o040000:
                    told[-1].append(side.listdir(path))
                elif info.mode & 0o170000 == 0o100000:
                    told[-1].append(side.slurp(path))
            except Fails as e:
                told.append(errno.errorcode[e.errno])
        outside = "(b'top', 4)" in str(told[1])  # a link was moved so that it leads out of the compared trees
        assert told[0] == told[1] or outside, f"{path!r}: cell {str(told[0])[:300]}, Linux {str(told[1])[:300]}"


@pytest.mark.skipif(os.geteuid() != 0, reason="compares with what root may do")
@pytest.mark.parametrize("seed", range(int(os.environ.get("PRONG_FS_SEEDS", "25"))))
def test_same_as_linux(seed: int, tmp_path: Path) -> None:
    for name in ("image", "native"):
        (tmp_path / name / "top").mkdir(parents=True)
        make_tree(tmp_path / name / "top")
    umask = os.umask(0o022)
    native = Native(tmp_path / "native/top")
    box = Box(tmp_path / "image", overlay=256 << 20)
    box.top = box.open(b"top", os.O_PATH | os.O_DIRECTORY)
    program = Program(seed, box, native)
    try:
        for step in range(300):
            try:
                if step % 40 == 39:
                    program.rebuild()
                program.step()
            except AssertionError as e:
                raise AssertionError(f"seed {seed}, step {step}: {e}") from None
        assert program.done["ok"] > 40 and program.done["failed"] > 30
        for fd in program.fds:
            program.both("close", fd)
    finally:
        os.umask(umask)
        native.end()
        box.fs.image.close()
