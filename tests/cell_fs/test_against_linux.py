"""The same calls on the cell's tree and on the real kernel's must give the same results, errno for errno."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.cell_fs.box import Box, Calls, Fails, Native, Out, make_tree

NAMES = ["d", "d/a", "d/b", "d/e", "d/e/f", "d/e/up", "d/e/x", "d/empty", "d/hard", "x", "y", "y/z", "usr/lib/small",
         "usr/lib/big", "lib", "lib/small", "loop", "dangling", ".", "..", "d/.", "d/..", "d/e/..", "x/.", "d/e/up/a",
         "x/", "d/", "d/a/", "d/b/", "lib/", "d/e/up/", "nowhere", "nowhere/at", "", "d//a", "./x", "lib/../lib/new",
         "loop/x", "d/a/x", "d/empty/", "y/", "n" * 255, "n" * 256, "d/empty/.", "d/empty/.."]  # fmt: skip
paths = st.sampled_from([n.encode() for n in NAMES])
flags = st.sampled_from([0, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND]).flatmap(
    lambda base: st.sets(
        st.sampled_from([os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH]), max_size=3
    ).map(lambda extra: base | sum(extra))
)
small = st.integers(0, 300_000)


class Files(RuleBasedStateMachine):
    """A random program of file calls, run on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.tmp = Path(tempfile.mkdtemp())
        for name in ("image", "native"):
            (self.tmp / name / "top").mkdir(parents=True)
            make_tree(self.tmp / name / "top")
        self.native = Native(self.tmp / "native/top")
        self.box = Box(self.tmp / "image")
        self.box.top = self.box.open(b"top", os.O_PATH | os.O_DIRECTORY)
        self.umask = os.umask(0o022)
        self.fds: list[tuple[int, int]] = []
        for path in (b"d/a", b"usr/lib/big"):
            self.open(path, os.O_RDWR)

    def teardown(self) -> None:
        os.umask(self.umask)
        self.native.end()
        self.box.fs.image.close()
        shutil.rmtree(self.tmp)

    def same(self, name: str, *args: Any) -> Any:
        """Run on both; ``args`` may hold ``self.top`` (as the string ``top``) and fd pairs."""
        results = []
        for i, side in enumerate((self.box, self.native)):
            mine = [side.top if a == "top" else a[i] if isinstance(a, tuple) else a for a in args]
            mine = [Out(a.size, a.data) if isinstance(a, Out) else a for a in mine]
            results.append(self.outcome(side, name, mine))
        ours, theirs = results
        assert ours == theirs or (name == "openat" and ours[0] == theirs[0] == "ok"), (
            f"{name}{args}: cell {ours}, Linux {theirs}"
        )
        return ours, theirs

    @staticmethod
    def outcome(side: Calls, name: str, args: list[Any]) -> tuple[Any, ...]:
        try:
            result = side.sys(name, *args)
        except Fails as e:
            return ("failed", os.strerror(e.errno))
        outs = [a.data[:result] if name != "newfstatat" else a.data for a in args if isinstance(a, Out)]
        return ("ok", result, *outs)

    def any_fd(self, data: st.DataObject) -> tuple[int, int]:
        return data.draw(st.sampled_from(self.fds)) if self.fds else (-1, -1)

    @rule(path=paths, flags=flags)
    def open(self, path: bytes, flags: int) -> None:
        if len(self.fds) >= 8:
            return
        ours, theirs = self.same("openat", "top", path, flags, 0o644)
        if ours[0] == "ok":
            self.fds.append((ours[1], theirs[1]))

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.fds:
            fd = self.any_fd(data)
            self.fds.remove(fd)
            self.same("close", fd)

    @rule(data=st.data(), size=small)
    def read(self, data: st.DataObject, size: int) -> None:
        self.same("read", self.any_fd(data), Out(size), size)

    @rule(data=st.data(), size=small, offset=small)
    def pread(self, data: st.DataObject, size: int, offset: int) -> None:
        self.same("pread64", self.any_fd(data), Out(size), size, offset)

    @rule(data=st.data(), size=small, byte=st.integers(1, 255))
    def write(self, data: st.DataObject, size: int, byte: int) -> None:
        self.same("write", self.any_fd(data), bytes([byte]) * size, size)

    @rule(data=st.data(), size=small, offset=small)
    def pwrite(self, data: st.DataObject, size: int, offset: int) -> None:
        self.same("pwrite64", self.any_fd(data), b"p" * size, size, offset)

    @rule(data=st.data(), offset=st.integers(-400_000, 400_000), whence=st.integers(0, 2))
    def lseek(self, data: st.DataObject, offset: int, whence: int) -> None:
        fd = self.any_fd(data)
        if fd[0] >= 0 and self.box.fstat(fd[0]).mode & 0o170000 == 0o040000:
            return  # what a directory's positions mean is each file system's own
        self.same("lseek", fd, offset, whence)

    @rule(data=st.data(), size=small)
    def ftruncate(self, data: st.DataObject, size: int) -> None:
        self.same("ftruncate", self.any_fd(data), size)

    @rule(path=paths)
    def mkdir(self, path: bytes) -> None:
        self.same("mkdirat", "top", path, 0o755)

    @rule(path=paths, flags=st.sampled_from([0, 0x200]))
    def unlink(self, path: bytes, flags: int) -> None:
        self.same("unlinkat", "top", path, flags)

    @rule(old=paths, new=paths, flags=st.sampled_from([0, 0, 0, 1, 2]))
    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        self.same("renameat2", "top", old, "top", new, flags)

    @rule(old=paths, new=paths, flags=st.sampled_from([0, 0x400]))
    def link(self, old: bytes, new: bytes, flags: int) -> None:
        self.same("linkat", "top", old, "top", new, flags)

    @rule(text=st.sampled_from([b"a", b"x", b"d/e", b"../d", b"y/z/", b"."]), path=paths)
    def symlink(self, text: bytes, path: bytes) -> None:
        self.same("symlinkat", text, "top", path)

    @rule(path=paths)
    def readlink(self, path: bytes) -> None:
        self.same("readlinkat", "top", path, Out(300), 300)

    @rule(path=paths, mode=st.integers(0, 7))
    def access(self, path: bytes, mode: int) -> None:
        self.same("faccessat", "top", path, mode)

    @rule(path=paths, mode=st.sampled_from([0o600, 0o4755, 0o777, 0o111]))
    def chmod(self, path: bytes, mode: int) -> None:
        self.same("fchmodat", "top", path, mode)

    @rule(path=paths, follow=st.booleans())
    def stat(self, path: bytes, follow: bool) -> None:
        told: list[tuple[Any, ...]] = []
        for side in (self.box, self.native):
            try:
                info = side.stat(path, follow=follow)
                size = info.size if info.mode & 0o170000 != 0o040000 else 0
                told.append((oct(info.mode), info.nlink, info.uid, info.gid, size))
            except Fails as e:
                told.append((os.strerror(e.errno),))
        assert told[0] == told[1] or path in (b"..", b"d/../.."), f"stat {path!r}: cell {told[0]}, Linux {told[1]}"

    @rule(path=paths)
    def listdir(self, path: bytes) -> None:
        if path == b"..":
            return
        told: list[Any] = []
        for side in (self.box, self.native):
            try:
                told.append(side.listdir(path))
            except Fails as e:
                told.append(os.strerror(e.errno))
        assert told[0] == told[1], f"listdir {path!r}"

    @invariant()
    def quota_is_never_negative(self) -> None:
        assert self.box.fs.quota.used >= 0


def test_random_calls_agree_with_linux() -> None:
    if os.geteuid() != 0:
        pytest.skip("compares with what root may do")
    run_state_machine_as_test(
        Files,
        settings=settings(max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)),
    )
