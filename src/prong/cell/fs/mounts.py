"""What every cell's tree has beside the image: /dev, /proc, /sys, /tmp, /run and a few files of /etc."""

from __future__ import annotations

import os
import stat as st
from typing import TYPE_CHECKING

from prong.cell.fs.dirs import OverlayDir
from prong.cell.fs.nodes import Regular, Special, Symlink
from prong.cell.fs.proc.nodes import TextNode
from prong.cell.fs.proc.tree import ProcRoot, SysRoot
from prong.cell.fs.tty.devpts import DEVPTS_MAGIC, PtsDir
from prong.cell.fs.volume import Volume

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.state import FsState

DEVICES = {b"null": (1, 3), b"zero": (1, 5), b"full": (1, 7), b"random": (1, 8), b"urandom": (1, 9), b"tty": (5, 0)}
DEVICE_LINKS = {
    b"fd": b"/proc/self/fd",
    b"stdin": b"/proc/self/fd/0",
    b"stdout": b"/proc/self/fd/1",
    b"stderr": b"/proc/self/fd/2",
}
TMPFS_MAGIC, PROC_MAGIC, SYSFS_MAGIC = 0x01021994, 0x9FA0, 0x62656572
HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def mount_all(fs: FsState) -> None:
    """Put everything in place; called once for a fresh tree."""
    _mount_dev(fs)
    for name, kind, dev, magic in ((b"proc", "proc", 21, PROC_MAGIC), (b"sys", "sysfs", 22, SYSFS_MAGIC)):
        volume = Volume(kind, dev, magic, fs.quota)
        volume.fs = fs
        volume.readonly = True
        root = ProcRoot(volume, fs.base, name) if kind == "proc" else SysRoot(volume, fs.base, name)
        fs.base.children[name] = root
    for name in (b"tmp", b"run"):
        ensure_dir(fs, fs.base, name, 0o1777)
    etc = ensure_dir(fs, fs.base, b"etc", 0o755)
    run = ensure_dir(fs, fs.base, b"run", 0o1777)
    told = Volume("told", 31, TMPFS_MAGIC, fs.quota)
    told.fs = fs
    for directory, name, key in (
        (etc, b"hostname", "told/hostname"),
        (etc, b"machine-id", "told/machine-id"),
        (ensure_dir(fs, run, b"prong", 0o755), b"generation", "told/generation"),
    ):
        node = TextNode(told, key, 0, 0o444)
        directory.children[name] = node
        directory.dirty = True
    for name, data in ((b"hosts", HOSTS), (b"resolv.conf", b"# a cell has no network beyond its own loopback\n")):
        if etc.lookup(name) is None:
            _put_file(fs, etc, name, data)


def ensure_dir(fs: FsState, parent: OverlayDir, name: bytes, mode: int) -> OverlayDir:
    """The directory ``name`` in ``parent`` with permissions ``mode``, made if it is not there."""
    node = parent.lookup(name)
    if not isinstance(node, OverlayDir):
        node = OverlayDir(parent.volume, parent.volume.ino(), mode, fs.now(), parent, name)
        parent.children[name] = node
        parent.nlink += 1
        parent.dirty = True
    if node.mode & 0o7777 != mode:
        node.mode = st.S_IFDIR | mode
        node.dirty = True
    return node


def _mount_dev(fs: FsState) -> None:
    volume = Volume("devtmpfs", 5, TMPFS_MAGIC, fs.quota, first_ino=1)
    now = fs.now()
    dev = OverlayDir(volume, volume.ino(), 0o755, now, fs.base, b"dev")
    fs.base.children[b"dev"] = dev
    for name, (major, minor) in DEVICES.items():
        dev.children[name] = Special(volume, volume.ino(), st.S_IFCHR | 0o666, now, os.makedev(major, minor))
    for name, target in DEVICE_LINKS.items():
        dev.children[name] = Symlink(volume, volume.ino(), target, now)
    pts = Volume("devpts", 23, DEVPTS_MAGIC, fs.quota, first_ino=1)
    table = PtsDir(pts, dev, now)
    ptmx = Special(volume, volume.ino(), st.S_IFCHR | 0o666, now, os.makedev(5, 2))
    ptmx.state = table
    dev.children[b"pts"], dev.children[b"ptmx"] = table, ptmx
    shm = Volume("tmpfs", 24, TMPFS_MAGIC, fs.quota, first_ino=1)
    root = OverlayDir(shm, shm.ino(), 0o1777, now, dev, b"shm")
    dev.children[b"shm"] = root


def _put_file(fs: FsState, parent: Directory, name: bytes, data: bytes) -> None:
    assert isinstance(parent, OverlayDir)
    node = Regular(parent.volume, parent.volume.ino(), st.S_IFREG | 0o644, fs.now())
    node.content().write(0, data)
    node.where = (parent, name)
    parent.children[name] = node
    parent.dirty = True
