from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from pathlib import Path

import pytest

from prong.errors import InvalidInput
from prong.image import archive, tree
from tests.image.conftest import small_root

SEED = 20240229


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def make(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in members:
            body = b"body" if info.isreg() else b""
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def unpack(tmp_path: Path, *members: tarfile.TarInfo) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    archive.unpack(make(tmp_path / "a.tar", *members), root)
    return root


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, link=target)


def hard(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, link=target)


def folder(name: str) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, mode=0o755)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("/etc/passwd")], id="absolute"),
        pytest.param([member("../outside")], id="dotdot"),
        pytest.param([member("a/../../outside")], id="dotdot inside"),
        pytest.param([link("d", "{outside}"), member("d/victim")], id="through absolute link"),
        pytest.param([link("d", "../outside"), member("d/victim")], id="through relative link"),
        pytest.param([link("d", "../outside"), folder("d/new")], id="directory through link"),
        pytest.param([link("e", "{outside}"), link("d", "e"), member("d/victim")], id="through two links"),
        pytest.param([folder("d"), link("d", "{outside}"), member("d/victim")], id="directory swapped for link"),
        pytest.param([link("d", "{outside}"), hard("h", "d/victim")], id="hard link through link"),
        pytest.param([hard("h", "{outside}/victim")], id="hard link absolute"),
        pytest.param([hard("h", "../outside/victim")], id="hard link dotdot"),
        pytest.param([hard("h", "later")], id="hard link to nothing"),
        pytest.param([folder("d"), hard("h", "d")], id="hard link to directory"),
        pytest.param([member("n", tarfile.CHRTYPE)], id="character device"),
        pytest.param([member("n", tarfile.BLKTYPE)], id="block device"),
        pytest.param([member("n", tarfile.FIFOTYPE)], id="pipe"),
        pytest.param([member("f"), member("f/below")], id="below a file"),
        pytest.param([folder("d"), member("d/x"), member("d")], id="file over directory"),
    ],
)
def test_hostile_members_are_refused_and_nothing_outside_changes(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    for info in members:
        info.linkname = info.linkname.replace("{outside}", str(outside))
    with pytest.raises(InvalidInput) as caught:
        unpack(tmp_path, *members)
    assert "member" in caught.value.data
    assert [entry.name for entry in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    assert (outside / "victim").stat().st_nlink == 1


def test_a_file_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    root = unpack(tmp_path, link("f", str(victim)), member("f"))
    assert (root / "f").read_text() == "body"
    assert victim.read_text() == "untouched"


def test_ordinary_roots_unpack(tmp_path: Path) -> None:
    root = unpack(
        tmp_path, folder("./"), folder("usr/lib"), link("lib", "usr/lib"), folder("lib"), member("lib/a.so"),
        hard("usr/lib/b.so", "usr/lib/a.so"), link("etc/localtime", "/usr/share/zoneinfo/UTC"),
        member("usr/bin/su", mode=0o4755), member("dev/null", tarfile.CHRTYPE), folder("proc/1"), member("run/lock"),
    )  # fmt: skip
    assert (root / "usr/lib/a.so").samefile(root / "usr/lib/b.so")
    assert os.readlink(root / "etc/localtime") == "/usr/share/zoneinfo/UTC"
    assert stat.S_IMODE((root / "usr/bin/su").stat().st_mode) == 0o755
    assert not (root / "dev").exists()
    assert not (root / "run").exists()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_packing_and_unpacking_gives_the_same_digest(tmp_path: Path, suffix: str) -> None:
    source = small_root(tmp_path / "source")
    tree.seal(source, epoch=None)
    before = tree.measure(source, {})
    archive.pack(source, tmp_path / f"a{suffix}")
    root = tmp_path / "root"
    root.mkdir()
    archive.unpack(tmp_path / f"a{suffix}", root)
    tree.seal(root, epoch=None)
    assert tree.measure(root, {}) == before
    with tarfile.open(tmp_path / f"a{suffix}") as tar:
        assert {(info.uid, info.uname) for info in tar} == {(0, "root")}


def test_copying_gives_the_same_digest(tmp_path: Path) -> None:
    source = small_root(tmp_path / "source")
    tree.seal(source, epoch=None)
    root = tmp_path / "root"
    root.mkdir()
    archive.copy_tree(source, root)
    tree.seal(root, epoch=None)
    assert tree.measure(root, {}) == tree.measure(source, {})
    assert (root / "usr/bin/hello").samefile(root / "usr/bin/hello2")


def test_copying_refuses_a_pipe_but_drops_the_runtime_directories(tmp_path: Path) -> None:
    source = small_root(tmp_path / "source")
    (source / "dev").mkdir()
    os.mkfifo(source / "dev/pipe")
    (tmp_path / "one").mkdir()
    archive.copy_tree(source, tmp_path / "one")
    os.mkfifo(source / "etc/pipe")
    (tmp_path / "two").mkdir()
    with pytest.raises(InvalidInput, match="pipe"):
        archive.copy_tree(source, tmp_path / "two")


def test_not_a_tar_and_half_a_tar_are_invalid(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"certainly not")
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidInput, match="not a whole tar"):
        archive.unpack(tmp_path / "a.tar", tmp_path / "root")
    info = member("big")
    info.size = 100_000
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:50_000])
    with pytest.raises(InvalidInput, match="not a whole tar"):
        archive.unpack(tmp_path / "b.tar", tmp_path / "root")


def test_seeded_damage_never_reaches_outside(tmp_path: Path) -> None:
    """Flipped bytes in headers either still make an archive or are refused; nothing else may happen."""
    source = small_root(tmp_path / "source")
    archive.pack(source, tmp_path / "good.tar")
    good = (tmp_path / "good.tar").read_bytes()
    chance = random.Random(SEED)
    refused = 0
    before = sorted(path.name for path in tmp_path.iterdir())
    for round_ in range(200):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 20)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        root = tmp_path / "home" / str(round_)
        root.mkdir(parents=True)
        try:
            archive.unpack(io.BytesIO(bytes(damaged)), root)
        except InvalidInput:
            refused += 1
    assert refused > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "home"])
    assert len(list((tmp_path / "home").iterdir())) == 200
