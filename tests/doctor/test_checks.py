"""Each check on injected facts: the good host, and each way a host can be lacking."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from prong.doctor import cells, images
from prong.doctor.check import Check, Status
from prong.doctor.facts import Cgroups, Cpu, KvmDevice, Limits, Memory, Space, SubordinateIds
from prong.kvm.probe import Verdict

GIB = 1 << 30
ROOMY = Space("/data", writable=True, total=100 * GIB, free=50 * GIB)
IDS = SubordinateIds("ann", root=False, uids=65536, gids=65536)
LIMITS = Limits(open_files=1 << 20, processes=-1, memlock=8 << 20)
MEMORY = Memory(total=16 * GIB, available=8 * GIB, overcommit=0)

GOOD = [
    cells.check_cpu(Cpu("x86_64", "Some CPU", "vmx")),
    cells.check_cpu(Cpu("x86_64", "", "")),
    cells.check_kernel("Linux", "6.1.0-18-amd64"),
    cells.check_kernel("Linux", "5.14.0"),
    cells.check_kernel("Linux", "10.0"),
    cells.check_kvm_device(KvmDevice(True, 0), "ann"),
    cells.check_kvm_usable(Verdict(True, "KVM runs guests")),
    cells.check_namespaces(""),
    cells.check_seccomp(frozenset({"kill_process", "errno"})),
    cells.check_cgroups(Cgroups(2, "/user.slice", ("cpu", "io", "memory", "pids"))),
    cells.check_mappings(65530),
    cells.check_limits(LIMITS),
    cells.check_memory(MEMORY),
    cells.check_shm(ROOMY),
    cells.check_python((3, 11, 0)),
    images.check_mmdebstrap("mmdebstrap 1.3.5"),
    images.check_subordinate_ids(IDS, newuidmap=True),
    images.check_subordinate_ids(SubordinateIds("root", root=True, uids=0, gids=0), newuidmap=False),
    images.check_disk(ROOMY),
    images.check_qemu("QEMU emulator version 7.2"),
]

LACKING = [
    (cells.check_cpu(Cpu("aarch64", "", "")), Status.FAIL, "x86-64"),
    (cells.check_kernel("Darwin", "23.0"), Status.FAIL, "Linux"),
    (cells.check_kernel("Linux", "5.10.0-28-amd64"), Status.FAIL, "5.14"),
    (cells.check_kvm_device(KvmDevice(False, 0), "ann"), Status.FAIL, "modprobe"),
    (cells.check_kvm_device(KvmDevice(True, errno.EACCES, "kvm"), "ann"), Status.FAIL, "sudo usermod -aG kvm ann, "),
    (cells.check_kvm_device(KvmDevice(True, errno.EACCES, "vm"), "ann"), Status.FAIL, "sudo usermod -aG vm ann, "),
    (cells.check_kvm_device(KvmDevice(True, errno.EACCES), "ann"), Status.FAIL, "chmod 0660 /dev/kvm && sudo usermod"),
    (cells.check_kvm_device(KvmDevice(True, errno.EBUSY), "ann"), Status.FAIL, "dmesg"),
    (cells.check_kvm_usable(Verdict(False, "entry failed")), Status.FAIL, "dmesg"),
    (cells.check_kvm_usable(Verdict(False, "no such thing", "upgrade")), Status.FAIL, "upgrade"),
    (cells.check_namespaces("unshare: denied"), Status.FAIL, "unprivileged_userns"),
    (cells.check_seccomp(frozenset()), Status.FAIL, "CONFIG_SECCOMP_FILTER"),
    (cells.check_cgroups(Cgroups(2, "/", ("cpu",))), Status.WARN, "Delegate=yes"),
    (cells.check_cgroups(Cgroups(0, "", ())), Status.WARN, "Delegate=yes"),
    (cells.check_mappings(1000), Status.WARN, "vm.max_map_count=65530"),
    (cells.check_limits(replace(LIMITS, open_files=1024)), Status.WARN, "nofile"),
    (cells.check_limits(replace(LIMITS, processes=100)), Status.WARN, "nproc"),
    (cells.check_memory(replace(MEMORY, available=GIB)), Status.WARN, "free some"),
    (cells.check_memory(replace(MEMORY, overcommit=2)), Status.WARN, "overcommit_memory=0"),
    (cells.check_shm(None), Status.WARN, "mount -t tmpfs"),
    (cells.check_shm(replace(ROOMY, free=64 << 20)), Status.WARN, "remount"),
    (cells.check_shm(replace(ROOMY, writable=False)), Status.WARN, "chmod"),
    (cells.check_python((3, 10, 9)), Status.FAIL, "3.11"),
    (images.check_mmdebstrap(None), Status.WARN, "apt-get install mmdebstrap"),
    (images.check_subordinate_ids(IDS, newuidmap=False), Status.WARN, "apt-get install uidmap"),
    (images.check_subordinate_ids(replace(IDS, gids=0), newuidmap=True), Status.WARN, "--add-subgids"),
    (images.check_disk(replace(ROOMY, free=GIB)), Status.WARN, "free some"),
    (images.check_disk(replace(ROOMY, writable=False)), Status.FAIL, "chown"),
    (images.check_qemu(None), Status.WARN, "qemu-system-x86"),
]


@pytest.mark.parametrize("check", GOOD, ids=lambda check: f"{check.name}: {check.found}")
def test_a_good_host_needs_no_advice(check: Check) -> None:
    assert (check.status, check.advice) == (Status.OK, "")
    assert check.found


@pytest.mark.parametrize(("check", "status", "advice"), LACKING)
def test_a_lacking_host_is_told_what_to_do(check: Check, status: Status, advice: str) -> None:
    assert check.status is status
    assert advice in check.advice
    assert check.found and "\n" not in check.found


@pytest.mark.parametrize(("status", "advice"), [(Status.OK, "do it"), (Status.WARN, ""), (Status.FAIL, "")])
def test_advice_goes_with_trouble_and_only_with_it(status: Status, advice: str) -> None:
    with pytest.raises(ValueError, match="advice"):
        Check("x", status, "found", advice)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MiB"), (64 << 20, "64 MiB"), (GIB, "1.0 GiB"), (3 * GIB // 2, "1.5 GiB")]
)
def test_size(count: int, text: str) -> None:
    assert cells.size(count) == text
