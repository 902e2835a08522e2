"""The whole tree, open files and half-done calls included, survives a snapshot."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from prong.cell.core.errors import SysErr
from prong.cell.fs.image import ImageSource
from prong.cell.kernel import Kernel
from prong.cell.state import codec
from tests.cell_fs.box import Box, Out, make_tree


def busy_box(root: Path) -> Box:
    """A box with something of everything."""
    make_tree(root)
    box = Box(root)
    box.put(b"/new", b"n" * 100_000)
    box.sys("unlinkat", -100, b"/d/a", 0)
    box.sys("renameat2", -100, b"/d/e", -100, b"/moved", 0)
    box.sys("chdir", b"/moved")
    box.sys("mknodat", -100, b"/pipe", 0o010600, 0)
    fd = box.open(b"/usr/lib/big", os.O_RDWR)
    box.write(fd, b"changed")
    gone = box.open(b"/tmp/gone", os.O_CREAT | os.O_RDWR)
    box.write(gone, b"still here")
    box.sys("unlinkat", -100, b"/tmp/gone", 0)
    box.sys("flock", gone, 2)
    watch = box.sys("inotify_init1", 0)
    box.sys("inotify_add_watch", watch, b"/tmp", 0xFFF)
    box.put(b"/tmp/seen", b"x")
    folder = box.open(b"/d", os.O_DIRECTORY)
    box.sys("getdents64", folder, Out(40), 40)
    box.sys("memfd_create", b"m", 2)
    box.open(b"/proc/self/status")
    box.open(b"/dev/zero")
    return box


def test_everything_comes_back(tmp_path: Path) -> None:
    box = busy_box(tmp_path)
    fs, fds = box.fs, box.kernel.fds
    for name in ("space", "mem", "frames"):
        setattr(box.kernel, name, None)  # fakes, which are not registered
    data = codec.encode(box.kernel)
    other = codec.decode(data, SimpleNamespace(image_root=os.fsencode(tmp_path)), Kernel)
    again = Box(tmp_path)
    for name in ("mem", "space", "frames", "cpu"):
        setattr(other, name, getattr(again.kernel, name))
    again.kernel, again.fs = other, other.fs
    task = other.sched.leader
    assert task is not None
    again.task = task
    assert other.fs.quota.used == fs.quota.used and sorted(other.fds.files) == sorted(fds.files)
    assert again.slurp(b"/new") == b"n" * 100_000
    assert again.slurp(b"/usr/lib/big")[:9] == b"changed\x07\x08"
    assert again.slurp(b"/usr/lib/small") == b"hello"
    assert again.error("openat", -100, b"/d/a", 0, 0) == "ENOENT"
    assert again.readlink(b"/proc/self/cwd") == b"/moved"
    assert again.readlink(b"/proc/self/fd/1") == b"/tmp/gone (deleted)"
    assert again.pread(1, 100, 0) == b"still here"
    assert b"seen" in again.read(2, 4096)


def test_a_snapshot_does_not_choose_the_image(tmp_path: Path) -> None:
    image = ImageSource(os.fsencode(tmp_path))
    again = codec.decode(codec.encode(image), SimpleNamespace(image_root=b"/elsewhere/"), ImageSource)
    assert again.root == b"/elsewhere"
    assert codec.decode(codec.encode(image), None, ImageSource).root == b""


def test_a_forged_lower_path_reaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "secret").write_text("s")
    image = ImageSource(os.fsencode(tmp_path / "image"))
    for call in (image.lstat, image.readlink, image.scan, lambda path: image.pread(path, 1, 0)):
        with pytest.raises(SysErr):
            call(b"/../secret")
