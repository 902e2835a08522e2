"""Facts read from another host's files, and from this host."""

from __future__ import annotations

import errno
import grp
import os
import sys
from pathlib import Path

import pytest

from prong.doctor import facts
from prong.doctor.facts import Cgroups, KvmDevice, Memory, SubordinateIds


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cpu(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu svm avx\n\nprocessor\t: 1\n")
    cpu = facts.read_cpu(tmp_path)
    assert (cpu.model, cpu.virtualization) == ("Fast 9000", "svm")


def test_cpu_of_a_silent_kernel(tmp_path: Path) -> None:
    cpu = facts.read_cpu(tmp_path)
    assert (cpu.machine, cpu.model, cpu.virtualization) == (os.uname().machine, "", "")


def test_kvm_device(tmp_path: Path) -> None:
    assert facts.read_kvm_device(tmp_path) == KvmDevice(False, 0)
    put(tmp_path, "dev/kvm", "a plain file is no device")
    assert not facts.read_kvm_device(tmp_path).present
    (tmp_path / "dev/kvm").unlink()
    (tmp_path / "dev/kvm").symlink_to("/dev/null")
    assert facts.read_kvm_device(tmp_path) == KvmDevice(True, 0)


def test_kvm_device_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kvm").symlink_to("/dev/null")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    assert facts.read_kvm_device(tmp_path) == KvmDevice(True, errno.EACCES)  # root's own group opens nothing to others


@pytest.mark.parametrize(("mode", "opens"), [(0o660, True), (0o600, False), (0o640, False)])
def test_the_group_that_may_open_the_kvm_device(tmp_path: Path, mode: int, opens: bool) -> None:
    put(tmp_path, "dev/kvm", "")
    device = tmp_path / "dev/kvm"
    device.chmod(mode)
    if os.geteuid() == 0:
        os.chown(device, 0, 54321)
    group = device.stat().st_gid
    if group == 0:
        pytest.skip("this user has no group but root's")
    name = next((entry.gr_name for entry in grp.getgrall() if entry.gr_gid == group), str(group))
    assert facts.read_kvm_device(tmp_path).group == (name if opens else "")


def test_memory(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal:       2048 kB\nMemAvailable:   1024 kB\nHugePages_Total: 3\n")
    put(tmp_path, "proc/sys/vm/overcommit_memory", "2\n")
    assert facts.read_memory(tmp_path) == Memory(2048 * 1024, 1024 * 1024, 2)


def test_numbers_a_kernel_does_not_say(tmp_path: Path) -> None:
    assert facts.read_max_map_count(tmp_path) == 0
    assert facts.read_seccomp_actions(tmp_path) == frozenset()


def test_seccomp_and_mappings(tmp_path: Path) -> None:
    put(tmp_path, "proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread trap\n")
    put(tmp_path, "proc/sys/vm/max_map_count", "65530\n")
    assert facts.read_seccomp_actions(tmp_path) == {"kill_process", "kill_thread", "trap"}
    assert facts.read_max_map_count(tmp_path) == 65530


V2_MOUNT = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def test_cgroup_v2(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/user.slice/me\n")
    put(tmp_path, "proc/self/mountinfo", V2_MOUNT)
    put(tmp_path, "sys/fs/cgroup/user.slice/me/cgroup.controllers", "cpu memory pids\n")
    assert facts.read_cgroups(tmp_path) == Cgroups(2, "/user.slice/me", ())
    put(tmp_path, "sys/fs/cgroup/user.slice/me/cgroup.subtree_control", "")
    assert facts.read_cgroups(tmp_path) == Cgroups(2, "/user.slice/me", ("cpu", "memory", "pids"))


def test_cgroup_v1_beside_an_empty_v2(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "9:memory:/job\n8:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n")
    put(tmp_path, "proc/self/mountinfo", V1_MOUNTS + V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "))
    put(tmp_path, "sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")
    (tmp_path / "sys/fs/cgroup/memory/job").mkdir(parents=True)
    assert facts.read_cgroups(tmp_path) == Cgroups(1, "/job", ("memory",))


def test_no_cgroups(tmp_path: Path) -> None:
    assert facts.read_cgroups(tmp_path) == Cgroups(0, "", ())


def test_subordinate_ids_by_name_and_by_number(tmp_path: Path) -> None:
    put(tmp_path, "etc/subuid", "ann:100000:65536\nbob:165536:65536\n1000:300000:10\nbroken\n")
    put(tmp_path, "etc/subgid", "ann:100000:nonsense\n")
    assert facts.read_subordinate_ids("ann", 1000, tmp_path) == SubordinateIds("ann", False, 65546, 0)
    assert facts.read_subordinate_ids("root", 0, tmp_path) == SubordinateIds("root", True, 0, 0)


def test_space_looks_at_the_nearest_parent_that_exists(tmp_path: Path) -> None:
    space = facts.read_space(tmp_path / "not" / "yet")
    assert space.path == str(tmp_path)
    assert space.writable and 0 < space.free <= space.total


def test_limits_are_numbers() -> None:
    limits = facts.read_limits()
    assert limits.open_files > 0
    assert limits.processes == -1 or limits.processes > 0


def test_program_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.program_version("no-such-program-of-ours") is None
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert (facts.program_version(Path(sys.executable).name) or "").startswith("Python 3.")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts.program_version("broken") == ""
