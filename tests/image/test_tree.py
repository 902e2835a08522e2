from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from prong.errors import Corrupt
from prong.image import tree
from tests.image.conftest import small_root


def test_sealed_trees_are_readable_by_all_and_hold_nothing_special(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    (root / "usr/bin/hello").chmod(0o6710)
    (root / "etc").chmod(0o2700)
    (root / "etc/script").write_text("x")
    (root / "etc/script").chmod(0o777)
    tree.seal(root, epoch=None)
    modes = {relative: stat.S_IMODE(info.st_mode) for relative, info in tree.walk(root)}
    assert modes["usr/bin/hello"] == 0o755
    assert modes["etc"] == 0o755
    assert modes["etc/secret"] == 0o644
    assert modes["etc/script"] == 0o755
    assert modes["tmp"] == 0o1777
    assert {name for name in tree.RUNTIME_DIRS if (root / name).is_dir()} == set(tree.RUNTIME_DIRS)


def test_times_are_clamped_but_older_ones_stay(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    os.utime(root / "etc/secret", (1000, 1000))
    tree.seal(root, epoch=5000)
    times = {relative: info.st_mtime for relative, info in tree.walk(root)}
    assert times["etc/secret"] == 1000
    assert set(times.values()) == {1000, 5000}


def test_a_pipe_cannot_be_sealed(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    os.mkfifo(root / "etc/pipe")
    with pytest.raises(Corrupt, match="/etc/pipe"):
        tree.seal(root, epoch=None)


def digest(root: Path, **settings: object) -> str:
    return tree.measure(root, settings).digest


def test_digest_depends_on_content_and_nothing_else(tmp_path: Path) -> None:
    one, two = small_root(tmp_path / "one"), small_root(tmp_path / "two")
    for root in (one, two):
        tree.seal(root, epoch=None)
    os.utime(two / "etc/secret", (1, 1))
    first = digest(one)
    assert digest(two) == first
    assert digest(one, env={"A": "b"}) != first


def changed_content(root: Path) -> None:
    (root / "etc/secret").write_text("t")


def changed_mode(root: Path) -> None:
    (root / "etc/secret").chmod(0o755)


def changed_target(root: Path) -> None:
    (root / "bin").unlink()
    (root / "bin").symlink_to("usr/sbin")


def new_directory(root: Path) -> None:
    (root / "opt").mkdir()


def renamed(root: Path) -> None:
    (root / "etc/secret").rename(root / "etc/secreu")


@pytest.mark.parametrize("change", [changed_content, changed_mode, changed_target, new_directory, renamed])
def test_every_change_changes_the_digest(tmp_path: Path, change: object) -> None:
    assert callable(change)
    root = small_root(tmp_path / "root")
    tree.seal(root, epoch=None)
    before = digest(root)
    change(root)
    assert digest(root) != before


def test_names_that_are_not_utf8_and_hard_links_are_measured(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    Path(os.fsdecode(os.fsencode(root) + b"/etc/\xff\xfe")).write_text("12345")
    measure = tree.measure(root, {})
    assert measure.size_bytes == len("#!/bin/sh\necho hello\n") + 1 + 5
    assert measure.file_count == 9
    assert len(measure.digest) == 64


def test_prune_lets_the_last_matching_glob_decide(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("usr/share/doc/a/copyright", "usr/share/doc/a/README", "usr/share/man/man1/a.1", "usr/lib/deep/x.a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    tree.prune(root, ["/usr/share/doc/*", "!/usr/share/doc/*/copyright", "/usr/share/man/*", "/usr/lib/*.a"])
    assert [relative for relative, info in tree.walk(root) if stat.S_ISREG(info.st_mode)] == ["usr/share/doc/a/copyright"]
    assert not (root / "usr/share/man/man1").exists()
    assert (root / "usr/lib/deep").is_dir()
