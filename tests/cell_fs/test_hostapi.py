"""Files in and out of a cell from the host's side."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from prong.cell.core.errors import SysErr
from prong.cell.fs import hostapi
from tests.cell_fs.box import CWD, MIB, Box, make_tree


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_tree(tmp_path)
    return Box(tmp_path, overlay=2 * MIB)


def test_bytes_in_and_out_are_exact(box: Box) -> None:
    data = bytes(range(256)) * 3000
    assert hostapi.write_file(box.fs, b"/tmp/x", data) == len(data)
    assert hostapi.read_file(box.fs, b"/tmp/x") == data and box.slurp(b"/tmp/x") == data
    assert hostapi.read_file(box.fs, b"tmp/x", 10, 5) == data[10:15]
    assert hostapi.write_file(box.fs, b"/tmp/x", b"new") == 3 and hostapi.read_file(box.fs, b"/tmp/x") == b"new"
    assert hostapi.write_file(box.fs, b"/tmp/x", b"more", 3) == 7
    assert hostapi.write_file(box.fs, b"/tmp/x", b"N", truncate=False) == 7
    assert hostapi.read_file(box.fs, b"/tmp/x") == b"Newmore"
    assert hostapi.stat_path(box.fs, b"/tmp/x").mode == 0o100644


def test_a_file_that_does_not_fit_leaves_nothing(box: Box) -> None:
    hostapi.write_file(box.fs, b"/tmp/old", b"old")
    used = box.fs.quota.used
    for path in (b"/tmp/new", b"/tmp/old"):
        with pytest.raises(SysErr) as caught:
            hostapi.write_file(box.fs, path, bytes(3 * MIB))
        assert caught.value.errno == errno.ENOSPC
    assert not hostapi.exists(box.fs, b"/tmp/new") and hostapi.read_file(box.fs, b"/tmp/old") == b"old"
    assert box.fs.quota.used == used


def test_list_make_move_remove(box: Box) -> None:
    hostapi.make_dir(box.fs, b"/a/b/c", parents=True)
    hostapi.make_dir(box.fs, b"/a/b/c", parents=True)
    hostapi.write_file(box.fs, b"/a/b/f", b"1")
    hostapi.make_symlink(box.fs, b"f", b"/a/b/l")
    assert [(e.name, e.stat.mode >> 12) for e in hostapi.list_dir(box.fs, b"/a/b")] == [(b"c", 4), (b"f", 8), (b"l", 10)]
    hostapi.move(box.fs, b"/a/b", b"/moved")
    assert hostapi.exists(box.fs, b"/moved/l") and not hostapi.exists(box.fs, b"/a/b")
    assert hostapi.read_link(box.fs, b"/moved/l") == b"f" and hostapi.stat_path(box.fs, b"/moved/l").size == 1
    with pytest.raises(SysErr):
        hostapi.remove(box.fs, b"/moved")
    hostapi.remove(box.fs, b"/moved", recursive=True)
    hostapi.remove(box.fs, b"/usr", recursive=True)
    assert not hostapi.exists(box.fs, b"/moved") and not hostapi.exists(box.fs, b"/usr/lib/big")
    assert box.error("newfstatat", CWD, b"/usr", b" " * 150, 0) == "ENOENT"


@pytest.mark.parametrize(("call", "number"), [
    (lambda fs: hostapi.read_file(fs, b"/nowhere"), errno.ENOENT),
    (lambda fs: hostapi.read_file(fs, b"/d"), errno.EISDIR),
    (lambda fs: hostapi.read_file(fs, b"/dev/zero"), errno.EINVAL),
    (lambda fs: hostapi.read_file(fs, b"/loop"), errno.ELOOP),
    (lambda fs: hostapi.read_file(fs, b"/d\0x"), errno.EINVAL),
    (lambda fs: hostapi.write_file(fs, b"/nowhere/x", b""), errno.ENOENT),
    (lambda fs: hostapi.write_file(fs, b"/proc/x", b""), errno.EACCES),
    (lambda fs: hostapi.list_dir(fs, b"/d/a"), errno.ENOTDIR),
    (lambda fs: hostapi.make_dir(fs, b"/d"), errno.EEXIST),
    (lambda fs: hostapi.make_dir(fs, b"/d/a/x", parents=True), errno.ENOTDIR),
    (lambda fs: hostapi.remove(fs, b"/", recursive=True), errno.EBUSY),
    (lambda fs: hostapi.remove(fs, b"/dev", recursive=True), errno.EBUSY),
    (lambda fs: hostapi.remove(fs, b"/proc", recursive=True), errno.EBUSY),
    (lambda fs: hostapi.move(fs, b"/d", b"/d/e/in"), errno.EINVAL),
])  # fmt: skip
def test_errors(box: Box, call: object, number: int) -> None:
    assert callable(call)
    with pytest.raises(SysErr) as caught:
        call(box.fs)
    assert caught.value.errno == number


def test_generated_files_can_be_read(box: Box) -> None:
    assert hostapi.read_file(box.fs, b"/proc/self/comm") == b"prog\n"


def test_a_deep_tree_is_removed_without_recursion(box: Box) -> None:
    path = b"/tmp/deep"
    hostapi.make_dir(box.fs, path)
    fd = box.open(path, 0)
    for _ in range(1500):
        box.sys("mkdirat", fd, b"n", 0o755)
        inner = box.sys("openat", fd, b"n", 0, 0)
        box.sys("close", fd)
        fd = inner
    box.sys("close", fd)
    hostapi.remove(box.fs, path, recursive=True)
    assert not hostapi.exists(box.fs, path)
