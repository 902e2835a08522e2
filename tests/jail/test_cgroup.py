from __future__ import annotations

import errno
from pathlib import Path

import pytest

from prong.cell.jail.cgroup import Cgroup, CgroupLimits, create, own_directories
from prong.errors import Conflict, HostUnfit
from tests.jail.harness import ROOT, Order, run, stage

LIMITS = CgroupLimits(memory=64 << 20, processes=30)


def usable() -> bool:
    """Whether this user may make cgroups here."""
    try:
        create(LIMITS).remove()
    except HostUnfit:
        return False
    return True


@pytest.mark.skipif(not ROOT or not usable(), reason="no cgroup can be made here")
def test_a_jail_in_a_real_cgroup_is_bounded_by_it_and_leaves_none() -> None:
    with stage() as set_up:
        limits = {"memory": 512 << 20, "processes": 30}
        done = run(Order(set_up, "root", "sealed", ["fork_bomb", "read_the_image"], cgroup=limits))
    made = [Path(path) for path in done.answer["jail"]["cgroup"]]
    assert made
    cgroup = Cgroup(1 if len(made) > 1 else 2, tuple(made))
    try:
        assert done.outcomes == {"fork_bomb": "EAGAIN", "read_the_image": "done"}
        assert "pids.max 30" in done.facts["cgroup"]
        assert str(512 << 20) in done.facts["cgroup"]
    finally:
        cgroup.remove()
    assert not [path for path in made if path.exists()]
    cgroup.remove()  # a second time is no error


@pytest.mark.skipif(not ROOT or not usable(), reason="no cgroup can be made here")
def test_a_user_who_may_not_make_one_is_told_so() -> None:
    with stage() as set_up:
        order = Order(set_up, "ordinary", "bare", cgroup={"processes": 30})
        error = run(order).answer["error"]
        assert (error["code"], error["data"]["layer"]) == ("jail_unfit", "cgroup")
        assert "Delegate=yes" in error["hint"]
        order.allow = ["no_cgroup"]
        done = run(order)
    assert done.answer["jail"]["missing"] == ["no_cgroup"]
    assert "cgroup" not in done.facts


def fake_host(tmp_path: Path, cgroup: str, mounts: list[str]) -> Path:
    """A /proc/self with these lines."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    return proc


def version_2(tmp_path: Path, handed_down: str) -> tuple[Path, Path]:
    """A version 2 hierarchy at ``/user/service``, with ``handed_down`` in its subtree_control."""
    here = tmp_path / "fs" / "user" / "service"
    here.mkdir(parents=True)
    (here / "cgroup.controllers").write_text("cpu memory pids")
    (here / "cgroup.subtree_control").write_text(handed_down)
    mount = f"30 24 0:26 / {tmp_path}/fs rw,nosuid - cgroup2 cgroup2 rw"
    return fake_host(tmp_path, "0::/user/service\n", ["22 1 0:20 / /proc rw - proc proc rw", mount]), here


def test_version_2_is_one_directory_with_both_limits(tmp_path: Path) -> None:
    proc, here = version_2(tmp_path, "memory pids")
    assert own_directories(proc)["memory"] == (2, here)
    made = create(LIMITS, proc=proc)
    (directory,) = made.directories
    assert (made.version, directory.parent) == (2, here)
    assert (directory / "memory.max").read_text() == str(64 << 20)
    assert (directory / "pids.max").read_text() == "30"
    made.join(123)
    assert (directory / "cgroup.procs").read_text() == "123"


def test_version_2_hands_controllers_down_where_they_are_not(tmp_path: Path) -> None:
    proc, here = version_2(tmp_path, "")
    create(LIMITS, proc=proc)
    assert (here / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_version_2_looks_up_from_a_leaf_that_has_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, here = version_2(tmp_path, "")
    (here.parent / "cgroup.subtree_control").write_text("memory pids")
    write = Path.write_text

    def busy(path: Path, text: str) -> int:
        if path == here / "cgroup.subtree_control":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", busy)
    assert create(LIMITS, proc=proc).directories[0].parent == here.parent


def test_version_1_is_a_directory_for_each_controller(tmp_path: Path) -> None:
    mounts = []
    for name in ("memory", "pids"):
        (tmp_path / name / "inner").mkdir(parents=True)
        mounts.append(f"30 24 0:26 /box {tmp_path}/{name} rw - cgroup cgroup rw,{name}")
    proc = fake_host(tmp_path, "4:memory:/box/inner\n8:pids:/box/inner\n1:cpu,cpuacct:/\n", mounts)
    made = create(LIMITS, proc=proc)
    memory, pids = made.directories
    assert memory.parent == tmp_path / "memory" / "inner"
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (pids / "pids.max").read_text() == "30"


def test_a_missing_controller_is_unfit(tmp_path: Path) -> None:
    proc, here = version_2(tmp_path, "memory pids")
    (here / "cgroup.controllers").write_text("memory")
    with pytest.raises(HostUnfit, match="controller pids is not available"):
        create(LIMITS, proc=proc)


def test_what_was_made_is_unmade_when_the_rest_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, here = version_2(tmp_path, "memory pids")

    def refuse(path: Path, text: str) -> int:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(HostUnfit, match="Permission denied"):
        create(LIMITS, proc=proc)
    assert [path for path in here.iterdir() if path.is_dir()] == []


def test_a_cgroup_in_use_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", busy)
    with pytest.raises(Conflict, match="still has processes"):
        Cgroup(2, (tmp_path,)).remove()
