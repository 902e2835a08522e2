"""What the random programs do not reach: /proc, devices, memory files, locks, watches, quota, forgetting, waiting."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from prong.cell.core.memory import PAGE
from prong.cell.fs import prune
from prong.cell.fs.files import RegularFile
from prong.cell.fs.stdio import ChannelDuplex, ChannelIn, ChannelOut
from tests.cell_fs.box import BASE, CWD, MASK, MIB, Box, Fails, Out, Parked, make_tree

O_CREAT, O_RDWR, O_EXCL = os.O_CREAT, os.O_RDWR, os.O_EXCL


@pytest.fixture
def box(tmp_path: Path) -> Box:
    make_tree(tmp_path)
    return Box(tmp_path)


# -- /proc and magic links ------------------------------------------------------------------------------------------------


def test_descriptor_links_reopen_the_file_itself(box: Box) -> None:
    fd = box.open(b"/tmp/a", O_CREAT | O_RDWR)
    box.write(fd, b"hello")
    link = b"/proc/self/fd/%d" % fd
    assert box.readlink(link) == b"/tmp/a"
    box.sys("renameat2", CWD, b"/tmp/a", CWD, b"/tmp/b", 0)
    assert box.readlink(link) == b"/tmp/b"
    box.sys("unlinkat", CWD, b"/tmp/b", 0)
    assert box.readlink(link) == b"/tmp/a (deleted)"
    again = box.open(link)
    assert box.read(again, 10) == b"hello" and box.stat(link).nlink == 0
    assert box.error("openat", CWD, link, os.O_NOFOLLOW, 0) == "ELOOP"
    assert box.stat(link, follow=False).mode & 0o170000 == 0o120000


def test_descriptor_directory_lists_what_is_open_but_not_what_is_hidden(box: Box) -> None:
    box.kernel.fds.install_hidden(9, ChannelDuplex())
    fd = box.open(b"/d/a")
    names = [n for n, _ in box.listdir(b"/proc/self/fd")]
    assert b"%d" % fd in names and b"9" not in names
    assert box.error("openat", CWD, b"/proc/self/fd/9", 0, 0) == "ENOENT"
    assert b"pos:\t0\nflags:\t0100000" in box.slurp(b"/proc/self/fdinfo/%d" % fd)


def test_thread_names_are_written_through_proc(box: Box) -> None:
    fd = box.open(b"/proc/self/task/1000/comm", os.O_WRONLY)
    box.write(fd, b"a-name-that-is-too-long\n")
    assert box.task.name == b"a-name-that-is-" and box.slurp(b"/proc/thread-self/comm") == b"a-name-that-is-\n"
    assert box.error("openat", CWD, b"/proc/self/status", os.O_WRONLY, 0) == "EACCES"


def test_identity_is_told_as_of_now(box: Box) -> None:
    box.kernel.process.hostname, box.kernel.process.generation = b"other", 7
    assert box.slurp(b"/etc/hostname") == b"other\n" and box.slurp(b"/run/prong/generation").startswith(b"7-")
    assert box.slurp(b"/etc/machine-id") == b"0" * 32 + b"\n"
    assert box.slurp(b"/proc/sys/kernel/random/uuid") != box.slurp(b"/proc/sys/kernel/random/uuid")


def test_refusals_are_read_as_json(box: Box) -> None:
    assert box.error("mount", 0, 0, 0, 0, 0) == "EPERM"
    told = json.loads(box.slurp(b"/proc/prong/refusals"))
    assert told["total"] == 1 and told["calls"][0] | {"advice": ""} == {
        "kind": "privilege", "call": "mount", "detail": "", "count": 1, "advice": "",
    }  # fmt: skip


def test_every_generated_file_can_be_read(box: Box) -> None:
    todo, seen = [b"/proc", b"/sys"], 0
    while todo:
        here = todo.pop()
        for name, kind in box.listdir(here):
            path = here + b"/" + name
            if name in (b".", b".."):
                continue
            if kind == 4:
                todo.append(path)
            elif kind == 8 and not here.endswith(b"/fdinfo"):
                box.slurp(path)
                seen += 1
            if here.endswith((b"/fdinfo", b"/fd")):
                continue  # they listed the descriptor that did the listing
            assert box.stat(path, follow=False).mode >> 12 == kind
            assert box.stat(path, follow=False).ino == dict_of(box, here)[name]
    assert seen > 90


def dict_of(box: Box, path: bytes) -> dict[bytes, int]:
    fd = box.open(path, os.O_DIRECTORY)
    try:
        return {name: ino for name, ino, _, _ in box.dirents(fd)}
    finally:
        box.sys("close", fd)


@pytest.mark.parametrize("path", [b"/proc/x", b"/sys/x", b"/proc/self/x"])
def test_generated_directories_cannot_be_changed(box: Box, path: bytes) -> None:
    for name, *args in (("mkdirat", 0o755), ("mknodat", 0o100644, 0), ("openat", O_CREAT | O_RDWR, 0o644)):
        assert box.error(name, CWD, path, *args) in ("EPERM", "EACCES", "ENOENT", "EROFS")


# -- devices --------------------------------------------------------------------------------------------------------------


def test_devices(box: Box) -> None:
    null, zero, full, rnd = (box.open(b"/dev/" + n, O_RDWR) for n in (b"null", b"zero", b"full", b"urandom"))
    assert box.read(null, 5) == b"" and box.write(null, b"abc") == 3
    assert box.read(zero, 5) == bytes(5) and box.read(full, 2) == bytes(2)
    assert box.error("write", full, b"x", 1) == "ENOSPC"
    assert box.read(rnd, 32) != box.read(rnd, 32)
    big = Out(3 * MIB)
    assert box.sys("read", zero, big, 3 * MIB) == 3 * MIB
    assert box.error("openat", CWD, b"/dev/tty", O_RDWR, 0) == "ENXIO"
    assert box.error("ioctl", null, 0x5401, 0) == "ENOTTY"
    assert box.stat(b"/dev/null").rdev == os.makedev(1, 3)


def test_shared_memory_directory_is_a_file_system_of_its_own(box: Box) -> None:
    box.put(b"/dev/shm/s", b"data")
    assert box.error("renameat2", CWD, b"/dev/shm/s", CWD, b"/tmp/s", 0) == "EXDEV"
    assert box.error("unlinkat", CWD, b"/dev/shm", 0x200) == "EBUSY"


# -- memory files and sharing ---------------------------------------------------------------------------------------------


def test_memory_files_and_seals(box: Box) -> None:
    fd = box.sys("memfd_create", b"mine", 2)
    assert box.readlink(b"/proc/self/fd/%d" % fd) == b"/memfd:mine (deleted)"
    box.write(fd, b"0123456789")
    assert box.sys("fcntl", fd, 1034) == 0
    box.sys("fcntl", fd, 1033, 2 | 4)
    assert box.error("ftruncate", fd, 5) == "EPERM" and box.error("ftruncate", fd, 50) == "EPERM"
    assert box.sys("pwrite64", fd, b"ab", 2, 0) == 2 and box.error("pwrite64", fd, b"ab", 2, 10) == "EPERM"
    box.sys("fcntl", fd, 1033, 8 | 1)
    assert box.error("pwrite64", fd, b"ab", 2, 0) == "EPERM" and box.error("fcntl", fd, 1033, 2) == "EPERM"
    plain = box.sys("memfd_create", b"", 0)
    assert box.error("fcntl", plain, 1033, 2) == "EPERM" and box.sys("fcntl", plain, 1034) == 1
    assert box.error("memfd_create", b"n" * 250, 0) == "EINVAL"


def test_mapped_pages_and_reads_see_the_same_bytes(box: Box) -> None:
    fd = box.open(b"/usr/lib/big", O_RDWR)
    file = box.kernel.fds.get(fd)
    assert isinstance(file, RegularFile)
    frames = file.shared_frames(box.kernel.frames, 15, 3)
    assert frames == file.shared_frames(box.kernel.frames, 15, 3)
    view = box.kernel.frames.view(frames[1])
    assert bytes(view) == (bytes(range(256)) * 16)
    view[:5] = b"MAGIC"
    assert box.pread(fd, 7, 16 * PAGE - 1) == b"\xffMAGIC\x05"
    box.sys("pwrite64", fd, b"back", 4, 16 * PAGE + 1)
    assert bytes(view[:6]) == b"Mback\x05"
    box.sys("ftruncate", fd, 16 * PAGE + 3)
    assert bytes(view[:6]) == b"Mba\0\0\0"
    before = len(box.kernel.frames.pages)  # type: ignore[attr-defined]
    box.sys("unlinkat", CWD, b"/usr/lib/big", 0)
    box.sys("close", fd)
    assert len(box.kernel.frames.pages) == before - 3  # type: ignore[attr-defined]


def test_private_fill_gives_zeros_past_the_end(box: Box) -> None:
    file = box.kernel.fds.get(box.open(b"/usr/lib/small"))
    page = bytearray(b"x" * PAGE)
    file.fill(0, memoryview(page))
    assert page == b"hello" + bytes(PAGE - 5) and file.map_size() == 5


def test_holes(box: Box) -> None:
    fd = box.open(b"/tmp/sparse", O_CREAT | O_RDWR)
    box.sys("ftruncate", fd, 1 << 40)
    box.sys("pwrite64", fd, b"x", 1, 1 << 30)
    assert box.sys("lseek", fd, 0, 3) == 1 << 30 and box.sys("lseek", fd, 1 << 30, 4) == (1 << 30) + 65536
    assert box.error("lseek", fd, (1 << 30) + 65536, 3) == "ENXIO"
    assert box.fstat(fd).blocks < 200 and box.fs.quota.used < 10_000


# -- quota and forgetting -------------------------------------------------------------------------------------------------


def test_a_full_overlay_takes_what_fits_and_then_says_so(tmp_path: Path) -> None:
    make_tree(tmp_path)
    box = Box(tmp_path, overlay=MIB)
    fd = box.open(b"/tmp/big", O_CREAT | O_RDWR)
    total = 0
    with pytest.raises(Fails) as caught:
        while True:
            total += box.write(fd, bytes(100_000))
    assert os.strerror(caught.value.errno) == "No space left on device" and MIB - 70_000 < total < MIB
    box.sys("ftruncate", fd, 0)
    assert box.sys("pwrite64", fd, bytes(500_000), 500_000, 0) == 500_000
    assert box.error("fallocate", fd, 0, 0, 2 * MIB) == "ENOSPC" and box.fstat(fd).size == 500_000


def test_names_cost_too(tmp_path: Path) -> None:
    make_tree(tmp_path)
    box = Box(tmp_path, overlay=200_000)
    with pytest.raises(Fails):
        for i in range(10_000):
            box.sys("linkat", CWD, b"/d/a", CWD, b"/tmp/%d" % i, 0)
    assert 150 < len(box.listdir(b"/tmp")) < 210
    for i in range(150):
        box.sys("unlinkat", CWD, b"/tmp/%d" % i, 0)


def test_whiteouts_of_names_the_image_never_had_do_not_pile_up(box: Box) -> None:
    directory = box.fs.base.lookup(b"d")
    for i in range(500):
        box.put(b"/d/new%d" % i, b"")
        box.sys("unlinkat", CWD, b"/d/new%d" % i, 0)
    assert len(directory.children) < 10  # type: ignore[union-attr]


def test_clean_nodes_are_forgotten_unless_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(200):
        (tmp_path / f"dir{i}").mkdir()
        (tmp_path / f"dir{i}" / "f").write_text(str(i))
    box = Box(tmp_path)
    monkeypatch.setattr("prong.cell.fs.state.MAX_CLEAN", 50)
    held = box.open(b"/dir3/f", O_RDWR)
    box.write(held, b"mine")
    kept = box.open(b"/dir4/f")
    box.sys("chdir", b"/dir5")
    for i in range(200):
        assert box.slurp(b"/dir%d/f" % i) == (b"mine" if i == 3 else str(i).encode())
    assert sum(1 for n in box.fs.base.children.values() if n is not None and n.volume is box.fs.base.volume) < 70
    assert box.stat(b"/dir4/f").ino == box.fstat(kept).ino
    prune.prune(box.fs.base)
    assert box.slurp(b"f") == b"5" and box.slurp(b"/dir3/f") == b"mine"
    box.sys("unlinkat", CWD, b"/dir7/f", 0)
    prune.prune(box.fs.base)
    assert box.error("openat", CWD, b"/dir7/f", 0, 0) == "ENOENT"


def test_listings_are_bounded(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prong.cell.fs.state.MAX_LISTINGS", 1000)
    fds = [box.open(b"/usr/lib", os.O_DIRECTORY) for _ in range(20)]
    with pytest.raises(Fails):
        for fd in fds:
            box.dirents(fd)
    for fd in fds:
        box.sys("close", fd)
    assert box.fs.listing_bytes == 0


# -- directories ----------------------------------------------------------------------------------------------------------


def test_directory_positions(box: Box) -> None:
    for i in range(50):
        box.put(b"/tmp/file%02d" % i, b"")
    fd = box.open(b"/tmp", os.O_DIRECTORY)
    first = box.dirents(fd, 100)
    assert len(first) == 52
    box.sys("lseek", fd, first[9][3], 0)
    assert [n for n, *_ in box.dirents(fd)] == [n for n, *_ in first[10:]]
    box.put(b"/tmp/late", b"")
    box.sys("lseek", fd, 0, 0)
    assert b"late" in [n for n, *_ in box.dirents(fd)]
    assert box.dirents(fd) == []
    out = Out(8192)
    box.sys("lseek", fd, 0, 0)
    assert box.error("getdents64", fd, Out(10), 10) == "EINVAL"
    got = box.sys("getdents", fd, out, 8192)
    length = struct.unpack_from("<H", out.data, 16)[0]
    assert got > 1000 and out.data[18:19] == b"." and out.data[length - 1] == 4


def test_a_removed_working_directory(box: Box) -> None:
    box.sys("mkdirat", CWD, b"/tmp/w", 0o755)
    box.sys("chdir", b"/tmp/w")
    box.sys("unlinkat", CWD, b"/tmp/w", 0x200)
    assert box.error("getcwd", Out(100), 100) == "ENOENT"
    assert box.error("openat", CWD, b"x", O_CREAT | O_RDWR, 0o644) == "ENOENT"
    box.sys("openat", CWD, b"../beside", O_CREAT | os.O_EXCL, 0o644)
    assert box.stat(b"/tmp/beside").size == 0
    assert box.readlink(b"/proc/self/cwd") == b"/tmp/w (deleted)"


def test_chroot_confines_paths(box: Box) -> None:
    box.sys("chroot", b"/d")
    box.sys("chdir", b"/")
    assert box.slurp(b"/../../a") == b"A" * 10 and box.error("openat", CWD, b"/usr", 0, 0) == "ENOENT"
    out = Out(50)
    assert box.sys("getcwd", out, 50) == 2


@pytest.mark.parametrize(("path", "resolve", "expected"), [
    (b"e/up/a", 0x08, ""), (b"../etc", 0x08, "EXDEV"), (b"/etc", 0x08, "EXDEV"), (b"b", 0x04, "ELOOP"),
    (b"/a", 0x10, ""), (b"../../a", 0x10, ""), (b"a", 0x40, "EINVAL"), (b"e/../a", 0x0C, ""),
])  # fmt: skip
def test_openat2(box: Box, path: bytes, resolve: int, expected: str) -> None:
    top = box.open(b"/d", os.O_PATH)
    how = Out(24, struct.pack("<QQQ", 0, 0, resolve))
    if expected:
        assert box.error("openat2", top, path, how, 24) == expected
    else:
        assert box.sys("openat2", top, path, how, 24) > top


# -- locks, watches, attributes -------------------------------------------------------------------------------------------


def test_flock_conflicts_between_open_files(box: Box) -> None:
    one, two = box.open(b"/d/a", O_RDWR), box.open(b"/d/a", O_RDWR)
    box.sys("flock", one, 2)
    assert box.error("flock", two, 2 | 4) == "EAGAIN"
    with pytest.raises(Parked) as parked:
        box.sys("flock", two, 1)
    assert parked.value.wait.queues
    box.sys("close", one)
    assert box.sys("flock", two, 2) == 0


def test_record_locks(box: Box) -> None:
    def lock(kind: int, start: int, length: int) -> Out:
        return Out(32, struct.pack("<hhxxxxqqi4x", kind, 0, start, length, 0))

    one, two = box.open(b"/d/a", O_RDWR), box.open(b"/d/a", O_RDWR)
    assert box.sys("fcntl", one, 6, lock(1, 0, 0)) == 0 and box.sys("fcntl", two, 6, lock(1, 0, 0)) == 0
    assert box.sys("fcntl", one, 37, lock(1, 0, 10)) == 0
    assert box.error("fcntl", two, 37, lock(0, 5, 10)) == "EAGAIN" and box.sys("fcntl", two, 37, lock(0, 10, 5)) == 0
    told = lock(1, 0, 0)
    box.sys("fcntl", two, 36, told)
    assert struct.unpack("<hhxxxxqqi4x", told.data) == (1, 0, 0, 10, -1)
    assert box.sys("fcntl", one, 37, lock(2, 0, 6)) == 0 and box.sys("fcntl", two, 37, lock(1, 0, 6)) == 0
    assert box.error("fcntl", one, 6, lock(9, 0, 0)) == "EINVAL"


def test_watches(box: Box) -> None:
    fd = box.sys("inotify_init1", 0o4000)
    wd = box.sys("inotify_add_watch", fd, b"/tmp", 0xFFF)
    box.put(b"/tmp/a", b"1")
    box.sys("renameat2", CWD, b"/tmp/a", CWD, b"/tmp/b", 0)
    box.sys("unlinkat", CWD, b"/tmp/b", 0)
    events, at, data = [], 0, box.read(fd, 4096)
    while at < len(data):
        who, mask, cookie, length = struct.unpack_from("<iIII", data, at)
        events.append((mask, bool(cookie), data[at + 16 : at + 16 + length].rstrip(b"\0")))
        assert who == wd
        at += 16 + length
    assert events == [
        (0x100, False, b"a"), (0x20, False, b"a"), (0x2, False, b"a"), (0x8, False, b"a"),
        (0x40, True, b"a"), (0x80, True, b"b"), (0x200, False, b"b"),
    ]  # fmt: skip
    assert box.error("read", fd, Out(100), 100) == "EAGAIN"
    box.sys("inotify_rm_watch", fd, wd)
    assert struct.unpack_from("<iI", box.read(fd, 100)) == (wd, 0x8000)


def test_extended_attributes(box: Box) -> None:
    box.sys("setxattr", b"/d/a", b"user.x", b"value", 5, 0)
    out = Out(10)
    assert box.sys("getxattr", b"/d/a", b"user.x", out, 10) == 5 and out.data[:5] == b"value"
    assert box.error("getxattr", b"/d/a", b"user.x", Out(2), 2) == "ERANGE"
    assert box.error("setxattr", b"/d/a", b"user.x", b"v", 1, 1) == "EEXIST"
    assert box.error("setxattr", b"/d/a", b"user.y", b"v", 1, 2) == "ENODATA"
    assert box.error("setxattr", b"/d/a", b"security.x", b"v", 1, 0) == "ENOTSUP"
    names = Out(100)
    assert box.sys("listxattr", b"/d/hard", names, 100) == 7 and names.data[:7] == b"user.x\0"
    box.sys("removexattr", b"/d/a", b"user.x")
    assert box.error("getxattr", b"/d/a", b"user.x", Out(9), 9) == "ENODATA"


def test_times(box: Box) -> None:
    times = Out(32, struct.pack("<qqqq", 5, 6, -7, 8))
    box.sys("utimensat", CWD, b"/d/a", times, 0)
    info = box.stat(b"/d/a")
    assert (info.atime, info.atime_ns, info.mtime, info.mtime_ns) == (5, 6, -7, 8)
    box.sys("utimensat", CWD, b"/d/a", Out(32, struct.pack("<qqqq", 1, (1 << 30) - 2, 0, (1 << 30) - 1)), 0)
    after = box.stat(b"/d/a")
    assert after.atime == 5 and after.mtime > 1_500_000_000 and after.ctime >= info.ctime


def test_statx_agrees_with_stat(box: Box) -> None:
    for path in (b"/d/a", b"/d", b"/dev/null", b"/proc/self/status", b"/lib"):
        info, out = box.stat(path, follow=False), Out(256)
        box.sys("statx", CWD, path, 0x100, 0x7FF, out)
        mask, blksize, _, nlink, _, _, mode, ino, size, blocks = struct.unpack_from("<IIQIIIHxxQQQ", out.data)
        assert mask == 0x7FF and (nlink, mode, ino) == (info.nlink, info.mode, info.ino)
        assert (size, blocks, blksize) == (info.size, info.blocks, info.blksize)
        if path != b"/proc/self/status":  # that one is as old as the look at it
            assert struct.unpack_from("<qI", out.data, 0x70) == (info.mtime, info.mtime_ns)
        major, minor = struct.unpack_from("<II", out.data, 0x80)
        assert os.makedev(major, minor) == info.rdev


def test_a_socket_read_gives_up_after_its_timeout(box: Box) -> None:
    channel = ChannelIn(0)
    channel.rcvtimeo = 5_000_000  # type: ignore[attr-defined]
    box.kernel.fds.install_at(0, channel)
    with pytest.raises(Parked) as parked:
        box.read(0, 1)
    deadline = parked.value.wait.deadline
    assert deadline is not None and not parked.value.wait.restart
    with pytest.raises(Parked) as parked:
        box.read(0, 1)
    assert parked.value.wait.deadline == deadline
    box.task.expired = True
    assert box.error("read", 0, Out(1), 1) == "EAGAIN"


def test_copying_between_descriptors(box: Box) -> None:
    source, target = box.open(b"/usr/lib/big"), box.open(b"/tmp/copy", O_CREAT | O_RDWR)
    at = Out(8, struct.pack("<Q", 100))
    assert box.sys("sendfile", target, source, at, 1000) == 1000 and struct.unpack("<Q", at.data) == (1100,)
    assert box.sys("copy_file_range", source, 0, target, 0, 5000, 0) == 5000
    assert box.slurp(b"/tmp/copy") == (bytes(range(256)) * 40)[100:1100] + (bytes(range(256)) * 40)[:5000]
    box.sys("mknodat", CWD, b"/tmp/pipe", 0o010600, 0)
    pipe = box.open(b"/tmp/pipe", O_RDWR)
    assert box.sys("splice", source, at, pipe, 0, 300, 0) == 300 and box.sys("splice", pipe, 0, target, 0, 999, 0) == 300
    assert box.fstat(target).size == 6300 and box.error("tee", pipe, pipe, 10, 0) == "EINVAL"


def test_unnamed_files_can_be_named(box: Box) -> None:
    fd = box.open(b"/tmp", os.O_TMPFILE | O_RDWR, 0o600)
    box.write(fd, b"made")
    box.sys("linkat", CWD, b"/proc/self/fd/%d" % fd, CWD, b"/tmp/named", 0x400)
    assert box.slurp(b"/tmp/named") == b"made" and box.fstat(fd).nlink == 1
    never = box.open(b"/tmp", os.O_TMPFILE | O_RDWR | O_EXCL, 0o600)
    assert box.error("linkat", CWD, b"/proc/self/fd/%d" % never, CWD, b"/tmp/n", 0x400) == "ENOENT"


def test_file_size_limit_raises_the_signal(box: Box) -> None:
    box.kernel.process.rlimits[1] = (10, 10)
    fd = box.open(b"/tmp/f", O_CREAT | O_RDWR)
    assert box.write(fd, b"x" * 20) == 10
    assert box.error("write", fd, b"x", 1) == "EFBIG" and 25 in box.task.pending
    assert box.error("ftruncate", fd, 11) == "EFBIG"


# -- waiting --------------------------------------------------------------------------------------------------------------


def test_a_fifo_waits_for_its_other_end(box: Box) -> None:
    box.sys("mknodat", CWD, b"/tmp/pipe", 0o010600, 0)
    with pytest.raises(Parked):
        box.open(b"/tmp/pipe")
    box.again()
    both = box.open(b"/tmp/pipe", O_RDWR)
    box.write(both, b"through")
    reader = box.open(b"/tmp/pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert box.read(reader, 100) == b"through" and box.fstat(reader).mode & 0o170000 == 0o010000
    assert box.readlink(b"/proc/self/fd/%d" % reader) == b"/tmp/pipe"


def test_a_long_write_to_a_pipe_goes_on_after_a_wait(box: Box) -> None:
    box.sys("mknodat", CWD, b"/tmp/pipe", 0o010600, 0)
    fd = box.open(b"/tmp/pipe", O_RDWR)
    data = bytes(range(256)) * 400
    box.mem.write(BASE + MIB, data)
    got = b""
    with pytest.raises(Parked) as parked:
        box.raw("write", fd, BASE + MIB, len(data))
    assert 0 < parked.value.wait.partial < len(data)
    scratch = box.task.scratch
    while len(got) < len(data):
        box.task.scratch = None
        got += box.read(fd, 40000)
        box.task.scratch = scratch
        try:
            assert box.raw("write", fd, BASE + MIB, len(data)) == len(data)
            break
        except Parked:
            scratch = box.task.scratch
    box.task.scratch = None
    while len(got) < len(data):
        got += box.read(fd, 65536)
    assert got == data


def test_channels(box: Box) -> None:
    stdin, stdout, control = ChannelIn(0), ChannelOut(1), ChannelDuplex(3)
    for number, file in enumerate((stdin, stdout)):
        box.kernel.fds.install_at(number, file)
    box.kernel.fds.install_hidden(3, control)
    with pytest.raises(Parked):
        box.read(0, 10)
    stdin.feed(b"hello")
    assert box.read(0, 3) == b"hel" and box.read(box.open(b"/dev/stdin"), 9) == b"lo"
    stdin.close_input()
    assert box.read(0, 3) == b""
    box.write(1, b"early")
    sent: list[tuple[int, bytes]] = []
    stdout.set_sink(lambda channel, data: sent.append((channel, data)))
    box.put(b"/dev/stdout", b"late")
    assert sent == [(1, b"early"), (1, b"late")]
    assert box.fstat(1).mode & 0o170000 == 0o010000 and box.error("ioctl", 1, 0x5401, 0) == "ENOTTY"
    stdout.break_pipe()
    assert box.error("write", 1, b"x", 1) == "EPIPE" and 13 in box.task.pending
    control.feed(b"ask")
    assert box.read(3, 10) == b"ask" and box.write(3, b"answer") == 6 and control.drain() == b"answer"
    assert box.error("close", 3) == "EBADF"


def test_an_outbox_nobody_drains_makes_the_program_wait(box: Box) -> None:
    box.kernel.fds.install_at(1, ChannelOut(1))
    with pytest.raises(Parked):
        for _ in range(40):
            box.write(1, bytes(65536))
            box.again()


def test_descriptors(box: Box) -> None:
    fd = box.open(b"/d/a", os.O_CLOEXEC)
    assert box.sys("fcntl", fd, 1) == 1 and box.sys("dup3", fd, 20, os.O_CLOEXEC) == 20
    assert box.sys("fcntl", fd, 0, 10) == 10 and box.sys("fcntl", 10, 1) == 0
    assert box.error("dup3", fd, fd, 0) == "EINVAL" and box.sys("dup2", fd, fd) == fd
    assert box.error("dup2", fd, 5000) == "EBADF" and box.error("dup2", 99, fd) == "EBADF"
    assert box.error("fcntl", fd, 0, 5000) == "EINVAL"
    box.sys("close_range", 10, MASK, 0)
    assert box.kernel.fds.visible() == [fd]
    assert box.error("close", fd | 1 << 31) == "EBADF" and box.sys("close", fd) == 0
    box.kernel.fds.limit = 1
    assert box.sys("openat", CWD, b"/d/a", 0, 0) == 0 and box.error("openat", CWD, b"/d/a", 0, 0) == "EMFILE"
