from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.errors import Conflict
from prong.image import locks


@pytest.fixture
def area(tmp_path: Path) -> Path:
    return tmp_path / "staging"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def test_staging_is_gone_after_the_block_whatever_happened(area: Path, gate: Path) -> None:
    with locks.staging(area, gate) as staging:
        (staging.path / "file").write_text("x")
        (staging.scratch / "file").write_text("x")
    assert list(area.iterdir()) == []
    assert not staging.scratch.exists()
    with pytest.raises(KeyError), locks.staging(area, gate) as staging:
        (staging.path / "file").write_text("x")
        raise KeyError
    assert list(area.iterdir()) == []


def test_sweep_leaves_areas_whose_builders_live(area: Path, gate: Path) -> None:
    with locks.staging(area, gate) as staging:
        assert locks.sweep(area, gate) == []
        assert staging.path.is_dir()


def test_sweep_waits_for_children_of_a_dead_builder(area: Path, gate: Path) -> None:
    """The lock belongs to whoever holds its descriptor: here only a child program, as after a killed builder."""
    area.mkdir()
    (area / "abc").mkdir()
    lock = os.open(area / "abc.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    try:
        assert locks.sweep(area, gate) == []
    finally:
        child.communicate()
    assert locks.sweep(area, gate) == ["abc"]
    assert list(area.iterdir()) == []


def test_hold_reports_waiting_once_and_then_gets_the_lock(tmp_path: Path) -> None:
    waited: list[bool] = []
    first = locks.hold(tmp_path / "lock")
    first.__enter__()

    def let_go() -> None:
        waited.append(True)
        first.__exit__(None, None, None)

    with locks.hold(tmp_path / "lock", on_wait=let_go):
        assert waited == [True]


def test_remove_tree_does_not_follow_links_nor_touch_files(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("x")
    (tmp_path / "link").symlink_to(keep)
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "inner").symlink_to(keep)
    for path in (tmp_path / "link", doomed, tmp_path / "missing"):
        locks.remove_tree(path)
    assert (keep / "file").exists()
    assert not doomed.exists()
    assert (tmp_path / "link").is_symlink()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory with something mounted deep inside; its name needs escaping in mountinfo."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system for the test needs root")
    inner = tmp_path / "top dir" / "inner"
    inner.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    (inner / "precious").write_text("x")
    yield tmp_path / "top dir"
    subprocess.run(["umount", str(inner)], check=True)


def test_remove_tree_refuses_to_reach_through_a_mount(mounted: Path) -> None:
    with pytest.raises(Conflict) as caught:
        locks.remove_tree(mounted)
    assert caught.value.data["mounts"] == [str(mounted / "inner")]
    assert (mounted / "inner/precious").exists()
